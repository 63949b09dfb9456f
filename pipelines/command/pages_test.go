package command

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the pages of docs/ that are made of what the program has now")

// writePages is the command that writes the pages again.
const writePages = "go test ./pipelines/command -run Pages -update"

// pageText is a page as it grows.
type pageText struct{ strings.Builder }

// text is the page, which ends in one line feed.
func (p *pageText) text() string { return strings.TrimRight(p.String(), "\n") + "\n" }

// holdPages holds pages of docs/, by their paths there, to what the program says, and folders to hold no other page.
func holdPages(t *testing.T, pages map[string]string, folders ...string) {
	t.Helper()
	docs := filepath.Join("..", "..", "docs")
	for _, folder := range folders {
		entries, err := filepath.Glob(filepath.Join(docs, folder, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range entries {
			if _, ok := pages[folder+"/"+filepath.Base(path)]; ok {
				continue
			}
			if !*update {
				t.Errorf("%s is of nothing that the program has; remove it with: %s", path, writePages)
			} else if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.MkdirAll(filepath.Join(docs, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		path, want := filepath.Join(docs, filepath.FromSlash(name)), pages[name]
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%v; write it with: %s", err, writePages)
			continue
		}
		if string(raw) == want {
			continue
		}
		have, now := strings.Split(string(raw), "\n"), strings.Split(want, "\n")
		at := 0
		for at < len(now)-1 && at < len(have) && have[at] == now[at] {
			at++
		}
		t.Errorf("docs/%s is not what the program has, from line %d on:\n%s\nwrite it with: %s", name, at+1, now[at], writePages)
	}
}

// mdText is a text of the program in Markdown: what it has in backquotes stays code, and nothing else is a mark.
func mdText(text string) string {
	parts := strings.Split(text, "`")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = strings.NewReplacer("*", `\*`, "<", `\<`, "[", `\[`, "|", `\|`).Replace(parts[i])
	}
	return strings.Join(parts, "`")
}
