package local

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/transformer"
)

func newModel(t testing.TB, scalar bool) *transformer.Model {
	t.Helper()
	m, err := transformer.New(transformer.Config{ModelType: "llama", Vocab: 70, Hidden: 16, Intermediate: 24, Layers: 2,
		Heads: 4, KVHeads: 2, HeadDim: 4, MaxPositions: 120, NormEps: 1e-6, Rope: transformer.Rope{Theta: 10000, Type: "default"}}, 5, scalar)
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.Scalar() {
		m.Scalar()[i] = float32(i) - 7.5
	}
	return m
}

func newRequests(n int) []models.ScoreRequest {
	rng := rand.New(rand.NewPCG(8, 9))
	tokens := func(n int) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = int32(rng.IntN(70))
		}
		return out
	}
	var out []models.ScoreRequest
	for i := range n {
		r := models.ScoreRequest{Sequence: models.Sequence{Prompt: tokens(1 + rng.IntN(30)), Response: tokens(rng.IntN(40))}}
		r.TopK = i % 4
		r.Values, r.ValueAfter = i%2 == 0, i%4 == 0
		if i%3 == 0 {
			r.ListStart = []int32{0}
			for range r.Response {
				r.ListIDs = append(r.ListIDs, tokens(rng.IntN(4))...)
				if rng.IntN(3) == 0 {
					r.ListIDs = append(r.ListIDs, -1)
				}
				r.ListStart = append(r.ListStart, int32(len(r.ListIDs)))
			}
		}
		out = append(out, r)
	}
	return out
}

// Scores equal what double precision makes of the logits, in every batch the same bits.
func TestScore(t *testing.T) {
	m := newModel(t, true)
	requests := newRequests(25)
	want, err := NewScorer(m, ScoreOptions{}).Score(context.Background(), requests)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []ScoreOptions{{MaxTokens: 1}, {MaxTokens: 100}} {
		defer kernels.SetThreads(kernels.SetThreads(3))
		got, err := NewScorer(m, o).Score(context.Background(), requests)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: other scores", o)
		}
	}

	tr := transformer.NewTrainer(m, transformer.TrainOptions{})
	d, v := m.HiddenSize(), m.VocabSize()
	near := func(what string, got float32, want float64) {
		t.Helper()
		if !(math.Abs(float64(got)-want) <= 2e-5*max(1, math.Abs(want))) {
			t.Errorf("%s = %v, want %v", what, got, want)
		}
	}
	for i, r := range requests {
		out := want[i]
		if out.Err != nil {
			t.Fatal(out.Err)
		}
		h, err := tr.Forward(models.Pack([]models.Sequence{r.Sequence}))
		if err != nil {
			t.Fatal(err)
		}
		for j, token := range r.Response {
			row := len(r.Prompt) - 1 + j
			z := make([]float32, v)
			m.Logits(z, h[row*d:(row+1)*d], 1)
			total, entropy := 0.0, 0.0
			for _, x := range z {
				total += math.Exp(float64(x))
			}
			logp := func(id int32) float64 { return float64(z[id]) - math.Log(total) }
			for id := range v {
				entropy -= math.Exp(logp(int32(id))) * logp(int32(id))
			}
			near("log-prob", out.LogP[j], logp(token))
			near("logsumexp", out.LogZ[j], math.Log(total))
			near("entropy", out.Entropy[j], entropy)
			if len(r.ListStart) > 0 {
				for k := r.ListStart[j]; k < r.ListStart[j+1]; k++ {
					if id := r.ListIDs[k]; id < 0 {
						near("empty slot", out.ListLogP[k], 0)
					} else {
						near("listed log-prob", out.ListLogP[k], logp(id))
					}
				}
			}
			rest := 1.0
			for k := range r.TopK {
				id := out.TopIDs[j*r.TopK+k]
				near("top log-prob", out.TopLogP[j*r.TopK+k], logp(id))
				rest -= math.Exp(logp(id))
				z[id] = float32(math.Inf(-1)) // so that the next must be the largest of the others
				if k+1 < r.TopK && z[out.TopIDs[j*r.TopK+k+1]] != slices.Max(z) {
					t.Errorf("top %d of token %d is not the next most probable", k+1, j)
				}
			}
			if r.TopK > 0 {
				near("rest", out.TopRestLogP[j], math.Log(rest))
			}
			if r.Values {
				if r.ValueAfter {
					row++
				}
				value := 0.0
				for k, w := range m.Scalar() {
					value += float64(w) * float64(h[row*d+k])
				}
				near("value", out.Values[j], value)
			}
		}
	}
}

