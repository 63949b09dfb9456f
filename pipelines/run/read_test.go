package run

import (
	"testing"

	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/transforms/files"
)

// What an iteration has written before it failed can be looked at, also when it is the first.
func TestBegunBeforeTheFirstCommit(t *testing.T) {
	d := &Dir{Path: t.TempDir()}
	if _, _, err := d.Iteration(t.Context(), -1); err == nil {
		t.Error("a run without a commit has a last iteration")
	}
	file := files.Join(d.IterPath(0), "dead-00000-of-00001.parquet")
	if err := files.Write(t.Context(), file, []byte("x"), false); err != nil {
		t.Fatal(err)
	}
	number, ok, err := d.LastWith(t.Context(), "dead")
	if err != nil || number != 0 || !ok {
		t.Errorf("iteration %d, %v, %v", number, ok, err)
	}
	if dir, err := d.Begun(t.Context(), number); err != nil || dir != d.IterPath(0) {
		t.Errorf("%s, %v", dir, err)
	}
	if _, err := d.Begun(t.Context(), 1); err == nil {
		t.Error("an iteration after that which goes on has begun")
	}
}

// Rows are found in whatever iteration has left them last.
func TestLastWith(t *testing.T) {
	d := &Dir{Path: t.TempDir()}
	last := func(want int, has bool) {
		t.Helper()
		if at, ok, err := d.LastWith(t.Context(), "dead"); at != want || ok != has || err != nil {
			t.Errorf("iteration %d, %v, %v", at, ok, err)
		}
	}
	last(0, false)
	for i := range 3 {
		if err := files.MakeDirectory(d.IterPath(i)); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if err := files.Write(t.Context(), files.Join(d.IterPath(i), "dead-00000-of-00001.parquet"), []byte("x"), false); err != nil {
				t.Fatal(err)
			}
			last(1, true) // begun
		}
		if err := commit.Write(t.Context(), d.IterPath(i), commit.Manifest{Iteration: i}, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	last(1, true)
}
