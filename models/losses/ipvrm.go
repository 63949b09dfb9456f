package losses

import (
	"math"

	"github.com/millrace/millrace/schemas/setting"
)

// IPVRM trains an implicit prefix-value reward model on outcomes (arXiv 2604.13197). With l_t = log π_φ(y_t) − log π_ref(y_t),
// V_t = β Σ_{i≤t} l_i and v̄_t = V_t/t, one response costs
//
//	L = Σ_t w_t [ r softplus(m − v̄_t) + (1 − r) softplus(m + v̄_t) ]
//	w_t = 1/T (uniform) | ∝ t/T (late) | ∝ 1 − t/T (early; uniform when T = 1)
//
// Gradient: dL/dl_i = β Σ_{t≥i} w_t g_t / t with g_t = −σ(m − v̄_t) for a correct response, σ(m + v̄_t) for an incorrect
// one: d = dL/dl_i at y_i, a_i = −d. A response without an outcome is skipped.
type IPVRM struct {
	Beta float64 `json:"beta" range:"(0,inf)" doc:"β, the scale of the log-ratios"`
	// A correct response cannot reach a mean log-ratio above the reference's mean −log p, so m/beta must stay below that.
	Margin    float64 `json:"margin" range:"[0,inf)" doc:"m, how far the mean value of a prefix is pushed to its side"`
	Weights   string  `json:"weights" enum:"uniform,late,early" doc:"of the prefixes of a response: all alike, growing or falling with their length"`
	Reduction string  `json:"reduction" enum:"response_mean,token_mean" doc:"mean over responses, or pooled over tokens as the released offline trainer does"`
	Reference string  `json:"reference" enum:"old,frozen" doc:"π_ref: old, the policy that sampled the responses, or frozen, a reference model (the reference_ columns)"`
}

// DefaultIPVRM holds the paper's settings.
func DefaultIPVRM() IPVRM {
	return IPVRM{Beta: 10, Margin: 5, Weights: "uniform", Reduction: "response_mean", Reference: "old"}
}

// Validate checks that pooled tokens are weighted alike.
func (l IPVRM) Validate() error {
	if l.Reduction == "token_mean" && l.Weights != "uniform" {
		return setting.Errorf("reduction", "token_mean weights all tokens alike; with weights %s take response_mean", l.Weights)
	}
	return nil
}

// Ratio is the scale of the log-ratios.
func (l IPVRM) Ratio() (beta float64, reference string) { return l.Beta, l.Reference }

// Spec asks for the sampled token under the model and the reference, and the outcome.
func (l IPVRM) Spec() Spec {
	return Spec{Heads: LM, Roles: []Role{Sample}, Coupling: Response, Inputs: []*Input{ResponseTokens, referenceInput(l.Reference), Outcome}}
}

// Eval adds the loss of the window.
func (l IPVRM) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	lo, hi := mb.ResponsesIn()
	for b := lo; b < hi; b++ {
		loss += l.response(mb, g, b, l.Margin, 1)
	}
	return loss
}

// response adds one response with its margin and weight.
func (l IPVRM) response(mb *Microbatch, g *Grad, b int, margin, weight float64) float64 {
	correct, ok := mb.OutcomeOf(b)
	length := mb.Length(b)
	if !ok || length == 0 {
		return 0
	}
	w := weight * mb.WeightOf(b) / mb.Totals.LabelledResponses
	if l.Reduction == "token_mean" {
		w = weight * mb.WeightOf(b) * float64(length) / mb.Totals.LabelledTokens
	}
	sign := 2*correct - 1
	v, t, loss := 0.0, 0, 0.0
	for row := mb.Start[b]; row < mb.Start[b+1]; row++ {
		if mb.Used(row) {
			t++
			v += l.Beta * logRatio(mb, row, l.Reference)
			loss += w * l.prefixWeight(t, length) * softplus(margin-sign*v/float64(t))
		}
	}
	g.Metrics.Add("ipvrm/p_correct", sigmoid(v/float64(length)), 1)
	g.Metrics.Add("ipvrm/accuracy", boolean(sign*v > 0), 1)
	if correct > 0.5 {
		g.Metrics.Add("ipvrm/mean_value_correct", v/float64(length), 1)
	} else {
		g.Metrics.Add("ipvrm/mean_value_incorrect", v/float64(length), 1)
	}
	// One reverse cumulative sum; v is run back to the prefix value of each row.
	sum := 0.0
	prefix := make([]float64, 0, length)
	v = 0
	for row := mb.Start[b]; row < mb.Start[b+1]; row++ {
		if mb.Used(row) {
			v += l.Beta * logRatio(mb, row, l.Reference)
			prefix = append(prefix, v)
		}
	}
	for row := mb.Start[b+1] - 1; row >= mb.Start[b]; row-- {
		if mb.Used(row) {
			mean := prefix[t-1] / float64(t)
			sum -= w * l.prefixWeight(t, length) * sign * sigmoid(margin-sign*mean) / float64(t)
			g.LogP(row, mb.Sampled(row), l.Beta*sum)
			t--
		}
	}
	return loss
}

