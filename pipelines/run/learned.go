package run

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/update"
)

// IdleError says that updates learned from nothing for longer than the recipe allows.
type IdleError struct {
	Iteration, Idle int // Idle iterations in a row, this one the last
	Role, Why       string
	Whole           bool // all iterations of the run
}

func (e *IdleError) Error() string {
	if e.Whole {
		return fmt.Sprintf("the run ends and the update of %s has learned nothing in it: %s", e.Role, e.Why)
	}
	return fmt.Sprintf("the update of %s has learned nothing in %d iterations in a row, as many as limits.idle; in this one %s", e.Role,
		e.Idle, e.Why)
}

// idleRoles are the roles whose update in the iteration's directory took no step, or only steps without a gradient.
func idleRoles(ctx context.Context, dir string) (map[string]bool, error) {
	paths, err := files.ListIn(ctx, dir, "steps-*.jsonl")
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, path := range paths {
		role := strings.TrimSuffix(strings.TrimPrefix(files.Base(path), "steps-"), ".jsonl")
		steps, err := files.ReadLines[update.StepRecord](ctx, path)
		if err != nil {
			return nil, err
		}
		out[role] = !slices.ContainsFunc(steps, func(s update.StepRecord) bool { return s.GradNorm != 0 })
	}
	return out, nil
}

// learned tells of updates that learned nothing, and fails the iteration when there are too many in a row, or when a run would
// end and no row of it could ever be learned from.
func (all *iterations) learned(ctx context.Context, number int, results []beam.PipelineResult) error {
	now, err := idleRoles(ctx, all.IterPath(number))
	if err != nil {
		return err
	}
	for _, role := range slices.Sorted(maps.Keys(now)) {
		if !now[role] {
			continue
		}
		why, unusable := whyIdle(role, results)
		all.show.Note("iteration %d: the update of %s learned nothing: %s", number, role, why)
		idle := 1
		for ; idle <= number; idle++ {
			before, err := idleRoles(ctx, all.IterPath(number-idle))
			if err != nil {
				return err
			}
			if was, ok := before[role]; !ok || !was {
				break
			}
		}
		whole := unusable && idle == all.Iterations
		if whole || all.Idle > 0 && idle >= all.Idle {
			return &IdleError{Iteration: number, Idle: idle, Role: role, Why: why, Whole: whole}
		}
	}
	return nil
}

// whyIdle says what became of the rows of an update; unusable, that there were some and every one missed a column.
func whyIdle(role string, results []beam.PipelineResult) (why string, unusable bool) {
	used, left := int64(0), int64(0)
	without := map[string]int64{}
	for _, result := range results {
		for _, c := range stage.CountsOf(result) {
			if c.Stage != "update_"+role {
				continue
			}
			used, left = used+c.Other["rows_used"], left+c.Other["rows_left_out"]
			for name, n := range c.Other {
				if column, ok := strings.CutPrefix(name, update.WithoutPrefix); ok {
					without[column] += n
				}
			}
		}
	}
	switch {
	case used > 0:
		return fmt.Sprintf("its gradient is 0 over all %d rows, as where all that a prompt's responses earn is alike", used), false
	case left == 0:
		return "no row reached it", false
	}
	var parts []string
	for _, column := range slices.Sorted(maps.Keys(without)) {
		parts = append(parts, fmt.Sprintf("%s in %d", column, without[column]))
		// A null advantage is a response that is not to be learned from; any other column is one that should be there.
		unusable = unusable || column != schemas.Advantage.Name && column != schemas.TokenMask.Name
	}
	return fmt.Sprintf("none of %d rows has all that its losses read; missing are %s", left, strings.Join(parts, ", ")), unusable
}
