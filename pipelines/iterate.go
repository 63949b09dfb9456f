package pipelines

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/rollout"
	"github.com/millrace/millrace/transforms/stage"
)

// DeadShareError says that more rows died than the recipe allows.
type DeadShareError struct {
	Iteration int
	Dead, In  int64
	Limit     float64
	Reasons   string
}

func (e *DeadShareError) Error() string {
	return fmt.Sprintf("iteration %d: %d of %d rows died (%.2f%%), limits.dead_share allows %.2f%%; by reason: %s",
		e.Iteration, e.Dead, e.In, 100*float64(e.Dead)/float64(e.In), 100*e.Limit, e.Reasons)
}

// runNameLength is how much of the digest of its configuration names a run in records, log lines and metrics.
const runNameLength = 16

// Iterate runs the recipe's iterations from the last committed one on. A directory without a manifest is done again and
// gives the same bytes.
func Iterate(ctx context.Context, r Recipe, show progress.Run) (err error) {
	ctx = progress.With(ctx, show)
	if err := errors.Join(r.sameVocabulary(ctx, true), r.CheckEndpoints(ctx)); err != nil { // models may be there that were not when the recipe was read
		return err
	}
	run, ctx, err := OpenRun(ctx, r.Run)
	if err != nil {
		return err
	}
	defer func() {
		var lost *stage.LockLostError
		if errors.As(context.Cause(ctx), &lost) {
			err = lost // which is why whatever failed was cancelled
		}
		err = errors.Join(err, run.Close())
	}()
	r.Runner.Job = "millrace-" + digestBytes([]byte(run.Path))[:16]
	if !r.Keep {
		if err := run.Tidy(ctx); err != nil {
			return err
		}
	}
	resolved, err := r.Resolved()
	if err != nil {
		return err
	}
	if err := run.WriteConfig(ctx, resolved); err != nil {
		return err
	}
	done, err := run.Committed(ctx)
	if err != nil {
		return err
	}
	config := digestBytes(resolved)
	ctx, told := telemetry.Start(ctx, r.Telemetry, config[:runNameLength], run.Path, show.Note)
	defer func() { told.Close(err) }()
	drawn := curves{run: run, to: told}
	for _, i := range done {
		drawn.add(ctx, i)
	}
	bar := show.Bar("iterations", int64(r.Iterations))
	defer bar.Done()
	bar.Step(int64(len(done)))
	if len(done) > 0 {
		show.Note("going on after iteration %d of %d", len(done), r.Iterations)
	}
	warned := false
	short := map[string]bool{} // sources that notes have named
	for i := len(done); i < r.Iterations; i++ {
		start := time.Now()
		within, end := told.Iteration(ctx, i)
		measured, speed, err := run.iterate(within, r, i, config, show, short)
		var exhausted *exhaustedError
		if errors.As(err, &exhausted) && i > 0 {
			end(false, nil)
			show.Note("%v; the run ends after %d of %d iterations", err, i, r.Iterations)
			if err := stage.RemoveAll(ctx, run.IterPath(i)); err != nil {
				return err
			}
			last, err := run.finish(ctx, r.at(i-1), i-1, config)
			if err != nil {
				return fmt.Errorf("iteration %d: %w", i-1, err)
			}
			told.Measured(last.Metrics)
			return nil
		}
		end(err == nil, err)
		if err != nil {
			return fmt.Errorf("iteration %d: %w", i, err)
		}
		last := measured[len(measured)-1]
		told.Measured(last.Metrics)
		drawn.add(ctx, i)
		if text := r.marginWarning(last); text != "" && !warned {
			show.Note("%s", text)
			warned = true
		}
		bar.Step(1, append(append(fields(last), speed...), progress.Field{Name: "s", Value: time.Since(start).Seconds()})...)
	}
	return nil
}

