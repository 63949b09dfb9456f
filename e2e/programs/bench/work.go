package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/heads"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/optim"
	"github.com/millrace/millrace/models/sampling"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
)

// work does the work of a case once and returns the seconds that count.
type work func() (float64, error)

// serveWork is our side of the model benchmark, in a process of its own so that its memory can be told: it reads names of cases
// and answers each with the seconds of one run.
func serveWork(in io.Reader, out io.Writer, directory string, threads int) error {
	kernels.SetThreads(threads)
	var name string
	var run work
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if lines.Text() != name {
			name = lines.Text()
			kind, sizes, _ := strings.Cut(name, " ")
			var a, b, c int
			fmt.Sscanf(sizes, "%dx%dx%d", &a, &b, &c)
			var err error
			if run, err = newWork(kind, a, b, c, directory); err != nil {
				return err
			}
		}
		seconds, err := run()
		if err != nil {
			return err
		}
		fmt.Fprintln(out, seconds)
	}
	return lines.Err()
}

func newWork(kind string, a, b, c int, directory string) (work, error) {
	kind, precision := precisionOf(kind)
	load := func() (*transformer.Model, error) {
		m, err := local.Load(directory)
		if err == nil {
			m.SetPrecision(precision)
		}
		return m, err
	}
	switch kind {
	case "train", "train-lean":
		return newTrainWork(load, a, b, kind == "train-lean")
	case "score":
		return newScoreWork(load, a, b)
	case "generate", "decode":
		return newSampleWork(load, a, b, kind == "decode")
	case "prompt":
		return newSampleWork(load, a, 1, false)
	case "grpo":
		return newGRPOWork(load, directory, a, b, c)
	}
	return nil, fmt.Errorf("no work is called %q", kind)
}

// inBFloat16 ends the kinds of cases whose products are computed in bfloat16, inTiles those in the order of a tile unit.
const (
	inBFloat16 = "-bf16"
	inTiles    = "-tiles"
)

var suffixes = map[kernels.Precision]string{kernels.BFloat16: inBFloat16, kernels.BFloat16Tiles: inTiles}

// precisionOf splits a kind into what is done and the precision of its products.
func precisionOf(kind string) (form string, p kernels.Precision) {
	for p, suffix := range suffixes {
		if form, ok := strings.CutSuffix(kind, suffix); ok {
			return form, p
		}
	}
	return kind, kernels.Float32
}

// loader reads the model.
type loader func() (*transformer.Model, error)

// frozen reads the model for sampling and scoring.
func (load loader) frozen() (*transformer.Model, error) {
	m, err := load()
	if err == nil {
		m.Freeze()
	}
	return m, err
}

// timed is a work that counts from beginning to end.
func timed(f func() error) work {
	return func() (float64, error) {
		start := time.Now()
		err := f()
		return time.Since(start).Seconds(), err
	}
}

func someTokens(n int, seed uint64) []int32 {
	r := rand.New(rand.NewPCG(seed, 0))
	out := make([]int32, n)
	for i := range out {
		out[i] = 100 + r.Int32N(20000)
	}
	return out
}

// learner takes optimiser steps on all weights of a model, in float32.
type learner struct {
	model   *transformer.Trainer
	state   *optim.AdamW
	head    heads.LM
	grad    losses.Grad
	h, dh   []float32 // rows that score a response token
	dHidden []float32
}

// lean keeps the optimiser's moments in bfloat16.
func newLearner(m *transformer.Model, lean bool) *learner {
	config := optim.Default()
	config.Rate = 1e-6
	if lean {
		config.Moments = optim.BFloat16
	}
	l := &learner{model: transformer.NewTrainer(m, transformer.TrainOptions{SharePrefixes: true})}
	l.state = optim.New(config, len(l.model.Params()))
	return l
}

// microbatch is a part of a batch whose activations are held at a time.
type microbatch struct {
	sequences []models.Sequence
	*losses.Microbatch
}

