package advantage

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/series"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// columns is what the test batches are made of: packed responses of n to a prompt.
type columns struct {
	lengths          []int
	n                int
	outcomes         []float64
	abstain          map[int]bool
	truncated        []int
	td               []float64 // reward_logp - reference, beta 1
	old, ref, critic []float64
	q                []float64
}

func (c columns) batch(t testing.TB) stage.Batch {
	t.Helper()
	rows := len(c.lengths)
	start := offsets(c.lengths)
	prompts, ids := make([]uuid.UUID, rows), make([]uuid.UUID, rows)
	verdicts, finish, outcome := make([]string, rows), make([]string, rows), make([]float32, rows)
	has, tokens, candidates := make([]bool, rows), make([][]int32, rows), make([][][]int32, rows)
	per := map[string][][]float32{}
	listed := map[string][][][]float32{}
	cut := func(name string, i int, x []float64) {
		row := make([]float32, c.lengths[i])
		for k := range row {
			row[k] = -1
			if x != nil {
				row[k] = float32(x[start[i]+k])
			}
		}
		per[name] = append(per[name], row)
	}
	var reward []float64
	for _, x := range c.td {
		reward = append(reward, x-1)
	}
	for i := range rows {
		prompts[i] = uuid.NewSHA1(uuid.Nil, []byte{byte(i / c.n)})
		ids[i] = uuid.NewSHA1(prompts[i], []byte{byte(i)})
		verdicts[i], finish[i], has[i] = "incorrect", "stop", !c.abstain[i]
		if c.outcomes != nil {
			outcome[i] = float32(c.outcomes[i])
		}
		if outcome[i] == 1 {
			verdicts[i] = "correct"
		}
		if c.truncated != nil && c.truncated[i] != 0 {
			verdicts[i], finish[i] = "truncated", "length"
		}
		tokens[i] = make([]int32, c.lengths[i])
		var ids [][]int32
		var oldList, rewardList [][]float32
		for k := range c.lengths[i] {
			ids = append(ids, []int32{0, int32(k + 1)})
			oldList, rewardList = append(oldList, []float32{-1, -2}), append(rewardList, []float32{-0.5, -4})
		}
		candidates[i] = ids
		listed["old"], listed["reward"] = append(listed["old"], oldList), append(listed["reward"], rewardList)
		cut("old", i, c.old)
		cut("ref", i, c.ref)
		cut("reward", i, reward)
		cut("critic", i, c.critic)
		cut("q", i, c.q)
	}
	mu, sd, hasGroup := make([]float32, rows), make([]float32, rows), make([]bool, rows)
	for lo := 0; lo < rows; lo += c.n {
		var m series.Moments
		for i := lo; i < lo+c.n; i++ {
			if has[i] {
				m.Add(float64(outcome[i]))
			}
		}
		for i := lo; i < lo+c.n; i++ {
			mu[i], sd[i], hasGroup[i] = float32(m.Mean()), float32(m.Std()), m.N > 0
		}
	}
	full := schemas.FullLogP("m")
	b, err := schemas.NewRecord(schemas.Meta{Run: "test"},
		schemas.PromptID.From(prompts), schemas.ResponseID.From(ids), schemas.ResponseTokens.FromRows(tokens),
		schemas.FinishReason.From(finish), schemas.Verdict.From(verdicts), schemas.Outcome.From(outcome, has...),
		schemas.GroupMean.From(mu, hasGroup...), schemas.GroupStd.From(sd, hasGroup...),
		schemas.OldLogP.FromRows(per["old"]).Defined(full), schemas.ReferenceLogP.FromRows(per["ref"]).Defined(full),
		schemas.RewardLogP.FromRows(per["reward"]).Defined(full),
		schemas.TeacherLogP.FromRows(per["reward"]).Defined(full),
		schemas.CriticValue.FromRows(per["critic"]), schemas.QValue.FromRows(per["q"]), schemas.CandidateIDs.FromRows(candidates),
		schemas.CandidateOldLogP.FromRows(listed["old"]).Defined(full), schemas.CandidateRewardLogP.FromRows(listed["reward"]).Defined(full))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// apply runs the stage as the pipeline does, without Beam: sums first, over each record apart, then advantages.
func apply(t testing.TB, c Config, in stage.Batch) (out, dead stage.Batch) {
	t.Helper()
	if err := setting.Check(&c); err != nil {
		t.Fatal(err)
	}
	s := Stage{Config: c}
	var sums Totals
	for _, g := range stagetest.Groups(t, in) {
		var part Totals
		if err := s.Add(g, &part); err != nil {
			t.Fatal(err)
		}
		sums.Merge(part)
	}
	return stagetest.RunWith(t, s, in, sums)
}

var k1 = InReward{KL: K1}

// valued is an estimator in its defaults, over the values of an IPVRM where it reads any.
func valued(kind string) Config { return Default(kind).WithValues(Values{Beta: 10, Reference: Old}) }

// flat joins a column's rows, with zeros for those that are null.
func flat(v schemas.Lists[float32], lengths []int) []float64 {
	var out []float64
	for i, n := range lengths {
		row := v.Row(i)
		for k := range n {
			if v.Valid(i) {
				out = append(out, float64(row[k]))
			} else {
				out = append(out, 0)
			}
		}
	}
	return out
}

func TestCombinedStageGolden(t *testing.T) {
	for _, g := range golden.Load(t, "combined_advantage.json").Cases {
		cols := columns{lengths: golden.Get[[]int](t, g.In, "lengths"), n: golden.Get[int](t, g.Params, "n"),
			outcomes: golden.Get[[]float64](t, g.In, "rewards"), truncated: golden.Get[[]int](t, g.In, "truncated"), td: data(t, g.In,
				"A_td_sampled")}
		e := Combined{Learned: Learned{Groups: All}, Normalise: golden.Get[string](t, g.Params, "mode"), ZeroLastTD: Auto, Candidates: true,
			Beta: 1, Reference: Old}
		e.COut, e.CGAE, e.Gamma, e.Lambda, e.Eps = num(t, g.Params, "c_out"), num(t, g.Params, "c_gae"), num(t, g.Params, "gamma"), num(t,
			g.Params, "lambda"), num(t, g.Params, "eps")
		out, dead := apply(t, Config{"combined", e}, cols.batch(t))
		stagetest.Dead(t, dead)
		golden.Close(t, g.Name, flat(schemas.Advantage.Of(out), cols.lengths), data(t, g.Out, "advantages"), 1e-4)
		for i, cut := range cols.truncated {
			if valid := schemas.Advantage.Of(out).Valid(i); valid != (cut == 0) || schemas.TokenMask.Of(out).Valid(i) != valid {
				t.Errorf("%s: response %d, truncated %d, has advantages: %v", g.Name, i, cut, valid)
			}
		}
	}
}

func TestPPOStageGolden(t *testing.T) {
	for _, g := range golden.Load(t, "value_head_ppo.json").Cases {
		cols := columns{lengths: golden.Get[[]int](t, g.In, "lengths"), n: 1, outcomes: golden.Get[[]float64](t, g.In, "rewards"),
			old: data(t, g.In, "old_logp"), ref: data(t, g.In, "ref_logp"), critic: data(t, g.In, "old_values")}
		e := PPO{Learned: Learned{Groups: All}}
		e.Gamma, e.Lambda, e.CKL = num(t, g.Params, "gamma"), num(t, g.Params, "lambda"), num(t, g.Params, "c_kl")
		e.KL, e.Whiten = golden.Get[string](t, g.Params, "kl"), golden.Get[bool](t, g.Params, "whiten")
		out, dead := apply(t, Config{"ppo", e}, cols.batch(t))
		stagetest.Dead(t, dead)
		golden.Close(t, g.Name+" advantages", flat(schemas.Advantage.Of(out), cols.lengths), data(t, g.Out, "advantages"), 1e-4)
		golden.Close(t, g.Name+" returns", flat(schemas.Return.Of(out), cols.lengths), data(t, g.Out, "returns"), 1e-4)
	}
}

func TestQRMStageGolden(t *testing.T) {
	for _, g := range golden.Load(t, "q_rm.json").Cases {
		if golden.Get[string](t, g.Params, "kind") != "use" {
			continue
		}
		cols := columns{lengths: golden.Get[[]int](t, g.In, "lengths"), n: 1, q: data(t, g.In, "Z"), critic: data(t, g.In, "values"),
			old: data(t, g.In, "old_logp"), ref: data(t, g.In, "ref_logp")}
		learned, centre := Learned{Groups: All}, golden.Get[bool](t, g.Params, "subtract_mean")
		for _, c := range []Config{{"q_rm", QRM{Learned: learned, Centre: centre}}, {"q_rm_ppo", QRMPPO{Learned: learned,
			CKL: num(t, g.Params, "c_kl"), CV: num(t, g.Params, "c_v"), Centre: centre}}} {
			out, _ := apply(t, c, cols.batch(t))
			want := map[string]string{"q_rm": "reinforce_weights", "q_rm_ppo": "advantages"}[c.Kind]
			golden.Close(t, g.Name+" "+c.Kind, flat(schemas.Advantage.Of(out), cols.lengths), data(t, g.Out, want), 1e-4)
			if c.Kind == "q_rm_ppo" {
				golden.Close(t, g.Name+" value target", flat(schemas.Return.Of(out), cols.lengths), data(t, g.Out, "value_target"), 1e-4)
			}
		}
	}
}

func TestBaselineStageGolden(t *testing.T) {
	for _, g := range golden.Load(t, "reinforce_rloo.json").Cases {
		kind := golden.Get[string](t, g.Params, "kind")
		if kind == "token_weights" {
			continue
		}
		cols := columns{lengths: golden.Get[[]int](t, g.In, "lengths"), n: golden.Get[int](t, g.Params, "n"), outcomes: data(t, g.In, "rewards")}
		all := Learned{Groups: All}
		c := Config{kind, map[string]Estimator{"reinforce": Reinforce{Learned: all, Baseline: NoBaseline, InReward: k1},
			"mean_baseline": Reinforce{Learned: all, Baseline: GroupMean, InReward: k1}, "rloo": RLOO{Learned: all, InReward: k1}}[kind]}
		out, _ := apply(t, c, cols.batch(t))
		golden.Close(t, g.Name, flat(schemas.Advantage.Of(out), cols.lengths), data(t, g.Out, "advantages"), 1e-6)
	}
}

// sample is a batch with everything that can be wrong with a row or a group.
func sample(t testing.TB) stage.Batch {
	c := columns{lengths: []int{3, 2, 4, 1, 2, 3, 2, 2}, n: 2, outcomes: []float64{1, 0, 1, 0, 1, 1, 0, 1},
		truncated: []int{0, 0, 0, 1, 0, 0, 0, 0}, abstain: map[int]bool{6: true}}
	for i := range 19 {
		c.td = append(c.td, math.Sin(float64(i)))
		c.critic = append(c.critic, math.Cos(float64(i)))
		c.q = append(c.q, math.Cos(float64(2*i)))
	}
	return c.batch(t)
}

func TestMaskedResponsesHaveNoAdvantages(t *testing.T) {
	want := map[string][]bool{
		"combined":     {true, true, true, false, false, false, false, false},
		"grpo":         {true, true, true, false, true, true, false, true},
		"reinforce":    {true, true, true, false, true, true, false, true},
		"dr_grpo":      {true, true, true, false, true, true, false, true},
		"reinforce_pp": {true, true, true, false, true, true, false, true},
		"rloo":         {true, true, true, false, true, true, false, true},
		"ppo":          {true, true, true, false, true, true, false, true},
		"td":           {true, true, true, true, true, true, true, true},
		"q_rm":         {true, true, true, false, true, true, true, true},
		"q_rm_ppo":     {true, true, true, false, true, true, true, true},
	}
	for _, kind := range Kinds() {
		if kind == "opd" {
			continue // of a teacher's log-probs, whose every response is learned from
		}
		out, dead := apply(t, valued(kind), sample(t))
		stagetest.Dead(t, dead)
		var got []bool
		for i := range out.NumRows() {
			got = append(got, schemas.Advantage.Of(out).Valid(i))
		}
		if !slices.Equal(got, want[kind]) {
			t.Errorf("%s: advantages of %v, want %v", kind, got, want[kind])
		}
	}
	// A group all wrong has advantage 0 and counts, or is left out.
	out, _ := apply(t, valued("grpo"), sample(t))
	if a := schemas.Advantage.Of(out); slices.ContainsFunc(a.Row(4), func(x float32) bool { return x != 0 }) {
		t.Errorf("a group all of one outcome has advantages %v, want zeros", a.Row(4))
	}
	mixed := Config{"grpo", GRPO{Learned: Learned{Groups: Mixed}, Eps: 1e-6, InReward: k1}}
	if out, _ := apply(t, mixed, sample(t)); schemas.Advantage.Of(out).Valid(4) || !schemas.Advantage.Of(out).Valid(0) {
		t.Error("groups: mixed does not leave out a group all of one outcome, or leaves out another")
	}
	kept := Config{"grpo", GRPO{Learned: Learned{Groups: Mixed, KeepTruncated: true}, InReward: k1}}
	if out, _ := apply(t, kept, sample(t)); !schemas.Advantage.Of(out).Valid(3) {
		t.Error("keep_truncated does not keep the truncated response")
	}
	// The baseline of the first response counts the truncated one: 1 - (1 + 0)/2.
	three := columns{lengths: []int{1, 1, 1}, n: 3, outcomes: []float64{1, 1, 0}, truncated: []int{0, 0, 1}}
	out, _ = apply(t, valued("rloo"), three.batch(t))
	if got := schemas.Advantage.Of(out).Row(0)[0]; got != 0.5 {
		t.Errorf("advantage beside a truncated response is %v, want 0.5", got)
	}
}

func TestCandidateAdvantages(t *testing.T) {
	c := valued("combined")
	out, _ := apply(t, c, sample(t))
	var sums Totals
	if err := (&Stage{Config: c}).Add(sample(t), &sums); err != nil {
		t.Fatal(err)
	}
	scale := 10 / (SigmaV(sums.Value) + 1e-6) // beta over sigma_V; the log-ratios are 0.5 and -2
	row := schemas.CandidateAdvantage.Of(out).Row(0)
	for k := range 2 {
		got := []float64{float64(row.Row(k)[0]), float64(row.Row(k)[1])}
		golden.Close(t, fmt.Sprint("token ", k), got, []float64{0.5 * scale, -2 * scale}, 1e-6)
	}
	if row.Len() != 3 || len(row.Row(2)) != 0 {
		t.Errorf("the last token has a candidate update: %v", row)
	}
}

func TestBadRowsAreSetAside(t *testing.T) {
	in := sample(t)
	nan := float32(math.NaN())
	reward := make([][]float32, in.NumRows())
	for i := range reward {
		reward[i] = slices.Clone(schemas.RewardLogP.Of(in).Row(i))
	}
	reward[0][1] = nan
	reward[2] = reward[2][:1]
	reward[3] = nil // truncated: nothing is read of it
	in, err := in.With(schemas.RewardLogP.FromRows(reward, true, true, true, false, true, true, true, true).Defined(schemas.FullLogP("m")))
	if err != nil {
		t.Fatal(err)
	}
	out, dead := apply(t, valued("combined"), in)
	stagetest.Dead(t, dead, schemas.ReasonNotFinite, schemas.ReasonMismatch)
	if out.NumRows() != 6 {
		t.Errorf("%d rows are kept", out.NumRows())
	}
	for _, row := range []schemas.Lists[float32]{schemas.Advantage.Of(out)} {
		for _, x := range row.Values {
			if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				t.Errorf("a number that is not finite leaves the stage")
			}
		}
	}
}

