package revise

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// reviser is a model that holds each token y after a prompt of first token p as probable as 1/(1+(p+y mod 7)), and that
// writes the first token of its prompt and an end token; where that is 5 it never ends.
type reviser struct{}

const marker = "reviser"

// window is how long a sequence the reviser takes.
const window = 12

func init() {
	models.RegisterFormat(models.Format{
		Name:   "test reviser",
		Match:  func(path string) bool { _, err := os.Stat(filepath.Join(path, marker)); return err == nil },
		Open:   func(context.Context, models.Ref) (models.Model, error) { return reviser{}, nil },
		Window: func(string) (int, error) { return window, nil },
	})
}

func (reviser) Close() error { return nil }

func logp(first, y int32) float64 { return -math.Log(1 + float64((first+y)%7)) }

func (reviser) Score(_ context.Context, requests []models.ScoreRequest) ([]models.ScoreResult, error) {
	out := make([]models.ScoreResult, len(requests))
	for q, r := range requests {
		if r.Prompt[0] == 9 {
			out[q].Err = errors.New("token outside the vocabulary")
			continue
		}
		for _, y := range r.Response {
			out[q].LogP = append(out[q].LogP, float32(logp(r.Prompt[0], y)))
		}
	}
	return out, nil
}

func (reviser) Generate(_ context.Context, requests []models.GenerateRequest) ([]models.GenerateResult, error) {
	out := make([]models.GenerateResult, len(requests))
	for q, r := range requests {
		response := models.Response{Tokens: []int32{r.Prompt[0], 1}, Finish: models.FinishStop}
		if r.Prompt[0] == 5 {
			response.Finish = models.FinishLength
		}
		if r.Samples != 1 || !slices.Equal(r.Sampling.Stop, []int32{1}) {
			return nil, errors.New("not asked for one revision up to the end token")
		}
		out[q].Responses = []models.Response{response}
	}
	return out, nil
}

func model(t testing.TB) models.Ref {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, marker), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tokenizer.NewProvingGround(true).(interface{ Save(string) error }).Save(dir); err != nil {
		t.Fatal(err)
	}
	return models.Ref{Path: dir}
}

func id(space uuid.UUID, k int) uuid.UUID { return uuid.NewSHA1(space, []byte{byte(k)}) }

var labels = Labels{No: IDs(26), Minor: IDs(27), Major: IDs(28)}

func TestRevise(t *testing.T) {
	n := 7
	prompts, ids, promptTokens, tokens := make([]uuid.UUID, n), make([]uuid.UUID, n), make([][]int32, n), make([][]int32, n)
	for i := range n {
		prompts[i], promptTokens[i], tokens[i] = id(uuid.Nil, i/2), []int32{int32(i)}, []int32{int32(3 + i), 1}
		ids[i] = id(prompts[i], i)
	}
	promptTokens[6], tokens[4] = []int32{9}, nil
	in, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(prompts), schemas.ResponseID.From(ids),
		schemas.PromptTokens.FromRows(promptTokens), schemas.ResponseTokens.FromRows(tokens))
	if err != nil {
		t.Fatal(err)
	}
	c := Reviser{Config: Default(8), Model: model(t)}
	c.Labels = labels
	t.Run(Decided, func(t *testing.T) { testRevise(t, c, in, promptTokens, tokens) })
	c.Label = Always
	t.Run(Always, func(t *testing.T) { testRevise(t, c, in, promptTokens, tokens) })
}

func testRevise(t *testing.T, c Reviser, in stage.Batch, promptTokens, tokens [][]int32) {
	out, dead := stagetest.Run(t, c, in)
	stagetest.Dead(t, dead, schemas.ReasonEmpty, schemas.ReasonModel)
	got := schemas.RevisionLabel.Of(out)
	at := 0
	for i := range promptTokens {
		if i >= 4 && i != 5 {
			continue
		}
		first := int32(i)
		want := Decide(math.Exp(logp(first, 26)), math.Exp(logp(first, 27)), math.Exp(logp(first, 28)), 0.5)
		if c.Label == Always {
			want = Revision(logp(first, 27), logp(first, 28))
		}
		if i == 5 && want != No {
			continue // its revision never ends: filtered
		}
		revised := []int32{first, 1}
		if want == No {
			revised = tokens[i]
		}
		if got.At(at) != want || !slices.Equal(schemas.RevisedTokens.Of(out).Row(at), revised) {
			t.Errorf("response %d: %s, %v; want %s, %v", i, got.At(at), schemas.RevisedTokens.Of(out).Row(at), want, revised)
		}
		if text := schemas.Revised.Of(out).At(at); strings.Contains(text, "eos") {
			t.Errorf("response %d: revised text %q", i, text)
		}
		at++
	}
	if at != out.NumRows() {
		t.Errorf("%d rows, want %d", out.NumRows(), at)
	}
	piped, letters := stagetest.Pipeline(t, c, in)
	stagetest.Same(t, "rows", piped, out)
	stagetest.Same(t, "dead letters", letters, dead)
}

