package command

import (
	"github.com/spf13/cobra"

	"github.com/millrace/millrace/schemas/setting"
)

func init() { commands = append(commands, newLabel) }

func newLabel(e *env) *cobra.Command {
	var j job
	var kind, tokenizer, deduplicate string
	c := &cobra.Command{
		Use:   "label RUN|FILE... --out DIR",
		Short: "Judge given responses: verdict, rule, extracted answer and score as columns; no model needed",
		Long: "Judge the responses of files (JSONL, JSON, Parquet, packed or not; folders and patterns) or of runs, and write them as Parquet " +
			"with\n" +
			"verdict, verdict_rule, verdict_reason, extracted, outcome, verifier_score and the statistics of each prompt's group. Columns are\n" +
			"known by their names, or by --field. Rows that cannot be judged are dead letters.",
		Example: "  millrace label solutions.jsonl --out judged\n" +
			"  millrace label solutions.jsonl --out judged --verifier exact --field answer=gold",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := j.from(cmd.Context(), args, true, "loss_mask"); err != nil {
				return err
			}
			j.tree["label"] = map[string]any{"explain": true, "verifier": map[string]any{"kind": kind}}
			if j.bringsSteps && tokenizer == "" {
				return setting.Errorf("--tokenizer", "the rows have steps, whose ends are found among tokens: name a model directory with a tokenizer")
			}
			if tokenizer != "" {
				j.tree["policy"] = map[string]any{"path": tokenizer}
			}
			if deduplicate != "" {
				j.tree["deduplicate"] = map[string]any{"by": deduplicate}
			}
			return j.do(cmd, e)
		},
	}
	c.Flags().StringVar(&kind, "verifier", "math", "kind of verifier (label.verifier.kind); its settings by --set label.verifier.options.…")
	c.Flags().StringVar(&tokenizer, "tokenizer", "", "a model directory whose tokenizer gives responses that come as token ids their text")
	c.Flags().StringVar(&deduplicate, "deduplicate", "", "take each response to a prompt once, by its text or its tokens (deduplicate.by)")
	j.register(c, 50_000, 512)
	return c
}
