package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/transforms/files"
)

func init() { commands = append(commands, newRm) }

// removed is the result of rm.
type removed struct {
	Run     string        `json:"run"`
	Whole   bool          `json:"whole,omitempty"`
	Removed []run.Removal `json:"removed"`
	Bytes   int64         `json:"bytes"`
	Done    bool          `json:"done"` // false: nothing was removed, this is what would be
}

func newRm(e *env) *cobra.Command {
	var keep recipe.Keep
	var whole, yes bool
	c := &cobra.Command{
		Use:   "rm RUN",
		Short: "Make room in a run: old models and optimizer states, or all of it",
		Long: "Remove the models of iterations that need not be kept and the states of optimizers of all but the last, and keep rows, metrics\n" +
			"and manifests; or with --all the run, unless something else lies in its directory. Says what would go, and removes it with\n" +
			"--yes. A run that goes on is refused.",
		Example: "  millrace rm runs/grpo --keep-every 10\n  millrace rm runs/grpo --keep-every 10 --yes",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			d, err := openRun(ctx, args[0])
			if err != nil {
				return err
			}
			if keep.Last < 1 || keep.Every < 0 {
				return &usageError{errors.New("--keep-last is at least 1, --keep-every at least 0")}
			}
			out, err := toRemove(ctx, d, keep, whole) // first without the lock, which would be laid into what is no run
			if err != nil {
				return err
			}
			if !yes {
				return e.print(out, func(w io.Writer) { printRemoved(w, out) })
			}
			locked, ctx, err := run.Open(ctx, args[0])
			if err != nil {
				return err
			}
			defer locked.Close()
			if !whole {
				if err := locked.Tidy(ctx); err != nil {
					return err
				}
			}
			if out, err = toRemove(ctx, locked, keep, whole); err != nil {
				return err
			}
			if whole { // its configuration last: what is left by a death before that is a run still, and removed by the same command
				if err = files.RemoveAll(ctx, locked.Path, recipe.ConfigName); err == nil {
					err = files.RemoveAll(ctx, locked.Path)
				}
			} else {
				err = locked.Remove(ctx, out.Removed)
			}
			if err != nil {
				return err
			}
			out.Done = true
			return e.print(out, func(w io.Writer) { printRemoved(w, out) })
		},
	}
	c.Flags().IntVar(&keep.Last, "keep-last", 2, "iterations whose models stay, the last ones")
	c.Flags().IntVar(&keep.Every, "keep-every", 0, "models stay of every so many iterations too")
	c.Flags().BoolVar(&keep.Best, "keep-best", true, "the models of the best iteration stay too")
	c.Flags().BoolVar(&whole, "all", false, "remove the run as a whole")
	c.Flags().BoolVar(&yes, "yes", false, "remove it; without, only say what would go")
	return c
}

func toRemove(ctx context.Context, d *run.Dir, keep recipe.Keep, whole bool) (removed, error) {
	out := removed{Run: d.Path, Whole: whole, Removed: []run.Removal{}}
	if whole {
		begun, err := files.ListIn(ctx, d.Path, "iter-*/"+commit.ManifestName)
		if err != nil {
			return out, err
		}
		// Where no iteration says that it is a run, its configuration has to.
		if _, err := recipe.Load(ctx, files.Join(d.Path, recipe.ConfigName), nil); err != nil && len(begun) == 0 {
			return out, &usageError{&run.NotARunError{Path: d.Path, Why: "its " + recipe.ConfigName + " is not the recipe of one: " + err.Error()}}
		}
		foreign, err := run.Foreign(ctx, d.Path)
		if err != nil {
			return out, err
		}
		if len(foreign) > 0 {
			return out, &usageError{fmt.Errorf("%s holds what is not the run's and would go with it: %s; move or remove that first", d.Path,
				strings.Join(foreign, ", "))}
		}
		listed, err := files.Below(ctx, d.Path) // whatever is left of it
		for _, f := range listed {
			out.Bytes += f.Size
		}
		return out, err
	}
	done, err := d.Committed(ctx)
	if err != nil {
		return out, err
	}
	r, err := d.Recipe(ctx)
	if err != nil {
		return out, err
	}
	if r.Kind == "evolve" {
		return out, &usageError{errors.New("a run of kind evolve goes on from models of its first iterations; --all removes it as a whole")}
	}
	best := -1
	if keep.Best {
		measured, err := d.ReadMeasurements(ctx)
		if err != nil {
			return out, err
		}
		if b, ok := run.BestOf(measured, r.Evaluate.Best); ok {
			best = b.Iteration
		}
	}
	found, err := d.ToRemove(ctx, keep, len(done), best)
	if found != nil {
		out.Removed = found
	}
	for _, r := range found {
		out.Bytes += r.Bytes
	}
	return out, err
}

func printRemoved(w io.Writer, out removed) {
	verb := "would go; --yes removes it"
	if out.Done {
		verb = "is removed"
	}
	if out.Whole {
		fmt.Fprintf(w, "%s, %s, %s\n", out.Run, bytesText(out.Bytes), verb)
		return
	}
	for _, r := range out.Removed {
		fmt.Fprintf(w, "iteration %d: %v, %s\n", r.Iteration, r.Folders, bytesText(r.Bytes))
	}
	if len(out.Removed) == 0 {
		fmt.Fprintln(w, "nothing need go")
		return
	}
	fmt.Fprintf(w, "%s of %s %s\n", bytesText(out.Bytes), out.Run, verb)
}
