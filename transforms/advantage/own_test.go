package advantage

import (
	"slices"
	"testing"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// foreign puts a token that the policy has not written after every token of the batch but the last of a response, with numbers that
// would be seen.
func foreign(t *testing.T, b stage.Batch) stage.Batch {
	t.Helper()
	n := b.NumRows()
	masks := make([][]int32, n)
	var out []schemas.Filled
	tokens := make([][]int32, n)
	for i := range n {
		for k, id := range schemas.ResponseTokens.Of(b).Row(i) {
			if k > 0 {
				tokens[i], masks[i] = append(tokens[i], 99), append(masks[i], 0)
			}
			tokens[i], masks[i] = append(tokens[i], id), append(masks[i], 1)
		}
	}
	out = append(out, schemas.ResponseTokens.FromRows(tokens), schemas.LossMask.FromRows(masks))
	for _, c := range []schemas.List[float32]{schemas.OldLogP, schemas.ReferenceLogP, schemas.RewardLogP, schemas.TeacherLogP,
		schemas.CriticValue, schemas.QValue} {
		rows := make([][]float32, n)
		for i := range n {
			for k, x := range c.Of(b).Row(i) {
				if k > 0 {
					rows[i] = append(rows[i], -77)
				}
				rows[i] = append(rows[i], x)
			}
		}
		filled := c.FromRows(rows)
		if d, ok := schemas.LogPOf(b, c); ok {
			filled = filled.Defined(d)
		}
		out = append(out, filled)
	}
	listed, lists := schemas.CandidateIDs.Of(b), make([][][]int32, n)
	for i := range n {
		for k := range listed.Row(i).Len() {
			if k > 0 {
				lists[i] = append(lists[i], []int32{99, 5, 6})
			}
			lists[i] = append(lists[i], listed.Row(i).Row(k))
		}
	}
	out = append(out, schemas.CandidateIDs.FromRows(lists))
	for _, c := range []schemas.Nested[float32]{schemas.CandidateOldLogP, schemas.CandidateRewardLogP} {
		rows := make([][][]float32, n)
		for i := range n {
			of := c.Of(b).Row(i)
			for k := range of.Len() {
				if k > 0 {
					rows[i] = append(rows[i], []float32{-77, -78, -79})
				}
				rows[i] = append(rows[i], of.Row(k))
			}
		}
		d, _ := schemas.LogPOf(b, c)
		out = append(out, c.FromRows(rows).Defined(d))
	}
	wide, err := b.With(out...)
	if err != nil {
		t.Fatal(err)
	}
	return wide
}

// Tokens that the policy has not written change no advantage of those that it has, of any kind; theirs are 0 and out of the loss.
func TestAdvantagesOfOwnTokens(t *testing.T) {
	for _, kind := range Kinds() {
		alone, _ := apply(t, valued(kind), sample(t))
		wide, dead := apply(t, valued(kind), foreign(t, sample(t)))
		if dead.NumRows() > 0 {
			t.Errorf("%s: %d rows are dead", kind, dead.NumRows())
			continue
		}
		for i := range alone.NumRows() {
			want, got, mask := schemas.Advantage.Of(alone).Row(i), schemas.Advantage.Of(wide).Row(i), schemas.TokenMask.Of(wide).Row(i)
			for k, x := range got {
				if own := k%2 == 0; own && x != want[k/2] || !own && x != 0 || (mask[k] == 1) != own {
					t.Fatalf("%s: row %d has advantages %v (mask %v), want %v at every other token", kind, i, got, mask, want)
				}
			}
			if len(want) > 0 && len(got) != 2*len(want)-1 {
				t.Errorf("%s: row %d has %d advantages", kind, i, len(got))
			}
			if alone.Has(schemas.CandidateAdvantage) {
				want, got := schemas.CandidateAdvantage.Of(alone).Row(i), schemas.CandidateAdvantage.Of(wide).Row(i)
				for k := range got.Len() {
					if k%2 == 0 && !slices.Equal(got.Row(k), want.Row(k/2)) || k%2 == 1 && len(got.Row(k)) > 0 {
						t.Fatalf("%s: row %d, token %d: candidate advantages %v", kind, i, k, got.Row(k))
					}
				}
			}
		}
	}
}

// TD advantages are there for every response, whatever became of it.
func TestDifference(t *testing.T) {
	out, _ := apply(t, valued("td"), sample(t))
	a, reward, old := schemas.Advantage.Of(out), schemas.RewardLogP.Of(out), schemas.OldLogP.Of(out)
	for i := range out.NumRows() {
		for k, x := range a.Row(i) {
			if want := float32(10 * (float64(reward.Row(i)[k]) - float64(old.Row(i)[k]))); x != want {
				t.Errorf("row %d, token %d: %v, want %v", i, k, x, want)
			}
		}
		if !a.Valid(i) {
			t.Errorf("row %d has none", i)
		}
	}
	c := Config{"td", Difference{Normalised: true, Eps: 1e-6}}.WithValues(Values{Beta: 10, Reference: Old})
	scaled, _ := apply(t, c, sample(t))
	var sums Totals
	if err := (&Stage{Config: c}).Add(sample(t), &sums); err != nil {
		t.Fatal(err)
	}
	got, want := float64(schemas.Advantage.Of(scaled).Row(0)[0]), float64(a.Row(0)[0])/(SigmaV(sums.Value)+1e-6)
	if got-want > 1e-5 || want-got > 1e-5 {
		t.Errorf("%v, want %v", got, want)
	}
}

// Weights multiply the advantages of tokens and of their candidates; a row without is set aside.
func TestAdvantagesAreWeighted(t *testing.T) {
	in := sample(t)
	weights, known := make([][]float32, in.NumRows()), make([]bool, in.NumRows())
	for i := range weights {
		known[i] = i != 1
		for k := range schemas.ResponseTokens.Of(in).Row(i) {
			weights[i] = append(weights[i], float32(k))
		}
	}
	in, err := in.With(schemas.ImportanceWeight.FromRows(weights, known...))
	if err != nil {
		t.Fatal(err)
	}
	c := valued("combined")
	plain, _ := apply(t, c, in)
	s := Stage{Config: c, Weighted: true}
	var sums Totals
	if err := (&Stage{Config: c}).Add(in, &sums); err != nil {
		t.Fatal(err)
	}
	out, dead := stagetest.RunWith(t, s, in, sums)
	stagetest.Dead(t, dead, schemas.ReasonMissingField)
	for k, x := range schemas.Advantage.Of(plain).Row(0) {
		if got := schemas.Advantage.Of(out).Row(0)[k]; got != float32(k)*x {
			t.Errorf("token %d: %v, want %d times %v", k, got, k, x)
		}
		want, got := schemas.CandidateAdvantage.Of(plain).Row(0).Row(k), schemas.CandidateAdvantage.Of(out).Row(0).Row(k)
		for j := range want {
			if d := got[j] - float32(k)*want[j]; d > 1e-4 || d < -1e-4 {
				t.Errorf("token %d: candidates %v, want %d times %v", k, got, k, want)
			}
		}
	}
}
