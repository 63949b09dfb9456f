package pipelines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/pipelines/report"
	"github.com/millrace/millrace/pipelines/show"
	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/transforms/evaluate"
	"github.com/millrace/millrace/transforms/stage"
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
	return stage.WriteFile(ctx, path, page.Bytes(), true)
}

// ReportData gathers what a page on the runs shows.
func ReportData(ctx context.Context, runs ...string) (report.Data, error) {
	if len(runs) == 0 {
		return report.Data{}, errors.New("report: no run")
	}
	d := report.Data{Title: "Millrace run"}
	table := report.Table{Caption: "Accuracy on held-out prompts", Columns: []string{"run", "kind", "iterations", "at the start", "at the end", "standard error", "prompts"}}
	var letters []show.DeadLetter
	valued := false
	var rewards []*Evaluation
	for i, path := range runs {
		run, err := ReadRun(ctx, path)
		if err != nil {
			return d, err
		}
		r, err := run.Recipe(ctx)
		if err != nil {
			return d, fmt.Errorf("%s: %w", path, err)
		}
		_, number, err := run.Iteration(ctx, -1)
		if err != nil {
			return d, err
		}
		measured, err := run.ReadMeasurements(ctx)
		if err != nil {
			return d, err
		}
		name := methodName(d.Methods, stage.BasePath(run.Path))
		if i == 0 {
			d.Subtitle = fmt.Sprintf("%s, %d of %d iterations", name, number+1, r.Iterations)
			d.Run = run.Path
			d.Facts = facts(r, number+1)
			d.Panels = panelsFor(r)
		}
		d.Methods = append(d.Methods, report.Method{Name: name, Points: points(measured)})
		if c, ok := lastCalibration(measured); ok {
			d.Calibration = append(d.Calibration, report.Calibration{Name: name, Bins: c})
		}
		rewards = append(rewards, lastReward(measured))
		if cells := accuracyCells(measured); cells != nil {
			table.Rows = append(table.Rows, append([]string{name, r.Kind, fmt.Sprint(number + 1)}, cells...))
		}
		if !valued {
			rollouts, err := run.lastRollouts(ctx, number)
			if err != nil {
				return d, err
			}
			if hasValues := r.Reward != nil; hasValues || d.Rollouts == nil {
				d.Rollouts, valued = rollouts, hasValues
			}
		}
		flow, err := stageFlow(ctx, run, r, number)
		if err != nil {
			return d, err
		}
		for _, s := range flow {
			if len(runs) > 1 {
				s.Name = name + ": " + s.Name
			}
			d.Stages = append(d.Stages, s)
		}
		ledgers, err := run.ReadLedgers(ctx)
		if err != nil {
			return d, err
		}
		if len(ledgers) > 0 {
			d.Tables = append(d.Tables, ledgerTable(name, ledgers))
		}
		for at := range number + 1 {
			dead, err := DeadLetters(ctx, run.IterPath(at), 0)
			if err != nil {
				return d, err
			}
			for i := range dead {
				dead[i].Row = nil // only counted
			}
			letters = append(letters, dead...)
		}
	}
	d.Curves = rewardCurves(rewards)
	if len(table.Rows) > 0 {
		d.Tables = slices.Insert(d.Tables, 0, table)
	}
	d.Dead = show.CountDead(letters)
	return d, nil
}

// stageFlow sums up what the stages did with the rows of the iterations up to last, in the order of the dataflow. It comes
// from the run's telemetry, and so may be incomplete, or missing where that was turned off.
func stageFlow(ctx context.Context, run *RunDir, r Recipe, last int) ([]report.Stage, error) {
	lines, err := telemetry.ReadStages(ctx, run.Path)
	if err != nil {
		return nil, err
	}
	var order []string
	if planned, err := r.Plan(); err == nil {
		for _, s := range planned {
			order = append(order, s.Name)
		}
	}
	sums := map[string]*report.Stage{}
	for _, l := range lines {
		if l.Iteration > last || l.Pipeline == evaluationPipeline {
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
func (run *RunDir) lastRollouts(ctx context.Context, number int) ([]show.Rollout, error) {
	for ; number >= 0; number-- {
		files, err := rowFiles(ctx, run.IterPath(number), batchName)
		if err != nil {
			return nil, err
		}
		if len(files) > 0 {
			return Rollouts(ctx, run.IterPath(number), RolloutQuery{Rows: reportRollouts, Contrast: true})
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

func facts(r Recipe, done int) []report.Fact {
	out := []report.Fact{{Name: "kind", Value: r.Kind}, {Name: "seed", Value: fmt.Sprint(r.Seed)}, {Name: "iterations", Value: fmt.Sprintf("%d of %d", done, r.Iterations)},
		{Name: "prompts an iteration", Value: fmt.Sprint(r.Prompts.Count)}}
	if r.samples() {
		out = append(out, report.Fact{Name: "responses a prompt", Value: fmt.Sprint(r.Rollout.Samples)})
	}
	for _, term := range r.Update.Losses {
		out = append(out, report.Fact{Name: "loss", Value: term.Name})
	}
	if r.Advantage != nil {
		out = append(out, report.Fact{Name: "advantage", Value: r.Advantage.Kind})
	}
	if r.Reward != nil {
		out = append(out, report.Fact{Name: "reward model", Value: r.Reward.Value.Kind})
	}
	return out
}

// panelsFor are the default panels, with accuracy over as many samples as the recipe evaluates.
func panelsFor(r Recipe) []report.Panel {
	const usual = "avg@8"
	avg := fmt.Sprintf("avg@%d", r.Evaluate.Samples)
	out := slices.Clone(report.DefaultPanels)
	for i, p := range out {
		if p.Metric == usual {
			out[i].Title, out[i].Metric, out[i].Error = fmt.Sprintf("Accuracy on held-out prompts (%s)", avg), avg, avg+"_stderr"
		}
	}
	return out
}

func points(measured []Measurement) []report.Point {
	out := make([]report.Point, len(measured))
	for i, m := range measured {
		out[i] = report.Point{Iteration: m.Iterations, Metrics: maps.Clone(m.Metrics)}
	}
	return out
}

func lastCalibration(measured []Measurement) ([]report.Bin, bool) {
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
func lastReward(measured []Measurement) *Evaluation {
	for _, m := range slices.Backward(measured) {
		if e := m.Evaluation; e != nil && e.Calibration != nil {
			return e
		}
	}
	return nil
}

// rewardCurves draw what was measured of the runs' reward models: the model's choice among N responses, and its calibration
// by position.
func rewardCurves(rewards []*Evaluation) []report.Curve {
	const bars = "Bars: one standard error over prompts."
	best := report.Curve{Title: "Best of N by the reward model", X: "N", Note: "Share of held-out prompts whose chosen response is right. " + bars}
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

// accuracyCells are accuracy at the first and last evaluation, its error and the prompts; nil when nothing was evaluated.
func accuracyCells(measured []Measurement) []string {
	var first, last *Measurement
	for i := range measured {
		if measured[i].Evaluation == nil {
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
	return []string{start, fmt.Sprintf("%.3f", last.Evaluation.Avg.Mean), fmt.Sprintf("%.3f", last.Evaluation.Avg.StdErr), fmt.Sprint(last.Evaluation.Avg.N)}
}
