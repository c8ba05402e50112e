package trace

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"
)

func logger(out *bytes.Buffer) *slog.Logger {
	return slog.New(Handler(slog.NewTextHandler(out, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})))
}

func TestIDsAreInEachLine(t *testing.T) {
	var out bytes.Buffer
	ctx := With(With(context.Background(), "request", "r1"), "task", "t1")
	logger(&out).With("a", 1).InfoContext(ctx, "done", "b", 2)
	if got, want := out.String(), "level=INFO msg=done a=1 b=2 request=r1 task=t1\n"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	if ID(ctx, "request") != "r1" || ID(ctx, "task") != "t1" || ID(ctx, "connector") != "" || ID(context.Background(), "task") != "" {
		t.Error("the context has other ids")
	}
}

func TestAnIDStandsInPlaceOfItsLike(t *testing.T) {
	var out bytes.Buffer
	outer := With(With(context.Background(), "task", "t1"), "request", "r1")
	inner := With(outer, "task", "t2")
	logger(&out).InfoContext(inner, "done")
	if got, want := out.String(), "level=INFO msg=done request=r1 task=t2\n"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	if ID(outer, "task") != "t1" || ID(inner, "task") != "t2" {
		t.Error("the outer context changed with the inner")
	}
}

func TestBranchesOfAContextDontMix(t *testing.T) {
	base := With(context.Background(), "request", "r1")
	a, b := With(base, "task", "a"), With(base, "task", "b")
	if ID(a, "task") != "a" || ID(b, "task") != "b" || ID(base, "task") != "" {
		t.Error("what one branch adds is seen in another")
	}
}

func TestOneRecordServesSeveralHandlers(t *testing.T) {
	var out bytes.Buffer
	h := logger(&out).Handler()
	record := slog.NewRecord(time.Time{}, slog.LevelInfo, "done", 0)
	record.AddAttrs(slog.Int("1", 1), slog.Int("2", 2), slog.Int("3", 3), slog.Int("4", 4), slog.Int("5", 5), slog.Int("6", 6))
	for _, id := range []string{"a", "b"} {
		if err := h.Handle(With(context.Background(), "task", id), record); err != nil {
			t.Fatal(err)
		}
	}
	const line = "level=INFO msg=done 1=1 2=2 3=3 4=4 5=5 6=6 task="
	if got, want := out.String(), line+"a\n"+line+"b\n"; got != want {
		t.Errorf("lines %q, want %q", got, want)
	}
}