// iterate does one iteration and commits it. It returns what was measured, and how fast responses were sampled.
func (run *RunDir) iterate(ctx context.Context, r Recipe, number int, config string, show progress.Run, named map[string]bool) ([]Measurement, []progress.Field, error) {
	r = r.at(number)
	dir, err := run.Begin(ctx, number)
	if err != nil {
		return nil, nil, err
	}
	at, err := run.start(ctx, r, number, dir, config)
	if err != nil {
		return nil, nil, err
	}
	results, err := run.sample(ctx, r, &at)
	if err != nil {
		return nil, nil, err
	}
	result, err := run.pipeline(ctx, r, at)
	if err != nil {
		return nil, nil, err
	}
	results = append(results, result)
	if err := deadShare(r, number, results); err != nil {
		return nil, nil, err
	}
	if err := r.checkDrawn(at, results, show, named); err != nil {
		return nil, nil, err
	}
	if err := r.closeLedger(ctx, at, show); err != nil {
		return nil, nil, err
	}
	measured, err := run.measure(ctx, r, at)
	if err != nil {
		return nil, nil, err
	}
	if r.Kind == Refresh {
		if err := r.decide(ctx, at, measured[len(measured)-1]); err != nil {
			return nil, nil, err
		}
	}
	_, parent, err := run.parent(ctx, number)
	if err != nil {
		return nil, nil, err
	}
	if err := run.Commit(ctx, Manifest{Iteration: number, Seed: r.Seed, Config: config, Parent: parent}, r.Keep); err != nil {
		return nil, nil, err
	}
	return measured, speed(results), nil
}

// speed is how fast the last responses of an iteration were sampled; nothing when they were there already.
func speed(results []beam.PipelineResult) []progress.Field {
	var s rollout.Speed
	ok := false
	for i := len(results) - 1; i >= 0 && !ok; i-- {
		s, ok = rollout.SpeedOf(stage.CountsOf(results[i]))
	}
	if !ok {
		return nil
	}
	out := []progress.Field{{Name: "sampled tokens/s", Value: s.PerSecond}}
	if s.FirstToken > 0 {
		out = append(out, progress.Field{Name: "first token ms", Value: float64(s.FirstToken.Microseconds()) / 1000})
	}
	return out
}

// measure writes what is known after the iteration, and before the first one what the policy starts from.
func (run *RunDir) measure(ctx context.Context, r Recipe, at iteration) ([]Measurement, error) {
	var out []Measurement
	held := r.Evaluate.Every > 0
	scratch := stage.JoinPath(at.work, "evaluation")
	if held && at.number == 0 && (r.Kind == Policy || r.Kind == Evolve) {
		start := Measurement{Metrics: map[string]float64{}}
		e, err := r.Measure(ctx, at.policy, models.Ref{}, scratch)
		if err != nil {
			return nil, err
		}
		start.evaluated(r, e)
		out = append(out, start)
	}
	after, err := measureBatch(ctx, at)
	if err != nil {
		return nil, err
	}
	if n := at.number + 1; held && (n%r.Evaluate.Every == 0 || n == r.Iterations) {
		e, err := r.measureTrained(ctx, at, scratch)
		if err != nil {
			return nil, err
		}
		after.evaluated(r, e)
	}
	out = append(out, after)
	return out, stage.WriteLines(ctx, stage.JoinPath(at.dir, metricsName), out)
}

