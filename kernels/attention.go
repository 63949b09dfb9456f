package kernels

import (
	"math"
	"slices"

	"github.com/millrace/millrace/kernels/internal/asm"
)

const badAttention = "kernels: lengths do not match the shape of the attention"

// queryBlock is how many query rows share one pass over the keys.
const queryBlock = 84

// Attention computes causal attention over packed sequences: rows starts[s] to starts[s+1] of q [T, heads·d], of k and v
// [T, kvHeads·d] and of y [T, heads·d] belong to sequence s. Query head h reads key and value head h/(heads/kvHeads). For row
// i of a sequence, y_i = Σ_{j≤i} p_ij·v_j with p_i = softmax_j≤i(q_i·k_j/√d). lse [T, heads] receives the logarithm of each
// softmax denominator, for the backward pass; it may be nil.
//
// Scores, maxima, sums and products over keys have orders fixed by the position within the sequence alone.
// Vaswani and others, 2017 (arXiv 1706.03762); grouped heads: Ainslie and others, 2023 (arXiv 2305.13245).
func Attention(y, q, k, v []float32, starts []int, heads, kvHeads, headDim int, lse []float32) {
	AttentionSuffix(y, q, k, v, starts, starts, heads, kvHeads, headDim, lse)
}

// AttentionSuffix is Attention for the last tokens of each sequence alone: rows queries[s] to queries[s+1] of q, y and lse, which hold no
// others. Each row has the bits it has in Attention.
func AttentionSuffix(y, q, k, v []float32, queries, starts []int, heads, kvHeads, headDim int, lse []float32) {
	rows, keys := checkAttention(queries, starts, heads, kvHeads, headDim)
	if len(y) != rows*heads*headDim || len(q) != len(y) || len(k) != keys*kvHeads*headDim || len(v) != len(k) ||
		lse != nil && len(lse) != rows*heads {
		panic(badAttention)
	}
	ldq, ldk, group := heads*headDim, kvHeads*headDim, heads/kvHeads
	forEachHead(queries, starts, heads, headDim, func(s, h int) {
		n, kv := starts[s+1]-starts[s], starts[s]*ldk+h/group*headDim
		first := n - (queries[s+1] - queries[s])
		row := queries[s] - first // of the token of position 0, if it had one
		w := newHeadWork(n, headDim, 2, 1)
		defer w.release()
		keys := w.pack(0, matrix{k[kv:], 1, ldk}, headDim, n)
		values := w.pack(1, matrix{v[kv:], ldk, 1}, n, headDim)
		p := w.rows[0]
		for i0 := first; i0 < n; i0 += queryBlock {
			b := w.block(i0, n)
			at := (row+i0)*ldq + h*headDim
			b.causal(p, matrix{q[at:], ldq, 1}, keys)
			b.each(func(i, ir, end int) {
				scores := p[ir*w.ld:]
				logDenominator, inv := softmaxRow(scores[:i+1], w.scale)
				clear(scores[i+1 : end])
				b.inv[ir] = inv
				if lse != nil {
					lse[(row+i)*heads+h] = logDenominator
				}
			})
			out := y[at:]
			b.over(out, ldq, p, values, false)
			for i := range b.n {
				asm.Scale(b.inv[i], out[i*ldq:i*ldq+headDim])
			}
		}
	})
}

// KeyRows is how many rows a cache of keys for n tokens has: whole panels.
func KeyRows(n int) int { return panelsOf(n) * panelWidth }

// CacheKeys writes keys [rows, kvHeads·d], those of the tokens from at on, to a cache of KeyRows(n)·kvHeads·d numbers. The cache holds
// panels of 32 tokens, each with the heads one after the other as [d, 32]: a decoding step reads it in order. The panels of the first n
// tokens are the first KeyRows(n)·kvHeads·d numbers, so that is what copying a prefix takes.
func CacheKeys(cache, k []float32, at, rows, kvHeads, headDim int) {
	ld := kvHeads * headDim
	if at < 0 || rows < 0 || len(k) != rows*ld || len(cache) < KeyRows(at+rows)*ld {
		panic(badAttention)
	}
	for i := 0; i < rows; {
		lane := (at + i) % panelWidth
		n := min(panelWidth-lane, rows-i)
		for g := range kvHeads {
			panel := cache[((at+i)/panelWidth*kvHeads+g)*headDim*panelWidth:][:headDim*panelWidth]
			from := k[i*ld+g*headDim:]
			if lane == 0 && n > 1 {
				asm.PackT(panel, from, ld, n, headDim, panelWidth, false)
				continue
			}
			for j := range n {
				for p, v := range from[j*ld : j*ld+headDim] {
					panel[p*panelWidth+lane+j] = v
				}
			}
		}
		i += n
	}
}

