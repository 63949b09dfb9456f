package main

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/millrace/millrace/transforms/evaluate"
)

// GSM8K: a pretrained model, trained once on worked solutions, from which reward models learn on solutions of other models that people's
// answers have judged. A seed is a split by problem, and the seed of what is drawn.

var gsm8kParts = []string{"reward"}

// Files below -data, by the names that the recipes have.
const (
	gsm8kSteps    = dataDir + "/processbench/gsm8k.json" // solutions with the first wrong step, of ProcessBench
	gsm8kItems    = 40                                   // of these, drawn by the seed
	gsm8kStart    = 12                                   // iterations of gsm8k-sft
	gsm8kScorers  = "gsm8k-scorers"
	gsm8kStepsJob = "gsm8k-steps"
)

// gsm8kRewards are trained on the same solutions for as many passes, each at its paper's beta.
var gsm8kRewards = []rewardModel{
	{name: "gsm8k-ipvrm", title: "IPVRM", recipe: "gsm8k-solutions-refresh", score: "mean_value", rule: "sum_diff"},
	{name: "gsm8k-implicit-prm", title: "Implicit PRM", recipe: "gsm8k-solutions-refresh", score: "value", rule: "sum_diff",
		sets: []string{"reward.value={kind: implicit_prm, beta: 0.05, reference: frozen}",
			"update.losses=[{name: implicit_prm, beta: 0.05, reference: frozen}]"}},
	{name: "gsm8k-dpo-rm", title: "DPO-RM", recipe: "gsm8k-solutions-refresh", score: "value", rule: "sum_diff",
		sets: []string{"reward.value={kind: dpo_rm, beta: 0.1, reference: frozen}",
			"update.losses=[{name: dpo_rm, beta: 0.1, reference: frozen}]", "pairs={strategy: all, limit: 2, reference: reference_logp}"}},
	{name: "gsm8k-qrm-lm", title: "Q-RM, LM logits, with cross-entropy", recipe: "gsm8k-solutions-refresh", score: "mean_value", rule: "min",
		sets: []string{"reward.value={kind: q_rm_lm}", "update.losses=[{name: qrm_lm}, {name: sft, weight: 1}]",
			"pairs={strategy: all, limit: 2}"}},
}

// gsm8kPlan lists what is run of one split.
func gsm8kPlan(seed uint64) []job {
	const warm = "sft"
	jobs := []job{{name: warm, part: "warm", iterations: gsm8kStart, args: []string{"run", "gsm8k-sft", "--set", "run=" + warm, "--set",
		"policy.path=" + pretrained}, thin: true}}
	start := policyOf(warm, gsm8kStart)
	dir := fmt.Sprintf("seed-%d", seed)
	split := "prompts.file.split_seed=" + strconv.FormatUint(seed, 10)
	steps := job{name: path.Join(dir, gsm8kStepsJob), part: "reward", args: []string{"eval"}}
	for _, m := range gsm8kRewards {
		at := path.Join(dir, m.name)
		jobs = append(jobs, job{name: at, part: "reward", after: []string{warm}, iterations: 1,
			args: runOf(m.recipe, at, seed, append([]string{"policy.path=" + start, split}, m.sets...)...)})
		steps.after = append(steps.after, at)
		steps.args = append(steps.args, "--reward", at)
	}
	steps.args = append(steps.args, "--on", gsm8kSteps, "--items", strconv.Itoa(gsm8kItems), "--json")
	first := path.Join(dir, gsm8kRewards[0].name)
	// Scorers without a reward model are measured beside any one.
	scorers := job{name: path.Join(dir, gsm8kScorers), part: "reward", after: []string{first},
		args: []string{"eval", "--reward", first, "--on", heldOut, "--json"}}
	jobs = append(jobs, scorers, steps)
	return jobs
}

// collectGSM8K reads what reward models say of held-out solutions and of steps.
func collectGSM8K(_ context.Context, p *proving, f *figures, seed uint64, j job) error {
	name := path.Base(j.name)
	if j.iterations == 0 {
		return p.collectScorers(f, seed, j)
	}
	measured, err := measurements(filepath.Join(p.dir, j.name), j.iterations)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(gsm8kRewards, func(m rewardModel) bool { return m.name == name })
	addOrder(f, seed, gsm8kRewards[i], *measured[len(measured)-1].Evaluation)
	return nil
}

