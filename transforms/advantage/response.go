package advantage

import (
	"slices"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Response is what an estimator knows of a response, widened to float64, and what it fills in. Only what its Inputs name is there;
// of a response that is not learned from only Outcome.
type Response struct {
	Keep     bool // an update learns from it
	Labelled bool // it has an outcome
	Tokens   int  // that the policy wrote
	Outcome  float64
	// GroupMean and GroupStd are those of the outcomes of the prompt's responses.
	GroupMean, GroupStd float64
	LogP                [][]float64          // by input, a number a token
	CandidateLogP       [][]float64          // by input, a number a listed token, flat
	Listed              schemas.Lists[int32] // the listed tokens of every position
	Score               []float64            // of each token
	CriticValue         []float64

	Advantage []float64 // to be filled in, a number a token; zeros before
	Return    []float64 // where Inputs say so: target of the value head
	Candidate []float64 // where Inputs say so: as CandidateLogP

	own stage.Own
}

// Constant gives every token the same advantage.
func (r *Response) Constant(x float64) { r.Advantage = slices.Repeat([]float64{x}, r.Tokens) }

// read reads all rows and sets those aside that do not hold what they should.
func read(in Inputs, b stage.Batch, dead *stage.DeadLetters) []Response {
	out := make([]Response, b.NumRows())
	tokens, ownOf := schemas.ResponseTokens.Of(b), stage.OwnOf(b)
	for i := range out {
		r := &out[i]
		r.own = ownOf(i, len(tokens.Row(i)))
		if r.Tokens = r.own.Len(); r.Tokens == 0 {
			dead.Rowf(i, schemas.ReasonEmpty, "the response has no tokens of the policy's own")
			continue
		}
		r.Advantage = make([]float64, r.Tokens)
		r.Keep = r.labels(in, b, i) && r.scores(in, b, i, dead)
	}
	return out
}

// labels reads the outcome of row i and its group, and reports whether an update learns from it.
func (r *Response) labels(in Inputs, b stage.Batch, i int) bool {
	truncated := schemas.FinishReason.Of(b).At(i) == "length"
	if in.Outcome {
		x, ok := schemas.Outcome.Of(b).At(i)
		if !ok {
			return false
		}
		r.Outcome, r.Labelled = float64(x), true
		if in.OnReward {
			if x, ok = schemas.Reward.Of(b).At(i); !ok {
				r.Labelled = false
				return false
			}
			r.Outcome = float64(x)
		}
		truncated = schemas.Verdict.Of(b).At(i) == "truncated"
	}
	if truncated && !in.KeepTruncated {
		return false
	}
	if !in.group() {
		return true
	}
	means, stds := schemas.GroupMean, schemas.GroupStd
	if in.OnReward {
		means, stds = schemas.RewardMean, schemas.RewardStd
	}
	mean, ok := means.Of(b).At(i)
	std, _ := stds.Of(b).At(i)
	r.GroupMean, r.GroupStd = float64(mean), float64(std)
	if in.OnReward {
		return ok && (in.Groups != Mixed || std > 0) // rewards that are all alike teach nothing
	}
	return ok && (in.Groups != Mixed || mean > 0 && mean < 1)
}

// scores reads what models said about row i; false when the row is set aside.
func (r *Response) scores(in Inputs, b stage.Batch, i int, dead *stage.DeadLetters) bool {
	column := func(col schemas.List[float32]) []float64 {
		x, ok := stage.PerToken(col, col.Of(b), i, r.own.N, dead)
		if !ok {
			return x
		}
		return stage.Pick(r.own, x)
	}
	for _, col := range in.LogP {
		r.LogP = append(r.LogP, column(col))
	}
	for _, col := range in.Scores {
		r.Score = column(col)
	}
	if in.CriticValue {
		r.CriticValue = column(schemas.CriticValue)
	}
	if in.Candidates {
		r.Listed = schemas.CandidateIDs.Of(b).Row(i)
		if r.Listed.Len() != r.own.N {
			dead.Rowf(i, schemas.ReasonMismatch, "column candidate_ids has %d lists for %d response tokens", r.Listed.Len(), r.own.N)
			return false
		}
		for _, col := range in.CandidateLogP {
			x, _ := stage.PerListed(col, col.Of(b), i, r.Listed, dead)
			r.CandidateLogP = append(r.CandidateLogP, x)
		}
		if !dead.Marked(i) {
			r.Listed, r.CandidateLogP = stage.PickLists(r.own, r.Listed, r.CandidateLogP...)
		}
	}
	return !dead.Marked(i)
}

// weigh multiplies the advantages by the weights of row i, which every loss that is linear in them takes as weights of its tokens;
// false where the row is set aside.
func (r *Response) weigh(b stage.Batch, i int, dead *stage.DeadLetters) bool {
	w, ok := stage.PerToken(schemas.ImportanceWeight, schemas.ImportanceWeight.Of(b), i, r.own.N, dead)
	if !ok {
		return false
	}
	w = stage.Pick(r.own, w)
	for t := range r.Advantage {
		r.Advantage[t] *= w[t]
	}
	if r.Candidate == nil {
		return true
	}
	at := 0
	for t := range r.Listed.Len() {
		for range r.Listed.Row(t) {
			r.Candidate[at] *= w[t]
			at++
		}
	}
	return true
}