func pairs(t testing.TB) stage.Batch {
	t.Helper()
	n := 5
	prompts, ids, promptTokens, better, worse := make([]uuid.UUID, n), make([]uuid.UUID, n), make([][]int32, n), make([][]int32, n),
		make([][]int32, n)
	for i := range n {
		prompts[i] = id(uuid.Nil, i/2)
		ids[i] = id(prompts[i], i)
		promptTokens[i], better[i], worse[i] = []int32{int32(i)}, []int32{int32(3 + 2*i), 1}, []int32{4, 2, 1}
	}
	worse[3] = nil
	b, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(prompts), schemas.PairID.From(ids),
		schemas.PromptTokens.FromRows(promptTokens),
		schemas.ChosenTokens.FromRows(better), schemas.RejectedTokens.FromRows(worse))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTasks(t *testing.T) {
	in := pairs(t)
	layout := Layout{Before: IDs(0), Between: IDs(20)}
	scored, dead := stagetest.Run(t, Scorer{Layout: layout, Model: model(t)}, in)
	stagetest.Dead(t, dead, schemas.ReasonEmpty)
	gains := []float64{}
	for i := range scored.NumRows() {
		var w, l []float64
		for _, y := range schemas.ChosenTokens.Of(scored).Row(i) {
			w = append(w, logp(0, y))
		}
		for _, y := range schemas.RejectedTokens.Of(scored).Row(i) {
			l = append(l, logp(0, y))
		}
		gains = append(gains, Gain(w, l))
		golden.CloseTo(t, "gain", float64(schemas.RevisionGain.Of(scored).Values[i]), gains[i], 1e-6)
	}

	adaptive := TaskConfig{Adaptive: true, Layout: layout, Labels: labels}
	cut := stagetest.Groups(t, scored)
	out, dead := stagetest.Collect(t, cut, func(s beam.Scope, p stage.Rows) (stage.Rows, stage.Rows) {
		return Tasks(s, adaptive, p)
	})
	stagetest.Dead(t, dead)
	if out.NumRows() != 8 {
		t.Fatalf("%d rows of 4 pairs", out.NumRows())
	}
	count := map[string]int{}
	seen := map[uuid.UUID]bool{}
	for i := range out.NumRows() {
		if row := out.RowIDs()[i]; seen[row] {
			t.Errorf("two rows have id %s", row)
		} else {
			seen[row] = true
		}
		label := schemas.RevisionLabel.Of(out).At(i)
		count[label]++
		pair := slices.Index(schemas.PairID.Of(scored), schemas.OfPair.Of(out)[i])
		better, worse := schemas.ChosenTokens.Of(scored).Row(pair), schemas.RejectedTokens.Of(scored).Row(pair)
		shown := worse
		if label == No {
			shown = better
		} else if want := Split(gains[pair], Median(gains)); label != want {
			t.Errorf("pair %d is %s, want %s", pair, label, want)
		}
		if got, want := schemas.PromptTokens.Of(out).Row(i),
			slices.Concat([]int32{0, int32(schemas.PromptTokens.Of(scored).Row(pair)[0]), 20}, shown); !slices.Equal(got, want) {
			t.Errorf("row %d shows %v, want %v", i, got, want)
		}
		if got, want := schemas.ResponseTokens.Of(out).Row(i), slices.Concat(labels.tokens(label), better); !slices.Equal(got, want) {
			t.Errorf("row %d writes %v, want %v", i, got, want)
		}
	}
	if count[No] != 4 || count[Major] != 2 || count[Minor] != 2 {
		t.Errorf("labels %v", count)
	}

	base, dead := stagetest.RunWith(t, TaskConfig{Layout: layout}, in, AllGains{})
	stagetest.Dead(t, dead, schemas.ReasonEmpty)
	if base.NumRows() != 4 || !slices.Equal(schemas.ResponseTokens.Of(base).Row(0), []int32{3, 1}) ||
		!slices.Equal(schemas.PromptTokens.Of(base).Row(0), []int32{0, 0, 20, 4, 2, 1}) {
		t.Errorf("base rows: %v", base.Arrow())
	}
}

// A task that the reviser cannot read whole is set aside: it would end the update that reads it. Every pair here is of 6 tokens, and makes
// tasks of as many for the base reviser, of one more with a label.
func TestTasksThatAreTooLong(t *testing.T) {
	in := pairs(t)
	scored, _ := stagetest.Run(t, Scorer{Model: model(t)}, in)
	long := schemas.ReasonTooLong
	base := []schemas.Reason{long, long, long, schemas.ReasonEmpty, long}
	for _, c := range []struct {
		in       stage.Batch
		adaptive bool
		around   int
		rows     int
		dead     []schemas.Reason
	}{
		{in, false, window - 6, 4, base[3:4]},
		{in, false, window - 5, 0, base},
		{scored, true, window - 7, 8, nil},
		{scored, true, window - 6, 0, []schemas.Reason{long, long, long, long}},
	} {
		task := TaskConfig{Adaptive: c.adaptive, Labels: labels, Layout: Layout{After: IDs(make([]int32, c.around)...)}, Model: model(t)}
		out, dead := stagetest.RunWith(t, task, c.in, AllGains{Gains: []float64{0}})
		if stagetest.Dead(t, dead, c.dead...); out.NumRows() != c.rows {
			t.Errorf("adaptive %v, %d tokens around: %d tasks, want %d", c.adaptive, c.around, out.NumRows(), c.rows)
		}
	}
}

func TestConfigs(t *testing.T) {
	ok := Default(8)
	ok.Labels = labels
	if err := setting.Check(ok); err != nil {
		t.Error(err)
	}
	for want, err := range map[string]error{
		"labels.no:":                 setting.Check(Default(8)),
		"labels.major: has the same": setting.Check(TaskConfig{Adaptive: true, Labels: Labels{No: IDs(1), Minor: IDs(2), Major: IDs(1)}}),
		"label:":                     func() error { c := ok; c.Label = "never"; return setting.Check(c) }(),
		"threshold:":                 func() error { c := ok; c.Threshold = 1.5; return setting.Check(c) }(),
		"threshold: is not read":     func() error { c := ok; c.Label, c.Threshold = Always, 0.6; return setting.Check(c) }(),
		"sampling.":                  func() error { c := ok; c.Sampling.MaxNewTokens = 0; return setting.Check(c) }(),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want one of %s", err, want)
		}
	}
}
