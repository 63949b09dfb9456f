package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

func init() { commands = append(commands, newFilter) }

func newFilter(e *env) *cobra.Command {
	var j job
	var a asked
	var format string
	var least, most float64
	c := &cobra.Command{
		Use:   "filter PROMPTS... --policy MODEL --out DIR",
		Short: "Keep the prompts that a policy solves at a rate in a range, with their pass rates",
		Long: "Sample responses to every prompt of files (JSONL, JSON, Parquet, packed or not; folders and patterns), judge them, and write\n" +
			"the prompts whose pass rate lies between --min and --max as they were, with pass_rate, pass_right and pass_samples, to\n" +
			"DIR/prompts.jsonl; the others, with why they were removed, to DIR/removed.jsonl. DIR/rollouts is the run that has sampled: the\n" +
			"same command goes on with it, and other bounds do not sample again.",
		Example: "  millrace filter problems.jsonl --policy models/small --out kept --min 0.1 --max 0.9",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.named(); err != nil {
				return err
			}
			if !(least >= 0 && least <= most && most <= 1) {
				return &usageError{fmt.Errorf("--min %v and --max %v: want 0 <= min <= max <= 1", least, most)}
			}
			if err := setting.OneOf("--format", format, formatJSONL, formatParquet); err != nil {
				return err
			}
			out := filtered{Out: j.out, Min: least, Max: most, Removed: map[string]int{}}
			if j.out != "" {
				j.out = files.Join(j.out, "rollouts")
			}
			if err := j.from(cmd.Context(), args, false); err != nil {
				return err
			}
			a.into(j.tree)
			done, err := j.run(cmd, e)
			if err != nil {
				return err
			}
			if err := out.write(cmd.Context(), j.recipe.Prompts.Of, done, format); err != nil {
				return err
			}
			return e.print(out, out.text)
		},
	}
	f := c.Flags()
	a.register(f)
	f.Float64Var(&least, "min", 0.1, "prompts of a smaller pass rate are removed")
	f.Float64Var(&most, "max", 0.9, "prompts of a larger pass rate are removed")
	f.StringVar(&format, "format", formatJSONL, "of the prompts that are kept: jsonl or parquet")
	j.register(c, 256, 16)
	return c
}

// Formats of the prompts that are kept.
const (
	formatJSONL   = "jsonl"
	formatParquet = "parquet"
)

// filtered is what a filter has left.
type filtered struct {
	Out     string         `json:"out"`
	Files   []string       `json:"files"`
	Min     float64        `json:"min"`
	Max     float64        `json:"max"`
	Prompts int            `json:"prompts"` // of the files, each once
	Kept    int            `json:"kept"`
	Removed map[string]int `json:"removed,omitempty"` // by why
	Dead    int            `json:"dead"`              // rows that the run has set aside
}

// Why a prompt is removed.
const (
	tooHard   = "too_hard"
	tooEasy   = "too_easy"
	noOutcome = "no_outcome" // no response could be judged
	notThere  = "dead"       // no response is there
)

// tally is what is known of the responses to a prompt.
type tally struct {
	samples, judged int
	right           float64
}

// talliesOf counts the responses of a run by their prompts.
func talliesOf(ctx context.Context, paths []string) (map[uuid.UUID]tally, error) {
	out := map[uuid.UUID]tally{}
	for _, path := range paths {
		err := recordio.ReadFile(ctx, path, func(b stage.Batch) error {
			ids, err := schemas.PromptID.Find(b)
			if err != nil {
				return err
			}
			outcomes, err := schemas.Outcome.Find(b)
			if err != nil {
				return err
			}
			for i, id := range ids {
				t := out[id]
				t.samples++
				if y, ok := outcomes.At(i); ok {
					t.judged, t.right = t.judged+1, t.right+float64(y)
				}
				out[id] = t
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// why is the reason to remove a prompt, "" where it is kept.
func (f *filtered) why(t tally) string {
	rate := t.right / float64(max(t.judged, 1))
	switch {
	case t.samples == 0:
		return notThere
	case t.judged == 0:
		return noOutcome
	case rate < f.Min:
		return tooHard
	case rate > f.Max:
		return tooEasy
	}
	return ""
}

// write divides the prompts of the source into those that are kept and those that are not, in their order.
func (f *filtered) write(ctx context.Context, source prompts.Source, done jobResult, format string) (err error) {
	file, ok := source.(prompts.File)
	if !ok {
		return setting.Errorf("prompts.source", "is no file, whose prompts could be kept as they are")
	}
	f.Dead = done.Dead
	tallies, err := talliesOf(ctx, done.Files)
	if err != nil {
		return err
	}
	kept, err := newKept(ctx, f.Out, format)
	if err != nil {
		return err
	}
	defer kept.Abort()
	removed, err := files.Create(ctx, files.Join(f.Out, "removed.jsonl"))
	if err != nil {
		return err
	}
	defer removed.Abort()
	err = file.EachPrompt(ctx, func(id uuid.UUID, row []byte) error {
		f.Prompts++
		t := tallies[id]
		more := map[string]any{"pass_rate": nil, "pass_right": t.right, "pass_samples": t.judged}
		if t.judged > 0 {
			more["pass_rate"] = t.right / float64(t.judged)
		}
		why := f.why(t)
		if why == "" {
			f.Kept++
			line, err := withFields(row, more)
			if err != nil {
				return err
			}
			return kept.Write(line)
		}
		f.Removed[why]++
		more["removed"] = why
		line, err := withFields(row, more)
		if err == nil {
			_, err = removed.Write(append(line, '\n'))
		}
		return err
	})
	if err != nil {
		return err
	}
	path, err := kept.Commit()
	if err != nil {
		return err
	}
	if err := removed.Commit(true); err != nil {
		return err
	}
	other := map[string]string{formatJSONL: formatParquet, formatParquet: formatJSONL}[format] // of a filter with other bounds
	if err := files.Remove(ctx, files.Join(f.Out, "prompts."+other)); err != nil {
		return err
	}
	f.Files = []string{path, files.Join(f.Out, "removed.jsonl")}
	raw, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return files.Write(ctx, files.Join(f.Out, "filter.json"), append(raw, '\n'), true)
}

// withFields adds fields to an object of JSON, whose own stay as they are written, but for those that go by the same names.
func withFields(row []byte, more map[string]any) ([]byte, error) {
	var own map[string]json.RawMessage
	if json.Unmarshal(row, &own) == nil {
		taken := false
		for key := range more {
			_, there := own[key]
			taken = taken || there
			delete(own, key)
		}
		if taken {
			var err error
			if row, err = json.Marshal(own); err != nil {
				return nil, err
			}
		}
	}
	row = bytes.TrimSpace(row)
	out := append([]byte(nil), bytes.TrimRight(row[:len(row)-1], " \t")...)
	for _, key := range slices.Sorted(maps.Keys(more)) {
		value, err := json.Marshal(more[key])
		if err != nil {
			return nil, err
		}
		if out[len(out)-1] != '{' {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, "%q:%s", key, value)
	}
	return append(out, '}'), nil
}

func (f filtered) text(w io.Writer) {
	fmt.Fprintf(w, "%d of %d prompts have a pass rate in [%v, %v], in %s\n", f.Kept, f.Prompts, f.Min, f.Max, f.Files[0])
	for _, why := range slices.Sorted(maps.Keys(f.Removed)) {
		fmt.Fprintf(w, "%d removed: %s\n", f.Removed[why], why)
	}
	if f.Dead > 0 {
		fmt.Fprintf(w, "%d dead rows: millrace show --dead %s\n", f.Dead, files.Join(f.Out, "rollouts"))
	}
}
