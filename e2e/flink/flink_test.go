//go:build flink

// Tests on a real standalone cluster; see test.sh, which starts it.
package flink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// binary is the program under test, the same file for driver and workers.
func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("MILLRACE_BINARY")
	if path == "" {
		t.Fatal("MILLRACE_BINARY is not set; run e2e/flink/test.sh")
	}
	return path
}

// run runs a recipe of testdata and returns what it printed.
func run(t *testing.T, recipe, dir string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out, err := command(ctx, t, recipe, dir, args...).CombinedOutput()
	return string(out), err
}

func command(ctx context.Context, t *testing.T, recipe, dir string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, binary(t), append([]string{"run", filepath.Join("testdata", recipe), "--set", "run=" + dir}, args...)...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func onFlink(environment string, slots int, more ...string) []string {
	args := []string{"--runner", "flink", "--set", "runner.flink.environment=" + environment, "--set", fmt.Sprintf("runner.flink.parallelism=%d", slots),
		"--set", "runner.no_progress_minutes=5"}
	return append(args, more...)
}

// manifests joins the manifests of all iterations. They hold the digest of every file of the run: rows, weights, optimizer
// state, metrics.
func manifests(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "iter-*", "manifest.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no manifest (%v)", dir, err)
	}
	slices.Sort(files)
	var all bytes.Buffer
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(raw)
	}
	return all.String()
}

func must(t *testing.T, out string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// same compares runs by their manifests and says which files differ.
func same(t *testing.T, what, have, want string) {
	t.Helper()
	if have == want {
		return
	}
	haveLines := strings.Split(have, "\n")
	for i, line := range strings.Split(want, "\n") {
		if i >= len(haveLines) || haveLines[i] != line {
			t.Errorf("%s: other bytes: want %s", what, strings.TrimSpace(line))
		}
	}
}

// recipes are run on every runner. A policy recipe starts from a model that is right now and then.
func recipes(t *testing.T) map[string][]string {
	start := filepath.Join(t.TempDir(), "start")
	out, err := run(t, "long.yaml", start)
	must(t, out, err)
	model := filepath.Join(start, "iter-00000", "policy")
	return map[string][]string{
		"train.yaml":  nil,
		"policy.yaml": {"--set", "policy.path=" + model},
		"reward.yaml": {"--set", "policy.path=" + model, "--set", "reward.path=" + model},
	}
}

func TestSameBytesAsTheEmbeddedRunner(t *testing.T) {
	for name, sets := range recipes(t) {
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) {
			dir := t.TempDir()
			out, err := run(t, name, filepath.Join(dir, "prism"), sets...)
			must(t, out, err)
			want := manifests(t, filepath.Join(dir, "prism"))
			for _, c := range []struct {
				environment string
				slots       int
			}{{"process", 1}, {"process", 2}, {"process", 4}, {"loopback", 2}} {
				what := fmt.Sprintf("%s-%d", c.environment, c.slots)
				start := time.Now()
				out, err := run(t, name, filepath.Join(dir, what), append(onFlink(c.environment, c.slots), sets...)...)
				must(t, out, err)
				same(t, what, manifests(t, filepath.Join(dir, what)), want)
				t.Logf("%s: %.1f s", what, time.Since(start).Seconds())
			}
			noWorkers(t)
		})
	}
}

func TestExternalPool(t *testing.T) {
	pool := exec.Command(binary(t), "worker", "--listen", "localhost:50071")
	pool.Stderr = os.Stderr
	if err := pool.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		pool.Process.Signal(syscall.SIGTERM)
		pool.Wait()
	}()
	dir := t.TempDir()
	out, err := run(t, "train.yaml", filepath.Join(dir, "prism"))
	must(t, out, err)
	out, err = run(t, "train.yaml", filepath.Join(dir, "pool"), onFlink("external", 4, "--set", "runner.flink.pool=localhost:50071")...)
	must(t, out, err)
	same(t, "pool", manifests(t, filepath.Join(dir, "pool")), manifests(t, filepath.Join(dir, "prism")))
}

// TestOnlyDescriptorsCrossShuffles asks the cluster how many bytes its tasks handed on a record. A group of 4 rows takes
// tens of KB; what describes it takes hundreds of bytes.
func TestOnlyDescriptorsCrossShuffles(t *testing.T) {
	const limit = 4 << 10
	for name, sets := range recipes(t) {
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) {
			dir := t.TempDir()
			out, err := run(t, name, dir, append(onFlink("process", 2), sets...)...)
			must(t, out, err)
			tasks := 0
			for _, v := range vertices(t, dir) {
				tasks++
				if v.records > 0 && v.bytes/v.records > limit {
					t.Errorf("%s: %d bytes in %d records", v.name, v.bytes, v.records)
				}
			}
			if tasks == 0 {
				t.Error("no task was counted")
			}
		})
	}
}

