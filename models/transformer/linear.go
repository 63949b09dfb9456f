package transformer

import "github.com/millrace/millrace/kernels"

// linear is y = x Wᵀ + b. Its slices are views into the model's flat parameters and gradients.
type linear struct {
	in, out int
	w, b    []float32 // [out,in]; [out] or nil
	dw, db  []float32 // gradients, nil where frozen
	summed  bool      // dw holds a sum; otherwise what it holds is overwritten by the next gradient
	lora    *adapter  // nil without LoRA

	precision kernels.Precision

	packed *kernels.Packed // holds w instead of w when the model is frozen
}

// forward overwrites y [rows,out] from x [rows,in].
func (l *linear) forward(y, x []float32, rows int) {
	if l.packed != nil {
		kernels.MatMulPacked(y, x, l.packed, rows, 0)
	} else {
		l.precision.MatMulNT(y, x, l.w, rows, l.out, l.in, 0)
	}
	l.finish(y, x, rows)
}

// finish adds the adapter's product and the bias to the weight's product.
func (l *linear) finish(y, x []float32, rows int) {
	if l.lora != nil {
		l.lora.forward(y, x, rows, l.out, l.in)
	}
	if l.b == nil {
		return
	}
	kernels.Parallel(rows, 1+4096/l.out, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			kernels.Add(y[r*l.out:(r+1)*l.out], l.b)
		}
	})
}

// forwardEach is forward of layers that take the same x, in one product where they are packed.
func forwardEach(x []float32, rows int, layers []*linear, ys ...[]float32) {
	if layers[0].packed == nil {
		for i, l := range layers {
			l.forward(ys[i], x, rows)
		}
		return
	}
	weights := make([]*kernels.Packed, len(layers))
	for i, l := range layers {
		weights[i] = l.packed
	}
	kernels.MatMulPackedEach(ys, x, weights, rows)
	for i, l := range layers {
		l.finish(ys[i], x, rows)
	}
}

// backward is backwardInput and backwardWeight.
func (l *linear) backward(dx, dy, x []float32, rows int, beta float32) {
	l.backwardInput(dx, dy, rows, beta)
	l.backwardWeight(dy, x, rows)
}

// backwardInput takes dy [rows,out]; dx [rows,in] becomes beta·dx + dy W.
func (l *linear) backwardInput(dx, dy []float32, rows int, beta float32) {
	l.precision.MatMulNN(dx, dy, l.w, rows, l.in, l.out, beta)
	if l.lora != nil {
		l.lora.backwardInput(dx, dy, rows, l.out, l.in)
	}
}

// backwardWeight takes dy [rows,out] and the x of the forward pass; gradients accumulate.
func (l *linear) backwardWeight(dy, x []float32, rows int) {
	if l.lora != nil {
		l.lora.backwardWeight(dy, x, rows, l.out, l.in)
	}
	if l.dw != nil {
		l.precision.MatMulTN(l.dw, dy, x, l.out, l.in, rows, l.sum())
	}
	if l.db != nil {
		for r := range rows {
			kernels.Add(l.db, dy[r*l.out:(r+1)*l.out])
		}
	}
}

// sum is what the present content of dw counts in the next sum.
func (l *linear) sum() (beta float32) {
	if l.summed {
		beta = 1
	}
	l.summed = true
	return beta
}

// norm is an RMS norm: y = x / sqrt(mean(x²) + eps) · w over the last dimension.
type norm struct {
	d     int
	eps   float32
	w, dw []float32 // [d]
}

// forward overwrites y [rows,d] and inv [rows], the inverse root mean squares.
func (n *norm) forward(y, inv, x []float32, rows int) {
	kernels.RMSNorm(y, x, n.w, rows, n.d, n.eps, inv)
}

// backward adds to dx [rows,d] and to the gradient of w.
func (n *norm) backward(dx, dy, x, inv []float32, rows int, scratch []float32) {
	dw := n.dw
	if dw == nil {
		dw = scratch[:n.d] // frozen: computed and dropped
	}
	kernels.RMSNormBackward(dx, dw, dy, x, n.w, inv, rows, n.d)
}
