package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is called from the root of the repository by default is there.
func TestScriptsAreHere(t *testing.T) {
	for _, script := range []string{"kernels_torch.py", "models_torch.py", "models_trl.py", "models_llamacpp.py", "install.sh"} {
		if _, err := os.Stat(filepath.Join("..", "..", "..", here, script)); err != nil {
			t.Error(err)
		}
	}
}

// A peer that dies is told with its words and its end.
func TestPeerThatDies(t *testing.T) {
	p, err := startPeer("/bin/sh", "-c", "echo the processor lacks something >&2; kill -ILL $$")
	if err != nil {
		t.Skip(err)
	}
	defer p.close()
	_, err = p.measure("decode")
	if err == nil || !strings.Contains(err.Error(), "illegal instruction") || !strings.Contains(err.Error(), "the processor lacks something") {
		t.Errorf("%v", err)
	}
}
