//go:build !linux

package kernels

func adviseLarge(at, size uintptr) {}

func collapse(at, size uintptr) {}
