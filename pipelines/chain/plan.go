package chain

import (
	"errors"
	"slices"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
)

// PlannedStage is one stage of a plan.
type PlannedStage struct {
	Name  string   `json:"name"`
	Needs []string `json:"needs"`
	Adds  []string `json:"adds"`
}

// Plan checks that the stages fit together, without running anything, and lists them. The error names the
// stage that is missing, and the recipe's section to add.
func (c Chain) Plan() ([]PlannedStage, error) {
	nodes := c.Nodes
	contracts := make([]schemas.Contract, len(nodes))
	out := Planned(nodes)
	for i, n := range nodes {
		contracts[i] = n.Contract
	}
	_, err := schemas.Chain(nil, contracts...)
	var missing *schemas.MissingError
	if errors.As(err, &missing) {
		if by := dropped(contracts, missing.Column); by != "" {
			return out, setting.Errorf(sectionOf(nodes, by), "makes other rows, without column %q, which stage %s needs; leave this section out, "+
				"or train by losses that read its rows", missing.Column, missing.Stage)
		}
		section := sectionOf(nodes, missing.Adder)
		if slices.ContainsFunc(contracts, func(c schemas.Contract) bool { return c.Name == missing.Adder }) && !missing.Later {
			return out, setting.Errorf(section, "stage %s needs column %q, which stage %s does not add as this section sets it up", missing.Stage,
				missing.Column, missing.Adder)
		}
		return out, &setting.Error{Path: section, Why: missing.Error()}
	}
	if err != nil {
		return out, &setting.Error{Why: err.Error()}
	}
	return out, nil
}

// dropped names the stage that leaves a column behind which a stage before it added; "" where none does.
func dropped(contracts []schemas.Contract, column string) string {
	added := false
	for _, c := range contracts {
		switch {
		case slices.Contains(schemas.Names(c.Adds), column):
			added = true
		case added && c.Drops:
			return c.Name
		}
	}
	return ""
}

// Planned lists stages.
func Planned(nodes []Node) []PlannedStage {
	out := make([]PlannedStage, len(nodes))
	for i, n := range nodes {
		out[i] = PlannedStage{Name: n.Contract.Name, Needs: schemas.Names(n.Contract.Needs), Adds: schemas.Names(n.Contract.Adds)}
	}
	return out
}

// sectionOf is the recipe section that sets a stage up.
func sectionOf(nodes []Node, name string) string {
	for _, n := range nodes {
		if n.Contract.Name == name && n.Section != "" {
			return n.Section
		}
	}
	if name == "score" || name == "value" {
		return "reward"
	}
	return name
}
