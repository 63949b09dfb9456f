package losses

import (
	"fmt"
	"math"
)

// Logit convex optimisation (arXiv 2603.00963) regresses the policy to the optimum of E_π[A] − β KL(π‖π_old) at a state,
// π* ∝ π_old exp(A/β), with losses that are convex in the logits. Where A is known comes from lcoForm:
//
//	outcome         advantage: A on the sampled token, 0 elsewhere; β larger by negative_beta_factor where A ≤ 0
//	vocab_estimate  advantage: A' = A (1 − π_old(y)) on the sampled token, −π_old(y) A'/max(1 − π_old(y), min_rest) elsewhere
//	dense           target_advantage: A of the candidates, rest_advantage: of every other token, both as the target stage scaled them
//	reward          a reward model's advantage of every token: the target row is z_old + (reward_beta/β)(z_φ − z_old)
type lcoForm struct {
	Advantages string `json:"advantages"`
	// Beta is the strength of the trust region; 0: the paper's, 2, or 10 with vocab_estimate.
	Beta float64 `json:"beta"`
	// NegativeBetaFactor enlarges β where an outcome advantage is not above 0.
	NegativeBetaFactor float64 `json:"negative_beta_factor"`
	// Reduction: token_mean, seq_mean, or split_mean (the mean over tokens with A > 0 plus the mean over the others); auto:
	// the paper's, token_mean, or split_mean with vocab_estimate.
	Reduction string `json:"reduction"`
}

func defaultLCOForm() lcoForm {
	return lcoForm{Advantages: "outcome", NegativeBetaFactor: 100, Reduction: "auto"}
}

func (l lcoForm) validate(forms ...string) error {
	return firstError(
		oneOf("advantages", l.Advantages, forms...), atLeast("beta", l.Beta, 0),
		atLeast("negative_beta_factor", l.NegativeBetaFactor, 1),
		oneOf("reduction", l.Reduction, "auto", "token_mean", "seq_mean", "split_mean"),
	)
}

func (l lcoForm) beta(advantage float64) float64 {
	beta := l.Beta
	switch {
	case beta == 0 && l.Advantages == "vocab_estimate":
		beta = 10
	case beta == 0:
		beta = 2
	}
	if l.Advantages == "outcome" && advantage <= 0 {
		beta *= l.NegativeBetaFactor
	}
	return beta
}

// eachRow calls f for every row in use with its weight and its first known advantage.
func (l lcoForm) eachRow(mb *Microbatch, f func(t int, w, advantage float64)) {
	split := l.Reduction == "split_mean" || l.Reduction == "auto" && l.Advantages == "vocab_estimate"
	Reduce{Reduction: l.Reduction}.eachRow(mb, func(t, b int, w float64) {
		advantage, positive := 0.0, 0.0
		switch span := mb.CandidatesOf(t); {
		case l.Advantages == "dense" && span.Len() > 0:
			advantage, positive = mb.Listed.Advantage[span.Lo], mb.Totals.PositiveCandidateTokens
		case l.Advantages == "dense":
			positive = mb.Totals.PositiveCandidateTokens
		case l.Advantages != "reward":
			advantage, positive = mb.Rows.Advantage[t], mb.Totals.PositiveTokens
		}
		if split && advantage > 0 {
			w = 1 / positive
		} else if split {
			w = 1 / (mb.Totals.RoleTokens[Sample] - positive)
		}
		f(t, w*mb.WeightOf(b), advantage)
	})
}

// LCOKLD is the KL form,
//
//	L = mean_t KL(π*_t ‖ π_θ,t)
//
// always from the old policy's logits: the target row. With A listed and one number off the list, π* = s·π_old there, so
// a = 1/N, b = −s/N, d_i = (s·π_old(i) − π*(i))/N; with reward, π* is the target row itself, a = 1/N and b = −1/N.
type LCOKLD struct {
	lcoForm
	// MinRest bounds the divisor of vocab_estimate.
	MinRest float64 `json:"min_rest"`
	// RewardBeta is β_r of the reward model whose log-ratio the form reward takes for A = β_r (log π_φ − log π_old).
	RewardBeta float64 `json:"reward_beta"`
}

