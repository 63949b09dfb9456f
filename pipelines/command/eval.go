package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/transforms/evaluate"
	"github.com/millrace/millrace/transforms/files"
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
	var recipe, out string
	var sets []string
	var iteration int
	var rewards rewardFlags
	c := &cobra.Command{
		Use:   "eval [RUN|MODEL...] [--reward RUN|MODEL...]",
		Short: "Measure policies or reward models on held-out prompts, and compare them prompt by prompt",
		Long: "Measure the policies of runs, or models, on the same held-out prompts with the same random numbers: avg@k and pass@k with " +
			"standard\n" +
			"errors over prompts. Two policies are ranked only where the 95% interval of their paired difference leaves out 0. The prompts, the\n" +
			"verifier and the sampling are those of --recipe, or of the first run.\n\n" +
			"With --reward, measure reward models on the responses of one policy (the recipe's own, if none is named): Best-of-N, AUC, " +
			"calibration\n" +
			"by position, step F1, and where steps are judged the truth at step ends. A run brings what its values are made of; for a model\n" +
			"directory the recipe's section reward says it. docs/evaluation.md defines every figure.",
		Example: "  millrace eval runs/grpo runs/distrl\n  millrace eval --reward runs/ipvrm --on held_out --on corrupted",
		RunE: func(cmd *cobra.Command, args []string) error {
			var result any
			var text func(io.Writer)
			if err := checkIteration(cmd.Context(), iteration, slices.Concat(rewards.targets, args)...); err != nil {
				return err
			}
			if len(rewards.targets) > 0 {
				v, err := e.evaluateRewards(cmd, rewards, args, recipe, sets, iteration)
				if err != nil {
					return err
				}
				result, text = v, v.text
			} else {
				v, err := e.evaluatePolicies(cmd, args, recipe, sets, iteration)
				if err != nil {
					return err
				}
				result, text = v, v.text
			}
			if out != "" {
				if err := writeJSON(cmd.Context(), out, result); err != nil {
					return err
				}
			}
			return e.print(result, text)
		},
	}
	c.Flags().StringVar(&recipe, "recipe", "", "the recipe that says what is measured (default: that of the first run)")
	c.Flags().IntVar(&iteration, "iteration", -1, "the iteration of runs, from 0; -1: the last committed one")
	c.Flags().StringArrayVar(&sets, "set", nil, "override a setting, such as evaluate.prompts=400; may be repeated")
	c.Flags().StringVar(&out, "out", "", "also write the result as JSON to this file")
	c.Flags().StringArrayVar(&rewards.targets, "reward", nil, "a reward model: a run, or a model directory; may be repeated")
	c.Flags().StringArrayVar(&rewards.sets, "on", nil, "what reward models are measured on: held_out, a corruption of the recipe's "+
		"source such as corrupted, or a file of ProcessBench; may be repeated (default: held_out and all corruptions)")
	c.Flags().IntVar(&rewards.items, "items", 0, "how many items of a file of ProcessBench, drawn by the seed; 0: all")
	c.Flags().IntVar(&rewards.continuations, "continuations", 16, "sampled from each step end of first responses where the verifier judges "+
		"steps, for the truth; 0: none")
	return c
}

// evaluatePolicies measures policies on the same held-out prompts.
func (e *env) evaluatePolicies(cmd *cobra.Command, targets []string, recipe string, sets []string, iteration int) (*evaluation, error) {
	if len(targets) == 0 {
		return nil, &usageError{errors.New("name runs or models whose policies are to be measured, or reward models with --reward")}
	}
	r, err := evaluationRecipe(cmd.Context(), recipe, targets, sets)
	if err != nil {
		return nil, err
	}
	show := progress.Start(e.err, "millrace eval")
	cmd.SetContext(progress.With(cmd.Context(), show))
	defer show.Done()
	bar := show.Bar("policies", int64(len(targets)))
	defer bar.Done()
	result := &evaluation{Split: r.Evaluate.Split, Samples: r.Evaluate.Samples}
	for _, target := range targets {
		p, err := evaluatePolicy(cmd, r, target, iteration)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", target, err)
		}
		result.Results = append(result.Results, p)
		var of []progress.Field
		if p.Avg.N > 0 {
			of = append(of, progress.Field{Name: fmt.Sprintf("avg@%d", r.Evaluate.Samples), Value: p.Avg.Mean})
		}
		bar.Step(1, of...)
	}
	result.compare()
	return result, nil
}

