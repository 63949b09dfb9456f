package look

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/report"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/pipelines/show"
	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/transforms/evaluate"
	"github.com/millrace/millrace/transforms/files"
)

// reportRollouts is how many rollouts a page shows.
const reportRollouts = 12

// Report writes the page that shows what runs did to a file. The runs are drawn together, under the names of their
// directories; rollouts are those of the first run that has values, from its last committed iteration.
func Report(ctx context.Context, path string, runs ...string) error {
	data, err := ReportData(ctx, runs...)
	if err != nil {
		return err
	}
	return WriteReport(ctx, path, data)
}

// WriteReport writes the page to a file, as a whole or not at all.
func WriteReport(ctx context.Context, path string, data report.Data) error {
	var page bytes.Buffer
	if err := report.Write(&page, data); err != nil {
		return err
	}
	return files.Write(ctx, path, page.Bytes(), true)
}

// ReportData gathers what a page on the runs shows.
func ReportData(ctx context.Context, runs ...string) (report.Data, error) {
	if len(runs) == 0 {
		return report.Data{}, errors.New("report: no run")
	}
	g := gathered{several: len(runs) > 1, dead: show.DeadTally{}, page: report.Data{Title: "Millrace run"}, accuracy: report.Table{
		Caption: "Accuracy on held-out prompts",
		Columns: []string{"run", "kind", "iterations", "at the start", "at the end", "standard error", "prompts"}}}
	for _, path := range runs {
		if err := g.add(ctx, path); err != nil {
			return g.page, err
		}
	}
	g.page.Panels = append(accuracyPanels(g.accuracies), g.panels...)
	g.page.Curves = rewardCurves(g.rewards)
	if len(g.accuracy.Rows) > 0 {
		g.page.Tables = slices.Insert(g.page.Tables, 0, g.accuracy)
	}
	g.page.Dead = g.dead.Counts()
	return g.page, nil
}

// gathered is what a page holds so far.
type gathered struct {
	page       report.Data
	several    bool // runs
	accuracy   report.Table
	accuracies []string       // names of the metric, avg@k
	panels     []report.Panel // of rewards that recipes compose, and of audits
	dead       show.DeadTally
	rewards    []*measure.Evaluation
	valued     bool // rollouts with values are chosen
}