// Cache is the keys and values of the N tokens of a sequence in one layer, with room for one more at least: keys as CacheKeys lays them
// out, values [tokens, kvHeads·d].
type Cache struct {
	Keys, Values []float32
	N            int
}

// AttentionDecode adds a token to each cache, its key and value a row of k and v [len(caches), kvHeads·d], and computes the attention of
// its query, a row of q [len(caches), heads·d], over all N+1 tokens: the bits of the last row of Attention. N itself is left to the
// caller. Keys and values are read once, and fetched while the sequence before is computed.
func AttentionDecode(y, q, k, v []float32, caches []Cache, heads, kvHeads, headDim int) {
	none := []int{0}
	checkAttention(none, none, heads, kvHeads, headDim)
	ldq, ld := heads*headDim, kvHeads*headDim
	if len(q) != len(caches)*ldq || len(y) != len(q) || len(k) != len(caches)*ld || len(v) != len(k) {
		panic(badAttention)
	}
	work := 0
	for _, c := range caches {
		if c.N < 0 || len(c.Keys) < KeyRows(c.N+1)*ld || len(c.Values) < (c.N+1)*ld {
			panic(badAttention)
		}
		work += 2 * (c.N + 1) * ldq
	}
	workers := Threads()
	if work <= serialWork {
		workers = 1
	}
	deal(len(caches), workers, func(i, next int) {
		c := &caches[i]
		CacheKeys(c.Keys, k[i*ld:(i+1)*ld], c.N, 1, kvHeads, headDim)
		copy(c.Values[c.N*ld:], v[i*ld:(i+1)*ld])
		var soon Cache
		if next >= 0 {
			soon = caches[next]
		}
		decodeRow(y[i*ldq:(i+1)*ldq], q[i*ldq:(i+1)*ldq], c, soon, heads, kvHeads, headDim)
	})
}

// decodeRow is AttentionDecode of one sequence whose token is in the cache; it fetches the cache soon meanwhile.
func decodeRow(y, q []float32, c *Cache, soon Cache, heads, kvHeads, headDim int) {
	group, ld, n := heads/kvHeads, kvHeads*headDim, c.N+1
	scale := float32(1 / math.Sqrt(float64(headDim)))
	mr, nr := asm.TileSize()
	nextKeys, nextValues := fetch(soon.Keys), fetch(soon.Values)
	if soon.Keys != nil {
		nextKeys, nextValues = nextKeys[:KeyRows(soon.N+1)*ld], nextValues[:(soon.N+1)*ld]
	}
	s, release := borrow(group*n + group)
	defer release()
	s, inv := s[:group*n], s[group*n:]
	for g := range kvHeads {
		qg, yg := q[g*group*headDim:], y[g*group*headDim:(g+1)*group*headDim]
		for j := 0; j < n; j += nr {
			panel := c.Keys[(j/panelWidth*kvHeads+g)*headDim*panelWidth+j%panelWidth:]
			for h := 0; h < group; h += mr {
				asm.Tile(min(mr, group-h), min(nr, n-j), headDim, qg[h*headDim:], headDim, 1, panel, panelWidth, s[h*n+j:], n, false, false, nextKeys.take(headDim*nr))
			}
		}
		for h := range group {
			_, inv[h] = softmaxRow(s[h*n:(h+1)*n], scale)
		}
		if group <= mr && headDim%asm.ColumnWidth() == 0 {
			for j := 0; j < headDim; j += nr {
				asm.Tile(group, min(nr, headDim-j), n, s, n, 1, c.Values[g*headDim+j:], ld, yg[j:], headDim, false, false, nextValues.take(n*nr))
			}
		} else {
			smallGemm(yg, headDim, matrix{s, n, 1}, matrix{c.Values[g*headDim:], ld, 1}, group, headDim, n, false)
		}
		for h := range group {
			asm.Scale(inv[h], yg[h*headDim:(h+1)*headDim])
		}
	}
}

// fetch is memory that is read next.
type fetch []float32

// cut cuts off the first n numbers, or what there is.
func (f *fetch) cut(n int) fetch {
	n = min(n, len(*f))
	part := (*f)[:n]
	*f = (*f)[n:]
	return part
}

// take cuts off n numbers for a tile to fetch.
func (f *fetch) take(n int) asm.Soon {
	part := f.cut(n)
	return asm.Soon{Data: part, Run: len(part), Runs: min(len(part), 1)}
}

