package asm

import "math"

// This file is the meaning of every routine of the package: the loop an assembly version computes, and what runs where
// there is no assembly. Products and sums are rounded one by one (the conversions keep a compiler from fusing them), so
// results do not depend on the platform. Assembly fuses them, so its last bits differ from these; the two vector levels
// agree with each other bit for bit.

// Tile sizes of the portable matrix product.
const (
	genericMR = 4
	genericNR = 4
)

// Soon is memory that a tile fetches into the caches while it computes, as it is needed next. The zero value is none. It may reach
// beyond what is there: fetching reads nothing.
type Soon struct {
	C       []float32 // from here on as many rows as the tile's own, its ldc apart
	Data    []float32 // from here on Runs runs of Run elements, LD apart
	Run, LD int
	Runs    int
}

// tileGeneric computes c[i,j] (+)= Σ_p a[i,p]·b[p,j] for i < mr, j < nr, adding in the order of p.
func tileGeneric(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load, flush bool) {
	if mr == 4 && nr == 4 && !flush {
		tile4x4(k, a, ars, acs, b, brs, c, ldc, load)
		return
	}
	for i := range mr {
		for j := range nr {
			var s float32
			if load {
				s = start(c[i*ldc+j], flush)
			}
			for p := range k {
				s = plusProduct(s, a[i*ars+p*acs], b[p*brs+j], flush)
			}
			c[i*ldc+j] = s
		}
	}
}

// start is what a sum that begins with c begins with.
func start(c float32, flush bool) float32 {
	if flush {
		return flushed(float64(c))
	}
	return c
}

// plusProduct is s + x·y. With flush x and y are bfloat16 numbers and a denormal sum is zero: the product is exact in double precision,
// and the sum either is too or is one of its terms in single precision, so that it is rounded once.
func plusProduct(s, x, y float32, flush bool) float32 {
	if !flush {
		return s + float32(x*y)
	}
	return flushed(float64(s) + float64(x)*float64(y))
}

// flushed is x in single precision, or zero of its sign where it is denormal: below the smallest normal number after 24 bits of it were
// rounded, as processors tell.
func flushed(x float64) float32 {
	if -smallest < x && x < smallest {
		return float32(math.Copysign(0, x))
	}
	return float32(x)
}

// smallest is what lies halfway between 2^-126 and the number of 24 bits below it.
const smallest = 0x1p-126 - 0x1p-151

const exponentBits = 0x7f800000

func tile4x4(k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load bool) {
	var c00, c01, c02, c03, c10, c11, c12, c13, c20, c21, c22, c23, c30, c31, c32, c33 float32
	if load {
		c00, c01, c02, c03 = c[0], c[1], c[2], c[3]
		c10, c11, c12, c13 = c[ldc], c[ldc+1], c[ldc+2], c[ldc+3]
		c20, c21, c22, c23 = c[2*ldc], c[2*ldc+1], c[2*ldc+2], c[2*ldc+3]
		c30, c31, c32, c33 = c[3*ldc], c[3*ldc+1], c[3*ldc+2], c[3*ldc+3]
	}
	for p := range k {
		bp := b[p*brs : p*brs+4 : p*brs+4]
		b0, b1, b2, b3 := bp[0], bp[1], bp[2], bp[3]
		x := a[p*acs]
		c00 += float32(x * b0)
		c01 += float32(x * b1)
		c02 += float32(x * b2)
		c03 += float32(x * b3)
		x = a[ars+p*acs]
		c10 += float32(x * b0)
		c11 += float32(x * b1)
		c12 += float32(x * b2)
		c13 += float32(x * b3)
		x = a[2*ars+p*acs]
		c20 += float32(x * b0)
		c21 += float32(x * b1)
		c22 += float32(x * b2)
		c23 += float32(x * b3)
		x = a[3*ars+p*acs]
		c30 += float32(x * b0)
		c31 += float32(x * b1)
		c32 += float32(x * b2)
		c33 += float32(x * b3)
	}
	c[0], c[1], c[2], c[3] = c00, c01, c02, c03
	c[ldc], c[ldc+1], c[ldc+2], c[ldc+3] = c10, c11, c12, c13
	c[2*ldc], c[2*ldc+1], c[2*ldc+2], c[2*ldc+3] = c20, c21, c22, c23
	c[3*ldc], c[3*ldc+1], c[3*ldc+2], c[3*ldc+3] = c30, c31, c32, c33
}

