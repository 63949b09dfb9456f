package method

import (
	"context"
	"slices"

	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/score"
	"github.com/millrace/millrace/transforms/target"
)

func init() {
	Register("opd", Kind{
		Summary: "train a student, the policy, on its own responses towards a teacher: on-policy distillation",
		Reads:   []string{"rollout", "label", "reference", "distill", "advantage", "update", "evaluate"},
		New:     newOPD,
	})
}

// opd is on-policy distillation (algorithms.md 4.11): the student answers, the teacher says what it thinks of every token, by its
// log-prob for advantages of kind opd, by its distribution for the loss opd. No outcome is learned from; the verifier measures.
type opd struct {
	rounds
}

func newOPD(r recipe.Recipe) (Method, error) {
	if err := trainable(r.Policy, "policy.path"); err != nil {
		return nil, err
	}
	switch d := r.Distill; {
	case d == nil:
		return nil, setting.Errorf("distill", "is missing; name the teacher of the student")
	case d.DCKD != nil:
		return nil, setting.Errorf("distill.dckd", "is of kind distill; the teacher's distribution over the student's responses is distill.opd")
	case d.ADPA != nil:
		return nil, setting.Errorf("distill.adpa", "is of kind distill")
	case d.Reference != nil:
		return nil, setting.Errorf("distill.reference", "is of kind distill; the student answers the prompts here")
	}
	loss, err := r.Update.Loss()
	if err != nil {
		return nil, setting.In("update.losses", err)
	}
	var teaching []chain.Node
	if loss.Spec().Reads(losses.TeacherProb) {
		c := target.DefaultDCKD()
		if r.Distill.OPD != nil {
			c = *r.Distill.OPD
		}
		teaching = append(teaching, chain.Node{Contract: (&target.Distribution{Of: target.OfOPD}).Contract(), Section: "distill.opd",
			Opens: []string{chain.TeacherRole},
			Add:   func(f *chain.Flow) { f.Then(target.OPD(f.Scope, c, f.It.Teacher, f.Rows)) }})
	} else if r.Distill.OPD != nil {
		return nil, setting.Errorf("distill.opd", "no loss reads the teacher's distribution; name loss opd, or leave the section out")
	}
	if a := chain.Estimator(r); a != nil && slices.Contains(schemas.Names(a.Contract().Needs), schemas.TeacherLogP.Name) {
		c := score.Config{Role: score.Teacher}
		teaching = append(teaching, chain.Node{Contract: c.Contract(), Section: "distill", Opens: []string{chain.TeacherRole},
			Add: func(f *chain.Flow) { f.Then(score.Apply(f.Scope, c, f.It.Teacher, f.Rows)) }})
	}
	if len(teaching) == 0 {
		return nil, setting.Errorf("update.losses", "nothing reads the teacher; name loss opd, or advantage.kind opd with loss ppo or reinforce")
	}
	learning := slices.Concat(teaching, chain.Learning(r), []chain.Node{chain.Update(r, chain.PolicyRole, false)})
	m := &opd{newRounds(r, learning...)}
	return m, m.checkSampling()
}

// Models are the student that the iteration before left, and its teacher.
func (m *opd) Models(ctx context.Context, d *run.Dir, it *chain.Iteration) (err error) {
	if err := m.window(ctx, d, it); err != nil {
		return err
	}
	if err := m.policy(ctx, d, it, true); err != nil {
		return err
	}
	if it.Teacher, err = chain.Open(ctx, m.r.Distill.Teacher, "", m.r.Seed); err != nil {
		return err
	}
	return m.reference(ctx, d, it)
}

// Updates is that of the student.
func (m *opd) Updates() []Training {
	return []Training{{"update", chain.PolicyRole, m.r.Policy, m.r.Update}}
}

// Start is the student that the run starts from.
func (m *opd) Start(it chain.Iteration) (measure.Subject, bool) {
	return measure.Subject{Policy: it.Policy, Reference: it.Policy}, true
}
