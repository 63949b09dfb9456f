package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/transforms/files/buckettest"
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

// TestRefreshInABucket: a reward model is trained in a bucket, from a policy in it, and serves a run in it.
func TestRefreshInABucket(t *testing.T) {
	s, root := bucket(t)
	refresh := func(run, policy string) {
		t.Helper()
		mustRun(t, "refresh", "ipvrm-refresh", "--set", "run="+run, "--set", "policy.path="+policy, "--set", "prompts.count=16", "--set",
			"evaluate.prompts=8",
			"--set", "gate.margin=-1")
	}
	start := filepath.Join(t.TempDir(), "start")
	mustRun(t, "run", writeRecipe(t, strings.Replace(tinyRecipe, "iterations: 4", "iterations: 1", 1)), "--set", "run="+start)
	policy := filepath.Join(start, "iter-00000", "policy")
	for name, content := range readFiles(t, policy) {
		s.Put("models/start/"+name, content) // as another program uploads a model: without digests
	}
	local, remote := filepath.Join(t.TempDir(), "run"), root+"/refresh"
	refresh(local, policy)
	refresh(remote, "gs://"+buckettest.Bucket+"/models/start")
	got, want := objectDigests(s, remote), digests(t, local)
	for _, files := range []map[string]string{got, want} { // the recipes name the policy, by its path
		delete(files, "config.yaml")
	}
	isRow := func(path string) bool { // which name their run by the digest of its recipe
		return !strings.HasSuffix(path, ".parquet") && !strings.HasSuffix(path, "manifest.json")
	}
	sameFiles(t, "in a bucket", got, want, isRow)
	noScratch(t)
}

func readFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if out[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestKilledInABucket kills the driver of a run in a bucket at chosen moments. A lock that was not given back keeps others
// off until it is too old; then the run goes on, samples nothing twice, and ends with the same bytes.
func TestKilledInABucket(t *testing.T) {
	s, root := bucket(t)
	recipe, local, remote := writeRecipe(t, small["evaluated"]), filepath.Join(t.TempDir(), "run"), root+"/killed"
	mustRun(t, "run", recipe, "--set", "run="+local)
	has := func(prefix, part string) func() bool {
		return func() bool {
			for name := range s.Objects("runs/killed/" + prefix) {
				if strings.Contains(name, part) {
					return true
				}
			}
			return false
		}
	}
	memos := func() int {
		n := 0
		for name := range s.Objects("runs/killed/iter-00001/exchange/rollout-") {
			if strings.HasSuffix(name, ".json") {
				n++
			}
		}
		return n
	}
	for _, moment := range []struct {
		name string
		ok   func() bool
	}{
		{"the lock is taken", has("", ".lock")},
		{"the start is written", has("start-policy/", "config.json")},
		{"some responses are sampled", func() bool { return memos() >= 2 }},
		{"a replica has left its result", has("iter-00001/exchange/policy-replica", "result.safetensors")},
		{"half of the model is uploaded", has("iter-00002/policy/", "")},
		{"an iteration is committed", has("iter-00002/", "manifest.json")},
		{"the metrics are written", has("iter-00003/", "metrics.jsonl")},
	} {
		cmd := exec.Command(program(t), "run", recipe, "--set", "run="+remote)
		var log bytes.Buffer
		cmd.Stderr = &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		for running := true; running && !moment.ok(); {
			select {
			case <-ended:
				running = false
			case <-time.After(time.Millisecond):
			}
		}
		_ = cmd.Process.Kill()
		<-ended
		if cmd.ProcessState.ExitCode() >= 0 {
			t.Fatalf("%s: the run ended before: %s", moment.name, log.String())
		}
		code, _, refused := millrace(t, "run", recipe, "--set", "run="+remote)
		if code != 1 || !strings.Contains(refused, "in use by another process") ||
			!strings.Contains(refused, fmt.Sprintf("process %d ", cmd.Process.Pid)) || !strings.Contains(refused, "can be taken over in") {
			t.Fatalf("%s: exit code %d: %s", moment.name, code, refused)
		}
		s.Advance(leaseTime)
	}
	mustRun(t, "run", recipe, "--set", "run="+remote)
	sameFiles(t, "after being killed", objectDigests(s, remote), digests(t, local), nil)
	sampled := map[string]int{}
	for _, r := range s.Requests() {
		if name, ok := strings.CutPrefix(r, "POST /upload/storage/v1/b/"+buckettest.Bucket+"/o?"); ok &&
			strings.Contains(name, "/exchange/rollout-") { // an evaluation is begun again, wherever a run lies
			sampled[name]++
		}
	}
	for name, n := range sampled {
		if n > 1 {
			t.Errorf("%s was sampled %d times", name, n)
		}
	}
	if want := 4 * 4; len(sampled) < want {
		t.Errorf("%d records were sampled, want at least %d", len(sampled), want)
	}
	for name := range s.Objects("runs/killed/") {
		if strings.Contains(name, "/exchange/") || strings.Contains(name, ".lock") {
			t.Errorf("left over: %s", name)
		}
	}
	noScratch(t)
}

// TestSecondDriverOfABucketIsRefused: also while the first one works, which renews its lock.
func TestSecondDriverOfABucketIsRefused(t *testing.T) {
	s, root := bucket(t)
	recipe, remote := writeRecipe(t, tinyRecipe), root+"/second"
	cmd := exec.Command(program(t), "run", recipe, "--set", "run="+remote, "--set", "iterations=1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	for len(s.Objects("runs/second/iter-00000/manifest.json")) == 0 {
		time.Sleep(time.Millisecond)
	}
	code, _, log := millrace(t, "run", recipe, "--set", "run="+remote, "--set", "iterations=1000")
	if code != 1 || !strings.Contains(log, "in use by another process") {
		t.Errorf("exit code %d: %s", code, log)
	}
	interrupt(t, cmd)
	if left := s.Objects("runs/second/.lock"); len(left) > 0 {
		t.Error("an interrupted run leaves its lock")
	}
}

// TestLockOfABucketIsLost: a driver whose lock another one has taken over commits nothing more and says why it ends.
func TestLockOfABucketIsLost(t *testing.T) {
	s, root := bucket(t)
	cmd := exec.Command(program(t), "run", writeRecipe(t, tinyRecipe), "--set", "run="+root+"/lost", "--set", "iterations=100000")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	for len(s.Objects("runs/lost/iter-00000/manifest.json")) == 0 {
		time.Sleep(time.Millisecond)
	}
	s.Put("runs/lost/.lock", []byte(`{"owner": "another"}`))
	taken := time.Now()
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(2 * time.Minute):
		t.Fatal("the driver goes on without its lock")
	}
	t.Logf("it ended after %v", time.Since(taken))
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(log.String(), "the lock was lost") {
		t.Errorf("exit code %d: %s", code, log.String())
	}
	if len(s.Objects("runs/lost/.lock")) != 1 {
		t.Error("the lock of the other driver is gone")
	}
	noScratch(t)
}

