package run

import (
	"fmt"
	"maps"
	"slices"

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
	return fmt.Sprintf("iteration %d: %d of %d rows died (%.2f%%), limits.dead_share allows %.2f%%; by reason: %s",
		e.Iteration, e.Dead, e.In, 100*float64(e.Dead)/float64(e.In), 100*e.Limit, e.Reasons)
}

// deaths are the rows that died of those that were given.
type deaths struct {
	in, dead int64
	reasons  map[string]int64
}

func (d *deaths) add(c stage.Counts) {
	for reason, n := range c.Reasons {
		if n > 0 && reason != schemas.ReasonRepeated { // limits.repeated_share, before anything runs
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
	text := ""
	for _, k := range slices.Sorted(maps.Keys(d.reasons)) {
		text += fmt.Sprintf("%s %d ", k, d.reasons[k])
	}
	return &DeadShareError{Iteration: number, Dead: d.dead, In: d.in, Limit: limit, Reasons: text}
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
