package schemas

import (
	"strings"
	"testing"
)

// Every column says enough to be used.
func TestColumnsAreDescribed(t *testing.T) {
	for _, c := range Columns() {
		if c.Doc == "" || c.Shape == "" || !strings.HasSuffix(c.Doc, ".") {
			t.Errorf("%s: doc %q, shape %q; want a sentence and a shape", c.Name, c.Doc, c.Shape)
		}
		if c.LogProb && c.Unit != "nats" {
			t.Errorf("%s: log-probs are in nats, not %q", c.Name, c.Unit)
		}
		if strings.ToLower(c.Name) != c.Name {
			t.Errorf("%s: names are lower case", c.Name)
		}
	}
}
