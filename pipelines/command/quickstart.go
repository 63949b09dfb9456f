package command

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
)

func init() { commands = append(commands, newQuickstart) }

func newQuickstart(e *env) *cobra.Command {
	o := quickstart.Options{}
	c := &cobra.Command{
		Use:   "quickstart",
		Short: "See a small policy learn: DistRL with IPVRM beside GRPO, with a report page",
		Long: "Train a small policy on chain arithmetic for some iterations of rollout, outcome, reward model update, prefix values,\n" +
			"advantages and policy update; then the same with GRPO. Ends with a table and report.html. An interrupted quickstart goes\non where " +
			"it was when the command is given again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			show := progress.Start(e.err, "millrace quickstart")
			result, err := quickstart.Run(cmd.Context(), o, show)
			show.Done()
			if err != nil {
				return err
			}
			return e.print(result, func(w io.Writer) {
				fmt.Fprintf(w, "\n  avg@8 on %d held-out prompts (standard error about %.3f)\n\n", result.Prompts, result.StdErr)
				fmt.Fprintf(w, "  %-22s %8s %8s\n", "", "before", "after")
				fmt.Fprintf(w, "  %-22s %8.3f %8.3f\n", "DistRL + IPVRM", result.Before, result.After)
				fmt.Fprintf(w, "  %-22s %8.3f %8.3f\n\n", "GRPO", result.Before, result.GRPO)
				fmt.Fprintf(w, "  %.0f seconds. Open %s in a browser: figures over iterations, and rollouts coloured by prefix value.\n",
					result.Seconds, result.Report)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&o.Run, "run", "runs/quickstart", "directory of the run")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of prompts and sampling")
	f.IntVar(&o.Iterations, "iterations", 40, "iterations of each method; a quickstart that was begun goes on with its own number")
	f.BoolVar(&o.FromScratch, "from-scratch", false, "train the starting models too, instead of taking the embedded ones")
	return c
}
