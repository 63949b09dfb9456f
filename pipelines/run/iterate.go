package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/rollout"
	"github.com/millrace/millrace/transforms/stage"
)

// iterations is a run that goes on.
type iterations struct {
	*Dir
	Settings
	method   Method
	config   string // digest of the configuration
	identity string // digest of what of it decides what is computed, by which the run is named
	show     progress.Run
	watch    watch                   // what alarms know so far
	best     Best                    // iteration so far
	inputs   map[string]commit.Input // what the recipe names, by the setting that names it
}

// Iterate runs the method's iterations from the last committed one on. A directory without a manifest is done again and gives the
// same bytes.
func Iterate(ctx context.Context, m Method, s Settings, show progress.Run) (err error) {
	ctx = progress.With(ctx, show)
	s.fill()
	if c, ok := m.(Checker); ok && !s.Checked {
		if err := c.Check(ctx); err != nil {
			return err
		}
	}
	dir, ctx, err := Open(ctx, s.Run)
	if err != nil {
		return err
	}
	defer func() {
		var lost *files.LockLostError
		if errors.As(context.Cause(ctx), &lost) {
			err = lost // which is why whatever failed was cancelled
		}
		err = errors.Join(err, dir.Close())
	}()
	s.Runner.Job = "millrace-" + commit.Digest([]byte(dir.Path))[:16]
	if !s.Keep {
		if err := dir.Tidy(ctx); err != nil {
			return err
		}
	}
	done, err := dir.Committed(ctx)
	if err != nil {
		return err
	}
	changes, err := dir.WriteConfig(ctx, s.Config, s.Iterations, done)
	if err != nil {
		return err
	}
	for _, c := range changes {
		show.Note("from iteration %d on %v", len(done), c)
	}
	all := iterations{Dir: dir, Settings: s, method: m, config: commit.Digest(s.Config), identity: commit.Digest(recipe.Identity(s.Config)),
		show: show}
	if err := all.resume(ctx, done); err != nil {
		return err
	}
	if err := dir.ended(ctx, done); err != nil {
		return err
	}
	ctx, told := telemetry.Start(ctx, s.Telemetry, all.identity[:chain.RunNameLength], dir.Path, show.Note)
	defer func() { told.Close(err) }()
	tracked := all.follow(ctx, len(done))
	defer func() { tracked.close(ctx, err) }()
	drawn := curves{run: dir, to: told}
	for _, i := range done {
		drawn.add(ctx, i)
	}
	if len(done) > 0 {
		before, err := dir.ReadMeasurements(ctx)
		if err != nil {
			return err
		}
		all.see(before) // what rings has been said
	}
	bar := show.Bar("iterations", int64(s.Iterations))
	defer bar.Done()
	bar.Step(int64(len(done)))
	if len(done) > 0 {
		show.Note("going on after iteration %d of %d", len(done), s.Iterations)
	}
	noted := false
	for i := len(done); i < s.Iterations; i++ {
		start := time.Now()
		within, end := told.Iteration(ctx, i)
		watched, most := watchMemory(within, MemoryError{Iteration: i, Limit: s.Memory, Planned: s.MemoryPlanned})
		measured, speed, err := all.iterate(watched, i)
		peak := most()
		var full *MemoryError
		if err != nil && errors.As(context.Cause(watched), &full) {
			err = full // which is why whatever failed was cancelled
		}
		var exhausted *ExhaustedError
		if errors.As(err, &exhausted) && i > 0 {
			end(false, nil)
			show.Note("%v; the run ends after %d of %d iterations", err, i, s.Iterations)
			last, err := all.finish(ctx, i)
			if err != nil {
				return fmt.Errorf("iteration %d: %w", i-1, err)
			}
			told.Measured(last.Metrics)
			return nil
		}
		told.Peak(peak)
		end(err == nil, err)
		if err != nil {
			return fmt.Errorf("iteration %d: %w", i, err)
		}
		last := measured[len(measured)-1]
		told.Measured(last.Metrics)
		drawn.add(ctx, i)
		tracked.commit(i + 1)
		for _, a := range all.see(measured) {
			show.Note("%s", alarmNote(a))
		}
		if err := all.writeBest(ctx); err != nil {
			return err
		}
		if err := all.retain(ctx, i+1); err != nil {
			return err
		}
		if n, ok := m.(Noter); ok && !noted {
			if text := n.Note(last); text != "" {
				show.Note("%s", text)
				noted = true
			}
		}
		shown := append(append(fields(last), speed...), progress.Field{Name: "s", Value: time.Since(start).Seconds()})
		if peak > 0 {
			shown = append(shown, progress.Field{Name: "peak GiB", Value: float64(peak) / (1 << 30)})
		}
		bar.Step(1, shown...)
	}
	return nil
}

