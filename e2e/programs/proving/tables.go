package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/millrace/millrace/transforms/evaluate"
)

// tables makes every table of the page.
func tables(f *figures) map[string]string {
	return map[string]string{
		"warm": warmTable(f), "reward-f1": rewardSeeds(f, stepF1), "reward-corrupted": rewardSeeds(f, corruptedF1),
		"reward-bon": rewardSeeds(f, bestOf8), "reward-certainty": rewardCertainty(f, rewardModels, []string{"corrupted"}),
		"reward-beta": rewardBeta(f, shortBetas),
		"reward-long": longTable(f), "reward-long-pairs": pairTable(betaPairs(f, longBetas)),
		"reward-more": rewardMore(f), "reward-pairs": rewardPairs(f), "rl": rlTable(f), "rl-pairs": rlPairs(f), "qrm": qrmTable(f),
		"qrm-pairs": qrmPairs(f), "stability": stabilityTable(f), "stability-pairs": stabilityPairs(f),
		"students": studentsTable(f), "students-pairs": studentsPairs(f), "seft": seftTable(f), "seft-pairs": seftPairs(f),
		"cost": costTable(f), "claims": claimTable(claims(f)),
	}
}

// markdown writes a table; the columns from numeric on are aligned to the right. One without rows is left out.
func markdown(head []string, numeric int, rows [][]string) string {
	if len(rows) == 0 {
		return ""
	}
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
			map[bool]string{true: "yes", false: "no"}[ok[i] == 1], fmt.Sprintf("`%.16s`", cmp.Or(f.starts[s], "–"))})
	}
	return markdown([]string{"seed", "avg@8 ± standard error over prompts", "pass@8", "accepted", "SHA-256 of its weights, begins"}, 1, out)
}

// measure is a figure of reward models; some go by the rule of the model.
type measure func(rewardModel) string

func stepF1(m rewardModel) string      { return "step_f1_" + m.rule }
func corruptedF1(m rewardModel) string { return "corrupted_f1_" + m.rule }
func bestOf8(rewardModel) string       { return "best_of_8" }
func ece(rewardModel) string           { return "ece" }

// rewardNamed finds a row by its name.
func rewardNamed(name string) rewardModel {
	for _, m := range slices.Concat(allRewardModels(), policyScorers) {
		if m.name == name {
			return m
		}
	}
	panic("no reward model " + name)
}

// ofReward lists a figure of a reward model.
func (f *figures) ofReward(name string, x measure) []float64 {
	return f.of(f.accepted(), name, x(rewardNamed(name)), 0)
}

// chances are what Best-of-N is held to, measured with every reward model.
var chances = []struct{ metric, title string }{{"majority_vote", "majority vote"}, {"random", "random, of the distinct responses"},
	{"mean_accuracy", "mean accuracy of a response"}, {"pass@8", "the best possible (pass@8)"}}

func rewardSeeds(f *figures, x measure) string {
	seeds := f.accepted()
	var rows []row
	for _, m := range slices.Concat(rewardModels, policyScorers) {
		rows = append(rows, row{[]string{m.title}, f.of(seeds, m.name, x(m), 0)})
	}
	if first := rewardModels[0]; x(first) == bestOf8(first) {
		for _, c := range chances {
			rows = append(rows, row{[]string{c.title}, f.of(seeds, first.name, c.metric, 0)})
		}
	}
	return seedTable(f, []string{"reward model"}, rows)
}

// leastErrors are needed for a share of them to be shown.
const leastErrors = 10

// rewardCertainty parts the errors that are found by whether the policy was unsure of them.
func rewardCertainty(f *figures, models []rewardModel, corrupt []string) string {
	seeds := f.accepted()
	sets := append([]string{heldOut}, corrupt...)
	head := []string{"found of the first errors", "rule"}
	for _, set := range sets {
		head = append(head, strings.Replace(set, heldOut, "own", 1)+", unsure", strings.Replace(set, heldOut, "own", 1)+", confident")
	}
	var out [][]string
	for _, m := range slices.Concat(models, policyScorers) {
		cells, known := []string{m.title, m.rule}, false
		for _, set := range sets {
			for _, kind := range []string{"unsure", "confident"} {
				xs := f.of(seeds, m.name, set+"_"+kind+"_"+m.rule, 0)
				for i, n := range f.of(seeds, m.name, set+"_"+kind+"_n", 0) {
					if n < leastErrors {
						xs[i] = math.NaN()
					}
				}
				known = known || spreadOf(xs).n > 0
				cells = append(cells, meanText(xs))
			}
		}
		if known {
			out = append(out, cells)
		}
	}
	return markdown(head, 2, out)
}

