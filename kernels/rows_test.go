package kernels_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millrace/millrace/kernels"
)

// logits draws a row with some forbidden tokens and a few large ones.
func logits(r *rand.Rand, n int) []float32 {
	z := make([]float32, n)
	for i := range z {
		z[i] = float32(r.NormFloat64() * 4)
		if r.IntN(20) == 0 {
			z[i] = float32(math.Inf(-1))
		}
	}
	if n > 0 {
		z[r.IntN(n)] = 12
	}
	return z
}

// softmax64 is the softmax in double precision with the logarithm of its denominator.
func softmax64(z []float32) (p []float64, logZ float64) {
	m := math.Inf(-1)
	for _, v := range z {
		m = max(m, float64(v))
	}
	p = make([]float64, len(z))
	var s float64
	for i, v := range z {
		p[i] = math.Exp(float64(v) - m)
		s += p[i]
	}
	for i := range p {
		p[i] /= s
	}
	return p, m + math.Log(s)
}

func near(t *testing.T, what string, got float32, want, tol float64) {
	t.Helper()
	if !(math.Abs(float64(got)-want) <= tol*(1+math.Abs(want))) && float64(got) != want {
		t.Fatalf("%s is %v, want %v", what, got, want)
	}
}

var rowLengths = []int{1, 2, 3, 15, 26, 31, 32, 33, 100, 255, 256, 257, 1000, 2047, 2048, 2049, 5000}

func TestStats(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(21, 22))
		for _, n := range rowLengths {
			for range 10 {
				z := logits(r, n)
				before := slices.Clone(z)
				p, logZ := softmax64(z)
				var entropy float64
				for _, v := range p {
					if v > 0 {
						entropy -= v * math.Log(v)
					}
				}
				var rest []int32
				for i := range n {
					if i < n-1 && (r.IntN(n) < 3 || p[i] > 0.01) { // with the head of the distribution set aside, little is left
						rest = append(rest, int32(i))
					}
				}
				r.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
				var off float64
				for i, v := range p {
					if !slices.Contains(rest, int32(i)) {
						off += v
					}
				}
				listed := make([]float32, len(rest))
				st := kernels.Stats(z, rest, rest, listed)
				sameBits(t, "logits", z, before)
				near(t, "LogZ", st.LogZ, logZ, 1e-6)
				near(t, "Entropy", st.Entropy, entropy, 2e-6)
				near(t, "Max", st.Max, float64(slices.Max(z)), 0)
				for i, id := range rest {
					near(t, "listed logit", listed[i], float64(z[id]), 0)
				}
				if len(rest) > 0 {
					near(t, "RestLogP", st.RestLogP, math.Log(off), 2e-6)
				}
				if kernels.Stats(z, nil, nil, nil).LogZ != st.LogZ || kernels.LogSumExp(z) != st.LogZ {
					t.Fatal("LogZ depends on what else is asked for")
				}
				ls := make([]float32, n)
				kernels.LogSoftmax(ls, z)
				for i := range ls {
					near(t, "log-softmax", ls[i], float64(z[i])-logZ, 1e-6)
				}
			}
		}
	})
}

func TestStatsOfExtremes(t *testing.T) {
	inf := float32(math.Inf(1))
	nan := float32(math.NaN())
	eachLevel(t, func(t *testing.T) {
		if got := kernels.LogSumExp(nil); got != -inf {
			t.Errorf("an empty row has log-sum-exp %v", got)
		}
		if got := kernels.LogSumExp([]float32{-inf, -inf}); got != -inf {
			t.Errorf("a row of forbidden tokens has log-sum-exp %v", got)
		}
		if got := kernels.LogSumExp([]float32{3e38, 3e38}); got != 3e38 {
			t.Errorf("huge logits have log-sum-exp %v", got)
		}
		for _, n := range []int{1, 40, 3000} {
			z := make([]float32, n)
			z[n/2] = nan
			if got := kernels.LogSumExp(z); got == got {
				t.Errorf("a NaN among %d logits gave %v", n, got)
			}
			z[n/2] = inf
			if got := kernels.LogSumExp(z); got == got && got != inf {
				t.Errorf("an infinity among %d logits gave %v", n, got)
			}
		}
	})
}

