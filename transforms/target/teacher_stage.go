package target

import (
	"cmp"
	"context"
	"math"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/series"
	"github.com/millrace/millrace/transforms/stage"
)

// DCKDConfig says how much of a teacher's distribution is stored (arXiv 2502.17927; algorithms.md 4.4).
type DCKDConfig struct {
	TopK int `json:"top_k" range:"[1,1024]" doc:"most probable tokens stored at each position; the rest is one bucket"`
}

// DefaultDCKD holds the paper's settings.
func DefaultDCKD() DCKDConfig { return DCKDConfig{TopK: 50} }

// SetDefaults is DefaultDCKD.
func (c *DCKDConfig) SetDefaults() { *c = DefaultDCKD() }

// ADPAConfig says how the advantages of ADPA are computed from two teachers (arXiv 2502.17927; algorithms.md 4.4).
type ADPAConfig struct {
	TopK  int     `json:"top_k" range:"[1,1024]" doc:"most probable tokens of the teacher, and of its reference, at each position"`
	Floor float64 `json:"floor" range:"(0,1)" doc:"least probability: the paper's 1e-7; 0.01 for vocabularies as small as top_k"`
	Clip  bool    `json:"clip" doc:"clamp the advantages as the released trainer does"`
}

// DefaultADPA holds the paper's settings.
func DefaultADPA() ADPAConfig { return ADPAConfig{TopK: 50, Floor: 1e-7} }

// SetDefaults is DefaultADPA.
func (c *ADPAConfig) SetDefaults() { *c = DefaultADPA() }

// DCKD adds a teacher's sparse distribution at every response token: rows of responses in, the same with
// teacher_ids, teacher_prob and teacher_rest out. Targets serve any student with the teacher's vocabulary.
func DCKD(s beam.Scope, cfg DCKDConfig, teacher models.Ref, in stage.Rows) (out, dead stage.Rows) {
	return stage.Apply(s, Distribution{DCKDConfig: cfg, Teacher: teacher}, in)
}

// OPD is DCKD over a student's own responses, of which on-policy distillation takes the reverse KL.
func OPD(s beam.Scope, cfg DCKDConfig, teacher models.Ref, in stage.Rows) (out, dead stage.Rows) {
	return stage.Apply(s, Distribution{DCKDConfig: cfg, Of: OfOPD, Teacher: teacher}, in)
}

// OfOPD is what the stage of OPD is of.
const OfOPD = "opd"

// ADPA adds the log-ratio of a DPO-trained teacher to the same teacher before DPO: rows of the student's own
// responses in, the same with teacher_ids and teacher_advantage out.
func ADPA(s beam.Scope, cfg ADPAConfig, teacher, reference models.Ref, in stage.Rows) (out, dead stage.Rows) {
	return stage.Apply(s, LogRatio{ADPAConfig: cfg, Teacher: teacher, Reference: reference}, in)
}

func init() {
	stage.Register[Distribution]()
	stage.Register[LogRatio]()
}

// Distribution is the stage behind [DCKD] and [OPD].
type Distribution struct {
	DCKDConfig
	Of      string     `json:"of,omitempty"` // what is distilled by it; empty: dckd
	Teacher models.Ref `json:"teacher"`

	teacher *models.Handle
}

// Contract says which columns are needed and added.
func (c *Distribution) Contract() schemas.Contract {
	return schemas.Contract{Name: "target_" + cmp.Or(c.Of, "dckd"), Needs: []schemas.Descriptor{schemas.PromptTokens, schemas.ResponseTokens},
		Adds: []schemas.Descriptor{schemas.TeacherIDs, schemas.TeacherProb, schemas.TeacherRest}}
}

// Setup loads the teacher.
func (c *Distribution) Setup(ctx context.Context) (err error) {
	c.teacher, err = models.Acquire(ctx, c.Teacher)
	return err
}

// Teardown gives the teacher back.
func (c *Distribution) Teardown() error { return release(c.teacher) }

// Lineage names the teacher.
func (c *Distribution) Lineage() string { return "teacher@" + c.teacher.Ref.Identity() }

// Map asks the teacher about every row.
func (c *Distribution) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	tops, err := mostProbable(ctx, c.teacher, c.TopK, b, dead)
	if err != nil {
		return b, err
	}
	n := b.NumRows()
	ids, probs, rests := make([][][]int32, n), make([][][]float32, n), make([][]float32, n)
	for i, top := range tops {
		rest := make([]float64, len(top))
		for t, at := range top {
			p := make([]float64, len(at.logp))
			rest[t] = Sparse(p, at.logp, at.rest)
			ids[i], probs[i] = append(ids[i], at.ids), append(probs[i], stage.Narrow(schemas.TeacherProb.Name, p, i, dead))
		}
		rests[i] = stage.Narrow(schemas.TeacherRest.Name, rest, i, dead)
	}
	return b.With(schemas.TeacherIDs.FromRows(ids), schemas.TeacherProb.FromRows(probs), schemas.TeacherRest.FromRows(rests))
}

