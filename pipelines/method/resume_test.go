package method_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/run"
)

// A run goes on only with what it has computed and been given: one changed bit of its last iteration, of its configuration or of an
// input is named, and a link in its directory is followed by nothing.
func TestGoingOnIsWithTheSame(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	r := given(t, "grpo", dir, "iterations=2", "evaluate.every=0")
	if err := iterate(t.Context(), r, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	r.Iterations = 2
	again := func() error { return iterate(t.Context(), r, progress.Silent()) }
	if err := again(); err != nil {
		t.Fatal(err)
	}
	last := filepath.Join(r.Run, "iter-00001")
	for _, name := range []string{"policy/model.safetensors",
		"optimizer-policy/replica-000/optimizer.safetensors", "batch-00000-of-00001.parquet",
		"steps-policy.jsonl", "manifest.json"} {
		path := filepath.Join(last, name)
		if found, _ := filepath.Glob(filepath.Join(last, strings.Split(name, "-0")[0]+"*")); name[:5] == "batch" && len(found) == 1 {
			path = found[0]
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)/2] ^= 1
		write(t, path, raw)
		if err := again(); err == nil || !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("%s has another bit: %v", name, err)
		}
		raw[len(raw)/2] ^= 1
		write(t, path, raw)
	}
	// Another model under the same name.
	path := filepath.Join(dir, "policy", "model.safetensors")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	write(t, path, raw)
	var other *run.InputError
	if err := again(); !errors.As(err, &other) || other.Setting != "policy.path" || other.Then.Digest == other.Now.Digest {
		t.Errorf("another policy under the same name: %v", err)
	}
	raw[len(raw)-1] ^= 1
	write(t, path, raw)
	// A model of a committed iteration of another run.
	second := given(t, "grpo", dir, "iterations=1", "evaluate.every=0", "policy.path="+filepath.Join(last, "policy"))
	path = filepath.Join(last, "policy", "model.safetensors")
	if raw, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	write(t, path, raw)
	if err := iterate(t.Context(), second, progress.Silent()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a changed model of another run: %v", err)
	}
	raw[len(raw)-1] ^= 1
	write(t, path, raw)
	// A link in the place of an iteration.
	outside := t.TempDir()
	write(t, filepath.Join(outside, "precious"), []byte("x"))
	third := given(t, "grpo", dir, "iterations=1", "evaluate.every=0")
	if err := os.MkdirAll(third.Run, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(third.Run, "iter-00000")); err != nil {
		t.Fatal(err)
	}
	var link *run.LinkError
	if err := iterate(t.Context(), third, progress.Silent()); !errors.As(err, &link) {
		t.Errorf("a link in the run directory: %v", err)
	}
	if _, err := os.Stat(filepath.Join(outside, "precious")); err != nil {
		t.Errorf("the link's target was emptied: %v", err)
	}
}

func write(t *testing.T, path string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// The files of a pattern are those that the run began with: one more, one less and one under another name are refused by name.
func TestGoingOnIsWithTheSameFiles(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	sums := func(first int) []byte {
		var text strings.Builder
		for k := range 8 {
			fmt.Fprintf(&text, `{"prompt": "%d+%d=", "answer": "%d"}`+"\n", first, k, first+k)
		}
		return []byte(text.String())
	}
	for k, name := range []string{"a.jsonl", "b.jsonl"} {
		write(t, filepath.Join(data, name), sums(10*k))
	}
	r := given(t, "grpo", dir, "iterations=1", "evaluate.every=0", "prompts.source=file",
		"prompts.file={path: "+filepath.Join(data, "*.jsonl")+", fields: {prompt: prompt, answer: answer}, test_share: 0.5}")
	again := func() error { return iterate(t.Context(), r, progress.Silent()) }
	if err := again(); err != nil {
		t.Fatal(err)
	}
	a, b, c := filepath.Join(data, "a.jsonl"), filepath.Join(data, "b.jsonl"), filepath.Join(data, "c.jsonl")
	refused := func(what, file string) {
		t.Helper()
		var other *run.InputError
		if err := again(); !errors.As(err, &other) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", what, err)
		}
	}
	write(t, c, sums(20))
	refused("one file more", c)
	if err := os.Remove(c); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b, c); err != nil {
		t.Fatal(err)
	}
	refused("another name", b)
	if err := os.Rename(a, filepath.Join(data, "a.kept")); err != nil {
		t.Fatal(err)
	}
	refused("one file less", a)
	if err := errors.Join(os.Rename(filepath.Join(data, "a.kept"), a), os.Rename(c, b)); err != nil {
		t.Fatal(err)
	}
	if err := again(); err != nil {
		t.Errorf("the same files: %v", err)
	}
}

// The program of a verifier, and the script that it is given, are those that the run began with, wherever a recipe has a verifier.
func TestGoingOnIsWithTheSameProgram(t *testing.T) {
	dir, bin := t.TempDir(), t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	const text = "while read line; do echo '{\"verdict\": \"correct\"}'; done\n"
	script, tool := filepath.Join(bin, "judge.sh"), filepath.Join(bin, "judge")
	options := func(command string) string { return "{kind: command, options: {command: [" + command + "]}}" }
	for name, c := range map[string]struct{ set, setting, file string }{
		"a script":           {"label.verifier=" + options("sh, "+script), "label.verifier.options.command", script},
		"the program itself": {"label.verifier=" + options(tool), "label.verifier.options.command", tool},
		"a script of an audit": {"audit={share: 1, verifier: " + options("sh, "+script) + "}", "audit.verifier.options.command",
			script},
		"a script of a reward": {"rewards=[{name: a, weight: 1, verifier: " + options("sh, "+script) + "}]",
			"rewards[0].verifier.options.command", script},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, script, []byte(text))
			write(t, tool, []byte("#!/bin/sh\n"+text))
			if err := os.Chmod(tool, 0o755); err != nil {
				t.Fatal(err)
			}
			r := given(t, "grpo", dir, "iterations=1", "evaluate.every=0", c.set)
			again := func() error { return iterate(t.Context(), r, progress.Silent()) }
			if err := errors.Join(again(), again()); err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(c.file)
			if err != nil {
				t.Fatal(err)
			}
			write(t, c.file, append(raw, "# another\n"...))
			var other *run.InputError
			if err := again(); !errors.As(err, &other) || other.Setting != c.setting || other.Now.Path != c.file {
				t.Errorf("another program under the same name: %v", err)
			}
		})
	}
}
