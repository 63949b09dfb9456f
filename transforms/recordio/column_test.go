package recordio_test

import (
	"reflect"
	"testing"

	"github.com/google/uuid"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// Columns that a package outside schemas declares, of the element types that no column of ours has.
var (
	visits = schemas.NewList[int64](schemas.Column{Name: "visits", Stage: "search", Shape: "[N, T]", Nullable: true, Doc: "Numbers."})
	spread = schemas.NewLists[float64](schemas.Column{Name: "spread", Stage: "search", Shape: "[N, T, K]", Doc: "Numbers."})
)

func TestColumnsOfAnotherPackage(t *testing.T) {
	ids := []uuid.UUID{uuid.NewSHA1(uuid.Nil, []byte("a")), uuid.NewSHA1(uuid.Nil, []byte("b"))}
	in, err := schemas.NewRecord(schemas.Meta{Run: "r"}, schemas.PromptID.From(ids),
		visits.FromRows([][]int64{{1 << 40, 2}, nil}, true, false), spread.FromRows([][][]float64{{{0.1}, nil}, {{3, 4}}}))
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{recordio.Parquet, recordio.Arrow} {
		for name, raw := range writeAll(t, recordio.Output{Name: "b", Format: format}, []stage.Batch{in}) {
			back := read(t, name, raw)
			at := 0
			if schemas.PromptID.Of(back)[0] != ids[0] { // files are ordered by prompt
				at = 1
			}
			v, s := visits.Of(back), spread.Of(back)
			if !reflect.DeepEqual(v.Row(at), []int64{1 << 40, 2}) || !v.Valid(at) || v.Valid(1-at) {
				t.Errorf("%s: visits came back as %v", name, v)
			}
			if !reflect.DeepEqual(s.Row(at).Row(0), []float64{0.1}) || !reflect.DeepEqual(s.Row(1-at).Row(0), []float64{3, 4}) {
				t.Errorf("%s: spread came back as %v", name, s)
			}
		}
	}
}
