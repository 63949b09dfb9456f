package run

import "testing"

// Accuracy on held-out prompts stands beside the bar whatever the number of responses to a prompt.
func TestHeldOutAccuracyIsShownForAnyNumber(t *testing.T) {
	for _, name := range []string{"avg@1", "avg@8", "avg@16"} {
		shown := fields(Measurement{Metrics: map[string]float64{name: 0.5, name + "_stderr": 0.1, "loss": 1}})
		if len(shown) != 2 || shown[0].Name != name || shown[0].Value != 0.5 {
			t.Errorf("%s: %v", name, shown)
		}
	}
}
