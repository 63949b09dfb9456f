package command

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/transforms/evaluate"
)

func init() { commands = append(commands, newEval) }

// confidence of the intervals that decide whether two policies are ranked.
const confidence = 0.95

// evaluation is the result of the command.
type evaluation struct {
	Split   string            `json:"split"`
	Samples int               `json:"samples"`
	Results []evaluatedPolicy `json:"results"`
	Pairs   []comparedPair    `json:"comparisons,omitempty"`
}

type evaluatedPolicy struct {
	Name  string     `json:"name"`
	Model models.Ref `json:"model"`
	evaluate.Report
	prompts []evaluate.PromptResult
}

type comparedPair struct {
	A          string              `json:"a"`
	B          string              `json:"b"`
	Comparison evaluate.Comparison `json:"comparison"`
}

func newEval(e *env) *cobra.Command {
	var recipe string
	var sets []string
	var iteration int
	c := &cobra.Command{
		Use:   "eval RUN|MODEL...",
		Short: "Measure policies on held-out prompts, and compare them prompt by prompt",
		Long: "Measure the policies of runs, or models, on the same held-out prompts with the same random numbers: avg@k and pass@k with standard\n" +
			"errors over prompts. Two policies are ranked only where the 95% interval of their paired difference leaves out 0. The prompts, the\n" +
			"verifier and the sampling are those of --recipe, or of the first run.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := evaluationRecipe(recipe, args, sets)
			if err != nil {
				return err
			}
			show := progress.Start(e.err, "millrace eval")
			defer show.Done()
			bar := show.Bar("policies", int64(len(args)))
			defer bar.Done()
			result := evaluation{Split: r.Evaluate.Split, Samples: r.Evaluate.Samples}
			for _, target := range args {
				p, err := evaluatePolicy(cmd, r, target, iteration)
				if err != nil {
					return fmt.Errorf("%s: %w", target, err)
				}
				result.Results = append(result.Results, p)
				bar.Step(1, progress.Field{Name: fmt.Sprintf("avg@%d", r.Evaluate.Samples), Value: p.Avg.Mean})
			}
			result.compare()
			return e.print(result, result.text)
		},
	}
	c.Flags().StringVar(&recipe, "recipe", "", "the recipe that says what is measured (default: that of the first run)")
	c.Flags().IntVar(&iteration, "iteration", -1, "the iteration of runs, from 0; -1: the last committed one")
	c.Flags().StringArrayVar(&sets, "set", nil, "override a setting, such as evaluate.prompts=400; may be repeated")
	return c
}

// evaluationRecipe says what is measured.
func evaluationRecipe(name string, targets, sets []string) (pipelines.Recipe, error) {
	if name != "" {
		return pipelines.OpenRecipe(name, sets)
	}
	for _, target := range targets {
		if run, err := pipelines.ReadRun(target); err == nil {
			return run.Recipe(sets...)
		}
	}
	return pipelines.Recipe{}, &usageError{fmt.Errorf("none of %v is a run that says what to measure; name a recipe with --recipe", targets)}
}

func evaluatePolicy(cmd *cobra.Command, r pipelines.Recipe, target string, iteration int) (evaluatedPolicy, error) {
	p := evaluatedPolicy{Name: target}
	path := target
	if run, err := pipelines.ReadRun(target); err == nil {
		dir, _, err := run.Iteration(iteration)
		if err != nil {
			return p, err
		}
		path = filepath.Join(dir, "policy")
		if _, err := os.Stat(path); err != nil {
			return p, fmt.Errorf("the run trains no policy: %w", err)
		}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return p, err
	}
	if _, err := os.Stat(path); err != nil {
		return p, &usageError{fmt.Errorf("neither a run nor a model: %w", err)}
	}
	digest, err := models.Digest(path)
	if err != nil {
		return p, err
	}
	p.Model = models.Ref{Path: path, Digest: digest}
	scratch, err := os.MkdirTemp("", "millrace-eval-")
	if err != nil {
		return p, err
	}
	defer os.RemoveAll(scratch)
	measured, err := r.Measure(cmd.Context(), p.Model, models.Ref{}, filepath.Join(scratch, "rows"))
	if err != nil {
		return p, err
	}
	p.Report, p.prompts = measured.Report, measured.Sums.Prompts
	return p, nil
}

// compare holds every policy against every later one.
func (v *evaluation) compare() {
	for i, a := range v.Results {
		for _, b := range v.Results[i+1:] {
			v.Pairs = append(v.Pairs, comparedPair{A: a.Name, B: b.Name, Comparison: evaluate.ComparePrompts(a.prompts, b.prompts, confidence)})
		}
	}
}

func (v *evaluation) text(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "policy\tprompts\tavg@%d\t", v.Samples)
	for _, at := range v.Results[0].PassAt {
		fmt.Fprintf(table, "pass@%d\t", at.K)
	}
	fmt.Fprintln(table, "abstained")
	for _, p := range v.Results {
		fmt.Fprintf(table, "%s\t%d\t%s\t", p.Name, p.Prompts, estimateText(p.Avg))
		for _, at := range p.PassAt {
			fmt.Fprintf(table, "%s\t", estimateText(at.Estimate))
		}
		fmt.Fprintln(table, p.Abstained)
	}
	table.Flush()
	for _, pair := range v.Pairs {
		c := pair.Comparison
		switch {
		case c.Interval == nil:
			fmt.Fprintf(w, "\n%s and %s have too few prompts in common to be compared\n", pair.A, pair.B)
			continue
		case c.Verdict == evaluate.BetterA:
			fmt.Fprintf(w, "\n%s is better than %s", pair.A, pair.B)
		case c.Verdict == evaluate.BetterB:
			fmt.Fprintf(w, "\n%s is better than %s", pair.B, pair.A)
		default:
			fmt.Fprintf(w, "\n%s and %s cannot be told apart", pair.A, pair.B)
		}
		fmt.Fprintf(w, ": difference %+.3f, %.0f%% interval %+.3f to %+.3f over %d prompts\n",
			c.Difference.Mean, 100*c.Confidence, c.Interval[0], c.Interval[1], c.Difference.N)
	}
}

func estimateText(e evaluate.Estimate) string { return fmt.Sprintf("%.3f ±%.3f", e.Mean, e.StdErr) }
