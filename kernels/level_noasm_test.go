//go:build !amd64 || noasm

package kernels_test

import (
	"testing"

	"github.com/millrace/millrace/kernels"
)

// TestLevel: without assembly the portable code is what runs.
func TestLevel(t *testing.T) {
	if got := kernels.Level(); got != "generic" {
		t.Errorf("level %s runs, want generic", got)
	}
}
