package kernels

import "unsafe"

// largePage is the size of a large page on the systems that have them for the asking; others ask for nothing.
const largePage = 2 << 20

// Make returns n zeros. Where they fill a large page or more, the system is asked for such pages: a product that goes down a column of
// a weight touches a page a row, and small ones do not fit into the processor's table of pages.
func Make[T any](n int) []T {
	s := make([]T, n)
	if size := uintptr(n) * unsafe.Sizeof(*new(T)); size >= largePage {
		adviseLarge(uintptr(unsafe.Pointer(&s[0])), size)
	}
	return s
}

// settle moves numbers that will be read in order many times to large pages: memory that was in use before lies in small ones, whatever
// was asked for.
func settle[T any](s []T) {
	if size := uintptr(len(s)) * unsafe.Sizeof(*new(T)); size >= largePage/8 {
		collapse(uintptr(unsafe.Pointer(&s[0])), size)
	}
}
