package run

import (
	"errors"
	"testing"
)

func measuredOf(all ...map[string]float64) (out []Measurement) {
	for i, metrics := range all {
		out = append(out, Measurement{Iterations: i + 1, Metrics: metrics})
	}
	return out
}

// Each alarm rings once, when what it listens to is first there, and at nothing else.
func TestAlarms(t *testing.T) {
	type m = map[string]float64
	for name, c := range map[string]struct {
		all []Measurement
		at  int // 0: never
	}{
		"audit":    {measuredOf(m{"audit_gap": 0.02}, m{"audit_gap": 0.11}, m{"audit_gap": 0.9}), 2},
		"echo":     {measuredOf(m{"echo_share": 0.1}, m{"echo_share": 0.49}, m{"echo_share": 0.6}), 3},
		"cut off":  {measuredOf(m{"truncated_share": 0.05}, m{"truncated_share": 0.49}, m{"truncated_share": 0.6}, m{"truncated_share": 1}), 3},
		"length":   {measuredOf(m{"response_tokens": 30}, m{"response_tokens": 11}, m{"response_tokens": 9}), 3},
		"entropy":  {measuredOf(m{"entropy": 2}, m{"entropy": 0.2}, m{"entropy": 0.05}), 3},
		"held out": {measuredOf(m{"avg@8": 0.3, "train_accuracy": 0.3}, m{"train_accuracy": 0.9}, m{"avg@8": 0.3, "train_accuracy": 0.6}), 3},
		"": {measuredOf(m{"avg@8": 0.3, "train_accuracy": 0.3, "entropy": 1.8, "response_tokens": 30, "echo_share": 0.9, "audit_gap": 0,
			"truncated_share": 0.4},
			m{"avg@8": 0.5, "train_accuracy": 0.6, "entropy": 0.15, "response_tokens": 12, "echo_share": 0.95, "audit_gap": 0.05,
				"truncated_share": 0.6}), 0},
	} {
		got := Alarms(c.all)
		if c.at == 0 && len(got) != 0 || c.at > 0 && (len(got) != 1 || got[0].Name != name || got[0].Iterations != c.at) {
			t.Errorf("%s: %+v, want it after %d iterations", name, got, c.at)
		}
	}
}

func TestCollapse(t *testing.T) {
	limits := Collapse{Echo: 0.5, Truncated: 0.5, Entropy: 0.1, Length: 2}
	fine := map[string]float64{"echo_share": 0.5, "truncated_share": 0.5, "entropy": 0.1, "response_tokens": 40}
	if err := limits.check(20, Measurement{Metrics: fine}); err != nil {
		t.Error(err)
	}
	for setting, metrics := range map[string]map[string]float64{"echo_share": {"echo_share": 0.51}, "entropy": {"entropy": 0.09},
		"truncated_share": {"truncated_share": 0.51}, "length_factor": {"response_tokens": 9}} {
		var wrong *CollapseError
		if err := limits.check(20, Measurement{Metrics: metrics}); !errors.As(err, &wrong) || wrong.Setting != setting {
			t.Errorf("%v: %v, want an error of %s", metrics, err, setting)
		}
		if err := (Collapse{}).check(20, Measurement{Metrics: metrics}); err != nil {
			t.Errorf("without limits: %v", err)
		}
	}
}
