package method

import (
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
		if why := t.Config.OtherAdapters(have, t.Model.Path); why != "" {
			return setting.Errorf(t.Path+".lora", "%s", why)
		}
	}
	return nil
}
