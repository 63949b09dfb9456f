package main

import (
	"context"
	"maps"
	"path"
	"slices"
)

// ground is a task on which methods are compared over seeds.
type ground struct {
	title   string
	figures string   // file of figures below docs/results
	parts   []string // of its part of the page, each a table or more
	plan    func(seed uint64) []job
	// accepted is the accuracy on held-out prompts from which a warm start is worth starting from.
	accepted float64
	shared   bool // all seeds start from one warm start of a pretrained model, the first job of every plan
	data     bool // its problems are files that -data names
	avg      string
	rewards  []rewardModel // those of all tables
	corrupt  []string      // the corruptions of the task's source on which they are measured, beside its held-out prompts
	tables   func(*figures) map[string]string
	charts   func(*figures) map[string]plate
	collect  func(ctx context.Context, p *proving, f *figures, seed uint64, j job) error
}

// grounds are the tasks by the name that -ground takes.
var grounds = map[string]*ground{}

func init() {
	grounds["proving"] = &ground{title: "the proving ground", figures: "figures.csv", parts: parts, plan: plan, accepted: acceptedWarmStart,
		avg: "avg@8", rewards: allRewardModels(), corrupt: []string{"corrupted"}, tables: tables, charts: charts, collect: collectJob}
	grounds["text"] = &ground{title: "text chains, by a pretrained model", figures: "text-figures.csv", parts: textParts, plan: textPlan,
		shared: true, avg: "avg@4", rewards: textRewards(), corrupt: []string{"unlikely", "likely"}, tables: textTables,
		charts: noCharts, collect: collectText}
	grounds["gsm8k"] = &ground{title: "GSM8K, by a pretrained model", figures: "gsm8k-figures.csv", parts: gsm8kParts, plan: gsm8kPlan,
		shared: true, data: true, avg: "avg@2", rewards: gsm8kRewards, tables: gsm8kTables, charts: noCharts, collect: collectGSM8K}
}

func groundNames() []string { return slices.Sorted(maps.Keys(grounds)) }

// runs reports whether a run of that name is planned.
func (g *ground) runs(name string) bool {
	return slices.ContainsFunc(g.plan(0), func(j job) bool { return path.Base(j.name) == name })
}

// measures reports whether figures of a run, or of a scorer without one, belong to the ground.
func (g *ground) measures(name string) bool {
	return g.runs(name) || slices.ContainsFunc(policyScorers, func(m rewardModel) bool { return m.name == name })
}
