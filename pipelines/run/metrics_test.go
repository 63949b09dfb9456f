package run

import (
	"testing"

	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/evaluate"
)

// The share of cut-off responses is known of all rows with a verdict: also where no row says by what rule it has it, and where all are cut
// off, so that none has an outcome.
func TestTruncatedShare(t *testing.T) {
	for name, c := range map[string]struct {
		verdicts []string
		known    []bool
		want     float64
	}{
		"some": {[]string{"truncated", "correct", "incorrect", "truncated"}, []bool{false, true, true, false}, 0.5},
		"all":  {[]string{"truncated", "truncated"}, []bool{false, false}, 1},
		"none": {[]string{"correct"}, []bool{true}, 0},
	} {
		n := len(c.verdicts)
		tokens, ends := make([][]int32, n), make([]string, n)
		for i := range n {
			tokens[i], ends[i] = []int32{1}, "stop"
		}
		rows, err := schemas.NewRecord(schemas.Meta{Run: "test"}, schemas.ResponseTokens.FromRows(tokens), schemas.FinishReason.From(ends),
			schemas.Verdict.From(c.verdicts), schemas.Outcome.From(make([]float32, n), c.known...), schemas.GroupValid.From(make([]bool, n)))
		if err != nil {
			t.Fatal(err)
		}
		m := Measurement{Metrics: map[string]float64{}}
		var s batchSummary
		if err := s.add(rows); err != nil {
			t.Fatal(err)
		}
		s.into(&m)
		if got, ok := m.Metrics["truncated_share"]; !ok || got != c.want {
			t.Errorf("%s: %v (%v), want %v", name, got, ok, c.want)
		}
	}
}

// An accuracy of no prompt is no metric, least of all 0.
func TestNothingWasJudged(t *testing.T) {
	for n, want := range map[int]string{0: "", 3: "avg@4"} {
		m := Measurement{Metrics: map[string]float64{}}
		e := measure.Evaluation{Config: evaluate.Config{K: []int{1, 4}}}
		e.Avg.N = n
		m.evaluated(e)
		if got := m.AccuracyName(); got != want || len(m.Figures()) != 2*min(n, 1) {
			t.Errorf("%d prompts: accuracy %q, figures %v", n, got, m.Figures())
		}
	}
}
