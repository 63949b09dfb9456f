package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// rowsOf reads all batch files of a job, by prompt and response.
func rowsOf(t *testing.T, dir string) map[string]stage.Batch {
	t.Helper()
	out := map[string]stage.Batch{}
	paths, err := filepath.Glob(filepath.Join(dir, "iter-*", "batch-*.parquet"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %v, %v", dir, paths, err)
	}
	for _, path := range paths {
		err := recordio.ReadFile(t.Context(), path, func(b stage.Batch) error {
			for i := range b.NumRows() {
				out[fmt.Sprint(schemas.Prompt.Of(b).At(i), schemas.ResponseTokens.Of(b).Row(i))] = b.Slice(i, i+1)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// same holds columns of two jobs against each other, bit for bit, with what log-probs are.
func same(t *testing.T, a, b map[string]stage.Batch, columns ...schemas.Descriptor) {
	t.Helper()
	if len(a) != len(b) || len(a) < 100 {
		t.Fatalf("%d rows and %d", len(a), len(b))
	}
	for key, x := range a {
		for _, c := range columns {
			p, err := x.Select(c)
			if err != nil {
				t.Fatal(err)
			}
			q, err := b[key].Select(c)
			if err != nil {
				t.Fatal(err)
			}
			if !array.Equal(p.Arrow().Column(0), q.Arrow().Column(0)) {
				t.Fatalf("%s: %s is %v, and %v", key, c.Describe().Name, p.Arrow().Column(0), q.Arrow().Column(0))
			}
			want, _ := schemas.LogPOf(p, c)
			if have, _ := schemas.LogPOf(q, c); !want.Matches(have) {
				t.Fatalf("%s holds %v, and %v", c.Describe().Name, want, have)
			}
		}
	}
}

// TestJobs samples, judges, scores and hands on rows as a newcomer would, by commands alone: what comes back is what went out.
func TestJobs(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := quickstart.Unpack(at("models")); err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for i := range 40 {
		a, b, c := i%10, i/10, (i*7)%10
		fmt.Fprintf(&lines, "{\"question\": \"%da+%db*%d=\", \"gold\": \"%d\"}\n", a, b, c, (a+b)*c%10)
	}
	lines.WriteString("{\"question\": \"not a chain\", \"gold\": \"1\"}\nno JSON\n")
	if err := os.WriteFile(at("prompts.jsonl"), []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	policy, reward := at("models/policy"), at("models/reward")
	job := func(args ...string) (done struct {
		Rows, Dead, Iterations int
		Metrics                map[string]float64
	}) {
		t.Helper()
		if err := json.Unmarshal([]byte(mustRun(t, append(args, "--json")...)), &done); err != nil {
			t.Fatal(err)
		}
		return done
	}
	sampled := job("rollout", at("prompts.jsonl"), "--policy", policy, "--out", at("rolled"), "--verifier", "proving_ground", "--samples", "4",
		"--max-new-tokens", "48", "--count", "16", "--set", "limits.dead_share=0.1")
	if sampled.Rows != 160 || sampled.Dead != 2 || sampled.Iterations != 3 {
		t.Errorf("%+v, want 160 rows in 3 iterations, and 2 dead: a prompt that has no tokens, and a line that is no JSON", sampled)
	}
	again := job("rollout", at("prompts.jsonl"), "--policy", policy, "--out", at("rolled"), "--verifier", "proving_ground", "--samples", "4",
		"--max-new-tokens", "48", "--count", "16", "--set", "limits.dead_share=0.1")
	if fmt.Sprint(again) != fmt.Sprint(sampled) {
		t.Errorf("the same command again: %+v, want %+v", again, sampled)
	}
	rolled := rowsOf(t, at("rolled"))

	// Judged again, from the run and from another program's lines, the verdicts are those of the run; ids and log-probs come back.
	labelled := []schemas.Descriptor{schemas.Verdict, schemas.Outcome, schemas.VerdictRule, schemas.GroupMean, schemas.GroupStd,
		schemas.PromptTokens, schemas.ResponseTokens, schemas.Response, schemas.TokenEnds, schemas.FinishReason, schemas.OldLogP}
	job("label", at("rolled"), "--verifier", "proving_ground", "--out", at("labelled"))
	same(t, rolled, rowsOf(t, at("labelled")), labelled...)
	mustRun(t, "export", at("rolled"), "--to", "jsonl", "--out", at("lines"))
	given := []string{at("lines/rows.jsonl"), "--field", "prompt=prompt", "--field", "answer=answer", "--field", "prompt_tokens=prompt_tokens",
		"--field", "response_tokens=response_tokens", "--field", "logprobs=old_logp", "--field", "finish_reason=finish_reason",
		"--logprobs", "raw"}
	job(append([]string{"label", "--verifier", "proving_ground", "--tokenizer", policy, "--out", at("relabelled")}, given...)...)
	same(t, rolled, rowsOf(t, at("relabelled")), labelled...)

	// Scored by the log-probs that the rows have, and by those of the model that sampled them, values and advantages are the same.
	scored := job("score", at("rolled"), "--reward", reward, "--out", at("scored"))
	if scored.Rows != 160 || scored.Metrics["reward_auc"] == 0 {
		t.Errorf("%+v", scored)
	}
	values := []schemas.Descriptor{schemas.RewardLogP, schemas.Value, schemas.MeanValue, schemas.PCorrect, schemas.Advantage,
		schemas.ValueStepEnds, schemas.StepValue, schemas.StepMeanValue, schemas.StepPCorrect}
	mustRun(t, "export", at("scored"), "--to", "prime-rl", "--out", at("prime-rl")) // at the temperature that the run behind it sampled at
	job(append([]string{"score", "--reward", reward, "--out", at("rescored")}, given...)...)
	same(t, rowsOf(t, at("scored")), rowsOf(t, at("rescored")), values...)
	for _, b := range rowsOf(t, at("scored")) { // the last step ends with the response
		ends, tokens := schemas.ValueStepEnds.Of(b).Row(0), schemas.PCorrect.Of(b).Row(0)
		steps := schemas.StepPCorrect.Of(b).Row(0)
		if n := len(ends); n == 0 || len(steps) != n || int(ends[n-1]) != len(tokens) || steps[n-1] != tokens[len(tokens)-1] {
			t.Fatalf("steps end at %v with p_correct %v, of tokens %v", ends, steps, tokens)
		}
	}
	plain := []string{"--field", "prompt=prompt", "--field", "answer=answer", "--field", "response=response"}
	job(append([]string{"score", at("lines/rows.jsonl"), "--reward", reward, "--reference", policy, "--out", at("texts")}, plain...)...)
	none := append([]string{"score", at("lines/rows.jsonl"), "--reward", reward, "--out", at("none")}, plain...)
	if code, _, said := millrace(t, none...); code != 2 || !strings.Contains(said, "--reference") {
		t.Errorf("exit code %d: %s", code, said)
	}
	// Log-probs of which nobody says what they are are no others.
	unknown := append([]string{"score", "--reward", reward, "--out", at("unknown")}, given[:len(given)-2]...)
	if code, _, said := millrace(t, unknown...); code != 2 || !strings.Contains(said, "--reference") {
		t.Errorf("exit code %d: %s", code, said)
	}

	// A batch is trained on again, by advantages that were computed without an update.
	job("label", at("rolled"), "--verifier", "proving_ground", "--tokenizer", policy, "--set", "advantage={kind: grpo}", "--out",
		at("advantages"))
	mustRun(t, "run", writeRecipe(t, "kind: train\nrun: "+at("trained")+"\npolicy: {path: "+policy+"}\nprompts: {source: batch, count: 40, "+
		"batch: {path: "+at("advantages")+", columns: [advantage, token_mask]}}\nupdate: {losses: [{name: ppo}]}\nevaluate: {every: 0}\n"))
	steps, err := os.ReadFile(at("trained/iter-00000/steps-policy.jsonl"))
	if err != nil || !strings.Contains(string(steps), "\"gradient_norm\"") && !strings.Contains(string(steps), "grad") {
		t.Errorf("%s, %v", steps, err)
	}
}
