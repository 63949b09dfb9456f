package provingground

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestFactsAreTheDocumentedOnes holds the facts to the digest that the description of the task gives.
func TestFactsAreTheDocumentedOnes(t *testing.T) {
	if got := splitmix64(0); got != 16294208416658607535 {
		t.Fatalf("splitmix64(0) = %d", got)
	}
	var lines []string
	rates := map[float64]int{}
	for _, op := range []byte("+-*") {
		for a := range 10 {
			for b := 1; b <= 9; b++ {
				if op == '*' && b == 1 {
					continue
				}
				f := FactOf(a, Step{op, b})
				rates[f.Rate]++
				lines = append(lines, fmt.Sprintf("%c%d%d:%d,%d,%d,%d", op, a, b, f.Result, int(math.Round(100*f.Rate)), f.OffBy1, f.Further))
			}
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(lines, ";")))
	if got := hex.EncodeToString(sum[:]); got != "81ba132171705c9e79f652768b2df8c9aed4c6f6ebb98ba013a0cad93904e2ce" {
		t.Errorf("facts have digest %s; first: %v", got, lines[:2])
	}
	if rates[0.04] != 137 || rates[0.35] != 77 || rates[0.60] != 46 {
		t.Errorf("facts by rate: %v", rates)
	}
}

// TestCorpus checks the accuracy of written chains (0.385 by the description of the task) and that corruption hits half
// of the chains, of which some still end right.
func TestCorpus(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const n = 20000
	right, corruptedWrong := 0, 0
	for range n {
		c := Draw(r.Float64)
		if len(c.Steps) < 3 || len(c.Steps) > 6 {
			t.Fatalf("%d steps", len(c.Steps))
		}
		if back, err := Parse(c.Prompt()); err != nil || back.Answer() != c.Answer() {
			t.Fatalf("%s: %v", c.Prompt(), err)
		}
		if c.Judge(c.Write(r.Float64)).Correct {
			right++
		}
		if c.Judge(c.Corrupt(r.Float64)).FirstError >= 0 {
			corruptedWrong++
		}
	}
	if got := float64(right) / n; math.Abs(got-0.385) > 0.02 {
		t.Errorf("corpus accuracy %.3f, want about 0.385", got)
	}
	if got := float64(corruptedWrong) / n; math.Abs(got-0.5) > 0.02 {
		t.Errorf("corrupted chains with a wrong step: %.3f, want about 0.5", got)
	}
}
