// Package trace carries the ids of what is being done (a request, a task, a
// connector) in the context, into each line of the log and into the audit log.
package trace

import (
	"context"
	"log/slog"
	"slices"
)

type key struct{}

// With adds an id, such as ("task", "2a…"), to what is being done. It stands in
// place of another of that name.
func With(ctx context.Context, name, id string) context.Context {
	list := slices.DeleteFunc(slices.Clone(attrs(ctx)), func(a slog.Attr) bool { return a.Key == name })
	return context.WithValue(ctx, key{}, append(list, slog.String(name, id)))
}

// ID is the id of that name, or nothing.
func ID(ctx context.Context, name string) string {
	for _, a := range attrs(ctx) {
		if a.Key == name {
			return a.Value.String()
		}
	}
	return ""
}

func attrs(ctx context.Context) []slog.Attr {
	list, _ := ctx.Value(key{}).([]slog.Attr)
	return list
}

// Handler adds the context's ids to each line that a handler writes.
func Handler(inner slog.Handler) slog.Handler { return handler{inner} }

type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, record slog.Record) error {
	record = record.Clone() // it may be another handler's as well
	record.AddAttrs(attrs(ctx)...)
	return h.Handler.Handle(ctx, record)
}

func (h handler) WithAttrs(list []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(list)}
}

func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }
