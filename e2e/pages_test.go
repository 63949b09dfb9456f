package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandsOfPages runs the commands of pages that are to be typed as they stand, word for word, one block after the other in an empty
// directory, and those of the examples in a copy of their folder.
func TestCommandsOfPages(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	examples, err := filepath.Glob(filepath.Join("..", "docs", "examples", "*", "README.md"))
	if err != nil || len(examples) == 0 {
		t.Fatal(examples, err)
	}
	for _, path := range append(examples, filepath.Join("..", "docs", "gpu-trainers.md"), filepath.Join("..", "docs", "tutorial.md")) {
		t.Run(strings.TrimPrefix(filepath.ToSlash(path), "../docs/"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			blocks := strings.Split(string(text), "```sh\n")[1:]
			if len(blocks) == 0 {
				t.Fatal("there are no blocks of commands")
			}
			dir := t.TempDir()
			if filepath.Base(path) == "README.md" { // an example: with the files beside it
				if err := os.CopyFS(dir, os.DirFS(filepath.Dir(path))); err != nil {
					t.Fatal(err)
				}
			}
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
