// Package rollout samples responses to prompts from a policy.
//
// In: a row a prompt. Out: a row a response, the responses of a prompt side by side, with the tokens,
// their log-probs under the policy (temperature 1, full vocabulary, whatever the sampling was; of an endpoint what it was found to
// give, which their definition says) and, when asked for, the
// candidate tokens of every position. The same prompt, seed and sample give the same response in any batch, on any worker.
package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Config is how a recipe asks for rollouts.
type Config struct {
	Samples         int `json:"samples" range:"[1,65536]" doc:"responses to each prompt"`
	MaxPromptTokens int `json:"max_prompt_tokens" range:"[1,inf)" doc:"tokens of a prompt at most; longer ones are set aside"`
	models.Sampling
	Engine *Engine `json:"engine,omitempty" doc:"another program that samples in the policy's place"`
}

// Default samples 8 responses a prompt at temperature 1 and lists the candidates of DistRL (arXiv 2604.13197: P_min 0.1, K 5).
func Default() Config {
	return Config{Samples: 8, MaxPromptTokens: 4096, Sampling: models.Sampling{
		Temperature: 1, MaxNewTokens: 1024, CandidateK: 5, CandidateMinP: 0.1}}
}

// Sampler is the stage.
type Sampler struct {
	Config
	Chat   tokenizer.Prompting `json:"chat"` // how prompts are put to the policy
	Policy models.Ref          `json:"policy"`
	Seed   uint64              `json:"seed"`
	// Elsewhere says that another engine samples than the one that is trained: its log-probs are sampler_logp, and Version is that of
	// its weights.
	Elsewhere bool `json:"elsewhere,omitempty"`
	Version   int  `json:"version,omitempty"`

	model    *models.Handle
	tok      tokenizer.Tokenizer
	prompter *tokenizer.Prompter
}

func init() { stage.Register[Sampler]() }

// Contract says which columns are needed and added.
func (c *Sampler) Contract() schemas.Contract {
	adds := []schemas.Descriptor{schemas.ResponseID, schemas.Sample, schemas.PromptTokens, schemas.ResponseTokens,
		schemas.Response, schemas.TokenEnds, schemas.FinishReason, schemas.OldLogP, schemas.OldLogZ}
	// Of an endpoint it is known once it has been asked; a stage that reads another definition refuses the record then.
	writes := map[string]schemas.LogPDefinition{schemas.OldLogP.Name: schemas.FullLogP("")}
	if c.Elsewhere {
		adds = slices.DeleteFunc(adds, func(d schemas.Descriptor) bool {
			name := d.Describe().Name
			return name == schemas.OldLogP.Name || name == schemas.OldLogZ.Name
		})
		adds = append(adds, schemas.SamplerLogP, schemas.PolicyVersion)
		if c.CandidateK > 0 {
			adds = append(adds, schemas.CandidateIDs)
		}
		return schemas.Contract{Name: "rollout", Needs: []schemas.Descriptor{schemas.PromptID, schemas.Prompt}, Adds: adds,
			Rows: schemas.OtherRows, Origin: []schemas.ID{schemas.PromptID}}
	}
	if c.CandidateK > 0 {
		adds = append(adds, schemas.CandidateIDs, schemas.CandidateOldLogP)
		writes[schemas.CandidateOldLogP.Name] = schemas.FullLogP("")
	}
	return schemas.Contract{Name: "rollout", Needs: []schemas.Descriptor{schemas.PromptID, schemas.Prompt}, Adds: adds,
		Rows: schemas.OtherRows, Origin: []schemas.ID{schemas.PromptID}, Writes: writes}
}

// Lineage names the policy that sampled.
func (c *Sampler) Lineage() string { return "policy@" + c.model.Ref.Identity() }

// Setup loads the policy and its tokenizer.
func (c *Sampler) Setup(ctx context.Context) (err error) {
	if c.tok, err = tokenizer.Open(ctx, c.Policy); err != nil {
		return err
	}
	if c.prompter, err = tokenizer.NewPrompter(c.tok, c.Chat); err != nil {
		return fmt.Errorf("chat: %w", err)
	}
	c.model, err = models.Acquire(ctx, c.Policy)
	return err
}

// Teardown gives the policy back.
func (c *Sampler) Teardown() error {
	if c.model == nil {
		return nil
	}
	return c.model.Release()
}

