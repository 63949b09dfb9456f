package deduplicate_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/deduplicate"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

func init() { stage.Register[deduplicate.Config]() }

// TestDeduplicate: of equal responses to a prompt the first is kept; another prompt may have the same.
func TestDeduplicate(t *testing.T) {
	a, b := uuid.NewSHA1(uuid.Nil, []byte("a")), uuid.NewSHA1(uuid.Nil, []byte("b"))
	texts := []string{"x = 1", "x =  1\n", "X = 1", "caf\u00e9", "cafe\u0301", "", " ", "x = 1"}
	tokens := [][]int32{{1, 2}, {1, 3}, {1, 2}, {1}, {258}, {}, {2, 1}, {1, 2}}
	ids := []uuid.UUID{a, a, a, a, a, a, a, b}
	in, err := schemas.NewRecord(schemas.Meta{Run: "test"}, schemas.PromptID.From(ids), schemas.Response.From(texts),
		schemas.ResponseTokens.FromRows(tokens))
	if err != nil {
		t.Fatal(err)
	}
	for by, want := range map[string][]string{
		deduplicate.ByText:   {"x = 1", "X = 1", "caf\u00e9", "", "x = 1"},
		deduplicate.ByTokens: {"x = 1", "x =  1\n", "caf\u00e9", "cafe\u0301", "", " ", "x = 1"},
	} {
		for name, run := range map[string]func() (out, dead stage.Batch){
			"directly":      func() (out, dead stage.Batch) { return stagetest.Run(t, deduplicate.Config{By: by}, in) },
			"on the runner": func() (out, dead stage.Batch) { return stagetest.Pipeline(t, deduplicate.Config{By: by}, in) },
		} {
			out, dead := run()
			var got []string
			for i := range out.NumRows() {
				got = append(got, schemas.Response.Of(out).At(i))
			}
			if !slices.Equal(got, want) || dead.NumRows() != 0 {
				t.Errorf("by %s, %s: %q and %d dead letters, want %q", by, name, got, dead.NumRows(), want)
			}
		}
	}
}
