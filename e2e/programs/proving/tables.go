package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/millrace/millrace/transforms/evaluate"
)

// tables makes every table of the page.
func tables(f *figures) map[string]string {
	return map[string]string{
		"warm": warmTable(f), "reward-f1": rewardSeeds(f, "step_f1_sum_diff"), "reward-corrupted": rewardSeeds(f,
			"corrupted_f1_sum_diff"), "reward-bon": rewardSeeds(f, "best_of_8"),
		"reward-more": rewardMore(f), "reward-pairs": rewardPairs(f),
		"rl": rlTable(f), "rl-pairs": rlPairs(f), "stability": stabilityTable(f), "stability-pairs": stabilityPairs(f),
		"students": studentsTable(f), "students-pairs": studentsPairs(f), "seft": seftTable(f), "seft-pairs": seftPairs(f),
		"cost": costTable(f),
	}
}

// markdown writes a table; the columns from numeric on are aligned to the right.
func markdown(head []string, numeric int, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	rule := make([]string, len(head))
	for i := range rule {
		rule[i] = "---"
		if i >= numeric {
			rule[i] = "--:"
		}
	}
	line(rule)
	for _, r := range rows {
		line(r)
	}
	return b.String()
}

func number(x float64, decimals int) string {
	if math.IsNaN(x) {
		return "–"
	}
	return strings.Replace(fmt.Sprintf("%.*f", decimals, x), "-", "−", 1)
}

func signed(x float64) string {
	if math.IsNaN(x) {
		return "–"
	}
	return strings.Replace(fmt.Sprintf("%+.3f", x), "-", "−", 1)
}

// meanText is mean ± sample standard deviation over seeds.
func meanText(xs []float64) string {
	s := spreadOf(xs)
	switch {
	case s.n == 0:
		return "–"
	case s.n == 1:
		return number(s.mean, 3)
	}
	return number(s.mean, 3) + " ± " + number(s.sd, 3)
}

func errText(xs []float64) string { return number(spreadOf(xs).stdErr(), 3) }

// row is a line of a table with a value for every seed.
type row struct {
	names  []string
	values []float64
}

// seedTable has a column for every seed, then mean ± standard deviation and the standard error of the mean. A row that was not
// run is left out.
func seedTable(f *figures, names []string, rows []row) string {
	head := append([]string{}, names...)
	for _, s := range f.accepted() {
		head = append(head, fmt.Sprint("seed ", s))
	}
	head = append(head, "mean ± sd", "std. error", "n")
	var out [][]string
	for _, r := range rows {
		if spreadOf(r.values).n == 0 {
			continue // not run
		}
		cells := append([]string{}, r.names...)
		for _, x := range r.values {
			cells = append(cells, number(x, 3))
		}
		out = append(out, append(cells, meanText(r.values), errText(r.values), fmt.Sprint(spreadOf(r.values).n)))
	}
	return markdown(head, len(names), out)
}

// contrast is one line of a table of paired differences: b less a.
type contrast struct {
	what    string
	measure string
	a, b    []float64
}

func pairTable(contrasts []contrast) string {
	var out [][]string
	for _, c := range contrasts {
		p := paired(c.a, c.b)
		d := p.comparison.Difference
		if d.N == 0 {
			continue
		}
		interval, reading := "–", "–"
		if i := p.comparison.Interval; i != nil {
			interval = signed(i[0]) + " to " + signed(i[1])
			reading = map[string]string{evaluate.BetterB: "higher", evaluate.BetterA: "lower",
				evaluate.Undecided: "not told apart"}[p.comparison.Verdict]
		}
		out = append(out, []string{c.what, c.measure, fmt.Sprintf("%d of %d", p.above, d.N), signed(d.Mean), interval, reading})
	}
	return markdown([]string{"difference", "of", "above 0 on", "mean", "95% interval", "the first is"}, 2, out)
}

func warmTable(f *figures) string {
	var out [][]string
	avg, err, pass, ok := f.of(f.seeds, "warm", "avg@8", 0), f.of(f.seeds, "warm", "avg@8_stderr", 0), f.of(f.seeds, "warm", "pass@8",
		0), f.of(f.seeds, "warm", "accepted", 0)
	for i, s := range f.seeds {
		out = append(out, []string{fmt.Sprint(s), number(avg[i], 3) + " ± " + number(err[i], 3), number(pass[i], 3),
			map[bool]string{true: "yes", false: "no"}[ok[i] == 1]})
	}
	return markdown([]string{"seed", "avg@8 ± standard error over prompts", "pass@8", "accepted"}, 1, out)
}