// prefixWeight is w_t of a response of the given length.
func (l IPVRM) prefixWeight(t, length int) float64 {
	n := float64(length)
	switch {
	case l.Weights == "late":
		return 2 * float64(t) / (n * (n + 1))
	case l.Weights == "early" && length > 1:
		return 2 * (n - float64(t)) / (n * (n - 1))
	}
	return 1 / n
}

// IPVRMOnline is the online update of IPVRM (arXiv 2604.13197), on the rollouts of the iteration with their group's mean
// outcome μ:
//
//	ADB: the margin of a correct response becomes m − b, of an incorrect one m + b,  b = logit(clamp(μ, 1e-6, 1 − 1e-6))
//	DLW: the weight of a correct response is 1 − μ, of an incorrect one μ, scaled to sum to n in a group: 1/(2μ), 1/(2(1 − μ))
//
// Groups that are all right or all wrong: weight 0 and margin m (zero, as released), or weight 1 and the clamped b (keep).
type IPVRMOnline struct {
	IPVRM
	ADB      bool   `json:"adb" doc:"shift the margin by the logit of the group's mean outcome"`
	DLW      bool   `json:"dlw" doc:"weigh right and wrong responses of a group by their rarity"`
	AllEqual string `json:"all_equal" enum:"zero,keep" doc:"groups that are all right or all wrong: weight 0, or weight 1 and the margin of a clamped mean"`
}

// DefaultIPVRMOnline holds the paper's settings.
func DefaultIPVRMOnline() IPVRMOnline { return IPVRMOnline{DefaultIPVRM(), true, true, "zero"} }

// Spec asks for the group's mean outcome as well.
func (l IPVRMOnline) Spec() Spec {
	s := l.IPVRM.Spec()
	s.Inputs = append(s.Inputs, GroupMean)
	return s
}

// Eval adds the loss of the window.
func (l IPVRMOnline) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	lo, hi := mb.ResponsesIn()
	for b := lo; b < hi; b++ {
		if correct, ok := mb.OutcomeOf(b); ok {
			margin, weight := l.difficulty(correct, mb.Responses.GroupMean[b])
			loss += l.response(mb, g, b, margin, weight)
		}
	}
	return loss
}

// difficulty is the margin and the weight of a response in a group with mean outcome mu.
func (l IPVRMOnline) difficulty(correct, mu float64) (margin, weight float64) {
	const floor = 1e-6
	margin, weight = l.Margin, 1
	mixed := mu > 0 && mu < 1
	if !mixed && l.AllEqual == "zero" {
		return margin, 0
	}
	if l.ADB {
		margin -= (2*correct - 1) * logit(clamp(mu, floor, 1-floor))
	}
	if l.DLW && mixed {
		weight = 1 / (2 * math.Abs(mu-(1-correct)))
	}
	return margin, weight
}

// referenceInput is the reference's log-prob of the sampled token.
func referenceInput(reference string) *Input {
	if reference == "old" {
		return OldLogP
	}
	return ReferenceLogP
}

// logRatio is log π(y_t) − log π_ref(y_t).
func logRatio(mb *Microbatch, t int, reference string) float64 {
	i := mb.Sampled(t)
	if reference == "old" {
		return mb.Listed.LogP[i] - mb.Listed.OldLogP[i]
	}
	return mb.Listed.LogP[i] - mb.Listed.RefLogP[i]
}

// sumLogRatio is the sum over the rows of response b that are in use.
func sumLogRatio(mb *Microbatch, b int, reference string) float64 {
	sum := 0.0
	for t := mb.Start[b]; t < mb.Start[b+1]; t++ {
		if mb.Used(t) {
			sum += logRatio(mb, t, reference)
		}
	}
	return sum
}

// addResponse adds d to the gradient of every log-prob of response b that is in use.
func addResponse(mb *Microbatch, g *Grad, b int, d float64) {
	for t := mb.Start[b]; t < mb.Start[b+1]; t++ {
		if mb.Used(t) {
			g.LogP(t, mb.Sampled(t), d)
		}
	}
}
