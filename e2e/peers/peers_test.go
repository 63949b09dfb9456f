//go:build peers

// Package peers holds the formats of export against the programs that read them, and what experiment trackers are sent against these:
// every loader and reader is the peer's own, at the version that requirements.txt and bare.txt pin. One command does all of it:
//
//	go test -tags peers -timeout 60m -v ./e2e/peers
//
// It installs the peers (install.sh) into $MILLRACE_PEERS, or into the user's cache.
package peers

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/command"
)

// millrace runs a command of the program.
func millrace(t *testing.T, args ...string) {
	t.Helper()
	var out, problems bytes.Buffer
	if code := command.Main(args, &out, &problems); code != 0 {
		t.Fatalf("millrace %s: exit status %d\n%s%s", strings.Join(args, " "), code, out.String(), problems.String())
	}
}

// install gives the Python that has the peers, or those of a folder.
func install(t *testing.T, folder ...string) string {
	t.Helper()
	env := os.Getenv("MILLRACE_PEERS")
	if env == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		env = filepath.Join(cache, "millrace", "peers")
	}
	if err := os.MkdirAll(filepath.Dir(env), 0o755); err != nil {
		t.Fatal(err)
	}
	args := append([]string{filepath.Join(append([]string{env}, folder...)...)}, folder...)
	if out, err := exec.Command("./install.sh", args...).CombinedOutput(); err != nil {
		t.Fatalf("install.sh: %v\n%s", err, out)
	}
	return args[0]
}

// tokenizer writes one with a chat template to a directory.
func tokenizer(t *testing.T, dir string) {
	t.Helper()
	from := filepath.Join("..", "golden", "tokenizers", "smollm2")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tokenizer.json.gz", "tokenizer_config.json", "chat_template.jinja"} {
		raw, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".gz") {
			r, err := gzip.NewReader(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			if raw, err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, strings.TrimSuffix(name, ".gz")), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const chatRecipe = `
kind: label
run: %[1]s/chatrun
prompts:
  source: file
  split: train
  count: 8
  file: {path: %[1]s/solutions.jsonl, fields: {prompt: prompt, response: completion, answer: answer}, test_share: 0.5}
chat: {template: true, instruction: " Be quick."}
policy:
  new: {model_type: llama, hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2}
  tokenizer: %[1]s/tokenizer
label: {verifier: {kind: math}}
`

// conversations makes a run whose prompts are messages and went through a chat template, with a right and a wrong response each.
func conversations(t *testing.T, dir string) {
	t.Helper()
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	var out bytes.Buffer
	words := strings.Fields("apples bolts cups drums eggs forks gates hats inks jars keys lamps maps nails oars pens")
	for a, what := range words {
		for _, answer := range []int{a + 3, a + 4} {
			line, err := json.Marshal(map[string]any{
				"prompt":     []message{{"system", "You add."}, {"user", fmt.Sprintf("%d %s and 3 more are how many?", a, what)}},
				"completion": []message{{"assistant", fmt.Sprintf("They are \\boxed{%d}", answer)}}, "answer": fmt.Sprint(a + 3)})
			if err != nil {
				t.Fatal(err)
			}
			out.Write(append(line, '\n'))
		}
	}
	recipe := filepath.Join(dir, "chat.yaml")
	for path, content := range map[string][]byte{filepath.Join(dir, "solutions.jsonl"): out.Bytes(),
		recipe: fmt.Appendf(nil, chatRecipe, dir)} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	millrace(t, "run", recipe)
}

var pythonBlock = regexp.MustCompile("(?s)```python\n# (millrace_[a-z]+\\.py)\n(.*?)```")

// converters writes the Python of docs/export.md to files.
func converters(t *testing.T, dir string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "export.md"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, block := range pythonBlock.FindAllStringSubmatch(string(page), -1) {
		if err := os.WriteFile(filepath.Join(dir, block[1]), []byte(block[2]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPeers exports a run on texts and one on conversations, and has each peer read what is its own.
func TestPeers(t *testing.T) {
	env := install(t)
	dir := t.TempDir()
	tokenizer(t, filepath.Join(dir, "tokenizer"))
	converters(t, filepath.Join(dir, "converters"))
	millrace(t, "quickstart", "--iterations", "2", "--run", filepath.Join(dir, "quickstart"))
	run := filepath.Join(dir, "quickstart", "distrl")
	if err := os.Symlink(run, filepath.Join(dir, "run")); err != nil {
		t.Fatal(err)
	}
	conversations(t, dir)
	millrace(t, "export", run, "--to", "jsonl", "--iteration", "1", "--out", filepath.Join(dir, "last", "jsonl"))
	for of, from := range map[string]string{"math": run, "chat": filepath.Join(dir, "chatrun")} {
		export := func(name string, args ...string) {
			format, _, _ := strings.Cut(strings.TrimSuffix(strings.TrimSuffix(name, "-alpaca"), "-sharegpt"), " ")
			millrace(t, append([]string{"export", from, "--to", format, "--out", filepath.Join(dir, of, name)}, args...)...)
		}
		for _, name := range []string{"jsonl", "verl", "trl-sft", "trl-dpo", "trl-kto", "trl-grpo", "openrlhf-prompt", "openrlhf-preference"} {
			export(name)
		}
		for _, name := range []string{"llama-factory-sft", "llama-factory-preference", "llama-factory-kto"} {
			for _, formatting := range []string{"alpaca", "sharegpt"} {
				export(name+"-"+formatting, "--set", "formatting="+formatting)
			}
		}
		if of == "chat" { // its responses were not sampled
			export("slime", "--set", "logprobs=false")
			continue
		}
		export("slime")
		export("trl-prm")
		export("tinker")
		export("prime-rl", "--set", "ranks=3", "--set", "seq_len=256")
	}
	scripts, err := filepath.Glob("check_*.py")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("%v: there are no checks", err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(script, ".py"), func(t *testing.T) {
			c := exec.Command(filepath.Join(env, "bin", "python"), script, dir)
			c.Env = append(os.Environ(), "HF_HOME="+filepath.Join(dir, "cache"), "PYTHONDONTWRITEBYTECODE=1")
			if script == "check_prm.py" {
				c.Env = append(c.Env, "PYTHONPATH="+filepath.Join(env, "prm"))
			}
			out, err := c.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out[max(0, len(out)-4000):])
			}
			for line := range strings.Lines(string(out)) {
				if checked.MatchString(line) {
					t.Log(strings.TrimSpace(line))
				}
			}
		})
	}
}

// checked is what the checks print beside the progress of their peers.
var checked = regexp.MustCompile(`^(math|chat|PRM|GRPO|DataProto|trl|openrlhf|llamafactory|msgspec|[0-9]+ (data|responses))\b`)
