package losses

import (
	"reflect"

	"github.com/millrace/millrace/schemas/setting"
)

var registry = setting.NewKinds[Loss]("loss", "name")

// Register makes a loss known under a name. The value is a struct that holds the defaults; its exported fields are the keys of a
// recipe, with json tags and what package setting reads besides: range, enum, doc, and a method Validate for what depends on several
// keys. It panics on a name that is taken and on defaults that break the ranges.
func Register(name string, defaults Loss) {
	if err := setting.Check(defaults); err != nil {
		panic("losses: defaults of " + name + ": " + err.Error())
	}
	registry.Register(name, defaults)
}

// Names lists the registered losses in alphabetical order.
func Names() []string { return registry.Names() }

// New returns the loss of that name, its defaults overridden by config (as decoded from YAML). An unknown name or key is
// a setting.Error that suggests the nearest one.
func New(name string, config map[string]any) (Loss, error) {
	if config == nil {
		config = map[string]any{}
	}
	return registry.New(name, config)
}

// Settings are all settings of the loss of that name by their keys, those of config and the defaults of the others.
func Settings(name string, config map[string]any) (map[string]any, error) {
	l, err := New(name, config)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	v := reflect.ValueOf(l)
	for _, f := range setting.Fields(v.Type()) {
		if f.Hidden == "" {
			out[f.Key] = v.FieldByIndex(f.Index).Interface()
		}
	}
	return out, nil
}

// Schema describes a loss by name, each with its keys.
func Schema() *setting.Schema { return registry.SchemaFlat("") }

// Keys lists the configuration keys of a loss in the order of its struct, and its defaults.
func Keys(name string) (keys []string, defaults []any) {
	l, ok := registry.Defaults(name)
	if !ok {
		return nil, nil
	}
	v := reflect.ValueOf(l)
	for _, f := range setting.Fields(v.Type()) {
		keys, defaults = append(keys, f.Key), append(defaults, v.FieldByIndex(f.Index).Interface())
	}
	return keys, defaults
}

// Losses of the field that are not here, so that who names one is not told of another that is spelt alike. docs/new-loss.md says how to
// add one.
func init() {
	for name, what := range map[string]string{
		"ipo":   "identity preference optimisation, arXiv 2310.12036",
		"kto":   "Kahneman-Tversky optimisation, arXiv 2402.01306",
		"orpo":  "odds-ratio preference optimisation, arXiv 2403.07691",
		"simpo": "preference optimisation without a reference, arXiv 2405.14734",
	} {
		registry.Lacks(name, what+"; docs/new-loss.md says how to add a loss")
	}
	for name, what := range map[string]string{
		"grpo":         "its advantages are advantage.kind grpo, its loss is ppo",
		"dr_grpo":      "its advantages are advantage.kind dr_grpo, its loss is ppo with reduction dr_grpo",
		"reinforce_pp": "its advantages are advantage.kind reinforce_pp, its loss is ppo",
		"rloo":         "its advantages are advantage.kind rloo, its loss is reinforce",
		"dapo":         "its loss is ppo with a larger eps_high and reduction token_mean; millrace recipes dapo prints the recipe",
	} {
		registry.Lacks(name, what)
	}
}