func rewardSeeds(f *figures, metric string) string {
	seeds := f.accepted()
	var rows []row
	for _, m := range rewardModels {
		rows = append(rows, row{[]string{m.title}, f.of(seeds, m.name, metric, 0)})
	}
	if metric == "best_of_8" {
		rows = append(rows, row{[]string{"mean accuracy of a response"}, f.of(seeds, rewardModels[0].name, "mean_accuracy", 0)},
			row{[]string{"the best possible (pass@8)"}, f.of(seeds, rewardModels[0].name, "pass@8", 0)})
	}
	return seedTable(f, []string{"reward model"}, rows)
}

func rewardMore(f *figures) string {
	seeds := f.accepted()
	metrics := []struct{ name, title string }{
		{"auc_last_tenth", "AUC, last tenth"}, {"auc", "AUC, all prefixes"}, {"ece", "ECE"}, {"brier", "Brier"}, {"truth_r",
			"r with the truth"}, {"truth_ece", "ECE against the truth"}}
	head := []string{"reward model"}
	for _, m := range metrics {
		head = append(head, m.title)
	}
	var out [][]string
	for _, m := range rewardModels {
		if spreadOf(f.of(seeds, m.name, "auc", 0)).n == 0 {
			continue
		}
		cells := []string{m.title}
		for _, x := range metrics {
			cells = append(cells, meanText(f.of(seeds, m.name, x.name, 0)))
		}
		out = append(out, cells)
	}
	return markdown(head, 1, out)
}

func rewardPairs(f *figures) string {
	seeds := f.accepted()
	var out []contrast
	for _, m := range []struct{ name, title string }{
		{"step_f1_sum_diff", "step F1"}, {"corrupted_f1_sum_diff", "step F1, corrupted"}, {"best_of_8", "Best-of-8"}} {
		of := func(name string) []float64 { return f.of(seeds, name, m.name, 0) }
		out = append(out,
			contrast{"IPVRM − Implicit PRM", m.title, of("implicit-prm"), of("ipvrm")},
			contrast{"Implicit PRM − DPO-RM", m.title, of("dpo-rm"), of("implicit-prm")},
			contrast{"IPVRM − DPO-RM", m.title, of("dpo-rm"), of("ipvrm")},
			contrast{"IPVRM, margin 0 − margin 5", m.title, of("ipvrm-m5"), of("ipvrm")},
			contrast{"IPVRM − Implicit PRM, 1,000 prompts", m.title, of("implicit-prm-1000"), of("ipvrm-1000")},
			contrast{"IPVRM, 1,000 prompts − 512", m.title, of("ipvrm"), of("ipvrm-1000")},
			contrast{"Implicit PRM, 1,000 prompts − 512", m.title, of("implicit-prm"), of("implicit-prm-1000")},
			contrast{"DPO-RM − value head", m.title, of("value-head"), of("dpo-rm")},
			contrast{"DPO-RM − Q-RM, LM logits", m.title, of("qrm-lm"), of("dpo-rm")},
			contrast{"DPO-RM − Q-RM, scalar head", m.title, of("qrm"), of("dpo-rm")})
	}
	for _, c := range []struct{ what, a, b string }{
		{"IPVRM − Implicit PRM", "implicit-prm", "ipvrm"}, {"IPVRM, margin 0 − margin 5", "ipvrm-m5", "ipvrm"},
	} {
		out = append(out, contrast{c.what, "ECE (less is better)", f.of(seeds, c.a, "ece", 0), f.of(seeds, c.b, "ece", 0)})
	}
	of := func(name string) []float64 { return f.of(seeds, name, "best_of_8", 0) }
	chance := f.of(seeds, rewardModels[0].name, "mean_accuracy", 0)
	for _, m := range rewardModels {
		out = append(out, contrast{m.title + " − mean accuracy", "Best-of-8", chance, of(m.name)})
	}
	return pairTable(out)
}

var rlMethods = []struct{ name, title string }{{"grpo", "GRPO"}, {"grpo-ipvrm", "GRPO with IPVRM advantages (alpha 0)"},
	{"distrl", "DistRL with IPVRM"}}

func rlTable(f *figures) string {
	seeds := f.accepted()
	rows := []row{{[]string{"warm start", "0"}, f.of(seeds, "warm", "avg@8", 0)}}
	for _, after := range []int{10, 20, 40} {
		for _, m := range rlMethods {
			rows = append(rows, row{[]string{m.title, fmt.Sprint(after)}, f.of(seeds, m.name, "avg@8", after)})
		}
	}
	rows = append(rows, row{[]string{"GRPO", "60"}, f.of(seeds, "grpo", "avg@8", 60)})
	return seedTable(f, []string{"avg@8", "iterations"}, rows)
}

