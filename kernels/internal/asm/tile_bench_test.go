package asm

import (
	"fmt"
	"testing"
)

// BenchmarkTile is the largest tile on operands in the first-level cache, on one thread: of numbers, and of pairs where there are dots.
func BenchmarkTile(b *testing.B) {
	for _, name := range Levels() {
		for _, k := range []int{64, 256} {
			b.Run(fmt.Sprintf("k=%d/level=%s", k, name), func(b *testing.B) {
				old := Level()
				Force(name)
				defer Force(old)
				tile, per := Tile, 1
				if HasDots() {
					tile, per = TileDots, 2
				}
				mr, nr := TileSize()
				x, w, c := make([]float32, mr*(k+16)), make([]float32, k*nr), make([]float32, mr*nr)
				for b.Loop() {
					tile(mr, nr, k, x, k+16, 1, w, nr, c, nr, true, false, Soon{})
				}
				b.ReportMetric(2*float64(per*mr*nr*k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOPS")
			})
		}
	}
}
