package method_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/openai"
	"github.com/millrace/millrace/models/serve"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas/setting"
)

// refreshOf trains a reward model of its own on rollouts of a policy.
const refreshOf = `
kind: refresh
run: unset
prompts: {source: chain, split: reward, count: 4}
policy: {path: unset}
rollout: {samples: 3, max_new_tokens: 6}
label: {verifier: {kind: regex, options: {pattern: "[0-4]"}}}
reward:
  tokenizer: proving_ground
  new: {model_type: llama, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, intermediate_size: 24,
        rms_norm_eps: 1.0e-6, rope_theta: 10000, max_position_embeddings: 64, tie_word_embeddings: false}
  value: {kind: ipvrm, beta: 10}
update: {losses: [{name: ipvrm, beta: 10, margin: 0}], optimizer: {lr: 1e-3}}
evaluate: {every: 1, prompts: 4, samples: 2}
gate: {margin: -1}
`

// writtenModel writes the reward model of the recipe above, which has the policy's vocabulary, to a directory.
func writtenModel(t *testing.T) string {
	t.Helper()
	r, err := parse([]byte(refreshOf), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "model")
	if err := written(t.Context(), r.Reward.Model, dir, 3); err != nil {
		t.Fatal(err)
	}
	return dir
}

func withTokenizer(server, dir string) string {
	return server + "/v1?tokenizer=" + url.QueryEscape(dir)
}

