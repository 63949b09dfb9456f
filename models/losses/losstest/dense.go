// Package losstest holds losses to their contract: a dense float64 head to evaluate them exactly, random microbatches, and
// the conformance kit that every registered loss must pass.
package losstest

import (
	"math"

	"github.com/millrace/millrace/models/losses"
)

// Dense is an output head whose logits are given, in double precision: what package heads computes in chunks of single
// precision.
type Dense struct {
	V      int
	Logits []float64 // [N,V]
	Target []float64 // [N,V] logits of the target row; nil: none
	Value  []float64 // [N] scalar head's outputs; nil: zeros
}

// Fill sets what a head provides: log-probs, logits, entropies, masses off the lists, target rows and values.
func (d Dense) Fill(mb *losses.Microbatch, spec losses.Spec) {
	n, k := mb.N(), mb.List[mb.N()]
	mb.Rows.Value = d.Value
	if d.Value == nil {
		mb.Rows.Value = make([]float64, n)
	}
	if spec.Heads&losses.LM == 0 {
		return
	}
	for _, f := range []*[]float64{&mb.Listed.LogP, &mb.Listed.Logit, &mb.Listed.TargetLogP} {
		*f = make([]float64, k)
	}
	for _, f := range []*[]float64{&mb.Rows.LogZ, &mb.Rows.Entropy, &mb.Rows.RestLogP, &mb.Rows.TargetKL, &mb.Rows.TargetRestLogP} {
		*f = make([]float64, n)
	}
	for t := 0; t < n; t++ {
		z := d.Logits[t*d.V : (t+1)*d.V]
		logp := LogSoftmax(z)
		mb.Rows.LogZ[t] = z[0] - logp[0]
		mb.Rows.RestLogP[t] = off(logp, mb, spec, t)
		for _, l := range logp {
			mb.Rows.Entropy[t] -= math.Exp(l) * l
		}
		for i := mb.List[t]; i < mb.List[t+1]; i++ {
			mb.Listed.LogP[i], mb.Listed.Logit[i] = logp[mb.Listed.ID[i]], z[mb.Listed.ID[i]]
		}
		if d.Target == nil {
			continue
		}
		target := LogSoftmax(d.Target[t*d.V : (t+1)*d.V])
		mb.Rows.TargetRestLogP[t] = off(target, mb, spec, t)
		for v, l := range target {
			mb.Rows.TargetKL[t] += math.Exp(l) * (l - logp[v])
		}
		for i := mb.List[t]; i < mb.List[t+1]; i++ {
			mb.Listed.TargetLogP[i] = target[mb.Listed.ID[i]]
		}
	}
}

func off(logp []float64, mb *losses.Microbatch, spec losses.Spec, t int) float64 {
	span := mb.RestSpan(spec.Rest, t)
	if span.Len() == 0 {
		return 0
	}
	listed := map[int32]bool{}
	for _, id := range mb.Listed.ID[span.Lo:span.Hi] {
		listed[id] = true
	}
	sum := 0.0
	for v, l := range logp {
		if !listed[int32(v)] {
			sum += math.Exp(l)
		}
	}
	return math.Log(sum)
}

// Eval fills the microbatch, evaluates the window and returns the loss, its gradient with respect to the logits [N,V]
// (zero without an LM head), and the Grad it came from.
func (d Dense) Eval(l losses.Loss, mb *losses.Microbatch) (loss float64, dLogits []float64, g *losses.Grad) {
	d.Fill(mb, l.Spec())
	g = losses.NewGrad(mb)
	loss = l.Eval(mb, g)
	return loss, d.Gradient(mb, g), g
}

// Gradient is dL/dz = a·π + b·softmax(target) + e·π∘(log π + H) + Σ d_i e_i of every row, π = softmax(z).
func (d Dense) Gradient(mb *losses.Microbatch, g *losses.Grad) []float64 {
	out := make([]float64, len(d.Logits))
	for t := 0; t < mb.N() && d.Logits != nil; t++ {
		row := out[t*d.V : (t+1)*d.V]
		for v, l := range LogSoftmax(d.Logits[t*d.V : (t+1)*d.V]) {
			if row[v] = g.A[t] * math.Exp(l); g.E[t] != 0 {
				row[v] += g.E[t] * (l + mb.Rows.Entropy[t]) * math.Exp(l)
			}
		}
		if d.Target != nil {
			for v, l := range LogSoftmax(d.Target[t*d.V : (t+1)*d.V]) {
				row[v] += g.B[t] * math.Exp(l)
			}
		}
		for i := mb.List[t]; i < mb.List[t+1]; i++ {
			row[mb.Listed.ID[i]] += g.Listed[i]
		}
	}
	return out
}

// LogSoftmax returns z minus its logsumexp.
func LogSoftmax(z []float64) []float64 {
	top := math.Inf(-1)
	for _, x := range z {
		top = math.Max(top, x)
	}
	sum := 0.0
	for _, x := range z {
		sum += math.Exp(x - top)
	}
	out := make([]float64, len(z))
	for i, x := range z {
		out[i] = x - top - math.Log(sum)
	}
	return out
}
