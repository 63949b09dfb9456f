package stagetest_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// Lengths is a stage that judges a response by its length: 1 for an even number of tokens. Misbehave makes it do what
// stages do wrong.
type Lengths struct {
	Misbehave string
	ready     bool
}

func (c *Lengths) Contract() schemas.Contract {
	return schemas.Contract{Name: "lengths", Needs: []schemas.Descriptor{schemas.ResponseTokens}, Adds: []schemas.Descriptor{schemas.Outcome}}
}

func (c *Lengths) Setup(context.Context) error { c.ready = true; return nil }

func (c *Lengths) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	if !c.ready {
		return b, errors.New("not set up")
	}
	tokens := schemas.ResponseTokens.Of(b)
	out, known := make([]float32, b.NumRows()), make([]bool, b.NumRows())
	for i := range out {
		row := tokens.Row(i)
		if len(row) == 0 {
			dead.Rowf(i, schemas.ReasonEmpty, "response without a token")
			continue
		}
		switch {
		case c.Misbehave == "panic" && row[0] == 9:
			panic("nine")
		case c.Misbehave == "filter" && row[0] == 9:
			dead.Filter(i)
		}
		out[i], known[i] = float32(1-len(row)%2), true
	}
	switch c.Misbehave {
	case "lose":
		b = b.Slice(1, b.NumRows())
		out, known = out[1:], known[1:]
	case "unnamed":
		schemas.OldLogP.Of(b)
	case "swap":
		b, _ = b.Take([]int{1, 0, 2})
	case "world":
		return b, errors.New("the disk is full")
	}
	return b.With(schemas.Outcome.From(out, known...))
}

func init() { stage.Register[Lengths]() }

func batch(t testing.TB, rows ...[]int32) stage.Batch {
	t.Helper()
	prompts, ids := make([]uuid.UUID, len(rows)), make([]uuid.UUID, len(rows))
	for i := range rows {
		prompts[i] = uuid.NewSHA1(uuid.Nil, []byte{byte(i / 2)})
		ids[i] = uuid.NewSHA1(prompts[i], []byte{byte(i)})
	}
	b, err := schemas.NewRecord(schemas.Meta{Run: "test"}, schemas.PromptID.From(prompts), schemas.ResponseID.From(ids),
		schemas.ResponseTokens.FromRows(rows))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRun(t *testing.T) {
	out, dead := stagetest.Run(t, Lengths{}, batch(t, []int32{1, 2}, nil, []int32{3}))
	if v := schemas.Outcome.Of(out).Values; len(v) != 2 || v[0] != 1 || v[1] != 0 {
		t.Errorf("outcomes %v", v)
	}
	stagetest.Dead(t, dead, schemas.ReasonEmpty)
	if got := out.Meta().Lineage["outcome"]; !strings.HasPrefix(got, "lengths@") {
		t.Errorf("lineage of outcome is %q", got)
	}
}

func TestPipeline(t *testing.T) {
	in := batch(t, []int32{1, 2}, nil, []int32{9}, []int32{4, 4}, []int32{5}, []int32{6})
	for _, cfg := range []Lengths{{}, {Misbehave: "panic"}, {Misbehave: "filter"}} {
		wantOut, wantDead := stagetest.Run(t, cfg, in)
		out, dead := stagetest.Pipeline(t, cfg, in)
		stagetest.Same(t, cfg.Misbehave+": rows", out, wantOut)
		stagetest.Same(t, cfg.Misbehave+": dead letters", dead.Without(schemas.DeadMessage), wantDead.Without(schemas.DeadMessage))
	}
}

func TestPanicCostsItsGroup(t *testing.T) {
	in := batch(t, []int32{1, 2}, nil, []int32{9}, []int32{4, 4}, []int32{5}, []int32{6})
	out, dead := stagetest.Run(t, Lengths{Misbehave: "panic"}, in)
	if out.NumRows() != 3 {
		t.Errorf("%d rows kept, want 3", out.NumRows())
	}
	stagetest.Dead(t, dead, schemas.ReasonEmpty, schemas.ReasonPanic, schemas.ReasonPanic)
	if msg := schemas.DeadMessage.Of(dead).At(1); !strings.Contains(msg, "nine") {
		t.Errorf("message %q does not say what the panic was", msg)
	}
	back, err := stage.Revive(dead)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := stagetest.Run(t, Lengths{}, back[len(back)-1])
	if again.NumRows() != 2 || again.Meta().Attempts != 1 {
		t.Errorf("fed back: %d rows, %d attempts", again.NumRows(), again.Meta().Attempts)
	}
}

func TestMisbehaviour(t *testing.T) {
	in := batch(t, []int32{1, 2}, []int32{3}, []int32{9})
	for what, want := range map[string]string{
		"lose":    "stage lengths: returned 2 rows for 3",
		"swap":    "stage lengths: returned other rows",
		"unnamed": `stage lengths: column "old_logp" is missing`,
		"world":   "stage lengths: the disk is full",
	} {
		m := &Lengths{Misbehave: what}
		m.Setup(context.Background())
		if _, err := stage.Run(context.Background(), m, in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", what, err, want)
		}
	}
	m := &Lengths{}
	m.Setup(context.Background())
	if _, err := stage.Run(context.Background(), m, in.Without(schemas.ResponseTokens)); err == nil ||
		!strings.Contains(err.Error(), "response_tokens") {
		t.Errorf("missing column: %v", err)
	}
}

func TestContractAtConstruction(t *testing.T) {
	_, s := beam.NewPipelineWithRoot()
	in := stagetest.Source(s, []stage.Batch{batch(t, []int32{1})})
	known, err := schemas.Chain([]schemas.Descriptor{schemas.PromptID})
	if err != nil {
		t.Fatal(err)
	}
	in.Known = &known
	defer func() {
		if p, ok := recover().(string); !ok || !strings.Contains(p, `needs column "response_tokens"`) || !strings.Contains(p, "stage rollout") {
			t.Errorf("panic %v", p)
		}
	}()
	stage.Apply(s, Lengths{}, in)
}
