package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandsOfPages runs the commands of pages that are to be typed as they stand, word for word, one block after the other in an empty
// directory.
func TestCommandsOfPages(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	for _, page := range []string{"gpu-trainers.md", "tutorial.md"} {
		t.Run(page, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("..", "docs", page))
			if err != nil {
				t.Fatal(err)
			}
			blocks := strings.Split(string(text), "```sh\n")[1:]
			if len(blocks) < 5 {
				t.Fatalf("%d blocks of commands", len(blocks))
			}
			dir := t.TempDir()
			for _, block := range blocks {
				commands, _, _ := strings.Cut(block, "```")
				shell := exec.CommandContext(t.Context(), "sh", "-euc", commands)
				shell.Dir, shell.Env = dir, append(os.Environ(), "PATH="+filepath.Dir(program(t))+":"+os.Getenv("PATH"))
				if said, err := shell.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s\n%s", err, commands, said)
				}
			}
		})
	}
}