// TestRefreshOfAnEndpoint: a reward model trained on the answers of a policy behind an endpoint is, bit for bit, the one
// trained on those of the policy at hand.
func TestRefreshOfAnEndpoint(t *testing.T) {
	dir := writtenModel(t)
	model, err := models.Acquire(context.Background(), models.Ref{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Release()
	tok, err := tokenizer.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := serve.New(model, serve.Options{Name: "tiny", Digest: model.Ref.Digest, Tokenizer: tok})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	server := httptest.NewServer(s)
	defer server.Close()
	var digests []string
	for _, path := range []string{dir, withTokenizer(server.URL, dir)} {
		r, err := parse([]byte(refreshOf), []string{"run=" + t.TempDir(), "policy.path=" + path})
		if err != nil {
			t.Fatal(err)
		}
		if err := iterate(context.Background(), r, progress.Silent()); err != nil {
			t.Fatal(err)
		}
		result, err := look.ReadRefresh(t.Context(), r.Run)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, result.Digest)
	}
	if digests[0] != digests[1] {
		t.Errorf("the reward models are others: %q", digests)
	}
}

// textServer speaks text only and gives no log-probs.
func textServer(t *testing.T) string {
	answer := func(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, openai.Models{Data: []openai.Model{{ID: "m"}}})
	})
	mux.HandleFunc("POST /v1/completions", func(w http.ResponseWriter, r *http.Request) {
		var q openai.Request
		if json.NewDecoder(r.Body).Decode(&q) != nil || q.Prompt.IDs != nil {
			http.Error(w, `{"error": {"message": "prompt: not a string"}}`, http.StatusUnprocessableEntity)
			return
		}
		text, stop := "abc", "stop"
		answer(w, openai.Response{Model: "m", Choices: []openai.Choice{{Text: &text, FinishReason: &stop}}})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// TestEndpointThatLacksSomething is found before the first request of the run.
func TestEndpointThatLacksSomething(t *testing.T) {
	server := textServer(t)
	for name, c := range map[string]struct {
		path string
		sets []string
		want []string // "" : nothing is missing
	}{
		"no log-probs": {path: withTokenizer(server, writtenModel(t)), want: []string{"policy.path", "log-probs of sampled tokens"}},
		"no tokenizer": {path: server + "/v1", want: []string{"policy", "tokenizer"}},
		"no scores": {path: withTokenizer(server, writtenModel(t)), sets: []string{"reward.value.reference=frozen",
			"update.losses=[{name: ipvrm, beta: 10, margin: 0, reference: frozen}]"},
			want: []string{"policy.path", "log-probs of a given response"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := parse([]byte(refreshOf), append([]string{"run=" + t.TempDir(), "policy.path=" + c.path}, c.sets...))
			if err == nil {
				err = iterate(context.Background(), r, progress.Silent())
			}
			if err == nil {
				t.Fatal("the run went through")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v; no %q", err, want)
				}
			}
		})
	}
}

// TestOtherTokenizers are refused wherever a recipe names a model besides the policy.
func TestOtherTokenizers(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other")
	m := recipe.Model{Tokenizer: "bytes", New: map[string]any{"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1,
		"num_attention_heads": 2,
		"num_key_value_heads": 1, "intermediate_size": 24, "rms_norm_eps": 1e-6, "rope_theta": 10000, "max_position_embeddings": 64,
		"tie_word_embeddings": false}}
	if err := written(t.Context(), m, other, 1); err != nil {
		t.Fatal(err)
	}
	same := writtenModel(t)
	for _, c := range []struct {
		recipe, place string
		sets          []string
	}{
		{"distrl", "reward", []string{"reward.path=" + other}},
		{"ppo", "reference", []string{"reference={path: " + other + "}"}},
		{"ipvrm-refresh", "reward", []string{"reward.path=" + other}},
		{"dpo", "reference", []string{"reference={path: " + other + "}"}},
		{"dckd", "distill.teacher", []string{"distill.teacher.path=" + other}},
		{"seft", "seft.source", []string{"seft.source={path: " + other + "}"}},
	} {
		t.Run(c.recipe, func(t *testing.T) {
			_, err := open(t.Context(), c.recipe, append([]string{"policy.path=" + same}, c.sets...))
			if err == nil || !strings.HasPrefix(err.Error(), c.place+": has another vocabulary (") {
				t.Errorf("error %v", err)
			}
			sets := []string{"policy.path=" + same}
			for _, s := range c.sets {
				sets = append(sets, strings.ReplaceAll(s, other, same))
			}
			if _, err := open(t.Context(), c.recipe, sets); err != nil {
				t.Errorf("models of one vocabulary: %v", err)
			}
		})
	}
}

func TestEndpointsAreNotTrained(t *testing.T) {
	const endpoint = "http://localhost:1/v1?model=m"
	for _, c := range []struct{ recipe, set, want string }{
		{"grpo", "policy.path=" + endpoint, "policy.path: an endpoint cannot be trained"},
		{"distrl", "reward.path=" + endpoint, "reward.path: an endpoint cannot be trained"},
		{"ipvrm-refresh", "policy.path=" + endpoint, "reward.path: is missing"},
	} {
		if _, err := open(t.Context(), c.recipe, []string{c.set}); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v", c.set, err)
		}
	}
}

func TestTrainMemory(t *testing.T) {
	r, err := open(t.Context(), "distrl", []string{"policy.path=" + writtenModel(t), "reward.path=" + writtenModel(t),
		"update.lora={rank: 2, alpha: 4}"})
	if err != nil {
		t.Fatal(err)
	}
	of, err := method.New(r)
	if err != nil {
		t.Fatal(err)
	}
	m := method.Memory(of, chain.Lengths{})
	if len(m) != 2 || m[0].Role != "reward" || m[1].Role != "policy" {
		t.Fatalf("%+v", m)
	}
	reward, policy := m[0], m[1]
	if reward.Moments != 8*reward.Trained || policy.Trained >= reward.Trained || policy.Gradients != 4*policy.Trained ||
		policy.Weights <= reward.Weights || policy.Total <= policy.Activations {
		t.Errorf("reward %+v\npolicy %+v", reward, policy)
	}
}

