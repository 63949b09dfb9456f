// Package sampling draws responses from a transformer by continuous batching over a key/value cache: all live sequences
// share every matrix product of a step, a finished one makes room for the next, and the prompt of a group is computed once.
//
// A response depends on the model, the prompt, the sampling parameters and its key (seed, prompt id, sample) alone. The
// random number of a token is keyed by these and its position, and a row of logits has the same bits in every batch, so
// neither the other requests nor the number of threads can change a token; and the stored log-probs are, bit for bit, those
// that a forward pass over the finished sequence gives.
package sampling

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/schemas/setting"
)

// Options bound what a Sampler uses; they change nothing about the responses. A zero field takes its default.
type Options struct {
	MaxSequences  int // decoded at once; default 256
	MaxCacheBytes int // reserved for key/value caches, unless one sequence alone needs more; default 2 GiB
	MaxPrefill    int // prompt tokens run at once, unless one prompt alone has more; default 2048

	// Decoder gives the text of token ids, for stop strings; nil: requests with stop strings are refused. It is called once,
	// when it is first needed.
	Decoder func() (decode func(ids []int32) string, err error)
}

// Stats are sums over the life of a Sampler.
type Stats = models.SamplingStats

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field *int
		value int
	}{{&o.MaxSequences, 256}, {&o.MaxCacheBytes, 2 << 30}, {&o.MaxPrefill, 2048}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return o
}

// Sampler is a models.Generator over a transformer. Concurrent calls take turns: the kernels use all threads already.
type Sampler struct {
	model *transformer.Model
	opts  Options

	turn   sync.Mutex
	w      transformer.Workspace
	logits []float32
	free   []*transformer.KV
	spare  sync.Pool // of *[]*transformer.KV: what was free at the end of a call, as long as the garbage collector leaves it
	decode func(ids []int32) string
	stats  Stats
}

var (
	_ models.Generator  = (*Sampler)(nil)
	_ models.Continuous = (*Sampler)(nil)
)

// New makes a sampler that shares the model's weights.
func New(m *transformer.Model, o Options) *Sampler {
	return &Sampler{model: m, opts: o.withDefaults()}
}

// Uniform is the random number in [0,1) that decides token position (0-based) of a response.
func Uniform(seed uint64, promptID [16]byte, sample, position int) float64 {
	return responseKey(seed, promptID, sample).With(uint64(position)).Uniform()
}

func responseKey(seed uint64, promptID [16]byte, sample int) keyed.Key {
	return keyed.New(seed).WithBytes(promptID).With(uint64(sample))
}

// group is a request on its way: its prompt's cache and last hidden row, until all samples have started.
type group struct {
	models.Asked
	result  models.GenerateResult
	prefix  *transformer.KV
	hidden  []float32 // [D]
	started int       // samples
	live    int       // of them under way
	bytes   int       // that each reserves
	began   time.Time
	stop    map[int32]bool
}

// share is what a client, or a request, has of what there is.
type share struct{ sequences, bytes int }

// sequence is a live response.
type sequence struct {
	*group
	key   keyed.Key
	out   *models.Response
	cache *transformer.KV
	done  bool
}

// Stats returns the sums so far.
func (s *Sampler) Stats() Stats {
	s.turn.Lock()
	defer s.turn.Unlock()
	return s.stats
}

// Generate implements models.Generator.
func (s *Sampler) Generate(ctx context.Context, requests []models.GenerateRequest) ([]models.GenerateResult, error) {
	results := make([]models.GenerateResult, len(requests))
	asked := make([]models.Asked, len(requests))
	for i, r := range requests {
		asked[i] = models.Asked{GenerateRequest: r, Answer: func(result models.GenerateResult) { results[i] = result }}
	}
	next := func() []models.Asked {
		first := asked
		asked = nil
		return first
	}
	if err := s.run(ctx, next, false); err != nil {
		return nil, err
	}
	return results, nil
}

// GenerateAsTheyCome implements models.Continuous.
func (s *Sampler) GenerateAsTheyCome(ctx context.Context, next func() []models.Asked) error {
	return s.run(ctx, next, true)
}

