package kernels

import "syscall"

// adviseLarge asks for large pages from the one that holds the address to the one that holds the last byte. The garbage collector's
// memory comes in larger pieces still, so these are its own; asking for a neighbour too changes nothing but the size of its pages. A
// refusal leaves small pages, which work as well.
func adviseLarge(at, size uintptr) {
	advise(at, size, syscall.MADV_HUGEPAGE)
}

// collapse makes large pages of the small ones that memory lies in, from Linux 6.1 on.
func collapse(at, size uintptr) {
	const madvCollapse = 25
	advise(at, size, madvCollapse)
}

func advise(at, size, advice uintptr) {
	first := at &^ (largePage - 1)
	end := (at + size + largePage - 1) &^ (largePage - 1)
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, first, end-first, advice)
}
