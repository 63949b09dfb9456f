//go:build !noasm

package asm

import (
	"math"
	"time"

	"golang.org/x/sys/cpu"
)

// chosen is the level that runs. It differs from a level below in products of bfloat16 alone, so inner loops go by what that splits into:
// level, avx512 at most, dots, whether there are instructions for pairs, and unit.
var (
	chosen int
	level  int
	dots   bool
)

var bestLevel = best()

// dotsPay is whether instructions for pairs are the faster way to multiply bfloat16, which has the same bits as multiply-adds: Intel's
// processors do four times as many of those. Without tile units avx512bf16 is then a level that is not chosen.
var dotsPay = bestLevel >= levelAVX512BF16 && faster(fmaDotsAVX512, fmaAVX512)

func init() {
	if bestLevel == levelAVX512BF16 && !dotsPay {
		choose(levelAVX512)
		return
	}
	choose(bestLevel)
}

const (
	levelGeneric = iota
	levelAVX2
	levelAVX512
	levelAVX512BF16
	levelAMX
)

var levelNames = [...]string{"generic", "avx2", "avx512", "avx512bf16", "amx"}

func choose(l int) {
	chosen, level, dots, unit = l, min(l, levelAVX512), l == levelAVX512BF16, nil
	if l == levelAMX {
		dots, unit = dotsPay, tileUnit
	}
}

// faster reports whether n multiply-adds of pairs, each worth two of numbers, take less time than 2n of those, in the best of some runs of
// a few microseconds. Processors do either as many or a quarter, so that a disturbed run does not decide.
func faster(pairs, numbers func(n int)) bool {
	best := [2]time.Duration{time.Second, time.Second}
	for range 20 {
		for i, f := range []func(n int){pairs, numbers} {
			start := time.Now()
			f(500 * (i + 1))
			best[i] = min(best[i], time.Since(start))
		}
	}
	return best[0] < best[1]
}

func best() int {
	switch {
	case !cpu.X86.HasAVX2 || !cpu.X86.HasFMA:
		return levelGeneric
	case !(cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL && cpu.X86.HasBMI2):
		return levelAVX2
	case !cpu.X86.HasAVX512BF16 || !dotsAgree():
		return levelAVX512
	case !hasUnits():
		return levelAVX512BF16
	}
	return levelAMX
}

// dotsAgree reports whether the processor adds products of pairs as they are defined here, which is how its makers describe it: where one
// did not, it would not give the bits of the other levels.
func dotsAgree() bool {
	const words, columns = 16, 16
	random := uint32(1)
	pair := func() float32 {
		var numbers [2]uint32
		for i := range numbers {
			random = random*1664525 + 1013904223
			// Of about one size, so that every rounding counts; now and then so small that sums are denormal.
			exponent := 120 + random>>8&15
			if random>>29 == 0 {
				exponent = 1 + random>>8&80
			}
			numbers[i] = random&0x80000000 | exponent<<23 | random&0x7f0000
		}
		return math.Float32frombits(numbers[0] | numbers[1]>>16)
	}
	for range 16 {
		var a [words]float32
		var b [words * columns]float32
		var want, got [columns]float32
		for i := range a {
			a[i] = pair()
		}
		for i := range b {
			b[i] = pair()
		}
		for j := range want {
			for p := range words {
				want[j] = plusProduct(want[j], upper(a[p]), upper(b[p*columns+j]), true)
				want[j] = plusProduct(want[j], lower(a[p]), lower(b[p*columns+j]), true)
			}
		}
		tile1x1DotsAVX512(words, &a[0], 4*words, &b[0], 4*columns, &got[0], 4*columns, columns, false, true, &got[0], &b[0], 0, 1<<30, 1)
		for j := range want {
			if math.Float32bits(got[j]) != math.Float32bits(want[j]) {
				return false
			}
		}
	}
	return true
}

// Level is what runs: "generic", "avx2", "avx512", "avx512bf16" or "amx".
func Level() string { return levelNames[chosen] }

// HasDots reports whether the level has TileDots.
func HasDots() bool { return dots }

// Force chooses a level and reports whether it exists on this machine.
func Force(name string) bool {
	for l, n := range levelNames[:bestLevel+1] {
		if n == name {
			choose(l)
			return true
		}
	}
	return false
}

// Levels lists what this machine can run, slowest first.
func Levels() []string { return levelNames[:bestLevel+1] }

