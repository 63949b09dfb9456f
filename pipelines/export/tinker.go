package export

import (
	"context"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Tinker writes responses as what a Datum of Tinker holds: token ids, each with the next one as its target and the target's numbers.
type Tinker struct{ Sampled }

func init() { Register("tinker", Tinker{}) }

// Prepare asks for token ids, log-probs at temperature 1 and advantages.
func (f Tinker) Prepare(of Origin, heads []stage.Batch) (Format, error) {
	if err := withoutPairs("tinker", heads); err != nil {
		return nil, err
	}
	if err := need("tinker", heads, schemas.PromptTokens, schemas.ResponseTokens, schemas.Advantage); err != nil {
		return nil, err
	}
	return f, f.check("tinker", true, of, heads)
}

// LogProbs are those of the sampled tokens.
func (f Tinker) LogProbs(head stage.Batch) []schemas.Descriptor {
	return []schemas.Descriptor{sampledColumn(head)}
}

// datum has lists of one length: a prompt and a response without their last token, and what stands for the token after each.
type datum struct {
	Tokens       []int32   `json:"tokens"`
	TargetTokens []int32   `json:"target_tokens"`
	LogProbs     []float32 `json:"logprobs"`
	Advantages   []float32 `json:"advantages"`
	Mask         []float32 `json:"mask"`
}

// Begin starts data.jsonl.
func (f Tinker) Begin(ctx context.Context, dir string) (Writer, error) {
	l, err := newLines(ctx, dir, "data.jsonl")
	if err != nil {
		return nil, err
	}
	return &responses{lines: l, of: func(b stage.Batch) (func(int) (any, string), error) {
		rows := tokensOf(b, true, true)
		return func(row int) (any, string) {
			t, left := rows(row)
			if left != "" {
				return nil, left
			}
			return t.datum(), ""
		}, nil
	}}, nil
}

func (t tokens) datum() datum {
	n := len(t.prompt) + len(t.response) - 1
	all := append(append(make([]int32, 0, n+1), t.prompt...), t.response...)
	d := datum{Tokens: all[:n], TargetTokens: all[1:], LogProbs: make([]float32, n), Advantages: make([]float32, n), Mask: make([]float32, n)}
	for i := range t.response {
		at := len(t.prompt) - 1 + i
		d.LogProbs[at] = t.logp[i]
		if t.counts(i) { // the mask is not sent to the service, so that it is the advantage that leaves a token out
			d.Advantages[at], d.Mask[at] = t.advantages[i], 1
		}
	}
	return d
}
