package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/evaluate"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/series"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/update"
)

// Measurement is a line of metrics.jsonl: what is known after so many iterations. Metrics that were not measured are absent.
type Measurement struct {
	Iterations  int                 `json:"iterations"` // done so far; 0 is the start
	Metrics     map[string]float64  `json:"metrics"`
	Evaluation  *measure.Evaluation `json:"evaluation,omitempty"`
	Calibration []ReliabilityBin    `json:"calibration,omitempty"` // of the batch's prefix values
}

// ReliabilityBin is a bin of a reliability diagram: N prefixes with mean predicted probability P, of whose responses the
// share Y was right.
type ReliabilityBin struct {
	P float64 `json:"p"`
	Y float64 `json:"y"`
	N int     `json:"n"`
}

const reliabilityBins = 10

func reliability(p, y []float64) []ReliabilityBin {
	bins := make([]ReliabilityBin, reliabilityBins)
	for i := range p {
		b := &bins[min(int(reliabilityBins*p[i]), reliabilityBins-1)]
		b.P, b.Y, b.N = b.P+p[i], b.Y+y[i], b.N+1
	}
	out := bins[:0]
	for _, b := range bins {
		if b.N > 0 {
			out = append(out, ReliabilityBin{P: b.P / float64(b.N), Y: b.Y / float64(b.N), N: b.N})
		}
	}
	return out
}

// ReferenceNLL is the mean -log p a token that the sampling policy gives to right responses, in nats: the most a right
// response's mean log-ratio to it can be.
const ReferenceNLL = "reference_nll_correct"

const MetricsName = "metrics.jsonl"

// ReadMeasurements reads the measurements of all committed iterations in order.
func (run *Dir) ReadMeasurements(ctx context.Context) ([]Measurement, error) {
	done, err := run.Committed(ctx)
	if err != nil {
		return nil, err
	}
	var out []Measurement
	for _, i := range done {
		lines, err := run.measured(ctx, i)
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
	}
	return out, nil
}

// measured reads the measurements of a committed iteration.
func (run *Dir) measured(ctx context.Context, number int) ([]Measurement, error) {
	path := files.Join(run.IterPath(number), MetricsName)
	if err := commit.CheckPath(ctx, path); err != nil {
		return nil, err
	}
	return files.ReadLines[Measurement](ctx, path)
}

// measureBatch sums up an iteration: its rows, and the steps of its updates.
func measureBatch(ctx context.Context, it chain.Iteration) (Measurement, error) {
	m := Measurement{Iterations: it.Number + 1, Metrics: map[string]float64{}}
	rows := batchSummary{}
	paths, err := RowFiles(ctx, it.Dir, chain.BatchName)
	if err != nil {
		return m, err
	}
	if err := recordio.ReadMerged(ctx, paths, rows.add); err != nil {
		return m, err
	}
	rows.into(&m)
	if err := ledgerMetrics(ctx, it.Dir, m.Metrics); err != nil {
		return m, err
	}
	p, err := ReadPromotion(ctx, it.Dir)
	if err != nil {
		return m, err
	}
	if p != nil {
		p.into(m.Metrics)
	}
	for _, role := range []string{"policy", "reward"} {
		steps, err := files.ReadLines[update.StepRecord](ctx, update.Job{Dir: it.Dir, Role: role}.StepsFile())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return m, err
		}
		prefix := ""
		if role != "policy" {
			prefix = role + "_"
		}
		meanSteps(steps, prefix, m.Metrics)
	}
	return m, nil
}

// meanSteps takes the mean over the optimizer steps of an iteration, each weighed by its tokens.
func meanSteps(steps []update.StepRecord, prefix string, into map[string]float64) {
	total := 0.0
	sums := map[string]float64{}
	for _, s := range steps {
		total += s.Tokens
		add := func(name string, x float64) { sums[prefix+name] += x * s.Tokens }
		add("loss", s.Loss)
		add("gradient_norm", s.GradNorm)
		for name, x := range s.Metrics {
			add(shortName(name), x)
		}
	}
	for name, x := range sums {
		if total > 0 {
			into[name] = x / total
		}
	}
}

// shortName maps a loss's metric to the name it has in every run.
func shortName(name string) string {
	switch name {
	case "model/entropy":
		return "entropy"
	case "ppo/kl", "gspo/kl", "cispo/kl":
		return "kl"
	case "ppo/clip_fraction", "gspo/clip_fraction", "cispo/clip_fraction":
		return "clip_fraction"
	}
	return name
}

