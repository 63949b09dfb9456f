package main

import "fmt"

// textClaims are what the papers mainly say, held against a pretrained model on text chains.
func textClaims(f *figures) []claim {
	seeds := f.accepted()
	var out []claim
	hold := func(paper, says, of string, a, b []float64) { out = append(out, claim{paper, says, of, a, b}) }
	of := func(name string, after int) []float64 { return f.of(seeds, name, "avg@4", after) }

	for _, x := range []struct {
		title string
		of    measure
	}{{"step F1", stepF1}, {"Best-of-8", bestOf8}} {
		value := func(m rewardModel) []float64 { return textOfReward(f, m, x.of) }
		own := textBestBeta(f, "ipvrm", x.of)
		hold(paperIPVRM, "IPVRM above Implicit PRM", x.title+", each at its better beta", value(textBestBeta(f, "implicit-prm", x.of)),
			value(own))
		hold(paperIPVRM, "IPVRM above DPO-RM", x.title, value(textNamed("text-dpo-rm")), value(own))
		hold(paperIPVRM, "IPVRM above Q-RM", x.title, value(textNamed(textQRMModel)), value(own))
	}
	at := fmt.Sprintf("avg@4 after %d iterations", textEvery)
	grpo, alone, distrl := of("text-grpo", textEvery), of("text-grpo-ipvrm", textEvery), of("text-distrl-0.1", textEvery)
	hold(paperIPVRM, "DistRL above GRPO", at, grpo, distrl)
	hold(paperIPVRM, "GRPO on IPVRM's advantages above GRPO", at, grpo, alone)
	hold(paperIPVRM, "DistRL above GRPO on IPVRM's advantages", at, alone, distrl)
	for _, m := range lcoLosses {
		hold(paperLCO, m.title+" above the clip", "avg@4, 4 updates of a batch, each at its better rate", textBestRate(f, "clip"),
			textBestRate(f, m.name))
	}
	for _, m := range []struct{ name, title, on string }{{"text-reinforce", "REINFORCE", "text-qrm-reinforce-centred"},
		{"text-ppo", "PPO", "text-qrm-ppo"}} {
		hold(paperQRM, m.title+" on Q-RM above "+m.title+" on outcomes", at, of(m.name, textEvery), of(m.on, textEvery))
	}
	ofStudent := func(name string) []float64 { return of("text-student-"+name, 1) }
	for _, m := range []struct{ says, a, b string }{{"DCKD above SFT", "sft", "dckd"}, {"ADPA above DCKD", "dckd", "adpa"},
		{"ADPA+ above ADPA", "adpa", "adpa-plus"}} {
		hold(paperADPA, m.says, "avg@4 of a student", ofStudent(m.a), ofStudent(m.b))
	}
	before := of(textSEFT[0].name, 0)
	round := func(s student, n int) []float64 { return of(s.name, seftRound(n)) }
	best := bestOf(textSEFT, func(s student) student { return s }, func(s student) []float64 { return round(s, selfRounds) })
	for _, s := range []struct {
		student
		of string
	}{{textSEFT[0], "avg@4, as in the recipe"}, {best, fmt.Sprintf("avg@4, the best of %d settings", len(textSEFT))}} {
		hold(paperSEFT, "the first round above the policy before", s.of, before, round(s.student, 1))
		hold(paperSEFT, "the second round above the first", s.of, round(s.student, 1), round(s.student, 2))
	}
	return out
}