func rlPairs(f *figures) string {
	seeds := f.accepted()
	var out []contrast
	for _, after := range []int{10, 20, 40} {
		of := func(name string) []float64 { return f.of(seeds, name, "avg@8", after) }
		at := fmt.Sprintf("avg@8 after %d", after)
		out = append(out,
			contrast{"DistRL − GRPO", at, of("grpo"), of("distrl")},
			contrast{"GRPO with IPVRM − GRPO", at, of("grpo"), of("grpo-ipvrm")},
			contrast{"DistRL − GRPO with IPVRM", at, of("grpo-ipvrm"), of("distrl")})
	}
	return pairTable(out)
}

func stabilityTable(f *figures) string {
	seeds := f.accepted()
	head := []string{"method", "rate", "epochs"}
	for _, s := range seeds {
		head = append(head, fmt.Sprint("seed ", s))
	}
	head = append(head, "mean ± sd", "KL", "entropy")
	var out [][]string
	for _, c := range stabilityCells() {
		xs := f.of(seeds, c.name(), "avg@8", stabilityIterations)
		if spreadOf(xs).n == 0 {
			continue
		}
		cells := []string{c.title, c.rate, fmt.Sprint(c.epochs)}
		for _, x := range xs {
			cells = append(cells, number(x, 3))
		}
		out = append(out, append(cells, meanText(xs), smallText(f.of(seeds, c.name(), "kl", stabilityIterations)),
			number(spreadOf(f.of(seeds, c.name(), "entropy", stabilityIterations)).mean, 3)))
	}
	return markdown(head, 1, out)
}

// smallText is the median of values that range over powers of ten, and their range.
func smallText(xs []float64) string {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, x := range xs {
		if !math.IsNaN(x) {
			lo, hi = min(lo, x), max(hi, x)
		}
	}
	if lo > hi {
		return "–"
	}
	return fmt.Sprintf("%.2g to %.2g", lo, hi)
}

func stabilityPairs(f *figures) string {
	seeds := f.accepted()
	var out []contrast
	for _, epochs := range []int{4, 1} {
		for _, rate := range []string{"3e-4", "1e-3"} {
			of := func(method string) []float64 {
				return f.of(seeds, cell{method: method, rate: rate, epochs: epochs}.name(), "avg@8", stabilityIterations)
			}
			at := fmt.Sprintf("avg@8, rate %s, epochs %d", rate, epochs)
			for _, m := range []struct{ name, title string }{{"ppo", "PPO"}, {"lco-kld", "LCO-KLD"}, {"lco-mse", "LCO-MSE"},
				{"lco-lch", "LCO-LCH"}} {
				out = append(out, contrast{m.title + " − GRPO clip", at, of("clip"), of(m.name)})
			}
		}
	}
	best := cell{method: "clip", rate: "1e-4", epochs: 4}.name()
	for _, m := range []struct{ name, title string }{{"lco-kld", "LCO-KLD"}, {"lco-mse", "LCO-MSE"}, {"lco-lch", "LCO-LCH"}} {
		out = append(out, contrast{m.title + ", 3e-4 − GRPO clip, 1e-4", "avg@8, epochs 4", f.of(seeds, best, "avg@8", stabilityIterations),
			f.of(seeds, cell{method: m.name, rate: "3e-4", epochs: 4}.name(), "avg@8", stabilityIterations)})
	}
	out = append(out, contrast{"LCO-MSE, anchor old − current", "avg@8, rate 3e-4, epochs 4",
		f.of(seeds, cell{method: "lco-mse-current", rate: "3e-4", epochs: 4}.name(), "avg@8", stabilityIterations),
		f.of(seeds, cell{method: "lco-mse", rate: "3e-4", epochs: 4}.name(), "avg@8", stabilityIterations)})
	return pairTable(out)
}

func studentsTable(f *figures) string {
	seeds := f.accepted()
	rows := []row{
		{[]string{"teacher's reference (warm start)"}, f.of(seeds, "warm", "avg@8", 0)},
		{[]string{"teacher (GRPO, 60 iterations)"}, f.of(seeds, "grpo", "avg@8", grpoIterations)},
		{[]string{"student before"}, f.of(seeds, "student", "avg@8", 1)},
	}
	for _, s := range students {
		rows = append(rows, row{[]string{s.title}, f.of(seeds, s.name, "avg@8", 1)})
	}
	return seedTable(f, []string{"avg@8"}, rows)
}

