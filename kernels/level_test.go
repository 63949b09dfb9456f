//go:build amd64 && !noasm

package kernels_test

import (
	"runtime"
	"testing"

	"golang.org/x/sys/cpu"

	"github.com/millrace/millrace/kernels"
)

// TestLevel: the best level that the processor has is what runs.
func TestLevel(t *testing.T) {
	want := "generic"
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		want = "avx2"
		if cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL && cpu.X86.HasBMI2 {
			want = "avx512"
			if cpu.X86.HasAVX512BF16 {
				want = "avx512bf16"
				if cpu.X86.HasAMXTile && cpu.X86.HasAMXBF16 && runtime.GOOS == "linux" {
					want = "amx"
				}
			}
		}
	}
	got := kernels.Level()
	switch {
	case (want == "avx512bf16" || want == "amx") && got == "avx512":
		t.Skip("this processor adds products of bfloat16 in another way, or slower than it does without")
	case want == "amx" && got == "avx512bf16":
		t.Skip("this system keeps no tiles, or this processor adds in them in another way")
	}
	if got != want {
		t.Errorf("level %s runs, want %s", got, want)
	}
}
