package export

import (
	"context"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// TRLSFT writes responses for TRL's SFTTrainer: prompt and completion.
type TRLSFT struct {
	Prompts
	Kept
}

func init() {
	Register("trl-sft", TRLSFT{Prompts: Prompts{Prompt: "auto"}, Kept: Kept{Keep: "correct"}})
}

// completion is a line of prompt and completion.
type completion struct {
	Prompt     prompt `json:"prompt"`
	Completion prompt `json:"completion"`
	Label      *bool  `json:"label,omitempty"`
}

// Prepare asks for texts.
func (f TRLSFT) Prepare(of Origin, heads []stage.Batch) (Format, error) {
	if err := withoutPairs("trl-sft", heads); err != nil {
		return nil, err
	}
	if err := need("trl-sft", heads, append(f.columns(), schemas.PromptID, schemas.Prompt, schemas.Response)...); err != nil {
		return nil, err
	}
	f.Prompts = f.known(of, heads)
	return f, nil
}

// Begin starts train.jsonl.
func (f TRLSFT) Begin(ctx context.Context, dir string) (Writer, error) {
	l, err := newLines(ctx, dir, "train.jsonl")
	if err != nil {
		return nil, err
	}
	return &responses{lines: l, of: func(b stage.Batch) (func(int) (any, string), error) {
		rows := f.kept(f.Prompts, b)
		return func(row int) (any, string) {
			p, text, why := rows(row)
			return completion{Prompt: p, Completion: p.reply(text)}, why
		}, nil
	}}, nil
}