// Map samples all prompts of the batch together.
func (c *Sampler) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	ids, prompts, messages := schemas.PromptID.Of(b), schemas.Prompt.Of(b), schemas.MessagesOf(b)
	sampling := c.Sampling
	if len(sampling.Stop) == 0 {
		sampling.Stop = c.prompter.End()
	}
	var requests []models.GenerateRequest
	var rows []int
	for i := range b.NumRows() {
		tokens, err := c.prompter.Encode(prompts.At(i), messages(i))
		switch {
		case err != nil:
			dead.Row(i, schemas.ReasonBadToken, err)
			continue
		case len(tokens) == 0:
			dead.Rowf(i, schemas.ReasonEmpty, "the prompt has no tokens")
			continue
		case len(tokens) > c.MaxPromptTokens:
			dead.Rowf(i, schemas.ReasonTooLong, "the prompt has %d tokens, max_prompt_tokens is %d", len(tokens), c.MaxPromptTokens)
			continue
		}
		requests = append(requests, models.GenerateRequest{PromptID: ids[i], Prompt: tokens, Seed: c.Seed, Samples: c.Samples,
			Sampling: sampling})
		rows = append(rows, i)
	}
	counted, count := models.WithSamplingCount(ctx)
	results, err := c.model.Generate(counted, requests)
	if err != nil {
		return stage.Batch{}, err
	}
	countSampling(ctx, count.Sum())
	var out []sampled
	for k, result := range results {
		if err := firstError(result); err != nil {
			// A group is whole or not at all: statistics over a part of it would be others.
			dead.Row(rows[k], schemas.ReasonModel, err)
			continue
		}
		for _, r := range result.Responses {
			out = append(out, sampled{rows[k], requests[k].Prompt, r})
		}
	}
	take, promptIDs := make([]int, len(out)), make([]uuid.UUID, len(out))
	for i, s := range out {
		take[i], promptIDs[i] = s.row, ids[s.row]
	}
	repeated, err := b.Take(take)
	if err != nil {
		return stage.Batch{}, err
	}
	filled := columns(out, promptIDs, c.Seed, c.tok, c.defined(), c.CandidateK > 0)
	if c.Elsewhere {
		filled = c.elsewhere(out, filled)
	}
	return repeated.With(filled...)
}

// defined is what the log-probs are of: the policy's own, or what an endpoint was found to give.
func (c *Sampler) defined() schemas.LogPDefinition {
	out := schemas.FullLogP(c.model.Ref.Identity())
	if m, ok := c.model.Model.(models.Defined); ok {
		out.Temperature, out.TopP, out.TopK = m.LogPAt(c.Sampling)
	}
	return out
}

// countSampling counts how fast responses came, for people to see; times are in microseconds.
func countSampling(ctx context.Context, s models.SamplingStats) {
	const name = "rollout"
	stage.Count(ctx, name, "responses", s.Responses)
	stage.Count(ctx, name, "sampled_tokens", s.Tokens)
	stage.Count(ctx, name, "sampling_us", int(s.Time.Microseconds()))
	stage.Count(ctx, name, "first_token_us", int(s.FirstToken.Microseconds()))
}

// Speed is how fast the responses of a run came, from the stage's counters.
type Speed struct {
	Tokens     int64
	PerSecond  float64       // tokens a second of sampling
	FirstToken time.Duration // mean time to a response's first token; 0 where the generator cannot tell
}

// SpeedOf reads the counters of a run; false when nothing was sampled.
func SpeedOf(all []stage.Counts) (Speed, bool) {
	for _, c := range all {
		if n, us := c.Other["sampled_tokens"], c.Other["sampling_us"]; c.Stage == "rollout" && n > 0 && us > 0 {
			s := Speed{Tokens: n, PerSecond: float64(n) / (float64(us) / 1e6)}
			if responses := c.Other["responses"]; responses > 0 {
				s.FirstToken = time.Duration(c.Other["first_token_us"]/responses) * time.Microsecond
			}
			return s, true
		}
	}
	return Speed{}, false
}

func firstError(r models.GenerateResult) error {
	if r.Err != nil {
		return r.Err
	}
	for _, response := range r.Responses {
		if response.Finish == models.FinishError {
			return fmt.Errorf("sample %d: %w", response.Sample, response.Err)
		}
		if len(response.Tokens) == 0 {
			return fmt.Errorf("sample %d: %w", response.Sample, errors.New("no tokens came back"))
		}
	}
	return nil
}
