// Package job is durable work that is done after the transaction which asked
// for it, on any of the replicas.
//
// There is one kind of work: look at a row again. A job carries the name of a
// handler and the id of a row, nothing else; what is to be done stands in the
// row. So a job may be done twice, or late, or be lost with the queue's tables
// without harm, as long as a sweep finds what is due.
//
// What holds: a job that is enqueued in a transaction runs after its commit, and
// reads what that transaction wrote. Of one handler and row a single job runs at
// a time, on all replicas together. Equal jobs that wait are one; a job that is
// enqueued while its like runs is run once more afterwards. A job that fails is
// tried again for ever. A server that is killed holds its jobs for some seconds
// more, and then they run elsewhere.
//
// Below it lies River (riverqueue.com), which only this package knows.
package job

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"

	"airlock/internal/base/db"
)

// Options say how jobs of a kind are done.
type Options struct {
	// Timeout ends the handler's context. Zero is a minute, or an hour where Slow.
	Timeout time.Duration
	// Slow jobs have workers of their own, so that they don't keep the others.
	Slow bool
}

type handler struct {
	Options
	do    func(ctx context.Context, row string) error
	sweep bool
}

// Queue is the queue of a database.
type Queue struct {
	db       *db.DB
	log      *slog.Logger
	driver   riverdriver.Driver[*sql.Tx]
	client   *river.Client[*sql.Tx]
	listener *pgxpool.Pool // nil on SQLite
	handlers map[string]handler
	sweeps   []string // the kinds of Every

	mu      sync.Mutex
	running map[int64]struct{} // ids of River's jobs that run in this process

	nudge chan struct{} // a job ended
	keep  context.CancelFunc
	kept  sync.WaitGroup
}

const (
	quick, slow = "quick", "slow"

	grace = 2 * time.Second // that jobs have to end once they are cancelled
)

// New makes the queue of a database.
func New(d *db.DB, log *slog.Logger) (*Queue, error) {
	q := &Queue{
		db: d, log: log,
		handlers: map[string]handler{}, running: map[int64]struct{}{},
		nudge: make(chan struct{}, 1), keep: func() {},
	}
	if d.Engine() == db.Postgres {
		listener, err := d.Listener(context.Background())
		if err != nil {
			return nil, fmt.Errorf("open the job queue: %w", err)
		}
		q.listener = listener
		q.driver = riverdatabasesql.NewWithPgxListener(d.Writer(), listener)
	} else {
		q.driver = riversqlite.New(d.Writer())
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{queue: q})
	client, err := river.NewClient(q.driver, &river.Config{
		Workers: workers,
		Queues: map[string]river.QueueConfig{
			quick: {MaxWorkers: 10},
			slow:  {MaxWorkers: max(2, runtime.GOMAXPROCS(0))},
		},
		FetchCooldown:               time.Millisecond,       // what is enqueued sooner after another is noticed by polling only
		FetchPollInterval:           500 * time.Millisecond, // where a notification was missed
		JobTimeout:                  -1,                     // ours are by kind
		CompletedJobRetentionPeriod: 10 * time.Minute,
		Logger:                      slog.New(warnings{log.Handler()}),
	})
	if err != nil {
		return nil, fmt.Errorf("open the job queue: %w", err)
	}
	q.client = client
	return q, nil
}

// Migrate makes the queue's own tables. Several servers may do so at once.
func (q *Queue) Migrate(ctx context.Context) error {
	return q.db.Exclusively(ctx, func(ctx context.Context) error {
		migrator, err := rivermigrate.New(q.driver, &rivermigrate.Config{Logger: slog.New(warnings{q.log.Handler()})})
		if err != nil {
			return fmt.Errorf("migrate the job queue: %w", err)
		}
		if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
			return fmt.Errorf("migrate the job queue: %w", err)
		}
		return nil
	})
}

// Handle says how jobs of a kind are done; all is said before Start. The handler
// re-reads the row's state before it acts. Its context ends with the timeout, and
// when a stopping server has waited long enough. If it fails, or panics, it is
// called again later: after a second, then after longer, at last every five
// minutes. Cancel says that it shall not.
func (q *Queue) Handle(kind string, o Options, do func(ctx context.Context, row string) error) {
	q.handlers[kind] = handler{Options: o, do: do}
}

