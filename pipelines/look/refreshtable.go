package look

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/pipelines/report"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/transforms/evaluate"
)

// promotionsTable lists the refreshes within a run: what became of each reward model, and of what it was made.
func promotionsTable(promotions map[int]run.Promotion, name string) report.Table {
	t := report.Table{Caption: "Refreshes of the reward model of " + name + ", each before the iteration named; a promoted model scores " +
		"from there on",
		Columns: []string{"iteration", "became", "measured", "value", "chance", "serving before", "model", "made from", "trained on iterations"}}
	short := func(identity string) string {
		digest, precision, _ := strings.Cut(identity, "+")
		if precision != "" {
			precision = "+" + precision
		}
		return digest[:min(12, len(digest))] + precision
	}
	for _, i := range slices.Sorted(maps.Keys(promotions)) {
		p := promotions[i]
		became, measured, value, chance, serving := "refused", "–", "–", "–", "–"
		if p.Promoted {
			became = "promoted"
		}
		if p.Measure != "" {
			measured, value, chance = p.Measure, fmt.Sprintf("%.3f ± %.3f", p.Value, p.StdErr), fmt.Sprintf("%.3f", p.Chance)
		}
		if p.Serving != nil {
			serving = fmt.Sprintf("%.3f ± %.3f", p.Serving.Value, p.Serving.StdErr)
		}
		t.Rows = append(t.Rows, []string{fmt.Sprint(i), became, measured, value, chance, serving, short(p.Model), short(p.From),
			fmt.Sprintf("%d to %d", p.Batches[0], p.Batches[len(p.Batches)-1])})
	}
	return t
}

// refreshTable says what a refresh is about: whether its reward model may serve, and what was measured of it, beside what a choice by
// chance and by the majority gives.
func refreshTable(ctx context.Context, dir, name string) (report.Table, error) {
	result, err := ReadRefresh(ctx, dir)
	if err != nil {
		return report.Table{}, err
	}
	p, e := result.Promotion, result.Evaluation
	t := report.Table{Columns: []string{"measured on held-out prompts", "value", "standard error", "of"}}
	t.Caption = fmt.Sprintf("The reward model of %s is promoted: %s", name, p.Why)
	if !p.Promoted {
		t.Caption = fmt.Sprintf("The reward model of %s is refused: %s", name, p.Why)
	}
	of := func(what string, x evaluate.Estimate, n string) {
		if x.N > 0 {
			t.Rows = append(t.Rows, []string{what, fmt.Sprintf("%.3f", x.Mean), fmt.Sprintf("%.3f", x.StdErr), fmt.Sprintf("%d %s", x.N, n)})
		}
	}
	single := func(what string, x *float64, n string) {
		if x != nil {
			t.Rows = append(t.Rows, []string{what, fmt.Sprintf("%.3f", *x), "–", n})
		}
	}
	of("chance: a random response (random)", e.Random, "prompts")
	if e.Vote != nil {
		of("majority vote", *e.Vote, "prompts")
	}
	for _, b := range e.BestOf {
		of("Best-of-N by "+b.Score, b.Estimate, "prompts")
	}
	if c := e.Calibration; c != nil {
		n := fmt.Sprintf("%d prefixes", c.N)
		single("calibration error (ECE)", c.ECE, n)
		single("Brier score", c.Brier, n)
		single("AUC", c.AUC, n)
	}
	for _, s := range e.Steps {
		n := fmt.Sprintf("%d responses", s.Items)
		single("step F1 at the held-out threshold, rule "+s.Rule, &s.HeldOut.F1, n)
		single("step F1 at the best threshold, rule "+s.Rule, &s.Best.F1, n)
	}
	return t, nil
}
