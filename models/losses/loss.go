// Package losses holds every objective of the framework as pure functions on a few numbers per token.
//
// A loss never sees the vocabulary. For every loss here the gradient with respect to the logits z_t of one row is
//
//	dL/dz_t = a_t·π_t + b_t·π*_t + e_t·π_t∘(log π_t + H_t) + Σ_i d_i·e_id(i)
//
// π_t the model's softmax row with entropy H_t, π*_t the softmax of a target row (a fixed blend of other models' logits; most losses
// have none), i over the few listed tokens of the row. So a loss reads log-probs or logits of listed tokens from a Microbatch
// and adds up to three numbers a row and one number a listed token to a Grad. A head (package heads) makes the one from hidden
// rows and turns the other into gradients of hidden rows and weights; it is the same driver for every loss.
//
// A loss is one file: its struct holds the configuration and is the loss. New builds one by name from decoded YAML.
package losses

import "slices"

// Loss is an objective that is minimised. Implementations are immutable and safe for concurrent use.
type Loss interface {
	// Spec says what the loss must be given.
	Spec() Spec
	// Eval adds the gradient of the rows mb.Lo..mb.Hi to g, through g's methods, and returns their part of the loss.
	// It reads mb, keeps nothing, and its result for a coupled set does not depend on what else is in the window: all
	// denominators come from mb.Totals. The window always holds whole coupled sets.
	Eval(mb *Microbatch, g *Grad) float64
}

// LogRatio is a loss of log-ratios beta·log(pi/pi_ref): values that it trains are scaled by the same beta against the same
// reference.
type LogRatio interface {
	Ratio() (beta float64, reference string)
}

// MeasuresKL is a loss among whose metrics is the policy's KL to the policy that sampled, or to a reference.
type MeasuresKL interface{ MeasuresKL() }

// Heads is a set of output heads.
type Heads uint8

const (
	LM     Heads = 1 << iota // a row of logits over the vocabulary
	Scalar                   // one number a row
)

// Coupling says which rows must lie in one window of Eval, because their gradients depend on each other.
type Coupling uint8

const (
	Token    Coupling = iota // every row for itself
	Response                 // all rows of a response
	Pair                     // all rows of responses 2p and 2p+1, chosen and rejected
)

func (c Coupling) String() string { return [...]string{"token", "response", "pair"}[c] }

// RestOf names the list whose complement Rows.RestLogP measures.
type RestOf uint8

const (
	NoRest RestOf = iota
	SampledRest
	CandidateRest
	TeacherRest
)

// Models whose logits a target row blends.
const (
	OldModel    = "old"
	RewardModel = "reward"
)

// Part is one term of a target row: Weight times the logits of Model.
type Part struct {
	Model  string
	Weight float64
}

// Spec is what a loss must be given: by the pipeline (inputs, coupling, other models) and by the head.
type Spec struct {
	Heads    Heads
	Coupling Coupling
	// Inputs are what every response must have. With CandidateIDs or TeacherIDs among them, a row lists the candidates' or
	// the teacher's tokens beside the sampled one. Columns of a chosen or rejected response carry the prefix chosen_ or
	// rejected_.
	Inputs []*Input
	// SampleInputs are what responses of role Sample must have besides (where a loss reads more than one role). For other
	// responses the fields hold 0, or NaN where there is one number a response.
	SampleInputs []*Input
	// Roles of the responses that the loss reads; it passes over others. Chosen and Rejected are the sides of a pair.
	Roles []Role
	// Rest is the list for which the head must fill Rows.RestLogP (and Rows.TargetRestLogP with a target row).
	Rest RestOf
	// Target is the blend that makes the target row; nil: the loss has none.
	Target []Part
	// After: the scalar head reads the hidden row after the token (state and action), not the one that chose it.
	After bool
}

// TargetAt is the blend where the policy is read at a temperature: what the target row starts from is the old policy's
// distribution at that temperature, and what a reward model moves it by stays as it is (temperature 1).
func (s Spec) TargetAt(temperature float64) []Part {
	if s.Target == nil || temperature == 1 {
		return s.Target
	}
	out, more := slices.Clone(s.Target), 1/temperature-1
	for i := range out {
		if out[i].Model == OldModel {
			out[i].Weight += more
			return out
		}
	}
	return append(out, Part{OldModel, more})
}

// Of lists what a response of the role must have.
func (s Spec) Of(r Role) []*Input {
	if r != Sample {
		return s.Inputs
	}
	return union(slices.Clone(s.Inputs), s.SampleInputs)
}

// Reads reports whether the loss reads the input of any response.
func (s Spec) Reads(in *Input) bool {
	return slices.Contains(s.Inputs, in) || slices.Contains(s.SampleInputs, in)
}

// Columns lists the names of what every response must have.
func (s Spec) Columns() []string {
	out := make([]string, len(s.Inputs))
	for i, in := range s.Inputs {
		out[i] = in.Name
	}
	return out
}
