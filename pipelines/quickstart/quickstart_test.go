package quickstart

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/schemas/setting"
)

// A quickstart goes on with what it was begun with, and says so of another number of iterations and of another seed.
func TestBegunQuickstart(t *testing.T) {
	if testing.Short() {
		t.Skip("trains")
	}
	dir := filepath.Join(t.TempDir(), "begun")
	if _, err := Run(t.Context(), Options{Run: dir, Iterations: 1}, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{"iterations": {Run: dir, Iterations: 2}, "seed": {Run: dir, Iterations: 1, Seed: 5}} {
		_, err := Run(t.Context(), o, progress.Silent())
		var e *setting.Error
		if !errors.As(err, &e) || e.Path != name || !strings.Contains(e.Why, "was begun with") || !strings.Contains(e.Why, dir) {
			t.Errorf("other %s: %v", name, err)
		}
	}
	if _, err := Run(t.Context(), Options{Run: dir, Iterations: 1}, progress.Silent()); err != nil {
		t.Errorf("the same again: %v", err)
	}
}
