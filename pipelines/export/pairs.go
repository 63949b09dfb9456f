package export

import (
	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/pairs"
	"github.com/millrace/millrace/transforms/stage"
)

// Why formats of preferences leave rows out.
const (
	leftUnpaired = "in no pair"
	leftAbsent   = "a pair whose responses are not among the rows"
)

// Preferences are the settings of formats of pairs of a better and a worse response. Pairs that a run kept are taken as they are; of
// rows without any they are made as the stage pairs makes them.
type Preferences struct {
	Pairs         string `json:"pairs" enum:"auto,kept,made" doc:"those that the run kept, or made of its responses; auto: kept where there are any"`
	Strategy      string `json:"strategy" enum:"best_worst,all" doc:"of pairs that are made: the best right response against the worst wrong one, or every right one against every wrong one"`
	Limit         int    `json:"limit" range:"[0,inf)" doc:"of pairs that are made: of a prompt at most; 0: one for best_worst, no limit for all"`
	Score         string `json:"score" enum:"none,value,mean_value" doc:"of pairs that are made: what best_worst ranks responses by, at their last token; none: their order"`
	KeepTruncated bool   `json:"keep_truncated" doc:"of pairs that are made: truncated responses take part, as wrong ones"`

	kept    bool
	prompts Prompts
}

// DefaultPreferences makes the pairs that the stage makes.
func DefaultPreferences() Preferences {
	d := pairs.Default()
	return Preferences{Pairs: "auto", Strategy: d.Strategy, Limit: d.Limit, Score: d.Score}
}

// ReadsPairs reports whether the pairs of a run are wanted.
func (p Preferences) ReadsPairs() bool { return p.Pairs != "made" }

// prepare asks for the texts of both sides, and for what pairs are made by.
func (p Preferences) prepare(format string, prompts Prompts, of Origin, heads []stage.Batch) (Preferences, error) {
	var rows []stage.Batch
	for _, h := range heads {
		if h.Has(schemas.PairID) {
			p.kept = true
		} else {
			rows = append(rows, h)
		}
	}
	switch {
	case p.Pairs == "made" && p.kept:
		return p, setting.Errorf("pairs", "is made, and the rows are pairs already; leave it out, or give the batch files alone")
	case p.Pairs == "kept" && !p.kept:
		return p, setting.Errorf("pairs", "is kept, and the rows hold no pairs; want the pairs files of a run of a recipe with section pairs")
	case len(rows) == 0 && len(heads) > 0:
		return p, setting.Errorf("rows", "are pairs of token ids alone, and %s is made of texts: export the run, or give it the batch files "+
			"beside the pairs files", format)
	}
	if err := need(format, rows, schemas.PromptID, schemas.ResponseID, schemas.Prompt, schemas.Response); err != nil {
		return p, err
	}
	if !p.kept {
		if err := need(format, rows, schemas.Outcome); err != nil {
			return p, err
		}
		if score, ok := p.score(); ok {
			if err := need(format, rows, score); err != nil {
				return p, err
			}
		}
	}
	p.prompts = prompts.known(of, heads)
	return p, nil
}

func (p Preferences) score() (schemas.List[float32], bool) {
	switch p.Score {
	case schemas.Value.Name:
		return schemas.Value, true
	case schemas.MeanValue.Name:
		return schemas.MeanValue, true
	}
	return schemas.List[float32]{}, false
}

// preference is a pair as texts.
type preference struct {
	prompt           prompt
	chosen, rejected string
}

// side is a response that a pair may be made of.
type side struct {
	text    string
	outcome float64
	score   float64
	usable  bool
}

// pairer gathers the rows and the pairs of one prompt after the other, which lie side by side in the rows of an iteration.
type pairer struct {
	Preferences
	write func(p preference) error
	odd   func(p prompt) (left string) // why a prompt cannot be written; nil where all can

	prompt  uuid.UUID
	text    prompt
	sides   []side
	byID    map[uuid.UUID]int
	pairs   [][2]uuid.UUID
	pending bool
}

// Step begins an iteration.
func (w *pairer) Step(int) error { return nil }

