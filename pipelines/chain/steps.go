package chain

import (
	"encoding/json"

	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/transforms/continuation"
)

// StepsSection is the section of step labels.
const StepsSection = "steps"

func init() { recipe.RegisterSection(StepsSection, continuation.DefaultStepLabels()) }

// Steps labels the steps of labelled responses by continuations of the policy; false where the recipe does not ask for it.
func Steps(r recipe.Recipe) (Node, bool) {
	labels, ok := recipe.Section[continuation.StepLabels](r, StepsSection)
	if !ok {
		return Node{}, false
	}
	c := continuation.StepLabeller{StepLabels: labels, Judge: ContinuationJudge(r), Chat: r.Chat}
	return Node{Contract: c.Contract(), Section: StepsSection, Opens: []string{PolicyRole}, Add: func(f *Flow) {
		s := c
		s.Policy, s.Seed = f.It.Policy, f.It.Seed
		f.Then(continuation.Label(f.Scope, s, f.Store, f.Rows))
	}}, true
}

// ContinuationJudge is the recipe's verifier as it judges continuations.
func ContinuationJudge(r recipe.Recipe) (judge continuation.Judge) {
	raw, err := json.Marshal(r.Label.Verifier)
	if err == nil {
		err = json.Unmarshal(raw, &judge)
	}
	if err != nil {
		panic("label.verifier: " + err.Error()) // the verifier came as JSON
	}
	return judge
}
