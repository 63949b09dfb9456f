package golden

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// failing is a test that records what it fails with, and goes no further.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (f *failing) Skipf(format string, args ...any) { runtime.Goexit() }

// A file that is not there is a failure: a test that skips says nothing about what it tests.
func TestMissingFilesFail(t *testing.T) {
	for _, folder := range []string{"", t.TempDir()} {
		t.Setenv(variable, folder)
		f := &failing{TB: t}
		done := make(chan bool)
		go func() {
			defer close(done)
			Load(f, "of_nothing.json")
		}()
		if <-done; !strings.Contains(f.said, "of_nothing.json") {
			t.Errorf("%s=%q: a missing file failed with %q", variable, folder, f.said)
		}
	}
}

// Without the variable the repository's own files are read, with it those of the folder it names.
func TestWhereFilesAreFound(t *testing.T) {
	t.Setenv(variable, "")
	if f := Load(t, "sft.json"); f.Topic != "sft" {
		t.Errorf("topic %q", f.Topic)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "golden"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "golden", "sft.json"), []byte(`{"topic":"another","cases":[{"name":"c"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv(variable, dir)
	if f := Load(t, "sft.json"); f.Topic != "another" {
		t.Errorf("topic %q of a folder of one's own", f.Topic)
	}
}

// Compressed files of a folder are there under their own names.
func TestUnpackedFolder(t *testing.T) {
	t.Setenv(variable, "")
	dir := Path(t, "tokenizers", "smollm2")
	for _, name := range []string{"tokenizer.json", "encodings.jsonl"} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || raw[0] != '{' {
			t.Errorf("%s: %.20q, %v", name, raw, err)
		}
	}
}

// The page that describes the vectors has a section for every file of them.
func TestEveryFileIsDescribed(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("vectors", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("vectors", "*.json*"))
	if err != nil || len(files) < 30 {
		t.Fatalf("%d files of vectors, %v", len(files), err)
	}
	for _, f := range files {
		described := false
		for line := range strings.Lines(string(page)) {
			described = described || strings.HasPrefix(line, "#") && strings.Contains(line, filepath.Base(f))
		}
		if !described {
			t.Errorf("vectors/README.md has no section for %s", filepath.Base(f))
		}
	}
}
