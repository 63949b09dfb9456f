package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipes"
)

var nan = math.NaN()

func TestSpread(t *testing.T) {
	s := spreadOf([]float64{1, nan, 2, 4})
	if s.n != 3 || math.Abs(s.mean-7.0/3) > 1e-12 || math.Abs(s.sd-1.5275252316519465) > 1e-12 ||
		math.Abs(s.stdErr()-0.8819171036881969) > 1e-12 {
		t.Errorf("spread of 1, 2, 4: %+v, standard error %v", s, s.stdErr())
	}
	if s := spreadOf([]float64{3}); s.mean != 3 || !math.IsNaN(s.sd) {
		t.Errorf("one value: %+v, want no spread", s)
	}
	if s := spreadOf(nil); s.n != 0 || !math.IsNaN(s.mean) {
		t.Errorf("no value: %+v", s)
	}
}

// The interval is Student's: with differences 0.1, 0.2, 0.3 the mean is 0.2, its standard error 0.1/√3, and t of two degrees
// of freedom 4.302653.
func TestPaired(t *testing.T) {
	p := paired([]float64{0.1, 0.2, 0.3, 0.9}, []float64{0.2, 0.4, 0.6, nan})
	half := 4.302652729911275 * 0.1 / math.Sqrt(3)
	i := p.comparison.Interval
	if p.above != 3 || p.comparison.Difference.N != 3 || i == nil || math.Abs(i[0]-(0.2-half)) > 1e-9 || math.Abs(i[1]-(0.2+half)) > 1e-9 {
		t.Errorf("got %d above, interval %v; want 3 and 0.2 ± %v", p.above, i, half)
	}
	if !math.IsNaN(p.diff[3]) {
		t.Errorf("difference of a missing value: %v", p.diff[3])
	}
}

// What was measured before stays where everything started from the same weights and nothing newer is there, of seeds that were not run
// again too; runs that are no longer planned are left, and other weights take nothing along.
func TestKeep(t *testing.T) {
	was := &figures{}
	for _, seed := range []uint64{1, 2} {
		was.start(seed, "same")
		was.add(seed, "warm", "accepted", 0, 1)
		was.add(seed, "grpo", "avg@8", 10, 0.4)
		was.add(seed, "length", "best_of_8", 0, 0.3)
		was.add(seed, "gone", "avg@8", 10, 0.6)
	}
	for _, c := range []struct {
		what   string
		starts map[uint64]string
		kept   bool
	}{
		{"the same", map[uint64]string{1: "same"}, true},
		{"one seed with other weights", map[uint64]string{1: "same", 2: "other"}, false},
		{"another seed with other weights", map[uint64]string{3: "other"}, false},
		{"another seed of a shared start", map[uint64]string{3: "same"}, true},
		{"nothing", nil, false},
	} {
		now := &figures{}
		for seed, sum := range c.starts {
			now.start(seed, sum)
			now.add(seed, "warm", "accepted", 0, 1)
			now.add(seed, "grpo", "avg@8", 10, 0.45)
		}
		now.keep(was, grounds["proving"].measures)
		for seed := range uint64(4) {
			_, here := c.starts[seed]
			old := c.kept && seed > 0 && seed < 3
			want := map[string]float64{}
			if old {
				want["warm"], want["grpo"], want["length"] = 1, 0.4, 0.3
			}
			if here {
				want["warm"], want["grpo"] = 1, 0.45
			}
			got := map[string]float64{}
			for k, bySeed := range now.byKey {
				if x, ok := bySeed[seed]; ok {
					got[k.run] = x
				}
			}
			if !maps.Equal(got, want) || (now.starts[seed] != "") != (here || old) {
				t.Errorf("%s, seed %d: figures %v of start %q, want %v", c.what, seed, got, now.starts[seed], want)
			}
		}
	}
}

