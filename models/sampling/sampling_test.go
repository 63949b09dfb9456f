package sampling

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/transformer"
)

// newModel is a small random model whose distributions are neither flat nor peaked.
func newModel(t testing.TB, modelType string) *transformer.Model {
	t.Helper()
	modelType, precision, _ := strings.Cut(modelType, " in ")
	lora := modelType == "lora"
	if lora {
		modelType = "llama"
	}
	c := transformer.Config{ModelType: modelType, Vocab: 31, Hidden: 24, Intermediate: 40, Layers: 2, Heads: 6, KVHeads: 2, HeadDim: 4,
		MaxPositions: 160, NormEps: 1e-6, Rope: transformer.Rope{Theta: 10000, Type: "default"}}
	switch modelType {
	case "qwen2":
		c.QKVBias = true
	case "qwen3":
		c.QKNorm, c.HeadDim = true, 8
	}
	m, err := transformer.New(c, 11, false)
	if err != nil {
		t.Fatal(err)
	}
	if lora {
		if err := m.AddLoRA(transformer.LoRA{Rank: 2, Alpha: 8}, 1, models.Ref{}); err != nil {
			t.Fatal(err)
		}
		params := transformer.NewTrainer(m, transformer.TrainOptions{}).Params()
		for i := range params {
			params[i] += 0.05
		}
	}
	var p kernels.Precision
	if err := p.UnmarshalText([]byte(precision)); err != nil {
		t.Fatal(err)
	}
	m.SetPrecision(p)
	return m
}

// newRequests are prompts of many lengths, some longer than a block of the attention, with different parameters.
func newRequests(n int) []models.GenerateRequest {
	rng := rand.New(rand.NewPCG(1, 2))
	var out []models.GenerateRequest
	for i := range n {
		r := models.GenerateRequest{PromptID: [16]byte{byte(i), 5}, Seed: 42, Samples: 1 + i%4, FirstSample: i % 3}
		length := 1 + rng.IntN(20)
		if i%5 == 4 {
			length = 60 + rng.IntN(30)
		}
		for range length {
			r.Prompt = append(r.Prompt, int32(rng.IntN(31)))
		}
		r.Sampling = models.Sampling{MaxNewTokens: 1 + rng.IntN(30), Stop: []int32{3, 7}, CandidateK: i % 6, CandidateMinP: 0.05}
		switch i % 4 {
		case 1:
			r.Sampling.Temperature, r.Sampling.TopP = 0.7, 0.9
		case 2:
			r.Sampling.TopK, r.Sampling.MinNewTokens = 5, min(4, r.Sampling.MaxNewTokens)
		case 3:
			r.Sampling.Greedy = i%8 == 3
		}
		out = append(out, r)
	}
	return out
}

func generate(t testing.TB, m *transformer.Model, o Options, requests []models.GenerateRequest) []models.GenerateResult {
	t.Helper()
	results, err := New(m, o).Generate(context.Background(), requests)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Err != nil {
			t.Fatalf("request %d: %v", i, r.Err)
		}
	}
	return results
}