// Write takes rows and pairs.
func (w *pairer) Write(b stage.Batch) (map[string]int, error) {
	left := map[string]int{}
	groups, err := b.Groups()
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if w.pending && g.ID != w.prompt {
			if err := w.flush(left); err != nil {
				return nil, err
			}
		}
		w.prompt, w.pending = g.ID, true
		w.take(b.Slice(g.Lo, g.Hi))
	}
	return left, nil
}

// End writes the pairs of the last prompt.
func (w *pairer) End() (map[string]int, error) {
	left := map[string]int{}
	if !w.pending {
		return left, nil
	}
	return left, w.flush(left)
}

// take holds the rows of a prompt until all of them are there.
func (w *pairer) take(b stage.Batch) {
	if b.Has(schemas.PairID) {
		chosen, rejected := schemas.ChosenID.Of(b), schemas.RejectedID.Of(b)
		for i := range b.NumRows() {
			w.pairs = append(w.pairs, [2]uuid.UUID{chosen[i], rejected[i]})
		}
		return
	}
	if w.byID == nil {
		w.byID = map[uuid.UUID]int{}
		w.text = w.prompts.of(b)(0)
	}
	ids, texts := schemas.ResponseID.Of(b), schemas.Response.Of(b)
	outcome, _ := schemas.Outcome.Find(b)
	verdict := textOf(schemas.Verdict, b)
	score, ranked := w.score()
	for i := range b.NumRows() {
		s := side{text: texts.At(i)}
		if !w.kept {
			y, ok := outcome.At(i)
			v := verdict(i)
			s.outcome = float64(y)
			s.usable = ok && s.text != "" && (v == nil || *v != "truncated" || w.KeepTruncated)
			if ranked {
				values := score.Of(b).Row(i)
				s.usable = s.usable && len(values) > 0
				if len(values) > 0 {
					s.score = float64(values[len(values)-1])
				}
			}
		}
		w.byID[ids[i]] = len(w.sides)
		w.sides = append(w.sides, s)
	}
}

// flush writes the pairs of a prompt.
func (w *pairer) flush(left map[string]int) error {
	defer func() { w.text, w.sides, w.byID, w.pairs, w.pending = prompt{}, nil, nil, nil, false }()
	why := w.text.left
	if why == "" && w.odd != nil && len(w.sides) > 0 {
		why = w.odd(w.text)
	}
	if why != "" {
		left[why] += len(w.sides) + len(w.pairs)
		return nil
	}
	paired := map[int]bool{}
	put := func(chosen, rejected int) error {
		paired[chosen], paired[rejected] = true, true
		return w.write(preference{w.text, w.sides[chosen].text, w.sides[rejected].text})
	}
	if w.kept {
		for _, p := range w.pairs {
			chosen, better := w.byID[p[0]]
			rejected, worse := w.byID[p[1]]
			switch {
			case !better || !worse:
				left[leftAbsent]++
			case w.sides[chosen].text == "" || w.sides[rejected].text == "":
				left[leftNoResponse]++
			default:
				if err := put(chosen, rejected); err != nil {
					return err
				}
			}
		}
	} else if err := w.make(put); err != nil {
		return err
	}
	if n := len(w.sides) - len(paired); n > 0 {
		left[leftUnpaired] += n
	}
	return nil
}

// make pairs right with wrong responses.
func (w *pairer) make(put func(chosen, rejected int) error) error {
	outcomes, usable := make([]float64, len(w.sides)), make([]bool, len(w.sides))
	var scores []float64
	if _, ranked := w.score(); ranked {
		scores = make([]float64, len(w.sides))
	}
	for i, s := range w.sides {
		outcomes[i], usable[i] = s.outcome, s.usable
		if scores != nil {
			scores[i] = s.score
		}
	}
	made, err := pairs.Select(w.Strategy, outcomes, usable, scores, w.Limit)
	if err != nil {
		return err
	}
	for _, p := range made {
		if err := put(p.Chosen, p.Rejected); err != nil {
			return err
		}
	}
	return nil
}
