package advantage

import (
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/transforms/series"
)

// groupsOf are the responses of a golden case, n a prompt, with the outcomes that an estimator reads as rewards.
func groupsOf(t *testing.T, c golden.Case) (groups [][]Response) {
	t.Helper()
	rewards, lengths := golden.Get[golden.Tensor](t, c.In, "rewards").Data, golden.Get[[]int](t, c.In, "lengths")
	n := int(golden.Get[float64](t, c.Params, "n"))
	for i, length := range lengths {
		if i%n == 0 {
			groups = append(groups, nil)
		}
		r := Response{Keep: true, Labelled: true, Tokens: length, Outcome: rewards[i], Advantage: make([]float64, length)}
		groups[len(groups)-1] = append(groups[len(groups)-1], r)
	}
	return groups
}

func TestBatchAdvantagesGolden(t *testing.T) {
	seen := 0
	for _, c := range golden.Load(t, "batch_advantages.json").Cases {
		var e Estimator
		switch c.Name {
		case "reinforce_pp", "reinforce_pp_baseline":
			e = ReinforcePP{Baseline: c.Name == "reinforce_pp_baseline", Eps: golden.Get[float64](t, c.Params, "eps")}
		case "dr_grpo":
			e = DrGRPO{}
		default:
			continue
		}
		seen++
		groups := groupsOf(t, c)
		var totals Totals
		if s, ok := e.(GroupSummer); ok {
			for _, g := range groups {
				var part Totals
				s.SumGroup(g, &part)
				totals.Merge(part)
			}
		}
		estimate := e.Over(&totals)
		var perToken, perResponse []float64
		for _, g := range groups {
			estimate(g)
			for _, r := range g {
				perToken, perResponse = append(perToken, r.Advantage...), append(perResponse, r.Advantage[0])
			}
		}
		if c.Name == "dr_grpo" {
			golden.Close(t, c.Name, perResponse, golden.Get[golden.Tensor](t, c.Out, "A").Data, 1e-9)
		} else {
			golden.Close(t, c.Name, perToken, golden.Get[golden.Tensor](t, c.Out, "advantages").Data, 1e-9)
		}
	}
	if seen != 3 {
		t.Errorf("%d of 3 kinds of cases", seen)
	}
	for _, c := range golden.Load(t, "opd.json").Cases {
		teacher, old := golden.Get[golden.Tensor](t, c.In, "teacher_logp").Data, golden.Get[golden.Tensor](t, c.In, "old_logp").Data
		r := []Response{{Keep: true, Tokens: len(old), LogP: [][]float64{teacher, old}, Advantage: make([]float64, len(old))}}
		OPD{}.Over(nil)(r)
		golden.Close(t, "opd "+c.Name, r[0].Advantage, golden.Get[golden.Tensor](t, c.Out, "advantage_pg").Data, 1e-9)
	}
}

// A KL penalty in the reward is taken off before baselines, deviations and batch statistics are taken.
func TestKLInTheReward(t *testing.T) {
	group := func() []Response {
		return []Response{
			{Keep: true, Labelled: true, Tokens: 2, Outcome: 1, GroupMean: 0.5, GroupStd: 0.5,
				LogP: [][]float64{{-1, -2}, {-1.5, -2.5}}, Advantage: make([]float64, 2)}, // k sums to 1
			{Keep: true, Labelled: true, Tokens: 1, Outcome: 0, GroupMean: 0.5, GroupStd: 0.5,
				LogP: [][]float64{{-1}, {-0.5}}, Advantage: make([]float64, 1)}, // k is -0.5
		}
	}
	in := InReward{CKL: 0.2, KL: K1}
	rewards := []float64{1 - 0.2*1, 0 + 0.2*0.5}
	mean := (rewards[0] + rewards[1]) / 2
	std := (rewards[0] - rewards[1]) / 2
	tokens := []float64{rewards[0], rewards[0], rewards[1]}
	m := series.MomentsOf(tokens)
	tokenMean, tokenStd := m.Mean(), m.Std()
	for name, c := range map[string]struct {
		e    Estimator
		want [2]float64
	}{
		"grpo":         {GRPO{InReward: in}, [2]float64{(rewards[0] - mean) / std, (rewards[1] - mean) / std}},
		"rloo":         {RLOO{InReward: in}, [2]float64{rewards[0] - rewards[1], rewards[1] - rewards[0]}},
		"reinforce":    {Reinforce{Baseline: NoBaseline, InReward: in}, [2]float64{rewards[0], rewards[1]}},
		"dr_grpo":      {DrGRPO{InReward: in}, [2]float64{rewards[0] - mean, rewards[1] - mean}},
		"reinforce_pp": {ReinforcePP{InReward: in}, [2]float64{(rewards[0] - tokenMean) / tokenStd, (rewards[1] - tokenMean) / tokenStd}},
	} {
		g := group()
		var totals Totals
		if s, ok := c.e.(GroupSummer); ok {
			s.SumGroup(g, &totals)
		}
		c.e.Over(&totals)(g)
		golden.Close(t, name, []float64{g[0].Advantage[0], g[0].Advantage[1], g[1].Advantage[0]},
			[]float64{c.want[0], c.want[0], c.want[1]}, 1e-12)
		if in := c.e.Inputs(); len(in.LogP) != 2 {
			t.Errorf("%s with a penalty reads %d columns of log-probs, want 2", name, len(in.LogP))
		}
	}
}