// rewardBeta is the grid of betas.
func rewardBeta(f *figures, g betaGrid) string {
	var out [][]string
	for _, m := range g.models() {
		if spreadOf(f.ofReward(m.name, stepF1)).n == 0 {
			continue
		}
		cells := []string{m.title}
		for _, x := range []measure{stepF1, bestOf8, ece} {
			cells = append(cells, meanText(f.ofReward(m.name, x)))
		}
		out = append(out, cells)
	}
	return markdown([]string{"reward model, beta a token", "step F1", "Best-of-8", "ECE"}, 1, out)
}

// bestBeta is the model of a method with the largest mean over the seeds.
func bestBeta(f *figures, g betaGrid, method string, x measure) rewardModel {
	return bestOf(g.betas, func(hundredths int) rewardModel { return rewardNamed(g.model(method, hundredths)) },
		func(m rewardModel) []float64 { return f.ofReward(m.name, x) })
}

// bestOf takes the setting with the largest mean; the choice is made on the seeds that it is compared on, for both sides alike. A
// setting that was measured on fewer seeds than another does not stand beside it.
func bestOf[S, T any](settings []S, of func(S) T, values func(T) []float64) T {
	best, top, seeds := of(settings[0]), math.Inf(-1), 0
	for _, s := range settings {
		if x := spreadOf(values(of(s))); x.n > seeds || x.n == seeds && x.mean > top {
			best, top, seeds = of(s), x.mean, x.n
		}
	}
	return best
}

// betaPairs holds IPVRM to Implicit PRM, each at its best beta.
func betaPairs(f *figures, g betaGrid) []contrast {
	var out []contrast
	for _, x := range []struct {
		title string
		of    measure
	}{{"step F1", stepF1}, {"Best-of-8", bestOf8}} {
		prm := bestBeta(f, g, "implicit-prm", x.of)
		for _, method := range []string{"ipvrm", "ipvrm-late"} {
			best := bestBeta(f, g, method, x.of)
			out = append(out, contrast{best.title + " − " + prm.title + ", each at its best", x.title, f.ofReward(prm.name, x.of),
				f.ofReward(best.name, x.of)})
		}
	}
	return out
}

