package mapped

import (
	"bytes"
	"errors"
	"github.com/millrace/millrace/models/regular"
	"os"
	"path/filepath"
	"testing"
)

func TestMappedAndReadFilesAreTheSame(t *testing.T) {
	for _, want := range [][]byte{nil, {7}, bytes.Repeat([]byte("0123456789"), 1000)} {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
		got, release, err := Open(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes (%v), want %d", len(got), err, len(want))
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		read, _, err := readAll(f, len(want))
		if err != nil || !bytes.Equal(read, want) {
			t.Errorf("read %d bytes (%v), want %d", len(read), err, len(want))
		}
		f.Close()
		if err := release(); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := Open(t.TempDir()); !errors.Is(err, regular.ErrNotRegular) {
		t.Errorf("directory: %v", err)
	}
	if _, _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}
