package stage_test

import (
	"context"
	"fmt"
	"log"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/google/uuid"

	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Length gives every response the number of its tokens as its outcome, up to a limit.
type Length struct {
	Max int `json:"max"`
}

// A stage is registered once, in the init function of its package.
func init() {
	stage.Register[Length]()
	register.Function1x0(printRows)
	register.Function1x0(printDead)
}

func (c *Length) Contract() schemas.Contract {
	return schemas.Contract{Name: "length", Needs: []schemas.Descriptor{schemas.ResponseTokens}, Adds: []schemas.Descriptor{schemas.Outcome}}
}

func (c *Length) Setup(context.Context) error { return nil }

func (c *Length) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	tokens := schemas.ResponseTokens.Of(b)
	lengths := make([]float32, b.NumRows())
	for i := range lengths {
		n := len(tokens.Row(i))
		if n > c.Max {
			dead.Rowf(i, schemas.ReasonTooLarge, "%d tokens, at most %d", n, c.Max)
		}
		lengths[i] = float32(n)
	}
	return b.With(schemas.Outcome.From(lengths))
}

func printRows(b stage.Batch) { fmt.Println("lengths", schemas.Outcome.Of(b).Values) }

func printDead(b stage.Batch) {
	fmt.Println("dead:", schemas.DeadStage.Of(b).At(0), schemas.DeadReason.Of(b).At(0), "-", schemas.DeadMessage.Of(b).At(0))
}

// Three responses go through a stage on the embedded runner. The one that is too long becomes a dead letter, and the counters
// say where every row went.
func ExampleApply() {
	prompt := uuid.NewSHA1(uuid.Nil, []byte("prompt"))
	var prompts, responses []uuid.UUID
	for i := range 3 {
		prompts, responses = append(prompts, prompt), append(responses, uuid.NewSHA1(prompt, []byte{byte(i)}))
	}
	batch, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(prompts), schemas.ResponseID.From(responses),
		schemas.ResponseTokens.FromRows([][]int32{{7, 8}, {7, 8, 9, 9, 9}, {7, 9, 9}}))
	if err != nil {
		log.Fatal(err)
	}

	runners.Init()
	p, s := beam.NewPipelineWithRoot()
	rows := stage.Rows{PCollection: beam.CreateList(s, []stage.Batch{batch})}
	measured, dead := stage.Apply(s, Length{Max: 4}, rows)
	beam.ParDo0(s, printRows, measured.PCollection)
	beam.ParDo0(s, printDead, dead.PCollection)
	result, err := runners.Run(context.Background(), p, runners.Default())
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range stage.CountsOf(result) {
		fmt.Println(c.Stage, "- in", c.In, "kept", c.Kept, "dead", c.Dead)
	}
	// Unordered output:
	// lengths [2 3]
	// dead: length too_large - 5 tokens, at most 4
	// length - in 3 kept 2 dead 1
}
