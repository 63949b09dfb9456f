package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/pipelines/show"
	"github.com/millrace/millrace/pipelines/terminal"
)

func init() { commands = append(commands, newShow) }

func newShow(e *env) *cobra.Command {
	var q look.RolloutQuery
	var iteration int
	var dead, ledger bool
	c := &cobra.Command{
		Use:   "show RUN",
		Short: "Print rollouts of a run token by token, or its dead letters",
		Long: "Print rollouts of a committed iteration: every token with its log-prob, prefix value and advantage, tinted on a terminal by " +
			"how\n" +
			"probable a right outcome looks from there. With --dead, the rows that stages set aside, and why, also of an\n" +
			"iteration that is not committed, as one that failed for them; with --ledger, how many of the\n" +
			"prompts drawn were kept, dropped and why. --json prints JSON lines.",
		Example: "  millrace show runs/distrl --rows 1\n  millrace show runs/distrl --dead --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if q.Rows < 0 {
				return &usageError{fmt.Errorf("--rows %d is negative", q.Rows)}
			}
			d, err := openRun(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if ledger {
				return printLedgers(cmd.Context(), e, d, iteration)
			}
			if dead {
				return printDead(cmd.Context(), e, d, iteration, q.Rows)
			}
			dir, number, err := d.Iteration(cmd.Context(), iteration)
			if err != nil {
				return withDead(cmd.Context(), d, iteration, err)
			}
			rollouts, err := look.Rollouts(cmd.Context(), d, number, q)
			if err != nil {
				return err
			}
			if len(rollouts) == 0 && q.Prompt != "" {
				return fmt.Errorf("no prompt of %s has an id that begins with %s", dir, q.Prompt)
			}
			return printItems(e, rollouts, func(w io.Writer) error { return show.Rollouts(w, rollouts, terminal.Capable(w)) })
		},
	}
	c.Flags().IntVar(&iteration, "iteration", -1, "the iteration, from 0; -1: the last committed one; with --dead, the last that has dead "+
		"letters, committed or not")
	c.Flags().StringVar(&q.Prompt, "prompt", "", "rollouts of the prompt whose id begins so")
	c.Flags().IntVar(&q.Rows, "rows", 2, "at most so many rows; 0: all")
	c.Flags().BoolVar(&dead, "dead", false, "show dead letters instead")
	c.Flags().BoolVar(&ledger, "ledger", false, "show what became of the prompts drawn instead; of every iteration unless one is named")
	c.MarkFlagsMutuallyExclusive("dead", "ledger")
	return c
}

// printDead prints what the stages of an iteration set aside; below 0 of the last that has any.
func printDead(ctx context.Context, e *env, d *run.Dir, iteration, rows int) error {
	if iteration < 0 {
		at, ok, err := d.LastWith(ctx, chain.DeadName)
		if err != nil {
			return err
		}
		if !ok {
			return printItems(e, []show.DeadLetter{}, func(w io.Writer) error { return show.DeadLetters(w, nil, nil) })
		}
		iteration = at
	}
	if e.json {
		fmt.Fprintf(e.err, "iteration %d\n", iteration)
	}
	letters, tally, err := look.DeadLetters(ctx, d, iteration, rows)
	if err != nil {
		return err
	}
	return printItems(e, letters, func(w io.Writer) error {
		fmt.Fprintf(w, "iteration %d\n", iteration)
		return show.DeadLetters(w, letters, tally.Counts())
	})
}

// withDead says where there is more to see of an iteration that is not committed.
func withDead(ctx context.Context, d *run.Dir, iteration int, err error) error {
	begun, ok, more := d.LastWith(ctx, chain.DeadName)
	if more != nil || !ok || iteration >= 0 && iteration != begun {
		return err
	}
	return fmt.Errorf("%w; iteration %d is not committed, and --dead shows the rows that its stages set aside", err, begun)
}

// printLedgers prints what became of the prompts of one iteration, or of all where number is negative.
func printLedgers(ctx context.Context, e *env, d *run.Dir, number int) error {
	ledgers, err := d.ReadLedgers(ctx)
	if err != nil {
		return err
	}
	ledgers = slices.DeleteFunc(ledgers, func(l show.Ledger) bool { return number >= 0 && l.Iteration != number })
	if len(ledgers) == 0 {
		return fmt.Errorf("%s keeps no ledger; recipes with mixed or prompts.curriculum do", d.Path)
	}
	return printItems(e, ledgers, func(w io.Writer) error { return show.Ledgers(w, ledgers) })
}

// printItems writes items as text, or as JSON lines.
func printItems[T any](e *env, items []T, text func(io.Writer) error) error {
	if e.json {
		return show.JSON(e.out, items)
	}
	return text(e.out)
}

// openRun opens a run for reading; a directory that is none is a mistake on the command line.
func openRun(ctx context.Context, path string) (*run.Dir, error) {
	d, err := run.Read(ctx, path)
	var none *run.NotARunError
	if errors.As(err, &none) {
		if inside := run.Inside(ctx, path); len(inside) > 0 {
			err = fmt.Errorf("%w; it holds the runs %s", err, strings.Join(inside, ", "))
		}
		return nil, &usageError{err}
	}
	return d, err
}
