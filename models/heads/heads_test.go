package heads

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/losses/losstest"
)

// problem is a microbatch with single-precision hidden rows and weights.
type problem struct {
	loss    losses.Loss
	mb      *losses.Microbatch
	d       int
	hidden  []float32
	w       []float32
	targets map[string]Target

	precision   kernels.Precision
	temperature float64
}

const vocab = 9 // of losstest.Random

func newProblem(l losses.Loss, seed uint64) problem {
	spec := l.Spec()
	paired := slices.Contains(spec.Roles, losses.Chosen)
	mb, _ := losstest.Random(seed, 8, paired)
	r := rand.New(rand.NewPCG(seed, 3))
	p := problem{loss: l, mb: mb, d: 6}
	p.hidden, p.w = normal(r, mb.N()*p.d), normal(r, vocab*p.d)
	p.targets = map[string]Target{
		losses.OldModel:    {D: 6, Hidden: normal(r, mb.N()*6), W: normal(r, vocab*6)},
		losses.RewardModel: {D: 5, Hidden: normal(r, mb.N()*5), W: normal(r, vocab*5)},
	}
	return p
}

func normal(r *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(0.7 * r.NormFloat64())
	}
	return out
}

// result of one run; scalar losses have dW of length D.
type result struct {
	loss        float64
	dHidden, dW []float32
	metrics     losses.Metrics
}

// run evaluates the problem with chunks of so many rows.
func (p problem) run(t *testing.T, rows int) result {
	t.Helper()
	g := &losses.Grad{}
	out := result{dHidden: make([]float32, len(p.hidden))}
	var err error
	if p.loss.Spec().Heads == losses.Scalar {
		out.dW = make([]float32, p.d)
		h := &ScalarHead{W: p.w[:p.d], DW: out.dW}
		out.loss, err = h.Run(p.loss, p.mb, p.hidden, out.dHidden, g)
	} else {
		out.dW = make([]float32, len(p.w))
		bytes := rows * 4 * vocab
		if p.loss.Spec().Target != nil {
			bytes *= 2
		}
		h := &LM{D: p.d, W: p.w, DW: out.dW, LogitBytes: bytes, Precision: p.precision, Temperature: p.temperature}
		out.loss, err = h.Run(p.loss, p.mb, p.hidden, p.targets, out.dHidden, g)
	}
	if err != nil {
		t.Fatal(err)
	}
	out.metrics = g.Metrics
	return out
}

// eachLoss runs a subtest for every registered loss, and the forms of LCO that need target rows.
func eachLoss(t *testing.T, f func(t *testing.T, l losses.Loss)) {
	for _, name := range losses.Names() {
		configs := []map[string]any{nil}
		if name == "lco_kld" {
			configs = append(configs, map[string]any{"advantages": "dense"}, map[string]any{"advantages": "reward", "reward_beta": 3})
		}
		for _, config := range configs {
			l, err := losses.New(name, config)
			if err != nil {
				t.Fatal(err)
			}
			t.Run(fmt.Sprint(name, config), func(t *testing.T) { f(t, l) })
		}
	}
}

// logits in double precision, of hidden rows and a weight.
func logits(hidden, w []float32, d int, scale float64, into []float64) []float64 {
	n, v := len(hidden)/d, len(w)/d
	if into == nil {
		into = make([]float64, n*v)
	}
	for t := range n {
		for j := range v {
			for k := range d {
				into[t*v+j] += scale * float64(hidden[t*d+k]) * float64(w[j*d+k])
			}
		}
	}
	return into
}