// addOrder adds how a scorer orders given solutions, beside what it picks of them.
func addOrder(f *figures, seed uint64, m rewardModel, e evaluate.Report) {
	f.addRanking(seed, m, e)
	if e.Final != nil {
		f.add(seed, m.name, "auc_within", 0, e.Final.Within.Mean)
		if x := e.Final.AUC.Value; x != nil {
			f.add(seed, m.name, "auc_final", 0, *x)
		}
	}
}

// collectScorers reads what `eval --reward` prints, of given solutions or of steps.
func (p *proving) collectScorers(f *figures, seed uint64, j job) error {
	e, err := p.said(j)
	if err != nil {
		return err
	}
	for _, r := range e.Rewards {
		m, own := r.scorer()
		switch {
		case path.Base(j.name) == gsm8kStepsJob:
			for _, s := range r.Steps {
				f.add(seed, m.name, "steps_f1_"+s.Rule, 0, s.HeldOut.F1)
			}
			if r.Final != nil && r.Final.AUC.Value != nil {
				f.add(seed, m.name, "steps_auc", 0, *r.Final.AUC.Value)
			}
		case own: // the models have told by themselves
			addOrder(f, seed, m, r.Report)
		}
	}
	return nil
}

// gsm8kFigures are those of a scorer of whole solutions.
var gsm8kFigures = []struct{ title, metric string }{
	{"Best-of-4", "best_of_4"}, {"AUC within problems", "auc_within"}, {"AUC", "auc_final"}, {"ECE", "ece"}, {"Brier", "brier"},
}

// calibrated reports whether a scorer's numbers are probabilities of a right outcome.
func calibrated(m rewardModel) bool {
	return !slices.ContainsFunc(policyScorers, func(s rewardModel) bool { return s.name == m.name })
}

func gsm8kTables(f *figures) map[string]string {
	return map[string]string{"gsm8k-reward": gsm8kRewardTable(f), "gsm8k-reward-pairs": gsm8kPairs(f), "gsm8k-steps": gsm8kStepTable(f)}
}

func gsm8kRewardTable(f *figures) string {
	seeds := f.accepted()
	var rows []row
	for _, x := range gsm8kFigures {
		for _, m := range slices.Concat(gsm8kRewards, policyScorers) {
			if calibrated(m) || x.metric != "ece" && x.metric != "brier" {
				rows = append(rows, row{[]string{x.title, m.title}, f.of(seeds, m.name, x.metric, 0)})
			}
		}
		if x.metric == "best_of_4" {
			for _, c := range chances[:3] {
				rows = append(rows, row{[]string{x.title, c.title}, f.of(seeds, gsm8kRewards[0].name, c.metric, 0)})
			}
			rows = append(rows, row{[]string{x.title, "the best possible (pass@4)"}, f.of(seeds, gsm8kRewards[0].name, "pass@4", 0)})
		}
	}
	return seedTable(f, []string{"figure", "scorer"}, rows)
}

func gsm8kPairs(f *figures) string {
	seeds := f.accepted()
	var out []contrast
	for _, x := range gsm8kFigures[:2] {
		of := func(name string) []float64 { return f.of(seeds, name, x.metric, 0) }
		for _, m := range gsm8kRewards {
			if x.metric == "best_of_4" {
				out = append(out, contrast{m.title + " − random", x.title, f.of(seeds, m.name, "random", 0), of(m.name)})
			} else {
				half := make([]float64, len(seeds))
				for i := range half {
					half[i] = 0.5
				}
				out = append(out, contrast{m.title + " − chance", x.title, half, of(m.name)})
			}
			for _, s := range policyScorers {
				out = append(out, contrast{m.title + " − " + s.title, x.title, of(s.name), of(m.name)})
			}
		}
		ipvrm := gsm8kRewards[0]
		for _, m := range gsm8kRewards[1:] {
			out = append(out, contrast{ipvrm.title + " − " + m.title, x.title, of(m.name), of(ipvrm.name)})
		}
	}
	return pairTable(out)
}

func gsm8kStepTable(f *figures) string {
	seeds := f.accepted()
	var rows []row
	for _, m := range slices.Concat(gsm8kRewards, policyScorers[:2]) {
		rows = append(rows, row{[]string{"step F1", m.title, m.rule}, f.of(seeds, m.name, "steps_f1_"+m.rule, 0)})
	}
	for _, m := range slices.Concat(gsm8kRewards, policyScorers) {
		rows = append(rows, row{[]string{"AUC", m.title, ""}, f.of(seeds, m.name, "steps_auc", 0)})
	}
	return seedTable(f, []string{"figure", "scorer", "rule"}, rows)
}
