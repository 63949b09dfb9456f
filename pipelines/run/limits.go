package run

import (
	"fmt"
	"maps"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
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

// deadShare fails the iteration when too many rows died.
func deadShare(limit float64, number int, results []beam.PipelineResult) error {
	var in, dead int64
	reasons, given := map[string]int64{}, map[string]int64{}
	for _, result := range results {
		for _, c := range stage.CountsOf(result) {
			given[c.Stage] += c.In
			in = max(in, given[c.Stage])
			dead += c.Dead
			for reason, n := range c.Reasons {
				if n > 0 {
					reasons[c.Stage+"/"+string(reason)] += n
				}
			}
		}
	}
	if in == 0 || float64(dead) <= limit*float64(in) {
		return nil
	}
	text := ""
	for _, k := range slices.Sorted(maps.Keys(reasons)) {
		text += fmt.Sprintf("%s %d ", k, reasons[k])
	}
	return &DeadShareError{Iteration: number, Dead: dead, In: in, Limit: limit, Reasons: text}
}
