package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/recipes"
)

// TestEmbeddedRecipes: every recipe that comes with the program is valid and its stages fit together.
func TestEmbeddedRecipes(t *testing.T) {
	all := recipes.All()
	if len(all) == 0 {
		t.Fatal("no embedded recipes")
	}
	for _, e := range all {
		t.Run(e.Name, func(t *testing.T) {
			if e.Summary == "" {
				t.Error("the recipe opens without a comment that says what it is")
			}
			r, err := recipes.Open(t.Context(), e.Name, nil)
			if err != nil {
				t.Fatal(err)
			}
			m, err := method.New(r)
			if err != nil {
				t.Fatal(err)
			}
			phases, err := method.Plan(m, chain.Lengths{})
			if err != nil {
				t.Fatal(err)
			}
			stages, size := phases[0].Streams[0].Stages, phases[0].Streams[0].Size
			if len(stages) < 3 {
				t.Errorf("%d stages", len(stages))
			}
			if size.Rows < size.Prompts || size.Records < 1 || size.Tokens < int64(size.Rows) || size.Bytes < size.Tokens {
				t.Errorf("size %+v", size)
			}
		})
	}
}

// TestBrokenRecipes: a recipe that would not run gives exit code 2 and names the place.
func TestBrokenRecipes(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	good := writeRecipe(t, tinyRecipe)
	out := mustRun(t, "plan", good, "--json")
	var plan struct {
		Stages []chain.PlannedStage `json:"stages"`
		Size   chain.Size           `json:"size"`
	}
	if err := json.Unmarshal([]byte(out), &plan); err != nil || plan.Size.Rows != 32 || plan.Size.Records != 4 {
		t.Errorf("%v: %s", err, out)
	}
	for _, c := range []struct {
		name, recipe string
		set          []string
		says         []string
	}{
		{name: "unknown key", set: []string{"rollout.sampels=3"}, says: []string{"rollout.sampels", `"samples"`}},
		{name: "out of range", set: []string{"rollout.samples=0"}, says: []string{"rollout.samples", "[1, 65536]"}},
		{name: "wrong type", set: []string{"iterations=many"}, says: []string{"iterations", "whole number"}},
		{name: "loss without its column", set: []string{"update.losses=[{name: distrl}]"}, says: []string{"candidate_advantage"}},
		{name: "missing stage", recipe: strings.Replace(tinyRecipe, "advantage: {kind: grpo, groups: all}\n", "", 1),
			says: []string{"advantage"}},
		{name: "unknown loss", set: []string{"update.losses=[{name: grpoo}]"}, says: []string{"update.losses[0]", "grpoo"}},
		{name: "not YAML", recipe: "kind: [", says: []string{"YAML"}},
		{name: "no such recipe", recipe: "", says: []string{"embedded"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := good
			if c.recipe != "" {
				path = writeRecipe(t, c.recipe)
			} else if c.set == nil {
				path = "no-such-recipe"
			}
			args := []string{"plan", path}
			for _, s := range c.set {
				args = append(args, "--set", s)
			}
			code, out, log := millrace(t, args...)
			if code != 2 || out != "" {
				t.Errorf("exit code %d, output %q", code, out)
			}
			for _, want := range c.says {
				if !strings.Contains(log, want) {
					t.Errorf("%q does not name %s", strings.TrimSpace(log), want)
				}
			}
		})
	}
}