// TileSize is the largest tile of Tile: rows, and the width of a packed panel.
func TileSize() (mr, nr int) {
	switch level {
	case levelAVX512:
		return len(tilesAVX512), 32
	case levelAVX2:
		return len(tilesAVX2), 16
	}
	return genericMR, genericNR
}

// tileFunc is a generated tile: strides in bytes, tail columns in the last register.
type tileFunc func(k int, a *float32, lda int, b *float32, brs int, c *float32, ldc int, tail int, load, flush bool,
	soonC *float32, soon *float32, ld, run, runs int)

// Tiles by their height less one, of one and two registers of columns.
var tilesAVX2 = [...][2]tileFunc{
	{tile1x1AVX2, tile1x2AVX2},
	{tile2x1AVX2, tile2x2AVX2},
	{tile3x1AVX2, tile3x2AVX2},
	{tile4x1AVX2, tile4x2AVX2},
	{tile5x1AVX2, tile5x2AVX2},
	{tile6x1AVX2, tile6x2AVX2},
}

var tilesTAVX2 = [...][2]tileFunc{
	{tile1x1TAVX2, tile1x2TAVX2},
	{tile2x1TAVX2, tile2x2TAVX2},
	{tile3x1TAVX2, tile3x2TAVX2},
	{tile4x1TAVX2, tile4x2TAVX2},
	{tile5x1TAVX2, tile5x2TAVX2},
	{tile6x1TAVX2, tile6x2TAVX2},
}

var tilesPairsAVX2 = [...][2]tileFunc{
	{tile1x1PairsAVX2, tile1x2PairsAVX2},
	{tile2x1PairsAVX2, tile2x2PairsAVX2},
	{tile3x1PairsAVX2, tile3x2PairsAVX2},
	{tile4x1PairsAVX2, tile4x2PairsAVX2},
	{tile5x1PairsAVX2, tile5x2PairsAVX2},
	{tile6x1PairsAVX2, tile6x2PairsAVX2},
}

var tilesAVX512 = [...][2]tileFunc{
	{tile1x1AVX512, tile1x2AVX512},
	{tile2x1AVX512, tile2x2AVX512},
	{tile3x1AVX512, tile3x2AVX512},
	{tile4x1AVX512, tile4x2AVX512},
	{tile5x1AVX512, tile5x2AVX512},
	{tile6x1AVX512, tile6x2AVX512},
	{tile7x1AVX512, tile7x2AVX512},
	{tile8x1AVX512, tile8x2AVX512},
	{tile9x1AVX512, tile9x2AVX512},
	{tile10x1AVX512, tile10x2AVX512},
	{tile11x1AVX512, tile11x2AVX512},
	{tile12x1AVX512, tile12x2AVX512},
	{tile13x1AVX512, tile13x2AVX512},
	{tile14x1AVX512, tile14x2AVX512},
}

var tilesTAVX512 = [...][2]tileFunc{
	{tile1x1TAVX512, tile1x2TAVX512},
	{tile2x1TAVX512, tile2x2TAVX512},
	{tile3x1TAVX512, tile3x2TAVX512},
	{tile4x1TAVX512, tile4x2TAVX512},
	{tile5x1TAVX512, tile5x2TAVX512},
	{tile6x1TAVX512, tile6x2TAVX512},
	{tile7x1TAVX512, tile7x2TAVX512},
	{tile8x1TAVX512, tile8x2TAVX512},
	{tile9x1TAVX512, tile9x2TAVX512},
	{tile10x1TAVX512, tile10x2TAVX512},
	{tile11x1TAVX512, tile11x2TAVX512},
	{tile12x1TAVX512, tile12x2TAVX512},
	{tile13x1TAVX512, tile13x2TAVX512},
	{tile14x1TAVX512, tile14x2TAVX512},
}

var tilesPairsAVX512 = [...][2]tileFunc{
	{tile1x1PairsAVX512, tile1x2PairsAVX512},
	{tile2x1PairsAVX512, tile2x2PairsAVX512},
	{tile3x1PairsAVX512, tile3x2PairsAVX512},
	{tile4x1PairsAVX512, tile4x2PairsAVX512},
	{tile5x1PairsAVX512, tile5x2PairsAVX512},
	{tile6x1PairsAVX512, tile6x2PairsAVX512},
	{tile7x1PairsAVX512, tile7x2PairsAVX512},
	{tile8x1PairsAVX512, tile8x2PairsAVX512},
	{tile9x1PairsAVX512, tile9x2PairsAVX512},
	{tile10x1PairsAVX512, tile10x2PairsAVX512},
	{tile11x1PairsAVX512, tile11x2PairsAVX512},
	{tile12x1PairsAVX512, tile12x2PairsAVX512},
	{tile13x1PairsAVX512, tile13x2PairsAVX512},
	{tile14x1PairsAVX512, tile14x2PairsAVX512},
}

