package method_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/pipelines/report"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/pipelines/show"
	"github.com/millrace/millrace/pipelines/telemetry/trackers/trackerstest"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/provingground"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// sampled is a recipe that draws from two sources by a curriculum and backfills.
const sampled = `
kind: policy
iterations: 2
prompts:
  source: mixture
  count: 6
  mixture: [{name: short, weight: 2, source: chain, chain: {max_steps: 3}}, {name: long, weight: 1, source: chain, chain: {min_steps: 4}}]
  curriculum: {rule: variance}
rollout: {samples: 4, max_new_tokens: 45}
label: {verifier: {kind: proving_ground}}
mixed: {backfill: {groups: 7, rounds: 3}}
advantage: {kind: grpo}
update: {losses: [{name: ppo}], optimizer: {lr: 1e-3}}
evaluate: {every: 0}
keep_exchange: true
`

// iterateNoting runs a recipe from the embedded policy and returns what it noted.
func iterateNoting(t *testing.T, dir, text string, sets ...string) string {
	t.Helper()
	models := filepath.Join(filepath.Dir(dir), "models") // the same for all runs of a test: where it lies is part of the recipe
	if err := quickstart.Unpack(models); err != nil {
		t.Fatal(err)
	}
	r, err := parse([]byte(text), append([]string{"run=" + dir, "policy.path=" + filepath.Join(models, "policy")}, sets...))
	if err != nil {
		t.Fatal(err)
	}
	r.Policy.Path = filepath.Join(models, "policy")
	var notes bytes.Buffer
	show := progress.Start(&notes, "test")
	err = iterate(context.Background(), r, show)
	show.Done()
	if err != nil {
		t.Fatal(err)
	}
	return notes.String()
}

func manifestFiles(t *testing.T, dir string, iteration int) map[string]string {
	t.Helper()
	m, _, err := (&run.Dir{Path: dir}).ReadManifest(t.Context(), iteration)
	if err != nil {
		t.Fatal(err)
	}
	return m.Files
}

