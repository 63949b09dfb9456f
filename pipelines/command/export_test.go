package command

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/export"
	"github.com/millrace/millrace/transforms/files"
)

// judged is the part of the short recipe up to the outcomes.
var judged = func() string {
	text, _, _ := strings.Cut(shortRecipe, "reward:\n")
	return strings.Replace(text, ", candidate_k: 2, candidate_min_p: 0.001", "", 1) + "limits: {dead_share: 0.9}\n"
}()

// ranWith runs a recipe with other settings and gives its directory.
func ranWith(t *testing.T, text string, sets ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	recipe := filepath.Join(t.TempDir(), "short.yaml")
	if err := os.WriteFile(recipe, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", recipe, "--set", "run=" + dir, "--set", "iterations=1"}
	for _, s := range sets {
		args = append(args, "--set", s)
	}
	want(t, exitOK, nil, args...)
	return dir
}

// exported exports a run and gives the sidecar.
func exported(t *testing.T, run, format string, more ...string) export.Sidecar {
	t.Helper()
	args := append([]string{"export", run, "--json", "--to", format, "--out", filepath.Join(t.TempDir(), "out")}, more...)
	return decode[export.Sidecar](t, want(t, exitOK, nil, args...))
}

// An export of a run says how the run sampled, put its prompts, and wrote them as tokens.
func TestExportSaysHowARunSampled(t *testing.T) {
	run, _ := aRun(t)
	out := exported(t, run, "prime-rl")
	path := filepath.Join(run, "iter-00001", "policy", "millrace_tokenizer.json")
	digest, err := files.Digest(context.Background(), files.Info{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if out.Sampling == nil || *out.Sampling != (export.Sampling{Temperature: 1}) || out.Chat == nil || out.Chat.Template ||
		out.Tokenizer != digest {
		t.Errorf("%+v", out.Origin)
	}
	if len(out.LogProbs["old_logp"]) == 0 || len(out.Models["policy"]) == 0 || len(out.Files) != 2 {
		t.Errorf("log-probs %v, models %v, files %q", out.LogProbs, out.Models, out.Files)
	}
	// The files of the run alone do not say it.
	rows := filepath.Join(run, "iter-00000", "batch-00000-of-00001.parquet")
	want(t, exitUsage, []string{"temperature: is not known"}, "export", rows, "--to", "prime-rl", "--out", filepath.Join(t.TempDir(), "out"))
	if out := exported(t, rows, "prime-rl", "--set", "temperature=1"); out.Sampling != nil || out.Tokenizer != "" {
		t.Errorf("%+v", out.Origin)
	}
}

// Of warm samples the log-probs at their temperature go to a trainer that divides by it, and none to one that does not.
func TestExportOfWarmSamples(t *testing.T) {
	run := ranWith(t, judged, "rollout.temperature=0.7", "update.losses=[{name: ppo}]", "advantage={kind: grpo, groups: all}",
		"evaluate.every=0")
	out := exported(t, run, "prime-rl")
	if defs := out.LogProbs["tempered_old_logp"]; len(defs) != 1 || defs[0].Temperature != 0.7 || len(out.LogProbs) != 1 {
		t.Errorf("log-probs %v", out.LogProbs)
	}
	want(t, exitUsage, []string{"temperature 1"}, "export", run, "--to", "tinker", "--out", filepath.Join(t.TempDir(), "out"))
}

// Log-probs of a run that sampled from a nucleus are refused; its texts are not.
func TestExportOfANucleus(t *testing.T) {
	run := ranWith(t, judged, "kind=label", "rollout.top_p=0.5")
	want(t, exitUsage, []string{"top-p 0.5"}, "export", run, "--to", "slime", "--out", filepath.Join(t.TempDir(), "out"))
	exported(t, run, "trl-kto")
}

// Pairs that a run kept are exported as they are, with the texts of its responses.
func TestExportOfKeptPairs(t *testing.T) {
	run := ranWith(t, judged, "kind=policy", "pairs={strategy: all, limit: 1, reference: reference_logp}", "update.losses=[{name: dpo}]",
		"rollout.max_new_tokens=40", "rollout.samples=8", "prompts.count=16", "evaluate.every=0")
	kept, err := filepath.Glob(filepath.Join(run, "iter-00000", "pairs-*.parquet"))
	if err != nil || len(kept) == 0 {
		t.Fatalf("%v: the run keeps no pairs", err)
	}
	pairs := decode[struct{ Rows int }](t, want(t, exitOK, nil, "export", kept[0], "--json", "--to", "jsonl", "--out",
		filepath.Join(t.TempDir(), "out"))).Rows
	out := exported(t, run, "trl-dpo")
	if pairs == 0 || out.Records != pairs || !strings.Contains(strings.Join(out.From, " "), "pairs-") {
		t.Errorf("%d records of %d pairs, from %q", out.Records, pairs, out.From)
	}
	if out := exported(t, run, "trl-dpo", "--set", "pairs=made"); strings.Contains(strings.Join(out.From, " "), "pairs-") {
		t.Errorf("pairs are read where they are made: %q", out.From)
	}
}

// What is not there is a mistake of the command, by its name.
func TestExportOfNothing(t *testing.T) {
	want(t, exitUsage, []string{"nowhere: there is no such file, and no run"}, "export", "nowhere", "--to", "trl-kto", "--out",
		filepath.Join(t.TempDir(), "out"))
}
