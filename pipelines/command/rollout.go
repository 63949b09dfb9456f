package command

import (
	"errors"

	"github.com/spf13/cobra"
)

func init() { commands = append(commands, newRollout) }

func newRollout(e *env) *cobra.Command {
	var j job
	var policy, kind string
	var samples, tokens int
	var temperature, topP float64
	var template bool
	c := &cobra.Command{
		Use:   "rollout PROMPTS... --policy MODEL --out DIR",
		Short: "Sample responses to the prompts of files, with token ids and log-probs, and judge them where there are answers",
		Long: "Sample responses to every prompt of files (JSONL, JSON, Parquet, packed or not; folders and patterns) from a model directory, a " +
			"GGUF\nfile or an endpoint, and write them as Parquet with token ids, log-probs and what these are. Where the prompts have answers " +
			"the\nresponses are judged.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if policy == "" {
				return &usageError{errors.New("name a model with --policy")}
			}
			if err := j.from(cmd.Context(), args, false); err != nil {
				return err
			}
			j.tree["policy"] = map[string]any{"path": policy}
			j.tree["chat"] = map[string]any{"template": template}
			j.tree["rollout"] = map[string]any{"samples": samples, "max_new_tokens": tokens, "temperature": temperature, "top_p": topP}
			j.tree["label"] = map[string]any{"explain": true, "verifier": map[string]any{"kind": kind}}
			return j.do(cmd, e)
		},
	}
	c.Flags().StringVar(&policy, "policy", "", "the model that answers (policy.path)")
	c.Flags().StringVar(&kind, "verifier", "math", "kind of verifier (label.verifier.kind)")
	c.Flags().IntVar(&samples, "samples", 8, "responses to each prompt (rollout.samples)")
	c.Flags().IntVar(&tokens, "max-new-tokens", 1024, "tokens of a response at most (rollout.max_new_tokens)")
	c.Flags().Float64Var(&temperature, "temperature", 1, "of sampling (rollout.temperature)")
	c.Flags().Float64Var(&topP, "top-p", 1, "nucleus that is sampled from (rollout.top_p)")
	c.Flags().BoolVar(&template, "chat-template", false, "put prompts into the model's chat template (chat.template)")
	j.register(c, 256, 16)
	return c
}