var tilesDotsAVX512 = [...][2]tileFunc{
	{tile1x1DotsAVX512, tile1x2DotsAVX512},
	{tile2x1DotsAVX512, tile2x2DotsAVX512},
	{tile3x1DotsAVX512, tile3x2DotsAVX512},
	{tile4x1DotsAVX512, tile4x2DotsAVX512},
	{tile5x1DotsAVX512, tile5x2DotsAVX512},
	{tile6x1DotsAVX512, tile6x2DotsAVX512},
	{tile7x1DotsAVX512, tile7x2DotsAVX512},
	{tile8x1DotsAVX512, tile8x2DotsAVX512},
	{tile9x1DotsAVX512, tile9x2DotsAVX512},
	{tile10x1DotsAVX512, tile10x2DotsAVX512},
	{tile11x1DotsAVX512, tile11x2DotsAVX512},
	{tile12x1DotsAVX512, tile12x2DotsAVX512},
	{tile13x1DotsAVX512, tile13x2DotsAVX512},
	{tile14x1DotsAVX512, tile14x2DotsAVX512},
}

var tilesTDotsAVX512 = [...][2]tileFunc{
	{tile1x1TDotsAVX512, tile1x2TDotsAVX512},
	{tile2x1TDotsAVX512, tile2x2TDotsAVX512},
	{tile3x1TDotsAVX512, tile3x2TDotsAVX512},
	{tile4x1TDotsAVX512, tile4x2TDotsAVX512},
	{tile5x1TDotsAVX512, tile5x2TDotsAVX512},
	{tile6x1TDotsAVX512, tile6x2TDotsAVX512},
	{tile7x1TDotsAVX512, tile7x2TDotsAVX512},
	{tile8x1TDotsAVX512, tile8x2TDotsAVX512},
	{tile9x1TDotsAVX512, tile9x2TDotsAVX512},
	{tile10x1TDotsAVX512, tile10x2TDotsAVX512},
	{tile11x1TDotsAVX512, tile11x2TDotsAVX512},
	{tile12x1TDotsAVX512, tile12x2TDotsAVX512},
	{tile13x1TDotsAVX512, tile13x2TDotsAVX512},
	{tile14x1TDotsAVX512, tile14x2TDotsAVX512},
}

// Tile computes mr × nr elements of a product from k columns of a and k rows of b; k, mr and nr are at least 1. Either ars or acs
// is 1. Each row of b holds as many columns as the registers that cover nr. With flush denormal sums become zero, and denormal numbers of
// a and b count as zero. Memory in soon is fetched meanwhile.
func Tile(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load, flush bool, soon Soon) {
	switch level {
	case levelAVX512:
		if acs == 1 {
			runTile(&tilesAVX512[mr-1], 4, mr > 7, 16, nr, k, a, ars, b, brs, c, ldc, load, flush, soon)
		} else {
			runTile(&tilesTAVX512[mr-1], 4, mr > 7, 16, nr, k, a, acs, b, brs, c, ldc, load, flush, soon)
		}
	case levelAVX2:
		if acs == 1 {
			runTile(&tilesAVX2[mr-1], 4, mr > 3, 8, nr, k, a, ars, b, brs, c, ldc, load, flush, soon)
		} else {
			runTile(&tilesTAVX2[mr-1], 4, mr > 3, 8, nr, k, a, acs, b, brs, c, ldc, load, flush, soon)
		}
	default:
		tileGeneric(mr, nr, k, a, ars, acs, b, brs, c, ldc, load, flush)
	}
}

// TilePairs is Tile with b in pairs of bfloat16, each of two steps of k, and acs 1.
func TilePairs(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load, flush bool, soon Soon) {
	switch level {
	case levelAVX512:
		runTile(&tilesPairsAVX512[mr-1], 2, mr > 7, 16, nr, k, a, ars, b, brs, c, ldc, load, flush, soon)
	case levelAVX2:
		runTile(&tilesPairsAVX2[mr-1], 2, mr > 3, 8, nr, k, a, ars, b, brs, c, ldc, load, flush, soon)
	default:
		tilePairsGeneric(mr, nr, k, a, ars, acs, b, brs, c, ldc, load, flush)
	}
}

