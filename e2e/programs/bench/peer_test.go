package main

import (
	"strings"
	"testing"
)

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
