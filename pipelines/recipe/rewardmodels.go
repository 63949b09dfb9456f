package recipe

import (
	"fmt"
	"regexp"

	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/value"
)

// RewardModel is a reward model beside that of section reward: its values are columns with its name, which parts of a reward may read,
// and from which reward_disagreement comes.
type RewardModel struct {
	Name string `json:"name" doc:"of the model, the end of its columns: reward_logp_NAME, value_NAME, mean_value_NAME, p_correct_NAME"`
	Model
	Value value.Config `json:"value" doc:"what the model's values are made of"`
}

// SetDefaults values as IPVRM does.
func (m *RewardModel) SetDefaults() { *m = RewardModel{Value: value.Default("ipvrm")} }

var modelName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,40}$`)

// Validate names the first key that is wrong.
func (m RewardModel) Validate() error {
	switch {
	case !modelName.MatchString(m.Name):
		return setting.Errorf("name", "%q; every model needs a name of small letters, digits and _, such as strict", m.Name)
	case m.New != nil:
		return setting.Errorf("new", "a new model knows nothing of what it would score; name a directory under path")
	case m.Value.Modelless():
		return setting.Errorf("value.kind", "%s needs no model; it belongs into section reward", m.Value.Name)
	}
	if err := m.Model.Named(); err != nil {
		return err
	}
	return m.Model.Validate()
}

// Scorers are the names of all reward models that score: "" for that of section reward, then those of reward_models.
func (r Recipe) Scorers() (names []string) {
	if r.Reward != nil {
		names = append(names, "")
	}
	for _, m := range r.RewardModels {
		names = append(names, m.Name)
	}
	return names
}

// several holds reward models beside each other to the rest of the recipe.
func (r Recipe) several() error {
	seen := map[string]bool{}
	for i, m := range r.RewardModels {
		if seen[m.Name] {
			return setting.Errorf(fmt.Sprintf("reward_models[%d].name", i), "%q is used twice", m.Name)
		}
		seen[m.Name] = true
	}
	for i, p := range r.Rewards {
		at := fmt.Sprintf("rewards[%d].model", i)
		switch m := p.Model; {
		case m == nil:
		case m.Disagrees() && len(r.Scorers()) < 2:
			return setting.Errorf(at+".score", "%s needs two reward models; there is %d (sections reward and reward_models)", m.Score,
				len(r.Scorers()))
		case m.Disagrees():
		case m.Of != "" && !seen[m.Of]:
			return setting.Errorf(at+".of", "%q is no name of reward_models", m.Of)
		case m.Of == "" && r.Reward == nil:
			return setting.Errorf(at, "there is no reward model; section reward names one, or of names one of reward_models")
		}
	}
	return nil
}
