package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const kills = 20

// TestKilledRunsEndWithTheSameBytes kills a run at random moments until it has been killed twenty times, starting it again
// each time, and holds every file it leaves against those of a run that was left alone.
func TestKilledRunsEndWithTheSameBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("trains")
	}
	recipe := writeRecipe(t, tinyRecipe)
	dir := t.TempDir()
	var want map[string]string
	whole := time.Hour
	for _, name := range []string{"straight", "again"} {
		straight := filepath.Join(dir, name)
		start := time.Now()
		mustRun(t, "run", recipe, "--set", "run="+straight)
		whole = min(whole, time.Since(start))
		if want == nil {
			want = digests(t, straight)
		} else {
			sameFiles(t, "run twice", digests(t, straight), want, nil)
		}
	}

	whole = min(whole, 2*time.Second) // on a busy machine a run takes longer, and the moments should still lie close together
	random := rand.New(rand.NewPCG(20, 26))
	killed := 0
	for round := 0; killed < kills; round++ {
		if round > 4*kills {
			t.Fatalf("only %d of %d runs could be killed before they ended", killed, round)
		}
		run := filepath.Join(dir, "killed")
		for {
			cmd := exec.Command(program(t), "run", recipe, "--set", "run="+run)
			var log bytes.Buffer
			cmd.Stderr = &log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			// Most moments lie inside an iteration, some in the start of the program, some after the end.
			limit := time.Duration(random.Float64() * float64(whole) * 0.9)
			if killed == kills {
				limit = time.Hour
			}
			var err error
			select {
			case err = <-ended:
			case <-time.After(limit):
				_ = cmd.Process.Kill()
				<-ended
				killed++
				continue
			}
			if err != nil {
				t.Fatalf("after %d kills: %v\n%s", killed, err, log.String())
			}
			break
		}
		sameFiles(t, "after being killed", digests(t, run), want, nil)
		if t.Failed() {
			return
		}
		if err := os.RemoveAll(run); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills; the run takes %v when it is left alone", killed, whole.Round(time.Millisecond))
}

// TestSecondProcessIsRefused: two processes never work on one run directory.
func TestSecondProcessIsRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("trains")
	}
	recipe := writeRecipe(t, tinyRecipe)
	run := filepath.Join(t.TempDir(), "run")
	first := startLong(t, recipe, run)
	code, _, log := millrace(t, "run", recipe, "--set", "run="+run, "--set", "iterations=1000")
	if code != 1 || !strings.Contains(log, "in use by another process") || !strings.Contains(log, run) {
		t.Errorf("exit code %d: %s", code, log)
	}
	interrupt(t, first)
}

// TestInterruptedRunGoesOn: SIGINT ends a run with exit code 130, and the same command goes on with it.
func TestInterruptedRunGoesOn(t *testing.T) {
	if testing.Short() {
		t.Skip("trains")
	}
	recipe := writeRecipe(t, tinyRecipe)
	run := filepath.Join(t.TempDir(), "run")
	first := startLong(t, recipe, run)
	interrupt(t, first)
	done, err := filepath.Glob(filepath.Join(run, "iter-*", "manifest.json"))
	if err != nil || len(done) == 0 {
		t.Fatalf("%v, %d committed iterations", err, len(done))
	}
	before := digests(t, filepath.Dir(done[0]))
	if code, _, log := millrace(t, "run", filepath.Join(run, "config.yaml"), "--set", "run="+run, "--set", "seed=77"); code != 2 ||
		!strings.Contains(log, "another recipe") {
		t.Errorf("going on with another seed: exit code %d: %s", code, log)
	}
	again := startLong(t, recipe, run)
	interrupt(t, again)
	sameFiles(t, "after the second start", digests(t, filepath.Dir(done[0])), before, nil)
}

// TestInterruptedRunsEndWithTheSameBytes: what a run that was interrupted twice leaves is what one leaves that was not.
func TestInterruptedRunsEndWithTheSameBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("trains")
	}
	const iterations = 12
	recipe, dir := writeRecipe(t, tinyRecipe), t.TempDir()
	straight, run := filepath.Join(dir, "straight"), filepath.Join(dir, "interrupted")
	mustRun(t, "run", recipe, "--set", "run="+straight, "--set", fmt.Sprintf("iterations=%d", iterations))
	for range 2 {
		interrupt(t, startAndCommit(t, recipe, run, iterations))
		if done, _ := filepath.Glob(filepath.Join(run, "iter-*", "manifest.json")); len(done) == 0 || len(done) >= iterations {
			t.Fatalf("interrupted with %d iterations committed", len(done))
		}
	}
	mustRun(t, "run", recipe, "--set", "run="+run, "--set", fmt.Sprintf("iterations=%d", iterations))
	sameFiles(t, "after being interrupted", digests(t, run), digests(t, straight), nil)
}

// startLong starts a run that would take minutes and waits until it has committed an iteration more than before.
func startLong(t *testing.T, recipe, run string) *exec.Cmd {
	t.Helper()
	return startAndCommit(t, recipe, run, 1000)
}

// startAndCommit starts a run of so many iterations and waits until it has committed one more than before.
func startAndCommit(t *testing.T, recipe, run string, iterations int) *exec.Cmd {
	t.Helper()
	committed := func() int {
		done, err := filepath.Glob(filepath.Join(run, "iter-*", "manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		return len(done)
	}
	before := committed()
	cmd := exec.Command(program(t), "run", recipe, "--set", "run="+run, "--set", fmt.Sprintf("iterations=%d", iterations))
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for deadline := time.Now().Add(2 * time.Minute); committed() == before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("no iteration was committed:\n%s", log.String())
		}
	}
	return cmd
}

// interrupt ends a run as a person does, and wants the exit code that says so.
func interrupt(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		t.Fatal("the run does not end when it is interrupted")
	}
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d, want 130; the run said: %s", code, cmd.Stderr)
	}
}
