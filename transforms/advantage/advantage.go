// Package advantage turns scores, values and outcomes into the advantages that policy updates learn from.
//
// In: a row a response with its outcome and whatever the estimator reads. Out: the same rows with advantage
// and token_mask, for value heads return, for DistRL candidate_advantage. A response that no policy loss learns from (truncated,
// without an outcome, in a group that is all right or all wrong) has null advantages.
//
// An estimator is one file: a struct of its settings, which are the keys of a recipe's section advantage beside kind, and a
// Register. The mathematics is plain float64 functions over the tokens of packed responses, each naming its source; what crosses
// records (Totals) is summed exactly before any advantage is computed.
package advantage

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/totals"
)

// Estimator computes advantages. Its struct holds its settings; a method Validate checks those that depend on each other.
type Estimator interface {
	// Inputs are what it reads of a response, and what it adds.
	Inputs() Inputs
	// Over returns the function that fills in the advantages of one prompt's responses, given the sums over the batch.
	Over(batch *Totals) func(group []Response)
}

// Inputs are what an estimator reads of a response beside its tokens, and what it adds beside advantages.
type Inputs struct {
	Outcome bool // Outcome, of responses that have one; only those are learned from
	Group   bool // GroupMean and GroupStd
	Learned      // which responses are learned from
	// OnReward: what a response earns is its reward, where the recipe composes one, and not its outcome. The stage sets it.
	OnReward bool
	// Compares: a response's advantage depends on the outcomes of the prompt's other responses.
	Compares bool
	// LogP and CandidateLogP are columns of log-probs, over the full vocabulary, in the order of Response.LogP and CandidateLogP.
	LogP          []schemas.List[float32]
	CandidateLogP []schemas.Nested[float32]
	Scores        []schemas.List[float32] // scores of the sampled tokens, at most one column
	CriticValue   bool                    // the policy's own value head
	// Batch says that it needs sums over the whole batch; it then is a Summer.
	Batch bool
	// Return and Candidates: it adds targets of a value head, and advantages of the candidates.
	Return, Candidates bool
}

// Summer says what a response that is learned from adds to the sums over the batch.
type Summer interface {
	Sum(r *Response, into *Totals)
}

// GroupSummer is a Summer whose contribution depends on the prompt's other responses.
type GroupSummer interface {
	SumGroup(group []Response, into *Totals)
}

// Values says what the values of a reward model are made of: log-ratios to a reference, scaled by beta, or scores of tokens.
type Values struct {
	Beta      float64
	Reference string // Old, Frozen, or "" where they are scores
	Scores    string // the column of the scores; "" where they are log-ratios
}

// Valued is an estimator over the values of a reward model.
type Valued interface {
	WithValues(Values) Estimator
}

// Learned says which responses are learned from.
type Learned struct {
	Groups        string `json:"groups" enum:"mixed,all" doc:"prompt groups that the update counts: all, or mixed, those neither all right nor all wrong"`
	KeepTruncated bool   `json:"keep_truncated" doc:"learn from truncated responses too"`
}

// Words of settings.
const (
	Old    = "old"
	Frozen = "frozen"
	Mixed  = "mixed"
	All    = "all"
)

var kinds = setting.NewKinds[Estimator]("kind of advantages", "kind")

// Register makes an estimator known under a name. The value holds the defaults.
func Register(name string, defaults Estimator) { kinds.Register(name, defaults) }

// Kinds lists the estimators.
func Kinds() []string { return kinds.Names() }

// Config chooses an estimator.
type Config struct {
	Kind string
	Estimator
}

// Default is an estimator with the papers' settings (algorithms.md 1.5, 3, 4.6); it panics where there is none of that name.
func Default(kind string) Config {
	e, err := kinds.New(kind, nil)
	if err != nil {
		panic("advantage: " + err.Error())
	}
	return Config{kind, e}
}

