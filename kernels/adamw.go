package kernels

import (
	"math"

	"github.com/millrace/millrace/kernels/internal/asm"
)

// AdamW does one step on the parameters p with gradients g·gradScale (gradScale carries clipping) and moments m and v;
// step counts from 1. Decay is decoupled: p ← p·(1 - lr·weightDecay) - lr·m̂/(√v̂ + eps).
// Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019 (arXiv 1711.05101), algorithm 2.
func AdamW(p, g, m, v []float32, step int, lr, beta1, beta2, eps, weightDecay, gradScale float32) {
	if len(g) != len(p) || len(m) != len(p) || len(v) != len(p) {
		panic(badLength)
	}
	if step < 1 {
		panic("kernels: AdamW counts its steps from 1")
	}
	b1, b2 := float64(beta1), float64(beta2)
	s := asm.AdamWStep{
		GradScale:         gradScale,
		Beta1:             beta1,
		OneMinusBeta1:     float32(1 - b1),
		Beta2:             beta2,
		OneMinusBeta2:     float32(1 - b2),
		Decay:             float32(1 - float64(lr)*float64(weightDecay)),
		StepSize:          float32(float64(lr) / (1 - math.Pow(b1, float64(step)))),
		InvSqrtCorrection: float32(1 / math.Sqrt(1-math.Pow(b2, float64(step)))),
		Eps:               eps,
	}
	Parallel(len(p), vectorGrain/4, func(lo, hi int) { asm.AdamW(p[lo:hi], g[lo:hi], m[lo:hi], v[lo:hi], &s) })
}
