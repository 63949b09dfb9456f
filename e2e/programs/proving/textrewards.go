package main

import (
	"fmt"
	"path"
	"slices"
)

// Reward models of text chains: the same published model, from the same warm start, trained on the outcomes of the same responses.

// textTokens is the length of a response of text chains, at which betas of a mean and of a sum of log-ratios are held side by side.
const textTokens = 30

// textBetas are of a token, in hundredths; IPVRM and Implicit PRM are searched over the same.
var textBetas = []int{10, 33, 100}

// textQRMModel is the reward model that policies learn from alone.
const textQRMModel = "text-qrm-lm"

// textRewards are the rows of the tables.
func textRewards() []rewardModel {
	var out []rewardModel
	loss := func(kind, loss, rest string) []string {
		return []string{fmt.Sprintf("reward.value={kind: %s%s}", kind, rest), fmt.Sprintf("update.losses=[{name: %s%s}]", loss, rest)}
	}
	for _, hundredths := range textBetas {
		beta := float64(hundredths) / 100
		sum, mean := fmt.Sprintf(", beta: %v", beta), fmt.Sprintf(", beta: %v", float64(hundredths*textTokens)/100)
		out = append(out,
			rewardModel{name: textReward("ipvrm", hundredths), title: fmt.Sprintf("IPVRM, uniform, %.2f", beta), recipe: "text-ipvrm-refresh",
				score: "mean_value", rule: "sum_diff", sets: append(loss("ipvrm", "ipvrm", mean), "update.losses[0].margin=0")},
			rewardModel{name: textReward("ipvrm-late", hundredths), title: fmt.Sprintf("IPVRM, late, %.2f", beta), recipe: "text-ipvrm-refresh",
				score: "mean_value", rule: "sum_diff", sets: append(loss("ipvrm", "ipvrm", mean), "update.losses[0].margin=0",
					"update.losses[0].weights=late")},
			rewardModel{name: textReward("implicit-prm", hundredths), title: fmt.Sprintf("Implicit PRM, %.2f", beta),
				recipe: "text-ipvrm-refresh", score: "value", rule: "sum_diff", sets: loss("implicit_prm", "implicit_prm", sum)})
	}
	return append(out,
		rewardModel{name: "text-dpo-rm", title: "DPO-RM, 0.10", recipe: "text-ipvrm-refresh", score: "value", rule: "sum_diff",
			sets: append(loss("dpo_rm", "dpo_rm", ", beta: 0.1, reference: frozen"), "pairs={strategy: all, limit: 4, reference: old_logp}")},
		rewardModel{name: "text-value-head", title: "value head", recipe: "text-ipvrm-refresh", score: "mean_value", rule: "min",
			sets: loss("value_head", "outcome_value", "")},
		rewardModel{name: textQRMModel, title: "Q-RM, LM logits, with cross-entropy", recipe: "text-qrm-lm-refresh", score: "mean_value",
			rule: "min"})
}

func textReward(method string, hundredths int) string {
	return fmt.Sprintf("text-%s-%d", method, hundredths)
}

// textRewardPlan trains the reward models of a seed and measures them on the same responses.
func textRewardPlan(seed uint64) []job {
	dir := fmt.Sprintf("seed-%d", seed)
	var jobs []job
	measure := job{name: path.Join(dir, rewardsJob), part: "reward", args: []string{"eval", "--continuations", "8"}}
	for _, m := range textRewards() {
		at := path.Join(dir, m.name)
		jobs = append(jobs, job{name: at, part: "reward", after: []string{textWarm}, iterations: 1,
			args: runOf(m.recipe, at, seed, append([]string{"policy.path=" + textStart()}, m.sets...)...)})
		measure.after = append(measure.after, at)
		measure.args = append(measure.args, "--reward", at)
	}
	measure.args = append(measure.args, "--json")
	return append(jobs, measure)
}

// textFigures are the figures of a scorer, by the set that they are of.
var textFigures = []struct {
	title string
	of    measure
}{
	{"step F1", stepF1}, {"step F1, unlikely errors", func(m rewardModel) string { return "unlikely_f1_" + m.rule }},
	{"step F1, likely errors", func(m rewardModel) string { return "likely_f1_" + m.rule }}, {"Best-of-8", bestOf8}, {"ECE", ece},
	{"r with the truth", func(rewardModel) string { return "truth_r" }},
}

func textRewardTable(f *figures) string {
	seeds := f.accepted()
	var rows []row
	for _, x := range textFigures {
		for _, m := range slices.Concat(textRewards(), policyScorers) {
			rows = append(rows, row{[]string{x.title, m.title}, f.of(seeds, m.name, x.of(m), 0)})
		}
		if x.title == "Best-of-8" {
			for _, c := range chances {
				rows = append(rows, row{[]string{x.title, c.title}, f.of(seeds, textRewards()[0].name, c.metric, 0)})
			}
		}
	}
	return seedTable(f, []string{"figure", "scorer"}, rows)
}

func textCertainty(f *figures) string {
	return rewardCertainty(f, textRewards(), []string{"unlikely", "likely"})
}

// textRewardPairs holds IPVRM to Implicit PRM, each at its best beta, and what is best to the policy's own log-probs.
func textRewardPairs(f *figures) string {
	var out []contrast
	for _, x := range textFigures[:4] {
		values := func(m rewardModel) []float64 { return textOfReward(f, m, x.of) }
		best := func(method string) rewardModel { return textBestBeta(f, method, x.of) }
		prm := best("implicit-prm")
		for _, m := range []rewardModel{best("ipvrm"), best("ipvrm-late")} {
			out = append(out, contrast{m.title + " − " + prm.title, x.title + ", each at its best beta", values(prm), values(m)})
		}
		out = append(out, contrast{textNamed(textQRMModel).title + " − " + prm.title, x.title, values(prm), values(textNamed(textQRMModel))})
		for _, m := range []rewardModel{prm, best("ipvrm"), textNamed("text-dpo-rm"), textNamed(textQRMModel), textNamed("text-value-head")} {
			if x.title == "Best-of-8" {
				out = append(out, contrast{m.title + " − majority vote", x.title, f.of(f.accepted(), m.name, "majority_vote", 0), values(m)})
			}
			out = append(out, contrast{m.title + " − policy log-prob, min", x.title, values(policyScorers[0]), values(m)})
		}
	}
	return pairTable(out)
}

// textBestBeta is a method's reward model at the better of the betas that all are searched over.
func textBestBeta(f *figures, method string, x measure) rewardModel {
	return bestOf(textBetas, func(hundredths int) rewardModel { return textNamed(textReward(method, hundredths)) },
		func(m rewardModel) []float64 { return textOfReward(f, m, x) })
}

func textOfReward(f *figures, m rewardModel, x measure) []float64 {
	return f.of(f.accepted(), m.name, x(m), 0)
}

// textNamed finds a row by its name.
func textNamed(name string) rewardModel {
	all := textRewards()
	i := slices.IndexFunc(all, func(m rewardModel) bool { return m.name == name })
	if i < 0 {
		panic("no reward model " + name)
	}
	return all[i]
}
