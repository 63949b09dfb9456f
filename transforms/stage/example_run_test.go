package stage_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

func TestRepeats(t *testing.T) {
	in := prompts(t, "a", "b", "c", "d").Slice(1, 4)
	in, err := in.With(schemas.ResponseID.From(schemas.PromptID.Of(in)), schemas.ResponseTokens.FromRows([][]int32{{1, 1, 2, 2}, nil, {3, 4}}))
	if err != nil {
		t.Fatal(err)
	}
	out, dead := stagetest.Run(t, Repeats{}, in)
	stagetest.Dead(t, dead, schemas.ReasonEmpty)
	if got := schemas.MeanValue.Of(out).Row(0); !slices.Equal(got, []float32{0, 0.5, 1. / 3, 0.5}) {
		t.Errorf("shares %v", got)
	}
	if out, _ = stagetest.Pipeline(t, Repeats{Filter: 0.4}, in); out.NumRows() != 1 {
		t.Errorf("%d rows after the filter", out.NumRows())
	}
}

// The page about new stages shows the stage of example_test.go.
func TestNewStagePage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "new-stage.md"))
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(code), "// Repeats gives")
	if !strings.Contains(string(page), "// Repeats gives"+body) {
		t.Error("docs/new-stage.md does not show transforms/stage/example_test.go as it is")
	}
}
