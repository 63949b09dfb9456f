// Package label judges responses: which are right, and what that says about their prompt's group.
//
// In: a row a response with its prompt's reference answer. Out: the same rows with verdict, outcome,
// the extracted answer, the statistics of the group, and where the verifier judges steps the first wrong one.
package label

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/label/verify"
	"github.com/millrace/millrace/transforms/stage"
)

// Config says which verifier judges, and what its verdicts mean.
type Config struct {
	Verifier VerifierConfig `json:"verifier" doc:"what compares a response with the reference answer"`
	// An answer that cannot be read is the policy's fault.
	UnparsableResponse string `json:"unparsable_response" enum:"incorrect,abstain" doc:"a response without a readable answer is incorrect, or has no outcome (abstain)"`
	// TRL takes the sample's.
	Std string `json:"std" enum:"population,sample" doc:"standard deviation of a group's n outcomes: divided by n (population), or by n-1 (sample)"`
	// Rows that Millrace sampled say how they finished.
	MaxTokens  int     `json:"max_tokens" range:"[0,inf)" doc:"a response of unknown finish is truncated with so many tokens and no stop token at its end; 0: never"`
	StopTokens []int32 `json:"stop_tokens,omitempty" doc:"ids of the tokens that end a response of unknown finish"`
	Workers    int     `json:"workers" range:"[0,inf)" doc:"responses that are judged at a time; 0: one a core"`
	Explain    bool    `json:"explain,omitempty" doc:"add verdict_rule and verdict_reason: what decided, and why nothing was decided"`

	verifier judge
}

// Choices of a Config.
const (
	AsIncorrect = "incorrect"
	AsAbstain   = "abstain"
	Population  = "population"
	SampleStd   = "sample"
)

// Default judges with the verifier of that kind in its default settings.
func Default(kind string) Config {
	return Config{Verifier: VerifierConfig{Kind: kind}, UnparsableResponse: AsIncorrect, Std: Population}
}

// Outcome verifies each response against its prompt's answer: rows of responses in, the same with verdict,
// outcome and group statistics out, and dead letters.
func Outcome(s beam.Scope, cfg Config, responses stage.Rows) (labeled, dead stage.Rows) {
	return stage.Apply(s, cfg, responses)
}

func init() { stage.Register[Config]() }

// Contract says which columns are needed and added.
func (c *Config) Contract() schemas.Contract {
	out := schemas.Contract{Name: "label",
		Needs: []schemas.Descriptor{schemas.PromptID, schemas.Prompt, schemas.Answer, schemas.Response, schemas.FinishReason},
		Adds: []schemas.Descriptor{schemas.Verdict, schemas.Outcome, schemas.Extracted, schemas.VerifierScore,
			schemas.GroupMean, schemas.GroupStd,
			schemas.GroupValid, schemas.FirstError, schemas.StepEnds}}
	if c.Explain {
		out.Adds = append(out.Adds, schemas.VerdictRule, schemas.VerdictReason)
	}
	return out
}

// Setup makes the verifier. What it starts, such as processes, ends with the pipeline.
func (c *Config) Setup(ctx context.Context) (err error) {
	c.verifier, err = newJudge(c.Verifier)
	if err != nil {
		return setting.In("verifier", err)
	}
	if v, ok := c.verifier.(io.Closer); ok {
		return models.Hold(ctx, v)
	}
	return nil
}

// Teardown ends the processes of a verifier that has some.
func (c *Config) Teardown() error {
	if v, ok := c.verifier.(io.Closer); ok {
		return v.Close()
	}
	return nil
}

// Lineage names the verifier with its version.
func (c *Config) Lineage() string { return c.verifier.Version() + ";label@" + stage.Digest(c)[:16] }

