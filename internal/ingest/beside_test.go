package ingest

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
)

func TestTheFirstThatFailsStopsWhatRunsBesideIt(t *testing.T) {
	errFirst := errors.New("first")
	waits := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	fails := func(context.Context) error { return errFirst }
	if err := beside(t.Context(), fails, waits); !errors.Is(err, errFirst) {
		t.Errorf("%v", err)
	}
	if err := beside(t.Context(), waits, fails); !errors.Is(err, errFirst) {
		t.Errorf("%v", err)
	}
	err := beside(t.Context(), waits, func(context.Context) error { panic("at the disco") })
	if err == nil || !strings.Contains(err.Error(), "at the disco") {
		t.Errorf("%v", err)
	}
	both := 0
	done := make(chan struct{})
	err = beside(t.Context(), func(context.Context) error { <-done; both++; return nil }, func(context.Context) error { both++; close(done); return nil })
	if err != nil || both != 2 {
		t.Errorf("%d, %v", both, err)
	}
	stopped := false
	func() {
		defer func() { _ = recover() }()
		_ = beside(t.Context(), func(context.Context) error { panic("here") }, func(ctx context.Context) error { <-ctx.Done(); stopped = true; return nil })
	}()
	if !stopped {
		t.Error("what ran beside a panic wasn't waited for")
	}
}

func TestAListIsReadAheadInItsOrderUpToWhatIsWrongWithIt(t *testing.T) {
	numbers := func(end func(yield func(int, error) bool)) iter.Seq2[int, error] {
		return func(yield func(int, error) bool) {
			for n := range 1000 {
				if !yield(n, nil) {
					return
				}
			}
			end(yield)
		}
	}
	errWrong := errors.New("wrong")
	for _, one := range []struct {
		name string
		end  func(yield func(int, error) bool)
		bad  func(error) bool
	}{
		{"whole", func(func(int, error) bool) {}, func(err error) bool { return err == nil }},
		{"failed", func(yield func(int, error) bool) { yield(0, errWrong) }, func(err error) bool { return errors.Is(err, errWrong) }},
		{"panicked", func(func(int, error) bool) { panic("at the disco") }, func(err error) bool {
			_, ok := errors.AsType[*panicked](err)
			return ok
		}},
	} {
		t.Run(one.name, func(t *testing.T) {
			var got []int
			var failed error
			for n, err := range ahead(numbers(one.end)) {
				if failed = err; err == nil {
					got = append(got, n)
				}
			}
			if !one.bad(failed) {
				t.Errorf("it ended with %v", failed)
			}
			if !slices.IsSorted(got) || len(got) < 768 || failed == nil && len(got) != 1000 {
				t.Errorf("%d numbers", len(got))
			}
		})
	}
	left := false
	for n := range ahead(func(yield func(int, error) bool) {
		defer func() { left = true }()
		for n := 0; yield(n, nil); n++ {
		}
	}) {
		if n == 300 {
			break
		}
	}
	if !left {
		t.Error("the list was still read when nobody wanted more of it")
	}
}
