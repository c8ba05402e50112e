package view

import (
	"context"
	"net/url"
	"time"
)

// Frame is what a component may know of the page that it is in: what is the same
// for all of a page, so that no component has to be told. The package web puts
// it into the context of each rendering.
type Frame struct {
	Now time.Time
	URL *url.URL // the page's own address
	// Choices are what the reader chose for the tables, by their ID.
	Choices func(table string) Choice
}

type frameKey struct{}

// WithFrame puts a frame into the context of a rendering.
func WithFrame(ctx context.Context, f Frame) context.Context {
	return context.WithValue(ctx, frameKey{}, f)
}

// frame is the frame of a rendering. Without one the time is now, and the page
// is nowhere.
func frame(ctx context.Context) Frame {
	f, ok := ctx.Value(frameKey{}).(Frame)
	if !ok {
		f.Now = time.Now().UTC()
	}
	if f.URL == nil {
		f.URL = &url.URL{}
	}
	if f.Choices == nil {
		f.Choices = func(string) Choice { return Choice{} }
	}
	return f
}

// here is the page's address with some parameters set anew; an empty value takes
// one out. What pages through a list begins again, unless it is set itself.
func (f Frame) here(set ...string) string {
	query := f.URL.Query()
	for _, name := range []string{"after", "before", "open"} {
		query.Del(name)
	}
	for n := 0; n+1 < len(set); n += 2 {
		query.Del(set[n])
		if set[n+1] != "" {
			query.Set(set[n], set[n+1])
		}
	}
	if len(query) == 0 {
		return f.URL.Path
	}
	return f.URL.Path + "?" + query.Encode()
}