// Whatever is in the batch, however many threads run and at each level of the kernels: the same responses, and the stored
// log-probs are those of the training forward, bit for bit.
func TestSameBits(t *testing.T) {
	modelTypes := []string{"llama", "qwen2", "qwen3", "lora", "llama in bfloat16", "qwen3 in bfloat16", "lora in bfloat16",
		"llama in bfloat16-tiles", "qwen3 in bfloat16-tiles"}
	if testing.Short() {
		modelTypes = []string{"qwen3", "lora in bfloat16"}
	}
	for _, modelType := range modelTypes {
		for _, level := range []string{"generic", kernels.Level()} {
			t.Run(modelType+"/"+level, func(t *testing.T) {
				defer kernels.Force(level)()
				defer kernels.SetThreads(kernels.SetThreads(0))
				m := newModel(t, modelType)
				requests := newRequests(13)
				kernels.SetThreads(1)
				want := generate(t, m, Options{}, requests)
				for _, threads := range []int{1, 2, 5} {
					kernels.SetThreads(threads)
					for _, o := range []Options{{}, {MaxSequences: 1}, {MaxSequences: 3, MaxPrefill: 25}, {MaxCacheBytes: 1}, {MaxCacheBytes: 200_000}} {
						if got := generate(t, m, o, requests); !reflect.DeepEqual(got, want) {
							t.Errorf("%d threads, %+v: other responses", threads, o)
						}
					}
					backwards := slices.Clone(requests)
					slices.Reverse(backwards)
					got := generate(t, m, Options{MaxSequences: 7}, backwards)
					slices.Reverse(got)
					if !reflect.DeepEqual(got, want) {
						t.Errorf("%d threads: other responses when the requests come in another order", threads)
					}
				}
				for i, r := range requests { // one sample at a time, alone
					for s := range r.Samples {
						one := r
						one.FirstSample, one.Samples = r.FirstSample+s, 1
						if got := generate(t, m, Options{}, []models.GenerateRequest{one}); !reflect.DeepEqual(got[0].Responses[0], want[i].Responses[s]) {
							t.Errorf("request %d, sample %d: another response when it is alone", i, s)
						}
					}
				}
				checkForward(t, m, requests, want)
			})
		}
	}
}

// checkForward compares the stored log-probs with forward passes over random batches of the finished sequences.
func checkForward(t *testing.T, m *transformer.Model, requests []models.GenerateRequest, results []models.GenerateResult) {
	t.Helper()
	type item struct {
		prompt   []int32
		response *models.Response
	}
	var items []item
	for i := range results {
		for j := range results[i].Responses {
			items = append(items, item{requests[i].Prompt, &results[i].Responses[j]})
		}
	}
	tr := transformer.NewTrainer(m, transformer.TrainOptions{})
	v, d := m.VocabSize(), m.HiddenSize()
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 4 {
		kernels.SetThreads(1 + round)
		rng.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
		for lo := 0; lo < len(items); {
			part := items[lo:min(len(items), lo+1+rng.IntN(9))]
			lo += len(part)
			var batch []models.Sequence
			for _, it := range part {
				batch = append(batch, models.Sequence{Prompt: it.prompt, Response: it.response.Tokens})
			}
			packed := models.Pack(batch)
			h, err := tr.Forward(packed)
			if err != nil {
				t.Fatal(err)
			}
			z := make([]float32, len(packed.Tokens)*v)
			m.Logits(z, h[:len(packed.Tokens)*d], len(packed.Tokens))
			for b, it := range part {
				for i, token := range it.response.Tokens {
					row := z[(packed.Starts[b]+len(it.prompt)-1+i)*v:][:v]
					logZ := kernels.LogSumExp(row)
					if it.response.LogZ[i] != logZ || it.response.LogP[i] != row[token]-logZ {
						t.Fatalf("token %d: stored log-prob %v and logsumexp %v, the forward pass gives %v and %v",
							i, it.response.LogP[i], it.response.LogZ[i], row[token]-logZ, logZ)
					}
				}
			}
		}
	}
}