// DecodeSetting reads the kind and its keys.
func (c *Config) DecodeSetting(tree any, path string) (err error) {
	c.Kind, c.Estimator, err = kinds.DecodeFlat(tree, path, "")
	return err
}

// MarshalJSON writes the kind and its keys.
func (c Config) MarshalJSON() ([]byte, error) { return kinds.EncodeFlat(c.Kind, c.Estimator) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *Config) UnmarshalJSON(raw []byte) (err error) {
	c.Kind, c.Estimator, err = kinds.UnmarshalFlat(raw)
	return err
}

// SettingSchema describes the keys of every kind.
func (c *Config) SettingSchema() *setting.Schema { return kinds.SchemaFlat("") }

// Validate names the first key that is wrong.
func (c Config) Validate() error {
	if c.Estimator == nil {
		return setting.Errorf("kind", "is missing%s", setting.Suggest("", Kinds()))
	}
	return setting.Check(c.Estimator)
}

// WithValues tells the estimator what the values of the reward model are made of.
func (c Config) WithValues(of Values) Config {
	if v, ok := c.Estimator.(Valued); ok {
		c.Estimator = v.WithValues(of)
	}
	return c
}

// Apply computes the sums over the batch where the estimator needs some, then the advantages: rows of responses in,
// the same with advantages out, and dead letters. Where Inputs say Batch the input is read twice, so it should be materialised
// (stage.Exchange), not recomputed.
func Apply(s beam.Scope, c Stage, in stage.Rows) (out, dead stage.Rows) {
	if !c.Config.Inputs().Batch {
		return stage.Apply(s, WithinGroups{c}, in)
	}
	return stage.ApplyWith[Stage, Totals](s, c, in, totals.Reduce[Stage, Totals](s, c, in))
}

// Stage computes advantages with sums over the batch. With OnReward responses earn their reward, else their outcome.
type Stage struct {
	Config   Config
	OnReward bool `json:",omitempty"`
	// Weighted multiplies the advantage of every token, and those of its candidates, by importance_weight (algorithms.md 4.9).
	Weighted bool `json:",omitempty"`
}

func (s *Stage) inputs() Inputs {
	in := s.Config.Inputs()
	in.OnReward = s.OnReward && in.Outcome
	return in
}

// WithinGroups computes advantages that need no sums over the batch.
type WithinGroups struct{ Stage }

// Map computes the advantages, group by group.
func (s *WithinGroups) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	return s.MapWith(ctx, b, Totals{}, dead)
}

func encodeTotals(t Totals) ([]byte, error) { return json.Marshal(t) }

func decodeTotals(raw []byte) (t Totals, err error) { return t, json.Unmarshal(raw, &t) }

func init() {
	stage.Register[WithinGroups]()
	stage.RegisterWith[Stage, Totals]()
	totals.Register[Stage, Totals](encodeTotals, decodeTotals)
}

// Contract says which columns are needed and added.
func (s *Stage) Contract() schemas.Contract {
	in := s.inputs()
	out := schemas.Contract{Name: "advantage", Reads: map[string]schemas.LogPDefinition{},
		Needs: []schemas.Descriptor{schemas.PromptID, schemas.ResponseTokens, schemas.FinishReason},
		Adds:  []schemas.Descriptor{schemas.Advantage, schemas.TokenMask}}
	if in.Outcome {
		out.Needs = append(out.Needs, schemas.Verdict, schemas.Outcome)
	}
	switch {
	case in.OnReward:
		out.Needs = append(out.Needs, schemas.Reward, schemas.RewardMean, schemas.RewardStd)
	case in.group():
		out.Needs = append(out.Needs, schemas.GroupMean, schemas.GroupStd)
	}
	for _, col := range in.LogP {
		out.Needs = append(out.Needs, col)
		out.Reads[col.Name] = schemas.FullLogP("")
	}
	if in.Candidates {
		out.Needs = append(out.Needs, schemas.CandidateIDs)
		out.Adds = append(out.Adds, schemas.CandidateAdvantage)
	}
	for _, col := range in.CandidateLogP {
		out.Needs = append(out.Needs, col)
		out.Reads[col.Name] = schemas.FullLogP("")
	}
	for _, col := range in.Scores {
		out.Needs = append(out.Needs, col)
	}
	if in.CriticValue {
		out.Needs = append(out.Needs, schemas.CriticValue)
	}
	if s.Weighted {
		out.Needs = append(out.Needs, schemas.ImportanceWeight)
	}
	if in.Return {
		out.Adds = append(out.Adds, schemas.Return)
	}
	return out
}

