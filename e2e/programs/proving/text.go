package main

import (
	"context"
	"fmt"
	"math"
	"path"
	"path/filepath"
)

// Text chains: a pretrained model, warmed up once on worked solutions, from which every method starts.

var textParts = []string{"rl", "reward"}

// textEvery is how many iterations lie between two evaluations; methods are set against one another after as many.
const textEvery = 10

// textMethod is a row of the table.
type textMethod struct {
	name, title, recipe string
	iterations          int // a multiple of textEvery
	sets                []string
}

var textMethods = []textMethod{
	{"text-grpo", "GRPO", "text-grpo", textEvery, nil},
	{"text-distrl", "DistRL with IPVRM", "text-distrl", textEvery, nil},
	{"text-grpo-ipvrm", "GRPO with IPVRM advantages (alpha 0)", "text-distrl", textEvery, []string{"update.losses=[{name: ppo}]"}},
	{"text-distrl-0.1", "DistRL with IPVRM, alpha 0.1", "text-distrl", textEvery,
		[]string{"update.losses=[{name: ppo}, {name: distrl, weight: 0.1}]"}},
	{"text-grpo-3e-4", "GRPO, rate 3e-4", "text-grpo", textEvery, []string{"update.optimizer.lr=3e-4"}},
}

// textPlan lists what is run of one seed.
func textPlan(seed uint64) []job {
	const warm = "warm"
	jobs := []job{{name: warm, part: "warm", iterations: 2, args: []string{"run", "text-warm-start", "--set", "run=" + warm, "--set",
		"policy.path=" + pretrained}}}
	start := policyOf(warm, 2)
	for _, m := range textMethods {
		at := path.Join(fmt.Sprintf("seed-%d", seed), m.name)
		j := job{name: at, part: "rl", after: []string{warm}, iterations: m.iterations, thin: true}
		sets := []string{"policy.path=" + start, fmt.Sprint("iterations=", m.iterations), fmt.Sprint("evaluate.every=", textEvery)}
		if m.recipe == "text-distrl" {
			sets = append(sets, "reward.path="+start)
		}
		j.args = runOf(m.recipe, at, seed, append(sets, m.sets...)...)
		jobs = append(jobs, j)
	}
	return append(jobs, textRewardPlan(seed, warm, start)...)
}

// The further sets of the recipes, and how their rows are named.
var textSets = []struct{ name, title string }{{"wording", "a wording that was never trained on"}, {"longer", "one step more"}}

// collectText reads the curves of a run, and what would tell of a gamed reward.
func collectText(_ context.Context, p *proving, f *figures, seed uint64, j job) error {
	name := path.Base(j.name)
	if j.iterations == 0 {
		return p.collectEval(f, seed, j)
	}
	measured, err := measurements(filepath.Join(p.dir, j.name), j.iterations)
	if err != nil {
		return err
	}
	if j.part == "reward" {
		return p.collectReward(f, seed, name, *measured[len(measured)-1].Evaluation)
	}
	gap, echo := 0.0, 0.0
	for _, m := range measured {
		gap, echo = max(gap, m.Metrics["audit_gap"]), max(echo, m.Metrics["echo_share"])
		if x, ok := m.Metrics["entropy"]; ok && m.Iterations%textEvery == 0 {
			f.add(seed, name, "entropy", m.Iterations, x)
		}
		if m.Evaluation == nil {
			continue
		}
		f.add(seed, name, p.ground.avg, m.Iterations, m.Evaluation.Avg.Mean)
		f.add(seed, name, p.ground.avg+"_stderr", m.Iterations, m.Evaluation.Avg.StdErr)
		for _, set := range textSets {
			if x, ok := m.Metrics["set/"+set.name+"/"+p.ground.avg]; ok {
				f.add(seed, name, set.name, m.Iterations, x)
			}
		}
	}
	f.add(seed, name, "audit_gap_max", 0, gap)
	f.add(seed, name, "echo_share_max", 0, echo)
	return nil
}

func noCharts(*figures) map[string]plate { return nil }

