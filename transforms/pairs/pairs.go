// Package pairs makes preference pairs of the responses to one prompt: a correct one against an incorrect one.
//
// In: a row a labeled response. Out: a row a pair, with the tokens of both sides and, where asked for,
// their reference log-probs and teacher distributions. Responses that are in no pair are filtered, and counted.
package pairs

import (
	"context"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Config says which pairs are made and what they carry.
type Config struct {
	Strategy      string `json:"strategy" enum:"best_worst,all" doc:"the best right response against the worst wrong one, or every right one against every wrong one"`
	Limit         int    `json:"limit" range:"[0,inf)" doc:"pairs of a prompt at most; 0: one for best_worst, no limit for all"`
	Score         string `json:"score" enum:"none,value,mean_value" doc:"what best_worst ranks responses by, at their last token; none: their order"`
	Reference     string `json:"reference" enum:"none,reference_logp,old_logp" doc:"column that the pairs' reference log-probs come from"`
	Teacher       bool   `json:"teacher" doc:"carry the teacher's distributions: teacher_ids, teacher_prob and teacher_rest"`
	KeepTruncated bool   `json:"keep_truncated" doc:"truncated responses take part, as wrong ones"`
}

// None is the choice of no column.
const None = "none"

// Default makes all pairs of a prompt, at most 4.
func Default() Config { return Config{Strategy: "all", Limit: 4, Score: None, Reference: None} }

// SetDefaults is Default.
func (c *Config) SetDefaults() { *c = Default() }

// Apply makes pairs: rows of labeled responses in, pairs out.
func Apply(s beam.Scope, cfg Config, labeled stage.Rows) (pairs, dead stage.Rows) {
	return stage.Apply(s, cfg, labeled)
}

func init() { stage.Register[Config]() }

// side is where one side of the pairs goes: for every column of a response, the column of the pair.
type side struct {
	tokens    schemas.List[int32]
	reference schemas.List[float32]
	ids       schemas.Nested[int32]
	prob      schemas.Nested[float32]
	rest      schemas.List[float32]
}

var (
	chosen = side{schemas.ChosenTokens, schemas.ChosenReferenceLogP, schemas.ChosenTeacherIDs, schemas.ChosenTeacherProb,
		schemas.ChosenTeacherRest}

	rejected = side{schemas.RejectedTokens, schemas.RejectedReferenceLogP, schemas.RejectedTeacherIDs, schemas.RejectedTeacherProb,
		schemas.RejectedTeacherRest}
)

func (c *Config) reference() (schemas.List[float32], bool) {
	switch c.Reference {
	case schemas.ReferenceLogP.Name:
		return schemas.ReferenceLogP, true
	case schemas.OldLogP.Name:
		return schemas.OldLogP, true
	}
	return schemas.List[float32]{}, false
}

func (c *Config) score() (schemas.List[float32], bool) {
	switch c.Score {
	case schemas.Value.Name:
		return schemas.Value, true
	case schemas.MeanValue.Name:
		return schemas.MeanValue, true
	}
	return schemas.List[float32]{}, false
}

// Contract says which columns are needed and added.
func (c *Config) Contract() schemas.Contract {
	out := schemas.Contract{Name: "pairs", Rows: schemas.OtherRows, Drops: true, Origin: []schemas.ID{schemas.ChosenID, schemas.RejectedID},
		Needs: []schemas.Descriptor{schemas.PromptID, schemas.PromptTokens, schemas.ResponseID, schemas.ResponseTokens, schemas.Verdict,
			schemas.Outcome},
		Adds: []schemas.Descriptor{schemas.PromptID, schemas.PromptTokens, schemas.PairID, schemas.ChosenID, schemas.RejectedID,
			schemas.ChosenTokens, schemas.RejectedTokens},
		Reads: map[string]schemas.LogPDefinition{}, Writes: map[string]schemas.LogPDefinition{}}
	if col, ok := c.score(); ok {
		out.Needs = append(out.Needs, col)
	}
	if col, ok := c.reference(); ok {
		out.Needs = append(out.Needs, col)
		out.Reads[col.Name] = schemas.FullLogP("")
		for _, s := range []side{chosen, rejected} {
			out.Adds = append(out.Adds, s.reference)
			out.Writes[s.reference.Name] = schemas.FullLogP("")
		}
	}
	if c.Teacher {
		out.Needs = append(out.Needs, schemas.TeacherIDs, schemas.TeacherProb, schemas.TeacherRest)
		for _, s := range []side{chosen, rejected} {
			out.Adds = append(out.Adds, s.ids, s.prob, s.rest)
		}
	}
	return out
}

// Setup does nothing.
func (c *Config) Setup(context.Context) error { return nil }

// Map pairs the responses of each prompt.
func (c *Config) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	groups, err := b.Groups()
	if err != nil {
		return b, err
	}
	usable := c.usable(b, dead)
	var better, worse []int
	paired := make([]bool, b.NumRows())
	for _, g := range groups {
		outcomes := make([]float64, g.Len())
		for k := range outcomes {
			outcomes[k] = float64(schemas.Outcome.Of(b).Values[g.Lo+k])
		}
		all, err := Select(c.Strategy, outcomes, usable[g.Lo:g.Hi], c.scores(b, g), c.Limit)
		if err != nil {
			return b, err
		}
		for _, p := range all {
			better, worse = append(better, g.Lo+p.Chosen), append(worse, g.Lo+p.Rejected)
			paired[g.Lo+p.Chosen], paired[g.Lo+p.Rejected] = true, true
		}
	}
	for i, in := range paired {
		if !in {
			dead.Filter(i)
		}
	}
	return c.pairs(b, better, worse)
}

