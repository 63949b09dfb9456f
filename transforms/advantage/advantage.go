// Package advantage turns scores, values and outcomes into the advantages that policy updates learn from.
//
// In: PCollection<Batch>, a row a response with its outcome and whatever the kind of advantage reads. Out: the same rows
// with advantage and token_mask, for value heads return, for DistRL candidate_advantage. A response that no policy loss
// learns from (truncated, without an outcome, in a group that is all right or all wrong) has null advantages.
//
// The mathematics is plain float64 functions over the tokens of packed responses, each naming its source; the constants
// that cross records (Totals) are summed exactly before any advantage is computed.
package advantage

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/series"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/totals"
)

// Kinds of advantages.
const (
	Combined  = "combined"  // outcome plus GAE of TD advantages, and TD advantages of candidates (IPVRM, DistRL)
	GRPO      = "grpo"      // outcome relative to the group
	Reinforce = "reinforce" // outcome minus a baseline
	RLOO      = "rloo"      // outcome minus that of the other responses
	PPO       = "ppo"       // GAE over a value head, with a KL penalty
	QRM       = "q_rm"      // Q-RM's token scores as weights of REINFORCE
	QRMPPO    = "q_rm_ppo"  // Q-RM's token scores less a value head
)

// Kinds lists them.
var Kinds = []string{Combined, GRPO, Reinforce, RLOO, PPO, QRM, QRMPPO}

// Choices of a Config.
const (
	Old        = "old"
	Frozen     = "frozen"
	Group      = "group"
	Batch      = "batch"
	Auto       = "auto"
	On         = "on"
	Off        = "off"
	K1         = "k1"
	Abs        = "abs"
	NoBaseline = "none"
	GroupMean  = "mean"
	Mixed      = "mixed"
	All        = "all"
)

// Config says how advantages are computed. Keys that a kind does not name are ignored by it.
type Config struct {
	Kind string  `json:"kind"`
	Eps  float64 `json:"eps"` // added to standard deviations

	// Groups says which prompt groups are learned from: mixed, those neither all right nor all wrong, or all.
	Groups string `json:"groups"`
	// KeepTruncated learns from truncated responses too.
	KeepTruncated bool `json:"keep_truncated"`

	// combined: beta and reference are those of the reward model's values.
	Beta       float64 `json:"beta"`
	Reference  string  `json:"reference"`    // old: the policy that sampled, or frozen
	Normalise  string  `json:"normalise"`    // group (paper), or batch (released code)
	ZeroLastTD string  `json:"zero_last_td"` // auto: on with batch, off with group
	COut       float64 `json:"c_out"`        // weight of the outcome
	CGAE       float64 `json:"c_gae"`        // weight of the GAE; 0 needs no reward model
	Candidates bool    `json:"candidates"`   // also advantages of the candidate tokens

	// combined and ppo.
	Gamma  float64 `json:"gamma"`
	Lambda float64 `json:"lambda"`

	Baseline string `json:"baseline"` // reinforce: none or mean

	// ppo and q_rm_ppo.
	CKL    float64 `json:"c_kl"`   // weight of the KL penalty; 0 needs no reference
	KL     string  `json:"kl"`     // ppo: k1 or abs
	Whiten bool    `json:"whiten"` // ppo: whiten over the batch

	// q_rm and q_rm_ppo.
	CV     float64 `json:"c_v"`    // weight of the value head
	Centre bool    `json:"centre"` // subtract the batch means of scores and values too
}

// Default holds the papers' settings of a kind (spec 1.5, 3, 4.6).
func Default(kind string) Config {
	c := Config{Kind: kind, Eps: 1e-6, Groups: All, Beta: 10, Reference: Old, Normalise: Group, ZeroLastTD: Auto,
		COut: 1, CGAE: 1, Gamma: 1, Lambda: 1, Baseline: NoBaseline, KL: K1}
	switch kind {
	case Combined:
		c.Groups, c.Candidates = Mixed, true
	case GRPO:
		c.Groups = Mixed
	case PPO:
		c.Lambda, c.CKL, c.Whiten = 0.95, 0.05, true
	case QRM, QRMPPO:
		c.CKL, c.CV = 0.01, 0.01
	}
	return c
}

