package losses

import (
	"math"

	"github.com/millrace/millrace/schemas/setting"
)

// Logit convex optimisation (arXiv 2603.00963) regresses the policy to the optimum of E_π[A] − β KL(π‖π_old) at a state,
// π* ∝ π_old exp(A/β), with losses that are convex in the logits. Where A is known comes from lcoForm:
//
//	outcome         advantage: A on the sampled token, 0 elsewhere; β larger by negative_beta_factor where A ≤ 0
//	vocab_estimate  advantage: A' = A (1 − π_old(y)) on the sampled token, −π_old(y) A'/max(1 − π_old(y), min_rest) elsewhere
//	dense           target_advantage: A of the candidates, rest_advantage: of every other token, both as the target stage scaled them
//	reward          a reward model's advantage of every token: the target row is z_old + (reward_beta/β)(z_φ − z_old)
//
// The forms are not those of every loss, so each has a field of its own for them, which the methods of lcoForm are given.
type lcoForm struct {
	Beta               float64 `json:"beta" range:"[0,inf)" doc:"β, the strength of the trust region; 0: the paper's, 2, or 10 with vocab_estimate"`
	NegativeBetaFactor float64 `json:"negative_beta_factor" range:"[1,inf)" doc:"β is as many times larger where an outcome advantage is not above 0"`
	// split_mean is the mean over tokens with A > 0 plus the mean over the others.
	Reduction string `json:"reduction" enum:"auto,token_mean,seq_mean,split_mean" doc:"auto: the paper's, token_mean, or split_mean with vocab_estimate"`
}

func defaultLCOForm() lcoForm { return lcoForm{NegativeBetaFactor: 100, Reduction: "auto"} }

func (l lcoForm) beta(form string, advantage float64) float64 {
	beta := l.Beta
	switch {
	case beta == 0 && form == "vocab_estimate":
		beta = 10
	case beta == 0:
		beta = 2
	}
	if form == "outcome" && advantage <= 0 {
		beta *= l.NegativeBetaFactor
	}
	return beta
}

// eachRow calls f for every row in use with its weight and its first known advantage.
func (l lcoForm) eachRow(form string, mb *Microbatch, f func(t int, w, advantage float64)) {
	split := l.Reduction == "split_mean" || l.Reduction == "auto" && form == "vocab_estimate"
	Reduce{Reduction: l.Reduction}.eachRow(mb, func(t, b int, w float64) {
		advantage, positive := 0.0, 0.0
		switch span := mb.CandidatesOf(t); {
		case form == "dense" && span.Len() > 0:
			advantage, positive = mb.Listed.Advantage[span.Lo], mb.Totals.PositiveCandidateTokens
		case form == "dense":
			positive = mb.Totals.PositiveCandidateTokens
		case form != "reward":
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
	Advantages string `json:"advantages" enum:"outcome,vocab_estimate,dense,reward" doc:"where the advantage A of a token comes from"`
	lcoForm
	MinRest    float64 `json:"min_rest" range:"[1e-6,1]" doc:"advantages vocab_estimate: least mass that the other tokens are taken to have"`
	RewardBeta float64 `json:"reward_beta" range:"(0,inf)" doc:"advantages reward: β_r of A = β_r (log π_φ - log π_old)"`
}

// DefaultLCOKLD holds the paper's settings.
func DefaultLCOKLD() LCOKLD { return LCOKLD{"outcome", defaultLCOForm(), 0.1, 10} }

// Validate checks that the mean over tokens with A > 0 is known.
func (l LCOKLD) Validate() error {
	if l.Advantages == "reward" && l.Reduction == "split_mean" {
		return setting.Errorf("reduction", "split_mean needs listed advantages, which advantages: reward does not have")
	}
	return nil
}

// Spec asks for the old policy's logits as the target row, or their blend with the reward model's.
func (l LCOKLD) Spec() Spec {
	s := Spec{Heads: LM, Roles: []Role{Sample}, Target: []Part{{OldModel, 1}}}
	switch l.Advantages {
	case "dense":
		s.Inputs, s.Rest = []*Input{CandidateIDs, TargetAdvantage, RestAdvantage}, CandidateRest
	case "reward":
		r := l.RewardBeta / l.beta(l.Advantages, 0)
		s.Inputs, s.Target = []*Input{ResponseTokens}, []Part{{RewardModel, r}}
		if r != 1 {
			s.Target = []Part{{OldModel, 1 - r}, {RewardModel, r}}
		}
	default:
		s.Inputs, s.Rest = []*Input{ResponseTokens, Advantage}, SampledRest
	}
	return s
}

// Eval adds the loss of the window.
func (l LCOKLD) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	l.eachRow(l.Advantages, mb, func(t int, w, advantage float64) {
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
	beta := l.beta(l.Advantages, advantage)
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
	Advantages string `json:"advantages" enum:"outcome,dense" doc:"where the advantage A of a token comes from"`
	lcoForm
	// The current logits are without gradient, and for one pass over a batch only: the target moves away with every update.
	Anchor string `json:"anchor" enum:"old,current" doc:"logits that the target starts from: the old policy's stored ones, or the current ones"`
	// With dense advantages, β is larger by AgreementBetaFactor where the sampled token's log-prob exceeds
	// AgreementThreshold under both the old policy and the reward model.
	AgreementThreshold  float64 `json:"agreement_threshold" range:"(-inf,0]" doc:"log-prob above which old policy and reward model agree on a sampled token"`
	AgreementBetaFactor float64 `json:"agreement_beta_factor" range:"[1,inf)" doc:"advantages dense: β is as many times larger where they agree"`
}

func defaultLCOLogit() lcoLogit { return lcoLogit{"outcome", defaultLCOForm(), "old", -0.02, 100} }

// Spec asks for the known tokens' logits, now and when the rollout was made.
func (l lcoLogit) Spec() Spec {
	s := Spec{Heads: LM, Roles: []Role{Sample}}
	if l.Advantages == "outcome" {
		s.Inputs = []*Input{ResponseTokens, Advantage}
		if l.Anchor == "old" {
			s.Inputs = append(s.Inputs, OldLogP, OldLogZ)
		}
		return s
	}
	s.Inputs = []*Input{CandidateIDs, TargetAdvantage}
	if l.AgreementBetaFactor != 1 {
		s.Inputs = append(s.Inputs, OldLogP, RewardLogP)
	}
	if l.Anchor == "old" {
		s.Inputs = append(s.Inputs, CandidateOldLogP, OldLogZ)
	}
	return s
}

// eval adds the loss f of every known token's distance z − ẑ, f returning the loss and its derivative.
func (l lcoLogit) eval(mb *Microbatch, g *Grad, name string, f func(d float64) (loss, slope float64)) float64 {
	loss := 0.0
	l.eachRow(l.Advantages, mb, func(t int, w, advantage float64) {
		first := mb.Sampled(t)
		span, beta := Span{first, first + 1}, l.beta(l.Advantages, advantage)
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
