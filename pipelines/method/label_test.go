package method_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/pipelines/chain"
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
