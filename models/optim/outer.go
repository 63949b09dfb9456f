package optim

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models/safetensors"
)

// Outer is the step on the averaged delta of several replicas: SGD with Nesterov momentum on Δ = mean of (θ after - θ
// before), the negative outer gradient (Douillard and others, DiLoCo, arXiv 2311.08105, algorithm 1):
//
//	u ← momentum · u + Δ,   θ ← θ + rate · (Δ + momentum · u)
//
// Rate 1 and momentum 0 take the average as it is.
type Outer struct {
	rate, momentum float32
	u              []float32 // nil without momentum
}

// NewOuter makes a fresh state for n parameters.
func NewOuter(rate, momentum float64, n int) *Outer {
	o := &Outer{rate: float32(rate), momentum: float32(momentum)}
	if momentum != 0 {
		o.u = make([]float32, n)
	}
	return o
}

// Step moves params by the averaged delta.
func (o *Outer) Step(params, delta []float32) error {
	if len(delta) != len(params) || o.u != nil && len(o.u) != len(params) {
		return fmt.Errorf("optim: %d parameters, a delta of %d, an outer state for %d", len(params), len(delta), len(o.u))
	}
	if o.u == nil {
		kernels.Axpy(o.rate, delta, params)
		return nil
	}
	kernels.Scale(o.momentum, o.u)
	kernels.Add(o.u, delta)
	kernels.Axpy(o.rate, delta, params)
	kernels.Axpy(o.rate*o.momentum, o.u, params)
	return nil
}

const outerFile = "outer.safetensors"

// Save writes the momentum into the directory; without momentum there is nothing to write.
func (o *Outer) Save(dir string) error {
	if o.u == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	return safetensors.Write(filepath.Join(dir, outerFile), []safetensors.NamedTensor{
		{Name: "momentum", Shape: []int{len(o.u)}, Values: o.u}}, nil)
}

// Load reads what Save wrote for as many parameters.
func (o *Outer) Load(dir string) error {
	if o.u == nil {
		return nil
	}
	path := filepath.Join(dir, outerFile)
	f, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	t, err := f.Tensor("momentum")
	if err != nil {
		return err
	}
	if len(t.Shape) != 1 || t.Shape[0] != len(o.u) {
		return fmt.Errorf("%s: momentum has shape %v, the model has %d parameters", path, t.Shape, len(o.u))
	}
	return f.Float32Into(o.u, "momentum")
}
