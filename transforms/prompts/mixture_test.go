package prompts

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// However windows are cut, their shares follow one another without gap or overlap, and every block has its proportions.
func TestSharesFollowEachOther(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var m Mixture
		sum := 0
		for k := range 1 + random.IntN(4) {
			w := 1 + random.IntN(7)
			sum += w
			m = append(m, Part{Name: fmt.Sprint(k), Weight: w})
		}
		seed := random.Uint64()
		next := make([]int, len(m))
		at := 0
		for at < 5*sum {
			w := Window{Seed: seed, First: at, Count: 1 + random.IntN(2*sum)}
			if random.IntN(2) == 0 { // a later round of the same iteration
				w.Drawn = random.IntN(at + 1)
				w.First -= w.Drawn
			}
			total := 0
			for k, s := range m.shares(w) {
				if s.First+s.Drawn != next[k] {
					t.Fatalf("weights %+v: window %+v begins part %d at %d, want %d", m, w, k, s.First+s.Drawn, next[k])
				}
				next[k] += s.Count
				total += s.Count
			}
			if total != w.Count {
				t.Fatalf("window of %d prompts has %d", w.Count, total)
			}
			at += w.Count
		}
		for k, p := range m {
			if got := before(m, seed, 7*sum)[k]; got != 7*p.Weight {
				t.Fatalf("7 blocks have %d prompts of part %d, want %d", got, k, 7*p.Weight)
			}
		}
	}
	parts := []Part{{Weight: 5}, {Weight: 5}}
	if a, b := before(parts, 1, 3), before(parts, 2, 3); slices.Equal(a, b) && slices.Equal(before(parts, 1, 7), before(parts, 2, 7)) &&
		slices.Equal(before(parts, 1, 14), before(parts, 2, 14)) {
		t.Error("two seeds interleave alike")
	}
}

func mixture(t *testing.T) Config {
	path := write(t, "p.jsonl", lines(30))
	c := New("mixture", Mixture{
		{Name: "short", Weight: 3, Source: "chain", Of: Chain{MaxSteps: 3}},
		{Name: "long", Weight: 1, Source: "chain", Of: Chain{MinSteps: 7, MaxSteps: 8}},
		{Name: "questions", Weight: 1, Source: "file", Of: File{Path: Paths{path}, Fields: Fields{Prompt: "q", Answer: "a"}, TestShare: 0.1}}})
	c.Count, c.PerRecord = 40, 3
	return c
}

func TestMixtureInPipeline(t *testing.T) {
	c := mixture(t)
	read := func(c Config) stage.Batch {
		out, _ := stagetest.Collect(t, nil, func(s beam.Scope, _ stage.Rows) (stage.Rows, stage.Rows) {
			return Read(s, c, Window{Seed: 5, First: 7, Count: c.Count})
		})
		var order []int
		for _, g := range stage.SortedGroups(out) {
			order = append(order, g.Lo)
		}
		sorted, err := out.Take(order)
		if err != nil {
			t.Fatal(err)
		}
		return sorted
	}
	b := read(c)
	got := map[string]int{}
	for i := range b.NumRows() {
		name := SourceName(schemas.Source.Of(b).At(i))
		got[name]++
		if d := schemas.Difficulty.Of(b); name == "short" && d.At(i) != "3" || name == "long" && d.At(i) != "7" && d.At(i) != "8" ||
			name == "questions" && d.Valid(i) {
			t.Errorf("a prompt of %s has difficulty %q", name, d.At(i))
		}
	}
	if b.NumRows() != c.Count || got["short"] < 23 || got["short"] > 25 || got["long"]+got["questions"]+got["short"] != c.Count {
		t.Errorf("%d prompts: %v", b.NumRows(), got)
	}
	c.PerRecord = 40
	stagetest.Same(t, "prompts in other records", read(c), b)
}