// Validate names the first key that is wrong.
func (c Config) Validate() error {
	for _, k := range []struct {
		key, got string
		want     []string
	}{
		{"kind", c.Kind, Kinds}, {"groups", c.Groups, []string{Mixed, All}}, {"reference", c.Reference, []string{Old, Frozen}},
		{"normalise", c.Normalise, []string{Group, Batch}}, {"zero_last_td", c.ZeroLastTD, []string{Auto, On, Off}},
		{"baseline", c.Baseline, []string{NoBaseline, GroupMean}}, {"kl", c.KL, []string{K1, Abs}},
	} {
		if !slices.Contains(k.want, k.got) {
			return fmt.Errorf("%s: %q is not one of %q", k.key, k.got, k.want)
		}
	}
	for _, k := range []struct {
		key            string
		got, low, high float64
	}{
		{"eps", c.Eps, 0, 1}, {"beta", c.Beta, 0, 1e6}, {"c_out", c.COut, 0, 1e6}, {"c_gae", c.CGAE, 0, 1e6}, {"gamma", c.Gamma, 0, 1},
		{"lambda", c.Lambda, 0, 1}, {"c_kl", c.CKL, 0, 1e6}, {"c_v", c.CV, 0, 1e6},
	} {
		if !(k.got >= k.low && k.got <= k.high) {
			return fmt.Errorf("%s: %v is not in [%v, %v]", k.key, k.got, k.low, k.high)
		}
	}
	if c.Normalise == Batch && c.ZeroLastTD == Off {
		return fmt.Errorf("zero_last_td: off does not go with normalise batch, whose mean counts the last token as 0")
	}
	return nil
}

// Apply computes the batch-wide constants where the kind has some, then the advantages: PCollection<Batch> of responses in, the
// same with advantages out, and dead letters. With CrossesRecords the input is read twice, so it should be materialised
// (stage.Exchange), not recomputed.
func Apply(s beam.Scope, cfg Config, in beam.PCollection) (out, dead beam.PCollection) {
	if !cfg.CrossesRecords() {
		return stage.Apply(s, WithinGroups{cfg}, in)
	}
	return stage.ApplyWith[Config, Totals](s, cfg, in, totals.Reduce[Config, Totals](s, cfg, in))
}

// CrossesRecords reports whether the advantages depend on sums over the whole batch, not on the prompt's group alone.
func (c *Config) CrossesRecords() bool {
	switch c.Kind {
	case Combined:
		return c.td()
	case PPO:
		return c.Whiten
	case QRM, QRMPPO:
		return true
	}
	return false
}

// WithinGroups computes advantages that need no sums over the batch.
type WithinGroups struct{ Config }

// Map computes the advantages, group by group.
func (c *WithinGroups) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	return c.MapWith(ctx, b, Totals{}, dead)
}

func encodeTotals(t Totals) ([]byte, error) { return json.Marshal(t) }

func decodeTotals(raw []byte) (t Totals, err error) { return t, json.Unmarshal(raw, &t) }

func init() {
	stage.Register[WithinGroups]()
	stage.RegisterWith[Config, Totals]()
	totals.Register[Config, Totals](encodeTotals, decodeTotals)
}

// td reports whether the TD advantages of the sampled tokens are needed.
func (c *Config) td() bool { return c.Kind == Combined && (c.CGAE != 0 || c.Candidates) }

// candidates reports whether those of the candidates are.
func (c *Config) candidates() bool { return c.Kind == Combined && c.Candidates }

// outcomes reports whether advantages are made of outcomes.
func (c *Config) outcomes() bool { return c.Kind != QRM && c.Kind != QRMPPO }

// relative reports whether they are made of the statistics of the group.
func (c *Config) relative() bool { return c.Kind == Combined || c.Kind == GRPO }

func (c *Config) returns() bool { return c.Kind == PPO || c.Kind == QRMPPO }

func (c *Config) zeroLast() bool {
	return c.ZeroLastTD == On || c.ZeroLastTD == Auto && c.Normalise == Batch
}

