//go:build flink

package flink

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/transforms/files"
)

// rowsJob runs a command without an update and returns what it says of the rows.
func rowsJob(t *testing.T, args ...string) (done struct {
	Rows, Dead, Iterations int
	Prompts, Kept          int // of a filter
}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t), append(args, "--json")...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &done)
	}
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, &complaints)
	}
	return done
}

// TestJobs: rollouts, verdicts, scores, prompts by their pass rate and step labels have the same bytes on a cluster as on the embedded
// runner, in a directory and in a bucket; of rows of which one in a hundred is bad every one is a row or a dead letter.
func TestJobs(t *testing.T) {
	_, root := bucket(t)
	dir := t.TempDir()
	model := filepath.Join(undisturbed(t), "iter-00000", "policy")
	var prompts, solutions strings.Builder
	for i := range 200 {
		a, b, c := i%10, i/10%10, (i*7)%10
		if i%100 == 50 {
			prompts.WriteString("no JSON\n")
			solutions.WriteString(`{"question": "1+1", "answer": 2}` + "\n")
			continue
		}
		fmt.Fprintf(&prompts, "{\"question\": \"%da+%db*%dc-%d=\", \"answer\": \"%d\"}\n", a, b, c, i%7, (((a+b)*c-i%7)%10+10)%10)
		fmt.Fprintf(&solutions, "{\"question\": \"%d + %d?\", \"answer\": \"%d\", \"response\": \"It is \\\\boxed{%d}.\"}\n", a, i, a+i, a+i+i%2)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"prompts.jsonl": prompts.String(), "solutions.jsonl": solutions.String()} {
		if err := os.WriteFile(at(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	loose := []string{"--set", "limits.dead_share=0.02", "--count", "70"}
	for _, c := range []struct {
		name string
		args []string
		rows int
		dead int
		run  string   // below the directory of the job
		left []string // files that it leaves beside the run
	}{
		{name: "label", args: []string{"label", at("solutions.jsonl")}, rows: 198, dead: 2},
		{name: "rollout", args: []string{"rollout", at("prompts.jsonl"), "--policy", model, "--samples", "2", "--max-new-tokens", "24",
			"--verifier", "proving_ground"}, rows: 396, dead: 2},
		{name: "relabel", args: []string{"label", at("rollout"), "--verifier", "proving_ground"}, rows: 396},
		{name: "score", args: []string{"score", at("rollout"), "--reward", model, "--value", "ipvrm", "--set", "reward.value.beta=5"}, rows: 396},
		{name: "steps", args: []string{"steps", at("rollout"), "--policy", model, "--verifier", "proving_ground", "--max-new-tokens", "32",
			"--continuations", "2", "--audit", "0.2"}, rows: 396},
		{name: "filter", args: []string{"filter", at("prompts.jsonl"), "--policy", model, "--samples", "2", "--max-new-tokens", "24",
			"--verifier", "proving_ground", "--min", "0", "--max", "0.4"}, dead: 2, run: "rollouts",
			left: []string{"prompts.jsonl", "removed.jsonl"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append(slices.Clone(c.args), loose...)
			here := rowsJob(t, append(args, "--out", at(c.name))...)
			if here.Rows != c.rows || here.Dead != c.dead || c.run == "" && here.Iterations != 3 || c.run != "" && here.Prompts != 198 {
				t.Errorf("%+v, want %d rows and %d dead in 3 iterations", here, c.rows, c.dead)
			}
			inside := func(dir string) string {
				if c.run == "" {
					return dir
				}
				return files.Join(dir, c.run)
			}
			want := manifests(t, inside(at(c.name)))
			start := time.Now()
			rowsJob(t, append(args, append([]string{"--out", at(c.name + "-flink")}, onFlink("process", 2)...)...)...)
			same(t, c.name, manifests(t, inside(at(c.name+"-flink"))), want)
			remote := root + "/jobs-" + c.name
			rowsJob(t, append(args, append([]string{"--out", remote}, onFlink("process", 2)...)...)...)
			same(t, c.name+" in a bucket", objectManifests(t, inside(remote)), want)
			t.Logf("%.1f s", time.Since(start).Seconds())
			if found, err := files.ListIn(t.Context(), inside(remote), "iter-*/batch-*.parquet"); err != nil || len(found) != 3 {
				t.Errorf("%v, %v", found, err)
			}
			for _, name := range c.left {
				want, err := os.ReadFile(at(filepath.Join(c.name, name)))
				if err != nil || len(want) == 0 && name == "prompts.jsonl" {
					t.Fatalf("%s: %d bytes, %v", name, len(want), err)
				}
				for _, dir := range []string{at(c.name + "-flink"), remote} {
					have, err := files.Read(t.Context(), files.Join(dir, name), 1<<20)
					if err != nil {
						t.Fatal(err)
					}
					same(t, files.Join(dir, name), string(have), string(want))
				}
			}
		})
	}
	noWorkers(t)
}
