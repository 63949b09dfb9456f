// Package heads is the one driver between hidden rows and losses: it makes the few numbers per row that a loss reads from
// hidden rows and an output weight, and turns the loss's gradient into gradients of both. The [rows, vocabulary] logits
// exist only a chunk at a time.
//
// Results do not depend on the chunk size, on the number of threads, or on how a batch is cut into microbatches whose
// gradients are accumulated in order: they are the same bits. In kernels.BFloat16Tiles alone a weight's gradient adds blocks of the rows
// of a chunk, so that its last bits follow the chunks and the microbatches.
package heads

import (
	"fmt"
	"math"
	"slices"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models/losses"
)

// DefaultLogitBytes bounds the logits that LM holds at a time.
const DefaultLogitBytes = 64 << 20

// LM is a language-model head: logits z = W h. With tied embeddings W and DW are the embedding's.
type LM struct {
	D          int               // hidden size
	W          []float32         // [V,D]
	DW         []float32         // [V,D], accumulated; nil when the weight is frozen
	LogitBytes int               // bounds the chunks of logits; 0: DefaultLogitBytes
	Precision  kernels.Precision // of the products
	// Temperature divides the logits: the loss reads log-probs of softmax(z/T), and gradients are by the hidden rows and the weight
	// that give z. 0: 1.
	Temperature float64

	logits, target []float32 // a chunk of [rows,V]
	scaled         []float32 // a chunk of another model's hidden rows times its weight in the blend
	listed         []float32 // logits of the chunk's listed tokens
	listedTarget   []float32
	tempered       []float32 // hidden rows over the temperature
}

// Target is what one model of a target row contributes: its hidden rows at the microbatch's rows, and its head.
type Target struct {
	D      int
	Hidden []float32 // [N,D]
	W      []float32 // [V,D]

	Precision kernels.Precision // of the product of both
}

// Run evaluates the loss on the hidden rows [N,D] that choose the microbatch's tokens, writes dL/dhidden to dHidden and adds
// dL/dW to DW. It fills the fields of mb that belong to the head, adds metrics to g, and returns the loss. targets holds
// the models of the loss's target row by name (losses.OldModel, losses.RewardModel). With dHidden nil nothing is
// differentiated. An error leaves DW as far as it was accumulated.
func (h *LM) Run(l losses.Loss, mb *losses.Microbatch, hidden []float32, targets map[string]Target, dHidden []float32,
	g *losses.Grad) (float64, error) {
	spec := l.Spec()
	if h.Temperature != 0 {
		spec.Target = spec.TargetAt(h.Temperature)
	}
	parts, err := h.check(spec, mb, hidden, targets, dHidden)
	if err != nil {
		return 0, err
	}
	if h.Temperature != 0 && h.Temperature != 1 {
		h.tempered = append(h.tempered[:0], hidden...)
		kernels.Scale(float32(1/h.Temperature), h.tempered)
		hidden = h.tempered
		if dHidden != nil {
			defer kernels.Scale(float32(1/h.Temperature), dHidden)
		}
	}
	r := &run{LM: h, loss: l, spec: spec, mb: mb, hidden: hidden, parts: parts, dHidden: dHidden, g: g}
	r.v = len(h.W) / h.D
	allocate(mb, spec)
	g.Reset(mb)

	rows := h.chunkRows(len(parts) > 0)
	// Chunks of about one size: each goes over the whole weight and its gradient, however few its rows are.
	even := rows
	if chunks := (mb.N() + rows - 1) / rows; chunks > 0 {
		even = (mb.N() + chunks - 1) / chunks
	}
	total := 0.0
	for lo := 0; lo < mb.N(); {
		hi := mb.SetEnd(spec.Coupling, lo)
		if hi-lo > rows {
			// A coupled set larger than a chunk: its statistics first, its logits again for the gradient.
			for a := lo; a < hi; a += rows {
				if err := r.forward(a, min(a+rows, hi)); err != nil {
					return 0, err
				}
			}
			total = r.eval(lo, hi, total)
			for a := lo; a < hi && dHidden != nil; a += rows {
				r.project(a, min(a+rows, hi))
				r.backward(a, min(a+rows, hi))
			}
			lo = hi
			continue
		}
		for hi < mb.N() {
			next := mb.SetEnd(spec.Coupling, hi)
			if next-lo > even {
				break
			}
			hi = next
		}
		if err := r.forward(lo, hi); err != nil {
			return 0, err
		}
		total = r.eval(lo, hi, total)
		if dHidden != nil {
			r.backward(lo, hi)
		}
		lo = hi
	}
	mb.Lo, mb.Hi = 0, mb.N()
	return total, nil
}

// chunkRows is how many rows of logits are held at a time; it depends on sizes only.
func (h *LM) chunkRows(target bool) int {
	limit := h.LogitBytes
	if limit <= 0 {
		limit = DefaultLogitBytes
	}
	row := 4 * (len(h.W) / h.D)
	if target {
		row *= 2
	}
	return max(1, min(limit/row, 4096))
}

