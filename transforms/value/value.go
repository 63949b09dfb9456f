// Package value turns the log-probs or scores of a reward model into prefix values: how good a response looks after each
// of its tokens.
//
// In: a row a response with its scores. Out: the same rows with value, mean_value and p_correct.
//
// A kind of reward model is one file: a struct of its settings, which are the keys of a recipe's section reward.value beside kind,
// and a Register.
package value

import (
	"context"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

// Kind is a kind of reward model. Its struct holds its settings.
type Kind interface {
	// Columns are those of a response that its values are made of, a number a token.
	Columns() []schemas.List[float32]
	// Write fills in value, mean value and P(correct) after each token from the columns, which it may overwrite.
	Write(value, mean, correct []float64, columns [][]float64)
	// Scale is what a value is divided by where steps are judged at a scale of their own: the beta of a log-ratio.
	Scale() float64
	// Ranks is the column by whose last number responses are ranked: value or mean_value.
	Ranks() string
	// TrainedBy are the losses that train models of this kind.
	TrainedBy() []string
}

// LogRatio is a kind whose values are log-ratios to a reference.
type LogRatio interface {
	// Against is the reference: Old or Frozen.
	Against() string
	// WithReference is the kind with log-ratios to another reference.
	WithReference(reference string) Kind
}

// Head is a kind whose values come of a scalar head.
type Head interface{ ScalarHead() }

// References of a log-ratio.
const (
	Old    = "old"    // the policy that sampled
	Frozen = "frozen" // a reference model
)

var kinds = setting.NewKinds[Kind]("kind of values", "kind")

// Register makes a kind known under a name. The value holds the defaults.
func Register(name string, defaults Kind) { kinds.Register(name, defaults) }

// Kinds lists the kinds.
func Kinds() []string { return kinds.Names() }

// Config says what kind of reward model scored the responses. It is the stage.
type Config struct {
	Name string
	Kind Kind
}

// Default is a kind in its paper's settings; it panics where there is none of that name.
func Default(name string) Config {
	k, err := kinds.New(name, nil)
	if err != nil {
		panic("value: " + err.Error())
	}
	return Config{name, k}
}

// DecodeSetting reads the kind, ipvrm where none is named, and its keys.
func (c *Config) DecodeSetting(tree any, path string) (err error) {
	c.Name, c.Kind, err = kinds.DecodeFlat(tree, path, "ipvrm")
	return err
}

// MarshalJSON writes the kind and its keys.
func (c Config) MarshalJSON() ([]byte, error) { return kinds.EncodeFlat(c.Name, c.Kind) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *Config) UnmarshalJSON(raw []byte) (err error) {
	c.Name, c.Kind, err = kinds.UnmarshalFlat(raw)
	return err
}

// SettingSchema describes the keys of every kind.
func (c *Config) SettingSchema() *setting.Schema { return kinds.SchemaFlat("ipvrm") }

// Validate names the first key that is wrong.
func (c Config) Validate() error {
	if c.Kind == nil {
		return setting.Errorf("kind", "is missing%s", setting.Suggest("", Kinds()))
	}
	return setting.Check(c.Kind)
}

// Reference is what log-ratios are taken to, "" where the values are none.
func (c Config) Reference() string {
	if r, ok := c.Kind.(LogRatio); ok {
		return r.Against()
	}
	return ""
}

// WithReference takes log-ratios to another reference, where the values are such.
func (c Config) WithReference(reference string) Config {
	if r, ok := c.Kind.(LogRatio); ok {
		c.Kind = r.WithReference(reference)
	}
	return c
}

// Modelless reports whether the values come of the policy's own log-probs, so that there is no reward model.
func (c Config) Modelless() bool {
	_, ok := c.Kind.(interface{ NoModel() })
	return ok
}

// OfTokens reports whether the value column holds a score of each token, not that of the prefix up to it.
func OfTokens(k Kind) bool {
	_, ok := k.(interface{ ofTokens() })
	return ok
}

// OnHead reports whether the values come of a scalar head.
func (c Config) OnHead() bool {
	_, ok := c.Kind.(Head)
	return ok
}

// Apply computes prefix values: rows of scored responses in, the same with value, mean_value and p_correct out.
func Apply(s beam.Scope, cfg Config, scored stage.Rows) (valued, dead stage.Rows) {
	return stage.Apply(s, cfg, scored)
}

func init() { stage.Register[Config]() }

// Contract says which columns are needed and added.
func (c *Config) Contract() schemas.Contract { return Named{Config: *c}.contract() }

// Setup does nothing.
func (c *Config) Setup(context.Context) error { return nil }

// Map computes the values row by row.
func (c *Config) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	return Named{Config: *c}.values(b, dead)
}
