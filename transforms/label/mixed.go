package label

import (
	"context"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/label/verify"
	"github.com/millrace/millrace/transforms/stage"
)

// MixedConfig says which prompt groups a policy update learns from (dynamic sampling; DAPO, arXiv 2503.14476).
type MixedConfig struct {
	Low  float64 `json:"low" range:"[0,1]" doc:"groups of a smaller mean outcome are left out"`
	High float64 `json:"high" range:"[0,1]" doc:"groups of a larger mean outcome are left out"`
	// The released code of IPVRM/DistRL filters the prompt.
	Truncated string `json:"truncated" enum:"filter,prompt" doc:"truncated responses: filter, they alone enter no loss, or prompt, their whole group is left out"`
}

// Choices of MixedConfig.Truncated.
const (
	TruncatedFilter = "filter"
	TruncatedPrompt = "prompt"
)

// DefaultMixed keeps groups with a mean outcome in [0.01, 0.99].
func DefaultMixed() MixedConfig {
	return MixedConfig{Low: 0.01, High: 0.99, Truncated: TruncatedFilter}
}

// Validate checks that some groups are kept.
func (c MixedConfig) Validate() error {
	if c.High < c.Low {
		return setting.Errorf("high", "%v is not in [low = %v, 1]", c.High, c.Low)
	}
	return nil
}

// KeepMixed filters the rows of prompt groups from which a policy update cannot learn: rows of labeled
// responses in, those of the groups kept out. What is filtered is counted, also by why: all_wrong, all_right, truncated,
// no_outcome.
func KeepMixed(s beam.Scope, cfg MixedConfig, labeled stage.Rows) (kept, dead stage.Rows) {
	return stage.Apply(s, cfg, labeled)
}

func init() { stage.Register[MixedConfig]() }

const mixedName = "keep_mixed"

// Contract says which columns are needed.
func (c *MixedConfig) Contract() schemas.Contract {
	return schemas.Contract{Name: mixedName, Needs: []schemas.Descriptor{schemas.PromptID, schemas.Verdict, schemas.GroupMean}}
}

// Setup does nothing.
func (c *MixedConfig) Setup(context.Context) error { return nil }

// Map filters group by group.
func (c *MixedConfig) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	groups, err := b.Groups()
	if err != nil {
		return b, err
	}
	verdicts, means := schemas.Verdict.Of(b), schemas.GroupMean.Of(b)
	for _, g := range groups {
		why := c.why(g, verdicts, means)
		if why == "" {
			continue
		}
		stage.Count(ctx, mixedName, "groups_"+why, 1)
		for i := g.Lo; i < g.Hi; i++ {
			dead.Filter(i)
		}
	}
	return b, nil
}

// why names the reason a group is filtered, "" when it is kept.
func (c *MixedConfig) why(g schemas.Group, verdicts schemas.Texts, means schemas.Scalars[float32]) string {
	mean, ok := means.At(g.Lo)
	switch {
	case !ok:
		return "no_outcome"
	case mean < float32(c.Low): // compared as it is stored: 1 of 100 is not below 0.01
		return "all_wrong"
	case mean > float32(c.High):
		return "all_right"
	}
	for i := g.Lo; i < g.Hi && c.Truncated == TruncatedPrompt; i++ {
		if verdicts.At(i) == verify.Truncated.String() {
			return "truncated"
		}
	}
	return ""
}
