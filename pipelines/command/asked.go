package command

import (
	"errors"

	"github.com/spf13/pflag"
)

// asked are the flags of jobs that have a policy answer prompts, and what it answers judged.
type asked struct {
	policy, kind      string
	samples, tokens   int
	temperature, topP float64
	template          bool
}

func (a *asked) register(f *pflag.FlagSet) {
	f.StringVar(&a.policy, "policy", "", "the model that answers (policy.path)")
	f.StringVar(&a.kind, "verifier", "math", "kind of verifier (label.verifier.kind)")
	f.IntVar(&a.samples, "samples", 8, "responses to each prompt (rollout.samples)")
	f.IntVar(&a.tokens, "max-new-tokens", 1024, "tokens of a response at most (rollout.max_new_tokens)")
	f.Float64Var(&a.temperature, "temperature", 1, "of sampling (rollout.temperature)")
	f.Float64Var(&a.topP, "top-p", 1, "nucleus that is sampled from (rollout.top_p)")
	f.BoolVar(&a.template, "chat-template", false, "put prompts into the model's chat template (chat.template)")
}

// named refuses a job without a model.
func (a *asked) named() error {
	if a.policy == "" {
		return &usageError{errors.New("name a model with --policy")}
	}
	return nil
}

// into sets the recipe of the job up.
func (a *asked) into(tree map[string]any) {
	tree["policy"] = map[string]any{"path": a.policy}
	tree["chat"] = map[string]any{"template": a.template}
	tree["rollout"] = map[string]any{"samples": a.samples, "max_new_tokens": a.tokens, "temperature": a.temperature, "top_p": a.topP}
	tree["label"] = map[string]any{"explain": true, "verifier": map[string]any{"kind": a.kind}}
}
