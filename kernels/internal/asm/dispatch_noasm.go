//go:build !amd64 || noasm

package asm

// Level is what runs: "generic".
func Level() string { return "generic" }

// Force chooses a level and reports whether it exists on this machine.
func Force(level string) bool { return level == "generic" }

// Levels lists what this machine can run, slowest first.
func Levels() []string { return []string{"generic"} }

// TileSize is the largest tile of Tile: rows, and the width of a packed panel.
func TileSize() (mr, nr int) { return genericMR, genericNR }

// HasDots reports whether there is TileDots.
func HasDots() bool { return false }

func Tile(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load, flush bool, _ Soon) {
	tileGeneric(mr, nr, k, a, ars, acs, b, brs, c, ldc, load, flush)
}

// TilePairs is Tile with b in pairs of bfloat16.
func TilePairs(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load, flush bool, _ Soon) {
	tilePairsGeneric(mr, nr, k, a, ars, acs, b, brs, c, ldc, load, flush)
}

func TileDots(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load, flush bool, _ Soon) {
	panic("asm: no TileDots")
}

// BlocksSize is TileSize of TileBlocks.
func BlocksSize() (mr, nr int) { return genericMR, genericNR }

// TileBlocks is Tile of bfloat16 numbers with the sums of a tile unit.
func TileBlocks(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load bool) {
	tileBlocksGeneric(mr, nr, k, a, ars, acs, b, brs, c, ldc, load)
}

// TileBlocksPairs is TileBlocks with b in pairs of bfloat16.
func TileBlocksPairs(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load bool) {
	tileBlocksPairsGeneric(mr, nr, k, a, ars, acs, b, brs, c, ldc, load)
}

// Widen writes rows of pairs of 32 columns as twice as many rows of numbers.
func Widen(dst []float32, src []float32) { widenGeneric(dst, src) }

func Round(x []float32)                       { roundGeneric(x) }
func RoundPairs(dst []float32, src []float32) { roundPairsGeneric(dst, src) }
func Interleave(dst []float32, stride int, src []float32, ld, n, k int) {
	interleaveGeneric(dst, stride, src, ld, n, k)
}

func PackT(dst, src []float32, ld, n, k, width int, _ bool) { packTGeneric(dst, src, ld, n, k, width) }
func PackN(dst, src []float32, ld, k, width int)            { packNGeneric(dst, src, ld, k, width) }

// ColumnWidth is how many columns a tile's copy is wide.
func ColumnWidth() int { return genericMR }

func PackColumns(dst []float32, stride int, src []float32, ld, n, k int) {
	packColumnsGeneric(dst, stride, src, ld, n, k)
}
func Dot(x, y []float32) float32                           { return dotGeneric(x, y) }
func Dot3(x, y, z []float32) float32                       { return dot3Generic(x, y, z) }
func SumSquares(x []float32) float64                       { return sumSquaresGeneric(x) }
func Max(x []float32) float32                              { return maxGeneric(x) }
func Axpy(alpha float32, x, y []float32)                   { axpyGeneric(alpha, x, y) }
func Add(dst, x []float32)                                 { addGeneric(dst, x) }
func Scale(alpha float32, x []float32)                     { scaleGeneric(alpha, x) }
func SubTo(dst, x []float32, c float32)                    { subToGeneric(dst, x, c) }
func Exp(dst, x []float32)                                 { expGeneric(dst, x) }
func Log(dst, x []float32)                                 { logGeneric(dst, x) }
func Sigmoid(dst, x []float32)                             { sigmoidGeneric(dst, x) }
func Softplus(dst, x []float32)                            { softplusGeneric(dst, x) }
func ExpSum(z []float32, shift float32) (s, t float32)     { return expSumGeneric(z, shift) }
func SoftmaxExp(z []float32, scale, shift float32) float32 { return softmaxExpGeneric(z, scale, shift) }
func SoftmaxGrad(d, p []float32, delta, scale float32)     { softmaxGradGeneric(d, p, delta, scale) }
func ExpScale(z []float32, shift, a float32)               { expScaleGeneric(z, shift, a) }
func AddExpScale(z, zt []float32, shift, b float32)        { addExpScaleGeneric(z, zt, shift, b) }
func ExpDotDiff(z, zt []float32, shift float32) float32    { return expDotDiffGeneric(z, zt, shift) }
func RMSScale(y, x, w []float32, inv float32)              { rmsScaleGeneric(y, x, w, inv) }
func RMSBackward(dx, dy, x, w []float32, inv, c float32)   { rmsBackwardGeneric(dx, dy, x, w, inv, c) }
func RMSWeightGrad(dw, dy, x []float32, inv float32)       { rmsWeightGradGeneric(dw, dy, x, inv) }
func Rotate(lo, hi, cos, sin []float32)                    { rotateGeneric(lo, hi, cos, sin) }
func SwiGLU(y, gate, up []float32)                         { swigluGeneric(y, gate, up) }
func SwiGLUBackward(dgate, dup, y, dy, gate, up []float32) {
	swigluBackwardGeneric(dgate, dup, y, dy, gate, up)
}
func AdamW(p, g, m, v []float32, s *AdamWStep) { adamwGeneric(p, g, m, v, s) }
func AdamWBF16(p, g []float32, m, v []uint16, s *AdamWStep, seed uint32) {
	adamwBF16Generic(p, g, m, v, s, seed)
}
func FMA(n int, pairs bool) (flops float64) { return fmaGeneric(n) }
func FMAUnits(n int) (flops float64)        { return fmaGeneric(n) }
func Read(x []float32)                      { readGeneric(x) }