// DefaultLCOKLD holds the paper's settings.
func DefaultLCOKLD() LCOKLD { return LCOKLD{defaultLCOForm(), 0.1, 10} }

// Validate checks the configuration.
func (l LCOKLD) Validate() error {
	err := l.validate("outcome", "vocab_estimate", "dense", "reward")
	if err == nil && l.Advantages == "reward" && l.Reduction == "split_mean" {
		err = fmt.Errorf("reduction: split_mean needs listed advantages, which advantages: reward does not have")
	}
	return firstError(err, inRange("min_rest", l.MinRest, 1e-6, 1), above("reward_beta", l.RewardBeta, 0))
}

// Spec asks for the old policy's logits as the target row, or their blend with the reward model's.
func (l LCOKLD) Spec() Spec {
	s := Spec{Heads: LM, Roles: []Role{Sample}, Target: []Part{{OldModel, 1}}}
	switch l.Advantages {
	case "dense":
		s.Columns, s.Candidates, s.Rest = []string{"candidate_ids", "target_advantage", "rest_advantage"}, true, CandidateRest
	case "reward":
		r := l.RewardBeta / l.beta(0)
		s.Columns, s.Target = []string{"response_tokens"}, []Part{{RewardModel, r}}
		if r != 1 {
			s.Target = []Part{{OldModel, 1 - r}, {RewardModel, r}}
		}
	default:
		s.Columns, s.Rest = []string{"response_tokens", "advantage"}, SampledRest
	}
	return s
}

// Eval adds the loss of the window.
func (l LCOKLD) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	l.eachRow(mb, func(t int, w, advantage float64) {
		g.Softmax(t, w)
		kl := mb.Rows.TargetKL[t]
		s := 1.0
		if l.Advantages != "reward" {
			kl, s = l.listed(mb, g, t, w, advantage)
		}
		g.Target(t, -w*s)
		loss += w * kl
		g.Metrics.Add("lco_kld/kl", kl, 1)
	})
	return loss
}

// listed adds the listed tokens of row t and returns KL(π*‖π) and s.
func (l LCOKLD) listed(mb *Microbatch, g *Grad, t int, w, advantage float64) (kl, s float64) {
	first := mb.Sampled(t)
	span, known, rest := Span{first, first + 1}, []float64{advantage}, 0.0
	switch l.Advantages {
	case "vocab_estimate":
		old := mb.Listed.TargetLogP[first]
		known[0] *= -math.Expm1(old)
		rest = -math.Exp(old) * known[0] / math.Max(-math.Expm1(old), l.MinRest)
	case "dense":
		span = mb.CandidatesOf(t)
		known, rest = mb.Listed.Advantage[span.Lo:span.Hi], mb.Rows.RestAdvantage[t]
	}
	beta := l.beta(advantage)
	logOld, logp := mb.Listed.TargetLogP[span.Lo:span.Hi], mb.Listed.LogP[span.Lo:span.Hi]
	restLogP := mb.Rows.TargetRestLogP[t]

	top := restLogP + rest/beta
	for k, a := range known {
		top = math.Max(top, logOld[k]+a/beta)
	}
	sum := math.Exp(restLogP + rest/beta - top)
	for k, a := range known {
		sum += math.Exp(logOld[k] + a/beta - top)
	}
	logZ := top + math.Log(sum)

	logS := rest/beta - logZ
	s = math.Exp(logS)
	off := mb.Rows.TargetKL[t] // KL over the tokens off the list, of π_old for now
	for k, a := range known {
		old := math.Exp(logOld[k])
		logTarget := logOld[k] + a/beta - logZ
		target := math.Exp(logTarget)
		kl += target * (logTarget - logp[k])
		off -= old * (logOld[k] - logp[k])
		g.Logit(span.Lo+k, w*(s*old-target))
	}
	if s > 0 {
		kl += s * (off + math.Exp(restLogP)*logS)
	}
	return kl, s
}

// lcoLogit is what LCO-MSE and LCO-LCH share: they pull the logits of the known tokens to ẑ = anchor + A/β.
type lcoLogit struct {
	lcoForm
	// Anchor is the old policy's stored logits (old), or the current ones without gradient (current: for one pass over a
	// batch only, because the target moves away with every update).
	Anchor string `json:"anchor"`
	// With dense advantages, β is larger by AgreementBetaFactor where the sampled token's log-prob exceeds
	// AgreementThreshold under both the old policy and the reward model.
	AgreementThreshold  float64 `json:"agreement_threshold"`
	AgreementBetaFactor float64 `json:"agreement_beta_factor"`
}

