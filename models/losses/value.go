package losses

import "math"

// Value fits PPO's value head to the returns (arXiv 1707.06347, with the clipping of its reference implementation),
//
//	L = ½ mean_t max( (v − R)², (clip(v, V − eps_v, V + eps_v) − R)² )
//
// V the head's output at rollout time. PPO's whole objective is 1·ppo + 0.5·value. Gradient: (v − R)/N where the first
// branch is the larger or v lies inside the clip, else 0.
type Value struct {
	EpsV float64 `json:"eps_v" range:"[0,inf)" doc:"how far v may be credited for moving from V, its value at rollout time; 0: no clip"`
}

// DefaultValue holds the usual clip.
func DefaultValue() Value { return Value{EpsV: 0.2} }

// Spec asks for the scalar head before each token, its old value (with clipping) and the return.
func (l Value) Spec() Spec {
	inputs := []*Input{Return}
	if l.EpsV > 0 {
		inputs = append(inputs, CriticValue)
	}
	return Spec{Heads: Scalar, Roles: []Role{Sample}, Inputs: inputs}
}

// Eval adds the loss of the window.
func (l Value) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	Reduce{Reduction: "token_mean"}.eachRow(mb, func(t, b int, w float64) {
		v, target := mb.Rows.Value[t], mb.Rows.Return[t]
		e := v - target
		square, slope := e*e, e
		if l.EpsV > 0 {
			old := mb.Rows.OldValue[t]
			clipped := clamp(v, old-l.EpsV, old+l.EpsV)
			if c := clipped - target; c*c > square {
				square, slope = c*c, 0
				if clipped == v {
					slope = e
				}
			}
		}
		w *= mb.WeightOf(b)
		loss += w * square / 2
		g.Scalar(t, w*slope)
		g.Metrics.Add("value/error", math.Abs(e), 1)
	})
	return loss
}

// OutcomeValue is the plain outcome value model: the scalar head after every token predicts the outcome,
//
//	L = mean_t BCE(σ(v_t), r)
//
// over the tokens of the responses that have an outcome. Gradient: (σ(v_t) − r)/N.
type OutcomeValue struct{ Reduce }

// DefaultOutcomeValue pools all tokens.
func DefaultOutcomeValue() OutcomeValue { return OutcomeValue{Reduce{Reduction: "token_mean"}} }

// Spec asks for the scalar head after each token and the outcome.
func (l OutcomeValue) Spec() Spec {
	return Spec{Heads: Scalar, Roles: []Role{Sample}, After: true, Inputs: []*Input{ResponseTokens, Outcome}}
}

// Eval adds the loss of the window.
func (l OutcomeValue) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	for t := mb.Lo; t < mb.Hi; t++ {
		b := mb.Response[t]
		correct, ok := mb.OutcomeOf(b)
		if !ok || !mb.Used(t) {
			continue
		}
		w := mb.WeightOf(b) * l.weight(mb.Totals.LabelledTokens, mb.Totals.LabelledResponses, mb.Length(b))
		v := mb.Rows.Value[t]
		loss += w * binaryCrossEntropy(v, correct)
		g.Scalar(t, w*(sigmoid(v)-correct))
		g.Metrics.Add("outcome_value/accuracy", boolean((2*correct-1)*v > 0), 1)
	}
	return loss
}
