package pipelines

import (
	"errors"
	"slices"

	"github.com/millrace/millrace/schemas"
)

// PlannedStage is one stage of a plan.
type PlannedStage struct {
	Name  string   `json:"name"`
	Needs []string `json:"needs"`
	Adds  []string `json:"adds"`
}

// Plan checks that the stages of the recipe fit together, without running anything, and lists them. The error names the
// stage that is missing, and the recipe's section to add.
func (r Recipe) Plan() ([]PlannedStage, error) {
	nodes := r.chain()
	contracts := make([]schemas.Contract, len(nodes))
	out := plannedStages(nodes)
	for i, n := range nodes {
		contracts[i] = n.contract
	}
	_, err := schemas.Chain(nil, contracts...)
	var missing *schemas.MissingError
	if errors.As(err, &missing) {
		section := sectionOf(missing.Adder)
		if slices.ContainsFunc(contracts, func(c schemas.Contract) bool { return c.Name == missing.Adder }) && !missing.Later {
			return out, configErrorf(section, "stage %s needs column %q, which stage %s does not add as this section sets it up", missing.Stage, missing.Column, missing.Adder)
		}
		return out, &ConfigError{Path: section, Why: missing.Error()}
	}
	if err != nil {
		return out, &ConfigError{Why: err.Error()}
	}
	return out, nil
}

func planned(n node) PlannedStage {
	return PlannedStage{Name: n.contract.Name, Needs: schemas.Names(n.contract.Needs), Adds: schemas.Names(n.contract.Adds)}
}

// sectionOf is the recipe section that sets a stage up.
func sectionOf(stage string) string {
	if stage == "score" || stage == "value" {
		return "reward"
	}
	return stage
}
