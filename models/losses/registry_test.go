package losses_test

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/losses/losstest"
)

func TestNewRefusesWhatItDoesNotUnderstand(t *testing.T) {
	for _, c := range []struct {
		name   string
		config map[string]any
		want   string
	}{
		{"pp0", nil, `name: no loss is called "pp0"; did you mean "ppo"?`},
		{"advantage_weighted_everything", nil, "known: adpa, cispo, dckd"},
		{"ppo", map[string]any{"esp_low": 0.1}, `esp_low: unknown key; did you mean "eps_low"?`},
		{"ppo", map[string]any{"EPS_LOW": 0.1}, "EPS_LOW: unknown key"},
		{"ppo", map[string]any{"eps_low": "much"}, "eps_low: much is not a number"},
		{"ppo", map[string]any{"eps_low": nil}, "eps_low: no value; want a number"},
		{"ppo", map[string]any{"eps_low": 1.5}, "eps_low: 1.5 is not in [0, 1]"},
		{"ppo", map[string]any{"eps_high": math.Inf(1)}, "eps_high: +Inf is not finite"},
		{"ppo", map[string]any{"eps_high": math.NaN()}, "eps_high: NaN is not finite"},
		{"ppo", map[string]any{"eps_high": -0.1}, "eps_high: -0.1 is not at least 0"},
		{"ppo", map[string]any{"dual_clip": 0.5}, "dual_clip: 0.5 is neither 0 (off) nor above 1"},
		{"ppo", map[string]any{"max_tokens": 1.5}, "max_tokens: 1.5 is not a whole number"},
		{"ppo", map[string]any{"reduction": "token-mean"}, `reduction: "token-mean" is not one of token_mean, seq_mean`},
		{"ppo", map[string]any{"reduction": "dr_grpo", "max_tokens": 0}, "max_tokens: 0; reduction dr_grpo divides by it"},
		{"ppo", map[string]any{"eps_low": map[any]any{1: 2}}, "eps_low: map[1:2] is not a number"},
		{"ipvrm", map[string]any{"beta": 0}, "beta: 0 is not above 0"},
		{"ipvrm", map[string]any{"weights": "late", "reduction": "token_mean"},
			"reduction: token_mean weights all tokens alike; with weights late"},
		{"ipvrm_online", map[string]any{"adb": "yes"}, "adb: yes is not true or false"},
		{"lco_mse", map[string]any{"advantages": "vocab_estimate"}, `advantages: "vocab_estimate" is not one of outcome, dense`},
		{"lco_kld", map[string]any{"advantages": "reward", "reduction": "split_mean"}, "reduction: split_mean needs listed advantages"},
		{"dckd", map[string]any{"l_c": []any{1}}, "l_c: [1] is not a number"},
	} {
		_, err := losses.New(c.name, c.config)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New(%q, %v): %v, want %s", c.name, c.config, err, c.want)
		}
	}
}

func TestNewOverridesDefaults(t *testing.T) {
	l, err := losses.New("ppo", map[string]any{"eps_low": 0, "dual_clip": uint64(4), "reduction": "seq_mean"})
	if err != nil {
		t.Fatal(err)
	}
	want := losses.DefaultPPO()
	want.EpsLow, want.DualClip, want.Reduction = 0, 4, "seq_mean"
	if l != losses.Loss(want) {
		t.Errorf("got %+v, want %+v", l, want)
	}
	if again, _ := losses.New("ppo", nil); again != losses.Loss(losses.DefaultPPO()) {
		t.Errorf("the defaults became %+v", again)
	}
}

func TestKeysAreTheConfiguration(t *testing.T) {
	for _, name := range losses.Names() {
		keys, defaults := losses.Keys(name)
		config := map[string]any{}
		for i, k := range keys {
			config[k] = defaults[i]
		}
		l, err := losses.New(name, config)
		plain, _ := losses.New(name, nil)
		if err != nil || l != plain {
			t.Errorf("%s: its own defaults %v give %+v, %v", name, config, l, err)
		}
	}
	if !slices.IsSorted(losses.Names()) {
		t.Error("names are not sorted")
	}
}

