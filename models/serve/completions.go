package serve

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/inbound"
	"github.com/millrace/millrace/models/openai"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas/setting"
)

// maxTop bounds how many of the most probable tokens are told.
const maxTop = 20

// wanted is what a request asks to be told of log-probs.
type wanted struct {
	logProbs bool
	top      int
}

func wants(q *openai.Request, chat bool) (wanted, error) {
	w := wanted{top: q.TopLogProbs}
	if len(q.LogProbs) > 0 && string(q.LogProbs) != "null" {
		if chat {
			if err := json.Unmarshal(q.LogProbs, &w.logProbs); err != nil {
				return w, invalid("logprobs", "is not a boolean")
			}
		} else {
			if err := json.Unmarshal(q.LogProbs, &w.top); err != nil {
				return w, invalid("logprobs", "is not a number")
			}
			w.logProbs = true
		}
	}
	if w.top < 0 || w.top > maxTop {
		return w, invalid("logprobs", "%d is not from 0 to %d", w.top, maxTop)
	}
	return w, nil
}

// generateRequest says what a request means for the model.
func (s *Server) generateRequest(q *openai.Request, ids []int32, w wanted, chat bool) (models.GenerateRequest, error) {
	r := models.GenerateRequest{Prompt: ids, Samples: cmp.Or(q.N, 1)}
	if r.Samples < 1 || r.Samples > s.opts.MaxN {
		return r, invalid("n", "%d is not from 1 to %d", q.N, s.opts.MaxN)
	}
	if q.MaxTokens == 0 && chat {
		q.MaxTokens = min(512, s.opts.MaxTokens)
	}
	if q.MaxTokens < 1 || q.MaxTokens > s.opts.MaxTokens {
		return r, invalid("max_tokens", "%d is not from 1 to %d", q.MaxTokens, s.opts.MaxTokens)
	}
	r.Sampling = models.Sampling{Temperature: 1, TopK: max(q.TopK, 0), // -1 is nothing, too
		MaxNewTokens: q.MaxTokens, MinNewTokens: q.MinTokens, Stop: q.StopIDs,
		StopStrings: q.Stop}
	if q.Temperature != nil {
		r.Sampling.Temperature = *q.Temperature
		r.Sampling.Greedy = *q.Temperature == 0
	}
	if q.TopP != nil {
		r.Sampling.TopP = *q.TopP
	}
	if w.top > 0 {
		r.Sampling.CandidateK = w.top + 1
	}
	if q.Millrace != nil && q.Millrace.Generate != nil {
		g := q.Millrace.Generate
		id, err := hex.DecodeString(g.PromptID)
		if err != nil || len(id) != 16 {
			return r, invalid("millrace.generate.prompt_id", "is not 32 hexadecimal digits")
		}
		copy(r.PromptID[:], id)
		r.Seed, r.FirstSample, r.Sampling.Greedy = g.Seed, g.FirstSample, g.Greedy
		r.Sampling.CandidateK, r.Sampling.CandidateMinP = g.CandidateK, g.CandidateMinP
	} else {
		r.Seed = randomSeed()
		if q.Seed != nil {
			r.Seed = uint64(*q.Seed)
		}
		if t := s.opts.Tokenizer; t != nil {
			r.Sampling.Stop = append(slices.Clone(q.StopIDs), t.EOS()...)
		}
	}
	if err := setting.Check(r.Sampling); err != nil {
		return r, invalid("", "%v", err)
	}
	return r, s.checkWork(q, r, w)
}

// sample and scoreOf wait for the model as long as the client waits for them.
func (s *Server) sample(from *http.Request, r models.GenerateRequest) (models.GenerateResult, error) {
	r.Gone = from.Context().Done()
	return s.generate.do(from.Context(), clientOf(from), r)
}

func (s *Server) scoreOf(from *http.Request, r models.ScoreRequest) (models.ScoreResult, error) {
	if err := s.checkScore(r); err != nil {
		return models.ScoreResult{}, err
	}
	r.Gone = from.Context().Done()
	return s.score.do(from.Context(), clientOf(from), r)
}

// clientOf names the machine that asks.
func clientOf(from *http.Request) string { return inbound.HostName(from.RemoteAddr) }

var finishNames = map[models.FinishReason]string{models.FinishStop: "stop", models.FinishLength: "length", models.FinishError: "error"}