// add takes in a run.
func (g *gathered) add(ctx context.Context, path string) error {
	d, err := run.Read(ctx, path)
	if err != nil {
		return err
	}
	r, err := d.Recipe(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	_, number, err := d.Iteration(ctx, -1)
	if err != nil {
		return err
	}
	measured, err := d.ReadMeasurements(ctx)
	if err != nil {
		return err
	}
	name := methodName(g.page.Methods, files.Base(d.Path))
	if g.page.Run == "" {
		g.page.Subtitle = fmt.Sprintf("%s, %d of %d iterations", name, number+1, r.Iterations)
		g.page.Run, g.page.Facts = d.Path, facts(r, number+1)
	}
	for _, m := range measured {
		if avg := m.AccuracyName(); avg != "" && !slices.Contains(g.accuracies, avg) {
			g.accuracies = append(g.accuracies, avg)
		}
	}
	for _, p := range append(rewardPanels(r), setPanels(r)...) {
		if !slices.ContainsFunc(g.panels, func(have report.Panel) bool { return have.Metric == p.Metric }) {
			g.panels = append(g.panels, p)
		}
	}
	g.page.Methods = append(g.page.Methods, report.Method{Name: name, Points: points(measured)})
	if c, ok := lastCalibration(measured); ok {
		g.page.Calibration = append(g.page.Calibration, report.Calibration{Name: name, Bins: c})
	}
	g.rewards = append(g.rewards, lastReward(measured))
	if r.Kind == "refresh" {
		t, err := refreshTable(ctx, d.Path, name)
		if err != nil {
			return err
		}
		g.page.Tables = append(g.page.Tables, t)
	} else if r.Scheduled() != nil {
		promotions, err := d.ReadPromotions(ctx)
		if err != nil {
			return err
		}
		g.page.Tables = append(g.page.Tables, promotionsTable(promotions, name))
	}
	if alarms := run.Alarms(measured); len(alarms) > 0 {
		t := report.Table{Caption: "Alarms of " + name + ": signs that the reward is gamed, or that the policy has collapsed",
			Columns: []string{"alarm", "after iterations", "what"}}
		for _, a := range alarms {
			t.Rows = append(t.Rows, []string{a.Name, fmt.Sprint(a.Iterations), a.Text})
		}
		g.page.Tables = append(g.page.Tables, t)
	}
	if cells := accuracyCells(measured); cells != nil {
		g.accuracy.Rows = append(g.accuracy.Rows, append([]string{name, r.Kind, fmt.Sprint(number + 1)}, cells...))
	}
	if !g.valued {
		rollouts, err := lastRollouts(ctx, d, r, number)
		if err != nil {
			return err
		}
		if hasValues := r.Reward != nil; hasValues || g.page.Rollouts == nil {
			g.page.Rollouts, g.valued = rollouts, hasValues
		}
	}
	flow, err := stageFlow(ctx, d, r, number)
	if err != nil {
		return err
	}
	for _, s := range flow {
		if g.several {
			s.Name = name + ": " + s.Name
		}
		g.page.Stages = append(g.page.Stages, s)
	}
	ledgers, err := d.ReadLedgers(ctx)
	if err != nil {
		return err
	}
	if len(ledgers) > 0 {
		g.page.Tables = append(g.page.Tables, ledgerTable(name, ledgers))
	}
	for at := range number + 1 {
		_, dead, err := DeadLetters(ctx, d, at, -1)
		if err != nil {
			return err
		}
		for key, n := range dead {
			g.dead[key] += n
		}
	}
	return nil
}

// stageFlow sums up what the stages did with the rows of the iterations up to last, in the order of the dataflow. It comes
// from the run's telemetry, and so may be incomplete, or missing where that was turned off.
func stageFlow(ctx context.Context, d *run.Dir, r recipe.Recipe, last int) ([]report.Stage, error) {
	lines, err := telemetry.ReadStages(ctx, d.Path)
	if err != nil {
		return nil, err
	}
	var order []string
	if m, err := method.New(r); err == nil {
		phases, err := m.Phases()
		if err != nil {
			return nil, err
		}
		for _, s := range chain.Planned(phases[0].Chain.Nodes) {
			order = append(order, s.Name)
		}
	}
	sums := map[string]*report.Stage{}
	for _, l := range lines {
		if l.Iteration > last || l.Pipeline == chain.EvaluationPipeline {
			continue
		}
		s := sums[l.Stage]
		if s == nil {
			s = &report.Stage{Name: l.Stage}
			sums[l.Stage] = s
			if !slices.Contains(order, l.Stage) {
				order = append(order, l.Stage)
			}
		}
		// An update takes records as they are and counts the rows that it learns from.
		used, left := l.Other["rows_used"], l.Other["rows_left_out"]
		s.In += int(l.RowsIn + used + left)
		s.Out += int(l.RowsOut + used)
		s.Filtered += int(l.Filtered + left)
		s.Dead += int(l.Dead)
		s.Tokens += int(l.TokensOut)
		s.Seconds += l.Seconds
	}
	var out []report.Stage
	for _, name := range order {
		if s := sums[name]; s != nil {
			out = append(out, *s)
		}
	}
	return out, nil
}

// lastRollouts are those of the last iteration up to number that kept any.
func lastRollouts(ctx context.Context, d *run.Dir, r recipe.Recipe, number int) ([]show.Rollout, error) {
	for ; number >= 0; number-- {
		paths, err := run.RowFiles(ctx, d.IterPath(number), chain.BatchName)
		if err != nil {
			return nil, err
		}
		if len(paths) > 0 {
			q := RolloutQuery{Rows: reportRollouts, Contrast: true}
			if r.Kind == "refresh" {
				q.Value = refreshValues(d, r, number)
			}
			return Rollouts(ctx, d, number, q)
		}
	}
	return nil, nil
}

// ledgerTable sums up the ledgers of a run by source and difficulty.
func ledgerTable(name string, ledgers []show.Ledger) report.Table {
	var all show.Ledger
	rounds, short := 0, 0
	for _, l := range ledgers {
		all.Merge(l)
		rounds += len(l.Rounds)
		if l.Note != "" {
			short++
		}
	}
	reasons := all.Reasons()
	t := report.Table{Caption: fmt.Sprintf("Prompts drawn by %s: %d in %d rounds of %d iterations", name, all.Drawn, rounds, len(ledgers)),
		Columns: slices.Concat([]string{"source", "difficulty", "drawn", "kept"}, reasons, []string{"dead", "pass rate"})}
	if short > 0 {
		t.Caption += fmt.Sprintf("; %d iterations ended with too few groups", short)
	}
	for _, v := range all.Levels {
		row := []string{v.Source, v.Difficulty, fmt.Sprint(v.Drawn), fmt.Sprint(v.Kept)}
		for _, why := range reasons {
			row = append(row, fmt.Sprint(v.Dropped[why]))
		}
		t.Rows = append(t.Rows, append(row, fmt.Sprint(v.Dead), v.PassRate()))
	}
	return t
}

// methodName keeps the names of lines apart when directories share one.
func methodName(taken []report.Method, name string) string {
	for n, try := 2, name; ; n++ {
		if !slices.ContainsFunc(taken, func(m report.Method) bool { return m.Name == try }) {
			return try
		}
		try = fmt.Sprintf("%s (%d)", name, n)
	}
}

func facts(r recipe.Recipe, done int) []report.Fact {
	out := []report.Fact{{Name: "kind", Value: r.Kind}, {Name: "seed", Value: fmt.Sprint(r.Seed)}, {Name: "iterations",
		Value: fmt.Sprintf("%d of %d", done, r.Iterations)},
		{Name: "prompts an iteration", Value: fmt.Sprint(r.Prompts.Count)}}
	if chain.Samples(r) {
		out = append(out, report.Fact{Name: "responses a prompt", Value: fmt.Sprint(r.Rollout.Samples)})
	}
	for _, term := range r.Update.Losses {
		out = append(out, report.Fact{Name: "loss", Value: term.Name})
	}
	if r.Advantage != nil {
		out = append(out, report.Fact{Name: "advantage", Value: r.Advantage.Kind})
	}
	if r.Reward != nil {
		out = append(out, report.Fact{Name: "reward model", Value: r.Reward.Value.Name})
	}
	return out
}

// accuracyPanels are the default panels, that of held-out accuracy with the numbers of responses to a prompt in its title.
func accuracyPanels(names []string) []report.Panel {
	out := slices.Clone(report.DefaultPanels)
	for i, p := range out {
		if p.Metric == report.HeldOut && len(names) > 0 {
			out[i].Title += " (" + strings.Join(names, ", ") + ")"
		}
	}
	return out
}

// rewardPanels are those of a recipe's composed reward and of its audit.
func rewardPanels(r recipe.Recipe) (out []report.Panel) {
	if r.Rollout.Engine != nil {
		out = append(out, report.Panel{Title: "Engine against trainer", Metric: "mismatch", Section: report.Training,
			Note: "Mean difference of the engine's log-probs from the trainer's own of the same tokens, in nats."})
	}
	if len(r.Rewards) > 0 {
		out = append(out, report.Panel{Title: "Reward", Metric: "mean_reward", Note: "Mean over the batch, the weighted sum of the parts.",
			Section: report.Training})
	}
	if len(r.RewardModels) > 0 && len(r.Scorers()) > 1 {
		out = append(out, report.Panel{Title: "Disagreement of reward models", Metric: "reward_disagreement", Section: report.Training,
			Note: "Mean standard deviation of their P(correct) after the last token."})
	}
	for _, p := range r.Rewards {
		out = append(out, report.Panel{Title: "Reward: " + p.Name, Metric: "reward/" + p.Name, Note: fmt.Sprintf("Mean of the part, weight %g.",
			p.Weight), Section: report.Training})
	}
	if r.Audit != nil {
		out = append(out, report.Panel{Title: "Gap to the audit", Metric: "audit_gap", Guided: true, Section: report.Training,
			Note: "Share of the audited responses that label.verifier calls right, less the share that audit.verifier does."})
	}
	return out
}

// setPanels are those of further sets that a recipe measures on.
func setPanels(r recipe.Recipe) (out []report.Panel) {
	for _, s := range r.Evaluate.Sets {
		k := s.Samples
		metric := fmt.Sprintf("%s%s/avg@%d", run.SetMetric, s.Name, k)
		out = append(out, report.Panel{Title: fmt.Sprintf("Accuracy on %s (avg@%d)", s.Name, k), Metric: metric, Error: metric + "_stderr",
			Note: fmt.Sprintf("%d prompts of split %s.", s.Count, s.Split), Section: report.Training})
	}
	return out
}

func points(measured []run.Measurement) []report.Point {
	out := make([]report.Point, len(measured))
	for i, m := range measured {
		out[i] = report.Point{Iteration: m.Iterations, Metrics: maps.Clone(m.Metrics)}
		if e := m.Evaluation; e != nil && e.Avg.N > 0 {
			out[i].Metrics[report.HeldOut], out[i].Metrics[report.HeldOutError] = e.Avg.Mean, e.Avg.StdErr
		}
	}
	return out
}

func lastCalibration(measured []run.Measurement) ([]report.Bin, bool) {
	for _, m := range slices.Backward(measured) {
		if len(m.Calibration) == 0 {
			continue
		}
		bins := make([]report.Bin, len(m.Calibration))
		for i, b := range m.Calibration {
			bins[i] = report.Bin{P: b.P, Y: b.Y, N: b.N}
		}
		return bins, true
	}
	return nil, false
}

// lastReward is the last evaluation that measured a reward model; nil where there is none.
func lastReward(measured []run.Measurement) *measure.Evaluation {
	for _, m := range slices.Backward(measured) {
		if e := m.Evaluation; e != nil && e.Calibration != nil {
			return e
		}
	}
	return nil
}

// rewardCurves draw what was measured of the runs' reward models: the model's choice among N responses, and its calibration
// by position.
func rewardCurves(rewards []*measure.Evaluation) []report.Curve {
	const bars = "Bars: one standard error over prompts."
	best := report.Curve{Title: "Best of N by the reward model", X: "N", Note: "Share of held-out prompts whose chosen response is right. " +
		bars}
	ece := report.Curve{Title: "Calibration error by position (ECE)", X: "tenth of the response", Note: "Lower is better. " + bars}
	auc := report.Curve{Title: "AUC by position", X: "tenth of the response", Note: "Correct against incorrect; 0.5 is chance. " + bars}
	point := func(x int, value, stdErr *float64) []report.Point {
		if value == nil {
			return nil
		}
		p := report.Point{Iteration: x, Metrics: map[string]float64{"value": *value}}
		if stdErr != nil {
			p.Metrics["std_err"] = *stdErr
		}
		return []report.Point{p}
	}
	for _, e := range rewards {
		var ofN, errors, areas []report.Point
		if e != nil {
			for _, b := range e.BestOfN {
				ofN = append(ofN, point(b.K, &b.Mean, &b.StdErr)...)
			}
			for d, c := range e.ByDecile {
				s := c.StdErr
				if s == nil {
					s = &evaluate.CalibrationErrors{}
				}
				errors, areas = append(errors, point(d+1, c.ECE, s.ECE)...), append(areas, point(d+1, c.AUC, s.AUC)...)
			}
		}
		if len(ofN) < 2 {
			ofN = nil // one response a prompt leaves no choice
		}
		best.Lines, ece.Lines, auc.Lines = append(best.Lines, ofN), append(ece.Lines, errors), append(auc.Lines, areas)
	}
	return []report.Curve{best, ece, auc}
}

// accuracyCells are accuracy at the first and last evaluation, its error and the prompts; nil when nothing was evaluated, or no answer
// judged.
func accuracyCells(measured []run.Measurement) []string {
	var first, last *run.Measurement
	for i := range measured {
		if e := measured[i].Evaluation; e == nil || e.Avg.N == 0 {
			continue
		}
		if first == nil && measured[i].Iterations == 0 {
			first = &measured[i]
		}
		last = &measured[i]
	}
	if last == nil {
		return nil
	}
	start := "–"
	if first != nil {
		start = fmt.Sprintf("%.3f", first.Evaluation.Avg.Mean)
	}
	return []string{start, fmt.Sprintf("%.3f", last.Evaluation.Avg.Mean), fmt.Sprintf("%.3f", last.Evaluation.Avg.StdErr),
		fmt.Sprint(last.Evaluation.Avg.N)}
}
