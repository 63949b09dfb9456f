//go:build !unix

package safetensors

import "os"

func contents(f *os.File, size int) (data []byte, release func() error, err error) {
	return readAll(f, size)
}
