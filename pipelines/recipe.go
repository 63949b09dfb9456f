// Package pipelines turns a recipe into runs: iterations from prompts to an updated policy, training of reward models,
// evaluation, and the directories they leave.
package pipelines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/transforms/advantage"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/pairs"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/rollout"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/target"
	"github.com/millrace/millrace/transforms/tokenize"
	"github.com/millrace/millrace/transforms/update"
	"github.com/millrace/millrace/transforms/value"
)

// Recipe is everything a run depends on. Each section is the Config of the stage that it sets up; what a recipe leaves out
// keeps its default.
type Recipe struct {
	Kind       string `json:"kind"` // policy, train, refresh
	Run        string `json:"run"`  // directory of the run
	Seed       uint64 `json:"seed"`
	Iterations int    `json:"iterations"`

	Prompts  prompts.Config      `json:"prompts"`
	Tokenize tokenize.Config     `json:"tokenize"` // for sources that bring responses as text
	Chat     tokenizer.Prompting `json:"chat"`     // how prompts are put to the models
	Policy   Model               `json:"policy"`
	Rollout  rollout.Config      `json:"rollout"`
	Label    label.Config        `json:"label"`
	Reward   *Reward             `json:"reward,omitempty"`
	Frozen   *Model              `json:"reference,omitempty"` // a frozen reference model

	Distill   *Distill          `json:"distill,omitempty"` // the teachers of a student
	SEFT      *SEFT             `json:"seft,omitempty"`    // the revisers of an evolution
	Mixed     *Mixed            `json:"mixed,omitempty"`   // learn only from groups of mixed outcomes
	Pairs     *pairs.Config     `json:"pairs,omitempty"`   // preference pairs for losses that compare two responses
	Advantage *advantage.Config `json:"advantage,omitempty"`
	Target    *target.LCOConfig `json:"target,omitempty"` // advantages over the vocabulary, for the lco losses' form dense
	Update    update.Config     `json:"update"`
	Evaluate  Evaluate          `json:"evaluate"`
	Gate      Gate              `json:"gate"`
	Limits    Limits            `json:"limits"`
	Output    Output            `json:"output"`
	Runner    runners.Config    `json:"runner"`
	Telemetry telemetry.Config  `json:"telemetry"`
	Keep      bool              `json:"keep_exchange"` // keep materialised edges after the commit

	number int // of the iteration, where they differ in kind
}

// Reward is the reward model of a policy iteration.
type Reward struct {
	Model
	Value value.Config `json:"value"`
	// Update trains it on every batch before it scores the batch; nil leaves it as it is.
	Update *update.Config `json:"update,omitempty"`
}

// Evaluate says how a policy is measured on held-out prompts.
type Evaluate struct {
	Every   int    `json:"every"` // iterations between evaluations; the start and the end are always evaluated; 0: never
	Prompts int    `json:"prompts"`
	Split   string `json:"split"`
	Samples int    `json:"samples"`
}

// Limits bound what a run puts up with.
type Limits struct {
	DeadShare      float64 `json:"dead_share"`       // an iteration with a larger share of dead rows fails
	MaxRecordBytes int     `json:"max_record_bytes"` // a larger prompt group is set aside
}

// Output says how an iteration keeps its rows.
type Output struct {
	// Shards are the files that rows are divided over by their prompts, each written by a worker. The rows are the same
	// whatever the number, and so is what is computed of them.
	Shards int `json:"shards"`
}

// maxShards is how many files are merged at once when rows are read in their order.
const maxShards = 256

// Kinds of recipes.
const (
	Policy = "policy" // iterate: rollouts, outcomes, advantages, update
	Train  = "train"  // train the policy on given responses: SFT, DPO
	// Refresh trains a reward model, on rollouts of the policy or on given solutions, measures it on held-out prompts and
	// promotes it or not.
	Refresh = "refresh"
	Evolve  = "evolve" // SEFT: train revisers on pairs, then tune the policy on what they revise
)

// Default is what a recipe starts from.
func Default() Recipe {
	return Recipe{
		Kind: Policy, Iterations: 1,
		Prompts: prompts.Default(), Tokenize: tokenize.Default(), Rollout: rollout.Default(), Label: label.Default("math"),
		Update: update.Default(), Evaluate: Evaluate{Every: 20, Prompts: 100, Split: "test", Samples: 8},
		Gate: Gate{Margin: 0.1}, Limits: Limits{DeadShare: 0.01, MaxRecordBytes: 8 << 20}, Output: Output{Shards: 1},
		Runner: runners.Default(), Telemetry: telemetry.Default(),
	}
}

