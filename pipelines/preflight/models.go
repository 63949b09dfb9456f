package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/models/remote"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
)

// place is a model of a recipe and where the recipe names it.
type place struct {
	path  string
	model recipe.Model
}

// places lists the models that a recipe names, the policy first.
func places(r recipe.Recipe) []place {
	out := []place{{"policy", r.Policy}}
	if e := r.Rollout.Engine; e != nil {
		at, _ := remote.Asking(e.Path, "", r.Policy.Path)
		out = append(out, place{"rollout.engine", recipe.Model{Path: at}})
	}
	if r.Reward != nil && (r.Reward.Path != "" || r.Reward.New != nil) {
		out = append(out, place{"reward", r.Reward.Model})
	}
	for i, m := range r.RewardModels {
		out = append(out, place{rewardModelAt(i), m.Model})
	}
	if r.Reference != nil {
		out = append(out, place{"reference", *r.Reference})
	}
	if r.Distill != nil {
		out = append(out, place{"distill.teacher", r.Distill.Teacher})
		if r.Distill.Reference != nil {
			out = append(out, place{"distill.reference", *r.Distill.Reference})
		}
	}
	if r.SEFT != nil && r.SEFT.Source != nil {
		out = append(out, place{"seft.source", *r.SEFT.Source})
	}
	return out
}

// rewardModelAt is where a recipe names one of its further reward models.
func rewardModelAt(i int) string { return fmt.Sprintf("reward_models[%d]", i) }

// Vocabularies checks that token ids mean to every model of the recipe what they mean to the policy: what one has sampled
// another scores, token by token; and that there are tokens for what a reviser is shown and writes. Models that an earlier run has yet
// to write, and those in buckets, are checked when the run starts.
func Vocabularies(ctx context.Context, r recipe.Recipe, buckets bool) error {
	all := places(r)
	policy, err := chain.Vocabulary(ctx, all[0].model, buckets)
	if err != nil {
		return setting.Errorf("policy", "%v", err)
	}
	if policy == nil {
		return nil
	}
	if r.SEFT != nil {
		if err := r.SEFT.Reviser.Encodable(policy); err != nil {
			return setting.In("seft.reviser", err)
		}
	}
	digest := tokenizer.VocabDigest(policy)
	for _, p := range all[1:] {
		if p.model.Path != "" && p.model.Path == r.Policy.Path {
			continue
		}
		tok, err := chain.Vocabulary(ctx, p.model, buckets)
		if err != nil {
			return setting.Errorf(p.path, "%v", err)
		}
		if tok != nil && tokenizer.VocabDigest(tok) != digest {
			return setting.Errorf(p.path, "has another vocabulary (%d tokens) than the policy (%d tokens): the ids of one model's tokens mean "+
				"other texts to the other, so its log-probs would be of other responses; use models of the same tokenizer",
				tok.VocabSize(), policy.VocabSize())
		}
	}
	return nil
}

// needs says what a recipe asks of an endpoint in each place.
func needs(r recipe.Recipe, nodes []chain.Node) map[string]remote.Need {
	reads := func(d schemas.Descriptor) bool {
		return slices.ContainsFunc(nodes, func(n chain.Node) bool {
			return slices.Contains(schemas.Names(n.Contract.Needs), d.Describe().Name)
		})
	}
	samples := remote.Need{Generate: true, LogProbs: reads(schemas.OldLogP), Candidates: chain.ListsCandidates(r)}
	scores := remote.Need{Score: true}
	out := map[string]remote.Need{"reference": scores, "distill.teacher": {Score: true, AnyToken: true}, "seft.source": {Generate: true}}
	if chain.Samples(r) {
		out["policy"] = samples
		if r.Rollout.Engine != nil {
			out["policy"], out["rollout.engine"] = remote.Need{}, samples
			if chain.ListsCandidates(r) {
				out["rollout.engine"] = remote.Need{Generate: true, LogProbs: true, Candidates: true}
			}
		}
		if r.Distill != nil { // the reference teacher answers, or the teacher where there is none
			out["distill.reference"] = remote.Need{Generate: true, LogProbs: samples.LogProbs, Score: true, AnyToken: r.Distill.ADPA != nil}
			if r.Distill.Reference == nil {
				out["distill.teacher"] = remote.Need{Generate: true, LogProbs: samples.LogProbs, Score: true, AnyToken: true}
			}
		}
	}
	if r.Reward != nil {
		scores.AnyToken = chain.ListsCandidates(r) || r.Reward.Value.OnHead()
		out["reward"] = scores
	}
	for i, m := range r.RewardModels {
		out[rewardModelAt(i)] = remote.Need{Score: true, AnyToken: m.Value.OnHead()}
	}
	if chain.ValuesReadReference(r) && r.Reference == nil {
		n := out["policy"]
		n.Score, n.AnyToken = true, chain.ListsCandidates(r)
		out["policy"] = n
	}
	return out
}