// AttentionBackward adds to dq, dk and dv the gradients of Attention for dy, given its inputs, its output y and its lse.
// Each element of dk and dv adds over query heads and then query rows in order.
func AttentionBackward(dq, dk, dv, dy, y, q, k, v []float32, starts []int, heads, kvHeads, headDim int, lse []float32) {
	AttentionSuffixBackward(dq, dk, dv, dy, y, q, k, v, starts, starts, heads, kvHeads, headDim, lse)
}

// AttentionSuffixBackward is AttentionBackward for AttentionSuffix: rows of dq and dy are those of q and y.
func AttentionSuffixBackward(dq, dk, dv, dy, y, q, k, v []float32, queries, starts []int, heads, kvHeads, headDim int, lse []float32) {
	rows, keyRows := checkAttention(queries, starts, heads, kvHeads, headDim)
	nq, nkv := rows*heads*headDim, keyRows*kvHeads*headDim
	if len(dq) != nq || len(dy) != nq || len(y) != nq || len(q) != nq || len(dk) != nkv || len(dv) != nkv || len(k) != nkv ||
		len(v) != nkv || len(lse) != rows*heads {
		panic(badAttention)
	}
	ldq, ldk, group := heads*headDim, kvHeads*headDim, heads/kvHeads
	forEachHead(queries, starts, kvHeads, group*headDim, func(s, kvHead int) {
		n, kv := starts[s+1]-starts[s], starts[s]*ldk+kvHead*headDim
		first := n - (queries[s+1] - queries[s])
		row := queries[s] - first
		w := newHeadWork(n, headDim, 3, 2)
		defer w.release()
		keysT := w.pack(0, matrix{k[kv:], 1, ldk}, headDim, n)
		valuesT := w.pack(1, matrix{v[kv:], 1, ldk}, headDim, n)
		keys := w.pack(2, matrix{k[kv:], ldk, 1}, n, headDim)
		p, ds := w.rows[0], w.rows[1]
		for h := kvHead * group; h < (kvHead+1)*group; h++ {
			for i0 := first; i0 < n; i0 += queryBlock {
				b := w.block(i0, n)
				at := (row+i0)*ldq + h*headDim
				b.causal(p, matrix{q[at:], ldq, 1}, keysT)
				b.causal(ds, matrix{dy[at:], ldq, 1}, valuesT) // dp = dy·vᵀ
				b.each(func(i, ir, _ int) {
					pr, dr, at := p[ir*w.ld:], ds[ir*w.ld:], at+ir*ldq
					asm.SoftmaxExp(pr[:i+1], w.scale, lse[(row+i)*heads+h])
					// Σ_j p_j·dp_j = dy·y
					delta := asm.Dot(dy[at:at+headDim], y[at:at+headDim])
					asm.SoftmaxGrad(dr[:i+1], pr[:i+1], delta, w.scale)
					clear(pr[i+1 : i0+b.n])
					clear(dr[i+1 : i0+b.n])
				})
				smallGemm(dv[kv:], ldk, matrix{p, 1, w.ld}, matrix{dy[at:], ldq, 1}, i0+b.n, headDim, b.n, true)
				smallGemm(dk[kv:], ldk, matrix{ds, 1, w.ld}, matrix{q[at:], ldq, 1}, i0+b.n, headDim, b.n, true)
				b.over(dq[at:], ldq, ds, keys, true)
			}
		}
	})
}

// checkAttention panics on bad offsets or head counts, and returns the numbers of query rows and of key rows.
func checkAttention(queries, starts []int, heads, kvHeads, headDim int) (rows, keys int) {
	if kvHeads < 1 || heads < kvHeads || heads%kvHeads != 0 || headDim < 1 {
		panic("kernels: attention needs heads a multiple of kvHeads and a positive headDim")
	}
	if len(starts) == 0 || starts[0] != 0 || len(queries) != len(starts) || queries[0] != 0 {
		panic("kernels: attention needs offsets that begin at 0")
	}
	for s := 1; s < len(starts); s++ {
		if starts[s] < starts[s-1] || queries[s] < queries[s-1] {
			panic("kernels: attention needs offsets that do not decrease")
		}
		if queries[s]-queries[s-1] > starts[s]-starts[s-1] {
			panic("kernels: attention needs a key for every query")
		}
	}
	return queries[len(queries)-1], starts[len(starts)-1]
}

