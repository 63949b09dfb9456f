package command

import (
	"fmt"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas"
)

// The page of columns is written from their declarations, in whatever package of the program.
func TestColumnPages(t *testing.T) { holdPages(t, map[string]string{"columns.md": columnsPage()}) }

// columnsPage has a table for every stage.
func columnsPage() string {
	var b pageText
	b.WriteString(`# Columns

A record is an Arrow record of whole prompt groups: a row a prompt before rollout, a row a response (or a pair) after it,
the rows of a prompt side by side. Stages read columns and add columns; what is listed under a stage is what it may add.

Shapes: N rows, P prompt tokens, T response tokens, K listed tokens of a position, S steps. Lists hold no nulls; where the
column "null" says yes, a whole row may be null, which means that the number is not known (never zero). Ids are 16 bytes.
Log-probs are natural logarithms; a column marked † states in its field metadata (` + "`millrace.logp`" + `) of which model and
distribution they are, and a stage that needs another refuses it.

Schema metadata: ` + "`millrace.schema`, `millrace.run`, `millrace.iteration`, `millrace.seed` and `millrace.lineage`" + `, a JSON object from column to the
digests of what wrote it; a model that computed in bfloat16 has ` + "`+bfloat16`" + ` behind its digest, there and in ` + "`millrace.logp`" + `.
Rows that were fed back after a fix carry ` + "`millrace.attempts`" + `.
`)
	stage := ""
	for _, c := range schemas.Columns() {
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
	return b.text()
}
