//go:build flink

package flink

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/files/buckettest"
	_ "github.com/millrace/millrace/transforms/files/clouds" // the tests read the bucket themselves
)

// serveBucket is the variable that makes this test program a Cloud Storage in memory.
const serveBucket = "MILLRACE_SERVE_BUCKET"

func init() {
	if address := os.Getenv(serveBucket); address != "" {
		fmt.Fprintln(os.Stderr, http.ListenAndServe(address, buckettest.New()))
		os.Exit(1)
	}
}

// bucket starts a Cloud Storage in a process of its own, where test.sh has told the cluster that there is one. Copies of
// models are the driver's own: the workers of the cluster keep theirs elsewhere.
func bucket(t *testing.T) (address, root string) {
	t.Helper()
	address = os.Getenv("STORAGE_EMULATOR_HOST")
	if address == "" {
		t.Fatal("STORAGE_EMULATOR_HOST is not set; run e2e/flink/test.sh")
	}
	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), serveBucket+"="+address)
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	await(t, "the server is there", func() bool { return advance(address, 0) == nil })
	t.Setenv(models.CopiesVariable, filepath.Join(t.TempDir(), "models"))
	return address, "gs://" + buckettest.Bucket + "/runs"
}

// advance sets the clock of the server forward.
func advance(address string, by time.Duration) error {
	answer, err := http.Post("http://"+address+"/advance?by="+by.String(), "", nil)
	if err == nil {
		answer.Body.Close()
	}
	return err
}

// objectManifests is manifests of a run in the bucket.
func objectManifests(t *testing.T, run string) string {
	t.Helper()
	paths, err := files.ListIn(t.Context(), run, "iter-*/manifest.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: no manifest (%v)", run, err)
	}
	slices.Sort(paths)
	var all bytes.Buffer
	for _, f := range paths {
		raw, err := files.Read(t.Context(), f, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(raw)
	}
	return all.String()
}

func noObjectLitter(t *testing.T, run string) {
	t.Helper()
	listed, err := files.Below(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range listed {
		if strings.Contains(f.Name, "exchange/") || strings.Contains(f.Name, ".lock") {
			t.Errorf("left over: %s", f.Path)
		}
	}
}

// TestRunInABucket: driver and workers share a bucket and no directory, and the files are those of the embedded runner in a
// directory. The models that runs start from lie in the bucket too.
func TestRunInABucket(t *testing.T) {
	_, root := bucket(t)
	first := root + "/train"
	out, err := run(t, "long.yaml", first, onFlink("process", 2)...)
	must(t, out, err)
	same(t, "train", objectManifests(t, first), manifests(t, undisturbed(t)))
	model := first + "/iter-00000/policy"
	policy := []string{"--set", "policy.path=" + model}
	for _, r := range []recipe{
		{"policy", "policy.yaml", policy},
		{"reward", "reward.yaml", append([]string{"--set", "reward.path=" + model}, policy...)},
		{"replicas-2", "policy.yaml", append([]string{"--set", "update.replicas=2"}, policy...)},
	} {
		t.Run(r.name, func(t *testing.T) {
			local, remote := filepath.Join(t.TempDir(), "prism"), root+"/"+r.name
			out, err := run(t, r.file, local, r.sets...)
			must(t, out, err)
			start := time.Now()
			out, err = run(t, r.file, remote, append(onFlink("process", 2), r.sets...)...)
			must(t, out, err)
			t.Logf("%.1f s", time.Since(start).Seconds())
			same(t, r.name, objectManifests(t, remote), manifests(t, local))
			noObjectLitter(t, remote)
		})
	}
	noWorkers(t)
	copies := os.Getenv("MILLRACE_CLUSTER_MODELS")
	if entries, err := os.ReadDir(copies); err != nil || len(entries) < 2 {
		t.Errorf("the workers have fetched no model of their own into %q: %v, %v", copies, entries, err)
	}
}

// TestDriverOfABucketKilled: the lock keeps others off until it is too old; then the run goes on and gives the same bytes.
func TestDriverOfABucketKilled(t *testing.T) {
	address, root := bucket(t)
	want, remote := manifests(t, undisturbed(t)), root+"/killed"
	driver := command(t.Context(), t, "long.yaml", remote, onFlink("process", 2)...)
	if err := driver.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "a worker starts", func() bool { return len(workers(t, binary(t))) > 0 })
	driver.Process.Kill()
	driver.Wait()
	out, err := run(t, "long.yaml", remote, onFlink("process", 2)...)
	if err == nil || !strings.Contains(out, "can be taken over in") {
		t.Errorf("a second driver at once: %v\n%s", err, out)
	}
	if err := advance(address, time.Minute); err != nil {
		t.Fatal(err)
	}
	out, err = run(t, "long.yaml", remote, onFlink("process", 2)...)
	must(t, out, err)
	same(t, "after the driver was killed", objectManifests(t, remote), want)
	noObjectLitter(t, remote)
	noWorkers(t)
	if _, err := files.Stat(t.Context(), remote+"/.lock"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock: %v", err)
	}
}