// TileDots is Tile with a and b in pairs of bfloat16, k of them: each adds the product of the upper halves and then that of the lower
// ones. Denormal sums become zero. It is there where HasDots.
func TileDots(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load, flush bool, soon Soon) {
	if acs == 1 {
		runTile(&tilesDotsAVX512[mr-1], 4, mr > 7, 16, nr, k, a, ars, b, brs, c, ldc, load, flush, soon)
	} else {
		runTile(&tilesTDotsAVX512[mr-1], 4, mr > 7, 16, nr, k, a, acs, b, brs, c, ldc, load, flush, soon)
	}
}

// runTile calls the tile of one or two registers of w columns, whose main loop reads some rows of b a turn.
func runTile(tiles *[2]tileFunc, rows int, high bool, w, nr, k int, a []float32, lda int, b []float32, brs int, c []float32, ldc int, load,
	flush bool, soon Soon) {
	v := (nr - 1) / w
	soonC, from, ld, run, runs := &c[0], &b[0], 0, 1<<30, 1
	if len(soon.C) > 0 {
		soonC = &soon.C[0]
	}
	if len(soon.Data) > 0 && soon.Runs > 0 {
		from, ld, runs = &soon.Data[0], 4*soon.LD, soon.Runs
		// A turn of the tile's loop fetches as many bytes as it reads of b, a high tile's half as many; at least a cache line.
		turn := rows * (v + 1) * w * 4
		if high {
			turn /= 2
		}
		turn = max(turn, 64)
		run = (4*soon.Run + turn - 1) / turn
	}
	tiles[v](k, &a[0], 4*lda, &b[0], 4*brs, &c[0], 4*ldc, nr-w*v, load, flush, soonC, from, ld, run, runs)
}

// blocksFunc is a generated tile that adds to c as a tile unit does: strides in bytes, tail columns in the last register.
type blocksFunc func(k int, a *float32, lda int, b *float32, brs int, c *float32, ldc int, tail int)

var blocksAVX2 = [...][2]blocksFunc{
	{blocks1x1AVX2, blocks1x2AVX2},
	{blocks2x1AVX2, blocks2x2AVX2},
	{blocks3x1AVX2, blocks3x2AVX2},
}

var blocksTAVX2 = [...][2]blocksFunc{
	{blocks1x1TAVX2, blocks1x2TAVX2},
	{blocks2x1TAVX2, blocks2x2TAVX2},
	{blocks3x1TAVX2, blocks3x2TAVX2},
}

var blocksPairsAVX2 = [...][2]blocksFunc{
	{blocks1x1PairsAVX2, blocks1x2PairsAVX2},
	{blocks2x1PairsAVX2, blocks2x2PairsAVX2},
	{blocks3x1PairsAVX2, blocks3x2PairsAVX2},
}

var blocksAVX512 = [...][2]blocksFunc{
	{blocks1x1AVX512, blocks1x2AVX512},
	{blocks2x1AVX512, blocks2x2AVX512},
	{blocks3x1AVX512, blocks3x2AVX512},
	{blocks4x1AVX512, blocks4x2AVX512},
	{blocks5x1AVX512, blocks5x2AVX512},
	{blocks6x1AVX512, blocks6x2AVX512},
	{blocks7x1AVX512, blocks7x2AVX512},
}

var blocksTAVX512 = [...][2]blocksFunc{
	{blocks1x1TAVX512, blocks1x2TAVX512},
	{blocks2x1TAVX512, blocks2x2TAVX512},
	{blocks3x1TAVX512, blocks3x2TAVX512},
	{blocks4x1TAVX512, blocks4x2TAVX512},
	{blocks5x1TAVX512, blocks5x2TAVX512},
	{blocks6x1TAVX512, blocks6x2TAVX512},
	{blocks7x1TAVX512, blocks7x2TAVX512},
}

var blocksPairsAVX512 = [...][2]blocksFunc{
	{blocks1x1PairsAVX512, blocks1x2PairsAVX512},
	{blocks2x1PairsAVX512, blocks2x2PairsAVX512},
	{blocks3x1PairsAVX512, blocks3x2PairsAVX512},
	{blocks4x1PairsAVX512, blocks4x2PairsAVX512},
	{blocks5x1PairsAVX512, blocks5x2PairsAVX512},
	{blocks6x1PairsAVX512, blocks6x2PairsAVX512},
	{blocks7x1PairsAVX512, blocks7x2PairsAVX512},
}

