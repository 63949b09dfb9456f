package label

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

func TestPlaceSteps(t *testing.T) {
	for _, c := range []struct {
		name        string
		bytes, ends []int32
		want        []int32
	}{
		{"one byte a token", []int32{2, 4}, []int32{1, 2, 3, 4}, []int32{2, 4}},
		{"the end token belongs to the last step", []int32{2, 4}, []int32{1, 2, 3, 4, 4}, []int32{2, 5}},
		{"a token in which one step ends and the next begins", []int32{2, 5}, []int32{1, 4, 5}, []int32{2, 3}},
		{"a character of two tokens", []int32{3, 6}, []int32{0, 3, 3, 6}, []int32{2, 4}},
		{"two steps in one token", []int32{1, 2, 4}, []int32{3, 4}, nil},
		{"two steps in the last token", []int32{1, 2}, []int32{2}, nil},
		{"beyond the text", []int32{5}, []int32{2, 4}, nil},
		{"no steps", nil, []int32{2}, nil},
		{"ends not known", []int32{1}, nil, nil},
	} {
		got, ok := placeSteps(c.bytes, c.ends)
		if ok != (c.want != nil) || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, ok, c.want)
		}
	}
}

// TestPlacedStepsHoldTheirBytes: with the last token of a step all its bytes are there, with the token before they are not.
func TestPlacedStepsHoldTheirBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 2000 {
		var ends, bytes []int32
		at := int32(0)
		for range 1 + r.IntN(12) {
			at += int32(r.IntN(4))
			ends = append(ends, at)
		}
		for b := int32(1); b <= at; b++ {
			if r.IntN(4) == 0 {
				bytes = append(bytes, b)
			}
		}
		got, ok := placeSteps(bytes, ends)
		if !ok {
			continue
		}
		for s, token := range got {
			if ends[token-1] < bytes[s] || s < len(got)-1 && token > 1 && ends[token-2] >= bytes[s] {
				t.Fatalf("steps at %v of tokens ending at %v are placed at %v", bytes, ends, got)
			}
		}
		if int(got[len(got)-1]) != len(ends) || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Fatalf("%v of %d tokens", got, len(ends))
		}
	}
}

func TestGivenSteps(t *testing.T) {
	ids := []uuid.UUID{uuid.New(), uuid.New()}
	in, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(ids), schemas.Outcome.From([]float32{1, 0}, true, true),
		schemas.StepBytes.FromRows([][]int32{{2, 5}, {2, 5}}), schemas.TokenEnds.FromRows([][]int32{{2, 4, 5, 5}, nil}, true, false))
	if err != nil {
		t.Fatal(err)
	}
	result, err := stage.Run(context.Background(), &Given{Std: Population, Steps: true}, in)
	if err != nil {
		t.Fatal(err)
	}
	ends := schemas.StepEnds.Of(result.Out[0])
	if !slices.Equal(ends.Row(0), []int32{1, 4}) || ends.Valid(1) {
		t.Errorf("step ends %v, %v", ends.Row(0), ends.Row(1))
	}
}
