package evaluate

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/google/uuid"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/series"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// valued draws prompts of four responses with outcomes, prefix values at beta 10 and step labels.
func valued(t testing.TB, seed uint64, prompts int) stage.Batch {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	n := 4 * prompts
	ids, responses := make([]uuid.UUID, n), make([]uuid.UUID, n)
	verdicts, outcomes, known := make([]string, n), make([]float32, n), make([]bool, n)
	value, mean, p := make([][]float32, n), make([][]float32, n), make([][]float32, n)
	first, ends, tokens := make([]int32, n), make([][]int32, n), make([][]int32, n)
	for i := range n {
		ids[i] = uuid.NewSHA1(uuid.Nil, []byte{byte(i / 4)})
		responses[i] = uuid.NewSHA1(ids[i], []byte{byte(i)})
		outcomes[i], known[i], verdicts[i] = float32(r.IntN(2)), r.IntN(8) > 0, "incorrect"
		switch {
		case !known[i]:
			verdicts[i] = "budget"
		case outcomes[i] == 1:
			verdicts[i] = "correct"
		case r.IntN(5) == 0:
			verdicts[i] = "truncated"
		}
		length, sum := 2+r.IntN(12), 0.0
		for k := range length {
			tokens[i] = append(tokens[i], int32(i+k))
			sum += 10 * (r.NormFloat64() + float64(outcomes[i]) - 0.5) / 5
			value[i], mean[i] = append(value[i], float32(sum)), append(mean[i], float32(sum)/float32(k+1))
			p[i] = append(p[i], float32(series.Sigmoid(float64(mean[i][k]))))
		}
		ends[i], first[i] = []int32{int32(length+1) / 2, int32(length)}, int32(r.IntN(2))
		if outcomes[i] == 1 {
			first[i] = -1
		}
	}
	p[0][0] = float32(math.NaN())
	b, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(ids), schemas.ResponseID.From(responses),
		schemas.ResponseTokens.FromRows(tokens), schemas.Verdict.From(verdicts),
		schemas.Outcome.From(outcomes, known...), schemas.Value.FromRows(value), schemas.MeanValue.FromRows(mean), schemas.PCorrect.FromRows(p),
		schemas.FirstError.From(first), schemas.StepEnds.FromRows(ends))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func everything() Config {
	c := Default()
	c.Values, c.Steps, c.K = true, true, []int{1, 2, 4}
	return c
}

func sumsOf(t testing.TB, c Config, parts ...stage.Batch) Sums {
	t.Helper()
	var all Sums
	for _, b := range parts {
		var s Sums
		if err := c.Add(b, &s); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var travelled Sums
		if err := json.Unmarshal(raw, &travelled); err != nil {
			t.Fatal(err)
		}
		all.Merge(travelled)
	}
	return all
}

