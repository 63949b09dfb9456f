package schemas_test

import (
	"bytes"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
)

// Columns as another module declares them: of a stage of its own, and of one of ours. Not in the order they are listed in.
var (
	visits  = schemas.NewColumn[int64](schemas.Column{Name: "visits", Stage: "search", Shape: "[N]", Doc: "How often the row was visited."})
	cost    = schemas.NewColumn[float64](schemas.Column{Name: "cost", Stage: "ask", Shape: "[N]", Nullable: true, Doc: "What the row cost."})
	doubt   = schemas.NewList[float32](schemas.Column{Name: "doubt", Stage: "search", Shape: "[N, T]", Doc: "A number a token."})
	paths   = schemas.NewLists[int32](schemas.Column{Name: "paths", Stage: "search", Shape: "[N, T, K]", Doc: "Numbers a token."})
	note    = schemas.NewText(schemas.Column{Name: "note", Stage: "search", Shape: "[N]", Enum: []string{"a", "b"}, Doc: "One of two."})
	origin  = schemas.NewID(schemas.Column{Name: "origin", Stage: "search", Shape: "[N]", Doc: "Where the row comes from."})
	kept    = schemas.NewFlag(schemas.Column{Name: "kept", Stage: "search", Shape: "[N]", Doc: "Whether the row is kept."})
	sealed  = schemas.NewBytes(schemas.Column{Name: "sealed", Stage: "search", Shape: "[N]", Doc: "Bytes."})
	comment = schemas.NewText(schemas.Column{Name: "comment", Stage: "label", Shape: "[N]", Doc: "What a verifier of its own says."})
)

func TestColumnsOfAnotherPackage(t *testing.T) {
	ids := []uuid.UUID{uuid.NewSHA1(uuid.Nil, []byte("a")), uuid.NewSHA1(uuid.Nil, []byte("b"))}
	r, err := schemas.NewRecord(schemas.Meta{Run: "r"},
		schemas.PromptID.From(ids), visits.From([]int64{1 << 40, 2}), cost.From([]float64{0.1, 0}, true, false),
		doubt.FromRows([][]float32{{0.5, 1}, nil}), paths.FromRows([][][]int32{{{1, 2}, nil}, {{3}}}), note.From([]string{"b", "a"}),
		origin.From(ids), kept.From([]bool{true, false}), sealed.From([][]byte{{0, 1}, {2}}), comment.From([]string{"x", ""}))
	if err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if _, err := r.WriteTo(&stream); err != nil {
		t.Fatal(err)
	}
	in := schemas.NewStreamReader(&stream, 1<<20)
	back, err := in.Next()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Next(); err != io.EOF {
		t.Errorf("after the record: %v", err)
	}
	price, known := cost.Of(back).At(0)
	_, unknown := cost.Of(back).At(1)
	for _, c := range []struct {
		column    schemas.Descriptor
		got, want any
	}{
		{visits, visits.Of(back).Values, []int64{1 << 40, 2}},
		{cost, []any{price, known, unknown}, []any{0.1, true, false}},
		{doubt, doubt.Of(back).Row(0), []float32{0.5, 1}},
		{paths, paths.Of(back).Row(1).Row(0), []int32{3}},
		{note, note.Of(back).At(0), "b"},
		{origin, origin.Of(back), ids},
		{kept, []bool{kept.Of(back).At(0), kept.Of(back).At(1)}, []bool{true, false}},
		{sealed, sealed.Of(back).At(0), []byte{0, 1}},
		{comment, comment.Of(back).At(0), "x"},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s = %v, want %v", c.column.Describe().Name, c.got, c.want)
		}
	}
	if f := note.From([]string{"c", "a"}); f.Err() == nil {
		t.Error("a text outside its closed set was accepted")
	}
}

// Where columns of other packages are listed does not depend on the order they are declared in.
func TestOrderOfColumns(t *testing.T) {
	var names []string
	for _, c := range schemas.Columns() {
		names = append(names, c.Name)
	}
	label := slices.Index(names, "comment")
	if label < 1 || names[label-1] != schemas.StepEnds.Name || names[label+1] != schemas.Reward.Name {
		t.Errorf("comment is not the last column of label: %v", names)
	}
	want := []string{"raw", "cost", "doubt", "kept", "note", "origin", "paths", "sealed", "visits"}
	if got := names[len(names)-len(want):]; !slices.Equal(got, want) {
		t.Errorf("the last columns are %v, want %v", got, want)
	}
}

// A name belongs to one column; who takes it again reads both stages.
func TestColumnDeclaredTwice(t *testing.T) {
	refused := func(c schemas.Column, want ...string) {
		t.Helper()
		defer func() {
			said, _ := recover().(string)
			for _, w := range want {
				if !strings.Contains(said, w) {
					t.Errorf("column %+v: panic %q does not say %q", c, said, w)
				}
			}
		}()
		schemas.NewText(c)
	}
	refused(schemas.Column{Name: "value", Stage: "mine"}, `"value"`, `"mine"`, `stage "value"`)
	refused(schemas.Column{Name: "doubt", Stage: "mine"}, `"doubt"`, `"mine"`, `"search"`)
	refused(schemas.Column{Name: "nameless"}, "nameless", "a name and a stage")
}