func (s *Server) completions(from *http.Request, q *openai.Request, ids []int32, chat bool) ([]openai.Choice, error) {
	w, err := wants(q, chat)
	if err != nil {
		return nil, err
	}
	var before *models.ScoreResult // of the prompt
	if top := q.PromptLogProbs; top != nil || q.Echo && w.logProbs {
		k := w.top
		if top != nil {
			k = max(k, *top)
		}
		if k < 0 || k > maxTop {
			return nil, invalid("prompt_logprobs", "%d is not from 0 to %d", k, maxTop)
		}
		if before, err = s.promptScores(from, ids, k); err != nil {
			return nil, err
		}
	}
	var responses []models.Response
	if q.MaxTokens == 0 && (q.Echo || q.PromptLogProbs != nil) {
		responses = []models.Response{{Finish: models.FinishLength}}
	} else {
		r, err := s.generateRequest(q, ids, w, chat)
		if err != nil {
			return nil, err
		}
		result, err := s.sample(from, r)
		if err != nil {
			return nil, err
		}
		if result.Err != nil {
			return nil, invalid("prompt", "%v", result.Err)
		}
		responses = result.Responses
	}
	choices := make([]openai.Choice, len(responses))
	for i, r := range responses {
		text := ""
		if s.opts.Tokenizer != nil {
			text = textBeforeStop(s.opts.Tokenizer, r, q.Stop)
		}
		finish := finishNames[r.Finish]
		c := openai.Choice{Index: i, FinishReason: &finish, TokenIDs: r.Tokens}
		if c.TokenIDs == nil {
			c.TokenIDs = []int32{}
		}
		if q.Millrace != nil {
			c.Millrace = &openai.Detail{Sample: r.Sample, LogP: r.LogP, LogZ: r.LogZ, CandidateStart: r.CandidateStart,
				CandidateIDs: r.CandidateIDs, CandidateLogP: r.CandidateLogP}
			if r.Err != nil {
				c.Millrace.Error = r.Err.Error()
			}
		}
		switch {
		case chat:
			c.Message = &openai.Message{Role: "assistant", Content: text}
			if w.logProbs && len(r.LogP) == len(r.Tokens) {
				c.LogProbs = &openai.LogProbs{Content: s.tokenLogs(r)}
			}
		default:
			if w.logProbs {
				c.LogProbs = s.logProbs(r, w.top)
			}
			if q.Echo {
				if s.opts.Tokenizer != nil {
					text = s.opts.Tokenizer.Decode(ids) + text
				}
				if c.LogProbs != nil {
					s.prepend(c.LogProbs, ids, before)
				}
			}
			c.Text = &text
		}
		if q.PromptLogProbs != nil {
			c.PromptLogProbs = s.promptLogs(ids, before, *q.PromptLogProbs)
		}
		choices[i] = c
	}
	return choices, nil
}

// textBeforeStop is the text of a response without the stop text that ended it; its tokens hold the one that completes it.
func textBeforeStop(t tokenizer.Tokenizer, r models.Response, stops []string) string {
	text := tokenizer.Text(t, r.Tokens)
	if r.Finish != models.FinishStop || len(r.Tokens) == 0 {
		return text
	}
	before := tokenizer.Text(t, r.Tokens[:len(r.Tokens)-1])
	at := len(text)
	for _, stop := range stops {
		// The one that the last token completed; those before it, which min_tokens let pass, are text.
		if i := strings.LastIndex(text, stop); i >= 0 && i+len(stop) > len(before) {
			at = min(at, i)
		}
	}
	return text[:at]
}

// token is a token's text; ids where there is no tokenizer.
func (s *Server) token(id int32) string {
	if s.opts.Tokenizer == nil {
		return "token_id:" + strconv.Itoa(int(id))
	}
	return strings.ToValidUTF8(s.opts.Tokenizer.Token(id), "\ufffd")
}

func (s *Server) logProbs(r models.Response, top int) *openai.LogProbs {
	out := &openai.LogProbs{Tokens: []string{}, TokenLogProbs: []*float32{}}
	if r.LogP == nil && len(r.Tokens) > 0 { // the model cannot tell
		return nil
	}
	for t, id := range r.Tokens {
		out.Tokens = append(out.Tokens, s.token(id))
		out.TokenLogProbs = append(out.TokenLogProbs, &r.LogP[t])
		if top > 0 && r.CandidateStart != nil {
			most := map[string]float32{}
			from, to := r.CandidateStart[t], r.CandidateStart[t+1]
			order := make([]int32, 0, to-from)
			for i := from; i < to; i++ {
				order = append(order, i)
			}
			slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(r.CandidateLogP[b], r.CandidateLogP[a]) })
			for _, i := range order[:min(top, len(order))] {
				most[s.token(r.CandidateIDs[i])] = r.CandidateLogP[i]
			}
			out.TopLogProbs = append(out.TopLogProbs, most)
		}
	}
	return out
}