func TestRowGradAndTargetKL(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(23, 24))
		for _, n := range rowLengths {
			z, zt := logits(r, n), make([]float32, n)
			for i := range zt {
				zt[i] = z[i] + float32(r.NormFloat64()) // forbidden where z is, so the divergence is finite
			}
			p, logZ := softmax64(z)
			pt, logZt := softmax64(zt)
			var kl, entropy float64
			for i := range p {
				if p[i] > 0 {
					entropy -= p[i] * math.Log(p[i])
				}
				if pt[i] > 0 {
					kl += pt[i] * (math.Log(pt[i]) - math.Log(p[i]))
				}
			}
			near(t, "KL", kernels.TargetKL(z, zt, float32(logZ), float32(logZt)), kl, 1e-5)
			ids := []int32{int32(r.IntN(n)), int32(r.IntN(n)), 0}
			d := []float32{0.5, -0.25, 2}
			for _, a := range []float32{0, -0.75} {
				for k, b := range []float32{0, 0.5, 0, 0.5} {
					e := []float32{0, 0, 0.4, -0.3}[k]
					g := slices.Clone(z)
					kernels.RowGrad(g, float32(logZ), a, e, float32(entropy), zt, float32(logZt), b, ids, d)
					want := make([]float64, n)
					for i := range want {
						want[i] = float64(a)*p[i] + float64(b)*pt[i]
						if p[i] > 0 {
							want[i] += float64(e) * p[i] * (math.Log(p[i]) + entropy)
						}
					}
					for i, id := range ids {
						want[id] += float64(d[i])
					}
					for i := range want {
						near(t, "gradient", g[i], want[i], 2e-6)
					}
					if b == 0 {
						h := slices.Clone(z)
						kernels.RowGrad(h, float32(logZ), a, e, float32(entropy), nil, 0, 0.5, ids, d)
						sameBits(t, "without a target", h, g)
					}
				}
			}
		}
	})
}

func TestTopK(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(25, 26))
		for _, n := range rowLengths {
			for _, k := range []int{0, 1, 2, 5, 50} {
				for _, minP := range []float32{0, 1e-3, 0.1, 0.9} {
					z := logits(r, n)
					for range n / 3 { // ties
						z[r.IntN(n)] = z[r.IntN(n)]
					}
					logZ := kernels.LogSumExp(z)
					order := make([]int32, n)
					for i := range order {
						order[i] = int32(i)
					}
					slices.SortStableFunc(order, func(a, b int32) int {
						switch {
						case z[a]-logZ > z[b]-logZ:
							return -1
						case z[a]-logZ < z[b]-logZ:
							return 1
						}
						return 0
					})
					var want []int32
					for _, id := range order {
						if len(want) < k && z[id]-logZ >= float32(math.Log(float64(minP))) {
							want = append(want, id)
						}
					}
					ids, logp := make([]int32, k), make([]float32, k)
					got := kernels.TopK(z, logZ, k, minP, ids, logp)
					if !slices.Equal(ids[:got], want) {
						t.Fatalf("n=%d k=%d minP=%v: %v, want %v", n, k, minP, ids[:got], want)
					}
					for i, id := range want {
						if logp[i] != z[id]-logZ {
							t.Fatalf("log-prob of %d is %v", id, logp[i])
						}
					}
				}
			}
		}
	})
}

