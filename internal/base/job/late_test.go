package job_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/job"
)

func TestWhatIsLateIsCounted(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		q, _ := queue(t, d)
		q.Handle("look", job.Options{}, func(context.Context, string) error { return errors.New("never") })
		enqueue := func(at time.Time, row string) {
			t.Helper()
			err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error { return q.EnqueueAt(ctx, tx, at, "look", row) })
			if err != nil {
				t.Fatal(err)
			}
		}
		count := func(at time.Time) int {
			t.Helper()
			late, failing, err := q.Late(t.Context(), at)
			if err != nil || len(failing) > 0 {
				t.Fatal(failing, err)
			}
			return late
		}
		now := time.Now()
		if n := count(now.Add(time.Hour)); n != 0 {
			t.Errorf("%d of no jobs are late", n)
		}
		enqueue(now, "a")
		enqueue(now.Add(30*time.Minute), "b")
		for after, want := range map[time.Duration]int{-time.Minute: 0, 10 * time.Minute: 1, time.Hour: 2} {
			if n := count(now.Add(after)); n != want {
				t.Errorf("at %s: %d are late, not %d", after, n, want)
			}
		}
	})
}

func TestWhatFailsAgainAndAgainIsCounted(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		q, _ := queue(t, d)
		q.Handle("look", job.Options{}, func(context.Context, string) error { return errors.New("never") })
		if err := q.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for n := range 4 {
			if _, failing, err := q.Late(t.Context(), time.Now()); err != nil || len(failing) > 0 {
				t.Fatalf("after %d failures: %v, %v", n, failing, err)
			}
			// To ask again brings forward what waits to be tried again.
			err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error { return q.Enqueue(ctx, tx, "look", "a") })
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			q.Drain(t, ctx)
			cancel()
		}
		if _, failing, err := q.Late(t.Context(), time.Now()); err != nil || failing["look"] != 1 {
			t.Error(failing, err)
		}
	})
}
