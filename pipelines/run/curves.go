package run

import (
	"context"
	"maps"
	"slices"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/update"
)

// curves draws the training curves of a run from what its committed iterations hold.
type curves struct {
	run   *Dir
	to    *telemetry.Run
	steps map[string]int // optimizer steps drawn so far, by role
}

// add draws an iteration: what was measured, over the iterations done, and every optimizer step. What cannot be read is
// left out; whoever needs it will say so.
func (c *curves) add(ctx context.Context, number int) {
	dir := c.run.IterPath(number)
	info, err := files.Stat(ctx, files.Join(dir, commit.ManifestName))
	if err != nil {
		return
	}
	at := info.Modified
	var points []telemetry.Point
	measured, _ := files.ReadLines[Measurement](ctx, files.Join(dir, MetricsName))
	for _, m := range measured {
		for _, name := range slices.Sorted(maps.Keys(m.Metrics)) {
			points = append(points, telemetry.Point{At: at, Step: m.Iterations, Curve: name, Value: m.Metrics[name]})
		}
	}
	if c.steps == nil {
		c.steps = map[string]int{}
	}
	for _, role := range []string{chain.PolicyRole, chain.RewardRole, chain.ReviserRole} {
		steps, _ := files.ReadLines[update.StepRecord](ctx, update.Job{Dir: dir, Role: role}.StepsFile())
		for _, s := range steps {
			c.steps[role]++
			draw := func(name string, x float64) {
				points = append(points, telemetry.Point{At: at, Step: c.steps[role], Curve: "steps/" + role + "/" + name, Value: x})
			}
			draw("loss", s.Loss)
			draw("gradient_norm", s.GradNorm)
			for _, name := range slices.Sorted(maps.Keys(s.Metrics)) {
				draw(shortName(name), s.Metrics[name])
			}
		}
	}
	c.to.Draw(points)
}
