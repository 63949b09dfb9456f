package heads

import (
	"fmt"
	"math"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models/losses"
)

// ScalarHead gives one number a row, v = w·h: a value head, or the head of a Q-function.
type ScalarHead struct {
	W  []float32 // [D]
	DW []float32 // [D], accumulated; nil when the weight is frozen
}

// Run evaluates the loss on the hidden rows [N,D] (those after the tokens where Spec.After says so, else those that choose
// them), writes dL/dhidden to dHidden and adds dL/dw to DW. It fills Rows.Value of mb and returns the loss. With dHidden nil
// nothing is differentiated.
func (h *ScalarHead) Run(l losses.Loss, mb *losses.Microbatch, hidden, dHidden []float32, g *losses.Grad) (float64, error) {
	spec := l.Spec()
	d, n := len(h.W), mb.N()
	if d == 0 || h.DW != nil && len(h.DW) != d || len(hidden) != n*d || dHidden != nil && len(dHidden) != n*d {
		return 0, fmt.Errorf("heads: scalar weight [%d], gradient [%d], %d hidden numbers and %d gradients for %d rows", d, len(h.DW),
			len(hidden), len(dHidden), n)
	}
	if err := mb.Check(spec); err != nil {
		return 0, err
	}
	resize(&mb.Rows.Value, n)
	for t := range n {
		v := kernels.Dot(hidden[t*d:(t+1)*d], h.W)
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return 0, fmt.Errorf("heads: the value of row %d is not finite", t)
		}
		mb.Rows.Value[t] = float64(v)
	}
	g.Reset(mb)
	loss := evalSets(l, spec.Coupling, mb, g, 0, n, 0)
	mb.Lo, mb.Hi = 0, n
	if dHidden == nil {
		return loss, nil
	}
	clear(dHidden)
	for t := range n {
		dv := float32(g.Value[t])
		kernels.Axpy(dv, h.W, dHidden[t*d:(t+1)*d])
		if h.DW != nil {
			kernels.Axpy(dv, hidden[t*d:(t+1)*d], h.DW)
		}
	}
	return loss, nil
}
