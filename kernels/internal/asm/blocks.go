package asm

// BlockSteps is how many steps of k a tile unit adds up before they come to c.
const BlockSteps = 32

// tileBlocksGeneric is the meaning of TileBlocks.
func tileBlocksGeneric(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load bool) {
	tileBlocksOf(mr, nr, k, a, ars, acs, func(q, j int) float32 { return b[q*brs+j] }, c, ldc, load)
}

// tileBlocksPairsGeneric is tileBlocksGeneric with b in pairs.
func tileBlocksPairsGeneric(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load bool) {
	tileBlocksOf(mr, nr, k, a, ars, acs, func(q, j int) float32 {
		if q%2 == 1 {
			return lower(b[q/2*brs+j])
		}
		return upper(b[q/2*brs+j])
	}, c, ldc, load)
}

// tileBlocksOf adds the products of a and b, whose element of step q and column j is b(q, j).
func tileBlocksOf(mr, nr, k int, a []float32, ars, acs int, b func(q, j int) float32, c []float32, ldc int, load bool) {
	if !load {
		clearTile(c, ldc, mr, nr)
	}
	for i := range mr {
		for j := range nr {
			for p := 0; p < k; p += BlockSteps {
				var sums blockSums
				for q := p; q < min(p+BlockSteps, k); q++ {
					sums.add(q, a[i*ars+q*acs], b(q, j))
				}
				sums.addTo(&c[i*ldc+j])
			}
		}
	}
}

// blockSums are the sums of the even and of the odd steps of a block.
type blockSums [2]float32

func (s *blockSums) add(step int, x, y float32) { s[step%2] = plusProduct(s[step%2], x, y, true) }

// addTo adds both to c. A sum of two numbers is denormal only where it is exact, so it does not matter where it is flushed.
func (s *blockSums) addTo(c *float32) {
	both := flushed(float64(s[0] + s[1]))
	*c = flushed(float64(flushed(float64(*c)) + both))
}

func clearTile(c []float32, ldc, mr, nr int) {
	for i := range mr {
		clear(c[i*ldc : i*ldc+nr])
	}
}