// Map judges the responses, then takes the statistics of each group over those that have an outcome.
func (c *Config) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	judged, err := c.judgeAll(ctx, b, dead)
	if err != nil {
		return b, err
	}
	groups, err := b.Groups()
	if err != nil {
		return b, err
	}
	n := b.NumRows()
	verdicts, extracted, found := make([]string, n), make([]string, n), make([]bool, n)
	rules, reasons, ruled, reasoned := make([]string, n), make([]string, n), make([]bool, n), make([]bool, n)
	outcomes, known := make([]float64, n), make([]bool, n)
	scores, graded := make([]float32, n), make([]bool, n)
	firstError, steps, stepEnds, placed := make([]int32, n), make([]bool, n), make([][]int32, n), make([]bool, n)
	ends := tokenEndsOf(b)
	for i, j := range judged {
		verdicts[i], extracted[i], found[i] = j.verdict.String(), j.extracted, j.extracted != ""
		outcomes[i], known[i] = c.outcome(j.verdict)
		rules[i], reasons[i], ruled[i], reasoned[i] = j.rule, j.reason, j.rule != "", j.reason != ""
		if dead.Marked(i) { // and is set aside below; until then nobody judged it
			verdicts[i], known[i] = verify.UnparsableAnswer.String(), false
			continue
		}
		if j.score != nil {
			scores[i], graded[i] = float32(*j.score), true
		}
		firstError[i], steps[i] = int32(j.firstError), j.judged
		if j.judged {
			stepEnds[i], placed[i] = placeSteps(j.stepEnds, ends(i))
		}
	}
	outcome32, mean, std := make([]float32, n), make([]float32, n), make([]float32, n)
	hasGroup, usable := make([]bool, n), make([]bool, n)
	for _, g := range groups {
		stats := Statistics(outcomes[g.Lo:g.Hi], known[g.Lo:g.Hi], c.Std == SampleStd)
		for i := g.Lo; i < g.Hi; i++ {
			outcome32[i] = float32(outcomes[i])
			mean[i], std[i], hasGroup[i] = float32(stats.Mean), float32(stats.Std), stats.Valid > 0
			usable[i] = known[i] && stats.Mixed() && judged[i].verdict != verify.Truncated
		}
	}
	out := []schemas.Filled{
		schemas.Verdict.From(verdicts), schemas.Outcome.From(outcome32, known...), schemas.Extracted.From(extracted, found...),
		schemas.VerifierScore.From(scores, graded...),
		schemas.GroupMean.From(mean, hasGroup...), schemas.GroupStd.From(std, hasGroup...), schemas.GroupValid.From(usable),
		schemas.FirstError.From(firstError, steps...), schemas.StepEnds.FromRows(stepEnds, placed...)}
	if c.Explain {
		out = append(out, schemas.VerdictRule.From(rules, ruled...), schemas.VerdictReason.From(reasons, reasoned...))
	}
	return b.With(out...)
}

// outcome is what a verdict counts as; false where it counts as nothing.
func (c *Config) outcome(v verify.Verdict) (float64, bool) {
	x, known := v.Outcome(verify.Abstains{UnparsableResponse: c.UnparsableResponse == AsAbstain})
	return float64(x), known
}

// rowError says that one row cannot be judged for a fault of its own; the row goes to the dead letters.
type rowError struct {
	reason schemas.Reason
	error
}

// judgeAll asks the verifier about every row, several at a time.
func (c *Config) judgeAll(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) ([]judgement, error) {
	n := b.NumRows()
	prompts, answers, responses := schemas.Prompt.Of(b), schemas.Answer.Of(b), schemas.Response.Of(b)
	finish := schemas.FinishReason.Of(b)
	tokens := func(int) []int32 { return nil } // of responses that are texts alone
	col, err := schemas.ResponseTokens.Find(b)
	texts := err != nil
	if !texts {
		tokens = col.Row
	}
	extra := func(int) string { return "" }
	if col, err := schemas.Extra.Find(b); err == nil {
		extra = func(i int) string { return col.At(i) }
	}
	judged, faults := make([]judgement, n), make([]error, n)
	one := func(i int) {
		if !texts && len(tokens(i)) == 0 {
			faults[i] = rowError{schemas.ReasonEmpty, errors.New("the response has no tokens")}
			return
		}
		if finish.At(i) == "error" {
			faults[i] = rowError{schemas.ReasonModel, errors.New("the generator failed on this response")}
			return
		}
		truncated := c.truncated(finish.At(i), tokens(i))
		judged[i], faults[i] = c.verifier.judge(ctx, question{prompt: prompts.At(i), answer: answers.At(i), hasAnswer: answers.Valid(i),
			extra: extra(i), tokens: tokens(i), finish: finish.At(i),
			response: verify.Response{Text: responses.At(i), Truncated: truncated}})
		if truncated && judged[i].verdict != verify.UnparsableAnswer { // where nothing is to be right, nothing is wrong
			judged[i].verdict = verify.Truncated // whatever it says so far
		}
	}
	workers := c.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	rows := make(chan int)
	var wg sync.WaitGroup
	for range min(workers, n) {
		wg.Go(func() {
			for i := range rows {
				if err := protect(func() { one(i) }); err != nil {
					faults[i] = rowError{schemas.ReasonPanic, err}
				}
			}
		})
	}
	for i := range n {
		rows <- i
	}
	close(rows)
	wg.Wait()
	for i, err := range faults {
		if row, ok := err.(rowError); ok {
			dead.Row(i, row.reason, row.error)
		} else if err != nil {
			return nil, fmt.Errorf("row %d: %w", i, err)
		}
	}
	return judged, nil
}

// protect turns a panic into an error: one in a goroutine would end the process.
func protect(f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	f()
	return nil
}

// truncated reports whether a response was cut off by its token budget.
func (c *Config) truncated(finish string, tokens []int32) bool {
	if finish != "unknown" {
		return finish == "length"
	}
	return c.MaxTokens > 0 && len(tokens) >= c.MaxTokens && !slices.Contains(c.StopTokens, tokens[len(tokens)-1])
}
