package evaluate

// Report holds the figures of an evaluation.
type Report struct {
	Prompts   int   `json:"prompts"`
	Responses int64 `json:"responses"`
	Abstained int64 `json:"abstained"` // responses without an outcome
	Truncated int64 `json:"truncated"`
	Unvalued  int64 `json:"unvalued,omitempty"` // responses with an outcome but without usable values
	Unplaced  int64 `json:"unplaced,omitempty"` // responses with judged steps whose ends could not be placed on tokens

	Avg    Estimate `json:"avg"` // avg@k: mean share of right responses, k being the responses a prompt has
	PassAt []PassAt `json:"pass_at"`

	// Random is the chance of a choice among a prompt's distinct responses, and Vote that of its most frequent answer: what
	// Best-of-N by a score is to be held against.
	Random Estimate  `json:"random"`
	Vote   *Estimate `json:"majority_vote,omitempty"` // nil where no answers are known

	// BestOf goes by all responses of a prompt; BestOfN estimates it for fewer, by the model's own score.
	BestOf  []BestAt  `json:"best_of,omitempty"`
	BestOfN []BestOfN `json:"best_of_n,omitempty"`
	Final   *Final    `json:"final,omitempty"`

	Calibration *Calibration  `json:"calibration,omitempty"`
	ByDecile    []Calibration `json:"calibration_by_decile,omitempty"`

	Steps []StepF1 `json:"steps,omitempty"`
	Truth *Truth   `json:"truth,omitempty"`
}

// PassAt is pass@k over the prompts that have k responses; where none has, there is no such entry.
type PassAt struct {
	K int `json:"k"`
	Estimate
}

// BestAt is the share of prompts whose best response by a score is right.
type BestAt struct {
	Score string `json:"score"`
	Estimate
}

// BestOfN is [BestOfK] over the prompts that have k responses, by the model's own score.
type BestOfN struct {
	K     int    `json:"k"`
	Score string `json:"score"`
	Estimate
}

// Final says how the model's own score of whole responses ranks them.
type Final struct {
	Score  string   `json:"score"`
	AUC    Figure   `json:"auc"`                // over all responses
	Within Estimate `json:"auc_within_prompts"` // mean over the prompts that have right and wrong responses
}

// StepF1 is ProcessBench's figure under one rule.
type StepF1 struct {
	Rule    string `json:"rule"`
	Items   int    `json:"items"`
	Best    F1     `json:"best"`     // at the best threshold of the grid
	Chosen  F1     `json:"chosen"`   // on the items the threshold was chosen on
	HeldOut F1     `json:"held_out"` // on the others
}

// Truth holds p_correct at step ends against the share of right ones among continuations sampled from there.
type Truth struct {
	Responses int    `json:"responses"`
	R         Figure `json:"r"`         // Pearson's correlation
	ECE       Figure `json:"ece"`       // expected calibration error, the share taking the outcome's place
	Brier     Figure `json:"brier"`     // mean squared difference
	AUC       Figure `json:"auc"`       // of p_correct at these step ends against the response's own outcome
	BestAUC   Figure `json:"truth_auc"` // of the share itself: the most that can be reached
}

// Report reads the figures off the sums.
func (c Config) Report(s Sums) Report {
	l := c.layOut(s)
	out := Report{Prompts: len(l.prompts), Responses: s.Responses, Abstained: s.Abstained, Truncated: s.Truncated, Unvalued: s.Unvalued,
		Unplaced: s.Unplaced, Avg: Over(Shares(l.prompts))}
	over := func(of func(PromptResult) (float64, bool)) Estimate {
		var values []float64
		for _, p := range l.prompts {
			if x, ok := of(p); ok {
				values = append(values, x)
			}
		}
		return Over(values)
	}
	for _, k := range c.K {
		e := over(func(p PromptResult) (float64, bool) {
			if p.N < k {
				return 0, false
			}
			return PassAtK(p.N, p.Correct, k), true
		})
		if e.N > 0 {
			out.PassAt = append(out.PassAt, PassAt{k, e})
		}
	}
	out.Random = over(func(p PromptResult) (float64, bool) { return p.Random, p.N > 0 })
	vote := over(func(p PromptResult) (float64, bool) {
		if p.Vote == nil {
			return 0, false
		}
		return *p.Vote, true
	})
	if vote.N > 0 {
		out.Vote = &vote
	}
	if c.Values {
		for _, score := range BestOfScores {
			best := func(p PromptResult) (float64, bool) { return p.bestOf(score, max(1, len(p.Responses))) }
			out.BestOf = append(out.BestOf, BestAt{score, over(best)})
		}
		for _, k := range c.K {
			e := over(func(p PromptResult) (float64, bool) { return p.bestOf(c.Score, k) })
			if e.N > 0 {
				out.BestOfN = append(out.BestOfN, BestOfN{k, c.Score, e})
			}
		}
		l.reportValues(s, &out)
	}
	return out
}

// reportValues adds what a reward model's values say, with errors over resampled prompts.
func (l *laid) reportValues(s Sums, out *Report) {
	all := []figures{l.finalAUC(), l.calibration(-1)}
	for d := range Deciles {
		all = append(all, l.calibration(d))
	}
	steps := len(all)
	for k := range l.steps {
		all = append(all, l.stepFigures(k))
	}
	truth := len(all)
	if l.c.Truth {
		all = append(all, l.truthFigures())
	}
	errs := stdErrs(len(l.prompts), all)
	responses := 0
	for _, p := range l.prompts {
		responses += len(p.Responses)
	}
	out.Final = &Final{Score: l.c.Score, AUC: figure(all[0].at(l.ones())[0], errs[0][0], responses)}
	var within []float64
	for _, p := range l.prompts {
		if x, ok := p.auc(l.c.Score); ok {
			within = append(within, x)
		}
	}
	out.Final.Within = Over(within)

	withErrors := func(c Calibration, e []*float64) Calibration {
		if c.N > 0 {
			c.StdErr = &CalibrationErrors{ECE: e[0], Brier: e[1], AUC: e[2]}
		}
		return c
	}
	var whole calibrated
	for d := range s.Deciles {
		whole.merge(s.Deciles[d])
		out.ByDecile = append(out.ByDecile, withErrors(s.Deciles[d].calibration(), errs[2+d]))
	}
	c := withErrors(whole.calibration(), errs[1])
	out.Calibration = &c

	itemsOf, evenOf, oddOf := l.itemWeights(l.ones())
	for k, sweep := range l.steps {
		f := StepF1{Rule: l.c.Rules[k], Items: len(l.items), Best: sweep.best(itemsOf).f1()}
		f.Chosen, f.HeldOut = sweep.heldOut(evenOf, oddOf)
		f.Best.StdErr, f.HeldOut.StdErr = errs[steps+k][0], errs[steps+k][1]
		out.Steps = append(out.Steps, f)
	}
	if l.c.Truth {
		t := Truth{}
		for _, item := range l.items {
			if len(item.Truth) > 0 {
				t.Responses++
			}
		}
		x := all[truth].at(l.ones())
		for k, f := range []*Figure{&t.R, &t.ECE, &t.Brier, &t.AUC, &t.BestAUC} {
			*f = figure(x[k], errs[truth][k], len(l.truth))
		}
		out.Truth = &t
	}
}
