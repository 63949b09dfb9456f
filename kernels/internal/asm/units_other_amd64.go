//go:build !noasm && !linux

package asm

// permitUnits: no other system is known here to keep tiles.
func permitUnits() bool { return false }
