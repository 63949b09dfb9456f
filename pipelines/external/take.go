package external

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/safetensors"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/update"
)

// Done is the manifest of a trainer, written after all that it names.
type Done struct {
	Protocol int `json:"protocol"`
	// Task is the SHA-256 of task.json: a checkpoint of another task is none of this one.
	Task    string            `json:"task"`
	Trainer string            `json:"trainer"` // its name and version, for people
	Files   map[string]string `json:"files"`   // every file of checkpoint/ and optimizer/, with its SHA-256
	Steps   []Step            `json:"steps,omitempty"`
}

// Step is one optimizer step, as steps-policy.jsonl has it.
type Step struct {
	Step     int                `json:"step"`
	Loss     *float64           `json:"loss"`
	GradNorm *float64           `json:"grad_norm"` // before clipping
	Rate     float64            `json:"lr"`
	Units    int                `json:"units"`
	Tokens   float64            `json:"tokens"`
	Metrics  map[string]float64 `json:"metrics"`
}

const maxFiles = 10_000

// take checks what the trainer has left and makes the iteration's model of it.
func (u Update) take(ctx context.Context, at string, t prepared) error {
	done, err := readDone(at, t)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(at)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := listed(root, at, done); err != nil {
		return err
	}
	m, err := local.LoadRef(ctx, u.Job.Model)
	if err != nil {
		return err
	}
	weights := transformer.FrozenBytes(m.Config(), kernels.Float32)
	own, err := os.MkdirTemp(at, ".taken-") // what is checked is what is taken, whoever writes to the original
	if err != nil {
		return err
	}
	defer os.RemoveAll(own)
	c := &copying{root: root, at: at, files: done.Files}
	if err := c.below(CheckpointName, own, 2*weights+spare); err != nil {
		return err
	}
	checkpoint := filepath.Join(own, CheckpointName)
	if err := u.fill(ctx, m, checkpoint, filepath.Join(at, CheckpointName)); err != nil {
		return err
	}
	if c.any(StateName) {
		err := files.WriteDirectory(ctx, u.Job.StateDir(), nil, func(to string) error {
			if err := c.below(StateName, own, 16*weights+spare); err != nil {
				return err
			}
			return os.CopyFS(to, os.DirFS(filepath.Join(own, StateName)))
		})
		if err != nil {
			return err
		}
	}
	var steps []update.StepRecord
	for _, s := range done.Steps {
		steps = append(steps, update.StepRecord{Step: s.Step, Loss: *s.Loss, GradNorm: *s.GradNorm, Rate: s.Rate, Units: s.Units,
			Tokens: s.Tokens, Metrics: s.Metrics})
	}
	return u.leave(ctx, m, steps)
}

// spare is what the files of a model may have beside its weights.
const spare = 256 << 20

// leave writes the model as the iteration leaves it, and the steps where they are known.
func (u Update) leave(ctx context.Context, m *transformer.Model, steps []update.StepRecord) error {
	j := u.Job
	if l := j.LoRA; l != nil && m.LoRA() == nil && !l.Merge {
		if err := m.AddLoRA(l.LoRA, j.Seed, j.Model); err != nil {
			return err
		}
	}
	tok, err := tokenizer.Open(ctx, j.Model)
	if err != nil {
		return err
	}
	if steps != nil {
		if err := files.WriteLines(ctx, j.StepsFile(), steps); err != nil {
			return err
		}
	}
	return files.WriteDirectory(ctx, j.ModelDir(), local.ConfigFiles(), func(dir string) error {
		return errors.Join(m.Save(dir), tok.Save(dir))
	})
}