// step is forward, loss, backward and optimiser on one batch.
func (l *learner) step(loss losses.Loss, parts ...microbatch) error {
	var totals losses.Totals
	for _, part := range parts {
		totals.Add(part.Microbatch)
	}
	l.model.ZeroGrads()
	for _, part := range parts {
		part.Totals = totals
		if err := l.accumulate(loss, part); err != nil {
			return err
		}
	}
	_, err := l.state.Step(l.model.Params(), l.model.Grads())
	return err
}

// accumulate adds the gradients of a part.
func (l *learner) accumulate(loss losses.Loss, part microbatch) error {
	hidden, err := l.model.Forward(models.Pack(part.sequences))
	if err != nil {
		return err
	}
	d := l.model.HiddenSize()
	l.head.D = d
	l.head.W, l.head.DW = l.model.Head()
	l.head.Precision = l.model.Precision()
	scored := func(f func(row, token int)) {
		at, token := 0, 0
		for _, s := range part.sequences {
			for t := range s.Response {
				f(at+len(s.Prompt)-1+t, token)
				token++
			}
			at += len(s.Prompt) + len(s.Response)
		}
	}
	l.h, l.dh, l.dHidden = zeros(l.h, part.N()*d), zeros(l.dh, part.N()*d), zeros(l.dHidden, len(hidden))
	scored(func(row, token int) { copy(l.h[token*d:][:d], hidden[row*d:]) })
	if _, err := l.head.Run(loss, part.Microbatch, l.h, nil, l.dh, &l.grad); err != nil {
		return err
	}
	scored(func(row, token int) { copy(l.dHidden[row*d:][:d], l.dh[token*d:]) })
	return l.model.Backward(l.dHidden)
}

func zeros(s []float32, n int) []float32 {
	s = slices.Grow(s[:0], n)[:n]
	clear(s)
	return s
}

// newTrainWork is one step of full fine-tuning on sequences of a length; lean with the activations of one sequence at a time.
func newTrainWork(load loader, count, length int, lean bool) (work, error) {
	m, err := load()
	if err != nil {
		return nil, err
	}
	l := newLearner(m, lean)
	return timed(func() error {
		var parts []microbatch
		for at, size := 0, count; at < count; at += size {
			if lean {
				size = 1
			}
			var part microbatch
			var lengths []int
			var ids []int32
			for i := range size {
				tokens := someTokens(length, uint64(at+i))
				part.sequences = append(part.sequences, models.Sequence{Prompt: tokens[:1], Response: tokens[1:]})
				lengths, ids = append(lengths, length-1), append(ids, tokens[1:]...)
			}
			part.Microbatch = losses.NewMicrobatch(lengths, ids)
			part.Responses.Role = slices.Repeat([]losses.Role{losses.Chosen}, size)
			parts = append(parts, part)
		}
		return l.step(losses.DefaultSFT(), parts...)
	}), nil
}

// newScoreWork gives the log-probs of all tokens of sequences of a length.
func newScoreWork(load loader, count, length int) (work, error) {
	m, err := load.frozen()
	if err != nil {
		return nil, err
	}
	scorer := local.NewScorer(m, local.ScoreOptions{})
	var requests []models.ScoreRequest
	for i := range count {
		tokens := someTokens(length, uint64(i))
		requests = append(requests, models.ScoreRequest{Sequence: models.Sequence{Prompt: tokens[:1], Response: tokens[1:]}})
	}
	return timed(func() error {
		results, err := scorer.Score(context.Background(), requests)
		if err == nil {
			err = results[0].Err
		}
		return err
	}), nil
}

// newSampleWork continues sequences of 64 tokens by a number of new ones; with decodeOnly the first, which comes with the prompts,
// does not count.
func newSampleWork(load loader, count, new int, decodeOnly bool) (work, error) {
	m, err := load.frozen()
	if err != nil {
		return nil, err
	}
	if decodeOnly {
		new++
	}
	s := sampling.New(m, sampling.Options{})
	var requests []models.GenerateRequest
	for i := range count {
		requests = append(requests, models.GenerateRequest{PromptID: [16]byte{byte(i)}, Prompt: someTokens(64, uint64(i)), Samples: 1,
			Sampling: models.Sampling{MaxNewTokens: new}})
	}
	return func() (float64, error) {
		before := s.Stats()
		_, err := s.Generate(context.Background(), requests)
		after := s.Stats()
		if n := after.Tokens - before.Tokens; err == nil && n != count*new {
			err = fmt.Errorf("%d tokens were sampled, not %d", n, count*new)
		}
		seconds := (after.Time - before.Time).Seconds()
		if decodeOnly {
			seconds -= (after.FirstToken - before.FirstToken).Seconds() / float64(count)
		}
		return seconds, err
	}, nil
}

