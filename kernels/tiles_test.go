package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millrace/millrace/kernels/internal/asm"
)

// normal is x in single precision, or zero where that is denormal.
func normal(x float64) float32 {
	if math.Abs(x) < 0x1p-126-0x1p-151 { // rounded to 24 bits
		return float32(math.Copysign(0, x))
	}
	return float32(x)
}

// inTiles is the definition of BFloat16Tiles: c + Σ_p x(p)·y(p), over n steps. What a fused multiply-add of bfloat16 numbers rounds is
// exact in double precision.
func inTiles(c float32, n int, x, y func(p int) float32) float32 {
	c = normal(float64(c))
	for block := 0; block < n; block += 32 {
		var sums [2]float32
		for p := block; p < min(block+32, n); p++ {
			sums[p%2] = normal(float64(sums[p%2]) + float64(x(p))*float64(y(p)))
		}
		c = normal(float64(c) + float64(normal(float64(sums[0])+float64(sums[1]))))
	}
	return c
}

// sameNumbers reports the first element whose bits differ; one NaN is as good as another.
func sameNumbers(got, want []float32) error {
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) && (got[i] == got[i] || want[i] == want[i]) {
			return fmt.Errorf("element %d is %x, want %x", i, got[i], want[i])
		}
	}
	return nil
}

// wild draws numbers of the usual size among tiny, denormal, huge and infinite ones.
func wild(r *rand.Rand, n int) []float32 {
	x := gauss(r, n)
	for i := range x {
		switch r.IntN(12) {
		case 0:
			x[i] = math.Float32frombits(r.Uint32()&0x807fffff | uint32(r.IntN(3))<<23)
		case 1:
			x[i] = math.Float32frombits(r.Uint32()&0x807fffff | uint32(55+r.IntN(16))<<23)
		case 2:
			x[i] *= 0x1p100
		case 3:
			if r.IntN(40) == 0 {
				x[i] = float32(math.Inf(1 - 2*r.IntN(2)))
			}
		}
	}
	return x
}

// onUnits runs f at every level, and with an emulated tile unit at each.
func onUnits(t *testing.T, f func(at string)) {
	t.Helper()
	for _, level := range Levels() {
		restore := Force(level)
		f(level)
		end := asm.EmulateUnits()
		f(level + " with an emulated tile unit")
		end()
		restore()
	}
}

// TestBFloat16Tiles: at every level, and on an emulated tile unit, products have the bits of the definition: in all three directions, in
// slices and blocks of every size, with any number of threads, from c or from zero, packed or not, in one part or two.
func TestBFloat16Tiles(t *testing.T) {
	defer func(old int) { roundedWords = old }(roundedWords)
	r := rand.New(rand.NewPCG(71, 72))
	for round := range Rounds(30) {
		m, n, k := 1+r.IntN(70), 1+r.IntN(100), 1+r.IntN(200)
		switch round % 10 {
		case 0:
			m, n, k = 1+r.IntN(150), 1+r.IntN(80), 600+r.IntN(1300)
		case 1:
			m, n, k = 450+r.IntN(60), 1+r.IntN(60), 680+r.IntN(80) // more than a packed weight takes at once
		}
		roundedWords = 1 << 20
		if round%3 == 0 {
			roundedWords = 1 + r.IntN(m*k)
		}
		draw := gauss
		if round%2 == 1 {
			draw = wild
		}
		a, b, c := draw(r, m*k), draw(r, n*k), draw(r, m*n)
		beta := []float32{0, 1, 0.5}[r.IntN(3)]
		if round%10 == 5 { // sums are -0, which what stands beside a last step is not to change
			for i, x := range [][]float32{a, b, c} {
				for j := range x {
					x[j] = []float32{-0x1p-100, 0x1p-100, asm.NegativeZero}[i]
				}
			}
			beta = 1
		}
		at, bt := flipped(a, m, k), flipped(b, n, k)
		want, ra, rb := make([]float32, m*n), inBFloat16(a), inBFloat16(b)
		for i := range m {
			for j := range n {
				start := float32(0)
				if beta != 0 {
					start = beta * c[i*n+j]
				}
				x, y := ra[i*k:(i+1)*k], rb[j*k:(j+1)*k]
				want[i*n+j] = inTiles(start, k, func(p int) float32 { return x[p] }, func(p int) float32 { return y[p] })
			}
		}
		p := BFloat16Tiles
		onUnits(t, func(level string) {
			defer SetThreads(SetThreads(1 + r.IntN(4)))
			k1 := 32 * r.IntN(k/32+1)
			for name, f := range map[string]func(c []float32){
				"NT":     func(c []float32) { p.MatMulNT(c, a, b, m, n, k, beta) },
				"NN":     func(c []float32) { p.MatMulNN(c, a, bt, m, n, k, beta) },
				"TN":     func(c []float32) { p.MatMulTN(c, at, bt, m, n, k, beta) },
				"packed": func(c []float32) { MatMulPacked(c, a, Pack(Weight{W: b, N: n, K: k, Precision: p})[0], m, beta) },
				"each": func(c []float32) {
					if w := Pack(Weight{W: b[:k], N: 1, K: k, Precision: p}, Weight{W: b, N: n, K: k, Precision: p, Half: true}); beta == 0 {
						MatMulPackedEach([][]float32{make([]float32, m), c}, a, w, m)
						return
					}
					p.MatMulNT(c, a, b, m, n, k, beta)
				},
				"parts": func(c []float32) {
					p.MatMulTN(c, at[:k1*m], bt[:k1*n], m, n, k1, beta)
					p.MatMulTN(c, at[k1*m:], bt[k1*n:], m, n, k-k1, 1)
				},
			} {
				got := slices.Clone(c)
				f(got)
				if err := sameNumbers(got, want); err != nil {
					t.Fatalf("%s at %s, %d×%d×%d, beta %v, %d words: %v", name, level, m, k, n, beta, roundedWords, err)
				}
			}
		})
	}
}

