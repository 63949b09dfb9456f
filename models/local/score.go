package local

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/transformer"
)

// ScoreOptions bound what a Scorer uses; they change nothing about the results. A zero field takes its default.
type ScoreOptions struct {
	MaxTokens int // run at once, unless one sequence alone has more; default 2048
}

const defaultScoreTokens = 2048

// ScoreBytes estimates what a scorer of default options holds beside its model of this shape.
func ScoreBytes(c transformer.Config) int64 {
	return transformer.ForwardBytes(c, defaultScoreTokens) + 4*int64(rowsAtOnce(c.Vocab))*int64(c.Vocab)
}

// rowsAtOnce are the rows of logits in memory at a time.
func rowsAtOnce(vocabulary int) int { return max(1, min(maxLogits/vocabulary, 4096)) }

// Scorer is a models.Scorer over a transformer. Concurrent calls take turns: the kernels use all threads already.
type Scorer struct {
	model *transformer.Model
	opts  ScoreOptions

	turn   sync.Mutex
	w      transformer.Workspace
	hidden []float32 // rows whose logits are wanted
	logits []float32
}

var _ models.Scorer = (*Scorer)(nil)

// NewScorer makes a scorer that shares the model's weights.
func NewScorer(m *transformer.Model, o ScoreOptions) *Scorer {
	if o.MaxTokens <= 0 {
		o.MaxTokens = defaultScoreTokens
	}
	return &Scorer{model: m, opts: o}
}

