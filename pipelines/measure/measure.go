// Package measure judges policies and reward models on held-out prompts.
package measure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/continuation"
	"github.com/millrace/millrace/transforms/evaluate"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/value"
)

// Evaluation is what was measured on held-out prompts.
type Evaluation struct {
	evaluate.Report
	Dead   int64           `json:"dead,omitempty"` // rows set aside, which no figure counts
	Sums   evaluate.Sums   `json:"-"`
	Config evaluate.Config `json:"-"`
}

// Subject is what an evaluation measures.
type Subject struct {
	Policy    models.Ref // whose responses are judged
	Reward    models.Ref // "": the policy alone is measured
	Reference models.Ref // what log-ratios are taken to, where the values want a frozen reference
	// Continuations are sampled from the step ends of first responses, for the truth; 0: none.
	Continuations int
}

// Measure judges responses to held-out prompts: the policy's own, or those that the source brings. With a reward model it
// is measured on the same responses. Work is a scratch directory, which is made and removed.
func Measure(ctx context.Context, r recipe.Recipe, s Subject, work string) (Evaluation, error) {
	if err := errors.Join(files.RemoveAll(ctx, work), files.MakeDirectory(work)); err != nil {
		return Evaluation{}, err
	}
	e, err := In(ctx, r, s, work)
	return e, errors.Join(err, files.RemoveAll(ctx, work))
}

// ScratchPrefix begins the name of a directory that Scratch makes where a run lies; a process that died has left it.
const ScratchPrefix = "eval-"

// Scratch makes a directory for an evaluation, where the workers can reach it: on this machine, or where the run lies if the
// workers are elsewhere. Remove removes it.
func Scratch(r recipe.Recipe) (dir string, remove func() error, err error) {
	if r.Runner.InProcess() || !files.IsURL(r.Run) {
		dir, err = os.MkdirTemp("", "millrace-eval-")
	} else {
		dir = files.Join(r.Run, ScratchPrefix+uuid.NewString())
	}
	return dir, func() error { return files.RemoveAll(context.Background(), dir) }, err
}

// In measures in a scratch directory that may hold what an earlier measurement has sampled there.
func In(ctx context.Context, r recipe.Recipe, s Subject, work string) (Evaluation, error) {
	held := HeldOut(r, s.Reward.Path != "")
	nodes, err := nodesOf(held, s.Continuations)
	if err != nil {
		return Evaluation{}, err
	}
	c := configOf(held)
	c.Truth = s.Continuations > 0
	it := chain.Iteration{Seed: uint64(keyed.New(r.Seed).With(evaluationKey)), Dir: work, Work: work,
		Models: chain.Models{Policy: s.Policy, Sampler: s.Policy, Reward: s.Reward, Reference: s.Reference}}
	pipeline, f := chain.New(it, r.Limits.MaxRecordBytes)
	f.Add(nodes...)
	file := files.Join(work, "evaluation.json")
	stage.End(f.Scope, beam.ParDo(f.Scope, &saveSumsFn{File: file}, evaluate.Apply(f.Scope, c, f.Rows)))
	result, err := chain.Execute(ctx, chain.EvaluationPipeline, pipeline, r.Runner)
	if err != nil {
		return Evaluation{}, err
	}
	raw, err := files.Read(ctx, file, maxSumsBytes)
	if err != nil {
		return Evaluation{}, err
	}
	var sums evaluate.Sums
	if err := json.Unmarshal(raw, &sums); err != nil {
		return Evaluation{}, err
	}
	e := Evaluation{Report: c.Report(sums), Sums: sums, Config: c}
	for _, n := range stage.CountsOf(result) {
		e.Dead += n.Dead
	}
	if e.Prompts == 0 {
		return Evaluation{}, fmt.Errorf("evaluation: no held-out prompt of split %s has an outcome", r.Evaluate.Split)
	}
	return e, nil
}

// maxSumsBytes bounds the sums of an evaluation, of which every prompt has a few hundred bytes.
const maxSumsBytes = 1 << 30

// evaluationKey keeps the random numbers of evaluations apart from those of training.
const evaluationKey = 1 << 62

// HeldOut is the recipe on the held-out split: nothing is trained, candidates are not listed. Without a reward model a policy is
// measured by its own answers, not by the responses that it was trained on.
func HeldOut(r recipe.Recipe, reward bool) recipe.Recipe {
	r.Prompts.Split, r.Prompts.Count = r.Evaluate.Split, r.Evaluate.Prompts
	r.Rollout.Samples, r.Rollout.CandidateK = r.Evaluate.Samples, 0
	r.Rollout.Engine, r.Importance = nil, nil // a policy is measured by its own sampling
	r.RewardModels = nil
	r.Advantage, r.Prompts.Curriculum, r.Mixed, r.Extra = nil, nil, nil, nil
	if r.SEFT != nil {
		r.Pairs = nil
	}
	if !reward {
		r.Reward, r.Prompts = nil, r.Prompts.WithoutResponses()
		return r
	}
	copied := *r.Reward
	copied.Update, copied.Refresh = nil, nil
	r.Reward = &copied
	return r
}

// configOf says what is measured.
func configOf(r recipe.Recipe) evaluate.Config {
	c := evaluate.Default()
	c.K = powersUpTo(r.Evaluate.Samples)
	if r.Reward != nil {
		c.Values, c.Steps, c.Beta = true, chain.JudgesSteps(r), r.Reward.Value.Kind.Scale()
		c.Score = r.Reward.Value.Kind.Ranks()
		c.TokenScores = value.OfTokens(r.Reward.Value.Kind)
		if r.Reward.Value.Reference() == "" || r.Reward.Value.Modelless() {
			c.Rules = evaluate.AllRules
		}
	}
	return c
}

// powersUpTo lists 1, 2, 4, ... and n itself.
func powersUpTo(n int) []int {
	var out []int
	for k := 1; k < n; k *= 2 {
		out = append(out, k)
	}
	return append(out, n)
}

func nodesOf(r recipe.Recipe, continuations int) ([]chain.Node, error) {
	nodes := chain.Source(r, chain.Judges(r))
	if continuations > 0 {
		if !chain.JudgesSteps(r) {
			return nil, setting.Errorf("label.verifier.kind", "%q judges no steps, from whose ends continuations are sampled",
				r.Label.Verifier.Kind)
		}
		c := continuation.Continuer{Config: continuation.Config{Continuations: continuations, Responses: 1,
			Sampling: chain.Sampling(r).Sampling}, Judge: chain.ContinuationJudge(r), Chat: r.Chat}
		nodes = append(nodes, chain.Node{Contract: c.Contract(), Add: func(f *chain.Flow) {
			c := c
			c.Policy, c.Seed = f.It.Sampler, f.It.Seed
			f.Then(continuation.Apply(f.Scope, c, f.Store, f.Rows))
		}})
	}
	if r.Reward != nil {
		nodes = append(nodes, chain.Reward(r, false)...)
	}
	return nodes, nil
}

func init() { beam.RegisterDoFn(&saveSumsFn{}) }

// saveSumsFn writes the sums of an evaluation where the driver reads them.
type saveSumsFn struct{ File string }

// ProcessElement writes the sums.
func (f *saveSumsFn) ProcessElement(ctx context.Context, sums evaluate.Sums) (string, error) {
	raw, err := json.Marshal(sums)
	if err != nil {
		return "", err
	}
	return f.File, files.Write(ctx, f.File, raw, false)
}
