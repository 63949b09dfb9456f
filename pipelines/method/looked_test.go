package method_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
)

// asked counts how often a method is asked whether what it needs is there.
type asked struct {
	method.Method
	times *int
}

func (a asked) Check(context.Context) error { *a.times++; return nil }

// What a command has looked at before is not looked at again: an endpoint is asked once.
func TestLookedAtOnce(t *testing.T) {
	taken := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(taken, nil, 0o644); err != nil { // so that the run ends where its directory is opened
		t.Fatal(err)
	}
	r, err := parse([]byte(sampled), []string{"run=" + taken, "policy.path=x"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := method.New(r)
	if err != nil {
		t.Fatal(err)
	}
	times := 0
	if err := method.RunLookedAt(t.Context(), asked{m, &times}, progress.Silent()); err == nil || times != 0 {
		t.Errorf("asked %d times: %v", times, err)
	}
	if err := method.Run(t.Context(), asked{m, &times}, progress.Silent()); err == nil || times != 1 {
		t.Errorf("asked %d times: %v", times, err)
	}
}