// BlocksSize is TileSize of TileBlocks.
func BlocksSize() (mr, nr int) {
	switch level {
	case levelAVX512:
		return len(blocksAVX512), 32
	case levelAVX2:
		return len(blocksAVX2), 16
	}
	return genericMR, genericNR
}

// TileBlocks is Tile of bfloat16 numbers with the sums of a tile unit: of each 32 steps of k, the last ones may be fewer, the products of
// even steps are added one after the other from zero, those of odd steps likewise; then both sums, and then that to c. What is denormal
// is zero.
func TileBlocks(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load bool) {
	switch level {
	case levelAVX512:
		if acs == 1 {
			runBlocks(&blocksAVX512[mr-1], 16, mr, nr, k, a, ars, b, brs, c, ldc, load)
		} else {
			runBlocks(&blocksTAVX512[mr-1], 16, mr, nr, k, a, acs, b, brs, c, ldc, load)
		}
	case levelAVX2:
		if acs == 1 {
			runBlocks(&blocksAVX2[mr-1], 8, mr, nr, k, a, ars, b, brs, c, ldc, load)
		} else {
			runBlocks(&blocksTAVX2[mr-1], 8, mr, nr, k, a, acs, b, brs, c, ldc, load)
		}
	default:
		tileBlocksGeneric(mr, nr, k, a, ars, acs, b, brs, c, ldc, load)
	}
}

// TileBlocksPairs is TileBlocks with b in pairs of bfloat16, each of two steps of k, and acs 1.
func TileBlocksPairs(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load bool) {
	switch level {
	case levelAVX512:
		runBlocks(&blocksPairsAVX512[mr-1], 16, mr, nr, k, a, ars, b, brs, c, ldc, load)
	case levelAVX2:
		runBlocks(&blocksPairsAVX2[mr-1], 8, mr, nr, k, a, ars, b, brs, c, ldc, load)
	default:
		tileBlocksPairsGeneric(mr, nr, k, a, ars, acs, b, brs, c, ldc, load)
	}
}

func runBlocks(tiles *[2]blocksFunc, w, mr, nr, k int, a []float32, lda int, b []float32, brs int, c []float32, ldc int, load bool) {
	if !load {
		clearTile(c, ldc, mr, nr)
	}
	v := (nr - 1) / w
	tiles[v](k, &a[0], 4*lda, &b[0], 4*brs, &c[0], 4*ldc, nr-w*v)
}

// Widen writes rows of pairs of 32 columns as twice as many rows of numbers.
func Widen(dst []float32, src []float32) {
	if len(src) == 0 {
		return
	}
	switch level {
	case levelAVX512:
		widenAVX512(&dst[0], &src[0], len(src)/32)
	case levelAVX2:
		widenAVX2(&dst[0], &src[0], len(src)/32)
	default:
		widenGeneric(dst, src)
	}
}

// Round rounds numbers to bfloat16, to nearest and ties to even. Denormal numbers become zero, with their sign.
func Round(x []float32) {
	switch level {
	case levelAVX512:
		roundAVX512(x)
	case levelAVX2:
		roundAVX2(x)
	default:
		roundGeneric(x)
	}
}

// RoundPairs rounds numbers to pairs, the first of two neighbours in the upper half; beside a last one without a neighbour is zero. dst may
// begin where src does.
func RoundPairs(dst []float32, src []float32) {
	if level == levelGeneric {
		roundPairsGeneric(dst, src)
		return
	}
	whole := len(src) / roundBlock
	if whole > 0 {
		roundBlocks(&dst[0], &src[0], whole)
	}
	if rest := src[whole*roundBlock:]; len(rest) > 0 {
		var numbers, pairs [roundBlock]float32
		copy(numbers[:], rest)
		roundBlocks(&pairs[0], &numbers[0], 1)
		copy(dst[whole*roundBlock/2:], pairs[:(len(rest)+1)/2])
	}
}

// roundBlock is how many numbers RoundPairs takes at a time.
const roundBlock = 16

func roundBlocks(dst, src *float32, blocks int) {
	if level == levelAVX512 {
		roundPairsAVX512(dst, src, blocks)
	} else {
		roundPairsAVX2(dst, src, blocks)
	}
}

