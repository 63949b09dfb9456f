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
	"sync"
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
	args := []string{"--runner", "flink", "--set", "runner.flink.environment=" + environment, "--set",
		fmt.Sprintf("runner.flink.parallelism=%d", slots),
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

// recipe is a run that must give the same bytes wherever it runs.
type recipe struct {
	name, file string
	sets       []string
}

// recipes are policy iteration, reward refresh, the same on a schedule, in bfloat16, distillation, supervised training, and an update
// with several replicas. Models to start from are right now and then.
func recipes(t *testing.T) []recipe {
	model := filepath.Join(undisturbed(t), "iter-00000", "policy")
	policy := []string{"--set", "policy.path=" + model}
	teachers := []string{"--set", "policy.path=" + model, "--set", "distill.teacher.path=" + model}
	return []recipe{
		{"train", "train.yaml", nil},
		{"policy", "policy.yaml", policy},
		{"reward", "reward.yaml", append([]string{"--set", "reward.path=" + model}, policy...)},
		{"scheduled", "scheduled.yaml", append([]string{"--set", "reward_models=[{name: second, path: " + model + "}]"}, policy...)},
		{"bfloat16", "reward.yaml", append([]string{"--set", "reward.path=" + model, "--set", "policy.precision=bfloat16", "--set",
			"reward.precision=bfloat16"}, policy...)},
		{"dckd", "dckd.yaml", teachers},
		{"adpa", "adpa.yaml", append([]string{"--set", "distill.reference.path=" + model}, teachers...)},
		{"replicas-2", "policy.yaml", append([]string{"--set", "update.replicas=2"}, policy...)},
		{"replicas-4", "policy.yaml", append([]string{"--set", "update.replicas=4"}, policy...)},
	}
}

// start is the run of long.yaml on the embedded runner that nothing disturbs: what faults are compared with, and a model.
var start = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(scratch, "undisturbed")
	out, err := exec.Command(os.Getenv("MILLRACE_BINARY"), "run", filepath.Join("testdata", "long.yaml"), "--set", "run="+dir).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return dir, err
})

func undisturbed(t *testing.T) string {
	t.Helper()
	dir, err := start()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "millrace-flink-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

func TestSameBytesAsTheEmbeddedRunner(t *testing.T) {
	for _, r := range recipes(t) {
		t.Run(r.name, func(t *testing.T) {
			dir := t.TempDir()
			out, err := run(t, r.file, filepath.Join(dir, "prism"), r.sets...)
			must(t, out, err)
			want := manifests(t, filepath.Join(dir, "prism"))
			for _, c := range []struct {
				environment string
				slots       int
			}{{"process", 1}, {"process", 2}, {"process", 4}, {"loopback", 2}} {
				what := fmt.Sprintf("%s-%d", c.environment, c.slots)
				start := time.Now()
				out, err := run(t, r.file, filepath.Join(dir, what), append(onFlink(c.environment, c.slots), r.sets...)...)
				must(t, out, err)
				same(t, what, manifests(t, filepath.Join(dir, what)), want)
				t.Logf("%s: %.1f s", what, time.Since(start).Seconds())
			}
			noWorkers(t)
		})
	}
}

// TestSameEvaluation: what is measured of a policy, with its standard errors, is the same to the last digit.
func TestSameEvaluation(t *testing.T) {
	model := filepath.Join(undisturbed(t), "iter-00000", "policy")
	evaluate := func(args ...string) string {
		args = append([]string{"eval", model, "--recipe", filepath.Join("testdata", "policy.yaml"), "--json", "--set", "run=unused", "--set",
			"policy.path=" + model,
			"--set", "evaluate.prompts=24", "--set", "evaluate.samples=4"}, args...)
		cmd := exec.CommandContext(t.Context(), binary(t), args...)
		var printed, complaints bytes.Buffer
		cmd.Stdout, cmd.Stderr = &printed, &complaints
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, &complaints)
		}
		return printed.String()
	}
	want := evaluate()
	for _, slots := range []int{1, 2, 4} {
		got := evaluate("--set", "runner.name=flink", "--set", "runner.flink.environment=process", "--set",
			fmt.Sprintf("runner.flink.parallelism=%d", slots))
		if got != want {
			t.Errorf("%d slots: %s, on the embedded runner %s", slots, got, want)
		}
	}
	if !strings.Contains(want, "std_err") {
		t.Errorf("nothing was measured: %s", want)
	}
}

func TestExternalPool(t *testing.T) {
	pool(t, "localhost:50071")
	dir := t.TempDir()
	out, err := run(t, "train.yaml", filepath.Join(dir, "prism"))
	must(t, out, err)
	out, err = run(t, "train.yaml", filepath.Join(dir, "pool"), onFlink("external", 4, "--set", "runner.flink.pool=localhost:50071")...)
	must(t, out, err)
	same(t, "pool", manifests(t, filepath.Join(dir, "pool")), manifests(t, filepath.Join(dir, "prism")))
}

// TestOnlyDescriptorsCrossShuffles asks the cluster how many bytes its tasks handed on a record. A group of 4 rows takes
// tens of KB; what describes it takes hundreds of bytes. With some hundred records, one that held something of each would show.
func TestOnlyDescriptorsCrossShuffles(t *testing.T) {
	const limit = 4 << 10
	for _, r := range recipes(t)[:4] {
		t.Run(r.name, func(t *testing.T) {
			dir := t.TempDir()
			many := onFlink("process", 2, "--set", "prompts.count=300", "--set", "prompts.per_record=1", "--set", "evaluate.every=1", "--set",
				"evaluate.prompts=300")
			out, err := run(t, r.file, dir, append(many, r.sets...)...)
			must(t, out, err)
			tasks, most := 0, 0
			for _, v := range vertices(t, dir) {
				tasks++
				if v.records > 0 {
					most = max(most, v.bytes/v.records)
				}
				if v.records > 0 && v.bytes/v.records > limit {
					t.Errorf("%s: %d bytes in %d records", v.name, v.bytes, v.records)
				}
			}
			if tasks == 0 {
				t.Error("no task was counted")
			}
			t.Logf("at most %d bytes a record", most)
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
