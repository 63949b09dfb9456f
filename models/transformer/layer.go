package transformer

import "github.com/millrace/millrace/kernels"

// A layer is
//
//	mid = x   + Attention(rope(q), rope(k), v) Woᵀ      q, k, v = linear(norm1(x)), q and k normed per head with Qwen3
//	out = mid + (silu(gate) · up) Wdownᵀ               gate, up = linear(norm2(mid))
//
// Shapes: T rows (tokens of all sequences, packed), D hidden, F intermediate, H query heads and G key/value heads of size d.
type layer struct {
	norm1, norm2         norm
	q, k, v, o           linear
	qNorm, kNorm         *norm // per head, nil without query and key norms
	gate, up, down       linear
	heads, groups, dim   int
	invFreq              []float64 // [d/2], shared by all layers
	hidden, intermediate int
}

// norms are all the norms of the layer.
func (l *layer) norms() []*norm {
	all := []*norm{&l.norm1, &l.norm2}
	if l.qNorm != nil {
		all = append(all, l.qNorm, l.kNorm)
	}
	return all
}

// activations are what the backward pass of a layer reads. What is cheap to compute again from these (the norms' outputs,
// the gated product) is not kept.
type activations struct {
	inv1       []float32 // [T] inverse root mean squares of x
	qRaw, kRaw []float32 // [T,H·d], [T,G·d] before query and key norms; empty without them
	invQ, invK []float32 // [T,H], [T,G] of these norms
	q, k, v    []float32 // [T,H·d], [T,G·d], [T,G·d] after norms and rotation
	y          []float32 // [T,H·d] attention output
	lse        []float32 // [T,H] logsumexp of the attention scores
	mid        []float32 // [T,D] residual stream after attention
	inv2       []float32 // [T] of mid
	gate, up   []float32 // [T,F]
}

// scratch is memory that is free between layers.
type scratch struct {
	h   []float32 // [T,D]
	act []float32 // [T,F], and its gradient
	// backward only
	dh, dy, dq, dk, dv, dgate, dup []float32
	dqRaw, dkRaw                   []float32
	unused                         []float32 // gradients of frozen norms
}

// fit makes s a slice of n elements, reusing its memory when it is large enough; the content is undefined. What was too small once gets
// an eighth more than is asked for: batches differ in size, and are not to ask the system for all of their memory again and again.
func fit[T any](s *[]T, n int) {
	if have := cap(*s); have < n {
		room := n
		if have > 0 {
			room += n / 8
		}
		*s = kernels.Make[T](room)
	}
	*s = (*s)[:n]
}

func (l *layer) fitForward(a *activations, s *scratch, rows int) {
	fit(&a.inv1, rows)
	fit(&a.inv2, rows)
	if l.qNorm != nil {
		fit(&a.qRaw, rows*l.q.out)
		fit(&a.kRaw, rows*l.k.out)
		fit(&a.invQ, rows*l.heads)
		fit(&a.invK, rows*l.groups)
	}
	fit(&a.q, rows*l.q.out)
	fit(&a.k, rows*l.k.out)
	fit(&a.v, rows*l.v.out)
	fit(&a.y, rows*l.q.out)
	fit(&a.lse, rows*l.heads)
	fit(&a.mid, rows*l.hidden)
	fit(&a.gate, rows*l.intermediate)
	fit(&a.up, rows*l.intermediate)
	fit(&s.h, rows*l.hidden)
	fit(&s.act, rows*l.intermediate)
}

func (l *layer) fitBackward(s *scratch, rows int) {
	fit(&s.dh, rows*l.hidden)
	fit(&s.dy, rows*l.q.out)
	fit(&s.dq, rows*l.q.out)
	fit(&s.dk, rows*l.k.out)
	fit(&s.dv, rows*l.v.out)
	fit(&s.dgate, rows*l.intermediate)
	fit(&s.dup, rows*l.intermediate)
	if l.qNorm != nil {
		fit(&s.dqRaw, rows*l.q.out)
		fit(&s.dkRaw, rows*l.k.out)
	}
	fit(&s.unused, max(l.hidden, l.dim))
}

