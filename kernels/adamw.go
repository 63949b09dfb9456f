package kernels

import (
	"math"

	"github.com/millrace/millrace/kernels/internal/asm"
)

// AdamWConfig is what AdamW does in a step, besides its gradient and moments.
type AdamWConfig struct {
	Step                    int // counts from 1
	Rate, Beta1, Beta2, Eps float32
	WeightDecay             float32 // decoupled: p shrinks by Rate·WeightDecay
	GradScale               float32 // gradients count times this, which carries clipping
}

// AdamW does one step on the parameters p with gradients g and moments m and v: p ← p·(1 - lr·weightDecay) - lr·m̂/(√v̂ + eps).
// Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019 (arXiv 1711.05101), algorithm 2.
func AdamW(p, g, m, v []float32, c AdamWConfig) {
	if len(g) != len(p) || len(m) != len(p) || len(v) != len(p) {
		panic(badLength)
	}
	s := c.constants()
	Parallel(len(p), vectorGrain/4, func(lo, hi int) { asm.AdamW(p[lo:hi], g[lo:hi], m[lo:hi], v[lo:hi], &s) })
}

// roundBlock is the number of moments that are rounded with one seed.
const roundBlock = 4096

// AdamWBF16 is AdamW with moments in bfloat16. Parameters move by moments in single precision, which are then rounded at random, up or
// down in proportion to the distance: rounding to the nearest would stop the second moment, which moves by less than half a unit in the
// last place of bfloat16 a step. Numbers 4096·b and on are rounded with random bits from the seed of b, of which there is one a step.
func AdamWBF16(p, g []float32, m, v []uint16, c AdamWConfig, seed func(b int) uint32) {
	if len(g) != len(p) || len(m) != len(p) || len(v) != len(p) {
		panic(badLength)
	}
	s := c.constants()
	Parallel((len(p)+roundBlock-1)/roundBlock, 2, func(first, last int) {
		for b := first; b < last; b++ {
			lo, hi := b*roundBlock, min((b+1)*roundBlock, len(p))
			asm.AdamWBF16(p[lo:hi], g[lo:hi], m[lo:hi], v[lo:hi], &s, seed(b))
		}
	})
}

func (c AdamWConfig) constants() asm.AdamWStep {
	if c.Step < 1 {
		panic("kernels: AdamW counts its steps from 1")
	}
	b1, b2 := float64(c.Beta1), float64(c.Beta2)
	return asm.AdamWStep{
		GradScale:         c.GradScale,
		Beta1:             c.Beta1,
		OneMinusBeta1:     float32(1 - b1),
		Beta2:             c.Beta2,
		OneMinusBeta2:     float32(1 - b2),
		Decay:             float32(1 - float64(c.Rate)*float64(c.WeightDecay)),
		StepSize:          float32(float64(c.Rate) / (1 - math.Pow(b1, float64(c.Step)))),
		InvSqrtCorrection: float32(1 / math.Sqrt(1-math.Pow(b2, float64(c.Step)))),
		Eps:               c.Eps,
	}
}
