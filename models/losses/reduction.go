package losses

import (
	"github.com/millrace/millrace/schemas/setting"
)

// Reduce says how the terms of single tokens become one number; losses embed it.
//
//	token_mean  mean over the tokens of the batch          (TRL: dapo, and bnpo, which TRL divides by the tokens of a microbatch instead)
//	seq_mean    mean over responses of their token mean    (TRL: grpo)
//	seq_sum     mean over responses of their token sum
//	dr_grpo     token sums over responses · max_tokens     (Dr. GRPO, arXiv 2503.20783)
//
// dapo, bnpo and grpo may be written for token_mean and seq_mean. docs/parity.md has verl's names.
type Reduce struct {
	Reduction string `json:"reduction" enum:"token_mean,seq_mean,seq_sum,dr_grpo,dapo,bnpo,grpo" doc:"how the terms of tokens become one number"`
	MaxTokens int    `json:"max_tokens" range:"[0,inf)" doc:"token budget of a response, the constant length of reduction dr_grpo"`
}

// Validate checks that dr_grpo has its length.
func (r Reduce) Validate() error {
	if r.Reduction == "dr_grpo" && r.MaxTokens < 1 {
		return setting.Errorf("max_tokens", "%d; reduction dr_grpo divides by it, want the token budget of a response", r.MaxTokens)
	}
	return nil
}

// weight is the factor of one token's term in a response of the given length, in a batch of so many tokens and responses.
func (r Reduce) weight(tokens, responses float64, length int) float64 {
	switch r.Reduction {
	case "seq_mean", "grpo":
		return 1 / (responses * float64(length))
	case "seq_sum":
		return 1 / responses
	case "dr_grpo":
		return 1 / (responses * float64(r.MaxTokens))
	}
	return 1 / tokens
}

// eachRow calls f for every row of a sample in the window that is in use, with its response and its weight over the whole
// batch.
func (r Reduce) eachRow(mb *Microbatch, f func(t, b int, w float64)) {
	w, at := 0.0, -1
	for t := mb.Lo; t < mb.Hi; t++ {
		b := mb.Response[t]
		if !mb.Used(t) || mb.RoleOf(b) != Sample {
			continue
		}
		if b != at {
			w, at = r.weight(mb.Totals.RoleTokens[Sample], mb.Totals.RoleResponses[Sample], mb.Length(b)), b
		}
		f(t, b, w)
	}
}