// checkLedger holds a ledger to its lines, and both to the rows of the batch.
func checkLedger(t *testing.T, dir string, samples int) show.Ledger {
	t.Helper()
	l, err := run.ReadLedger(t.Context(), dir)
	if err != nil || l == nil {
		t.Fatal(err, l)
	}
	groups, err := files.ReadLines[label.PromptGroup](t.Context(), filepath.Join(dir, run.GroupsName))
	if err != nil {
		t.Fatal(err)
	}
	kept, seen := map[string]bool{}, map[string]bool{}
	for _, g := range groups {
		if seen[g.Prompt] {
			t.Errorf("prompt %s is drawn twice", g.Prompt)
		}
		seen[g.Prompt] = true
		if g.Fate == label.FateKept {
			kept[g.Prompt] = true
		}
	}
	balanced := func(what string, f show.Fates) {
		dropped := 0
		for _, n := range f.Dropped {
			dropped += n
		}
		if f.Drawn != f.Kept+dropped+f.Dead {
			t.Errorf("%s: %d drawn, but %d kept, %d dropped, %d dead", what, f.Drawn, f.Kept, dropped, f.Dead)
		}
	}
	balanced("iteration", l.Fates)
	var rounds, levels int
	for _, r := range l.Rounds {
		balanced("round", r.Fates)
		rounds += r.Drawn
	}
	for _, v := range l.Levels {
		balanced("level "+v.Source+" "+v.Difficulty, v.Fates)
		levels += v.Drawn
	}
	if rounds != l.Drawn || levels != l.Drawn || len(groups) != l.Drawn || len(kept) != l.Kept {
		t.Errorf("%d drawn and %d kept; rounds %d, levels %d, lines %d of which %d kept", l.Drawn, l.Kept, rounds, levels, len(groups), len(kept))
	}
	names, err := run.RowFiles(t.Context(), dir, chain.BatchName)
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, name := range names {
		err := recordio.ReadFile(context.Background(), name, func(b stage.Batch) error {
			for _, id := range schemas.PromptID.Of(b) {
				rows++
				if !kept[id.String()] {
					t.Errorf("the batch holds prompt %s, which the ledger does not keep", id)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if rows != samples*l.Kept {
		t.Errorf("%d rows of %d groups", rows, l.Kept)
	}
	return *l
}

// rowsOf is the rows of files in their order.
func rowsOf(t *testing.T, names []string) []byte {
	t.Helper()
	var all []stage.Batch
	err := recordio.ReadMerged(context.Background(), names, func(b stage.Batch) error { all = append(all, b); return nil })
	if err != nil {
		t.Fatal(err)
	}
	joined, err := schemas.Append(all...)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := joined.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Rounds go on until enough groups are mixed, the next iteration goes on where they ended, and neither the size of records
// nor the runner nor a restart changes a byte.
func TestBackfill(t *testing.T) {
	if testing.Short() {
		t.Skip("several runs")
	}
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	iterateNoting(t, whole, sampled)
	first, second := checkLedger(t, filepath.Join(whole, "iter-00000"), 4), checkLedger(t, filepath.Join(whole, "iter-00001"), 4)
	if first.Next != 6*len(first.Rounds) || second.Next != first.Next+6*len(second.Rounds) {
		t.Errorf("iterations end at %d and %d after %d and %d rounds of 6", first.Next, second.Next, len(first.Rounds), len(second.Rounds))
	}
	if first.Kept > 7 || first.Kept < 7 && first.Note == "" || len(first.Rounds) < 2 {
		t.Errorf("%+v; want 7 groups of more than one round, or a note", first)
	}
	m, err := measurementsOf(t.Context(), whole)
	if err != nil || m[0].Metrics["groups_kept"] != float64(first.Kept) || m[0].Metrics["rounds"] != float64(len(first.Rounds)) {
		t.Errorf("metrics %v, %v", m, err)
	}
	data, err := look.ReportData(context.Background(), whole)
	if err != nil || !slices.ContainsFunc(data.Tables, func(t report.Table) bool {
		return strings.HasPrefix(t.Caption,
			"Prompts drawn by whole")
	}) {
		t.Errorf("the report has no table of the ledger: %v", err)
	}

	elsewhere := filepath.Join(dir, "elsewhere")
	iterateNoting(t, elsewhere, sampled, "runner.name=direct", "prompts.per_record=2")
	for i := range 2 {
		if a, b := manifestFiles(t, whole, i), manifestFiles(t, elsewhere, i); !reflect.DeepEqual(a, b) {
			t.Errorf("another runner and other records left other files of iteration %d:\n%v\n%v", i, a, b)
		}
	}

	// More files hold the same rows, and nothing else differs.
	sharded := filepath.Join(dir, "sharded")
	iterateNoting(t, sharded, sampled, "output.shards=3")
	for i := range 2 {
		a, b := manifestFiles(t, whole, i), manifestFiles(t, sharded, i)
		var rows [2][]byte
		for k, dir := range []string{whole, sharded} {
			names, err := run.RowFiles(t.Context(), (&run.Dir{Path: dir}).IterPath(i), chain.BatchName)
			if err != nil || len(names) != 1+2*k {
				t.Fatalf("iteration %d: files %v, %v", i, names, err)
			}
			rows[k] = rowsOf(t, names)
		}
		isBatch := func(name, _ string) bool { return strings.HasPrefix(name, chain.BatchName+"-") }
		maps.DeleteFunc(a, isBatch)
		maps.DeleteFunc(b, isBatch)
		if !reflect.DeepEqual(a, b) {
			t.Errorf("more files of rows left other files of iteration %d:\n%v\n%v", i, a, b)
		}
		if !bytes.Equal(rows[0], rows[1]) {
			t.Errorf("more files hold other rows of iteration %d", i)
		}
	}

	// Killed in the second iteration, with all it had materialised, and gone on with other records.
	resumed := filepath.Join(dir, "resumed")
	if err := os.CopyFS(resumed, os.DirFS(whole)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(filepath.Join(resumed, ".lock")), os.Remove(filepath.Join(resumed, "iter-00001",
		"manifest.json"))); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(resumed, recipe.ConfigName))
	if err != nil {
		t.Fatal(err)
	}
	r, err := parse(config, []string{"run=" + resumed, "prompts.per_record=1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.Policy.Path); err != nil {
		t.Fatal(err)
	}
	show := progress.Start(&bytes.Buffer{}, "test")
	err = iterate(context.Background(), r, show)
	show.Done()
	if err != nil {
		t.Fatal(err)
	}
	if a, b := manifestFiles(t, whole, 1), manifestFiles(t, resumed, 1); !reflect.DeepEqual(a, b) {
		t.Errorf("a resumed run left other files:\n%v\n%v", a, b)
	}
}

// When no group is mixed the update has nothing to learn from: the policy stays as it is, and notes say so.
func TestBackfillExhausted(t *testing.T) {
	if testing.Short() {
		t.Skip("a run")
	}
	ran := filepath.Join(t.TempDir(), "none")
	notes := iterateNoting(t, ran, sampled, "mixed.low=0.6", "mixed.high=0.7", "prompts.count=4", "mixed.backfill.groups=2",
		"mixed.backfill.rounds=2", "iterations=1")
	l := checkLedger(t, filepath.Join(ran, "iter-00000"), 4)
	if l.Kept != 0 || l.Drawn != 8 || !strings.Contains(l.Note, "exhausted: 0 of 2 groups after 2 rounds") || !strings.Contains(notes,
		l.Note) {
		t.Errorf("%+v, notes %q", l, notes)
	}
	if _, err := look.ReportData(context.Background(), ran); err != nil {
		t.Errorf("report of a run without a row: %v", err)
	}
	in, err := look.Inspect(context.Background(), filepath.Join(ran, "iter-00000", run.LedgerName))
	if err != nil || in.Kind != "ledger" || in.Ledger == nil || in.Ledger.Drawn != 8 {
		t.Errorf("inspect: %+v, %v", in, err)
	}
	before, err := os.ReadFile(filepath.Join(ran, recipe.ConfigName))
	if err != nil {
		t.Fatal(err)
	}
	r, err := parse(before, []string{"run=" + ran})
	if err != nil {
		t.Fatal(err)
	}
	weights := func(dir string) string {
		raw, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return commit.Digest(raw)
	}
	if weights(filepath.Join(ran, "iter-00000", "policy")) != weights(r.Policy.Path) {
		t.Error("an update without a row moved the policy")
	}
}

// A source that is not to wrap ends the run when it has no prompts left.
func TestSourceEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("a run")
	}
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(1, 1))
	var lines bytes.Buffer
	for range 6 {
		c := provingground.Draw(random.Float64)
		fmt.Fprintf(&lines, "{\"q\": %q, \"a\": \"%d\", \"steps\": %d}\n", c.Prompt(), c.Answer(), len(c.Steps))
	}
	path := filepath.Join(dir, "chains.jsonl")
	if err := os.WriteFile(path, lines.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	text := sampled[:strings.Index(sampled, "iterations:")] + "iterations: 4\nprompts: {source: file, count: 4, file: {path: " + path +
		", exhausted: stop, fields: {prompt: q, answer: a, difficulty: steps}}}\n" + sampled[strings.Index(sampled, "rollout:"):]
	text = strings.Replace(text, "{backfill: {groups: 7, rounds: 3}}", "{}", 1)
	ran := filepath.Join(dir, "run")
	notes := iterateNoting(t, ran, text)
	done, err := (&run.Dir{Path: ran}).Committed(t.Context())
	if err != nil || len(done) != 2 {
		t.Fatalf("%d iterations, %v; want 4 prompts, 2 prompts, and the end", len(done), err)
	}
	if !strings.Contains(notes, "chains.jsonl has 2 prompts fewer") || !strings.Contains(notes, "ends after 2 of 4") {
		t.Errorf("notes %q", notes)
	}
	if l := checkLedger(t, filepath.Join(ran, "iter-00001"), 4); l.Drawn != 2 || l.Rounds[0].Asked != 4 || l.Levels[0].Difficulty == "" {
		t.Errorf("%+v", l)
	}

	// What it ends with is evaluated, once.
	evaluated := filepath.Join(dir, "evaluated")
	sets := []string{"prompts.file.test_share=0.4", "prompts.count=2", "iterations=9", "evaluate.every=7", "evaluate.prompts=2",
		"evaluate.samples=2"}
	server := trackerstest.NewMLflow(t) // which has the iterations before the last is evaluated
	sets = append(sets, "telemetry.trackers=[{kind: mlflow, url: '"+server.URL+"', seconds: 30}]")
	iterateNoting(t, evaluated, text, sets...)
	measured, err := measurementsOf(t.Context(), evaluated)
	if err != nil || len(measured) < 3 || len(measured) > 5 { // with the start
		t.Fatalf("%d measurements, %v", len(measured), err)
	}
	for k, m := range measured {
		if ends := k == 0 || k == len(measured)-1; (m.Evaluation != nil) != ends || (m.Metrics["avg@2_stderr"] > 0) && !ends {
			t.Errorf("measurement %d of %d: %+v", k, len(measured), m)
		}
	}
	points, want := 0, 0
	for _, m := range measured {
		want += len(m.Figures())
	}
	for _, curve := range server.Runs()[0].Metrics {
		points += len(curve)
	}
	if got := server.Runs()[0]; points != want || len(got.Metrics["avg_at_2"]) != 2 || got.Status != "FINISHED" {
		t.Errorf("the tracker has %d points of %d, %+v, %s", points, want, got.Metrics["avg_at_2"], got.Status)
	}
	last := (&run.Dir{Path: evaluated}).IterPath(len(measured) - 2)
	digest, err := files.Digest(t.Context(), files.Info{Path: filepath.Join(last, run.MetricsName)})
	if manifest := manifestFiles(t, evaluated, len(measured)-2); err != nil || manifest[run.MetricsName] != digest {
		t.Errorf("the manifest has other metrics: %v", err)
	}
	before, err := os.ReadFile(filepath.Join(last, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	iterateNoting(t, evaluated, text, sets...)
	if after, err := os.ReadFile(filepath.Join(last, "manifest.json")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("going on after the end changes the last iteration, %v", err)
	}
}

// A split without prompts is a mistake, not the end of a run.
func TestSourceWithoutPrompts(t *testing.T) {
	if testing.Short() {
		t.Skip("a run")
	}
	dir := t.TempDir()
	if err := quickstart.Unpack(filepath.Join(dir, "models")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "one.jsonl")
	if err := os.WriteFile(path, []byte(`{"q": "1a+2b+3c+4=", "a": "0"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	text := sampled[:strings.Index(sampled, "prompts:")] + "prompts: {source: file, split: train, file: {path: " + path +
		", test_share: 1, fields: {prompt: q, answer: a}}}\n" + sampled[strings.Index(sampled, "rollout:"):]
	r, err := parse([]byte(text), []string{"run=" + filepath.Join(dir, "run"), "policy.path=" + filepath.Join(dir, "models", "policy")})
	if err != nil {
		t.Fatal(err)
	}
	show := progress.Start(&bytes.Buffer{}, "test")
	defer show.Done()
	if err := iterate(context.Background(), r, show); err == nil || !strings.Contains(err.Error(), "prompts.split") {
		t.Errorf("%v", err)
	}
}

func TestSamplingIsPlanned(t *testing.T) {
	for want, sets := range map[string][]string{
		"mixed.backfill.groups":     {"mixed.backfill.groups=100"},
		"mixed.backfill.rounds":     {"mixed.backfill.rounds=0"},
		"mixed.low":                 {"mixed.low=2"},
		"prompts.curriculum.floor":  {"prompts.curriculum.floor=0"},
		"prompts.mixture[0].weight": {"prompts.mixture[0].weight=0"},
		"mixed.backfill: needs":     {"prompts.mixture[0].chain.responses=right", "prompts.mixture[1].chain.responses=right"},
	} {
		_, err := parse([]byte(sampled), append([]string{"run=x", "policy.path=y"}, sets...))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v: %v, want %s", sets, err, want)
		}
	}
	r, err := parse([]byte(sampled), []string{"run=x", "policy.path=y"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := method.New(r)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := method.Plan(m, chain.Lengths{})
	if err != nil {
		t.Fatal(err)
	}
	if s := plan[0].Streams[0].Size; s.Prompts != 18 || s.Rows != 72 {
		t.Errorf("%+v, %v; want the most that 3 rounds hold", s, err)
	}
}

// Every phase of an evolution and both streams of a distillation are planned.
func TestPhases(t *testing.T) {
	phases := func(name string) []method.PlannedPhase {
		r, err := recipes.Open(t.Context(), name, nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := method.New(r)
		if err != nil {
			t.Fatal(err)
		}
		p, err := method.Plan(m, chain.Lengths{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	names := func(s method.PlannedStream) (out []string) {
		for _, stage := range s.Stages {
			out = append(out, stage.Name)
		}
		return out
	}
	seft := phases("seft")
	if len(seft) != 3 || seft[2].Iterations != 2 || seft[0].Streams[0].Size.Rows != 4000 || seft[2].Streams[0].Size.Rows != 1000 {
		t.Errorf("%+v", seft)
	}
	if a, b := names(seft[0].Streams[0]), names(seft[2].Streams[0]); !slices.Contains(a, "update_reviser") || !slices.Contains(b,
		"update_policy") {
		t.Errorf("stages %v and %v", a, b)
	}
	for _, name := range []string{"adpa", "adpa-dpo"} {
		adpa := phases(name)
		if len(adpa) != 1 || len(adpa[0].Streams) != 2 || !slices.Contains(names(adpa[0].Streams[1]), "target_adpa") ||
			adpa[0].Streams[1].Size.Rows != 1000 {
			t.Errorf("%s: %+v", name, adpa)
		}
	}
	if d := phases("distrl"); !slices.Contains(names(d[0].Streams[0]), "update_reward") {
		t.Errorf("the update of the reward model is not planned: %+v", d)
	}
	if raw, err := json.Marshal(seft); err != nil || !bytes.Contains(raw, []byte(`"adaptive reviser"`)) {
		t.Errorf("%s, %v", raw, err)
	}
}
