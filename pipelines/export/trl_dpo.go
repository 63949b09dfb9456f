package export

import (
	"context"

	"github.com/millrace/millrace/transforms/stage"
)

// TRLDPO writes preference pairs for TRL's DPOTrainer and RewardTrainer: prompt, chosen and rejected.
type TRLDPO struct {
	Prompts
	Preferences
}

func init() { Register("trl-dpo", TRLDPO{Prompts{Prompt: "auto"}, DefaultPreferences()}) }

// Prepare asks for texts of both sides.
func (f TRLDPO) Prepare(of Origin, heads []stage.Batch) (_ Format, err error) {
	f.Preferences, err = f.prepare("trl-dpo", f.Prompts, of, heads)
	return f, err
}

// Begin starts train.jsonl.
func (f TRLDPO) Begin(ctx context.Context, dir string) (Writer, error) {
	return beginPairs(ctx, dir, "train.jsonl", f.Preferences)
}

// pairLines writes a line for each pair.
type pairLines struct {
	*lines
	*pairer
}

func beginPairs(ctx context.Context, dir, name string, of Preferences) (Writer, error) {
	l, err := newLines(ctx, dir, name)
	if err != nil {
		return nil, err
	}
	return &pairLines{l, &pairer{Preferences: of, write: func(p preference) error {
		return l.value(struct {
			Prompt   prompt `json:"prompt"`
			Chosen   prompt `json:"chosen"`
			Rejected prompt `json:"rejected"`
		}{p.prompt, p.prompt.reply(p.chosen), p.prompt.reply(p.rejected)})
	}}}, nil
}
