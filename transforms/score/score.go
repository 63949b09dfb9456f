// Package score adds the log-probs that a second model gives to the tokens of responses: a reward model, a reference, a
// teacher, or a scalar head's values.
//
// In: rows with prompt_tokens and response_tokens. Out: the same rows with reward_logp (reference_logp, teacher_logp) and,
// where the rows list candidates, their log-probs under the same model.
package score

import (
	"context"
	"errors"
	"math"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"

	"github.com/millrace/millrace/schemas/setting"
)

// Role says what the scoring model is to the rows, which decides the columns.
type Role string

// The roles.
const (
	Reward    Role = "reward"
	Reference Role = "reference"
	Teacher   Role = "teacher"
	QValue    Role = "q_value" // scalar head after each token
	Critic    Role = "critic"  // scalar head before each token

	// Own scores with the policy that is trained what another engine has sampled.
	Own Role = "old"

	// What a policy update compares with where responses were sampled at another temperature than 1.
	TemperedOld       Role = "tempered_old"
	TemperedReference Role = "tempered_reference"
)

// Config says as what a model scores, and whether candidates are scored too.
type Config struct {
	Role        Role    `json:"role"`
	Candidates  bool    `json:"candidates"`
	Temperature float64 `json:"temperature,omitempty"` // of the tempered roles: the logits are divided by it
	As          string  `json:"as,omitempty"`          // of roles reward and q_value: the model's name among several
}

// columnsOf gives the columns of a role; a role with a scalar head has values only.
func (c Config) columnsOf() (logp schemas.List[float32], candidates schemas.Nested[float32], values schemas.List[float32], scalar bool) {
	switch c.Role {
	case Reward:
		return schemas.OfModel(schemas.RewardLogP, c.As), schemas.CandidateRewardLogP, values, false
	case Reference:
		return schemas.ReferenceLogP, schemas.CandidateReferenceLogP, values, false
	case Teacher:
		return schemas.TeacherLogP, schemas.CandidateTeacherLogP, values, false
	case Own:
		return schemas.OldLogP, schemas.CandidateOldLogP, values, false
	case TemperedOld:
		return schemas.TemperedOldLogP, schemas.TemperedCandidateOldLogP, values, false
	case TemperedReference:
		return schemas.TemperedReferenceLogP, candidates, values, false
	case QValue:
		return logp, candidates, schemas.OfModel(schemas.QValue, c.As), true
	default:
		return logp, candidates, schemas.CriticValue, true
	}
}

// Validate names the first key that is wrong.
func (c Config) Validate() error {
	if c.As != "" && (c.Role != Reward && c.Role != QValue || c.Candidates) {
		return setting.Errorf("as", "%q; only the log-probs and values of responses under a reward model have a name", c.As)
	}
	switch c.Role {
	case Reward, Reference, Teacher, Own:
		if c.Temperature != 0 {
			return setting.Errorf("temperature", "a %s scores at temperature 1", c.Role)
		}
		return nil
	case TemperedOld, TemperedReference:
		if !(c.Temperature > 0) {
			return setting.Errorf("temperature", "%v; want that of the rollouts, above 0", c.Temperature)
		}
		if c.Candidates && c.Role == TemperedReference {
			return setting.Errorf("candidates", "no loss reads them under a tempered reference")
		}
		return nil
	case QValue, Critic:
		if c.Candidates {
			return setting.Errorf("candidates", "a %s has no log-probs of candidates", c.Role)
		}
		return nil
	}
	return setting.Errorf("role", "%q is not one of reward, reference, teacher, old, q_value, critic, "+
		"tempered_old, tempered_reference", c.Role)
}

// Apply scores rows with a model known when the pipeline is built.
func Apply(s beam.Scope, cfg Config, model models.Ref, in stage.Rows) (scored, dead stage.Rows) {
	return stage.Apply(s, Scorer{Config: cfg, Model: model}, in)
}

// ApplyOnce is Apply for rows that are scored with the same model again and again: what it said of them is kept in the store.
func ApplyOnce(s beam.Scope, cfg Config, model models.Ref, store stage.Store, in stage.Rows) (scored, dead stage.Rows) {
	return stage.ApplyOnce(s, Scorer{Config: cfg, Model: model}, store, in)
}

// ApplyWith scores rows with the model that a stage before wrote: model is a PCollection of one Ref.
func ApplyWith(s beam.Scope, cfg Config, in stage.Rows, model beam.PCollection) (scored, dead stage.Rows) {
	return stage.ApplyWith[LateScorer, models.Ref](s, LateScorer{Config: cfg}, in, model)
}

// Scorer is the stage with a model that is known when the pipeline is built.
type Scorer struct {
	Config
	Model models.Ref `json:"model"`

	open opened
}

// LateScorer is the stage with a model that comes as a side input.
type LateScorer struct {
	Config
	open opened
}

func init() {
	stage.Register[Scorer]()
	stage.RegisterWith[LateScorer, models.Ref]()
}

// Contract says which columns are needed and added.
func (c Config) Contract() schemas.Contract {
	logp, candidates, values, scalar := c.columnsOf()
	out := schemas.Contract{Name: "score_" + c.name(), Needs: []schemas.Descriptor{schemas.PromptTokens, schemas.ResponseTokens}}
	if scalar {
		out.Adds = []schemas.Descriptor{values}
		return out
	}
	out.Adds = []schemas.Descriptor{logp}
	out.Writes = map[string]schemas.LogPDefinition{logp.Name: c.defined("")}
	if c.Candidates {
		out.Needs = append(out.Needs, schemas.CandidateIDs)
		out.Adds = append(out.Adds, candidates)
		out.Writes[candidates.Name] = c.defined("")
	}
	switch c.Role {
	case TemperedOld:
		out.Adds = append(out.Adds, schemas.TemperedOldLogZ)
	case Own:
		out.Adds = append(out.Adds, schemas.OldLogZ)
	}
	return out
}

