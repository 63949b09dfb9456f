// Package half converts between float32 and the two 16-bit floating-point formats in which weights are stored: IEEE 754
// binary16 (float16) and bfloat16. Widening is exact; narrowing rounds to nearest, ties to even.
package half

import "math"

// FromFloat16 widens a binary16 bit pattern. The result is exact; a NaN keeps its sign and payload.
func FromFloat16(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exp := uint32(h>>10) & 0x1f
	frac := uint32(h) & 0x3ff
	switch {
	case exp == 0x1f:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	case exp != 0:
		return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
	case frac == 0:
		return math.Float32frombits(sign)
	}
	// A subnormal is frac * 2^-24, which float32 holds as a normal number.
	f := float32(frac) * (1.0 / (1 << 24))
	return math.Float32frombits(sign | math.Float32bits(f))
}

// ToFloat16 narrows to binary16. Magnitudes that round above 65504 become infinite.
func ToFloat16(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b>>16) & 0x8000
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000: // NaN: keep it one, whatever bits are cut off
		return sign | 0x7e00 | uint16(b>>13)&0x3ff
	case b >= 0x47800000: // 2^16 and above
		return sign | 0x7c00
	case b < 0x38800000: // below 2^-14: subnormal or zero
		// Adding 0.5 aligns the value so that the addition itself rounds at 2^-24.
		r := math.Float32frombits(b) + 0.5
		return sign | uint16(math.Float32bits(r)-math.Float32bits(0.5))
	}
	b += 0xfff + b>>13&1
	return sign | uint16(b>>13-112<<10)
}

// FromBFloat16 widens a bfloat16 bit pattern, exactly.
func FromBFloat16(h uint16) float32 {
	return math.Float32frombits(uint32(h) << 16)
}

// ToBFloat16 narrows to bfloat16. Magnitudes beyond its largest finite number become infinite.
func ToBFloat16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// IsBFloat16 reports whether all values are bfloat16 numbers, so that narrowing loses nothing.
func IsBFloat16(x []float32) bool {
	for _, f := range x {
		if b := math.Float32bits(f); b&0xffff != 0 || b&0x7fffffff > 0x7f800000 {
			return false
		}
	}
	return true
}