// Pair makes a pair of two bfloat16 numbers: that of an even step of k in the upper half of the bits, that of the step after in the lower.
// Pairs are kept as if they were numbers, and mean nothing as such.
func Pair(even, odd float32) float32 {
	return math.Float32frombits(math.Float32bits(even)&0xffff0000 | math.Float32bits(odd)>>16)
}

// NegativeZero times zero changes no sum, not even the sign of zero: it stands in a where a last step has no other beside it.
var NegativeZero = float32(math.Copysign(0, -1))

// upper and lower are the numbers of a pair.
func upper(pair float32) float32 { return math.Float32frombits(math.Float32bits(pair) & 0xffff0000) }
func lower(pair float32) float32 { return math.Float32frombits(math.Float32bits(pair) << 16) }

// widenGeneric writes rows of pairs of 32 columns as twice as many rows of numbers.
func widenGeneric(dst []float32, src []float32) {
	for i := 0; i < len(src); i += 32 {
		for j, pair := range src[i : i+32] {
			dst[2*i+j], dst[2*i+32+j] = upper(pair), lower(pair)
		}
	}
}

// tilePairsGeneric is tileGeneric with b in pairs.
func tilePairsGeneric(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load, flush bool) {
	for i := range mr {
		for j := range nr {
			var s float32
			if load {
				s = start(c[i*ldc+j], flush)
			}
			for p := 0; p < k; p += 2 {
				pair := b[p/2*brs+j]
				s = plusProduct(s, a[i*ars+p*acs], upper(pair), flush)
				if p+1 < k {
					s = plusProduct(s, a[i*ars+(p+1)*acs], lower(pair), flush)
				}
			}
			c[i*ldc+j] = s
		}
	}
}

// Rounded is x in bfloat16, to nearest and ties to even; denormal numbers are zero.
func Rounded(x float32) float32 {
	bits := math.Float32bits(x)
	switch {
	case x != x:
		bits |= 0x400000
	case bits&exponentBits == 0:
		bits &= 1 << 31
	default:
		bits += 0x7fff + bits>>16&1
	}
	return math.Float32frombits(bits & 0xffff0000)
}

func roundGeneric(x []float32) {
	for i, v := range x {
		x[i] = Rounded(v)
	}
}

func roundPairsGeneric(dst []float32, src []float32) {
	for i := 0; i < len(src); i += 2 {
		var odd float32
		if i+1 < len(src) {
			odd = Rounded(src[i+1])
		}
		dst[i/2] = Pair(Rounded(src[i]), odd)
	}
}

func interleaveGeneric(dst []float32, stride int, src []float32, ld, n, k int) {
	for p := 0; p < k; p += 2 {
		for j := range n {
			var odd float32
			if p+1 < k {
				odd = Rounded(src[(p+1)*ld+j])
			}
			dst[p/2*stride+j] = Pair(Rounded(src[p*ld+j]), odd)
		}
	}
}

// packTGeneric writes the transpose of src[n,k] (row stride ld) to dst[k,width], zero beyond column n.
func packTGeneric(dst, src []float32, ld, n, k, width int) {
	for j := range n {
		row := src[j*ld : j*ld+k]
		for p, v := range row {
			dst[p*width+j] = v
		}
	}
	for j := n; j < width; j++ {
		for p := range k {
			dst[p*width+j] = 0
		}
	}
}

// packNGeneric copies k rows of width columns from src, row stride ld, to dst.
func packNGeneric(dst, src []float32, ld, k, width int) {
	for p := range k {
		copy(dst[p*width:(p+1)*width], src[p*ld:p*ld+width])
	}
}

