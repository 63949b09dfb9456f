package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/transforms/evaluate"
	"github.com/millrace/millrace/transforms/files"
)

// rewardFlags are the flags of eval that belong to reward models.
type rewardFlags struct {
	targets       []string
	sets          []string // test sets
	items         int
	continuations int
}

// rewardEvaluation is the result of eval on reward models.
type rewardEvaluation struct {
	Split       string                  `json:"split"`
	Samples     int                     `json:"samples"`
	Policy      models.Ref              `json:"policy"`
	Rewards     []look.MeasuredReward   `json:"rewards"`
	Comparisons []look.RewardComparison `json:"comparisons,omitempty"`
}

// evaluateRewards measures reward models on the responses of one policy: that of args, or of the recipe.
func (e *env) evaluateRewards(cmd *cobra.Command, f rewardFlags, args []string, recipe string, sets []string,
	iteration int) (out *rewardEvaluation, err error) {
	if len(args) > 1 {
		return nil, &usageError{fmt.Errorf("reward models are measured on the responses of one policy, not of %d", len(args))}
	}
	r, err := evaluationRecipe(cmd.Context(), recipe, append(append([]string(nil), args...), f.targets...), sets)
	if err != nil {
		return nil, err
	}
	scratch, remove, err := measure.Scratch(r)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	test := look.RewardTest{Recipe: r, Items: f.items, Continuations: f.continuations, Work: scratch}
	if len(args) == 1 {
		test.Policy, err = openPolicy(cmd.Context(), r, args[0], iteration)
	} else {
		test.Policy, err = look.OpenPolicy(cmd.Context(), r, firstRun(cmd.Context(), recipe, f.targets), scratch)
	}
	if err != nil {
		return nil, err
	}
	on := f.sets
	if len(on) == 0 {
		on = test.Sets()
	}
	rewards := make([]look.RewardModel, len(f.targets))
	for i, target := range f.targets {
		if rewards[i], err = look.OpenReward(cmd.Context(), r, target, iteration, test.Policy, scratch); err != nil {
			return nil, fmt.Errorf("%s: %w", target, err)
		}
	}
	rewards = append(rewards, look.PolicyScorers(test.Policy)...)
	look.ShareReferences(rewards)
	out = &rewardEvaluation{Split: r.Evaluate.Split, Samples: r.Evaluate.Samples, Policy: test.Policy}
	show := progress.Start(e.err, "millrace eval")
	cmd.SetContext(progress.With(cmd.Context(), show))
	defer show.Done()
	bar := show.Bar("reward models", int64(len(on)*len(rewards)))
	defer bar.Done()
	for _, set := range on {
		first := len(out.Rewards)
		for _, m := range rewards {
			measured, err := test.Measure(cmd.Context(), m, set)
			if err != nil {
				return nil, err
			}
			out.Rewards = append(out.Rewards, measured)
			bar.Step(1)
		}
		look.PartErrors(out.Rewards[first:])
	}
	out.Comparisons = look.CompareRewards(out.Rewards, confidence)
	return out, nil
}

// firstRun is the run whose recipe is measured by; "" when a recipe was named.
func firstRun(ctx context.Context, recipe string, targets []string) string {
	if recipe != "" {
		return ""
	}
	for _, target := range targets {
		if d, err := run.Read(ctx, target); err == nil {
			return d.Path
		}
	}
	return ""
}

// writeJSON writes a result to a file, beside what is printed.
func writeJSON(ctx context.Context, path string, result any) error {
	raw, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return err
	}
	return files.Write(ctx, path, append(raw, '\n'), false)
}

func (v *rewardEvaluation) text(w io.Writer) {
	for i, m := range v.Rewards {
		if i == 0 || m.Set != v.Rewards[i-1].Set {
			fmt.Fprintf(w, "\n== %s: %d prompts, %d responses, %s right\n", m.Set, m.Prompts, m.Responses, estimateText(m.Avg))
			var pass []string
			for _, p := range m.PassAt {
				if p.K > 1 {
					pass = append(pass, fmt.Sprintf("pass@%d %s (n %d)", p.K, estimateText(p.Estimate), p.N))
				}
			}
			if len(pass) > 0 {
				fmt.Fprintln(w, strings.Join(pass, ", "))
			}
			fmt.Fprintln(w, chanceText(m.Report))
		}
		fmt.Fprintf(w, "\n%s (%s)\n", m.Name, m.Value.Name)
		writeReward(w, m)
	}
	writeComparisons(w, v.Comparisons)
}

