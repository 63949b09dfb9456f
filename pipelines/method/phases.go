package method

import (
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/transforms/update"
)

// PlannedPhase is a part of a run whose iterations have the same stages.
type PlannedPhase struct {
	Name       string          `json:"name"`
	Iterations int             `json:"iterations"`
	Streams    []PlannedStream `json:"streams"`
}

// PlannedStream is a sequence of stages of one iteration.
type PlannedStream struct {
	Name   string               `json:"name"`
	Stages []chain.PlannedStage `json:"stages"`
	Size   chain.Size           `json:"size"`
}

const mainStream = "main"

// Plan lists everything that a run does: its phases, and beside the main stream those that join it.
func Plan(m Method, measured chain.Lengths) ([]PlannedPhase, error) {
	phases, err := m.Phases()
	if err != nil {
		return nil, err
	}
	var out []PlannedPhase
	for _, p := range phases {
		stages, err := p.Chain.Plan()
		if err != nil {
			return nil, err
		}
		planned := PlannedPhase{Name: p.Name, Iterations: p.Iterations, Streams: []PlannedStream{{mainStream, stages, chain.SizeOf(p.Recipe,
			stages, measured)}}}
		for _, s := range p.Chain.Streams {
			own := p.Recipe
			own.Rollout.Samples = s.Samples
			stages := chain.Planned(s.Nodes)
			planned.Streams = append(planned.Streams, PlannedStream{s.Name, stages, chain.SizeOf(own, stages, measured)})
		}
		out = append(out, planned)
	}
	return out, nil
}

// Training is the training of a model in a role.
type Training struct {
	Path   string // of its section
	Role   string
	Model  recipe.Model
	Config update.Config
}
