package update

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/optim"
	"github.com/millrace/millrace/models/transformer"
)

// Config says which losses move which model, in what steps.
type Config struct {
	Losses    []Term       `json:"losses"`
	Optimizer optim.Config `json:"optimizer"`

	// A pass over the batch is Epochs times Minibatches optimiser steps; with BatchSize the size of a step is fixed
	// instead, and with Steps their number, passing over the data as often as that takes.
	Epochs      int `json:"epochs"`
	Minibatches int `json:"minibatches"`
	BatchSize   int `json:"batch_size"` // responses (or pairs) a step; 0: the batch over Minibatches
	Steps       int `json:"steps"`      // optimiser steps; 0: Epochs passes

	// MicrobatchTokens bounds the prompt and response tokens that are in memory as activations at a time.
	MicrobatchTokens int  `json:"microbatch_tokens"`
	Recompute        bool `json:"recompute"` // recompute activations in the backward pass: less memory, more time

	// LoRA trains adapters and leaves the weights as they are; without it all weights are trained.
	LoRA *LoRA `json:"lora,omitempty"`

	Mode     string `json:"mode"`     // delta: each replica takes its own steps, the deltas are averaged; gradient: one exact step an iteration
	Replicas int    `json:"replicas"` // shards of the batch that are worked on apart
	Outer    Outer  `json:"outer"`
}

// LoRA are the adapters of an update, and how the model is saved: the adapters alone, in the layout of Hugging Face PEFT beside the
// path of the model they belong to, and the next update goes on with them; or merged into the weights, and the next update
// starts new ones, with an optimizer state of their own (ReLoRA, arXiv 2307.05695).
type LoRA struct {
	transformer.LoRA
	Merge bool `json:"merge"`
}

// Outer is the step on the averaged delta of the replicas (DiLoCo, arXiv 2311.08105, algorithm 1). Rate 1 and momentum 0
// take the average as it is.
type Outer struct {
	Rate     float64 `json:"rate"`
	Momentum float64 `json:"momentum"`
}

// Term is one loss of a weighted sum; keys besides name and weight configure the loss.
type Term struct {
	Name   string
	Weight float64
	Config map[string]any
}

// UnmarshalJSON parts the keys of the term from those of its loss.
func (t *Term) UnmarshalJSON(raw []byte) error {
	all := map[string]any{}
	if err := json.Unmarshal(raw, &all); err != nil {
		return errors.New("a loss is a section with a name, such as {name: ppo, weight: 1}")
	}
	*t = Term{Weight: 1}
	var ok bool
	if t.Name, ok = all["name"].(string); !ok {
		return errors.New("name: every loss needs one, such as {name: ppo, weight: 1}")
	}
	if w, given := all["weight"]; given {
		if t.Weight, ok = w.(float64); !ok {
			return fmt.Errorf("weight: %v is not a number", w)
		}
	}
	delete(all, "name")
	delete(all, "weight")
	t.Config = all
	return nil
}

// MarshalJSON is the inverse of UnmarshalJSON.
func (t Term) MarshalJSON() ([]byte, error) {
	all := map[string]any{"name": t.Name, "weight": t.Weight}
	for k, v := range t.Config {
		all[k] = v
	}
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

// Validate names the first key that is wrong.
func (c Config) Validate() error {
	if len(c.Losses) == 0 {
		return errors.New("losses: none is named")
	}
	if _, err := c.Loss(); err != nil {
		return fmt.Errorf("losses%w", err)
	}
	if err := c.Optimizer.Validate(); err != nil {
		return fmt.Errorf("optimizer.%w", err)
	}
	if c.LoRA != nil {
		if err := c.LoRA.Validate(); err != nil {
			return fmt.Errorf("lora.%w", err)
		}
		if c.LoRA.Merge && c.Outer.Momentum != 0 {
			return errors.New("lora.merge: every update starts new adapters, which outer.momentum of the old ones cannot move")
		}
	}
	for _, k := range []struct {
		key      string
		got, min int
	}{
		{"epochs", c.Epochs, 1}, {"minibatches", c.Minibatches, 1}, {"batch_size", c.BatchSize, 0}, {"steps", c.Steps, 0},
		{"microbatch_tokens", c.MicrobatchTokens, 1}, {"replicas", c.Replicas, 1},
	} {
		if k.got < k.min {
			return fmt.Errorf("%s: %d is not at least %d", k.key, k.got, k.min)
		}
	}
	switch {
	case c.BatchSize > 0 && c.Minibatches > 1:
		return errors.New("batch_size: set it or minibatches, not both")
	case c.Mode != Delta && c.Mode != Gradient:
		return fmt.Errorf("mode: %q is not one of %s, %s", c.Mode, Delta, Gradient)
	case c.Mode == Gradient && (c.Epochs > 1 || c.Minibatches > 1 || c.BatchSize > 0 || c.Steps > 1):
		return errors.New("mode: gradient takes one step an iteration; epochs, minibatches, batch_size and steps belong to delta")
	case !(c.Outer.Rate > 0 && c.Outer.Rate <= 2):
		return fmt.Errorf("outer.rate: %v is not in (0, 2]", c.Outer.Rate)
	case !(c.Outer.Momentum >= 0 && c.Outer.Momentum < 1):
		return fmt.Errorf("outer.momentum: %v is not in [0, 1)", c.Outer.Momentum)
	}
	return nil
}