// finish evaluates what the last committed iteration has left, where its turn has not come and the run ends with it. The
// iteration is not committed while its metrics are replaced: should the process die then, it is done again.
func (run *RunDir) finish(ctx context.Context, r Recipe, number int, config string) (Measurement, error) {
	dir := run.IterPath(number)
	metrics, manifest := stage.JoinPath(dir, metricsName), stage.JoinPath(dir, manifestName)
	measured, err := stage.ReadLines[Measurement](ctx, metrics)
	if err == nil && len(measured) == 0 {
		err = fmt.Errorf("%s is empty", metrics)
	}
	if err != nil {
		return Measurement{}, err
	}
	last := &measured[len(measured)-1]
	if r.Evaluate.Every == 0 || last.Evaluation != nil {
		return *last, nil
	}
	work := stage.JoinPath(dir, workName)
	if err := stage.MakeDirectory(work); err != nil {
		return *last, err
	}
	at, err := run.start(ctx, r, number, dir, config)
	if err != nil {
		return *last, err
	}
	e, err := r.measureTrained(ctx, at, stage.JoinPath(work, "evaluation"))
	if err != nil {
		return *last, err
	}
	last.evaluated(r, e)
	m, _, err := run.ReadManifest(ctx, number)
	if err != nil {
		return *last, err
	}
	if err := stage.RemoveFile(ctx, manifest); err != nil {
		return *last, err
	}
	if err := stage.WriteLines(ctx, metrics, measured); err != nil {
		return *last, err
	}
	if r.Kind == Refresh {
		if err := r.decide(ctx, at, *last); err != nil {
			return *last, err
		}
	}
	return *last, run.Commit(ctx, m, r.Keep)
}

// measureTrained measures the model that the iteration trained.
func (r Recipe) measureTrained(ctx context.Context, at iteration, scratch string) (Evaluation, error) {
	s, err := r.trained(ctx, at)
	if err != nil {
		return Evaluation{}, err
	}
	return r.measureIn(ctx, s, scratch)
}

// trained is what is measured after an iteration.
func (r Recipe) trained(ctx context.Context, at iteration) (subject, error) {
	switch r.trains() {
	case "reward":
		reward, err := r.rewardStart().committed(ctx, at.dir, "reward")
		return subject{policy: at.policy, reward: reward, reference: at.frozen}, err
	case "reviser":
		return subject{policy: at.policy, reference: at.policy}, nil
	}
	policy, err := r.Policy.committed(ctx, at.dir, "policy")
	return subject{policy: policy, reference: policy}, err
}

// fields are the figures shown beside the bar.
func fields(m Measurement) []progress.Field {
	var out []progress.Field
	for _, name := range []string{"avg@8", "train_accuracy", "loss", "kl", "entropy"} {
		if x, ok := m.Metrics[name]; ok {
			out = append(out, progress.Field{Name: name, Value: x})
		}
	}
	return out
}

func (run *RunDir) parent(ctx context.Context, number int) (Manifest, string, error) {
	if number == 0 {
		return Manifest{}, "", nil
	}
	return run.ReadManifest(ctx, number-1)
}

// start finds the models an iteration begins with: those of the committed iteration before it, or the recipe's.
func (run *RunDir) start(ctx context.Context, r Recipe, number int, dir, config string) (iteration, error) {
	at := iteration{number: number, seed: uint64(keyed.New(r.Seed).With(uint64(number))), dir: dir, work: stage.JoinPath(dir, workName),
		meta: schemas.Meta{Run: config[:runNameLength], Iteration: number, Seed: r.Seed}}
	err := run.startSampling(ctx, r, &at)
	if err != nil {
		return at, err
	}
	if r.Kind == Evolve {
		err := run.seftStart(ctx, r, &at)
		return at, err
	}
	role := r.trains()
	before := ""
	if number > 0 {
		before = run.IterPath(number - 1)
	}
	if before != "" && role == "policy" {
		if at.policy, err = r.Policy.committed(ctx, before, "policy"); err != nil {
			return at, err
		}
		if at.policyState, err = existing(ctx, stage.JoinPath(before, "optimizer-policy")); err != nil {
			return at, err
		}
	} else if at.policy, err = r.Policy.open(ctx, stage.JoinPath(run.Path, "start-policy"), r.Seed); err != nil {
		return at, err
	}
	if r.scoresCritic() {
		if at.policy, err = withScalarHead(ctx, at.policy, stage.JoinPath(run.Path, "start-critic")); err != nil {
			return at, err
		}
	}
	at.sampler = at.policy
	if r.Distill != nil {
		if err := r.teachers(ctx, &at); err != nil {
			return at, err
		}
	}
	at.frozen = at.policy
	if before != "" && role == "policy" { // the reference is what the run started from
		if at.frozen, err = r.startPolicy(ctx, run.Path); err != nil {
			return at, err
		}
	}
	if r.Reward != nil {
		if before != "" && (role == "reward" || r.Reward.Update != nil) {
			if at.reward, err = r.rewardStart().committed(ctx, before, "reward"); err != nil {
				return at, err
			}
			if at.rewardState, err = existing(ctx, stage.JoinPath(before, "optimizer-reward")); err != nil {
				return at, err
			}
		} else if r.Reward.Path == "" && r.Reward.New == nil {
			at.reward = at.policy
		} else if at.reward, err = r.Reward.Model.open(ctx, stage.JoinPath(run.Path, "start-reward"), r.Seed); err != nil {
			return at, err
		} else if err := promoted(ctx, at.reward.Path); err != nil && r.Kind == Policy {
			return at, err
		}
	}
	if r.Frozen != nil {
		if at.frozen, err = r.Frozen.open(ctx, stage.JoinPath(run.Path, "start-reference"), r.Seed); err != nil {
			return at, err
		}
	}
	return at, nil
}

