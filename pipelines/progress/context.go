package progress

import "context"

type key struct{}

// With is a context that carries the progress of a run, for what is done in it to show its own.
func With(ctx context.Context, r Run) context.Context { return context.WithValue(ctx, key{}, r) }

// From is the Run that the context carries, a silent one when there is none.
func From(ctx context.Context) Run {
	if r, ok := ctx.Value(key{}).(Run); ok {
		return r
	}
	return Silent()
}