// readDone reads the manifest and holds it to the task.
func readDone(at string, t prepared) (Done, error) {
	var d Done
	refused := func(format string, args ...any) (Done, error) {
		return d, &RefusedError{File: filepath.Join(at, DoneName), Why: fmt.Sprintf(format, args...)}
	}
	raw, err := readSmall(at, DoneName)
	if err != nil {
		return d, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return refused("%v", err)
	}
	sum := sha256.Sum256(t.raw)
	switch want := hex.EncodeToString(sum[:]); {
	case d.Protocol != Protocol:
		return refused("protocol %d, this program speaks %d", d.Protocol, Protocol)
	case d.Task != want:
		return refused("is of another task (%.12s, this one is %.12s); remove it with the checkpoint, and the trainer does this one", d.Task,
			want)
	case len(d.Files) == 0:
		return refused("names no file; want every file of %s with its SHA-256", CheckpointName)
	case len(d.Files) > maxFiles:
		return refused("names %d files, and at most %d are taken", len(d.Files), maxFiles)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Files)) {
		first, rest, ok := strings.Cut(name, "/")
		if !filepath.IsLocal(filepath.FromSlash(name)) || path.Clean(name) != name || !ok || first != CheckpointName && first != StateName {
			return refused("file %q does not lie in %s or %s", name, CheckpointName, StateName)
		}
		if first == CheckpointName && strings.Contains(rest, "/") {
			return refused("file %q lies in a folder of the checkpoint; a model is the files directly in it", name)
		}
	}
	for i, s := range d.Steps {
		if s.Loss == nil || s.GradNorm == nil {
			return refused("steps[%d] lacks loss or grad_norm", i)
		}
	}
	return d, nil
}

