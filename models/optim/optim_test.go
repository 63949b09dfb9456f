package optim

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models/half"
	"github.com/millrace/millrace/schemas/setting"
)

func flat(tensors []golden.Tensor) (data []float32) {
	for _, t := range tensors {
		data = append(data, t.Float32()...)
	}
	return data
}

func float64s(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

func concat(tensors []golden.Tensor) (data []float64) {
	for _, t := range tensors {
		data = append(data, t.Data...)
	}
	return data
}

func TestGolden(t *testing.T) {
	for _, c := range golden.Load(t, "adamw.json").Cases {
		t.Run(c.Name, func(t *testing.T) {
			p := func(key string) float64 { return golden.Get[float64](t, c.Params, key) }
			config := Config{Rate: p("lr"), Beta1: p("beta1"), Beta2: p("beta2"), Eps: p("eps"), WeightDecay: p("weight_decay"),
				MaxGradNorm: p("max_grad_norm"), Schedule: Schedule{Kind: Constant}, Moments: Float32}
			if err := setting.Check(config); err != nil {
				t.Fatal(err)
			}
			params := flat(golden.Get[[]golden.Tensor](t, c.In, "params"))
			rates := golden.Get[[]float64](t, c.Params, "lr_per_step")
			norms := golden.Get[golden.Tensor](t, c.Out, "grad_norms").Data
			after := golden.Get[[][]golden.Tensor](t, c.Out, "params_after")
			a := New(config, len(params))
			for i, grads := range golden.Get[[][]golden.Tensor](t, c.In, "grads") {
				norm, err := a.stepAt(params, flat(grads), rates[i])
				if err != nil {
					t.Fatal(err)
				}
				golden.CloseTo(t, "gradient norm", norm, norms[i], 1e-5)
				golden.Close(t, "parameters", float64s(params), concat(after[i]), 1e-5)
			}
			golden.Close(t, "first moment", float64s(a.m), concat(golden.Get[[]golden.Tensor](t, c.Out, "exp_avg")), 1e-5)
			// 0.999 as float32 leaves 1 - beta2 off by 1.3e-5.
			golden.Close(t, "second moment", float64s(a.v), concat(golden.Get[[]golden.Tensor](t, c.Out, "exp_avg_sq")), 1e-4)
		})
	}
}

func random(n int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(rng.NormFloat64())
	}
	return out
}

// Saved in the middle and loaded into a fresh state, the steps go on as if nothing had happened, on any number of threads.
func TestResume(t *testing.T) {
	for _, moments := range []string{Float32, BFloat16} {
		t.Run(moments, func(t *testing.T) { testResume(t, moments) })
	}
}

