package files

import (
	"fmt"

	"github.com/apache/arrow/go/v15/arrow/memory"
)

// cappedAllocator is Go's allocator with a limit on each request, for decoders that believe the lengths of a file. A
// larger request panics; the caller recovers and reports the file as corrupt.
type cappedAllocator struct{ memory.GoAllocator }

const maxAllocation = 256 << 20

// Allocate returns n bytes.
func (a *cappedAllocator) Allocate(n int) []byte {
	capped(n)
	return a.GoAllocator.Allocate(n)
}

// Reallocate returns n bytes that begin with those of b.
func (a *cappedAllocator) Reallocate(n int, b []byte) []byte {
	capped(n)
	return a.GoAllocator.Reallocate(n, b)
}

func capped(n int) {
	if n < 0 || n > maxAllocation {
		panic(fmt.Sprintf("a part of %d bytes; at most %d are read at once", n, maxAllocation))
	}
}