type vertex struct {
	name           string
	records, bytes int
}

// vertices lists the tasks of all jobs of a run.
func vertices(t *testing.T, dir string) []vertex {
	t.Helper()
	get := func(path string, into any) {
		resp, err := http.Get("http://localhost:8081" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	digest := sha256.Sum256([]byte(dir))
	var overview struct {
		Jobs []struct{ Jid, Name string }
	}
	get("/jobs/overview", &overview)
	var out []vertex
	for _, j := range overview.Jobs {
		if j.Name != "millrace-"+hex.EncodeToString(digest[:])[:16] {
			continue
		}
		var detail struct {
			Vertices []struct {
				Name    string
				Metrics struct {
					Bytes   int `json:"write-bytes"`
					Records int `json:"write-records"`
				}
			}
		}
		get("/jobs/"+j.Jid, &detail)
		for _, v := range detail.Vertices {
			out = append(out, vertex{v.Name, v.Metrics.Records, v.Metrics.Bytes})
		}
	}
	return out
}

func TestUnknownRunnerOptionIsRefused(t *testing.T) {
	out, err := run(t, "train.yaml", t.TempDir(), onFlink("process", 1, "--set", "runner.flink.options.nonesuch=1")...)
	if err == nil || !strings.Contains(out, "runner.flink.options.nonesuch") {
		t.Errorf("%v: %s", err, out)
	}
}

// workers lists the worker processes that run the program.
func workers(t *testing.T) []int {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, p := range procs {
		raw, _ := os.ReadFile(p)
		args := strings.Split(string(raw), "\x00")
		if args[0] == binary(t) && slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--provision_endpoint=") }) {
			var pid int
			fmt.Sscanf(filepath.Base(filepath.Dir(p)), "%d", &pid)
			pids = append(pids, pid)
		}
	}
	return pids
}

// await waits for a condition; the limit is far above what it takes.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func noWorkers(t *testing.T) {
	t.Helper()
	await(t, "workers end with their job", func() bool { return len(workers(t)) == 0 })
}

// fault runs the long recipe on the cluster, does damage once a worker is at work, and compares what comes out.
func fault(t *testing.T, damage func(t *testing.T, driver *exec.Cmd), resumes bool) {
	dir := t.TempDir()
	out, err := run(t, "long.yaml", filepath.Join(dir, "prism"))
	must(t, out, err)
	var printed bytes.Buffer
	driver := command(t.Context(), t, "long.yaml", filepath.Join(dir, "flink"), onFlink("process", 2)...)
	driver.Stdout, driver.Stderr = &printed, &printed
	if err := driver.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "a worker starts", func() bool { return len(workers(t)) > 0 })
	damage(t, driver)
	err = driver.Wait()
	t.Logf("driver: %v", err)
	if !resumes {
		must(t, printed.String(), err)
	} else {
		if err == nil {
			t.Errorf("the driver did not notice")
		}
		out, err := run(t, "long.yaml", filepath.Join(dir, "flink"), onFlink("process", 2)...)
		must(t, out, err)
	}
	same(t, "after the fault", manifests(t, filepath.Join(dir, "flink")), manifests(t, filepath.Join(dir, "prism")))
	noWorkers(t)
	noLitter(t, filepath.Join(dir, "flink"))
}

func noLitter(t *testing.T, dir string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), ".tmp") {
			t.Errorf("left over: %s", path)
		}
		return nil
	})
}

func TestWorkerKilled(t *testing.T) {
	fault(t, func(t *testing.T, _ *exec.Cmd) {
		for _, pid := range workers(t) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}, false)
}

func TestDriverKilled(t *testing.T) {
	fault(t, func(t *testing.T, driver *exec.Cmd) { driver.Process.Kill() }, true)
}

func TestDriverInterrupted(t *testing.T) {
	fault(t, func(t *testing.T, driver *exec.Cmd) { driver.Process.Signal(os.Interrupt) }, true)
}

func TestJobServiceKilled(t *testing.T) {
	fault(t, func(t *testing.T, driver *exec.Cmd) {
		cluster(t, "killjobservice")
		cluster(t, "jobservice")
	}, true)
}

// TestTaskManagerKilled: the other TaskManager has the slots that the job needs.
func TestTaskManagerKilled(t *testing.T) {
	defer cluster(t, "addtm")
	fault(t, func(t *testing.T, _ *exec.Cmd) { cluster(t, "killtm") }, false)
}

func cluster(t *testing.T, what string) {
	t.Helper()
	cmd := exec.Command("./cluster.sh", what)
	cmd.Env = os.Environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cluster.sh %s: %v\n%s", what, err, out)
	}
}
