//go:build !unix

package mapped

import "os"

func contents(f *os.File, size int) (data []byte, release func() error, err error) {
	return readAll(f, size)
}
