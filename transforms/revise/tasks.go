package revise

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/series"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/totals"
)

// Scorer adds revision_gain to pairs: what the base reviser, shown the worse response, holds the better one likelier by
// than the worse one itself, per token.
type Scorer struct {
	Layout Layout     `json:"layout"`
	Model  models.Ref `json:"model"`

	model *models.Handle
}

// Gains scores pairs with the base reviser: rows of pairs in, the same with revision_gain out.
func Gains(s beam.Scope, layout Layout, reviser models.Ref, pairs stage.Rows) (scored, dead stage.Rows) {
	return stage.Apply(s, Scorer{Layout: layout, Model: reviser}, pairs)
}

// Contract says which columns are needed and added.
func (c *Scorer) Contract() schemas.Contract {
	return schemas.Contract{Name: "revise_gain",
		Needs: []schemas.Descriptor{schemas.PromptTokens, schemas.ChosenTokens, schemas.RejectedTokens},
		Adds:  []schemas.Descriptor{schemas.RevisionGain}}
}

// Setup loads the base reviser.
func (c *Scorer) Setup(ctx context.Context) (err error) {
	if err := c.Layout.encode(of(ctx, c.Model)); err != nil {
		return err
	}
	c.model, err = models.Acquire(ctx, c.Model)
	return err
}

// Teardown gives the base reviser back.
func (c *Scorer) Teardown() error { return release(c.model) }

// Lineage names the base reviser.
func (c *Scorer) Lineage() string { return "base_reviser@" + c.model.Ref.Identity() }

// Map scores both responses of every pair after the worse one.
func (c *Scorer) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	prompts, better, worse := schemas.PromptTokens.Of(b), schemas.ChosenTokens.Of(b), schemas.RejectedTokens.Of(b)
	var requests []models.ScoreRequest
	var rows []int
	for i := range b.NumRows() {
		if len(prompts.Row(i)) == 0 || len(better.Row(i)) == 0 || len(worse.Row(i)) == 0 {
			dead.Rowf(i, schemas.ReasonEmpty, "the pair has an empty prompt or response")
			continue
		}
		shown := c.Layout.prompt(prompts.Row(i), worse.Row(i))
		for _, response := range [][]int32{better.Row(i), worse.Row(i)} {
			requests = append(requests, models.ScoreRequest{Sequence: models.Sequence{Prompt: shown, Response: response}})
		}
		rows = append(rows, i)
	}
	results, err := c.model.Score(ctx, requests)
	if err != nil {
		return b, err
	}
	gains := make([]float32, b.NumRows())
	for k, i := range rows {
		var logp [2][]float64
		for side, r := range results[2*k : 2*k+2] {
			if r.Err != nil {
				dead.Row(i, schemas.ReasonModel, r.Err)
				continue
			}
			for _, x := range r.LogP {
				logp[side] = append(logp[side], float64(x))
			}
			if !series.AllFinite(logp[side]...) {
				dead.Rowf(i, schemas.ReasonNotFinite, "the base reviser gives a log-prob that is not finite")
			}
		}
		if !dead.Marked(i) {
			gains[i] = stage.Narrow(schemas.RevisionGain.Name, []float64{Gain(logp[0], logp[1])}, i, dead)[0]
		}
	}
	return b.With(schemas.RevisionGain.From(gains))
}

// TaskConfig says which reviser the training rows are for.
type TaskConfig struct {
	// Adaptive rows begin with a label; the rows of the base reviser do not.
	Adaptive bool   `json:"adaptive"`
	Layout   Layout `json:"layout"`
	Labels   Labels `json:"labels"`
	// Model is the reviser; only its tokenizer is read, for texts, and how long a sequence it takes.
	Model models.Ref `json:"model"`

	window int // 0: not known
}

// Tasks makes the supervised rows a reviser is trained on: rows of pairs in; out, with prompt_tokens and
// response_tokens, one row a pair for the base reviser (the worse response becomes the better one), two for the adaptive
// one (the better response needs no revision; the worse one a minor or major one, split at the median gain of all pairs).
func Tasks(s beam.Scope, cfg TaskConfig, pairs stage.Rows) (rows, dead stage.Rows) {
	return stage.ApplyWith[TaskConfig, AllGains](s, cfg, pairs, totals.Reduce[TaskConfig, AllGains](s, cfg, pairs))
}

func encodeGains(g AllGains) ([]byte, error) { return json.Marshal(g) }

func decodeGains(raw []byte) (g AllGains, err error) { return g, json.Unmarshal(raw, &g) }

func init() {
	stage.Register[Scorer]()
	stage.RegisterWith[TaskConfig, AllGains]()
	totals.Register[TaskConfig, AllGains](encodeGains, decodeGains)
}