// Endpoints asks every endpoint of a recipe what it can do, and names what the recipe needs and it lacks. Recipes without
// endpoints need no network.
func Endpoints(ctx context.Context, r recipe.Recipe, nodes []chain.Node) error {
	wanted := needs(r, nodes)
	for _, p := range places(r) {
		if !p.model.Remote() {
			continue
		}
		need := wanted[p.path]
		if need.Generate {
			if err := templateOnce(r, p); err != nil {
				return err
			}
		}
		_, noTokenizer := tokenizer.Load(p.model.Path)
		caps, err := remote.Probe(ctx, p.model.Path, remote.Options{})
		if err != nil {
			return setting.Errorf(p.path+".path", "%v", err)
		}
		missing := caps.Missing(need, noTokenizer == nil, remote.AsChat(p.model.Path))
		if noTokenizer != nil {
			missing = append(missing, noTokenizer.Error())
		}
		if len(missing) > 0 {
			return setting.Errorf(p.path+".path", "the endpoint lacks what this recipe needs of it: %s (`millrace probe` shows what it can do)",
				strings.Join(missing, "; "))
		}
		if need.Generate && need.LogProbs {
			if err := setting.First(defined(r, p, caps), audit(ctx, r, p, caps)); err != nil {
				return err
			}
		}
	}
	return nil
}

// templateOnce refuses prompts that are put into a template before the server puts them into its own.
func templateOnce(r recipe.Recipe, p place) error {
	if r.Chat.Template && remote.AsChat(p.model.Path) {
		return setting.Errorf("chat.template", "the endpoint at %s.path is asked as a conversation (chat=1), and its server puts the prompt "+
			"into its own template; set chat.template: false, or leave chat=1 out where the server answers completions", p.path)
	}
	return nil
}

// defined refuses log-probs of another distribution than the stages read, which is the model's own.
func defined(r recipe.Recipe, p place, caps remote.Capabilities) error {
	have := schemas.FullLogP("")
	have.Temperature, have.TopP, have.TopK = caps.LogPAt(r.Rollout.Sampling)
	want := schemas.FullLogP("")
	if r.Importance != nil { // which are of the distribution that the responses are of
		want = r.SampledFrom()
	}
	if want.Matches(have) {
		return nil
	}
	if p.path == "rollout.engine" {
		return setting.Errorf("rollout.engine.path", "the engine would give %v, and importance weights need %v: %s", have, want,
			strings.Join(append(caps.Notes, "have it give the log-probs that it samples from (vLLM: --logprobs-mode processed_logprobs), or "+
				"sample at temperature 1 with top_p 1 and top_k 0"), "; "))
	}
	at := "rollout.temperature"
	if have.Temperature == 1 {
		at = "rollout.top_p"
	}
	how := "its log-probs were measured to follow the sampling"
	if len(caps.Notes) > 0 {
		how += " (" + strings.Join(caps.Notes, "; ") + ")"
	}
	return setting.Errorf(at, "the endpoint at %s.path would give %v, and what reads old_logp needs %v: %s. Sample at temperature 1 "+
		"with top_p 1 and top_k 0, or have the server give raw log-probs (vLLM: --logprobs-mode raw_logprobs)", p.path, have, want, how)
}