func textTables(f *figures) map[string]string {
	return map[string]string{"text-rl": textTable(f), "text-pairs": textPairs(f), "text-sets": textSetsTable(f), "text-cost": textCost(f),
		"text-reward": textRewardTable(f), "text-certainty": textCertainty(f), "text-reward-pairs": textRewardPairs(f)}
}

// textStage is a method measured after some iterations.
type textStage struct {
	textMethod
	after int
}

// textStages lists where methods are measured, in the order of the rows; the common start once.
func textStages() []textStage {
	var out []textStage
	last := 0
	for _, m := range textMethods {
		last = max(last, m.iterations)
	}
	for after := 0; after <= last; after += textEvery {
		for i, m := range textMethods {
			switch {
			case after == 0 && i == 0:
				m.title = "warm start"
			case after == 0 || after > m.iterations:
				continue
			}
			out = append(out, textStage{m, after})
		}
	}
	return out
}

func textTable(f *figures) string {
	seeds := f.accepted()
	var rows []row
	for _, m := range textStages() {
		rows = append(rows, row{[]string{m.title, fmt.Sprint(m.after)}, f.of(seeds, m.name, "avg@4", m.after)})
	}
	return seedTable(f, []string{"avg@4", "iterations"}, rows)
}

func textPairs(f *figures) string {
	seeds := f.accepted()
	of := func(name string, after int) []float64 { return f.of(seeds, name, "avg@4", after) }
	var out []contrast
	for _, m := range textStages()[1:] {
		out = append(out, contrast{m.title + " − warm start", fmt.Sprintf("avg@4 after %d", m.after), of(m.name, 0), of(m.name, m.after)})
	}
	at := fmt.Sprintf("avg@4 after %d", textEvery)
	grpo, distrl, alone := of("text-grpo", textEvery), of("text-distrl", textEvery), of("text-grpo-ipvrm", textEvery)
	out = append(out, contrast{"DistRL − GRPO", at, grpo, distrl}, contrast{"GRPO with IPVRM − GRPO", at, grpo, alone},
		contrast{"DistRL − GRPO with IPVRM", at, alone, distrl},
		contrast{"DistRL, alpha 0.1 − GRPO", at, grpo, of("text-distrl-0.1", textEvery)},
		contrast{"DistRL, alpha 0.1 − GRPO with IPVRM", at, alone, of("text-distrl-0.1", textEvery)})
	for _, set := range textSets {
		for _, m := range textStages()[1:] {
			out = append(out, contrast{m.title + " − warm start", fmt.Sprintf("%s, after %d", set.title, m.after), f.of(seeds, m.name,
				set.name, 0), f.of(seeds, m.name, set.name, m.after)})
		}
	}
	return pairTable(out)
}

func textSetsTable(f *figures) string {
	seeds := f.accepted()
	var rows []row
	for _, set := range textSets {
		for _, m := range textStages() {
			rows = append(rows, row{[]string{m.title, fmt.Sprint(m.after), set.title, "avg@4"}, f.of(seeds, m.name, set.name, m.after)})
		}
	}
	for _, m := range textStages()[1:] {
		rows = append(rows, row{[]string{m.title, fmt.Sprint(m.after), "training", "entropy"}, f.of(seeds, m.name, "entropy", m.after)})
	}
	for _, m := range textMethods {
		rows = append(rows, row{[]string{m.title, fmt.Sprint(m.iterations), "training", "largest gap to the audit"}, f.of(seeds, m.name,
			"audit_gap_max", 0)})
	}
	return seedTable(f, []string{"policy", "iterations", "on", "figure"}, rows)
}

func textCost(f *figures) string {
	seeds := f.accepted()
	var rows []row
	for _, m := range textMethods {
		minutes, ended := f.of(seeds, m.name, "cpu_seconds", 0), f.of(seeds, m.name, "avg@4", m.iterations)
		for i := range minutes {
			minutes[i] /= 60
			if math.IsNaN(ended[i]) {
				minutes[i] = ended[i] // of a part of a run
			}
		}
		rows = append(rows, row{[]string{m.title, fmt.Sprint(m.iterations)}, minutes})
	}
	return seedTable(f, []string{"core-minutes of a run", "iterations"}, rows)
}