// run samples what next gives until that is nothing. With fair, requests take their turns; else the first comes first, and the
// cache of one prompt at a time is kept.
func (s *Sampler) run(ctx context.Context, next func() []models.Asked, fair bool) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	began, before := time.Now(), s.stats
	if spare, _ := s.spare.Get().(*[]*transformer.KV); spare != nil {
		s.free = *spare
	}
	defer func() {
		free := s.free
		s.free = nil
		s.spare.Put(&free)
		s.stats.Time += time.Since(began)
		models.CountSampling(ctx, s.stats.Since(before))
	}()
	var waiting []*group
	var live []*sequence
	reserved := 0
	for {
		waiting = s.take(next(), waiting)
		if len(waiting) == 0 && len(live) == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		waiting = slices.DeleteFunc(waiting, s.left)
		live = s.remove(live, &reserved)
		var fresh []*sequence
		var err error
		if fresh, waiting, err = s.admit(waiting, live, &reserved, fair); err != nil {
			return err
		}
		for _, q := range fresh {
			s.stats.FirstToken += time.Since(q.began)
		}
		if len(live) > 0 {
			if err := s.step(live); err != nil {
				return err
			}
		}
		s.stats.Tokens += len(live) + len(fresh)
		live = append(live, fresh...)
		for _, q := range live {
			q.tell()
		}
		live = s.remove(live, &reserved)
	}
}

// take puts the requests that can be served behind those that wait, and answers the others.
func (s *Sampler) take(asked []models.Asked, waiting []*group) []*group {
	for _, a := range asked {
		if err := s.check(&a.GenerateRequest); err != nil {
			a.Answer(models.GenerateResult{Err: err})
			continue
		}
		g := &group{Asked: a, began: time.Now(), stop: map[int32]bool{}}
		for _, id := range a.Sampling.Stop {
			g.stop[id] = true
		}
		g.result.Responses = make([]models.Response, a.Samples)
		g.bytes = s.model.KVBytes(s.need(g))
		if a.Samples == 0 {
			a.Answer(g.result)
			continue
		}
		waiting = append(waiting, g)
	}
	return waiting
}

// left ends a group that nobody waits for any more, as far as no sample of it is under way.
func (s *Sampler) left(g *group) bool {
	if !models.Left(g.Gone) {
		return false
	}
	s.release(g.prefix)
	g.prefix, g.hidden, g.started = nil, nil, g.Samples
	if g.live == 0 {
		g.Answer(models.GenerateResult{Err: models.ErrGone})
	}
	return true
}

// remove takes out the sequences that are done and those that nobody waits for, and answers the requests they were the last of.
func (s *Sampler) remove(live []*sequence, reserved *int) []*sequence {
	return slices.DeleteFunc(live, func(q *sequence) bool {
		gone := models.Left(q.Gone)
		if !q.done && !gone {
			return false
		}
		if q.done {
			s.stats.Responses++
		}
		*reserved -= q.bytes
		s.release(q.cache)
		q.cache = nil
		if q.live--; q.live == 0 && q.started == q.Samples {
			if gone {
				q.result = models.GenerateResult{Err: models.ErrGone}
			}
			q.Answer(q.result)
		}
		return true
	})
}

func (s *Sampler) check(r *models.GenerateRequest) error {
	if err := setting.Check(r.Sampling); err != nil {
		return fmt.Errorf("sampling: %w", err)
	}
	if r.Samples < 0 || r.FirstSample < 0 {
		return fmt.Errorf("sampling: %d samples from number %d on; neither can be negative", r.Samples, r.FirstSample)
	}
	if err := s.model.Check(r.Prompt); err != nil {
		return fmt.Errorf("sampling: prompt: %w", err)
	}
	if n := s.model.MaxPositions(); len(r.Prompt) >= n {
		return fmt.Errorf("sampling: prompt: %d tokens leave no room for a response, the model takes %d in all", len(r.Prompt), n)
	}
	for i, id := range r.Sampling.Stop {
		if id < 0 || int(id) >= s.model.VocabSize() {
			return fmt.Errorf("sampling: stop[%d] is %d, not in the vocabulary [0, %d)", i, id, s.model.VocabSize())
		}
	}
	if len(r.Sampling.StopStrings) > 0 && s.decode == nil {
		if s.opts.Decoder == nil {
			return errors.New("sampling: stop_strings: the model's tokenizer is not known")
		}
		decode, err := s.opts.Decoder()
		if err != nil {
			return fmt.Errorf("sampling: stop_strings: %w", err)
		}
		s.decode = decode
	}
	return nil
}

