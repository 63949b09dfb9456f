package command

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/transforms/files"
)

func init() { commands = append(commands, newRetry) }

func newRetry(e *env) *cobra.Command {
	var iteration int
	var out string
	c := &cobra.Command{
		Use:   "retry RUN",
		Short: "Write the rows that stages set aside to files that a recipe can read again",
		Long: "Turn the dead letters of a run back into the rows they hold, and write them as Parquet files, one for each stage that had set " +
			"rows\n" +
			"aside, also of an iteration that is not committed, as one that failed for them. The run stays as it is: once the cause is\n" +
			"mended, the files are the prompts of another run, by the commands printed here. Where a recipe samples responses, a prompt is\n" +
			"one row.\n" +
			"Input that could not be read was never a row; mend it where it lies. See what went wrong with `millrace show RUN --dead`.",
		Example: "  millrace retry runs/grpo --out mended",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := openRun(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if out == "" {
				out = files.Join(d.Path, run.RetryName)
			}
			revived, unreadable, err := look.Retry(cmd.Context(), d, iteration, out)
			if err != nil {
				return err
			}
			result := map[string]any{"files": revived, "unreadable": unreadable}
			return e.print(result, func(w io.Writer) {
				if len(revived) == 0 && unreadable == 0 {
					fmt.Fprintln(w, "no dead letters")
				}
				for _, r := range revived {
					fmt.Fprintf(w, "%d rows of %s in %s\n  millrace %s %s", r.Rows, r.Stage, r.Path, r.Verb, quoted(r.From))
					for _, set := range r.Sets {
						fmt.Fprintf(w, " --set %s", quoted(set))
					}
					fmt.Fprintln(w)
				}
				if unreadable > 0 {
					fmt.Fprintf(w, "%d pieces of input were never rows: mend the input itself\n", unreadable)
				}
			})
		},
	}
	c.Flags().IntVar(&iteration, "iteration", -1, "of this iteration only, from 0; -1: of all")
	c.Flags().StringVar(&out, "out", "", "directory of the files (default: retry in the run's directory)")
	return c
}

// quoted is a word as a shell takes it for one.
func quoted(word string) string {
	if strings.IndexFunc(word, func(c rune) bool {
		return !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("_-./=:,+", c)
	}) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
