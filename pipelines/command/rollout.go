package command

import "github.com/spf13/cobra"

func init() { commands = append(commands, newRollout) }

func newRollout(e *env) *cobra.Command {
	var j job
	var a asked
	c := &cobra.Command{
		Use:   "rollout PROMPTS... --policy MODEL --out DIR",
		Short: "Sample responses to the prompts of files, with token ids and log-probs, and judge them where there are answers",
		Long: "Sample responses to every prompt of files (JSONL, JSON, Parquet, packed or not; folders and patterns) from a model directory, a " +
			"GGUF\nfile or an endpoint, and write them as Parquet with token ids, log-probs and what these are. Where the prompts have answers " +
			"the\nresponses are judged.",
		Example: "  millrace rollout problems.jsonl --policy models/small --out rolled --samples 8\n" +
			"  millrace rollout problems.jsonl --policy http://localhost:8000/v1 --out rolled",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.named(); err != nil {
				return err
			}
			if err := j.from(cmd.Context(), args, false); err != nil {
				return err
			}
			a.into(j.tree)
			return j.do(cmd, e)
		},
	}
	a.register(c.Flags())
	j.register(c, 256, 16)
	return c
}
