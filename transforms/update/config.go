package update

import (
	"encoding/json"
	"strings"

	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/optim"
	"github.com/millrace/millrace/models/transformer"

	"github.com/millrace/millrace/schemas/setting"
)

// Config says which losses move which model, in what steps.
type Config struct {
	Losses    []Term       `json:"losses" filled:"true" doc:"weighted sum that is minimised"`
	Optimizer optim.Config `json:"optimizer" doc:"AdamW"`

	// A pass over the batch is Epochs times Minibatches optimizer steps; with BatchSize the size of a step is fixed
	// instead, and with Steps their number, passing over the data as often as that takes.
	Epochs      int `json:"epochs" range:"[1,inf)" doc:"passes over the batch"`
	Minibatches int `json:"minibatches" range:"[1,inf)" doc:"optimizer steps of a pass"`
	BatchSize   int `json:"batch_size" range:"[0,inf)" doc:"responses (or pairs) a step; 0: the batch over minibatches"`
	Steps       int `json:"steps" range:"[0,inf)" doc:"optimizer steps, passing over the data as often as that takes; 0: epochs passes"`

	MicrobatchTokens int  `json:"microbatch_tokens" range:"[1,1e9]" doc:"bound of the prompt and response tokens that are in memory as activations at a time"`
	Recompute        bool `json:"recompute" doc:"recompute activations in the backward pass: less memory, more time"`

	LoRA *LoRA `json:"lora,omitempty" doc:"train adapters and leave the weights as they are; without it all weights are trained"`

	Mode     string `json:"mode" enum:"delta,gradient" doc:"delta: replicas take steps of their own, deltas are averaged by their rows; gradient: one exact step an iteration"`
	Replicas int    `json:"replicas" range:"[1,inf)" doc:"shards of the batch that are worked on apart"`
	Outer    Outer  `json:"outer" doc:"step on the averaged delta of the replicas (DiLoCo, arXiv 2311.08105, algorithm 1)"`

	External *External `json:"external,omitempty" doc:"another program takes the steps (docs/external.md); without it this one does"`
}

// SetDefaults is one pass in one step on one replica; the losses have to be named.
func (c *Config) SetDefaults() { *c = Default() }

// LoRA are the adapters of an update, and how the model is saved: the adapters alone, in the layout of Hugging Face PEFT beside the
// path of the model they belong to, and the next update goes on with them; or merged into the weights, and the next update
// starts new ones, with an optimizer state of their own (ReLoRA, arXiv 2307.05695).
type LoRA struct {
	transformer.LoRA
	Merge bool `json:"merge" doc:"merge the adapters into the weights after every update, and start new ones (ReLoRA, arXiv 2307.05695)"`
}

// External has another program take the steps of an update: it is given the batch with a task, and leaves a checkpoint
// (docs/external.md). Either it is started for every iteration, or it watches the directory.
type External struct {
	Command []string `json:"command,omitempty" doc:"program and arguments that do one update; the path of task.json is added"`
	Watch   bool     `json:"watch,omitempty" doc:"start nothing: a trainer that runs already watches the directory for task.json"`
	Dir     string   `json:"dir,omitempty" doc:"where tasks are left, on a file system that the trainer shares; none: handover in the run's directory"`
	Seconds float64  `json:"timeout_seconds" range:"(0,1e9]" doc:"seconds that an update may take; then the iteration fails, and the next call waits again"`
}

// SetDefaults waits for a day.
func (e *External) SetDefaults() { *e = External{Seconds: 24 * 60 * 60} }

// Validate checks that somebody is told of a task.
func (e External) Validate() error {
	switch {
	case len(e.Command) > 0 && e.Watch:
		return setting.Errorf("watch", "is set and so is command; want one of them")
	case len(e.Command) > 0 && e.Command[0] == "":
		return setting.Errorf("command", "begins with an empty word; give the program and its arguments as a list")
	case len(e.Command) == 0 && !e.Watch:
		return setting.Errorf("command", "is empty; give the program and its arguments as a list, or set watch for a trainer that runs already")
	case strings.Contains(e.Dir, "://"):
		return setting.Errorf("dir", "%s is in a bucket; a trainer is given files, so name a directory of a file system", e.Dir)
	}
	return nil
}

// Outer is the step on the averaged delta of the replicas (DiLoCo, arXiv 2311.08105, algorithm 1). Rate 1 and momentum 0
// take the average as it is.
type Outer struct {
	Rate     float64 `json:"rate" range:"(0,2]" doc:"1: take the average as it is"`
	Momentum float64 `json:"momentum" range:"[0,1)" doc:"of the averaged deltas"`
}

