// Package importance weighs tokens that another engine sampled than the one that is trained: its log-probs of them and the trainer's
// own, under the same weights, differ (algorithms.md 4.9; TIS, IcePop, MIS).
//
// In: rows with sampler_logp and the trainer's log-probs of the same tokens. Out: the same rows with importance_weight.
package importance

import (
	"context"
	"math"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

// Config says how far apart the two may be, and what becomes of tokens beyond.
type Config struct {
	Level string  `json:"level" enum:"token,sequence,geometric" doc:"ratio of each token, of the response (the product of its tokens'), or their geometric mean"`
	Mode  string  `json:"mode" enum:"truncate,mask" doc:"truncate: a weight is the ratio, at most cap (TIS); mask: the ratio between low and high, else 0 (IcePop, MIS; of level geometric 1 or 0)"`
	Cap   float64 `json:"cap" range:"(0,1e6]" doc:"of truncate"`
	Low   float64 `json:"low" range:"[0,1]" doc:"of mask"`
	High  float64 `json:"high" range:"[1,1e6]" doc:"of mask"`
	Limit float64 `json:"limit,omitempty" range:"[0,1e6]" doc:"the run ends when the mean |log-ratio| of an iteration's tokens is above it; 0: no limit"`
}

// Choices of a Config.
const (
	Token     = "token"
	Sequence  = "sequence"
	Geometric = "geometric"
	Truncate  = "truncate"
	Mask      = "mask"
)

// SetDefaults truncates tokens' ratios at 2, as verl and TRL do.
func (c *Config) SetDefaults() { *c = Default() }

// Default truncates tokens' ratios at 2.
func Default() Config { return Config{Level: Token, Mode: Truncate, Cap: 2, Low: 0.5, High: 5} }

// maxLogRatio bounds log-ratios before the exponential, as everywhere (algorithms.md, notation).
const maxLogRatio = 20

// Weights writes the weight of every token of a response: own are the trainer's log-probs, sampler those of the engine that sampled.
func (c Config) Weights(weight, own, sampler []float64) {
	sum := 0.0
	for t := range weight {
		weight[t] = own[t] - sampler[t]
		sum += weight[t]
	}
	for t, log := range weight {
		switch c.Level {
		case Sequence:
			log = sum
		case Geometric:
			log = sum / float64(len(weight))
		}
		r := math.Exp(min(max(log, -maxLogRatio), maxLogRatio))
		switch {
		case c.Mode == Truncate:
			weight[t] = min(r, c.Cap)
		case r < c.Low || r > c.High:
			weight[t] = 0
		case c.Level == Geometric:
			weight[t] = 1
		default:
			weight[t] = r
		}
	}
}

// Stage is the stage. Own is the column of the trainer's log-probs; the engine's must have Defined's definition, that of what it sampled
// from.
type Stage struct {
	Config
	Temperature float64 `json:"temperature,omitempty"` // of sampling, at which the trainer's log-probs are; 0: 1
	TopP        float64 `json:"top_p"`                 // of the engine's
	TopK        int     `json:"top_k"`
}

func init() { stage.Register[Stage]() }

func (c *Stage) own() schemas.List[float32] {
	if c.Temperature != 0 {
		return schemas.TemperedOldLogP
	}
	return schemas.OldLogP
}

// Contract says which columns are needed and added.
func (c *Stage) Contract() schemas.Contract {
	own := schemas.FullLogP("").At(c.Temperature)
	sampler := own
	sampler.TopP, sampler.TopK = c.TopP, c.TopK
	return schemas.Contract{Name: "importance", Needs: []schemas.Descriptor{schemas.ResponseTokens, c.own(), schemas.SamplerLogP},
		Adds:  []schemas.Descriptor{schemas.ImportanceWeight},
		Reads: map[string]schemas.LogPDefinition{c.own().Name: own, schemas.SamplerLogP.Name: sampler}}
}

// Setup does nothing.
func (c *Stage) Setup(context.Context) error { return nil }

// Map weighs the tokens, row by row. Tokens that the policy has not written have weight 0.
func (c *Stage) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	tokens, ownOf := schemas.ResponseTokens.Of(b), stage.OwnOf(b)
	own, sampler := c.own(), schemas.SamplerLogP
	weights := make([][]float32, b.NumRows())
	for i := range weights {
		n := len(tokens.Row(i))
		mine, ok := stage.PerToken(own, own.Of(b), i, n, dead)
		if !ok {
			continue
		}
		theirs, ok := stage.PerToken(sampler, sampler.Of(b), i, n, dead)
		if !ok {
			continue
		}
		at := ownOf(i, n)
		w := make([]float64, at.Len())
		c.Weights(w, stage.Pick(at, mine), stage.Pick(at, theirs))
		weights[i] = stage.Spread(at, stage.Narrow(schemas.ImportanceWeight.Name, w, i, dead))
	}
	return b.With(schemas.ImportanceWeight.FromRows(weights))
}

// Validate names the first key that no mode reads.
func (c Config) Validate() error {
	if c.Mode == Mask && c.Low >= c.High {
		return setting.Errorf("low", "%v is not below high, %v", c.Low, c.High)
	}
	return nil
}
