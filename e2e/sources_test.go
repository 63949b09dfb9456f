package e2e

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	sourceFile = regexp.MustCompile(`\b(?:pipelines|transforms|models|kernels|runners|schemas|e2e|docs|\.ci)/[\w./-]+` +
		`\.(?:go|py|sh|yaml|jsonl?)\b`)
	goCommand = regexp.MustCompile("\\bgo (?:test|run|vet|generate) [^`\n|<>#]*")
	ofRun     = regexp.MustCompile(`-run '?([\w|^$()]+)`)
	ofPackage = regexp.MustCompile(`(?:^| )\./([\w/-]*\w)`)
	testName  = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
)

// TestSourcesOfPages: files of the checkout that pages name are there, and so are the packages and tests of the go commands that they show.
func TestSourcesOfPages(t *testing.T) {
	tests := testsOf(t)
	pages := markdown(t)
	for _, page := range slices.Sorted(maps.Keys(pages)) {
		if page == "docs/new-loss.md" { // which shows how to add one that is not there
			continue
		}
		there := func(path string) {
			if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(path))); err != nil {
				t.Errorf("%s names %s, which is not there", page, path)
			}
		}
		for _, path := range sourceFile.FindAllString(pages[page], -1) {
			there(path)
		}
		for _, command := range goCommand.FindAllString(pages[page], -1) {
			for _, m := range ofPackage.FindAllStringSubmatch(command, -1) {
				there(strings.TrimSuffix(m[1], "/..."))
			}
			if m := ofRun.FindStringSubmatch(command); m != nil && strings.HasPrefix(command, "go test") {
				if name := regexp.MustCompile(m[1]); m[1] != "^$" && !slices.ContainsFunc(tests, name.MatchString) {
					t.Errorf("%s: %s: no test has such a name", page, strings.TrimSpace(command))
				}
			}
		}
	}
}

// testsOf are the names of all tests.
func testsOf(t *testing.T) (out []string) {
	t.Helper()
	list, err := exec.Command("git", "-C", "..", "ls-files", "*_test.go").Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	for path := range bytes.Lines(list) {
		raw, err := os.ReadFile(filepath.Join("..", strings.TrimSpace(string(path))))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testName.FindAllSubmatch(raw, -1) {
			out = append(out, string(m[1]))
		}
	}
	return out
}
