package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/openai"
)

// Score implements models.Scorer, where the server gives the log-probs of a prompt: the response is sent as the end of the
// prompt. Results and errors as for Generate. A server without this program's extension knows the log-probs of other tokens
// than the response's only where they are among the most probable ones; any other token asked for is an error.
func (m *Model) Score(ctx context.Context, requests []models.ScoreRequest) ([]models.ScoreResult, error) {
	results := make([]models.ScoreResult, len(requests))
	err := all(ctx, len(requests), func(ctx context.Context, i int) error {
		result, err := m.score(ctx, &requests[i])
		var e *Error
		if errors.As(err, &e) && !e.everyRequest() {
			results[i] = models.ScoreResult{Err: err}
			return nil
		}
		results[i] = result
		return err
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

// maxTop is how many of the most probable tokens a server is asked for when listed tokens are to be among them.
const maxTop = 20

func (m *Model) score(ctx context.Context, r *models.ScoreRequest) (models.ScoreResult, error) {
	if len(r.Prompt) == 0 || len(r.Response) == 0 {
		return models.ScoreResult{}, m.rejected(KindRejected, "a prompt of %d tokens, a response of %d", len(r.Prompt), len(r.Response))
	}
	if r.ListStart != nil && (len(r.ListStart) != len(r.Response)+1 || int(r.ListStart[len(r.Response)]) != len(r.ListIDs)) {
		return models.ScoreResult{}, m.rejected(KindRejected, "the listed tokens do not fit the response of %d", len(r.Response))
	}
	if r.Temperature != 0 && r.Temperature != 1 {
		return models.ScoreResult{}, m.rejected(KindUnsupported, "an endpoint scores at temperature 1, and %g is asked for", r.Temperature)
	}
	zero := float32(0)
	one := 1
	ids := append(append([]int32(nil), r.Prompt...), r.Response...)
	body := &openai.Request{Model: m.model, Prompt: &openai.Prompt{IDs: ids}, MaxTokens: 1, Temperature: &zero}
	if !m.caps.TokenIDsIn {
		return models.ScoreResult{}, m.rejected(KindUnsupported, "the server takes no token ids, so the tokens it scores cannot be known")
	}
	switch {
	case m.caps.Millrace:
		body.Millrace = &openai.Extension{Score: &openai.Score{Response: len(r.Response), ListStart: r.ListStart, ListIDs: r.ListIDs,
			TopK: r.TopK, Values: r.Values, ValueAfter: r.ValueAfter}}
	case r.Values || r.TopK > 0:
		return models.ScoreResult{}, m.rejected(KindUnsupported,
			"the server has no scalar head and does not give the most probable tokens with the mass of the rest")
	case m.caps.PromptLogProbs == PromptLogProbs:
		if len(r.ListIDs) > 0 {
			one = maxTop
		}
		body.PromptLogProbs = &one
	case m.caps.PromptLogProbs == Echo && len(r.ListIDs) == 0:
		body.Echo, body.LogProbs = true, json.RawMessage("1")
	default:
		return models.ScoreResult{}, m.rejected(KindUnsupported,
			"the server does not give the log-probs of a prompt, or not of tokens besides it")
	}
	var result models.ScoreResult
	err := m.ask(ctx, completionsPath, body, func(text []byte, live bool) *Error {
		answer, e := decode(text)
		if e != nil {
			return e
		}
		if live {
			if e := m.named(answer.Model); e != nil {
				return e
			}
		}
		result, e = m.scored(r, answer.Choices[0])
		return e
	})
	return result, err
}

func (m *Model) scored(r *models.ScoreRequest, c openai.Choice) (models.ScoreResult, *Error) {
	if d := c.Millrace; m.caps.Millrace {
		if d == nil {
			return models.ScoreResult{}, malformed("the answer holds no scores")
		}
		if d.Error != "" {
			return models.ScoreResult{}, &Error{Kind: KindRejected, Problem: d.Error}
		}
		out := models.ScoreResult{LogP: d.LogP, LogZ: d.LogZ, Entropy: d.Entropy, ListLogP: d.ListLogP, TopIDs: d.TopIDs, TopLogP: d.TopLogP,
			TopRestLogP: d.TopRestLogP, Values: d.Values}
		t := len(r.Response)
		top := len(out.TopIDs) // t * top_k, or less of a smaller vocabulary
		if len(out.LogP) != t || len(out.ListLogP) != len(r.ListIDs) || top > t*r.TopK || t > 0 && (top%t != 0 || r.TopK > 0 && top == 0) ||
			len(out.TopLogP) != top || r.Values && len(out.Values) != t {
			return models.ScoreResult{}, malformed("the scores do not fit the response of %d tokens", t)
		}
		return out, checkLogP(out.LogP, "scores")
	}
	out := models.ScoreResult{LogP: make([]float32, len(r.Response)), ListLogP: make([]float32, len(r.ListIDs))}
	p := len(r.Prompt)
	if m.caps.PromptLogProbs == Echo {
		var all []*float32
		if c.LogProbs != nil {
			all = c.LogProbs.TokenLogProbs
		}
		if n := p + len(r.Response); len(all) != n && len(all) != n+1 {
			return out, malformed("%d log-probs for a prompt of %d tokens", len(all), n)
		}
		for t := range out.LogP {
			if all[p+t] == nil {
				return out, malformed("token %d of the response has no log-prob", t)
			}
			out.LogP[t] = *all[p+t]
		}
		return out, checkLogP(out.LogP, "scores")
	}
	if n := p + len(r.Response); len(c.PromptLogProbs) != n {
		return out, malformed("%d log-probs for a prompt of %d tokens", len(c.PromptLogProbs), n)
	}
	for t, id := range r.Response {
		at := c.PromptLogProbs[p+t]
		find := func(id int32) (float32, bool) {
			log, ok := at[strconv.Itoa(int(id))]
			return log.LogProb, ok
		}
		var ok bool
		if out.LogP[t], ok = find(id); !ok {
			return out, malformed("token %d of the response has no log-prob", t)
		}
		if r.ListStart == nil {
			continue
		}
		for i := r.ListStart[t]; i < r.ListStart[t+1]; i++ {
			listed := r.ListIDs[i]
			if listed < 0 {
				continue
			}
			if out.ListLogP[i], ok = find(listed); !ok {
				return out, &Error{Kind: KindUnsupported, URL: m.base,
					Problem: fmt.Sprintf("listed token %d at token %d is not among the %d most probable ones, "+
						"of which alone the server gives the log-probs", listed, t, maxTop)}
			}
		}
	}
	return out, checkLogP(out.LogP, "scores")
}
