package kernels_test

import (
	"slices"
	"testing"

	"github.com/millrace/millrace/kernels"
)

// TestMake: as many zeros as were asked for, from nothing to more than a large page, also in memory that was used before.
func TestMake(t *testing.T) {
	for _, n := range []int{0, 1, 1<<19 - 1, 1 << 19, 3<<19 + 5} {
		for range 3 {
			x := kernels.Make[float32](n)
			if len(x) != n || slices.ContainsFunc(x, func(v float32) bool { return v != 0 }) {
				t.Fatalf("%d numbers, want %d zeros", len(x), n)
			}
			for i := range x {
				x[i] = 1
			}
		}
	}
}