func TestScoreErrors(t *testing.T) {
	m := newModel(t, false)
	good := models.ScoreRequest{Sequence: models.Sequence{Prompt: []int32{1}, Response: []int32{2, 3}}}
	for name, change := range map[string]func(r *models.ScoreRequest){
		"empty prompt":   func(r *models.ScoreRequest) { r.Prompt = nil },
		"foreign token":  func(r *models.ScoreRequest) { r.Response = []int32{70} },
		"negative token": func(r *models.ScoreRequest) { r.Response = []int32{-2} },
		"too long":       func(r *models.ScoreRequest) { r.Response = make([]int32, 120) },
		"no scalar head": func(r *models.ScoreRequest) { r.Values = true },
		"top k":          func(r *models.ScoreRequest) { r.TopK = -1 },
		"short offsets":  func(r *models.ScoreRequest) { r.ListStart, r.ListIDs = []int32{0, 1}, []int32{1} },
		"wild offsets":   func(r *models.ScoreRequest) { r.ListStart, r.ListIDs = []int32{0, 5, 1}, []int32{1} },
		"no offsets":     func(r *models.ScoreRequest) { r.ListIDs = []int32{1} },
		"foreign listed": func(r *models.ScoreRequest) { r.ListStart, r.ListIDs = []int32{0, 1, 1}, []int32{70} },
	} {
		r := good
		change(&r)
		results, err := NewScorer(m, ScoreOptions{}).Score(context.Background(), []models.ScoreRequest{good, r, good})
		if err != nil {
			t.Fatal(name, err)
		}
		if results[1].Err == nil || results[1].LogP != nil {
			t.Errorf("%s: no error", name)
		}
		if results[0].Err != nil || len(results[2].LogP) != 2 {
			t.Errorf("%s: spoils the other requests", name)
		}
	}
}

// Of a vocabulary smaller than top_k all tokens are given, with no mass beside them.
func TestTopKOfASmallVocabulary(t *testing.T) {
	m := newModel(t, false)
	ask := models.ScoreRequest{Sequence: models.Sequence{Prompt: []int32{1}, Response: []int32{2, 3}}, TopK: 1000}
	exact := ask
	exact.TopK = m.VocabSize()
	got, err := NewScorer(m, ScoreOptions{}).Score(context.Background(), []models.ScoreRequest{ask, exact})
	if err != nil || got[0].Err != nil {
		t.Fatal(err, got[0].Err)
	}
	if !reflect.DeepEqual(got[0], got[1]) || len(got[0].TopIDs) != 2*m.VocabSize() {
		t.Errorf("%d ids of top 1000, want those of top %d", len(got[0].TopIDs), m.VocabSize())
	}
	if rest := got[0].TopRestLogP; !math.IsInf(float64(rest[0]), -1) || !math.IsInf(float64(rest[1]), -1) {
		t.Errorf("mass beside the whole vocabulary: %v", rest)
	}
}

// A directory is loaded once, shared while anyone uses it, and known by its digest.
func TestAcquire(t *testing.T) {
	dir := t.TempDir()
	if err := newModel(t, false).Save(dir); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	handles := make([]*models.Handle, 8)
	for i := range handles {
		wg.Go(func() {
			h, err := models.Acquire(context.Background(), models.Ref{Path: dir})
			if err != nil {
				t.Error(err)
				return
			}
			handles[i] = h
		})
	}
	wg.Wait()
	for _, h := range handles {
		if h == nil || h.Model != handles[0].Model {
			t.Fatal("not shared")
		}
	}
	first, ref := handles[0].Model, handles[0].Ref
	for _, h := range handles[1:] {
		h.Release()
		h.Release()
	}
	again, err := models.Acquire(context.Background(), ref)
	if err != nil || again.Model != first {
		t.Fatalf("%v, or loaded again while in use", err)
	}
	again.Release()
	handles[0].Release()
	if h, err := models.Acquire(context.Background(), ref); err != nil || h.Model == first {
		t.Errorf("%v, or kept after the last release", err)
	}

	wrong := models.Ref{Path: dir, Digest: "0123"}
	var de *models.DigestError
	if _, err := models.Acquire(context.Background(), wrong); !errors.As(err, &de) || de.Got != ref.Digest {
		t.Errorf("another digest gives %v", err)
	}
	if _, err := models.Acquire(context.Background(), models.Ref{Path: t.TempDir()}); !errors.Is(err, models.ErrNoFormat) ||
		strings.Contains(err.Error(), "lacks") {
		t.Errorf("an empty directory gives %v", err)
	}
	if err := os.Truncate(filepath.Join(dir, "model.safetensors"), 100); err != nil {
		t.Fatal(err)
	}
	if _, err := models.Acquire(context.Background(), models.Ref{Path: dir}); err == nil {
		t.Error("a truncated file is taken")
	}
}

