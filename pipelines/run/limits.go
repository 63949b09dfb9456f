package run

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// DeadShareError says that more rows died than the recipe allows.
type DeadShareError struct {
	Iteration int
	Dead, In  int64
	Limit     float64
	Reasons   string
}

func (e *DeadShareError) Error() string {
	return fmt.Sprintf("%d of %d rows died (%.2f%%), limits.dead_share allows %.2f%%; by reason: %s; `millrace show RUN --dead` prints them",
		e.Dead, e.In, 100*float64(e.Dead)/float64(e.In), 100*e.Limit, e.Reasons)
}

// deaths are the rows that died of those that were given.
type deaths struct {
	in, dead int64
	reasons  map[string]int64
}

func (d *deaths) add(c stage.Counts) {
	for reason, n := range c.Reasons {
		// Repeated prompts are held to limits.repeated_share before anything runs, and those of test sets are taken out on purpose.
		if n > 0 && reason != schemas.ReasonRepeated && reason != schemas.ReasonContaminated {
			d.dead += n
			d.reasons[c.Stage+"/"+string(reason)] += n
		}
	}
}

// check fails the iteration when too many rows died.
func (d *deaths) check(limit float64, number int) error {
	if d.in == 0 || float64(d.dead) <= limit*float64(d.in) {
		return nil
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(d.reasons)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, d.reasons[k]))
	}
	return &DeadShareError{Iteration: number, Dead: d.dead, In: d.in, Limit: limit, Reasons: strings.Join(parts, ", ")}
}

// deadShare fails the iteration when too many rows died: those of a source of all the rows that it looked at, and those of stages of the
// rows that the widest was given.
func deadShare(limit float64, number int, results []beam.PipelineResult) error {
	var counts []stage.Counts
	for _, result := range results {
		counts = append(counts, stage.CountsOf(result)...)
	}
	return deadOf(limit, number, counts)
}

func deadOf(limit float64, number int, counts []stage.Counts) error {
	source, stages := deaths{reasons: map[string]int64{}}, deaths{reasons: map[string]int64{}}
	given := map[string]int64{}
	for _, c := range counts {
		if looked := c.Other[stage.SourceRows]; looked > 0 {
			source.in += looked
			source.add(c)
			continue
		}
		given[c.Stage] += c.In
		stages.in = max(stages.in, given[c.Stage])
		stages.add(c)
	}
	if err := source.check(limit, number); err != nil {
		return err
	}
	return stages.check(limit, number)
}

// KLError says that a policy went further in an iteration than the recipe allows.
type KLError struct {
	Iteration int
	Metric    string
	KL, Limit float64
}

func (e *KLError) Error() string {
	return fmt.Sprintf("%s of the policy is %.4g, limits.kl allows %.4g; the iteration is not committed. Take a smaller "+
		"update.optimizer.lr or fewer steps, or a larger limit", e.Metric, e.KL, e.Limit)
}

// AuditError says that a verifier calls more right than its audit does, by more than the recipe allows.
type AuditError struct{ Gap, Limit float64 }

func (e *AuditError) Error() string {
	return fmt.Sprintf("label.verifier calls right %.1f%% more of the audited responses than audit.verifier does, audit.max_gap allows "+
		"%.1f%%: the policy may have found what the verifier takes for an answer. The iteration is not committed; look at responses "+
		"where outcome and audit_outcome differ", 100*e.Gap, 100*e.Limit)
}

// gamed fails the iteration when the gap to the audit is too wide.
func gamed(limit float64, m Measurement) error {
	if gap, ok := m.Metrics["audit_gap"]; ok && limit > 0 && gap > limit {
		return &AuditError{gap, limit}
	}
	return nil
}

// MismatchError says that the engine that samples and the trainer compute log-probs that are too far apart.
type MismatchError struct{ Mismatch, Limit float64 }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("the engine's log-probs differ from the trainer's own of the same tokens by %.3g nats in the mean, importance.limit "+
		"allows %v: it has other weights, another precision, or gives log-probs of another distribution", e.Mismatch, e.Limit)
}

// apart fails the iteration when what sampled is too far from what is trained.
func apart(limit float64, m Measurement) error {
	if x, ok := m.Metrics["mismatch"]; ok && limit > 0 && !(x <= limit) {
		return &MismatchError{x, limit}
	}
	return nil
}

// farther fails the iteration when the policy has moved too far.
func farther(limit float64, number int, m Measurement) error {
	if limit == 0 {
		return nil
	}
	for _, name := range []string{"kl", "reference_kl/kl"} {
		if x, ok := m.Metrics[name]; ok && !(x <= limit) { // NaN is too far
			return &KLError{Iteration: number, Metric: name, KL: x, Limit: limit}
		}
	}
	return nil
}