// startPolicy is the policy that a run started from.
func (r Recipe) startPolicy(ctx context.Context, run string) (models.Ref, error) {
	if r.Policy.New != nil {
		return r.Policy.committed(ctx, run, "start-policy")
	}
	return r.Policy.open(ctx, "", 0)
}

// withScalarHead gives a model without a scalar head one of zeros, written to dir; one that has it is left as it is.
func withScalarHead(ctx context.Context, ref models.Ref, dir string) (models.Ref, error) {
	m, err := local.LoadRef(ctx, ref)
	if err != nil || m.Scalar() != nil {
		return ref, err
	}
	tok, err := tokenizer.Open(ctx, ref)
	if err != nil {
		return ref, err
	}
	m.AddScalarHead()
	if err := saveModel(ctx, dir, m, tok); err != nil {
		return ref, err
	}
	return Model{Precision: ref.Precision}.OpenAt(ctx, dir)
}

// existing is the directory, "" when there is none.
func existing(ctx context.Context, dir string) (string, error) {
	if ok, err := stage.Exists(ctx, dir); !ok {
		return "", err
	}
	return dir, nil
}

// pipeline builds and runs the Beam pipeline of one iteration.
func (run *RunDir) pipeline(ctx context.Context, r Recipe, at iteration) (beam.PipelineResult, error) {
	nodes := r.chain()
	p, f := r.flow(at)
	if r.backfill() != nil { // the rounds have sampled
		f.readRounds()
		nodes = r.learningNodes()
	}
	for _, n := range nodes {
		n.add(f)
	}
	return execute(ctx, iterationPipeline, p, r.Runner)
}

// deadShare fails the iteration when too many rows died.
func deadShare(r Recipe, number int, results []beam.PipelineResult) error {
	var in, dead int64
	reasons, given := map[string]int64{}, map[string]int64{}
	for _, result := range results {
		for _, c := range stage.CountsOf(result) {
			given[c.Stage] += c.In
			in = max(in, given[c.Stage])
			dead += c.Dead
			for reason, n := range c.Reasons {
				if n > 0 {
					reasons[c.Stage+"/"+string(reason)] += n
				}
			}
		}
	}
	if in == 0 || float64(dead) <= r.Limits.DeadShare*float64(in) {
		return nil
	}
	text := ""
	for _, k := range sortedKeys(reasons) {
		text += fmt.Sprintf("%s %d ", k, reasons[k])
	}
	return &DeadShareError{Iteration: number, Dead: dead, In: in, Limit: r.Limits.DeadShare, Reasons: text}
}
