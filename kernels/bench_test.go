package kernels_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/millrace/millrace/kernels"
)

// benchLevels runs f under every level, as sub-benchmarks named by level.
func benchLevels(b *testing.B, f func(b *testing.B)) {
	for _, level := range kernels.Levels() {
		b.Run("level="+level, func(b *testing.B) {
			defer kernels.Force(level)()
			f(b)
		})
	}
}

// rate reports work done per operation in units of 1e9 a second.
func rate(b *testing.B, perOp float64, unit string) {
	b.ReportMetric(perOp*float64(b.N)/b.Elapsed().Seconds()/1e9, unit)
}

var gemmShapes = [][3]int{ // m, k, n
	{1024, 1024, 1024}, {512, 576, 49152}, {512, 576, 1536}, {2048, 576, 576},
	{128, 64, 64}, {2048, 64, 64}, {128, 64, 176}, {2048, 64, 176}, {128, 64, 26}, {2048, 64, 26}, {128, 96, 384},
	{16, 576, 1536}, {16, 576, 49152}, {64, 576, 1536}, {1, 576, 1536}, {1, 576, 49152},
}

func BenchmarkMatMul(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, form := range []string{"NT", "NN", "TN"} {
		for _, s := range gemmShapes {
			m, k, n := s[0], s[1], s[2]
			b.Run(fmt.Sprintf("form=%s/m=%d/k=%d/n=%d", form, m, k, n), func(b *testing.B) {
				x, w, c := randoms(r, m*k), randoms(r, n*k), make([]float32, m*n)
				benchLevels(b, func(b *testing.B) {
					for b.Loop() {
						switch form {
						case "NT":
							kernels.MatMulNT(c, x, w, m, n, k, 0)
						case "NN":
							kernels.MatMulNN(c, x, w, m, n, k, 0)
						case "TN":
							kernels.MatMulTN(c, x, w, m, n, k, 0)
						}
					}
					rate(b, 2*float64(m)*float64(n)*float64(k), "GFLOPS")
				})
			})
		}
	}
}

func BenchmarkLimits(b *testing.B) {
	benchLevels(b, func(b *testing.B) {
		var l kernels.Limits
		for b.Loop() {
			l = kernels.Measure()
		}
		b.ReportMetric(l.FMA/1e9, "GFLOPS")
		b.ReportMetric(l.Read/1e9, "GB/s")
	})
}