// forEachHead calls f for every pair of a sequence with queries and a head, those with more work first; width is the work of a head on a
// pair of tokens.
func forEachHead(queries, starts []int, heads, width int, f func(s, head int)) {
	seqs := make([]int, 0, len(starts)-1)
	all := 0
	work := func(s int) int { return (queries[s+1] - queries[s]) * (starts[s+1] - starts[s]) }
	for s := range len(starts) - 1 {
		if w := work(s); w > 0 {
			seqs = append(seqs, s)
			all += w
		}
	}
	workers := Threads()
	if all*heads*width <= serialWork {
		workers = 1
	}
	if workers > 1 {
		slices.SortStableFunc(seqs, func(a, b int) int { return work(b) - work(a) })
	}
	items(len(seqs)*heads, workers, func(i int) { f(seqs[i/heads], i%heads) })
}

// headWork is the scratch of one head of one sequence of n tokens: packed operands and blocks of rows of n.
type headWork struct {
	dim, mr, nr int
	ld          int // from row to row of a block: n and some, so that rows do not fall on one another in the cache
	scale       float32
	packed      [3][]float32
	rows        [2][]float32
	queries     []float32 // room for a block of rows of dim
	release     func()
}

func newHeadWork(n, dim, packs, rows int) *headWork {
	w := &headWork{dim: dim, ld: n + 16, scale: float32(1 / math.Sqrt(float64(dim)))}
	w.mr, w.nr = asm.TileSize()
	up := func(x int) int { return (x + w.nr - 1) / w.nr * w.nr }
	packSize, rowSize := max(up(n)*dim, n*up(dim)), min(queryBlock, n)*w.ld
	querySize := min(queryBlock, n) * (dim + 16)
	scratch, release := borrow(packs*packSize + rows*rowSize + querySize)
	w.release = release
	for i := range packs {
		w.packed[i], scratch = scratch[:packSize], scratch[packSize:]
	}
	for i := range rows {
		w.rows[i], scratch = scratch[:rowSize], scratch[rowSize:]
	}
	w.queries = scratch
	return w
}

// panels is a k×n matrix packed in panels.
type panels struct {
	data []float32
	k, n int
}

func (w *headWork) pack(slot int, b matrix, k, n int) panels {
	packPanels(w.packed[slot], b, 0, k, 0, n, w.nr, true)
	return panels{w.packed[slot], k, n}
}

// queryRows is a block of n query rows from i0 on, in tiles of about one height.
type queryRows struct {
	w            *headWork
	i0, n, tiles int
	inv          [queryBlock]float32
}

func (w *headWork) block(i0, rows int) *queryRows {
	n := min(queryBlock, rows-i0)
	return &queryRows{w: w, i0: i0, n: n, tiles: (n + w.mr - 1) / w.mr}
}

func (b *queryRows) tile(t int) (lo, hi int) { return t * b.n / b.tiles, (t + 1) * b.n / b.tiles }

// each calls f for each row: i in the sequence, ir in the block, and where the keys of its tile end.
func (b *queryRows) each(f func(i, ir, end int)) {
	for t := range b.tiles {
		lo, hi := b.tile(t)
		for ir := lo; ir < hi; ir++ {
			f(b.i0+ir, ir, b.i0+hi)
		}
	}
}

// causal computes rows of out as a·keys for every key up to the last row of each tile; keys is dim×n.
func (b *queryRows) causal(out []float32, a matrix, keys panels) {
	w := b.w
	a = copyRows(w.queries, a, b.n, w.dim)
	for j := 0; j < b.i0+b.n; j += w.nr {
		for t := range b.tiles {
			lo, hi := b.tile(t)
			if nr := min(w.nr, b.i0+hi-j); nr > 0 {
				asm.Tile(hi-lo, nr, keys.k, a.at(lo, 0), a.rs, a.cs, keys.data[j*keys.k:], w.nr, out[lo*w.ld+j:], w.ld, false, false, asm.Soon{})
			}
		}
	}
}

// over computes c (+)= a·values over the keys up to the last row of each tile; a holds rows of scores, values is n×dim.
func (b *queryRows) over(c []float32, ldc int, a []float32, values panels, load bool) {
	w := b.w
	for j := 0; j < values.n; j += w.nr {
		for t := range b.tiles {
			lo, hi := b.tile(t)
			asm.Tile(hi-lo, min(w.nr, values.n-j), b.i0+hi, a[lo*w.ld:], w.ld, 1, values.data[j*values.k:], w.nr, c[lo*ldc+j:], ldc, load, false, asm.Soon{})
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
	newProduct(c, ldc, a, b, n, k, load).block(0, m, 0, n)
}
