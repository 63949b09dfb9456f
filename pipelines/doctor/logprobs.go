package doctor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// leastLogProb is less than any log-prob that a model in float32 can give.
const leastLogProb = -1000

// logProbs looks at the log-probs of responses, and whether anybody says what they are.
type logProbs struct {
	nothing
	column, said string
	with         int // responses that have some
	values       int
	none         counted // responses without, where the column is there
	impossible   counted // values below any log-prob, or no numbers
	positive     counted
	lengths      counted
	hints        []string
}

// definition is what Parquet files say of a column of log-probs, "" where one of them does not.
func definition(ctx context.Context, paths []string, column string) (said string) {
	for _, path := range paths {
		var d schemas.LogPDefinition
		first := errors.New("the first rows")
		if strings.HasSuffix(path, "."+recordio.Parquet) {
			_ = recordio.ReadFile(ctx, path, func(b stage.Batch) error { // another program's file says nothing, whatever is wrong with it
				d, _ = schemas.LogPOf(b, schemas.Column{Name: column})
				return first
			})
		}
		if !d.Known() {
			return ""
		}
		said = d.String()
	}
	return said
}

// hintColumns say how responses were sampled.
var hintColumns = []string{"temperature", "top_p", "top_k", "sampling_params", "sampling_args", "generation_config"}

func (l *logProbs) response(r *response) {
	if l.column == "" {
		return
	}
	values := r.given.LogProbs
	if len(values) == 0 {
		if len(r.given.Tokens) > 0 {
			l.none.add(func() Example { return Example{Row: r.where} })
		}
		return
	}
	if l.with++; l.with == 1 {
		for _, name := range hintColumns {
			if _, ok := r.row.Value(name); ok {
				l.hints = append(l.hints, name)
			}
		}
	}
	l.values += len(values)
	if n := len(r.given.Tokens); len(values) != n && len(values) < n {
		l.lengths.add(func() Example {
			return Example{Row: r.where, Why: fmt.Sprintf("%d log-probs for %d tokens", len(values), n)}
		})
	}
	count := func(into *counted, is func(float64) bool) {
		n, at := 0, -1
		for i, x := range values {
			if is(x) {
				if n++; at < 0 {
					at = i
				}
			}
		}
		if n > 0 {
			into.add(func() Example {
				return Example{Row: r.where, Why: fmt.Sprintf("%d of %d, such as item %d: %v", n, len(values), at, values[at])}
			})
		}
	}
	count(&l.impossible, func(x float64) bool { return math.IsNaN(x) || x < leastLogProb })
	count(&l.positive, func(x float64) bool { return x > 1e-3 })
}

func (l *logProbs) findings(*Report) []Finding {
	if l.column == "" {
		return nil
	}
	unsaid := 0
	if l.said == "" {
		unsaid = l.with
	}
	advice := "Say it: --logprobs raw where they are the model's own, or --logprobs temperature=0.7,top_p=0.9; a run that would have to " +
		"know refuses otherwise."
	for _, name := range l.hints {
		advice += fmt.Sprintf(" The rows have a column %q, which may say it.", name)
	}
	return []Finding{
		{Kind: "logprobs_undefined", Severity: Warning, Count: unsaid, Of: l.with, Unit: "responses", Advice: advice,
			Meaning: "Nobody says what these log-probs are: at which temperature, over which nucleus. A ratio to them may be of another policy."},
		{Kind: "logprobs_impossible", Severity: Error, Count: l.impossible.n, Of: l.with, Unit: "responses", Examples: l.impossible.examples,
			Meaning: "Values are no log-probs: below -1000, or no number. Servers write -9999 where they have none.",
			Advice:  "Have the log-probs computed again; a run sets such rows aside."},
		{Kind: "logprobs_positive", Severity: Error, Count: l.positive.n, Of: l.with, Unit: "responses", Examples: l.positive.examples,
			Meaning: "Values are above 0, and no logarithm of a probability is.",
			Advice:  "Find out what the column holds: probabilities, negated log-probs and logits are none."},
		{Kind: "logprobs_length", Severity: Error, Count: l.lengths.n, Of: l.with, Unit: "responses", Examples: l.lengths.examples,
			Meaning: "There are fewer log-probs than tokens.", Advice: "Find out which tokens they belong to; a run sets such rows aside."},
		{Kind: "logprobs_missing", Severity: Warning, Count: l.none.n, Of: l.with + l.none.n, Unit: "responses", Examples: l.none.examples,
			Meaning: "These responses have token ids and no log-probs.", Advice: "Leave them out, or have them scored by the policy that sampled."}}
}