// LoadRecipe reads a recipe file, applies path=value settings and validates the result. Errors start with the path of the
// setting, such as update.losses[1].p_min.
func LoadRecipe(ctx context.Context, path string, sets []string) (Recipe, error) {
	raw, err := stage.ReadFile(ctx, path, maxRecipeBytes)
	if err != nil {
		return Recipe{}, &ConfigError{Why: err.Error()}
	}
	r, err := ParseRecipe(raw, sets)
	var c *ConfigError
	if errors.As(err, &c) {
		return Recipe{}, &ConfigError{Path: c.Path, Why: c.Why + " (" + path + ")"}
	}
	return r, err
}

// ParseRecipe is LoadRecipe on the text of a recipe.
func ParseRecipe(raw []byte, sets []string) (Recipe, error) {
	tree, err := parseYAML(raw)
	if err != nil {
		return Recipe{}, err
	}
	for _, s := range sets {
		if err := setPath(tree, s); err != nil {
			return Recipe{}, err
		}
	}
	r := Default()
	// The defaults of these sections depend on a choice inside them, so they are laid under what the recipe says.
	if section, ok := tree["label"].(map[string]any); ok {
		if v, ok := section["verifier"].(map[string]any); ok {
			if kind, ok := v["kind"].(string); ok {
				r.Label = label.Default(kind)
			}
		}
	}
	if section, ok := tree["reward"].(map[string]any); ok {
		reward := Reward{Value: value.Default(value.IPVRM)}
		if v, ok := section["value"].(map[string]any); ok {
			if kind, ok := v["kind"].(string); ok {
				reward.Value = value.Default(kind)
			}
		}
		if _, ok := section["update"]; ok {
			u := update.Default()
			reward.Update = &u
		}
		r.Reward = &reward
	}
	if section, ok := tree["distill"].(map[string]any); ok {
		r.Distill = defaultDistill(section)
	}
	if _, ok := tree["seft"].(map[string]any); ok {
		r.SEFT = defaultSEFT()
	}
	if section, ok := tree["mixed"].(map[string]any); ok {
		r.Mixed = &Mixed{MixedConfig: label.DefaultMixed()}
		if _, ok := section["backfill"].(map[string]any); ok {
			r.Mixed.Backfill = defaultBackfill()
		}
	}
	if section, ok := tree["prompts"].(map[string]any); ok {
		if _, ok := section["curriculum"].(map[string]any); ok {
			c := prompts.DefaultCurriculum()
			r.Prompts.Curriculum = &c
		}
	}
	if section, ok := tree["target"].(map[string]any); ok {
		form, _ := section["form"].(string)
		t := target.DefaultLCO(form)
		r.Target = &t
	}
	if _, ok := tree["pairs"].(map[string]any); ok {
		p := pairs.Default()
		r.Pairs = &p
	}
	if section, ok := tree["advantage"].(map[string]any); ok {
		kind, _ := section["kind"].(string)
		a := advantage.Default(kind)
		r.Advantage = &a
	}
	if err := decodeStrict(tree, &r, ""); err != nil {
		return Recipe{}, err
	}
	r.fit()
	return r, r.Validate()
}

// fit sets what follows from other sections: TD advantages scale log-ratios to the same reference by the same beta as the
// values do.
func (r *Recipe) fit() {
	if r.Advantage != nil && r.Reward != nil {
		r.Advantage.Beta, r.Advantage.Reference = r.Reward.Value.Beta, r.Reward.Value.Reference
	}
}

// section is a part of a recipe that checks itself.
type section struct {
	path  string
	check func() error
}

// optional is the check of a section that a recipe may leave out.
func optional[T any](given *T, check func(T) error) func() error {
	return func() error {
		if given == nil {
			return nil
		}
		return check(*given)
	}
}

func (r Recipe) sections() []section {
	return []section{
		{"prompts", r.Prompts.Validate},
		{"chat", r.Chat.Validate},
		{"tokenize", r.Tokenize.Validate},
		{"rollout", r.Rollout.Validate},
		{"label", r.Label.Validate},
		{"update", r.Update.Validate},
		{"runner", r.Runner.Validate},
		{"telemetry", r.Telemetry.Validate},
		{"policy", r.Policy.validate},
		{"reward", optional(r.Reward, Reward.validate)},
		{"reference", optional(r.Frozen, Model.validate)},
		{"pairs", optional(r.Pairs, pairs.Config.Validate)},
		{"distill", optional(r.Distill, Distill.validate)},
		{"seft", optional(r.SEFT, SEFT.validate)},
		{"mixed", optional(r.Mixed, Mixed.Validate)},
		{"target", optional(r.Target, target.LCOConfig.Validate)},
		{"advantage", optional(r.Advantage, advantage.Config.Validate)},
	}
}