// newGRPOWork is one iteration: responses are sampled, rewarded, compared within their group, and learned from.
func newGRPOWork(load loader, directory string, prompts, samples, new int) (work, error) {
	m, err := load()
	if err != nil {
		return nil, err
	}
	tok, err := tokenizer.Load(directory)
	if err != nil {
		return nil, err
	}
	chat, err := tokenizer.NewChat(tok)
	if err != nil {
		return nil, err
	}
	l := newLearner(m, false)
	iteration := uint64(0)
	return timed(func() error {
		iteration++
		var requests []models.GenerateRequest
		for i, text := range problems(prompts) {
			ids, err := chat.Encode([]tokenizer.Message{{Role: "user", Content: text}}, true, nil)
			if err != nil {
				return err
			}
			requests = append(requests, models.GenerateRequest{PromptID: [16]byte{byte(i)}, Prompt: ids, Seed: iteration, Samples: samples,
				Sampling: models.Sampling{MaxNewTokens: new, Stop: tok.EOS()}})
		}
		results, err := sampling.New(m.Frozen(), sampling.Options{}).Generate(context.Background(), requests)
		if err != nil {
			return err
		}
		runtime.GC() // the weights laid out for sampling are not needed beside those of training

		var sequences []models.Sequence
		var lengths []int
		var ids []int32
		var oldLogP, advantage []float64
		for i, r := range results {
			outcomes, mean := make([]float64, samples), 0.0
			for k, response := range r.Responses {
				sum := 0
				for _, id := range response.Tokens {
					sum += int(id)
				}
				outcomes[k] = float64(sum % 2)
				mean += outcomes[k] / float64(samples)
			}
			for k, response := range r.Responses {
				sequences = append(sequences, models.Sequence{Prompt: requests[i].Prompt, Response: response.Tokens})
				lengths, ids = append(lengths, len(response.Tokens)), append(ids, response.Tokens...)
				for _, logp := range response.LogP {
					oldLogP, advantage = append(oldLogP, float64(logp)), append(advantage, outcomes[k]-mean)
				}
			}
		}
		mb := losses.NewMicrobatch(lengths, ids)
		mb.Listed.OldLogP, mb.Rows.Advantage = oldLogP, advantage
		return l.step(losses.DefaultPPO(), microbatch{sequences, mb})
	}), nil
}

// problems are prompts of about the length of those in GSM8K, for both sides of the benchmark.
func problems(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("A bakery sells %d loaves of bread in the morning and twice as many in the afternoon. Each loaf costs $%d, and the "+
			"flour for one loaf costs $%d. On Saturday the bakery gives %d loaves to a school for free, and sells the rest as usual. After "+
			"paying the %d workers $%d each for the day, how many dollars does the bakery keep at the end of Saturday?",
			23+7*i, 4+i, 1+i%2, 5+i, 2+i%3, 30+5*i)
	}
	return out
}

// problemsFile writes problems for a peer, as JSON lines.
func problemsFile() (path string, err error) {
	f, err := os.CreateTemp("", "problems-*.jsonl")
	if err != nil {
		return "", err
	}
	enc := json.NewEncoder(f)
	for _, text := range problems(64) {
		if err := enc.Encode(map[string]any{"prompt": []map[string]string{{"role": "user", "content": text}}}); err != nil {
			f.Close()
			return "", err
		}
	}
	return f.Name(), f.Close()
}

// profiled writes a processor profile of f to the file, unless that is "".
func profiled(file string, f func() error) error {
	if file == "" {
		return f()
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return f()
}
