package verify

import (
	"context"
	"testing"
)

// BenchmarkGolden decides the shared cases one after another: whole model responses and short answers.
func BenchmarkGolden(b *testing.B) {
	cases := goldenCases(b)
	m := NewMath(MathConfig{})
	b.ReportAllocs()
	for i := 0; i < b.N; i++ {
		c := cases[i%len(cases)]
		m.Verify(context.Background(), Gold{c.Gold}, Response{Text: c.Response})
	}
}
