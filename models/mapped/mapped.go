// Package mapped gives the bytes of a file without reading it: weights larger than memory can be opened, and processes that
// open the same file share its pages.
package mapped

import (
	"fmt"
	"io"
	"math"
	"os"

	"github.com/millrace/millrace/models/regular"
)

// Open returns the content of a file, read-only, and what releases it; after that the bytes must not be touched. A file
// must not be cut short while it is open; replacing it by another of the same name is harmless.
func Open(path string) (data []byte, release func() error, err error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if st.Size() > math.MaxInt {
		return nil, nil, fmt.Errorf("%s: %d bytes are more than this platform can address", path, st.Size())
	}
	if st.Size() == 0 {
		return nil, func() error { return nil }, nil
	}
	return contents(f, int(st.Size()))
}

func readAll(f *os.File, size int) (data []byte, release func() error, err error) {
	data = make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, int64(size)), data); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return data, func() error { return nil }, nil
}
