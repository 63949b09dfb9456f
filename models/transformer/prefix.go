package transformer

import (
	"slices"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
)

// rowMap says which rows of a packed batch are computed. Where sequences begin with the same tokens, as the responses to one
// prompt do, their rows there are the same numbers: they are computed once. T are the rows of the batch, U ≤ T those that
// are computed: of one sequence after the other, in an order that brings shared beginnings together, the rows at its end that the
// one before does not have.
type rowMap struct {
	unique []int   // [T] computed row that holds the row of the batch
	tokens []int32 // [U]
	pos    []int32 // [U]
	shared bool    // whether U < T; if not, computed rows are the batch's, in order

	// Of attention, by sequence in the order of computed rows. Every sequence has its keys one after the other.
	queries []int // [B+1] where its computed rows begin
	starts  []int // [B+1] where its keys begin
	keys    []int // [T] computed row that holds a key; empty where nothing is shared
}

// worthSharing is the share of rows, as its inverse, below which saving them does not pay for moving the others.
const worthSharing = 16

// set plans a checked batch; share allows rows to be shared.
func (r *rowMap) set(b models.Packed, share bool) {
	sequences := len(b.Starts) - 1
	fit(&r.unique, len(b.Tokens))
	r.tokens, r.pos, r.keys = r.tokens[:0], r.pos[:0], r.keys[:0]

	order, same := make([]int, sequences), make([]int, sequences)
	for s := range order {
		order[s] = s
	}
	r.shared = share && findPrefixes(b, order, same) > len(b.Tokens)/worthSharing
	if !r.shared {
		slices.Sort(order)
		clear(same)
	}
	r.queries, r.starts = append(r.queries[:0], 0), append(r.starts[:0], 0)
	for i, s := range order {
		lo, hi := b.Starts[s], b.Starts[s+1]
		if same[i] > 0 {
			before := b.Starts[order[i-1]]
			copy(r.unique[lo:lo+same[i]], r.unique[before:])
		}
		for row := lo + same[i]; row < hi; row++ {
			r.unique[row] = len(r.tokens)
			r.tokens = append(r.tokens, b.Tokens[row])
			r.pos = append(r.pos, int32(row-lo))
		}
		r.queries, r.starts = append(r.queries, len(r.tokens)), append(r.starts, r.starts[i]+hi-lo)
		if r.shared {
			r.keys = append(r.keys, r.unique[lo:hi]...)
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
func (r *rowMap) rows() int { return len(r.tokens) }

// spread overwrites all [T,width] from the computed rows [U,width].
func (r *rowMap) spread(all *[]float32, computed []float32, width int) []float32 {
	if !r.shared {
		return computed
	}
	return spread(all, computed, r.unique, width)
}

// sum overwrites the computed rows [U,width] with the sum of the rows [T,width] that share each: the gradient of spread.
func (r *rowMap) sum(computed *[]float32, all []float32, width int) []float32 {
	if !r.shared {
		return all
	}
	fit(computed, r.rows()*width)
	sum(*computed, all, r.unique, width)
	return *computed
}

// spread overwrites rows with those of from that the index names.
func spread(rows *[]float32, from []float32, index []int, width int) []float32 {
	fit(rows, len(index)*width)
	dst := *rows
	kernels.Parallel(len(index), 64, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			copy(dst[i*width:(i+1)*width], from[index[i]*width:][:width])
		}
	})
	return dst
}

// sum overwrites into with the sums of the rows that the index gives to each, in order.
func sum(into, rows []float32, index []int, width int) {
	kernels.Zero(into)
	kernels.Parallel(width, 64, func(lo, hi int) { // threads have columns of their own, so that every sum keeps its order
		for i, u := range index {
			kernels.Add(into[u*width+lo:u*width+hi], rows[i*width+lo:i*width+hi])
		}
	})
}

// keyRows is the memory of attention over shared rows: the keys and values of every sequence, one after the other.
type keyRows struct {
	k, v, dk, dv []float32 // [T,G·d]
}

// attentionShape is what attention needs to know of a model.
type attentionShape struct {
	heads, groups, dim int
	precision          kernels.Precision
}

func (m *Model) shape() attentionShape {
	return attentionShape{m.config.Heads, m.config.KVHeads, m.config.HeadDim, m.precision}
}

// attention fills a.y and a.lse: causal attention within each sequence of the batch, on rows that may be shared.
func (r *rowMap) attention(c attentionShape, m *keyRows, a *activations) {
	k, v := a.k, a.v
	if r.shared {
		width := c.groups * c.dim
		k, v = spread(&m.k, a.k, r.keys, width), spread(&m.v, a.v, r.keys, width)
	}
	c.precision.AttentionSuffix(a.y, a.q, k, v, r.queries, r.starts, c.heads, c.groups, c.dim, a.lse)
}

// attentionBackward overwrites s.dq, s.dk and s.dv from s.dy. A shared key or value is read by every sequence that has it, so their
// gradients add up.
func (r *rowMap) attentionBackward(c attentionShape, m *keyRows, a *activations, s *scratch) {
	width := c.groups * c.dim
	k, v, dk, dv := a.k, a.v, s.dk, s.dv
	if r.shared {
		k, v = spread(&m.k, a.k, r.keys, width), spread(&m.v, a.v, r.keys, width)
		fit(&m.dk, len(k))
		fit(&m.dv, len(v))
		dk, dv = m.dk, m.dv
	}
	kernels.Zero(s.dq)
	kernels.Zero(dk)
	kernels.Zero(dv)
	c.precision.AttentionSuffixBackward(s.dq, dk, dv, s.dy, a.y, a.q, k, v, r.queries, r.starts, c.heads, c.groups, c.dim, a.lse)
	if r.shared {
		sum(s.dk, dk, r.keys, width)
		sum(s.dv, dv, r.keys, width)
	}
}
