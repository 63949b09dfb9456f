package export

import (
	"math"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Why formats of tokens leave rows out.
const (
	leftNoTokens    = "no tokens"
	leftNoLogProbs  = "no log-probs"
	leftNoAdvantage = "no advantages"
	leftNoScore     = "no reward and no outcome"
	leftMasked      = "no token that the loss learns from"
	leftLengths     = "lists that are not as long as the response"
	leftNotFinite   = "a number that is not finite"
)

// tokens is a response as token ids, with one number of each list for each of its tokens.
type tokens struct {
	prompt, response []int32
	logp             []float32
	advantages       []float32
	mask             []int32 // nil: all tokens
}

// tokensOf gives the rows of a batch as tokens, or says why a row is left out. Log-probs and advantages are those that are asked for.
func tokensOf(b stage.Batch, logp, advantages bool) func(row int) (t tokens, left string) {
	prompts, responses := schemas.PromptTokens.Of(b), schemas.ResponseTokens.Of(b)
	var sampled, advantage schemas.Lists[float32]
	if logp {
		sampled = sampledColumn(b).Of(b)
	}
	if advantages {
		advantage = schemas.Advantage.Of(b)
	}
	masks, err := schemas.TokenMask.Find(b)
	masked := err == nil
	return func(row int) (t tokens, left string) {
		t.prompt, t.response = prompts.Row(row), responses.Row(row)
		n := len(t.response)
		if n == 0 || len(t.prompt) == 0 {
			return t, leftNoTokens
		}
		if logp {
			if !sampled.Valid(row) {
				return t, leftNoLogProbs
			}
			t.logp = sampled.Row(row)
		}
		if advantages {
			if !advantage.Valid(row) {
				return t, leftNoAdvantage
			}
			t.advantages = advantage.Row(row)
		}
		if masked && masks.Valid(row) {
			t.mask = masks.Row(row)
		}
		switch {
		case logp && len(t.logp) != n, advantages && len(t.advantages) != n, t.mask != nil && len(t.mask) != n:
			return t, leftLengths
		case !finite(t.logp) || !finite(t.advantages):
			return t, leftNotFinite
		case !t.learned():
			return t, leftMasked
		}
		return t, ""
	}
}

// counts reports whether the loss learns from token i of the response.
func (t tokens) counts(i int) bool { return t.mask == nil || t.mask[i] != 0 }

func (t tokens) learned() bool {
	for i := range t.response {
		if t.counts(i) {
			return true
		}
	}
	return false
}

func finite(values []float32) bool {
	for _, x := range values {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return false
		}
	}
	return true
}