// TestApplyOnTheEmbeddedRunner: however the batch is cut into records, the pipeline gives what the functions give.
func TestApplyOnTheEmbeddedRunner(t *testing.T) {
	in := sample(t)
	for _, kind := range Kinds() {
		for _, normalise := range []string{Group, Batch} {
			c := valued(kind)
			if e, ok := c.Estimator.(Combined); ok {
				e.Normalise = normalise
				c.Estimator = e
			}
			want, _ := apply(t, c, in)
			for name, cut := range map[string][]stage.Batch{"groups": stagetest.Groups(t, in), "one record": {in}} {
				out, dead := stagetest.Collect(t, cut, func(s beam.Scope, p stage.Rows) (stage.Rows, stage.Rows) {
					return Apply(s, Stage{Config: c}, p)
				})
				stagetest.Same(t, kind+" "+normalise+" "+name, out, want)
				stagetest.Dead(t, dead)
			}
		}
	}
}

func TestConfigNamesTheWrongKey(t *testing.T) {
	for want, tree := range map[string]map[string]any{
		"advantage.kind":         {"kind": "gae"},
		"advantage.normalise":    {"kind": "combined", "normalise": "layer"},
		"advantage.lambda":       {"kind": "combined", "lambda": 1.5},
		"advantage.eps":          {"kind": "grpo", "eps": math.NaN()},
		"advantage.zero_last_td": {"kind": "combined", "normalise": Batch, "zero_last_td": Off},
		"advantage.whiten":       {"kind": "grpo", "whiten": true},
		"advantage.beta":         {"kind": "combined", "beta": 5},
	} {
		var c Config
		if err := setting.Decode(tree, &c, "advantage"); err == nil || !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("error %v, want one of %s", err, want)
		}
	}
	grpo := valued("grpo")
	if names := schemas.Names((&Stage{Config: grpo}).Contract().Needs); slices.Contains(names, "reward_logp") ||
		slices.Contains(names, "old_logp") {
		t.Errorf("GRPO needs %v", names)
	}
}

// TestOnlySumsCrossRecords: where no sum over the batch is needed, sums change nothing.
func TestOnlySumsCrossRecords(t *testing.T) {
	in := sample(t)
	for _, kind := range Kinds() {
		c := Stage{Config: valued(kind)}
		var sums Totals
		if err := c.Add(in, &sums); err != nil {
			t.Fatal(err)
		}
		with, err := stage.RunWith(t.Context(), &c, in, sums)
		if err != nil {
			t.Fatal(err)
		}
		without, err := stage.RunWith(t.Context(), &c, in, Totals{})
		if err != nil {
			t.Fatal(err)
		}
		a, b := marshalled(t, with), marshalled(t, without)
		if same := bytes.Equal(a, b); same == c.Config.Inputs().Batch {
			t.Errorf("%s: crosses records: %v; the same without sums: %v", kind, c.Config.Inputs().Batch, same)
		}
	}
}

func marshalled(t *testing.T, r stage.Result) []byte {
	t.Helper()
	var all bytes.Buffer
	for _, b := range r.Out {
		if _, err := b.WriteTo(&all); err != nil {
			t.Fatal(err)
		}
	}
	return all.Bytes()
}