// LogRatio is the stage behind [ADPA].
type LogRatio struct {
	ADPAConfig
	Teacher   models.Ref `json:"teacher"`
	Reference models.Ref `json:"reference"`

	teacher, reference *models.Handle
}

// Contract says which columns are needed and added.
func (c *LogRatio) Contract() schemas.Contract {
	return schemas.Contract{Name: "target_adpa", Needs: []schemas.Descriptor{schemas.PromptTokens, schemas.ResponseTokens},
		Adds: []schemas.Descriptor{schemas.TeacherIDs, schemas.TeacherAdvantage}}
}

// Setup loads both teachers.
func (c *LogRatio) Setup(ctx context.Context) (err error) {
	if c.teacher, err = models.Acquire(ctx, c.Teacher); err != nil {
		return err
	}
	c.reference, err = models.Acquire(ctx, c.Reference)
	return err
}

// Teardown gives both teachers back.
func (c *LogRatio) Teardown() error {
	if err := release(c.reference); err != nil {
		return err
	}
	return release(c.teacher)
}

// Lineage names both teachers and the settings.
func (c *LogRatio) Lineage() string {
	return "teacher@" + c.teacher.Ref.Identity() + ";reference@" + c.reference.Ref.Identity() + ";adpa@" + stage.Digest(c.ADPAConfig)[:16]
}

// Map asks both teachers about every row.
func (c *LogRatio) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	tops, err := mostProbable(ctx, c.teacher, c.TopK, b, dead)
	if err != nil {
		return b, err
	}
	references, err := mostProbable(ctx, c.reference, c.TopK, b, dead)
	if err != nil {
		return b, err
	}
	var clip *Clip
	if c.Clip {
		clip = &ReleasedClip
	}
	n := b.NumRows()
	ids, advantages := make([][][]int32, n), make([][][]float32, n)
	for i, top := range tops {
		if dead.Marked(i) {
			continue
		}
		for t, at := range top {
			a := make([]float64, len(at.ids))
			TeacherAdvantage(a, at.ids, exp(at.logp), references[i][t].ids, exp(references[i][t].logp), c.Floor, clip)
			ids[i], advantages[i] = append(ids[i], at.ids), append(advantages[i], stage.Narrow(schemas.TeacherAdvantage.Name, a, i, dead))
		}
	}
	return b.With(schemas.TeacherIDs.FromRows(ids), schemas.TeacherAdvantage.FromRows(advantages))
}

// position is what a model holds most probable at one response token, in descending order.
type position struct {
	ids  []int32
	logp []float64
	rest float64 // log-prob of all other tokens together
}

// mostProbable asks a model for its k most probable tokens at every position of every response.
func mostProbable(ctx context.Context, model models.Scorer, k int, b stage.Batch, dead *stage.DeadLetters) ([][]position, error) {
	prompts, responses := schemas.PromptTokens.Of(b), schemas.ResponseTokens.Of(b)
	var requests []models.ScoreRequest
	var rows []int
	for i := range b.NumRows() {
		p, r := prompts.Row(i), responses.Row(i)
		if len(p) == 0 || len(r) == 0 {
			dead.Rowf(i, schemas.ReasonEmpty, "%d prompt tokens and %d response tokens; both need at least one", len(p), len(r))
			continue
		}
		if !dead.Marked(i) {
			requests = append(requests, models.ScoreRequest{Sequence: models.Sequence{Prompt: p, Response: r}, TopK: k})
			rows = append(rows, i)
		}
	}
	results, err := model.Score(ctx, requests)
	if err != nil {
		return nil, err
	}
	out := make([][]position, b.NumRows())
	for q, r := range results {
		i, length := rows[q], len(requests[q].Response)
		if r.Err != nil {
			dead.Row(i, schemas.ReasonModel, r.Err)
			continue
		}
		per := len(r.TopIDs) / length // fewer than k when the vocabulary is smaller
		if per == 0 || len(r.TopIDs) != per*length || len(r.TopLogP) != per*length || len(r.TopRestLogP) != length {
			dead.Rowf(i, schemas.ReasonModel, "the model gives no %d most probable tokens a position", k)
			continue
		}
		for t := range length {
			at := position{ids: r.TopIDs[t*per : (t+1)*per : (t+1)*per], logp: make([]float64, per), rest: float64(r.TopRestLogP[t])}
			for s, x := range r.TopLogP[t*per : (t+1)*per] {
				at.logp[s] = float64(x)
			}
			if !series.AllFinite(at.logp...) || math.IsNaN(at.rest) {
				dead.Rowf(i, schemas.ReasonNotFinite, "the model gives a log-prob that is not a finite number at token %d", t)
				break
			}
			out[i] = append(out[i], at)
		}
	}
	return out, nil
}

func exp(logp []float64) []float64 {
	p := make([]float64, len(logp))
	for k, x := range logp {
		p[k] = math.Exp(x)
	}
	return p
}

func release(h *models.Handle) error {
	if h == nil {
		return nil
	}
	return h.Release()
}