// Every does something at an interval, on one replica at a time, and also once at
// each start. If it fails it is done again at the next interval.
func (q *Queue) Every(kind string, interval time.Duration, do func(ctx context.Context) error) {
	q.handlers[kind] = handler{sweep: true, do: func(ctx context.Context, _ string) error { return do(ctx) }}
	q.sweeps = append(q.sweeps, kind)
	q.client.PeriodicJobs().Add(river.NewPeriodicJob(
		river.PeriodicInterval(interval),
		func() (river.JobArgs, *river.InsertOpts) { return args{Name: kind}, q.options(kind, time.Time{}) },
		nil,
	))
}

// Cancel makes of an error one after which a job isn't tried again.
func Cancel(err error) error { return cancelled{err} }

type cancelled struct{ error }

func (c cancelled) Unwrap() error { return c.error }

// Enqueue asks for a look at a row after the commit. It is one with an equal job
// that waits, and brings forward one that waits to be tried again.
func (q *Queue) Enqueue(ctx context.Context, tx *db.Tx, kind, row string) error {
	wanted := args{Name: kind, Row: row}
	// This locks the row of an equal job, so that none is begun before our commit.
	inserted, err := q.client.InsertTx(ctx, tx.SQL(), wanted, q.options(kind, time.Time{}))
	switch {
	case err != nil:
	case !inserted.UniqueSkippedAsDuplicate:
	case inserted.Job.State == rivertype.JobStateRunning:
		// It may have read the row already: whoever runs it runs it once more.
		_, err = q.client.JobUpdateTx(ctx, tx.SQL(), inserted.Job.ID, &river.JobUpdateParams{Output: again})
	default:
		_, err = q.client.JobRetryTx(ctx, tx.SQL(), inserted.Job.ID)
	}
	if err != nil {
		return fmt.Errorf("enqueue a job %s: %w", kind, err)
	}
	return nil
}

// EnqueueAt asks for a look at a row not before a time. It is one with an equal
// job of the same time only.
func (q *Queue) EnqueueAt(ctx context.Context, tx *db.Tx, at time.Time, kind, row string) error {
	if !at.After(time.Now()) {
		return q.Enqueue(ctx, tx, kind, row)
	}
	// SQLite keeps milliseconds, rounded.
	at = at.Add(time.Millisecond - 1).Truncate(time.Millisecond)
	if _, err := q.client.InsertTx(ctx, tx.SQL(), args{Name: kind, Row: row, At: at.UnixMilli()}, q.options(kind, at)); err != nil {
		return fmt.Errorf("enqueue a job %s: %w", kind, err)
	}
	return nil
}

func (q *Queue) options(kind string, at time.Time) *river.InsertOpts {
	o := &river.InsertOpts{Queue: quick, ScheduledAt: at, MaxAttempts: math.MaxInt16, UniqueOpts: river.UniqueOpts{
		ByArgs: true,
		ByState: []rivertype.JobState{
			rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable,
			rivertype.JobStateRunning, rivertype.JobStateScheduled,
		},
	}}
	if q.handlers[kind].Slow && at.IsZero() {
		o.Queue = slow
	}
	return o
}

// Start begins to do jobs, until Stop.
func (q *Queue) Start(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // the order of stopping is the caller's
	if err := q.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := takeOver(ctx, tx); err != nil {
			return err
		}
		for _, kind := range q.sweeps {
			if err := q.Enqueue(ctx, tx, kind, ""); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("start the job queue: %w", err)
	}
	if err := q.client.Start(ctx); err != nil {
		return fmt.Errorf("start the job queue: %w", err)
	}
	if q.db.Engine() == db.Postgres {
		keeping, cancel := context.WithCancel(ctx)
		q.keep = cancel
		q.kept.Go(func() { q.keepLeases(keeping) })
	}
	return nil
}

// Stop begins no more jobs and waits for those that run. When the context ends
// they are cancelled, and run again after the next start.
func (q *Queue) Stop(ctx context.Context) error {
	err := q.client.Stop(ctx)
	if ctx.Err() != nil {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		err = q.client.StopAndCancel(ending)
	}
	q.keep()
	q.kept.Wait()
	if q.listener != nil {
		q.listener.Close()
	}
	if err != nil {
		return fmt.Errorf("stop the job queue: jobs still run, and will run again: %w", err)
	}
	return nil
}

// warnings lets only warnings through: River tells much.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

func (w warnings) WithAttrs(list []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(list)}
}

func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }
