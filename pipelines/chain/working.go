package chain

import (
	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/transforms/stage"
)

// working shows which stage of a pipeline is at work and how far it is: a stage of a real model can take an hour. It goes by the
// counters that the runner has now and then.
type working struct {
	show   progress.Run
	counts map[string]stage.Counts // last seen
	name   string
	done   int64
	bar    progress.Bar // nil before any stage has counted
}

// see takes the present counters.
func (w *working) see(result beam.PipelineResult) { w.take(stage.CountsOf(result)) }

func (w *working) take(all []stage.Counts) {
	busiest, most := "", int64(0)
	now := map[string]stage.Counts{}
	for _, c := range all {
		now[c.Stage] = c
		before := w.counts[c.Stage]
		moved := c.Millis - before.Millis
		if moved == 0 && (c.In != before.In || c.Other["steps"] != before.Other["steps"]) {
			moved = 1
		}
		if moved > most {
			busiest, most = c.Stage, moved
		}
	}
	w.counts = now
	if busiest == "" {
		return
	}
	c := now[busiest]
	done, unit := c.In, "rows"
	if steps := c.Other["steps"]; steps > 0 {
		done, unit = steps, "steps"
	}
	if name := busiest + ", " + unit; name != w.name {
		w.end()
		w.name, w.done, w.bar = name, 0, w.show.Bar(name, 0)
	}
	w.bar.Step(done - w.done)
	w.done = done
}

func (w *working) end() {
	if w.bar != nil {
		w.bar.Done()
	}
}
