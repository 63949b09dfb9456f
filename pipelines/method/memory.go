package method

import (
	"slices"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/recipe"
)

// Memory estimates what the updates of an iteration hold. Models that are not there yet are left out.
func Memory(m Method, measured chain.Lengths) []chain.TrainMemory {
	var out []chain.TrainMemory
	for _, t := range m.Updates() {
		if t.Config.External != nil {
			continue // another program takes it
		}
		if takes, ok := chain.Memory(m.Recipe(), t.Role, t.Model, t.Config, measured); ok {
			out = append(out, takes)
		}
	}
	return out
}

// Peak estimates the most that the process of the run holds, with the embedded runner: what its largest update takes, or sampling or
// scoring, beside the models that the other stages keep open. false when the shape of a model is not known yet.
func Peak(m Method, measured chain.Lengths) (chain.PeakMemory, bool) {
	phases, err := m.Phases()
	if err != nil {
		return chain.PeakMemory{}, false
	}
	updates := map[string]chain.TrainMemory{} // by the stage
	for i, t := range m.Updates() {
		if t.Config.External != nil {
			continue
		}
		takes, ok := chain.Memory(m.Recipe(), t.Role, t.Model, t.Config, measured)
		if !ok {
			return chain.PeakMemory{}, false
		}
		name := "update_" + t.Role
		if len(phases) > 1 && i < len(phases) { // each phase has its own
			name += phases[i].Name
		}
		updates[name] = takes
	}
	var most chain.PeakMemory
	for _, p := range phases {
		nodes := p.Chain.Nodes
		for _, s := range p.Chain.Streams {
			nodes = slices.Concat(nodes, s.Nodes)
		}
		suffix := ""
		if len(phases) > 1 {
			suffix = p.Name
		}
		var taken []chain.TrainMemory
		for _, n := range nodes {
			if u, ok := updates[n.Contract.Name+suffix]; ok {
				taken = append(taken, u)
			}
		}
		takes, ok := chain.Peak(p.Recipe, nodes, taken, measured, func(role string) (recipe.Model, string) { return modelOf(p.Recipe, role) })
		if !ok {
			return chain.PeakMemory{}, false
		}
		if takes.Total > most.Total {
			most = takes
		}
	}
	return most, true
}

// modelOf is the model of a role, and what names it among those of an iteration: stages that open the same one share it.
func modelOf(r recipe.Recipe, role string) (m recipe.Model, name string) {
	policy := r.Policy
	for _, m := range r.RewardModels {
		if role == chain.RewardModelRole(m.Name) {
			return m.Model, role
		}
	}
	switch {
	case role == chain.SamplerRole && r.Rollout.Engine != nil:
		return recipe.Model{Path: r.Rollout.Engine.Path}, role
	case role == chain.SamplerRole && r.Kind == "opd": // the student answers
		return policy, chain.PolicyRole
	case role == chain.SamplerRole && r.Distill != nil:
		if r.Distill.Reference != nil {
			return *r.Distill.Reference, chain.TeacherReferenceRole
		}
		return r.Distill.Teacher, chain.TeacherRole
	case role == chain.SamplerRole && r.SEFT != nil && r.SEFT.Source != nil:
		return *r.SEFT.Source, role
	case role == chain.ReferenceRole && r.Reference != nil:
		return *r.Reference, role
	case role == chain.ReferenceRole && (r.Iterations == 1 || r.Kind == "refresh"): // what the run starts from is still the policy
		return policy, chain.PolicyRole
	case role == chain.RewardRole:
		if start := r.RewardStart(); start.Path != policy.Path || start.New != nil || r.Reward.Update != nil || r.Reward.Refresh != nil {
			return start, role
		}
	case role == chain.TeacherRole:
		return r.Distill.Teacher, role
	case role == chain.TeacherReferenceRole && r.Distill.Reference != nil:
		return *r.Distill.Reference, role
	case role == chain.ReferenceRole, role == chain.ReviserRole:
		return policy, role
	}
	return policy, chain.PolicyRole
}
