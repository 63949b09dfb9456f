package pipelines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/remote"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/transforms/stage"
)

// Model says where a run takes a model from: a directory, or random weights of a given shape.
type Model struct {
	Path string `json:"path"`
	// Precision is that of the model's products wherever the run samples from it, scores with it or trains it, and of what the
	// run makes of it.
	Precision kernels.Precision `json:"precision,omitempty"`
	// New is the shape of a new model in the keys of a Hugging Face config.json, such as {model_type: llama,
	// hidden_size: 64, ...}; vocab_size and eos_token_id are taken from the tokenizer where they are left out.
	New map[string]any `json:"new,omitempty"`
	// Tokenizer of a new model: proving_ground, proving_ground_revision (with SEFT's labels), bytes, or a directory.
	Tokenizer string `json:"tokenizer,omitempty"`
}

func (m Model) validate() error {
	switch {
	case m.Path == "" && m.New == nil:
		return errors.New("path: is empty; name a model directory, or give the shape of a new model under new")
	case m.Path != "" && m.New != nil:
		return errors.New("new: is given and so is path; want one of them")
	case m.New != nil && m.Tokenizer == "":
		return errors.New("tokenizer: is empty; a new model needs proving_ground, bytes, or a directory")
	case m.New == nil && m.Tokenizer != "":
		return errors.New("tokenizer: belongs to a new model; a directory brings its own")
	case m.Precision != kernels.Float32 && m.remote():
		return fmt.Errorf("precision: %s is given to an endpoint, which computes in the precision of its server; leave it out here", m.Precision)
	}
	if m.New != nil {
		_, _, err := m.shape()
		return err
	}
	return nil
}

func (m Model) shape() (transformer.Config, tokenizer.Tokenizer, error) {
	var tok tokenizer.Tokenizer
	var err error
	switch m.Tokenizer {
	case "proving_ground":
		tok = tokenizer.NewProvingGround(false)
	case "proving_ground_revision":
		tok = tokenizer.NewProvingGround(true)
	case "bytes":
		tok, err = tokenizer.NewBytes()
	default:
		tok, err = tokenizer.Load(m.Tokenizer)
	}
	if err != nil {
		return transformer.Config{}, nil, fmt.Errorf("tokenizer: %w", err)
	}
	shape := map[string]any{"vocab_size": tok.VocabSize(), "eos_token_id": tok.EOS()}
	for k, v := range m.New {
		shape[k] = v
	}
	raw, err := json.Marshal(shape)
	if err != nil {
		return transformer.Config{}, nil, fmt.Errorf("new: %w", err)
	}
	c, err := transformer.ParseConfig(raw)
	if err != nil {
		return transformer.Config{}, nil, fmt.Errorf("new: %w", err)
	}
	if c.Vocab < tok.VocabSize() {
		return transformer.Config{}, nil, fmt.Errorf("new: vocab_size %d is below the tokenizer's %d", c.Vocab, tok.VocabSize())
	}
	return c, tok, nil
}

// OpenAt opens other weights in the place of the model, which have its precision: what a run has made of it.
func (m Model) OpenAt(ctx context.Context, path string) (models.Ref, error) {
	return Model{Path: path, Precision: m.Precision}.open(ctx, "", 0)
}

// committed is what an iteration left of the model.
func (m Model) committed(ctx context.Context, dir, role string) (models.Ref, error) {
	return m.OpenAt(ctx, stage.JoinPath(dir, role))
}

// open returns the model with its digest; a new one is drawn from the seed and written to dir first.
func (m Model) open(ctx context.Context, dir string, seed uint64) (models.Ref, error) {
	ref := m.ref()
	if m.remote() {
		return models.Identify(ctx, ref)
	}
	if m.New != nil {
		ref.Path = dir
		if err := m.write(ctx, dir, seed); err != nil {
			return models.Ref{}, fmt.Errorf("new model: %w", err)
		}
	}
	var err error
	if ref.Path, err = stage.AbsPath(ref.Path); err != nil {
		return models.Ref{}, err
	}
	if stage.IsURL(ref.Path) {
		return models.Identify(ctx, ref)
	}
	if ref.Digest, err = models.Digest(ref.Path); err != nil {
		return models.Ref{}, fmt.Errorf("model %s: %w", ref.Path, err)
	}
	return ref, nil
}

// ref names the model as far as the recipe does: without its digest.
func (m Model) ref() models.Ref { return models.Ref{Path: m.Path, Precision: m.Precision} }

// remote reports whether the model is an endpoint.
func (m Model) remote() bool { return remote.IsEndpoint(m.Path) }

// vocabulary loads the tokenizer of a model; nil when the model's directory does not exist yet. A model in a bucket is
// asked for its own only with buckets.
func (m Model) vocabulary(ctx context.Context, buckets bool) (tokenizer.Tokenizer, error) {
	switch {
	case m.New != nil:
		_, tok, err := m.shape()
		return tok, err
	case m.Path == "":
		return nil, nil
	case m.remote():
		return tokenizer.Load(m.Path)
	case stage.IsURL(m.Path):
		if !buckets {
			return nil, nil
		}
	default:
		if _, err := os.Stat(m.Path); err != nil {
			return nil, nil
		}
	}
	return tokenizer.Open(ctx, m.ref())
}

// size is the shape of a model, false when it is not known yet or not on this machine.
func (m Model) size() (transformer.Config, bool) {
	if m.New != nil {
		c, _, err := m.shape()
		return c, err == nil
	}
	if m.Path == "" || stage.IsURL(m.Path) {
		return transformer.Config{}, false
	}
	c, err := local.ReadConfig(m.Path)
	return c, err == nil
}

func (m Model) write(ctx context.Context, dir string, seed uint64) error {
	c, tok, err := m.shape()
	if err != nil {
		return err
	}
	model, err := transformer.New(c, seed, false)
	if err != nil {
		return err
	}
	return saveModel(ctx, dir, model, tok)
}

// saveModel writes a model with its tokenizer to where the run lies.
func saveModel(ctx context.Context, dir string, model *transformer.Model, tok tokenizer.Tokenizer) error {
	return stage.WriteDirectory(ctx, dir, local.ConfigFiles(), func(dir string) error {
		return errors.Join(model.Save(dir), tok.Save(dir))
	})
}