// The same weights at two precisions are two models, each loaded once; what is read for training has the precision too.
func TestAcquireAtTwoPrecisions(t *testing.T) {
	dir := t.TempDir()
	if err := newModel(t, false).Save(dir); err != nil {
		t.Fatal(err)
	}
	acquire := func(p kernels.Precision) (*models.Handle, []models.ScoreResult) {
		t.Helper()
		h, err := models.Acquire(t.Context(), models.Ref{Path: dir, Precision: p})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Release() })
		if h.Ref.Precision != p {
			t.Errorf("asked for %s, got %s", p, h.Ref.Precision)
		}
		scores, err := h.Score(t.Context(), []models.ScoreRequest{{Sequence: models.Sequence{Prompt: []int32{3, 4}, Response: []int32{5, 6, 1}}}})
		if err != nil {
			t.Fatal(err)
		}
		return h, scores
	}
	single, singles := acquire(kernels.Float32)
	tiles, _ := acquire(kernels.BFloat16Tiles) // whose scores of so few and small rows may be the same
	half, halves := acquire(kernels.BFloat16)
	again, _ := acquire(kernels.BFloat16)
	if half.Model == single.Model || tiles.Model == half.Model || again.Model != half.Model || half.Ref.Digest != single.Ref.Digest {
		t.Error("models are shared by their weights alone, or not at all")
	}
	if reflect.DeepEqual(singles, halves) {
		t.Error("both precisions give the same scores")
	}
	trained, err := LoadRef(t.Context(), half.Ref)
	if err != nil || trained.Precision() != kernels.BFloat16 {
		t.Fatalf("loaded at %s, %v", trained.Precision(), err)
	}
	if got, err := New(trained).Score(t.Context(), []models.ScoreRequest{{Sequence: models.Sequence{Prompt: []int32{3, 4},
		Response: []int32{5, 6, 1}}}}); err != nil || !reflect.DeepEqual(got, halves) {
		t.Errorf("the model that is trained gives other scores: %v", err)
	}
	if plain, err := Load(dir); err != nil || plain.Precision() != kernels.Float32 {
		t.Errorf("a path alone gives %s, %v", plain.Precision(), err)
	}
}

// Golden models through the front door: the mean of the scores is the stated loss.
func TestGoldenScores(t *testing.T) {
	for _, name := range []string{"llama", "llama3_rope", "qwen2", "qwen3"} {
		for _, c := range golden.Load(t, "transformer_"+name+".json").Cases {
			h, err := models.Acquire(context.Background(), models.Ref{Path: golden.Path(t, "golden", golden.Get[string](t, c.Params, "model_dir"))})
			if err != nil {
				t.Fatal(err)
			}
			var requests []models.ScoreRequest
			prompts := golden.Get[[]int](t, c.In, "prompt_lengths")
			for i, s := range golden.Get[[][]int32](t, c.In, "sequences") {
				requests = append(requests, models.ScoreRequest{Sequence: models.Sequence{Prompt: s[:prompts[i]], Response: s[prompts[i]:]}})
			}
			results, err := h.Score(context.Background(), requests)
			if err != nil {
				t.Fatal(err)
			}
			sum, n := 0.0, 0
			for _, r := range results {
				for _, l := range r.LogP {
					sum, n = sum-float64(l), n+1
				}
			}
			golden.CloseTo(t, name, sum/float64(n), golden.Get[float64](t, c.Out, "nll"), 1e-4)
			h.Release()
		}
	}
}

// A score that nobody waits for is not computed, or is given up with the next layer; the others have the same bits.
func TestGone(t *testing.T) {
	m := newModel(t, true)
	requests := newRequests(6)
	want, err := NewScorer(m, ScoreOptions{}).Score(t.Context(), requests)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	close(gone)
	requests[2].Gone = gone
	got, err := NewScorer(m, ScoreOptions{}).Score(t.Context(), requests)
	if err != nil || !errors.Is(got[2].Err, models.ErrGone) {
		t.Fatalf("%v %v", err, got[2].Err)
	}
	if got[2] = want[2]; !reflect.DeepEqual(got, want) {
		t.Error("the others have other scores")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewScorer(m, ScoreOptions{}).Score(ctx, requests); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}

	var w transformer.Workspace
	layers := 0
	w.Stop = func() bool { layers++; return layers > 1 }
	batch := models.Pack([]models.Sequence{requests[0].Sequence})
	if _, err := m.Forward(&w, batch); !errors.Is(err, transformer.ErrStopped) || layers != 2 {
		t.Errorf("%v after %d layers", err, layers)
	}
	if _, err := m.Prefill(&w, batch, []*transformer.KV{m.NewKV(100)}); !errors.Is(err, transformer.ErrStopped) {
		t.Errorf("%v", err)
	}
}