// usable marks the responses that may be in a pair. One with an outcome that lacks what a pair carries is set aside.
func (c *Config) usable(b stage.Batch, dead *stage.DeadLetters) []bool {
	outcome, verdict, tokens := schemas.Outcome.Of(b), schemas.Verdict.Of(b), schemas.ResponseTokens.Of(b)
	out := make([]bool, b.NumRows())
	for i := range out {
		if !outcome.Valid(i) || verdict.At(i) == "truncated" && !c.KeepTruncated {
			continue
		}
		n := len(tokens.Row(i))
		if n == 0 || len(schemas.PromptTokens.Of(b).Row(i)) == 0 {
			dead.Rowf(i, schemas.ReasonEmpty, "%d prompt tokens and %d response tokens; both need at least one",
				len(schemas.PromptTokens.Of(b).Row(i)), n)
			continue
		}
		if col, ok := c.score(); ok {
			stage.PerToken(col, col.Of(b), i, n, dead)
		}
		if col, ok := c.reference(); ok {
			stage.PerToken(col, col.Of(b), i, n, dead)
		}
		if c.Teacher {
			stage.PerToken(schemas.TeacherRest, schemas.TeacherRest.Of(b), i, n, dead)
			ids := schemas.TeacherIDs.Of(b).Row(i)
			if ids.Len() != n {
				dead.Rowf(i, schemas.ReasonMismatch, "column teacher_ids has %d lists for %d response tokens", ids.Len(), n)
			} else {
				stage.PerListed(schemas.TeacherProb, schemas.TeacherProb.Of(b), i, ids, dead)
			}
		}
		out[i] = !dead.Marked(i)
	}
	return out
}

// scores are the values of the last prefixes of a group; nil without a score.
func (c *Config) scores(b stage.Batch, g schemas.Group) []float64 {
	col, ok := c.score()
	if !ok {
		return nil
	}
	out := make([]float64, g.Len())
	for k := range out {
		if row := col.Of(b).Row(g.Lo + k); len(row) > 0 {
			out[k] = float64(row[len(row)-1])
		}
	}
	return out
}

// pairs makes the record of pairs from the rows of both sides.
func (c *Config) pairs(b stage.Batch, better, worse []int) (stage.Batch, error) {
	ids := schemas.ResponseID.Of(b)
	prompts, promptTokens := make([]uuid.UUID, len(better)), make([][]int32, len(better))
	pairIDs, betterIDs, worseIDs := make([]uuid.UUID, len(better)), make([]uuid.UUID, len(better)), make([]uuid.UUID, len(better))
	for k, i := range better {
		prompts[k], promptTokens[k] = schemas.PromptID.Of(b)[i], schemas.PromptTokens.Of(b).Row(i)
		betterIDs[k], worseIDs[k] = ids[i], ids[worse[k]]
		pairIDs[k] = uuid.NewSHA1(betterIDs[k], worseIDs[k][:])
	}
	cols := []schemas.Filled{schemas.PromptID.From(prompts), schemas.PromptTokens.FromRows(promptTokens), schemas.PairID.From(pairIDs),
		schemas.ChosenID.From(betterIDs), schemas.RejectedID.From(worseIDs)}
	for _, s := range []struct {
		side
		rows []int
	}{{chosen, better}, {rejected, worse}} {
		cols = append(cols, s.tokens.FromRows(lists(schemas.ResponseTokens.Of(b), s.rows)))
		if col, ok := c.reference(); ok {
			filled := s.reference.FromRows(lists(col.Of(b), s.rows))
			if def, ok := schemas.LogPOf(b, col); ok {
				filled = filled.Defined(def)
			}
			cols = append(cols, filled)
		}
		if c.Teacher {
			cols = append(cols, s.ids.FromRows(nested(schemas.TeacherIDs.Of(b), s.rows)), s.prob.FromRows(nested(schemas.TeacherProb.Of(b), s.rows)),
				s.rest.FromRows(lists(schemas.TeacherRest.Of(b), s.rows)))
		}
	}
	return schemas.NewRecord(b.Meta(), cols...)
}

func lists[T schemas.Number](v schemas.Lists[T], rows []int) [][]T {
	out := make([][]T, len(rows))
	for k, i := range rows {
		out[k] = v.Row(i)
	}
	return out
}

func nested[T schemas.Number](v schemas.NestedLists[T], rows []int) [][][]T {
	out := make([][][]T, len(rows))
	for k, i := range rows {
		row := v.Row(i)
		for t := range row.Len() {
			out[k] = append(out[k], row.Row(t))
		}
	}
	return out
}