// need is the most tokens a sequence of the group can hold.
func (s *Sampler) need(g *group) int {
	return min(len(g.Prompt)+g.Sampling.MaxNewTokens, s.model.MaxPositions())
}

// room is the capacity of a cache that begins with n tokens of a sequence of the group.
func (s *Sampler) room(g *group, n int) int { return min(n+64, s.need(g)) }

// admit starts samples of the waiting groups while there is room: it runs the prompts that are new and draws every new
// sample's first token. It returns the started sequences and the groups that still have samples to start.
func (s *Sampler) admit(waiting []*group, live []*sequence, reserved *int, fair bool) ([]*sequence, []*group, error) {
	var clients map[string]*share
	if fair {
		clients = order(waiting, live)
	}
	var fresh []*sequence
	var prompts []*group
	var batch []models.Sequence
	tokens := 0
	for _, g := range waiting {
		n := len(g.Prompt)
		if g.prefix == nil && tokens > 0 && tokens+n > s.opts.MaxPrefill {
			break
		}
		began := len(fresh)
		for g.started < g.Samples {
			all := share{len(live) + len(fresh), *reserved}
			full := all.sequences >= s.opts.MaxSequences || all.bytes+g.bytes > s.opts.MaxCacheBytes
			if full && all.sequences > 0 || fair && s.enough(g, *clients[g.Client], all) {
				break
			}
			out := &g.result.Responses[g.started]
			out.Sample = g.FirstSample + g.started
			if g.Sampling.CandidateK > 0 {
				out.CandidateStart = append(out.CandidateStart, 0)
			}
			fresh = append(fresh, &sequence{group: g, key: responseKey(g.Seed, g.PromptID, out.Sample), out: out})
			g.started++
			g.live++
			*reserved += g.bytes
			if fair {
				clients[g.Client].sequences++
				clients[g.Client].bytes += g.bytes
			}
		}
		if len(fresh) == began {
			if fair {
				continue
			}
			break
		}
		if g.prefix == nil {
			g.prefix = s.acquire(s.room(g, n))
			prompts = append(prompts, g)
			batch = append(batch, models.Sequence{Prompt: g.Prompt})
			tokens += n
		}
	}
	s.stats.PromptTokens += tokens
	if len(prompts) > 0 {
		caches := make([]*transformer.KV, len(prompts))
		for i, g := range prompts {
			caches[i] = g.prefix
		}
		s.w.Stop = func() bool { return !slices.ContainsFunc(prompts, func(g *group) bool { return !models.Left(g.Gone) }) }
		h, err := s.model.Prefill(&s.w, models.Pack(batch), caches)
		s.w.Stop = nil
		if errors.Is(err, transformer.ErrStopped) { // those that asked have all gone
			fresh = slices.DeleteFunc(fresh, func(q *sequence) bool {
				gone := slices.Contains(prompts, q.group)
				if gone {
					q.live--
					*reserved -= q.bytes
				}
				return gone
			})
			waiting = slices.DeleteFunc(waiting, s.left)
			prompts = nil
		} else if err != nil {
			return nil, nil, err
		}
		d := s.model.HiddenSize()
		for i, g := range prompts {
			g.hidden = slices.Clone(h[i*d : (i+1)*d])
		}
	}

	// First tokens: samples of a group read the same row of logits.
	v := s.model.VocabSize()
	for drawn := 0; drawn < len(fresh); {
		var hidden []float32
		var rows []int // of the logits, for each sequence
		for _, q := range fresh[drawn:] {
			if n := len(rows); n == 0 || q.group != fresh[drawn+n-1].group {
				if len(hidden) == max(1, maxLogits/v)*len(q.hidden) {
					break
				}
				hidden = append(hidden, q.hidden...)
			}
			rows = append(rows, len(hidden)/len(q.hidden)-1)
		}
		n := rows[len(rows)-1] + 1
		z := s.rows(n)
		s.model.Logits(z, hidden, n)
		s.drawAll(fresh[drawn:drawn+len(rows)], func(i int) []float32 { return z[rows[i]*v : (rows[i]+1)*v] }, v)
		drawn += len(rows)
	}
	for _, q := range fresh {
		switch g := q.group; {
		case q.done:
		case q.out == &g.result.Responses[g.Samples-1]:
			q.cache, g.prefix = g.prefix, nil // nobody copies it any more
		default:
			q.cache = s.acquire(s.room(g, g.prefix.Len()))
			q.cache.CopyFrom(g.prefix)
		}
	}
	waiting = slices.DeleteFunc(waiting, func(g *group) bool {
		if g.started < g.Samples {
			return false
		}
		s.release(g.prefix)
		g.prefix, g.hidden = nil, nil
		return true
	})
	return fresh, waiting, nil
}

