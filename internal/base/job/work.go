package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivertype"

	"airlock/internal/base/db"
	"airlock/internal/base/trace"
)

// args are River's job: one kind for all of ours.
type args struct {
	Name string `json:"kind"`
	Row  string `json:"row"`
	At   int64  `json:"at,omitempty"` // milliseconds: when it is due it enqueues one without
}

// Kind is River's name of it.
func (args) Kind() string { return "look" }

// again is what a running job's output says when it is to be run once more.
const again = "again"

type worker struct {
	river.WorkerDefaults[args]
	queue *Queue
}

// Work does a job.
func (w *worker) Work(ctx context.Context, j *river.Job[args]) error {
	q := w.queue
	q.hold(j.ID)
	defer q.release(j.ID)
	if j.Args.At != 0 {
		if wait := time.Until(time.UnixMilli(j.Args.At)); wait > 0 { // the database's clock is ahead
			return river.JobSnooze(wait)
		}
		return q.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := q.Enqueue(ctx, tx, j.Args.Name, j.Args.Row); err != nil {
				return err
			}
			return q.complete(ctx, tx, j)
		})
	}
	ctx = trace.With(ctx, "job", j.Args.Name)
	if j.Args.Row != "" { // a sweep is about none
		ctx = trace.With(ctx, "row", j.Args.Row)
	}
	h, known := q.handlers[j.Args.Name]
	err := fmt.Errorf("this version has no handler of jobs %q", j.Args.Name)
	if known {
		err = h.run(ctx, j.Args.Row)
	}
	_, givenUp := errors.AsType[cancelled](err)
	switch {
	case err == nil:
	case ctx.Err() != nil: // the server stops: it is run again after the next start
		return ctx.Err()
	case givenUp:
		q.log.ErrorContext(ctx, "a job failed and was given up", "error", err)
	case h.sweep:
		q.log.WarnContext(ctx, "a sweep failed; it is done again at the next interval", "error", err)
	default:
		failures := failed(j.JobRow)
		wait := backoff(failures)
		q.log.WarnContext(ctx, "a job failed and is tried again", "error", err, "failures", failures+1, "in", wait)
		return river.JobSnooze(wait)
	}
	// Done is done, even if the server stops meanwhile.
	return q.db.Write(context.WithoutCancel(ctx), func(ctx context.Context, tx *db.Tx) error { return q.complete(ctx, tx, j) })
}

// complete ends a job, and enqueues it anew if it was asked for while it ran.
// That is told apart by the lock on the job's row, which Enqueue takes as well.
func (q *Queue) complete(ctx context.Context, tx *db.Tx, j *river.Job[args]) error {
	done, err := river.JobCompleteTx[*riversqlite.Driver](ctx, tx.SQL(), j) // of any driver; the client has it
	if err != nil && !errors.Is(err, river.ErrNotFound) {
		return fmt.Errorf("end a job %s: %w", j.Args.Name, err)
	}
	tx.AfterCommit(func() {
		select {
		case q.nudge <- struct{}{}:
		default:
		}
	})
	if done == nil || done.Output() == nil {
		return nil
	}
	return q.Enqueue(ctx, tx, j.Args.Name, j.Args.Row)
}

func (h handler) run(ctx context.Context, row string) (err error) {
	timeout := h.Timeout
	switch {
	case timeout > 0:
	case h.Slow:
		timeout = time.Hour
	default:
		timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
		}
	}()
	return h.do(ctx, row)
}

// failed is how often a job has failed: River counts its snoozes.
func failed(row *rivertype.JobRow) int {
	var counted struct{ Snoozes int }
	if json.Unmarshal(row.Metadata, &counted) != nil {
		return 0
	}
	return counted.Snoozes
}

// backoff is how long to wait after so many failures: 1 s, 2 s, 4 s, … 5 min, by
// chance up to a fifth longer.
func backoff(failures int) time.Duration {
	wait := min(time.Second<<min(failures, 10), 5*time.Minute)
	return wait + rand.N(wait/5)
}

// NextRetry is when River tries a job again that isn't snoozed, since it couldn't
// be written that it was done.
func (w *worker) NextRetry(j *river.Job[args]) time.Time { return time.Now().Add(backoff(j.Attempt)) }

// Timeout tells River to set none: a job is cut off by its own handler's, and
// when its lease is over.
func (w *worker) Timeout(*river.Job[args]) time.Duration { return -1 }
