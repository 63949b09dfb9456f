package losses_test

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/losses/losstest"
)

// variants are settings beside the defaults that take another path through a loss.
var variants = map[string][]map[string]any{
	"sft":          {{"reduction": "seq_mean"}, {"reduction": "seq_sum"}, {"reduction": "dr_grpo", "max_tokens": 64}},
	"reinforce":    {{"reduction": "seq_mean"}},
	"ppo":          {{"reduction": "grpo"}, {"reduction": "dr_grpo", "max_tokens": 64}, {"dual_clip": 0}},
	"distrl":       {{"mode": "paper"}},
	"reference_kl": {{"estimator": "k1"}, {"estimator": "k2"}},
	"ipvrm":        {{"weights": "late", "reference": "frozen"}, {"weights": "early"}, {"reduction": "token_mean"}},
	"ipvrm_online": {
		{"all_equal": "keep"}, {"adb": false}, {"dlw": false, "reference": "frozen"},
	},
	"implicit_prm":  {{"reference": "frozen"}},
	"dpo":           {{"reference": "old"}},
	"value":         {{"eps_v": 0}},
	"outcome_value": {{"reduction": "seq_mean"}},
	"lco_kld": {
		{"advantages": "vocab_estimate"}, {"advantages": "vocab_estimate", "reduction": "seq_mean"}, {"advantages": "dense"},
		{"advantages": "dense", "reduction": "split_mean"}, {"advantages": "reward", "reward_beta": 2},
	},
	"lco_mse": {{"anchor": "current"}, {"advantages": "dense"}, {"advantages": "dense", "agreement_beta_factor": 1, "anchor": "current"}},
	"lco_lch": {{"anchor": "current"}, {"advantages": "dense"}},
	"dckd":    {{"l_c": 0}, {"l_r": 0}, {"student_floor": 0.05}},
	"adpa":    {{"reduction": "seq_mean"}},
	// Where an entry is clamped, the derivatives of the others no longer cancel in their constant part.
	"opd": {{"student_floor": 0.05}, {"student_floor": 0.1}, {"ceiling": 0.5}, {"reduction": "seq_mean"}},
}

func TestEveryLossConforms(t *testing.T) {
	for _, name := range losses.Names() {
		for _, config := range append([]map[string]any{nil}, variants[name]...) {
			t.Run(fmt.Sprint(name, config), func(t *testing.T) { losstest.Conform(t, build(t, name, config)) })
		}
	}
}

func TestSumConforms(t *testing.T) {
	for _, terms := range [][]losses.Term{
		{{Name: "ppo", Weight: 1}, {Name: "distrl", Weight: 0.1}},
		{{Name: "ppo", Weight: 1}, {Name: "value", Weight: 0.5}},
		{{Name: "dpo", Weight: 1}, {Name: "sft", Weight: 0.2}, {Name: "dckd", Weight: 0.5}},
		{{Name: "distrl", Weight: 1}, {Name: "ipvrm", Weight: 0.3}},
	} {
		l, err := losses.Build(terms)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(fmt.Sprint(terms), func(t *testing.T) { losstest.Conform(t, l) })
	}
}
