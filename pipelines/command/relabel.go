package command

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/transforms/label"
)

func init() { commands = append(commands, newRelabel) }

func newRelabel(e *env) *cobra.Command {
	var kind, out string
	c := &cobra.Command{
		Use:   "relabel FILE...",
		Short: "Judge labeled rows again with today's verifier, and show what changed",
		Long: "Read batch-*.parquet files, judge every response again and write relabeled-*.parquet with the new verdicts, outcomes and\n" +
			"group statistics; columns computed from the old ones are left out. Which version wrote which verdict is in the files.",
		Example: "  millrace relabel runs/grpo/iter-00000/batch-00000-of-00001.parquet --verifier exact --out again",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			result, err := look.Relabel(cmd.Context(), files, label.Default(kind), out, runners.Default())
			if err != nil {
				return err
			}
			return e.print(result, func(w io.Writer) {
				fmt.Fprintf(w, "%d rows judged again, %d dead\nbefore  %s\nafter   %s\n", result.Rows, result.Dead, result.Before, result.After)
				if len(result.Changes) == 0 {
					fmt.Fprintln(w, "no verdict changed")
				}
				for _, change := range slices.Sorted(maps.Keys(result.Changes)) {
					fmt.Fprintf(w, "%6d  %s\n", result.Changes[change], change)
				}
				for _, c := range result.Changed {
					fmt.Fprintf(w, "  %s  %s -> %s  answer %q, extracted %q\n", c.ResponseID, c.Before, c.After, c.Answer, c.Extracted)
				}
			})
		},
	}
	c.Flags().StringVar(&kind, "verifier", "math", "kind of verifier")
	c.Flags().StringVar(&out, "out", "relabeled", "directory to write to")
	return c
}
