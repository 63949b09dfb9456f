package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLifeWithRuns: runs are listed, measured in bytes, grown, forked, compared and removed by the commands, as docs/runs.md has it.
func TestLifeWithRuns(t *testing.T) {
	binary, dir := program(t), t.TempDir()
	copyModel(t, filepath.Join("..", quickstartFolder, "policy"), filepath.Join(dir, "policy"))
	in := runsIn(t, binary, dir)
	read := func(into any, args ...string) {
		t.Helper()
		cmd := exec.Command(binary, append(args, "--json")...)
		cmd.Dir = dir
		raw, err := cmd.Output()
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, raw)
		}
	}
	if said := in(0, "ls"); !strings.Contains(said, "no runs in runs") {
		t.Errorf("%q", said)
	}
	small := []string{"run", "grpo", "--set", "run=runs/a", "--set", "policy.path=policy", "--set", "prompts.count=4", "--set",
		"evaluate={every: 1, prompts: 4, samples: 2}", "--set", "limits.idle=0"}
	in(0, append(small, "--set", "iterations=2")...)
	in(0, append(small, "--set", "iterations=3")...)

	var runs []struct {
		Run, Kind, Forked, Fault string
		Iterations, Of           int
		Value                    *float64
	}
	in(0, "fork", "runs/a", "--at", "1", "--out", "runs/b", "--set", "update.optimizer.lr=1e-5")
	in(0, "run", "runs/b/config.yaml")
	read(&runs, "ls")
	if len(runs) != 2 || runs[0].Iterations != 3 || runs[0].Of != 3 || runs[0].Value == nil || runs[0].Kind != "policy" ||
		filepath.Base(runs[1].Forked) != "a" {
		t.Errorf("%+v", runs)
	}
	var diff struct {
		Settings []struct{ Path string }
		Figures  []struct {
			Name string
			A, B *float64
		}
	}
	read(&diff, "diff", "runs/a", "runs/b")
	if len(diff.Settings) != 1 || diff.Settings[0].Path != "update.optimizer.lr" || len(diff.Figures) == 0 {
		t.Errorf("%+v", diff)
	}
	type usage struct{ Iteration, Models, Optimizers, Rows int }
	var used []usage
	read(&used, "du", "runs/a")
	if len(used) != 4 || used[0].Models == 0 || used[0].Optimizers == 0 || used[0].Rows == 0 || used[3].Iteration != -1 {
		t.Errorf("%+v", used)
	}
	type removal struct {
		Removed []struct {
			Iteration int
			Folders   []string
		}
		Bytes int
		Done  bool
	}
	var would, did removal
	read(&would, "rm", "runs/a", "--keep-last", "1", "--keep-best=false")
	again := slices.Clone(used)
	read(&again, "du", "runs/a")
	if !slices.Equal(again, used) || would.Done || len(would.Removed) != 2 {
		t.Errorf("a dry run: %+v, then %+v", would, again)
	}
	read(&did, "rm", "runs/a", "--keep-last", "1", "--keep-best=false", "--yes")
	if did.Bytes != would.Bytes || !did.Done {
		t.Errorf("removed %+v, said %+v", did, would)
	}
	again = nil
	read(&again, "du", "runs/a")
	if again[0].Models+again[0].Optimizers+again[1].Models+again[1].Optimizers > 0 || again[0].Rows != used[0].Rows ||
		again[2].Models != used[2].Models || again[2].Optimizers != used[2].Optimizers {
		t.Errorf("after: %+v", again)
	}
	in(0, append(small, "--set", "iterations=4")...)                   // goes on
	in(0, "report", "runs/a")                                          // and is read
	in(0, "export", "runs/a", "--to", "trl-grpo", "--out", "exported") // as ever
	in(2, "rm", "runs/none")
	in(2, "fork", "runs/a")

	// A run that goes on is not removed.
	long := exec.Command(binary, append(small, "--set", "iterations=500", "--set", "run=runs/c")...)
	long.Dir = dir
	if err := long.Start(); err != nil {
		t.Fatal(err)
	}
	for range 400 {
		if _, err := os.Stat(filepath.Join(dir, "runs", "c", "iter-00000", "manifest.json")); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if said := in(1, "rm", "runs/c", "--all", "--yes"); !strings.Contains(said, "another process") {
		t.Errorf("%q", said)
	}
	long.Process.Kill()
	long.Wait()
	in(0, "rm", "runs/c", "--all", "--yes")
	if _, err := os.Stat(filepath.Join(dir, "runs", "c")); !os.IsNotExist(err) {
		t.Errorf("the run is there: %v", err)
	}
}

// TestRunsThatMadeTheirStart: a run that gave its policy a value head before it began, and adapters on it, is measured and goes on where it
// was moved to, and so does a fork of it when it is gone.
func TestRunsThatMadeTheirStart(t *testing.T) {
	dir := t.TempDir()
	copyModel(t, filepath.Join("..", quickstartFolder, "policy"), filepath.Join(dir, "policy"))
	at := func(name string) string { return filepath.Join(dir, name) }
	iterate := func(run string, iterations int) {
		t.Helper()
		mustRun(t, "run", "ppo", "--set", "run="+at(run), "--set", "policy.path="+at("policy"), "--set", "update.lora={rank: 2, alpha: 4}",
			"--set", fmt.Sprint("iterations=", iterations), "--set", "prompts.count=4", "--set", "evaluate={every: 0}")
	}
	iterate("stays", 2)
	want := digests(t, filepath.Join(at("stays"), "iter-00001", "policy"))
	delete(want, "adapter_config.json") // names the base by its path
	iterate("first", 1)
	mustRun(t, "fork", at("first"), "--out", at("fork"))
	if err := os.Rename(at("first"), at("moved")); err != nil {
		t.Fatal(err)
	}
	for _, run := range []string{"moved", "fork"} {
		mustRun(t, "eval", at(run), "--set", "evaluate.prompts=2", "--set", "evaluate.samples=2")
		iterate(run, 2)
		got := digests(t, filepath.Join(at(run), "iter-00001", "policy"))
		delete(got, "adapter_config.json")
		sameFiles(t, "the policy of run "+run, got, want, nil)
	}
}
