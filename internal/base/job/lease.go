package job

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"airlock/internal/base/db"
)

// River gives up on a job that runs when it has run for long, whatever it does.
// A server that is killed shall not hold its jobs that long, nor one that lives
// lose them. So on PostgreSQL each server renews what it runs, and what wasn't
// renewed is taken from it. On SQLite there is no other server: what runs at the
// start was cut off.
const (
	lease = 12 * time.Second
	beat  = 3 * time.Second
)

// takeOver frees what a killed server on SQLite held, its lead among the clients
// of River as well.
func takeOver(ctx context.Context, tx *db.Tx) error {
	if tx.Engine() == db.Postgres {
		return nil
	}
	for _, statement := range []string{
		`UPDATE river_job SET state = 'available', scheduled_at = datetime('now', 'subsec') WHERE state = 'running'`,
		`DELETE FROM river_leader`,
	} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// keepLeases renews the leases of our jobs and takes those that are over; and it
// wakes what is due.
func (q *Queue) keepLeases(ctx context.Context) {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		if err := q.renew(ctx); err != nil && ctx.Err() == nil {
			q.log.WarnContext(ctx, "the leases of running jobs weren't renewed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (q *Queue) renew(ctx context.Context) error {
	held := q.held()
	return q.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		if len(held) > 0 {
			if _, err := tx.Exec(ctx, `UPDATE river_job SET attempted_at = now() WHERE state = 'running' AND id IN `+
				db.In(1, len(held)), held...); err != nil {
				return err
			}
		}
		taken, err := tx.Exec(ctx, fmt.Sprintf(`UPDATE river_job SET state = 'available', scheduled_at = now()
			WHERE state = 'running' AND attempted_at < now() - INTERVAL '%d seconds'`, int(lease.Seconds())))
		if err == nil && taken > 0 {
			tx.AfterCommit(func() { q.log.WarnContext(ctx, "jobs of a server that has gone run again", "jobs", taken) })
		}
		if err != nil {
			return err
		}
		// What is due is found by one of the replicas, and for some time by none if
		// that one is killed.
		_, err = tx.Exec(ctx, `UPDATE river_job SET state = 'available' WHERE state IN ('scheduled', 'retryable') AND scheduled_at <= now()`)
		return err
	})
}

func (q *Queue) hold(id int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running[id] = struct{}{}
}

func (q *Queue) release(id int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, id)
}

func (q *Queue) held() []any {
	q.mu.Lock()
	defer q.mu.Unlock()
	var ids []any
	for _, id := range slices.Sorted(maps.Keys(q.running)) {
		ids = append(ids, id)
	}
	return ids
}
