package command

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/terminal"
)

func init() { commands = append(commands, newLs) }

func newLs(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "ls [DIR]",
		Short: "List runs: how far they are, what they reach, the room they take",
		Long: "List the runs in a directory (default: runs) and those up to two folders below: kind, iterations that are committed, the last\n" +
			"and the best accuracy on held-out prompts, and size. A run that cannot be read is listed with what is wrong.",
		Example: "  millrace ls",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "runs"
			if len(args) > 0 {
				dir = args[0]
			}
			lines, err := look.Runs(cmd.Context(), dir)
			if err != nil {
				return err
			}
			if lines == nil {
				lines = []look.RunLine{}
			}
			return e.print(lines, func(w io.Writer) { printRuns(w, dir, lines) })
		},
	}
}

func printRuns(w io.Writer, dir string, lines []look.RunLine) {
	if len(lines) == 0 {
		fmt.Fprintf(w, "no runs in %s\n", terminal.Clean(dir))
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "run\tkind\titerations\tlast\tbest\tsize\t")
	for _, l := range lines {
		last, best, note := "–", "–", ""
		if l.Value != nil {
			last = fmt.Sprintf("%s %.3f", l.Metric, *l.Value)
		}
		if l.Best != nil {
			best = fmt.Sprintf("%.3f after %d", l.Best.Value, l.Best.Iteration+1)
		}
		switch {
		case l.Fault != "":
			note = terminal.Clean(l.Fault)
		case l.Forked != "":
			note = "forked from " + terminal.Clean(l.Forked)
		}
		fmt.Fprintf(table, "%s\t%s\t%d of %d\t%s\t%s\t%s\t%s\n", terminal.Clean(l.Run), terminal.Clean(l.Kind), l.Iterations, l.Of, last, best,
			bytesText(l.Bytes), note)
	}
	table.Flush()
}