// fixture has two accepted seeds and a rejected one, and every figure of the tables.
func fixture() *figures {
	f := &figures{}
	for _, s := range []uint64{3, 1, 2} {
		x := float64(s)
		f.add(s, "warm", "avg@8", 0, 0.3+x/100)
		f.add(s, "warm", "avg@8_stderr", 0, 0.02)
		f.add(s, "warm", "pass@8", 0, 0.8)
		f.add(s, "warm", "accepted", 0, map[bool]float64{true: 1}[s != 2])
		f.start(s, fmt.Sprintf("%064x", s))
		if s == 2 {
			continue
		}
		for i, m := range rewardModels {
			for _, metric := range []string{"step_f1_sum_diff", "corrupted_f1_sum_diff", "truth_r", "truth_ece", "best_of_8", "mean_accuracy",
				"pass@8", "auc", "auc_last_tenth", "ece", "brier"} {
				f.add(s, m.name, metric, 0, 0.9-float64(i)/20+x/100)
			}
		}
		for i, m := range rlMethods {
			for after := 0; after <= 60; after += 10 {
				f.add(s, m.name, "avg@8", after, 0.3+float64(after)/200+float64(i)*(0.01+x/1000))
			}
		}
		for i, c := range stabilityCells() {
			f.add(s, c.name(), "avg@8", stabilityIterations, 0.3+float64(i)/100+x/100)
			f.add(s, c.name(), "kl", stabilityIterations, x*math.Pow(10, -float64(i%4)))
			f.add(s, c.name(), "entropy", stabilityIterations, 0.1)
		}
		f.add(s, "student", "avg@8", 1, 0.1)
		for i, st := range students {
			f.add(s, st.name, "avg@8", 1, 0.2+float64(i)/10+x/100)
		}
		for round := range 2 {
			f.add(s, "seft", "avg@8", seftRound(round+1), 0.4+x/100)
			f.add(s, "self", "avg@8", round+1, 0.3+x/100)
			f.add(s, fmt.Sprint("self-greedy-round-", round+1), "avg@8", 0, 0.35+x/50)
		}
		f.add(s, "seft", "avg@8", 0, 0.3)
		f.add(s, "sft-chosen", "avg@8", 1, 0.5)
		f.add(s, "grpo", "cpu_seconds", 0, 60*x)
	}
	return f
}

func TestTables(t *testing.T) {
	got := tables(fixture())
	for name, want := range map[string][]string{
		"warm": {"| 1 | 0.310 ± 0.020 | 0.800 | yes | `0000", "| 2 | 0.320 ± 0.020 | 0.800 | no | `0000"},
		"reward-f1": {"| reward model | seed 1 | seed 3 | mean ± sd | std. error | n |",
			"| IPVRM, margin 0 | 0.910 | 0.930 | 0.920 ± 0.014 | 0.010 | 2 |"},
		"rl-pairs":   {"| GRPO with IPVRM − GRPO | avg@8 after 10 | 2 of 2 | +0.012 | −0.001 to +0.025 | not told apart |"},
		"stability":  {"| LCO-MSE, anchor = current logits | 3e-4 | 4 |"},
		"students":   {"| ADPA+ | 0.710 | 0.730 | 0.720 ± 0.014 | 0.010 | 2 |"},
		"seft-pairs": {"| SEFT, round 2 − round 1 | avg@8 | 0 of 2 | +0.000 |"},
		"claims": {"| SEFT | the second round above the first | avg@8, as in the recipe | 0 of 2 | +0.000 | +0.000 to +0.000 | not told apart |",
			"| IPVRM + DistRL | IPVRM above DPO-RM | step F1 | 2 of 2 | +0.100 | +0.100 to +0.100 | **reproduced** |"},
		"reward-more": {"| IPVRM, margin 0 | 0.920 ± 0.014 |"},
		"cost":        {"| policies | 2 | 120 | 4.0 |"},
	} {
		for _, line := range want {
			if !strings.Contains(got[name], line) {
				t.Errorf("table %s lacks %q:\n%s", name, line, got[name])
			}
		}
	}
	for name, table := range got {
		lines := strings.Split(strings.TrimSpace(table), "\n")
		for _, l := range lines {
			if strings.Count(l, "|") != strings.Count(lines[0], "|") {
				t.Errorf("table %s: ragged line %q", name, l)
			}
		}
		if strings.Contains(table, "NaN") {
			t.Errorf("table %s shows NaN:\n%s", name, table)
		}
	}
}

