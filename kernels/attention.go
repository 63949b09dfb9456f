package kernels

import (
	"math"

	"github.com/millrace/millrace/kernels/internal/asm"
)

const badAttention = "kernels: lengths do not match the shape of the attention"

// queryBlock is how many query rows share one pass over the keys.
const queryBlock = 64

// Attention computes causal attention over packed sequences: rows starts[s] to starts[s+1] of q [T, heads·d], of k and v
// [T, kvHeads·d] and of y [T, heads·d] belong to sequence s. Query head h reads key and value head h/(heads/kvHeads). For row
// i of a sequence, y_i = Σ_{j≤i} p_ij·v_j with p_i = softmax_j≤i(q_i·k_j/√d). lse [T, heads] receives the logarithm of each
// softmax denominator, for the backward pass; it may be nil.
//
// Scores, maxima, sums and products over keys have orders fixed by the position within the sequence alone.
// Vaswani and others, 2017 (arXiv 1706.03762); grouped heads: Ainslie and others, 2023 (arXiv 2305.13245).
func Attention(y, q, k, v []float32, starts []int, heads, kvHeads, headDim int, lse []float32) {
	rows := checkAttention(starts, heads, kvHeads, headDim)
	if len(y) != rows*heads*headDim || len(q) != len(y) || len(k) != rows*kvHeads*headDim || len(v) != len(k) ||
		lse != nil && len(lse) != rows*heads {
		panic(badAttention)
	}
	forEachHead(starts, kvHeads, func(lo, hi, kvHead int) {
		a := newHeadPass(q, k, v, lo, hi, heads, kvHeads, headDim, kvHead)
		defer a.release()
		for h := kvHead * a.group; h < (kvHead+1)*a.group; h++ {
			for i0 := 0; i0 < hi-lo; i0 += queryBlock {
				i1 := min(i0+queryBlock, hi-lo)
				a.scores(h, i0, i1)
				for i := i0; i < i1; i++ {
					p := a.s[(i-i0)*a.lds:]
					logDenominator, inv := softmaxRow(p[:i+1], a.scale)
					clear(p[i+1 : i1])
					a.inv[i-i0] = inv
					if lse != nil {
						lse[(lo+i)*heads+h] = logDenominator
					}
				}
				out := y[(lo+i0)*heads*headDim+h*headDim:]
				smallGemm(out, heads*headDim, matrix{a.s, a.lds, 1}, matrix{a.v, a.ldv, 1}, i1-i0, headDim, i1, false)
				for i := range i1 - i0 {
					asm.Scale(a.inv[i], out[i*heads*headDim:i*heads*headDim+headDim])
				}
			}
		}
	})
}

// AttentionDecode computes the attention of one query row q [heads·d] over a cache of n keys and values
// [n, kvHeads·d] that includes its own: the same bits as row n-1 of Attention.
func AttentionDecode(y, q, k, v []float32, n int, heads, kvHeads, headDim int) {
	checkAttention([]int{0, n}, heads, kvHeads, headDim)
	if n < 1 || len(y) != heads*headDim || len(q) != len(y) || len(k) < n*kvHeads*headDim || len(v) < n*kvHeads*headDim {
		panic(badAttention)
	}
	group, ld := heads/kvHeads, kvHeads*headDim
	scale := float32(1 / math.Sqrt(float64(headDim)))
	s, release := borrow(group * n)
	defer release()
	for g := range kvHeads {
		qg, yg := q[g*group*headDim:], y[g*group*headDim:(g+1)*group*headDim]
		smallGemm(s, n, matrix{qg, headDim, 1}, matrix{k[g*headDim:], 1, ld}, group, n, headDim, false)
		var inv [1]float32
		for h := range group {
			_, inv[0] = softmaxRow(s[h*n:(h+1)*n], scale)
			out := yg[h*headDim : (h+1)*headDim]
			smallGemm(out, headDim, matrix{s[h*n:], n, 1}, matrix{v[g*headDim:], ld, 1}, 1, headDim, n, false)
			asm.Scale(inv[0], out)
		}
	}
}

// AttentionBackward adds to dq, dk and dv the gradients of Attention for dy, given its inputs, its output y and its lse.
// Each element of dk and dv adds over query heads and then query rows in order.
func AttentionBackward(dq, dk, dv, dy, y, q, k, v []float32, starts []int, heads, kvHeads, headDim int, lse []float32) {
	rows := checkAttention(starts, heads, kvHeads, headDim)
	nq, nkv := rows*heads*headDim, rows*kvHeads*headDim
	if len(dq) != nq || len(dy) != nq || len(y) != nq || len(q) != nq || len(dk) != nkv || len(dv) != nkv || len(k) != nkv ||
		len(v) != nkv || len(lse) != rows*heads {
		panic(badAttention)
	}
	ldq, ldk := heads*headDim, kvHeads*headDim
	forEachHead(starts, kvHeads, func(lo, hi, kvHead int) {
		a := newHeadPass(q, k, v, lo, hi, heads, kvHeads, headDim, kvHead)
		defer a.release()
		n := hi - lo
		ds, release := borrow(min(queryBlock, n) * n)
		defer release()
		for h := kvHead * a.group; h < (kvHead+1)*a.group; h++ {
			for i0 := 0; i0 < n; i0 += queryBlock {
				i1 := min(i0+queryBlock, n)
				at := (lo+i0)*ldq + h*headDim
				a.scores(h, i0, i1)
				// dp = dy·vᵀ
				smallGemm(ds, n, matrix{dy[at:], ldq, 1}, matrix{a.v, 1, a.ldv}, i1-i0, i1, headDim, false)
				for i := i0; i < i1; i++ {
					p, d := a.s[(i-i0)*a.lds:], ds[(i-i0)*n:]
					asm.SoftmaxExp(p[:i+1], a.scale, lse[(lo+i)*heads+h])
					row := at + (i-i0)*ldq
					// Σ_j p_j·dp_j = dy·y
					delta := asm.Dot(dy[row:row+headDim], y[row:row+headDim])
					asm.SoftmaxGrad(d[:i+1], p[:i+1], delta, a.scale)
					clear(p[i+1 : i1])
					clear(d[i+1 : i1])
				}
				smallGemm(dv[lo*ldk+kvHead*headDim:], ldk, matrix{a.s, 1, a.lds}, matrix{dy[at:], ldq, 1}, i1, headDim, i1-i0, true)
				smallGemm(dk[lo*ldk+kvHead*headDim:], ldk, matrix{ds, 1, n}, matrix{q[at:], ldq, 1}, i1, headDim, i1-i0, true)
				smallGemm(dq[at:], ldq, matrix{ds, n, 1}, matrix{a.k, a.ldk, 1}, i1-i0, headDim, i1, true)
			}
		}
	})
}

