package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/transforms/stage/buckettest"
)

// leaseTime is how long the lock of a dead process holds, see docs/dataflow.md.
const leaseTime = time.Minute

// bucket starts a Cloud Storage for the program, whose copies of models and temporary files are the test's own.
func bucket(t *testing.T) (server *buckettest.Server, root string) {
	t.Helper()
	if testing.Short() {
		t.Skip("trains")
	}
	program(t)
	t.Setenv(models.CopiesVariable, filepath.Join(t.TempDir(), "models"))
	t.Setenv("TMPDIR", t.TempDir())
	return buckettest.Start(t), "gs://" + buckettest.Bucket + "/runs"
}

// objectDigests is digests of a run in the bucket.
func objectDigests(s *buckettest.Server, run string) map[string]string {
	prefix := strings.TrimPrefix(run, "gs://"+buckettest.Bucket+"/") + "/"
	out := map[string]string{}
	for name, content := range s.Objects(prefix) {
		name = strings.TrimPrefix(name, prefix)
		if !strings.HasPrefix(name, "telemetry/") && !strings.HasPrefix(name, ".lock") {
			sum := sha256.Sum256(content)
			out[name] = hex.EncodeToString(sum[:])
		}
	}
	return out
}

// noScratch fails the test when the program has left temporary files.
func noScratch(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(os.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("left over: %s", e.Name())
	}
}

// small are recipes of every part of an iteration that has files of its own.
var small = map[string]string{
	"policy":    tinyRecipe,
	"replicas":  strings.Replace(tinyRecipe, "minibatches: 2", "minibatches: 2\n  replicas: 2\n  outer: {rate: 0.7, momentum: 0.9}", 1),
	"backfill":  strings.Replace(tinyRecipe, "advantage:", "mixed: {low: 0, high: 1, backfill: {groups: 6, rounds: 3}}\nadvantage:", 1),
	"evaluated": strings.Replace(tinyRecipe, "evaluate: {every: 0}", "evaluate: {every: 2, prompts: 8, samples: 2}", 1),
}

// TestRunInABucket: a run in a bucket leaves the same files as one in a directory, and every command reads both alike.
func TestRunInABucket(t *testing.T) {
	s, root := bucket(t)
	for _, name := range []string{"policy", "replicas", "backfill", "evaluated"} {
		t.Run(name, func(t *testing.T) {
			recipe, local, remote := writeRecipe(t, small[name]), filepath.Join(t.TempDir(), "run"), root+"/"+name
			mustRun(t, "run", recipe, "--set", "run="+local)
			mustRun(t, "run", recipe, "--set", "run="+remote)
			sameFiles(t, "in a bucket", objectDigests(s, remote), digests(t, local), nil)
			if len(s.Objects("runs/"+name+"/.lock")) > 0 {
				t.Error("the lock is still there")
			}
			if len(s.Objects("runs/"+name+"/telemetry/counters.jsonl")) == 0 {
				t.Error("no telemetry")
			}
			s.Requests()
			mustRun(t, "run", recipe, "--set", "run="+remote) // nothing is left to do
			for _, r := range s.Requests() {
				if strings.HasPrefix(r, "POST") && !strings.Contains(r, "/upload/") {
					t.Error(r)
				}
			}
			sameFiles(t, "done already", objectDigests(s, remote), digests(t, local), nil)
		})
	}
	noScratch(t)
}
