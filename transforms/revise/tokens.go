package revise

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas/setting"
)

// Tokens are what a reviser is shown or writes beside prompts and responses: a text, which the tokenizer of the reviser encodes, or the ids
// of tokens, for a vocabulary without text.
type Tokens struct {
	Text string
	IDs  []int32
}

// IDs are tokens by their ids.
func IDs(ids ...int32) Tokens { return Tokens{IDs: ids} }

// DecodeSetting reads a text, or a list of ids.
func (t *Tokens) DecodeSetting(tree any, path string) error {
	*t = Tokens{}
	if _, ok := tree.(string); ok {
		return setting.Decode(tree, &t.Text, path)
	}
	if _, ok := tree.([]any); !ok {
		return setting.Errorf(path, "want a text, or a list of the ids of tokens")
	}
	if err := setting.Decode(tree, &t.IDs, path); err != nil {
		return err
	}
	for i, id := range t.IDs {
		if id < 0 {
			return setting.Errorf(fmt.Sprintf("%s[%d]", path, i), "%d is no id of a token", id)
		}
	}
	return nil
}

// SettingSchema describes both ways.
func (t *Tokens) SettingSchema() *setting.Schema {
	return &setting.Schema{OneOf: []*setting.Schema{{Type: "string"}, {Type: "array", Items: &setting.Schema{Type: "integer"}}}}
}

// MarshalJSON writes what DecodeSetting reads.
func (t Tokens) MarshalJSON() ([]byte, error) {
	if t.Text != "" {
		return json.Marshal(t.Text)
	}
	return json.Marshal(t.IDs)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (t *Tokens) UnmarshalJSON(raw []byte) error {
	*t = Tokens{}
	if json.Unmarshal(raw, &t.Text) == nil {
		return nil
	}
	return json.Unmarshal(raw, &t.IDs)
}

// IsZero reports whether there are none.
func (t Tokens) IsZero() bool { return t.Text == "" && len(t.IDs) == 0 }

func (t Tokens) equal(o Tokens) bool { return t.Text == o.Text && slices.Equal(t.IDs, o.IDs) }

// begins reports whether o goes on where t ends.
func (t Tokens) begins(o Tokens) bool {
	if t.Text != "" || o.Text != "" {
		return false // the tokens are not known yet
	}
	return len(o.IDs) > len(t.IDs) && slices.Equal(t.IDs, o.IDs[:len(t.IDs)])
}

// named are tokens by their setting.
type named struct {
	key string
	of  *Tokens
}

// encode replaces texts by their ids. A tokenizer is opened only where there is a text.
func encode(open func() (tokenizer.Tokenizer, error), all ...named) error {
	for _, t := range all {
		if t.of.Text == "" {
			continue
		}
		tok, err := open()
		if err != nil {
			return err
		}
		ids, err := tok.Encode(t.of.Text)
		if err != nil {
			return setting.Errorf(t.key, "the model has no tokens for %q: %v; want a text of its vocabulary, or ids", t.of.Text, err)
		}
		if len(ids) == 0 {
			return setting.Errorf(t.key, "the model makes no token of %q; want a text that has some, or ids", t.of.Text)
		}
		*t.of = Tokens{IDs: ids}
	}
	return nil
}

// of opens the tokenizer of a model, once.
func of(ctx context.Context, model models.Ref) func() (tokenizer.Tokenizer, error) {
	return sync.OnceValues(func() (tokenizer.Tokenizer, error) { return tokenizer.Open(ctx, model) })
}

// known is a tokenizer that is open already.
func known(tok tokenizer.Tokenizer) func() (tokenizer.Tokenizer, error) {
	return func() (tokenizer.Tokenizer, error) { return tok, nil }
}

// encode replaces texts by their ids, and tells the labels apart.
func (c *Config) encode(tok tokenizer.Tokenizer) error {
	return setting.First(setting.In("layout", c.Layout.encode(known(tok))), setting.In("labels", c.Labels.encode(known(tok))))
}

// Encodable checks that a tokenizer has tokens for the texts, knows the ids, and tells the labels apart.
func (c Config) Encodable(tok tokenizer.Tokenizer) error { // c is a copy
	if err := c.encode(tok); err != nil {
		return err
	}
	for _, part := range []struct {
		path string
		of   []named
	}{{"layout", c.Layout.parts()}, {"labels", c.Labels.parts()}, {"sampling", []named{{"stop", &Tokens{IDs: c.Sampling.Stop}}}}} {
		for _, t := range part.of {
			for _, id := range t.of.IDs {
				if size := tok.VocabSize(); id < 0 || int(id) >= size {
					return setting.Errorf(setting.Join(part.path, t.key), "no token has the id %d; those of the model's vocabulary are 0 to %d", id,
						size-1)
				}
			}
		}
	}
	return nil
}