// Score implements models.Scorer.
func (s *Scorer) Score(ctx context.Context, requests []models.ScoreRequest) ([]models.ScoreResult, error) {
	results := make([]models.ScoreResult, len(requests))
	s.turn.Lock()
	defer s.turn.Unlock()
	for next := 0; next < len(requests); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var members []int // of this batch
		var batch []models.Sequence
		tokens := 0
		for ; next < len(requests); next++ {
			r := &requests[next]
			if models.Left(r.Gone) {
				results[next].Err = models.ErrGone
				continue
			}
			if err := s.check(r); err != nil {
				results[next].Err = err
				continue
			}
			n := len(r.Prompt) + len(r.Response)
			if tokens > 0 && tokens+n > s.opts.MaxTokens {
				break
			}
			allocate(&results[next], r, s.model.VocabSize())
			if len(r.Response) == 0 {
				continue
			}
			members = append(members, next)
			batch = append(batch, r.Sequence)
			tokens += n
		}
		if len(members) == 0 {
			continue
		}
		packed := models.Pack(batch)
		s.w.Stop = func() bool {
			return ctx.Err() != nil || !slices.ContainsFunc(members, func(m int) bool { return !models.Left(requests[m].Gone) })
		}
		h, err := s.model.Forward(&s.w, packed)
		s.w.Stop = nil
		if errors.Is(err, transformer.ErrStopped) {
			for _, m := range members {
				results[m] = models.ScoreResult{Err: models.ErrGone}
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		s.scoreRows(h, packed.Starts, members, requests, results)
	}
	return results, nil
}

func (s *Scorer) check(r *models.ScoreRequest) error {
	if len(r.Prompt) == 0 {
		return fmt.Errorf("score: the prompt has no tokens")
	}
	all := append(append(make([]int32, 0, len(r.Prompt)+len(r.Response)), r.Prompt...), r.Response...)
	if err := s.model.Check(all); err != nil {
		return fmt.Errorf("score: %w", err)
	}
	v := int32(s.model.VocabSize())
	switch n := len(r.ListStart); {
	case n == 0:
		if len(r.ListIDs) > 0 {
			return fmt.Errorf("score: %d listed ids without their offsets", len(r.ListIDs))
		}
	case n != len(r.Response)+1 || r.ListStart[0] != 0 || int(r.ListStart[n-1]) != len(r.ListIDs):
		return fmt.Errorf("score: offsets of the listed ids do not cover %d tokens and %d ids", len(r.Response), len(r.ListIDs))
	default:
		for t := range n - 1 {
			if r.ListStart[t+1] < r.ListStart[t] || int(r.ListStart[t+1]) > len(r.ListIDs) {
				return fmt.Errorf("score: offset %d of the listed ids is %d after %d", t+1, r.ListStart[t+1], r.ListStart[t])
			}
		}
	}
	for i, id := range r.ListIDs {
		if id >= v {
			return fmt.Errorf("score: listed id %d is %d, not in the vocabulary [0, %d)", i, id, v)
		}
	}
	if r.Temperature < 0 || math.IsNaN(r.Temperature) || math.IsInf(r.Temperature, 0) {
		return fmt.Errorf("score: temperature %v, want a number above 0, or 0 for 1", r.Temperature)
	}
	if r.TopK < 0 {
		return fmt.Errorf("score: the %d most probable tokens are asked for", r.TopK)
	}
	if r.Values && s.model.Scalar() == nil {
		return fmt.Errorf("score: values asked of a model without a scalar head (tensor %s)", transformer.ScalarHeadName)
	}
	return nil
}

func allocate(out *models.ScoreResult, r *models.ScoreRequest, vocabulary int) {
	n := len(r.Response)
	out.LogP, out.LogZ, out.Entropy = make([]float32, n), make([]float32, n), make([]float32, n)
	out.ListLogP = make([]float32, len(r.ListIDs))
	if k := min(r.TopK, vocabulary); k > 0 {
		out.TopIDs, out.TopLogP = make([]int32, n*k), make([]float32, n*k)
		out.TopRestLogP = make([]float32, n)
	}
	if r.Values {
		out.Values = make([]float32, n)
	}
}

// maxLogits bounds the logits in memory.
const maxLogits = 1 << 24

// place says which token of which request a row of logits belongs to.
type place struct{ request, token int }

// scoreRows fills the results from the hidden rows h of the packed members.
func (s *Scorer) scoreRows(h []float32, starts []int, members []int, requests []models.ScoreRequest, results []models.ScoreResult) {
	d, v := s.model.HiddenSize(), s.model.VocabSize()
	most := rowsAtOnce(v)
	var places []place
	s.hidden = s.hidden[:0]
	flush := func() {
		n := len(places)
		if cap(s.logits) < n*v {
			s.logits = kernels.Make[float32](n * v)
		}
		z := s.logits[:n*v]
		s.model.Logits(z, s.hidden, n)
		kernels.Parallel(n, 1+8192/v, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				p := places[i]
				scoreRow(z[i*v:(i+1)*v], p.token, &requests[p.request], &results[p.request])
			}
		})
		places, s.hidden = places[:0], s.hidden[:0]
	}
	for b, m := range members {
		r := &requests[m]
		first := starts[b] + len(r.Prompt) - 1 // the row that scores response token 0
		for t := range r.Response {
			s.hidden = append(s.hidden, h[(first+t)*d:(first+t+1)*d]...)
			if r.Temperature != 0 {
				kernels.Scale(float32(1/r.Temperature), s.hidden[len(s.hidden)-d:]) // as the head of a trainer does
			}
			if places = append(places, place{m, t}); len(places) == most {
				flush()
			}
			if r.Values {
				row := first + t
				if r.ValueAfter {
					row++
				}
				results[m].Values[t] = kernels.Dot(h[row*d:(row+1)*d], s.model.Scalar())
			}
		}
	}
	flush()
}

// scoreRow fills token t of the result from its row of logits.
func scoreRow(z []float32, t int, r *models.ScoreRequest, out *models.ScoreResult) {
	stats := kernels.Stats(z, nil, nil, nil)
	out.LogZ[t], out.Entropy[t] = stats.LogZ, stats.Entropy
	out.LogP[t] = z[r.Response[t]] - stats.LogZ
	if len(r.ListStart) > 0 {
		for i := r.ListStart[t]; i < r.ListStart[t+1]; i++ {
			if id := r.ListIDs[i]; id >= 0 {
				out.ListLogP[i] = z[id] - stats.LogZ
			}
		}
	}
	if k := min(r.TopK, len(z)); k > 0 {
		ids := out.TopIDs[t*k : (t+1)*k]
		kernels.TopK(z, stats.LogZ, k, 0, ids, out.TopLogP[t*k:(t+1)*k])
		out.TopRestLogP[t] = kernels.Stats(z, nil, ids, nil).RestLogP
	}
}