// chanceText says what Best-of-N is to be held against.
func chanceText(r evaluate.Report) string {
	text := "random choice among distinct responses " + estimateText(r.Random)
	if r.Vote != nil {
		text += ", majority vote " + estimateText(*r.Vote)
	}
	return text
}

// writeReward prints the figures of one reward model; every number is value ± standard error (n).
func writeReward(w io.Writer, m look.MeasuredReward) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(table, "  %s\t"+format+"\n", append([]any{name}, args...)...)
	}
	if m.Dead+m.Unvalued+m.Unplaced > 0 {
		line("not counted", "%d set aside, %d without values, %d without step ends", m.Dead, m.Unvalued, m.Unplaced)
	}
	for _, b := range m.BestOfN {
		if b.K > 1 {
			line(fmt.Sprintf("best of %d", b.K), "%s (n %d), by %s", estimateText(b.Estimate), b.N, b.Score)
		}
	}
	if f := m.Final; f != nil {
		line("AUC", "%s over all responses, %s within prompts (n %d)", figureText(f.AUC), estimateText(f.Within), f.Within.N)
	}
	if c := m.Calibration; c != nil && c.N > 0 {
		line("calibration", "%s", calibrationText(*c))
		for d, c := range m.ByDecile {
			if c.N > 0 {
				line(fmt.Sprintf("  decile %d", d+1), "%s", calibrationText(c))
			}
		}
	}
	for _, s := range m.Steps {
		line("step F1, "+s.Rule, "%s held-out threshold (n %d), %s best (n %d, %d wrong)",
			f1Text(s.HeldOut), s.HeldOut.NErr+s.HeldOut.NOK, f1Text(s.Best), s.Items, s.Best.NErr)
	}
	for _, s := range m.ByCertainty {
		line("errors found, "+s.Rule, "%s of those the policy was unsure of, %s of its confident ones", figureText(s.Unsure),
			figureText(s.Confident))
	}
	if t := m.Truth; t != nil {
		line("truth at step ends", "r %s, ECE %s, Brier %s; AUC %s, of the truth itself %s", figureText(t.R), valueText(t.ECE.Value,
			t.ECE.StdErr),
			valueText(t.Brier.Value, t.Brier.StdErr), valueText(t.AUC.Value, t.AUC.StdErr), valueText(t.BestAUC.Value, t.BestAUC.StdErr))
	}
	table.Flush()
}

func writeComparisons(w io.Writer, comparisons []look.RewardComparison) {
	for _, c := range comparisons {
		fmt.Fprintf(w, "\n%s: %s (a) against %s (b), %.0f%% intervals over resampled prompts\n", c.Set, c.A, c.B, 100*confidence)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "  figure\ta\tb\tdifference\tinterval\tn\tbetter")
		for _, f := range c.Figures {
			if f.Difference == nil {
				continue
			}
			interval, better := "none", "cannot be told apart"
			if f.Interval != nil {
				interval = fmt.Sprintf("%+.3f to %+.3f", f.Interval[0], f.Interval[1])
			}
			if f.Verdict != evaluate.Undecided {
				better = f.Verdict
			}
			fmt.Fprintf(table, "  %s\t%.3f\t%.3f\t%+.3f\t%s\t%d\t%s\n", f.Figure, *f.A, *f.B, *f.Difference, interval, f.Prompts, better)
		}
		table.Flush()
	}
}

func calibrationText(c evaluate.Calibration) string {
	var e evaluate.CalibrationErrors
	if c.StdErr != nil {
		e = *c.StdErr
	}
	return strings.Join([]string{"ECE " + valueText(c.ECE, e.ECE), "Brier " + valueText(c.Brier, e.Brier), "AUC " + valueText(c.AUC, e.AUC)},
		", ") + fmt.Sprintf(" (n %d)", c.N)
}

// f1Text is an F1 with its error; there is none without both right and wrong solutions.
func f1Text(f evaluate.F1) string {
	if f.Threshold == nil {
		return "–"
	}
	return valueText(&f.F1, f.StdErr)
}

func figureText(f evaluate.Figure) string {
	return fmt.Sprintf("%s (n %d)", valueText(f.Value, f.StdErr), f.N)
}

// valueText is a value with its standard error, where they are known.
func valueText(value, stdErr *float64) string {
	switch {
	case value == nil:
		return "–"
	case stdErr == nil:
		return fmt.Sprintf("%.3f", *value)
	}
	return fmt.Sprintf("%.3f ±%.3f", *value, *stdErr)
}
