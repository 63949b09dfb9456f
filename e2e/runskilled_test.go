package e2e

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pipelines/quickstart"
)

// killedAfter starts a command until it has been killed so many times within some milliseconds of a sign that its work has begun, and calls
// check after every time, killed or ended. Before each start prepare makes what the command works on.
func killedAfter(t *testing.T, kills int, begun func() bool, prepare func(), check func(), args ...string) {
	t.Helper()
	random := rand.New(rand.NewPCG(5, uint64(len(args[0]))))
	for killed, tries := 0, 0; killed < kills; tries++ {
		if tries > 20*kills {
			t.Fatalf("%s: only %d of %d could be killed before they ended", args[0], killed, tries)
		}
		prepare()
		ended, kill := background(t, args...)
		for over := false; !over; {
			select {
			case err := <-ended:
				if err != nil {
					t.Fatalf("%s after %d kills: %v", args[0], killed, err)
				}
				over = true
			default:
				if begun() {
					time.Sleep(time.Duration(random.IntN(4000)) * time.Microsecond)
					kill()
					killed++
					over = true
				}
			}
		}
		check()
	}
}

// counted counts the files of that name in iterations of a run.
func counted(t *testing.T, run, name string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(run, "iter-*", name))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

// TestForkRemovalAndRetentionAreKilled: a process that is killed while it forks a run, removes models of one or lets models go loses
// nothing that was not asked to go, and the same command completes what it began.
func TestForkRemovalAndRetentionAreKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := quickstart.Unpack(at("models")); err != nil {
		t.Fatal(err)
	}
	run := func(name string, sets ...string) []string {
		args := []string{"run", "grpo", "--set", "run=" + at(name), "--set", "policy.path=" + at("models/policy"), "--set", "prompts.count=4",
			"--set", "evaluate={every: 1, prompts: 4, samples: 2}", "--set", "limits.idle=0"}
		for _, s := range sets {
			args = append(args, "--set", s)
		}
		return args
	}
	// What runs keep, without what differs from one call to the next.
	left := func(name string) map[string]string {
		got := digests(t, at(name))
		maps.DeleteFunc(got, func(path, _ string) bool {
			return strings.Contains(path, ".lock") || strings.Contains(path, "telemetry")
		})
		return got
	}
	fresh := func(name string) func() {
		return func() {
			if err := os.RemoveAll(at(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	copied := func(name string) func() {
		return func() {
			fresh(name)()
			if err := os.CopyFS(at(name), os.DirFS(at("parent"))); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustRun(t, run("parent", "iterations=3")...)
	parent := left("parent")

	t.Run("fork", func(t *testing.T) {
		fork := func(name string) []string {
			return []string{"fork", at("parent"), "--at", "1", "--out", at(name), "--set", "update.optimizer.lr=1e-5"}
		}
		mustRun(t, fork("forked")...)
		want := left("forked")
		mustRun(t, fork("forked")...) // as after a call that was killed when all was done
		code, _, said := millrace(t, append(fork("forked"), "--set", "seed=5")...)
		if code != 2 || !strings.Contains(said, "holds a run already") {
			t.Errorf("another fork in its directory: exit code %d, %s", code, said)
		}
		sameFiles(t, "a fork that was asked for again", left("forked"), want, nil)
		begun := func() bool { _, err := os.Stat(filepath.Join(at("fork"), "fork.json")); return err == nil }
		killedAfter(t, 12, begun, func() {}, func() {
			sameFiles(t, "the parent of a fork that was killed", left("parent"), parent, nil)
			if _, err := os.Stat(filepath.Join(at("fork"), "config.yaml")); err == nil { // it is a run, so it is complete
				sameFiles(t, "a fork after kills", left("fork"), want, nil)
			}
			fresh("fork")()
		}, fork("fork")...)
		killedAfter(t, 1, begun, func() {}, func() {}, fork("fork")...)
		mustRun(t, fork("fork")...)
		sameFiles(t, "a fork after kills", left("fork"), want, nil)
	})

	t.Run("rm", func(t *testing.T) {
		remove := func(name string) []string {
			return []string{"rm", at(name), "--keep-last", "1", "--keep-best=false", "--yes"}
		}
		copied("removed")()
		mustRun(t, remove("removed")...)
		want := left("removed")
		killedAfter(t, 12, func() bool { return counted(t, at("remove"), "removed.json") > 0 }, copied("remove"), func() {
			got := left("remove")
			for path, digest := range parent {
				_, stays := want[path]
				if have, ok := got[path]; stays && (!ok || have != digest) {
					t.Errorf("%s was to stay and is gone or changed", path)
				}
			}
			mustRun(t, remove("remove")...)
			sameFiles(t, "after a removal that was killed", left("remove"), want, nil)
		}, remove("remove")...)
	})

	t.Run("keep", func(t *testing.T) {
		mustRun(t, run("straight", "iterations=6", "keep={last: 1, every: 3}")...)
		want := left("straight")
		seen := 0
		killedAfter(t, 4, func() bool { return counted(t, at("kept"), "removed.json") > seen }, func() {
			seen = counted(t, at("kept"), "removed.json")
		}, func() {
			if counted(t, at("kept"), "manifest.json") == 6 {
				mustRun(t, run("kept", "iterations=6", "keep={last: 1, every: 3}")...)
				sameFiles(t, "a run that lets models go, after kills", left("kept"), want, nil)
				fresh("kept")()
			}
		}, run("kept", "iterations=6", "keep={last: 1, every: 3}")...)
		mustRun(t, run("kept", "iterations=6", "keep={last: 1, every: 3}")...)
		sameFiles(t, "a run that lets models go, after kills", left("kept"), want, nil)
	})
}
