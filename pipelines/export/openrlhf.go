package export

import (
	"context"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// OpenRLHFPrompt writes prompts for OpenRLHF's PromptDataset: input and label.
type OpenRLHFPrompt struct{ Prompts }

// OpenRLHFPreference writes preference pairs for OpenRLHF's RewardDataset, which DPO reads too: prompt, chosen and rejected.
type OpenRLHFPreference struct {
	Prompts
	Preferences
}

func init() {
	Register("openrlhf-prompt", OpenRLHFPrompt{Prompts{Prompt: "auto"}})
	Register("openrlhf-preference", OpenRLHFPreference{Prompts{Prompt: "auto"}, DefaultPreferences()})
}

// Prepare asks for prompts.
func (f OpenRLHFPrompt) Prepare(of Origin, heads []stage.Batch) (Format, error) {
	if err := need("openrlhf-prompt", heads, schemas.PromptID, schemas.Prompt); err != nil {
		return nil, err
	}
	f.Prompts = f.known(of, heads)
	return f, nil
}

// Begin starts prompts.jsonl.
func (f OpenRLHFPrompt) Begin(ctx context.Context, dir string) (Writer, error) {
	l, err := newLines(ctx, dir, "prompts.jsonl")
	if err != nil {
		return nil, err
	}
	return &promptLines{lines: l, promptGroups: promptGroups{of: f.Prompts, answered: true}, record: func(p promptRow) any {
		return struct {
			Input    prompt `json:"input"`
			Label    string `json:"label"`
			PromptID string `json:"prompt_id"`
		}{p.prompt, *p.answer, p.id.String()}
	}}, nil
}

// Prepare asks for texts of both sides.
func (f OpenRLHFPreference) Prepare(of Origin, heads []stage.Batch) (_ Format, err error) {
	f.Preferences, err = f.prepare("openrlhf-preference", f.Prompts, of, heads)
	return f, err
}

// Begin starts preferences.jsonl.
func (f OpenRLHFPreference) Begin(ctx context.Context, dir string) (Writer, error) {
	return beginPairs(ctx, dir, "preferences.jsonl", f.Preferences)
}
