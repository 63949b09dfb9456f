package stage

import (
	"math"
	"slices"
	"testing"

	"github.com/millrace/millrace/schemas"
)

func TestNumbersThatDoNotFitSetTheirRowAside(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	b, err := schemas.NewRecord(schemas.Meta{},
		schemas.OldLogP.FromRows([][]float32{{-1, -2}, {-1}, {nan, -1}, {-1, inf}, nil}, true, true, true, true, false),
		schemas.CandidateIDs.FromRows([][][]int32{{{1, 2}, {3}}, {{1, 2}, {3}}, {{1}, {2}}, {{1}, {2}}, {{1}, {2}}}),
		schemas.CandidateOldLogP.FromRows([][][]float32{{{-1, -2}, {-3}}, {{-1, -2}}, {{-1}, {-2, -3}}, {{-1}, {nan}}, nil}, true, true, true,
			true, false))
	if err != nil {
		t.Fatal(err)
	}
	lists, nested, ids := schemas.OldLogP.Of(b), schemas.CandidateOldLogP.Of(b), schemas.CandidateIDs.Of(b)
	want := []schemas.Reason{"", schemas.ReasonMismatch, schemas.ReasonNotFinite, schemas.ReasonNotFinite, schemas.ReasonMissingField}
	wantNested := []schemas.Reason{"", schemas.ReasonMismatch, schemas.ReasonMismatch, schemas.ReasonNotFinite, schemas.ReasonMissingField}
	for i := range want {
		var dead DeadLetters
		x, ok := PerToken(schemas.OldLogP, lists, i, 2, &dead)
		if ok != (want[i] == "") || dead.rows[i].reason != want[i] || ok && !slices.Equal(x, []float64{-1, -2}) {
			t.Errorf("row %d: %v, %v, %v", i, x, ok, dead.rows[i])
		}
		dead = DeadLetters{}
		x, ok = PerListed(schemas.CandidateOldLogP, nested, i, ids.Row(i), &dead)
		if ok != (wantNested[i] == "") || dead.rows[i].reason != wantNested[i] || ok && !slices.Equal(x, []float64{-1, -2, -3}) {
			t.Errorf("row %d, listed: %v, %v, %v", i, x, ok, dead.rows[i])
		}
	}
	var dead DeadLetters
	if got := Narrow("value", []float64{1, -2}, 0, &dead); !slices.Equal(got, []float32{1, -2}) || dead.Marked(0) {
		t.Errorf("%v", got)
	}
	if Narrow("value", []float64{1, 1e300}, 0, &dead); dead.rows[0].reason != schemas.ReasonNotFinite {
		t.Errorf("1e300 leaves as a float32: %v", dead.rows[0])
	}
}
