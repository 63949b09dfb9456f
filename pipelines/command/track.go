package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/pipelines/telemetry/trackers"
)

func init() { commands = append(commands, newTrack) }

func newTrack(e *env) *cobra.Command {
	var to string
	var sets []string
	c := &cobra.Command{
		Use:   "track RUN",
		Short: "Send experiment trackers what they do not have yet of a run",
		Long: "Send an experiment tracker the settings, metrics and samples of a run's committed iterations, as far as it does not have them\n" +
			"yet: of a run that had no tracker, or whose tracker could not be reached. Without --to it is the trackers that the run\n" +
			"itself was last given (telemetry.trackers of its recipe, not an earlier --to). The same command again sends nothing twice.\n\n" +
			"Trackers: " + strings.Join(trackers.Kinds(), ", ") + ".",
		Example: "  millrace track runs/grpo --to mlflow --set url=http://localhost:5000",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			d, err := openRun(ctx, args[0])
			if err != nil {
				return err
			}
			of, err := trackersOf(ctx, d, to, sets)
			if err != nil {
				return err
			}
			if len(of) == 0 {
				return &usageError{fmt.Errorf("%s was given no tracker; name one with --to: %s", args[0], strings.Join(trackers.Kinds(), ", "))}
			}
			sent, err := d.Track(ctx, of)
			return errors.Join(e.print(sent, func(w io.Writer) { printTracked(w, sent) }), err)
		},
	}
	c.Flags().StringVar(&to, "to", "", "the tracker: "+strings.Join(trackers.Kinds(), ", ")+" (default: those of the run)")
	c.Flags().StringArrayVar(&sets, "set", nil, "a setting of the tracker, key=value; may be repeated")
	return c
}

// trackersOf is the tracker that is named, or those that the run was given.
func trackersOf(ctx context.Context, d *run.Dir, to string, sets []string) ([]trackers.Config, error) {
	if to == "" {
		if len(sets) > 0 {
			return nil, &usageError{errors.New("--set is of the tracker that --to names")}
		}
		return d.Trackers(ctx)
	}
	settings, err := formatSettings(sets)
	if err != nil {
		return nil, err
	}
	one, err := trackers.New(to, settings)
	return []trackers.Config{one}, err
}

func printTracked(w io.Writer, sent []run.Tracked) {
	for _, s := range sent {
		if s.Status == "" {
			continue // an error says why
		}
		fmt.Fprintf(w, "%s has %d iterations, %s: %d points and %d tables sent\n%s\n", s.Tracker, s.Iterations, s.Status, s.Points, s.Tables,
			s.Address)
		if s.Note != "" {
			fmt.Fprintln(w, s.Note)
		}
	}
}