// order puts first whose client has the least under way, then which request has, then which came first. It returns what
// each client has under way.
func order(waiting []*group, live []*sequence) map[string]*share {
	clients := map[string]*share{}
	for _, g := range waiting {
		if clients[g.Client] == nil {
			clients[g.Client] = &share{}
		}
	}
	for _, q := range live {
		if c := clients[q.Client]; c != nil {
			c.sequences++
			c.bytes += q.bytes
		}
	}
	slices.SortStableFunc(waiting, func(a, b *group) int {
		return cmp.Or(cmp.Compare(clients[a.Client].sequences, clients[b.Client].sequences), cmp.Compare(a.live, b.live))
	})
	return clients
}

// enough reports whether a group has, or its client has, half of what the others have left: there is always some for who comes next.
func (s *Sampler) enough(g *group, client, all share) bool {
	for _, own := range []share{client, {g.live, g.live * g.bytes}} {
		if own.sequences > 0 && (2*(own.sequences+1) > s.opts.MaxSequences-(all.sequences-own.sequences) ||
			2*(own.bytes+g.bytes) > s.opts.MaxCacheBytes-(all.bytes-own.bytes)) {
			return true
		}
	}
	return false
}

// rows is memory for n rows of logits.
func (s *Sampler) rows(n int) []float32 {
	if need := n * s.model.VocabSize(); cap(s.logits) < need {
		s.logits = make([]float32, need)
	}
	return s.logits[:n*s.model.VocabSize()]
}

// maxLogits bounds the logits in memory; more rows are done in parts.
const maxLogits = 1 << 24

// step runs the last token of every live sequence and draws the next.
func (s *Sampler) step(live []*sequence) error {
	tokens := make([]int32, len(live))
	caches := make([]*transformer.KV, len(live))
	for i, q := range live {
		tokens[i] = q.out.Tokens[len(q.out.Tokens)-1]
		if q.cache.Len() == q.cache.Capacity() {
			bigger := s.acquire(min(2*q.cache.Capacity(), s.need(q.group)))
			bigger.CopyFrom(q.cache)
			s.release(q.cache)
			q.cache = bigger
		}
		caches[i] = q.cache
	}
	h, err := s.model.Decode(&s.w, tokens, caches)
	if err != nil {
		return err
	}
	v, d := s.model.VocabSize(), s.model.HiddenSize()
	for lo := 0; lo < len(live); {
		n := min(len(live)-lo, max(1, maxLogits/v))
		z := s.rows(n)
		s.model.Logits(z, h[lo*d:(lo+n)*d], n)
		s.drawAll(live[lo:lo+n], func(i int) []float32 { return z[i*v : (i+1)*v] }, v)
		lo += n
	}
	return nil
}

// drawAll draws the next token of each sequence from its row of logits, which it leaves as it was.
func (s *Sampler) drawAll(sequences []*sequence, row func(i int) []float32, v int) {
	kernels.Parallel(len(sequences), 1+8192/v, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			sequences[i].draw(row(i), s.model.MaxPositions(), s.decode)
		}
	})
}

