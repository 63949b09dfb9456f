package command

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"

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
			old, err := d.Recipe(ctx)
			if err != nil {
				return err
			}
			r, err := d.Recipe(ctx, append(sets, "run="+strconv.Quote(out))...)
			if err != nil {
				return err
			}
			if err := sameStart(old, r); err != nil {
				return err
			}
			if _, number, err := d.Iteration(ctx, at); err == nil && r.Iterations <= number {
				return setting.Errorf("iterations", "is %d, and the fork begins with %d; ask for more", r.Iterations, number+1)
			}
			m, err := method.New(r)
			if err != nil {
				return recipe.From(err, files.Join(d.Path, recipe.ConfigName))
			}
			config, err := method.Resolved(m)
			if err != nil {
				return err
			}
			forked, err := d.Fork(ctx, at, out, config, optimizer == "fresh")
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

// sameStart refuses models that a fork would not begin with: it has those of the iteration, and what the first run started from is
// what it is held against.
func sameStart(old, r recipe.Recipe) error {
	if r.Policy.Path != old.Policy.Path || !reflect.DeepEqual(r.Policy.New, old.Policy.New) {
		return setting.Errorf("policy", "a fork goes on with the policy of the iteration, and its reference is what the first run started from; "+
			"another policy begins a run of its own, another reference is section reference")
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
