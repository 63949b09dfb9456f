package stage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/millrace/millrace/schemas"
)

// Every stage counts, as Beam metrics in the namespace "millrace.<stage>":
//
//	rows_in          rows it was given
//	rows_kept        of these, rows that went on, or that rows that went on were made of
//	rows_filtered    of these, rows taken out on purpose
//	rows_dead        of these, rows set aside; rows_dead.<reason> by reason
//	rows_out         rows that went on
//	tokens_out       response tokens of the rows that went on, where rows have responses
//	bytes_out        bytes of the values of the rows that went on, in memory or, behind ApplyOnce, in the store
//	batches          batches it was given
//	ms               milliseconds spent
const namespace = "millrace."

// SourceRows is the counter of the rows that a source looked at where it reports those it sets aside: its window has fewer.
const SourceRows = "source_rows"

type counters struct {
	stage string
	carry time.Duration // not yet counted, below a millisecond
}

// passed is how much a stage passed on.
type passed struct{ rows, tokens, bytes int64 }

func (p *passed) add(rows, tokens, bytes int64) {
	p.rows, p.tokens, p.bytes = p.rows+rows, p.tokens+tokens, p.bytes+bytes
}

func passedOf(out []Batch) (p passed) {
	for _, b := range out {
		tokens := 0
		if lists, err := schemas.ResponseTokens.Find(b); err == nil {
			tokens = lists.Total()
		}
		p.add(int64(b.NumRows()), int64(tokens), int64(b.Size()))
	}
	return p
}

func passedStored(out []Stored) (p passed) {
	for _, d := range out {
		p.add(d.Rows, d.Tokens, d.Bytes)
	}
	return p
}

func (c *counters) add(ctx context.Context, r Result, out passed, d time.Duration) {
	count := func(name string, n int64) {
		if n != 0 {
			beam.NewCounter(namespace+c.stage, name).Inc(ctx, n)
		}
	}
	count("rows_in", int64(r.In))
	count("rows_kept", int64(r.Kept))
	count("rows_filtered", int64(r.Filtered))
	dead := 0
	for _, reason := range schemas.Reasons {
		count("rows_dead."+string(reason), int64(r.Reasons[reason]))
		dead += r.Reasons[reason]
	}
	count("rows_dead", int64(dead))
	count("rows_out", out.rows)
	count("tokens_out", out.tokens)
	count("bytes_out", out.bytes)
	count("batches", 1)
	c.carry += d
	count("ms", c.carry.Milliseconds())
	c.carry %= time.Millisecond
}

// CountResult counts for a source or another DoFn that is not put into a pipeline by Apply: out is its rows out.
func CountResult(ctx context.Context, stage string, r Result, out int, d time.Duration) {
	c := counters{stage: stage}
	all := passedOf(r.Out)
	all.rows = int64(out)
	c.add(ctx, r, all, d)
}

// Count adds to a stage's own counter, beside those every stage has.
func Count(ctx context.Context, stage, name string, n int) {
	beam.NewCounter(namespace+stage, name).Inc(ctx, int64(n))
}

// Counts are the counters of one stage over a run.
type Counts struct {
	Stage                         string
	In, Kept, Filtered, Dead, Out int64
	Tokens, Bytes                 int64 // of the rows out
	Batches, Millis               int64
	Reasons                       map[schemas.Reason]int64
	Other                         map[string]int64 // what the stage counts for itself
}

// LostRowsError says that a stage was given rows of which nothing became.
type LostRowsError struct {
	Stage                    string
	In, Kept, Dead, Filtered int64
}

func (e *LostRowsError) Error() string {
	lost, verb := e.In-e.Kept-e.Dead-e.Filtered, "loses"
	if lost < 0 {
		lost, verb = -lost, "invents"
	}
	return fmt.Sprintf("stage %s %s %d rows: %d in, %d kept, %d dead, %d filtered", e.Stage, verb, lost, e.In, e.Kept, e.Dead, e.Filtered)
}

// CountsOf reads the counters of all stages from the result of a run, by stage name in order.
func CountsOf(r beam.PipelineResult) []Counts {
	if r == nil {
		return nil
	}
	return gather(r.Metrics().Query(func(s beam.MetricResult) bool { return strings.HasPrefix(s.Namespace(), namespace) }).Counters())
}

func gather(all []metrics.CounterResult) []Counts {
	by := map[string]*Counts{}
	for _, m := range all {
		name, ok := strings.CutPrefix(m.Key.Namespace, namespace)
		if !ok {
			continue
		}
		c := by[name]
		if c == nil {
			c = &Counts{Stage: name, Reasons: map[schemas.Reason]int64{}, Other: map[string]int64{}}
			by[name] = c
		}
		n := m.Result()
		switch m.Key.Name {
		case "rows_in":
			c.In += n
		case "rows_kept":
			c.Kept += n
		case "rows_filtered":
			c.Filtered += n
		case "rows_dead":
			c.Dead += n
		case "rows_out":
			c.Out += n
		case "tokens_out":
			c.Tokens += n
		case "bytes_out":
			c.Bytes += n
		case "batches":
			c.Batches += n
		case "ms":
			c.Millis += n
		default:
			if reason, ok := strings.CutPrefix(m.Key.Name, "rows_dead."); ok {
				c.Reasons[schemas.Reason(reason)] += n
			} else {
				c.Other[m.Key.Name] += n
			}
		}
	}
	out := make([]Counts, 0, len(by))
	for _, c := range by {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Counts) int { return strings.Compare(a.Stage, b.Stage) })
	return out
}

// Conserved checks that no stage of a run lost rows: in = kept + dead + filtered for each. The error is a *LostRowsError
// naming the stage.
func Conserved(r beam.PipelineResult) error { return conserved(CountsOf(r)) }

func conserved(counts []Counts) error {
	for _, c := range counts {
		if c.In != c.Kept+c.Dead+c.Filtered {
			return &LostRowsError{Stage: c.Stage, In: c.In, Kept: c.Kept, Dead: c.Dead, Filtered: c.Filtered}
		}
	}
	return nil
}
