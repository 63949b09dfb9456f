package schemas

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/columns.md")

//go:generate go test -run TestColumnsPage -update .

// The page of columns is generated from their declarations.
func TestColumnsPage(t *testing.T) {
	path := filepath.Join("..", "docs", "columns.md")
	want := columnsPage()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/columns.md is not what the columns say; run: go generate ./schemas")
	}
}

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

func columnsPage() string {
	var b strings.Builder
	b.WriteString(`# Columns

<!-- Generated from schemas/ by: go generate ./schemas -->

A record is an Arrow record of whole prompt groups: a row a prompt before rollout, a row a response (or a pair) after it,
the rows of a prompt side by side. Stages read columns and add columns; what is listed under a stage is what it may add.

Shapes: N rows, P prompt tokens, T response tokens, K listed tokens of a position, S steps. Lists hold no nulls; where the
column "null" says yes, a whole row may be null, which means that the number is not known (never zero). Ids are 16 bytes.
Log-probs are natural logarithms; a column marked † states in its field metadata (` + "`" + logpKey + "`" + `) of which model and
distribution they are, and a stage that needs another refuses it.

Schema metadata: ` + "`" + strings.Join([]string{versionKey, runKey, iterationKey, seedKey}, "`, `") + "`" +
		` and ` + "`" + lineageKey + "`" + `, a JSON object from column to the
digests of what wrote it; a model that computed in bfloat16 has ` + "`+bfloat16`" + ` behind its digest, there and in ` +
		"`" + logpKey + "`" + `.
Rows that were fed back after a fix carry ` + "`" + attemptsKey + "`" + `.
`)
	stage := ""
	for _, c := range registry[:own] { // tests declare others
		if c.Stage != stage {
			stage = c.Stage
			fmt.Fprintf(&b, "\n## %s\n\n| column | Arrow type | shape | unit | null | meaning |\n|---|---|---|---|---|---|\n", stage)
		}
		name, null, doc := "`"+c.Name+"`", "", c.Doc
		if c.LogProb {
			name += " †"
		}
		if c.Nullable {
			null = "yes"
		}
		if c.Enum != nil {
			doc += " One of `" + strings.Join(c.Enum, "`, `") + "`."
		}
		kind := strings.NewReplacer("item: ", "", "fixed_size_binary[16]", "uuid").Replace(c.Type.String())
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", name, strings.ReplaceAll(kind, ", nullable", ""), c.Shape, c.Unit, null, doc)
	}
	return b.String()
}
