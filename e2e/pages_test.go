package e2e

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// typed is a block of commands that are to be typed as they stand, with the line before it, which may say that they are not.
var typed = regexp.MustCompile("(?m)^(.*)\n```sh\n((?s:.*?))^```$")

// TestCommandsOfPages runs the commands of pages that are to be typed as they stand, word for word, one block after the other in an empty
// directory, and those of the examples in a copy of their folder. The commands of other blocks are checked by TestTypedCommands in
// pipelines/command.
func TestCommandsOfPages(t *testing.T) {
	pages, all := 0, markdown(t)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		var blocks []string
		for _, m := range typed.FindAllStringSubmatch(all[path], -1) {
			if !strings.HasPrefix(m[1], "<!-- not run: ") {
				blocks = append(blocks, m[2])
			}
		}
		if blocks == nil {
			continue
		}
		pages++
		t.Run(strings.TrimPrefix(path, "docs/"), func(t *testing.T) {
			dir := t.TempDir()
			if strings.HasPrefix(path, "docs/examples/") { // with the files beside it
				if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", filepath.Dir(path)))); err != nil {
					t.Fatal(err)
				}
			}
			for _, commands := range blocks {
				shell := exec.CommandContext(t.Context(), "sh", "-euc", commands)
				shell.Dir, shell.Env = dir, append(os.Environ(), "PATH="+filepath.Dir(program(t))+":"+os.Getenv("PATH"))
				if said, err := shell.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s\n%s", err, commands, said)
				}
			}
		})
	}
	if pages < 6 {
		t.Errorf("%d pages have commands to be typed", pages)
	}
}

// markdown reads the pages of the checkout by their paths in it.
func markdown(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "..":
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		out[strings.TrimPrefix(filepath.ToSlash(path), "../")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