// With no filter on, the token is the one at which the cumulative softmax passes the keyed uniform number.
func TestInverseCDF(t *testing.T) {
	m := newModel(t, "llama")
	r := models.GenerateRequest{PromptID: [16]byte{9}, Prompt: []int32{4, 2}, Seed: 6, Samples: 40,
		Sampling: models.Sampling{MaxNewTokens: 20}}
	result := generate(t, m, Options{}, []models.GenerateRequest{r})[0]
	tr := transformer.NewTrainer(m, transformer.TrainOptions{})
	v, d := m.VocabSize(), m.HiddenSize()
	seen := map[string]bool{}
	for _, response := range result.Responses {
		seen[fmt.Sprint(response.Tokens)] = true
		if response.Finish != models.FinishLength || len(response.Tokens) != 20 {
			t.Fatalf("%d tokens, finish %v, want 20 and length", len(response.Tokens), response.Finish)
		}
		h, err := tr.Forward(models.Pack([]models.Sequence{{Prompt: r.Prompt, Response: response.Tokens}}))
		if err != nil {
			t.Fatal(err)
		}
		for i, token := range response.Tokens {
			z := make([]float32, v)
			m.Logits(z, h[(len(r.Prompt)-1+i)*d:][:d], 1)
			logZ := float64(kernels.LogSumExp(z))
			u := Uniform(r.Seed, r.PromptID, response.Sample, i)
			below := 0.0
			for _, logit := range z[:token] {
				below += math.Exp(float64(logit) - logZ)
			}
			if p := math.Exp(float64(z[token]) - logZ); u < below-1e-5 || u > below+p+1e-5 {
				t.Errorf("token %d: u = %v is not in [%v, %v]", i, u, below, below+p)
			}
		}
	}
	if len(seen) < 38 {
		t.Errorf("40 samples are only %d different ones", len(seen))
	}
}

func TestParameters(t *testing.T) {
	m := newModel(t, "llama")
	stops, lengths := 0, 0
	for _, stop := range []int32{0, 3, 12} {
		r := models.GenerateRequest{Prompt: []int32{1, 5, 8}, Samples: 50, Sampling: models.Sampling{
			MaxNewTokens: 24, MinNewTokens: 6, Stop: []int32{stop}, CandidateK: 4, CandidateMinP: 0.06}}
		for _, response := range generate(t, m, Options{}, []models.GenerateRequest{r})[0].Responses {
			n := len(response.Tokens)
			last := response.Tokens[n-1]
			switch response.Finish {
			case models.FinishStop:
				stops++
				if last != stop || n < 7 || slices.Contains(response.Tokens[:n-1], stop) {
					t.Errorf("stopped at %v, stop token %d, at least 6 before it", response.Tokens, stop)
				}
			case models.FinishLength:
				lengths++
				if n != 24 || slices.Contains(response.Tokens, stop) {
					t.Errorf("ended by length at %v, stop token %d", response.Tokens, stop)
				}
			default:
				t.Errorf("finish %v", response.Finish)
			}
			for i := range n {
				ids := response.CandidateIDs[response.CandidateStart[i]:response.CandidateStart[i+1]]
				logp := response.CandidateLogP[response.CandidateStart[i]:response.CandidateStart[i+1]]
				if ids[0] != response.Tokens[i] || logp[0] != response.LogP[i] || len(ids) > 4 {
					t.Fatalf("candidates %v %v of token %d, log-prob %v", ids, logp, response.Tokens[i], response.LogP[i])
				}
				for j := 1; j < len(ids); j++ {
					if ids[j] == ids[0] || logp[j] < float32(math.Log(0.06)) || j > 1 && logp[j] > logp[j-1] {
						t.Fatalf("candidates %v %v", ids, logp)
					}
				}
			}
		}
	}
	if stops == 0 || lengths == 0 {
		t.Errorf("%d responses stopped, %d reached the length: the test should see both", stops, lengths)
	}

	// The model's context ends a response too.
	long := models.GenerateRequest{Prompt: make([]int32, 150), Samples: 2, Sampling: models.Sampling{MaxNewTokens: 100}}
	for _, response := range generate(t, m, Options{}, []models.GenerateRequest{long})[0].Responses {
		if len(response.Tokens) != 10 || response.Finish != models.FinishLength {
			t.Errorf("%d tokens after a prompt of 150 in a context of 160, finish %v", len(response.Tokens), response.Finish)
		}
	}
}

