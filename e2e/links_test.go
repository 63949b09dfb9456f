package e2e

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

var (
	link   = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	inCode = regexp.MustCompile("``[^`].*?``|`[^`\n]+(?:\n[^`\n]+)?`")
	title  = regexp.MustCompile(`^#{1,6} +(.*?)[ #]*$`)
	marks  = regexp.MustCompile("`|\\*|\\[([^\\]]*)\\]\\([^)]*\\)")
)

// TestLinks: what a page links to is there, the section too where it names one. Addresses are left to their readers.
func TestLinks(t *testing.T) {
	pages := markdown(t)
	links := 0
	for page, text := range pages {
		prose, _ := apart(text)
		for _, m := range link.FindAllStringSubmatch(inCode.ReplaceAllString(prose, ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			links++
			to, anchor, anchored := strings.Cut(m[1], "#")
			at := page
			if to != "" {
				at = path.Join(path.Dir(page), to)
			}
			if strings.HasPrefix(at, "../") || strings.HasPrefix(to, "/") {
				t.Errorf("%s: %s leads out of the checkout", page, m[1])
				continue
			}
			if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(at))); err != nil {
				t.Errorf("%s: %s leads nowhere", page, m[1])
				continue
			}
			if anchored && !anchorsOf(pages[at])[anchor] {
				t.Errorf("%s: %s: the page has no such section", page, m[1])
			}
		}
	}
	if links < 500 {
		t.Errorf("%d links were found", links)
	}
}

// apart is a page without its blocks of code, and its titles.
func apart(text string) (prose string, titles []string) {
	var out strings.Builder
	code := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
			continue
		}
		if code {
			continue
		}
		out.WriteString(line)
		if m := title.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			titles = append(titles, m[1])
		}
	}
	return out.String(), titles
}

// anchorsOf are the anchors that GitHub gives the titles of a page: their text without marks in small letters, of which letters, digits,
// - and _ stay and spaces become -; one that is there already is counted.
func anchorsOf(text string) map[string]bool {
	_, titles := apart(text)
	out, seen := map[string]bool{}, map[string]int{}
	for _, t := range titles {
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, marks.ReplaceAllString(t, "$1"))
		n := seen[anchor]
		seen[anchor]++
		if n > 0 {
			anchor += "-" + strconv.Itoa(n)
		}
		out[anchor] = true
	}
	return out
}
