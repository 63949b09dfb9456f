package commit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// committed is an iteration with some files.
func committed(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run", "iter-00003")
	for name, text := range map[string]string{"metrics.jsonl": "{}\n", "batch-00000.parquet": "rows", "policy/config.json": "{}",
		"policy/model.safetensors": "weights", WorkName + "/edge": "x"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := Manifest{Iteration: 3, Seed: 7, Config: "c", Inputs: map[string]Input{"policy.path": {Path: "p", Digest: "d"}}}
	if err := Write(t.Context(), dir, m, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	return dir
}

// One changed bit of any file of a committed iteration is named, of the manifest too.
func TestOneChangedBitIsNamed(t *testing.T) {
	dir := committed(t)
	if err := CheckPath(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"metrics.jsonl", "batch-00000.parquet", "policy/config.json", "policy/model.safetensors"} {
		path := filepath.Join(dir, name)
		raw, _ := os.ReadFile(path)
		raw[0] ^= 4
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, at := range []string{path, filepath.Dir(path)} {
			var changed *ChangedError
			if err := CheckPath(t.Context(), at); !errors.As(err, &changed) || changed.Path != path {
				t.Errorf("%s: %v", at, err)
			}
		}
		raw[0] ^= 4
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, ManifestName)
	whole, _ := os.ReadFile(path)
	for i := range whole {
		raw := append([]byte(nil), whole...)
		raw[i] ^= 1
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Read(context.Background(), dir); err == nil || !strings.Contains(err.Error(), ManifestName) {
			t.Fatalf("byte %d of the manifest (%q) changed: %v", i, whole[max(0, i-10):min(len(whole), i+10)], err)
		}
	}
}

// Files that are gone or have come are named; what lies outside of committed iterations is nobody's word.
func TestGoneAndNew(t *testing.T) {
	dir := committed(t)
	if err := os.Remove(filepath.Join(dir, "policy/config.json")); err != nil {
		t.Fatal(err)
	}
	if err := CheckPath(t.Context(), filepath.Join(dir, "policy")); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Error(err)
	}
	for name, in := range map[string]string{"policy/adapter.json": "policy", "reward/model.safetensors": "reward", "notes.txt": ""} {
		dir = committed(t)
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		if err := CheckPath(t.Context(), filepath.Join(dir, in)); err == nil || !strings.Contains(err.Error(), "was not there") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "iter-00001", "policy"), "/"} {
		if err := CheckPath(t.Context(), path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A note of what was removed names folders: rows that somebody took are missed, and nothing else is removed for it.
func TestRemovedAreFolders(t *testing.T) {
	for _, name := range []string{"batch-00000.parquet", "manifest.json", "none"} {
		dir := committed(t)
		if err := os.WriteFile(filepath.Join(dir, RemovedName), []byte(`["policy", "`+name+`"]`), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := Remove(t.Context(), dir); err == nil || !strings.Contains(err.Error(), name+`" is no folder`) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, ManifestName)); err != nil {
			t.Error(err)
		}
		if err := os.Remove(filepath.Join(dir, "batch-00000.parquet")); err != nil {
			t.Fatal(err)
		}
		var changed *ChangedError
		if err := CheckPath(t.Context(), dir); !errors.As(err, &changed) || filepath.Base(changed.Path) != "batch-00000.parquet" {
			t.Errorf("rows that are gone, and a note of %s: %v", name, err)
		}
	}
}