// TestCommandsOnABucket: every command that takes a run, a model or rows takes those of a bucket, or says that it does not.
func TestCommandsOnABucket(t *testing.T) {
	s, root := bucket(t)
	recipe, local, remote := writeRecipe(t, small["backfill"]), filepath.Join(t.TempDir(), "run"), root+"/commands"
	for _, run := range []string{local, remote} {
		mustRun(t, "run", recipe, "--set", "run="+run)
	}
	iteration := "/iter-00003"
	for _, args := range [][]string{
		{"show", "RUN"}, {"show", "RUN", "--ledger"}, {"show", "RUN", "--dead"},
		{"eval", "RUN", "--set", "evaluate.prompts=4"}, {"eval", "RUN" + iteration + "/policy", "--recipe", "RUN/config.yaml", "--set",
			"run=RUN", "--set", "evaluate.prompts=4"},
		{"inspect", "RUN" + iteration + "/policy"}, {"inspect", "RUN" + iteration + "/policy/model.safetensors"}, {"inspect", "RUN" + iteration +
			"/ledger.json"},
		{"inspect", "RUN" + iteration + "/batch-00000-of-00001.parquet"},
		{"plan", "RUN/config.yaml", "--set", "run=RUN"}, {"retry", "RUN"}, {"report", "RUN"},
		{"relabel", "RUN" + iteration + "/batch-00000-of-00001.parquet", "--verifier", "exact", "--out", "RUN-relabeled"},
		{"relabel", "RUN", "--verifier", "exact", "--out", "RUN-again"}, {"run", "RUN/config.yaml", "--set", "run=RUN"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			var printed [2]string
			for i, run := range []string{local, remote} {
				var given []string
				for _, a := range args {
					given = append(given, strings.ReplaceAll(a, "RUN", run))
				}
				printed[i] = strings.ReplaceAll(mustRun(t, append(given, "--json")...), run, "RUN")
			}
			if printed[0] != printed[1] {
				t.Errorf("of a directory:\n%s\nof a bucket:\n%s", printed[0], printed[1])
			}
		})
	}
	relabeled := sameContent(readFiles(t, local+"-relabeled"), s.Objects("runs/commands-relabeled/"))
	if relabeled != "" || len(s.Objects("runs/commands/report.html")) == 0 {
		t.Errorf("relabeled: %s, or no report", relabeled)
	}
	for _, refused := range []struct {
		args []string
		says string
	}{
		{[]string{"run", recipe, "--set", "run=s3://bucket/run"}, "s3://bucket/run"},
		{[]string{"run", recipe, "--set", "run=gs://" + buckettest.Bucket}, "whole bucket"},
		{[]string{"run", recipe, "--set", "run=gs://another-bucket/run"}, "bucket does not exist"},
		{[]string{"quickstart", "--run", root + "/quickstart"}, "quickstart"},
		{[]string{"show", root + "/none"}, "is not a run directory"},
		{[]string{"inspect", root + "/none"}, root + "/none"},
		{[]string{"eval", "s3://bucket/run", "--recipe", recipe}, "s3://bucket/run"},
	} {
		code, _, log := millrace(t, refused.args...)
		if code == 0 || !strings.Contains(log, refused.says) {
			t.Errorf("%v: exit code %d, want an error that says %q: %s", refused.args, code, refused.says, log)
		}
	}
	noScratch(t)
}

// sameContent compares the files of a directory with objects, and says how they differ.
func sameContent(files map[string][]byte, objects map[string][]byte) string {
	if len(files) != len(objects) {
		return fmt.Sprintf("%d files, %d objects", len(files), len(objects))
	}
	for name, content := range objects {
		if !bytes.Equal(files[name[strings.LastIndex(name, "/")+1:]], content) {
			return name
		}
	}
	return ""
}
