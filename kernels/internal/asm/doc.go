// Package asm holds the inner loops of the kernels: routines that check nothing. Each is written out in generic.go, which
// is its specification and its fallback; where assembly exists the level chosen at start runs it instead.
//
// Callers guarantee lengths and strides. Slices of one call have the length of the slice that the Go loop ranges over, or
// more. Nothing may alias except where the loop allows it element by element.
package asm
