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
	if text, ok := tree.(string); ok {
		*t = Tokens{Text: text}
		return nil
	}
	*t = Tokens{}
	if _, ok := tree.([]any); !ok {
		return setting.Errorf(path, "want a text, or a list of the ids of tokens")
	}
	return setting.Decode(tree, &t.IDs, path)
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

// encode replaces texts by their ids. A tokenizer is opened only where there is a text.
func encode(open func() (tokenizer.Tokenizer, error), all ...*Tokens) error {
	for _, t := range all {
		if t.Text == "" {
			continue
		}
		tok, err := open()
		if err == nil {
			t.IDs, err = tok.Encode(t.Text)
		}
		if err != nil {
			return fmt.Errorf("the tokens of %q: %w", t.Text, err)
		}
		t.Text = ""
	}
	return nil
}

// of opens the tokenizer of a model, once.
func of(ctx context.Context, model models.Ref) func() (tokenizer.Tokenizer, error) {
	return sync.OnceValues(func() (tokenizer.Tokenizer, error) { return tokenizer.Open(ctx, model) })
}

// Encodable checks that a tokenizer has tokens for the texts, knows the ids, and tells the labels apart.
func (c Config) Encodable(tok tokenizer.Tokenizer) error { // c is a copy
	known := func() (tokenizer.Tokenizer, error) { return tok, nil }
	if err := setting.First(setting.In("layout", c.Layout.encode(known)), setting.In("labels", c.Labels.encode(known))); err != nil {
		return err
	}
	for _, t := range []struct {
		path string
		Tokens
	}{{"layout.before", c.Layout.Before}, {"layout.between", c.Layout.Between}, {"layout.after", c.Layout.After},
		{"labels.no", c.Labels.No}, {"labels.minor", c.Labels.Minor}, {"labels.major", c.Labels.Major}} {
		for _, id := range t.IDs {
			if size := tok.VocabSize(); id < 0 || int(id) >= size {
				return setting.Errorf(t.path, "no token has the id %d; those of the model's vocabulary are 0 to %d", id, size-1)
			}
		}
	}
	return nil
}
