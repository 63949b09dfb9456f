package pipelines

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/transforms/evaluate"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/tokenize"
	"github.com/millrace/millrace/transforms/value"
)

// Test sets of reward models.
const (
	// HeldOutSet is the recipe's own evaluation: responses of the policy to held-out prompts, or those that its source brings.
	HeldOutSet = "held_out"
	// CorruptedSet is the proving ground's corrupted chains: the right working, in half of them with one uniformly wrong
	// digit and right steps from there, mistakes that the policy would hardly make.
	CorruptedSet = "corrupted"
	// Any other name is a file of ProcessBench, as published: a JSON array, or one object a line.
)

// RewardModel is a reward model with what its values are made of.
type RewardModel struct {
	Name  string       `json:"name"`
	Model models.Ref   `json:"model"`
	Value value.Config `json:"value"`

	reference models.Ref
}

// RewardTest measures reward models on the same responses.
type RewardTest struct {
	Recipe        Recipe
	Policy        models.Ref // whose responses are judged
	Items         int        // of a file, drawn by the recipe's seed, since published files begin with the wrong solutions; 0: all
	Continuations int        // from each step end of the proving ground's first responses; 0: no truth
	Work          string     // a scratch directory of this test; what was sampled is kept there from model to model
}

// MeasuredReward is what was measured of one reward model on one test set.
type MeasuredReward struct {
	Set string `json:"set"`
	RewardModel
	Evaluation
}

// RewardComparison holds two reward models against each other on one test set.
type RewardComparison struct {
	Set     string                      `json:"set"`
	A       string                      `json:"a"`
	B       string                      `json:"b"`
	Figures []evaluate.FigureComparison `json:"figures"`
}

// OpenPolicy opens the policy that the recipe starts from, or that a run of it has started from.
func (r Recipe) OpenPolicy(ctx context.Context, run, work string) (models.Ref, error) {
	if run != "" {
		return r.startPolicy(ctx, run)
	}
	return r.Policy.open(ctx, stage.JoinPath(work, "policy"), r.Seed)
}

// OpenReward opens a reward model: that of a run, with the values and the reference of the run's recipe, or a model
// directory, with those of this recipe.
func (r Recipe) OpenReward(ctx context.Context, target string, iteration int, policy models.Ref, work string) (RewardModel, error) {
	m := RewardModel{Name: target}
	path := target
	if run, err := ReadRun(ctx, target); err == nil {
		if r, err = run.Recipe(ctx); err != nil {
			return m, err
		}
		dir, _, err := run.Iteration(ctx, iteration)
		if err != nil {
			return m, err
		}
		path = stage.JoinPath(dir, "reward")
		if r.Reward == nil {
			return m, errors.New("the run has no reward model")
		}
		trained, err := existing(ctx, path)
		if err != nil {
			return m, err
		}
		if trained == "" { // not trained by the run
			if path = r.Reward.Path; path == "" {
				path = stage.JoinPath(run.Path, "start-reward")
			}
		}
		if policy, err = r.startPolicy(ctx, run.Path); err != nil {
			return m, err
		}
	}
	if r.Reward == nil {
		return m, configErrorf("reward", "is missing; say what the values of %s are made of, such as --set reward.value.kind=ipvrm", target)
	}
	m.Value, m.reference = r.Reward.Value, policy
	var err error
	if m.Model, err = r.rewardStart().OpenAt(ctx, path); err != nil {
		return m, err
	}
	if r.Frozen != nil {
		m.reference, err = r.Frozen.open(ctx, stage.JoinPath(work, "reference-"+m.Model.Digest[:16]), r.Seed)
	}
	return m, err
}

// ShareReferences lets reward models that take log-ratios to the same model take them to the same copy of it, whose log-probs
// are then scored once.
func ShareReferences(rewards []RewardModel) {
	first := map[string]models.Ref{}
	for i := range rewards {
		ref := &rewards[i].reference
		if ref.Digest == "" {
			continue
		}
		if same, ok := first[ref.Identity()]; ok {
			*ref = same
		}
		first[ref.Identity()] = *ref
	}
}

// Sets are the test sets that the recipe has without a file.
func (t RewardTest) Sets() []string {
	if t.Recipe.Label.Verifier.Kind == label.ProvingGround {
		return []string{HeldOutSet, CorruptedSet}
	}
	return []string{HeldOutSet}
}

// Measure measures one reward model on one test set.
func (t RewardTest) Measure(ctx context.Context, m RewardModel, set string) (MeasuredReward, error) {
	out := MeasuredReward{Set: set, RewardModel: m}
	r, s, err := t.on(ctx, m, set)
	if err != nil {
		return out, err
	}
	work := stage.JoinPath(t.Work, "rows")
	if err := stage.MakeDirectory(work); err != nil {
		return out, err
	}
	if out.Evaluation, err = r.measureSubject(ctx, s, work); err != nil {
		return out, fmt.Errorf("%s on %s: %w", m.Name, set, err)
	}
	return out, nil
}

// on is the recipe and the subject of a test set.
func (t RewardTest) on(ctx context.Context, m RewardModel, set string) (Recipe, subject, error) {
	r, s := t.Recipe, subject{policy: t.Policy, reward: m.Model, reference: m.reference}
	r.Reward = &Reward{Value: m.Value}
	switch set {
	case HeldOutSet:
		if r.Label.Verifier.Kind == label.ProvingGround && r.samples() {
			s.continuations = t.Continuations
		}
		return r, s, nil
	case CorruptedSet:
		p := prompts.Default()
		p.Chain.Responses, p.PerRecord = "corrupted", r.Prompts.PerRecord
		r.Prompts, r.Label, r.Tokenize = p, label.Default(label.ProvingGround), tokenize.Default()
	default:
		if found, err := existing(ctx, set); err != nil {
			return r, s, err
		} else if found == "" {
			return r, s, configErrorf("on", "%q is not one of %s, %s, and no file of ProcessBench", set, HeldOutSet, CorruptedSet)
		}
		p := prompts.Default()
		p.Source, p.PerRecord, p.File = "file", r.Prompts.PerRecord, prompts.File{Path: set, Fields: prompts.ProcessBench(), Shuffle: true}
		r.Prompts, r.Evaluate.Split, r.Evaluate.Prompts = p, "all", t.Items
		if t.Items < 1 {
			r.Evaluate.Prompts = math.MaxInt32
		}
	}
	// Nothing sampled these responses, so the log-probs of the policy that would have are scored.
	if v := &r.Reward.Value; v.Reference == value.Old && v.IsLogRatio() {
		v.Reference, s.reference = value.Frozen, t.Policy
	}
	return r, s, nil
}

// CompareRewards holds every model against every later one, set by set.
func CompareRewards(measured []MeasuredReward, confidence float64) []RewardComparison {
	var out []RewardComparison
	for i, a := range measured {
		for _, b := range measured[i+1:] {
			if a.Set == b.Set {
				out = append(out, RewardComparison{Set: a.Set, A: a.Name, B: b.Name,
					Figures: evaluate.CompareModels(a.Config, b.Config, a.Sums, b.Sums, confidence)})
			}
		}
	}
	return out
}
