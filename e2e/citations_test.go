package e2e

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	heading  = regexp.MustCompile(`(?m)^#+ (\d+(?:\.\d+)?) `)
	citation = regexp.MustCompile(`algorithms\.md ((?:\d+(?:\.\d+)?)(?:(?:, | and | to |-)\d+(?:\.\d+)?)*)`)
	section  = regexp.MustCompile(`\d+(?:\.\d+)?`)
)

// Every section of docs/algorithms.md that a comment, a page or a file of golden vectors cites exists.
func TestCitedSectionsExist(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "algorithms.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(string(page), -1) {
		if sections[m[1]] {
			t.Errorf("section %s is there twice", m[1])
		}
		sections[m[1]] = true
	}
	cited := 0
	check := func(path, text string) {
		for _, s := range section.FindAllString(text, -1) {
			if cited++; !sections[s] {
				t.Errorf("%s cites section %s of docs/algorithms.md, which is not there", path, s)
			}
		}
	}
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "..":
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go" && filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range citation.FindAllStringSubmatch(string(text), -1) {
			check(path, m[1])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if cited < 30 {
		t.Errorf("%d citations were found", cited)
	}
	vectors, err := filepath.Glob(filepath.Join("golden", "vectors", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range vectors {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Spec string `json:"spec"`
		}
		if err := json.Unmarshal(raw, &file); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		check(path, file.Spec)
	}
}
