package losses_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/models/losses"
)

// docs/losses.md has one row for every registered loss, with its keys and defaults, and no row for another.
func TestDocsNameEveryLoss(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "losses.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if name, ok := strings.CutPrefix(cells[0], "| `"); ok && len(cells) == 8 {
			rows[strings.TrimSuffix(name, "`")] = strings.TrimSuffix(cells[7], " |")
		}
	}
	for _, name := range losses.Names() {
		if name == "focal" {
			continue // of example_test.go
		}
		keys, defaults := losses.Keys(name)
		var want []string
		for i, k := range keys {
			want = append(want, fmt.Sprintf("`%s: %v`", k, defaults[i]))
		}
		got, ok := rows[name]
		if !ok {
			t.Errorf("docs/losses.md has no row for %s; its keys are %s", name, strings.Join(want, " "))
		} else if got != strings.Join(want, " ") {
			t.Errorf("docs/losses.md: %s has keys\n%s, want\n%s", name, got, strings.Join(want, " "))
		}
	}
	for name := range rows {
		if !slices.Contains(losses.Names(), name) {
			t.Errorf("docs/losses.md has a row for %s, which is not registered", name)
		}
	}
}
