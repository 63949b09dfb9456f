package method

import (
	"context"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/revise"
)

func init() {
	Register("evolve", Kind{
		Summary: "train revisers on pairs, then tune the policy on what they revise: SEFT",
		Reads:   []string{"rollout", "label", "seft", "pairs", "update", "evaluate"},
		New:     newEvolve,
	})
}

// evolve is SEFT (arXiv 2406.10813; algorithms.md 4.5). The first iteration trains the base reviser on preference pairs, the second
// the adaptive reviser on further pairs with labels; every further one is a round of evolution: the policy answers new prompts, the
// reviser labels and revises, the policy is tuned on the results. No outcome is read in a round; the verifier measures.
type evolve struct {
	base
	phases []rounds // one for each of the first iterations, the last for all further ones
}

// Phases of an evolution, by the number of the iteration.
const (
	baseReviser     = 0
	adaptiveReviser = 1
	evolution       = 2
)

var phaseNames = []string{"base reviser", "adaptive reviser", "round"}

func newEvolve(r recipe.Recipe) (Method, error) {
	switch {
	case r.SEFT == nil:
		return nil, setting.Errorf("seft", "is missing; it says how the revisers are trained")
	case r.Iterations <= evolution:
		return nil, setting.Errorf("iterations", "%d is not at least 3: two train the revisers, each further one is a round", r.Iterations)
	case r.Policy.New != nil:
		return nil, setting.Errorf("policy.new", "a policy that knows nothing has no right answers for the revisers to learn from; want "+
			"policy.path, such as what `millrace run warm-start` leaves")
	case r.Pairs == nil:
		return nil, setting.Errorf("pairs", "is missing; the revisers are trained on preference pairs")
	case !slices.Contains([]string{"", "none"}, r.Pairs.Reference) || r.Pairs.Teacher:
		return nil, setting.Errorf("pairs", "reference and teacher are not read by a reviser")
	}
	if err := trainable(r.Policy, "policy.path"); err != nil {
		return nil, err
	}
	if of := r.SEFT.Base.LoRA; of != nil && !of.Merge { // the adaptive reviser goes on from the base reviser
		if why := r.SEFT.Adaptive.OtherAdapters(of.LoRA, "the base reviser"); why != "" {
			return nil, setting.Errorf("seft.adaptive.lora", "%s", why)
		}
	}
	m := &evolve{base: base{r}}
	for number := range phaseNames {
		part := phaseRecipe(r, number)
		role := chain.ReviserRole
		if number == evolution {
			role = chain.PolicyRole
		}
		// Revisers learn from rows made of pairs. In a round the responses are revised before they are kept, so that the files hold
		// both.
		learning := slices.Concat(chain.Learning(part), revising(r, number))
		if number == evolution {
			learning = slices.Concat(revising(r, number), chain.Learning(part), []chain.Node{adopting})
		}
		s := newRounds(part, append(learning, chain.Update(part, role, false))...)
		s.judge = s.judge && number < evolution // the verifier measures a round, it does not choose
		m.phases = append(m.phases, s)
	}
	return m, m.phases[evolution].checkSampling()
}

// phaseRecipe is the recipe of one phase: what its prompts, its rows and its update are.
func phaseRecipe(r recipe.Recipe, number int) recipe.Recipe {
	if number == evolution {
		r.Pairs = nil
		r.Rollout.Greedy = r.Rollout.Greedy || r.SEFT.Greedy
		return r
	}
	r.Prompts.Count, r.Rollout.Samples = r.SEFT.Pairs, r.SEFT.Samples
	r.Update = r.SEFT.Base
	if number == adaptiveReviser {
		r.Update = r.SEFT.Adaptive
	}
	return r
}

// revising turns the rows of a phase into what its update learns from.
func revising(r recipe.Recipe, number int) []chain.Node {
	c := r.SEFT.Reviser
	tasks := revise.TaskConfig{Adaptive: number == adaptiveReviser, Layout: c.Layout, Labels: c.Labels}
	task := chain.Node{Contract: (&tasks).Contract(), Section: "seft", Add: func(f *chain.Flow) {
		f.Materialise() // read twice: for the median gain and for the rows
		made := tasks
		made.Model = f.It.Reviser
		f.Then(revise.Tasks(f.Scope, made, f.Rows))
	}}
	reviser := []string{chain.ReviserRole}
	keep := chain.Keep(r, chain.TasksName, "keep_"+chain.TasksName, r.Output.Shards)
	switch number {
	case baseReviser:
		return []chain.Node{task, keep}
	case adaptiveReviser:
		gains := chain.Node{Contract: (&revise.Scorer{}).Contract(), Section: "seft", Opens: reviser, Add: func(f *chain.Flow) {
			f.Then(revise.Gains(f.Scope, c.Layout, f.It.Reviser, f.Rows))
		}}
		return []chain.Node{gains, task, keep}
	}
	return []chain.Node{{Contract: (&revise.Reviser{}).Contract(), Section: "seft", Opens: reviser, Add: func(f *chain.Flow) {
		f.Then(revise.Revise(f.Scope, c, f.It.Reviser, f.It.Seed, f.Rows))
	}}}
}

