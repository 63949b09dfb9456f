package recipe

import (
	"fmt"
	"slices"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/importance"
)

// SampledElsewhere reports whether another engine samples than the one that is trained, so that its log-probs are not the trainer's.
func (r Recipe) SampledElsewhere() bool { return r.Rollout.Engine != nil }

// Imported are the log-probs of the rows that the source brings, where importance weights correct for what has sampled them: the column,
// and what they are; false where there are none.
func (r Recipe) Imported() (column string, defined schemas.LogPDefinition, ok bool) {
	if r.Importance == nil || r.Rollout.Engine != nil || !r.Prompts.Answers() {
		return "", defined, false
	}
	for _, d := range []schemas.Descriptor{schemas.SamplerLogP, schemas.OldLogP} {
		if r.Prompts.Brings(d) {
			column = d.Describe().Name
			return column, r.Prompts.Contract().Writes[column], true
		}
	}
	return "", defined, false
}

// SampledFrom is the distribution that an update's responses are samples of, where importance weights correct for it.
func (r Recipe) SampledFrom() schemas.LogPDefinition {
	if _, defined, ok := r.Imported(); ok {
		return defined
	}
	out := schemas.FullLogP("").At(r.Temperature())
	if p := r.Rollout.TopP; p > 0 && p < 1 {
		out.TopP = models.Written(p)
	}
	out.TopK = r.Rollout.TopK
	return out
}

// linear are the losses that are linear in the advantages of tokens, and those that read none: what a weight multiplies there is the loss
// of a token (algorithms.md 4.9).
var linear = []string{"ppo", "cispo", "reinforce", "distrl", "gspo", "reference_kl", "entropy", "value", "outcome_value", "sft"}

// elsewhere holds an engine and its weights to the rest of the recipe.
func (r Recipe) elsewhere() error {
	engine := r.Rollout.Engine
	switch {
	case engine == nil && r.Importance == nil:
		return nil
	case engine == nil && r.Kind != "policy" && r.Kind != "train":
		return nil // whose section importance is nobody's
	case engine == nil:
		if err := r.imported(); err != nil {
			return err
		}
	case r.Kind != "policy":
		return setting.Errorf("rollout.engine", "is read by kind policy, which gives it new weights; name an endpoint as policy.path here")
	case r.Prompts.Answers():
		return setting.Errorf("rollout.engine", "nothing is sampled: the source of prompts brings responses")
	case r.Policy.New != nil:
		return setting.Errorf("policy.new", "the server cannot have random weights that the run draws; name a model directory")
	case r.Mixed != nil && r.Mixed.Backfill != nil && engine.MaxStaleness > 0:
		return setting.Errorf("mixed.backfill", "rounds of one iteration go by one policy; leave rollout.engine.max_staleness at 0")
	}
	switch {
	case r.Importance == nil:
		return nil
	case r.Advantage == nil && !r.Prompts.Brings(schemas.Advantage):
		return setting.Errorf("importance", "weighs advantages, and there are none: want section advantage in a run of kind policy, or rows of "+
			"runs that bring them (prompts.batch.columns: [advantage])")
	}
	for i, l := range r.Update.Losses {
		at := fmt.Sprintf("update.losses[%d]", i)
		if !slices.Contains(linear, l.Name) {
			return setting.Errorf(at, "%s is not linear in the advantages, which importance weights multiply; it goes with none", l.Name)
		}
		if l.Name == "gspo" && r.Importance.Level == importance.Token {
			return setting.Errorf("importance.level", "token: loss gspo takes a response as a whole; want sequence or geometric")
		}
	}
	return nil
}

// imported holds weights of rows that the source brings to what it says of them.
func (r Recipe) imported() error {
	_, defined, ok := r.Imported()
	section := "prompts." + r.Prompts.Source
	switch {
	case !r.Prompts.Answers():
		return setting.Errorf("importance", "nothing else than the policy samples; rollout.engine names a server that does, and a source of "+
			"prompts may bring responses with their log-probs")
	case !ok:
		return setting.Errorf("importance", "the rows have no log-probs of what sampled them; want token ids and log-probs "+
			"(prompts.file.fields: response_tokens, logprobs), or rows of runs (prompts.source: batch)")
	case !defined.Known():
		return setting.Errorf(section+".logprobs", "is missing: importance weights are ratios to the distribution that the responses are "+
			"samples of, and nobody says what their log-probs are; want {} for raw ones of temperature 1, or what they were processed by, such as "+
			"{temperature: 0.7, top_p: 0.9}")
	case r.Prompts.Brings(schemas.Advantage) && r.Prompts.Brings(schemas.CandidateAdvantage):
		return setting.Errorf(section+".columns", "candidate_advantage: advantages of candidates that rows bring are not weighed; want section "+
			"advantage in a run of kind policy, which makes them anew")
	case r.Advantage != nil && r.Prompts.Brings(schemas.Advantage):
		return setting.Errorf(section+".columns", "advantage: section advantage makes them anew; leave one of both out")
	}
	return nil
}