// Term is one loss of a weighted sum; keys besides name and weight configure the loss.
type Term struct {
	Name   string
	Weight float64
	Config map[string]any
}

// termKeys are the keys of a term that are not its loss's.
type termKeys struct {
	Name   string  `json:"name"`
	Weight float64 `json:"weight" range:"[0,inf)" doc:"of the loss in the sum; 0: it is not evaluated"`
}

// DecodeSetting parts the keys of the term from those of its loss.
func (t *Term) DecodeSetting(tree any, path string) error {
	all, ok := tree.(map[string]any)
	if !ok {
		return setting.Errorf(path, "a loss is a section with a name, such as {name: ppo, weight: 1}")
	}
	own := termKeys{Weight: 1}
	shared, rest := map[string]any{}, map[string]any{}
	for key, value := range all {
		if key == "name" || key == "weight" {
			shared[key] = value
		} else {
			rest[key] = value
		}
	}
	if err := setting.Decode(shared, &own, path); err != nil {
		return err
	}
	if own.Name == "" {
		return setting.Errorf(setting.Join(path, "name"), "every loss needs one, such as {name: ppo, weight: 1}")
	}
	if _, err := losses.New(own.Name, rest); err != nil {
		return setting.In(path, err)
	}
	*t = Term{Name: own.Name, Weight: own.Weight, Config: rest}
	return nil
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (t *Term) UnmarshalJSON(raw []byte) error {
	var all map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	return t.DecodeSetting(all, "")
}

// SettingSchema describes the losses by name.
func (t *Term) SettingSchema() *setting.Schema {
	s := losses.Schema()
	weight := setting.SchemaOf(termKeys{Weight: 1}).Properties["weight"]
	s.Properties["weight"], s.Order = weight, append(s.Order, "weight")
	for _, loss := range s.OneOf {
		loss.Properties["weight"] = weight // a loss takes no keys but those it names
	}
	return s
}

// MarshalJSON is the inverse of UnmarshalJSON. It writes the defaults of the loss too: what a run computed stays readable when a default
// changes.
func (t Term) MarshalJSON() ([]byte, error) {
	all, err := losses.Settings(t.Name, t.Config)
	if err != nil {
		return nil, err
	}
	all["name"], all["weight"] = t.Name, t.Weight
	return json.Marshal(all)
}

// Modes of an update.
const (
	Delta    = "delta"
	Gradient = "gradient"
)

// Default is one pass in one step on one replica; the losses have to be named.
func Default() Config {
	return Config{
		Optimizer: optim.Default(), Epochs: 1, Minibatches: 1, MicrobatchTokens: 16384,
		Mode: Delta, Replicas: 1, Outer: Outer{Rate: 1},
	}
}

// Loss builds the weighted sum of the terms.
func (c Config) Loss() (losses.Loss, error) {
	terms := make([]losses.Term, len(c.Losses))
	for i, t := range c.Losses {
		terms[i] = losses.Term(t)
	}
	return losses.Build(terms)
}

// Needed checks that there is something to minimise: the section of an update that a run does not make may stay empty.
func (c Config) Needed() error {
	if len(c.Losses) == 0 {
		return setting.Errorf("losses", "none is named; list losses, such as {name: ppo}")
	}
	return nil
}

// Validate names the first key that is wrong.
func (c Config) Validate() error {
	if len(c.Losses) > 0 { // without any nothing can be trained, which Needed says where something is
		if _, err := c.Loss(); err != nil {
			return setting.In("losses", err)
		}
	}
	if c.LoRA != nil {
		if c.LoRA.Merge && c.Outer.Momentum != 0 {
			return setting.Errorf("lora.merge", "every update starts new adapters, which outer.momentum of the old ones cannot move")
		}
	}
	switch {
	case c.Steps > 0 && c.Epochs > 1:
		return setting.Errorf("epochs", "is not read beside steps, which pass over the batch as often as they take; leave one of them out")
	case c.BatchSize > 0 && c.Minibatches > 1:
		return setting.Errorf("batch_size", "set it or minibatches, not both")
	case c.Mode == Gradient && (c.Epochs > 1 || c.Minibatches > 1 || c.BatchSize > 0 || c.Steps > 1):
		return setting.Errorf("mode", "gradient takes one step an iteration; epochs, minibatches, batch_size and steps belong to delta")
	}
	return nil
}
