package job

import (
	"context"
	"time"

	"github.com/riverqueue/river"

	"airlock/internal/base/db"
)

// Drain waits until no job is due and none runs, for tests. Jobs of a later time
// aren't waited for, nor those that failed and wait to be tried again.
func (q *Queue) Drain(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, ctx context.Context, //nolint:revive // in a test, t comes first
) {
	t.Helper()
	now := map[db.Engine]string{db.SQLite: "datetime('now', 'subsec')", db.Postgres: "now()"}[q.db.Engine()]
	events, cancel := q.client.Subscribe(river.EventKindJobCancelled, river.EventKindJobCompleted, river.EventKindJobFailed, river.EventKindJobSnoozed)
	defer cancel()
	for {
		left, err := db.Value[int](ctx, q.db, `SELECT count(*) FROM river_job WHERE state = 'running'
			OR (state IN ('available', 'retryable', 'scheduled') AND scheduled_at <= `+now+`)`)
		switch {
		case err != nil:
			t.Fatalf("drain the job queue: %v", err)
		case left == 0:
			return
		}
		select {
		case <-events:
		case <-q.nudge:
		case <-time.After(100 * time.Millisecond): // what another queue of the database does isn't told here
		case <-ctx.Done():
			t.Fatalf("drain the job queue: %d jobs are left: %v", left, ctx.Err())
		}
	}
}
