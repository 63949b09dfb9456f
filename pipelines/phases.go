package pipelines

// PlannedPhase is a part of a run whose iterations have the same stages.
type PlannedPhase struct {
	Name       string          `json:"name"`
	Iterations int             `json:"iterations"`
	Streams    []PlannedStream `json:"streams"`
}

// PlannedStream is a sequence of stages of one iteration.
type PlannedStream struct {
	Name   string         `json:"name"`
	Stages []PlannedStage `json:"stages"`
	Size   Size           `json:"size"`
}

const mainStream = "main"

// Phases lists everything that a run does: the phases of an evolution, and beside the main stream that of a student's own
// responses.
func (r Recipe) Phases() ([]PlannedPhase, error) {
	if r.Kind != Evolve {
		p, err := r.phase(r.Kind, r.Iterations)
		return []PlannedPhase{p}, err
	}
	var out []PlannedPhase
	for number, name := range []string{"base reviser", "adaptive reviser", "round"} {
		iterations := 1
		if number > adaptiveReviser {
			iterations = r.Iterations - number
		}
		p, err := r.at(number).phase(name, iterations)
		if err != nil {
			return out, err
		}
		out = append(out, p)
	}
	return out, nil
}

func (r Recipe) phase(name string, iterations int) (PlannedPhase, error) {
	p := PlannedPhase{Name: name, Iterations: iterations}
	stages, err := r.Plan()
	if err != nil {
		return p, err
	}
	p.Streams = []PlannedStream{{mainStream, stages, r.sizeOf(stages)}}
	if r.Distill != nil && r.Distill.ADPA != nil {
		own := r
		own.Rollout.Samples = r.Distill.Samples
		stages := plannedStages(r.studentNodes())
		p.Streams = append(p.Streams, PlannedStream{studentName, stages, own.sizeOf(stages)})
	}
	return p, nil
}

func plannedStages(nodes []node) []PlannedStage {
	out := make([]PlannedStage, len(nodes))
	for i, n := range nodes {
		out[i] = planned(n)
	}
	return out
}