// adopting takes revisions for responses.
var adopting = chain.Node{Contract: (&revise.Adopted{}).Contract(), Section: "seft", Add: func(f *chain.Flow) {
	f.Then(revise.Adopt(f.Scope, f.Rows))
}}

func (m *evolve) phaseOf(number int) rounds { return m.phases[min(number, evolution)] }

// Check looks for the models and endpoints.
func (m *evolve) Check(ctx context.Context) error {
	return m.check(ctx, m.phases[0].nodes(chain.Iteration{}))
}

// Models are the policy and the reviser that the iterations before left.
func (m *evolve) Models(ctx context.Context, d *run.Dir, it *chain.Iteration) error {
	if err := m.phaseOf(it.Number).window(ctx, d, it); err != nil {
		return err
	}
	start, err := chain.Open(ctx, m.r.Policy, "", m.r.Seed)
	if err != nil {
		return err
	}
	it.Policy, it.Sampler, it.Reviser = start, start, start
	last := func(role string, before int) (models.Ref, error) {
		if before < it.Number-1 { // an iteration that the run was not held to when it was taken up
			return chain.OpenAt(ctx, m.r.Policy, files.Join(d.IterPath(before), role))
		}
		return chain.Committed(ctx, m.r.Policy, d.IterPath(before), role)
	}
	switch {
	case it.Number == baseReviser:
		return nil
	case it.Number == adaptiveReviser:
		it.Reviser, err = last(chain.ReviserRole, baseReviser)
		return err
	}
	if it.Reviser, err = last(chain.ReviserRole, adaptiveReviser); err != nil {
		return err
	}
	if it.Number > evolution {
		if it.Policy, err = last(chain.PolicyRole, it.Number-1); err != nil {
			return err
		}
	}
	it.Sampler = it.Policy
	if m.r.SEFT.Source != nil {
		it.Sampler, err = chain.Open(ctx, *m.r.SEFT.Source, "", m.r.Seed)
	}
	return err
}

// Chain is that of the iteration's phase.
func (m *evolve) Chain(it chain.Iteration) (chain.Chain, error) {
	return chain.Chain{Nodes: m.phaseOf(it.Number).nodes(it)}, nil
}

// Phases are the base reviser, the adaptive reviser, and the rounds.
func (m *evolve) Phases() ([]Phase, error) {
	var out []Phase
	for number, name := range phaseNames {
		c, err := m.Chain(chain.Iteration{Number: number})
		if err != nil {
			return nil, err
		}
		iterations := 1
		if number == evolution {
			iterations = m.r.Iterations - evolution
		}
		out = append(out, Phase{Name: name, Iterations: iterations, Recipe: m.phases[number].r, Chain: c})
	}
	return out, nil
}

// Updates are those of a reviser and of the policy.
func (m *evolve) Updates() []Training {
	return []Training{{"seft.base", chain.ReviserRole, m.r.Policy, m.r.SEFT.Base}, {"seft.adaptive", chain.ReviserRole, m.r.Policy,
		m.r.SEFT.Adaptive},
		{"update", chain.PolicyRole, m.r.Policy, m.r.Update}}
}

// Close checks what was drawn.
func (m *evolve) Close(ctx context.Context, it chain.Iteration, results []beam.PipelineResult, show progress.Run) error {
	return m.phaseOf(it.Number).Close(ctx, it, results, show)
}

// Start is the policy that the run starts from.
func (m *evolve) Start(it chain.Iteration) (measure.Subject, bool) {
	return measure.Subject{Policy: it.Policy, Reference: it.Policy}, true
}

// Subject is the policy: that of the start as long as revisers are trained.
func (m *evolve) Subject(ctx context.Context, it chain.Iteration) (measure.Subject, error) {
	if it.Number < evolution {
		return measure.Subject{Policy: it.Policy, Reference: it.Policy}, nil
	}
	return m.base.Subject(ctx, it)
}
