package update

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Every input of a loss is a declared column of the type that its place in a microbatch needs.
func TestInputsAreColumns(t *testing.T) {
	for _, in := range losses.Inputs {
		c, ok := schemas.ByName(in.Name)
		if !ok {
			t.Errorf("no stage adds column %s", in)
			continue
		}
		want := map[losses.Per]schemas.Descriptor{losses.PerResponse: schemas.Outcome, losses.PerRow: schemas.OldLogP,
			losses.PerSampled: schemas.OldLogP, losses.PerCandidate: schemas.CandidateOldLogP, losses.PerTeacher: schemas.CandidateOldLogP}[in.Per]
		if in.Field == nil {
			want = map[losses.Per]schemas.Descriptor{losses.PerSampled: schemas.ResponseTokens, losses.PerCandidate: schemas.CandidateIDs,
				losses.PerTeacher: schemas.CandidateIDs}[in.Per]
		}
		if got := c.Type.String(); got != want.Describe().Type.String() {
			t.Errorf("column %s is %s, its input wants %s", in, got, want.Describe().Type)
		}
	}
}

// A response of two tokens: the first lists two other candidates and no teacher's token, the second has no candidate update
// (nothing is listed in candidate_advantage) and lists two tokens of the teacher's.
func TestFill(t *testing.T) {
	id := []uuid.UUID{uuid.NewSHA1(uuid.Nil, []byte("a"))}
	b, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(id), schemas.ResponseID.From(id),
		schemas.PromptTokens.FromRows([][]int32{{1}}), schemas.ResponseTokens.FromRows([][]int32{{7, 8}}),
		schemas.CandidateIDs.FromRows([][][]int32{{{7, 5, 6}, {8, 9}}}), schemas.TeacherIDs.FromRows([][][]int32{{nil, {3, 8}}}),
		schemas.OldLogP.FromRows([][]float32{{-1, -2}}), schemas.CandidateOldLogP.FromRows([][][]float32{{{-1.5, -3, -4}, {-2, -5}}}),
		schemas.RewardLogP.FromRows([][]float32{{-6, -7}}),
		schemas.CandidateAdvantage.FromRows([][][]float32{{{0.5, 0.25, -1}, nil}}),
		schemas.TeacherProb.FromRows([][][]float32{{nil, {0.75, 0.125}}}),
		schemas.OldLogZ.FromRows([][]float32{{2, 3}}), schemas.Outcome.From([]float32{1}))
	if err != nil {
		t.Fatal(err)
	}
	spec := losses.Spec{Heads: losses.LM, Roles: []losses.Role{losses.Sample}, Inputs: []*losses.Input{losses.CandidateOldLogP, losses.OldLogP,
		losses.RewardLogP, losses.CandidateIDs, losses.TeacherIDs, losses.CandidateAdvantage, losses.OldLogZ, losses.Outcome},
		SampleInputs: []*losses.Input{losses.TeacherProb}}
	units, left, err := unitsOf([]stage.Batch{b}, spec, 0)
	if err != nil || len(left) != 0 {
		t.Fatalf("%v left out, %v", left, err)
	}
	_, mb, err := fill(units, spec)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string][2]any{
		"tokens":     {mb.Listed.ID, []int32{7, 5, 6, 8, 3, 8}},
		"list":       {mb.List, []int{0, 3, 6}},
		"candidates": {mb.Candidates, []losses.Span{{Lo: 0, Hi: 3}, {}}},
		"teacher":    {mb.Teacher, []losses.Span{{Lo: 3, Hi: 3}, {Lo: 4, Hi: 6}}},
		"old logp":   {mb.Listed.OldLogP, []float64{-1.5, -3, -4, -2, 0, 0}},
		"reward":     {mb.Listed.RewardLogP, []float64{-6, 0, 0, -7, 0, 0}},
		"advantage":  {mb.Listed.Advantage, []float64{0.5, 0.25, -1, 0, 0, 0}},
		"prob":       {mb.Listed.Prob, []float64{0, 0, 0, 0, 0.75, 0.125}},
		"reference":  {mb.Listed.RefLogP, []float64(nil)},
		"log z":      {mb.Rows.OldLogZ, []float64{2, 3}},
		"outcome":    {mb.Responses.Outcome, []float64{1}},
	} {
		if !reflect.DeepEqual(c[0], c[1]) {
			t.Errorf("%s: %v, want %v", what, c[0], c[1])
		}
	}

	// Log-probs of another distribution than the model's own cannot be compared with it.
	halved := schemas.FullLogP("m")
	halved.Temperature = 0.5
	other, err := b.With(schemas.OldLogP.FromRows([][]float32{{-1, -2}}).Defined(halved))
	if err != nil {
		t.Fatal(err)
	}
	var definition *schemas.DefinitionError
	if _, _, err := unitsOf([]stage.Batch{other}, spec, 0); !errors.As(err, &definition) || definition.Column != "old_logp" {
		t.Errorf("log-probs at temperature 0.5: %v", err)
	}

	// A chosen response has nothing that is asked of samples alone, and no outcome that could be known.
	chosen := units[0]
	chosen.responses = []side{{role: losses.Chosen}}
	spec.SampleInputs, spec.Inputs = []*losses.Input{losses.TeacherIDs, losses.TeacherProb, losses.Outcome, losses.OldLogZ}, nil
	if _, mb, err = fill([]unit{chosen}, spec); err != nil {
		t.Fatal(err)
	}
	zeros := []float64{0, 0}
	if mb.TeacherOf(1).Len() != 0 || !reflect.DeepEqual(mb.Listed.Prob, zeros) || !reflect.DeepEqual(mb.Rows.OldLogZ, zeros) ||
		!math.IsNaN(mb.Responses.Outcome[0]) {
		t.Errorf("a chosen response is filled with what samples are asked for: %+v", mb)
	}
}

// Tokens that the policy has not written are in no loss and no denominator, of losses with advantages and of others; a row without own
// tokens is left out.
func TestLossMask(t *testing.T) {
	rows := groupRows(t, "", "", "a0", "a1", "a2")
	rows, err := rows.With(schemas.LossMask.FromRows([][]int32{{0, 1, 1}, nil, {0, 0, 0}}, true, false, true))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]float64{"ppo": {0, 1, 0, 1, 1, 0}, "sft": {0, 1, 1, 1, 1, 1}} { // token_mask leaves the third out
		loss, err := Config{Losses: []Term{{Name: name, Weight: 1}}}.Loss()
		if err != nil {
			t.Fatal(err)
		}
		units, without, err := unitsOf([]stage.Batch{rows}, loss.Spec(), 0)
		if err != nil || len(units) != 2 || without[schemas.LossMask.Name] != 1 {
			t.Fatalf("%s: %d units, %v left out, %v", name, len(units), without, err)
		}
		_, mb, err := fill(units, loss.Spec())
		if err != nil || !slices.Equal(mb.Rows.Mask, want) {
			t.Errorf("%s: mask %v, want %v (%v)", name, mb.Rows.Mask, want, err)
		}
	}
}