// see takes in measurements, and tells what rings with them for the first time.
func (all *iterations) see(measured []Measurement) (rang []Alarm) {
	for _, m := range measured {
		rang = append(rang, all.watch.add(m)...)
		all.best.add(m, all.Best)
	}
	return rang
}

// begin is an iteration with its models.
func (all *iterations) begin(ctx context.Context, number int, dir string) (chain.Iteration, error) {
	it := chain.NewIteration(all.identity[:chain.RunNameLength], all.Seed, number, dir)
	err := all.method.Models(ctx, all.Dir, &it)
	return it, err
}

// iterate does one iteration and commits it. It returns what was measured, and how fast responses were sampled.
func (all *iterations) iterate(ctx context.Context, number int) ([]Measurement, []progress.Field, error) {
	dir, err := all.Begin(ctx, number)
	if err != nil {
		return nil, nil, err
	}
	it, err := all.begin(ctx, number, dir)
	if err != nil {
		return nil, nil, err
	}
	results, err := all.pipelines(ctx, &it)
	if err != nil {
		return nil, nil, err
	}
	if err := deadShare(all.DeadShare, number, results); err != nil {
		return nil, nil, err
	}
	if t, ok := all.method.(Trainer); ok {
		if err := t.Train(ctx, all.Dir, it, all.show); err != nil {
			return nil, nil, err
		}
	}
	if err := all.learned(ctx, number, results); err != nil {
		return nil, nil, err
	}
	if c, ok := all.method.(Closer); ok {
		if err := c.Close(ctx, it, results, all.show); err != nil {
			return nil, nil, err
		}
	}
	measured, err := all.measure(ctx, it)
	if err != nil {
		return nil, nil, err
	}
	if err := gamed(all.AuditGap, measured[len(measured)-1]); err != nil {
		return nil, nil, err
	}
	if err := all.Collapse.check(all.watch.first["response_tokens"], measured[len(measured)-1]); err != nil {
		return nil, nil, err
	}
	if err := apart(all.Mismatch, measured[len(measured)-1]); err != nil {
		return nil, nil, err
	}
	if err := farther(all.KL, number, measured[len(measured)-1]); err != nil {
		return nil, nil, err
	}
	if d, ok := all.method.(Decider); ok {
		if err := d.Decide(ctx, it, measured[len(measured)-1]); err != nil {
			return nil, nil, err
		}
	}
	parent := ""
	if number > 0 {
		if _, parent, err = all.ReadManifest(ctx, number-1); err != nil {
			return nil, nil, err
		}
	}
	m := commit.Manifest{Iteration: number, Seed: all.Seed, Config: all.config, Identity: all.identity, Parent: parent, Inputs: all.inputs}
	if err := all.Commit(ctx, m, all.Keep); err != nil {
		return nil, nil, err
	}
	return measured, speed(results), nil
}

