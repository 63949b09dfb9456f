package command

import (
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

func init() { commands = append(commands, newFork) }

func newFork(e *env) *cobra.Command {
	var at int
	var out, optimizer string
	var sets []string
	c := &cobra.Command{
		Use:   "fork RUN --out DIR",
		Short: "Begin a run from an iteration of another, with other settings",
		Long: "Begin a run that has the iterations of another up to one, and goes on from there with the settings of --set: from its policy,\n" +
			"reward model, optimizers and place in the prompts. The iterations are the same files, linked where both lie on one disk, so the\n" +
			"lineage of what follows leads back to the beginning. `millrace run DIR/config.yaml` then goes on.",
		Example: "  millrace fork runs/grpo --at 9 --out runs/slower --set update.optimizer.lr=1e-5",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if out == "" {
				return &usageError{errors.New("--out is missing; name the directory of the new run")}
			}
			if optimizer != "kept" && optimizer != "fresh" {
				return &usageError{fmt.Errorf("--optimizer %q is not kept or fresh", optimizer)}
			}
			if at < -1 {
				return &usageError{fmt.Errorf("--at %d: iterations are counted from 0, and -1 is the last", at)}
			}
			d, err := openRun(ctx, args[0])
			if err != nil {
				return err
			}
			r, err := d.Recipe(ctx, append(sets, recipe.Set("run", out))...)
			if err != nil {
				return err
			}
			_, number, err := d.Iteration(ctx, at)
			if err != nil {
				return err
			}
			if r.Iterations <= number {
				return setting.Errorf("iterations", "is %d, and the fork begins with %d; ask for more", r.Iterations, number+1)
			}
			m, err := method.New(r)
			if err != nil {
				return recipe.From(err, files.Join(d.Path, recipe.ConfigName))
			}
			old, err := d.Recipe(ctx)
			if err != nil {
				return err
			}
			before, err := method.New(old)
			if err != nil {
				return recipe.From(err, files.Join(d.Path, recipe.ConfigName))
			}
			if err := sameStart(before, m); err != nil {
				return err
			}
			config, err := method.Resolved(m)
			if err != nil {
				return err
			}
			forked, err := d.Fork(ctx, number, out, config, optimizer == "fresh")
			if err != nil {
				return err
			}
			return e.print(struct {
				Out string `json:"out"`
				run.Forked
			}{out, forked}, func(w io.Writer) { printForked(w, out, forked) })
		},
	}
	c.Flags().IntVar(&at, "at", -1, "the last iteration that both have, from 0; -1: the last committed one")
	c.Flags().StringVar(&out, "out", "", "directory of the new run")
	c.Flags().StringVar(&optimizer, "optimizer", "kept", "kept: go on with the states of optimizers; fresh: without")
	c.Flags().StringArrayVar(&sets, "set", nil, "override a setting, path=value; may be repeated")
	return c
}

// sameStart refuses another start of a model that iterations train: a fork goes on with that of the iteration, and the reference is what
// the first run started from.
func sameStart(before, m method.Method) error {
	was := map[string]recipe.Model{}
	for _, t := range before.Updates() {
		was[t.Role] = t.Model
	}
	for _, t := range m.Updates() {
		old, ok := was[t.Role]
		if ok && (t.Model.Path != old.Path || !reflect.DeepEqual(t.Model.New, old.New)) {
			return setting.Errorf(t.Role, "a fork goes on with the %s of the iteration, and another one begins a run of its own; "+
				"another reference is section reference", t.Role)
		}
	}
	return nil
}

func printForked(w io.Writer, out string, f run.Forked) {
	fmt.Fprintf(w, "%s begins as %s up to iteration %d\n", out, f.Run, f.Iteration)
	for _, c := range f.Changes {
		fmt.Fprintf(w, "  %v\n", c)
	}
	fmt.Fprintf(w, "go on with `millrace run %s`\n", quoted(files.Join(out, recipe.ConfigName)))
}
