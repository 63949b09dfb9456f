package files_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem/memfs"
	"github.com/millrace/millrace/transforms/files"
)

func TestFiles(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	path := filepath.Join(dir, "sub", "f")
	f, err := files.Create(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("half"))
	if _, err := os.Stat(path); err == nil {
		t.Error("the file is there before Commit")
	}
	f.Abort()
	if left, _ := filepath.Glob(filepath.Join(dir, "sub", "*")); len(left) > 0 {
		t.Errorf("Abort left %v", left)
	}
	if f, err = files.Create(ctx, path); err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("whole"))
	if err := f.Commit(true); err != nil {
		t.Fatal(err)
	}
	f.Abort()
	if raw, err := files.Read(ctx, path, 5); err != nil || string(raw) != "whole" {
		t.Errorf("%q, %v", raw, err)
	}
	if _, err := files.Read(ctx, path, 4); err == nil {
		t.Error("a file above the limit was read")
	}
	if f, err = files.Create(ctx, path); err != nil { // of a process that is killed here
		t.Fatal(err)
	}
	if err := files.RemoveTemporary(dir); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "sub")); len(left) != 1 {
		t.Errorf("%d files left, want 1", len(left))
	}
	f.Abort()
}

// TestNotBuilt: which paths a program without clouds refuses, and what it says.
func TestNotBuilt(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	local := filepath.Join(dir, "f")
	if err := os.WriteFile(local, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"gs://bucket/run", "s3://bucket/run"} {
		for name, do := range map[string]func() error{
			"Open":   func() error { _, err := files.Open(ctx, path); return err },
			"Write":  func() error { return files.Write(ctx, path, nil, false) },
			"Stat":   func() error { _, err := files.Stat(ctx, path); return err },
			"Exists": func() error { _, err := files.Exists(ctx, path); return err },
			"List":   func() error { _, err := files.List(ctx, path+"/*"); return err },
			"Copy":   func() error { return files.Copy(ctx, local, path) },
		} {
			var missing *files.NotBuiltError
			if err := do(); !errors.As(err, &missing) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "-tags cloud") {
				t.Errorf("%s %s: %v", name, path, err)
			}
		}
	}
	var missing *files.NotBuiltError
	if _, _, err := files.AcquireLock(ctx, "gs://bucket/run"); !errors.As(err, &missing) {
		t.Errorf("%v", err)
	}
	var unsupported *files.UnsupportedError
	if _, _, err := files.AcquireLock(ctx, "s3://bucket/run"); !errors.As(err, &unsupported) ||
		!strings.Contains(err.Error(), "s3://bucket/run") {
		t.Errorf("%v", err)
	}
}

// TestBeamsFilesystems: Beam's filesystem in memory stands for the others.
func TestBeamsFilesystems(t *testing.T) {
	ctx, path := t.Context(), "memfs://there/sub/f"
	if err := files.Write(ctx, path, []byte("whole"), false); err != nil {
		t.Fatal(err)
	}
	if raw, err := files.Read(ctx, path, 5); err != nil || string(raw) != "whole" {
		t.Errorf("%q, %v", raw, err)
	}
	if found, err := files.List(ctx, "memfs://there/sub/*"); err != nil || !slices.Equal(found, []string{path}) {
		t.Errorf("%v, %v", found, err)
	}
	if info, err := files.Stat(ctx, path); err != nil || info.Size != 5 || info.Name != "f" {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := files.Stat(ctx, path+"-none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
