package method_test

import (
	"math"
	"testing"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// Q-RM in its form over log-probs feeds LCO and REINFORCE with log pi_phi itself, not with its ratio to the policy that sampled
// (arXiv 2505.23363; algorithms.md 1.5, 4.3).
func TestScoresOfTheLanguageModelForm(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	for name, sets := range map[string][]string{
		"combined": {"reward={path: " + dir + "/reward, value: {kind: q_rm_lm}}"},
		"q_rm":     {"reward={path: " + dir + "/reward, value: {kind: q_rm_lm}}", "advantage={kind: q_rm, candidates: true}"},
	} {
		t.Run(name, func(t *testing.T) {
			r := given(t, "lco-dense", dir, append(sets, "iterations=1")...)
			if err := iterate(t.Context(), r, progress.Silent()); err != nil {
				t.Fatal(err)
			}
			d, err := run.Read(t.Context(), r.Run)
			if err != nil {
				t.Fatal(err)
			}
			paths, err := run.RowFiles(t.Context(), d.IterPath(0), chain.BatchName)
			if err != nil || len(paths) != 1 {
				t.Fatal(paths, err)
			}
			seen := 0
			err = recordio.ReadFile(t.Context(), paths[0], func(b stage.Batch) error {
				advantages, scores := schemas.CandidateAdvantage.Of(b), schemas.CandidateRewardLogP.Of(b)
				for i := range b.NumRows() {
					for k := range advantages.Row(i).Len() {
						a, z := advantages.Row(i).Row(k), scores.Row(i).Row(k)
						for j := 1; j < len(a); j++ {
							seen++
							// The target divides by the spread, so what counts is that they are in proportion.
							if name == "q_rm" && a[j] != z[j] || math.Abs(float64(a[j]*z[0]-a[0]*z[j])) > 1e-5*math.Abs(float64(a[0]*z[j])) {
								t.Fatalf("row %d, token %d: candidates' advantages are %v, their scores %v", i, k, a, z)
							}
						}
					}
				}
				return nil
			})
			if err != nil || seen == 0 {
				t.Fatalf("%d candidates seen, %v", seen, err)
			}
		})
	}
}
