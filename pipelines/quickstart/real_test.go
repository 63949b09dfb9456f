package quickstart

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/schemas/setting"
)

// Nothing is fetched that nobody agreed to.
func TestRealAsksForItsModel(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "real")
	var missing *setting.Error
	_, err := Real(t.Context(), RealOptions{Run: dir, Iterations: 1}, progress.Silent())
	if !errors.As(err, &missing) || missing.Path != "model" {
		t.Errorf("no model: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory was made: %v", err)
	}
}

// TestReal takes the pretrained model where $MILLRACE_SMOLLM2 names it, for one iteration: minutes.
func TestReal(t *testing.T) {
	model := os.Getenv("MILLRACE_SMOLLM2")
	if model == "" || testing.Short() {
		t.Skip("MILLRACE_SMOLLM2 does not name the model")
	}
	r, err := Real(t.Context(), RealOptions{Run: filepath.Join(t.TempDir(), "real"), Model: model, Iterations: 1}, progress.Silent())
	if err != nil {
		t.Fatal(err)
	}
	if r.Before < 0.15 || r.Prompts != 64 || r.Wording[0] == nil || r.Wording[1] == nil || len(r.Answers) != shown {
		t.Errorf("%+v", r)
	}
	for _, a := range r.Answers {
		if a.Prompt == "" || a.Right == "" || a.Before == "" || a.After == "" {
			t.Errorf("%+v", a)
		}
	}
	if _, err := os.Stat(r.Report); err != nil {
		t.Error(err)
	}
}
