package kernels

import (
	"math"
	"slices"

	"github.com/millrace/millrace/kernels/internal/asm"
)

const badAttention = "kernels: lengths do not match the shape of the attention"

// mostQueries is how many query rows share one pass over the keys at most.
const mostQueries = 96

// queryBlock is how many do: whole tiles, and for a tile unit whole blocks of steps, as the gradients of keys and values add over them.
func (p Precision) queryBlock() int {
	if p == BFloat16Tiles {
		return mostQueries
	}
	return 84
}

// Attention computes causal attention over packed sequences: rows starts[s] to starts[s+1] of q [T, heads·d], of k and v
// [T, kvHeads·d] and of y [T, heads·d] belong to sequence s. Query head h reads key and value head h/(heads/kvHeads). For row
// i of a sequence, y_i = Σ_{j≤i} p_ij·v_j with p_i = softmax_j≤i(q_i·k_j/√d). lse [T, heads] receives the logarithm of each
// softmax denominator, for the backward pass; it may be nil.
//
// Scores, maxima, sums and products over keys have orders fixed by the position within the sequence alone. Where operands are rounded,
// those of both products are, probabilities before they are divided by their sum.
// Vaswani and others, 2017 (arXiv 1706.03762); grouped heads: Ainslie and others, 2023 (arXiv 2305.13245).
func (p Precision) Attention(y, q, k, v []float32, starts []int, heads, kvHeads, headDim int, lse []float32) {
	p.AttentionSuffix(y, q, k, v, starts, starts, heads, kvHeads, headDim, lse)
}

// AttentionSuffix is Attention for the last tokens of each sequence alone: rows queries[s] to queries[s+1] of q, y and lse, which hold no
// others. Each row has the bits it has in Attention.
func (p Precision) AttentionSuffix(y, q, k, v []float32, queries, starts []int, heads, kvHeads, headDim int, lse []float32) {
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
		w := p.newHeadWork(n, headDim, 2, 1)
		defer w.release()
		keys := w.pack(0, matrix{k[kv:], 1, ldk}, headDim, n)
		values := w.pack(1, matrix{v[kv:], ldk, 1}, n, headDim)
		weights := w.rows[0]
		for i0 := first; i0 < n; i0 += w.most {
			b := w.block(i0, n)
			at := (row+i0)*ldq + h*headDim
			b.causal(weights, matrix{q[at:], ldq, 1}, keys)
			b.each(func(i, ir, end int) {
				scores := weights[ir*w.ld:]
				logDenominator, inv := softmaxRow(scores[:i+1], w.scale)
				clear(scores[i+1 : end])
				w.form.roundQuery(scores[:end], scores[:end])
				b.inv[ir] = inv
				if lse != nil {
					lse[(row+i)*heads+h] = logDenominator
				}
			})
			out := y[at:]
			b.over(out, ldq, weights, values, false)
			for i := range b.n {
				asm.Scale(b.inv[i], out[i*ldq:i*ldq+headDim])
			}
		}
	})
}

// Cache is the keys and values of the N tokens of a sequence in one layer, as CacheRows lays them out, with room for one more at least.
// Keys lie in panels of 32 tokens, each with the heads one after the other as [d, 32]; values are [tokens, kvHeads·d]. A decoding step
// reads both in order. Where operands are rounded a number stands for a pair, see asm.Pair: of two dimensions of a key, of two tokens of a
// value.
type Cache struct {
	Keys, Values []float32
	N            int
}

// CacheSize is how many numbers the keys and values of n tokens take. They are the first ones of a cache that is larger, so that is what
// copying a prefix takes.
func (p Precision) CacheSize(n, kvHeads, headDim int) (keys, values int) {
	return panelsOf(n) * panelWidth * kvHeads * p.cached(headDim), p.cached(n) * kvHeads * headDim
}

// cached is how many numbers hold n of them in a cache.
func (p Precision) cached(n int) int {
	if p.Rounds() {
		return pairsOf(n)
	}
	return n
}

// CacheRows writes keys and values [rows, kvHeads·d], those of the tokens from at on, to a cache.
func (p Precision) CacheRows(c Cache, k, v []float32, at, rows, kvHeads, headDim int) {
	ld := kvHeads * headDim
	if at < 0 || rows < 0 || len(k) != rows*ld || len(v) != len(k) || !p.holds(c, at+rows, kvHeads, headDim) {
		panic(badAttention)
	}
	p.cacheKeys(c.Keys, k, at, rows, kvHeads, headDim)
	if p == Float32 {
		copy(c.Values[at*ld:], v)
		return
	}
	for i := 0; i < rows; {
		t := at + i
		pairs, row := c.Values[t/2*ld:][:ld], v[i*ld:]
		if t%2 == 0 {
			steps := min(2, rows-i)
			interleaveRow(pairs, row, ld, steps)
			i += steps
			continue
		}
		for j := range pairs {
			pairs[j] = asm.Pair(pairs[j], asm.Rounded(row[j]))
		}
		i++
	}
}