// packColumnsGeneric copies k rows of n columns from src, row stride ld, to dst, row stride stride.
func packColumnsGeneric(dst []float32, stride int, src []float32, ld, n, k int) {
	for p := range k {
		copy(dst[p*stride:p*stride+n], src[p*ld:p*ld+n])
	}
}

// lanes is the number of partial sums of a reduction: element i is added to partial sum i mod lanes, and the partial sums
// are added by halving: lane l takes lane l+lanes/2, and so on down to one.
const lanes = 32

func fold(s *[lanes]float32) float32 {
	for w := lanes / 2; w > 0; w /= 2 {
		for l := range w {
			s[l] += s[l+w]
		}
	}
	return s[0]
}

// dotGeneric returns Σ x[i]·y[i] over lanes.
func dotGeneric(x, y []float32) float32 {
	var s [lanes]float32
	y = y[:len(x)]
	for len(x) >= lanes {
		a, b := (*[lanes]float32)(x), (*[lanes]float32)(y)
		for l := range s {
			s[l] += float32(a[l] * b[l])
		}
		x, y = x[lanes:], y[lanes:]
	}
	for l := range x {
		s[l] += float32(x[l] * y[l])
	}
	return fold(&s)
}

// dot3Generic returns Σ x[i]·y[i]·z[i] over lanes.
func dot3Generic(x, y, z []float32) float32 {
	var s [lanes]float32
	for i := range x {
		s[i%lanes] += float32(float32(x[i]*y[i]) * z[i])
	}
	return fold(&s)
}

// sumSquaresGeneric returns Σ x[i]² in double precision over lanes.
func sumSquaresGeneric(x []float32) float64 {
	var s [lanes]float64
	for i, v := range x {
		s[i%lanes] += float64(v) * float64(v)
	}
	return fold64(&s)
}

func fold64(s *[lanes]float64) float64 {
	for w := lanes / 2; w > 0; w /= 2 {
		for l := range w {
			s[l] += s[l+w]
		}
	}
	return s[0]
}

// maxGeneric returns the largest element, -Inf of none; a NaN is passed over.
func maxGeneric(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	return m
}

func axpyGeneric(alpha float32, x, y []float32) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] += float32(alpha * v)
	}
}

func addGeneric(dst, x []float32) {
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] += v
	}
}

func scaleGeneric(alpha float32, x []float32) {
	for i := range x {
		x[i] *= alpha
	}
}

// subToGeneric writes x[i] - c.
func subToGeneric(dst, x []float32, c float32) {
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] = v - c
	}
}

// exp1 is e^x, computed in double precision and rounded once.
func exp1(x float32) float32 {
	switch {
	case x != x:
		return x
	case x > 89:
		return float32(math.Inf(1))
	case x < -104:
		return 0
	}
	n := math.Floor(float64(x)*math.Log2E + 0.5)
	r := float64(x) - n*math.Ln2
	p := 1 + r*(1+r*(1./2+r*(1./6+r*(1./24+r*(1./120+r*(1./720+r*(1./5040+r*(1./40320))))))))
	return float32(p * math.Float64frombits(uint64(int64(n)+1023)<<52))
}

func expGeneric(dst, x []float32) {
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] = exp1(v)
	}
}

func logGeneric(dst, x []float32) {
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] = float32(math.Log(float64(v)))
	}
}

func sigmoid1(x float32) float32 { return 1 / (1 + exp1(-x)) }

func sigmoidGeneric(dst, x []float32) {
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] = sigmoid1(v)
	}
}

func softplusGeneric(dst, x []float32) {
	dst = dst[:len(x)]
	for i, v := range x {
		f := float64(v)
		dst[i] = float32(math.Max(f, 0) + math.Log1p(math.Exp(-math.Abs(f))))
	}
}