// textFixture has two seeds of every run of text chains.
func textFixture() *figures {
	f := &figures{}
	for _, s := range []uint64{0, 1} {
		x := float64(s) / 100
		f.add(s, "warm", "accepted", 0, 1)
		for i, m := range slices.Concat(textRL, textLCO, textQRM) {
			for _, metric := range []string{"avg@4", "wording", "longer"} {
				f.add(s, m.name, metric, 0, 0.25+x)
				f.add(s, m.name, metric, textEvery, 0.5+float64(i)/50+x)
			}
			f.add(s, m.name, "cpu_seconds", 0, 600)
		}
		for i, m := range textRewards() {
			for _, figure := range textFigures {
				f.add(s, m.name, figure.of(m), 0, 0.9-float64(i)/20+x)
			}
		}
		f.add(s, textStudentBefore, "avg@4", 0, 0)
		for i, st := range textStudents {
			f.add(s, st.name, "cpu_seconds", 0, 300)
			f.add(s, st.name, "avg@4", 1, 0.2+float64(i)/20+x)
		}
		for i, st := range textSEFT {
			f.add(s, st.name, "avg@4", 0, 0.25+x)
			for round := range selfRounds {
				f.add(s, st.name, "avg@4", seftRound(round+1), 0.3+float64(round)/10+float64(i)/20+x*float64(1+round))
			}
		}
	}
	return f
}

func TestTextTables(t *testing.T) {
	got := textTables(textFixture())
	for name, want := range map[string][]string{
		"text-rl":  {"| warm start | 0 | 0.250 | 0.260 |", "| GRPO, rate 3e-4 | 10 | 0.580 | 0.590 |"},
		"text-lco": {"| held-out problems | warm start | 0.250 |", "| held-out problems | LCO-KLD, rate 1e-4 | 0.600 | 0.610 |"},
		"text-lco-pairs": {"| LCO-KLD − GRPO clip | rate 3e-4 | 2 of 2 | +0.040 |",
			"| LCO-LCH − GRPO clip | each at its best rate | 2 of 2 | +0.120 |"},
		"text-qrm-pairs":    {"| REINFORCE on Q-RM − REINFORCE, outcomes | avg@4 | 2 of 2 | +0.020 |"},
		"text-reward":       {"| step F1 | IPVRM, uniform, 0.10 | 0.900 | 0.910 |", "| Best-of-8 | DPO-RM, 0.10 |"},
		"text-reward-pairs": {"| IPVRM, uniform, 0.10 − Implicit PRM, 0.10 | step F1, each at its best beta | 2 of 2 | +0.100 |"},
		"text-students": {"| held-out problems | student before | 0.000 |", "| held-out problems | teacher | 0.560 | 0.570 |",
			"| held-out problems | ADPA+ | 0.450 | 0.460 |"},
		"text-students-pairs": {"| ADPA − DCKD | held-out problems | 2 of 2 | +0.050 |",
			"| ADPA+ − SFT, twice the steps | held-out problems | 2 of 2 | +0.200 |"},
		"text-seft": {"| held-out problems | policy before | 0 | 0.250 | 0.260 |",
			"| held-out problems | SEFT, greedy originals | 2 | 0.500 | 0.520 |"},
		"text-seft-pairs": {"| SEFT, always revised, round 2 − round 1 | held-out problems | 2 of 2 | +0.105 |"},
		"text-claims": {"| IPVRM + DistRL | IPVRM above Implicit PRM | step F1, each at its best beta | 2 of 2 | +0.100 |",
			"| ADPA | ADPA above DCKD | avg@4 of a student, held-out problems | 2 of 2 | +0.050 |"},
		"text-cost": {"| GRPO | 10 | 10.000 |", "| ADPA+ | 1 | 5.000 |"},
	} {
		for _, line := range want {
			if !strings.Contains(got[name], line) {
				t.Errorf("table %s lacks %q:\n%s", name, line, got[name])
			}
		}
	}
	empty := &figures{}
	empty.add(0, "warm", "accepted", 0, 1)
	for name, table := range textTables(empty) {
		if table != "" && strings.Count(table, "\n") > 2 {
			t.Errorf("table %s of nothing:\n%s", name, table)
		}
	}
}