func TestAgainstDenseReference(t *testing.T) {
	eachLoss(t, func(t *testing.T, l losses.Loss) {
		for seed := uint64(0); seed < 8; seed++ {
			p := newProblem(l, seed)
			n := p.mb.N()
			scale := 1.0
			if seed >= 4 && l.Spec().Heads == losses.LM { // at temperatures beside 1
				p.temperature = []float64{0.5, 0.7, 1.5, 1}[seed-4]
				scale = 1 / p.temperature
			}
			ref := losstest.Dense{V: vocab, Logits: logits(p.hidden, p.w, p.d, scale, nil)}
			for _, part := range l.Spec().TargetAt(1 / scale) {
				target := p.targets[part.Model]
				ref.Target = logits(target.Hidden, target.W, target.D, part.Weight, ref.Target)
			}
			ref.Value = logits(p.hidden, p.w[:p.d], p.d, 1, nil)
			want, dz, g := ref.Eval(l, p.mb)
			for i := range dz {
				dz[i] *= scale // by the logits, not by the logits over T
			}
			scalar := l.Spec().Heads == losses.Scalar
			width := vocab
			if scalar {
				dz, width = g.Value, 1
			}
			dh, dw := make([]float64, n*p.d), make([]float64, width*p.d)
			for row := range n {
				for v := range width {
					for k := range p.d {
						dh[row*p.d+k] += dz[row*width+v] * float64(p.w[v*p.d+k])
						dw[v*p.d+k] += dz[row*width+v] * float64(p.hidden[row*p.d+k])
					}
				}
			}
			got := p.run(t, 16)
			close32(t, "loss", []float32{float32(got.loss)}, []float64{want})
			close32(t, "dHidden", got.dHidden, dh)
			close32(t, "dW", got.dW, dw)
		}
	})
}

// close32 wants agreement to what single precision allows, relative to the largest number.
func close32(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	top := 1e-3
	for _, x := range want {
		top = math.Max(top, math.Abs(x))
	}
	for i := range got {
		if !(math.Abs(float64(got[i])-want[i]) <= 2e-5*top) {
			t.Errorf("%s[%d] = %v, want %v (largest %v)", what, i, got[i], want[i], top)
			return
		}
	}
}

func (r result) same(t *testing.T, what string, o result) {
	t.Helper()
	if r.loss != o.loss || !slices.Equal(r.dHidden, o.dHidden) || !slices.Equal(r.dW, o.dW) || !slices.Equal(r.metrics, o.metrics) {
		t.Errorf("%s: other bits: loss %v and %v", what, r.loss, o.loss)
	}
}

// Chunks of one row make every coupled set go twice over its rows, chunks of 64 rows hold the whole batch.
func TestSameBitsForAnyChunk(t *testing.T) {
	eachLoss(t, func(t *testing.T, l losses.Loss) {
		p := newProblem(l, 7)
		for _, p.precision = range kernels.Precisions {
			whole := p.run(t, 64)
			for _, rows := range []int{1, 2, 3, 5, 11, 20} {
				part := p.run(t, rows)
				if p.precision == kernels.BFloat16Tiles {
					part.dW = whole.dW // adds blocks of the rows of a chunk
				}
				whole.same(t, fmt.Sprint("chunks of ", rows, " in ", p.precision), part)
			}
		}
	})
}

func TestSameBitsForAnyThreads(t *testing.T) {
	eachLoss(t, func(t *testing.T, l losses.Loss) {
		p := newProblem(l, 8)
		defer kernels.SetThreads(kernels.Threads())
		for _, p.precision = range kernels.Precisions {
			kernels.SetThreads(1)
			one := p.run(t, 10)
			for _, n := range []int{2, 3, 8} {
				kernels.SetThreads(n)
				one.same(t, fmt.Sprint(n, " threads in ", p.precision), p.run(t, 10))
			}
		}
	})
}

// A batch cut into microbatches that are accumulated in order has the bits of the whole.
func TestSameBitsForAnyMicrobatch(t *testing.T) {
	eachLoss(t, func(t *testing.T, l losses.Loss) {
		p := newProblem(l, 9)
		p.precision = kernels.BFloat16 // rows are multiplied in pairs, wherever a microbatch begins
		whole := p.run(t, 16)
		parts := result{dW: make([]float32, len(whole.dW))}
		for lo := 0; lo < 8; lo += 2 {
			mb, _ := losstest.Part(p.mb, losstest.Dense{}, lo, lo+2)
			a, b := p.mb.Start[lo], p.mb.Start[lo+2]
			part := problem{loss: l, mb: mb, d: p.d, hidden: p.hidden[a*p.d : b*p.d], w: p.w, targets: map[string]Target{}}
			for name, target := range p.targets {
				part.targets[name] = Target{D: target.D, Hidden: target.Hidden[a*target.D : b*target.D], W: target.W}
			}
			dh := make([]float32, len(part.hidden))
			var err error
			if l.Spec().Heads == losses.Scalar {
				_, err = (&ScalarHead{W: p.w[:p.d], DW: parts.dW}).Run(l, mb, part.hidden, dh, &losses.Grad{})
			} else {
				_, err = (&LM{D: p.d, W: p.w, DW: parts.dW, Precision: p.precision}).Run(l, mb, part.hidden, part.targets, dh, &losses.Grad{})
			}
			if err != nil {
				t.Fatal(err)
			}
			parts.dHidden = append(parts.dHidden, dh...)
		}
		if !slices.Equal(parts.dHidden, whole.dHidden) || !slices.Equal(parts.dW, whole.dW) {
			t.Error("microbatches give other bits than the whole batch")
		}
	})
}

