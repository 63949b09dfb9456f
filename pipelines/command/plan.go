package command

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/preflight"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

func init() { commands = append(commands, newPlan) }

// plan is the result of the command.
type plan struct {
	Recipe     string                `json:"recipe"`
	Kind       string                `json:"kind"`
	Run        string                `json:"run"`
	Runner     string                `json:"runner"`
	Iterations int                   `json:"iterations"`
	Stages     []chain.PlannedStage  `json:"stages"`
	Size       chain.Size            `json:"size"`             // of an iteration
	Memory     []chain.TrainMemory   `json:"memory,omitempty"` // of its updates, where the models are at hand
	Peak       *chain.PeakMemory     `json:"peak,omitempty"`   // of the process, where they all are
	Fast       kernels.Precision     `json:"fast_precision"`   // of products, on this processor
	Phases     []method.PlannedPhase `json:"phases"`           // all of the run; stages and size are those of the first, without other streams
	Found      preflight.Report      `json:"found"`            // of what the recipe names
	Job        *runners.Translation  `json:"job,omitempty"`    // what Dataflow would be given
	Standing   *measure.Standing     `json:"standing,omitempty"`
}

func newPlan(e *env) *cobra.Command {
	var flags recipeFlags
	var dry bool
	var prompts int
	c := &cobra.Command{
		Use:   "plan RECIPE",
		Short: "Check a recipe and show what it would do, without running it",
		Long: "Check a recipe and show its stages with the columns they read and add, and how much an iteration holds. What it names is " +
			"opened:\n" +
			"the first rows of prompt files, the shapes and tokenizers of models, endpoints, which are asked what they can do. A recipe that\n" +
			"would not run gives exit code 2 and the path of the setting. With --measure the policy answers prompts of the recipe: how many\n" +
			"responses are right, and for how many prompts some are and some are not, which is what a policy learns from.",
		Example: "  millrace plan distrl\n  millrace plan mine.yaml --measure 64",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if prompts < 0 || prompts > 0 && dry {
				return &usageError{fmt.Errorf("--measure %d: want the number of prompts that the policy answers, without --recipe-only", prompts)}
			}
			m, err := flags.method(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			r := m.Recipe()
			parts, err := m.Phases()
			if err != nil {
				return err
			}
			var found preflight.Report
			if !dry {
				if found, err = preflight.Look(cmd.Context(), r, parts[0].Chain.Nodes, recipes.MakerOf); err != nil {
					return recipe.From(err, args[0])
				}
				if err := method.Gates(cmd.Context(), r); err != nil {
					return recipe.From(err, args[0])
				}
			}
			phases, err := method.Plan(m, found.Lengths)
			if err != nil {
				return err
			}
			first := phases[0].Streams[0]
			p := plan{Recipe: args[0], Kind: r.Kind, Run: r.Run, Runner: r.Runner.Name, Iterations: r.Iterations, Stages: first.Stages,
				Size: first.Size, Phases: phases,
				Memory: method.Memory(m, found.Lengths), Fast: kernels.Fastest(), Found: found}
			if peak, ok := method.Peak(m, found.Lengths); ok {
				p.Peak = &peak
			}
			if r.Runner.Name == "dataflow" {
				job, err := parts[0].Chain.Translate(cmd.Context(), r)
				if err != nil {
					return err
				}
				p.Job = &job
			}
			if prompts > 0 {
				if p.Standing, err = e.standing(cmd, r, prompts); err != nil {
					return recipe.From(err, args[0])
				}
			}
			return e.print(p, p.text)
		},
	}
	flags.register(c)
	c.Flags().BoolVar(&dry, "recipe-only", false, "look at the recipe alone, not at the files, models and endpoints that it names")
	c.Flags().IntVar(&prompts, "measure", 0, "prompts of the recipe that its policy answers, to see where it stands")
	return c
}

// standing measures where the recipe's policy stands on its prompts.
func (e *env) standing(cmd *cobra.Command, r recipe.Recipe, prompts int) (out *measure.Standing, err error) {
	scratch, remove, err := measure.Scratch(r)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if r.Policy.Empty() {
		return nil, setting.Errorf("policy", "is missing; --measure samples from it")
	}
	policy, err := look.OpenPolicy(cmd.Context(), r, "", scratch)
	if err != nil {
		return nil, err
	}
	show := progress.Start(e.err, "millrace plan")
	cmd.SetContext(progress.With(cmd.Context(), show))
	defer show.Done()
	stands, err := measure.Stand(cmd.Context(), r, policy, prompts, files.Join(scratch, "rows"))
	return &stands, err
}

