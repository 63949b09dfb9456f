// Package continuation tells how probable a right outcome really is after each step of a response, by sampling from there
// (Monte Carlo): the truth that a prefix value is held against.
//
// In: rows of responses with their steps. Out: the same rows with step_truth.
package continuation

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/label/verify"
	"github.com/millrace/millrace/transforms/stage"
)

// Config says how many continuations are sampled, and of which responses.
type Config struct {
	Continuations int `json:"continuations" range:"[1,inf)" doc:"continuations from each step end"`
	Responses     int `json:"responses" range:"[1,inf)" doc:"responses of each prompt that are continued, the first ones"`
	models.Sampling
}

// Apply adds step_truth to labeled responses, each continued by the policy; the sampling's token limit is that of the
// whole response. What was sampled is kept in the store.
func Apply(s beam.Scope, c Continuer, store stage.Store, in stage.Rows) (out, dead stage.Rows) {
	return stage.ApplyOnce(s, c, store, in)
}

// Continuer is the stage.
type Continuer struct {
	Config
	Judge  Judge               `json:"judge"` // of continuations
	Chat   tokenizer.Prompting `json:"chat"`  // how the policy was asked, which says what ends a response
	Policy models.Ref          `json:"policy"`
	Seed   uint64              `json:"seed"`

	opened
}

func init() { stage.Register[Continuer]() }

// Contract says which columns are needed and added.
func (c *Continuer) Contract() schemas.Contract {
	return schemas.Contract{Name: "continuation", Adds: []schemas.Descriptor{schemas.StepTruth},
		Needs: []schemas.Descriptor{schemas.Prompt, schemas.Answer, schemas.ResponseID, schemas.Sample, schemas.PromptTokens,
			schemas.ResponseTokens, schemas.StepEnds}}
}

// Lineage names the policy that went on.
func (c *Continuer) Lineage() string { return "continuation@" + c.model.Ref.Identity() }

// Setup loads the policy and its tokenizer.
func (c *Continuer) Setup(ctx context.Context) error {
	return c.opened.open(ctx, c.Policy, c.Chat, c.Judge)
}

// Teardown gives the policy back.
func (c *Continuer) Teardown() error { return c.opened.close() }

// opened is a policy that goes on from prefixes of responses, and who judges what comes of it.
type opened struct {
	model    *models.Handle
	tok      tokenizer.Tokenizer
	stop     []int32
	verifier verify.Verifier
}

// open loads the policy, its tokenizer, what ends its responses, and the verifier.
func (o *opened) open(ctx context.Context, policy models.Ref, chat tokenizer.Prompting, judge Judge) (err error) {
	if o.verifier, err = judge.open(ctx); err != nil {
		return err
	}
	if o.tok, err = tokenizer.Open(ctx, policy); err != nil {
		return err
	}
	prompter, err := tokenizer.NewPrompter(o.tok, chat)
	if err != nil {
		return fmt.Errorf("chat: %w", err)
	}
	o.stop = prompter.End()
	o.model, err = models.Acquire(ctx, policy)
	return err
}

func (o *opened) close() error {
	if o.model == nil {
		return nil
	}
	return o.model.Release()
}

// place is a step end of a row.
type place struct {
	row, step int
	prefix    []int32
}

// Map samples on from the step ends of the batch's first responses, all together.
func (c *Continuer) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	places, requests := c.places(b)
	results, err := c.model.Generate(ctx, requests)
	if err != nil {
		return stage.Batch{}, err
	}
	truth, known := make([][]float32, b.NumRows()), make([]bool, b.NumRows())
	for k, p := range places {
		right, err := c.rights(ctx, b, p, results[k])
		if err := rowFault(dead, p, err); err != nil {
			return stage.Batch{}, err
		}
		truth[p.row] = append(truth[p.row], float32(right)/float32(max(1, len(results[k].Responses))))
		known[p.row] = true
	}
	return b.With(schemas.StepTruth.FromRows(truth, known...))
}

// places lists the step ends to go on from, with a request for each: every step but the last, after which nothing comes.
func (c *Continuer) places(b stage.Batch) ([]place, []models.GenerateRequest) {
	ids, samples := schemas.ResponseID.Of(b), schemas.Sample.Of(b)
	promptTokens, responseTokens, stepEnds := schemas.PromptTokens.Of(b), schemas.ResponseTokens.Of(b), schemas.StepEnds.Of(b)
	sampling := c.Sampling
	sampling.CandidateK = 0
	if len(sampling.Stop) == 0 {
		sampling.Stop = c.stop
	}
	var places []place
	var requests []models.GenerateRequest
	for i := range b.NumRows() {
		if sample, _ := samples.At(i); int(sample) >= c.Responses || !stepEnds.Valid(i) {
			continue
		}
		ends := stepEnds.Row(i)
		for s, end := range ends[:max(0, len(ends)-1)] {
			prefix := responseTokens.Row(i)[:end]
			rest := sampling
			rest.MaxNewTokens = sampling.MaxNewTokens - len(prefix)
			rest.MinNewTokens = min(max(0, sampling.MinNewTokens-len(prefix)), rest.MaxNewTokens)
			if rest.MaxNewTokens < 1 {
				break
			}
			tokens := append(append([]int32(nil), promptTokens.Row(i)...), prefix...)
			var name [8]byte
			binary.LittleEndian.PutUint64(name[:], uint64(s))
			requests = append(requests, models.GenerateRequest{PromptID: uuid.NewSHA1(ids[i], name[:]), Prompt: tokens, Seed: c.Seed,
				Samples: c.Continuations, Sampling: rest})
			places = append(places, place{i, s, prefix})
		}
	}
	return places, requests
}
