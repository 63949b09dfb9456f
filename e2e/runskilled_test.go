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

// killedAtRandom starts a command until it has been killed so many times at different moments, and calls check after every time, killed or
// ended. Before each start prepare makes what the command works on.
func killedAtRandom(t *testing.T, kills int, prepare func(), check func(ended bool), args ...string) {
	t.Helper()
	random := rand.New(rand.NewPCG(5, uint64(len(args[0]))))
	whole := 200 * time.Millisecond
	for killed, tries := 0, 0; killed < kills; tries++ {
		if tries > 10*kills {
			t.Fatalf("%s: only %d of %d could be killed before they ended", args[0], killed, tries)
		}
		prepare()
		begun := time.Now()
		ended, kill := background(t, args...)
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("%s after %d kills: %v", args[0], killed, err)
			}
			whole = time.Since(begun)
			check(true)
		case <-time.After(time.Duration((0.3 + 0.7*random.Float64()) * float64(whole))):
			kill()
			killed++
			check(false)
		}
	}
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
		killedAtRandom(t, 12, func() {}, func(bool) {
			sameFiles(t, "the parent of a fork that was killed", left("parent"), parent, nil)
			if _, err := os.Stat(filepath.Join(at("fork"), "config.yaml")); err == nil { // it is a run, so it is complete
				sameFiles(t, "a fork after kills", left("fork"), want, nil)
				fresh("fork")()
			}
		}, fork("fork")...)
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
		killedAtRandom(t, 12, copied("remove"), func(bool) {
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
		killedAtRandom(t, 4, func() {}, func(ended bool) {
			if ended {
				sameFiles(t, "a run that lets models go, after kills", left("kept"), want, nil)
				fresh("kept")()
			}
		}, run("kept", "iterations=6", "keep={last: 1, every: 3}")...)
		mustRun(t, run("kept", "iterations=6", "keep={last: 1, every: 3}")...)
		sameFiles(t, "a run that lets models go, after kills", left("kept"), want, nil)
	})
}
