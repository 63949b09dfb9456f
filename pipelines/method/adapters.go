package method

import (
	"fmt"
	"strings"

	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/schemas/setting"
)

// sameAdapters refuses updates of models that have other adapters than the update would give them: a run would find out after it has
// sampled. Models that are not there yet are looked at when they are trained.
func sameAdapters(all []Training) error {
	for _, t := range all {
		if t.Model.Path == "" || t.Model.Remote() || !transformer.IsAdapter(t.Model.Path) {
			continue
		}
		have, _, err := transformer.ReadAdapter(t.Model.Path)
		if err != nil {
			return setting.Errorf(t.Path, "trains a model that cannot be read: %v", err)
		}
		if c := t.Config.LoRA; c != nil && !have.Equal(c.LoRA) {
			return setting.Errorf(t.Path+".lora", "asks for %s, and %s has %s already, which are what is trained; say the same, or leave "+
				"the section out", adapters(c.LoRA), t.Model.Path, adapters(have))
		}
	}
	return nil
}

func adapters(c transformer.LoRA) string {
	on := "all linear layers"
	if !c.Equal(transformer.LoRA{Rank: c.Rank, Alpha: c.Alpha}) {
		on = strings.Join(c.Targets, ", ")
	}
	return fmt.Sprintf("adapters of rank %d and alpha %v on %s", c.Rank, c.Alpha, on)
}
