package continuation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/provingground"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// corrupted are responses of the proving ground, half of which have one wrong step, with the exact first wrong step of each.
func corrupted(t *testing.T, n int) (b stage.Batch, exact []int) {
	t.Helper()
	tok, err := tokenizer.Load(policy)
	if err != nil {
		t.Fatal(err)
	}
	draw := rand.New(rand.NewPCG(1, 2))
	ids, responseIDs := make([]uuid.UUID, n), make([]uuid.UUID, n)
	prompts, answers, texts := make([]string, n), make([]string, n), make([]string, n)
	promptTokens, tokens, ends, outcomes := make([][]int32, n), make([][]int32, n), make([][]int32, n), make([]float32, n)
	for i := range n {
		chain := provingground.Draw(draw.Float64)
		response := chain.Corrupt(draw.Float64)
		check := chain.Judge(response)
		exact = append(exact, check.FirstError)
		prompts[i], answers[i], texts[i] = chain.Prompt(), fmt.Sprint(chain.Answer()), response
		ids[i], responseIDs[i] = uuid.NewSHA1(uuid.Nil, []byte(prompts[i])), uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i))
		for _, p := range []struct {
			text string
			into *[]int32
		}{{prompts[i], &promptTokens[i]}, {response, &tokens[i]}} {
			if *p.into, err = tok.Encode(p.text); err != nil {
				t.Fatal(err)
			}
		}
		tokens[i] = append(tokens[i], tok.EOS()[0])
		_, ends[i] = tokenizer.TextEnds(tok, tokens[i])
		if check.Correct {
			outcomes[i] = 1
		}
	}
	b, err = schemas.NewRecord(schemas.Meta{Run: "test"}, schemas.PromptID.From(ids), schemas.Prompt.From(prompts),
		schemas.Answer.From(answers),
		schemas.ResponseID.From(responseIDs), schemas.PromptTokens.FromRows(promptTokens), schemas.ResponseTokens.FromRows(tokens),
		schemas.Response.From(texts), schemas.TokenEnds.FromRows(ends), schemas.Outcome.From(outcomes))
	if err != nil {
		t.Fatal(err)
	}
	return b, exact
}

func labeller(change func(*StepLabels)) StepLabeller {
	c := StepLabeller{StepLabels: DefaultStepLabels(), Judge: Judge{Kind: "proving_ground"}, Policy: models.Ref{Path: policy}, Seed: 3}
	c.MaxNewTokens, c.Continuations, c.Threshold = 64, 16, 0.2
	change(&c.StepLabels)
	return c
}

// labelled runs the stage on a batch.
func labelled(t *testing.T, c StepLabeller, b stage.Batch) (out stage.Batch, dead int) {
	t.Helper()
	if err := c.Setup(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer c.Teardown()
	result, err := stage.Run(context.Background(), &c, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range result.Reasons {
		dead += n
	}
	return stagetest.Join(t, result.Out), dead
}

// TestSearches: both searches are held against the exact truth, and binary search takes fewer continuations.
func TestSearches(t *testing.T) {
	if testing.Short() {
		t.Skip("samples")
	}
	b, exact := corrupted(t, 120)
	type score struct{ wrong, right, cost, repaired, agree int }
	count := func(c StepLabeller) (s score) {
		out, _ := labelled(t, c, b)
		first, swept, tried := MCFirstError.Of(out), MCSweptError.Of(out), MCTried.Of(out)
		for i := range out.NumRows() {
			at, known := first.At(i)
			if y, _ := schemas.Outcome.Of(out).At(i); y == 1 {
				if known && at != -1 {
					t.Errorf("a right response has its first error at %d", at)
				}
				continue
			}
			for _, n := range tried.Row(i) {
				s.cost += int(n)
			}
			if !known {
				continue
			}
			s.wrong++
			if int(at) == exact[i] {
				s.right++
			}
			if MCRepaired.Of(out).At(i) {
				s.repaired++
			}
			if x, ok := swept.At(i); ok && x == at {
				s.agree++
			}
		}
		return s
	}
	sweep := count(labeller(func(c *StepLabels) { c.Search = Sweep }))
	binary := count(labeller(func(c *StepLabels) { c.Audit = 0 }))
	audited := count(labeller(func(c *StepLabels) { c.Audit = 1 }))
	t.Logf("sweep %+v, binary %+v, binary with all audited %+v", sweep, binary, audited)
	if sweep.wrong < 30 || 3*sweep.right < 2*sweep.wrong || 3*binary.right < 2*binary.wrong {
		t.Errorf("of %d first errors the sweep finds %d, and of %d binary search finds %d", sweep.wrong, sweep.right, binary.wrong, binary.right)
	}
	if 3*binary.cost > 2*sweep.cost || binary.cost == 0 {
		t.Errorf("binary search takes %d continuations, and the sweep %d", binary.cost, sweep.cost)
	}
	if audited.cost != sweep.cost || audited.right < binary.right || audited.agree > audited.wrong || 10*audited.agree < 8*audited.wrong ||
		audited.wrong-audited.agree > audited.repaired {
		t.Errorf("where all are audited, %+v: searches differ only where a step is repaired", audited)
	}
}

// TestAlone: what is found of a prompt does not depend on the others.
func TestAlone(t *testing.T) {
	b, _ := corrupted(t, 12)
	c := labeller(func(c *StepLabels) { c.Audit = 0.5 })
	whole, _ := labelled(t, c, b)
	for i, group := range stagetest.Groups(t, b) {
		one, _ := labelled(t, c, group)
		stagetest.Same(t, fmt.Sprint("group ", i), one, stagetest.Groups(t, whole)[i])
	}
}

// TestNoRoom: a prefix that leaves no token to go on with tells nothing, and neither does a response without outcome.
func TestNoRoom(t *testing.T) {
	b, _ := corrupted(t, 12)
	out, dead := labelled(t, labeller(func(c *StepLabels) { c.MaxNewTokens = 2 }), b)
	for i := range out.NumRows() {
		y, _ := schemas.Outcome.Of(out).At(i)
		if at, known := MCFirstError.Of(out).At(i); y == 0 && known || y == 1 && at != -1 {
			t.Errorf("first error %d, %v", at, known)
		}
	}
	if dead != 0 {
		t.Errorf("%d dead rows", dead)
	}
}

// TestValidateStepLabels: settings out of their ranges are errors of their paths.
func TestValidateStepLabels(t *testing.T) {
	for want, change := range map[string]func(*StepLabels){
		"steps": func(c *StepLabels) { c.Steps = "words" }, "search": func(c *StepLabels) { c.Search = "" },
		"continuations": func(c *StepLabels) { c.Continuations = 0 }, "threshold": func(c *StepLabels) { c.Threshold = 1.5 },
		"audit": func(c *StepLabels) { c.Audit = -1 }, "candidate_k": func(c *StepLabels) { c.CandidateK = 2 },
	} {
		c := DefaultStepLabels()
		change(&c)
		if err := setting.Check(c); err == nil || !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("error %v, want one of %s", err, want)
		}
	}
}
