package method

import (
	"fmt"
	"slices"

	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
)

// marginNote says when a margin cannot be reached: a right response's mean log-ratio is at most the reference's mean
// -log p, so a larger margin / beta is never met and drags every value down.
func marginNote(r recipe.Recipe, m run.Measurement) string {
	reach, ok := m.Metrics[run.ReferenceNLL]
	if !ok {
		return ""
	}
	terms := r.Update.Losses
	if r.Reward != nil && r.Reward.Update != nil {
		terms = append(slices.Clone(terms), r.Reward.Update.Losses...)
	}
	if f := r.Scheduled(); f != nil {
		terms = append(slices.Clone(terms), f.Update.Losses...)
	}
	for _, t := range terms {
		l, err := losses.New(t.Name, t.Config)
		if err != nil {
			continue
		}
		var margin, beta float64
		switch l := l.(type) {
		case losses.IPVRM:
			margin, beta = l.Margin, l.Beta
		case losses.IPVRMOnline:
			margin, beta = l.Margin, l.Beta
		default:
			continue
		}
		if margin/beta > reach {
			return fmt.Sprintf("warning: %s: margin %g / beta %g = %.3g nats a token, but right responses can reach only %.3g (the policy's "+
				"mean -log p); a margin of 0 suits a policy this certain",
				t.Name, margin, beta, margin/beta, reach)
		}
	}
	return ""
}