// Interleave rounds k rows of n columns, ld apart, to rows of pairs, stride apart: the number of an even row is in the upper half, that
// of the row after in the lower one. It may write whole registers of 16 columns, zeros past the last.
func Interleave(dst []float32, stride int, src []float32, ld, n, k int) {
	if level == levelGeneric {
		interleaveGeneric(dst, stride, src, ld, n, k)
		return
	}
	w := 8
	if level == levelAVX512 {
		w = 16
	}
	for j := 0; j < n; j += w {
		cols := min(w, n-j)
		switch {
		case k > 1 && w == 16:
			interleaveAVX512(&dst[j], 4*stride, &src[j], 4*ld, k/2, cols)
		case k > 1:
			interleaveAVX2(&dst[j], 4*stride, &src[j], 4*ld, k/2, cols)
		}
		if k%2 == 1 {
			row := dst[k/2*stride+j:][:w]
			clear(row)
			interleaveGeneric(row, stride, src[(k-1)*ld+j:], ld, cols, 1)
		}
	}
}

// PackT writes the transpose of src[n,k], row stride ld, to dst[k,width]; n is at most width, and columns from n on are
// arbitrary. With ahead, the rows that follow are fetched into the cache on the way.
func PackT(dst, src []float32, ld, n, k, width int, ahead bool) {
	w := 0
	switch level {
	case levelAVX512:
		w = 16
	case levelAVX2:
		w = 8
	}
	if w == 0 || k < 4 {
		packTGeneric(dst, src, ld, n, k, width)
		return
	}
	quads, fetch := k/4, 0
	if ahead {
		fetch = 4 * width * ld
	}
	for j := 0; j < n; j += w {
		from := src[j*ld:]
		if n-j < w {
			// A register needs w rows: the last few are copied where w fit.
			var rows [16 * packDepth]float32
			packRagged(dst[j:], rows[:], from, ld, n-j, k, w, width)
			continue
		}
		if w == 16 {
			packTAVX512(&dst[j], 4*width, &from[0], 4*ld, quads, fetch)
		} else {
			packTAVX2(&dst[j], 4*width, &from[0], 4*ld, quads, fetch)
		}
		for p := 4 * quads; p < k; p++ {
			for l := range w {
				dst[p*width+j+l] = from[l*ld+p]
			}
		}
	}
}

// packDepth is how many columns packRagged transposes at a time.
const packDepth = 64

func packRagged(dst, rows, from []float32, ld, n, k, w, width int) {
	for p := 0; p < k; p += packDepth {
		depth := min(packDepth, k-p)
		for l := range n {
			copy(rows[l*packDepth:], from[l*ld+p:l*ld+p+depth])
		}
		quads := depth / 4
		if quads > 0 {
			if w == 16 {
				packTAVX512(&dst[p*width], 4*width, &rows[0], 4*packDepth, quads, 0)
			} else {
				packTAVX2(&dst[p*width], 4*width, &rows[0], 4*packDepth, quads, 0)
			}
		}
		for q := 4 * quads; q < depth; q++ {
			for l := range n {
				dst[(p+q)*width+l] = rows[l*packDepth+q]
			}
		}
	}
}

// PackN copies k rows of width columns from src, row stride ld, to dst[k,width]; width is that of a panel.
func PackN(dst, src []float32, ld, k, width int) {
	switch level {
	case levelAVX512:
		packNAVX512(&dst[0], &src[0], 4*ld, k)
	case levelAVX2:
		packNAVX2(&dst[0], &src[0], 4*ld, k)
	default:
		packNGeneric(dst, src, ld, k, width)
	}
}

// ColumnWidth is how many columns PackColumns writes at a time: those of a tile's height fit.
func ColumnWidth() int {
	switch level {
	case levelAVX512:
		return 16
	case levelAVX2:
		return 8
	}
	return genericMR
}

// PackColumns copies k rows of n columns from src, row stride ld, to dst, row stride stride. Where there are vectors it writes whole
// registers of 16 or 8: zeros past column n.
func PackColumns(dst []float32, stride int, src []float32, ld, n, k int) {
	for j := 0; j < n; {
		switch level {
		case levelAVX512:
			packColumnsAVX512(&dst[j], 4*stride, &src[j], 4*ld, k, min(16, n-j))
			j += 16
		case levelAVX2:
			packColumnsAVX2(&dst[j], 4*stride, &src[j], 4*ld, k, min(8, n-j))
			j += 8
		default:
			packColumnsGeneric(dst, stride, src, ld, n, k)
			return
		}
	}
}

func Dot(x, y []float32) float32 {
	switch level {
	case levelAVX512:
		return dotAVX512(x, y)
	case levelAVX2:
		return dotAVX2(x, y)
	}
	return dotGeneric(x, y)
}

