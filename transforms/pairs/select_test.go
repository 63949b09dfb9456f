package pairs

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSelect(t *testing.T) {
	outcomes := []float64{1, 0, 1, 0, 1, 0}
	valid := []bool{true, true, true, true, true, false}
	scores := []float64{0.2, 0.9, 0.8, 0.1, 0.8, 0}
	for _, c := range []struct {
		name, strategy string
		scores         []float64
		limit          int
		want           []Pair
	}{
		{"best against worst", "best_worst", scores, 0, []Pair{{2, 3}}},
		{"the next ones too", "best_worst", scores, 5, []Pair{{2, 3}, {4, 1}}},
		{"no scores: the first of each", "best_worst", nil, 1, []Pair{{0, 1}}},
		{"all", "all", nil, 0, []Pair{{0, 1}, {2, 3}, {4, 1}, {0, 3}, {2, 1}, {4, 3}}},
		{"all, capped", "all", nil, 2, []Pair{{0, 1}, {2, 3}}},
	} {
		got, err := Select(c.strategy, outcomes, valid, c.scores, c.limit)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
	if _, err := Select("random", outcomes, valid, nil, 0); err == nil {
		t.Error("an unknown strategy is accepted")
	}
	for _, same := range [][]float64{{1, 1}, {0, 0}, {}} {
		if got, err := Select("all", same, slices.Repeat([]bool{true}, len(same)), nil, 0); err != nil || len(got) != 0 {
			t.Errorf("outcomes %v give pairs %v, %v", same, got, err)
		}
	}
}

func TestSelectProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		n := 1 + r.IntN(9)
		outcomes, valid, scores := make([]float64, n), make([]bool, n), make([]float64, n)
		right, wrong := 0, 0
		for i := range n {
			outcomes[i], valid[i], scores[i] = float64(r.IntN(2)), r.IntN(4) > 0, float64(r.IntN(3))
			if valid[i] && outcomes[i] == 1 {
				right++
			} else if valid[i] {
				wrong++
			}
		}
		limit := 1 + r.IntN(12)
		for _, strategy := range Strategies {
			got, err := Select(strategy, outcomes, valid, scores, limit)
			if err != nil {
				t.Fatal(err)
			}
			want := min(limit, right*wrong)
			if strategy == "best_worst" {
				want = min(limit, right, wrong)
			}
			seen := map[string]bool{}
			uses := make([]int, n)
			for _, p := range got {
				if !valid[p.Chosen] || !valid[p.Rejected] || outcomes[p.Chosen] != 1 || outcomes[p.Rejected] != 0 || seen[fmt.Sprint(p)] {
					t.Fatalf("%s: bad or repeated pair %v in %v", strategy, p, got)
				}
				seen[fmt.Sprint(p)] = true
				uses[p.Chosen]++
			}
			if len(got) != want {
				t.Fatalf("%s: %d pairs of %d right and %d wrong with limit %d, want %d", strategy, len(got), right, wrong, limit, want)
			}
			lo, hi := 1<<30, 0
			for i, u := range uses {
				if valid[i] && outcomes[i] == 1 {
					lo, hi = min(lo, u), max(hi, u)
				}
			}
			if strategy == "all" && wrong > 0 && right > 0 && hi-lo > 1 {
				t.Fatalf("all: correct responses are used %d to %d times", lo, hi)
			}
		}
	}
}
