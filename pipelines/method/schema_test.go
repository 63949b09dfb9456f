package method_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/recipes"
)

// The JSON Schema refuses what the program does: a negative seed, a run without a name, a list of losses without a loss.
func TestSchemaRefusesWhatIsEmptyOrNegative(t *testing.T) {
	s := method.Schema()
	if least := s.Properties["seed"].Minimum; least == nil || *least != 0 {
		t.Error("the schema takes a negative seed")
	}
	if s.Properties["run"].MinLength != 1 {
		t.Error("the schema takes an empty run")
	}
	if s.Properties["update"].Properties["losses"].MinItems != 1 {
		t.Error("the schema takes an update without losses")
	}
}

// config.yaml has every setting of a loss, and reads back to the same text.
func TestConfigHasTheDefaultsOfLosses(t *testing.T) {
	for _, name := range []string{"grpo", "distrl", "seft", "ipvrm-refresh", "dckd"} {
		r, err := recipes.Open(t.Context(), name, []string{"run=x"})
		if err != nil {
			t.Fatal(err)
		}
		m, err := method.New(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := method.Resolved(m)
		if err != nil {
			t.Fatal(err)
		}
		if name == "grpo" && !strings.Contains(string(text), "eps_low: ") {
			t.Errorf("no default of ppo in\n%s", text)
		}
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		again, err := recipes.Open(t.Context(), path, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m, err = method.New(again)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if second, err := method.Resolved(m); err != nil || string(second) != string(text) {
			t.Errorf("%s: %v\n%s\nreads back to\n%s", name, err, text, second)
		}
	}
}