func Dot3(x, y, z []float32) float32 {
	switch level {
	case levelAVX512:
		return dot3AVX512(x, y, z)
	case levelAVX2:
		return dot3AVX2(x, y, z)
	}
	return dot3Generic(x, y, z)
}

func Max(x []float32) float32 {
	switch level {
	case levelAVX512:
		return maxAVX512(x)
	case levelAVX2:
		return maxAVX2(x)
	}
	return maxGeneric(x)
}

func Axpy(alpha float32, x, y []float32) {
	switch level {
	case levelAVX512:
		axpyAVX512(alpha, x, y)
	case levelAVX2:
		axpyAVX2(alpha, x, y)
	default:
		axpyGeneric(alpha, x, y)
	}
}

func Add(dst, x []float32) {
	switch level {
	case levelAVX512:
		addAVX512(dst, x)
	case levelAVX2:
		addAVX2(dst, x)
	default:
		addGeneric(dst, x)
	}
}

func Scale(alpha float32, x []float32) {
	switch level {
	case levelAVX512:
		scaleAVX512(alpha, x)
	case levelAVX2:
		scaleAVX2(alpha, x)
	default:
		scaleGeneric(alpha, x)
	}
}

func SubTo(dst, x []float32, c float32) {
	switch level {
	case levelAVX512:
		subToAVX512(dst, x, c)
	case levelAVX2:
		subToAVX2(dst, x, c)
	default:
		subToGeneric(dst, x, c)
	}
}

func Exp(dst, x []float32) {
	switch level {
	case levelAVX512:
		expAVX512(dst, x)
	case levelAVX2:
		expAVX2(dst, x)
	default:
		expGeneric(dst, x)
	}
}

func Sigmoid(dst, x []float32) {
	switch level {
	case levelAVX512:
		sigmoidAVX512(dst, x)
	case levelAVX2:
		sigmoidAVX2(dst, x)
	default:
		sigmoidGeneric(dst, x)
	}
}

func ExpSum(z []float32, shift float32) (s, t float32) {
	switch level {
	case levelAVX512:
		return expSumAVX512(z, shift)
	case levelAVX2:
		return expSumAVX2(z, shift)
	}
	return expSumGeneric(z, shift)
}

func SoftmaxExp(z []float32, scale, shift float32) float32 {
	switch level {
	case levelAVX512:
		return softmaxExpAVX512(z, scale, shift)
	case levelAVX2:
		return softmaxExpAVX2(z, scale, shift)
	}
	return softmaxExpGeneric(z, scale, shift)
}

func SoftmaxGrad(d, p []float32, delta, scale float32) {
	switch level {
	case levelAVX512:
		softmaxGradAVX512(d, p, delta, scale)
	case levelAVX2:
		softmaxGradAVX2(d, p, delta, scale)
	default:
		softmaxGradGeneric(d, p, delta, scale)
	}
}

func ExpScale(z []float32, shift, a float32) {
	switch level {
	case levelAVX512:
		expScaleAVX512(z, shift, a)
	case levelAVX2:
		expScaleAVX2(z, shift, a)
	default:
		expScaleGeneric(z, shift, a)
	}
}

func AddExpScale(z, zt []float32, shift, b float32) {
	switch level {
	case levelAVX512:
		addExpScaleAVX512(z, zt, shift, b)
	case levelAVX2:
		addExpScaleAVX2(z, zt, shift, b)
	default:
		addExpScaleGeneric(z, zt, shift, b)
	}
}

func ExpDotDiff(z, zt []float32, shift float32) float32 {
	switch level {
	case levelAVX512:
		return expDotDiffAVX512(z, zt, shift)
	case levelAVX2:
		return expDotDiffAVX2(z, zt, shift)
	}
	return expDotDiffGeneric(z, zt, shift)
}

func RMSScale(y, x, w []float32, inv float32) {
	switch level {
	case levelAVX512:
		rmsScaleAVX512(y, x, w, inv)
	case levelAVX2:
		rmsScaleAVX2(y, x, w, inv)
	default:
		rmsScaleGeneric(y, x, w, inv)
	}
}

func RMSBackward(dx, dy, x, w []float32, inv, c float32) {
	switch level {
	case levelAVX512:
		rmsBackwardAVX512(dx, dy, x, w, inv, c)
	case levelAVX2:
		rmsBackwardAVX2(dx, dy, x, w, inv, c)
	default:
		rmsBackwardGeneric(dx, dy, x, w, inv, c)
	}
}

