package main

import "fmt"

// textClaims are what the papers mainly say, held against a pretrained model on text chains.
func textClaims(f *figures) []claim {
	seeds := f.accepted()
	var out []claim
	hold := func(paper, says, of string, a, b []float64) { out = append(out, claim{paper, says, of, a, b}) }

	for _, x := range []struct {
		title string
		of    measure
	}{{"step F1", stepF1}, {"Best-of-8", bestOf8}} {
		value := func(m rewardModel) []float64 { return textOfReward(f, m, x.of) }
		own := textBestBeta(f, "ipvrm", x.of)
		hold(paperIPVRM, "IPVRM above Implicit PRM", x.title+", each at its best beta", value(textBestBeta(f, "implicit-prm", x.of)),
			value(own))
		hold(paperIPVRM, "IPVRM above DPO-RM", x.title, value(textNamed("text-dpo-rm")), value(own))
		hold(paperIPVRM, "IPVRM above Q-RM", x.title, value(textNamed(textQRMModel)), value(own))
	}
	for _, set := range textJudged {
		of := func(name string) []float64 { return f.of(seeds, name, set.name, textEvery) }
		at := fmt.Sprintf("avg@4 after %d iterations, %s", textEvery, set.title)
		grpo, alone, distrl := of("text-grpo"), of("text-grpo-ipvrm"), of("text-distrl-0.1")
		hold(paperIPVRM, "DistRL above GRPO", at, grpo, distrl)
		hold(paperIPVRM, "GRPO on IPVRM's advantages above GRPO", at, grpo, alone)
		hold(paperIPVRM, "DistRL above GRPO on IPVRM's advantages", at, alone, distrl)
	}
	for _, m := range lcoLosses {
		hold(paperLCO, m.title+" above the clip", "avg@4, held-out problems, 4 updates of a batch, each at its better rate",
			textBestRate(f, "clip"), textBestRate(f, m.name))
	}
	for _, set := range textJudged {
		for _, m := range []struct{ name, title, on string }{{"text-reinforce", "REINFORCE", "text-qrm-reinforce-centred"},
			{"text-ppo", "PPO", "text-qrm-ppo"}} {
			hold(paperQRM, m.title+" on Q-RM above "+m.title+" on outcomes", fmt.Sprintf("avg@4 after %d iterations, %s", textEvery, set.title),
				f.of(seeds, m.name, set.name, textEvery), f.of(seeds, m.on, set.name, textEvery))
		}
	}
	for _, set := range textJudged {
		ofStudent := func(name string) []float64 { return f.of(seeds, "text-student-"+name, set.name, 1) }
		for _, m := range []struct{ says, a, b string }{{"DCKD above SFT", "sft", "dckd"}, {"ADPA above DCKD", "dckd", "adpa"},
			{"ADPA+ above ADPA", "adpa", "adpa-plus"}} {
			hold(paperADPA, m.says, "avg@4 of a student, "+set.title, ofStudent(m.a), ofStudent(m.b))
		}
	}
	last := func(s student) []float64 { return f.of(seeds, s.name, "avg@4", seftRound(selfRounds)) }
	var measured []student // on all seeds
	for _, s := range textSEFT {
		if spreadOf(last(s)).n == len(seeds) {
			measured = append(measured, s)
		}
	}
	if len(measured) == 0 {
		return out
	}
	best := bestOf(measured, func(s student) student { return s }, last)
	for _, set := range textJudged {
		for _, s := range []struct {
			student
			of string
		}{{textSEFT[0], "as in the recipe"}, {best, fmt.Sprintf("the best of %d settings", len(measured))}} {
			round := func(n int) []float64 { return f.of(seeds, s.name, set.name, seftRound(n)) }
			before, on := f.of(seeds, textSEFT[0].name, set.name, 0), "avg@4, "+set.title+", "+s.of
			hold(paperSEFT, "the first round above the policy before", on, before, round(1))
			hold(paperSEFT, "the second round above the first", on, round(1), round(2))
		}
	}
	return out
}
