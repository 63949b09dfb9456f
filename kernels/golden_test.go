package kernels_test

import (
	"math"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/kernels/internal/asm"
)

// goldenTol is what single precision may be off from the golden files' double precision.
const goldenTol = 1e-4

func float64s(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// eachLevel runs f once for each level of this machine.
func eachLevel(t *testing.T, f func(t *testing.T)) {
	for _, level := range kernels.Levels() {
		t.Run(level, func(t *testing.T) {
			defer kernels.Force(level)()
			f(t)
		})
	}
}

// eachUnit is eachLevel, and once with a tile unit that is emulated.
func eachUnit(t *testing.T, f func(t *testing.T)) {
	eachLevel(t, f)
	t.Run("emulated tile unit", func(t *testing.T) {
		defer asm.EmulateUnits()()
		f(t)
	})
}

func eachCase(t *testing.T, file string, f func(t *testing.T, c golden.Case)) {
	data := golden.Load(t, file)
	eachLevel(t, func(t *testing.T) {
		for _, c := range data.Cases {
			t.Run(c.Name, func(t *testing.T) { f(t, c) })
		}
	})
}

func closeTo(t *testing.T, what string, got []float32, want golden.Tensor) {
	t.Helper()
	golden.Close(t, what, float64s(got), want.Data, goldenTol)
}

func TestGoldenRMSNorm(t *testing.T) {
	eachCase(t, "rmsnorm.json", func(t *testing.T, c golden.Case) {
		xt := golden.Get[golden.Tensor](t, c.In, "x")
		x, w := xt.Float32(), golden.Get[golden.Tensor](t, c.In, "weight").Float32()
		dy := golden.Get[golden.Tensor](t, c.In, "dy").Float32()
		d := len(w)
		rows := len(x) / d
		y, inv := make([]float32, len(x)), make([]float32, rows)
		kernels.RMSNorm(y, x, w, rows, d, golden.Get[float32](t, c.Params, "eps"), inv)
		closeTo(t, "y", y, golden.Get[golden.Tensor](t, c.Out, "y"))
		dx, dw := make([]float32, len(x)), make([]float32, d)
		kernels.RMSNormBackward(dx, dw, dy, x, w, inv, rows, d)
		closeTo(t, "dx", dx, golden.Get[golden.Tensor](t, c.Out, "dx"))
		closeTo(t, "dweight", dw, golden.Get[golden.Tensor](t, c.Out, "dweight"))
	})
}

func TestGoldenRoPE(t *testing.T) {
	eachCase(t, "rope.json", func(t *testing.T, c golden.Case) {
		xt := golden.Get[golden.Tensor](t, c.In, "x")
		pos := golden.Get[golden.Tensor](t, c.In, "positions").Int32()
		invFreq := golden.Get[golden.Tensor](t, c.Out, "inv_freq").Data
		heads, d := xt.Shape[1], xt.Shape[2]
		y := xt.Float32()
		kernels.RoPE(y, pos, heads, d, invFreq, false)
		closeTo(t, "y", y, golden.Get[golden.Tensor](t, c.Out, "y"))
		dx := golden.Get[golden.Tensor](t, c.In, "dy").Float32()
		kernels.RoPE(dx, pos, heads, d, invFreq, true)
		closeTo(t, "dx", dx, golden.Get[golden.Tensor](t, c.Out, "dx"))
	})
}

func TestGoldenSwiGLU(t *testing.T) {
	eachCase(t, "swiglu.json", func(t *testing.T, c golden.Case) {
		get := func(v golden.Values, key string) golden.Tensor { return golden.Get[golden.Tensor](t, v, key) }
		xt, wgt := get(c.In, "x"), get(c.In, "w_gate")
		rows, d, h := xt.Shape[0], xt.Shape[1], wgt.Shape[0]
		x, wg, wu, wd, dy := xt.Float32(), wgt.Float32(), get(c.In, "w_up").Float32(), get(c.In, "w_down").Float32(), get(c.In, "dy").Float32()
		of := func(n int) []float32 { return make([]float32, n) }
		gate, up, act, y := of(rows*h), of(rows*h), of(rows*h), of(rows*d)
		kernels.MatMulNT(gate, x, wg, rows, h, d, 0)
		kernels.MatMulNT(up, x, wu, rows, h, d, 0)
		kernels.SwiGLU(act, gate, up)
		kernels.MatMulNT(y, act, wd, rows, d, h, 0)
		closeTo(t, "gate", gate, get(c.Out, "gate"))
		closeTo(t, "up", up, get(c.Out, "up"))
		closeTo(t, "y", y, get(c.Out, "y"))
		dact, dgate, dup, dx := of(rows*h), of(rows*h), of(rows*h), of(rows*d)
		dwg, dwu, dwd := of(h*d), of(h*d), of(d*h)
		kernels.MatMulNN(dact, dy, wd, rows, h, d, 0)
		kernels.MatMulTN(dwd, dy, act, d, h, rows, 0)
		kernels.SwiGLUBackward(dgate, dup, dact, dact, gate, up)
		sameBits(t, "the gated product again", dact, act)
		kernels.MatMulNN(dx, dgate, wg, rows, d, h, 0)
		kernels.MatMulNN(dx, dup, wu, rows, d, h, 1)
		kernels.MatMulTN(dwg, dgate, x, h, d, rows, 0)
		kernels.MatMulTN(dwu, dup, x, h, d, rows, 0)
		closeTo(t, "dx", dx, get(c.Out, "dx"))
		closeTo(t, "dw_gate", dwg, get(c.Out, "dw_gate"))
		closeTo(t, "dw_up", dwu, get(c.Out, "dw_up"))
		closeTo(t, "dw_down", dwd, get(c.Out, "dw_down"))
	})
}

func TestGoldenAttention(t *testing.T) {
	eachCase(t, "gqa_attention.json", func(t *testing.T, c golden.Case) {
		get := func(v golden.Values, key string) golden.Tensor { return golden.Get[golden.Tensor](t, v, key) }
		if !golden.GetOr(t, c.Params, "causal", true) {
			t.Skip("attention here is causal")
		}
		heads, kv, d := golden.Get[int](t, c.Params, "heads"), golden.Get[int](t, c.Params, "kv_heads"), golden.Get[int](t, c.Params, "head_dim")
		q, k, v, dy := get(c.In, "q").Float32(), get(c.In, "k").Float32(), get(c.In, "v").Float32(), get(c.In, "dy").Float32()
		rows := len(q) / (heads * d)
		theta := golden.GetOr(t, c.Params, "rope_theta", 0.0)
		pos := make([]int32, rows)
		for i := range pos {
			pos[i] = int32(i)
		}
		var invFreq []float64
		for j := 0; j < d/2; j++ {
			invFreq = append(invFreq, math.Pow(theta, -2*float64(j)/float64(d)))
		}
		norm := golden.GetOr(t, c.Params, "qk_norm", false)
		q0, k0 := q, k
		var qn, kn, qinv, kinv []float32
		if norm {
			eps := golden.Get[float32](t, c.Params, "norm_eps")
			qn, kn = get(c.In, "q_norm").Float32(), get(c.In, "k_norm").Float32()
			qinv, kinv = make([]float32, rows*heads), make([]float32, rows*kv)
			q, k = make([]float32, len(q0)), make([]float32, len(k0))
			kernels.RMSNorm(q, q0, qn, rows*heads, d, eps, qinv)
			kernels.RMSNorm(k, k0, kn, rows*kv, d, eps, kinv)
		}
		if theta > 0 {
			kernels.RoPE(q, pos, heads, d, invFreq, false)
			kernels.RoPE(k, pos, kv, d, invFreq, false)
		}
		y, lse := make([]float32, len(q)), make([]float32, rows*heads)
		kernels.Float32.Attention(y, q, k, v, []int{0, rows}, heads, kv, d, lse)
		closeTo(t, "y", y, get(c.Out, "y"))
		dq, dk, dv := make([]float32, len(q)), make([]float32, len(k)), make([]float32, len(v))
		kernels.Float32.AttentionBackward(dq, dk, dv, dy, y, q, k, v, []int{0, rows}, heads, kv, d, lse)
		if theta > 0 {
			kernels.RoPE(dq, pos, heads, d, invFreq, true)
			kernels.RoPE(dk, pos, kv, d, invFreq, true)
		}
		if norm {
			dq0, dk0, dqn, dkn := make([]float32, len(q)), make([]float32, len(k)), make([]float32, d), make([]float32, d)
			kernels.RMSNormBackward(dq0, dqn, dq, q0, qn, qinv, rows*heads, d)
			kernels.RMSNormBackward(dk0, dkn, dk, k0, kn, kinv, rows*kv, d)
			dq, dk = dq0, dk0
			closeTo(t, "dq_norm", dqn, get(c.Out, "dq_norm"))
			closeTo(t, "dk_norm", dkn, get(c.Out, "dk_norm"))
		}
		closeTo(t, "dq", dq, get(c.Out, "dq"))
		closeTo(t, "dk", dk, get(c.Out, "dk"))
		closeTo(t, "dv", dv, get(c.Out, "dv"))
	})
}

func TestGoldenAdamW(t *testing.T) {
	eachCase(t, "adamw.json", func(t *testing.T, c golden.Case) {
		params := golden.Get[[]golden.Tensor](t, c.In, "params")
		grads := golden.Get[[][]golden.Tensor](t, c.In, "grads")
		after := golden.Get[[][]golden.Tensor](t, c.Out, "params_after")
		norms := golden.Get[golden.Tensor](t, c.Out, "grad_norms")
		lrs := golden.Get[[]float32](t, c.Params, "lr_per_step")
		get := func(key string) float32 { return golden.Get[float32](t, c.Params, key) }
		clip := golden.GetOr(t, c.Params, "max_grad_norm", 0.0)
		var p, m, v [][]float32
		for _, x := range params {
			p = append(p, x.Float32())
			m = append(m, make([]float32, len(x.Data)))
			v = append(v, make([]float32, len(x.Data)))
		}
		for s := range grads {
			var sum float64
			for _, g := range grads[s] {
				sum += kernels.SumSquares(g.Float32())
			}
			norm := math.Sqrt(sum)
			golden.CloseTo(t, "grad norm", norm, norms.Data[s], goldenTol)
			scale := 1.0
			if clip > 0 {
				scale = min(1, clip/(norm+1e-6))
			}
			for i, g := range grads[s] {
				kernels.AdamW(p[i], g.Float32(), m[i], v[i], kernels.AdamWConfig{Step: s + 1, Rate: lrs[s], Beta1: get("beta1"), Beta2: get("beta2"),
					Eps: get("eps"), WeightDecay: get("weight_decay"), GradScale: float32(scale)})
				closeTo(t, "params", p[i], after[s][i])
			}
		}
		for i := range m {
			closeTo(t, "exp_avg", m[i], golden.Get[[]golden.Tensor](t, c.Out, "exp_avg")[i])
			closeTo(t, "exp_avg_sq", v[i], golden.Get[[]golden.Tensor](t, c.Out, "exp_avg_sq")[i])
		}
	})
}