// TestTilesAreAnotherOrder: the sums are not those of BFloat16, whose operands are the same.
func TestTilesAreAnotherOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(73, 74))
	const m, n, k = 20, 30, 300
	a, b, tiles, plain := gauss(r, m*k), gauss(r, n*k), make([]float32, m*n), make([]float32, m*n)
	BFloat16Tiles.MatMulNT(tiles, a, b, m, n, k, 0)
	BFloat16.MatMulNT(plain, a, b, m, n, k, 0)
	same := 0
	for i := range tiles {
		if tiles[i] == plain[i] {
			same++
		}
		if off := math.Abs(float64(tiles[i] - plain[i])); off > 1e-3 {
			t.Fatalf("element %d is off by %v", i, off)
		}
	}
	if same > m*n/2 {
		t.Errorf("%d of %d sums are the same", same, m*n)
	}
}

// TestAttentionInTiles: attention and its gradients have the bits of its definition with products of BFloat16Tiles.
func TestAttentionInTiles(t *testing.T) {
	p := BFloat16Tiles
	r := rand.New(rand.NewPCG(75, 76))
	for range Rounds(12) {
		n, d, kv, group := 1+r.IntN(230), 1+r.IntN(70), 1+r.IntN(2), 1+r.IntN(2)
		heads, first := kv*group, 0
		if r.IntN(2) == 0 {
			first = r.IntN(n)
		}
		ldq, ldk := heads*d, kv*d
		q, k, v, dy := gauss(r, (n-first)*ldq), gauss(r, n*ldk), gauss(r, n*ldk), gauss(r, (n-first)*ldq)
		rq, rk, rv, rdy := inBFloat16(q), inBFloat16(k), inBFloat16(v), inBFloat16(dy)
		scale := float32(1 / math.Sqrt(float64(d)))
		onUnits(t, func(level string) {
			rows := n - first
			y, lse := make([]float32, rows*ldq), make([]float32, rows*heads)
			wantY, wantLSE := make([]float32, rows*ldq), make([]float32, rows*heads)
			grads, want := [3][]float32{gauss(r, rows*ldq), gauss(r, n*ldk), gauss(r, n*ldk)}, [3][]float32{}
			for i := range grads {
				want[i] = slices.Clone(grads[i])
			}
			p.AttentionSuffix(y, q, k, v, []int{0, rows}, []int{0, n}, heads, kv, d, lse)
			p.AttentionSuffixBackward(grads[0], grads[1], grads[2], dy, y, q, k, v, []int{0, rows}, []int{0, n}, heads, kv, d, lse)
			for h := range heads {
				kvAt := func(j int) int { return j*ldk + h/group*d }
				probabilities, ds := make([][]float32, rows), make([][]float32, rows) // rounded
				for i := range rows {
					at, keys := i*ldq+h*d, first+i+1
					dot := func(x, y []float32) []float32 {
						out := make([]float32, keys)
						for j := range out {
							out[j] = inTiles(0, d, func(p int) float32 { return x[at+p] }, func(p int) float32 { return y[kvAt(j)+p] })
						}
						return out
					}
					scores := dot(rq, rk)
					pr, dr := slices.Clone(scores), dot(rdy, rv)
					logDenominator, inv := softmaxRow(scores, scale)
					wantLSE[i*heads+h] = logDenominator
					asm.Round(scores)
					asm.SoftmaxExp(pr, scale, logDenominator)
					asm.SoftmaxGrad(dr, pr, asm.Dot(dy[at:at+d], y[at:at+d]), scale)
					asm.Round(pr)
					asm.Round(dr)
					probabilities[i], ds[i] = pr, dr
					for c := range d {
						wantY[at+c] = inv * inTiles(0, keys, func(j int) float32 { return scores[j] }, func(j int) float32 { return rv[kvAt(j)+c] })
						want[0][at+c] = inTiles(want[0][at+c], keys, func(j int) float32 { return dr[j] }, func(j int) float32 { return rk[kvAt(j)+c] })
					}
				}
				for j := range n {
					for c := range d {
						// Rows before the key have none of it; blocks begin with the first row all the same.
						add := func(sum *float32, weights [][]float32, of []float32) {
							*sum = inTiles(*sum, rows, func(i int) float32 {
								if j >= len(weights[i]) {
									return 0
								}
								return weights[i][j]
							}, func(i int) float32 { return of[i*ldq+h*d+c] })
						}
						add(&want[1][kvAt(j)+c], ds, rq)
						add(&want[2][kvAt(j)+c], probabilities, rdy)
					}
				}
			}
			for what, x := range map[string][2][]float32{"y": {y, wantY}, "lse": {lse, wantLSE}, "dq": {grads[0], want[0]}, "dk": {grads[1],
				want[1]}, "dv": {grads[2], want[2]}} {
				for i := range x[1] { // but for the sign of zero
					if x[0][i] != x[1][i] {
						t.Fatalf("%s at %s, %d of %d rows of %d: element %d is %x, want %x", what, level, rows, n, d, i, x[0][i], x[1][i])
					}
				}
			}
		})
	}
}
