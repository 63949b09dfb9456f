package tokenizer

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Where x/text does not break up sequences of marks, and outside the characters newer than the published data, it is the
// reference: random sequences of letters and marks that decompose, compose, block and reorder.
func TestNormalFormsAgainstTheReference(t *testing.T) {
	var marks, letters []rune
	for r := rune(0x80); r < 0x1e000; r++ {
		if unicode.Is(newer, r) || r >= 0xd800 && r < 0xe000 {
			continue
		}
		p := norm.NFD.PropertiesString(string(r))
		if p.CCC() != 0 {
			marks = append(marks, r)
		} else if norm.NFKD.PropertiesString(string(r)).Decomposition() != nil || isHangulSyllable(r) {
			letters = append(letters, r)
		}
	}
	common := []rune("aeiouAEcnsſ\u0305\u0301\u0300\u0323\u0327\u0338가\u1100\u1161\u11a8")
	forms := []normalForm{formNFC, formNFD, formNFKC, formNFKD}
	rng := rand.New(rand.NewPCG(9, 9))
	for range 20000 {
		var b strings.Builder
		for range 1 + rng.IntN(8) {
			switch rng.IntN(4) {
			case 0:
				b.WriteRune(marks[rng.IntN(len(marks))])
			case 1:
				b.WriteRune(letters[rng.IntN(len(letters))])
			default:
				b.WriteRune(common[rng.IntN(len(common))])
			}
		}
		for i, f := range forms {
			if got, want := f.normalize(b.String()), f.quick.String(b.String()); got != want {
				t.Fatalf("form %d of %+q is %+q, want %+q", i, b.String(), got, want)
			}
		}
	}
}

// A sequence of marks stays whole however long it is.
func TestLongSequencesOfMarks(t *testing.T) {
	got := formNFC.normalize("e" + strings.Repeat("\u0301\u0323", 50))
	if want := "\u1eb9" + strings.Repeat("\u0323", 49) + strings.Repeat("\u0301", 50); got != want {
		t.Errorf("%+q, want %+q", got, want)
	}
}
