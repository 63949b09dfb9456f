package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pipelines/quickstart"
)

// TestJobsWhateverTheMachineDoes: prompts by their pass rate, step labels and scores have the same bytes on one thread as on several,
// with one prompt a record as with many, and after being killed.
func TestJobsWhateverTheMachineDoes(t *testing.T) {
	if testing.Short() {
		t.Skip("samples")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := quickstart.Unpack(at("models")); err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for i := range 60 {
		a, b, c := i%10, i/10, (i*7)%10
		fmt.Fprintf(&lines, "{\"question\": \"%da+%db*%d=\", \"gold\": \"%d\"}\n", a, b, c, (a+b)*c%10)
	}
	lines.WriteString("no JSON\n")
	if err := os.WriteFile(at("prompts.jsonl"), []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	policy, reward := at("models/policy"), at("models/reward")
	common := []string{"--verifier", "proving_ground", "--max-new-tokens", "48", "--count", "20", "--set", "limits.dead_share=0.1"}
	mustRun(t, append([]string{"rollout", at("prompts.jsonl"), "--policy", policy, "--samples", "2", "--out", at("rolled")}, common...)...)
	random := rand.New(rand.NewPCG(17, 26))
	for name, args := range map[string][]string{
		"filter": append([]string{"filter", at("prompts.jsonl"), "--policy", policy, "--samples", "4"}, common...),
		"steps":  append([]string{"steps", at("rolled"), "--policy", policy, "--continuations", "4", "--audit", "0.3"}, common...),
		"score":  {"score", at("rolled"), "--reward", reward, "--count", "20"},
	} {
		t.Run(name, func(t *testing.T) {
			// The run and what lies beside it; filter.json names the directory.
			left := func(out string) map[string]string {
				got := digests(t, out)
				for path := range got {
					if strings.HasSuffix(path, "filter.json") || strings.Contains(path, ".lock") || strings.Contains(path, "telemetry") ||
						strings.Contains(path, "report.html") {
						delete(got, path)
					}
				}
				return got
			}
			start := time.Now()
			mustRun(t, append(args, "--out", at(name))...)
			whole := time.Since(start)
			want := left(at(name))
			for variable, more := range map[string][]string{"GOMAXPROCS=1": nil, "GOMAXPROCS=7": {"--runner", "direct"}} {
				out := at(name + "-" + variable)
				cmd := exec.Command(program(t), append(append(args, "--out", out), more...)...)
				cmd.Env = append(os.Environ(), variable)
				if said, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", variable, err, said)
				}
				sameFiles(t, variable, left(out), want, nil)
			}
			// A machine that is busy in one moment and idle in the next ends some before they are killed: those are tried again.
			out, killed := at(name+"-killed"), 0
			for try := 0; killed < 3; try++ {
				if try > 40 {
					t.Fatalf("only %d of %d could be killed before they ended", killed, try)
				}
				begun := time.Now()
				ended, kill := background(t, append(args, "--out", out)...)
				select {
				case err := <-ended:
					if err != nil {
						t.Fatalf("after %d kills: %v", killed, err)
					}
					whole = min(whole, time.Since(begun))
					if err := os.RemoveAll(out); err != nil {
						t.Fatal(err)
					}
				case <-time.After(time.Duration((0.2 + 0.7*random.Float64()) * float64(whole))):
					kill()
					killed++
				}
			}
			mustRun(t, append(args, "--out", out)...)
			sameFiles(t, fmt.Sprintf("after %d kills", killed), left(out), want, nil)
		})
	}
}

// background starts the program; it tells when it has ended, and kills it, waiting until it is gone.
func background(t *testing.T, args ...string) (ended chan error, kill func()) {
	t.Helper()
	cmd := exec.Command(program(t), args...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended = make(chan error, 1)
	go func() {
		err := cmd.Wait()
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, &log)
		}
		ended <- err
	}()
	return ended, func() {
		_ = cmd.Process.Kill()
		<-ended
	}
}