// part is a model of the target row and its weight.
type part struct {
	Target
	weight float32
}

func (h *LM) check(spec losses.Spec, mb *losses.Microbatch, hidden []float32, targets map[string]Target, dHidden []float32) ([]part,
	error) {
	if h.D < 1 || len(h.W) == 0 || len(h.W)%h.D != 0 || h.DW != nil && len(h.DW) != len(h.W) {
		return nil, fmt.Errorf("heads: weight of %d and gradient of %d numbers for hidden size %d", len(h.W), len(h.DW), h.D)
	}
	if err := mb.Check(spec); err != nil {
		return nil, err
	}
	n, v := mb.N(), len(h.W)/h.D
	if len(hidden) != n*h.D || dHidden != nil && len(dHidden) != n*h.D {
		return nil, fmt.Errorf("heads: %d hidden numbers and %d gradients for %d rows of %d", len(hidden), len(dHidden), n, h.D)
	}
	for t := 0; t < n; t++ {
		for _, id := range mb.Listed.ID[mb.List[t]:mb.List[t+1]] {
			if id < 0 || int(id) >= v {
				return nil, fmt.Errorf("heads: row %d lists token %d, not in the vocabulary [0, %d)", t, id, v)
			}
		}
	}
	var parts []part
	for _, p := range spec.Target {
		if p.Weight == 0 {
			continue
		}
		target, ok := targets[p.Model]
		if !ok {
			return nil, fmt.Errorf("heads: the loss needs the logits of model %q", p.Model)
		}
		if target.D < 1 || len(target.W) != v*target.D || len(target.Hidden) != n*target.D {
			return nil, fmt.Errorf("heads: model %q has weight [%d] and hidden rows [%d] of size %d; want a vocabulary of %d and %d rows",
				p.Model, len(target.W), len(target.Hidden), target.D, v, n)
		}
		parts = append(parts, part{target, float32(p.Weight)})
	}
	return parts, nil
}

// allocate makes the fields that the head fills.
func allocate(mb *losses.Microbatch, spec losses.Spec) {
	n, k := mb.N(), mb.List[mb.N()]
	resize(&mb.Listed.LogP, k)
	resize(&mb.Listed.Logit, k)
	resize(&mb.Rows.LogZ, n)
	resize(&mb.Rows.Entropy, n)
	resize(&mb.Rows.RestLogP, n)
	if spec.Target != nil {
		resize(&mb.Listed.TargetLogP, k)
		resize(&mb.Rows.TargetKL, n)
		resize(&mb.Rows.TargetRestLogP, n)
	}
}

func resize[T any](s *[]T, n int) {
	if cap(*s) < n {
		*s = kernels.Make[T](n)
	}
	*s = (*s)[:n]
}

// run is one call of LM.Run.
type run struct {
	*LM
	loss    losses.Loss
	spec    losses.Spec
	mb      *losses.Microbatch
	hidden  []float32
	parts   []part
	dHidden []float32
	g       *losses.Grad
	v       int

	logZ, targetLogZ []float32 // of the rows of the microbatch
}

// project computes the logits of rows [lo,hi), and of their target rows.
func (r *run) project(lo, hi int) {
	n := hi - lo
	resize(&r.logits, n*r.v)
	r.Precision.MatMulNT(r.logits, r.hidden[lo*r.D:hi*r.D], r.W, n, r.v, r.D, 0)
	for i, p := range r.parts {
		rows := p.Hidden[lo*p.D : hi*p.D]
		if p.weight != 1 {
			r.scaled = append(r.scaled[:0], rows...)
			kernels.Scale(p.weight, r.scaled)
			rows = r.scaled
		}
		beta := float32(1)
		if i == 0 {
			resize(&r.target, n*r.v)
			beta = 0
		}
		p.Precision.MatMulNT(r.target, rows, p.W, n, r.v, p.D, beta)
	}
}

// forward fills the microbatch's numbers of rows [lo,hi).
func (r *run) forward(lo, hi int) error {
	r.project(lo, hi)
	mb := r.mb
	resize(&r.logZ, mb.N())
	resize(&r.listed, mb.List[hi]-mb.List[lo])
	if r.parts != nil {
		resize(&r.targetLogZ, mb.N())
		resize(&r.listedTarget, len(r.listed))
	}
	kernels.Parallel(hi-lo, 1+8192/r.v, func(a, b int) {
		for t := lo + a; t < lo+b; t++ {
			r.stats(t, lo)
		}
	})
	for t := lo; t < hi; t++ {
		if z := mb.Rows.LogZ[t]; math.IsNaN(z) || math.IsInf(z, 0) {
			return fmt.Errorf("heads: the logits of row %d are not finite", t)
		}
		if r.parts != nil && (math.IsNaN(mb.Rows.TargetKL[t]) || math.IsInf(mb.Rows.TargetKL[t], 0)) {
			return fmt.Errorf("heads: the logits of target row %d are not finite", t)
		}
	}
	return nil
}