// Stop strings end a response with the token that completes one, wherever the tokens cut it.
// The candidates that are stored are those of algorithms.md 3.1, row by row of its test vectors.
func TestCandidatesGolden(t *testing.T) {
	rows := 0
	for _, c := range golden.Load(t, "td_advantages.json").Cases {
		k := golden.Get[int](t, c.Params, "K")
		sampling := models.Sampling{Temperature: 1, MaxNewTokens: 1, CandidateK: k,
			CandidateMinP: float32(golden.Get[float64](t, c.Params, "p_min"))}
		old, want := golden.Get[golden.Tensor](t, c.In, "old_logits"), golden.Get[golden.Tensor](t, c.Out, "candidates").Int32()
		logp := golden.Get[golden.Tensor](t, c.Out, "candidate_old_logp").Data
		for i, token := range golden.Get[golden.Tensor](t, c.In, "tokens").Int32() {
			v := old.Shape[1]
			slots := want[i*k : (i+1)*k]
			if slots[0] < 0 {
				continue // the last token of a response, or a truncated one: its candidates are stored but not used
			}
			slots = slots[:len(slots)-count(slots, -1)]
			z := old.Float32()[i*v : (i+1)*v]
			asked := models.Asked{GenerateRequest: models.GenerateRequest{Sampling: sampling}}
			q := sequence{group: &group{Asked: asked}, out: &models.Response{}}
			q.candidates(z, kernels.LogSumExp(z), token)
			if !slices.Equal(q.out.CandidateIDs, slots) {
				t.Errorf("%s, row %d: candidates %v, want %v", c.Name, i, q.out.CandidateIDs, slots)
				continue
			}
			for j := range slots {
				golden.CloseTo(t, fmt.Sprintf("%s, row %d, slot %d", c.Name, i, j), float64(q.out.CandidateLogP[j]), logp[i*k+j], 1e-4)
			}
			rows++
		}
	}
	if rows == 0 {
		t.Error("no row has candidates")
	}
}

func count(ids []int32, id int32) (n int) {
	for _, x := range ids {
		if x == id {
			n++
		}
	}
	return n
}

func TestStopStrings(t *testing.T) {
	m := newModel(t, "llama")
	text := func(ids []int32) string { // tokens of one, two or three letters
		var b strings.Builder
		for _, id := range ids {
			b.WriteString([]string{"a", "b", "c", "ab", "bc", "ca", "abc"}[id%7])
		}
		return b.String()
	}
	s := New(m, Options{Decoder: func() (func([]int32) string, error) { return text, nil }})
	stops := []string{"abca", "cc"}
	r := models.GenerateRequest{Prompt: []int32{1}, Samples: 60,
		Sampling: models.Sampling{MaxNewTokens: 20, StopStrings: stops, MinNewTokens: 2}}
	results, err := s.Generate(context.Background(), []models.GenerateRequest{r})
	if err != nil || results[0].Err != nil {
		t.Fatal(err, results[0].Err)
	}
	r.Sampling.StopStrings = nil
	free := generate(t, m, Options{}, []models.GenerateRequest{r})[0]
	stopped := 0
	for i, response := range results[0].Responses {
		all := free.Responses[i].Tokens
		want := len(all)
		for n := 3; n <= len(all); n++ { // the first length beyond the minimum at which the newest token completes one
			tail, before := text(all[:n]), len(text(all[:n-1]))
			if slices.ContainsFunc(stops, func(stop string) bool {
				return strings.LastIndex(tail, stop)+len(stop) > before && strings.Contains(tail, stop)
			}) {
				want, stopped = n, stopped+1
				break
			}
		}
		if got := response.Tokens; !slices.Equal(got, all[:want]) {
			t.Errorf("stopped after %d tokens, %q, want %d of %q", len(got), text(got), want, text(all))
		}
		if (response.Finish == models.FinishStop) != (want < len(all)) && want < 20 {
			t.Errorf("finish %v after %d tokens", response.Finish, want)
		}
	}
	if stopped < 10 {
		t.Errorf("only %d responses stopped: the test sees too little", stopped)
	}
	if stats := s.Stats(); stats.Responses != 60 || stats.PromptTokens != 1 || stats.Tokens < 60 || stats.Time <= 0 || stats.FirstToken <= 0 {
		t.Errorf("%+v", stats)
	}
	r.Sampling.StopStrings = stops
	if results, err := New(m, Options{}).Generate(context.Background(), []models.GenerateRequest{r}); err != nil || results[0].Err == nil {
		t.Error("stop strings are taken without a tokenizer")
	}
}