func testResume(t *testing.T, moments string) {
	const n = 20_001
	config := Default()
	config.Moments = moments
	config.Schedule = Schedule{Kind: Cosine, Warmup: 3, Total: 9, Final: 0.1}
	run := func(threads, cut int) []float32 {
		defer kernels.SetThreads(kernels.SetThreads(threads))
		params, a, dir := random(n, 1), New(config, n), t.TempDir()
		for i := range 10 {
			if i == cut {
				if err := a.Save(dir); err != nil {
					t.Fatal(err)
				}
				a = New(config, n)
				if err := a.Load(dir); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := a.Step(params, random(n, uint64(2+i))); err != nil {
				t.Fatal(err)
			}
		}
		return params
	}
	want := run(1, -1)
	if slices.Equal(want, random(n, 1)) {
		t.Fatal("nothing moved")
	}
	for cut := -1; cut < 10; cut += 3 {
		if !slices.Equal(run(1+max(cut, 0), cut), want) {
			t.Errorf("cut at step %d: other parameters", cut)
		}
	}
}

// Moments in bfloat16 follow those in float32: rounding errors average out, also where each step moves the second moment by
// less than bfloat16 can show.
func TestNarrowMoments(t *testing.T) {
	const n, steps = 20_000, 400
	config := Default()
	config.Beta2, config.MaxGradNorm = 0.999, 0
	wide := New(config, n)
	config.Moments = BFloat16
	narrow := New(config, n)
	a, b := random(n, 1), random(n, 1)
	for i := range steps {
		grads := random(n, uint64(100+i))
		for _, s := range []struct {
			state  *AdamW
			params []float32
		}{{wide, a}, {narrow, b}} {
			if _, err := s.state.Step(s.params, grads); err != nil {
				t.Fatal(err)
			}
		}
	}
	sum, error2, moved2 := 0.0, 0.0, 0.0
	start := random(n, 1)
	for i := range n {
		sum += float64(half.FromBFloat16(narrow.vh[i])) / float64(wide.v[i])
		error2 += math.Pow(float64(a[i]-b[i]), 2)
		moved2 += math.Pow(float64(a[i]-start[i]), 2)
	}
	if r := sum / n; math.Abs(r-1) > 0.005 {
		t.Errorf("the second moment is %v of that in float32", r)
	}
	if r := math.Sqrt(error2 / moved2); r > 0.05 {
		t.Errorf("the parameters end %v of their way apart", r)
	}
}

func TestSchedule(t *testing.T) {
	for _, c := range []struct {
		s    Schedule
		want map[int]float64
	}{
		{Schedule{Kind: Constant}, map[int]float64{1: 1, 50: 1}},
		{Schedule{Kind: Constant, Warmup: 4}, map[int]float64{1: 0.25, 3: 0.75, 4: 1, 9: 1}},
		{Schedule{Kind: Linear, Warmup: 2, Total: 12, Final: 0.1}, map[int]float64{1: 0.5, 2: 1, 7: 0.55, 12: 0.1, 99: 0.1}},
		{Schedule{Kind: Cosine, Warmup: 2, Total: 12, Final: 0.1}, map[int]float64{1: 0.5, 2: 1, 7: 0.55, 12: 0.1, 99: 0.1}},
		{Schedule{Kind: Cosine, Total: 4}, map[int]float64{1: (1 + math.Sqrt2/2) / 2, 2: 0.5, 4: 0}},
	} {
		if err := setting.Check(c.s); err != nil {
			t.Error(err)
		}
		for step, want := range c.want {
			golden.CloseTo(t, c.s.Kind, c.s.Factor(step), want, 1e-12)
		}
	}
}

func TestOuter(t *testing.T) {
	params, delta := []float32{1, 2}, []float32{0.5, -1}
	if err := NewOuter(1, 0, 2).Step(params, delta); err != nil || !slices.Equal(params, []float32{1.5, 1}) {
		t.Errorf("rate 1, no momentum: %v, %v", params, err)
	}
	// Two steps by hand: u = Δ, then 1.5 Δ; θ moves by 0.5·(Δ + 0.5 u), that is 0.75 Δ and 0.875 Δ.
	params = []float32{0, 0}
	o, dir := NewOuter(0.5, 0.5, 2), t.TempDir()
	for range 2 {
		if err := o.Step(params, delta); err != nil {
			t.Fatal(err)
		}
		if err := o.Save(dir); err != nil {
			t.Fatal(err)
		}
		o = NewOuter(0.5, 0.5, 2)
		if err := o.Load(dir); err != nil {
			t.Fatal(err)
		}
	}
	golden.Close(t, "θ", float64s(params), []float64{1.625 * 0.5, -1.625}, 1e-6)
	if err := o.Step(params, delta[:1]); err == nil {
		t.Error("a short delta is taken")
	}
}

func TestErrors(t *testing.T) {
	a, params := New(Default(), 3), []float32{1, 2, 3}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
		if _, err := a.Step(params, []float32{0, bad, 0}); !errors.Is(err, ErrNotFinite) {
			t.Errorf("a gradient of %v gives %v", bad, err)
		}
	}
	if a.Steps() != 0 || !slices.Equal(params, []float32{1, 2, 3}) {
		t.Error("a refused step left something behind")
	}
	if _, err := a.Step(params, []float32{1}); err == nil {
		t.Error("a short gradient is taken")
	}
	dir := t.TempDir()
	if err := a.Load(dir); err == nil {
		t.Error("an empty directory is taken for a state")
	}
	if err := a.Save(dir); err != nil {
		t.Fatal(err)
	}
	if err := New(Default(), 4).Load(dir); err == nil {
		t.Error("a state of another size is taken")
	}
	if err := os.Truncate(filepath.Join(dir, stateFile), 40); err != nil {
		t.Fatal(err)
	}
	if err := a.Load(dir); err == nil {
		t.Error("a truncated state is taken")
	}
	for _, change := range []func(c *Config){
		func(c *Config) { c.Rate = -1 }, func(c *Config) { c.Rate = math.NaN() }, func(c *Config) { c.Beta1 = 1 },
		func(c *Config) { c.Beta2 = -0.1 }, func(c *Config) { c.Eps = 0 }, func(c *Config) { c.WeightDecay = -1 },
		func(c *Config) { c.MaxGradNorm = math.Inf(1) }, func(c *Config) { c.Schedule.Kind = "step" },
		func(c *Config) { c.Schedule = Schedule{Kind: Linear, Warmup: 5, Total: 5} }, func(c *Config) { c.Schedule.Final = 2 },
		func(c *Config) { c.Schedule.Warmup = -1 }, func(c *Config) { c.Moments = "int8" },
	} {
		c := Default()
		change(&c)
		if setting.Check(c) == nil {
			t.Errorf("%+v is valid", c)
		}
	}
}
