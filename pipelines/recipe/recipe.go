// Package recipe is what a run is asked to do, as data: the sections of a YAML file, their defaults, and what is wrong with them.
// It opens nothing and runs nothing. What a kind of run makes of a recipe is in package method.
package recipe

import (
	"encoding/json"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/advantage"
	"github.com/millrace/millrace/transforms/importance"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/pairs"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/rollout"
	"github.com/millrace/millrace/transforms/target"
	"github.com/millrace/millrace/transforms/tokenize"
	"github.com/millrace/millrace/transforms/update"
	"github.com/millrace/millrace/transforms/value"
)

// Recipe is everything a run depends on. A section is the configuration of the stage, or of the part of the run, that reads it;
// what a recipe leaves out keeps its default. Sections that other modules have registered are in Extra.
type Recipe struct {
	Kind       string `json:"kind" doc:"what the run does"`
	Run        string `json:"run" filled:"true" doc:"directory of the run, on this machine or in a bucket"`
	Seed       uint64 `json:"seed" doc:"of everything random"`
	Iterations int    `json:"iterations" range:"[1,1e9]" doc:"iterations of the run, each a commit"`

	Prompts  prompts.Config      `json:"prompts" doc:"where prompts come from, and how many an iteration takes"`
	Tokenize tokenize.Config     `json:"tokenize" doc:"of sources that bring responses as text"`
	Chat     tokenizer.Prompting `json:"chat" doc:"how prompts are put to the models"`
	Policy   Model               `json:"policy" doc:"the model that answers, and that most kinds train"`
	Rollout  rollout.Config      `json:"rollout" doc:"how responses are sampled"`
	// Importance weighs what another engine sampled.
	Importance *importance.Config `json:"importance,omitempty" doc:"weights of tokens that another engine sampled than the one that is trained (TIS, masks)"`

	Label        label.Config  `json:"label" doc:"how responses are judged"`
	Audit        *label.Audit  `json:"audit,omitempty" doc:"a second verifier that reads a share of the responses, to tell a reward that is gamed"`
	Rewards      []label.Part  `json:"rewards,omitempty" doc:"parts of the reward that a policy update goes by; without any it is the outcome"`
	Reward       *Reward       `json:"reward,omitempty" doc:"the reward model, and what its values are"`
	RewardModels []RewardModel `json:"reward_models,omitempty" doc:"reward models that score beside that of section reward, each with columns of its own"`
	Reference    *Model        `json:"reference,omitempty" doc:"a frozen reference model; without one it is the policy that the run started from"`

	Distill   *Distill          `json:"distill,omitempty" doc:"the teachers of a student"`
	SEFT      *SEFT             `json:"seft,omitempty" doc:"the revisers of an evolution"`
	Mixed     *Mixed            `json:"mixed,omitempty" doc:"learn only from groups of mixed outcomes"`
	Pairs     *pairs.Config     `json:"pairs,omitempty" doc:"preference pairs, for losses that compare two responses"`
	Advantage *advantage.Config `json:"advantage,omitempty" doc:"what a token is pushed by"`
	Target    *target.LCOConfig `json:"target,omitempty" doc:"advantages over the vocabulary, for the lco losses' form dense"`
	Update    update.Config     `json:"update" doc:"losses and optimizer steps"`
	Evaluate  Evaluate          `json:"evaluate" doc:"how a policy is measured on held-out prompts"`
	Gate      Gate              `json:"gate" doc:"whether a trained reward model may serve"`
	Limits    Limits            `json:"limits" doc:"what a run puts up with"`
	Output    Output            `json:"output" doc:"how an iteration keeps its rows"`
	Retain    *Keep             `json:"keep,omitempty" doc:"which iterations keep their models; without it all do"`
	Runner    runners.Config    `json:"runner" doc:"where pipelines run"`
	Telemetry telemetry.Config  `json:"telemetry" doc:"what the run tells about itself"`
	Keep      bool              `json:"keep_exchange" doc:"keep materialised edges after the commit"`

	// Extra are the sections of other modules, by key: values of the types they were registered with.
	Extra map[string]any `json:"-"`

	given map[string]any // the tree that the recipe was decoded from
}

// Reward is the reward model of a recipe. Without path and new it starts as the policy.
type Reward struct {
	Model
	Value   value.Config   `json:"value" doc:"what the model's values are made of"`
	Steps   string         `json:"steps,omitempty" enum:",lines,blocks,given" doc:"values of every step too: a step is a line of the response, a block up to the next blank line, or given by the rows or their judge (step_ends); empty: of tokens alone"`
	Update  *update.Config `json:"update,omitempty" doc:"train it on every batch before it scores the batch; without it the model stays as it is"`
	Refresh *Refresh       `json:"refresh,omitempty" doc:"train it again every so many iterations on the last batches, and take what results where it passes a gate"`
}

