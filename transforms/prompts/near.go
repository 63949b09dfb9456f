package prompts

import (
	"hash/fnv"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// nearCopies finds prompts of split test of which train has nearly the same: one with the same letters and digits, or one with at least
// half of its runs of words that few prompts have. Runs that many have are of a template.
type nearCopies struct {
	test  []sketch
	runs  map[uint64]runCount
	train map[uint64]bool // hashes of the letters and digits
}

type sketch struct {
	letters uint64
	runs    []uint64
}

type runCount struct {
	prompts int32
	train   bool
}

const (
	wordsOfRun = 8
	rarePrompt = 8 // a run of more prompts than these is of a template
	runsOfEach = 64
)

func newNearCopies() *nearCopies {
	return &nearCopies{runs: map[uint64]runCount{}, train: map[uint64]bool{}}
}

func (n *nearCopies) add(r promptRow, test bool) {
	words := strings.FieldsFunc(strings.ToLower(norm.NFC.String(said(r))), func(c rune) bool {
		return !unicode.IsLetter(c) && !unicode.IsDigit(c)
	})
	s := sketch{letters: hashOf(words)}
	for i := 0; i+wordsOfRun <= len(words); i++ {
		s.runs = append(s.runs, hashOf(words[i:i+wordsOfRun]))
	}
	slices.Sort(s.runs)
	s.runs = slices.Compact(s.runs)
	s.runs = slices.Clone(s.runs[:min(len(s.runs), runsOfEach)]) // those with the least hashes, which copies share
	for _, h := range s.runs {
		c := n.runs[h]
		n.runs[h] = runCount{c.prompts + 1, c.train || !test}
	}
	if !test {
		n.train[s.letters] = true
		return
	}
	n.test = append(n.test, s)
}

func hashOf(words []string) uint64 {
	h := fnv.New64a()
	for _, w := range words {
		h.Write([]byte(w))
	}
	return h.Sum64()
}

func (n *nearCopies) count() (copies int) {
	for _, s := range n.test {
		rare, there := 0, 0
		for _, h := range s.runs {
			if c := n.runs[h]; c.prompts <= rarePrompt {
				rare++
				if c.train {
					there++
				}
			}
		}
		if n.train[s.letters] || there > 0 && 2*there >= rare {
			copies++
		}
	}
	return copies
}