// between stands between a client and a server, and edits the answers to completions as JSON.
func between(t *testing.T, server string, models func(m map[string]any), answer func(q, choice map[string]any)) string {
	t.Helper()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		var q map[string]any
		_ = json.Unmarshal(text, &q)
		forward, _ := http.NewRequestWithContext(r.Context(), r.Method, server+r.URL.Path, bytes.NewReader(text))
		resp, err := http.DefaultClient.Do(forward)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		var a map[string]any
		_ = json.NewDecoder(resp.Body).Decode(&a)
		if list, ok := a["data"].([]any); ok && models != nil {
			models(list[0].(map[string]any))
		}
		choices, _ := a["choices"].([]any)
		for _, c := range choices {
			answer(q, c.(map[string]any))
		}
		w.WriteHeader(resp.StatusCode)
		_ = json.NewEncoder(w).Encode(a)
	}))
	t.Cleanup(h.Close)
	return h.URL
}

// times multiplies all log-probs that a choice tells.
func times(factor float64, choice map[string]any) {
	l, ok := choice["logprobs"].(map[string]any)
	if !ok {
		return
	}
	values, _ := l["token_logprobs"].([]any)
	for i, v := range values {
		values[i] = v.(float64) * factor
	}
	most, _ := l["top_logprobs"].([]any)
	for _, m := range most {
		for k, v := range m.(map[string]any) {
			m.(map[string]any)[k] = v.(float64) * factor
		}
	}
}

// TestLogProbsOfAnEndpoint: those that are not the policy's own are refused before a run, by what was measured and, where the run has
// the policy's weights, by comparing them.
func TestLogProbsOfAnEndpoint(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir := writtenModel(t)
	model, err := models.Acquire(t.Context(), models.Ref{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Release()
	tok, err := tokenizer.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := serve.New(model, serve.Options{Name: "tiny", Digest: model.Ref.Digest, Tokenizer: tok})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	server := httptest.NewServer(s)
	defer server.Close()
	foreign := func(m map[string]any) { delete(m, "millrace") }
	honest := between(t, server.URL, foreign, func(_, _ map[string]any) {})
	scaled := between(t, server.URL, foreign, func(q, c map[string]any) { times(1/q["temperature"].(float64), c) })
	halved := between(t, server.URL, foreign, func(_, c map[string]any) { times(0.5, c) })
	posing := between(t, server.URL, nil, func(_, c map[string]any) { // as the server itself, whose digest it passes on
		d, ok := c["millrace"].(map[string]any)
		if !ok {
			return
		}
		var logP openai.Floats
		raw, _ := json.Marshal(d["logp"])
		_ = json.Unmarshal(raw, &logP)
		for i := range logP {
			logP[i] /= 2
		}
		d["logp"] = logP
	})
	weights := "&weights=" + url.QueryEscape(dir)
	for name, c := range map[string]struct {
		path string
		sets []string
		at   string // "": the run goes through
		says string
	}{
		"honest":                {withTokenizer(honest, dir) + weights, []string{"rollout.temperature=0.7", "rollout.top_p=0.9"}, "", ""},
		"scaled, plain":         {withTokenizer(scaled, dir), nil, "", ""},
		"scaled":                {withTokenizer(scaled, dir), []string{"rollout.temperature=0.7"}, "rollout.temperature", "raw_logprobs"},
		"halved":                {withTokenizer(halved, dir) + weights, nil, "policy.path", "are not those of the weights"},
		"halved under its name": {withTokenizer(posing, dir), nil, "policy.path", "are not those of the weights"},
		"a template twice": {withTokenizer(honest, dir) + "&chat=1", []string{"chat.template=true"}, "chat.template",
			"its server puts the prompt into its own template"},
	} {
		r, err := parse([]byte(refreshOf), append([]string{"run=" + t.TempDir(), "policy.path=" + c.path}, c.sets...))
		if err == nil {
			err = iterate(t.Context(), r, progress.Silent())
		}
		var e *setting.Error
		if c.at == "" && err != nil || c.at != "" && (!errors.As(err, &e) || e.Path != c.at || !strings.Contains(e.Why, c.says)) {
			t.Errorf("%s: %v, want an error at %q that says %q", name, err, c.at, c.says)
		}
	}
}
