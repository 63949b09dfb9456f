package kernels

import (
	"math"
	"slices"

	"github.com/millrace/millrace/kernels/internal/asm"
)

// SampleRow draws a token from softmax(z/temperature), cut to the topK most probable (0: all) and then to the smallest set of
// most probable tokens whose mass reaches topP (1 or more: all), renormalised. u in [0,1) decides: uncut, tokens are laid out
// in the order of their ids; cut, in descending probability, ties to the smaller id. Temperature 0 takes the most probable.
// An empty row, or one without a finite logit, gives -1.
//
// Nucleus sampling: Holtzman and others, 2019 (arXiv 1904.09751).
func SampleRow(z []float32, temperature, topP float32, topK int, u float64) int32 {
	best := asm.Max(z)
	if math.IsInf(float64(best), 0) {
		return -1
	}
	if temperature <= 0 || topK == 1 {
		return int32(slices.Index(z, best))
	}
	p, release := borrow(len(z))
	defer release()
	asm.SubTo(p, z, best) // before the scale, which can be large: the most probable token's weight is exactly 1
	scale := min(1/temperature, math.MaxFloat32)
	// Block sums first: the draw then reads one block.
	sums := make([]float64, 0, 128)
	var total float64
	for at := 0; at < len(p); at += rowBlock {
		total += float64(asm.SoftmaxExp(p[at:min(at+rowBlock, len(p))], scale, 0))
		sums = append(sums, total)
	}
	if !(total > 0) || math.IsInf(total, 0) { // no row of numbers: nothing to draw by
		return int32(slices.Index(z, best))
	}
	if topP < 1 || topK > 0 && topK < len(z) {
		return sampleCut(p, total, topP, topK, u)
	}
	goal := u * total
	block := min(firstAbove(sums, goal), len(sums)-1)
	at := block * rowBlock
	var s float64
	if block > 0 {
		s = sums[block-1]
	}
	last := int32(-1)
	for i := at; i < len(p); i++ {
		if p[i] > 0 {
			last = int32(i)
			if s += float64(p[i]); s > goal {
				return last
			}
		}
	}
	if last >= 0 {
		return last
	}
	// Rounding left the goal past the last token with mass: take that one.
	for i := len(p) - 1; ; i-- {
		if p[i] > 0 {
			return int32(i)
		}
	}
}

// firstAbove returns the first index whose running sum exceeds goal.
func firstAbove(sums []float64, goal float64) int {
	i, _ := slices.BinarySearchFunc(sums, goal, func(s, g float64) int {
		if s > g {
			return 1
		}
		return -1
	})
	return i
}

// sampleCut draws among the kept tokens of weights p with the given sum.
func sampleCut(p []float32, total float64, topP float32, topK int, u float64) int32 {
	// Tokens are gathered above a falling threshold until they suffice; the most probable has weight 1.
	var kept []int32
	for floor := float32(1e-3); ; floor *= 1e-4 {
		if floor < 1e-30 {
			floor = math.SmallestNonzeroFloat32
		}
		kept = kept[:0]
		var mass float64
		for at := 0; at < len(p); at += topBlock {
			block := p[at:min(at+topBlock, len(p))]
			if asm.Max(block) < floor {
				continue
			}
			for i, v := range block {
				if v >= floor {
					kept = append(kept, int32(at+i))
					mass += float64(v)
				}
			}
		}
		enough := mass >= float64(topP)*total
		if topK > 0 && topK < len(p) {
			enough = len(kept) >= topK
		}
		if enough || floor == math.SmallestNonzeroFloat32 {
			break
		}
	}
	slices.SortFunc(kept, func(a, b int32) int {
		switch {
		case p[a] > p[b]:
			return -1
		case p[a] < p[b]:
			return 1
		}
		return int(a - b)
	})
	if topK > 0 && topK < len(kept) {
		kept = kept[:topK]
		// The mass topP speaks of is that of what topK left.
		total = 0
		for _, id := range kept {
			total += float64(p[id])
		}
	}
	var mass float64
	if topP < 1 {
		for i, id := range kept {
			if mass += float64(p[id]); mass >= float64(topP)*total {
				kept = kept[:i+1]
				break
			}
		}
	} else {
		mass = total
	}
	goal := u * mass
	var s float64
	for _, id := range kept {
		if s += float64(p[id]); s > goal {
			return id
		}
	}
	return kept[len(kept)-1]
}