func text(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestReportAgainstTheFunctions(t *testing.T) {
	in, c := valued(t, 1, 30), everything()
	rep := c.Report(sumsOf(t, c, in))
	var p, y, shares, pass2 []float64
	var lengths []int
	groups, err := in.Groups()
	if err != nil {
		t.Fatal(err)
	}
	outcome, pc := schemas.Outcome.Of(in), schemas.PCorrect.Of(in)
	for _, g := range groups {
		n, right := 0, 0
		for i := g.Lo; i < g.Hi; i++ {
			r, ok := outcome.At(i)
			if !ok {
				continue
			}
			n++
			right += int(r)
			if i == 0 {
				continue // its p_correct holds NaN
			}
			lengths, y = append(lengths, len(pc.Row(i))), append(y, float64(r))
			for _, x := range pc.Row(i) {
				p = append(p, float64(x))
			}
		}
		if n > 0 {
			shares = append(shares, float64(right)/float64(n))
		}
		if n >= 2 {
			pass2 = append(pass2, PassAtK(n, right, 2))
		}
	}
	all, deciles := ByDecile(p, lengths, y, c.Bins)
	if rep.Calibration.N != all.N || rep.Prompts != 30 || rep.Responses != 120 || rep.Truncated == 0 || rep.Abstained == 0 {
		t.Errorf("counts: %s", text(t, rep))
	}
	golden.CloseTo(t, "ece", *rep.Calibration.ECE, *all.ECE, 1e-12)
	golden.CloseTo(t, "brier", *rep.Calibration.Brier, *all.Brier, 1e-12)
	golden.CloseTo(t, "auc", *rep.Calibration.AUC, *all.AUC, 1e-3)
	golden.CloseTo(t, "brier of the last decile", *rep.ByDecile[9].Brier, *deciles[9].Brier, 1e-12)
	golden.CloseTo(t, "avg", rep.Avg.Mean, Over(shares).Mean, 0)
	golden.CloseTo(t, "its standard error", rep.Avg.StdErr, Over(shares).StdErr, 0)
	golden.CloseTo(t, "pass@2", rep.PassAt[1].Mean, Over(pass2).Mean, 0)
	if rep.PassAt[2].N >= rep.PassAt[0].N {
		t.Error("prompts with fewer than 4 outcomes count for pass@4")
	}
	for _, s := range rep.Steps {
		if s.Items+int(rep.Unplaced) != 120 || rep.Unplaced > 1 || s.Best.Threshold == nil { // row 0 has a NaN
			t.Errorf("steps: %+v", s)
		}
	}
}

func TestReportDoesNotDependOnTheSplit(t *testing.T) {
	in, c := valued(t, 2, 12), everything()
	want := text(t, c.Report(sumsOf(t, c, in)))
	groups := stagetest.Groups(t, in)
	rand.New(rand.NewPCG(3, 3)).Shuffle(len(groups), func(i, j int) { groups[i], groups[j] = groups[j], groups[i] })
	if got := text(t, c.Report(sumsOf(t, c, groups...))); got != want {
		t.Errorf("report of single groups\n%s\nof the whole\n%s", got, want)
	}
}

func TestRankOrders(t *testing.T) {
	last := rank(0)
	for i := 1; i <= 100000; i++ {
		now := rank(float64(i) / 100000)
		if now < last {
			t.Fatalf("rank falls at %v", float64(i)/100000)
		}
		last = now
	}
	if rank(1e-6) == rank(1e-5) || rank(1-1e-6) == rank(1-1e-5) {
		t.Error("probabilities near 0 or 1 are not told apart")
	}
}

// gathered receives what the embedded runner, which runs in this process, computed.
var gathered struct {
	sync.Mutex
	sums []Sums
}

func gather(s Sums) {
	gathered.Lock()
	defer gathered.Unlock()
	gathered.sums = append(gathered.sums, s)
}

func init() { register.Function1x0(gather) }

func TestApplyOnTheEmbeddedRunner(t *testing.T) {
	in, c := valued(t, 4, 9), everything()
	p, s := beam.NewPipelineWithRoot()
	beam.ParDo0(s, gather, Apply(s, c, stagetest.Source(s, stagetest.Groups(t, in))))
	stagetest.Execute(t, p)
	if len(gathered.sums) != 1 {
		t.Fatalf("%d sums", len(gathered.sums))
	}
	if got, want := text(t, c.Report(gathered.sums[0])), text(t, c.Report(sumsOf(t, c, in))); got != want {
		t.Errorf("report\n%s\nwant\n%s", got, want)
	}
}

func TestComparePrompts(t *testing.T) {
	c := Default()
	a := sumsOf(t, c, valued(t, 5, 20)).Prompts
	b := sumsOf(t, c, valued(t, 6, 20)).Prompts
	if cmp := ComparePrompts(a, a, 0.95); cmp.Verdict != Undecided || cmp.Difference.Mean != 0 {
		t.Errorf("a run against itself: %+v", cmp)
	}
	better := make([]PromptResult, len(b))
	for i, p := range b {
		p.Correct = p.N
		better[len(b)-1-i] = p
	}
	if cmp := ComparePrompts(b, better, 0.95); cmp.Verdict != BetterB || cmp.B.Mean != 1 {
		t.Errorf("a perfect run: %+v", cmp)
	}
	if cmp := ComparePrompts(a, nil, 0.95); cmp.Verdict != Undecided || cmp.Difference.N != 0 {
		t.Errorf("no prompt in common: %+v", cmp)
	}
}

func TestEmptyReportIsJSON(t *testing.T) {
	c := everything()
	if raw := text(t, c.Report(Sums{})); strings.Contains(raw, "NaN") {
		t.Error(raw)
	}
	for want, change := range map[string]func(*Config){
		"k[0]": func(c *Config) { c.K = []int{0} }, "bins": func(c *Config) { c.Bins = 0 }, "beta": func(c *Config) { c.Beta = 0 },
	} {
		c := everything()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("error %v, want one of %s", err, want)
		}
	}
}
