package recipe

import (
	"slices"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/schemas/setting"
)

// learnsFromSamples reports whether the policy's update takes its own new samples for those of its distribution. The distillation
// of kind opd does where it goes by advantages; its full form reads every state as it is.
func (r Recipe) learnsFromSamples() (loss losses.Loss, ok bool) {
	if r.Kind != "policy" && r.Kind != "opd" || r.Prompts.Answers() {
		return nil, false
	}
	loss, err := r.Update.Loss()
	if err != nil {
		return nil, false // which Check has said
	}
	if r.Kind == "opd" && !loss.Spec().Reads(losses.Advantage) {
		return nil, false
	}
	return loss, slices.Contains(loss.Spec().Roles, losses.Sample)
}

// Temperature is the one that the policy's update reads log-probs at, that of the rollouts (algorithms.md 4.7); 0 where it is 1
// or the update does not learn from the policy's own samples.
func (r Recipe) Temperature() float64 {
	if _, defined, ok := r.Imported(); ok {
		if defined.Temperature == 1 {
			return 0
		}
		return defined.Temperature
	}
	if _, ok := r.learnsFromSamples(); !ok || r.Rollout.Temperature == 1 {
		return 0
	}
	return models.Written(r.Rollout.Temperature)
}

// onPolicy refuses ways of sampling that change the distribution otherwise than by the temperature: the update would take the
// responses for samples of the policy, and its gradient would be that of another objective. The full form of kind opd is one over the
// states that the student reaches, which have to be its own as well.
func (r Recipe) onPolicy() error {
	loss, ok := r.learnsFromSamples()
	if !ok && (r.Kind != "opd" || r.Prompts.Answers()) {
		return nil
	}
	corrected := r.Importance != nil // the weights are of what the engine sampled from
	const why = "the update learns from the responses as samples of the policy, and they would be of another distribution"
	s := r.Rollout.Sampling
	switch {
	case s.Greedy:
		return setting.Errorf("rollout.greedy", "%s: greedy responses are all alike; leave it out", why)
	case s.TopP != 0 && s.TopP != 1 && !corrected:
		return setting.Errorf("rollout.top_p", "%v: %s; leave it out, and sample by rollout.temperature", s.TopP, why)
	case s.TopK != 0 && !corrected:
		return setting.Errorf("rollout.top_k", "%d: %s; leave it out, and sample by rollout.temperature", s.TopK, why)
	case s.MinNewTokens != 0:
		return setting.Errorf("rollout.min_new_tokens", "%d: %s; leave it out", s.MinNewTokens, why)
	case !ok:
		return nil // the teacher and the student are compared at temperature 1, wherever the states come from
	case r.Temperature() != 0 && loss.Spec().Reads(losses.TeacherProb):
		return setting.Errorf("rollout.temperature", "%v: a policy gradient reads the student at the temperature of sampling, loss opd at 1, "+
			"and update.losses sums both; sample at temperature 1", s.Temperature)
	case r.Temperature() != 0 && len(loss.Spec().Roles) > 1:
		return setting.Errorf("rollout.temperature", "%v: log-probs of samples are read at the temperature of sampling, those of pairs at 1, "+
			"and update.losses sums losses of both; sample at temperature 1", s.Temperature)
	}
	return nil
}

// klMeasured refuses a limit on what nothing measures.
func (r Recipe) klMeasured() error {
	if r.Limits.KL == 0 {
		return nil
	}
	measured := false
	for _, t := range r.Update.Losses {
		l, err := losses.New(t.Name, t.Config)
		if _, ok := l.(losses.MeasuresKL); !ok || err != nil || t.Weight == 0 || r.Kind != "policy" && r.Kind != "opd" {
			continue
		}
		if measured = true; t.Name == "reference_kl" {
			return nil
		}
	}
	u := r.Update
	switch {
	case !measured:
		return setting.Errorf("limits.kl", "nothing here measures the KL of a policy; runs of kind policy and opd do whose update.losses hold "+
			"ppo, gspo, cispo or reference_kl")
	case u.BatchSize == 0 && u.Minibatches == 1 && (u.Epochs == 1 && u.Steps == 0 || u.Steps == 1):
		return setting.Errorf("limits.kl", "the KL to the policy that sampled is taken before each step, and an iteration takes one, where it "+
			"is 0; set update.minibatches or epochs, or add loss reference_kl")
	}
	return nil
}
