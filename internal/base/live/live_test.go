package live_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/live"
)

const wait = 30 * time.Second // for what comes at once on an idle machine

func hub(t *testing.T, d *db.DB) *live.Hub {
	t.Helper()
	h := live.New(d, slog.New(slog.DiscardHandler))
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	return h
}

func subscribe(t *testing.T, h *live.Hub, topics ...string) *live.Subscription {
	t.Helper()
	s := h.Subscribe(topics...)
	t.Cleanup(s.Close)
	return s
}

func hear(t *testing.T, s *live.Subscription) string {
	t.Helper()
	select {
	case topic := <-s.C():
		return topic
	case <-time.After(wait):
		t.Fatal("nothing is heard")
		return ""
	}
}

// silent tells a topic of its own and fails if another is heard before it.
func silent(t *testing.T, tell func(topic string), s *live.Subscription, mark string) {
	t.Helper()
	tell(mark)
	if topic := hear(t, s); topic != mark {
		t.Errorf("%q is heard", topic)
	}
}

func TestATopicIsHeardAfterTheCommitOnly(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := hub(t, d)
		s := subscribe(t, h, "a", "b", "mark")
		publish := func(topic string, failure error) {
			t.Helper()
			if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				if err := h.Publish(ctx, tx, topic); err != nil {
					return err
				}
				h.Tell(t.Context(), "mark")
				if topic := hear(t, s); topic != "mark" {
					t.Errorf("%q is heard before the commit", topic)
				}
				return failure
			}); !errors.Is(err, failure) {
				t.Fatal(err)
			}
		}
		publish("a", nil)
		if topic := hear(t, s); topic != "a" {
			t.Errorf("%q is heard", topic)
		}
		publish("b", errors.New("no"))
		silent(t, func(topic string) { h.Tell(t.Context(), topic) }, s, "mark")
	})
}

func TestReplicasHearEachOther(t *testing.T) {
	d := dbtest.Open(t, db.Postgres)
	one, two := hub(t, d), hub(t, d)
	here, there := subscribe(t, one, "a", "b", "mark"), subscribe(t, two, "a", "b", "mark")
	if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error { return one.Publish(ctx, tx, "other", "a") }); err != nil {
		t.Fatal(err)
	}
	one.Tell(t.Context(), "b")
	for _, s := range []*live.Subscription{here, there} {
		if got := []string{hear(t, s), hear(t, s)}; !slices.Contains(got, "a") || !slices.Contains(got, "b") {
			t.Errorf("%q is heard", got)
		}
	}
	// A hub doesn't hear itself a second time.
	silent(t, func(topic string) { two.Tell(t.Context(), topic) }, here, "mark")
	if topic := hear(t, there); topic != "mark" {
		t.Errorf("%q is heard", topic)
	}
}

func TestManyAndLongTopicsAreHeard(t *testing.T) {
	d := dbtest.Open(t, db.Postgres)
	one, two := hub(t, d), hub(t, d)
	var topics []string
	for n := range 200 {
		topics = append(topics, fmt.Sprintf("connector/%027d", n))
	}
	long := strings.Repeat("é", 3900)
	topics = append(topics, long, "last")
	s := subscribe(t, two, topics...)
	if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error { return one.Publish(ctx, tx, topics...) }); err != nil {
		t.Fatal(err)
	}
	var heard []string
	for range topics {
		heard = append(heard, hear(t, s))
	}
	if diff := cmp.Diff(topics, heard); diff != "" {
		t.Error(diff)
	}
	for _, wrong := range []string{strings.Repeat("x", 8000), "two\nlines"} {
		if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error { return one.Publish(ctx, tx, wrong) }); err == nil {
			t.Errorf("%.10q was published", wrong)
		}
	}
}

func TestWhatWasMissedIsMadeGood(t *testing.T) {
	d := dbtest.Open(t, db.Postgres)
	one, two := hub(t, d), hub(t, d)
	s := subscribe(t, two, "a", "b")
	one.Tell(t.Context(), "a")
	hear(t, s)
	for range 2 {
		killed, err := db.Value[int](t.Context(), d,
			`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN airlock_live'`)
		if err != nil || killed != 2 {
			t.Fatalf("%d connections listened, %v", killed, err)
		}
		// Told into the gap or not: the subscriber looks again at all of its topics.
		if got := []string{hear(t, s), hear(t, s)}; !slices.Contains(got, "a") || !slices.Contains(got, "b") {
			t.Errorf("%q is heard", got)
		}
		one.Tell(t.Context(), "b")
		for hear(t, s) != "b" { // and hears on
		}
		listening := 0
		for listening < 2 { // the other hub connects at its own pace
			if listening, err = db.Value[int](t.Context(), d,
				`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN airlock_live'`); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAPublisherNeverWaits(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := hub(t, d)
		lazy := subscribe(t, h, "a", "b", "c") // hears nothing yet
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 100 {
					h.Tell(t.Context(), "a", "b", "c")
				}
			})
		}
		all.Wait()
		// What was told often comes once, or twice where the first was on its way.
		heard := map[string]int{}
		for len(heard) < 3 {
			heard[hear(t, lazy)]++
		}
		h.Tell(t.Context(), "c")
		hear(t, lazy)
		for topic, n := range heard {
			if n > 2 {
				t.Errorf("%q is heard %d times", topic, n)
			}
		}
	})
}

func TestAClosedSubscriptionHearsNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := hub(t, d)
		closed, open := h.Subscribe("a", "a"), subscribe(t, h, "a")
		h.Tell(t.Context(), "a") // which waits to be taken when it is closed
		closed.Close()
		closed.Close()
		for _, open := <-closed.C(); open; _, open = <-closed.C() { // what was on its way
			t.Log("one was on its way")
		}
		hear(t, open)
		h.Tell(t.Context(), "a")
		hear(t, open)
	})
}

func TestSubscribersComeAndGoMeanwhile(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := hub(t, d)
		var all sync.WaitGroup
		for n := range 8 {
			all.Go(func() {
				for range 50 {
					topic := fmt.Sprint(n % 3)
					s := h.Subscribe(topic, "x")
					h.Tell(t.Context(), topic)
					if got := <-s.C(); got != topic {
						t.Errorf("%q is heard for %q", got, topic)
					}
					s.Close()
				}
			})
		}
		all.Wait()
	})
}

func TestAHubThatIsStoppedStillTellsItsOwn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := live.New(d, slog.New(slog.DiscardHandler))
		s := subscribe(t, h, "a")
		h.Tell(t.Context(), "a")
		hear(t, s)
		if err := h.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.Stop()
		h.Stop()
		h.Tell(t.Context(), "a")
		hear(t, s)
	})
}
