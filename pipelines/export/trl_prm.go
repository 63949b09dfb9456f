package export

import (
	"context"
	"strings"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Why trl-prm leaves rows out.
const (
	leftNotJudged = "steps that were not judged"
	leftNoSteps   = "no steps"
)

// TRLPRM writes the judged steps of responses for TRL's PRMTrainer: prompt, completions and labels. Prompts are texts, as the trainer
// applies no chat template.
type TRLPRM struct {
	AfterError string `json:"after_error" enum:"drop,wrong" doc:"steps after the first wrong one, which nobody judged: left out, or labelled wrong"`

	prompts Prompts
}

func init() { Register("trl-prm", TRLPRM{AfterError: "drop"}) }

// Prepare asks for steps and the judgement of them.
func (f TRLPRM) Prepare(of Origin, heads []stage.Batch) (Format, error) {
	if err := withoutPairs("trl-prm", heads); err != nil {
		return nil, err
	}
	if err := need("trl-prm", heads, schemas.PromptID, schemas.Prompt, schemas.Response, schemas.TokenEnds, schemas.StepEnds,
		schemas.FirstError); err != nil {
		return nil, err
	}
	f.prompts = Prompts{Prompt: "text"}.known(of, heads)
	return f, nil
}

type steps struct {
	Prompt      prompt   `json:"prompt"`
	Completions []string `json:"completions"`
	Labels      []bool   `json:"labels"`
}

// Begin starts train.jsonl.
func (f TRLPRM) Begin(ctx context.Context, dir string) (Writer, error) {
	l, err := newLines(ctx, dir, "train.jsonl")
	if err != nil {
		return nil, err
	}
	return &responses{lines: l, of: func(b stage.Batch) (func(int) (any, string), error) {
		prompts, texts, first := f.prompts.of(b), schemas.Response.Of(b), schemas.FirstError.Of(b)
		ends, tokens := schemas.StepEnds.Of(b), schemas.TokenEnds.Of(b)
		return func(row int) (any, string) {
			wrong, ok := first.At(row)
			switch {
			case !ok:
				return nil, leftNotJudged
			case len(ends.Row(row)) == 0 || !tokens.Valid(row):
				return nil, leftNoSteps
			}
			out := steps{Prompt: prompts(row)}
			text, at := texts.At(row), 0
			for k, end := range ends.Row(row) {
				if end < 1 || int(end) > len(tokens.Row(row)) {
					return nil, leftLengths
				}
				to := int(tokens.Row(row)[end-1])
				if to < at || to > len(text) {
					return nil, leftLengths
				}
				if wrong >= 0 && k > int(wrong) && f.AfterError == "drop" {
					break
				}
				// The trainer puts its own separator, a line break, behind every step.
				out.Completions = append(out.Completions, strings.TrimSuffix(text[at:to], "\n"))
				out.Labels = append(out.Labels, wrong < 0 || k < int(wrong))
				at = to
			}
			return out, ""
		}, nil
	}}, nil
}
