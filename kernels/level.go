package kernels

import "github.com/millrace/millrace/kernels/internal/asm"

// Level names the instruction set that runs: "generic", "avx2", "avx512", "avx512bf16" or "amx".
func Level() string { return asm.Level() }

// Levels lists the levels this machine can run, slowest first.
func Levels() []string { return asm.Levels() }

// Force makes every kernel run at the given level until restore is called. It is for tests, and must not be called while a
// kernel runs. It panics where the machine lacks the level.
func Force(level string) (restore func()) {
	old := asm.Level()
	if !asm.Force(level) {
		panic("kernels: this machine cannot run that level")
	}
	return func() { asm.Force(old) }
}