// What was not run is left out or dashed, never a number nobody measured.
func TestTablesOfNothing(t *testing.T) {
	f := &figures{}
	f.add(1, "warm", "avg@8", 0, 0.35)
	f.add(1, "warm", "accepted", 0, 1)
	f.add(3, "warm", "accepted", 0, 1)
	f.add(3, "student-adpa", "avg@8", 1, 0.5)
	got := tables(f)
	for name, table := range got {
		if strings.Contains(table, "NaN") || strings.Contains(table, "Inf") {
			t.Errorf("table %s:\n%s", name, table)
		}
	}
	if !strings.Contains(got["students"], "| ADPA | – | 0.500 | 0.500 | – | 1 |") || strings.Contains(got["students"], "ADPA+") {
		t.Errorf("one student of two seeds is shown as\n%s", got["students"])
	}
	if strings.Contains(got["students-pairs"], "ADPA") {
		t.Errorf("pairs of nothing:\n%s", got["students-pairs"])
	}
}

func TestFiguresRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results", "figures.csv")
	f := fixture()
	if err := f.save(path); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g, err := loadFigures(path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(g.accepted(), []uint64{1, 3}) || !slices.Equal(g.seeds, []uint64{1, 2, 3}) {
		t.Errorf("seeds %v, accepted %v", g.seeds, g.accepted())
	}
	if err := g.save(path); err != nil {
		t.Fatal(err)
	}
	if second, _ := os.ReadFile(path); string(second) != string(first) {
		t.Error("figures change when they are saved again")
	}
	for name, table := range tables(f) {
		if tables(g)[name] != table {
			t.Errorf("table %s changes when it is drawn from the file", name)
		}
	}
}

// A file of figures that was cut off or edited badly is refused by row, never read as far as it goes: what it held may have been measured
// elsewhere, and is written anew with what is measured now.
func TestFiguresThatAreBroken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results", "figures.csv")
	if err := fixture().save(path); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(raw), "\n")
	whole := strings.Join(lines, "")
	for what, c := range map[string]struct{ text, says string }{
		"half a line":     {whole + "grpo,avg@8,10", "wrong number of fields"},
		"a cut number":    {whole + "grpo,avg@8,9,1,", "row"},
		"infinite":        {whole + "grpo,avg@8,9,1,Inf", "no figure"},
		"not a number":    {whole + "grpo,avg@8,9,1,NaN", "no figure"},
		"too large":       {whole + "grpo,avg@8,9,1,1e308", "no figure"},
		"a figure twice":  {whole + lines[1], "again"},
		"a cut digest":    {whole + "warm,sha256,0,9,5f8f646b91", "SHA-256"},
		"without columns": {"", "columns"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := figuresBefore(path); err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want an error that names the file and says %q", what, err, c.says)
		}
	}
	if f, err := figuresBefore(filepath.Join(t.TempDir(), "none.csv")); err != nil || len(f.seeds) > 0 {
		t.Errorf("no file: %v, %v", f, err)
	}
}

// A job's cost is kept after the half line of a process that was killed.
func TestCostsAfterHalfALine(t *testing.T) {
	p := &proving{ground: grounds["proving"], dir: t.TempDir()}
	p.spent(job{name: "seed-1/grpo"}, 60)
	costs, err := os.OpenFile(filepath.Join(p.dir, costsName), os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = costs.WriteString(`{"job":"seed-1/gr`)
	}
	if err := errors.Join(err, costs.Close()); err != nil {
		t.Fatal(err)
	}
	p.spent(job{name: "seed-1/grpo"}, 30)
	f := &figures{}
	if err := p.collectCosts(f); err != nil || f.of([]uint64{1}, "grpo", "cpu_seconds", 0)[0] != 90 {
		t.Errorf("%v, %v; want 90 seconds", f.byKey, err)
	}
}

