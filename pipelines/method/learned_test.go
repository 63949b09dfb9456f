package method_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/run"
)

// An update that learns nothing says so, and fails the run at its limit, or when the run would end and every row missed a column.
func TestUpdatesThatLearnNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	// One token answers nothing, so every response is wrong and cut off; kept, they have advantage 0, left out, none.
	wrong := []string{"rollout.max_new_tokens=1", "iterations=3", "evaluate.every=0"}
	for _, c := range []struct {
		name string
		sets []string
		idle int // 0: no error
		says []string
	}{
		{"gradients of 0", append(wrong,
			"advantage={kind: grpo, keep_truncated: true}", "limits.idle=2"), 2,
			[]string{"limits.idle", "gradient is 0"}},
		{"no limit", append(wrong,
			"advantage={kind: grpo, keep_truncated: true}", "limits.idle=0"), 0, nil},
		{"left out", append(wrong, "limits.idle=3"), 3, []string{"limits.idle", "advantage in"}},
		{"left out, no limit", append(wrong, "limits.idle=0"), 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := iterate(t.Context(), given(t, "grpo", dir, c.sets...), progress.Silent())
			var idle *run.IdleError
			switch {
			case c.idle == 0 && err != nil:
				t.Error(err)
			case c.idle > 0 && (!errors.As(err, &idle) || idle.Idle != c.idle || idle.Iteration != c.idle-1 || idle.Role != "policy"):
				t.Errorf("%v, want an error after %d iterations", err, c.idle)
			}
			for _, text := range c.says {
				if err != nil && !strings.Contains(err.Error(), text) {
					t.Errorf("%v does not say %q", err, text)
				}
			}
		})
	}
}

// A policy that moves further than limits.kl ends the run, before the iteration is committed.
func TestLimitOfKL(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t.Context(), "grpo", []string{"limits.kl=0.01", "update.minibatches=1"}); err == nil {
		t.Error("a limit on the KL of an iteration of one step, which is 0, is accepted")
	}
	r := given(t, "grpo", dir, "iterations=3", "evaluate.every=0", "update.optimizer.lr=0.05", "update.epochs=4", "limits.kl=0.01")
	err := iterate(t.Context(), r, progress.Silent())
	var far *run.KLError
	if !errors.As(err, &far) || far.KL <= 0.01 || !strings.Contains(err.Error(), "limits.kl") {
		t.Fatalf("%v, want the limit of the KL", err)
	}
	d, err := run.Read(t.Context(), r.Run)
	if err != nil {
		t.Fatal(err)
	}
	if done, err := d.Committed(t.Context()); err != nil || len(done) != far.Iteration {
		t.Errorf("iterations %v are committed, the one that went too far is %d; %v", done, far.Iteration, err)
	}
}
