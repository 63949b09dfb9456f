package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/show"
	"github.com/millrace/millrace/pipelines/terminal"
)

func init() { commands = append(commands, newInspect) }

func newInspect(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect MODEL|FILE",
		Short: "Show what a model or a file of rows holds",
		Long: "Show the configuration, tokenizer and tensors of a model directory, a .safetensors or a .gguf file, or the columns, rows and\n" +
			"lineage of a .parquet or .arrow file, or the ledger of an iteration. Weights and rows are not loaded.",
		Example: "  millrace inspect models/small\n  millrace inspect runs/grpo/iter-00000/batch-00000-of-00001.parquet",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := look.Inspect(cmd.Context(), args[0])
			if errors.Is(err, fs.ErrNotExist) {
				return &usageError{err}
			}
			if err != nil {
				return err
			}
			return e.print(in, func(w io.Writer) { printInspection(w, in) })
		},
	}
}

func printInspection(w io.Writer, in look.Inspection) {
	fmt.Fprintf(w, "%s: %s\n", in.Path, in.Kind)
	if in.Digest != "" {
		fmt.Fprintf(w, "digest %s\n", in.Digest)
	}
	if t := in.Tokenizer; t != nil {
		fmt.Fprintf(w, "tokenizer: vocabulary %d, end tokens %v, chat template %v, digest %s\n", t.Vocabulary, t.EOS, t.ChatTemplate, t.Digest)
	}
	if in.Config != nil {
		var text bytes.Buffer
		if json.Indent(&text, in.Config, "", "  ") == nil {
			fmt.Fprintf(w, "config %s\n", bytes.TrimSpace(text.Bytes()))
		}
	}
	if in.Ledger != nil {
		show.Ledgers(w, []show.Ledger{*in.Ledger})
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(in.Tensors) > 0 {
		fmt.Fprintf(w, "\n%d tensors, %d weights, %s\n", len(in.Tensors), in.Weights, bytesText(in.Bytes))
		for _, t := range in.Tensors {
			fmt.Fprintf(table, "%s\t%s\t%v\n", terminal.Clean(t.Name), t.Type, t.Shape)
		}
	}
	if len(in.Columns) > 0 {
		fmt.Fprintf(w, "\n%d rows", in.Rows)
		if in.RowGroups > 0 {
			fmt.Fprintf(w, " in %d row groups", in.RowGroups)
		}
		fmt.Fprintln(w)
		for _, c := range in.Columns {
			fmt.Fprintf(table, "%s\t%s\t%s\n", terminal.Clean(c.Name), terminal.Clean(c.Type), c.Doc)
		}
	}
	table.Flush()
	if m := in.Meta; m != nil {
		fmt.Fprintf(w, "\nrun %s, iteration %d, seed %d\nlineage\n", terminal.Clean(m.Run), m.Iteration, m.Seed)
		lines := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, column := range sortedNames(m.Lineage) {
			fmt.Fprintf(lines, "  %s\t%s\n", terminal.Clean(column), terminal.Clean(m.Lineage[column]))
		}
		lines.Flush()
	}
	for _, key := range sortedNames(in.Metadata) {
		fmt.Fprintf(w, "metadata %s: %.200s\n", terminal.Clean(key), terminal.Clean(in.Metadata[key]))
	}
	for _, p := range in.Problems {
		fmt.Fprintf(w, "problem: %s\n", terminal.Clean(p))
	}
}
