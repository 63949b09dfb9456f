package command

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/transforms/evaluate"
)

// The models of the quickstart: a policy that is right a third of the time, and an IPVRM trained on its rollouts.
const (
	quickstartPolicy = "../quickstart/policy"
	quickstartReward = "../quickstart/reward"
)

func TestEvalReward(t *testing.T) {
	if testing.Short() {
		t.Skip("trains")
	}
	file := filepath.Join(t.TempDir(), "out", "eval.json")
	args := []string{"eval", quickstartPolicy, "--recipe", "ipvrm-refresh", "--reward", quickstartReward, "--reward", quickstartPolicy,
		"--set", "evaluate.prompts=24", "--set", "evaluate.samples=4", "--continuations", "4", "--out", file}
	text := want(t, exitOK, []string{"held_out", "corrupted", "best of 4", "decile 10", "step F1, mean_diff", "truth at step ends",
		"cannot be told apart"}, args...)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Rewards []struct {
			Set, Name string
			evaluate.Report
			ByCertainty []evaluate.ErrorRecall `json:"errors_by_certainty"`
		}
		Comparisons []look.RewardComparison
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Rewards) != 10 || len(v.Comparisons) != 14 || v.Rewards[0].Set != "held_out" || v.Rewards[5].Set != "corrupted" {
		t.Fatalf("%s", raw)
	}
	trained, same := v.Rewards[0], v.Rewards[1]
	if trained.Prompts != 24 || trained.Responses != 96 || *trained.Final.AUC.Value < 0.7 || trained.Truth == nil ||
		trained.Truth.R.N < 60 || trained.Steps[1].Best.F1 < 0.5 {
		t.Errorf("the trained model on its policy's responses: %s", raw)
	}
	if trained.BestOfN[0].Mean != trained.Avg.Mean || trained.BestOfN[2].K != 4 || trained.BestOfN[2].Mean > trained.PassAt[2].Mean {
		t.Errorf("best of n is not between its bounds: %+v, %+v", trained.BestOfN, trained.PassAt)
	}
	// The policy against itself has log-ratios of zero: it knows nothing.
	if *same.Final.AUC.Value != 0.5 || *same.Calibration.AUC != 0.5 || same.Truth.R.Value != nil {
		t.Errorf("the policy as its own reward model: %s", raw)
	}
	verdicts := map[string]string{}
	for _, f := range v.Comparisons[0].Figures {
		verdicts[f.Figure] = f.Verdict
	}
	if verdicts["auc"] != evaluate.BetterA || verdicts["best_of_1"] != evaluate.Undecided {
		t.Errorf("%v", verdicts)
	}
	if corrupted := v.Rewards[5]; corrupted.Responses != 24 || corrupted.Truth != nil || corrupted.Steps[0].Items != 24 ||
		len(corrupted.BestOfN) != 1 {
		t.Errorf("corrupted chains: %+v", corrupted)
	}
	// The policy's own log-probs tell of an error that it was unsure of, never of one that it was confident of; a reward model does.
	for _, m := range v.Rewards {
		if len(m.ByCertainty) != len(m.Steps) {
			t.Fatalf("%s on %s: %d rules parted by certainty, want %d", m.Name, m.Set, len(m.ByCertainty), len(m.Steps))
		}
	}
	sure, own := trained.ByCertainty[1], v.Rewards[3].ByCertainty[4]
	if sure.Rule != "sum_diff" || own.Rule != "min" || sure.Unsure.N != own.Unsure.N || sure.Confident.N == 0 ||
		*own.Confident.Value > *sure.Confident.Value || *own.Unsure.Value < 0.5 || *sure.Unsure.Value < 0.3 {
		t.Errorf("errors by certainty: the reward model finds %v and %v, the policy itself %v and %v", *sure.Unsure.Value,
			*sure.Confident.Value, *own.Unsure.Value, *own.Confident.Value)
	}
	// The policy's own log-probs rank too, without a reward model.
	for _, own := range v.Rewards[2:4] {
		if !strings.HasPrefix(own.Name, "policy log-prob") || own.Final == nil || *own.Final.AUC.Value == 0.5 ||
			len(own.Steps) != len(evaluate.AllRules) {
			t.Errorf("the policy's own log-probs: %+v", own)
		}
	}
	if length := v.Rewards[4]; !strings.HasPrefix(length.Name, "length") || length.Final == nil || *length.Final.AUC.Value == 0.5 {
		t.Errorf("length alone: %+v", length)
	}
	if trained.Random.Mean > trained.BestOfN[2].Mean || trained.Random.N != 24 || trained.Vote == nil {
		t.Errorf("chance %+v, majority vote %+v", trained.Random, trained.Vote)
	}
	if again := want(t, exitOK, nil, args...); again != text {
		t.Error("the same evaluation gives something else")
	}
	want(t, exitUsage, []string{"held_out"}, append(args, "--on", "nonsense")...)
	want(t, exitUsage, []string{"reward.value.kind"}, "eval", "--recipe", "grpo", quickstartPolicy, "--reward", quickstartReward)
	want(t, exitUsage, []string{"--reward"}, "eval")
}