func studentsPairs(f *figures) string {
	seeds := f.accepted()
	of := func(name string) []float64 { return f.of(seeds, name, "avg@8", 1) }
	return pairTable([]contrast{
		{"SFT − student before", "avg@8", of("student"), of("student-sft")},
		{"DPO − student before", "avg@8", of("student"), of("student-dpo")},
		{"DCKD − SFT", "avg@8", of("student-sft"), of("student-dckd")},
		{"ADPA − SFT", "avg@8", of("student-sft"), of("student-adpa")},
		{"ADPA − DCKD", "avg@8", of("student-dckd"), of("student-adpa")},
		{"ADPA+ − ADPA", "avg@8", of("student-adpa"), of("student-adpa-plus")},
		{"ADPA+ − SFT", "avg@8", of("student-sft"), of("student-adpa-plus")},
		{"SFT − DPO", "avg@8", of("student-dpo"), of("student-sft")},
	})
}

// seftRound is the iteration after which a round of SEFT is done: two train the revisers.
func seftRound(round int) int { return 2 + round }

func seftTable(f *figures) string {
	seeds := f.accepted()
	rows := []row{{[]string{"policy before", "–"}, f.of(seeds, "seft", "avg@8", 0)}}
	for round := 1; round <= selfRounds; round++ {
		rows = append(rows, row{[]string{"SEFT", fmt.Sprint(round)}, f.of(seeds, "seft", "avg@8", seftRound(round))})
	}
	for round := 1; round <= selfRounds; round++ {
		rows = append(rows, row{[]string{selfTraining[0].title, fmt.Sprint(round)}, f.of(seeds, "self", "avg@8", round)})
	}
	for round := 1; round <= selfRounds; round++ {
		rows = append(rows, row{[]string{selfTraining[1].title, fmt.Sprint(round)},
			f.of(seeds, fmt.Sprint("self-greedy-round-", round), "avg@8", 0)})
	}
	rows = append(rows, row{[]string{"SFT on the pairs' chosen side", "–"}, f.of(seeds, "sft-chosen", "avg@8", 1)})
	return seedTable(f, []string{"avg@8", "round"}, rows)
}

func seftPairs(f *figures) string {
	seeds := f.accepted()
	start := f.of(seeds, "seft", "avg@8", 0)
	second := f.of(seeds, "seft", "avg@8", seftRound(2))
	self, greedy, chosen := f.of(seeds, "self", "avg@8", 2), f.of(seeds, "self-greedy-round-2", "avg@8", 0), f.of(seeds, "sft-chosen",
		"avg@8", 1)
	return pairTable([]contrast{
		{"SEFT, round 1 − policy before", "avg@8", start, f.of(seeds, "seft", "avg@8", seftRound(1))},
		{"SEFT, round 2 − policy before", "avg@8", start, second},
		{"SEFT, round 2 − round 1", "avg@8", f.of(seeds, "seft", "avg@8", seftRound(1)), second},
		{"self-training, sampled, round 2 − policy before", "avg@8", start, self},
		{"self-training, greedy, round 2 − policy before", "avg@8", start, greedy},
		{"SEFT − self-training, sampled, round 2", "avg@8", self, second},
		{"SEFT − self-training, greedy, round 2", "avg@8", greedy, second},
		{"SFT on the chosen side − SEFT, round 2", "avg@8", second, chosen},
	})
}

func costTable(f *figures) string {
	seeds := f.accepted()
	byPart := map[string]float64{}
	runs := map[string]int{}
	for _, s := range seeds {
		for _, j := range plan(s) {
			name := strings.SplitN(j.name, "/", 2)[1]
			if x := f.of([]uint64{s}, name, "cpu_seconds", 0)[0]; !math.IsNaN(x) {
				byPart[j.part] += x
				runs[j.part]++
			}
		}
	}
	titles := map[string]string{"warm": "warm starts", "rl": "DistRL and GRPO", "reward": "reward models", "stability": "stability",
		"students": "students", "seft": "SEFT"}
	var out [][]string
	for _, part := range parts {
		if runs[part] > 0 {
			out = append(out, []string{titles[part], fmt.Sprint(runs[part]), number(byPart[part]/float64(runs[part]), 0),
				number(byPart[part]/60, 1)})
		}
	}
	return markdown([]string{"part", "runs measured", "core-seconds a run", "core-minutes together"}, 1, out)
}
