package e2e

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/remote"
	"github.com/millrace/millrace/models/tokenizer"
)

// TestLlamaCppServer uses a server that others wrote: llama.cpp's, which speaks text only and gives no log-probs of a
// prompt. It runs where $MILLRACE_LLAMACPP names a Python that has llama-cpp-python (e2e/llamacpp/install.sh) and
// $MILLRACE_SMOLLM2 a GGUF file (e2e/smollm2/fetch.sh).
func TestLlamaCppServer(t *testing.T) {
	python, model := os.Getenv("MILLRACE_LLAMACPP"), os.Getenv("MILLRACE_SMOLLM2")
	if python == "" || model == "" {
		t.Skip("MILLRACE_LLAMACPP and MILLRACE_SMOLLM2 do not name a Python with llama-cpp-python and a model")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	server := exec.Command(python, "-m", "llama_cpp.server", "--model", model, "--model_alias", "smollm2", "--port", fmt.Sprint(port),
		"--n_ctx", "1024", "--n_threads", "2")
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("the server says:\n%.4000s", text)
		}
	})

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	base := fmt.Sprintf("http://127.0.0.1:%d/v1", port)
	waiting := remote.Options{Attempts: 300, MinBackoff: 200 * time.Millisecond, MaxBackoff: time.Second, BreakAfter: 1 << 20}
	caps, err := remote.Probe(ctx, base, waiting)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", caps)
	if caps.Model != "smollm2" || !caps.Completions || !caps.Chat || caps.PromptLogProbs != "" || caps.Millrace || caps.TokenIDsOut {
		t.Errorf("capabilities %+v", caps)
	}
	if missing := caps.Missing(remote.Need{Generate: true, Score: true}, true, false); len(missing) != 1 ||
		!strings.Contains(missing[0], "log-probs of a given response") {
		t.Errorf("missing %q", missing)
	}

	tok, err := tokenizer.Load(model)
	if err != nil {
		t.Fatal(err)
	}
	chat, err := tokenizer.NewChat(tok)
	if err != nil {
		t.Fatal(err)
	}
	prompt, err := chat.Encode([]tokenizer.Message{{Role: "user", Content: "What is the capital of France? Answer in one word."}}, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := remote.Open(ctx, base+"?tokenizer="+url.QueryEscape(model), remote.Options{CacheDir: t.TempDir(), Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	requests := []models.GenerateRequest{{Prompt: prompt, Samples: 2, Seed: 3,
		Sampling: models.Sampling{Greedy: true, MaxNewTokens: 24, Stop: tok.EOS()}}}
	results, err := m.Generate(ctx, requests)
	if err != nil || results[0].Err != nil {
		t.Fatal(err, results[0].Err)
	}
	if len(results[0].Responses) != 2 {
		t.Fatalf("%d responses", len(results[0].Responses))
	}
	for _, r := range results[0].Responses {
		text := tokenizer.Text(tok, r.Tokens)
		t.Logf("%d tokens, %s: %q", len(r.Tokens), r.Finish, text)
		if r.Err != nil || !strings.Contains(text, "Paris") {
			t.Errorf("%v: %q", r.Err, text)
		}
	}
	again, err := m.Generate(ctx, requests)
	if err != nil || !slices.Equal(again[0].Responses[0].Tokens, results[0].Responses[0].Tokens) {
		t.Errorf("the kept answer is another one: %v", err)
	}
	// A stop string ends the text before it.
	counting := models.GenerateRequest{Prompt: prompt, Samples: 1, Seed: 3,
		Sampling: models.Sampling{Greedy: true, MaxNewTokens: 24, Stop: tok.EOS(), StopStrings: []string{" is"}}}
	stopped, err := m.Generate(ctx, []models.GenerateRequest{counting})
	if err != nil || stopped[0].Err != nil {
		t.Fatal(err, stopped[0].Err)
	}
	if r := stopped[0].Responses[0]; tokenizer.Text(tok, r.Tokens) != "The capital of France" || r.Finish != models.FinishStop {
		t.Errorf("with a stop string: %q, %s", tokenizer.Text(tok, r.Tokens), r.Finish)
	}
	scores, err := m.Score(ctx, []models.ScoreRequest{{Sequence: models.Sequence{Prompt: prompt, Response: results[0].Responses[0].Tokens}}})
	if err != nil || scores[0].Err == nil {
		t.Errorf("scored by a server that cannot: %v %+v", err, scores)
	}
}
