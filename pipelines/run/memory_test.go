package run

import (
	"testing"
	"time"
)

func TestTheMostMemoryIsSeen(t *testing.T) {
	if resident() == 0 {
		t.Skip("the system does not tell resident memory")
	}
	_, end := watchMemory(t.Context(), MemoryError{})
	before := resident()
	const size = 64 << 20
	held := make([]byte, size)
	for i := 0; i < size; i += 4096 {
		held[i] = 1
	}
	time.Sleep(10 * lookEvery)
	if got := end(); got < before+size*3/4 || got > before+4*size {
		t.Errorf("%d bytes at most, want about %d more than %d", got, size, before)
	}
	if held[0] != 1 {
		t.Fatal("lost")
	}
}
