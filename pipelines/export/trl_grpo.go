package export

import (
	"context"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// TRLGRPO writes prompts for TRL's GRPOTrainer, a line each, which passes every other key to the reward functions.
type TRLGRPO struct{ Prompts }

func init() { Register("trl-grpo", TRLGRPO{Prompts{Prompt: "auto"}}) }

// Prepare asks for prompts.
func (f TRLGRPO) Prepare(of Origin, heads []stage.Batch) (Format, error) {
	if err := need("trl-grpo", heads, schemas.PromptID, schemas.Prompt); err != nil {
		return nil, err
	}
	f.Prompts = f.known(of, heads)
	return f, nil
}

// Begin starts train.jsonl.
func (f TRLGRPO) Begin(ctx context.Context, dir string) (Writer, error) {
	l, err := newLines(ctx, dir, "train.jsonl")
	if err != nil {
		return nil, err
	}
	return &promptLines{lines: l, promptGroups: promptGroups{of: f.Prompts}, record: func(p promptRow) any {
		return struct {
			Prompt     prompt  `json:"prompt"`
			Answer     *string `json:"answer"`
			Source     *string `json:"source"`
			Difficulty *string `json:"difficulty"`
			PromptID   string  `json:"prompt_id"`
		}{p.prompt, p.answer, p.source, p.difficulty, p.id.String()}
	}}, nil
}
