package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Policies of text chains, and what is said of them.

var textRL = []policyMethod{
	{"text-grpo", "GRPO", "text-grpo", nil, textEvery, ""},
	{"text-distrl-0.1", "DistRL with IPVRM", "text-distrl", nil, textEvery, textWarm},
	{"text-distrl", "DistRL with IPVRM, alpha 1", "text-distrl", []string{"update.losses=[{name: ppo}, {name: distrl, weight: 1}]"},
		textEvery, textWarm},
	{"text-grpo-ipvrm", "GRPO with IPVRM advantages (alpha 0)", "text-distrl", []string{"update.losses=[{name: ppo}]"}, textEvery, textWarm},
	{"text-grpo-3e-4", "GRPO, rate 3e-4", "text-grpo", []string{"update.optimizer.lr=3e-4"}, textEvery, ""},
}

// textRates are searched for LCO and the clip alike; the clip's runs are those of GRPO.
var textRates = []string{"1e-4", "3e-4"}

var textLCO = textLCOMethods()

func textLCOMethods() []policyMethod {
	var out []policyMethod
	for _, m := range lcoLosses {
		for _, rate := range textRates {
			out = append(out, policyMethod{textCell(m.name, rate), m.title + ", rate " + rate, "text-lco",
				[]string{"update.losses=[{name: " + strings.ReplaceAll(m.name, "-", "_") + "}]", "update.optimizer.lr=" + rate}, textEvery, ""})
		}
	}
	return out
}

// textCell names the run of an update at a rate.
func textCell(method, rate string) string {
	switch {
	case method != "clip":
		return "text-" + method + "-" + rate
	case rate == textRates[0]:
		return "text-grpo"
	}
	return "text-grpo-" + rate
}

// textQRM learn from the scores of Q-RM alone, beside the same optimisers with outcomes.
var textQRM = []policyMethod{
	{"text-reinforce", "REINFORCE, outcomes", "text-grpo", []string{"advantage={kind: reinforce, baseline: mean}",
		"update.losses=[{name: reinforce}]"}, textEvery, ""},
	{"text-qrm-reinforce-centred", "REINFORCE on Q-RM", "text-qrm-reinforce", nil, textEvery, textQRMModel},
	{"text-qrm-reinforce", "REINFORCE on Q-RM, scores not centred", "text-qrm-reinforce", []string{"advantage.centre=false"}, textEvery,
		textQRMModel},
	{"text-ppo", "PPO, outcomes", "text-grpo", []string{"advantage={kind: ppo, gamma: 1, lambda: 0.95, c_kl: 0.05}",
		"update.losses=[{name: ppo, eps_high: 0.2}, {name: value, weight: 0.5}]"}, textEvery, ""},
	{"text-qrm-ppo", "PPO on Q-RM", "text-qrm-ppo", nil, textEvery, textQRMModel},
}

// textStage is a method measured after some iterations.
type textStage struct {
	policyMethod
	after int
}

