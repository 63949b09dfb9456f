package export

import (
	"context"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Slime writes responses as slime's Sample, a JSON object a line.
type Slime struct {
	Prompts
	Sampled
	LogProb bool `json:"logprobs" doc:"write rollout_log_probs, which the trainer divides its logits by rollout_temperature for"`
}

func init() { Register("slime", Slime{Prompts: Prompts{Prompt: "auto"}, LogProb: true}) }

// Prepare asks for token ids, texts, a reward or an outcome, and for log-probs at the temperature of sampling.
func (f Slime) Prepare(of Origin, heads []stage.Batch) (Format, error) {
	if err := withoutPairs("slime", heads); err != nil {
		return nil, err
	}
	if err := need("slime", heads, schemas.PromptID, schemas.Prompt, schemas.PromptTokens, schemas.ResponseTokens, schemas.Response,
		schemas.FinishReason); err != nil {
		return nil, err
	}
	if err := needScore("slime", heads); err != nil {
		return nil, err
	}
	f.Prompts = f.known(of, heads)
	if !f.LogProb {
		return f, nil
	}
	return f, f.check("slime", false, of, heads)
}

// LogProbs are those of the sampled tokens, where they are written.
func (f Slime) LogProbs(head stage.Batch) []schemas.Descriptor {
	if !f.LogProb {
		return nil
	}
	return []schemas.Descriptor{sampledColumn(head)}
}

type sample struct {
	GroupIndex     int            `json:"group_index"`
	Index          int            `json:"index"`
	Prompt         prompt         `json:"prompt"`
	Tokens         []int32        `json:"tokens"`
	Response       string         `json:"response"`
	ResponseLength int            `json:"response_length"`
	Label          *string        `json:"label"`
	Reward         float32        `json:"reward"`
	LossMask       []int32        `json:"loss_mask"`
	LogProbs       []float32      `json:"rollout_log_probs"`
	Status         string         `json:"status"`
	Metadata       sampleMetadata `json:"metadata"`
}

type sampleMetadata struct {
	PromptID    string   `json:"prompt_id"`
	Iteration   int      `json:"iteration"`
	Source      *string  `json:"source,omitempty"`
	Temperature *float64 `json:"temperature,omitempty"` // of the log-probs
}

// statuses are slime's names of why sampling ended.
var statuses = map[string]string{"stop": "completed", "length": "truncated", "error": "failed", "unknown": "completed"}

// Begin starts samples.jsonl.
func (f Slime) Begin(ctx context.Context, dir string) (Writer, error) {
	l, err := newLines(ctx, dir, "samples.jsonl")
	if err != nil {
		return nil, err
	}
	return &slime{responses: responses{lines: l}, Slime: f, group: -1}, nil
}

// slime numbers groups and samples from 0 through all iterations.
type slime struct {
	responses
	Slime
	iteration, group int
	last             uuid.UUID
}

// Step begins an iteration, which has groups of its own.
func (w *slime) Step(iteration int) error {
	w.iteration, w.last = iteration, uuid.UUID{}
	w.responses.of = w.samples
	return nil
}

// End has nothing to add.
func (w *slime) End() (map[string]int, error) { return nil, nil }

func (w *slime) samples(b stage.Batch) (func(row int) (any, string), error) {
	rows, prompts, texts, ids := tokensOf(b, w.LogProb, false), w.Prompts.of(b), schemas.Response.Of(b), schemas.PromptID.Of(b)
	score, reason, answer, source := scoreOf(b), schemas.FinishReason.Of(b), textOf(schemas.Answer, b), textOf(schemas.Source, b)
	var temperature *float64
	if w.LogProb {
		if def, ok := schemas.LogPOf(b, sampledColumn(b)); ok {
			temperature = &def.Temperature
		}
	}
	return func(row int) (any, string) {
		t, left := rows(row)
		p := prompts(row)
		y, ok := score(row)
		switch {
		case left != "":
			return nil, left
		case p.left != "":
			return nil, p.left
		case !ok:
			return nil, leftNoScore
		case !finite([]float32{y}):
			return nil, leftNotFinite
		}
		if w.group < 0 || ids[row] != w.last {
			w.group, w.last = w.group+1, ids[row]
		}
		mask := make([]int32, len(t.response))
		for i := range mask {
			if t.counts(i) {
				mask[i] = 1
			}
		}
		return sample{GroupIndex: w.group, Index: w.records, Prompt: p, Tokens: append(append([]int32{}, t.prompt...), t.response...),
			Response: texts.At(row), ResponseLength: len(t.response), Label: answer(row), Reward: y, LossMask: mask, LogProbs: t.logp,
			Status: statuses[reason.At(row)], Metadata: sampleMetadata{PromptID: ids[row].String(), Iteration: w.iteration, Source: source(row),
				Temperature: temperature}}, ""
	}, nil
}
