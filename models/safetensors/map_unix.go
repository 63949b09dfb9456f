//go:build unix

package safetensors

import (
	"os"
	"syscall"
)

// contents maps the file of that size read-only, so that a checkpoint larger than memory can be opened; where the
// filesystem does not support mapping it is read instead.
func contents(f *os.File, size int) (data []byte, release func() error, err error) {
	data, err = syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return readAll(f, size)
	}
	return data, func() error { return syscall.Munmap(data) }, nil
}