func (s *Server) tokenLogs(r models.Response) []openai.TokenLog {
	out := []openai.TokenLog{}
	for t, id := range r.Tokens {
		out = append(out, openai.TokenLog{Token: s.token(id), LogProb: r.LogP[t]})
	}
	return out
}

// promptScores scores a prompt's tokens from the second on.
func (s *Server) promptScores(from *http.Request, ids []int32, top int) (*models.ScoreResult, error) {
	if len(ids) < 2 {
		return &models.ScoreResult{}, nil
	}
	result, err := s.scoreOf(from, models.ScoreRequest{Sequence: models.Sequence{Prompt: ids[:1], Response: ids[1:]}, TopK: top})
	if err != nil {
		return nil, err
	}
	if result.Err != nil {
		return nil, invalid("prompt", "%v", result.Err)
	}
	return &result, nil
}

// prepend puts the prompt in front of the log-probs of its completion; the first token has none.
func (s *Server) prepend(l *openai.LogProbs, ids []int32, before *models.ScoreResult) {
	tokens, logs := make([]string, len(ids)), make([]*float32, len(ids))
	for i, id := range ids {
		tokens[i] = s.token(id)
		if i > 0 {
			logs[i] = &before.LogP[i-1]
		}
	}
	l.Tokens, l.TokenLogProbs = append(tokens, l.Tokens...), append(logs, l.TokenLogProbs...)
	l.TopLogProbs = nil // they would not stand beside their tokens
}

// promptLogs is the log-prob of every token of a prompt, by id, with the most probable ones; null for the first token.
func (s *Server) promptLogs(ids []int32, before *models.ScoreResult, top int) []map[string]openai.TokenLog {
	out := make([]map[string]openai.TokenLog, len(ids))
	width := 0
	if len(ids) > 1 {
		width = len(before.TopIDs) / (len(ids) - 1)
	}
	for i := 1; i < len(ids); i++ {
		at := map[string]openai.TokenLog{}
		for k := range min(top, width) {
			j := (i-1)*width + k
			at[strconv.Itoa(int(before.TopIDs[j]))] = openai.TokenLog{LogProb: before.TopLogP[j], Rank: k + 1, Decoded: s.token(before.TopIDs[j])}
		}
		key := strconv.Itoa(int(ids[i]))
		if _, ok := at[key]; !ok {
			at[key] = openai.TokenLog{LogProb: before.LogP[i-1], Decoded: s.token(ids[i])}
		}
		out[i] = at
	}
	return out
}

// scores answers the extension's request for log-probs of the prompt's last tokens.
func (s *Server) scores(from *http.Request, ids []int32, q *openai.Score) (openai.Choice, error) {
	finish := "length"
	c := openai.Choice{FinishReason: &finish, TokenIDs: []int32{}}
	if q.Response < 1 || q.Response >= len(ids) {
		return c, invalid("millrace.score.response", "%d of %d tokens leave no prompt or no response", q.Response, len(ids))
	}
	if q.TopK < 0 || q.TopK > math.MaxInt16 {
		return c, invalid("millrace.score.top_k", "%d is out of range", q.TopK)
	}
	start := q.ListStart
	if start != nil && (len(start) != q.Response+1 || start[0] != 0 || !slices.IsSorted(start) || int(start[q.Response]) != len(q.ListIDs)) ||
		start == nil && len(q.ListIDs) > 0 {
		return c, invalid("millrace.score.list_start", "does not fit the response of %d tokens and the %d listed ids", q.Response, len(q.ListIDs))
	}
	p := len(ids) - q.Response
	r, err := s.scoreOf(from, models.ScoreRequest{Sequence: models.Sequence{Prompt: ids[:p], Response: ids[p:]}, ListStart: start,
		ListIDs: q.ListIDs, TopK: q.TopK, Values: q.Values, ValueAfter: q.ValueAfter})
	if err != nil {
		return c, err
	}
	c.Millrace = &openai.Detail{LogP: r.LogP, LogZ: r.LogZ, Entropy: r.Entropy, ListLogP: r.ListLogP, TopIDs: r.TopIDs, TopLogP: r.TopLogP,
		TopRestLogP: r.TopRestLogP, Values: r.Values}
	if r.Err != nil {
		c.Millrace.Error = r.Err.Error()
	}
	return c, nil
}
