package method_test

import (
	"slices"
	"testing"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/quickstart"
)

// The plan of on-policy distillation counts the student, which samples, and the teacher, and calls its stage by its own name.
func TestPlanOfOnPolicyDistillation(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	planned := func(recipe string, sets ...string) (m method.Method, open int64) {
		t.Helper()
		m, err := method.New(given(t, recipe, dir, sets...))
		if err != nil {
			t.Fatal(err)
		}
		peak, ok := method.Peak(m, chain.Lengths{})
		if !ok {
			t.Fatal("no peak")
		}
		return m, peak.Models
	}
	_, one := planned("grpo")
	for recipe, name := range map[string]string{"opd": "target_opd", "opd-pg": "score_teacher", "dckd": "target_dckd"} {
		m, open := planned(recipe)
		if recipe != "dckd" && open != 2*one {
			t.Errorf("%s: %d bytes of open models, want those of two models of %d", recipe, open, one)
		}
		phases, err := m.Phases()
		if err != nil {
			t.Fatal(err)
		}
		var stages []string
		for _, n := range phases[0].Chain.Nodes {
			stages = append(stages, n.Contract.Name)
		}
		if !slices.Contains(stages, name) {
			t.Errorf("%s: no stage %s in %v", recipe, name, stages)
		}
	}
}