// evaluationRecipe says what is measured.
func evaluationRecipe(ctx context.Context, name string, targets, sets []string) (recipe.Recipe, error) {
	if name != "" {
		return recipes.Open(ctx, name, sets)
	}
	for _, target := range targets {
		if d, err := run.Read(ctx, target); err == nil {
			return d.Recipe(ctx, sets...)
		}
		if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) && !files.IsURL(target) {
			return recipe.Recipe{}, &usageError{fmt.Errorf("%s: there is no such run, directory or file", target)}
		}
	}
	return recipe.Recipe{}, &usageError{fmt.Errorf("none of %v is a run that says what to measure; name a recipe with --recipe", targets)}
}

// openPolicy opens the policy of a run, in the run's precision, or a model, in that of the recipe.
func openPolicy(ctx context.Context, r recipe.Recipe, target string, iteration int) (models.Ref, error) {
	if at := (recipe.Model{Path: target}); at.Remote() {
		return chain.Open(ctx, at, "", 0)
	}
	path := target
	if d, err := run.Read(ctx, target); err == nil {
		dir, _, err := d.Iteration(ctx, iteration)
		if err != nil {
			return models.Ref{}, err
		}
		path = files.Join(dir, "policy")
		if ok, err := files.Exists(ctx, path); !ok {
			return models.Ref{}, errors.Join(errors.New("the run trains no policy"), err)
		}
		if r, err = d.Recipe(ctx); err != nil {
			return models.Ref{}, err
		}
	}
	if ok, err := files.Exists(ctx, path); err != nil {
		return models.Ref{}, err
	} else if !ok {
		return models.Ref{}, &usageError{fmt.Errorf("neither a run nor a model: %w", &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist})}
	}
	return chain.OpenAt(ctx, r.Policy, path)
}

func evaluatePolicy(cmd *cobra.Command, r recipe.Recipe, target string, iteration int) (p evaluatedPolicy, err error) {
	p.Name = target
	if p.Model, err = openPolicy(cmd.Context(), r, target, iteration); err != nil {
		return p, err
	}
	scratch, remove, err := measure.Scratch(r)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	measured, err := measure.Measure(cmd.Context(), r, measure.Subject{Policy: p.Model, Reference: p.Model}, files.Join(scratch, "rows"))
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
		fmt.Fprintf(table, "%s\t%d\t%s\t", p.Name, p.Prompts, countedText(p.Avg, p.Prompts))
		for _, first := range v.Results[0].PassAt {
			var e evaluate.Estimate
			for _, at := range p.PassAt {
				if at.K == first.K {
					e = at.Estimate
				}
			}
			fmt.Fprintf(table, "%s\t", countedText(e, p.Prompts))
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
			fmt.Fprintf(w, "\n%s is better than %s by %.3f", pair.A, pair.B, math.Abs(c.Difference.Mean))
		case c.Verdict == evaluate.BetterB:
			fmt.Fprintf(w, "\n%s is better than %s by %.3f", pair.B, pair.A, math.Abs(c.Difference.Mean))
		default:
			fmt.Fprintf(w, "\n%s and %s cannot be told apart by %d prompts", pair.A, pair.B, c.Difference.N)
		}
		fmt.Fprintf(w, " (avg@%d): difference %+.3f, %.0f%% interval %+.3f to %+.3f over %d prompts\n", v.Samples,
			c.Difference.Mean, 100*c.Confidence, c.Interval[0], c.Interval[1], c.Difference.N)
	}
}

func estimateText(e evaluate.Estimate) string {
	if e.N == 0 {
		return "–"
	}
	return fmt.Sprintf("%.3f ±%.3f", e.Mean, e.StdErr)
}

// countedText is an estimate, with its own count where it is not that of all prompts.
func countedText(e evaluate.Estimate, prompts int) string {
	if e.N == prompts {
		return estimateText(e)
	}
	return fmt.Sprintf("%s (n %d)", estimateText(e), e.N)
}
