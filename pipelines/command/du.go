package command

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/look"
)

func init() { commands = append(commands, newDu) }

func newDu(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "du RUN",
		Short: "Say what takes room in a run, an iteration a line",
		Long: "Say what takes room in a run: models, states of optimizers, rows and the rest, of each iteration and in all. `millrace rm` makes\n" +
			"room in a run that is there, section keep of a recipe in one that goes on.",
		Example: "  millrace du runs/distrl",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := openRun(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			used, err := look.DiskUsage(cmd.Context(), d)
			if err != nil {
				return err
			}
			return e.print(used, func(w io.Writer) { printUsage(w, used) })
		},
	}
}

func printUsage(w io.Writer, used []look.Usage) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "iteration\tmodels\toptimizers\trows\tother\ttotal\t")
	var all look.Usage
	line := func(name string, u look.Usage) {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t\n", name, bytesText(u.Models), bytesText(u.Optimizers), bytesText(u.Rows),
			bytesText(u.Other), bytesText(u.Total()))
	}
	for _, u := range used {
		name := fmt.Sprint(u.Iteration)
		if u.Iteration < 0 {
			name = "of none"
		}
		line(name, u)
		all.Models, all.Optimizers, all.Rows, all.Other = all.Models+u.Models, all.Optimizers+u.Optimizers, all.Rows+u.Rows, all.Other+u.Other
	}
	line("together", all)
	table.Flush()
}
