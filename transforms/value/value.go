// Package value turns the log-probs or scores of a reward model into prefix values: how good a response looks after each
// of its tokens.
//
// In: PCollection<Batch>, a row a response with its scores. Out: the same rows with value, mean_value and p_correct.
package value

import (
	"context"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/series"
	"github.com/millrace/millrace/transforms/stage"
)

// Config says what kind of reward model scored the responses.
type Config struct {
	// Kind is ipvrm, implicit_prm or dpo_rm (log-ratios of two language models), q_rm_lm (log-probs of one), or q_rm or
	// value_head (a scalar head after each token).
	Kind string `json:"kind"`
	// Beta scales the log-ratios.
	Beta float64 `json:"beta"`
	// Reference is what the log-ratio is taken to: old, the policy that sampled, or frozen, a reference model.
	Reference string `json:"reference"`
}

// Kinds of reward models.
const (
	IPVRM       = "ipvrm"
	ImplicitPRM = "implicit_prm"
	DPORM       = "dpo_rm"
	QRM         = "q_rm"
	QRMLM       = "q_rm_lm"
	ValueHead   = "value_head"
)

// References of a log-ratio.
const (
	Old    = "old"
	Frozen = "frozen"
)

// Default holds the paper's settings of a kind: beta 10 for IPVRM (arXiv 2604.13197), 0.05 for Implicit PRM (2412.01981)
// and DPO-RM.
func Default(kind string) Config {
	c := Config{Kind: kind, Beta: 0.05, Reference: Old}
	if kind == IPVRM {
		c.Beta = 10
	}
	return c
}

// Validate names the first key that is wrong.
func (c Config) Validate() error {
	switch c.Kind {
	case IPVRM, ImplicitPRM, DPORM, QRM, QRMLM, ValueHead:
	default:
		return fmt.Errorf("kind: %q is not one of %s, %s, %s, %s, %s, %s", c.Kind, IPVRM, ImplicitPRM, DPORM, QRM, QRMLM, ValueHead)
	}
	if !(c.Beta > 0) || !series.AllFinite(c.Beta) {
		return fmt.Errorf("beta: %v is not a finite number above 0", c.Beta)
	}
	if c.Reference != Old && c.Reference != Frozen {
		return fmt.Errorf("reference: %q is not one of %s, %s", c.Reference, Old, Frozen)
	}
	return nil
}

// Apply computes prefix values: PCollection<Batch> of scored responses in, the same with value, mean_value and p_correct out.
func Apply(s beam.Scope, cfg Config, scored beam.PCollection) (valued, dead beam.PCollection) {
	return stage.Apply(s, cfg, scored)
}

func init() { stage.Register[Config]() }

func (c *Config) scalar() bool { return c.Kind == QRM || c.Kind == ValueHead }

// IsLogRatio reports whether the values are made of log-ratios to a reference.
func (c Config) IsLogRatio() bool {
	return c.Kind == IPVRM || c.Kind == ImplicitPRM || c.Kind == DPORM
}

// inputs are the columns the values are made of: log-probs and their reference, or scores alone.
func (c *Config) inputs() []schemas.List[float32] {
	switch {
	case c.scalar():
		return []schemas.List[float32]{schemas.QValue}
	case c.Kind == QRMLM:
		return []schemas.List[float32]{schemas.RewardLogP}
	case c.Reference == Frozen:
		return []schemas.List[float32]{schemas.RewardLogP, schemas.ReferenceLogP}
	}
	return []schemas.List[float32]{schemas.RewardLogP, schemas.OldLogP}
}

// Contract says which columns are needed and added.
func (c *Config) Contract() schemas.Contract {
	contract := schemas.Contract{Name: "value", Needs: []schemas.Descriptor{schemas.ResponseTokens},
		Adds: []schemas.Descriptor{schemas.Value, schemas.MeanValue, schemas.PCorrect}, Reads: map[string]schemas.LogPDefinition{}}
	for _, in := range c.inputs() {
		contract.Needs = append(contract.Needs, in)
		if in.LogProb {
			contract.Reads[in.Name] = schemas.FullLogP("")
		}
	}
	return contract
}

// Setup does nothing.
func (c *Config) Setup(context.Context) error { return nil }

// Map computes the values row by row.
func (c *Config) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	tokens := schemas.ResponseTokens.Of(b)
	columns := c.inputs()
	n := b.NumRows()
	values, means, probs := make([][]float32, n), make([][]float32, n), make([][]float32, n)
rows:
	for i := range n {
		length := len(tokens.Row(i))
		if length == 0 {
			dead.Rowf(i, schemas.ReasonEmpty, "the response has no tokens")
			continue
		}
		in := make([][]float64, len(columns))
		for k, col := range columns {
			var ok bool
			if in[k], ok = stage.PerToken(col, col.Of(b), i, length, dead); !ok {
				continue rows
			}
		}
		v, mean, p := make([]float64, length), make([]float64, length), make([]float64, length)
		if len(columns) == 1 {
			Scores(v, mean, in[0])
		} else {
			LogRatios(in[0], in[0], in[1])
			Prefix(v, mean, in[0], c.Beta)
		}
		if c.Kind == IPVRM {
			Correct(p, mean)
		} else {
			Correct(p, v)
		}
		values[i] = stage.Narrow(schemas.Value.Name, v, i, dead)
		means[i] = stage.Narrow(schemas.MeanValue.Name, mean, i, dead)
		probs[i] = stage.Narrow(schemas.PCorrect.Name, p, i, dead)
	}
	return b.With(schemas.Value.FromRows(values), schemas.MeanValue.FromRows(means), schemas.PCorrect.FromRows(probs))
}
