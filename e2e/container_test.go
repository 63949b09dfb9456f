package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// instructions are those of a Dockerfile that the one here may use.
var instructions = []string{"FROM", "WORKDIR", "COPY", "RUN", "ENTRYPOINT"}

// TestContainerFile: the file of the container is in form where no Docker is to build it: instructions that there are, files that are
// there, stages that are named before, and the Go that go.mod asks for.
func TestContainerFile(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join("..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	stages := map[string]bool{}
	for n, line := range strings.Split(string(raw), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.Fields(line)
		if !slices.Contains(instructions, words[0]) || len(words) < 2 {
			t.Errorf("line %d: %q", n+1, line)
			continue
		}
		switch words[0] {
		case "FROM":
			if len(words) == 4 && words[2] == "AS" {
				stages[words[3]] = true
			}
			if version, ok := strings.CutPrefix(words[1], "golang:"); ok && !regexp.MustCompile(`(?m)^go `+regexp.QuoteMeta(version)).Match(mod) {
				t.Errorf("line %d: Go %s is not that of go.mod", n+1, version)
			}
		case "COPY":
			if from, ok := strings.CutPrefix(words[1], "--from="); ok {
				if !stages[from] {
					t.Errorf("line %d: there is no stage %q before", n+1, from)
				}
				continue
			}
			for _, name := range words[1 : len(words)-1] {
				if _, err := os.Stat(filepath.Join("..", name)); err != nil {
					t.Errorf("line %d: %v", n+1, err)
				}
			}
		}
	}
	if len(stages) == 0 {
		t.Error("no stage builds the program")
	}
}