func TestErrors(t *testing.T) {
	m := newModel(t, "llama")
	good := models.GenerateRequest{Prompt: []int32{1, 2}, Samples: 2, Sampling: models.Sampling{MaxNewTokens: 3}}
	bad := map[string]func(r *models.GenerateRequest){
		"empty prompt":    func(r *models.GenerateRequest) { r.Prompt = nil },
		"foreign token":   func(r *models.GenerateRequest) { r.Prompt = []int32{1, 31} },
		"negative token":  func(r *models.GenerateRequest) { r.Prompt = []int32{-1} },
		"long prompt":     func(r *models.GenerateRequest) { r.Prompt = make([]int32, 160) },
		"foreign stop":    func(r *models.GenerateRequest) { r.Sampling.Stop = []int32{31} },
		"no length":       func(r *models.GenerateRequest) { r.Sampling.MaxNewTokens = 0 },
		"NaN temperature": func(r *models.GenerateRequest) { r.Sampling.Temperature = float32(math.NaN()) },
		"samples":         func(r *models.GenerateRequest) { r.Samples = -1 },
	}
	for name, change := range bad {
		r := good
		change(&r)
		results, err := New(m, Options{}).Generate(context.Background(), []models.GenerateRequest{good, r, good})
		if err != nil {
			t.Fatal(name, err)
		}
		if results[1].Err == nil || results[1].Responses != nil {
			t.Errorf("%s: no error", name)
		}
		if results[0].Err != nil || len(results[2].Responses) != 2 {
			t.Errorf("%s: spoils the other requests", name)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := New(m, Options{}).Generate(ctx, []models.GenerateRequest{good}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled context gives %v", err)
	}

	// A model that has gone bad says so; it does not sample from nothing.
	tr := transformer.NewTrainer(newModel(t, "llama"), transformer.TrainOptions{})
	tr.Params()[0] = float32(math.NaN())
	for i := range tr.Params() {
		tr.Params()[i] = float32(math.NaN())
	}
	for _, response := range generate(t, tr.Model, Options{}, []models.GenerateRequest{good})[0].Responses {
		if response.Finish != models.FinishError || response.Err == nil {
			t.Errorf("weights of NaN: finish %v, error %v", response.Finish, response.Err)
		}
	}
}

// A temperature that is as good as none is greedy.
func TestTinyTemperatures(t *testing.T) {
	m := newModel(t, "llama")
	r := models.GenerateRequest{Prompt: []int32{1, 2}, Samples: 2, Sampling: models.Sampling{MaxNewTokens: 20, Greedy: true}}
	want := generate(t, m, Options{}, []models.GenerateRequest{r})
	for _, temperature := range []float32{models.LeastTemperature, 1e-20, 1e-12} {
		r.Sampling.Greedy, r.Sampling.Temperature = false, temperature
		if got := generate(t, m, Options{}, []models.GenerateRequest{r}); !reflect.DeepEqual(got, want) {
			t.Errorf("temperature %v: %+v, want %+v", temperature, got, want)
		}
	}
}

// A request that nobody waits for ends with the next token, its prompt with the next layer; the others have the responses that
// they would have had.
func TestGone(t *testing.T) {
	m := newModel(t, "llama")
	other := models.GenerateRequest{PromptID: [16]byte{1}, Prompt: []int32{4, 5}, Samples: 3, Sampling: models.Sampling{MaxNewTokens: 30}}
	alone := generate(t, m, Options{}, []models.GenerateRequest{other})[0]
	gone := make(chan struct{})
	tokens := 0
	left := models.GenerateRequest{Prompt: []int32{1, 2}, Samples: 4, Sampling: models.Sampling{MaxNewTokens: 100}, Gone: gone,
		OnToken: func(sample, at int, _ int32, _ float32) {
			if tokens++; at == 5 && sample == 3 {
				close(gone)
			}
		}}
	results, err := New(m, Options{MaxSequences: 5}).Generate(t.Context(), []models.GenerateRequest{left, other})
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(results[0].Err, models.ErrGone) || results[0].Responses != nil || tokens != 4*6 {
		t.Errorf("%v after %d tokens, want the end at the 6th of each of 4 samples", results[0].Err, tokens)
	}
	if !reflect.DeepEqual(results[1], alone) {
		t.Errorf("beside it: %+v, want %+v", results[1], alone)
	}
	tokens = 0
	if results, err = New(m, Options{}).Generate(t.Context(), []models.GenerateRequest{left, other}); err != nil { // from the beginning
		t.Fatal(err)
	}
	if !errors.Is(results[0].Err, models.ErrGone) || tokens != 0 || !reflect.DeepEqual(results[1], alone) {
		t.Errorf("gone before it began: %v after %d tokens; beside it %+v", results[0].Err, tokens, results[1])
	}

	// Before its prompt has been run: one that leaves when the sampler first looks at its own end.
	s, asked := New(m, Options{}), 0
	gone = make(chan struct{})
	left.Gone, left.OnToken = gone, nil
	var answer models.GenerateResult
	err = s.GenerateAsTheyCome(t.Context(), func() []models.Asked {
		if asked++; asked > 1 {
			return nil
		}
		close(gone)
		return []models.Asked{{GenerateRequest: left, Answer: func(r models.GenerateResult) { answer = r }}}
	})
	if err != nil || !errors.Is(answer.Err, models.ErrGone) || s.Stats().Tokens != 0 {
		t.Errorf("%v %v, %d tokens", err, answer.Err, s.Stats().Tokens)
	}
}

// Whoever comes while a large request is under way is answered beside it, with the same responses as alone.
func TestFairShares(t *testing.T) {
	m := newModel(t, "llama")
	long := models.Sampling{MaxNewTokens: 120}
	large := models.GenerateRequest{Prompt: []int32{1, 2}, Samples: 40, Sampling: long}
	small := models.GenerateRequest{PromptID: [16]byte{1}, Prompt: []int32{4, 5}, Samples: 2, Sampling: models.Sampling{MaxNewTokens: 3}}
	want := generate(t, m, Options{}, []models.GenerateRequest{large, small})
	steps := 0
	answered := map[string]int{}
	got := map[string]models.GenerateResult{}
	ask := func(name, client string, r models.GenerateRequest) models.Asked {
		return models.Asked{GenerateRequest: r, Client: client, Answer: func(result models.GenerateResult) {
			answered[name], got[name] = steps, result
		}}
	}
	err := New(m, Options{MaxSequences: 16}).GenerateAsTheyCome(t.Context(), func() []models.Asked {
		switch steps++; steps {
		case 1:
			return []models.Asked{ask("large", "a", large), ask("second of the same client", "a", large)}
		case 10:
			return []models.Asked{ask("small", "b", small), ask("small of the same client", "a", small), ask("third", "c", small)}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, result := range got {
		expected := want[0]
		if strings.Contains(name, "small") || name == "third" {
			expected = want[1]
		}
		if !reflect.DeepEqual(result, expected) {
			t.Errorf("%s: other responses than alone", name)
		}
	}
	for _, name := range []string{"small", "third"} {
		if at := answered[name]; at < 10 || at > 20 {
			t.Errorf("%s, asked for at step 10, is answered at step %d; the large ones at %d", name, at, answered["large"])
		}
	}
	if at := answered["small of the same client"]; at > answered["second of the same client"] {
		t.Errorf("a small request of a busy client is answered at step %d, after its large ones at %d", at, answered["second of the same client"])
	}
	if len(got) != 5 {
		t.Errorf("%d answers", len(got))
	}
}
