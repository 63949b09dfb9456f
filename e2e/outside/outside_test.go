package outside_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.org/outside/kinds"
	"example.org/outside/length"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/export"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/pipelines/telemetry/trackers"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// text is a recipe in which nearly everything is this module's: the stage, its source, verifier, advantages and loss.
const text = `
kind: policy
iterations: 2
prompts: {source: counting, split: train, count: 4, counting: {step: 2}}
rollout: {samples: 4, max_new_tokens: 12}
label: {verifier: {kind: ends_with}}
length: {max: 40}
advantage: {kind: sign, groups: all, scale: 0.5}
update: {losses: [{name: entropic, scale: 2}], optimizer: {lr: 1e-3}}
evaluate: {every: 0}
`

// made is the method of the recipe on the small policy of the quickstart.
func made(t *testing.T, dir string, sets ...string) (method.Method, error) {
	t.Helper()
	if err := quickstart.Unpack(filepath.Join(dir, "models")); err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Parse([]byte(text), append([]string{"run=" + filepath.Join(dir, "run"), "policy.path=" + filepath.Join(dir, "models",
		"policy")}, sets...))
	if err != nil {
		return nil, err
	}
	return method.New(r)
}

// lengths are those of the rows that an iteration kept.
func lengths(t *testing.T, dir string) (out []int32) {
	t.Helper()
	paths, err := run.RowFiles(t.Context(), dir, chain.BatchName)
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		err := recordio.ReadFile(t.Context(), path, func(b stage.Batch) error {
			column, err := length.Length.Find(b)
			for i := range b.NumRows() {
				x, _ := column.At(i)
				out = append(out, x)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// A recipe names a stage, a column, a source, a verifier, advantages and a loss of this module; it is planned, run, and goes on.
func TestRecipeOfAnotherModule(t *testing.T) {
	dir := t.TempDir()
	m, err := made(t, dir, "telemetry.trackers=[{kind: lines, folder: "+filepath.Join(dir, "tracked")+"}]")
	if err != nil {
		t.Fatal(err)
	}
	phases, err := method.Plan(m, chain.Lengths{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range phases[0].Streams[0].Stages {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); got != "prompts rollout length label advantage keep update_policy" {
		t.Errorf("planned %s", got)
	}
	if err := method.Run(t.Context(), m, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(dir, "run", "iter-00000")
	if got := lengths(t, first); len(got) != 16 || got[0] < 1 {
		t.Errorf("lengths %v", got)
	}

	tracked(t, dir)

	// The run's own config.yaml is a recipe, and goes on with it: here after the second iteration is lost.
	manifest, err := os.ReadFile(filepath.Join(dir, "run", "iter-00001", "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "run", "iter-00001", "manifest.json")); err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Load(t.Context(), filepath.Join(dir, "run", recipe.ConfigName), nil)
	if err != nil {
		t.Fatal(err)
	}
	if own, ok := recipe.Section[length.Config](r, "length"); !ok || own.Max != 40 {
		t.Errorf("section length is %+v", own)
	}
	if m, err = method.New(r); err != nil {
		t.Fatal(err)
	}
	if err := method.Run(t.Context(), m, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(filepath.Join(dir, "run", "iter-00001", "manifest.json"))
	if err != nil || string(again) != string(manifest) {
		t.Errorf("the iteration that was done again has other files: %v", err)
	}

	f, err := export.New("texts", map[string]any{"name": "right.txt"})
	if err != nil {
		t.Fatal(err)
	}
	paths, err := run.RowFiles(t.Context(), first, chain.BatchName)
	if err != nil {
		t.Fatal(err)
	}
	out, err := export.Write(t.Context(), "texts", f, paths, filepath.Join(dir, "texts"))
	if err != nil || out.Rows+out.Left["not right"] != 16 || filepath.Base(out.Files[0]) != "right.txt" {
		t.Errorf("%+v, %v", out, err)
	}
}

// tracked holds what the tracker has to what the run measured: everything once, also when it is sent again.
func tracked(t *testing.T, dir string) {
	t.Helper()
	d, err := run.Read(t.Context(), filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	of, err := d.Trackers(t.Context())
	if err != nil || len(of) != 1 || of[0].Kind != "lines" {
		t.Fatal(of, err)
	}
	sent, err := d.Track(t.Context(), of)
	if err != nil || len(sent) != 1 || sent[0].Points != 0 || sent[0].Status != trackers.Finished {
		t.Errorf("%+v, %v", sent, err)
	}
	points, err := files.ReadLines[trackers.Point](t.Context(), sent[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	measured, err := d.ReadMeasurements(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, m := range measured {
		want += len(m.Figures())
	}
	if len(points) != want || want == 0 {
		t.Errorf("%d points, want %d", len(points), want)
	}
}

// A mistake in a section of this module is found as one in any other.
func TestMistakesInSectionsOfAnotherModule(t *testing.T) {
	for path, set := range map[string]string{
		"length.max":              "length.max=0",
		"length.maxx":             "length.maxx=1",
		"prompts.counting.step":   "prompts.counting.step=12",
		"prompts.chain":           "prompts.chain.max_steps=4",
		"advantage.scale":         "advantage.scale=0",
		"advantage.eps":           "advantage.eps=0.1",
		"update.losses[0].scale":  "update.losses[0].scale=-1",
		"update.losses[0].scalle": "update.losses[0].scalle=1",
		"label.verifier.kind":     "label.verifier.kind=ends_with_it",
		"mixed.low":               "mixed.low=7",
		"reward.value.kind":       "reward.value.kind=signed",
		"evaluate.everyy":         "evaluate.everyy=1",

		"telemetry.trackers[0].folder": "telemetry.trackers=[{kind: lines, folder: 3}]",
	} {
		_, err := made(t, t.TempDir(), set)
		var e *setting.Error
		if !errors.As(err, &e) || e.Path != path {
			t.Errorf("%s: %v, want an error at %s", set, err, path)
		}
	}
}

// counts is a method of this module: every iteration draws prompts, counts their letters with the stage below, and keeps the rows.
type counts struct{ of prompts.Config }

// Models finds none.
func (c counts) Models(_ context.Context, _ *run.Dir, it *chain.Iteration) error {
	it.First = it.Number * c.of.Count
	return nil
}

// Chain is three stages.
func (c counts) Chain(chain.Iteration) (chain.Chain, error) {
	r := recipe.Default()
	r.Prompts = c.of
	letters := kinds.Letters{}
	return chain.Chain{Nodes: []chain.Node{
		chain.Prompts(r),
		{Contract: (&letters).Contract(), Add: func(f *chain.Flow) { f.Then(stage.Apply(f.Scope, letters, f.Rows)) }},
		chain.Keep(r, chain.BatchName, "keep", 1),
		chain.End(),
	}}, nil
}

// A whole method: commits, going on after a kill, the limit of dead rows and metrics come with run.Iterate.
func TestMethodOfAnotherModule(t *testing.T) {
	of := prompts.New("counting", kinds.Counting{Step: 1})
	of.Count = 5
	s := run.Settings{Run: t.TempDir(), Seed: 3, Iterations: 3, Config: []byte("method: counts\n"), DeadShare: 0.1}
	show := progress.Start(io.Discard, "counts")
	defer show.Done()
	if err := run.Iterate(t.Context(), counts{of}, s, show); err != nil {
		t.Fatal(err)
	}
	d, err := run.Read(t.Context(), s.Run)
	if err != nil {
		t.Fatal(err)
	}
	done, err := d.Committed(t.Context())
	if err != nil || len(done) != 3 {
		t.Fatalf("%v, %v", done, err)
	}
	want, _, err := d.ReadManifest(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(d.IterPath(2), "manifest.json")); err != nil {
		t.Fatal(err)
	}
	if err := run.Iterate(t.Context(), counts{of}, s, show); err != nil {
		t.Fatal(err)
	}
	if got, _, err := d.ReadManifest(t.Context(), 2); err != nil ||
		got.Files["batch-00000-of-00001.parquet"] != want.Files["batch-00000-of-00001.parquet"] {
		t.Errorf("an iteration that was done again has other rows: %v", err)
	}
	measured, err := d.ReadMeasurements(t.Context())
	if err != nil || len(measured) != 3 {
		t.Errorf("%+v, %v", measured, err)
	}

	// Stages that set aside more rows than the limit allows end the run.
	s.Run = t.TempDir()
	of.Of = kinds.Counting{Step: 9}
	var dead *run.DeadShareError
	if err := run.Iterate(t.Context(), counts{of}, s, show); !errors.As(err, &dead) {
		t.Errorf("%v, want an error about dead rows", err)
	}
}
