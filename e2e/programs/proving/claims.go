package main

import (
	"fmt"

	"github.com/millrace/millrace/transforms/evaluate"
)

// claim is something that a paper says of two methods, and what was measured of them: b less a.
type claim struct {
	paper, says, of string
	a, b            []float64
}

// How the papers are named in the tables of claims.
const (
	paperIPVRM = "IPVRM + DistRL"
	paperLCO   = "LCO"
	paperQRM   = "Q-RM"
	paperADPA  = "ADPA"
	paperSEFT  = "SEFT"
)

// claims are what the papers mainly say; wherever a setting was searched, both sides are taken at the best of the same grid.
func claims(f *figures) []claim {
	seeds := f.accepted()
	var out []claim
	hold := func(paper, says, of string, a, b []float64) { out = append(out, claim{paper, says, of, a, b}) }

	for _, g := range []struct {
		title string
		betaGrid
	}{{"", shortBetas}, {" on longer responses", longBetas}} {
		for _, x := range []struct {
			title string
			of    measure
		}{{"step F1", stepF1}, {"Best-of-8", bestOf8}} {
			prm, own := bestBeta(f, g.betaGrid, "implicit-prm", x.of), bestBeta(f, g.betaGrid, "ipvrm", x.of)
			hold(paperIPVRM, "IPVRM above Implicit PRM"+g.title, x.title+", each at its best beta", f.ofReward(prm.name, x.of),
				f.ofReward(own.name, x.of))
		}
	}
	hold(paperIPVRM, "IPVRM above Implicit PRM", "step F1, each at its paper's beta", f.ofReward("implicit-prm", stepF1),
		f.ofReward("ipvrm", stepF1))
	hold(paperIPVRM, "IPVRM above DPO-RM", "step F1", f.ofReward("dpo-rm", stepF1), f.ofReward("ipvrm", stepF1))
	hold(paperIPVRM, "IPVRM above Q-RM", "step F1", f.ofReward("qrm-lm", stepF1), f.ofReward("ipvrm", stepF1))
	for _, after := range []int{20, distrlIterations} {
		best := func(method string) []float64 {
			return bestOf([]string{"", "-mb4"}, func(suffix string) []float64 { return f.of(seeds, method+suffix, "avg@8", after) },
				func(xs []float64) []float64 { return xs })
		}
		at := fmt.Sprintf("avg@8 after %d iterations, each with 2 or 4 minibatches", after)
		hold(paperIPVRM, "DistRL above GRPO", at, best("grpo"), best("distrl"))
		hold(paperIPVRM, "GRPO on IPVRM's advantages above GRPO", at, best("grpo"), best("grpo-ipvrm"))
		hold(paperIPVRM, "DistRL above GRPO on IPVRM's advantages", at, best("grpo-ipvrm"), best("distrl"))
	}
	for _, m := range lcoLosses {
		hold(paperLCO, m.title+" above the clip at a rate too high for it", "avg@8, 16 updates of a batch, rate 3e-4",
			f.ofCell("clip", "3e-4", 4), f.ofCell(m.name, "3e-4", 4))
	}
	for _, epochs := range []int{4, 1} {
		clip := bestRate(f, "clip", epochs)
		for _, m := range lcoLosses {
			hold(paperLCO, m.title+" above the clip", fmt.Sprintf("avg@8, %d updates of a batch, each at its best rate", 4*epochs),
				f.ofCell("clip", clip, epochs), f.ofCell(m.name, bestRate(f, m.name, epochs), epochs))
		}
	}
	at := fmt.Sprintf("avg@8 after %d iterations", distrlIterations)
	for _, m := range []struct{ name, title string }{{"reinforce", "REINFORCE"}, {"ppo", "PPO"}} {
		hold(paperQRM, m.title+" on Q-RM above "+m.title+" on outcomes", at, f.of(seeds, m.name, "avg@8", distrlIterations),
			f.of(seeds, "qrm-"+m.name, "avg@8", distrlIterations))
	}
	of := func(name string) []float64 { return f.of(seeds, name, "avg@8", 1) }
	for _, m := range []struct{ says, a, b string }{{"DCKD above SFT", "student-sft", "student-dckd"},
		{"ADPA above DCKD", "student-dckd", "student-adpa"}, {"ADPA+ above ADPA", "student-adpa", "student-adpa-plus"}} {
		hold(paperADPA, m.says, "avg@8 of a student", of(m.a), of(m.b))
	}
	before := f.of(seeds, "seft", "avg@8", 0)
	after := func(run string, round int) []float64 { return f.of(seeds, run, "avg@8", seftRound(round)) }
	best := bestOf(seftRuns, func(s student) student { return s }, func(s student) []float64 { return after(s.name, selfRounds) })
	for _, s := range []struct {
		student
		of string
	}{{seftRuns[0], "avg@8, as in the recipe"}, {best, "avg@8, the best of five settings"}} {
		hold(paperSEFT, "the first round above the policy before", s.of, before, after(s.name, 1))
		hold(paperSEFT, "the second round above the first", s.of, after(s.name, 1), after(s.name, 2))
	}
	hold(paperSEFT, "SEFT above training on the own greedy answers", "avg@8 after two rounds, the best of five settings",
		f.of(seeds, "self-greedy-round-2", "avg@8", 0), after(best.name, selfRounds))
	return out
}

// claimTable says of every claim that was measured on all seeds whether the interval is above 0, below 0, or has 0 in it.
func claimTable(all []claim) string {
	var out [][]string
	for _, c := range all {
		p := paired(c.a, c.b)
		d, i := p.comparison.Difference, p.comparison.Interval
		if d.N < len(c.a) || i == nil {
			continue
		}
		out = append(out, []string{c.paper, c.says, c.of, fmt.Sprintf("%d of %d", p.above, d.N), signed(d.Mean), signed(i[0]) + " to " +
			signed(i[1]), map[string]string{evaluate.BetterB: "**reproduced**", evaluate.BetterA: "**contradicted**",
			evaluate.Undecided: "not told apart"}[p.comparison.Verdict]})
	}
	return markdown([]string{"paper", "claim", "of", "above 0 on", "mean", "95% interval", "here"}, 3, out)
}