func TestFill(t *testing.T) {
	page := "prose\n<!-- table a -->\nold\n<!-- end -->\nmore <!-- table b -->\n<!-- end -->\n"
	got, err := fill(page, map[string]string{"a": "| new |\n", "b": "| b |\n"})
	if want := "prose\n<!-- table a -->\n| new |\n<!-- end -->\nmore <!-- table b -->\n| b |\n<!-- end -->\n"; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	again, err := fill(got, map[string]string{"a": "| new |\n", "b": "| b |\n"})
	if err != nil || again != got {
		t.Errorf("filled twice: %q, %v", again, err)
	}
	if _, err := fill(page, map[string]string{"a": ""}); err == nil {
		t.Error("a marker without a table passes")
	}
	if _, err := fill(page, map[string]string{"a": "", "b": "", "c": ""}); err == nil {
		t.Error("a table without a marker passes")
	}
}

// What `millrace eval --json` says of reward models is taken by model and set; what is null is left out.
func TestCollectRewards(t *testing.T) {
	p := &proving{ground: grounds["proving"], dir: t.TempDir()}
	j := job{name: "seed-3/" + rewardsJob}
	text := `{"rewards": [
	  {"set": "held_out", "model": {"path": "/any/seed-3/ipvrm/iter-00000/reward"}, "final": {"auc": {"value": 0.8}},
	   "truth": {"r": {"value": 0.4}, "ece": {"value": null}, "brier": {"value": 0.1}, "truth_auc": {"value": 0.9}}},
	  {"set": "corrupted", "model": {"path": "/any/seed-3/ipvrm/iter-00000/reward"},
	   "steps": [{"rule": "sum_diff", "held_out": {"f1": 0.6}}]}]}`
	if err := os.MkdirAll(filepath.Dir(p.printed(j)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.printed(j), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f := &figures{}
	if err := p.collectEval(f, 3, j); err != nil {
		t.Fatal(err)
	}
	for metric, want := range map[string]float64{"auc_final": 0.8, "truth_r": 0.4, "truth_brier": 0.1, "truth_auc": 0.9,
		"corrupted_f1_sum_diff": 0.6, "truth_ece": nan} {
		if got := f.of([]uint64{3}, "ipvrm", metric, 0)[0]; got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("%s: %v, want %v", metric, got, want)
		}
	}
}

// The page has a marker for every table and a link for every plot.
func TestPage(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "results.md"))
	if err != nil {
		t.Fatal(err)
	}
	tables, charts, err := drawn(filepath.Join("..", "..", "..", "docs"))
	if err != nil {
		t.Fatal(err)
	}
	filled, err := fill(string(raw), tables)
	if err != nil {
		t.Error(err)
	}
	if filled != string(raw) {
		t.Error("results.md is not what the figures say; run go run ./e2e/programs/proving -draw")
	}
	for name := range charts {
		if !strings.Contains(string(raw), "results/"+name+".svg") {
			t.Errorf("results.md does not show results/%s.svg", name)
		}
	}
}

func TestChartsDraw(t *testing.T) {
	for name, c := range charts(fixture()) {
		svg, err := c.svg()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.Contains(string(svg), "<svg") || strings.Contains(string(svg), "NaN") {
			t.Errorf("%s is no drawing: %.200s", name, svg)
		}
	}
	for name, c := range charts(&figures{}) {
		if _, err := c.svg(); !errors.Is(err, errEmpty) {
			t.Errorf("%s of nothing: %v, want errEmpty", name, err)
		}
	}
}

// The best is taken among the settings that were measured on the most seeds.
func TestBestOf(t *testing.T) {
	all := map[string][]float64{"a": {0.3, 0.4}, "b": {0.9, math.NaN()}, "c": {0.5, 0.4}, "none": {math.NaN(), math.NaN()}}
	got := bestOf([]string{"none", "a", "b", "c"}, func(name string) string { return name }, func(name string) []float64 { return all[name] })
	if got != "c" {
		t.Errorf("%s, want c", got)
	}
}

