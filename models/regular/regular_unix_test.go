//go:build unix

package regular_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/mapped"
	"github.com/millrace/millrace/models/regular"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
)

// A FIFO where a model, its weights, its configuration or its tokenizer should be is refused at once: nobody waits for a writer.
func TestFIFOsAreRefused(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	for _, name := range []string{"fifo", "config.json", "tokenizer.json", "model.safetensors"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for what, open := range map[string]func() error{
		"digest":        func() error { _, err := models.Digest(fifo); return err },
		"weights":       func() error { _, _, err := mapped.Open(fifo); return err },
		"configuration": func() error { _, err := transformer.ReadConfig(dir); return err },
		"tokenizer":     func() error { _, err := tokenizer.Load(dir); return err },
		"device":        func() error { _, err := regular.Open("/dev/zero"); return err },
	} {
		done := make(chan error, 1)
		go func() { done <- open() }()
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), "regular file") {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: still waiting", what)
		}
	}
}

// The limit counts what is read, not what a file says.
func TestLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, make([]byte, 11), 0o600); err != nil {
		t.Fatal(err)
	}
	var long *regular.TooLongError
	if _, err := regular.Read(path, 10); !errors.As(err, &long) {
		t.Error(err)
	}
	if text, err := regular.Read(path, 11); err != nil || len(text) != 11 {
		t.Error(len(text), err)
	}
	if _, err := regular.Read("/proc/self/status", 3); !errors.As(err, &long) && err != nil && !errors.Is(err, regular.ErrNotRegular) {
		t.Error(err)
	}
}
