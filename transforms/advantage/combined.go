package advantage

import (
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
)

// Combined is IPVRM's and DistRL's advantage (arXiv 2604.13197; algorithms.md 3): the outcome relative to the group, plus the GAE
// of TD advantages, and beside them the TD advantages of candidate tokens.
type Combined struct {
	Learned
	Eps        float64 `json:"eps" range:"[0,1]" doc:"added to standard deviations"`
	Normalise  string  `json:"normalise" enum:"group,batch" doc:"group (paper), or batch (released code)"`
	ZeroLastTD string  `json:"zero_last_td" enum:"auto,on,off" doc:"set the last TD advantage to 0; auto: with batch"`
	COut       float64 `json:"c_out" range:"[0,1e6]" doc:"weight of the outcome"`
	CGAE       float64 `json:"c_gae" range:"[0,1e6]" doc:"weight of the GAE"`
	Candidates bool    `json:"candidates" doc:"also advantages of the candidate tokens"`
	Gamma      float64 `json:"gamma" range:"[0,1]" doc:"discount"`
	Lambda     float64 `json:"lambda" range:"[0,1]" doc:"of the GAE"`

	Beta      float64 `json:"beta,omitempty" follows:"reward.value.beta"`
	Reference string  `json:"reference,omitempty" follows:"reward.value.reference"`
	// Scores: the values are scores of tokens, log-probs themselves (q_rm_lm), which take the place of TD advantages as they are.
	Scores string `json:"scores,omitempty" follows:"reward.value.kind"`
}

// Choices of Combined.
const (
	Group = "group"
	Batch = "batch"
	Auto  = "auto"
	On    = "on"
	Off   = "off"
)

func init() {
	Register("combined", Combined{Learned: Learned{Groups: Mixed}, Eps: 1e-6, Normalise: Group, ZeroLastTD: Auto, COut: 1, CGAE: 1,
		Candidates: true, Gamma: 1, Lambda: 1})
}

// Validate checks what the normalisation asks of the last token.
func (c Combined) Validate() error {
	if c.Normalise == Batch && c.ZeroLastTD == Off {
		return setting.Errorf("zero_last_td", "off does not go with normalise batch, whose mean counts the last token as 0")
	}
	return nil
}

// WithValues scales log-ratios as the reward model's values do.
func (c Combined) WithValues(v Values) Estimator {
	c.Beta, c.Reference, c.Scores = v.Beta, v.Reference, v.Scores
	if v.Scores != "" {
		c.Beta = 1
	}
	return c
}

// writeTD writes the TD advantages of tokens with those log-probs.
func (c Combined) writeTD(a []float64, logp [][]float64) {
	if c.Scores != "" {
		copy(a, logp[0])
		return
	}
	TD(a, logp[0], logp[1], c.Beta)
}

// td reports whether the TD advantages of the sampled tokens are needed.
func (c Combined) td() bool { return c.CGAE != 0 || c.Candidates }

// Inputs are outcomes, the group, and log-probs under the reward model and its reference.
func (c Combined) Inputs() Inputs {
	in := Inputs{Outcome: true, Group: true, Learned: c.Learned, Candidates: c.Candidates, Batch: c.td()}
	reference, listed := schemas.OldLogP, schemas.CandidateOldLogP
	if c.Reference == Frozen {
		reference, listed = schemas.ReferenceLogP, schemas.CandidateReferenceLogP
	}
	logp, candidates := []schemas.List[float32]{schemas.RewardLogP, reference}, []schemas.Nested[float32]{schemas.CandidateRewardLogP, listed}
	if c.Scores != "" {
		logp, candidates = logp[:1], candidates[:1]
	}
	if c.td() {
		in.LogP = logp
	}
	if c.Candidates {
		in.CandidateLogP = candidates
	}
	return in
}

// sampled are the TD advantages of the sampled tokens; zeros where they are not needed or not known.
func (c Combined) sampled(r *Response) []float64 {
	td := make([]float64, r.Tokens)
	if !r.Keep || !c.td() {
		return td
	}
	c.writeTD(td, r.LogP)
	if c.ZeroLastTD == On || c.ZeroLastTD == Auto && c.Normalise == Batch {
		ZeroLast(td)
	}
	return td
}

// Sum takes in what the spread of the values and the GAE of the batch are made of.
func (c Combined) Sum(r *Response, into *Totals) {
	if c.td() {
		into.AddTD(c.sampled(r), c.Gamma*c.Lambda)
	}
}

// Over writes algorithms.md 3.3 and 3.4 over a group.
func (c Combined) Over(batch *Totals) func([]Response) {
	sigmaV := SigmaV(batch.Value)
	tdMean, _ := batch.BatchGAE()
	whiteMean, whiteVar := batch.Whitening(c.Eps)
	return func(group []Response) {
		start := make([]int, 1, len(group)+1)
		outcome, keep := make([]float64, len(group)), make([]bool, len(group))
		var td []float64
		for k := range group {
			r := &group[k]
			outcome[k], keep[k] = Relative(r.Outcome, r.GroupMean, r.GroupStd, c.Eps), r.Keep
			td = append(td, c.sampled(r)...)
			start = append(start, len(td))
		}
		gae, a := make([]float64, len(td)), make([]float64, len(td))
		switch {
		case c.CGAE == 0:
		case c.Normalise == Group:
			Normalise(td, td, sigmaV, c.Eps)
			GroupGAE(gae, td, start, keep, c.Gamma*c.Lambda, c.Eps)
		default:
			BatchGAE(gae, td, start, keep, tdMean, sigmaV, c.Gamma*c.Lambda, c.Eps)
			Whiten(gae, start, keep, whiteMean, whiteVar)
		}
		Combine(a, outcome, gae, start, keep, c.COut, c.CGAE)
		for k := range group {
			r := &group[k]
			copy(r.Advantage, a[start[k]:start[k+1]])
			if c.Candidates && r.Keep {
				r.Candidate = make([]float64, len(r.CandidateLogP[0]))
				c.writeTD(r.Candidate, r.CandidateLogP)
				Normalise(r.Candidate, r.Candidate, sigmaV, c.Eps)
			}
		}
	}
}