// pipelines runs those of an iteration.
func (all *iterations) pipelines(ctx context.Context, it *chain.Iteration) ([]beam.PipelineResult, error) {
	var results []beam.PipelineResult
	if s, ok := all.method.(Sampler); ok {
		sampled, err := s.Sample(ctx, it)
		if err != nil {
			return nil, err
		}
		results = sampled
	}
	c, err := all.method.Chain(*it)
	if err != nil {
		return nil, err
	}
	result, err := c.Run(ctx, chain.IterationPipeline, *it, all.MaxRecordBytes, all.Runner)
	return append(results, result), err
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
func (all *iterations) measure(ctx context.Context, it chain.Iteration) ([]Measurement, error) {
	var out []Measurement
	m, held := all.method.(Measurer)
	held = held && all.EvaluateEvery > 0
	scratch := files.Join(it.Work, "evaluation")
	if held && it.Number == 0 {
		if subject, ok := m.Start(it); ok {
			e, err := m.Measure(ctx, subject, scratch)
			if err != nil {
				return nil, err
			}
			start := Measurement{Metrics: map[string]float64{}}
			start.evaluated(e)
			if err := start.sets(ctx, m, subject, scratch); err != nil {
				return nil, err
			}
			out = append(out, start)
		}
	}
	after, err := measureBatch(ctx, it)
	if err != nil {
		return nil, err
	}
	if n := it.Number + 1; held && (n%all.EvaluateEvery == 0 || n == all.Iterations) {
		if err := after.subject(ctx, m, it, scratch); err != nil {
			return nil, err
		}
	}
	out = append(out, after)
	return out, files.WriteLines(ctx, files.Join(it.Dir, MetricsName), out)
}

// subject measures what an iteration left.
func (m *Measurement) subject(ctx context.Context, by Measurer, it chain.Iteration, scratch string) error {
	s, err := by.Subject(ctx, it)
	if err != nil {
		return err
	}
	e, err := by.Measure(ctx, s, scratch)
	if err != nil {
		return err
	}
	m.evaluated(e)
	return m.sets(ctx, by, s, scratch)
}

// sets measures a subject on further sets, where the method has some.
func (m *Measurement) sets(ctx context.Context, by Measurer, s measure.Subject, scratch string) error {
	of, ok := by.(SetMeasurer)
	if !ok {
		return nil
	}
	all, err := of.MeasureSets(ctx, s, scratch)
	for name, e := range all {
		estimated(m.Metrics, fmt.Sprintf("%s%s/%s%d", SetMetric, name, avgAt, e.Config.K[len(e.Config.K)-1]), e.Avg)
	}
	return err
}

// SetMetric begins the metrics of further sets: set/NAME/avg@k.
const SetMetric = "set/"

// finish ends a run whose iteration number has no prompts: what the one before has left is evaluated, where its turn has not come.
// That iteration is not committed while its metrics are replaced: should the process die then, it is done again.
func (all *iterations) finish(ctx context.Context, number int) (Measurement, error) {
	if err := files.RemoveAll(ctx, all.IterPath(number)); err != nil {
		return Measurement{}, err
	}
	number--
	dir := all.IterPath(number)
	metrics, manifest := files.Join(dir, MetricsName), files.Join(dir, commit.ManifestName)
	measured, err := files.ReadLines[Measurement](ctx, metrics)
	if err == nil && len(measured) == 0 {
		err = fmt.Errorf("%s is empty", metrics)
	}
	if err != nil {
		return Measurement{}, err
	}
	last := &measured[len(measured)-1]
	m, ok := all.method.(Measurer)
	if !ok || all.EvaluateEvery == 0 || last.Evaluation != nil {
		return *last, nil
	}
	if err := files.MakeDirectory(files.Join(dir, chain.WorkName)); err != nil {
		return *last, err
	}
	it, err := all.begin(ctx, number, dir)
	if err != nil {
		return *last, err
	}
	if err := last.subject(ctx, m, it, files.Join(it.Work, "evaluation")); err != nil {
		return *last, err
	}
	committed, _, err := all.ReadManifest(ctx, number)
	if err != nil {
		return *last, err
	}
	if err := files.Remove(ctx, manifest); err != nil {
		return *last, err
	}
	if err := files.WriteLines(ctx, metrics, measured); err != nil {
		return *last, err
	}
	if d, ok := all.method.(Decider); ok {
		if err := d.Decide(ctx, it, *last); err != nil {
			return *last, err
		}
	}
	return *last, all.Commit(ctx, committed, all.Keep)
}

// fields are the figures shown beside the bar.
func fields(m Measurement) []progress.Field {
	var out []progress.Field
	for _, name := range []string{m.AccuracyName(), "train_accuracy", "audit_gap", "mean_reward", "loss", "kl", "entropy"} {
		if x, ok := m.Metrics[name]; ok {
			out = append(out, progress.Field{Name: name, Value: x})
		}
	}
	return out
}
