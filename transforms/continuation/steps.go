package continuation

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/label/verify"
	"github.com/millrace/millrace/transforms/stage"
)

// Columns that StepLabeller adds.
var (
	MCStepEnds = schemas.NewList[int32](schemas.Column{Name: "mc_step_ends", Stage: "step_labels", Shape: "[N, S]",
		Unit: "response token index", Nullable: true,
		Doc: "1-based index of the last token of each step of the text; null where the tokens do not spell it."})
	MCTried = schemas.NewList[int32](schemas.Column{Name: "mc_tried", Stage: "step_labels", Shape: "[N, S]", Nullable: true,
		Doc: "Continuations sampled after each step; 0 where none were, as after the last step."})
	MCRight = schemas.NewList[int32](schemas.Column{Name: "mc_right", Stage: "step_labels", Shape: "[N, S]", Nullable: true,
		Doc: "Right ones among the continuations after each step: over mc_tried it is the value of the step."})
	MCFirstError = schemas.NewColumn[int32](schemas.Column{Name: "mc_first_error", Stage: "step_labels", Shape: "[N]", Nullable: true,
		Doc: "Index of the first step after which continuations are wrong, -1 of a right response; null where it is not known: no outcome, " +
			"or the policy does not solve the prompt."})
	MCSweptError = schemas.NewColumn[int32](schemas.Column{Name: "mc_swept_error", Stage: "step_labels", Shape: "[N]", Nullable: true,
		Doc: "mc_first_error by the sweep of all steps; null where they were not swept."})
	MCRepaired = schemas.NewFlag(schemas.Column{Name: "mc_repaired", Stage: "step_labels", Shape: "[N]", Nullable: true,
		Doc: "Whether a later step is good after a bad one, which binary search assumes not to happen; null where steps were not swept."})
)

// StepLabels says how the steps of responses are labelled by continuations from their ends (OmegaPRM, arXiv 2406.06592). A step is good
// when of the continuations after it some are right, and at least the share Threshold.
type StepLabels struct {
	Steps         string  `json:"steps" enum:"lines,blocks" doc:"a step is a line of the response, or a block up to the next blank line"`
	Search        string  `json:"search" enum:"binary,sweep" doc:"binary: look for the first bad step by halves, which takes the logarithm of the steps and assumes that no step after a bad one is good; sweep: sample after every step"`
	Continuations int     `json:"continuations" range:"[1,65536]" doc:"continuations after each step that is looked at"`
	Threshold     float64 `json:"threshold" range:"[0,1]" doc:"least share of right continuations after a good step; 0: one is enough"`
	// Audit tells how often the assumption of binary search is wrong.
	Audit float64 `json:"audit" range:"[0,1]" doc:"share of the responses whose steps are all sampled after although the search is binary"`
	models.Sampling
}

// Choices of StepLabels.
const (
	Binary = "binary"
	Sweep  = "sweep"
)

// DefaultStepLabels search by halves with 8 continuations.
func DefaultStepLabels() StepLabels {
	return StepLabels{Steps: stage.Lines, Search: Binary, Continuations: 8, Audit: 0.05,
		Sampling: models.Sampling{Temperature: 1, MaxNewTokens: 1024}}
}

// About is the section in a sentence.
func (StepLabels) About() string {
	return "label the steps of responses by continuations from their ends (Monte Carlo)"
}

// Validate names the first key that does not go with the others.
func (c StepLabels) Validate() error {
	if c.Sampling.CandidateK > 0 {
		return setting.Errorf("candidate_k", "%d; continuations are judged and not kept, so no candidates are listed", c.Sampling.CandidateK)
	}
	return c.Sampling.Validate()
}

// Judge names the verifier of continuations, as a recipe does.
type Judge struct {
	Kind    string         `json:"kind"`
	Options map[string]any `json:"options,omitempty"`
}

// open makes the verifier. What it starts, such as processes, ends with the pipeline.
func (j Judge) open(ctx context.Context) (verify.Verifier, error) {
	raw, err := json.Marshal(j.Options)
	if err != nil {
		return nil, err
	}
	v, err := verify.New(j.Kind, raw)
	if err != nil {
		return nil, setting.In("label.verifier", err)
	}
	if c, ok := v.(interface{ Close() error }); ok {
		return v, models.Hold(ctx, c)
	}
	return v, nil
}

