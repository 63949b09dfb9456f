package command

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/label"
)

func init() { commands = append(commands, newRelabel) }

func newRelabel(e *env) *cobra.Command {
	var kind, out string
	c := &cobra.Command{
		Use:   "relabel RUN|FILE...",
		Short: "Judge labeled rows again with today's verifier, and show what changed",
		Long: "Read the rows of a run, or batch-*.parquet files, judge every response again and write relabeled-*.parquet with the new\n" +
			"verdicts, outcomes and group statistics, those of a run in a directory for each iteration; columns computed from the old\n" +
			"ones are left out. Which version wrote which verdict is in the files.",
		Example: "  millrace relabel runs/grpo/iter-00000/batch-00000-of-00001.parquet --verifier exact --out again",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := outsideRuns(cmd.Context(), out); err != nil {
				return err
			}
			parts, err := labeledRows(cmd.Context(), args, out)
			if err != nil {
				return err
			}
			var result look.Relabelling
			for _, part := range parts {
				of, err := look.Relabel(cmd.Context(), part.files, label.Default(kind), part.out, runners.Default())
				if err != nil {
					return err
				}
				result.Add(of)
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

// relabelPart is files that are written to one directory: columns of different iterations may be of different models, so that one file does
// not hold both.
type relabelPart struct {
	files []string
	out   string
}

// labeledRows are files as they are named, or the iterations of a run, each with a directory of its own.
func labeledRows(ctx context.Context, args []string, out string) ([]relabelPart, error) {
	d, err := run.Read(ctx, args[0])
	if err != nil { // a file; what else there is, reading it says
		return []relabelPart{{args, out}}, nil
	}
	if len(args) > 1 {
		return nil, &usageError{fmt.Errorf("%s is a run; name one run, or files", args[0])}
	}
	done, err := d.Committed(ctx)
	if err != nil {
		return nil, err
	}
	var parts []relabelPart
	for _, i := range done {
		rows, err := run.RowFiles(ctx, d.IterPath(i), chain.BatchName)
		if err != nil {
			return nil, err
		}
		if len(rows) > 0 {
			parts = append(parts, relabelPart{rows, files.Join(out, files.Base(d.IterPath(i)))})
		}
	}
	if len(parts) == 0 {
		return nil, &usageError{fmt.Errorf("%s has no rows yet", args[0])}
	}
	return parts, nil
}
