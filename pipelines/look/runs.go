package look

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/transforms/files"
)

// RunLine is what is said of a run in a list of runs.
type RunLine struct {
	Run        string    `json:"run"`
	Kind       string    `json:"kind"`
	Iterations int       `json:"iterations"` // committed
	Of         int       `json:"of"`
	Metric     string    `json:"metric,omitempty"` // the last accuracy on held-out prompts
	Value      *float64  `json:"value,omitempty"`
	Best       *run.Best `json:"best,omitempty"`
	Bytes      int64     `json:"bytes"`
	Forked     string    `json:"forked,omitempty"` // the run that it began as
	Fault      string    `json:"fault,omitempty"`  // why it cannot be read
}

// Runs lists the runs in a directory, and those one folder below; the directory may be a run itself.
func Runs(ctx context.Context, dir string) ([]RunLine, error) {
	at, err := files.Abs(dir)
	if err != nil {
		return nil, err
	}
	if !files.IsURL(at) {
		if _, err := os.ReadDir(at); err != nil && !errors.Is(err, fs.ErrNotExist) { // which a pattern would find nothing in
			return nil, err
		}
	}
	found := map[string]bool{}
	for _, pattern := range []string{recipe.ConfigName, "*/" + recipe.ConfigName, "*/*/" + recipe.ConfigName} {
		configs, err := files.ListIn(ctx, at, pattern)
		if err != nil {
			return nil, err
		}
		for _, c := range configs {
			if parent := files.Parent(c); files.Base(parent) != run.ConfigsName {
				found[parent] = true
			}
		}
	}
	var out []RunLine
	for _, path := range slices.Sorted(maps.Keys(found)) {
		out = append(out, lineOf(ctx, path))
	}
	return out, nil
}

// lineOf sums up a run. One that cannot be read is in the list with what is wrong.
func lineOf(ctx context.Context, path string) RunLine {
	out := RunLine{Run: path}
	err := func() error {
		d, err := run.Read(ctx, path)
		if err != nil {
			return err
		}
		listed, err := files.Below(ctx, d.Path)
		if err != nil {
			return err
		}
		for _, f := range listed {
			out.Bytes += f.Size
		}
		done, err := d.Committed(ctx)
		if err != nil {
			return err
		}
		out.Iterations = len(done)
		r, err := d.Recipe(ctx)
		if err != nil {
			return err
		}
		out.Kind, out.Of = r.Kind, r.Iterations
		if f, err := d.ReadFork(ctx); err != nil {
			return err
		} else if f != nil {
			out.Forked = f.Run
		}
		measured, err := d.ReadMeasurements(ctx)
		if err != nil {
			return err
		}
		for _, m := range measured {
			if name := m.AccuracyName(); name != "" {
				x := m.Metrics[name]
				out.Metric, out.Value = name, &x
			}
		}
		if best, ok := run.BestOf(measured, r.Evaluate.Best); ok {
			out.Best = &best
		}
		return nil
	}()
	if err != nil {
		out.Fault = err.Error()
	}
	return out
}

// Usage is the room that an iteration takes, in bytes.
type Usage struct {
	Iteration  int   `json:"iteration"` // -1: what belongs to no iteration
	Models     int64 `json:"models"`
	Optimizers int64 `json:"optimizers"`
	Rows       int64 `json:"rows"`
	Other      int64 `json:"other"`
}

// Total is all of it.
func (u Usage) Total() int64 { return u.Models + u.Optimizers + u.Rows + u.Other }

// DiskUsage says what takes room in a run: its iterations in order, then what belongs to none.
func DiskUsage(ctx context.Context, d *run.Dir) ([]Usage, error) {
	listed, err := files.Below(ctx, d.Path)
	if err != nil {
		return nil, err
	}
	done, err := d.Committed(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Usage, len(done)+1)
	index := map[string]int{}
	for i := range done {
		out[i].Iteration, index[files.Base(d.IterPath(i))] = i, i
	}
	out[len(done)].Iteration = -1
	for _, f := range listed {
		top, rest, _ := strings.Cut(f.Name, "/")
		at, ok := index[top]
		if !ok {
			at, rest = len(done), f.Name
		}
		folder, _, below := strings.Cut(rest, "/")
		switch u := &out[at]; {
		case below && run.IsState(folder):
			u.Optimizers += f.Size
		case below && run.IsModel(folder), strings.HasPrefix(folder, chain.StartPrefix):
			u.Models += f.Size
		case ok && strings.HasSuffix(rest, ".parquet"):
			u.Rows += f.Size
		default:
			u.Other += f.Size
		}
	}
	return out, nil
}

// Difference is what two runs differ in: settings, and figures after their last evaluations.
type Difference struct {
	A        string          `json:"a"`
	B        string          `json:"b"`
	Settings []recipe.Change `json:"settings"`
	Figures  []Figure        `json:"figures"`
}

// Figure is one that both runs have.
type Figure struct {
	Name string   `json:"name"`
	A    *float64 `json:"a"`
	B    *float64 `json:"b"`
}

// Diff compares two runs: their recipes as resolved, and the metrics that each measured last.
func Diff(ctx context.Context, a, b *run.Dir) (Difference, error) {
	out := Difference{A: a.Path, B: b.Path}
	var configs [2][]byte
	var last [2]map[string]float64
	for k, d := range []*run.Dir{a, b} {
		if _, err := d.Recipe(ctx); err != nil { // which holds it to the manifests
			return out, err
		}
		var err error
		if configs[k], err = files.Read(ctx, files.Join(d.Path, recipe.ConfigName), run.MaxStateBytes); err != nil {
			return out, err
		}
		measured, err := d.ReadMeasurements(ctx)
		if err != nil {
			return out, err
		}
		last[k] = map[string]float64{"iterations": 0}
		for _, m := range measured {
			maps.Copy(last[k], m.Metrics)
			last[k]["iterations"] = float64(m.Iterations)
		}
	}
	out.Settings = recipe.Changes(configs[0], configs[1])
	names := map[string]bool{}
	for _, of := range last {
		for name := range of {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f := Figure{Name: name}
		if x, ok := last[0][name]; ok {
			f.A = &x
		}
		if x, ok := last[1][name]; ok {
			f.B = &x
		}
		out.Figures = append(out.Figures, f)
	}
	return out, nil
}