// StepLabeller is the stage. The sampling's token limit is that of the whole response.
type StepLabeller struct {
	StepLabels
	Judge  Judge               `json:"judge"`
	Chat   tokenizer.Prompting `json:"chat"`
	Policy models.Ref          `json:"policy"`
	Seed   uint64              `json:"seed"`

	opened
}

func init() { stage.Register[StepLabeller]() }

// Label labels the steps of labelled responses. What was sampled is kept in the store.
func Label(s beam.Scope, c StepLabeller, store stage.Store, in stage.Rows) (out, dead stage.Rows) {
	return stage.ApplyOnce(s, c, store, in)
}

// Contract says which columns are needed and added.
func (c *StepLabeller) Contract() schemas.Contract {
	return schemas.Contract{Name: "step_labels",
		Needs: []schemas.Descriptor{schemas.PromptID, schemas.Prompt, schemas.Answer, schemas.ResponseID, schemas.PromptTokens,
			schemas.ResponseTokens, schemas.Response, schemas.TokenEnds, schemas.Outcome},
		Adds: []schemas.Descriptor{MCStepEnds, MCTried, MCRight, MCFirstError, MCSweptError, MCRepaired}}
}

// Lineage names the policy that went on, and how steps were labelled.
func (c *StepLabeller) Lineage() string {
	return "step_labels@" + c.model.Ref.Identity() + ";" + stage.Digest(&c.StepLabels)[:16]
}

// Setup loads the policy, its tokenizer and the verifier.
func (c *StepLabeller) Setup(ctx context.Context) error {
	return c.opened.open(ctx, c.Policy, c.Chat, c.Judge)
}

// Teardown gives the policy back.
func (c *StepLabeller) Teardown() error { return c.opened.close() }

// search is what is known of the steps of a response.
type search struct {
	row          int
	ends         []int32 // in tokens
	tried, right []int32
	lo, hi       int // the last step that is known to be good, and the first that is known to be bad
	swept        bool
	failed       bool // a prefix leaves no room to go on from it
}

// Map labels the steps of the batch's responses, those of one round of the searches together.
func (c *StepLabeller) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	all := c.searches(b)
	if err := c.sweep(ctx, b, all, dead); err != nil {
		return b, err
	}
	solved, err := c.solved(ctx, b, all, dead)
	if err != nil {
		return b, err
	}
	for {
		var open []place
		for _, s := range all {
			if s.wrong(b) && solved[s.row] && !s.failed && s.hi-s.lo > 1 {
				open = append(open, place{row: s.row, step: (s.lo + s.hi) / 2})
			}
		}
		if len(open) == 0 {
			break
		}
		if err := c.try(ctx, b, all, open, dead); err != nil {
			return b, err
		}
		for _, p := range open {
			if s := all[p.row]; s.failed {
				continue
			} else if c.good(s, p.step) {
				s.lo = p.step
			} else {
				s.hi = p.step
			}
		}
	}
	return c.columns(b, all, solved)
}

// wrong reports whether the response's outcome is known to be wrong.
func (s *search) wrong(b stage.Batch) bool {
	y, ok := schemas.Outcome.Of(b).At(s.row)
	return s.ends != nil && ok && y < 0.5
}

// searches finds the steps of each row.
func (c *StepLabeller) searches(b stage.Batch) []*search {
	texts, tokenEnds, ids, outcomes := schemas.Response.Of(b), schemas.TokenEnds.Of(b), schemas.ResponseID.Of(b), schemas.Outcome.Of(b)
	out := make([]*search, b.NumRows())
	for i := range out {
		s := &search{row: i, lo: -1}
		out[i] = s
		if _, known := outcomes.At(i); !known || !tokenEnds.Valid(i) {
			continue
		}
		if s.ends = stage.StepTokens(stage.StepBytes(texts.At(i), c.Steps), tokenEnds.Row(i)); s.ends == nil {
			continue
		}
		n := len(s.ends)
		s.tried, s.right, s.hi = make([]int32, n), make([]int32, n), n-1
		s.swept = c.Search == Sweep || keyed.New(c.Seed).WithBytes(ids[i]).Uniform() < c.Audit
	}
	return out
}

