package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var build struct {
	once   sync.Once
	binary string
	err    error
}

// program builds the program once for all tests and returns its path.
func program(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the program")
	}
	build.once.Do(func() {
		dir, err := os.MkdirTemp("", "millrace-e2e-")
		if err != nil {
			build.err = err
			return
		}
		build.binary = filepath.Join(dir, "millrace")
		if out, err := exec.Command("go", "build", "-tags", "cloud", "-o", build.binary, module).CombinedOutput(); err != nil {
			build.err = errors.New(string(out))
		}
	})
	if build.err != nil {
		t.Fatalf("go build: %v", build.err)
	}
	return build.binary
}

// TestMain removes the program that tests have built.
func TestMain(m *testing.M) {
	code := m.Run()
	if build.binary != "" {
		os.RemoveAll(filepath.Dir(build.binary))
	}
	os.Exit(code)
}

// millrace runs the program to its end.
func millrace(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(program(t), args...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), log.String()
}

// mustRun runs the program and fails the test unless it succeeds.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	code, out, log := millrace(t, args...)
	if code != 0 {
		t.Fatalf("millrace %s: exit code %d\n%s", strings.Join(args, " "), code, log)
	}
	return out
}

// digests are the digests of every file of a run, by path inside the run. What it tells about itself, which holds readings
// of the clock, and the lock are no part of the result.
func digests(t *testing.T, run string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(run, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "telemetry" {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(run, path)
		if err != nil {
			return err
		}
		if rel == ".lock" {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(raw)
		out[rel] = hex.EncodeToString(sum[:])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sameFiles compares two runs file by file; only says which files are looked at (nil: all).
func sameFiles(t *testing.T, name string, got, want map[string]string, only func(path string) bool) {
	t.Helper()
	compared := 0
	for path, digest := range want {
		if only != nil && !only(path) {
			continue
		}
		compared++
		switch other, ok := got[path]; {
		case !ok:
			t.Errorf("%s: %s is missing", name, path)
		case other != digest:
			t.Errorf("%s: %s differs", name, path)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok && (only == nil || only(path)) {
			t.Errorf("%s: %s should not be there", name, path)
		}
	}
	if compared == 0 {
		t.Errorf("%s: nothing to compare", name)
	}
}

// tinyRecipe is a policy recipe on the proving ground that takes a second: an untrained model of a few thousand weights.
const tinyRecipe = `
kind: policy
run: unset
iterations: 4
seed: 7
prompts: {source: chain, count: 8, per_record: 2}
policy:
  tokenizer: proving_ground
  new: {model_type: llama, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, intermediate_size: 48,
        rms_norm_eps: 1.0e-6, rope_theta: 10000, max_position_embeddings: 128, tie_word_embeddings: false}
rollout: {samples: 4, max_new_tokens: 24}
label: {verifier: {kind: regex, options: {pattern: "[0-9]"}}} # of an untrained model about every tenth digit is right
advantage: {kind: grpo, groups: all}
update:
  losses: [{name: ppo}]
  minibatches: 2
  optimizer: {lr: 1e-3}
evaluate: {every: 0}
`

// writeRecipe writes a recipe into a directory of the test's and returns its path.
func writeRecipe(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recipe.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// modelOf is the digest of the policy that an iteration left.
func modelOf(t *testing.T, files map[string]string, iteration string) string {
	t.Helper()
	digest, ok := files[filepath.Join(iteration, "policy", "model.safetensors")]
	if !ok {
		t.Fatalf("%s left no policy", iteration)
	}
	return digest
}