// A run that is asked for brings those that it needs, unless they are done.
func TestChosen(t *testing.T) {
	p := &proving{ground: grounds["text"], dir: t.TempDir()}
	done := filepath.Join(p.dir, "seed-0", textQRMModel, iteration(0))
	if err := errors.Join(os.MkdirAll(done, 0o755), os.WriteFile(filepath.Join(done, "manifest.json"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, j := range p.chosen([]string{"text-qrm-reinforce"}, []uint64{0, 1}) {
		got = append(got, j.name)
	}
	want := []string{textWarm, "seed-1/" + textQRMModel, "seed-0/text-qrm-reinforce", "seed-1/text-qrm-reinforce"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if jobs := p.chosen([]string{none}, []uint64{0}); len(jobs) > 0 {
		t.Errorf("of nothing: %v", jobs)
	}
}

// Needs come before what needs them, seeds do not mix, and names are unique.
func TestPlan(t *testing.T) {
	for name, g := range grounds {
		seen := map[string]bool{}
		for i, j := range g.plan(7) {
			shared := g.shared && i == 0
			if !strings.HasPrefix(j.name, "seed-7/") != shared || seen[j.name] || !shared && j.part != "warm" && !slices.Contains(g.parts, j.part) {
				t.Errorf("%s: job %+v", name, j)
			}
			for _, a := range j.after {
				if !seen[a] {
					t.Errorf("%s: %s comes before %s, which it needs", name, j.name, a)
				}
			}
			for _, arg := range j.args {
				if i := strings.Index(arg, "seed-"); i >= 0 && !strings.HasPrefix(arg[i:], "seed-7/") {
					t.Errorf("%s: %s reads %s", name, j.name, arg)
				}
			}
			seen[j.name] = true
		}
	}
}

// fakeProgram commits as many iterations as its first argument says, and fails when told to.
const fakeProgram = `#!/bin/sh
[ "$1" = fail ] && exit 1
if [ "$1" = print ]; then echo '{}'; exit 0; fi
echo "$2" >> order
i=0
while [ $i -lt $1 ]; do d=$2/iter-$(printf %05d $i); mkdir -p $d/policy $d/optimizer-policy; : > $d/manifest.json; i=$((i+1)); done
`

func TestScheduler(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "fake")
	if err := os.WriteFile(binary, []byte(fakeProgram), 0o755); err != nil {
		t.Skip(err)
	}
	p := &proving{dir: dir, binary: binary, parallel: 2, show: progress.Silent()}
	jobs := []job{
		{name: "s/c", args: []string{"1", "s/c"}, after: []string{"s/b"}, iterations: 1},
		{name: "s/a", args: []string{"4", "s/a"}, iterations: 4, thin: true},
		{name: "s/b", args: []string{"1", "s/b"}, after: []string{"s/a"}, iterations: 1},
		{name: "s/bad", args: []string{"fail"}, iterations: 1},
		{name: "s/orphan", args: []string{"1", "s/orphan"}, after: []string{"s/bad"}, iterations: 1},
		{name: "s/said", args: []string{"print"}, after: []string{"s/c"}},
	}
	err := p.all(context.Background(), jobs)
	if err == nil || !strings.Contains(err.Error(), "s/bad") || !strings.Contains(err.Error(), "s/orphan: needs s/bad") {
		t.Errorf("error %v, want s/bad and s/orphan", err)
	}
	order, _ := os.ReadFile(filepath.Join(dir, "order"))
	if string(order) != "s/a\ns/b\ns/c\n" {
		t.Errorf("order %q", order)
	}
	for path, want := range map[string]bool{
		"s/a/iter-00001/policy": false, "s/a/iter-00002/policy": true, "s/a/iter-00003/policy": true,
		"s/a/iter-00002/optimizer-policy": false, "s/a/iter-00003/optimizer-policy": true, "s/a/iter-00000/manifest.json": true,
		"s/said.json": true, "s/a.log": true,
	} {
		if _, err := os.Stat(filepath.Join(dir, path)); (err == nil) != want {
			t.Errorf("%s: %v, want there: %v", path, err, want)
		}
	}
	// Again: nothing that is finished runs a second time.
	_ = p.all(context.Background(), jobs)
	if again, _ := os.ReadFile(filepath.Join(dir, "order")); string(again) != string(order) {
		t.Errorf("finished jobs ran again: %q", again)
	}
}

func TestSchedulerStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &proving{dir: t.TempDir(), binary: "/bin/sleep", parallel: 1, show: progress.Silent()}
	var once sync.WaitGroup
	once.Go(cancel)
	err := p.all(ctx, []job{{name: "a", args: []string{"60"}, iterations: 1}, {name: "b", args: []string{"60"}, iterations: 1}})
	once.Wait()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// Every recipe of the plan is one, with the settings that the plan gives it.
func TestPlannedRecipes(t *testing.T) {
	var jobs []job
	for _, g := range grounds {
		jobs = append(jobs, g.plan(3)...)
	}
	for _, j := range jobs {
		if j.args[0] != "run" {
			continue
		}
		var sets []string
		for i := 2; i+1 < len(j.args); i += 2 {
			sets = append(sets, j.args[i+1])
		}
		r, err := recipes.Open(t.Context(), j.args[1], sets)
		if err == nil {
			_, err = method.New(r)
		}
		if err != nil {
			t.Errorf("%s: %v", j.name, err)
		}
	}
}

// TestPretrainedModelLearns holds the measured figures to what the pages promise of a pretrained model: on every seed GRPO and DistRL rise
// by 0.25 and more, on the wording that was never trained on too, and the audit stays quiet.
func TestPretrainedModelLearns(t *testing.T) {
	f, err := loadFigures(filepath.Join("..", "..", "..", "docs", "results", grounds["text"].figures))
	if err != nil {
		t.Fatal(err)
	}
	seeds := f.accepted()
	if len(seeds) < 5 {
		t.Fatalf("%d seeds have figures, want 5", len(seeds))
	}
	for _, method := range []string{"text-grpo", "text-distrl-0.1"} {
		before, after := f.of(seeds, method, "avg@4", 0), f.of(seeds, method, "avg@4", textEvery)
		worded, wordedAfter := f.of(seeds, method, "wording", 0), f.of(seeds, method, "wording", textEvery)
		gap := f.of(seeds, method, "audit_gap_max", 0)
		for i, seed := range seeds {
			if rise := after[i] - before[i]; !(rise >= 0.25) {
				t.Errorf("%s, seed %d: avg@4 rises by %.3f, from %.3f", method, seed, rise, before[i])
			}
			if !(wordedAfter[i] > worded[i]) {
				t.Errorf("%s, seed %d: on the other wording %.3f after %.3f", method, seed, wordedAfter[i], worded[i])
			}
			if !(gap[i] < 0.1) {
				t.Errorf("%s, seed %d: the audit disagrees with %.3f of what the verifier calls right", method, seed, gap[i])
			}
		}
	}
}

// Several calls on the same runs may begin at once: the model that they start from is there all the while.
func TestLinkTogether(t *testing.T) {
	p := &proving{model: filepath.Join(t.TempDir(), "model"), dir: t.TempDir()}
	if err := errors.Join(os.WriteFile(p.model, []byte("weights"), 0o600), p.link()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		defer close(done)
		for range 200 {
			done <- p.link()
		}
	}()
	for err := range done {
		raw, readErr := os.ReadFile(filepath.Join(p.dir, pretrained))
		if err := errors.Join(err, readErr); err != nil || string(raw) != "weights" {
			t.Fatalf("%q, %v", raw, err)
		}
	}
	if left, err := os.ReadDir(p.dir); err != nil || len(left) != 1 {
		t.Errorf("%d names, want the link alone (%v)", len(left), err)
	}
}