func RMSWeightGrad(dw, dy, x []float32, inv float32) {
	switch level {
	case levelAVX512:
		rmsWeightGradAVX512(dw, dy, x, inv)
	case levelAVX2:
		rmsWeightGradAVX2(dw, dy, x, inv)
	default:
		rmsWeightGradGeneric(dw, dy, x, inv)
	}
}

func Rotate(lo, hi, cos, sin []float32) {
	switch level {
	case levelAVX512:
		rotateAVX512(lo, hi, cos, sin)
	case levelAVX2:
		rotateAVX2(lo, hi, cos, sin)
	default:
		rotateGeneric(lo, hi, cos, sin)
	}
}

func SwiGLU(y, gate, up []float32) {
	switch level {
	case levelAVX512:
		swigluAVX512(y, gate, up)
	case levelAVX2:
		swigluAVX2(y, gate, up)
	default:
		swigluGeneric(y, gate, up)
	}
}

func SwiGLUBackward(dgate, dup, y, dy, gate, up []float32) {
	switch level {
	case levelAVX512:
		swigluBackwardAVX512(dgate, dup, y, dy, gate, up)
	case levelAVX2:
		swigluBackwardAVX2(dgate, dup, y, dy, gate, up)
	default:
		swigluBackwardGeneric(dgate, dup, y, dy, gate, up)
	}
}

func AdamW(p, g, m, v []float32, s *AdamWStep) {
	switch level {
	case levelAVX512:
		adamwAVX512(p, g, m, v, &s.GradScale)
	case levelAVX2:
		adamwAVX2(p, g, m, v, &s.GradScale)
	default:
		adamwGeneric(p, g, m, v, s)
	}
}

// AdamWBF16 is AdamW with moments in bfloat16, rounded at random by the seed.
func AdamWBF16(p, g []float32, m, v []uint16, s *AdamWStep, seed uint32) {
	whole := len(p) &^ (lanes - 1)
	switch level {
	case levelAVX512:
		adamwBF16AVX512(p[:whole], g, m, v, &s.GradScale, seed)
	case levelAVX2:
		adamwBF16AVX2(p[:whole], g, m, v, &s.GradScale, seed)
	default:
		whole = 0
	}
	adamwBF16Generic(p[whole:], g[whole:], m[whole:], v[whole:], s, seed+uint32(whole))
}

func Log(dst, x []float32) { logGeneric(dst, x) }

func Softplus(dst, x []float32) { softplusGeneric(dst, x) }

// SumSquares sums whole blocks in assembly and the rest here; the square of a single precision number is exact in double, so
// every level has the same bits.
func SumSquares(x []float32) float64 {
	var sums [lanes]float64
	switch level {
	case levelAVX512:
		sumSquaresAVX512(x, &sums)
	case levelAVX2:
		sumSquaresAVX2(x, &sums)
	default:
		return sumSquaresGeneric(x)
	}
	for l, v := range x[len(x)&^(lanes-1):] {
		sums[l] += float64(v) * float64(v)
	}
	return fold64(&sums)
}

// FMA does n × 16 independent multiply-adds of a whole register, of pairs of bfloat16 with pairs where HasDots, and returns the
// floating-point operations that took.
func FMA(n int, pairs bool) (flops float64) {
	if pairs && dots {
		fmaDotsAVX512(n)
		return float64(n) * 16 * 16 * 4
	}
	switch level {
	case levelAVX512:
		fmaAVX512(n)
		return float64(n) * 16 * 16 * 2
	case levelAVX2:
		fmaAVX2(n)
		return float64(n) * 16 * 8 * 2
	}
	return fmaGeneric(n)
}

// FMAUnits does n × 4 multiplications of whole tiles in a tile unit, and returns the floating-point operations that took; where a unit is
// emulated it is FMA.
func FMAUnits(n int) (flops float64) {
	if chosen != levelAMX {
		return FMA(n, false)
	}
	shape := tileShape(UnitSize, UnitSize, unitWords)
	fmaUnits(&shape[0], n)
	return float64(n) * 2 * UnitSize * UnitSize * BlockSteps
}

// Read loads every element of x; its length is a multiple of 64.
func Read(x []float32) {
	if len(x) == 0 {
		return
	}
	switch level {
	case levelAVX512:
		readAVX512(&x[0], len(x)/16)
	case levelAVX2:
		readAVX2(&x[0], len(x)/16)
	default:
		readGeneric(x)
	}
}