func (p plan) text(w io.Writer) {
	fmt.Fprintf(w, "%s: %s, %d iterations in %s, on %s\n\n", p.Recipe, p.Kind, p.Iterations, p.Run, p.Runner)
	for i, phase := range p.Phases {
		for k, stream := range phase.Streams {
			if i+k > 0 {
				fmt.Fprintln(w)
			}
			if len(p.Phases) > 1 || len(phase.Streams) > 1 {
				fmt.Fprintf(w, "%s, %d iterations, %s stream\n", phase.Name, phase.Iterations, stream.Name)
			}
			printStream(w, stream, p.Found.Lengths)
		}
	}
	for _, m := range p.Memory {
		fmt.Fprintf(w, "training the %s%s takes about %s: weights %s, gradients %s, moments %s, activations of a microbatch %s", m.Role,
			precisionText(m.Precision), bytesText(m.Total),
			bytesText(m.Weights), bytesText(m.Gradients), bytesText(m.Moments), bytesText(m.Activations))
		if m.Frozen > 0 {
			fmt.Fprintf(w, ", frozen models %s", bytesText(m.Frozen))
		}
		fmt.Fprintln(w)
	}
	for _, m := range p.Memory {
		if m.Precision != p.Fast && p.Fast != kernels.Float32 {
			fmt.Fprintf(w, "the %s computes in %s; on this processor %s is faster (docs/models.md)\n", m.Role, m.Precision, p.Fast)
		}
	}
	if m := p.Peak; m != nil {
		fmt.Fprintf(w, "the process takes about %s at most: %s for the program, %s for the models that stages keep open, %s for the update or "+
			"what else takes most, %s before garbage is collected\n", bytesText(m.Total), bytesText(m.Process), bytesText(m.Models),
			bytesText(m.Largest), bytesText(m.Headroom))
	}
	for _, f := range p.Found.Prompts {
		if f.Drawn {
			continue
		}
		fmt.Fprintf(w, "%s: %d rows read, %d prompts in train, %d in test, fields %s\n", f.Source, f.Rows, f.Prompts["train"], f.Prompts["test"],
			strings.Join(f.Fields, ", "))
	}
	for _, note := range p.Found.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	if s := p.Standing; s != nil {
		fmt.Fprintf(w, "the policy on %d prompts of split %s, %d responses each: right %.3f ± %.3f, prompts with right and wrong "+
			"responses %.3f ± %.3f, cut off %.3f\n", s.Prompts, s.Split, s.Samples, s.Right.Mean, s.Right.StdErr, s.Mixed.Mean, s.Mixed.StdErr,
			s.Truncated)
	}
	if p.Job == nil {
		return
	}
	fmt.Fprintf(w, "\nDataflow job %s, steps:\n", p.Job.Name)
	for _, step := range p.Job.Steps {
		fmt.Fprintf(w, "  %s\n", step)
	}
}

func printStream(w io.Writer, p method.PlannedStream, measured chain.Lengths) {
	for _, s := range p.Stages {
		fmt.Fprintln(w, s.Name)
		printColumns(w, "needs", s.Needs)
		printColumns(w, "adds", s.Adds)
	}
	s := p.Size
	fmt.Fprintf(w, "\nan iteration: %d prompts in %d records, %d rows, at most %d response tokens and about %s uncompressed, batch files: "+
		"%d\n",
		s.Prompts, s.Records, s.Rows, s.Tokens, bytesText(s.Bytes), s.Files)
	switch {
	case measured.Responses > 0:
		fmt.Fprintf(w, "(measured, the mean of %d prompts: %d prompt tokens, %.3g responses of %d tokens; assumed: %d listed tokens a "+
			"position)\n", measured.Prompts, s.PromptTokens, measured.Responses, s.ResponseTokens, s.Candidates)
	case measured.Prompts > 0:
		fmt.Fprintf(w, "(measured, the mean of %d prompts: %d prompt tokens; assumed: %d response tokens, %d listed tokens a position)\n",
			measured.Prompts, s.PromptTokens, s.ResponseTokens, s.Candidates)
	default:
		fmt.Fprintf(w, "(assumed: %d prompt tokens, %d response tokens, %d listed tokens a position)\n", s.PromptTokens, s.ResponseTokens,
			s.Candidates)
	}
}

// precisionText follows a model that is not computed in the default precision.
func precisionText(p kernels.Precision) string {
	if p == kernels.Float32 {
		return ""
	}
	return " in " + p.String()
}

// printColumns lists columns under a heading, in lines that fit a terminal.
func printColumns(w io.Writer, heading string, names []string) {
	const width = 110
	line := ""
	for _, name := range names {
		if len(line)+1+len(name) > width {
			fmt.Fprintf(w, "  %-5s %s\n", heading, line)
			heading, line = "", ""
		}
		line += " " + name
	}
	if line != "" {
		fmt.Fprintf(w, "  %-5s %s\n", heading, line)
	}
}

// bytesText writes a number of bytes in a unit that suits it.
func bytesText(n int64) string {
	x, unit := float64(n), "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if x < 1024 {
			break
		}
		x, unit = x/1024, u
	}
	return fmt.Sprintf("%.3g %s", x, unit)
}
