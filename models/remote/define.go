package remote

import (
	"encoding/json"
	"maps"
	"math"
	"slices"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/openai"
)

// DefinitionTolerance is by how much two log-probs of one token may differ that are the same number: servers compute in bfloat16,
// whose step is an eighth where logits are large, and not in the same order every time.
const DefinitionTolerance = 0.15

// LogPAt implements models.Defined.
func (m *Model) LogPAt(s models.Sampling) (temperature, topP float64, topK int) {
	return m.caps.LogPAt(s)
}

var _ models.Defined = (*Model)(nil)

// LogPAt says what the log-probs of samples are of, as measured: at which temperature, and over which of the tokens.
func (c Capabilities) LogPAt(s models.Sampling) (temperature, topP float64, topK int) {
	temperature, topP = 1, 1
	if c.FollowTemperature {
		switch {
		case s.Greedy:
			temperature = 0
		case s.Temperature > 0:
			temperature = models.Written(s.Temperature)
		}
	}
	if c.FollowTopP {
		if topK = s.TopK; s.TopP > 0 {
			topP = models.Written(s.TopP)
		}
	}
	return temperature, topP, topK
}

// define measures of what the log-probs are: those of the first tokens after a prompt, at two temperatures and with top-p.
func (p *prober) define(path string, full openai.Request) {
	p.caps.FollowTemperature, p.caps.FollowTopP = true, true
	prompts := []openai.Request{full}
	if full.Messages == nil { // one where the model knows better than not what follows tells nothing
		for _, text := range []string{"My favourite word is", "A", "1", "The", "z", "I am"} {
			other := full
			other.Prompt = &openai.Prompt{Text: text}
			prompts = append(prompts, other)
		}
	} else {
		for _, text := range []string{"Say any word.", "Name an animal, in one word.", "Write the first line of a poem.", "Make up a name."} {
			other := full
			other.Messages = []openai.Message{{Role: "user", Content: text}}
			prompts = append(prompts, other)
		}
	}
	temperature, topP := knowledge{}, knowledge{}
	for _, r := range prompts {
		at := p.firstTokens(path, r, 1, 1)
		temperature.learn(at, func() map[string]float64 { return p.firstTokens(path, r, 0.5, 1) })
		topP.learn(at, func() map[string]float64 { return p.firstTokens(path, r, 1, 0.1) })
		if temperature.sure && topP.sure || p.err != nil {
			break
		}
	}
	for _, k := range []struct {
		knowledge
		follows *bool
		what    string
	}{{temperature, &p.caps.FollowTemperature, "the temperature"}, {topP, &p.caps.FollowTopP, "top-p"}} {
		if *k.follows = k.follow || !k.sure; !k.sure {
			p.caps.Unmeasured = true
			p.note("it could not be measured whether log-probs follow %s; it is taken that they do", k.what)
		}
	}
}

// knowledge is what has been learned of one parameter.
type knowledge struct{ sure, follow bool }

// learn compares log-probs of the same tokens without and with the parameter. Tokens that are as good as certain are certain with
// it too, and tell nothing. The others decide by their median: one may come out differently by itself.
func (k *knowledge) learn(without map[string]float64, with func() map[string]float64) {
	tells := func(logP float64) bool { return logP < -2*DefinitionTolerance }
	if k.sure || !slices.ContainsFunc(slices.Collect(maps.Values(without)), tells) {
		return
	}
	var apart []float64
	for token, q := range with() {
		if p, both := without[token]; both && tells(p) {
			apart = append(apart, math.Abs(p-q))
		}
	}
	if len(apart) > 0 {
		slices.Sort(apart)
		k.sure, k.follow = true, apart[len(apart)/2] > DefinitionTolerance
	}
}

// firstTokens are the log-probs of the most probable first tokens that the server tells, or of those that come with a few seeds
// where it tells only what it samples.
func (p *prober) firstTokens(path string, r openai.Request, temperature, topP float32) map[string]float64 {
	out := map[string]float64{}
	r.MaxTokens, r.Temperature = 1, &temperature
	if topP < 1 {
		r.TopP = &topP
	}
	sampled, top := r.LogProbs, json.RawMessage("5")
	if path == chatPath {
		top, r.TopLogProbs = json.RawMessage("true"), 5
	}
	for seed := range int64(6) {
		r.Seed, r.LogProbs = &seed, top
		answer := p.ask(path, r)
		if len(answer.Choices) == 0 && seed == 0 {
			top, r.TopLogProbs = sampled, 0 // a server that tells no others refuses
			r.LogProbs = top
			answer = p.ask(path, r)
		}
		if len(answer.Choices) == 0 {
			break
		}
		for token, logP := range firstLogProbs(answer.Choices[0]) {
			if logP <= 0 && logP >= minLogP { // what top-p cuts off has none
				out[token] = logP
			}
		}
		if len(out) > 2 {
			break
		}
	}
	return out
}

// firstLogProbs are those that a choice tells of its first token and of the others in its place.
func firstLogProbs(c openai.Choice) map[string]float64 {
	out := map[string]float64{}
	l := c.LogProbs
	switch {
	case l == nil:
	case len(l.Content) > 0:
		for _, t := range l.Content[0].Top {
			out[t.Token] = float64(t.LogProb)
		}
		out[l.Content[0].Token] = float64(l.Content[0].LogProb)
	case len(l.Tokens) > 0 && len(l.TokenLogProbs) > 0 && l.TokenLogProbs[0] != nil:
		if len(l.TopLogProbs) > 0 {
			for token, logP := range l.TopLogProbs[0] {
				out[token] = float64(logP)
			}
		}
		out[l.Tokens[0]] = float64(*l.TokenLogProbs[0])
	}
	return out
}
