package preflight

import (
	"context"
	"errors"

	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/prompts"
)

// Lengths measures the texts of the recipe's source in the tokens of its policy: nothing where the policy is not there yet.
func Lengths(ctx context.Context, r recipe.Recipe) (chain.Lengths, error) {
	found, err := prompts.Inspect(ctx, r.Prompts)
	if err != nil {
		return chain.Lengths{}, setting.In("prompts", err)
	}
	var quiet Report
	err = quiet.measure(ctx, r, found)
	return quiet.Lengths, err
}

// measure encodes the examples of the sources as a run would, and notes those that have no tokens, or too many.
func (out *Report) measure(ctx context.Context, r recipe.Recipe, found []prompts.Findings) error {
	tok, err := chain.Vocabulary(ctx, r.Policy, true)
	if err != nil || tok == nil {
		return nil // who needs the policy says what is wrong with it
	}
	prompter, err := tokenizer.NewPrompter(tok, r.Chat)
	if errors.Is(err, tokenizer.ErrNoTemplate) {
		return setting.Errorf("chat.template", "%v", err)
	} else if err != nil {
		return setting.In("chat", err)
	}
	var l chain.Lengths
	tokens, responses, responseTokens := 0, 0, 0
	for _, f := range found {
		bad, long, fault := 0, 0, error(nil)
		for _, x := range f.Examples {
			ids, err := prompter.Encode(x.Prompt, x.Messages)
			if err != nil {
				bad, fault = bad+1, err
				continue
			}
			if chain.Samples(r) && len(ids) > r.Rollout.MaxPromptTokens {
				long++
				continue
			}
			l.Prompts++
			tokens += len(ids)
			l.Longest = max(l.Longest, len(ids))
			for _, text := range x.Responses {
				if ids, err := tok.Encode(text); err == nil && !chain.Samples(r) {
					responses++
					responseTokens += min(len(ids), r.Tokenize.MaxTokens)
				}
			}
		}
		n := len(f.Examples)
		if bad > 0 {
			out.note("%s: %d of %d prompts looked at cannot be put to the policy, such as: %v", f.Source, bad, n, fault)
		}
		if long > 0 {
			out.note("%s: %d of %d prompts looked at are longer than rollout.max_prompt_tokens (%d)", f.Source, long, n, r.Rollout.MaxPromptTokens)
		}
		if bad+long == n && n > 0 && r.Limits.DeadShare < 1 {
			if long > 0 {
				return setting.Errorf("rollout.max_prompt_tokens", "no prompt of %s that was looked at has so few tokens", f.Source)
			}
			return setting.Errorf("policy", "no prompt of %s that was looked at can be put to the policy: %v", f.Source, fault)
		}
	}
	if l.Prompts > 0 {
		l.PromptTokens, l.Responses = float64(tokens)/float64(l.Prompts), float64(responses)/float64(l.Prompts)
	}
	if responses > 0 {
		l.ResponseTokens = float64(responseTokens) / float64(responses)
	}
	out.Lengths = l
	return nil
}