// name is that of the role, with the model's own among several.
func (c Config) name() string {
	if c.As == "" {
		return string(c.Role)
	}
	return string(c.Role) + "_" + c.As
}

// defined says what the log-probs of a model are.
func (c Config) defined(model string) schemas.LogPDefinition {
	return schemas.FullLogP(model).At(c.Temperature)
}

// Setup loads the model.
func (c *Scorer) Setup(ctx context.Context) error { return c.open.use(ctx, c.Model) }

// Teardown gives the model back.
func (c *Scorer) Teardown() error { return c.open.close() }

// Lineage names the model that scored.
func (c *Scorer) Lineage() string { return c.name() + "@" + c.open.handle.Ref.Identity() }

// Map scores the batch.
func (c *Scorer) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	return c.Config.score(ctx, c.open.handle, b, dead)
}

// Setup does nothing: the model is not known yet.
func (c *LateScorer) Setup(context.Context) error { return nil }

// Teardown gives the model back.
func (c *LateScorer) Teardown() error { return c.open.close() }

// Lineage names the model that scored.
func (c *LateScorer) Lineage() string { return c.name() + "@" + c.open.handle.Ref.Identity() }

// MapWith scores the batch with the model that came as a side input.
func (c *LateScorer) MapWith(ctx context.Context, b stage.Batch, model models.Ref, dead *stage.DeadLetters) (stage.Batch, error) {
	if err := c.open.use(ctx, model); err != nil {
		return stage.Batch{}, err
	}
	return c.Config.score(ctx, c.open.handle, b, dead)
}

// opened holds the model of an instance between batches.
type opened struct{ handle *models.Handle }

func (o *opened) use(ctx context.Context, ref models.Ref) error {
	if o.handle != nil {
		have := o.handle.Ref
		if ref.Digest == "" {
			have.Digest = "" // whatever lies there
		}
		if have == ref {
			return nil
		}
	}
	if err := o.close(); err != nil {
		return err
	}
	var err error
	o.handle, err = models.Acquire(ctx, ref)
	return err
}

func (o *opened) close() error {
	if o.handle == nil {
		return nil
	}
	h := o.handle
	o.handle = nil
	return h.Release()
}

func (c Config) score(ctx context.Context, model *models.Handle, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	logpColumn, candidatesColumn, valuesColumn, scalar := c.columnsOf()
	prompts, responses := schemas.PromptTokens.Of(b), schemas.ResponseTokens.Of(b)
	var listed schemas.NestedLists[int32]
	if c.Candidates {
		listed = schemas.CandidateIDs.Of(b)
	}
	var requests []models.ScoreRequest
	var rows []int
	for i := range b.NumRows() {
		q := models.ScoreRequest{Sequence: models.Sequence{Prompt: prompts.Row(i), Response: responses.Row(i)}, Values: scalar,
			ValueAfter: c.Role == QValue, Temperature: c.Temperature}
		if len(q.Prompt) == 0 || len(q.Response) == 0 {
			dead.Rowf(i, schemas.ReasonEmpty, "%d prompt tokens and %d response tokens; both need at least one", len(q.Prompt), len(q.Response))
			continue
		}
		if c.Candidates {
			items := listed.Row(i)
			if items.Len() != len(q.Response) {
				dead.Rowf(i, schemas.ReasonMismatch, "candidate_ids lists %d positions for %d response tokens", items.Len(), len(q.Response))
				continue
			}
			q.ListStart, q.ListIDs = rebased(items)
		}
		requests, rows = append(requests, q), append(rows, i)
	}
	results, err := model.Score(ctx, requests)
	if err != nil {
		return stage.Batch{}, err
	}
	n := b.NumRows()
	logp, logz, values, candidates := make([][]float32, n), make([][]float32, n), make([][]float32, n), make([][][]float32, n)
	for k, r := range results {
		i := rows[k]
		switch {
		case r.Err != nil:
			dead.Row(i, schemas.ReasonModel, r.Err)
			continue
		case !finite(r.LogP) || !finite(r.ListLogP) || !finite(r.Values):
			dead.Row(i, schemas.ReasonNotFinite, errors.New("the model gives a log-prob or value that is not a finite number"))
			continue
		}
		logp[i], logz[i], values[i] = r.LogP, r.LogZ, r.Values
		if c.Candidates {
			start := requests[k].ListStart
			candidates[i] = make([][]float32, len(start)-1)
			for t := range candidates[i] {
				candidates[i][t] = r.ListLogP[start[t]:start[t+1]]
			}
		}
	}
	if scalar {
		return b.With(valuesColumn.FromRows(values))
	}
	defined := c.defined(model.Ref.Identity())
	out := []schemas.Filled{logpColumn.FromRows(logp).Defined(defined)}
	if c.Candidates {
		out = append(out, candidatesColumn.FromRows(candidates).Defined(defined))
	}
	switch c.Role {
	case TemperedOld:
		out = append(out, schemas.TemperedOldLogZ.FromRows(logz))
	case Own:
		out = append(out, schemas.OldLogZ.FromRows(logz))
	}
	return b.With(out...)
}

// rebased gives the lists as offsets that start at 0 and their values.
func rebased(l schemas.Lists[int32]) (start, ids []int32) {
	first := l.Offsets[0]
	start = make([]int32, len(l.Offsets))
	for i, o := range l.Offsets {
		start[i] = o - first
	}
	return start, l.Values[first:l.Offsets[len(l.Offsets)-1]]
}

func finite(xs []float32) bool {
	for _, x := range xs {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return false
		}
	}
	return true
}
