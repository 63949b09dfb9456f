package command

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines"
)

func init() { commands = append(commands, newPlan) }

// plan is the result of the command.
type plan struct {
	Recipe     string                   `json:"recipe"`
	Kind       string                   `json:"kind"`
	Run        string                   `json:"run"`
	Runner     string                   `json:"runner"`
	Iterations int                      `json:"iterations"`
	Stages     []pipelines.PlannedStage `json:"stages"`
	Size       pipelines.Size           `json:"size"` // of an iteration
}

func newPlan(e *env) *cobra.Command {
	var sets []string
	c := &cobra.Command{
		Use:   "plan RECIPE",
		Short: "Check a recipe and show what it would do, without running it",
		Long: "Check a recipe and show its stages with the columns they read and add, and how much an iteration holds. Nothing is read but\n" +
			"the recipe and, for a new model, its tokenizer. A recipe that would not run gives exit code 2 and the path of the setting.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := pipelines.OpenRecipe(args[0], sets)
			if err != nil {
				return err
			}
			stages, err := r.Plan()
			if err != nil {
				return err
			}
			size, err := r.Size()
			if err != nil {
				return err
			}
			p := plan{Recipe: args[0], Kind: r.Kind, Run: r.Run, Runner: r.Runner.Name, Iterations: r.Iterations, Stages: stages, Size: size}
			return e.print(p, p.text)
		},
	}
	c.Flags().StringArrayVar(&sets, "set", nil, "override a setting, path=value; may be repeated")
	return c
}

func (p plan) text(w io.Writer) {
	fmt.Fprintf(w, "%s: %s, %d iterations in %s, on %s\n\n", p.Recipe, p.Kind, p.Iterations, p.Run, p.Runner)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "stage\tneeds\tadds")
	for _, s := range p.Stages {
		fmt.Fprintf(table, "%s\t%s\t%s\n", s.Name, orDash(s.Needs), orDash(s.Adds))
	}
	table.Flush()
	s := p.Size
	fmt.Fprintf(w, "\nan iteration: %d prompts in %d records, %d rows, at most %d response tokens and about %s uncompressed\n"+
		"(assumed: %d prompt tokens, %d response tokens, %d listed tokens a position)\n",
		s.Prompts, s.Records, s.Rows, s.Tokens, bytesText(s.Bytes), s.PromptTokens, s.ResponseTokens, s.Candidates)
}

func orDash(names []string) string {
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, " ")
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
