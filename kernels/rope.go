package kernels

import (
	"math"
	"slices"
	"sync"

	"github.com/millrace/millrace/kernels/internal/asm"
)

// RoPE rotates x [rows, heads·headDim] in place: in each head, the pair (j, j + headDim/2) turns by pos[row]·invFreq[j];
// inverse turns back, which is the backward pass. Su and others, RoFormer, 2021 (arXiv 2104.09864), in the half-split
// layout. Angles are taken in double precision.
func RoPE(x []float32, pos []int32, heads, headDim int, invFreq []float64, inverse bool) {
	half := headDim / 2
	if headDim != 2*half || len(invFreq) != half || len(x) != len(pos)*heads*headDim {
		panic("kernels: RoPE needs x of len(pos) × heads × headDim and headDim/2 frequencies")
	}
	if half == 0 || heads == 0 {
		return
	}
	Parallel(len(pos), rowGrain(heads*headDim), func(lo, hi int) {
		var turns []float32
		var scratch []float32
		t := rotations(invFreq)
		for r := lo; r < hi; r++ {
			turns, scratch = t.at(pos[r], scratch)
			cos, sin := turns[:half], turns[half:2*half]
			if inverse {
				sin = turns[2*half:]
			}
			row := x[r*heads*headDim : (r+1)*heads*headDim]
			for h := 0; h < len(row); h += headDim {
				asm.Rotate(row[h:h+half], row[h+half:h+headDim], cos, sin)
			}
		}
	})
}

// rotationTable holds cosines, sines and negated sines of one set of frequencies, a position at a time.
type rotationTable struct {
	invFreq []float64
	mu      sync.RWMutex
	rows    [][]float32 // rows[pos]: cos, sin, -sin, each len(invFreq); nil until asked for
}

// maxTablePositions bounds the memory of a table; positions beyond it are computed on each call.
const maxTablePositions = 1 << 15

var tables struct {
	mu   sync.RWMutex
	list []*rotationTable // the few sets in use, newest last
}

// rotations returns the table of these frequencies. A process holds few models, so a short list is enough.
func rotations(invFreq []float64) *rotationTable {
	tables.mu.RLock()
	for _, t := range tables.list {
		if slices.Equal(t.invFreq, invFreq) {
			tables.mu.RUnlock()
			return t
		}
	}
	tables.mu.RUnlock()
	tables.mu.Lock()
	defer tables.mu.Unlock()
	for _, t := range tables.list {
		if slices.Equal(t.invFreq, invFreq) {
			return t
		}
	}
	t := &rotationTable{invFreq: slices.Clone(invFreq)}
	if len(tables.list) == 8 {
		tables.list = slices.Delete(tables.list, 0, 1)
	}
	tables.list = append(tables.list, t)
	return t
}

// at returns the row of a position, in the table or in scratch, which it may grow.
func (t *rotationTable) at(pos int32, scratch []float32) (row, grown []float32) {
	if pos < 0 || pos >= maxTablePositions {
		if scratch == nil {
			scratch = make([]float32, 3*len(t.invFreq))
		}
		t.compute(scratch, pos)
		return scratch, scratch
	}
	t.mu.RLock()
	if int(pos) < len(t.rows) && t.rows[pos] != nil {
		row = t.rows[pos]
	}
	t.mu.RUnlock()
	if row != nil {
		return row, scratch
	}
	row = make([]float32, 3*len(t.invFreq))
	t.compute(row, pos)
	t.mu.Lock()
	if int(pos) >= len(t.rows) {
		t.rows = append(t.rows, make([][]float32, max(int(pos)+1, 2*len(t.rows))-len(t.rows))...)
	}
	t.rows[pos] = row
	t.mu.Unlock()
	return row, scratch
}

func (t *rotationTable) compute(row []float32, pos int32) {
	half := len(t.invFreq)
	for j, f := range t.invFreq {
		sin, cos := math.Sincos(float64(pos) * f)
		row[j], row[half+j], row[2*half+j] = float32(cos), float32(sin), float32(-sin)
	}
}