func defaultLCOLogit() lcoLogit { return lcoLogit{defaultLCOForm(), "old", -0.02, 100} }

// Validate checks the configuration.
func (l lcoLogit) Validate() error {
	return firstError(
		l.lcoForm.validate("outcome", "dense"), oneOf("anchor", l.Anchor, "old", "current"),
		inRange("agreement_threshold", l.AgreementThreshold, math.Inf(-1), 0),
		atLeast("agreement_beta_factor", l.AgreementBetaFactor, 1),
	)
}

// Spec asks for the known tokens' logits, now and when the rollout was made.
func (l lcoLogit) Spec() Spec {
	s := Spec{Heads: LM, Roles: []Role{Sample}}
	if l.Advantages == "outcome" {
		s.Columns = []string{"response_tokens", "advantage"}
		if l.Anchor == "old" {
			s.Columns = append(s.Columns, "old_logp", "old_logz")
		}
		return s
	}
	s.Candidates, s.Columns = true, []string{"candidate_ids", "target_advantage"}
	if l.AgreementBetaFactor != 1 {
		s.Columns = append(s.Columns, "old_logp", "reward_logp")
	}
	if l.Anchor == "old" {
		s.Columns = append(s.Columns, "candidate_old_logp", "old_logz")
	}
	return s
}

// eval adds the loss f of every known token's distance z − ẑ, f returning the loss and its derivative.
func (l lcoLogit) eval(mb *Microbatch, g *Grad, name string, f func(d float64) (loss, slope float64)) float64 {
	loss := 0.0
	l.eachRow(mb, func(t int, w, advantage float64) {
		first := mb.Sampled(t)
		span, beta := Span{first, first + 1}, l.beta(advantage)
		if l.Advantages == "dense" {
			span = mb.CandidatesOf(t)
			if l.AgreementBetaFactor != 1 && math.Min(mb.Listed.OldLogP[first], mb.Listed.RewardLogP[first]) > l.AgreementThreshold {
				beta *= l.AgreementBetaFactor
			}
		}
		for i := span.Lo; i < span.Hi; i++ {
			if l.Advantages == "dense" {
				advantage = mb.Listed.Advantage[i]
			}
			d := -advantage / beta
			if l.Anchor == "old" {
				d += mb.Listed.Logit[i] - (mb.Listed.OldLogP[i] + mb.Rows.OldLogZ[t])
			}
			x, slope := f(d)
			loss += w * x
			g.Logit(i, w*slope)
			g.Metrics.Add(name+"/distance", math.Abs(d), 1)
		}
	})
	return loss
}

// LCOMSE is the squared form, L = mean_t Σ (z − ẑ)² over the known tokens. Gradient: d = 2(z − ẑ)/N, a = b = 0.
type LCOMSE struct{ lcoLogit }

// DefaultLCOMSE holds the paper's settings with the stored anchor.
func DefaultLCOMSE() LCOMSE { return LCOMSE{defaultLCOLogit()} }

// Eval adds the loss of the window.
func (l LCOMSE) Eval(mb *Microbatch, g *Grad) float64 {
	return l.eval(mb, g, "lco_mse", func(d float64) (float64, float64) { return d * d, 2 * d })
}

// LCOLCH is the log-cosh form, L = mean_t Σ log cosh(z − ẑ) over the known tokens. Gradient: d = tanh(z − ẑ)/N, a = b = 0.
type LCOLCH struct{ lcoLogit }

// DefaultLCOLCH holds the paper's settings with the stored anchor.
func DefaultLCOLCH() LCOLCH { return LCOLCH{defaultLCOLogit()} }

// Eval adds the loss of the window.
func (l LCOLCH) Eval(mb *Microbatch, g *Grad) float64 {
	return l.eval(mb, g, "lco_lch", func(d float64) (float64, float64) {
		return math.Abs(d) + math.Log1p(math.Exp(-2*math.Abs(d))) - math.Ln2, math.Tanh(d)
	})
}
