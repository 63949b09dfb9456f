package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/provingground"
	"github.com/millrace/millrace/transforms/stage"
)

// shape says how much a slice holds.
type shape struct{ Records, Groups, Responses, Tokens, Candidates int }

func init() { beam.RegisterDoFn(&sourceFn{}) }

// source makes rollouts where they are used, so that no file of the volume is needed: record i of a shape is always the same.
func source(s beam.Scope, slice int, c shape, make maker) stage.Rows {
	out := beam.ParDo(s, &sourceFn{Shape: c, Make: make}, beam.Reshuffle(s, beam.CreateList(s, indices(slice, c))))
	first, err := makers[make](c, 0)
	if err != nil {
		panic(err)
	}
	known := schemas.Known{}
	for _, name := range first.Columns() {
		d, _ := schemas.ByName(name)
		known.Columns = append(known.Columns, d)
	}
	return stage.Rows{PCollection: out, Known: &known}
}

func indices(slice int, c shape) []int {
	out := make([]int, c.Records)
	for i := range out {
		out[i] = slice*c.Records + i
	}
	return out
}

type sourceFn struct {
	Shape shape
	Make  maker
}

// maker names what a source makes.
type maker string

const (
	ofRollouts maker = "rollouts"
	ofPrompts  maker = "prompts"
)

var makers = map[maker]func(shape, int) (stage.Batch, error){ofRollouts: rollouts, ofPrompts: promptsOf}

// ProcessElement makes one record.
func (f *sourceFn) ProcessElement(ctx context.Context, index int, emit func(stage.Batch)) error {
	start := time.Now()
	b, err := makers[f.Make](f.Shape, index)
	if err != nil {
		return err
	}
	stage.Count(ctx, "source", "ms", int(time.Since(start).Milliseconds()))
	stage.Count(ctx, "source", "rows_out", b.NumRows())
	emit(b)
	return nil
}

const vocabulary = 49152

// rollouts makes a record: prompts with responses, of which about half are right, and what two models said about every
// token and about the listed ones. Every column is that of a real run.
func rollouts(c shape, index int) (stage.Batch, error) {
	r := rand.New(rand.NewPCG(2, uint64(index)))
	var prompts, responses []uuid.UUID
	var texts, answers, answered, finish []string
	var samples []int32
	offsets, items := []int32{0}, []int32{0}
	rows := []int32{0}
	var ids, candidates []int32
	var old, reward, candidateOld, candidateReward []float32
	logp := func() float32 { return -4 * r.Float32() }
	for g := range c.Groups {
		number := index*c.Groups + g
		a, b := r.IntN(900)+100, r.IntN(900)+100
		text := fmt.Sprintf("A shop sells %d pens on Monday and %d pens on Tuesday. How many pens does it sell on both days?", a, b)
		prompt := uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "jobs/%d", number))
		for k := range c.Responses {
			prompts, texts, answers = append(prompts, prompt), append(texts, text), append(answers, fmt.Sprint(a+b))
			responses, samples, finish = append(responses, uuid.NewSHA1(prompt, []byte{byte(k)})), append(samples, int32(k)), append(finish, "stop")
			n := c.Tokens/2 + r.IntN(c.Tokens+1)
			answered = append(answered, answer(a, b, a+b+r.IntN(2), n))
			for range n {
				id := int32(r.IntN(vocabulary))
				ids, old, reward = append(ids, id), append(old, logp()), append(reward, logp())
				for j := range c.Candidates {
					candidates = append(candidates, (id+int32(j))%vocabulary)
					candidateOld, candidateReward = append(candidateOld, logp()), append(candidateReward, logp())
				}
				items = append(items, int32(len(candidates)))
			}
			offsets = append(offsets, int32(len(ids)))
			rows = append(rows, int32(len(items)-1))
		}
	}
	policy, judge := schemas.FullLogP("policy"), schemas.FullLogP("reward")
	return schemas.NewRecord(schemas.Meta{Run: "jobs"},
		schemas.PromptID.From(prompts), schemas.Prompt.From(texts), schemas.Answer.From(answers),
		schemas.ResponseID.From(responses), schemas.Sample.From(samples), schemas.Response.From(answered), schemas.FinishReason.From(finish),
		schemas.ResponseTokens.From(offsets, ids),
		schemas.OldLogP.From(offsets, old).Defined(policy), schemas.RewardLogP.From(offsets, reward).Defined(judge),
		schemas.CandidateIDs.From(rows, items, candidates),
		schemas.CandidateOldLogP.From(rows, items, candidateOld).Defined(policy),
		schemas.CandidateRewardLogP.From(rows, items, candidateReward).Defined(judge))
}

// answer is a response of about so many tokens, at four bytes a token.
func answer(a, b, sum, tokens int) string {
	var w strings.Builder
	for step := 1; w.Len() < 4*tokens-40; step++ {
		fmt.Fprintf(&w, "Step %d: take %d pens and add %d pens, which may be done in parts. ", step, a, b)
	}
	fmt.Fprintf(&w, "So the answer is \\boxed{%d}.", sum)
	return w.String()
}

// promptsOf makes a record of prompts of the proving ground.
func promptsOf(c shape, index int) (stage.Batch, error) {
	ids, texts, answers := make([]uuid.UUID, c.Groups), make([]string, c.Groups), make([]string, c.Groups)
	for i := range texts {
		chain := provingground.Draw(rand.New(rand.NewPCG(3, uint64(index*c.Groups+i))).Float64)
		ids[i] = uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "jobs/%d/%d", index, i))
		texts[i], answers[i] = chain.Prompt(), fmt.Sprint(chain.Answer())
	}
	return schemas.NewRecord(schemas.Meta{Run: "jobs"}, schemas.PromptID.From(ids), schemas.Prompt.From(texts), schemas.Answer.From(answers))
}
