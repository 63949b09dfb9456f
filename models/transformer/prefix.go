package transformer

import (
	"slices"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
)

// rowMap says which rows of a packed batch are computed. Where sequences begin with the same tokens, as the responses to one
// prompt do, their rows there are the same numbers: they are computed once. T are the rows of the batch, U ≤ T those that
// are computed.
type rowMap struct {
	starts []int   // [B+1] of the batch
	unique []int   // [T] computed row that holds the row
	first  []int   // [U] row of the batch that a computed row stands for
	tokens []int32 // [U]
	pos    []int32 // [U]
	shared bool    // whether U < T; if not, computed rows are the batch's, in order
}

// worthSharing is the share of rows, as its inverse, below which saving them does not pay for moving the others.
const worthSharing = 16

// set plans a checked batch; share allows rows to be shared.
func (r *rowMap) set(b models.Packed, share bool) {
	sequences := len(b.Starts) - 1
	r.starts = b.Starts
	fit(&r.unique, len(b.Tokens))
	r.first, r.tokens, r.pos = r.first[:0], r.tokens[:0], r.pos[:0]

	order, same := make([]int, sequences), make([]int, sequences)
	for s := range order {
		order[s] = s
	}
	r.shared = share && findPrefixes(b, order, same) > len(b.Tokens)/worthSharing
	if !r.shared {
		slices.Sort(order)
		clear(same)
	}
	for i, s := range order {
		lo, hi := b.Starts[s], b.Starts[s+1]
		if same[i] > 0 {
			before := b.Starts[order[i-1]]
			copy(r.unique[lo:lo+same[i]], r.unique[before:])
		}
		for row := lo + same[i]; row < hi; row++ {
			r.unique[row] = len(r.first)
			r.first = append(r.first, row)
			r.tokens = append(r.tokens, b.Tokens[row])
			r.pos = append(r.pos, int32(row-lo))
		}
	}
}

// findPrefixes sorts the sequences by their tokens, so that those that share the longest prefix are neighbours, and finds
// how many tokens each has in common with the one before it in this order. It returns their sum.
func findPrefixes(b models.Packed, order, same []int) int {
	tokens := func(s int) []int32 { return b.Tokens[b.Starts[s]:b.Starts[s+1]] }
	slices.SortStableFunc(order, func(x, y int) int { return slices.Compare(tokens(x), tokens(y)) })
	total := 0
	for i := 1; i < len(order); i++ {
		x, y := tokens(order[i-1]), tokens(order[i])
		for same[i] < min(len(x), len(y)) && x[same[i]] == y[same[i]] {
			same[i]++
		}
		total += same[i]
	}
	return total
}

// rows is the number of computed rows U.
func (r *rowMap) rows() int { return len(r.first) }

// spread overwrites all [T,width] from the computed rows [U,width].
func (r *rowMap) spread(all *[]float32, computed []float32, width int) []float32 {
	if !r.shared {
		return computed
	}
	fit(all, len(r.unique)*width)
	dst := *all
	kernels.Parallel(len(r.unique), 64, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			copy(dst[i*width:(i+1)*width], computed[r.unique[i]*width:][:width])
		}
	})
	return dst
}

// gather overwrites the computed rows [U,width] from the rows [T,width] they stand for.
func (r *rowMap) gather(computed, all []float32, width int) {
	for u, i := range r.first {
		copy(computed[u*width:(u+1)*width], all[i*width:][:width])
	}
}

// sum overwrites the computed rows with the sum over the rows that share each, in order: the gradient of spread.
func (r *rowMap) sum(computed, all []float32, width int) {
	clear(computed)
	for i, u := range r.unique {
		kernels.Add(computed[u*width:(u+1)*width], all[i*width:(i+1)*width])
	}
}

// spreadRows is the memory of attention over shared rows.
type spreadRows struct {
	q, k, v, y, lse    []float32 // [T, ...]
	dq, dk, dv, dy, dh []float32
}

// attention fills a.y and a.lse: causal attention within each sequence of the batch, on rows that may be shared.
func (r *rowMap) attention(c Config, m *spreadRows, a *activations) {
	qDim, kvDim := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	if !r.shared {
		kernels.Attention(a.y, a.q, a.k, a.v, r.starts, c.Heads, c.KVHeads, c.HeadDim, a.lse)
		return
	}
	t := len(r.unique)
	fit(&m.y, t*qDim)
	fit(&m.lse, t*c.Heads)
	kernels.Attention(m.y, r.spread(&m.q, a.q, qDim), r.spread(&m.k, a.k, kvDim), r.spread(&m.v, a.v, kvDim), r.starts,
		c.Heads, c.KVHeads, c.HeadDim, m.lse)
	r.gather(a.y, m.y, qDim)
	r.gather(a.lse, m.lse, c.Heads)
}

// attentionBackward overwrites s.dq, s.dk and s.dv from s.dy.
func (r *rowMap) attentionBackward(c Config, m *spreadRows, a *activations, s *scratch) {
	kernels.Zero(s.dq)
	kernels.Zero(s.dk)
	kernels.Zero(s.dv)
	qDim, kvDim := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	if !r.shared {
		kernels.AttentionBackward(s.dq, s.dk, s.dv, s.dy, a.y, a.q, a.k, a.v, r.starts, c.Heads, c.KVHeads, c.HeadDim, a.lse)
		return
	}
	// A shared query row counts once: where it appears again its gradient is zero. Its keys and values are read by every
	// sequence, so their gradients add up.
	t := len(r.unique)
	for _, part := range []struct {
		s     *[]float32
		width int
	}{{&m.dy, qDim}, {&m.dq, qDim}, {&m.dk, kvDim}, {&m.dv, kvDim}} {
		fit(part.s, t*part.width)
		kernels.Zero(*part.s)
	}
	for u, i := range r.first {
		copy(m.dy[i*qDim:(i+1)*qDim], s.dy[u*qDim:(u+1)*qDim])
	}
	kernels.AttentionBackward(m.dq, m.dk, m.dv, m.dy, r.spread(&m.y, a.y, qDim), r.spread(&m.q, a.q, qDim),
		r.spread(&m.k, a.k, kvDim), r.spread(&m.v, a.v, kvDim), r.starts, c.Heads, c.KVHeads, c.HeadDim, r.spread(&m.lse, a.lse, c.Heads))
	r.gather(s.dq, m.dq, qDim)
	r.sum(s.dk, m.dk, kvDim)
	r.sum(s.dv, m.dv, kvDim)
}
