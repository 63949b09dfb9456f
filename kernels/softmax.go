package kernels

import (
	"math"
	"slices"

	"github.com/millrace/millrace/kernels/internal/asm"
)

// rowBlock is the length of the blocks in which a row of logits is read: sums within a block are single precision, blocks
// are added in order in double precision.
const rowBlock = 2048

// RowStats are the statistics of one row of logits.
type RowStats struct {
	LogZ     float32 // logarithm of the softmax denominator
	Entropy  float32 // of the softmax, in nats
	RestLogP float32 // log of the mass of the tokens that were not set aside; 0 when none were named
	Max      float32 // largest logit
}

// rowSum is Σ e^(z-max) and Σ e^(z-max)·(z-max) of the blocks seen so far, relative to the largest logit so far.
type rowSum struct{ max, s, t float64 }

// add merges a block with maximum m and sums s, t relative to m.
func (r *rowSum) add(m, s, t float64) {
	if m > r.max {
		d := r.max - m // -Inf at first
		if w := math.Exp(d); w > 0 {
			r.t = (r.t + r.s*d) * w
			r.s *= w
		}
		r.max = m
		r.s, r.t = r.s+s, r.t+t
		return
	}
	d := m - r.max
	w := math.Exp(d)
	if w == 0 {
		return
	}
	r.s += s * w
	r.t += (t + s*d) * w
}

func (r *rowSum) addBlock(z []float32) {
	m := asm.Max(z)
	if math.IsInf(float64(m), 0) || len(z) == 0 {
		switch {
		case m > 0:
			r.s, r.t, r.max = math.NaN(), math.NaN(), math.Inf(1)
		case slices.ContainsFunc(z, func(v float32) bool { return v != v }):
			r.s, r.t = math.NaN(), math.NaN()
		}
		return
	}
	s, t := asm.ExpSum(z, m)
	r.add(float64(m), float64(s), float64(t))
}

func (r *rowSum) logZ() float32 { return float32(r.max + math.Log(r.s)) }

func sumRow(z []float32) rowSum {
	r := rowSum{max: math.Inf(-1)}
	for len(z) > 0 {
		n := min(rowBlock, len(z))
		r.addBlock(z[:n])
		z = z[n:]
	}
	return r
}

// Stats reads one row of logits z once: the softmax denominator, the entropy, and the logits of the listed ids, written to
// logits. With a list rest it also gives the log mass of all tokens but those, as a sum over the others, exact where one
// minus the listed mass would have no digit left. LogZ does not depend on rest. Minus infinity is a forbidden token.
func Stats(z []float32, ids []int32, rest []int32, logits []float32) RowStats {
	if len(logits) != len(ids) {
		panic("kernels: Stats needs as many logits as ids")
	}
	r := sumRow(z)
	st := RowStats{LogZ: r.logZ(), Entropy: float32(math.Log(r.s) - r.t/r.s), Max: float32(r.max)}
	for i, id := range ids {
		logits[i] = z[id]
	}
	if len(rest) > 0 {
		st.RestLogP = float32(float64(sumWithout(z, rest)) - (r.max + math.Log(r.s)))
	}
	return st
}

// sumWithout returns the logarithm of Σ e^z over the tokens not listed.
func sumWithout(z []float32, ids []int32) float64 {
	var small [64]int32
	sorted := append(small[:0], ids...)
	slices.Sort(sorted)
	scratch, release := borrow(rowBlock)
	defer release()
	r := rowSum{max: math.Inf(-1)}
	for at := 0; at < len(z); at += rowBlock {
		block := z[at:min(at+rowBlock, len(z))]
		if len(sorted) > 0 && int(sorted[0]) < at+len(block) {
			block = scratch[:copy(scratch, block)]
			for len(sorted) > 0 && int(sorted[0]) < at+len(block) {
				block[int(sorted[0])-at] = float32(math.Inf(-1))
				sorted = sorted[1:]
			}
		}
		r.addBlock(block)
	}
	return r.max + math.Log(r.s)
}

// LogSumExp returns log Σ e^z[i], and -Inf for an empty row.
func LogSumExp(z []float32) float32 {
	r := sumRow(z)
	return r.logZ()
}

