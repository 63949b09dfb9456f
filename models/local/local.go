// Package local opens model directories on this machine: importing it teaches models.Acquire to read them.
package local

import (
	"context"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/sampling"
	"github.com/millrace/millrace/models/transformer"
)

func init() {
	models.RegisterFormat(models.Format{
		Name: "huggingface",
		Match: func(path string) bool {
			for _, name := range []string{"config.json", "adapter_config.json"} {
				if info, err := os.Stat(filepath.Join(path, name)); err == nil && info.Mode().IsRegular() {
					return true
				}
			}
			return false
		},
		Open: func(_ context.Context, path string) (models.Model, error) {
			m, err := transformer.Load(path)
			if err != nil {
				return nil, err
			}
			m.Freeze()
			return New(m), nil
		},
	})
}

// Model is a transformer as Generator and Scorer.
type Model struct {
	*sampling.Sampler
	*Scorer
	transformer *transformer.Model
}

var _ models.Model = (*Model)(nil)

// New wraps a transformer, which must not change while it is in use.
func New(m *transformer.Model) *Model {
	return &Model{Sampler: sampling.New(m, sampling.Options{}), Scorer: NewScorer(m, ScoreOptions{}), transformer: m}
}

// Transformer is the model itself.
func (m *Model) Transformer() *transformer.Model { return m.transformer }

// Close implements models.Model; the garbage collector takes the weights.
func (m *Model) Close() error { return nil }
