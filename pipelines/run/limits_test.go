package run

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Dead rows of a source count against what it looked at, those of stages against what these were given, and repeated prompts not at all.
func TestDeadShare(t *testing.T) {
	source := func(looked, in int64, reasons map[schemas.Reason]int64) stage.Counts {
		return stage.Counts{Stage: "prompts", In: in, Reasons: reasons, Other: map[string]int64{stage.SourceRows: looked}}
	}
	label := func(in, dead int64) stage.Counts {
		return stage.Counts{Stage: "label", In: in, Dead: dead, Reasons: map[schemas.Reason]int64{schemas.ReasonVerifier: dead}}
	}
	for name, c := range map[string]struct {
		counts []stage.Counts
		dead   int64 // 0: nothing is wrong
	}{
		"copies": {
			[]stage.Counts{source(200_000, 198_008, map[schemas.Reason]int64{schemas.ReasonRepeated: 198_000})}, 0},
		"few of many rows, a small window":    {[]stage.Counts{source(10_000, 58, map[schemas.Reason]int64{schemas.ReasonEmpty: 50})}, 0},
		"many of the rows":                    {[]stage.Counts{source(10_000, 508, map[schemas.Reason]int64{schemas.ReasonEmpty: 500})}, 500},
		"a large source hides no other stage": {[]stage.Counts{source(10_000, 8, nil), label(128, 50)}, 50},
		"the widest stage":                    {[]stage.Counts{label(1000, 5), {Stage: "rollout", In: 8}}, 0},
	} {
		err := deadOf(0.01, 3, c.counts)
		var e *DeadShareError
		if c.dead == 0 && err != nil || c.dead > 0 && (!errors.As(err, &e) || e.Dead != c.dead) {
			t.Errorf("%s: %v, want %d dead", name, err, c.dead)
		}
	}
}