// holds reports whether the cache has room for n tokens.
func (p Precision) holds(c Cache, n, kvHeads, headDim int) bool {
	keys, values := p.CacheSize(n, kvHeads, headDim)
	return len(c.Keys) >= keys && len(c.Values) >= values
}

func (p Precision) cacheKeys(cache, k []float32, at, rows, kvHeads, headDim int) {
	ld, words := kvHeads*headDim, p.cached(headDim)
	var pairs []float32
	if p.Rounds() {
		room, release := borrow(panelWidth * words)
		defer release()
		pairs = room
	}
	for i := 0; i < rows; {
		lane := (at + i) % panelWidth
		n := min(panelWidth-lane, rows-i)
		for g := range kvHeads {
			panel := cache[((at+i)/panelWidth*kvHeads+g)*words*panelWidth:][:words*panelWidth]
			from, stride := k[i*ld+g*headDim:], ld
			if p.Rounds() {
				for j := range n {
					asm.RoundPairs(pairs[j*words:], from[j*ld:j*ld+headDim])
				}
				from, stride = pairs, words
			}
			if lane == 0 && n > 1 {
				asm.PackT(panel, from, stride, n, words, panelWidth, false)
				continue
			}
			for j := range n {
				for d, v := range from[j*stride : j*stride+words] {
					panel[d*panelWidth+lane+j] = v
				}
			}
		}
		i += n
	}
}

// AttentionDecode adds a token to each cache, its key and value a row of k and v [len(caches), kvHeads·d], and computes the attention of
// its query, a row of q [len(caches), heads·d], over all N+1 tokens: the bits of the last row of Attention. N itself is left to the
// caller. Keys and values are read once, and fetched while the sequence before is computed.
func (p Precision) AttentionDecode(y, q, k, v []float32, caches []Cache, heads, kvHeads, headDim int) {
	none := []int{0}
	checkAttention(none, none, heads, kvHeads, headDim)
	ldq, ld := heads*headDim, kvHeads*headDim
	if len(q) != len(caches)*ldq || len(y) != len(q) || len(k) != len(caches)*ld || len(v) != len(k) {
		panic(badAttention)
	}
	work := 0
	for _, c := range caches {
		if c.N < 0 || !p.holds(c, c.N+1, kvHeads, headDim) {
			panic(badAttention)
		}
		work += 2 * (c.N + 1) * ldq
	}
	workers := Threads()
	if work <= serialWork {
		workers = 1
	}
	deal(len(caches), workers, func(i, next int) {
		c := caches[i]
		p.CacheRows(c, k[i*ld:(i+1)*ld], v[i*ld:(i+1)*ld], c.N, 1, kvHeads, headDim)
		var soonKeys, soonValues fetch
		if next >= 0 {
			soon := caches[next]
			keys, values := p.CacheSize(soon.N+1, kvHeads, headDim)
			soonKeys, soonValues = soon.Keys[:keys], soon.Values[:values]
		}
		p.decodeRow(y[i*ldq:(i+1)*ldq], q[i*ldq:(i+1)*ldq], c, soonKeys, soonValues, heads, kvHeads, headDim)
	})
}

