// Package optim moves flat parameters along flat gradients: AdamW with clipping and a schedule, and the outer Nesterov step
// of DiLoCo. State is saved and loaded as safetensors, so that a resumed run takes the same steps.
package optim

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models/half"
	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/models/safetensors"
)

// Config is AdamW (Loshchilov and Hutter, arXiv 1711.05101) with clipping of the global gradient norm.
type Config struct {
	Rate        float64  `json:"lr" range:"[0,10)" doc:"learning rate at its peak"`
	Beta1       float64  `json:"beta1" range:"[0,1)" doc:"decay of the mean of the gradients"`
	Beta2       float64  `json:"beta2" range:"[0,1)" doc:"decay of the mean of their squares"`
	Eps         float64  `json:"eps" range:"(0,1)" doc:"added to the root of the squares' mean"`
	WeightDecay float64  `json:"weight_decay" range:"[0,10)" doc:"a step shrinks the weights by lr · weight_decay"`
	MaxGradNorm float64  `json:"max_grad_norm" range:"[0,inf)" doc:"gradients of a larger norm are scaled down to it; 0: never"`
	Schedule    Schedule `json:"schedule" doc:"how the learning rate moves from step to step"`
	Moments     string   `json:"moments" enum:"float32,bfloat16" doc:"how both means are stored; bfloat16 takes half the memory"`
}

// Default is the proving ground's: betas 0.9 and 0.99, no decay, clipping at 1, a constant rate of 3e-4.
func Default() Config {
	return Config{Rate: 3e-4, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, MaxGradNorm: 1, Schedule: Schedule{Kind: Constant, Final: 0.1},
		Moments: Float32}
}

// AdamW is the state of the optimizer: steps taken and the two moments of every gradient.
type AdamW struct {
	config Config
	n      int
	steps  int
	m, v   []float32 // Moments float32
	mh, vh []uint16  // Moments bfloat16
}

// New makes a fresh state for n parameters.
func New(c Config, n int) *AdamW {
	a := &AdamW{config: c, n: n}
	if c.Moments == BFloat16 {
		a.mh, a.vh = kernels.Make[uint16](n), kernels.Make[uint16](n)
	} else {
		a.m, a.v = kernels.Make[float32](n), kernels.Make[float32](n)
	}
	return a
}

// Steps is the number of steps taken over the life of the state.
func (a *AdamW) Steps() int { return a.steps }

// Rate is the learning rate of the next step.
func (a *AdamW) Rate() float64 { return a.config.Rate * a.config.Schedule.Factor(a.steps+1) }

// ErrNotFinite says that a gradient was infinite or not a number; the step was not taken and nothing has changed.
var ErrNotFinite = errors.New("optim: the gradient is not finite")

// Step moves params along grads, which it leaves as they are, and returns the gradients' norm before clipping.
func (a *AdamW) Step(params, grads []float32) (gradNorm float64, err error) {
	return a.stepAt(params, grads, a.Rate())
}

func (a *AdamW) stepAt(params, grads []float32, rate float64) (gradNorm float64, err error) {
	if len(params) != a.n || len(grads) != a.n {
		return 0, fmt.Errorf("optim: %d parameters and %d gradients, the state is for %d", len(params), len(grads), a.n)
	}
	gradNorm = math.Sqrt(kernels.SumSquares(grads))
	if math.IsNaN(gradNorm) || math.IsInf(gradNorm, 0) {
		return gradNorm, ErrNotFinite
	}
	scale := 1.0
	if c := a.config.MaxGradNorm; c > 0 {
		scale = min(1, c/(gradNorm+1e-6))
	}
	a.steps++
	c := a.config
	step := kernels.AdamWConfig{Step: a.steps, Rate: float32(rate), Beta1: float32(c.Beta1), Beta2: float32(c.Beta2), Eps: float32(c.Eps),
		WeightDecay: float32(c.WeightDecay), GradScale: float32(scale)}
	if c.Moments == BFloat16 {
		// Keyed by step and place, so that steps are the same on any number of threads and after a restart.
		key := keyed.New(uint64(a.steps))
		kernels.AdamWBF16(params, grads, a.mh, a.vh, step, func(b int) uint32 { return uint32(key.Word(uint64(b))) })
	} else {
		kernels.AdamW(params, grads, a.m, a.v, step)
	}
	return gradNorm, nil
}

// Storage of the moments.
const (
	Float32  = "float32"
	BFloat16 = "bfloat16" // rounded at random, see kernels.AdamWBF16
)

// stateFile holds a saved state.
const stateFile = "optimizer.safetensors"

// Save writes the state into the directory, which is made when it is missing.
func (a *AdamW) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	m, v, dtype := a.m, a.v, safetensors.F32
	if a.config.Moments == BFloat16 {
		m, v, dtype = widen(a.mh), widen(a.vh), safetensors.BF16
	}
	return safetensors.Write(filepath.Join(dir, stateFile), []safetensors.NamedTensor{
		{Name: "exp_avg", Shape: []int{a.n}, Values: m, DType: dtype},
		{Name: "exp_avg_sq", Shape: []int{a.n}, Values: v, DType: dtype},
	}, map[string]string{"step": strconv.Itoa(a.steps)})
}

func widen(src []uint16) []float32 {
	dst := make([]float32, len(src))
	for i, h := range src {
		dst[i] = half.FromBFloat16(h)
	}
	return dst
}

// Load reads a state that Save wrote for as many parameters.
func (a *AdamW) Load(dir string) error {
	path := filepath.Join(dir, stateFile)
	f, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	steps, err := strconv.Atoi(f.Metadata()["step"])
	if err != nil || steps < 0 {
		return fmt.Errorf("%s: metadata step is %q, not a number of steps", path, f.Metadata()["step"])
	}
	for i, name := range []string{"exp_avg", "exp_avg_sq"} {
		t, err := f.Tensor(name)
		if err != nil {
			return err
		}
		if len(t.Shape) != 1 || t.Shape[0] != a.n {
			return fmt.Errorf("%s: %s has shape %v, the model has %d parameters", path, name, t.Shape, a.n)
		}
		if a.config.Moments != BFloat16 {
			if err := f.Float32Into([][]float32{a.m, a.v}[i], name); err != nil {
				return err
			}
			continue
		}
		values := make([]float32, a.n)
		if err := f.Float32Into(values, name); err != nil {
			return err
		}
		for j, x := range values {
			[][]uint16{a.mh, a.vh}[i][j] = half.ToBFloat16(x)
		}
	}
	a.steps = steps
	return nil
}
