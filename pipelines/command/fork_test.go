package command

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A fork has what it goes on from, and lies beside its parent: a link to a run is the run, what was removed is said at once, and one
// directory in the other would go with it.
func TestForkHasWhatItGoesOnFrom(t *testing.T) {
	at, _ := aRun(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	link := in("link")
	if err := os.Symlink(at, link); err != nil {
		t.Fatal(err)
	}
	want(t, exitOK, nil, "fork", link, "--at", "1", "--out", in("a"))
	for _, name := range []string{"iter-00000", "iter-00001"} {
		if _, err := os.Stat(filepath.Join(dir, "a", name, "policy")); err != nil {
			t.Errorf("a fork of a linked run: %v", err)
		}
	}
	for _, out := range []string{filepath.Join("a", "sub"), filepath.Join("a", "iter-00002"), "."} {
		want(t, exitUsage, []string{"out: ", "one lies in the other"}, "fork", in("a"), "--out", in(out))
	}
	inner := filepath.Join(dir, "other", "a", "inner") // the same by a link
	if err := os.Symlink(dir, in("other")); err != nil {
		t.Fatal(err)
	}
	want(t, exitUsage, []string{"out: ", "one lies in the other"}, "fork", in("a"), "--out", inner)
	want(t, exitUsage, []string{"--at -7"}, "fork", in("a"), "--at", "-7", "--out", in("x"))
	want(t, exitUsage, []string{"policy: a fork goes on with the policy"}, "fork", in("a"), "--out", in("x"), "--set", "policy.new=null",
		"--set", "policy.tokenizer=null", "--set", "policy.path="+in("b"))
	want(t, exitUsage, []string{"iterations: is 1, and the fork begins with 2"}, "fork", in("a"), "--out", in("x"), "--set", "iterations=1")
	t.Chdir(dir)
	want(t, exitOK, nil, "fork", in("a"), "--out", "123")
	want(t, exitOK, nil, "rm", in("a"), "--keep-last", "1", "--keep-best=false", "--yes")
	want(t, exitUsage, []string{"at: ", "iter-00000/policy was removed to make room"}, "fork", in("a"), "--at", "0", "--out", in("b"))
	want(t, exitOK, nil, "fork", at, "--out", in("c"))
	want(t, exitOK, nil, "rm", in("c"), "--keep-last", "2", "--yes")
	want(t, exitUsage, []string{"at: ", "optimizer-policy was removed", "--optimizer fresh"}, "fork", in("c"), "--at", "0", "--out", in("d"))
	want(t, exitOK, nil, "fork", in("c"), "--at", "0", "--out", in("d"), "--optimizer", "fresh")
}

// A run whose removal was interrupted is removed by the same command, a link to it as well, and one that holds others is not.
func TestRemoveWhole(t *testing.T) {
	at, _ := aRun(t)
	dir := t.TempDir()
	half, link := filepath.Join(dir, "half"), filepath.Join(dir, "link")
	want(t, exitOK, nil, "fork", at, "--out", half)
	if err := os.RemoveAll(filepath.Join(half, "iter-00000")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(half, link); err != nil {
		t.Fatal(err)
	}
	within := filepath.Join(half, "deep", "within")
	want(t, exitOK, nil, "fork", at, "--out", within)
	if err := os.WriteFile(filepath.Join(half, "notes.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, yes := range []string{"--yes=false", "--yes"} {
		want(t, exitUsage, []string{"not the run's", "deep, notes.txt"}, "rm", half, "--all", yes)
	}
	want(t, exitUsage, []string{"out: ", "holds within already"}, "fork", at, "--out", filepath.Join(half, "deep"))
	if err := errors.Join(os.RemoveAll(filepath.Join(half, "deep")), os.Remove(filepath.Join(half, "notes.txt"))); err != nil {
		t.Fatal(err)
	}
	want(t, exitOK, []string{"would go"}, "rm", link, "--all")
	want(t, exitOK, nil, "rm", link, "--all", "--yes")
	if _, err := os.Stat(half); !os.IsNotExist(err) {
		t.Errorf("the run is there still: %v", err)
	}
	// What is no run stays, whatever it holds.
	site := filepath.Join(dir, "site")
	config := filepath.Join(site, "config.yaml")
	if err := errors.Join(os.MkdirAll(site, 0o755), os.WriteFile(config, []byte("title: mine\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	want(t, exitUsage, []string{"is not a run directory", "title: unknown key"}, "rm", site, "--all", "--yes")
	if left, err := os.ReadDir(site); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}
