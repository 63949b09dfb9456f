package command

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
)

func init() { commands = append(commands, newRun) }

func newRun(e *env) *cobra.Command {
	var flags recipeFlags
	c := &cobra.Command{
		Use:   "run RECIPE",
		Short: "Run a recipe, or go on with it after its last committed iteration",
		Long: "Run a recipe: a YAML file, or the name of an embedded one (see `millrace recipes`). The same command again goes on " +
			"after\nthe last committed iteration; an interrupted iteration is done again and gives the same bytes.",
		Example: "  millrace run grpo\n  millrace run mine.yaml --set iterations=60",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := flags.method(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			r := m.Recipe()
			notes, err := lookedAt(cmd.Context(), m, args[0])
			if err != nil {
				return err
			}
			show := progress.Start(e.err, "millrace run "+args[0])
			for _, note := range notes {
				show.Note("%s", note)
			}
			defer show.Done()
			if err := method.RunLookedAt(cmd.Context(), m, show); err != nil {
				return err
			}
			d, err := openRun(cmd.Context(), r.Run)
			if err != nil {
				return err
			}
			done, err := d.Committed(cmd.Context()) // more than were asked for, or fewer where the prompts came to their end
			if err != nil {
				return err
			}
			return e.print(map[string]any{"run": r.Run, "iterations": len(done)}, func(w io.Writer) {
				fmt.Fprintf(w, "%d iterations in %s\n", len(done), r.Run)
			})
		},
	}
	flags.register(c)
	endsDead(c, deadRows)
	return c
}