func TestWithoutGradient(t *testing.T) {
	l := mustLoss(t, "ppo", nil)
	p := newProblem(l, 3)
	want := p.run(t, 8)
	h := &LM{D: p.d, W: p.w, LogitBytes: 8 * 4 * vocab}
	loss, err := h.Run(l, p.mb, p.hidden, nil, nil, &losses.Grad{})
	if err != nil || loss != want.loss {
		t.Errorf("loss %v (%v), with gradients %v", loss, err, want.loss)
	}
	dh := make([]float32, len(p.hidden))
	if _, err := h.Run(l, p.mb, p.hidden, nil, dh, &losses.Grad{}); err != nil || !slices.Equal(dh, want.dHidden) {
		t.Errorf("with a frozen weight the hidden gradient differs (%v)", err)
	}
}

func mustLoss(t *testing.T, name string, config map[string]any) losses.Loss {
	l, err := losses.New(name, config)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// On-policy data has the log-probs of the head itself: every ratio is exactly 1.
func TestOnPolicyRatioIsOne(t *testing.T) {
	l := mustLoss(t, "ppo", nil)
	p := newProblem(l, 5)
	p.run(t, 4)
	for i, x := range p.mb.Listed.LogP {
		p.mb.Listed.OldLogP[i] = float64(float32(x))
	}
	if m := p.run(t, 7).metrics.Get("ppo/ratio"); m.Sum != m.Count || m.Count == 0 {
		t.Errorf("ratios sum to %v over %v tokens", m.Sum, m.Count)
	}
}

// The student's mass off the teacher's list is tiny while the teacher's is not: the two large terms of a listed token's
// gradient must cancel.
func TestTinyBucketKeepsItsDigits(t *testing.T) {
	l := mustLoss(t, "dckd", nil)
	mb := losses.NewMicrobatch([]int{1, 1}, []int32{0, 0, 1, 0, 0, 1})
	mb.Responses.Role = []losses.Role{losses.Chosen, losses.Rejected}
	mb.List, mb.Teacher = []int{0, 3, 6}, []losses.Span{{Lo: 1, Hi: 3}, {Lo: 4, Hi: 6}}
	mb.Listed.Prob, mb.Rows.TeacherRest = []float64{0, 0.3, 0.3, 0, 0.3, 0.3}, []float64{0.4, 0.4}
	mb.Totals.Add(mb)
	h := &LM{D: 1, W: []float32{1, 0.95, 0.2, 0.2, 0.2}}
	hidden, dh := []float32{17, 17}, make([]float32, 2)
	var z []float64
	for range 2 {
		for _, w := range h.W {
			z = append(z, float64(17*w))
		}
	}
	_, dz, _ := losstest.Dense{V: 5, Logits: z}.Eval(l, mb)
	if _, err := h.Run(l, mb, hidden, nil, dh, &losses.Grad{}); err != nil {
		t.Fatal(err)
	}
	if rest := math.Exp(mb.Rows.RestLogP[0]); rest > 1e-5 {
		t.Fatalf("the bucket holds %v, which is not tiny", rest)
	}
	want := 0.0
	for v, w := range h.W {
		want += dz[v] * float64(w)
	}
	if math.Abs(float64(dh[0])-want) > 1e-4*math.Abs(want) { // added up in single precision it is off by 1e-3
		t.Errorf("dHidden = %v, want %v", dh[0], want)
	}
}

func TestErrors(t *testing.T) {
	for want, spoil := range map[string]func(p *problem, h *LM){
		"weight of 53 and gradient of 0 numbers for hidden size 6": func(p *problem, h *LM) { h.W = h.W[:53] },
		"hidden numbers and":                          func(p *problem, h *LM) { p.hidden = p.hidden[1:] },
		"row 2 lists token 9, not in the vocabulary":  func(p *problem, h *LM) { p.mb.Listed.ID[p.mb.Sampled(2)] = 9 },
		"row 0 lists token -1, not in the vocabulary": func(p *problem, h *LM) { p.mb.Listed.ID[0] = -1 },
		`the loss needs the logits of model "old"`:    func(p *problem, h *LM) { p.targets = nil },
		`model "old" has weight [6]`: func(p *problem, h *LM) {
			p.targets[losses.OldModel] = Target{D: 6, W: make([]float32, 6), Hidden: p.hidden}
		},
		"the logits of row 3 are not finite": func(p *problem, h *LM) { p.hidden[3*6] = float32(math.NaN()) },
		"the logits of target row 1 are not finite": func(p *problem, h *LM) {
			p.targets[losses.OldModel].Hidden[6] = float32(math.Inf(1))
		},
		"column advantage has 0 entries": func(p *problem, h *LM) { p.mb.Rows.Advantage = nil },
	} {
		p := newProblem(mustLoss(t, "lco_kld", nil), 1)
		h := &LM{D: p.d, W: p.w}
		spoil(&p, h)
		if _, err := h.Run(p.loss, p.mb, p.hidden, p.targets, make([]float32, len(p.hidden)), &losses.Grad{}); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	p := newProblem(mustLoss(t, "value", nil), 1)
	h := &ScalarHead{W: p.w[:p.d]}
	if _, err := h.Run(p.loss, p.mb, p.hidden[1:], nil, &losses.Grad{}); err == nil {
		t.Error("too few hidden numbers are accepted")
	}
	p.hidden[2*6] = float32(math.Inf(1))
	if _, err := h.Run(p.loss, p.mb, p.hidden, nil, &losses.Grad{}); err == nil || !strings.Contains(err.Error(), "value of row 2") {
		t.Errorf("an infinite value gives %v", err)
	}
}

// The logits of all rows would take 64 MB here; what the head keeps stays near its limit, in one pass and in two.
func TestMemoryIsBounded(t *testing.T) {
	const n, v, d, limit = 512, 1 << 15, 8, 4 << 20
	r := rand.New(rand.NewPCG(1, 1))
	hidden, dh := normal(r, n*d), make([]float32, n*d)
	for name, roles := range map[string][]losses.Role{
		"sft":    {losses.Sample, losses.Sample},
		"qrm_lm": {losses.Chosen, losses.Rejected}, // one coupled set of all rows
	} {
		mb := losses.NewMicrobatch([]int{n / 2, n / 2}, make([]int32, n))
		mb.Responses.Role = roles
		mb.Totals.Add(mb)
		h := &LM{D: d, W: normal(r, v*d), DW: make([]float32, v*d), LogitBytes: limit}
		if _, err := h.Run(mustLoss(t, name, nil), mb, hidden, nil, dh, &losses.Grad{}); err != nil {
			t.Fatal(err)
		}
		if got := 4 * (cap(h.logits) + cap(h.target) + cap(h.scaled) + cap(h.listed) + cap(h.listedTarget)); got > limit*5/4 {
			t.Errorf("%s: %d bytes are held for chunks of %d", name, got, limit)
		}
	}
}

func BenchmarkLM(b *testing.B) {
	for _, c := range []struct{ n, v, d int }{{256, 49152, 576}, {2048, 26, 64}} {
		b.Run(fmt.Sprintf("%dx%dx%d", c.n, c.d, c.v), func(b *testing.B) {
			mb := losses.NewMicrobatch([]int{c.n}, make([]int32, c.n))
			mb.Listed.OldLogP, mb.Rows.Advantage = make([]float64, c.n), make([]float64, c.n)
			mb.Totals.Add(mb)
			r := rand.New(rand.NewPCG(1, 1))
			h := &LM{D: c.d, W: normal(r, c.v*c.d), DW: make([]float32, c.v*c.d)}
			hidden, dh := normal(r, c.n*c.d), make([]float32, c.n*c.d)
			l, _ := losses.New("ppo", nil)
			g := &losses.Grad{}
			for b.Loop() {
				if _, err := h.Run(l, mb, hidden, nil, dh, g); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(6*float64(c.n)*float64(c.v)*float64(c.d)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOPS")
		})
	}
}
