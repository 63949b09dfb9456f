package method

import (
	"context"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/target"
	"github.com/millrace/millrace/transforms/update"
)

func init() {
	Register("distill", Kind{
		Summary: "train a student, the policy, on what its teachers say: DCKD, ADPA",
		Reads:   []string{"rollout", "label", "reference", "distill", "pairs", "update", "evaluate"},
		New:     newDistill,
	})
}

// distill trains a student on pairs of its teachers' responses, and with ADPA on its own responses too.
type distill struct {
	rounds
	student []chain.Stream
}

// The student's own responses: the name of their files, and the key that keeps its random numbers apart from those of the model
// that samples the pairs.
const (
	studentName = "student"
	studentKey  = 1
)

func newDistill(r recipe.Recipe) (Method, error) {
	if r.Distill == nil {
		return nil, setting.Errorf("distill", "is missing; name the teachers of the student")
	}
	if err := trainable(r.Policy, "policy.path"); err != nil {
		return nil, err
	}
	m := &distill{}
	var learning []chain.Node
	if c := r.Distill.DCKD; c != nil { // the teacher's distribution at every token, before pairs are made
		learning = append(learning, chain.Node{Contract: (&target.Distribution{}).Contract(), Section: "distill.dckd",
			Opens: []string{chain.TeacherRole},
			Add:   func(f *chain.Flow) { f.Then(target.DCKD(f.Scope, *c, f.It.Teacher, f.Rows)) }})
	}
	if r.Distill.ADPA != nil {
		m.student = []chain.Stream{{Name: studentName, Nodes: studentNodes(r), Samples: r.Distill.Samples}}
		if err := checkStudent(r, m.student[0]); err != nil {
			return nil, err
		}
	}
	learning = append(learning, chain.Learning(r)...)
	m.rounds = newRounds(r, append(learning, chain.Update(r, chain.PolicyRole, r.Pairs != nil, m.student...))...)
	return m, m.checkSampling()
}

// studentNodes are ADPA's second stream: the student answers the same prompts, and both teachers judge every token.
func studentNodes(r recipe.Recipe) []chain.Node {
	c := *r.Distill.ADPA
	return []chain.Node{
		chain.Prompts(r),
		chain.Rollout(r, r.Distill.Samples, studentKey, func(m chain.Models) models.Ref { return m.Policy }),
		{Contract: (&target.LogRatio{}).Contract(), Section: "distill.adpa", Opens: []string{chain.TeacherRole,
			chain.TeacherReferenceRole}, Add: func(f *chain.Flow) {
			f.Then(target.ADPA(f.Scope, c, f.It.Teacher, f.It.TeacherReference, f.Rows))
		}},
		chain.Keep(r, studentName, "keep_"+studentName, 0),
	}
}

// checkStudent checks that the student's stream brings what the update reads of samples.
func checkStudent(r recipe.Recipe, student chain.Stream) error {
	contract, err := update.Job{Config: r.Update, Role: chain.PolicyRole}.Contract(false)
	if err != nil {
		return setting.In("update", err)
	}
	var contracts []schemas.Contract
	for _, n := range student.Nodes {
		contracts = append(contracts, n.Contract)
	}
	_, err = schemas.Chain(nil, append(contracts, contract)...)
	return setting.In("distill", err)
}

// Models are the student that the iteration before left, and its teachers; the one before alignment answers the prompts, or the
// teacher where there is none.
func (m *distill) Models(ctx context.Context, d *run.Dir, it *chain.Iteration) (err error) {
	if err := m.window(ctx, d, it); err != nil {
		return err
	}
	if err := m.policy(ctx, d, it, true); err != nil {
		return err
	}
	if it.Teacher, err = chain.Open(ctx, m.r.Distill.Teacher, "", m.r.Seed); err != nil {
		return err
	}
	it.Sampler = it.Teacher
	if m.r.Distill.Reference != nil {
		if it.TeacherReference, err = chain.Open(ctx, *m.r.Distill.Reference, "", m.r.Seed); err != nil {
			return err
		}
		it.Sampler = it.TeacherReference
	}
	return m.reference(ctx, d, it)
}

// Chain leads from the teachers' responses to the updated student.
func (m *distill) Chain(it chain.Iteration) (chain.Chain, error) {
	return chain.Chain{Nodes: m.nodes(it), Streams: m.student}, nil
}

// Phases is one, with the student's stream.
func (m *distill) Phases() ([]Phase, error) {
	phases, err := m.rounds.Phases()
	phases[0].Chain.Streams = m.student
	return phases, err
}

// Updates is that of the student.
func (m *distill) Updates() []Training {
	return []Training{{"update", chain.PolicyRole, m.r.Policy, m.r.Update}}
}