// Validate names the first setting that is out of range or does not fit the others.
func (r Recipe) Validate() error {
	switch {
	case r.Kind != Policy && r.Kind != Train && r.Kind != Refresh && r.Kind != Evolve:
		return configErrorf("kind", "%q is not one of %s, %s, %s, %s", r.Kind, Policy, Train, Refresh, Evolve)
	case (r.Kind == Evolve) != (r.SEFT != nil):
		return configErrorf("seft", "this section and kind %s belong together", Evolve)
	case r.Kind == Refresh && r.Reward == nil:
		return configErrorf("reward", "is missing; a refresh trains the model of this section")
	case r.Run == "":
		return configErrorf("run", "is empty; name the directory of the run, such as runs/first")
	case r.Iterations < 1:
		return configErrorf("iterations", "%d is not at least 1", r.Iterations)
	case !(r.Limits.DeadShare >= 0 && r.Limits.DeadShare <= 1):
		return configErrorf("limits.dead_share", "%v is not in [0, 1]", r.Limits.DeadShare)
	case r.Limits.MaxRecordBytes < 1<<10:
		return configErrorf("limits.max_record_bytes", "%d is not at least 1024", r.Limits.MaxRecordBytes)
	case r.Output.Shards < 1 || r.Output.Shards > maxShards:
		return configErrorf("output.shards", "%d is not in 1..%d", r.Output.Shards, maxShards)
	case r.Evaluate.Every < 0 || r.Evaluate.Prompts < 1 || r.Evaluate.Samples < 1 || r.Evaluate.Split == "":
		return configErrorf("evaluate", "every %d, prompts %d, samples %d, split %q; want every >= 0, prompts and samples >= 1, and a split",
			r.Evaluate.Every, r.Evaluate.Prompts, r.Evaluate.Samples, r.Evaluate.Split)
	case r.Evaluate.Every > 0 && r.Evaluate.Split == r.Prompts.Split:
		return configErrorf("evaluate.split", "%q is what prompts.split trains on; held-out prompts need another split", r.Evaluate.Split)
	}
	for _, s := range r.sections() {
		if err := s.check(); err != nil {
			return &ConfigError{Path: s.path + "." + firstPath(err), Why: rest(err)}
		}
	}
	if err := r.trainable(); err != nil {
		return err
	}
	if err := r.sameVocabulary(context.Background(), false); err != nil {
		return err
	}
	if err := r.planSampling(); err != nil {
		return err
	}
	if r.Kind == Evolve {
		return r.planSEFT()
	}
	if r.Distill != nil {
		if r.Distill.ADPA != nil {
			if err := r.planStudent(); err != nil {
				return configErrorf("distill", "%v", err)
			}
		}
	}
	_, err := r.Plan()
	return err
}

// at is the recipe of one iteration, where iterations differ in kind.
func (r Recipe) at(number int) Recipe {
	r.number = number
	if r.Kind == Evolve {
		return r.seftPhase(number)
	}
	return r
}

// firstPath and rest part an error of a section, "key: why", into the key and the reason.
func firstPath(err error) string {
	key, _, ok := strings.Cut(err.Error(), ": ")
	if !ok || strings.ContainsAny(key, " \t") {
		return ""
	}
	return key
}

func rest(err error) string {
	if firstPath(err) == "" {
		return err.Error()
	}
	_, why, _ := strings.Cut(err.Error(), ": ")
	return why
}

func (r Reward) validate() error {
	if r.Path != "" || r.New != nil { // a refresh may start from the policy
		if err := r.Model.validate(); err != nil {
			return err
		}
	} else if r.Precision != kernels.Float32 {
		return errors.New("precision: belongs to a model that path or new names; without one the reward model starts as the policy, in its precision")
	}
	if err := r.Value.Validate(); err != nil {
		return fmt.Errorf("value.%w", err)
	}
	if r.Update != nil {
		if err := r.Update.Validate(); err != nil {
			return fmt.Errorf("update.%w", err)
		}
	}
	return nil
}

// Resolved is the recipe as YAML with every default filled in: what config.yaml of a run holds.
func (r Recipe) Resolved() ([]byte, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := yaml.Unmarshal(raw, &tree); err != nil { // JSON is YAML, and numbers stay whole
		return nil, err
	}
	for _, place := range []string{"run", "runner", "telemetry", "output"} { // where a run lies, on what it runs, what it tells and into how many files is no part of what it computes
		delete(tree, place)
	}
	if section, ok := tree["prompts"].(map[string]any); ok {
		delete(section, "per_record") // results do not depend on it
	}
	return yaml.Marshal(tree)
}
