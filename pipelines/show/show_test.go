package show

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden text files anew")

func examples() []Rollout {
	wrong, right, second, none := false, true, 1, -1
	nan := math.NaN()
	return []Rollout{{
		Name: "iteration 3, sample 0", Prompt: "5a*2b*6=", Answer: "0", Outcome: &wrong, FirstError: &second,
		Tokens: []Token{
			{Text: "a5*2=0", LogP: -0.001, Value: 0.25, PCorrect: 0.62, Advantage: 0.1},
			{Text: "\n", LogP: -0.0001, Value: 0.2, PCorrect: 0.6, Advantage: -0.0001},
			{Text: "b0*6=", LogP: -0.01, Value: 0.1, PCorrect: 0.55, Advantage: nan},
			{Text: "4", LogP: -1.2, Value: -2.5, PCorrect: 0.2, Advantage: -2.6, Candidates: []Candidate{{"4", -1.2, -2.6}, {"0", -0.4, 1.1},
				{"\x1b[2J", -3, nan}}},
			{Text: "\n", LogP: -0.001, Value: -2.6, PCorrect: 0.18, Advantage: -0.1},
			{Text: "#4", LogP: -0.003, Value: -2.7, PCorrect: 0.17, Advantage: 0},
		},
	}, {
		Prompt: "東京\x07?\n", Answer: "はい", Outcome: &right, FirstError: &none,
		Tokens: []Token{{Text: "はい", LogP: nan, Value: nan, PCorrect: nan, Advantage: nan}},
	}, {
		Prompt: "no answer", Answer: "",
	}}
}

func letters() []DeadLetter {
	return []DeadLetter{
		{Stage: "label", Reason: "missing_field", Message: "answer is empty", RowID: "r1", Attempts: 1},
		{Stage: "score", Reason: "bad_token", Message: "sequence 2: token 99 is outside the vocabulary of 26", RowID: "r2", Attempts: 4,
			Row: json.RawMessage(`{"prompt":"5a*2="}`)},
		{Stage: "label", Reason: "missing_field", Message: "answer is\x1b[31m empty", RowID: "r3", Attempts: 1},
	}
}

func counts() []DeadCount {
	tally := DeadTally{}
	for _, l := range letters() {
		tally.Add(l.Stage, l.Reason)
	}
	return tally.Counts()
}

// Counts are of all dead letters, also where some are printed.
func TestDeadLettersAreCountedBeyondThosePrinted(t *testing.T) {
	var out bytes.Buffer
	if err := DeadLetters(&out, letters()[:1], counts()); err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(strings.Fields(out.String()), " "); !strings.Contains(text, "label missing_field 2 score bad_token 1") ||
		!strings.Contains(text, "2 more; --rows 0 prints all") {
		t.Error(out.String())
	}
}

func TestText(t *testing.T) {
	for name, print := range map[string]func(*bytes.Buffer) error{
		"rollouts.txt":        func(b *bytes.Buffer) error { return Rollouts(b, examples(), false) },
		"rollouts-colour.txt": func(b *bytes.Buffer) error { return Rollouts(b, examples(), true) },
		"rollouts.jsonl":      func(b *bytes.Buffer) error { return JSON(b, examples()) },
		"dead.txt":            func(b *bytes.Buffer) error { return DeadLetters(b, letters(), counts()) },
		"dead.jsonl":          func(b *bytes.Buffer) error { return JSON(b, letters()) },
		"dead-none.txt":       func(b *bytes.Buffer) error { return DeadLetters(b, nil, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			if err := print(&got); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%v; run with -update to write it", err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got\n%s\nwant\n%s", got.Bytes(), want)
			}
		})
	}
}

func TestUntrustedTextDoesNotControlTheTerminal(t *testing.T) {
	var out bytes.Buffer
	if err := Rollouts(&out, examples(), false); err != nil {
		t.Fatal(err)
	}
	if err := DeadLetters(&out, letters(), counts()); err != nil {
		t.Fatal(err)
	}
	if i := strings.IndexFunc(out.String(), func(r rune) bool { return r < ' ' && r != '\n' }); i >= 0 {
		t.Errorf("control character at byte %d", i)
	}
}

func TestStepsAreLines(t *testing.T) {
	for _, c := range []struct {
		tokens []string
		want   []int
	}{
		{[]string{"a", "\n", "b", "\n", "#"}, []int{0, 0, 1, 1, 2}},
		{[]string{"one.\n\n", "two", ".", "\n", "\n", "three"}, []int{0, 1, 1, 1, 2, 2}},
		{[]string{"\n", "a"}, []int{0, 0}},
		{nil, []int{}},
	} {
		var r Rollout
		for _, text := range c.tokens {
			r.Tokens = append(r.Tokens, Token{Text: text})
		}
		if got := r.Steps(); !slices.Equal(got, c.want) {
			t.Errorf("%q: steps %v, want %v", c.tokens, got, c.want)
		}
	}
}

func TestTintsKeepTheSideOfNeutral(t *testing.T) {
	s := NewScale(examples())
	if s.Value(0.5) != 0 || s.Value(math.NaN()) != 0 || s.Value(0) != -Tints || s.Value(1) != Tints {
		t.Errorf("tints %d %d %d %d", s.Value(0.5), s.Value(math.NaN()), s.Value(0), s.Value(1))
	}
	for p := 0.0; p <= 1; p += 0.01 {
		if v := s.Value(p); v > 0 && p < 0.5 || v < 0 && p > 0.5 {
			t.Errorf("p_correct %.2f has tint %d", p, v)
		}
	}
	if empty := NewScale(nil); empty.Value(0.9) != Tints || empty.AdvantageTint(0) != 0 {
		t.Errorf("an empty scale gives %d and %d", empty.Value(0.9), empty.AdvantageTint(0))
	}
}