// checkAttention panics on bad offsets or head counts, and returns the number of rows.
func checkAttention(starts []int, heads, kvHeads, headDim int) (rows int) {
	if kvHeads < 1 || heads < kvHeads || heads%kvHeads != 0 || headDim < 1 {
		panic("kernels: attention needs heads a multiple of kvHeads and a positive headDim")
	}
	if len(starts) == 0 || starts[0] != 0 {
		panic("kernels: attention needs offsets that begin at 0")
	}
	for s := 1; s < len(starts); s++ {
		if starts[s] < starts[s-1] {
			panic("kernels: attention needs offsets that do not decrease")
		}
	}
	return starts[len(starts)-1]
}

// forEachHead calls f for every pair of a non-empty sequence, rows [lo,hi), and a key head.
func forEachHead(starts []int, kvHeads int, f func(lo, hi, kvHead int)) {
	n, work := (len(starts)-1)*kvHeads, 0
	for s := range len(starts) - 1 {
		work += (starts[s+1] - starts[s]) * (starts[s+1] - starts[s])
	}
	workers := Threads()
	if work*kvHeads < 1<<13 {
		workers = 1
	}
	items(n, workers, func(i int) {
		if lo, hi := starts[i/kvHeads], starts[i/kvHeads+1]; lo < hi {
			f(lo, hi, i%kvHeads)
		}
	})
}

// headPass is the work on one key head of one sequence.
type headPass struct {
	q, k, v            []float32 // from the first row of the sequence; k and v from the head's column
	ldq, ldk, ldv      int
	headDim, group, nr int
	scale              float32
	keys               []float32 // kᵀ in panels
	s                  []float32 // scores, then probabilities: queryBlock rows
	lds                int
	inv                [queryBlock]float32
	release            func()
}

func newHeadPass(q, k, v []float32, lo, hi, heads, kvHeads, headDim, kvHead int) *headPass {
	ldk := kvHeads * headDim
	a := &headPass{
		q: q[lo*heads*headDim:], ldq: heads * headDim,
		k: k[lo*ldk+kvHead*headDim:], ldk: ldk,
		v: v[lo*ldk+kvHead*headDim:], ldv: ldk,
		headDim: headDim, group: heads / kvHeads,
		scale: float32(1 / math.Sqrt(float64(headDim))),
		lds:   hi - lo,
	}
	_, a.nr = asm.TileSize()
	n := hi - lo
	padded := (n + a.nr - 1) / a.nr * a.nr
	scratch, release := borrow(padded*headDim + min(queryBlock, n)*n)
	a.release = release
	a.keys, a.s = scratch[:padded*headDim], scratch[padded*headDim:]
	packPanels(a.keys, matrix{a.k, 1, ldk}, 0, headDim, 0, n, a.nr)
	return a
}

// scores fills s with q_i·k_j for rows [i0,i1) of head h and keys [0,i1).
func (a *headPass) scores(h, i0, i1 int) {
	q := matrix{a.q[i0*a.ldq+h*a.headDim:], a.ldq, 1}
	mr, _ := asm.TileSize()
	tiles := (i1 - i0 + mr - 1) / mr
	for j := 0; j < i1; j += a.nr {
		for t := range tiles {
			ir, end := t*(i1-i0)/tiles, (t+1)*(i1-i0)/tiles
			asm.Tile(end-ir, min(a.nr, i1-j), a.headDim, q.at(ir, 0), q.rs, 1, a.keys[j*a.headDim:], a.nr, a.s[ir*a.lds+j:], a.lds, false)
		}
	}
}

// softmaxRow overwrites scores s with e^(scale·s - max) and returns the logarithm of their softmax denominator and the
// reciprocal of their sum.
func softmaxRow(s []float32, scale float32) (lse, inv float32) {
	shift := asm.Max(s) * scale
	sum := asm.SoftmaxExp(s, scale, shift)
	return shift + float32(math.Log(float64(sum))), 1 / sum
}

// smallGemm is gemm on the calling goroutine; load adds to c.
func smallGemm(c []float32, ldc int, a, b matrix, m, n, k int, load bool) {
	g := product{c: c, ldc: ldc, a: a, b: b, k: k, load: load}
	g.mr, g.nr = asm.TileSize()
	g.block(0, m, 0, n)
}
