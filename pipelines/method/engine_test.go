package method_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/serve"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

const engineRecipe = `
kind: policy
run: unset
iterations: 3
prompts: {source: chain, count: 4}
policy: {path: unset}
rollout: {samples: 4, max_new_tokens: 40}
label: {verifier: {kind: regex, options: {pattern: "[0-1]"}}}
advantage: {kind: grpo, keep_truncated: true}
update: {losses: [{name: ppo}], optimizer: {lr: 1e-2}}
evaluate: {every: 0}
`

// swapping serves a model whose weights may be changed to others below a directory.
func swapping(t *testing.T, dir, below string) string {
	t.Helper()
	open := func(ctx context.Context, path string) (models.Model, serve.Options, func() error, error) {
		model, err := models.Acquire(ctx, models.Ref{Path: path})
		if err != nil {
			return nil, serve.Options{}, nil, err
		}
		tok, err := tokenizer.Load(path)
		return model, serve.Options{Name: "tiny", Digest: model.Ref.Identity(), Tokenizer: tok}, model.Release, err
	}
	s, err := serve.NewSwap(t.Context(), dir, below, open)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(func() { server.Close(); s.Close() })
	return server.URL
}

// TestEngine: a policy that another program samples from, with the weights that it is given before each iteration, becomes bit for bit
// the one that samples itself: with the same weights the log-probs are the same, and weights of tokens are 1.
func TestEngine(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir, below := writtenModel(t), t.TempDir()
	policies := map[string]string{}
	for name, sets := range map[string][]string{
		"alone":    nil,
		"engine":   {"rollout.engine={path: " + swapping(t, dir, below) + "}"},
		"weighted": {"rollout.engine={path: " + swapping(t, dir, below) + "}", "importance={limit: 1e-6}"},
		"shared": {"rollout.engine={path: " + swapping(t, dir, below) + ", shared: " + filepath.Join(below, "shared") + "}",
			"importance={level: sequence, mode: mask}"},
	} {
		r, err := parse([]byte(engineRecipe), append(sets, "run="+filepath.Join(below, name), "policy.path="+dir))
		if err != nil {
			t.Fatal(err)
		}
		if sets != nil { // the start lies elsewhere
			if err := os.CopyFS(filepath.Join(below, name+"-start"), os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			r.Policy.Path = filepath.Join(below, name+"-start")
		}
		if name == "shared" {
			if err := os.MkdirAll(filepath.Join(below, "shared"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := iterate(t.Context(), r, progress.Silent()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if policies[name], err = models.Digest(filepath.Join(r.Run, "iter-00002", "policy")); err != nil {
			t.Fatal(err)
		}
		if sets == nil {
			continue
		}
		err = recordio.ReadFile(t.Context(), filepath.Join(r.Run, "iter-00002", "batch-00000-of-00001.parquet"), func(b stage.Batch) error {
			for i := range b.NumRows() {
				if v, _ := schemas.PolicyVersion.Of(b).At(i); v != 2 {
					t.Errorf("%s: row %d is of version %d, want 2", name, i, v)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if start, err := models.Digest(dir); err != nil || policies["alone"] == start {
		t.Fatalf("nothing was learned, %v", err)
	}
	for name, digest := range policies {
		if digest != policies["alone"] {
			t.Errorf("%s: the policy is another than that which samples itself", name)
		}
	}
}

// An engine that keeps its weights drifts from the policy: rows say with which weights they were sampled, and the limit ends the run.
func TestEngineThatKeepsItsWeights(t *testing.T) {
	dir, below := writtenModel(t), t.TempDir()
	url := swapping(t, dir, below)
	sets := []string{"run=" + filepath.Join(below, "run"), "policy.path=" + dir, "update.optimizer.lr=0.1"}
	r, err := parse([]byte(engineRecipe), append(sets, "rollout.engine={path: "+url+", reload: none}", "importance={limit: 0.01}"))
	if err != nil {
		t.Fatal(err)
	}
	var apart *run.MismatchError
	if err := iterate(t.Context(), r, progress.Silent()); !errors.As(err, &apart) {
		t.Errorf("%v, want that engine and trainer are apart", err)
	}
	// Weights from where the server takes none.
	r, err = parse([]byte(engineRecipe), append(sets, "run="+t.TempDir(), "rollout.engine={path: "+url+"}"))
	if err != nil {
		t.Fatal(err)
	}
	var wrong *setting.Error
	if err := iterate(t.Context(), r, progress.Silent()); !errors.As(err, &wrong) || wrong.Path != "rollout.engine" ||
		!strings.Contains(err.Error(), "below the directory") {
		t.Errorf("%v, want that the server takes no weights from there", err)
	}
}

// A server such as vLLM is given adapters by name, and asked for them; a command is given the directory.
func TestEngineOfAdapters(t *testing.T) {
	dir, below := writtenModel(t), t.TempDir()
	base := swapping(t, dir, below)
	var mu sync.Mutex
	loaded, asked := map[string]string{}, map[string]int{}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var q map[string]any
		if r.Method == http.MethodPost {
			_ = json.NewDecoder(r.Body).Decode(&q)
		}
		switch r.URL.Path {
		case "/v1/load_lora_adapter":
			name := q["lora_name"].(string)
			loaded[name] = q["lora_path"].(string)
			body := fmt.Sprintf(`{"model_path": %q}`, loaded[name])
			answer, err := http.Post(base+"/update_weights_from_disk", "application/json", strings.NewReader(body))
			if err != nil || answer.StatusCode != 200 {
				w.WriteHeader(http.StatusInternalServerError)
			}
		case "/v1/unload_lora_adapter":
			delete(loaded, q["lora_name"].(string))
		case "/v1/models":
			fmt.Fprint(w, `{"data": [{"id": "tiny"}`)
			for name := range loaded {
				fmt.Fprintf(w, `, {"id": %q}`, name)
			}
			fmt.Fprint(w, `]}`)
		default:
			name, _ := q["model"].(string)
			asked[name]++
			q["model"] = "tiny"
			raw, _ := json.Marshal(q)
			answer, err := http.Post(base+r.URL.Path, "application/json", strings.NewReader(string(raw)))
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			defer answer.Body.Close()
			w.WriteHeader(answer.StatusCode)
			var said map[string]any
			_ = json.NewDecoder(answer.Body).Decode(&said)
			said["model"] = name
			_ = json.NewEncoder(w).Encode(said)
		}
	}))
	defer front.Close()
	start := filepath.Join(below, "start")
	if err := os.CopyFS(start, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	r, err := parse([]byte(engineRecipe), []string{"run=" + filepath.Join(below, "run"), "policy.path=" + start,
		"update.lora={rank: 2, alpha: 4}", "rollout.engine={path: '" + front.URL + "/v1?model=tiny', reload: lora}", "importance={limit: 1e-4}"})
	if err != nil {
		t.Fatal(err)
	}
	if err := iterate(t.Context(), r, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	if len(loaded) != 1 || len(asked) != 3 {
		t.Errorf("adapters %v are there, %v were asked for; want the last one, and the base and two adapters", loaded, asked)
	}
	said := filepath.Join(below, "said")
	r, err = parse([]byte(engineRecipe), []string{"run=" + filepath.Join(below, "command"), "policy.path=" + start, "iterations=2",
		"rollout.engine={path: " + base + ", reload: command, every: 2, max_staleness: 1, command: [sh, -c, 'echo \"$@\" >>" + said + "', sh]}"})
	if err != nil {
		t.Fatal(err)
	}
	if err := iterate(t.Context(), r, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(said); err != nil || string(text) != start+" 0\n" {
		t.Errorf("the command was told %q, %v", text, err)
	}
}

func TestEngineSettings(t *testing.T) {
	for path, sets := range map[string][]string{
		"rollout.engine.path":          {"rollout.engine={path: /model}"},
		"rollout.engine.command":       {"rollout.engine={path: http://localhost:1, reload: command}"},
		"rollout.engine.max_staleness": {"rollout.engine={path: http://localhost:1, every: 3}"},
		"importance":                   {"importance={}"},
		"update.losses[0]":             {"rollout.engine={path: http://localhost:1}", "importance={}", "update.losses=[{name: lco_kld}]"},
		"importance.level":             {"rollout.engine={path: http://localhost:1}", "importance={}", "update.losses=[{name: gspo}]"},
		"importance.low":               {"rollout.engine={path: http://localhost:1}", "importance={mode: mask, low: 1, high: 1}"},
	} {
		_, err := parse([]byte(engineRecipe), append(sets, "run=x", "policy.path=y"))
		var wrong *setting.Error
		if !errors.As(err, &wrong) || wrong.Path != path {
			t.Errorf("%v: %v, want an error of %s", sets, err, path)
		}
	}
}

// Weights that a server samples with for some iterations are not removed before it has others.
func TestEngineKeepsItsWeights(t *testing.T) {
	for every, ok := range map[string]bool{"every: 2": true, "every: 3": false, "every: 3, reload: none": true} {
		_, err := parse([]byte(engineRecipe), []string{"run=" + t.TempDir(), "policy.path=" + t.TempDir(), "keep={last: 2, best: false}",
			"rollout.engine={path: http://127.0.0.1:1/v1, max_staleness: 2, " + every + "}", "importance={limit: 0.01}"})
		var wrong *setting.Error
		if said := errors.As(err, &wrong) && wrong.Path == "keep.last"; said == ok {
			t.Errorf("%s: %v", every, err)
		}
	}
}
