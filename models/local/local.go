// Package local opens model directories on this machine: importing it teaches models.Acquire to read them.
package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/gguf"
	"github.com/millrace/millrace/models/safetensors"
	"github.com/millrace/millrace/models/sampling"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
)

func init() {
	models.RegisterFormat(models.Format{
		Name: "huggingface",
		Match: func(path string) bool {
			for _, name := range ConfigFiles() {
				if info, err := os.Stat(filepath.Join(path, name)); err == nil && info.Mode().IsRegular() {
					return true
				}
			}
			return false
		},
		Open:   open,
		Window: window,
	})
}

// ConfigFiles are the files of which one makes a directory a model: of a model that is written, they are to appear last.
func ConfigFiles() []string { return []string{"config.json", "adapter_config.json"} }

// Load reads the weights of a Hugging Face directory, a directory of adapters or a GGUF file. The model computes in float32.
func Load(path string) (*transformer.Model, error) { return load(context.Background(), path) }

// LoadRef is Load for a model that may lie elsewhere, in its precision.
func LoadRef(ctx context.Context, ref models.Ref) (*transformer.Model, error) {
	here, err := models.Fetch(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer here.Release()
	m, err := load(ctx, here.Path)
	if err != nil {
		return nil, err
	}
	m.SetPrecision(ref.Precision)
	return m, nil
}

func load(ctx context.Context, path string) (*transformer.Model, error) {
	if isGGUF(path) {
		return LoadGGUF(path)
	}
	if transformer.IsAdapter(path) {
		return transformer.LoadAdapters(ctx, path, func(base string) (*transformer.Model, error) { return load(ctx, base) })
	}
	return transformer.Load(path)
}

// ReadConfig reads the shape of the model at a path that Load reads, without its weights.
func ReadConfig(path string) (transformer.Config, error) {
	if isGGUF(path) {
		f, err := gguf.Open(path)
		if err != nil {
			return transformer.Config{}, err
		}
		defer f.Close()
		checkpoint, err := f.Checkpoint()
		if err != nil {
			return transformer.Config{}, err
		}
		return transformer.ParseConfig(checkpoint.Config())
	}
	if transformer.IsAdapter(path) {
		base, err := transformer.AdapterBase(path)
		if err != nil {
			return transformer.Config{}, err
		}
		return ReadConfig(base)
	}
	return transformer.ReadConfig(path)
}

// window is the longest sequence that the model at a path takes; 0 where adapters lie here without their base.
func window(path string) (int, error) {
	c, err := ReadConfig(path)
	if errors.Is(err, fs.ErrNotExist) && transformer.IsAdapter(path) {
		return 0, nil
	}
	return c.MaxPositions, err
}

// HasScalarHead reports whether the model at a path that Load reads has a scalar head, without reading its weights.
func HasScalarHead(path string) (bool, error) {
	if isGGUF(path) {
		return false, nil // the format has no place for one
	}
	weights := path
	if transformer.IsAdapter(path) {
		weights = filepath.Join(path, transformer.AdapterWeights)
	}
	f, err := safetensors.Open(weights)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if weights != path && !f.Has(transformer.ScalarHeadName) {
		base, err := transformer.AdapterBase(path)
		if err != nil {
			return false, err
		}
		return HasScalarHead(base)
	}
	return f.Has(transformer.ScalarHeadName), nil
}

func open(ctx context.Context, ref models.Ref) (models.Model, error) {
	m, err := LoadRef(ctx, ref)
	if err != nil {
		return nil, err
	}
	m.Freeze()
	return wrap(m, func() (func([]int32) string, error) {
		t, err := tokenizer.Load(ref.Path)
		if err != nil {
			return nil, err
		}
		return t.Decode, nil
	}), nil
}

// Model is a transformer as Generator and Scorer.
type Model struct {
	*sampling.Sampler
	*Scorer
	transformer *transformer.Model
}

var _ models.Model = (*Model)(nil)

// New wraps a transformer, which must not change while it is in use. Stop strings are not available: they need a tokenizer,
// which models opened by Acquire have.
func New(m *transformer.Model) *Model { return wrap(m, nil) }

func wrap(m *transformer.Model, decoder func() (func([]int32) string, error)) *Model {
	return &Model{Sampler: sampling.New(m, sampling.Options{Decoder: decoder}), Scorer: NewScorer(m, ScoreOptions{}), transformer: m}
}

// Transformer is the model itself.
func (m *Model) Transformer() *transformer.Model { return m.transformer }

// MaxPositions is the longest sequence the model takes.
func (m *Model) MaxPositions() int { return m.transformer.MaxPositions() }

// VocabSize is how many tokens there are.
func (m *Model) VocabSize() int { return m.transformer.VocabSize() }

// Close implements models.Model; the garbage collector takes the weights.
func (m *Model) Close() error { return nil }
