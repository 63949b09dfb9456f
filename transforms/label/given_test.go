package label

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

func TestGivenOutcomes(t *testing.T) {
	a, b := uuid.New(), uuid.New()
	in, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From([]uuid.UUID{a, a, a, b}),
		schemas.Outcome.From([]float32{1, 0, 0, 1}, true, true, false, true))
	if err != nil {
		t.Fatal(err)
	}
	result, err := stage.Run(context.Background(), &Given{Std: Population}, in)
	if err != nil {
		t.Fatal(err)
	}
	out := result.Out[0]
	for i, want := range []string{"correct", "incorrect", "unparsable_answer", "correct"} {
		if got := schemas.Verdict.Of(out).At(i); got != want {
			t.Errorf("row %d: verdict %s, want %s", i, got, want)
		}
	}
	for i, want := range []float32{0.5, 0.5, 0.5, 1} {
		if got, ok := schemas.GroupMean.Of(out).At(i); !ok || got != want {
			t.Errorf("row %d: group mean %v, want %v", i, got, want)
		}
	}
	for i, want := range []bool{true, true, false, false} {
		if got := schemas.GroupValid.Of(out).At(i); got != want {
			t.Errorf("row %d: usable %v, want %v", i, got, want)
		}
	}
}