// draw adds the next token to the response.
func (q *sequence) draw(z []float32, maxPositions int, decode func(ids []int32) string) {
	p, out := &q.Sampling, q.out
	t := len(out.Tokens)
	logZ := kernels.LogSumExp(z)
	if f := float64(logZ); math.IsNaN(f) || math.IsInf(f, 0) {
		q.fail(fmt.Errorf("sampling: logits of token %d are not finite", t))
		return
	}

	drawn := z
	if t < p.MinNewTokens && len(p.Stop) > 0 {
		drawn = slices.Clone(z) // other samples of the group may be reading z
		for _, id := range p.Stop {
			drawn[id] = float32(math.Inf(-1))
		}
	}
	temperature, topP := p.Temperature, p.TopP
	switch {
	case p.Greedy:
		temperature = 0
	case temperature == 0:
		temperature = 1
	}
	if topP == 0 {
		topP = 1
	}
	token := kernels.SampleRow(drawn, temperature, topP, p.TopK, q.key.With(uint64(t)).Uniform())
	if token < 0 {
		q.fail(fmt.Errorf("sampling: no token can follow at %d: all are stop tokens", t))
		return
	}
	out.Tokens = append(out.Tokens, token)
	out.LogP = append(out.LogP, z[token]-logZ)
	out.LogZ = append(out.LogZ, logZ)
	if p.CandidateK > 0 {
		q.candidates(z, logZ, token)
	}

	switch {
	case q.stop[token], t >= p.MinNewTokens && q.stopped(decode):
		out.Finish, q.done = models.FinishStop, true
	case t+1 == p.MaxNewTokens || len(q.Prompt)+t+1 >= maxPositions:
		out.Finish, q.done = models.FinishLength, true
	}
}

// tell passes on the token that was just drawn.
func (q *sequence) tell() {
	if f := q.OnToken; f != nil && q.out.Finish != models.FinishError {
		t := len(q.out.Tokens) - 1
		f(q.out.Sample, t, q.out.Tokens[t], q.out.LogP[t])
	}
}

// stopped reports whether the last token completed a stop string.
func (q *sequence) stopped(decode func(ids []int32) string) bool {
	for _, stop := range q.Sampling.StopStrings {
		// A token is at least a byte of text, so that the tail holds the string whole. A character that the tail cuts in two
		// is no part of it.
		tail := q.out.Tokens[max(0, len(q.out.Tokens)-len(stop)-4):]
		// An occurrence that the last token did not complete, before MinNewTokens, stops nothing.
		if at := strings.LastIndex(decode(tail), stop); at >= 0 && at > strings.LastIndex(decode(tail[:len(tail)-1]), stop) {
			return true
		}
	}
	return false
}

// candidates stores the sampled token and the most probable others.
func (q *sequence) candidates(z []float32, logZ float32, token int32) {
	p, out := &q.Sampling, q.out
	out.CandidateIDs = append(out.CandidateIDs, token)
	out.CandidateLogP = append(out.CandidateLogP, z[token]-logZ)
	k := min(p.CandidateK, len(z))
	ids, logp := make([]int32, k), make([]float32, k)
	n := kernels.TopK(z, logZ, k, p.CandidateMinP, ids, logp)
	kept := 1
	for i := 0; i < n && kept < k; i++ {
		if ids[i] != token {
			out.CandidateIDs = append(out.CandidateIDs, ids[i])
			out.CandidateLogP = append(out.CandidateLogP, z[ids[i]]-logZ)
			kept++
		}
	}
	out.CandidateStart = append(out.CandidateStart, int32(len(out.CandidateIDs)))
}

func (q *sequence) fail(err error) {
	q.out.Finish, q.out.Err, q.done = models.FinishError, err, true
}

// acquire returns an empty cache for at least n tokens, a used one if one fits without wasting more than half.
func (s *Sampler) acquire(n int) *transformer.KV {
	best := -1
	for i, kv := range s.free {
		if c := kv.Capacity(); c >= n && c <= 2*n+64 && (best < 0 || c < s.free[best].Capacity()) {
			best = i
		}
	}
	if best < 0 {
		return s.model.NewKV(n)
	}
	kv := s.free[best]
	s.free = slices.Delete(s.free, best, best+1)
	kv.Reset()
	return kv
}

func (s *Sampler) release(kv *transformer.KV) {
	if kv != nil && len(s.free) < s.opts.MaxSequences {
		s.free = append(s.free, kv)
	}
}
