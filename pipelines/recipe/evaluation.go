package recipe

import (
	"fmt"
	"regexp"

	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/prompts"
)

// EvaluationSet is a named set of prompts that a policy is measured on beside the held-out ones. What it leaves out is as the recipe
// has it.
type EvaluationSet struct {
	Name         string                `json:"name" doc:"of the set: its accuracy is the metric set/NAME/avg@k"`
	Source       *prompts.Config       `json:"prompts,omitempty" doc:"a source of its own"`
	Split        string                `json:"split" doc:"of the source"`
	Count        int                   `json:"count" range:"[1,2147483647]" doc:"prompts"`
	Samples      int                   `json:"samples" range:"[1,65536]" doc:"responses a prompt"`
	Verifier     *label.VerifierConfig `json:"verifier,omitempty" doc:"judges in the place of label.verifier, such as that of the audit"`
	Temperature  *float32              `json:"temperature,omitempty" range:"[0,inf)" doc:"of sampling; 0: greedy"`
	TopP         *float32              `json:"top_p,omitempty" range:"(0,1]" doc:"nucleus of sampling"`
	MaxNewTokens int                   `json:"max_new_tokens,omitempty" range:"[0,inf)" doc:"tokens of a response at most; 0: those of rollout"`
}

// SetDefaults takes a response to each of 100 prompts of split test.
func (s *EvaluationSet) SetDefaults() { *s = EvaluationSet{Split: "test", Count: 100, Samples: 1} }

var setName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// Validate names the first key that is wrong.
func (s EvaluationSet) Validate() error {
	if !setName.MatchString(s.Name) {
		return setting.Errorf("name", "%q; want a name of letters, digits, _, . and -", s.Name)
	}
	if s.Source != nil {
		if c, ok := s.Source.Of.(prompts.Splitter); ok {
			return c.CheckSplit(s.Split)
		}
	}
	return nil
}

// On is the recipe on the set, as evaluations read it.
func (s EvaluationSet) On(r Recipe) Recipe {
	if s.Source != nil {
		r.Prompts = *s.Source
	}
	r.Evaluate.Split, r.Evaluate.Prompts, r.Evaluate.Samples = s.Split, s.Count, s.Samples
	if s.Verifier != nil {
		r.Label.Verifier = *s.Verifier
	}
	if t := s.Temperature; t != nil {
		r.Rollout.Temperature, r.Rollout.Greedy = *t, *t == 0
	}
	if s.TopP != nil {
		r.Rollout.TopP = *s.TopP
	}
	if s.MaxNewTokens > 0 {
		r.Rollout.MaxNewTokens = s.MaxNewTokens
	}
	return r
}

// HeldOutName is the set of held-out prompts that section evaluate names.
const HeldOutName = "held_out"

// evaluated holds the sets to each other.
func (r Recipe) evaluated() error {
	names := map[string]bool{"": true, HeldOutName: true}
	for i, s := range r.Evaluate.Sets {
		at := fmt.Sprintf("evaluate.sets[%d]", i)
		if names[s.Name] {
			return setting.Errorf(at+".name", "%q is the name of another set", s.Name)
		}
		names[s.Name] = true
		if s.Source == nil {
			if c, ok := r.Prompts.Of.(prompts.Splitter); ok {
				if err := c.CheckSplit(s.Split); err != nil {
					return setting.In(at, err)
				}
			}
			if s.Split == r.Prompts.Split && r.Measures() {
				return setting.Errorf(at+".split", "%q is what prompts.split trains on; name another split, or a source (prompts)", s.Split)
			}
		}
	}
	if !names[r.Evaluate.Best] {
		return setting.Errorf("evaluate.best", "there is no set %q", r.Evaluate.Best)
	}
	return nil
}
