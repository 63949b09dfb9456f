package pipelines

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
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/continuation"
	"github.com/millrace/millrace/transforms/evaluate"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/stage"
)

// Evaluation is what was measured on held-out prompts.
type Evaluation struct {
	evaluate.Report
	Dead   int64           `json:"dead,omitempty"` // rows set aside, which no figure counts
	Sums   evaluate.Sums   `json:"-"`
	Config evaluate.Config `json:"-"`
}

// Measure judges responses to held-out prompts: the policy's own, or those that the source brings. With a reward model it
// is measured on the same responses. Work is a scratch directory.
func (r Recipe) Measure(ctx context.Context, policy, reward models.Ref, work string) (Evaluation, error) {
	return r.measureIn(ctx, subject{policy: policy, reward: reward, reference: policy}, work)
}

// measureIn measures in a scratch directory that is made for it and removed.
func (r Recipe) measureIn(ctx context.Context, s subject, work string) (Evaluation, error) {
	if err := errors.Join(stage.RemoveAll(ctx, work), stage.MakeDirectory(work)); err != nil {
		return Evaluation{}, err
	}
	e, err := r.measureSubject(ctx, s, work)
	return e, errors.Join(err, stage.RemoveAll(ctx, work))
}

// Scratch makes a directory for an evaluation, where the workers can reach it: on this machine, or where the run lies if the
// workers are elsewhere. Remove removes it.
func (r Recipe) Scratch() (dir string, remove func() error, err error) {
	if r.Runner.InProcess() || !stage.IsURL(r.Run) {
		dir, err = os.MkdirTemp("", "millrace-eval-")
	} else {
		dir = stage.JoinPath(r.Run, "eval-"+uuid.NewString())
	}
	return dir, func() error { return stage.RemoveAll(context.Background(), dir) }, err
}

// subject is what an evaluation measures.
type subject struct {
	policy    models.Ref // whose responses are judged
	reward    models.Ref // "": the policy alone is measured
	reference models.Ref // what log-ratios are taken to, where the values want a frozen reference
	// continuations are sampled from the step ends of first responses, for the truth; 0: none
	continuations int
}

// measureSubject measures in a scratch directory that may hold what an earlier measurement has sampled there.
func (r Recipe) measureSubject(ctx context.Context, subject subject, work string) (Evaluation, error) {
	held := r.heldOut(subject.reward.Path != "")
	nodes, err := held.evaluationChain(subject.continuations)
	if err != nil {
		return Evaluation{}, err
	}
	c := held.evaluation()
	c.Truth = subject.continuations > 0
	pipeline, f := r.flow(iteration{seed: uint64(keyed.New(r.Seed).With(evaluationKey)), dir: work, work: work,
		policy: subject.policy, sampler: subject.policy, reward: subject.reward, frozen: subject.reference})
	for _, n := range nodes {
		n.add(f)
	}
	file := stage.JoinPath(work, "evaluation.json")
	stage.End(f.scope, beam.ParDo(f.scope, &saveSumsFn{File: file}, evaluate.Apply(f.scope, c, f.rows)))
	result, err := execute(ctx, evaluationPipeline, pipeline, r.Runner)
	if err != nil {
		return Evaluation{}, err
	}
	raw, err := stage.ReadFile(ctx, file, maxSumsBytes)
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

// heldOut is the recipe on the held-out split: nothing is trained, candidates are not listed.
func (r Recipe) heldOut(reward bool) Recipe {
	r.Prompts.Split, r.Prompts.Count = r.Evaluate.Split, r.Evaluate.Prompts
	r.Rollout.Samples, r.Rollout.CandidateK = r.Evaluate.Samples, 0
	r.Advantage, r.Prompts.Curriculum, r.Mixed = nil, nil, nil
	if r.Kind == Evolve {
		r.Kind, r.Pairs = Policy, nil
	}
	if !reward {
		// A policy is measured by its own answers, not by the responses it was trained on.
		r.Kind, r.Reward, r.Prompts = Policy, nil, r.Prompts.WithoutResponses()
	} else {
		copied := *r.Reward
		copied.Update = nil
		r.Reward = &copied
	}
	return r
}

// evaluation says what is measured.
func (r Recipe) evaluation() evaluate.Config {
	c := evaluate.Default()
	c.K = powersUpTo(r.Evaluate.Samples)
	if r.Reward != nil {
		c.Values, c.Steps, c.Beta = true, r.judgesSteps(), r.Reward.Value.Beta
		c.Score = r.Reward.bestOfScore()
	}
	return c
}

// judgesSteps reports whether rows have step labels: on the proving ground, and where a source brings them.
func (r Recipe) judgesSteps() bool {
	return r.Label.Verifier.Kind == label.ProvingGround && r.labels() || r.brings(schemas.StepBytes)
}

// powersUpTo lists 1, 2, 4, ... and n itself.
func powersUpTo(n int) []int {
	var out []int
	for k := 1; k < n; k *= 2 {
		out = append(out, k)
	}
	return append(out, n)
}

func (r Recipe) evaluationChain(continuations int) ([]node, error) {
	nodes := r.sourceNodes()
	if continuations > 0 {
		if !r.judgesSteps() {
			return nil, configErrorf("label.verifier.kind", "%q judges no steps; continuations are sampled from step ends of the proving ground", r.Label.Verifier.Kind)
		}
		c := continuation.Continuer{Config: continuation.Config{Continuations: continuations, Responses: 1, Sampling: r.sampling().Sampling}, Chat: r.Chat}
		nodes = append(nodes, node{c.Contract(), func(f *flow) {
			c := c
			c.Policy, c.Seed = f.at.sampler, f.at.seed
			f.then(continuation.Apply(f.scope, c, f.store, f.rows))
		}})
	}
	if r.Reward != nil {
		nodes = append(nodes, r.rewardNodes(false)...)
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
	return f.File, stage.WriteFile(ctx, f.File, raw, false)
}
