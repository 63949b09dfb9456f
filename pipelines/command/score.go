package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/value"
)

func init() { commands = append(commands, newScore) }

func newScore(e *env) *cobra.Command {
	var j job
	var named, reference, of, steps string
	var iteration int
	c := &cobra.Command{
		Use:   "score RUN|FILE... --reward RUN|MODEL --out DIR",
		Short: "Score given responses by a reward model: values and P(correct) of every token and step, TD advantages",
		Long: "Score the responses of files or of runs by a reward model, and write them as Parquet with value, mean_value and p_correct of " +
			"every\ntoken, those of every step (step_value, step_mean_value, step_p_correct) and TD advantages. A run brings what its values\n" +
			"are made of and the model that log-ratios are taken to; for a model directory --value and --reference say it. Responses may be\n" +
			"texts, or token ids with the log-probs of the policy that sampled them.",
		Example: "  millrace score rolled --reward runs/ipvrm --out scored",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if named == "" {
				return &usageError{errors.New("name a reward model with --reward")}
			}
			if err := j.from(cmd.Context(), args, true, "outcome", "loss_mask"); err != nil {
				return err
			}
			return j.score(cmd, e, named, reference, of, steps, iteration)
		},
	}
	c.Flags().StringVar(&named, "reward", "", "the reward model: a run, or a model directory")
	c.Flags().IntVar(&iteration, "iteration", -1, "the iteration of the run, from 0; -1: the last committed one")
	c.Flags().StringVar(&of, "value", "ipvrm", "what the values of a model directory are made of (reward.value.kind)")
	c.Flags().StringVar(&reference, "reference", "", "the model that log-ratios are taken to (default: that which the run started from)")
	c.Flags().StringVar(&steps, "steps", "", "what a step is: lines, blocks (up to a blank line), given (by the rows, or by their judge), "+
		"none (default: given where rows of a file bring their steps, else lines)")
	j.register(c, 1024, 16)
	return c
}

// score adds the reward model to the job.
func (j *job) score(cmd *cobra.Command, e *env, named, reference, of, steps string, iteration int) error {
	if err := checkIteration(cmd.Context(), iteration, named); err != nil {
		return err
	}
	base := recipe.Default()
	base.Reward = &recipe.Reward{Value: value.Default(of)}
	m, err := look.OpenReward(cmd.Context(), base, named, iteration, models.Ref{Path: reference}, "")
	if err != nil {
		return fmt.Errorf("%s: %w", named, err)
	}
	d, err := run.Read(cmd.Context(), named)
	isRun := err == nil
	if isRun && cmd.Flags().Changed("value") && of != m.Value.Name {
		return &usageError{fmt.Errorf("--value %s is of model directories; the values of run %s are of kind %s", of, named, m.Value.Name)}
	}
	if reference != "" {
		m.Reference = models.Ref{Path: reference}
	}
	section, err := asTree(recipe.Reward{Model: recipe.Model{Path: m.Model.Path, Precision: m.Model.Precision}, Value: m.Value,
		Steps: j.stepsOf(steps)})
	if err != nil {
		return err
	}
	if isRun { // puts prompts to models as the run does
		r, err := d.Recipe(cmd.Context())
		if err != nil {
			return err
		}
		if j.tree["chat"], err = asTree(r.Chat); err != nil {
			return err
		}
	}
	policy := m.Model.Path // for the tokenizer
	if m.Value.Reference() == value.Old && !j.logProbs || m.Value.Reference() == value.Frozen {
		if m.Reference.Path == "" {
			return &usageError{fmt.Errorf("values of kind %s are log-ratios, and the rows have no log-probs of the policy that sampled them; name "+
				"it, or the model that the reward model was trained from, with --reference", m.Value.Name)}
		}
		policy = m.Reference.Path
		section["value"].(map[string]any)["reference"] = value.Frozen
	}
	j.tree["policy"] = map[string]any{"path": policy}
	j.tree["reward"] = section
	if m.Value.Reference() != "" {
		j.tree["advantage"] = map[string]any{"kind": "td"}
	}
	return j.do(cmd, e)
}

// stepsOf is what a step is, as asked for or as the rows have them; "" for none.
func (j *job) stepsOf(asked string) string {
	switch {
	case asked == "none":
		return ""
	case asked != "":
		return asked
	case j.bringsSteps:
		return value.Given
	}
	return stage.Lines
}
