package method_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// A run of kind label ends in rows: verdicts on responses that the source brings, or on rollouts with values and advantages. It
// leaves no model.
func TestLabelTrainsNothing(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	policy, reward := filepath.Join(dir, "policy"), filepath.Join(dir, "reward")
	for name, c := range map[string]struct {
		text string
		has  []schemas.Descriptor
	}{
		"given": {`
kind: label
prompts: {source: chain, count: 6, chain: {responses: corrupted}}
label: {verifier: {kind: proving_ground}}
`, []schemas.Descriptor{schemas.Verdict, schemas.Outcome, schemas.FirstError}},
		"rollouts": {`
kind: label
iterations: 2
prompts: {source: chain, count: 4}
rollout: {samples: 2, max_new_tokens: 30, candidate_k: 3}
label: {verifier: {kind: proving_ground}}
reward: {path: ` + reward + `, value: {kind: ipvrm}}
advantage: {kind: combined}
`, []schemas.Descriptor{schemas.Verdict, schemas.PCorrect, schemas.Advantage, schemas.CandidateAdvantage}},
	} {
		t.Run(name, func(t *testing.T) {
			at := filepath.Join(t.TempDir(), "run")
			r, err := parse([]byte(c.text), []string{"run=" + at, "policy.path=" + policy})
			if err != nil {
				t.Fatal(err)
			}
			if err := iterate(t.Context(), r, progress.Silent()); err != nil {
				t.Fatal(err)
			}
			d, err := run.Read(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			for i := range r.Iterations {
				paths, err := run.RowFiles(t.Context(), d.IterPath(i), chain.BatchName)
				if err != nil || len(paths) != 1 {
					t.Fatal(paths, err)
				}
				rows := 0
				err = recordio.ReadFile(t.Context(), paths[0], func(b stage.Batch) error {
					rows += b.NumRows()
					return b.Check(c.has...)
				})
				if err != nil || rows < 6 {
					t.Errorf("%d rows, %v", rows, err)
				}
				if _, err := os.Stat(filepath.Join(d.IterPath(i), "policy")); err == nil {
					t.Error("there is a model")
				}
			}
		})
	}
}

// A run of kind label measures nothing: no split has to be held out of a file, and any can be labeled.
func TestLabelNeedsNoHeldOutSplit(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	rows := filepath.Join(dir, "rows.jsonl")
	if err := os.WriteFile(rows, []byte(`{"p": "3+4=", "a": "7", "r": "7"}`+"\n"+`{"p": "3+5=", "a": "8", "r": "9"}`+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, split := range []string{"train", "all", "test"} {
		share := 0
		if split == "test" {
			share = 1
		}
		r, err := parse([]byte(`
kind: label
label: {verifier: {kind: exact}}
`), []string{"run=" + filepath.Join(dir, split), "policy.path=" + filepath.Join(dir, "policy"), "prompts.source=file", "prompts.split=" + split,
			fmt.Sprintf("prompts.file={path: %q, test_share: %d, fields: {prompt: p, answer: a, response: r}}", rows, share)})
		if err == nil {
			err = iterate(t.Context(), r, progress.Silent())
		}
		if err != nil {
			t.Errorf("split %s: %v", split, err)
			continue
		}
		d, err := run.Read(t.Context(), r.Run)
		if err != nil {
			t.Fatal(err)
		}
		shown, err := look.Rollouts(t.Context(), d, 0, look.RolloutQuery{})
		if err != nil || len(shown) != 2 || len(shown[0].Tokens) == 0 {
			t.Errorf("split %s: %+v, %v", split, shown, err)
		}
	}
}
