//go:build vllm

// Package vllm holds this program against a server that others wrote and that most use: vLLM. One command does all of it:
//
//	go test -tags vllm -timeout 60m -v ./e2e/vllm
//
// It installs vLLM's build for processors (serve.sh) into $MILLRACE_VLLM, or beside the tests' temporary files, and starts it.
package vllm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/remote"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/pipelines/command"
)

// tolerance is by how much log-probs of the two programs may differ, both in float32.
const tolerance = 1e-3

// model writes a small model whose distributions are neither flat nor certain, with a vocabulary of 601 tokens.
func model(t *testing.T) string {
	t.Helper()
	m, err := transformer.New(transformer.Config{ModelType: "qwen2", Vocab: 601, Hidden: 128, Intermediate: 256, Layers: 2, Heads: 2,
		KVHeads: 2, HeadDim: 64, MaxPositions: 256, NormEps: 1e-6, Rope: transformer.Rope{Theta: 10000, Type: "default"},
		QKVBias: true}, 3, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range transformer.NewTrainer(m, transformer.TrainOptions{}).Tensors() {
		if w.Name == "lm_head.weight" {
			for i := range w.Param {
				w.Param[i] *= 10
			}
		}
	}
	dir := t.TempDir()
	if err := m.Save(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../models/tokenizer/testdata/small.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"tokenizer.json": string(text),
		"tokenizer_config.json": `{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// start serves a model until the test ends and returns the endpoint's URL.
func start(t *testing.T, dir string, arguments ...string) string {
	t.Helper()
	env := os.Getenv("MILLRACE_VLLM")
	if env == "" {
		env = filepath.Join(os.TempDir(), "millrace-vllm")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command("./serve.sh", append([]string{env, dir, fmt.Sprint(port)}, arguments...)...)
	server.Stdout, server.Stderr = log, log
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it starts processes of its own
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-server.Process.Pid, syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
		}
		_ = syscall.Kill(-server.Process.Pid, syscall.SIGKILL)
		log.Close()
	})
	at := fmt.Sprintf("http://127.0.0.1:%d", port)
	for began := time.Now(); time.Since(began) < 20*time.Minute; time.Sleep(time.Second) {
		select {
		case err := <-ended:
			ended <- err
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("vLLM ended: %v\n%s", err, text[max(0, len(text)-4000):])
		default:
		}
		if resp, err := http.Get(at + "/health"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return at
			}
		}
	}
	t.Fatal("vLLM does not come up")
	return ""
}

func acquire(t *testing.T, path string) *models.Handle {
	t.Helper()
	m, err := models.Acquire(t.Context(), models.Ref{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Release() })
	return m
}

// sample draws responses in several ways.
func sample(t *testing.T, m models.Generator) ([]models.GenerateRequest, []models.GenerateResult) {
	t.Helper()
	var asked []models.GenerateRequest
	for i, s := range []models.Sampling{{Temperature: 1}, {Temperature: 0.7, TopP: 0.9}, {Temperature: 1.5, TopK: 20}, {Greedy: true}} {
		s.MaxNewTokens, s.Stop = 24, []int32{0}
		asked = append(asked, models.GenerateRequest{PromptID: [16]byte{byte(i)}, Prompt: []int32{11, 12, int32(20 + i), 14}, Seed: 5, Samples: 4,
			Sampling: s})
	}
	results, err := m.Generate(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	return asked, results
}

// apart is the largest difference of the log-probs that came with responses to those of a model at hand.
func apart(t *testing.T, near models.Scorer, asked []models.GenerateRequest, results []models.GenerateResult) float64 {
	t.Helper()
	most, tokens := 0.0, 0
	for i, result := range results {
		if result.Err != nil {
			t.Fatal(result.Err)
		}
		for _, r := range result.Responses {
			if r.Err != nil || len(r.LogP) != len(r.Tokens) || len(r.Tokens) == 0 {
				t.Fatalf("%d log-probs for %d tokens: %v", len(r.LogP), len(r.Tokens), r.Err)
			}
			scores, err := near.Score(t.Context(), []models.ScoreRequest{{Sequence: models.Sequence{Prompt: asked[i].Prompt, Response: r.Tokens}}})
			if err != nil || scores[0].Err != nil {
				t.Fatal(err, scores[0].Err)
			}
			for k, logP := range scores[0].LogP {
				most = max(most, math.Abs(float64(logP-r.LogP[k])))
				tokens++
			}
		}
	}
	t.Logf("log-probs of %d sampled tokens differ by %.2g at most", tokens, most)
	return most
}

// adapters writes adapters of a base model that change its distribution.
func adapters(t *testing.T, base string) string {
	t.Helper()
	m, err := local.Load(base)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := models.Digest(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AddLoRA(transformer.LoRA{Rank: 4, Alpha: 8}, 1, models.Ref{Path: base, Digest: digest}); err != nil {
		t.Fatal(err)
	}
	trainer := transformer.NewTrainer(m, transformer.TrainOptions{})
	for i, p := range trainer.Params() {
		trainer.Params()[i] = p + float32(i%7-3)*0.02
	}
	dir := t.TempDir()
	if err := trainer.Save(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestVLLM(t *testing.T) {
	dir := model(t)
	server := start(t, dir, "--enable-lora", "--max-lora-rank", "8")
	near := acquire(t, dir)

	caps, err := remote.Probe(t.Context(), server, remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", caps)
	if caps.URL != server+"/v1" || caps.Model != "policy" || caps.Weights != dir || !caps.TokenIDsIn || !caps.TokenIDsOut || !caps.LogProbs ||
		caps.PromptLogProbs != remote.PromptLogProbs || !caps.Several || caps.FollowTemperature || caps.FollowTopP || caps.Unmeasured {
		t.Error("the probe finds other than what vLLM can do")
	}

	far := acquire(t, server+"/v1")
	asked, results := sample(t, far)
	if d := apart(t, near, asked, results); d > tolerance {
		t.Errorf("log-probs of samples are apart by %v", d)
	}

	// Given responses, with the tokens that vLLM itself found the most probable.
	score := []models.ScoreRequest{{Sequence: models.Sequence{Prompt: asked[0].Prompt, Response: results[0].Responses[0].Tokens}}}
	theirs, err := far.Score(t.Context(), score)
	if err != nil || theirs[0].Err != nil {
		t.Fatal(err, theirs[0].Err)
	}
	ours, err := near.Score(t.Context(), score)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ours[0].LogP {
		if d := math.Abs(float64(ours[0].LogP[i] - theirs[0].LogP[i])); d > tolerance {
			t.Errorf("prompt log-prob %d: %v, at hand %v", i, theirs[0].LogP[i], ours[0].LogP[i])
		}
	}

	t.Run("adapters", func(t *testing.T) {
		adapted := adapters(t, dir)
		resp, err := http.Post(server+"/v1/load_lora_adapter", "application/json",
			strings.NewReader(fmt.Sprintf(`{"lora_name": "adapted", "lora_path": %q}`, adapted)))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("vLLM does not load our adapters: %s", resp.Status)
		}
		asked, results := sample(t, acquire(t, server+"/v1?model=adapted"))
		if d := apart(t, acquire(t, adapted), asked, results); d > tolerance {
			t.Errorf("log-probs of the adapted model are apart by %v", d)
		}
		if d := apart(t, near, asked, results); d < 10*tolerance {
			t.Errorf("the adapters change nothing: log-probs of the base are apart by %v", d)
		}
	})

	t.Run("refresh", func(t *testing.T) {
		if code, said := refresh(t, server+"/v1?model=policy&tokenizer="+url.QueryEscape(dir), dir, "rollout.temperature=0.7"); code != 0 {
			t.Errorf("exit code %d\n%s", code, said)
		}
		// The adapters' log-probs are not those of the base.
		code, said := refresh(t, server+"/v1?model=adapted&tokenizer="+url.QueryEscape(dir)+"&weights="+url.QueryEscape(dir), dir)
		if code == 0 || !strings.Contains(said, "are not those of the weights") {
			t.Errorf("other weights than are served: exit code %d\n%s", code, said)
		}
	})

	// A policy learns here and is sampled there, by the adapters of each iteration.
	t.Run("engine", func(t *testing.T) {
		run := filepath.Join(t.TempDir(), "run")
		code, said := policyRun(t, run, dir, "rollout.engine={path: '"+server+"/v1?model=policy', reload: lora}",
			"importance={level: token, mode: truncate, cap: 2, limit: 1.0e-3}")
		if code != 0 {
			t.Fatalf("exit code %d\n%s", code, said)
		}
		for i := range 3 {
			text, err := os.ReadFile(filepath.Join(run, fmt.Sprintf("iter-%05d", i), "metrics.jsonl"))
			var m struct{ Metrics map[string]float64 }
			if err == nil {
				err = json.Unmarshal(text, &m)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("iteration %d: mismatch %.2g in the mean, %.2g at most; weights up to %.4g; gradient %.3g", i, m.Metrics["mismatch"],
				m.Metrics["mismatch_max"], m.Metrics["importance/max"], m.Metrics["gradient_norm"])
			if m.Metrics["policy_version"] != float64(i) || m.Metrics["mismatch_max"] > 1e-2 || m.Metrics["gradient_norm"] == 0 {
				t.Errorf("iteration %d: %v", i, m.Metrics)
			}
		}
	})
}

// vLLM can give the log-probs of what it samples from; then they carry that definition, and a run that needs others is refused.
func TestProcessedLogProbs(t *testing.T) {
	dir := model(t)
	server := start(t, dir, "--logprobs-mode", "processed_logprobs")
	caps, err := remote.Probe(t.Context(), server, remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", caps)
	if !caps.FollowTemperature || !caps.FollowTopP || caps.Unmeasured {
		t.Error("the probe does not find that log-probs are processed")
	}
	at := server + "/v1?tokenizer=" + url.QueryEscape(dir)
	if code, said := refresh(t, at, dir, "rollout.temperature=0.7"); code == 0 || !strings.Contains(said, "rollout.temperature") {
		t.Errorf("at another temperature: exit code %d\n%s", code, said)
	}
	if code, said := refresh(t, at, dir); code != 0 {
		t.Errorf("at temperature 1: exit code %d\n%s", code, said)
	}
	// What a nucleus does to the distribution importance weights undo, by the log-probs that were sampled from.
	run := filepath.Join(t.TempDir(), "run")
	engine := "rollout.engine={path: '" + server + "/v1', reload: none, max_staleness: 9}"
	if code, said := policyRun(t, run, dir, engine, "rollout.temperature=0.7", "rollout.top_p=0.9", "importance={}"); code != 0 {
		t.Errorf("with a nucleus: exit code %d\n%s", code, said)
	}
}

// policyRun trains a policy with adapters for three iterations.
func policyRun(t *testing.T, run, policy string, sets ...string) (code int, said string) {
	t.Helper()
	work := t.TempDir()
	recipe := fmt.Sprintf(`
kind: policy
run: %s
iterations: 3
prompts: {source: file, split: all, count: 8, file: {path: %s, fields: {prompt: question, answer: answer}}}
policy: {path: %s}
rollout: {samples: 4, max_new_tokens: 24}
label: {verifier: {kind: regex, options: {pattern: "[0-9a-m]"}}}
rewards: [{name: diverse, weight: 1, penalty: {kind: repetition, ngram: 1}}] # which differs from response to response
advantage: {kind: grpo, keep_truncated: true}
update: {losses: [{name: ppo}], optimizer: {lr: 1e-2}, lora: {rank: 4, alpha: 8}}
evaluate: {every: 0}
`, run, problems(t, work), policy)
	path := filepath.Join(work, "recipe.yaml")
	if err := os.WriteFile(path, []byte(recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	return millrace(path, sets...)
}

// problems writes a file of prompts.
func problems(t *testing.T, dir string) string {
	t.Helper()
	var lines strings.Builder
	for i := range 24 {
		fmt.Fprintf(&lines, "{\"question\": \"the sum of %d and one\", \"answer\": \"%d\"}\n", i, i+1)
	}
	path := filepath.Join(dir, "problems.jsonl")
	if err := os.WriteFile(path, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// millrace runs a recipe.
func millrace(recipe string, sets ...string) (code int, said string) {
	arguments := []string{"run", recipe}
	for _, s := range sets {
		arguments = append(arguments, "--set", s)
	}
	var out bytes.Buffer
	code = command.Main(arguments, &out, &out)
	return code, out.String()
}

// refresh trains a reward model that begins as the policy on what an endpoint answers.
func refresh(t *testing.T, policy, reward string, sets ...string) (code int, said string) {
	t.Helper()
	work := t.TempDir()
	recipe := fmt.Sprintf(`
kind: refresh
run: %s
prompts: {source: file, split: train, count: 8, file: {path: %s, fields: {prompt: question, answer: answer}, test_share: 0.3}}
policy: {path: %q}
rollout: {samples: 4, max_new_tokens: 24}
label: {verifier: {kind: regex, options: {pattern: "[0-9a-m]"}}}
reward: {path: %s, value: {kind: ipvrm, beta: 10}}
update: {losses: [{name: ipvrm, beta: 10, margin: 0}], optimizer: {lr: 1e-3}}
evaluate: {every: 1, prompts: 4, samples: 2}
gate: {margin: -1}
`, filepath.Join(work, "run"), problems(t, work), policy, reward)
	path := filepath.Join(work, "recipe.yaml")
	if err := os.WriteFile(path, []byte(recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	return millrace(path, sets...)
}
