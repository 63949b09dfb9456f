package command

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/schemas/setting"
)

func init() { commands = append(commands, newRefresh) }

func newRefresh(e *env) *cobra.Command {
	var flags recipeFlags
	c := &cobra.Command{
		Use:   "refresh RECIPE",
		Short: "Train a reward model, measure it on held-out prompts, promote it or not",
		Long: "Run a recipe of kind refresh: train a reward model on rollouts of a policy or on given solutions, measure it on held-out\n" +
			"prompts, and promote it only if it ranks responses better than chance by the recipe's margin.",
		Example: "  millrace refresh ipvrm-refresh\n" +
			"  millrace refresh ipvrm-solutions --set prompts.file.path=solutions.parquet",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := flags.method(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			r := m.Recipe()
			if r.Kind != "refresh" {
				return setting.Errorf("kind", "%q is not refresh; `millrace run` runs this recipe", r.Kind)
			}
			notes, err := lookedAt(cmd.Context(), m, args[0])
			if err != nil {
				return err
			}
			show := progress.Start(e.err, "millrace refresh "+args[0])
			for _, note := range notes {
				show.Note("%s", note)
			}
			err = method.RunLookedAt(cmd.Context(), m, show)
			show.Done()
			if err != nil {
				return err
			}
			result, err := look.ReadRefresh(cmd.Context(), r.Run)
			if err != nil {
				return err
			}
			return e.print(result, func(w io.Writer) { writeRefresh(w, result) })
		},
	}
	flags.register(c)
	endsDead(c, deadRows)
	return c
}

func writeRefresh(w io.Writer, r look.RefreshResult) {
	v := r.Evaluation
	fmt.Fprintf(w, "\n  reward model   %s%s\n  held out       %d prompts, %d responses, %s right\n", r.Model, precisionText(r.Precision),
		v.Prompts, v.Responses, estimateText(v.Avg))
	fmt.Fprintf(w, "  chance         %s\n", chanceText(v.Report))
	for _, b := range v.BestOf {
		fmt.Fprintf(w, "  best-of-n      %.3f +- %.3f by %s\n", b.Mean, b.StdErr, b.Score)
	}
	if c := v.Calibration; c != nil && c.ECE != nil {
		fmt.Fprintf(w, "  calibration    ECE %.3f, Brier %.3f", *c.ECE, *c.Brier)
		if c.AUC != nil {
			fmt.Fprintf(w, ", AUC %.3f", *c.AUC)
		}
		fmt.Fprintf(w, " over %d prefixes\n", c.N)
	}
	for _, s := range v.Steps {
		fmt.Fprintf(w, "  step F1        %.3f held-out threshold, %.3f best, rule %s, %d responses\n", s.HeldOut.F1, s.Best.F1, s.Rule, s.Items)
	}
	state := "promoted"
	if !r.Promotion.Promoted {
		state = "refused"
	}
	fmt.Fprintf(w, "  %-14s %s\n\n", state, r.Promotion.Why)
}
