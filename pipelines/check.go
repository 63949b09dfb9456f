package pipelines

import (
	"context"
	"slices"
	"strings"

	"github.com/millrace/millrace/models/remote"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/value"
)

// place is a model of a recipe and where the recipe names it.
type place struct {
	path  string
	model *Model
}

// places lists the models that a recipe names, the policy first.
func (r Recipe) places() []place {
	out := []place{{"policy", &r.Policy}}
	if r.Reward != nil && (r.Reward.Path != "" || r.Reward.New != nil) {
		out = append(out, place{"reward", &r.Reward.Model})
	}
	if r.Frozen != nil {
		out = append(out, place{"reference", r.Frozen})
	}
	if r.Distill != nil {
		out = append(out, place{"distill.teacher", &r.Distill.Teacher})
		if r.Distill.Reference != nil {
			out = append(out, place{"distill.reference", r.Distill.Reference})
		}
	}
	if r.SEFT != nil && r.SEFT.Source != nil {
		out = append(out, place{"seft.source", r.SEFT.Source})
	}
	return out
}

// sameVocabulary checks that token ids mean to every model of the recipe what they mean to the policy: what one has sampled
// another scores, token by token. Models that an earlier run has yet to write, and those in buckets, are checked when the
// run starts.
func (r Recipe) sameVocabulary(ctx context.Context, buckets bool) error {
	places := r.places()
	policy, err := places[0].model.vocabulary(ctx, buckets)
	if err != nil {
		return configErrorf("policy", "%v", err)
	}
	if policy == nil {
		return nil
	}
	digest := tokenizer.VocabDigest(policy)
	for _, p := range places[1:] {
		if p.model.Path != "" && p.model.Path == r.Policy.Path {
			continue
		}
		tok, err := p.model.vocabulary(ctx, buckets)
		if err != nil {
			return configErrorf(p.path, "%v", err)
		}
		if tok != nil && tokenizer.VocabDigest(tok) != digest {
			return configErrorf(p.path, "has another vocabulary (%d tokens) than the policy (%d tokens): the ids of one model's tokens mean other texts to the other, so its log-probs would be of other responses; use models of the same tokenizer",
				tok.VocabSize(), policy.VocabSize())
		}
	}
	return nil
}

// trainable checks that what is trained is on this machine.
func (r Recipe) trainable() error {
	const why = "an endpoint cannot be trained; name the model's directory"
	trainsPolicy := r.Kind != Refresh
	switch {
	case trainsPolicy && r.Policy.remote():
		return configErrorf("policy.path", why)
	case r.Reward == nil:
		return nil
	case r.Kind == Refresh || r.Reward.Update != nil:
		if r.Reward.remote() {
			return configErrorf("reward.path", why)
		}
		if r.Reward.Path == "" && r.Reward.New == nil && r.Policy.remote() {
			return configErrorf("reward.path", "is missing, so that training would start from the policy, which is an endpoint and cannot be trained; name the directory of a model")
		}
	}
	return nil
}

// needs says what a recipe asks of an endpoint in each place.
func (r Recipe) needs() map[string]remote.Need {
	nodes := r.at(0).chain()
	reads := func(d schemas.Descriptor) bool {
		return slices.ContainsFunc(nodes, func(n node) bool {
			return slices.Contains(schemas.Names(n.contract.Needs), d.Describe().Name)
		})
	}
	samples := remote.Need{Generate: true, LogProbs: reads(schemas.OldLogP), Candidates: r.listsCandidates()}
	scores := remote.Need{Score: true}
	out := map[string]remote.Need{"reference": scores, "distill.teacher": {Score: true, AnyToken: true}, "seft.source": {Generate: true}}
	if r.samples() {
		out["policy"] = samples
		if r.Distill != nil { // the reference teacher answers, or the teacher where there is none
			out["distill.reference"] = remote.Need{Generate: true, LogProbs: samples.LogProbs, Score: true, AnyToken: r.Distill.ADPA != nil}
			if r.Distill.Reference == nil {
				out["distill.teacher"] = remote.Need{Generate: true, LogProbs: samples.LogProbs, Score: true, AnyToken: true}
			}
		}
	}
	if r.Reward != nil {
		scores.AnyToken = r.listsCandidates() || r.Reward.Value.Kind == value.QRM || r.Reward.Value.Kind == value.ValueHead
		out["reward"] = scores
		if r.Reward.Value.Reference == value.Frozen && r.Frozen == nil {
			n := out["policy"]
			n.Score, n.AnyToken = true, r.listsCandidates()
			out["policy"] = n
		}
	}
	return out
}

// CheckEndpoints asks every endpoint of a recipe what it can do, and names what the recipe needs and it lacks. Recipes without
// endpoints need no network.
func (r Recipe) CheckEndpoints(ctx context.Context) error {
	needs := r.needs()
	for _, p := range r.places() {
		if !p.model.remote() {
			continue
		}
		_, noTokenizer := tokenizer.Load(p.model.Path)
		caps, err := remote.Probe(ctx, p.model.Path, remote.Options{})
		if err != nil {
			return configErrorf(p.path+".path", "%v", err)
		}
		missing := caps.Missing(needs[p.path], noTokenizer == nil)
		if noTokenizer != nil {
			missing = append(missing, noTokenizer.Error())
		}
		if len(missing) > 0 {
			return configErrorf(p.path+".path", "the endpoint lacks what this recipe needs of it: %s (`millrace probe` shows what it can do)", strings.Join(missing, "; "))
		}
	}
	return nil
}
