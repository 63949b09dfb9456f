package stage

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/millrace/millrace/schemas"
)

type logAttrsKey struct{}

// WithLogAttrs adds attributes to every line that is logged with the context, by the stage itself or by a model it calls.
// They stand in place of those of the same key.
func WithLogAttrs(ctx context.Context, attrs ...slog.Attr) context.Context {
	all := slices.DeleteFunc(slices.Clone(LogAttrs(ctx)), func(old slog.Attr) bool {
		return slices.ContainsFunc(attrs, func(a slog.Attr) bool { return a.Key == old.Key })
	})
	return context.WithValue(ctx, logAttrsKey{}, append(all, attrs...))
}

// LogAttrs are the attributes that the context carries for the log.
func LogAttrs(ctx context.Context) []slog.Attr {
	attrs, _ := ctx.Value(logAttrsKey{}).([]slog.Attr)
	return attrs
}

// logged says in the log which rows a stage works on: run, iteration, stage, record.
func logged(ctx context.Context, stage string, b Batch) context.Context {
	if m := b.Meta(); m.Run != "" {
		ctx = WithLogAttrs(ctx, slog.String("run", m.Run), slog.Int("iteration", m.Iteration))
	}
	return WithLogAttrs(ctx, slog.String("stage", stage), slog.Any("record", recordName{b}))
}

// recordName names a record by its first row or prompt, only once a line is written.
type recordName struct{ batch Batch }

// LogValue implements slog.LogValuer.
func (r recordName) LogValue() slog.Value {
	if r.batch.Has(schemas.PromptID) {
		if ids := schemas.PromptID.Of(r.batch); len(ids) > 0 {
			return slog.StringValue(ids[0].String())
		}
	}
	if ids := r.batch.RowIDs(); len(ids) > 0 {
		return slog.StringValue(ids[0].String())
	}
	return slog.StringValue("")
}

// seen remembers of which kinds of dead letters one was logged as a warning.
var seen sync.Map

type deadKind struct {
	run, stage string
	reason     schemas.Reason
}

// logDead logs the rows that a stage set aside: the first of a reason as a warning, since the run goes on without them, the
// others for those who look closer.
func logDead(ctx context.Context, stage string, m schemas.Meta, res Result) {
	for _, reason := range schemas.Reasons {
		n := res.Reasons[reason]
		if n == 0 {
			continue
		}
		level := slog.LevelDebug
		if _, known := seen.LoadOrStore(deadKind{m.Run, stage, reason}, true); !known {
			level = slog.LevelWarn
		}
		if slog.Default().Enabled(ctx, level) {
			attrs := []slog.Attr{slog.String("reason", string(reason)), slog.Int("rows", n)}
			if text := exampleOf(res.Dead, reason); text != "" {
				attrs = append(attrs, slog.String("example", text))
			}
			slog.LogAttrs(ctx, level, "rows set aside", attrs...)
		}
	}
}

// maxExample bounds the message of a dead letter in the log, in bytes; the letter has all of it.
const maxExample = 300

// exampleOf is the message of the first letter of a reason.
func exampleOf(dead []Batch, reason schemas.Reason) string {
	for _, b := range dead {
		reasons, messages := schemas.DeadReason.Of(b), schemas.DeadMessage.Of(b)
		for i := range b.NumRows() {
			if reasons.At(i) == string(reason) {
				text := messages.At(i)
				return strings.ToValidUTF8(text[:min(len(text), maxExample)], "")
			}
		}
	}
	return ""
}