// sweep goes on from every step of the responses that are swept, but for the last, after which nothing comes.
func (c *StepLabeller) sweep(ctx context.Context, b stage.Batch, all []*search, dead *stage.DeadLetters) error {
	var open []place
	for _, s := range all {
		for step := range max(0, len(s.ends)-1) {
			if s.swept {
				open = append(open, place{row: s.row, step: step})
			}
		}
	}
	return c.try(ctx, b, all, open, dead)
}

// try goes on from the ends of steps, where that has not been done yet.
func (c *StepLabeller) try(ctx context.Context, b stage.Batch, all []*search, open []place, dead *stage.DeadLetters) error {
	ids, tokens := schemas.ResponseID.Of(b), schemas.ResponseTokens.Of(b)
	var places []place
	var requests []models.GenerateRequest
	for _, p := range open {
		s := all[p.row]
		if s.failed || s.tried[p.step] > 0 {
			continue
		}
		p.prefix = tokens.Row(p.row)[:s.ends[p.step]]
		var name [8]byte
		binary.LittleEndian.PutUint64(name[:], uint64(s.ends[p.step]))
		request, ok := c.request(b, p, uuid.NewSHA1(ids[p.row], name[:]))
		if !ok {
			s.failed = true
			continue
		}
		places, requests = append(places, p), append(requests, request)
	}
	rights, err := c.generate(ctx, b, places, requests, dead)
	if err != nil {
		return err
	}
	for k, p := range places {
		s := all[p.row]
		if rights[k] < 0 {
			s.failed = true
			continue
		}
		s.tried[p.step], s.right[p.step] = int32(c.Continuations), int32(rights[k])
	}
	return nil
}

// request goes on from a prefix; false where the limit of tokens leaves no room.
func (c *StepLabeller) request(b stage.Batch, p place, id uuid.UUID) (models.GenerateRequest, bool) {
	rest := c.Sampling
	if len(rest.Stop) == 0 {
		rest.Stop = c.stop
	}
	rest.MaxNewTokens -= len(p.prefix)
	rest.MinNewTokens = min(max(0, rest.MinNewTokens-len(p.prefix)), max(0, rest.MaxNewTokens))
	tokens := append(slices.Clone(schemas.PromptTokens.Of(b).Row(p.row)), p.prefix...)
	return models.GenerateRequest{PromptID: id, Prompt: tokens, Seed: c.Seed, Samples: c.Continuations, Sampling: rest}, rest.MaxNewTokens > 0
}

// generate samples, and counts the right continuations of each request; -1 where the model or the verifier failed on the row.
func (c *StepLabeller) generate(ctx context.Context, b stage.Batch, places []place, requests []models.GenerateRequest,
	dead *stage.DeadLetters) ([]int, error) {
	if len(requests) == 0 {
		return nil, nil
	}
	results, err := c.model.Generate(ctx, requests)
	if err != nil {
		return nil, err
	}
	out := make([]int, len(results))
	for k, result := range results {
		n, err := c.rights(ctx, b, places[k], result)
		if err != nil {
			n = -1
		}
		if err := rowFault(dead, places[k], err); err != nil {
			return nil, err
		}
		out[k] = n
	}
	return out, nil
}

// rowFault sets the row of a place aside where the model or the verifier failed on it; other errors are the world's.
func rowFault(dead *stage.DeadLetters, p place, err error) error {
	if row := (*verify.RowError)(nil); errors.As(err, &row) {
		dead.Row(p.row, schemas.ReasonVerifier, err)
		return nil
	}
	if failed := (*sampleError)(nil); errors.As(err, &failed) {
		dead.Row(p.row, schemas.ReasonModel, fmt.Errorf("after step %d: %w", p.step, err))
		return nil
	}
	return err
}

// sampleError says that the model failed on one prompt.
type sampleError struct{ error }

func (e *sampleError) Unwrap() error { return e.error }