// listed refuses what lies beside the files of the manifest, and whatever is no regular file.
func listed(root *os.Root, at string, d Done) error {
	for _, dir := range []string{CheckpointName, StateName} {
		if _, err := root.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		err := filepath.WalkDir(filepath.Join(at, dir), func(file string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(at, file)
			if err != nil {
				return err
			}
			switch _, named := d.Files[filepath.ToSlash(rel)]; {
			case e.Type()&fs.ModeSymlink != 0:
				return &RefusedError{File: file, Why: "is a symbolic link; leave the file itself"}
			case e.IsDir():
				return nil
			case !e.Type().IsRegular():
				return &RefusedError{File: file, Why: "is not a regular file"}
			case !named:
				return &RefusedError{File: file, Why: DoneName + " does not name it"}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// openIn opens a regular file below the root; no link is followed.
func openIn(root *os.Root, at, name string) (*os.File, error) {
	info, err := root.Lstat(filepath.FromSlash(name))
	if err != nil {
		return nil, err
	}
	refused := &RefusedError{File: filepath.Join(at, filepath.FromSlash(name)), Why: "is not a regular file"}
	if !info.Mode().IsRegular() {
		return nil, refused
	}
	f, err := root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO in its place would wait for a writer
	if err != nil {
		return nil, err
	}
	if opened, err := f.Stat(); err != nil || !os.SameFile(info, opened) {
		f.Close()
		return nil, errors.Join(refused, err)
	}
	return f, nil
}

// copying copies the files of a manifest, and holds what it copies to their digests.
type copying struct {
	root  *os.Root
	at    string
	files map[string]string
}

func (c *copying) any(dir string) bool {
	for name := range c.files {
		if strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}

// below copies the files below a folder, of at most so many bytes together.
func (c *copying) below(dir, to string, most int64) error {
	left := most
	for _, name := range slices.Sorted(maps.Keys(c.files)) {
		if !strings.HasPrefix(name, dir+"/") {
			continue
		}
		n, err := c.one(name, to, left)
		if err != nil {
			return err
		}
		left -= n
	}
	if !c.any(dir) {
		return &RefusedError{File: filepath.Join(c.at, DoneName), Why: "names no file of " + dir}
	}
	return nil
}

func (c *copying) one(name, to string, most int64) (int64, error) {
	where := filepath.Join(c.at, filepath.FromSlash(name))
	in, err := openIn(c.root, c.at, name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, &RefusedError{File: where, Why: "is missing, and " + DoneName + " names it"}
	}
	if err != nil {
		return 0, err
	}
	defer in.Close()
	target := filepath.Join(to, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return 0, err
	}
	out, err := os.Create(target)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), io.LimitReader(in, most+1))
	if err == nil && n > most {
		err = &RefusedError{File: where, Why: "with the files before it is larger than the model can be"}
	}
	if err != nil {
		return 0, err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != c.files[name] {
		return 0, &RefusedError{File: where, Why: fmt.Sprintf("its digest is %.12s, %s says %.12s; it is not complete, or was changed", got,
			DoneName, c.files[name])}
	}
	return n, out.Close()
}

// fill puts the weights of a checkpoint into the model that the update started from. Errors name the files as the trainer left them, in
// shown.
func (u Update) fill(ctx context.Context, m *transformer.Model, checkpoint, shown string) error {
	l := u.Job.LoRA
	weights := checkpoint
	if transformer.IsAdapter(checkpoint) {
		if l != nil && l.Merge {
			return &RefusedError{File: shown, Why: "holds adapters, and update.lora.merge asks for a whole model"}
		}
		if err := u.adapt(m, checkpoint, shown); err != nil {
			return err
		}
		weights, shown = filepath.Join(checkpoint, transformer.AdapterWeights), filepath.Join(shown, transformer.AdapterWeights)
	} else {
		if l != nil && !l.Merge {
			return &RefusedError{File: shown, Why: "holds no adapters, and update.lora asks for some"}
		}
		m.Merge() // every weight comes from the checkpoint
		if err := sameShape(m.Config(), checkpoint, shown); err != nil {
			return err
		}
	}
	if err := u.sameVocabulary(ctx, checkpoint, shown); err != nil {
		return err
	}
	return u.read(m, weights, shown)
}

// adapt gives the model adapters like those of a checkpoint.
func (u Update) adapt(m *transformer.Model, checkpoint, shown string) error {
	file := filepath.Join(shown, "adapter_config.json")
	config, base, err := transformer.ReadAdapter(checkpoint)
	if err != nil {
		var c *transformer.ConfigError
		if errors.As(err, &c) {
			return &RefusedError{File: file, Why: c.Field + ": " + c.Msg}
		}
		return err
	}
	if l := u.Job.LoRA; l != nil && !l.LoRA.Equal(config) {
		return &RefusedError{File: file, Why: fmt.Sprintf("the adapters are %v, update.lora asks for %v", config, l.LoRA)}
	}
	own := u.Job.Model.Path
	if have := m.LoRA(); have != nil {
		if !have.Equal(config) {
			return &RefusedError{File: file, Why: fmt.Sprintf("the adapters are %v, those that the update started from %v", config, *have)}
		}
		if own, err = transformer.AdapterBase(own); err != nil && !files.IsURL(u.Job.Model.Path) {
			return err
		}
	}
	if !files.IsURL(u.Job.Model.Path) && filepath.Clean(base) != filepath.Clean(own) {
		return &RefusedError{File: file, Why: fmt.Sprintf("base_model_name_or_path is %s, and the adapters of this task belong to %s", base, own)}
	}
	if m.LoRA() != nil {
		return nil
	}
	return m.AddLoRA(config, u.Job.Seed, u.Job.Model)
}

// sameShape holds the configuration of a checkpoint to the model's.
func sameShape(want transformer.Config, checkpoint, shown string) error {
	file := filepath.Join(shown, "config.json")
	have, err := transformer.ReadConfig(checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return &RefusedError{File: file, Why: "is missing: this is neither a model nor adapters"}
	}
	if err != nil {
		return &RefusedError{File: file, Why: err.Error()}
	}
	if have.Vocab != want.Vocab {
		return &RefusedError{File: file, Why: fmt.Sprintf("has another vocabulary: %d tokens, the model of the task has %d", have.Vocab,
			want.Vocab)}
	}
	a, b := reflect.ValueOf(have), reflect.ValueOf(want)
	for i := range a.NumField() {
		f := a.Type().Field(i)
		if !f.IsExported() || f.Name == "EOS" { // which the tokenizer knows
			continue
		}
		same := reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface())
		if f.Name == "Rope" { // the newer form of a config.json has factors that its kind of scaling does not read
			same = slices.Equal(have.Rope.InvFreq(have.HeadDim), want.Rope.InvFreq(want.HeadDim))
		}
		if x, y := a.Field(i).Interface(), b.Field(i).Interface(); !same {
			return &RefusedError{File: file, Why: fmt.Sprintf("has another shape: %s is %v, the model of the task has %v", f.Name, x, y)}
		}
	}
	return nil
}

// sameVocabulary holds a tokenizer that lies in the checkpoint to the model's. The iteration keeps the model's.
func (u Update) sameVocabulary(ctx context.Context, checkpoint, shown string) error {
	have, err := tokenizer.Load(checkpoint)
	if err != nil {
		for _, name := range []string{"tokenizer.json", "millrace_tokenizer.json"} {
			if _, missing := os.Stat(filepath.Join(checkpoint, name)); missing == nil {
				return &RefusedError{File: filepath.Join(shown, name), Why: err.Error()}
			}
		}
		return nil // there is none
	}
	want, err := tokenizer.Open(ctx, u.Job.Model)
	if err != nil {
		return err
	}
	if tokenizer.VocabDigest(have) != tokenizer.VocabDigest(want) {
		return &RefusedError{File: shown, Why: fmt.Sprintf("has another vocabulary: %d tokens, the model of the task has %d, or others",
			have.VocabSize(), want.VocabSize())}
	}
	return nil
}

// read overwrites the model's weights with those of a file or of a directory's files.
func (u Update) read(m *transformer.Model, weights, shown string) error {
	f, err := safetensors.Open(weights)
	if errors.Is(err, fs.ErrNotExist) {
		return &RefusedError{File: shown, Why: "has no weights in safetensors"}
	}
	if err != nil {
		return &RefusedError{File: shown, Why: strings.ReplaceAll(err.Error(), weights, shown)}
	}
	defer f.Close()
	loss, err := u.Job.Loss()
	if err != nil {
		return err
	}
	if loss.Spec().Heads&losses.Scalar != 0 {
		m.AddScalarHead()
	}
	refused := func(name, format string, args ...any) error {
		return &RefusedError{File: shown, Tensor: name, Why: fmt.Sprintf(format, args...)}
	}
	want := map[string]models.Tensor{}
	for _, t := range m.Parameters() {
		want[t.Name] = t
	}
	for _, name := range f.Names() {
		if _, ok := want[name]; ok || strings.HasSuffix(name, ".rotary_emb.inv_freq") {
			continue
		}
		if name == "lm_head.weight" && m.Config().Tied {
			tied, embedded, err := both(f, name, "model.embed_tokens.weight")
			if err != nil || !slices.Equal(tied, embedded) {
				return refused(name, "differs from the embedding, and the configuration ties them")
			}
			continue
		}
		return refused(name, "is none of the model's")
	}
	for _, t := range m.Parameters() {
		if !f.Has(t.Name) {
			return refused(t.Name, "is missing; the model has it in shape %v", t.Shape)
		}
		have, err := f.Shape(t.Name)
		if err != nil {
			return err
		}
		if !slices.Equal(have, t.Shape) && !(t.Name == transformer.ScalarHeadName && slices.Equal(have, t.Shape[1:])) {
			return refused(t.Name, "has shape %v, the model has %v", have, t.Shape)
		}
		if err := f.Float32Into(t.Param, t.Name); err != nil {
			return refused(t.Name, "%v", strings.ReplaceAll(err.Error(), weights, shown))
		}
		for i, x := range t.Param {
			if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				return refused(t.Name, "number %d is %v: weights have to be finite", i, x)
			}
		}
	}
	return nil
}

func both(f *safetensors.File, a, b string) (x, y []float32, err error) {
	if x, _, err = f.Float32(a); err == nil {
		y, _, err = f.Float32(b)
	}
	return x, y, err
}