// decodeRow is AttentionDecode of one sequence whose token is in the cache; it fetches other memory meanwhile.
func (p Precision) decodeRow(y, q []float32, c Cache, soonKeys, soonValues fetch, heads, kvHeads, headDim int) {
	f, group, ld, n := p.form(), heads/kvHeads, kvHeads*headDim, c.N+1
	scale := float32(1 / math.Sqrt(float64(headDim)))
	mr, nr := f.tileSize()
	tile := f.tile
	if p.Rounds() { // so the cache is in pairs
		tile = f.tilePaired
	}
	words := p.cached(headDim) // of a key
	ldh := f.words(headDim)    // of a query
	room, release := borrow(group*(n+1) + heads*ldh + f.words(n)*nr)
	defer release()
	s, inv, room := room[:group*n], room[group*n:group*(n+1)], room[group*(n+1):]
	panel := room[heads*ldh:]
	if f != numbers {
		for h := range heads {
			f.roundQuery(room[h*ldh:(h+1)*ldh], q[h*headDim:(h+1)*headDim])
		}
		q = room
	}
	for g := range kvHeads {
		qg, yg := q[g*group*ldh:], y[g*group*headDim:(g+1)*group*headDim]
		for j := 0; j < n; j += nr {
			keys := c.Keys[(j/panelWidth*kvHeads+g)*words*panelWidth+j%panelWidth:]
			for h := 0; h < group; h += mr {
				tile(min(mr, group-h), min(nr, n-j), ldh, qg[h*ldh:], ldh, 1, keys, panelWidth, s[h*n+j:], n, false, soonKeys.take(words*nr))
			}
		}
		for h := range group {
			row := s[h*n : (h+1)*n]
			_, inv[h] = softmaxRow(row, scale)
			f.roundQuery(row, row)
		}
		steps := f.words(n)
		for j := 0; j < headDim; j += nr {
			columns := min(nr, headDim-j)
			values, stride := c.Values[g*headDim+j:], ld
			if columns%asm.ColumnWidth() != 0 { // a tile reads whole registers: there may be no room behind the last
				asm.PackColumns(panel, nr, values, ld, columns, p.cached(n))
				values, stride = panel, nr
			}
			for h := 0; h < group; h += mr {
				tile(min(mr, group-h), columns, steps, s[h*n:], n, 1, values, stride, yg[h*headDim+j:], headDim, false, soonValues.take(steps*nr))
			}
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
func (p Precision) AttentionBackward(dq, dk, dv, dy, y, q, k, v []float32, starts []int, heads, kvHeads, headDim int, lse []float32) {
	p.AttentionSuffixBackward(dq, dk, dv, dy, y, q, k, v, starts, starts, heads, kvHeads, headDim, lse)
}

// AttentionSuffixBackward is AttentionBackward for AttentionSuffix: rows of dq and dy are those of q and y. In BFloat16Tiles the blocks of
// query rows that dk and dv add begin with the first row of a sequence that is there.
func (p Precision) AttentionSuffixBackward(dq, dk, dv, dy, y, q, k, v []float32, queries, starts []int, heads, kvHeads, headDim int,
	lse []float32) {
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
		w := p.newHeadWork(n, headDim, 3, 2)
		defer w.release()
		keysT := w.pack(0, matrix{k[kv:], 1, ldk}, headDim, n)
		valuesT := w.pack(1, matrix{v[kv:], 1, ldk}, headDim, n)
		keys := w.pack(2, matrix{k[kv:], ldk, 1}, n, headDim)
		weights, ds := w.rows[0], w.rows[1]
		for h := kvHead * group; h < (kvHead+1)*group; h++ {
			for i0 := first; i0 < n; i0 += w.most {
				b := w.block(i0, n)
				at := (row+i0)*ldq + h*headDim
				b.causal(weights, matrix{q[at:], ldq, 1}, keysT)
				b.causal(ds, matrix{dy[at:], ldq, 1}, valuesT) // dp = dy·vᵀ
				b.each(func(i, ir, _ int) {
					pr, dr, at := weights[ir*w.ld:], ds[ir*w.ld:], at+ir*ldq
					asm.SoftmaxExp(pr[:i+1], w.scale, lse[(row+i)*heads+h])
					// Σ_j p_j·dp_j = dy·y
					delta := asm.Dot(dy[at:at+headDim], y[at:at+headDim])
					asm.SoftmaxGrad(dr[:i+1], pr[:i+1], delta, w.scale)
					clear(pr[i+1 : i0+b.n])
					clear(dr[i+1 : b.end(b.n)])
				})
				w.multiply(dv[kv:], ldk, matrix{weights, 1, w.ld}, matrix{dy[at:], ldq, 1}, i0+b.n, headDim, b.n)
				w.multiply(dk[kv:], ldk, matrix{ds, 1, w.ld}, matrix{q[at:], ldq, 1}, i0+b.n, headDim, b.n)
				for ir := range b.n {
					row := ds[ir*w.ld : ir*w.ld+b.end(b.n)]
					w.form.roundQuery(row, row)
				}
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
	form        form
	most        int // query rows at a time
	dim, mr, nr int
	ld          int // from row to row of a block: n and some, so that rows do not fall on one another in the cache
	scale       float32
	packed      [3][]float32
	rows        [2][]float32
	queries     []float32 // room for a block of rows of dim
	turned      []float32 // room for a block of rows of n, in pairs of rows
	release     func()
}

func (p Precision) newHeadWork(n, dim, packs, rows int) *headWork {
	w := &headWork{form: p.form(), most: p.queryBlock(), dim: dim, ld: n + 16, scale: float32(1 / math.Sqrt(float64(dim)))}
	w.mr, w.nr = w.form.tileSize()
	packSize, rowSize := max(upTo(n, w.nr)*dim, n*upTo(dim, w.nr)), min(w.most, n)*w.ld
	querySize, turnedSize := min(w.most, n)*(dim+32), 0
	if w.form != numbers && rows > 1 {
		turnedSize = w.form.room(n, w.most)
	}
	scratch, release := borrow(packs*packSize + rows*rowSize + querySize + turnedSize)
	w.release = release
	for i := range packs {
		w.packed[i], scratch = scratch[:packSize], scratch[packSize:]
	}
	for i := range rows {
		w.rows[i], scratch = scratch[:rowSize], scratch[rowSize:]
	}
	w.queries, w.turned = scratch[:querySize], scratch[querySize:]
	return w
}

// panels is a k×n matrix packed in panels.
type panels struct {
	data []float32
	k, n int
}

func (w *headWork) pack(slot int, b matrix, k, n int) panels {
	dst := w.packed[slot]
	if w.form == numbers {
		packPanels(dst, b, 0, k, 0, n, w.nr, true)
		return panels{dst, k, n}
	}
	g := product{b: b, nr: w.nr, rows: k, form: w.form}
	words := w.form.words(k)
	for j := 0; j < n; j += w.nr {
		g.pack(dst[j*words:(j+w.nr)*words], 0, words, j, min(w.nr, n-j))
	}
	return panels{dst, words, n}
}

// multiply adds the product of a, which is turned, and b to c.
func (w *headWork) multiply(c []float32, ldc int, a, b matrix, m, n, k int) {
	if w.form != numbers {
		a = w.form.round(w.turned, a, m, k, here)
	}
	newProduct(w.form, c, ldc, a, b, n, k, true).block(0, m, 0, n)
}

// queryRows is a block of n query rows from i0 on, in tiles of about one height.
type queryRows struct {
	w            *headWork
	i0, n, tiles int
	keys         int // of the sequence
	inv          [mostQueries]float32
}

func (w *headWork) block(i0, rows int) *queryRows {
	n := min(w.most, rows-i0)
	return &queryRows{w: w, i0: i0, n: n, tiles: (n + w.mr - 1) / w.mr, keys: rows}
}

func (b *queryRows) tile(t int) (lo, hi int) { return t * b.n / b.tiles, (t + 1) * b.n / b.tiles }

// end is where the keys end that rows up to hi of the block are multiplied with: where words may be pairs, those are whole, so that every
// level adds as many products.
func (b *queryRows) end(hi int) int {
	if b.w.form == numbers {
		return b.i0 + hi
	}
	return min(upTo(b.i0+hi, 2), b.keys)
}

// each calls f for each row: i in the sequence, ir in the block, and where the keys of its tile end.
func (b *queryRows) each(f func(i, ir, end int)) {
	for t := range b.tiles {
		lo, hi := b.tile(t)
		for ir := lo; ir < hi; ir++ {
			f(b.i0+ir, ir, b.end(hi))
		}
	}
}

// causal computes rows of out as a·keys for every key up to the last row of each tile; keys is dim×n.
func (b *queryRows) causal(out []float32, a matrix, keys panels) {
	w := b.w
	if w.form == numbers {
		a = copyRows(w.queries, a, b.n, w.dim)
	} else {
		a = w.form.round(w.queries, a, b.n, w.dim, here)
	}
	for j := 0; j < b.i0+b.n; j += w.nr {
		for t := range b.tiles {
			lo, hi := b.tile(t)
			if nr := min(w.nr, b.i0+hi-j); nr > 0 {
				w.form.tile(hi-lo, nr, keys.k, a.at(lo, 0), a.rs, a.cs, keys.data[j*keys.k:], w.nr, out[lo*w.ld+j:], w.ld, false, asm.Soon{})
			}
		}
	}
}

// over computes c (+)= a·values over the keys up to the last row of each tile; a holds rows of rounded scores, values is n×dim.
func (b *queryRows) over(c []float32, ldc int, a []float32, values panels, load bool) {
	w := b.w
	for j := 0; j < values.n; j += w.nr {
		for t := range b.tiles {
			lo, hi := b.tile(t)
			w.form.tile(hi-lo, min(w.nr, values.n-j), w.form.words(b.end(hi)), a[lo*w.ld:], w.ld, 1, values.data[j*values.k:], w.nr, c[lo*ldc+j:],
				ldc, load, asm.Soon{})
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