// expSumGeneric returns s = Σ e^u and t = Σ u·e^u over lanes, with u = z[i] - shift, or -104 where that is lower.
func expSumGeneric(z []float32, shift float32) (s, t float32) {
	var ls, lt [lanes]float32
	for i, v := range z {
		u := v - shift
		if u < -104 {
			u = -104
		}
		e := exp1(u)
		ls[i%lanes] += e
		lt[i%lanes] += float32(u * e)
	}
	return fold(&ls), fold(&lt)
}

// softmaxExpGeneric overwrites z[i] with e^(scale·z[i] - shift) and returns their sum over lanes.
func softmaxExpGeneric(z []float32, scale, shift float32) float32 {
	var s [lanes]float32
	for i, v := range z {
		e := exp1(float32(scale*v) - shift)
		z[i] = e
		s[i%lanes] += e
	}
	return fold(&s)
}

// softmaxGradGeneric overwrites d[i] with p[i]·(d[i] - delta)·scale.
func softmaxGradGeneric(d, p []float32, delta, scale float32) {
	d = d[:len(p)]
	for i, v := range p {
		d[i] = float32(v*(d[i]-delta)) * scale
	}
}

// expScaleGeneric overwrites z[i] with a·e^(z[i] - shift).
func expScaleGeneric(z []float32, shift, a float32) {
	for i, v := range z {
		z[i] = a * exp1(v-shift)
	}
}

// addExpScaleGeneric adds b·e^(zt[i] - shift) to z[i].
func addExpScaleGeneric(z, zt []float32, shift, b float32) {
	z = z[:len(zt)]
	for i, v := range zt {
		z[i] += float32(b * exp1(v-shift))
	}
}

// expDotDiffGeneric returns Σ e^(zt[i] - shift)·(zt[i] - z[i]) over lanes; a term whose exponential is 0 counts 0.
func expDotDiffGeneric(z, zt []float32, shift float32) float32 {
	var s [lanes]float32
	z = z[:len(zt)]
	for i, v := range zt {
		if e := exp1(v - shift); e != 0 {
			s[i%lanes] += float32(e * (v - z[i]))
		}
	}
	return fold(&s)
}

// rmsScaleGeneric writes y[i] = x[i]·inv·w[i].
func rmsScaleGeneric(y, x, w []float32, inv float32) {
	y, w = y[:len(x)], w[:len(x)]
	for i, v := range x {
		y[i] = v * inv * w[i]
	}
}

// rmsBackwardGeneric adds inv·w[i]·dy[i] - c·x[i] to dx[i].
func rmsBackwardGeneric(dx, dy, x, w []float32, inv, c float32) {
	dx, dy, w = dx[:len(x)], dy[:len(x)], w[:len(x)]
	for i, v := range x {
		dx[i] += float32(float32(inv*w[i])*dy[i]) - float32(c*v)
	}
}

// rmsWeightGradGeneric adds dy[i]·(x[i]·inv) to dw[i].
func rmsWeightGradGeneric(dw, dy, x []float32, inv float32) {
	dw, dy = dw[:len(x)], dy[:len(x)]
	for i, v := range x {
		dw[i] += float32(dy[i] * float32(v*inv))
	}
}

// rotateGeneric turns the pairs (lo[i], hi[i]) by the angle with that cosine and sine.
func rotateGeneric(lo, hi, cos, sin []float32) {
	hi, cos, sin = hi[:len(lo)], cos[:len(lo)], sin[:len(lo)]
	for i, a := range lo {
		b := hi[i]
		lo[i] = float32(a*cos[i]) - float32(b*sin[i])
		hi[i] = float32(b*cos[i]) + float32(a*sin[i])
	}
}

// swigluGeneric writes y[i] = gate[i]·sigmoid(gate[i])·up[i].
func swigluGeneric(y, gate, up []float32) {
	y, up = y[:len(gate)], up[:len(gate)]
	for i, g := range gate {
		y[i] = g * sigmoid1(g) * up[i]
	}
}

