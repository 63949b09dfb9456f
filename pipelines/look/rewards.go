package look

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/evaluate"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/tokenize"
	"github.com/millrace/millrace/transforms/value"
)

// Test sets of reward models.
const (
	// HeldOutSet is the recipe's own evaluation: responses of the policy to held-out prompts, or those that its source brings.
	HeldOutSet = "held_out"
	// Any other name is one of the source's corruptions, solutions of which half have one wrong step, such as the proving ground's
	// corrupted, or a file of ProcessBench, as published: a JSON array, or one object a line.
)

// RewardModel is a reward model with what its values are made of.
type RewardModel struct {
	Name  string       `json:"name"`
	Model models.Ref   `json:"model"`
	Value value.Config `json:"value"`

	Reference models.Ref `json:"-"` // what log-ratios are taken to
}

// RewardTest measures reward models on the same responses.
type RewardTest struct {
	Recipe        recipe.Recipe
	Policy        models.Ref // whose responses are judged
	Items         int        // of a file, drawn by the recipe's seed, since published files begin with the wrong solutions; 0: all
	Continuations int        // from each step end of first responses, where steps are judged; 0: no truth
	Work          string     // a scratch directory of this test; what was sampled is kept there from model to model
}

// MeasuredReward is what was measured of one reward model on one test set.
type MeasuredReward struct {
	Set string `json:"set"`
	RewardModel
	measure.Evaluation
	// ByCertainty parts the errors found by how sure the policy was of them; none where no steps are judged.
	ByCertainty []evaluate.ErrorRecall `json:"errors_by_certainty,omitempty"`
}

// RewardComparison holds two reward models against each other on one test set.
type RewardComparison struct {
	Set     string                      `json:"set"`
	A       string                      `json:"a"`
	B       string                      `json:"b"`
	Figures []evaluate.FigureComparison `json:"figures"`
}

// OpenPolicy opens the policy that the recipe starts from, or that a run of it has started from.
func OpenPolicy(ctx context.Context, r recipe.Recipe, run, work string) (models.Ref, error) {
	if run != "" {
		return method.StartPolicy(ctx, r, run)
	}
	return chain.Open(ctx, r.Policy, files.Join(work, "policy"), r.Seed)
}

// OpenReward opens a reward model: that of a run, with the values and the reference of the run's recipe, or a model
// directory, with those of the recipe.
func OpenReward(ctx context.Context, r recipe.Recipe, named string, iteration int, policy models.Ref, work string) (RewardModel, error) {
	m := RewardModel{Name: named}
	path := named
	if d, err := run.Read(ctx, named); err == nil {
		if r, err = d.Recipe(ctx); err != nil {
			return m, err
		}
		dir, _, err := d.Iteration(ctx, iteration)
		if err != nil {
			return m, err
		}
		path = files.Join(dir, chain.RewardRole)
		if r.Reward == nil {
			return m, errors.New("the run has no reward model")
		}
		trained, err := chain.Existing(ctx, path)
		if err != nil {
			return m, err
		}
		if trained == "" { // not trained by the run
			if path = r.Reward.Path; path == "" {
				path = files.Join(d.Path, chain.StartPrefix+"reward")
			}
		}
		if policy, err = method.StartPolicy(ctx, r, d.Path); err != nil {
			return m, err
		}
	}
	if r.Reward == nil {
		return m, setting.Errorf("reward", "is missing; say what the values of %s are made of, such as --set reward.value.kind=ipvrm", named)
	}
	m.Value, m.Reference = r.Reward.Value, policy
	var err error
	if m.Model, err = chain.OpenAt(ctx, r.RewardStart(), path); err != nil {
		return m, err
	}
	if r.Reference != nil {
		m.Reference, err = chain.Open(ctx, *r.Reference, files.Join(work, "reference-"+m.Model.Digest[:16]), r.Seed)
	}
	return m, err
}

// PolicyScorers are scorers without a reward model, which every one is held against: the policy's own log-probs, ranked by the sum and by
// the least of a response, and its length.
func PolicyScorers(policy models.Ref) []RewardModel {
	var out []RewardModel
	for _, rank := range []string{"sum", "min"} {
		out = append(out, RewardModel{Name: "policy log-prob, " + rank, Model: policy, Reference: policy,
			Value: value.Config{Name: "policy_logp", Kind: value.PolicyLogP{Rank: rank, Reference: value.Old}}})
	}
	return append(out, RewardModel{Name: "length, the shortest first", Model: policy, Reference: policy, Value: value.Default("length")})
}