// batchSummary gathers what the rows of a batch say.
type batchSummary struct {
	rows, tokens, known, right, mixed, truncated int
	judged                                       int       // rows with a verdict, also those that count as nothing
	p, y                                         []float64 // prefix probabilities and the outcomes they foretell
	final, outcome                               []float64
	rewards                                      map[string]*series.Moments // of the columns reward and reward_part_
	apart                                        series.Moments             // reward models, after the last token
	audited, auditedRight, auditRight            int                        // responses with both outcomes, and those right by either
	own                                          int                        // responses with a token of their own beyond the prompt
	mismatch                                     mismatch
	texts                                        bool // responses are texts alone
	verdicts                                     map[string]int
	nll                                          float64 // mean -log p of the sampling policy, summed over right responses
}

func (s *batchSummary) add(b stage.Batch) error {
	tokens := func(int) []int32 { return nil }
	if column, err := schemas.ResponseTokens.Find(b); err == nil {
		tokens = column.Row
	} else if !b.Has(schemas.Response) || !b.Has(schemas.Verdict) { // rows that are no responses, or none that was judged
		s.rows += b.NumRows()
		return nil
	} else {
		s.texts = true
	}
	if b.Has(schemas.VerdictRule) {
		s.explain(schemas.Verdict.Of(b))
	}
	var outcome schemas.Scalars[float32]
	haveOutcome := b.Has(schemas.Outcome)
	if haveOutcome {
		outcome = schemas.Outcome.Of(b)
	}
	var audit schemas.Scalars[float32]
	haveAudit := b.Has(schemas.AuditOutcome)
	if haveAudit {
		audit = schemas.AuditOutcome.Of(b)
	}
	prompts, promptsErr := schemas.PromptTokens.Find(b)
	s.addRewards(b)
	s.mismatch.add(b)
	s.addApart(b)
	for i := range b.NumRows() {
		s.rows++
		s.tokens += len(tokens(i))
		if promptsErr == nil && beyond(tokens(i), prompts.Row(i)) {
			s.own++
		}
		if !haveOutcome {
			continue
		}
		if schemas.GroupValid.Of(b).At(i) {
			s.mixed++
		}
		s.judged++
		if schemas.Verdict.Of(b).At(i) == "truncated" {
			s.truncated++
		}
		y, ok := outcome.At(i)
		if !ok {
			continue
		}
		s.known++
		s.right += int(y)
		if haveAudit {
			if x, ok := audit.At(i); ok {
				s.audited++
				s.auditedRight, s.auditRight = s.auditedRight+int(y), s.auditRight+int(x)
			}
		}
		if y > 0 && b.Has(schemas.OldLogP) {
			logp := schemas.OldLogP.Of(b).Row(i)
			for _, x := range logp {
				s.nll -= float64(x) / float64(len(logp))
			}
		}
		if b.Has(schemas.PCorrect) {
			p := schemas.PCorrect.Of(b).Row(i)
			for _, x := range p {
				s.p, s.y = append(s.p, float64(x)), append(s.y, float64(y))
			}
			if len(p) > 0 {
				s.final, s.outcome = append(s.final, float64(p[len(p)-1])), append(s.outcome, float64(y))
			}
		}
	}
	return nil
}

// explain counts the verdicts, of rows that say why they have theirs.
func (s *batchSummary) explain(verdicts schemas.Texts) {
	if s.verdicts == nil {
		s.verdicts = map[string]int{}
	}
	for i := range verdicts.Len() {
		s.verdicts[verdicts.At(i)]++
	}
}

// beyond reports whether a response holds a token that its prompt does not: one that only repeats it says nothing, whatever a verifier
// makes of it. The last token, which ends a response, does not count.
func beyond(response, prompt []int32) bool {
	for _, id := range response[:max(0, len(response)-1)] {
		if !slices.Contains(prompt, id) {
			return true
		}
	}
	return false
}

// addRewards takes in the reward of each row and its parts, where the recipe composes one.
func (s *batchSummary) addRewards(b stage.Batch) {
	for _, name := range b.Columns() {
		key, column := "mean_reward", schemas.Reward
		if part, ok := strings.CutPrefix(name, schemas.RewardPartPrefix); ok {
			key, column = "reward/"+part, schemas.RewardPart(part)
		} else if name != schemas.Reward.Name {
			continue
		}
		values, err := column.Find(b)
		if err != nil {
			continue // of another type: some other column of that name
		}
		if s.rewards == nil {
			s.rewards = map[string]*series.Moments{}
		}
		if s.rewards[key] == nil {
			s.rewards[key] = &series.Moments{}
		}
		for i := range b.NumRows() {
			if x, ok := values.At(i); ok {
				s.rewards[key].Add(float64(x))
			}
		}
	}
}