// swigluBackwardGeneric writes dgate and dup for dy, with s = sigmoid(gate): dup = dy·gate·s, dgate = dy·up·s·(1 + gate·(1-s)); and
// y = gate·s·up, which may be dy.
func swigluBackwardGeneric(dgate, dup, y, dy, gate, up []float32) {
	for i, g := range gate {
		s := sigmoid1(g)
		d, u := dy[i], up[i]
		y[i] = float32(g*s) * u
		dup[i] = d * float32(g*s)
		dgate[i] = float32(d*u) * float32(s*(1+float32(g*(1-s))))
	}
}

// AdamWStep holds the constants of one AdamW step.
type AdamWStep struct {
	GradScale, Beta1, OneMinusBeta1, Beta2, OneMinusBeta2 float32
	Decay                                                 float32 // 1 - lr·weight decay
	StepSize                                              float32 // lr / (1 - beta1^t)
	InvSqrtCorrection                                     float32 // 1/√(1 - beta2^t)
	Eps                                                   float32
}

// adamwGeneric does one step: m, v are the moments; p ← p·decay - stepSize·m/(√v·invSqrtCorrection + eps).
func adamwGeneric(p, g, m, v []float32, s *AdamWStep) {
	g, m, v = g[:len(p)], m[:len(p)], v[:len(p)]
	for i, w := range p {
		d := g[i] * s.GradScale
		mi := float32(s.Beta1*m[i]) + float32(s.OneMinusBeta1*d)
		vi := float32(s.Beta2*v[i]) + float32(float32(s.OneMinusBeta2*d)*d)
		m[i], v[i] = mi, vi
		den := float32(float32(math.Sqrt(float64(vi)))*s.InvSqrtCorrection) + s.Eps
		p[i] = float32(w*s.Decay) - float32(s.StepSize*mi)/den
	}
}

// adamwBF16Generic is adamwGeneric with moments in bfloat16. The weights move by the moments as they are before they are rounded;
// number i is rounded with the bits of scramble32(seed+i), the lower for m and the upper for v.
func adamwBF16Generic(p, g []float32, m, v []uint16, s *AdamWStep, seed uint32) {
	g, m, v = g[:len(p)], m[:len(p)], v[:len(p)]
	for i := range p {
		mi, vi := [1]float32{fromBF16(m[i])}, [1]float32{fromBF16(v[i])}
		adamwGeneric(p[i:i+1], g[i:i+1], mi[:], vi[:], s)
		bits := scramble32(seed + uint32(i))
		m[i], v[i] = roundRandomly(mi[0], bits&0xffff), roundRandomly(vi[0], bits>>16)
	}
}

func fromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// roundRandomly is x in bfloat16, rounded away from zero with the probability of the cut-off part over 16 random bits. Where
// rounding up could overflow the part is cut off.
func roundRandomly(x float32, bits uint32) uint16 {
	b := math.Float32bits(x)
	if b&0x7f800000 == 0x7f000000 {
		bits = 0
	}
	return uint16((b + bits) >> 16)
}

// scramble32 is a permutation of 32-bit words whose outputs for consecutive inputs look random: two rounds of multiplication and
// xor-shift, with the constants that Wellons found by search (Prospecting for Hash Functions, 2018).
func scramble32(x uint32) uint32 {
	x ^= x >> 16
	x *= 0x7feb352d
	x ^= x >> 15
	x *= 0x846ca68b
	return x ^ x>>16
}

// fmaGeneric does n × 16 independent multiplications and additions.
func fmaGeneric(n int) (flops float64) {
	var a, b, c, d float32
	x := float32(0)
	for range 4 * n {
		a += float32(x * x)
		b += float32(x * x)
		c += float32(x * x)
		d += float32(x * x)
	}
	sink = a + b + c + d
	return float64(n) * 16 * 2
}

// sink keeps the compiler from leaving out reads whose sum nobody wants.
//
//lint:ignore U1000 it is written only
var sink float32

func readGeneric(x []float32) {
	var a, b, c, d float32
	for i := 0; i+4 <= len(x); i += 4 {
		a += x[i]
		b += x[i+1]
		c += x[i+2]
		d += x[i+3]
	}
	sink = a + b + c + d
}
