package export_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// response is a row of the tests. Its tokens are the bytes of its text and an end token, 1.
type response struct {
	text       string
	outcome    float32 // below 0: none
	advantages []float32
	logp       []float32 // one below the number of bytes each where there are none
	mask       []int32
	truncated  bool
	steps      []int // bytes of text up to and with each
	firstError int32 // below -1: not judged
}

// asked is a prompt of the tests with its responses.
type asked struct {
	text, messages, answer string // "" where there are none
	responses              []response
}

// three are prompts with what formats tell apart: a group of both outcomes, one with a truncated response, one without an answer.
func three() []asked {
	return []asked{
		{text: "2+3*4=", answer: "14", responses: []response{
			{text: "3*4=12\n2+12=14\n", outcome: 1, advantages: repeat(0.5, 16), steps: []int{7, 15}, firstError: -1},
			{text: "2+3=5\n5*4=20\n", outcome: 0, advantages: repeat(-0.5, 14), steps: []int{6, 13}, firstError: 0},
			{text: "3*4=", outcome: -1, truncated: true, firstError: -2},
		}},
		{text: "Is <7> & 8 odd?", messages: `[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"},{"role":"user","content":"Is <7> & 8 odd?"}]`,
			answer: "no", responses: []response{
				{text: "no", outcome: 1, advantages: []float32{1, 2, 3}, mask: []int32{1, 0, 1}, firstError: -2},
				{text: "yes", outcome: 0, advantages: repeat(-1, 4), firstError: -2},
			}},
		{text: "Why?", responses: []response{{text: "Because.", outcome: -1, firstError: -2}}},
	}
}

func repeat(x float32, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = x
	}
	return out
}

// ids of the tests depend on nothing but the texts.
func promptID(text string) uuid.UUID { return uuid.NewSHA1(uuid.Nil, []byte(text)) }

func responseID(prompt string, sample int) uuid.UUID {
	return uuid.NewSHA1(promptID(prompt), []byte{byte(sample)})
}

func bytesOf(text string, more ...int32) (out []int32) {
	for _, b := range []byte(text) {
		out = append(out, int32(b))
	}
	return append(out, more...)
}

// rowsOf makes the record of prompts as a run keeps them.
func rowsOf(t *testing.T, meta schemas.Meta, prompts ...asked) stage.Batch {
	t.Helper()
	var (
		ids, responses                                               []uuid.UUID
		texts, messages, answers, sources, replies, reasons, verdict []string
		hasMessages, hasAnswer, judged, stepped, rewarded, learned   []bool
		samples, firstError                                          []int32
		promptTokens, tokens, tokenEnds, stepEnds, masks             [][]int32
		outcomes, rewards                                            []float32
		logps, advantages                                            [][]float32
	)
	for _, p := range prompts {
		for k, r := range p.responses {
			ids, responses, samples = append(ids, promptID(p.text)), append(responses, responseID(p.text, k)), append(samples, int32(k))
			texts, messages, hasMessages = append(texts, p.text), append(messages, p.messages), append(hasMessages, p.messages != "")
			answers, hasAnswer, sources = append(answers, p.answer), append(hasAnswer, p.answer != ""), append(sources, "made/train")
			replies = append(replies, r.text)
			ended := bytesOf(r.text, 1)
			reason, said := "stop", map[float32]string{1: "correct", 0: "incorrect", -1: "unparsable_response"}[r.outcome]
			if r.truncated {
				ended, reason, said = bytesOf(r.text), "length", "truncated"
			}
			reasons, verdict = append(reasons, reason), append(verdict, said)
			promptTokens, tokens = append(promptTokens, bytesOf(p.text)), append(tokens, ended)
			ends := make([]int32, len(ended))
			for i := range ends {
				ends[i] = int32(min(i+1, len(r.text)))
			}
			tokenEnds = append(tokenEnds, ends)
			var steps []int32
			for _, s := range r.steps {
				steps = append(steps, int32(s))
			}
			stepEnds, stepped = append(stepEnds, steps), append(stepped, steps != nil)
			firstError, judged = append(firstError, r.firstError), append(judged, r.firstError >= -1)
			outcomes, rewarded = append(outcomes, r.outcome), append(rewarded, r.outcome >= 0)
			rewards = append(rewards, r.outcome/2)
			logp := r.logp
			if logp == nil {
				for i := range ended {
					logp = append(logp, -0.1-float32(i)/8)
				}
			}
			logps = append(logps, logp)
			advantages, learned = append(advantages, r.advantages), append(learned, r.advantages != nil)
			mask := r.mask
			for range len(ended) - len(mask) {
				mask = append(mask, 1)
			}
			masks = append(masks, mask)
		}
	}
	b, err := schemas.NewRecord(meta, schemas.PromptID.From(ids), schemas.Prompt.From(texts),
		schemas.Messages.From(messages, hasMessages...), schemas.Answer.From(answers, hasAnswer...), schemas.Source.From(sources),
		schemas.ResponseID.From(responses), schemas.Sample.From(samples),
		schemas.PromptTokens.FromRows(promptTokens), schemas.ResponseTokens.FromRows(tokens), schemas.Response.From(replies),
		schemas.TokenEnds.FromRows(tokenEnds), schemas.FinishReason.From(reasons),
		schemas.OldLogP.FromRows(logps).Defined(schemas.FullLogP("policy")), schemas.Verdict.From(verdict),
		schemas.Outcome.From(outcomes, rewarded...), schemas.StepEnds.FromRows(stepEnds, stepped...),
		schemas.FirstError.From(firstError, judged...), schemas.RewardPart("half").From(rewards, rewarded...),
		schemas.Advantage.FromRows(advantages, learned...), schemas.TokenMask.FromRows(masks, learned...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// meta is of an iteration of a run.
func meta(iteration int) schemas.Meta {
	model := strings.Repeat("ab", 32)
	return schemas.Meta{Run: "made", Iteration: iteration, Lineage: map[string]string{"response": "policy@" + model,
		"value": "value@0123456789abcdef", "old_logp": "policy@" + model + "+bfloat16"}}
}

// pairsOf makes the record of pairs as a run keeps them: of every prompt its response of each first number with that of the second.
func pairsOf(t *testing.T, m schemas.Meta, of ...[3]any) stage.Batch {
	t.Helper()
	var ids, pairs, chosen, rejected []uuid.UUID
	var prompts, better, worse [][]int32
	for _, p := range of {
		prompt, c, r := p[0].(string), p[1].(int), p[2].(int)
		ids, prompts = append(ids, promptID(prompt)), append(prompts, bytesOf(prompt))
		chosen, rejected = append(chosen, responseID(prompt, c)), append(rejected, responseID(prompt, r))
		last := rejected[len(rejected)-1]
		pairs = append(pairs, uuid.NewSHA1(chosen[len(chosen)-1], last[:]))
		better, worse = append(better, []int32{1}), append(worse, []int32{2})
	}
	b, err := schemas.NewRecord(m, schemas.PromptID.From(ids), schemas.PromptTokens.FromRows(prompts), schemas.PairID.From(pairs),
		schemas.ChosenID.From(chosen), schemas.RejectedID.From(rejected), schemas.ChosenTokens.FromRows(better),
		schemas.RejectedTokens.FromRows(worse))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// saved writes a record to a file, its prompts in the order of their ids as those of a run are.
func saved(t *testing.T, b stage.Batch) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rows.arrow")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := schemas.NewStreamWriter(f)
	for _, g := range stage.SortedGroups(b) {
		if err := w.Write(b.Slice(g.Lo, g.Hi)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
