package prompts

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

// Curriculum chooses prompts by how often responses to them were right in earlier iterations: those of a file each by its
// own pass rate, those of a generator by the pass rate of their difficulty. A prompt is as likely to be chosen as its
// weight in [floor, 1] says. Without any history prompts are taken as if there were no curriculum.
type Curriculum struct {
	// Rule gives the weight for pass rate p. A prompt without history has p = 1/2 for variance and weight 1 for band.
	Rule    string  `json:"rule" enum:"variance,band" doc:"weight for pass rate p: variance is 4 p (1 - p), the variance of an outcome, to which a group's gradient is proportional; band is 1 from low to high and 0 elsewhere"`
	Low     float64 `json:"low" range:"[0,1]" doc:"rule band: least pass rate"`
	High    float64 `json:"high" range:"[0,1]" doc:"rule band: greatest pass rate"`
	Floor   float64 `json:"floor" range:"(0,1]" doc:"least weight, so that no prompt is given up for good: weight = floor + (1 - floor) rule(p)"`
	History int     `json:"history" range:"[0,inf)" doc:"iterations looked back on; 0: all"`
}

// Rules of a Curriculum.
const (
	VarianceRule = "variance"
	BandRule     = "band"
)

// SetDefaults weighs by the variance of outcomes.
func (c *Curriculum) SetDefaults() {
	*c = Curriculum{Rule: VarianceRule, Low: 0.2, High: 0.8, Floor: 0.05}
}

// Validate checks the band.
func (c Curriculum) Validate() error {
	if c.High < c.Low {
		return setting.Errorf("high", "%v is not in [low = %v, 1]", c.High, c.Low)
	}
	return nil
}

// weight of a prompt, or of all prompts of a difficulty, with the outcomes seen so far.
func (c Curriculum) weight(t Tally) float64 {
	x := 0.0
	switch c.Rule {
	case VarianceRule:
		p := (t.Right + 0.5) / (float64(t.N) + 1) // the mean under Jeffreys's prior: one response decides nothing
		x = 4 * p * (1 - p)
	case BandRule:
		if p := t.Right / float64(t.N); t.N == 0 || p >= c.Low && p <= c.High {
			x = 1
		}
	}
	return c.Floor + (1-c.Floor)*x
}

// Tally counts responses that have an outcome.
type Tally struct {
	Right float64 `json:"right"` // sum of the outcomes
	N     int     `json:"n"`
}

// History is what is known from earlier iterations.
type History struct {
	Prompts map[uuid.UUID]Tally         `json:"prompts"` // of files, by prompt_id
	Levels  map[string]map[string]Tally `json:"levels"`  // of generators, by source and difficulty
}

// Add takes up the outcomes of a prompt group of the configured source.
func (h *History) Add(c Config, prompt, source, difficulty string, t Tally) error {
	sum := func(old Tally) Tally { return Tally{Right: old.Right + t.Right, N: old.N + t.N} }
	if !generates(c.Of, source) {
		prompt, err := uuid.Parse(prompt)
		if err != nil {
			return fmt.Errorf("prompt_id: %w", err)
		}
		if h.Prompts == nil {
			h.Prompts = map[uuid.UUID]Tally{}
		}
		h.Prompts[prompt] = sum(h.Prompts[prompt])
		return nil
	}
	if h.Levels == nil {
		h.Levels = map[string]map[string]Tally{}
	}
	if h.Levels[source] == nil {
		h.Levels[source] = map[string]Tally{}
	}
	h.Levels[source][difficulty] = sum(h.Levels[source][difficulty])
	return nil
}

const maxHistoryBytes = 1 << 30

func readHistory(ctx context.Context, path string) (h History, err error) {
	raw, err := files.Read(ctx, path, maxHistoryBytes)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return h, fmt.Errorf("%s: %w", path, err)
	}
	return h, nil
}

// curriculumKey keeps the draws of a curriculum apart from everything else that the seed decides.
const curriculumKey = 1 << 60

// ranked orders the prompts of a file so that any first k of them are a weighted sample without replacement (Efraimidis and
// Spirakis 2006: by u^(1/w)), another in every iteration.
func (c Curriculum) ranked(index []uint64, h History, w Window) []uint64 {
	known := make(map[uint64]Tally, len(h.Prompts))
	for id, t := range h.Prompts {
		known[shortID(id)] = t
	}
	key := keyed.New(w.Seed).With(curriculumKey).With(uint64(w.Meta.Iteration))
	type ranked struct {
		id   uint64
		rank float64
	}
	all := make([]ranked, len(index))
	for i, id := range index {
		all[i] = ranked{id, math.Log(key.With(id).Uniform()) / c.weight(known[id])}
	}
	slices.SortFunc(all, func(a, b ranked) int { return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(a.id, b.id)) })
	out := make([]uint64, len(all))
	for i := range all {
		out[i] = all[i].id
	}
	return out
}

// maxRejected bounds the draws of one prompt of a generator; it is reached with a chance below 1e-22 at the default floor.
const maxRejected = 1000

// levels accepts a drawn prompt with a chance proportional to the weight of its difficulty; nil accepts all.
type levels struct {
	c     Curriculum
	known map[string]Tally
	most  float64
}

func (c Curriculum) levels(h History, source string, difficulties []string) *levels {
	l := &levels{c: c, known: h.Levels[source]}
	if len(l.known) == 0 {
		return nil
	}
	for _, d := range difficulties {
		l.most = max(l.most, c.weight(l.known[d]))
	}
	return l
}

func (l *levels) accept(difficulty string, u float64) bool {
	return l == nil || u < l.c.weight(l.known[difficulty])/l.most
}
