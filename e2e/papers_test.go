package e2e

import (
	"regexp"
	"strings"
	"testing"
)

// TestFiguresOfPapers: what a page of docs/papers says was measured here is in docs/results.md, so that neither outlives the other.
func TestFiguresOfPapers(t *testing.T) {
	const measured = "## What was measured here\n"
	pages := markdown(t)
	figures := 0
	for path, text := range pages {
		if !strings.HasPrefix(path, "docs/papers/") {
			continue
		}
		_, section, ok := strings.Cut(text, measured)
		if !ok {
			t.Errorf("%s has no section %q", path, measured)
		}
		for _, figure := range figureOf.FindAllString(section, -1) {
			if figures++; !strings.Contains(pages["docs/results.md"], figure) {
				t.Errorf("%s: %s is not in docs/results.md", path, figure)
			}
		}
	}
	if figures < 50 {
		t.Errorf("%d figures were found", figures)
	}
}

// figureOf is a figure with its sign; numbers of papers and of sections have letters or a path before them.
var figureOf = regexp.MustCompile(`[+−]?\b\d+\.\d+\b`)
