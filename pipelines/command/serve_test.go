package command

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/local/localtest"
	"github.com/millrace/millrace/models/remote"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
)

// notes is a writer that another goroutine reads.
type notes struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.String()
}

func tinyModel(t *testing.T) models.Ref {
	t.Helper()
	tok := tokenizer.NewProvingGround(false)
	m, err := transformer.New(transformer.Config{ModelType: "llama", Vocab: tok.VocabSize(), Hidden: 16, Intermediate: 24, Layers: 1,
		Heads: 2, KVHeads: 1, HeadDim: 8,
		MaxPositions: 64, NormEps: 1e-6, Rope: transformer.Rope{Theta: 10000, Type: "default"}}, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	return localtest.Save(t, m, tok)
}

// served starts a server and returns where it listens, what it says, and how it is ended.
func served(t *testing.T, args ...string) (url string, log *notes, end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	log, ended := &notes{}, make(chan error, 1)
	root := newRoot(&env{out: &bytes.Buffer{}, err: log})
	root.SetArgs(append([]string{"serve", "--addr", "127.0.0.1:0", "--name", "tiny"}, args...))
	go func() { ended <- root.ExecuteContext(ctx) }()
	for url == "" {
		select {
		case err := <-ended:
			t.Fatalf("%v\n%s", err, log)
		case <-time.After(10 * time.Millisecond):
			url = regexp.MustCompile(`http://\S+`).FindString(log.String())
		}
	}
	return url, log, func() error { cancel(); return <-ended }
}

func TestServeAndProbe(t *testing.T) {
	dir := tinyModel(t).Path
	url, log, end := served(t, dir)
	var out bytes.Buffer
	if code := Main([]string{"probe", url, "--json"}, &out, log); code != exitOK {
		t.Fatalf("exit code %d: %s", code, log)
	}
	var caps remote.Capabilities
	if err := json.Unmarshal(out.Bytes(), &caps); err != nil || caps.Model != "tiny" || !caps.Millrace || caps.MaxLen != 64 {
		t.Errorf("%v %s", err, out.String())
	}
	out.Reset()
	if code := Main([]string{"probe", url}, &out, log); code != exitOK || !strings.Contains(out.String(), "log-probs of a prompt") {
		t.Errorf("exit code %d: %s", code, out.String())
	}
	if err := end(); err != nil {
		t.Errorf("the server ends with %v", err)
	}
	if code := Main([]string{"probe", url}, &out, log); code != exitFailed {
		t.Errorf("probing a server that is gone: exit code %d", code)
	}
	if code := Main([]string{"serve", dir, "--addr", "0.0.0.0:0"}, &out, log); code != exitUsage {
		t.Errorf("serving the world without a key: exit code %d", code)
	}
	if code := Main([]string{"serve"}, &out, log); code != exitUsage {
		t.Errorf("serving nothing: exit code %d", code)
	}
}

// A server at a precision has the identity of the model at hand at that precision, and its bits.
func TestServeAtAPrecision(t *testing.T) {
	model := tinyModel(t)
	ask := []models.ScoreRequest{{Sequence: models.Sequence{Prompt: []int32{3, 4}, Response: []int32{5, 6, 1}}}}
	scores := func(ref models.Ref) []float32 {
		t.Helper()
		h, err := models.Acquire(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Release()
		if h.Ref.Identity() != model.Identity() {
			t.Errorf("%s is %s, want %s", ref.Path, h.Ref.Identity(), model.Identity())
		}
		results, err := h.Score(t.Context(), ask)
		if err != nil || results[0].Err != nil {
			t.Fatal(err, results[0].Err)
		}
		return results[0].LogP
	}
	single := scores(model)
	model.Precision = kernels.BFloat16
	url, _, end := served(t, model.Path, "--precision", "bfloat16")
	if here, far := scores(model), scores(models.Ref{Path: url}); !slices.Equal(here, far) || slices.Equal(here, single) {
		t.Errorf("served %v, at hand %v, in float32 %v", far, here, single)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	want(t, exitUsage, []string{"--precision", `"fp8" is not one of float32, bfloat16`}, "serve", model.Path, "--precision", "fp8")
}

// TestEvalOfAnEndpoint: a policy behind an endpoint is measured like the one in its directory.
func TestEvalOfAnEndpoint(t *testing.T) {
	model := tinyModel(t)
	url, _, _ := served(t, model.Path)
	var out struct {
		Results []struct{ Avg struct{ Mean float64 } }
	}
	text := want(t, exitOK, nil, "eval", url+"&tokenizer="+model.Path, model.Path, "--recipe", "grpo", "--set", "evaluate.prompts=3", "--set",
		"evaluate.samples=2", "--set", "rollout.max_new_tokens=8", "--json")
	if err := json.Unmarshal([]byte(text), &out); err != nil || len(out.Results) != 2 || out.Results[0] != out.Results[1] {
		t.Errorf("%v\n%s", err, text)
	}
	want(t, exitUsage, nil, "eval", "nowhere", "--recipe", "grpo")
}