func TestMixtureIsChecked(t *testing.T) {
	for want, change := range map[string]func(m Mixture, c *Config){
		"mixture: is empty":    func(_ Mixture, c *Config) { c.Of = Mixture{} },
		"mixture[1].name":      func(m Mixture, _ *Config) { m[1].Name = "short" },
		"mixture[0].name":      func(m Mixture, _ *Config) { m[0].Name = "a/b" },
		"mixture[2].weight":    func(m Mixture, _ *Config) { m[2].Weight = 0 },
		"mixture[0].source":    func(m Mixture, _ *Config) { m[0].Of = Mixture{} },
		"mixture[1].source":    func(m Mixture, _ *Config) { m[1].Of = nil },
		"mixture[2].file.path": func(m Mixture, _ *Config) { m[2].Of = File{} },
		"mixture[2].file.exhausted": func(m Mixture, _ *Config) {
			m[2].Of = File{Path: Paths{"x.jsonl"}, Fields: Fields{Prompt: "p"}, Exhausted: "again"}
		},
		"mixture[0].chain.min_steps": func(m Mixture, _ *Config) { m[0].Of = Chain{MinSteps: 5, MaxSteps: 3} },
		"brings no response_id":      func(m Mixture, _ *Config) { m[0].Of = Chain{Responses: "right"} },
		"curriculum.floor":           func(_ Mixture, c *Config) { c.Curriculum = &Curriculum{Rule: BandRule} },
		"curriculum.rule":            func(_ Mixture, c *Config) { c.Curriculum = &Curriculum{} },
	} {
		c := mixture(t)
		change(c.Of.(Mixture), &c)
		if err := setting.Check(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if err := setting.Check(mixture(t)); err != nil {
		t.Error(err)
	}
}

// Rounds of one iteration never draw a prompt twice, and a file that is not to wrap ends.
func TestRoundsOfAFile(t *testing.T) {
	path := write(t, "p.jsonl", lines(30))
	for _, exhausted := range []string{"wrap", "stop"} {
		for _, shuffle := range []bool{false, true} {
			for _, first := range []int{0, 25, 65} {
				c := fileConfig(path, Fields{Prompt: "q", Answer: "a"})
				c = changed(c, func(f *File) { f.Exhausted, f.Shuffle = exhausted, shuffle })
				seen := map[string]bool{}
				for drawn := 0; drawn < 56; drawn += 8 {
					b, _, _ := scan(t, c, Window{Seed: 9, First: first, Drawn: drawn, Count: 8})
					for i := range b.NumRows() {
						p := schemas.Prompt.Of(b).At(i)
						if seen[p] {
							t.Fatalf("%s, shuffle %v, first %d: %q drawn twice", exhausted, shuffle, first, p)
						}
						seen[p] = true
					}
				}
				want := 30
				if exhausted == "stop" {
					want = max(0, 30-first)
				}
				if len(seen) != want {
					t.Errorf("%s, shuffle %v, first %d: %d prompts, want %d", exhausted, shuffle, first, len(seen), want)
				}
			}
		}
	}
}

func history(t *testing.T, h History) string {
	path := filepath.Join(t.TempDir(), "history.json")
	raw, err := json.Marshal(h)
	if err == nil {
		err = os.WriteFile(path, raw, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A file's prompts are drawn in proportion to their weights, each at most once an iteration.
func TestCurriculumOfAFile(t *testing.T) {
	path := write(t, "p.jsonl", lines(40))
	c := fileConfig(path, Fields{Prompt: "q", Answer: "a"})
	band := Curriculum{Rule: BandRule, Low: 0.2, High: 0.8, Floor: 0.1}
	plain, _, _ := scan(t, c, Window{Count: 40})
	c.Curriculum = &band
	if b, _, _ := scan(t, c, Window{Count: 12}); b.NumRows() != 12 || schemas.Prompt.Of(b).At(0) != schemas.Prompt.Of(plain).At(0) {
		t.Error("without history the first window is not the first prompts")
	}
	h := History{}
	hard := map[uuid.UUID]bool{}
	for i, id := range schemas.PromptID.Of(plain) {
		right := 4.0
		if i%2 == 0 {
			right, hard[id] = 0, true
		}
		if i < 30 { // the others have no history
			if err := h.Add(c, id.String(), "p.jsonl", "", Tally{Right: right, N: 8}); err != nil {
				t.Fatal(err)
			}
		} else {
			hard[id] = false
		}
	}
	file := history(t, h)
	counts := map[bool]int{}
	const iterations = 300
	for k := range iterations {
		w := Window{Seed: 1, Count: 4, History: file, Meta: schemas.Meta{Iteration: k}}
		seen := map[uuid.UUID]bool{}
		for w.Drawn = 0; w.Drawn < 8; w.Drawn += 4 {
			b, _, _ := scan(t, c, w)
			again, _, _ := scan(t, c, w)
			stagetest.Same(t, "the same window", again, b)
			for _, id := range schemas.PromptID.Of(b) {
				if seen[id] {
					t.Fatal("a prompt was drawn twice in an iteration")
				}
				seen[id] = true
				if w.Drawn == 0 {
					counts[hard[id]]++
				}
			}
		}
	}
	// 25 prompts weigh 1 and 15 weigh 0.1; the first of an iteration falls on one of the 15 with chance 1.5/26.5.
	share := float64(counts[true]) / (4 * iterations)
	if share < 0.03 || share > 0.1 {
		t.Errorf("%.3f of the prompts drawn are ones that never go right, want about 0.06", share)
	}
	c.Curriculum = &Curriculum{Rule: VarianceRule, Floor: 0.1, High: 1}
	if a, b := c.Curriculum.weight(Tally{}), c.Curriculum.weight(Tally{Right: 0, N: 8}); a != 1 || b > 0.4 || b < 0.1 {
		t.Errorf("weights %v without history, %v after 0 of 8", a, b)
	}
}

// Chains are drawn by the pass rate of their length; any cut into records gives the same prompts.
func TestCurriculumOfAGenerator(t *testing.T) {
	c := Default()
	c.Curriculum = &Curriculum{Rule: VarianceRule, Floor: 0.05}
	h := History{}
	rates := map[string]float64{"3": 1, "4": 0.5, "5": 0.1, "6": 0}
	for d, p := range rates {
		if err := h.Add(c, "", "chain", d, Tally{Right: 1e6 * p, N: 1e6}); err != nil {
			t.Fatal(err)
		}
	}
	fn := generateFn{Task: c, Window: Window{Split: "train", Seed: 2, PerRecord: 16, Curriculum: c.Curriculum, History: history(t, h)}}
	if err := fn.Setup(context.Background()); err != nil {
		t.Fatal(err)
	}
	const n = 4000
	all, err := drawRows(Chain{}, fn.Window, fn.levels, 0, n)
	if err != nil {
		t.Fatal(err)
	}
	part, err := drawRows(Chain{}, fn.Window, fn.levels, 100, 120)
	if err != nil {
		t.Fatal(err)
	}
	stagetest.Same(t, "a part", part, all.Slice(100, 120))
	got, sum := map[string]float64{}, 0.0
	for i := range n {
		got[schemas.Difficulty.Of(all).At(i)]++
	}
	for _, p := range rates {
		sum += 0.05 + 0.95*4*p*(1-p)
	}
	for d, p := range rates {
		want := (0.05 + 0.95*4*p*(1-p)) / sum
		if err := 4 * math.Sqrt(want*(1-want)/n); math.Abs(got[d]/n-want) > err {
			t.Errorf("share of %s operations is %.3f, want %.3f", d, got[d]/n, want)
		}
	}
	if l := c.Curriculum.levels(History{}, "chain", nil); l != nil || !l.accept("3", 0.999) {
		t.Error("without history a prompt is refused")
	}
}