// ShareReferences lets reward models that take log-ratios to the same model take them to the same copy of it, whose log-probs
// are then scored once.
func ShareReferences(rewards []RewardModel) {
	first := map[string]models.Ref{}
	for i := range rewards {
		ref := &rewards[i].Reference
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
	return append([]string{HeldOutSet}, t.corruptions()...)
}

// corruptions are those of the recipe's source, where its verifier finds wrong steps.
func (t RewardTest) corruptions() []string {
	if c, ok := t.Recipe.Prompts.Of.(prompts.Corrupter); ok && t.Recipe.Label.Verifier.JudgesSteps() {
		return c.Corruptions()
	}
	return nil
}

// Measure measures one reward model on one test set.
func (t RewardTest) Measure(ctx context.Context, m RewardModel, set string) (MeasuredReward, error) {
	out := MeasuredReward{Set: set, RewardModel: m}
	r, s, err := t.on(ctx, m, set)
	if err != nil {
		return out, err
	}
	work := files.Join(t.Work, "rows")
	if err := files.MakeDirectory(work); err != nil {
		return out, err
	}
	if out.Evaluation, err = measure.In(ctx, r, s, work); err != nil {
		return out, fmt.Errorf("%s on %s: %w", m.Name, set, err)
	}
	return out, nil
}

// PartErrors parts the errors that models found on a set by how sure the policy was of them, which its own log-probs among the models say.
func PartErrors(measured []MeasuredReward) {
	for _, own := range measured {
		if own.Value.Modelless() && own.Config.Steps {
			certain := own.Config.Certainty(own.Sums)
			for i := range measured {
				measured[i].ByCertainty = measured[i].Config.ErrorsByCertainty(measured[i].Sums, certain)
			}
			return
		}
	}
}

// on is the recipe and the subject of a test set.
func (t RewardTest) on(ctx context.Context, m RewardModel, set string) (recipe.Recipe, measure.Subject, error) {
	r, s := t.Recipe, measure.Subject{Policy: t.Policy, Reward: m.Model, Reference: m.Reference}
	r.Reward = &recipe.Reward{Value: m.Value}
	switch {
	case set == HeldOutSet:
		if r.Label.Verifier.JudgesSteps() && chain.Samples(r) {
			s.Continuations = t.Continuations
		}
		if chain.Samples(r) {
			return r, s, nil
		}
	case slices.Contains(t.corruptions(), set):
		verifier := r.Label.Verifier
		r.Prompts.Of = r.Prompts.Of.(prompts.Corrupter).Corrupted(set)
		r.Label, r.Tokenize = label.Default(verifier.Kind), tokenize.Default()
		r.Label.Verifier = verifier
	default:
		if found, err := chain.Existing(ctx, set); err != nil {
			return r, s, err
		} else if found == "" {
			return r, s, setting.Errorf("on", "%q is not one of %s, and no file of ProcessBench", set, strings.Join(t.Sets(), ", "))
		}
		p := prompts.New("file", prompts.File{Path: prompts.Paths{set}, Fields: prompts.ProcessBench(), Shuffle: true})
		p.PerRecord = r.Prompts.PerRecord
		r.Prompts, r.Evaluate.Split, r.Evaluate.Prompts = p, "all", t.Items
		if t.Items < 1 {
			r.Evaluate.Prompts = math.MaxInt32
		}
	}
	// Nothing sampled these responses, so the log-probs of the policy that would have are scored.
	if r.Reward.Value.Reference() == value.Old {
		r.Reward.Value, s.Reference = r.Reward.Value.WithReference(value.Frozen), t.Policy
	}
	return r, s, nil
}

// CompareRewards holds every model against every later one, set by set, but not the policy's own log-probs against each other.
func CompareRewards(measured []MeasuredReward, confidence float64) []RewardComparison {
	var out []RewardComparison
	for i, a := range measured {
		for _, b := range measured[i+1:] {
			if a.Set == b.Set && !(a.Value.Modelless() && b.Value.Modelless()) {
				out = append(out, RewardComparison{Set: a.Set, A: a.Name, B: b.Name,
					Figures: evaluate.CompareModels(a.Config, b.Config, a.Sums, b.Sums, confidence)})
			}
		}
	}
	return out
}