// logps are the columns of log-probs under the reward model or policy and under the reference, for td or for the penalty.
func (c *Config) logps() []schemas.List[float32] {
	switch {
	case c.td() && c.Reference == Frozen:
		return []schemas.List[float32]{schemas.RewardLogP, schemas.ReferenceLogP}
	case c.td():
		return []schemas.List[float32]{schemas.RewardLogP, schemas.OldLogP}
	case c.returns() && c.CKL != 0:
		return []schemas.List[float32]{schemas.OldLogP, schemas.ReferenceLogP}
	}
	return nil
}

func (c *Config) candidateLogps() []schemas.Nested[float32] {
	switch {
	case !c.candidates():
		return nil
	case c.Reference == Frozen:
		return []schemas.Nested[float32]{schemas.CandidateRewardLogP, schemas.CandidateReferenceLogP}
	}
	return []schemas.Nested[float32]{schemas.CandidateRewardLogP, schemas.CandidateOldLogP}
}

// Contract says which columns are needed and added.
func (c *Config) Contract() schemas.Contract {
	out := schemas.Contract{Name: "advantage", Reads: map[string]schemas.LogPDefinition{},
		Needs: []schemas.Descriptor{schemas.PromptID, schemas.ResponseTokens, schemas.FinishReason},
		Adds:  []schemas.Descriptor{schemas.Advantage, schemas.TokenMask}}
	if c.outcomes() {
		out.Needs = append(out.Needs, schemas.Verdict, schemas.Outcome)
	}
	if c.Groups == Mixed || c.relative() {
		out.Needs = append(out.Needs, schemas.GroupMean, schemas.GroupStd)
	}
	for _, col := range c.logps() {
		out.Needs = append(out.Needs, col)
		out.Reads[col.Name] = schemas.FullLogP("")
	}
	if c.candidates() {
		out.Needs = append(out.Needs, schemas.CandidateIDs)
		out.Adds = append(out.Adds, schemas.CandidateAdvantage)
	}
	for _, col := range c.candidateLogps() {
		out.Needs = append(out.Needs, col)
		out.Reads[col.Name] = schemas.FullLogP("")
	}
	if !c.outcomes() {
		out.Needs = append(out.Needs, schemas.QValue)
	}
	if c.returns() {
		out.Needs = append(out.Needs, schemas.CriticValue)
		out.Adds = append(out.Adds, schemas.Return)
	}
	return out
}

// Setup does nothing.
func (c *Config) Setup(context.Context) error { return nil }

// response is what one row holds, widened to float64. Only what the kind reads is filled.
type response struct {
	labelled  bool // it has an outcome
	keep      bool // a policy loss learns from it; what models said is filled only then
	tokens    int
	outcome   float64
	mu, sd    float64
	td        []float64 // of the sampled tokens
	candidate []float64 // TD advantages of the listed tokens, flat
	listed    schemas.Lists[int32]
	gae, ret  []float64 // of a value head
	score     []float64 // Q-RM's Z
	head      []float64 // value head
	policy    []float64 // log-probs of the policy that sampled
	reference []float64
}

// read reads all rows and sets those aside that do not hold what they should.
func (c *Config) read(b stage.Batch, dead *stage.DeadLetters) []response {
	out := make([]response, b.NumRows())
	tokens := schemas.ResponseTokens.Of(b)
	for i := range out {
		r := &out[i]
		if r.tokens = len(tokens.Row(i)); r.tokens == 0 {
			dead.Rowf(i, schemas.ReasonEmpty, "the response has no tokens")
			continue
		}
		r.keep = c.labels(b, i, r) && c.scores(b, i, r, dead)
	}
	return out
}

// labels reads the outcome of row i and its group, and reports whether a policy loss learns from it.
func (c *Config) labels(b stage.Batch, i int, r *response) bool {
	truncated := schemas.FinishReason.Of(b).At(i) == "length"
	if c.outcomes() {
		x, ok := schemas.Outcome.Of(b).At(i)
		if !ok {
			return false
		}
		r.outcome, r.labelled = float64(x), true
		truncated = schemas.Verdict.Of(b).At(i) == "truncated"
	}
	if truncated && !c.KeepTruncated {
		return false
	}
	if c.Groups == Mixed || c.relative() {
		mu, ok := schemas.GroupMean.Of(b).At(i)
		sd, _ := schemas.GroupStd.Of(b).At(i)
		r.mu, r.sd = float64(mu), float64(sd)
		if !ok || c.Groups == Mixed && (mu <= 0 || mu >= 1) {
			return false
		}
	}
	return true
}

