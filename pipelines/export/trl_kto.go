package export

import (
	"context"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// TRLKTO writes responses with their outcomes for TRL's KTOTrainer: prompt, completion and label.
type TRLKTO struct{ Prompts }

func init() { Register("trl-kto", TRLKTO{Prompts{Prompt: "auto"}}) }

// Prepare asks for texts and outcomes.
func (f TRLKTO) Prepare(of Origin, heads []stage.Batch) (Format, error) {
	if err := withoutPairs("trl-kto", heads); err != nil {
		return nil, err
	}
	if err := need("trl-kto", heads, schemas.PromptID, schemas.Prompt, schemas.Response, schemas.Outcome); err != nil {
		return nil, err
	}
	f.Prompts = f.known(of, heads)
	return f, nil
}

// Begin starts train.jsonl.
func (f TRLKTO) Begin(ctx context.Context, dir string) (Writer, error) {
	l, err := newLines(ctx, dir, "train.jsonl")
	if err != nil {
		return nil, err
	}
	return &responses{lines: l, of: func(b stage.Batch) (func(int) (any, string), error) {
		labelled := labelled(f.Prompts, b)
		return func(row int) (any, string) {
			p, text, right, why := labelled(row)
			return completion{Prompt: p, Completion: p.reply(text), Label: &right}, why
		}, nil
	}}, nil
}

// labelled gives the responses of a batch that have a text and an outcome, or says why a row is left out.
func labelled(of Prompts, b stage.Batch) func(row int) (p prompt, response string, right bool, left string) {
	prompts, texts, outcome := of.of(b), schemas.Response.Of(b), schemas.Outcome.Of(b)
	return func(row int) (prompt, string, bool, string) {
		p := prompts(row)
		y, ok := outcome.At(row)
		switch {
		case !ok:
			return p, "", false, leftNoOutcome
		case texts.At(row) == "":
			return p, "", false, leftNoResponse
		}
		return p, texts.At(row), y > 0.5, p.left
	}
}