// stats fills the numbers of row t from its logits, row t-lo of the chunk.
func (r *run) stats(t, lo int) {
	mb := r.mb
	first, end := mb.List[t], mb.List[t+1]
	ids := mb.Listed.ID[first:end]
	rest := mb.Listed.ID[0:0]
	if span := mb.RestSpan(r.spec.Rest, t); span.Len() > 0 {
		rest = mb.Listed.ID[span.Lo:span.Hi]
	}
	z := r.logits[(t-lo)*r.v : (t-lo+1)*r.v]
	listed := r.listed[first-mb.List[lo] : end-mb.List[lo]]
	st := kernels.Stats(z, ids, rest, listed)
	r.logZ[t] = st.LogZ
	mb.Rows.LogZ[t], mb.Rows.Entropy[t], mb.Rows.RestLogP[t] = float64(st.LogZ), float64(st.Entropy), float64(st.RestLogP)
	for i, x := range listed {
		// In single precision, as log-probs are stored: the same model gives a ratio of exactly 1.
		mb.Listed.LogP[first+i], mb.Listed.Logit[first+i] = float64(x-st.LogZ), float64(x)
	}
	if r.parts == nil {
		return
	}
	zt := r.target[(t-lo)*r.v : (t-lo+1)*r.v]
	listed = r.listedTarget[first-mb.List[lo] : end-mb.List[lo]]
	stt := kernels.Stats(zt, ids, rest, listed)
	r.targetLogZ[t] = stt.LogZ
	mb.Rows.TargetKL[t] = float64(kernels.TargetKL(z, zt, st.LogZ, stt.LogZ))
	mb.Rows.TargetRestLogP[t] = float64(stt.RestLogP)
	for i, x := range listed {
		mb.Listed.TargetLogP[first+i] = float64(x - stt.LogZ)
	}
}

// eval adds the loss of rows [lo,hi) to total.
func (r *run) eval(lo, hi int, total float64) float64 {
	total = evalSets(r.loss, r.spec.Coupling, r.mb, r.g, lo, hi, total)
	for t := lo; t < hi; t++ {
		if r.mb.Used(t) {
			r.g.Metrics.Add("model/entropy", r.mb.Rows.Entropy[t], 1)
		}
	}
	return total
}

// evalSets adds the loss of rows [lo,hi) to total, one coupled set after the other, so that the sum has one order whatever
// the chunks are.
func evalSets(l losses.Loss, c losses.Coupling, mb *losses.Microbatch, g *losses.Grad, lo, hi int, total float64) float64 {
	for lo < hi {
		mb.Lo, mb.Hi = lo, mb.SetEnd(c, lo)
		total += l.Eval(mb, g)
		lo = mb.Hi
	}
	return total
}

// backward overwrites the chunk's logits with their gradients and multiplies them out.
func (r *run) backward(lo, hi int) {
	kernels.Parallel(hi-lo, 1+8192/r.v, func(a, b int) {
		for t := lo + a; t < lo+b; t++ {
			r.rowGrad(t, lo)
		}
	})
	n := hi - lo
	r.Precision.MatMulNN(r.dHidden[lo*r.D:hi*r.D], r.logits, r.W, n, r.D, r.v, 0)
	if r.DW != nil {
		r.Precision.MatMulTN(r.DW, r.logits, r.hidden[lo*r.D:hi*r.D], r.v, r.D, n, 1)
	}
}

// rowGrad overwrites the logits of row t with a·π + b·π* + e·π∘(log π + H) + Σ d_i e_i. The listed entries, where the terms may nearly
// cancel (a sure token, a tiny bucket), are computed in double precision.
func (r *run) rowGrad(t, lo int) {
	mb, g := r.mb, r.g
	z := r.logits[(t-lo)*r.v : (t-lo+1)*r.v]
	var zt []float32
	var targetLogZ float32
	if r.parts != nil {
		zt, targetLogZ = r.target[(t-lo)*r.v:(t-lo+1)*r.v], r.targetLogZ[t]
	}
	kernels.RowGrad(z, r.logZ[t], float32(g.A[t]), float32(g.E[t]), float32(mb.Rows.Entropy[t]), zt, targetLogZ, float32(g.B[t]), nil, nil)
	first, end := mb.List[t], mb.List[t+1]
	ids := mb.Listed.ID[first:end]
	for i, id := range ids {
		if slices.Index(ids[:i], id) >= 0 {
			continue
		}
		x := (g.A[t] + g.E[t]*(mb.Listed.LogP[first+i]+mb.Rows.Entropy[t])) * math.Exp(mb.Listed.LogP[first+i])
		if zt != nil {
			x += g.B[t] * math.Exp(mb.Listed.TargetLogP[first+i])
		}
		for j := i; j < len(ids); j++ {
			if ids[j] == id {
				x += g.Listed[first+j]
			}
		}
		z[id] = float32(x)
	}
}