// scores reads what models said about row i; false when the row is set aside.
func (c *Config) scores(b stage.Batch, i int, r *response, dead *stage.DeadLetters) bool {
	column := func(col schemas.List[float32]) []float64 {
		x, _ := stage.PerToken(col, col.Of(b), i, r.tokens, dead)
		return x
	}
	var logps [][]float64
	for _, col := range c.logps() {
		logps = append(logps, column(col))
	}
	if !c.outcomes() {
		r.score = column(schemas.QValue)
	}
	if c.returns() {
		r.head = column(schemas.CriticValue)
	}
	var candidates [][]float64
	if c.candidates() {
		r.listed = schemas.CandidateIDs.Of(b).Row(i)
		if r.listed.Len() != r.tokens {
			dead.Rowf(i, schemas.ReasonMismatch, "column candidate_ids has %d lists for %d response tokens", r.listed.Len(), r.tokens)
			return false
		}
		for _, col := range c.candidateLogps() {
			x, _ := stage.PerListed(col, col.Of(b), i, r.listed, dead)
			candidates = append(candidates, x)
		}
	}
	if dead.Marked(i) {
		return false
	}
	if c.td() {
		r.td = make([]float64, r.tokens)
		TD(r.td, logps[0], logps[1], c.Beta)
		if c.zeroLast() {
			ZeroLast(r.td)
		}
	}
	if c.candidates() {
		r.candidate = make([]float64, len(candidates[0]))
		TD(r.candidate, candidates[0], candidates[1], c.Beta)
	}
	if c.returns() {
		zero := make([]float64, r.tokens) // without a penalty the log-ratio does not matter
		if r.policy, r.reference = zero, zero; len(logps) == 2 {
			r.policy, r.reference = logps[0], logps[1]
		}
	}
	if c.Kind == PPO {
		rewards, delta := make([]float64, r.tokens), make([]float64, r.tokens)
		r.gae, r.ret = make([]float64, r.tokens), make([]float64, r.tokens)
		TokenRewards(rewards, r.policy, r.reference, r.outcome, c.CKL, c.KL == Abs)
		ValueGAE(delta, r.gae, r.ret, rewards, r.head, c.Gamma, c.Lambda)
	}
	return true
}

// Add sums up what the constants of the batch are made of.
func (c *Config) Add(b stage.Batch, sums *Totals) error {
	for _, r := range c.read(b, &stage.DeadLetters{}) {
		if !r.keep {
			continue
		}
		if c.td() {
			sums.AddTD(r.td, c.Gamma*c.Lambda)
		}
		for _, s := range []struct {
			into *series.Moments
			x    []float64
		}{{&sums.GAE, r.gae}, {&sums.Score, r.score}, {&sums.Head, r.head}} {
			for _, x := range s.x {
				s.into.Add(x)
			}
		}
	}
	return nil
}