// TestEvalRewardIsTheRefreshsOwnMeasurement: what a refresh writes of its model is what eval says of it.
func TestEvalRewardIsTheRefreshsOwnMeasurement(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run")
	policy, err := filepath.Abs(quickstartPolicy)
	if err != nil {
		t.Fatal(err)
	}
	want(t, exitOK, nil, "refresh", "ipvrm-refresh", "--set", "run="+run, "--set", "policy.path="+policy, "--set", "prompts.count=8",
		"--set", "update.steps=2", "--set", "update.batch_size=16", "--set", "evaluate.prompts=12", "--set", "evaluate.samples=3")
	out := want(t, exitOK, nil, "eval", "--reward", run, "--on", "held_out", "--continuations", "0", "--json")
	got := decode[struct{ Rewards []measure.Evaluation }](t, out)
	refreshed, err := look.ReadRefresh(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	want(t, exitUsage, []string{"--value q_rm", "of kind ipvrm"}, "score", run, "--reward", run, "--value", "q_rm", "--out",
		filepath.Join(t.TempDir(), "scored"))
	for _, unread := range [][]string{{"eval", policy}, {"eval", "--recipe", "grpo", "--reward", policy},
		{"score", run, "--reward", policy, "--reference", policy, "--out", filepath.Join(t.TempDir(), "scored")},
		{"export", filepath.Join(run, "config.yaml"), "--to", "jsonl", "--out", filepath.Join(t.TempDir(), "exported")}} {
		want(t, exitUsage, []string{"--iteration 0 is of a run"}, append(unread, "--iteration", "0")...)
	}
	page := filepath.Join(t.TempDir(), "page.html")
	want(t, exitOK, nil, "report", run, "--out", page)
	if raw, err := os.ReadFile(page); err != nil || !strings.Contains(string(raw), "Best of N by the reward model") ||
		!strings.Contains(string(raw), "AUC by position") {
		t.Errorf("the report draws nothing of the reward model (%v)", err)
	} else {
		for _, want := range []string{"majority vote", "chance: a random response", "The reward model of ", "step F1 at the held-out threshold",
			"Best-of-N by"} {
			if !strings.Contains(string(raw), want) {
				t.Errorf("the report of a refresh lacks %q", want)
			}
		}
		if !strings.Contains(string(raw), `class="tok vp`) && !strings.Contains(string(raw), `class="tok vm`) {
			t.Error("no rollout of the refresh is coloured by its values")
		}
	}
	a, _ := json.Marshal(got.Rewards[0].Report)
	b, _ := json.Marshal(refreshed.Evaluation.Report)
	if string(a) != string(b) || math.IsNaN(got.Rewards[0].Avg.Mean) || got.Rewards[0].Prompts != 12 {
		t.Errorf("eval says\n%s\nthe refresh\n%s", a, b)
	}
}

// TestEvalRewardOnProcessBench trains a small model on two solutions and measures it on a file of ProcessBench: text, tokens,
// log-ratios, step scores, F1.
func TestEvalRewardOnProcessBench(t *testing.T) {
	dir := t.TempDir()
	solutions, bench, run := filepath.Join(dir, "s.jsonl"), filepath.Join(dir, "bench.json"), filepath.Join(dir, "run")
	var lines, items []string
	for i := range 12 {
		lines = append(lines, fmt.Sprintf(`{"conversation": [{"role": "user", "content": "%d+1?"}, {"role": "assistant", "content": "It is %d."}], "label": %d}`, i, i+1, i%2))
		items = append(items, fmt.Sprintf(`{"id": "x-%d", "problem": "What is %d+1?", "steps": ["We add – üben.", "So %d.", "\\boxed{%d}"], "label": %d, "final_answer_correct": %t}`,
			i, i, i+1, i+1, i%4-1, i%4 == 0))
	}
	for path, text := range map[string]string{solutions: strings.Join(lines, "\n"), bench: "[" + strings.Join(items, ",") + "]"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want(t, exitOK, nil, "refresh", "ipvrm-solutions", "--set", "run="+run, "--set", "prompts.file.path="+solutions, "--set",
		"prompts.file.test_share=0.5",
		"--set", "update.batch_size=4", "--set", "update.epochs=3", "--set", "limits.dead_share=0")
	out := want(t, exitOK, nil, "eval", "--reward", run, "--on", bench, "--json")
	v := decode[struct {
		Rewards []struct {
			Set  string
			Dead int64
			evaluate.Report
		}
	}](t, out).Rewards[0]
	if v.Set != bench || v.Prompts != 12 || v.Dead != 0 || v.Unplaced != 0 || len(v.Steps) != 4 || *v.Calibration.Brier <= 0 {
		t.Fatalf("%s", out)
	}
	for _, s := range v.Steps {
		if s.Items != 12 || s.Best.NErr != 9 || s.Best.NOK != 3 || s.Best.Threshold == nil || s.HeldOut.NErr+s.HeldOut.NOK != 6 ||
			s.Best.StdErr == nil {
			t.Errorf("%+v", s)
		}
	}
	few := decode[struct{ Rewards []measure.Evaluation }](t, want(t, exitOK, nil, "eval", "--reward", run, "--on", bench, "--items", "5",
		"--json"))
	if few.Rewards[0].Prompts != 5 {
		t.Errorf("%d items of 5", few.Rewards[0].Prompts)
	}
	if n := few.Rewards[0].Steps[0].Best.NOK; n == 0 || n == 5 {
		t.Errorf("%d of 5 drawn items are right", n)
	}
	want(t, exitOK, []string{"– held-out threshold"}, "eval", "--reward", run, "--on", bench, "--items", "1")
	long := decode[struct{ Rewards []measure.Evaluation }](t, want(t, exitOK, nil, "eval", "--reward", run, "--on", bench, "--set",
		"tokenize.max_tokens=73", "--json"))
	if r := long.Rewards[0]; r.Dead != 3 || r.Prompts != 9 {
		t.Errorf("%d items and %d set aside", r.Prompts, r.Dead)
	}
}