// longTable is the grid of betas on longer responses, and what they are held to.
func longTable(f *figures) string {
	seeds := f.accepted()
	var rows []row
	for _, x := range []struct {
		title string
		of    measure
	}{{"step F1", stepF1}, {"Best-of-8", bestOf8}, {"ECE", ece}} {
		for _, m := range longBetas.models() {
			rows = append(rows, row{[]string{m.title, x.title}, f.ofReward(m.name, x.of)})
		}
	}
	first := longBetas.models()[0].name
	rows = append(rows, row{[]string{"majority vote", "Best-of-8"}, f.of(seeds, first, "majority_vote", 0)},
		row{[]string{"random, of the distinct responses", "Best-of-8"}, f.of(seeds, first, "random", 0)},
		row{[]string{"mean accuracy of a response", ""}, f.of(seeds, first, "mean_accuracy", 0)})
	return seedTable(f, []string{"reward model, beta a token", "figure"}, rows)
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

// rewardContrasts are looked at in every figure of reward models: b less a.
var rewardContrasts = []struct{ what, a, b string }{
	{"IPVRM − Implicit PRM", "implicit-prm", "ipvrm"},
	{"Implicit PRM − DPO-RM", "dpo-rm", "implicit-prm"},
	{"IPVRM − DPO-RM", "dpo-rm", "ipvrm"},
	{"IPVRM, margin 0 − margin 5", "ipvrm-m5", "ipvrm"},
	{"IPVRM − Implicit PRM, 1,000 prompts", "implicit-prm-1000", "ipvrm-1000"},
	{"IPVRM, 1,000 prompts − 512", "ipvrm", "ipvrm-1000"},
	{"Implicit PRM, 1,000 prompts − 512", "implicit-prm", "implicit-prm-1000"},
	{"Q-RM, LM logits, with cross-entropy − without", "qrm-lm-plain", "qrm-lm"},
	{"Q-RM, LM logits, with cross-entropy − IPVRM", "ipvrm", "qrm-lm"},
	{"Q-RM, LM logits, with cross-entropy − DPO-RM", "dpo-rm", "qrm-lm"},
	{"Q-RM, scalar head, 1,000 steps − 200", "qrm", "qrm-2000"},
	{"DPO-RM − value head", "value-head", "dpo-rm"},
}

func rewardPairs(f *figures) string {
	var out []contrast
	hold := func(what, title string, x measure, a, b string) {
		out = append(out, contrast{what, title, f.ofReward(a, x), f.ofReward(b, x)})
	}
	for _, m := range []struct {
		title string
		of    measure
	}{{"step F1", stepF1}, {"step F1, corrupted", corruptedF1}, {"Best-of-8", bestOf8}} {
		for _, c := range rewardContrasts {
			hold(c.what, m.title, m.of, c.a, c.b)
		}
		for _, name := range []string{"ipvrm", "implicit-prm", "dpo-rm", "qrm-lm"} {
			hold(rewardNamed(name).title+" − policy log-prob, min", m.title, m.of, "policy-min", name)
		}
	}
	out = append(out, betaPairs(f, shortBetas)...)
	hold("IPVRM − Implicit PRM", "ECE (less is better)", ece, "implicit-prm", "ipvrm")
	hold("IPVRM, margin 0 − margin 5", "ECE (less is better)", ece, "ipvrm-m5", "ipvrm")
	chance := f.of(f.accepted(), rewardModels[0].name, "random", 0)
	for _, m := range slices.Concat(rewardModels, policyScorers) {
		out = append(out, contrast{m.title + " − random", "Best-of-8", chance, f.ofReward(m.name, bestOf8)})
	}
	return pairTable(out)
}

func rlTable(f *figures) string {
	seeds := f.accepted()
	rows := []row{{[]string{"warm start", "0"}, f.of(seeds, "warm", "avg@8", 0)}}
	for _, after := range []int{10, 20, 40} {
		for _, m := range rlMethods {
			rows = append(rows, row{[]string{m.title, fmt.Sprint(after)}, f.of(seeds, m.name, "avg@8", after)})
		}
	}
	rows = append(rows, row{[]string{"GRPO", "60"}, f.of(seeds, "grpo", "avg@8", grpoIterations)})
	return seedTable(f, []string{"avg@8", "iterations"}, rows)
}

func rlPairs(f *figures) string {
	seeds := f.accepted()
	var out []contrast
	for _, updates := range []struct{ suffix, title string }{{"", ""}, {"-mb4", ", 4 minibatches"}} {
		for _, after := range []int{10, 20, 40} {
			of := func(name string) []float64 { return f.of(seeds, name+updates.suffix, "avg@8", after) }
			at := fmt.Sprintf("avg@8 after %d%s", after, updates.title)
			out = append(out,
				contrast{"DistRL − GRPO", at, of("grpo"), of("distrl")},
				contrast{"GRPO with IPVRM − GRPO", at, of("grpo"), of("grpo-ipvrm")},
				contrast{"DistRL − GRPO with IPVRM", at, of("grpo-ipvrm"), of("distrl")})
		}
	}
	return pairTable(out)
}

func qrmTable(f *figures) string {
	seeds := f.accepted()
	rows := []row{{[]string{"warm start", "0"}, f.of(seeds, "warm", "avg@8", 0)}}
	for _, m := range qrmMethods {
		rows = append(rows, row{[]string{m.title, fmt.Sprint(m.iterations)}, f.of(seeds, m.name, "avg@8", m.iterations)})
	}
	return seedTable(f, []string{"avg@8", "iterations"}, rows)
}

func qrmPairs(f *figures) string {
	of := func(name string) []float64 { return f.of(f.accepted(), name, "avg@8", distrlIterations) }
	at := fmt.Sprintf("avg@8 after %d", distrlIterations)
	return pairTable([]contrast{
		{"REINFORCE on Q-RM − on outcomes", at, of("reinforce"), of("qrm-reinforce")},
		{"PPO on Q-RM − on outcomes", at, of("ppo"), of("qrm-ppo")},
	})
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

// lcoLosses are compared with the clip.
var lcoLosses = []struct{ name, title string }{{"lco-kld", "LCO-KLD"}, {"lco-mse", "LCO-MSE"}, {"lco-lch", "LCO-LCH"}}

// ofCell lists what a method of the grid ends with.
func (f *figures) ofCell(method, rate string, epochs int) []float64 {
	return f.of(f.accepted(), cell{method: method, rate: rate, epochs: epochs}.name(), "avg@8", stabilityIterations)
}

// bestRate is the rate at which a method of the grid ends highest.
func bestRate(f *figures, method string, epochs int) string {
	return bestOf(rates, func(rate string) string { return rate }, func(rate string) []float64 { return f.ofCell(method, rate, epochs) })
}

func stabilityPairs(f *figures) string {
	of := f.ofCell
	var out []contrast
	for _, epochs := range []int{4, 1} {
		clip := bestRate(f, "clip", epochs)
		for _, m := range slices.Concat(lcoLosses, []struct{ name, title string }{{"ppo", "PPO"}}) {
			rate := bestRate(f, m.name, epochs)
			out = append(out, contrast{fmt.Sprintf("%s, %s − GRPO clip, %s", m.title, rate, clip),
				fmt.Sprintf("avg@8, epochs %d, each at its best rate", epochs), of("clip", clip, epochs), of(m.name, rate, epochs)})
		}
		for _, rate := range []string{"3e-4", "1e-3"} {
			for _, m := range lcoLosses {
				out = append(out, contrast{m.title + " − GRPO clip", fmt.Sprintf("avg@8, rate %s, epochs %d", rate, epochs), of("clip", rate, epochs),
					of(m.name, rate, epochs)})
			}
		}
	}
	out = append(out, contrast{"LCO-MSE, anchor old − current", "avg@8, rate 3e-4, epochs 4", of("lco-mse-current", "3e-4", 4),
		of("lco-mse", "3e-4", 4)})
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
		{"ADPA+ − SFT, 400 steps each", "avg@8", of("student-sft-400"), of("student-adpa-plus")},
		{"SFT − DPO", "avg@8", of("student-dpo"), of("student-sft")},
	})
}