// TestSampleRow: over an even grid of u each token comes as often as its probability says, within what rounding and the grid
// allow; cuts keep the right tokens.
func TestSampleRow(t *testing.T) {
	const grid = 4000
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(27, 28))
		for _, n := range []int{1, 2, 26, 300, 2500} {
			z := logits(r, n)
			for _, c := range []struct {
				temperature, topP float32
				topK              int
			}{{1, 1, 0}, {0.7, 1, 0}, {1, 0.8, 0}, {1, 1, 3}, {0.5, 0.9, 7}, {1, 1, n + 5}} {
				scaled := make([]float32, n)
				for i := range z {
					scaled[i] = z[i] / c.temperature
				}
				p, _ := softmax64(scaled)
				order := make([]int, n)
				for i := range order {
					order[i] = i
				}
				slices.SortStableFunc(order, func(a, b int) int {
					switch {
					case p[a] > p[b]:
						return -1
					case p[a] < p[b]:
						return 1
					}
					return 0
				})
				keep := n
				if c.topK > 0 {
					keep = min(keep, c.topK)
				}
				var total, mass float64
				for _, i := range order[:keep] {
					total += p[i]
				}
				for i, id := range order[:keep] {
					if mass += p[id]; c.topP < 1 && mass >= float64(c.topP)*total {
						keep = i + 1
						break
					}
				}
				want := make([]float64, n)
				for _, i := range order[:keep] {
					want[i] = p[i] / mass
				}
				count := make([]float64, n)
				for i := range grid {
					id := kernels.SampleRow(z, c.temperature, c.topP, c.topK, (float64(i)+0.5)/grid)
					count[id]++
				}
				for i := range want {
					if math.Abs(count[i]/grid-want[i]) > 1.5/grid+1e-5 || want[i] == 0 && count[i] > 0 {
						t.Fatalf("n=%d %+v: token %d came %v times in %d, probability %v", n, c, i, count[i], grid, want[i])
					}
				}
				for _, u := range []float64{0, math.Nextafter(1, 0)} {
					if id := kernels.SampleRow(z, c.temperature, c.topP, c.topK, u); id < 0 || want[id] == 0 {
						t.Fatalf("u=%v gave %d", u, id)
					}
				}
			}
			best := slices.Index(z, slices.Max(z))
			if got := kernels.SampleRow(z, 0, 1, 0, 0.99); int(got) != best {
				t.Fatalf("temperature 0 gave %d, want %d", got, best)
			}
		}
		for _, z := range [][]float32{{-3, 2, 1.9, 2}, {900, 80000, -1e30, 79999.5}, logits(r, 2500)} { // 1/temperature is huge or overflows
			best := slices.Index(z, slices.Max(z))
			for _, temperature := range []float32{math.SmallestNonzeroFloat32, 1e-40, 1e-30, 1e-10, 1e-7} {
				for _, u := range []float64{0, 0.3, math.Nextafter(1, 0)} {
					for _, topP := range []float32{1, 0.5} {
						got := kernels.SampleRow(z, temperature, topP, 0, u)
						if got < 0 || z[got] != z[best] {
							t.Errorf("temperature %v, u %v gave %d, want a token as probable as %d", temperature, u, got, best)
						}
					}
				}
			}
		}
		if got := kernels.SampleRow(nil, 1, 1, 0, 0.5); got != -1 {
			t.Errorf("an empty row gave %d", got)
		}
	})
}

// TestScalarForms: the functions of one number have the bits of those of slices.
func TestScalarForms(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(29, 30))
		x := randoms(r, 100)
		for i := range x {
			x[i] *= 10
		}
		for name, f := range map[string]struct {
			slice func(dst, x []float32)
			one   func(float32) float32
		}{"exp": {kernels.Exp, kernels.Exp32}, "log": {kernels.Log, kernels.Log32},
			"sigmoid": {kernels.Sigmoid, kernels.Sigmoid32}, "softplus": {kernels.Softplus, kernels.Softplus32}} {
			y, want := make([]float32, len(x)), make([]float32, len(x))
			f.slice(y, x)
			for i, v := range x {
				want[i] = f.one(v)
			}
			for i := range y {
				if y[i] != want[i] && !(y[i] != y[i] && want[i] != want[i]) {
					t.Fatalf("%s of %v: %v and %v", name, x[i], y[i], want[i])
				}
			}
		}
	})
}