// rights counts the right ones among continuations.
func (o *opened) rights(ctx context.Context, b stage.Batch, p place, result models.GenerateResult) (n int, err error) {
	if result.Err != nil {
		return 0, &sampleError{result.Err}
	}
	prompt, answer := schemas.Prompt.Of(b).At(p.row), schemas.Answer.Of(b).At(p.row)
	for _, r := range result.Responses {
		if r.Finish == models.FinishError {
			return 0, &sampleError{r.Err}
		}
		whole := append(slices.Clone(p.prefix), r.Tokens...)
		text, cut := tokenizer.Text(o.tok, whole), r.Finish != models.FinishStop
		got, err := o.verifier.Verify(ctx, verify.Gold{Answer: answer},
			verify.Response{Text: text, Prompt: prompt, Tokens: whole, Finish: string(r.Finish), Truncated: cut})
		if err != nil {
			return 0, err
		}
		if got.Verdict == verify.Correct && !cut {
			n++
		}
	}
	return n, nil
}

// good reports whether the policy finds the answer from a step.
func (c *StepLabeller) good(s *search, step int) bool {
	return s.right[step] > 0 && float64(s.right[step]) >= c.Threshold*float64(s.tried[step])
}

// solved reports of each row whether the policy finds the answer to its prompt at all: some response of its group is right, or some
// continuation of one, or one of as many that begin with the prompt. Of another prompt wrong continuations tell nothing about steps.
func (c *StepLabeller) solved(ctx context.Context, b stage.Batch, all []*search, dead *stage.DeadLetters) ([]bool, error) {
	out := make([]bool, len(all))
	groups, err := b.Groups()
	if err != nil {
		return nil, err
	}
	var places []place
	var requests []models.GenerateRequest
	var of []schemas.Group
	set := func(g schemas.Group) {
		for i := g.Lo; i < g.Hi; i++ {
			out[i] = true
		}
	}
	for _, g := range groups {
		known, wrong := false, -1
		for i := g.Lo; i < g.Hi; i++ {
			y, ok := schemas.Outcome.Of(b).At(i)
			known = known || ok && y >= 0.5 || slices.ContainsFunc(all[i].right, func(n int32) bool { return n > 0 })
			if wrong < 0 && all[i].wrong(b) {
				wrong = i
			}
		}
		if known {
			set(g)
		} else if wrong >= 0 {
			p := place{row: wrong, step: -1}
			if request, ok := c.request(b, p, uuid.UUID(g.ID)); ok {
				places, requests, of = append(places, p), append(requests, request), append(of, g)
			}
		}
	}
	rights, err := c.generate(ctx, b, places, requests, dead)
	for k, n := range rights {
		if n > 0 {
			set(of[k])
		}
	}
	stage.Count(ctx, "step_labels", "prompts_tried", len(requests))
	return out, err
}

// columns puts down what was found.
func (c *StepLabeller) columns(b stage.Batch, all []*search, solved []bool) (stage.Batch, error) {
	n := len(all)
	ends, tried, right, placed := make([][]int32, n), make([][]int32, n), make([][]int32, n), make([]bool, n)
	first, known, sweptError, sweptKnown := make([]int32, n), make([]bool, n), make([]int32, n), make([]bool, n)
	repaired, swept := make([]bool, n), make([]bool, n)
	for i, s := range all {
		ends[i], tried[i], right[i], placed[i] = s.ends, s.tried, s.right, s.ends != nil
		if s.ends == nil || s.wrong(b) && (s.failed || !solved[i]) {
			continue
		}
		bad := len(s.ends) - 1
		if !s.wrong(b) {
			bad = -1
		}
		if s.swept && !s.failed {
			swept[i] = true
			seen := false
			for step := range len(s.ends) - 1 {
				if c.good(s, step) {
					repaired[i] = repaired[i] || seen
				} else {
					seen = true
				}
			}
			sweptError[i], sweptKnown[i] = int32(bad), true
			for step := range max(0, bad) {
				if !c.good(s, step) {
					sweptError[i] = int32(step)
					break
				}
			}
		}
		first[i], known[i] = int32(bad), true
		if bad >= 0 {
			first[i] = int32(s.hi)
			if c.Search == Sweep {
				first[i] = sweptError[i]
			}
		}
	}
	return b.With(MCStepEnds.FromRows(ends, placed...), MCTried.FromRows(tried, placed...), MCRight.FromRows(right, placed...),
		MCFirstError.From(first, known...), MCSweptError.From(sweptError, sweptKnown...), MCRepaired.From(repaired, swept...))
}
