package recipe

import (
	"encoding/json"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/remote"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/schemas/setting"
)

// Model says where a run takes a model from: a directory, or random weights of a given shape.
type Model struct {
	Path      string            `json:"path" doc:"model directory, GGUF file, bucket, or http(s) endpoint"`
	Precision kernels.Precision `json:"precision,omitempty" enum:"float32,bfloat16,bfloat16-tiles,fast" doc:"of the model's matrix products wherever the run uses it, and of what the run makes of it; fast: that which is fast on this processor, once for the run"`
	// New has the keys of a Hugging Face config.json; vocab_size and eos_token_id are taken from the tokenizer where they are left
	// out.
	New       map[string]any `json:"new,omitempty" doc:"shape of a new model in the keys of config.json, such as {model_type: llama, hidden_size: 64, ...}"`
	Tokenizer string         `json:"tokenizer,omitempty" doc:"of a new model: proving_ground, proving_ground_revision (with SEFT's labels), bytes, or a directory"`
}

// Empty reports whether no model is named.
func (m Model) Empty() bool { return m.Path == "" && m.New == nil }

// Named refuses an empty model, where one is needed.
func (m Model) Named() error {
	if m.Empty() {
		return setting.Errorf("path", "is empty; name a model directory, or give the shape of a new model under new")
	}
	return nil
}

// Validate names the first key that does not go with the others. Whether a model may be left out the kind of run knows.
func (m Model) Validate() error {
	switch {
	case m.Empty() && m.Tokenizer != "":
		return setting.Errorf("tokenizer", "belongs to a new model; give its shape under new")
	case m.Empty() && m.Precision != kernels.Float32:
		return m.Named()
	case m.Empty():
		return nil
	case m.Path != "" && m.New != nil:
		return setting.Errorf("new", "is given and so is path; want one of them")
	case m.New != nil && m.Tokenizer == "":
		return setting.Errorf("tokenizer", "is empty; a new model needs proving_ground, bytes, or a directory")
	case m.New == nil && m.Tokenizer != "":
		return setting.Errorf("tokenizer", "belongs to a new model; a directory brings its own")
	case m.Precision != kernels.Float32 && m.Remote():
		return setting.Errorf("precision", "%s is given to an endpoint, which computes in the precision of its server; leave it out here",
			m.Precision)
	}
	if m.New != nil {
		_, _, err := m.Shape()
		return err
	}
	return nil
}

// Validate lets a reward model without path and new start from the policy.
func (r Reward) Validate() error {
	if r.Path != "" || r.New != nil {
		return r.Model.Validate()
	}
	if r.Precision != kernels.Float32 {
		return setting.Errorf("precision", "belongs to a model that path or new names; without one the reward model starts as the policy, in "+
			"its precision")
	}
	return nil
}

// Shape is the configuration and the tokenizer of a new model.
func (m Model) Shape() (transformer.Config, tokenizer.Tokenizer, error) {
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
		return transformer.Config{}, nil, setting.In("tokenizer", err)
	}
	shape := map[string]any{"vocab_size": tok.VocabSize(), "eos_token_id": tok.EOS()}
	for k, v := range m.New {
		shape[k] = v
	}
	raw, err := json.Marshal(shape)
	if err != nil {
		return transformer.Config{}, nil, setting.In("new", err)
	}
	c, err := transformer.ParseConfig(raw)
	if err != nil {
		return transformer.Config{}, nil, setting.In("new", err)
	}
	if c.Vocab < tok.VocabSize() {
		return transformer.Config{}, nil, setting.Errorf("new", "vocab_size %d is below the tokenizer's %d", c.Vocab, tok.VocabSize())
	}
	return c, tok, nil
}

// Ref names the model as far as the recipe does: without its digest.
func (m Model) Ref() models.Ref { return models.Ref{Path: m.Path, Precision: m.Precision} }

// Remote reports whether the model is an endpoint.
func (m Model) Remote() bool { return remote.IsEndpoint(m.Path) }
