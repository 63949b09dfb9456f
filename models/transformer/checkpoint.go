package transformer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/millrace/millrace/models/half"
	"github.com/millrace/millrace/models/regular"
	"github.com/millrace/millrace/models/safetensors"
)

// kept are the files beside the weights that a checkpoint needs to be complete, written again by Save.
var kept = []string{
	"added_tokens.json", "chat_template.jinja", "generation_config.json", "merges.txt", "millrace_tokenizer.json",
	"special_tokens_map.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json",
}

const maxKeptBytes = 64 << 20

// CheckpointError says which tensor of a checkpoint does not fit its configuration.
type CheckpointError struct{ Path, Tensor, Msg string }

func (e *CheckpointError) Error() string {
	return fmt.Sprintf("%s: tensor %q: %s", e.Path, e.Tensor, e.Msg)
}

// Weights are the tensors of a checkpoint under their Hugging Face names: a safetensors.File, a gguf.Checkpoint.
type Weights interface {
	Has(name string) bool
	Shape(name string) ([]int, error)
	Float32Into(dst []float32, name string) error // dst has the shape's number of elements
}

// Load reads a Hugging Face directory: config.json and model.safetensors, or shards with their index, in float32, bfloat16
// or float16. Weights are held in float32. A tensor value_head.weight of [1,D] or [D] is the scalar head. A directory of
// LoRA adapters in PEFT's layout is read with the base model it names.
func Load(dir string) (*Model, error) {
	if IsAdapter(dir) {
		return LoadAdapters(context.Background(), dir, Load)
	}
	config, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	f, err := safetensors.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	files, err := readKept(dir)
	if err != nil {
		return nil, err
	}
	return FromWeights(dir, config, f, files)
}

// FromWeights makes a model of that shape from the tensors of an open checkpoint; path is named in errors. files are the
// texts of the tokenizer's and other files that Save is to write beside the weights, by name.
func FromWeights(path string, config Config, w Weights, files map[string][]byte) (*Model, error) {
	// Shapes are checked before memory is taken: the file bounds what the configuration may ask for.
	for _, t := range shapes(config, w.Has(ScalarHeadName)) {
		if !w.Has(t.Name) {
			return nil, &CheckpointError{path, t.Name, fmt.Sprintf("is missing; the configuration asks for shape %v", t.Shape)}
		}
		have, err := w.Shape(t.Name)
		if err != nil {
			return nil, err
		}
		if !slices.Equal(have, t.Shape) && !(t.Name == ScalarHeadName && slices.Equal(have, t.Shape[1:])) {
			return nil, &CheckpointError{path, t.Name, fmt.Sprintf("has shape %v, the configuration asks for %v", have, t.Shape)}
		}
	}
	m := allocate(config, w.Has(ScalarHeadName))
	for _, t := range m.tensors {
		if err := w.Float32Into(t.Param, t.Name); err != nil {
			return nil, err
		}
	}
	m.files = files
	return m, nil
}

// readKept reads the files beside the weights that Save writes again.
func readKept(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range kept {
		path := filepath.Join(dir, name)
		text, err := regular.Read(path, maxKeptBytes)
		if errors.Is(err, fs.ErrNotExist) {
			continue // not every checkpoint has every file
		}
		if err != nil {
			return nil, err
		}
		files[name] = text
	}
	return files, nil
}

// Save writes the model as a Hugging Face directory: config.json, model.safetensors and the files that came with it. Weights
// are stored as they are: in bfloat16 where all of them are bfloat16 numbers, such as those that a trainer on a GPU hands back, else in
// float32; reading gives the same bits. The directory is made when it is missing; equal models give equal bytes. With LoRA it writes the
// adapters alone, in PEFT's layout; Merge first to save a whole model.
func (m *Model) Save(dir string) error {
	if m.adapters != nil && !m.frozen() {
		return m.saveAdapters(dir)
	}
	for _, t := range m.tensors {
		if !half.IsBFloat16(t.Param) {
			return m.SaveAs(dir, safetensors.F32)
		}
	}
	return m.SaveAs(dir, safetensors.BF16)
}

// SaveAs is Save of a model without adapters, with the weights rounded to F32, BF16 or F16.
func (m *Model) SaveAs(dir string, dtype safetensors.DType) error {
	names := map[safetensors.DType]string{safetensors.F32: "float32", safetensors.BF16: "bfloat16", safetensors.F16: "float16"}
	if names[dtype] == "" {
		return fmt.Errorf("transformer: weights cannot be saved as %q; F32, BF16 and F16 are possible", dtype)
	}
	switch {
	case m.frozen():
		return errors.New("transformer: a frozen model cannot be saved")
	case m.adapters != nil:
		return errors.New("transformer: adapters are merged before a whole model is saved")
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	config := m.config
	config.dtype = names[dtype]
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), append(text, '\n'), 0o666); err != nil {
		return err
	}
	if err := m.saveKept(dir); err != nil {
		return err
	}
	tensors := make([]safetensors.NamedTensor, len(m.tensors))
	for i, t := range m.tensors {
		tensors[i] = safetensors.NamedTensor{Name: t.Name, Shape: t.Shape, Values: t.Param, DType: dtype}
	}
	return safetensors.Write(filepath.Join(dir, "model.safetensors"), tensors, map[string]string{"format": "pt"})
}

// saveKept writes the files that came with the model.
func (m *Model) saveKept(dir string) error {
	for _, name := range kept {
		if content, ok := m.files[name]; ok {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o666); err != nil {
				return err
			}
		}
	}
	return nil
}
