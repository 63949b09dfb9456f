package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/continuation"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

func init() { commands = append(commands, newSteps) }

func newSteps(e *env) *cobra.Command {
	var j job
	var policy, kind string
	labels := continuation.DefaultStepLabels()
	var temperature, topP float64
	var template bool
	c := &cobra.Command{
		Use:   "steps RUN|FILE... --policy MODEL --out DIR",
		Short: "Label the steps of given responses by continuations from their ends (Monte Carlo): first error and value of each step",
		Long: "Judge the responses of files or of runs, and find the first wrong step of those that are wrong: a step is good when the policy\n" +
			"finds the right answer from its end, in one of --continuations or in the share --threshold of them. By binary search, which\n" +
			"samples after the logarithm of the steps and assumes that no step after a bad one is good, or by a sweep of all steps; a share\n" +
			"--audit of the responses is swept beside binary search, to tell how often the assumption fails.",
		Example: "  millrace steps solutions.jsonl --policy models/small --out stepped --continuations 16",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if policy == "" {
				return &usageError{errors.New("name a model with --policy")}
			}
			if err := j.from(cmd.Context(), args, true); err != nil {
				return err
			}
			j.tree["policy"] = map[string]any{"path": policy}
			j.tree["chat"] = map[string]any{"template": template}
			j.tree["label"] = map[string]any{"explain": true, "verifier": map[string]any{"kind": kind}}
			j.tree[chain.StepsSection] = map[string]any{"steps": labels.Steps, "search": labels.Search, "continuations": labels.Continuations,
				"threshold": labels.Threshold, "audit": labels.Audit, "max_new_tokens": labels.MaxNewTokens, "temperature": temperature, "top_p": topP}
			done, err := j.run(cmd, e)
			if err != nil {
				return err
			}
			out := stepsResult{jobResult: done}
			if err := out.count(cmd.Context()); err != nil {
				return err
			}
			return e.print(out, out.text)
		},
	}
	f := c.Flags()
	f.StringVar(&policy, "policy", "", "the model that goes on (policy.path)")
	f.StringVar(&kind, "verifier", "math", "kind of verifier (label.verifier.kind)")
	f.StringVar(&labels.Steps, "steps", labels.Steps, "a step is one of lines, or of blocks between blank lines (steps.steps)")
	f.StringVar(&labels.Search, "search", labels.Search, "binary or sweep (steps.search)")
	f.IntVar(&labels.Continuations, "continuations", labels.Continuations, "after each step that is looked at (steps.continuations)")
	f.Float64Var(&labels.Threshold, "threshold", labels.Threshold, "least share of right ones after a good step; 0: one (steps.threshold)")
	f.Float64Var(&labels.Audit, "audit", labels.Audit, "share of the responses that are swept beside binary search (steps.audit)")
	f.IntVar(&labels.MaxNewTokens, "max-new-tokens", labels.MaxNewTokens, "tokens of a response at most, its given steps among them")
	f.Float64Var(&temperature, "temperature", 1, "of sampling (steps.temperature)")
	f.Float64Var(&topP, "top-p", 1, "nucleus that is sampled from (steps.top_p)")
	f.BoolVar(&template, "chat-template", false, "put prompts into the model's chat template (chat.template)")
	j.register(c, 256, 16)
	return c
}

// stepsResult is what a job of step labels has left.
type stepsResult struct {
	jobResult
	Labelled      int `json:"labelled"`      // responses whose first error is known
	Wrong         int `json:"wrong"`         // of these, not right ones
	Unknown       int `json:"unknown"`       // wrong responses of which it is not known
	Continuations int `json:"continuations"` // sampled after steps
	// Of the wrong responses whose steps were all sampled after.
	Swept    int `json:"swept"`
	Repaired int `json:"repaired"` // with a good step after a bad one
	Agree    int `json:"agree"`    // of which both searches find the same first error
}

// count reads the rows.
func (r *stepsResult) count(ctx context.Context) error {
	for _, path := range r.Files {
		err := recordio.ReadFile(ctx, path, func(b stage.Batch) error {
			outcomes, err := schemas.Outcome.Find(b)
			if err != nil {
				return err
			}
			first, err := continuation.MCFirstError.Find(b)
			if err != nil {
				return err
			}
			swept, tried, repaired := continuation.MCSweptError.Of(b), continuation.MCTried.Of(b), continuation.MCRepaired.Of(b)
			for i := range b.NumRows() {
				for _, n := range tried.Row(i) {
					r.Continuations += int(n)
				}
				y, judged := outcomes.At(i)
				at, known := first.At(i)
				wrong := judged && y < 0.5
				switch {
				case known:
					r.Labelled++
				case wrong:
					r.Unknown++
				}
				if !wrong || !known {
					continue
				}
				r.Wrong++
				if s, ok := swept.At(i); ok {
					r.Swept++
					if s == at {
						r.Agree++
					}
					if repaired.At(i) {
						r.Repaired++
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r stepsResult) text(w io.Writer) {
	r.jobResult.text(w)
	fmt.Fprintf(w, "first errors of %d wrong responses, %d are not known; %d continuations after steps\n", r.Wrong, r.Unknown, r.Continuations)
	if r.Swept > 0 {
		fmt.Fprintf(w, "of %d wrong responses that were swept, %d have a good step after a bad one, and in %d both searches find the same first "+
			"error\n", r.Swept, r.Repaired, r.Agree)
	}
}