// seftRound is the iteration after which a round of SEFT is done: two train the revisers.
func seftRound(round int) int { return 2 + round }

func seftTable(f *figures) string {
	seeds := f.accepted()
	rows := []row{{[]string{"policy before", "–"}, f.of(seeds, "seft", "avg@8", 0)}}
	for _, m := range seftRuns {
		for round := 1; round <= selfRounds; round++ {
			rows = append(rows, row{[]string{m.title, fmt.Sprint(round)}, f.of(seeds, m.name, "avg@8", seftRound(round))})
		}
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
	out := []contrast{
		{"SEFT, round 1 − policy before", "avg@8", start, f.of(seeds, "seft", "avg@8", seftRound(1))},
		{"SEFT, round 2 − policy before", "avg@8", start, second},
		{"SEFT, round 2 − round 1", "avg@8", f.of(seeds, "seft", "avg@8", seftRound(1)), second},
		{"self-training, sampled, round 2 − policy before", "avg@8", start, self},
		{"self-training, greedy, round 2 − policy before", "avg@8", start, greedy},
		{"SEFT − self-training, sampled, round 2", "avg@8", self, second},
		{"SEFT − self-training, greedy, round 2", "avg@8", greedy, second},
		{"SFT on the chosen side − SEFT, round 2", "avg@8", second, chosen},
	}
	for _, m := range seftRuns[1:] {
		of := f.of(seeds, m.name, "avg@8", seftRound(2))
		out = append(out, contrast{m.title + " − SEFT, round 2", "avg@8", second, of},
			contrast{m.title + " − self-training, greedy, round 2", "avg@8", greedy, of})
	}
	return pairTable(out)
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
	titles := map[string]string{"warm": "warm starts", "rl": "policies", "reward": "reward models", "long": "longer responses",
		"stability": "stability", "students": "students", "seft": "SEFT"}
	var out [][]string
	for _, part := range parts {
		if runs[part] > 0 {
			out = append(out, []string{titles[part], fmt.Sprint(runs[part]), number(byPart[part]/float64(runs[part]), 0),
				number(byPart[part]/60, 1)})
		}
	}
	return markdown([]string{"part", "runs measured", "core-seconds a run", "core-minutes together"}, 1, out)
}
