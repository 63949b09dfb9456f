package method_test

import (
	"errors"
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

// A policy update goes by the weighted sum of the parts, each of which is a column and a metric; the outcome stays what it was.
func TestComposedRewards(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	const parts = `rewards=[{name: right, outcome: {}}, {name: exact, weight: 0.5, verifier: {kind: exact}},
		{name: long, weight: 0.2, penalty: {kind: length, max_tokens: 45}}, {name: digits, weight: -0.1, format: {pattern: "7"}}]`
	r := given(t, "grpo", dir, "iterations=1", "evaluate.every=0", parts, "advantage.groups=all")
	if err := iterate(t.Context(), r, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	d, err := run.Read(t.Context(), r.Run)
	if err != nil {
		t.Fatal(err)
	}
	measured, err := d.ReadMeasurements(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	paths, err := run.RowFiles(t.Context(), d.IterPath(0), chain.BatchName)
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	column := func(b stage.Batch, name string) schemas.Scalars[float32] {
		c, err := schemas.Scalar[float32]{Column: schemas.Column{Name: name, Type: schemas.Reward.Type, Nullable: true}}.Find(b)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	rows, sum := 0, 0.0
	err = recordio.ReadFile(t.Context(), paths[0], func(b stage.Batch) error {
		reward, mean, std := column(b, "reward"), column(b, "reward_mean"), column(b, "reward_std")
		for i := range b.NumRows() {
			want := 0.0
			for name, w := range map[string]float64{"right": 1, "exact": 0.5, "long": 0.2, "digits": -0.1} {
				x, ok := column(b, schemas.RewardPartPrefix+name).At(i)
				if !ok {
					t.Fatalf("part %s of row %d is not known", name, i)
				}
				want += w * float64(x)
			}
			outcome, _ := schemas.Outcome.Of(b).At(i)
			if x, _ := column(b, schemas.RewardPartPrefix+"right").At(i); x != outcome {
				t.Errorf("row %d: part right is %v, the outcome %v", i, x, outcome)
			}
			x, ok := reward.At(i)
			if !ok || math.Abs(float64(x)-want) > 1e-6 {
				t.Errorf("row %d: reward %v, want %v", i, x, want)
			}
			rows, sum = rows+1, sum+float64(x)
			if a := schemas.Advantage.Of(b); a.Valid(i) {
				mu, _ := mean.At(i)
				sd, _ := std.At(i)
				if want := (float64(x) - float64(mu)) / (float64(sd) + 1e-6); math.Abs(float64(a.Row(i)[0])-want) > 1e-3*math.Max(1, math.Abs(want)) {
					t.Errorf("row %d: advantage %v, want %v of the reward", i, a.Row(i)[0], want)
				}
			}
		}
		return nil
	})
	if err != nil || rows == 0 {
		t.Fatal(rows, err)
	}
	m := measured[len(measured)-1].Metrics
	if math.Abs(m["mean_reward"]-sum/float64(rows)) > 1e-6 || m["reward/long"] >= 0 || m["reward/right"] != m["train_accuracy"] {
		t.Errorf("metrics %v, mean reward %v", m, sum/float64(rows))
	}
}

// A second verifier reads a share of the responses; what the first calls right beyond it is a metric, and past its limit ends the run.
func TestAudit(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	// exact compares whole texts, and a response is more than its answer, so it calls nothing right.
	run1 := func(sets ...string) (map[string]float64, string, error) {
		r := given(t, "grpo", dir, append([]string{"iterations=1", "evaluate.every=0"}, sets...)...)
		err := iterate(t.Context(), r, progress.Silent())
		if err != nil {
			return nil, "", err
		}
		d, err := run.Read(t.Context(), r.Run)
		if err != nil {
			t.Fatal(err)
		}
		measured, err := d.ReadMeasurements(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return measured[0].Metrics, d.IterPath(0), nil
	}
	all, _, err := run1("audit={verifier: {kind: exact}, share: 1}")
	if err != nil || all["audit_accuracy"] != 0 || all["audit_gap"] != all["train_accuracy"] || all["train_accuracy"] == 0 {
		t.Fatalf("%v, metrics %v", err, all)
	}
	_, iteration, err := run1("audit={verifier: {kind: exact}, share: 0.5}")
	if err != nil {
		t.Fatal(err)
	}
	paths, err := run.RowFiles(t.Context(), iteration, chain.BatchName)
	if err != nil {
		t.Fatal(err)
	}
	drawn, rows := 0, 0
	err = recordio.ReadFile(t.Context(), paths[0], func(b stage.Batch) error {
		for i := range b.NumRows() {
			rows++
			if _, ok := schemas.AuditOutcome.Of(b).At(i); ok {
				drawn++
			}
		}
		return nil
	})
	if err != nil || drawn == 0 || drawn == rows {
		t.Errorf("%d of %d responses audited, want about half; %v", drawn, rows, err)
	}
	var gap *run.AuditError
	if _, _, err = run1("audit={verifier: {kind: exact}, share: 1, max_gap: 0.05}"); !errors.As(err, &gap) || gap.Gap <= 0.05 {
		t.Errorf("a gap past the limit: %v", err)
	}
}
