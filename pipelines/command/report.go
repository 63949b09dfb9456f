package command

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/transforms/files"
)

func init() { commands = append(commands, newReport) }

func newReport(e *env) *cobra.Command {
	var out string
	var with []string
	c := &cobra.Command{
		Use:   "report RUN",
		Short: "Write a page that shows what a run did",
		Long: "Write report.html: accuracy, loss, KL, entropy and the reward model's calibration over the committed iterations, and rollouts\n" +
			"with every token coloured by its prefix value. The page is one file that loads nothing.",
		Example: "  millrace report runs/distrl --with runs/grpo",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			runs := append([]string{args[0]}, with...)
			for _, path := range runs {
				if _, err := openRun(cmd.Context(), path); err != nil {
					return err
				}
			}
			if out == "" {
				out = files.Join(args[0], run.ReportName)
			}
			if err := look.Report(cmd.Context(), out, runs...); err != nil {
				return err
			}
			return e.print(map[string]any{"report": out, "runs": runs}, func(w io.Writer) { fmt.Fprintln(w, out) })
		},
	}
	c.Flags().StringVar(&out, "out", "", "the file to write (default: report.html in the run's directory)")
	c.Flags().StringArrayVar(&with, "with", nil, "another run to draw beside it; may be repeated")
	return c
}
