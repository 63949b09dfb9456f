//go:build unix

package mapped

import (
	"os"
	"syscall"
)

// contents maps the file of that size read-only, or reads it where the filesystem does not support
// mapping.
func contents(f *os.File, size int) (data []byte, release func() error, err error) {
	data, err = syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return readAll(f, size)
	}
	return data, func() error { return syscall.Munmap(data) }, nil
}
