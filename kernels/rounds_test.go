package kernels

import "testing"

// Rounds is how many random cases a property is held to: all of them, or a sixth with -short.
func Rounds(all int) int {
	if testing.Short() {
		return max(6, all/6)
	}
	return all
}
