package transformer

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
)

// groups are sequences of several prompts with several responses each, in any order, as a minibatch holds them.
func groups(prompts, samples int) []models.Sequence {
	rng := rand.New(rand.NewPCG(5, 6))
	tokens := func(n int) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = int32(rng.IntN(29))
		}
		return out
	}
	var out []models.Sequence
	defer func() { rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] }) }()
	for p := range prompts {
		prompt := tokens(1 + rng.IntN(15))
		if p == 1 {
			prompt = tokens(70) // longer than a block of the attention
		}
		for range samples {
			out = append(out, models.Sequence{Prompt: prompt, Response: tokens(1 + rng.IntN(20))})
		}
	}
	return out
}

// pass runs the sequences, cut into microbatches of n, with a gradient that differs from row to row and from element to
// element but belongs to the row's sequence alone. It returns the hidden rows and the gradients.
func pass(t *testing.T, c Config, p kernels.Precision, o TrainOptions, sequences []models.Sequence, n int) (hidden, grads []float32) {
	t.Helper()
	m, err := New(c, 21, true)
	if err != nil {
		t.Fatal(err)
	}
	m.SetPrecision(p)
	tr := NewTrainer(m, o)
	row := 0
	for part := range slices.Chunk(sequences, n) {
		h, err := tr.Forward(models.Pack(part))
		if err != nil {
			t.Fatal(err)
		}
		hidden = append(hidden, h...)
		dh := make([]float32, len(h))
		for i := range dh {
			dh[i] = float32(math.Sin(float64(row+i)*7)) * 0.1
		}
		row += len(h)
		if err := tr.Backward(dh); err != nil {
			t.Fatal(err)
		}
	}
	return hidden, tr.Grads()
}

func TestTrainSameBits(t *testing.T) {
	sequences := groups(4, 3)
	for _, kind := range []struct {
		modelType string
		precision kernels.Precision
	}{{"llama", kernels.Float32}, {"qwen2", kernels.Float32}, {"qwen3", kernels.Float32}, {"llama", kernels.BFloat16}, {"qwen3",
		kernels.BFloat16}, {"llama", kernels.BFloat16Tiles}, {"qwen3", kernels.BFloat16Tiles}} {
		modelType, p := kind.modelType, kind.precision
		c := tiny(modelType)
		c.Layers = 4
		c.Tied = false // tied: the head's and the embedding's gradients meet in one sum, whose order follows the microbatches
		hidden, grads := pass(t, c, p, TrainOptions{}, sequences, len(sequences))
		for _, v := range []struct {
			name    string
			options TrainOptions
			n       int
			threads int
		}{
			{"recomputed", TrainOptions{Recompute: true}, len(sequences), 0},
			{"one sequence at a time", TrainOptions{}, 1, 2},
			{"five at a time", TrainOptions{Recompute: true}, 5, 3},
			{"one thread", TrainOptions{}, len(sequences), 1},
		} {
			old := kernels.SetThreads(v.threads)
			h, g := pass(t, c, p, v.options, sequences, v.n)
			kernels.SetThreads(old)
			if !slices.Equal(h, hidden) {
				t.Errorf("%s, %s: other hidden rows", modelType, v.name)
			}
			if p == kernels.BFloat16Tiles && v.n < len(sequences) {
				// A weight's gradient adds blocks of the rows of a microbatch.
				if off := distance(g, grads); off > 1e-3 {
					t.Errorf("%s, %s: gradients are off by %v of their norm", modelType, v.name, off)
				}
			} else if !slices.Equal(g, grads) {
				t.Errorf("%s, %s in %s: other gradients", modelType, v.name, p)
			}
		}

		// Shared prefixes: the same hidden bits, the same gradients up to rounding.
		for _, recompute := range []bool{false, true} {
			h, g := pass(t, c, p, TrainOptions{SharePrefixes: true, Recompute: recompute}, sequences, len(sequences))
			if !slices.Equal(h, hidden) {
				t.Errorf("%s, shared prefixes: other hidden rows", modelType)
			}
			for i := range g {
				// In bfloat16 sums in another order are rounded to other operands.
				if d := math.Abs(float64(g[i] - grads[i])); p == kernels.Float32 && !(d < 2e-5*max(1, math.Abs(float64(grads[i])))) {
					t.Fatalf("%s, shared prefixes: gradient %d is %v, want %v", modelType, i, g[i], grads[i])
				}
			}
			if off := distance(g, grads); off > 0.02 {
				t.Errorf("%s, shared prefixes: gradients are off by %v of their norm", modelType, off)
			}
			if slices.Equal(g, grads) {
				t.Errorf("%s: the same bits: nothing was shared", modelType)
			}
		}
		m, err := New(c, 21, true)
		if err != nil {
			t.Fatal(err)
		}
		m.SetPrecision(p)
		var w Workspace
		h, err := m.Forward(&w, models.Pack(sequences))
		if err != nil || !slices.Equal(h, hidden) {
			t.Errorf("%s: %v, or other hidden rows without gradients", modelType, err)
		}
	}
}

// In bfloat16 hidden rows and gradients are those of single precision, up to what rounding operands does; they are not the same.
func TestBFloat16IsClose(t *testing.T) {
	sequences := groups(4, 3)
	for _, modelType := range []string{"llama", "qwen2", "qwen3"} {
		c := tiny(modelType)
		hidden, grads := pass(t, c, kernels.Float32, TrainOptions{}, sequences, len(sequences))
		for _, p := range kernels.Precisions[1:] {
			h, g := pass(t, c, p, TrainOptions{}, sequences, len(sequences))
			for _, v := range []struct {
				what      string
				got, want []float32
			}{{"hidden rows", h, hidden}, {"gradients", g, grads}} {
				if off := distance(v.got, v.want); off == 0 || off > 0.02 {
					t.Errorf("%s in %s: %s are off by %v of their norm", modelType, p, v.what, off)
				}
			}
		}
	}
}