// Evaluate says how a policy is measured on held-out prompts.
type Evaluate struct {
	Every   int             `json:"every" range:"[0,inf)" doc:"iterations between evaluations; the start and the end are always evaluated; 0: never"`
	Prompts int             `json:"prompts" range:"[1,2147483647]" doc:"held-out prompts"`
	Split   string          `json:"split" doc:"of the source of prompts; not the one that is trained on"`
	Samples int             `json:"samples" range:"[1,65536]" doc:"responses a prompt"`
	Sets    []EvaluationSet `json:"sets,omitempty" doc:"further sets, each measured with every evaluation"`
	Best    string          `json:"best,omitempty" doc:"the set by whose accuracy best.json names the best iteration; empty: the held-out prompts"`
}

// Gate decides whether a trained reward model may serve.
type Gate struct {
	// Margin is compared with Best-of-N above the mean accuracy where prompts have several responses (and then by more than two
	// standard errors), else with the area under the curve of the last prefix value above one half.
	Margin float64 `json:"margin" range:"[-1,1]" doc:"by how much the model must rank better than chance on held-out prompts; negative: no gate"`
}

// Limits bound what a run puts up with.
type Limits struct {
	DeadShare float64 `json:"dead_share" range:"[0,1]" doc:"an iteration with a larger share of dead rows fails, of the rows of a source or of those a stage was given"`
	// RepeatedShare is held against sources before anything runs; a run that has sampled never ends for it.
	RepeatedShare float64 `json:"repeated_share,omitempty" range:"[0,1]" doc:"a source of whose rows a larger share repeats a prompt is refused before anything runs; 0: no limit"`
	Idle          int     `json:"idle" range:"[0,1e9]" doc:"the run fails when an update has learned nothing (no row, or gradients of 0) in as many iterations in a row; 0: never"`
	// KL is held against the mean over the steps of an iteration of what losses ppo and reference_kl measure.
	KL float64 `json:"kl" range:"[0,1e6]" doc:"the run ends when the policy's KL to the one that sampled, or to the reference, is above it in an iteration; 0: no limit"`
	// Against collapse, and a reward that is gamed. Without them alarms ring, and the run goes on.
	EchoShare      float64 `json:"echo_share,omitempty" range:"[0,1]" doc:"the run ends when a larger share of an iteration's responses holds no token beyond those of its prompt; 0: no limit"`
	TruncatedShare float64 `json:"truncated_share,omitempty" range:"[0,1]" doc:"the run ends when a larger share of an iteration's responses is cut off at rollout.max_new_tokens before it ends; 0: no limit"`
	Entropy        float64 `json:"entropy,omitempty" range:"[0,1e6]" doc:"the run ends when the policy's entropy, in nats a token, is below it; 0: no limit"`
	LengthFactor   float64 `json:"length_factor,omitempty" range:"[0,1e6]" doc:"the run ends when responses are by more than this factor longer or shorter than in the first iteration; 0: no limit"`
	MaxRecordBytes int     `json:"max_record_bytes" range:"[1024,inf)" doc:"a larger prompt group is set aside"`
	// Memory is of the machine, not of what is computed, so config.yaml is without it: a run may go on with another limit.
	Memory Bytes `json:"memory,omitempty" doc:"the run ends when more of this process is resident, rather than swap; its iteration is done again by the next call; on Linux; 0: no limit"`
}

// Output says how an iteration keeps its rows.
type Output struct {
	// Shards: the rows are the same whatever the number, and so is what is computed of them.
	Shards int `json:"shards" range:"[1,256]" doc:"files that rows are divided over by their prompts, each written by a worker"`
}

// Mixed says which prompt groups an update learns from, and how many more prompts are sampled where too few are such.
type Mixed struct {
	label.MixedConfig
	Backfill *Backfill `json:"backfill,omitempty" doc:"sample further prompts until enough groups are kept"`
}

// Backfill is dynamic sampling (DAPO, arXiv 2503.14476, section 3.2) as a bounded loop: an iteration samples rounds of
// prompts.count prompts until Groups groups are kept, but not more than Rounds. What the last round brings beyond is
// dropped, in the order of prompt ids, so that every update learns from as many groups. The next iteration goes on in the
// source where this one ended. After the last round the update learns from what there is.
type Backfill struct {
	Groups int `json:"groups" range:"[1,inf)" doc:"groups that an update learns from"`
	Rounds int `json:"rounds" range:"[1,inf)" doc:"rounds of sampling at most"`
}