// LogSoftmax writes z[i] - LogSumExp(z); dst may be z.
func LogSoftmax(dst, z []float32) {
	if len(dst) != len(z) {
		panic(badLength)
	}
	asm.SubTo(dst, z, LogSumExp(z))
}

// LogSoftmaxRows is LogSoftmax of each row of z [rows,n], rows shared among the threads.
func LogSoftmaxRows(dst, z []float32, rows, n int) {
	if len(dst) != rows*n || len(z) != rows*n {
		panic(badRows)
	}
	Parallel(rows, max(1, vectorGrain/8/max(n, 1)), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			LogSoftmax(dst[r*n:(r+1)*n], z[r*n:(r+1)*n])
		}
	})
}

// TargetKL returns KL(softmax(zt) ‖ softmax(z)) for rows whose log denominators are logZt and logZ.
func TargetKL(z, zt []float32, logZ, logZt float32) float32 {
	if len(z) != len(zt) {
		panic(badLength)
	}
	var s float64
	for len(z) > 0 {
		n := min(rowBlock, len(z))
		s += float64(asm.ExpDotDiff(z[:n], zt[:n], logZt))
		z, zt = z[n:], zt[n:]
	}
	return float32(s + float64(logZ) - float64(logZt))
}

// RowGrad overwrites the logits z with a·π + e·π∘(log π + h) + b·softmax(zt) + Σ_i d[i]·e_ids[i], π = softmax(z), the gradient every
// loss has. zt may be nil; ids may repeat.
func RowGrad(z []float32, logZ, a, e, h float32, zt []float32, logZt, b float32, ids []int32, d []float32) {
	if len(d) != len(ids) || zt != nil && len(zt) != len(z) {
		panic(badLength)
	}
	switch {
	case e != 0:
		entropyGrad(z, logZ, a, e, h)
	case a == 0:
		clear(z)
	default:
		asm.ExpScale(z, logZ, a)
	}
	if zt != nil && b != 0 {
		asm.AddExpScale(z, zt, logZt, b)
	}
	for i, id := range ids {
		z[id] += d[i]
	}
}

// entropyGrad overwrites z with π·(a + e·(log π + h)).
func entropyGrad(z []float32, logZ, a, e, h float32) {
	scratch, release := borrow(rowBlock)
	defer release()
	for len(z) > 0 {
		n := min(rowBlock, len(z))
		p := scratch[:copy(scratch, z[:n])]
		asm.ExpScale(p, logZ, 1)
		for i, x := range p {
			if x == 0 { // a forbidden token, whose log-prob is minus infinity
				z[i] = 0
				continue
			}
			// Each step is rounded, so that no processor fuses them.
			z[i] = float32(x * float32(a+float32(e*float32(z[i]-logZ+h))))
		}
		z = z[n:]
	}
}

// TopK finds the most probable tokens of a row: at most k, each with log-prob z - logZ of at least log(minP), in descending
// order, ties to the smaller id. It writes ids and logp, which hold k or more, and returns the count. NaN is never chosen.
func TopK(z []float32, logZ float32, k int, minP float32, ids []int32, logp []float32) int {
	if k < 0 || len(ids) < k || len(logp) < k {
		panic("kernels: TopK needs room for k results")
	}
	if k == 0 {
		return 0
	}
	floor := float32(math.Inf(-1))
	if minP > 0 {
		floor = float32(math.Log(float64(minP)))
	}
	n := 0
	for at := 0; at < len(z); at += topBlock {
		block := z[at:min(at+topBlock, len(z))]
		// A block whose best cannot enter is passed over; equal does not enter, as its id is larger.
		m := asm.Max(block)
		if n == k && m-logZ <= logp[k-1] || m-logZ < floor {
			continue
		}
		for i, v := range block {
			l := v - logZ
			if !(l >= floor) || n == k && l <= logp[k-1] {
				continue
			}
			if n < k {
				n++
			}
			j := n - 1
			for j > 0 && logp[j-1] < l {
				ids[j], logp[j] = ids[j-1], logp[j-1]
				j--
			}
			ids[j], logp[j] = int32(at+i), l
		}
	}
	return n
}

// topBlock is the length of the blocks whose maximum decides whether TopK looks inside.
const topBlock = 256