// textStages lists where methods are measured, in the order of the rows; the common start once.
func textStages() []textStage {
	var out []textStage
	last := 0
	for _, m := range textRL {
		last = max(last, m.iterations)
	}
	for after := 0; after <= last; after += textEvery {
		for i, m := range textRL {
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
	grpo, alone, distrl := of("text-grpo", textEvery), of("text-grpo-ipvrm", textEvery), of("text-distrl-0.1", textEvery)
	out = append(out, contrast{"DistRL − GRPO", at, grpo, distrl}, contrast{"GRPO with IPVRM − GRPO", at, grpo, alone},
		contrast{"DistRL − GRPO with IPVRM", at, alone, distrl},
		contrast{"DistRL, alpha 1 − GRPO", at, grpo, of("text-distrl", textEvery)},
		contrast{"DistRL, alpha 1 − GRPO with IPVRM", at, alone, of("text-distrl", textEvery)},
		contrast{"DistRL, alpha 1 − DistRL", at, distrl, of("text-distrl", textEvery)})
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
	for _, m := range textRL {
		rows = append(rows, row{[]string{m.title, fmt.Sprint(m.iterations), "training", "largest gap to the audit"}, f.of(seeds, m.name,
			"audit_gap_max", 0)})
	}
	return seedTable(f, []string{"policy", "iterations", "on", "figure"}, rows)
}

func textCost(f *figures) string {
	seeds := f.accepted()
	var rows []row
	add := func(name, title string, iterations int) {
		minutes, ended := f.of(seeds, name, "cpu_seconds", 0), f.of(seeds, name, "avg@4", iterations)
		for i := range minutes {
			minutes[i] /= 60
			if math.IsNaN(ended[i]) {
				minutes[i] = ended[i] // of a part of a run
			}
		}
		rows = append(rows, row{[]string{title, fmt.Sprint(iterations)}, minutes})
	}
	for _, m := range slices.Concat(textRL, textLCO, textQRM) {
		add(m.name, m.title, m.iterations)
	}
	for _, s := range textStudents {
		add(s.name, s.title, 1)
	}
	for _, s := range textSEFT {
		add(s.name, s.title, seftRound(selfRounds))
	}
	return seedTable(f, []string{"core-minutes of a run", "iterations"}, rows)
}

// textMethods is a table of policies on the held-out sets, their common start first.
func textMethods(f *figures, methods []policyMethod) string {
	seeds := f.accepted()
	sets := slices.Concat([]struct{ name, title string }{{"avg@4", "held-out problems"}}, textSets)
	var rows []row
	for _, set := range sets {
		var of []row
		for _, m := range methods {
			of = append(of, row{[]string{set.title, m.title}, f.of(seeds, m.name, set.name, m.iterations)})
		}
		if slices.ContainsFunc(of, func(r row) bool { return spreadOf(r.values).n > 0 }) {
			rows = append(rows, row{[]string{set.title, "warm start"}, f.of(seeds, textRL[0].name, set.name, 0)})
			rows = append(rows, of...)
		}
	}
	return seedTable(f, []string{"avg@4 on", "policy"}, rows)
}

// textLCOPairs holds LCO to the clip at every rate, and each at its best.
func textLCOPairs(f *figures) string {
	of := func(method, rate string) []float64 { return textOfCell(f, method, rate) }
	var out []contrast
	for _, m := range lcoLosses {
		for _, rate := range textRates {
			out = append(out, contrast{m.title + " − GRPO clip", "rate " + rate, of("clip", rate), of(m.name, rate)})
		}
		out = append(out, contrast{m.title + " − GRPO clip", "each at its best rate", textBestRate(f, "clip"), textBestRate(f, m.name)})
	}
	return pairTable(out)
}

func textOfCell(f *figures, method, rate string) []float64 {
	return f.of(f.accepted(), textCell(method, rate), "avg@4", textEvery)
}

// textBestRate is a method at the better of the rates that all are searched over.
func textBestRate(f *figures, method string) []float64 {
	return bestOf(textRates, func(rate string) []float64 { return textOfCell(f, method, rate) },
		func(values []float64) []float64 { return values })
}

// textQRMPairs holds the policies on Q-RM to the start, and to the same optimiser with outcomes.
func textQRMPairs(f *figures) string {
	of := func(name string, after int) []float64 { return f.of(f.accepted(), name, "avg@4", after) }
	start := of(textRL[0].name, 0)
	var out []contrast
	for _, m := range textQRM {
		out = append(out, contrast{m.title + " − warm start", "avg@4", start, of(m.name, m.iterations)})
	}
	outcomes := textQRM[0]
	for _, m := range textQRM {
		if m.reward == "" {
			outcomes = m // those that follow are held to it
			continue
		}
		out = append(out, contrast{m.title + " − " + outcomes.title, "avg@4", of(outcomes.name, textEvery), of(m.name, textEvery)})
	}
	return pairTable(out)
}
