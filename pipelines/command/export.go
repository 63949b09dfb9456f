package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/export"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

func init() { commands = append(commands, newExport) }

func newExport(e *env) *cobra.Command {
	var to, out string
	var iteration int
	var sets []string
	c := &cobra.Command{
		Use:   "export RUN|FILE...",
		Short: "Write the rows of a run, or of files, in another program's format",
		Long: "Write the rows of a run's committed iterations, or of Parquet files of rows, in the format of another program. Prompt groups " +
			"stay\n" +
			"together; rows that a format cannot hold are left out and counted by why. export.json, written last, says what the export is.\n\n" +
			"Formats: " + strings.Join(export.Formats(), ", ") + ".",
		Example: "  millrace export runs/grpo --to trl-grpo --out for-trl\n" +
			"  millrace export runs/grpo --to prime-rl --out for-prime-rl --set seq_len=4096",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return &usageError{fmt.Errorf("--to is missing; name a format: %s", strings.Join(export.Formats(), ", "))}
			}
			if out == "" {
				return &usageError{errors.New("--out is missing; name the directory to write to")}
			}
			if err := checkIteration(cmd.Context(), iteration, args...); err != nil {
				return err
			}
			settings, err := formatSettings(sets)
			if err != nil {
				return err
			}
			if err := outsideRuns(cmd.Context(), out); err != nil {
				return err
			}
			f, err := export.New(to, settings)
			if err != nil {
				return err
			}
			names := []string{chain.BatchName}
			if p, ok := f.(export.PairReader); ok && p.ReadsPairs() {
				names = append(names, chain.PairsName)
			}
			from, err := rowsOf(cmd.Context(), args, iteration, names)
			if err != nil {
				return err
			}
			made, err := export.WriteFrom(cmd.Context(), to, f, from, out)
			if err != nil {
				return err
			}
			return e.print(made, func(w io.Writer) {
				rows := fmt.Sprintf("%d rows", made.Rows)
				if made.Records > 0 && made.Records != made.Rows {
					rows += fmt.Sprintf(" as %d records", made.Records)
				}
				fmt.Fprintf(w, "%s in %s\n", rows, strings.Join(made.Files, ", "))
				for _, why := range slices.Sorted(maps.Keys(made.Left)) {
					fmt.Fprintf(w, "%d left out: %s\n", made.Left[why], why)
				}
			})
		},
	}
	c.Flags().StringVar(&to, "to", "", "the format: "+strings.Join(export.Formats(), ", "))
	c.Flags().StringVar(&out, "out", "", "the directory to write to")
	c.Flags().IntVar(&iteration, "iteration", -1, "the iteration of a run, from 0; -1: all committed ones")
	c.Flags().StringArrayVar(&sets, "set", nil, "a setting of the format, key=value; may be repeated")
	return c
}

// outsideRuns refuses a directory of a run, or inside of one: what lies there is the run's, which tidies it and holds it to its
// manifests.
func outsideRuns(ctx context.Context, out string) error {
	dir, err := files.Abs(out)
	if err != nil {
		return err
	}
	for ; ; dir = files.Parent(dir) {
		if d, err := run.Read(ctx, dir); err == nil {
			if done, err := d.Committed(ctx); err == nil && len(done) > 0 {
				return &usageError{fmt.Errorf("--out %s lies in the run %s; name a directory outside of it", out, dir)}
			}
		}
		if parent := files.Parent(dir); parent == dir || parent == "" || parent == "." {
			return nil
		}
	}
}

// formatSettings reads key=value settings of a format.
func formatSettings(sets []string) (map[string]any, error) {
	out := map[string]any{}
	for _, s := range sets {
		key, text, ok := strings.Cut(s, "=")
		var value any
		if !ok || key == "" || yaml.Unmarshal([]byte(text), &value) != nil {
			return nil, setting.Errorf("--set "+s, "want key=value")
		}
		out[key] = value
	}
	return out, nil
}

// rowsOf are the files of rows of runs, with what their recipes say of them, or the files themselves.
func rowsOf(ctx context.Context, args []string, iteration int, names []string) (export.Source, error) {
	var out export.Source
	var origins []export.Origin
	for _, arg := range args {
		if there, err := files.Exists(ctx, arg); err == nil && !there {
			return out, &usageError{fmt.Errorf("%s: there is no such file, and no run", arg)}
		}
		d, err := run.Read(ctx, arg)
		if err != nil {
			out.Files = append(out.Files, arg)
			origins = append(origins, export.Origin{})
			continue
		}
		done, err := d.Committed(ctx)
		if err != nil {
			return out, err
		}
		if iteration >= 0 {
			if _, _, err := d.Iteration(ctx, iteration); err != nil {
				return out, err
			}
			done = []int{iteration}
		}
		for _, i := range done {
			for _, name := range names {
				paths, err := run.RowFiles(ctx, d.IterPath(i), name)
				if err != nil {
					return out, err
				}
				out.Files = append(out.Files, paths...)
			}
		}
		of, err := originOf(ctx, d, done)
		if err != nil {
			return out, err
		}
		origins = append(origins, of)
	}
	if len(origins) == 0 {
		return out, nil
	}
	out.Origin = origins[0]
	for i, of := range origins {
		if !reflect.DeepEqual(of, origins[0]) {
			return out, &usageError{fmt.Errorf("%s and %s sampled or put prompts to their models in different ways; export each by itself",
				args[0], args[i])}
		}
	}
	return out, nil
}