// distance is the norm of the difference, as a part of the norm of what is wanted.
func distance(got, want []float32) float64 {
	var off, all float64
	for i := range want {
		d := float64(got[i] - want[i])
		off, all = off+d*d, all+float64(want[i])*float64(want[i])
	}
	return math.Sqrt(off / all)
}

func TestForwardErrors(t *testing.T) {
	m, err := New(tiny("llama"), 1, false)
	if err != nil {
		t.Fatal(err)
	}
	tr := NewTrainer(m, TrainOptions{})
	for name, b := range map[string]models.Packed{
		"no starts":      {Tokens: []int32{1}},
		"short starts":   {Tokens: []int32{1, 2}, Starts: []int{0, 1}},
		"falling starts": {Tokens: []int32{1, 2}, Starts: []int{0, 3, 2}},
		"negative start": {Tokens: []int32{1, 2}, Starts: []int{0, -1, 2}},
	} {
		if _, err := tr.Forward(b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, s := range map[string][]int32{"empty": {}, "negative": {-1}, "foreign": {29}, "long": make([]int32, 97)} {
		_, err := tr.Forward(models.Pack([]models.Sequence{{Prompt: []int32{1}}, {Prompt: s}}))
		var se *SequenceError
		if !errors.As(err, &se) || se.Index != 1 {
			t.Errorf("%s sequence gives %v", name, err)
		}
	}
	if err := tr.Backward(make([]float32, 24)); err == nil {
		t.Error("backward after a failed forward is taken")
	}
	if h, err := tr.Forward(models.Pack(nil)); err != nil || len(h) != 0 {
		t.Errorf("no sequences give %d values, %v", len(h), err)
	}
	if err := tr.Backward(nil); err != nil {
		t.Error(err)
	}
}

// New draws every tensor from its own key: adding a head or a layer changes no other weight.
func TestNew(t *testing.T) {
	c := tiny("llama")
	a, err := New(c, 3, false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(c, 3, true)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.params, b.params[:len(a.params)]) {
		t.Error("a scalar head changes other weights")
	}
	a.SetPrecision(kernels.BFloat16)
	a.AddScalarHead()
	if !slices.Equal(a.params, b.params) || len(a.Scalar()) != c.Hidden || a.Precision() != kernels.BFloat16 {
		t.Error("a head added later differs, or changes the precision")
	}
	other, err := New(c, 4, true)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(other.params, b.params) {
		t.Error("the seed changes nothing")
	}
	for _, tensor := range b.tensors {
		sum := 0.0
		for _, v := range tensor.Param {
			sum += float64(v) * float64(v)
		}
		std := math.Sqrt(sum / float64(len(tensor.Param)))
		want := map[string]float64{"model.embed_tokens.weight": 0.05, "lm_head.weight": 1 / math.Sqrt(24),
			"model.norm.weight": 1, "model.layers.1.mlp.down_proj.weight": 1 / math.Sqrt(40) / 2,
			"model.layers.0.self_attn.q_proj.weight": 1 / math.Sqrt(24), ScalarHeadName: 0}
		if w, ok := want[tensor.Name]; ok && math.Abs(std-w) > 0.08*w {
			t.Errorf("%s has standard deviation %v, want %v", tensor.Name, std, w)
		}
	}
}

// After ZeroGrads all gradients are zero, by every way to them; a pass from there gives the bits of a new trainer, and two passes
// the sum of both.
func TestZeroGrads(t *testing.T) {
	sequences := groups(2, 2)
	batch := models.Pack(sequences)
	for _, modelType := range []string{"llama", "qwen2", "qwen3"} {
		c := tiny(modelType)
		c.Tied = false
		_, want := pass(t, c, kernels.Float32, TrainOptions{}, sequences, len(sequences))
		m, err := New(c, 21, true)
		if err != nil {
			t.Fatal(err)
		}
		tr := NewTrainer(m, TrainOptions{})
		backward := func() {
			h, err := tr.Forward(batch)
			if err != nil {
				t.Fatal(err)
			}
			dh := make([]float32, len(h))
			for i := range dh {
				dh[i] = float32(math.Sin(float64(i)*7)) * 0.1
			}
			if err := tr.Backward(dh); err != nil {
				t.Fatal(err)
			}
		}
		zero := func(x []float32) bool { return !slices.ContainsFunc(x, func(v float32) bool { return v != 0 }) }
		_, dHead := tr.Head()
		_, dScalar := tr.ScalarHead()
		for i := range dHead {
			dHead[i] = 1
		}
		dScalar[0] = 1
		backward()
		tr.ZeroGrads()
		for _, tensor := range tr.Tensors() {
			if !zero(tensor.Grad) {
				t.Errorf("%s: the gradient of %s is not zero", modelType, tensor.Name)
			}
		}
		backward()
		tr.ZeroGrads()
		if !zero(tr.Grads()) {
			t.Errorf("%s: gradients are not zero", modelType)
		}
		backward()
		tr.ZeroGrads()
		backward()
		if !slices.Equal(tr.Grads(), want) {
			t.Errorf("%s: other gradients after ZeroGrads than at first", modelType)
		}
		backward()
		for i, g := range tr.Grads() {
			if math.Abs(float64(g-2*want[i])) > 1e-5*max(1, math.Abs(float64(want[i]))) {
				t.Fatalf("%s: gradient %d is %v after two passes, want %v", modelType, i, g, 2*want[i])
			}
		}
	}
}