func TestBuild(t *testing.T) {
	for _, c := range []struct {
		terms []losses.Term
		want  string
	}{
		{nil, "no loss has a weight above 0"},
		{[]losses.Term{{Name: "sft", Weight: 0}}, "no loss has a weight above 0"},
		{[]losses.Term{{Name: "sft", Weight: 1}, {Name: "distrl", Weight: 1, Config: map[string]any{"mode": "papers"}}},
			`[1].mode: "papers" is not one of released, paper; did you mean "paper"?`},
		{[]losses.Term{{Name: "sft", Weight: -1}}, "[0].weight: -1 is not a finite number of at least 0"},
		{[]losses.Term{{Name: "distrl", Weight: 1}, {Name: "lco_mse", Weight: 1, Config: map[string]any{"advantages": "dense"}}},
			"cannot be summed"},
		{[]losses.Term{{Name: "lco_kld", Weight: 1}, {Name: "lco_kld", Weight: 1, Config: map[string]any{"advantages": "reward"}}},
			"different target rows"},
		{[]losses.Term{{Name: "lco_kld", Weight: 1}, {Name: "dckd", Weight: 1}}, "mass off different lists"},
		{[]losses.Term{{Name: "value", Weight: 1}, {Name: "outcome_value", Weight: 1}}, "before and after the token"},
	} {
		_, err := losses.Build(c.terms)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Build(%v): %v, want %s", c.terms, err, c.want)
		}
	}
	// A term of weight 0 asks for nothing: DistRL without its candidates is GRPO.
	l, err := losses.Build([]losses.Term{{Name: "ppo", Weight: 1}, {Name: "distrl", Weight: 0}})
	if err != nil || l.Spec().Reads(losses.CandidateIDs) {
		t.Errorf("GRPO asks for candidates: %+v, %v", l.Spec(), err)
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	spec := losses.Spec{Heads: losses.LM}
	for want, spoil := range map[string]func(mb *losses.Microbatch, s *losses.Spec){
		"Start must begin with 0":         func(mb *losses.Microbatch, s *losses.Spec) { mb.Start = nil },
		"is below Start[0]":               func(mb *losses.Microbatch, s *losses.Spec) { mb.Start[1] = -1 },
		"call Index":                      func(mb *losses.Microbatch, s *losses.Spec) { mb.Response = nil },
		"row 1 lists no token":            func(mb *losses.Microbatch, s *losses.Spec) { mb.List[2] = 1 },
		"Listed.ID has 2 entries, want 4": func(mb *losses.Microbatch, s *losses.Spec) { mb.Listed.ID = mb.Listed.ID[:2] },
		"are not pairs": func(mb *losses.Microbatch, s *losses.Spec) {
			s.Coupling = losses.Pair
			mb.Start = []int{0, 1, 2, 4}
			mb.Index()
		},
		"want chosen":              func(mb *losses.Microbatch, s *losses.Spec) { s.Coupling = losses.Pair },
		"Candidates has 0 entries": func(mb *losses.Microbatch, s *losses.Spec) { s.Inputs = []*losses.Input{losses.CandidateIDs} },
		"Teacher has 0 entries":    func(mb *losses.Microbatch, s *losses.Spec) { s.Inputs = []*losses.Input{losses.TeacherIDs} },
		"span 0..9 lies outside": func(mb *losses.Microbatch, s *losses.Spec) {
			mb.Candidates = make([]losses.Span, 4)
			mb.Candidates[0].Hi = 9
		},
		"column old_logp has 0 entries":   func(mb *losses.Microbatch, s *losses.Spec) { s.Inputs = []*losses.Input{losses.OldLogP} },
		"Rows.Mask has 1 entries, want 4": func(mb *losses.Microbatch, s *losses.Spec) { mb.Rows.Mask = []float64{1} },
	} {
		mb, s := losses.NewMicrobatch([]int{3, 1}, []int32{1, 2, 3, 4}), spec
		if err := mb.Check(s); err != nil {
			t.Fatal(err)
		}
		spoil(mb, &s)
		if err := mb.Check(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check: %v, want %s", err, want)
		}
	}
}

func TestTotalsMerge(t *testing.T) {
	mb := losses.NewMicrobatch([]int{2, 1, 3, 1}, []int32{1, 2, 3, 4, 5, 6, 7})
	mb.Rows.Mask = []float64{1, 0, 1, 1, 1, 1, 0}
	mb.Rows.Advantage = []float64{1, 1, -1, 2, 0, 3, 4}
	mb.Responses.Outcome = []float64{1, math.NaN(), 0, 1}
	var whole losses.Totals
	whole.Add(mb)
	want := losses.Totals{Tokens: 5, Responses: 3, LabelledTokens: 4, LabelledResponses: 2, PositiveTokens: 3}
	want.RoleTokens[losses.Sample], want.RoleResponses[losses.Sample] = 5, 3
	if whole != want {
		t.Errorf("totals %+v, want %+v", whole, want)
	}
	twice := whole
	twice.Merge(whole)
	var again losses.Totals
	again.Add(mb)
	again.Add(mb)
	if twice != again {
		t.Errorf("merged %+v, added %+v", twice, again)
	}
}

func TestMetricsMergeInAnyOrder(t *testing.T) {
	var a, b losses.Metrics
	a.Add("b/x", 1, 1)
	a.Add("a/x", 2, 4)
	b.Add("c/x", 3, 1)
	b.Add("a/x", 2, 4)
	ab, ba := slices.Clone(a), slices.Clone(b)
	ab.Merge(b)
	ba.Merge(a)
	if !slices.Equal(ab, ba) {
		t.Errorf("%v and %v", ab, ba)
	}
	if m := ab.Get("a/x").Mean(); m != 0.5 {
		t.Errorf("mean %v, want 0.5", m)
	}
	if m := ab.Get("none"); m.Count != 0 || m.Mean() != 0 {
		t.Errorf("a metric that is not there is %v", m)
	}
}

// Whatever a recipe holds, New answers with a loss that conforms or an error; it never panics.
func FuzzNew(f *testing.F) {
	f.Add("ppo", `{"eps_low": 0.1, "reduction": "grpo"}`)
	f.Add("lco_kld", `{"beta": 1e308, "advantages": "dense"}`)
	f.Add("ipvrm_online", `{"adb": false, "weights": ["late"], "x": {"y": null}}`)
	f.Fuzz(func(t *testing.T, name, config string) {
		var c map[string]any
		if json.Unmarshal([]byte(config), &c) != nil {
			return
		}
		l, err := losses.New(name, c)
		if err != nil {
			return
		}
		mb, d := losstest.Random(1, 4, slices.Contains(l.Spec().Roles, losses.Chosen))
		d.Eval(l, mb)
	})
}