// addApart takes in how far reward models are apart on each response.
func (s *batchSummary) addApart(b stage.Batch) {
	apart, err := schemas.RewardDisagreement.Find(b)
	if err != nil {
		return // there are no several
	}
	for i := range b.NumRows() {
		if x := apart.Row(i); len(x) > 0 {
			s.apart.Add(float64(x[len(x)-1]))
		}
	}
}

func (s *batchSummary) into(m *Measurement) {
	if s.rows == 0 {
		return
	}
	m.Metrics["rows"] = float64(s.rows)
	s.mismatch.into(m.Metrics)
	for name, moments := range s.rewards {
		if moments.N > 0 {
			m.Metrics[name] = moments.Mean()
		}
		if name == "mean_reward" {
			m.Metrics["reward_std"] = moments.Std()
		}
	}
	if s.apart.N > 0 {
		m.Metrics["reward_disagreement"] = s.apart.Mean()
	}
	if s.tokens > 0 {
		m.Metrics["response_tokens"] = float64(s.tokens) / float64(s.rows)
	}
	if s.audited > 0 {
		m.Metrics["audit_accuracy"] = float64(s.auditRight) / float64(s.audited)
		m.Metrics["audit_gap"] = float64(s.auditedRight-s.auditRight) / float64(s.audited)
	}
	if !s.texts {
		m.Metrics["echo_share"] = 1 - float64(s.own)/float64(s.rows)
	}
	for verdict, n := range s.verdicts {
		m.Metrics["verdict/"+verdict] = float64(n) / float64(s.rows)
	}
	if s.known > 0 {
		m.Metrics["train_accuracy"] = float64(s.right) / float64(s.known)
		m.Metrics["mixed_share"] = float64(s.mixed) / float64(s.rows)
	}
	if s.judged > 0 { // also where all are cut off, and no outcome is known
		m.Metrics["truncated_share"] = float64(s.truncated) / float64(s.rows)
	}
	if s.right > 0 && s.nll > 0 {
		m.Metrics[ReferenceNLL] = s.nll / float64(s.right)
	}
	if len(s.p) > 0 {
		if all := evaluate.Calibrate(s.p, s.y, reliabilityBins); all.ECE != nil {
			m.Metrics["reward_ece"] = *all.ECE
		}
		m.Calibration = reliability(s.p, s.y)
		if last := evaluate.Calibrate(s.final, s.outcome, 10); last.AUC != nil {
			m.Metrics["reward_auc"] = *last.AUC
		}
	}
}

// evaluated puts an evaluation among the metrics.
func (m *Measurement) evaluated(e measure.Evaluation) {
	m.Evaluation = &e
	name := fmt.Sprintf("%s%d", avgAt, e.Config.K[len(e.Config.K)-1])
	estimated(m.Metrics, name, e.Avg)
}

// estimated puts an estimate and its error among metrics; one of no prompt is none, as where a verifier abstained from every answer.
func estimated(metrics map[string]float64, name string, e evaluate.Estimate) {
	if e.N > 0 {
		metrics[name], metrics[name+stdErrAfter] = e.Mean, e.StdErr
	}
}

// Figures are the metrics of a measurement, and what of its evaluation can be drawn beside them: pass@k, best_of_n@k by the reward model,
// and majority_vote, each with its standard error.
func (m Measurement) Figures() map[string]float64 {
	out := map[string]float64{}
	maps.Copy(out, m.Metrics)
	if m.Evaluation == nil {
		return out
	}
	for _, p := range m.Evaluation.PassAt {
		estimated(out, fmt.Sprintf("pass@%d", p.K), p.Estimate)
	}
	for _, b := range m.Evaluation.BestOfN {
		estimated(out, fmt.Sprintf("best_of_n@%d", b.K), b.Estimate)
	}
	if vote := m.Evaluation.Vote; vote != nil {
		estimated(out, "majority_vote", *vote)
	}
	return out
}

const avgAt, stdErrAfter = "avg@", "_stderr"

// AccuracyName is the metric of accuracy on held-out prompts, avg@k, k being the responses to a prompt; "" where it was not measured.
func (m *Measurement) AccuracyName() string {
	for name := range m.Metrics {
		if strings.HasPrefix(name, avgAt) && !strings.HasSuffix(name, stdErrAfter) {
			return name
		}
	}
	return ""
}
