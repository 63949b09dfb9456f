package preflight

import (
	"context"
	"errors"
	"math"
	"os"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/remote"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas/setting"
)

// An endpoint's log-probs may differ from those of the policy's weights at hand by so much on average: what servers that compute in
// bfloat16 differ by, and a part of their size.
const (
	AuditTolerance = 0.1
	AuditShare     = 0.1
)

// weightsOf is a model on this machine that has the weights which an endpoint serves, "" where there is none that is known to:
// one that the URL names, one of the digest that the server tells, or the directory that it says it loaded.
func weightsOf(r recipe.Recipe, path string, caps remote.Capabilities) (string, error) {
	if named := remote.WeightsOf(path); named != "" {
		return named, nil
	}
	if !caps.Millrace {
		if _, err := local.ReadConfig(caps.Weights); caps.Weights != "" && err == nil {
			return caps.Weights, nil
		}
		return "", nil
	}
	candidates := []string{remote.TokenizerOf(path)}
	for _, p := range places(r) {
		if !p.model.Remote() && p.model.New == nil {
			candidates = append(candidates, p.model.Path)
		}
	}
	for _, c := range candidates {
		if info, err := os.Stat(c); c == "" || err != nil || !info.IsDir() {
			continue
		}
		digest, err := models.Digest(c)
		if err != nil {
			return "", err
		}
		if digest == caps.Weights {
			return c, nil
		}
	}
	return "", nil
}

// audit samples a few tokens from an endpoint and scores them with the weights at hand.
func audit(ctx context.Context, r recipe.Recipe, p place, caps remote.Capabilities) error {
	at := p.path + ".path"
	weights, err := weightsOf(r, p.model.Path, caps)
	if err != nil {
		return setting.Errorf(at, "%v", err)
	}
	if weights == "" || !caps.TokenIDsIn {
		return nil // nothing to compare with, or nobody knows what the server made of a prompt
	}
	far, err := models.Acquire(ctx, models.Ref{Path: p.model.Path})
	if err != nil {
		return setting.Errorf(at, "%v", err)
	}
	defer far.Release()
	near, err := models.Acquire(ctx, models.Ref{Path: weights})
	if err != nil {
		return setting.Errorf(at, "the weights at %s: %v", weights, err)
	}
	defer near.Release()
	tok, err := tokenizer.Load(weights)
	if err != nil {
		return setting.Errorf(at, "the weights at %s: %v", weights, err)
	}
	sampling := r.Rollout.Sampling
	sampling.MaxNewTokens, sampling.MinNewTokens, sampling.CandidateK, sampling.StopStrings = min(16, sampling.MaxNewTokens), 0, 0, nil
	if len(sampling.Stop) == 0 {
		sampling.Stop = tok.EOS()
	}
	var asked []models.GenerateRequest
	for i := range 4 {
		prompt := append(tok.Prefix(), 11, 12, 13, int32(14+i)) // every vocabulary has these
		asked = append(asked, models.GenerateRequest{PromptID: [16]byte{byte(i)}, Prompt: prompt, Seed: r.Seed, Samples: 4, Sampling: sampling})
	}
	sampled, err := far.Generate(ctx, asked)
	if err != nil {
		return setting.Errorf(at, "%v", err)
	}
	var scored []models.ScoreRequest
	var theirs []float32
	var faults []error
	for i, result := range sampled {
		faults = append(faults, result.Err)
		for _, response := range result.Responses {
			faults = append(faults, response.Err)
			if response.LogP != nil {
				scored = append(scored, models.ScoreRequest{Sequence: models.Sequence{Prompt: asked[i].Prompt, Response: response.Tokens}})
				theirs = append(theirs, response.LogP...)
			}
		}
	}
	if len(theirs) == 0 {
		return setting.Errorf(at, "no log-probs came with a few samples: %v", errors.Join(faults...))
	}
	results, err := near.Score(ctx, scored)
	if err != nil {
		return setting.Errorf(at, "%v", err)
	}
	var apart, size, most float64
	n := 0
	for _, result := range results {
		if result.Err != nil {
			return setting.Errorf(at, "the weights at %s do not score what the endpoint sampled: %v", weights, result.Err)
		}
		for _, logP := range result.LogP {
			d := math.Abs(float64(logP - theirs[n]))
			apart, size, most = apart+d, size+math.Abs(float64(logP)), max(most, d)
			n++
		}
	}
	apart, size = apart/float64(n), size/float64(n)
	if allowed := AuditTolerance + AuditShare*size; apart > allowed {
		return setting.Errorf(at, "the log-probs of the endpoint are not those of the weights at %s: over %d sampled tokens they are apart by "+
			"%.3g on average, by %.3g at most, and %.3g is allowed for the precision of a server. Either it serves other weights, "+
			"or its log-probs are not the model's own", weights, n, apart, most, allowed)
	}
	return nil
}
