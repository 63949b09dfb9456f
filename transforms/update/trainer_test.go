package update

import (
	"math"
	"strings"
	"testing"

	"github.com/millrace/millrace/models/losses"
)

// A loss or a metric that is no number ends a step by its name; what is finite does not.
func TestFinite(t *testing.T) {
	tr := &trainer{config: Config{Losses: []Term{{Name: "ppo"}, {Name: "own"}}}}
	for says, c := range map[string]struct{ loss, metric float64 }{
		"":                   {1, 2},
		"(ppo + own) is NaN": {math.NaN(), 2},
		"is +Inf":            {math.Inf(1), 2},
		"metric own/x":       {1, math.NaN()},
	} {
		var metrics losses.Metrics
		metrics.Add("own/x", c.metric, 1)
		err := tr.finite(c.loss, metrics)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v, want %q", c, err, says)
		}
	}
}
