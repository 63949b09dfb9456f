package run

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/transforms/files"
)

func TestDirIsLocked(t *testing.T) {
	dir := t.TempDir()
	r, _, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var locked *files.LockedError
	if _, _, err := Open(t.Context(), dir); !errors.As(err, &locked) {
		t.Errorf("second open: %v, want a LockedError", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again, _, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	again.Close()
}

func TestCommitAndBegin(t *testing.T) {
	r, _, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	dir, err := r.Begin(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("policy/model.safetensors", "half")
	write("exchange/a.arrow", "edge")
	if dir, err = r.Begin(t.Context(), 0); err != nil { // an interrupted attempt is cleared, its edges stay
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "policy")); err == nil {
		t.Error("Begin left the files of the interrupted attempt")
	}
	if _, err := os.Stat(filepath.Join(dir, "exchange", "a.arrow")); err != nil {
		t.Error("Begin removed a materialised edge")
	}
	write("policy/model.safetensors", "whole")
	if got, _ := r.Committed(t.Context()); len(got) != 0 {
		t.Errorf("committed before the manifest: %v", got)
	}
	if err := r.Commit(t.Context(), commit.Manifest{Iteration: 0, Seed: 7}, false); err != nil {
		t.Fatal(err)
	}
	m, _, err := r.ReadManifest(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if m.Files["policy/model.safetensors"] != commit.Digest([]byte("whole")) || len(m.Files) != 1 {
		t.Errorf("manifest lists %v", m.Files)
	}
	if _, err := os.Stat(filepath.Join(dir, "exchange")); err == nil {
		t.Error("the work folder outlived the commit")
	}
	if got, err := r.Committed(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("committed: %v, %v", got, err)
	}
}

func TestCommittedRefusesAGap(t *testing.T) {
	r, _, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Begin(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(t.Context(), commit.Manifest{Iteration: 2}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Committed(t.Context()); err == nil || !strings.Contains(err.Error(), "iteration 0 has no manifest") {
		t.Errorf("gap: %v", err)
	}
}

func TestConfigCannotChange(t *testing.T) {
	r, _, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	one, two := []byte("seed: 1\n"), []byte("seed: 2\n")
	for _, raw := range [][]byte{two, one} { // nothing is committed, so another recipe takes the place
		if _, err := r.WriteConfig(t.Context(), raw, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Begin(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(t.Context(), commit.Manifest{Config: commit.Digest(one)}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := r.WriteConfig(t.Context(), one, 1, []int{0}); err != nil {
		t.Errorf("same recipe: %v", err)
	}
	if _, err := r.WriteConfig(t.Context(), two, 1, []int{0}); err == nil || !strings.Contains(err.Error(), `there "seed: 1", now "seed: 2"`) {
		t.Errorf("other recipe: %v", err)
	}
	if err := os.WriteFile(filepath.Join(r.Path, "config.yaml"), two, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.WriteConfig(t.Context(), two, 1, []int{0}); err == nil || !strings.Contains(err.Error(), "was changed") {
		t.Errorf("a recipe that was edited between two starts: %v", err)
	}
}

// TestTidy: a process may die after it has committed an iteration and before it has removed the iteration's work folder.
func TestTidy(t *testing.T) {
	run, _, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	for i := range 2 {
		if _, err := run.Begin(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	if err := run.Commit(t.Context(), commit.Manifest{Iteration: 0}, true); err != nil {
		t.Fatal(err)
	}
	if err := run.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true} { // the second is not committed: its work is good for the next attempt
		if _, err := os.Stat(filepath.Join(run.IterPath(i), chain.WorkName)); (err == nil) != want {
			t.Errorf("iteration %d: %v, want its work folder kept: %v", i, err, want)
		}
	}
}
