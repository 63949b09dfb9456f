package optim

import (
	"math"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models/half"
	"github.com/millrace/millrace/models/keyed"
)

// Storage of the moments.
const (
	Float32  = "float32"
	BFloat16 = "bfloat16"
)

// momentBlock is how many moments are widened at a time.
const momentBlock = 4096

// narrowStep is update with moments in bfloat16. They are rounded at random, up or down in proportion to the distance, as
// rounding to the nearest would stop the second moment, which moves by less than half a unit in the last place of bfloat16 a
// step. The random bits are keyed by step and place, so the steps are the same on any number of threads and after a restart.
func (a *AdamW) narrowStep(params, grads []float32, rate, gradScale float64) {
	key := keyed.New(uint64(a.steps))
	blocks := (a.n + momentBlock - 1) / momentBlock
	kernels.Parallel(blocks, 1, func(first, last int) {
		var m, v [momentBlock]float32
		for block := first; block < last; block++ {
			lo := block * momentBlock
			hi := min(lo+momentBlock, a.n)
			mh, vh := a.mh[lo:hi], a.vh[lo:hi]
			bm, bv := widen(m[:], mh), widen(v[:], vh)
			a.update(params[lo:hi], grads[lo:hi], bm, bv, rate, gradScale)
			i := 0
			for mh, vh, bm, bv := mh, vh, bm, bv; len(mh) >= 2 && len(vh) >= 2 && len(bm) >= 2 && len(bv) >= 2; i += 2 {
				bits := key.Word(uint64(lo + i)) // for two numbers of either moment
				mh[0], vh[0] = round(bm[0], bits), round(bv[0], bits>>16)
				mh[1], vh[1] = round(bm[1], bits>>32), round(bv[1], bits>>48)
				mh, vh, bm, bv = mh[2:], vh[2:], bm[2:], bv[2:]
			}
			if i < len(mh) {
				bits := key.Word(uint64(lo + i))
				mh[i], vh[i] = round(bm[i], bits), round(bv[i], bits>>16)
			}
		}
	})
}

// round is x in bfloat16, rounded away from zero with the probability of the cut-off part. x is finite.
func round(x float32, bits uint64) uint16 {
	b := math.Float32bits(x)
	if b&0x7f800000 == 0x7f000000 { // the largest exponent: rounding up could overflow
		return uint16(b >> 16)
	}
	return uint16((b + uint32(bits&0xffff)) >> 16)
}

// widen overwrites the first len(src) of dst, which is made when it is nil.
func widen(dst []float32, src []uint16) []float32 {
	if dst == nil {
		dst = make([]float32, len(src))
	}
	dst = dst[:len(src)]
	for i, h := range src {
		dst[i] = half.FromBFloat16(h)
	}
	return dst
}