// AllGains are the gains of all pairs.
type AllGains struct{ Gains []float64 }

// Merge takes in all gains of o.
func (g *AllGains) Merge(o AllGains) { g.Gains = append(g.Gains, o.Gains...) }

// Contract says which columns are needed and added.
func (c *TaskConfig) Contract() schemas.Contract {
	out := schemas.Contract{Name: "revise_tasks", Rows: schemas.OtherRows, Drops: true, Origin: []schemas.ID{schemas.OfPair},
		Needs: []schemas.Descriptor{schemas.PromptID, schemas.PromptTokens, schemas.PairID, schemas.ChosenTokens, schemas.RejectedTokens},
		Adds:  []schemas.Descriptor{schemas.PromptID, schemas.OfPair, schemas.ResponseID, schemas.PromptTokens, schemas.ResponseTokens}}
	if c.Adaptive {
		out.Needs = append(out.Needs, schemas.RevisionGain)
		out.Adds = append(out.Adds, schemas.RevisionLabel)
	}
	return out
}

// Setup encodes texts.
func (c *TaskConfig) Setup(ctx context.Context) (err error) {
	if c.Model.Path != "" {
		if c.window, err = models.Window(ctx, c.Model); err != nil {
			return err
		}
	}
	if err := c.Layout.encode(of(ctx, c.Model)); err != nil || !c.Adaptive {
		return err
	}
	return c.Labels.encode(of(ctx, c.Model))
}

// Add gathers the gains.
func (c *TaskConfig) Add(b stage.Batch, sums *AllGains) error {
	if c.Adaptive {
		for _, g := range schemas.RevisionGain.Of(b).Values {
			sums.Gains = append(sums.Gains, float64(g))
		}
	}
	return nil
}

// longest is the length of the longest task that a pair makes.
func (c *TaskConfig) longest(prompt, better, worse []int32) int {
	shown, label := len(worse), 0
	if c.Adaptive {
		shown = max(shown, len(better))
		for _, name := range schemas.RevisionLabels {
			label = max(label, len(c.Labels.tokens(name)))
		}
	}
	return len(c.Layout.prompt(prompt, nil)) + shown + label + len(better)
}

// MapWith makes the rows of each pair.
func (c *TaskConfig) MapWith(_ context.Context, b stage.Batch, all AllGains, dead *stage.DeadLetters) (stage.Batch, error) {
	median := Median(all.Gains)
	prompts, better, worse := schemas.PromptTokens.Of(b), schemas.ChosenTokens.Of(b), schemas.RejectedTokens.Of(b)
	var promptIDs, pairIDs, ids []uuid.UUID
	var shown, written [][]int32
	var labels []string
	add := func(i int, response []int32, label string) {
		pair := schemas.PairID.Of(b)[i]
		promptIDs, pairIDs = append(promptIDs, schemas.PromptID.Of(b)[i]), append(pairIDs, pair)
		ids = append(ids, uuid.NewSHA1(pair, []byte(label)))
		shown, labels = append(shown, c.Layout.prompt(prompts.Row(i), response)), append(labels, label)
		if c.Adaptive {
			written = append(written, slices.Concat(c.Labels.tokens(label), better.Row(i)))
		} else {
			written = append(written, better.Row(i))
		}
	}
	for i := range b.NumRows() {
		if len(prompts.Row(i)) == 0 || len(better.Row(i)) == 0 || len(worse.Row(i)) == 0 {
			dead.Rowf(i, schemas.ReasonEmpty, "the pair has an empty prompt or response")
			continue
		}
		if n := c.longest(prompts.Row(i), better.Row(i), worse.Row(i)); c.window > 0 && n > c.window {
			dead.Rowf(i, schemas.ReasonTooLong, "a task of %d tokens (prompt, response, what seft.reviser.layout puts around them, label and "+
				"revision), and the model takes at most %d", n, c.window)
			continue
		}
		if !c.Adaptive {
			add(i, worse.Row(i), "")
			continue
		}
		add(i, better.Row(i), No)
		add(i, worse.Row(i), Split(float64(schemas.RevisionGain.Of(b).Values[i]), median))
	}
	cols := []schemas.Filled{schemas.PromptID.From(promptIDs), schemas.OfPair.From(pairIDs), schemas.ResponseID.From(ids),
		schemas.PromptTokens.FromRows(shown), schemas.ResponseTokens.FromRows(written)}
	if c.Adaptive {
		cols = append(cols, schemas.RevisionLabel.From(labels))
	}
	return schemas.NewRecord(b.Meta(), cols...)
}