// MapWith computes the advantages, group by group.
func (c *Config) MapWith(_ context.Context, b stage.Batch, batch Totals, dead *stage.DeadLetters) (stage.Batch, error) {
	groups, err := b.Groups()
	if err != nil {
		return b, err
	}
	rows := c.read(b, dead)
	n := len(rows)
	advantages, returns, masks, known := make([][]float32, n), make([][]float32, n), make([][]int32, n), make([]bool, n)
	candidates := make([][][]float32, n)
	consts := batch.constants(c)
	for _, g := range groups {
		group := rows[g.Lo:g.Hi]
		for k, a := range c.group(group, consts) {
			i, r := g.Lo+k, &group[k]
			if !r.keep {
				continue
			}
			advantages[i] = stage.Narrow(schemas.Advantage.Name, a, i, dead)
			if c.returns() {
				returns[i] = stage.Narrow(schemas.Return.Name, r.ret, i, dead)
			}
			if c.candidates() {
				Normalise(r.candidate, r.candidate, consts.sigmaV, c.Eps)
				candidates[i] = lists(stage.Narrow(schemas.CandidateAdvantage.Name, r.candidate, i, dead), r.listed)
			}
			masks[i], known[i] = slices.Repeat([]int32{1}, r.tokens), true
		}
	}
	out := []schemas.Filled{schemas.Advantage.FromRows(advantages, known...), schemas.TokenMask.FromRows(masks, known...)}
	if c.returns() {
		out = append(out, schemas.Return.FromRows(returns, known...))
	}
	if c.candidates() {
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

// group computes the advantages of one prompt's responses, one slice each; responses that are not kept are in no
// statistic.
func (c *Config) group(group []response, batch constants) [][]float64 {
	out := make([][]float64, len(group))
	outcome, labelled, keep := make([]float64, len(group)), make([]bool, len(group)), make([]bool, len(group))
	for k, r := range group {
		outcome[k], labelled[k], keep[k] = r.outcome, r.labelled, r.keep
		out[k] = make([]float64, r.tokens)
	}
	switch c.Kind {
	case Combined, GRPO:
		for k, r := range group {
			outcome[k] = Relative(r.outcome, r.mu, r.sd, c.Eps)
		}
	case RLOO:
		subtract(outcome, labelled, LeaveOneOut)
	case Reinforce:
		if c.Baseline == GroupMean {
			subtract(outcome, labelled, MeanBaseline)
		}
	}
	switch c.Kind {
	case Combined:
		c.combine(out, group, outcome, keep, batch)
	case GRPO, RLOO, Reinforce:
		for k := range group {
			out[k] = slices.Repeat([]float64{outcome[k]}, group[k].tokens)
		}
	case PPO:
		for k, r := range group {
			if r.keep {
				copy(out[k], r.gae)
				if c.Whiten {
					Whiten(out[k], []int{0, r.tokens}, keep[k:k+1], batch.whiteMean, batch.whiteVar)
				}
			}
		}
	case QRM, QRMPPO:
		for k := range group {
			if group[k].keep {
				c.qrm(out[k], &group[k], batch)
			}
		}
	}
	return out
}

// subtract takes a baseline off; a truncated response has none of its own to learn from but counts in that of the others.
func subtract(outcome []float64, labelled []bool, baseline func(baseline, rewards []float64, keep []bool)) {
	base := make([]float64, len(outcome))
	baseline(base, outcome, labelled)
	for k := range outcome {
		outcome[k] -= base[k]
	}
}

// combine writes spec 3.3 and 3.4 over one group.
func (c *Config) combine(out [][]float64, group []response, outcome []float64, keep []bool, batch constants) {
	start := make([]int, 1, len(group)+1)
	var td []float64
	for _, r := range group {
		if r.td == nil {
			r.td = make([]float64, r.tokens) // not kept, or weight 0
		}
		td = append(td, r.td...)
		start = append(start, len(td))
	}
	gae, a := make([]float64, len(td)), make([]float64, len(td))
	switch {
	case c.CGAE == 0:
	case c.Normalise == Group:
		Normalise(td, td, batch.sigmaV, c.Eps)
		GroupGAE(gae, td, start, keep, c.Gamma*c.Lambda, c.Eps)
	default:
		BatchGAE(gae, td, start, keep, batch.tdMean, batch.sigmaV, c.Gamma*c.Lambda, c.Eps)
		Whiten(gae, start, keep, batch.whiteMean, batch.whiteVar)
	}
	Combine(a, outcome, gae, start, keep, c.COut, c.CGAE)
	for k := range out {
		copy(out[k], a[start[k]:start[k+1]])
	}
}

// qrm writes spec 1.5's use of token scores, and the value head's target.
func (c *Config) qrm(a []float64, r *response, batch constants) {
	Scaled(a, r.score, batch.scoreMean, batch.scoreStd)
	if c.Kind == QRM {
		return
	}
	Penalised(a, a, r.policy, r.reference, c.CKL)
	r.ret = slices.Clone(a)
	v := make([]float64, len(a))
	Scaled(v, r.head, batch.headMean, batch.headStd)
	OverValue(a, a, v, c.CV)
}
