package command

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/terminal"
)

func init() { commands = append(commands, newDiff) }

func newDiff(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "diff RUN RUN",
		Short: "Say in what two runs differ: settings, and the figures each measured last",
		Long: "Say in what two runs differ: the settings of their recipes, defaults filled in, and the metrics that each measured last.\n" +
			"Whether a difference of accuracy is more than chance `millrace eval RUN RUN` says.",
		Example: "  millrace diff runs/grpo runs/distrl",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := openRun(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			b, err := openRun(cmd.Context(), args[1])
			if err != nil {
				return err
			}
			out, err := look.Diff(cmd.Context(), a, b)
			if err != nil {
				return err
			}
			return e.print(out, func(w io.Writer) { printDiff(w, out) })
		},
	}
}

func printDiff(w io.Writer, d look.Difference) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "setting\t%s\t%s\n", terminal.Clean(d.A), terminal.Clean(d.B))
	for _, c := range d.Settings {
		fmt.Fprintf(table, "%s\t%s\t%s\n", terminal.Clean(c.Path), terminal.Clean(c.Before()), terminal.Clean(c.After()))
	}
	if len(d.Settings) == 0 {
		fmt.Fprintln(table, "none differs\t\t")
	}
	fmt.Fprintln(table, "\t\t")
	fmt.Fprintln(table, "figure\t\t")
	number := func(x *float64) string {
		if x == nil {
			return "–"
		}
		return fmt.Sprintf("%.4g", *x)
	}
	for _, f := range d.Figures {
		fmt.Fprintf(table, "%s\t%s\t%s\n", terminal.Clean(f.Name), number(f.A), number(f.B))
	}
	table.Flush()
}