// Grouped reports whether advantages need several responses to a prompt.
func (c Config) Grouped() bool {
	in := c.Inputs()
	return in.group() || in.Compares
}

func (in Inputs) group() bool { return in.Group || in.Groups == Mixed }

// Setup does nothing.
func (s *Stage) Setup(context.Context) error { return nil }

// Add sums up what the batch is to know.
func (s *Stage) Add(b stage.Batch, sums *Totals) error {
	summer, single := s.Config.Estimator.(Summer)
	of, grouped := s.Config.Estimator.(GroupSummer)
	if !single && !grouped {
		return nil
	}
	rows := read(s.inputs(), b, &stage.DeadLetters{})
	if grouped {
		groups, err := b.Groups()
		for _, g := range groups {
			of.SumGroup(rows[g.Lo:g.Hi], sums)
		}
		return err
	}
	for i := range rows {
		if rows[i].Keep {
			summer.Sum(&rows[i], sums)
		}
	}
	return nil
}

// MapWith computes the advantages, group by group.
func (s *Stage) MapWith(_ context.Context, b stage.Batch, batch Totals, dead *stage.DeadLetters) (stage.Batch, error) {
	groups, err := b.Groups()
	if err != nil {
		return b, err
	}
	in := s.inputs()
	rows := read(in, b, dead)
	n := len(rows)
	advantages, returns, masks, known := make([][]float32, n), make([][]float32, n), make([][]int32, n), make([]bool, n)
	candidates := make([][][]float32, n)
	estimate := s.Config.Over(&batch)
	for _, g := range groups {
		estimate(rows[g.Lo:g.Hi])
		for i := g.Lo; i < g.Hi; i++ {
			r := &rows[i]
			if !r.Keep || s.Weighted && !r.weigh(b, i, dead) {
				continue
			}
			advantages[i] = stage.Spread(r.own, stage.Narrow(schemas.Advantage.Name, r.Advantage, i, dead))
			if in.Return {
				returns[i] = stage.Spread(r.own, stage.Narrow(schemas.Return.Name, r.Return, i, dead))
			}
			if in.Candidates {
				candidates[i] = stage.Spread(r.own, lists(stage.Narrow(schemas.CandidateAdvantage.Name, r.Candidate, i, dead), r.Listed))
			}
			masks[i], known[i] = stage.Spread(r.own, slices.Repeat([]int32{1}, r.Tokens)), true
		}
	}
	out := []schemas.Filled{schemas.Advantage.FromRows(advantages, known...), schemas.TokenMask.FromRows(masks, known...)}
	if in.Return {
		out = append(out, schemas.Return.FromRows(returns, known...))
	}
	if in.Candidates {
		out = append(out, schemas.CandidateAdvantage.FromRows(candidates, known...))
	}
	return b.With(out...)
}

// lists cuts flat numbers into one list a token. The last token, where the outcome lands, has no candidate update.
func lists(x []float32, listed schemas.Lists[int32]) [][]float32 {
	out := make([][]float32, listed.Len())
	at := 0
	for t := range out {
		n := len(listed.Row(t))
		if t < len(out)-1 {
			out[t] = x[at : at+n]
		}
		at += n
	}
	return out
}
