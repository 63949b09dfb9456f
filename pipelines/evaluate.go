package pipelines

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/transforms/evaluate"
	"github.com/millrace/millrace/transforms/stage"
)

// Evaluation is what was measured on held-out prompts.
type Evaluation struct {
	evaluate.Report
	Sums evaluate.Sums `json:"-"`
}

// Measure judges responses to held-out prompts: the policy's own, or those that the source brings. With a reward model it
// is measured on the same responses. Work is a scratch directory.
func (r Recipe) Measure(ctx context.Context, policy, reward models.Ref, work string) (Evaluation, error) {
	if err := os.RemoveAll(work); err != nil {
		return Evaluation{}, err
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return Evaluation{}, err
	}
	defer os.RemoveAll(work)
	held := r.heldOut(reward.Path != "")
	nodes, err := held.evaluationChain()
	if err != nil {
		return Evaluation{}, err
	}
	c := held.evaluation()
	beamInit()
	pipeline, s := beam.NewPipelineWithRoot()
	f := &flow{scope: s, store: stage.Store{Dir: work, MaxRecordBytes: r.Limits.MaxRecordBytes}, at: iteration{
		seed: uint64(keyed.New(r.Seed).With(evaluationKey)), dir: work, work: work, policy: policy, sampler: policy, reward: reward, frozen: policy}}
	for _, n := range nodes {
		n.add(f)
	}
	file := filepath.Join(work, "evaluation.json")
	beam.ParDo0(s, &saveSumsFn{File: file}, evaluate.Apply(s, c, f.rows))
	result, err := runners.Run(ctx, pipeline, r.Runner)
	if err != nil {
		return Evaluation{}, err
	}
	if err := stage.Conserved(result); err != nil {
		return Evaluation{}, err
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return Evaluation{}, err
	}
	var sums evaluate.Sums
	if err := json.Unmarshal(raw, &sums); err != nil {
		return Evaluation{}, err
	}
	report := c.Report(sums)
	if report.Prompts == 0 {
		return Evaluation{}, fmt.Errorf("evaluation: no held-out prompt of split %s has an outcome", r.Evaluate.Split)
	}
	return Evaluation{Report: report, Sums: sums}, nil
}

// evaluationKey keeps the random numbers of evaluations apart from those of training.
const evaluationKey = 1 << 62

// heldOut is the recipe on the held-out split: nothing is trained, candidates are not listed.
func (r Recipe) heldOut(reward bool) Recipe {
	r.Prompts.Split, r.Prompts.Count = r.Evaluate.Split, r.Evaluate.Prompts
	r.Rollout.Samples, r.Rollout.CandidateK = r.Evaluate.Samples, 0
	r.Advantage = nil
	if r.Kind == Evolve {
		r.Kind, r.Pairs = Policy, nil
	}
	if !reward {
		r.Reward = nil
	} else {
		copied := *r.Reward
		copied.Update = nil
		r.Reward = &copied
	}
	return r
}

// evaluation says what is measured: step labels exist on the proving ground.
func (r Recipe) evaluation() evaluate.Config {
	c := evaluate.Default()
	if r.Reward != nil {
		c.Values, c.Steps, c.Beta = true, r.Label.Verifier.Kind == "proving_ground" && r.labels(), r.Reward.Value.Beta
	}
	return c
}

func (r Recipe) evaluationChain() ([]node, error) {
	nodes := r.sourceNodes()
	if r.Reward != nil {
		nodes = append(nodes, r.rewardNodes(false)...)
	}
	return nodes, nil
}

func init() { beam.RegisterDoFn(&saveSumsFn{}) }

// saveSumsFn writes the sums of an evaluation where the driver reads them.
type saveSumsFn struct{ File string }

// ProcessElement writes the sums.
func (f *saveSumsFn) ProcessElement(ctx context.Context, sums evaluate.Sums) error {
	raw, err := json.Marshal(sums)
	if err != nil {
		return err
	}
	return stage.WriteFile(ctx, f.File, raw, false)
}
