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

// TestJobs: rollouts, verdicts and scores without an update have the same bytes on a cluster as on the embedded runner, in a directory
// and in a bucket; of rows of which one in a hundred is bad every one is a row or a dead letter.
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
	}{
		{"label", []string{"label", at("solutions.jsonl")}, 198, 2},
		{"rollout", []string{"rollout", at("prompts.jsonl"), "--policy", model, "--samples", "2", "--max-new-tokens", "24", "--verifier",
			"proving_ground"}, 396, 2},
		{"relabel", []string{"label", at("rollout"), "--verifier", "proving_ground"}, 396, 0},
		{"score", []string{"score", at("rollout"), "--reward", model, "--value", "ipvrm", "--set", "reward.value.beta=5"}, 396, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append(slices.Clone(c.args), loose...)
			here := rowsJob(t, append(args, "--out", at(c.name))...)
			if here.Rows != c.rows || here.Dead != c.dead || here.Iterations != 3 {
				t.Errorf("%+v, want %d rows and %d dead in 3 iterations", here, c.rows, c.dead)
			}
			want := manifests(t, at(c.name))
			start := time.Now()
			rowsJob(t, append(args, append([]string{"--out", at(c.name + "-flink")}, onFlink("process", 2)...)...)...)
			same(t, c.name, manifests(t, at(c.name+"-flink")), want)
			remote := root + "/jobs-" + c.name
			rowsJob(t, append(args, append([]string{"--out", remote}, onFlink("process", 2)...)...)...)
			same(t, c.name+" in a bucket", objectManifests(t, remote), want)
			t.Logf("%.1f s", time.Since(start).Seconds())
			if found, err := files.ListIn(t.Context(), remote, "iter-*/batch-*.parquet"); err != nil || len(found) != 3 {
				t.Errorf("%v, %v", found, err)
			}
		})
	}
	noWorkers(t)
}