// SetDefaults keeps groups of mixed outcomes.
func (m *Mixed) SetDefaults() { *m = Mixed{MixedConfig: label.DefaultMixed()} }

// SetDefaults takes at most 4 rounds.
func (b *Backfill) SetDefaults() { *b = Backfill{Groups: 16, Rounds: 4} }

// SetDefaults values as IPVRM does.
func (r *Reward) SetDefaults() { *r = Reward{Value: value.Default("ipvrm")} }

// Default is what a recipe starts from.
func Default() Recipe {
	return Recipe{
		Kind: "policy", Iterations: 1,
		Prompts: prompts.Default(), Tokenize: tokenize.Default(), Rollout: rollout.Default(), Label: label.Default("math"),
		Update: update.Default(), Evaluate: Evaluate{Every: 20, Prompts: 100, Split: "test", Samples: 8},
		Gate: Gate{Margin: 0.1}, Limits: Limits{DeadShare: 0.01, Idle: 5, MaxRecordBytes: 8 << 20}, Output: Output{Shards: 1},
		Runner: runners.Default(), Telemetry: telemetry.Default(),
	}
}

// Given reports whether the file that the recipe was read from says something under the path, such as "rollout" or
// "rollout.candidate_k". Of a recipe made in a program nothing was given.
func (r Recipe) Given(path ...string) bool {
	var node any = r.given
	for _, key := range path {
		section, ok := node.(map[string]any)
		if !ok {
			return false
		}
		if node, ok = section[key]; !ok {
			return false
		}
	}
	return true
}

// Sections lists the top-level keys that the file of the recipe has.
func (r Recipe) Sections() []string { return slices.Sorted(maps.Keys(r.given)) }

// Validate checks what does not depend on the kind.
func (r Recipe) Validate() error {
	if r.Run == "" {
		return setting.Errorf("run", "is empty; name the directory of the run, such as runs/first")
	}
	for _, key := range slices.Sorted(maps.Keys(r.Extra)) {
		if err := setting.Check(r.Extra[key]); err != nil {
			return setting.In(key, err)
		}
	}
	if r.Reference != nil {
		if err := r.Reference.Named(); err != nil {
			return setting.In("reference", err)
		}
	}
	if r.SEFT != nil && r.SEFT.Source != nil {
		if err := r.SEFT.Source.Named(); err != nil {
			return setting.In("seft.source", err)
		}
	}
	return r.contradictions()
}

// RewardStart is the model that the reward model's training starts from.
func (r Recipe) RewardStart() Model {
	if r.Reward == nil || r.Reward.Path == "" && r.Reward.New == nil {
		return r.Policy
	}
	return r.Reward.Model
}

// Backfill is the recipe's, nil where it has none.
func (r Recipe) Backfill() *Backfill {
	if r.Mixed == nil {
		return nil
	}
	return r.Mixed.Backfill
}

// Resolved is the recipe as YAML with its defaults filled in: what config.yaml of a run holds. Where a run lies, on what it runs,
// what it tells and into how many files is no part of what it computes; nor is what drop names, settings that the run does not
// read, by their paths.
func (r Recipe) Resolved(drop ...[]string) ([]byte, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := yaml.Unmarshal(raw, &tree); err != nil { // JSON is YAML, and numbers stay whole
		return nil, err
	}
	for key, section := range r.Extra {
		raw, err := json.Marshal(section)
		if err != nil {
			return nil, setting.In(key, err)
		}
		var part any
		if err := yaml.Unmarshal(raw, &part); err != nil {
			return nil, setting.In(key, err)
		}
		tree[key] = part
	}
	drop = append(drop, []string{"run"}, []string{"runner"}, []string{"telemetry"}, []string{"output"}, []string{"prompts", "per_record"})
	for _, path := range drop {
		section := tree
		for _, key := range path[:len(path)-1] {
			section, _ = section[key].(map[string]any)
		}
		delete(section, path[len(path)-1])
	}
	return yaml.Marshal(withoutNulls(tree))
}

// withoutNulls takes out keys without a value: a list that is empty, say, is left out of a recipe.
func withoutNulls(tree map[string]any) map[string]any {
	for key, value := range tree {
		switch v := value.(type) {
		case nil:
			delete(tree, key)
		case map[string]any:
			withoutNulls(v)
		case []any:
			for _, item := range v {
				if section, ok := item.(map[string]any); ok {
					withoutNulls(section)
				}
			}
		}
	}
	return tree
}