// attend fills a.y (and a.lse, for the backward pass) from a.q, a.k, a.v.
type attend func(a *activations)

// forward overwrites out [T,D] from x [T,D]; pos [T] are the tokens' positions. out may be x when nothing is kept for a
// backward pass; out may be nil when only the activations are wanted.
func (l *layer) forward(out, x []float32, pos []int32, a *activations, s *scratch, attention attend) {
	rows := len(pos)
	l.fitForward(a, s, rows)

	l.norm1.forward(s.h, a.inv1, x, rows)
	q, k := a.q, a.k
	if l.qNorm != nil {
		q, k = a.qRaw, a.kRaw
	}
	forwardEach(s.h, rows, []*linear{&l.q, &l.k, &l.v}, q, k, a.v)
	if l.qNorm != nil {
		l.qNorm.forward(a.q, a.invQ, a.qRaw, rows*l.heads)
		l.kNorm.forward(a.k, a.invK, a.kRaw, rows*l.groups)
	}
	kernels.RoPE(a.q, pos, l.heads, l.dim, l.invFreq, false)
	kernels.RoPE(a.k, pos, l.groups, l.dim, l.invFreq, false)
	attention(a)
	l.o.forward(a.mid, a.y, rows)
	kernels.Add(a.mid, x)

	l.norm2.forward(s.h, a.inv2, a.mid, rows)
	forwardEach(s.h, rows, []*linear{&l.gate, &l.up}, a.gate, a.up)
	if out == nil {
		return
	}
	kernels.SwiGLU(s.act, a.gate, a.up)
	l.down.forward(out, s.act, rows)
	kernels.Add(out, a.mid)
}

// attendBackward overwrites s.dq, s.dk and s.dv from s.dy.
type attendBackward func(a *activations, s *scratch)

// backward takes the gradient of out in dx [T,D] and leaves that of x there; gradients of the weights accumulate.
func (l *layer) backward(dx, x []float32, pos []int32, a *activations, s *scratch, attention attendBackward) {
	rows := len(pos)
	l.fitBackward(s, rows)

	// out = mid + down(silu(gate) · up)
	l.down.backwardInput(s.act, dx, rows, 0)
	kernels.SwiGLUBackward(s.dgate, s.dup, s.act, s.act, a.gate, a.up)
	l.down.backwardWeight(dx, s.act, rows)
	l.norm2.forward(s.h, a.inv2, a.mid, rows)
	l.gate.backward(s.dh, s.dgate, s.h, rows, 0)
	l.up.backward(s.dh, s.dup, s.h, rows, 1)
	l.norm2.backward(dx, s.dh, a.mid, a.inv2, rows, s.unused)

	// mid = x + o(attention)
	l.o.backward(s.dy, dx, a.y, rows, 0)
	attention(a, s)
	kernels.RoPE(s.dq, pos, l.heads, l.dim, l.invFreq, true)
	kernels.RoPE(s.dk, pos, l.groups, l.dim, l.invFreq, true)
	dq, dk := s.dq, s.dk
	if l.qNorm != nil {
		clear(s.dqRaw)
		clear(s.dkRaw)
		l.qNorm.backward(s.dqRaw, s.dq, a.qRaw, a.invQ, rows*l.heads, s.unused)
		l.kNorm.backward(s.dkRaw, s.dk, a.kRaw, a.invK, rows*l.groups, s.unused)
		dq, dk = s.dqRaw, s.dkRaw
	}
	l.norm1.forward(s.h, a.inv1, x, rows)
	l.q.backward(s.dh, dq, s.h, rows, 0)
	l.k.backward(s.dh, dk, s.h, rows, 1)
	l.v.backward(s.dh, s.dv, s.h, rows, 1)
	l.norm1.backward(dx, s.dh, x, a.inv1, rows, s.unused)
}
