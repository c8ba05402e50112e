package job_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/job"
	"airlock/internal/base/trace"
)

const wait = 30 * time.Second // for what comes at once on an idle machine

// logged is a log that a test can look into.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) logger() *slog.Logger {
	return slog.New(trace.Handler(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})))
}

func queue(t *testing.T, d *db.DB) (*job.Queue, *logged) {
	t.Helper()
	log := new(logged)
	q, err := job.New(d, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), wait)
		defer cancel()
		if err := q.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return q, log
}

func start(t *testing.T, q *job.Queue) {
	t.Helper()
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	t.Cleanup(cancel)
	return ctx
}

func enqueue(t *testing.T, d *db.DB, q *job.Queue, kind string, rows ...string) {
	t.Helper()
	if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		for _, row := range rows {
			if err := q.Enqueue(ctx, tx, kind, row); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func receive[T any](t *testing.T, c <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-c:
	case <-time.After(wait):
		t.Fatal("nothing came")
	}
	return got
}

func TestAJobRunsAfterItsCommitOnly(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		q, log := queue(t, d)
		ran := make(chan string, 10)
		q.Handle("look", job.Options{}, func(ctx context.Context, row string) error {
			if _, err := db.Value[string](ctx, d, "SELECT name FROM secret WHERE name = $1", row); err != nil {
				t.Errorf("%s isn't there yet: %v", row, err)
			}
			if trace.ID(ctx, "job") != "look" || trace.ID(ctx, "row") != row {
				t.Error("the context doesn't tell the job")
			}
			ran <- row
			return nil
		})
		start(t, q)
		failure := errors.New("no")
		for _, row := range []string{"a", "b", "c"} {
			err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				if err := q.Enqueue(ctx, tx, "look", row); err != nil {
					return err
				}
				if row == "b" {
					return failure
				}
				_, err := tx.Exec(ctx, "INSERT INTO secret (name, sealed, updated_at) VALUES ($1, $2, 1)", row, []byte{1})
				return err
			})
			if row == "b" != errors.Is(err, failure) || row != "b" && err != nil {
				t.Fatal(err)
			}
		}
		q.Drain(t, within(t))
		close(ran)
		var rows string
		for row := range ran {
			rows += row
		}
		if rows != "ac" && rows != "ca" {
			t.Errorf("ran %q", rows)
		}
		if log.String() != "" {
			t.Errorf("it logs: %s", log)
		}
	})
}

func TestEqualJobsThatWaitAreOne(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		q, _ := queue(t, d)
		var mu sync.Mutex
		ran := map[string]int{}
		count := func(kind string) func(context.Context, string) error {
			return func(_ context.Context, row string) error {
				mu.Lock()
				defer mu.Unlock()
				ran[kind+row]++
				return nil
			}
		}
		q.Handle("quick", job.Options{}, count("quick"))
		q.Handle("slow", job.Options{Slow: true}, count("slow"))
		for range 3 {
			enqueue(t, d, q, "quick", "a", "a", "b")
			enqueue(t, d, q, "slow", "a")
		}
		start(t, q)
		q.Drain(t, within(t))
		for name, n := range map[string]int{"quicka": 1, "quickb": 1, "slowa": 1} {
			if ran[name] != n {
				t.Errorf("%s ran %d times", name, ran[name])
			}
		}
		enqueue(t, d, q, "quick", "a")
		q.Drain(t, within(t))
		if ran["quicka"] != 2 {
			t.Errorf("after the first has ended, it ran %d times", ran["quicka"])
		}
	})
}

func TestAJobEnqueuedWhileItsLikeRunsIsRunOnceMoreAfterwards(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		q, _ := queue(t, d)
		begun, end := make(chan int), make(chan error)
		runs := 0
		q.Handle("look", job.Options{}, func(context.Context, string) error {
			runs++ // one at a time, or the race detector tells
			begun <- runs
			return <-end
		})
		start(t, q)
		enqueue(t, d, q, "look", "a")
		receive(t, begun)
		for range 3 {
			enqueue(t, d, q, "look", "a")
		}
		end <- nil
		if n := receive(t, begun); n != 2 {
			t.Errorf("run %d", n)
		}
		enqueue(t, d, q, "look", "a")
		end <- job.Cancel(errors.New("given up, but asked for again"))
		receive(t, begun)
		end <- nil
		q.Drain(t, within(t))
		if runs != 3 {
			t.Errorf("it ran %d times", runs)
		}
	})
}

func TestNoWakeUpIsLost(t *testing.T) {
	t.Parallel()
	const rows, writers, times = 3, 4, 25
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		queues := 2
		if d.Engine() == db.SQLite {
			queues = 1
		}
		// The handler copies what it sees; at the end it must have seen the last.
		var seen [rows]atomic.Int64
		var running [rows]atomic.Int64
		var all []*job.Queue
		for range queues {
			q, _ := queue(t, d)
			q.Handle("look", job.Options{}, func(ctx context.Context, row string) error {
				n := row[0] - '0'
				if running[n].Add(1) > 1 {
					t.Error("two jobs of a row run at a time")
				}
				defer running[n].Add(-1)
				value, err := db.Value[int64](ctx, d, "SELECT updated_at FROM secret WHERE name = $1", row)
				seen[n].Store(max(value, seen[n].Load()))
				return err
			})
			start(t, q)
			all = append(all, q)
		}
		write := func(do func(ctx context.Context, tx *db.Tx) error) {
			if err := d.Write(t.Context(), do); err != nil {
				t.Error(err)
			}
		}
		for n := range rows {
			write(func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, "INSERT INTO secret (name, sealed, updated_at) VALUES ($1, $2, 0)", fmt.Sprint(n), []byte{1})
				return err
			})
		}
		var done sync.WaitGroup
		for w := range writers {
			done.Go(func() {
				for n := range times {
					row := fmt.Sprint((n + w) % rows)
					write(func(ctx context.Context, tx *db.Tx) error {
						// Asked for before the change is written: nothing may run between.
						if err := all[n%queues].Enqueue(ctx, tx, "look", row); err != nil {
							return err
						}
						_, err := tx.Exec(ctx, "UPDATE secret SET updated_at = updated_at + 1 WHERE name = $1", row)
						return err
					})
				}
			})
		}
		done.Wait()
		for _, q := range all {
			q.Drain(t, within(t))
		}
		for n := range rows {
			value, err := db.Value[int64](t.Context(), d, "SELECT updated_at FROM secret WHERE name = $1", fmt.Sprint(n))
			if err != nil || value != seen[n].Load() {
				t.Errorf("row %d is %d, and %d was seen (%v)", n, value, seen[n].Load(), err)
			}
		}
	})
}

func TestAFailedJobIsTriedAgain(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		q, log := queue(t, d)
		begun := make(chan time.Time, 10)
		tries := 0
		q.Handle("look", job.Options{}, func(context.Context, string) error {
			begun <- time.Now()
			tries++
			switch tries {
			case 1:
				return errors.New("the world is not ready")
			case 2:
				panic("a bug")
			}
			return nil
		})
		start(t, q)
		enqueue(t, d, q, "look", "a")
		first, second, third := receive(t, begun), receive(t, begun), receive(t, begun)
		if gap := second.Sub(first); gap < time.Second {
			t.Errorf("tried again after %v", gap)
		}
		if gap := third.Sub(second); gap < 2*time.Second {
			t.Errorf("tried a third time after %v", gap)
		}
		q.Drain(t, within(t))
		for _, words := range []string{"the world is not ready", "a bug", "job_test.go", "failures=2", "job=look row=a"} {
			if !strings.Contains(log.String(), words) {
				t.Errorf("the log doesn't say %q: %s", words, log)
			}
		}
		if strings.Count(log.String(), "\n") != 2 {
			t.Errorf("the log says more: %s", log)
		}
	})
}

func TestAWakeUpBringsAFailedJobForward(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		q, _ := queue(t, d)
		begun := make(chan int, 10)
		tries := 0
		q.Handle("look", job.Options{}, func(context.Context, string) error {
			tries++
			begun <- tries
			if tries < 5 {
				return errors.New("not yet")
			}
			return nil
		})
		start(t, q)
		from := time.Now()
		for n := 1; n <= 5; n++ {
			enqueue(t, d, q, "look", "a")
			if got := receive(t, begun); got != n {
				t.Fatalf("try %d", got)
			}
			q.Drain(t, within(t)) // until it waits to be tried again
		}
		if took := time.Since(from); took > 1*time.Second+2*time.Second+4*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAJobIsGivenUpOnWish(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		q, log := queue(t, d)
		var tries atomic.Int64
		q.Handle("look", job.Options{}, func(context.Context, string) error {
			tries.Add(1)
			return fmt.Errorf("row 7: %w", job.Cancel(errors.New("there is no such row")))
		})
		start(t, q)
		enqueue(t, d, q, "look", "a")
		q.Drain(t, within(t))
		left, err := db.Value[int](t.Context(), d, "SELECT count(*) FROM river_job WHERE state <> 'completed'")
		if err != nil || left != 0 || tries.Load() != 1 {
			t.Errorf("%d tries, %d jobs are left, %v", tries.Load(), left, err)
		}
		if !strings.Contains(log.String(), "row 7: there is no such row") || !strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("the log says %s", log)
		}
	})
}

func TestAJobOfNoHandlerWaits(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		q, log := queue(t, d)
		start(t, q)
		enqueue(t, d, q, "future", "a")
		q.Drain(t, within(t))
		left, err := db.Value[int](t.Context(), d, "SELECT count(*) FROM river_job WHERE state IN ('available', 'scheduled')")
		if err != nil || left != 1 || !strings.Contains(log.String(), `no handler of jobs \"future\"`) {
			t.Errorf("%d jobs wait, %v: %s", left, err, log)
		}
	})
}

func TestAHandlersTimeEnds(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		q, _ := queue(t, d)
		ended := make(chan error, 1)
		q.Handle("look", job.Options{Timeout: 10 * time.Millisecond}, func(ctx context.Context, _ string) error {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil
		})
		start(t, q)
		enqueue(t, d, q, "look", "a")
		if err := receive(t, ended); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		q.Drain(t, within(t))
	})
}

func TestSlowJobsDontKeepTheOthers(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		q, _ := queue(t, d)
		end, ran := make(chan struct{}), make(chan string, 1)
		q.Handle("slow", job.Options{Slow: true}, func(context.Context, string) error { <-end; return nil })
		q.Handle("quick", job.Options{}, func(_ context.Context, row string) error { ran <- row; return nil })
		start(t, q)
		for n := range 50 {
			enqueue(t, d, q, "slow", fmt.Sprint(n))
		}
		enqueue(t, d, q, "quick", "a")
		receive(t, ran)
		close(end)
		q.Drain(t, within(t))
	})
}

func TestAJobOfALaterTimeComesThenAndNotBefore(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		q, _ := queue(t, d)
		ran := make(chan time.Time, 10)
		q.Handle("look", job.Options{}, func(context.Context, string) error { ran <- time.Now(); return nil })
		start(t, q)
		now := time.Now()
		soon, later := now.Add(1500*time.Millisecond+300*time.Microsecond), now.Add(time.Hour)
		if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			for _, at := range []time.Time{soon, soon, later, later, now.Add(-time.Hour)} {
				if err := q.EnqueueAt(ctx, tx, at, "look", "a"); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		q.Drain(t, within(t))
		if at := receive(t, ran); at.After(soon) {
			t.Error("one of an earlier time waits")
		}
		if at := receive(t, ran); at.Before(soon) {
			t.Errorf("%v too early", soon.Sub(at))
		} else {
			t.Logf("%v late", at.Sub(soon))
		}
		q.Drain(t, within(t))
		if len(ran) != 0 {
			t.Error("it ran again")
		}
		left, err := db.Value[int](t.Context(), d, "SELECT count(*) FROM river_job WHERE state = 'scheduled'")
		if err != nil || left != 1 {
			t.Errorf("%d wait for later, %v", left, err)
		}
	})
}

func TestASweepRunsAtTheStartAndThenAtItsInterval(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		queues := 2
		if d.Engine() == db.SQLite {
			queues = 1
		}
		ran := make(chan time.Time, 100)
		var running, tries atomic.Int64
		for range queues {
			q, log := queue(t, d)
			q.Every("sweep", time.Second, func(context.Context) error {
				if running.Add(1) > 1 {
					t.Error("two replicas sweep at a time")
				}
				defer running.Add(-1)
				ran <- time.Now()
				if tries.Add(1) == 2 {
					return errors.New("broken")
				}
				return nil
			})
			from := time.Now()
			start(t, q)
			if at := receive(t, ran); at.Sub(from) > wait/2 {
				t.Errorf("the first came after %v", at.Sub(from))
			}
			t.Cleanup(func() {
				if strings.Contains(log.String(), "level=ERROR") {
					t.Error(log)
				}
			})
		}
		first := receive(t, ran)
		for range 3 {
			receive(t, ran)
		}
		if took := time.Since(first); took < 2*time.Second {
			t.Errorf("four sweeps within %v", took)
		}
	})
}

func TestStopWaitsForWhatRuns(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		q, _ := queue(t, d)
		begun, end := make(chan struct{}), make(chan struct{})
		ended := false
		q.Handle("look", job.Options{}, func(context.Context, string) error {
			close(begun)
			<-end
			ended = true
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		if err := q.Start(ctx); err != nil {
			t.Fatal(err)
		}
		cancel() // only Stop stops it
		enqueue(t, d, q, "look", "a")
		receive(t, begun)
		stopped := make(chan error)
		go func() { stopped <- q.Stop(within(t)) }()
		select {
		case err := <-stopped:
			t.Fatalf("it stopped, %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		close(end)
		if err := receive(t, stopped); err != nil || !ended {
			t.Error(err)
		}
		if left, err := db.Value[int](t.Context(), d, "SELECT count(*) FROM river_job WHERE state <> 'completed'"); err != nil || left != 0 {
			t.Errorf("%d are left, %v", left, err)
		}
	})
}

func TestWhatStopDoesntWaitForRunsAgain(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		first, _ := queue(t, d)
		begun := make(chan struct{}, 2)
		first.Handle("look", job.Options{}, func(ctx context.Context, _ string) error {
			begun <- struct{}{}
			<-ctx.Done()
			return fmt.Errorf("cut off: %w", ctx.Err())
		})
		start(t, first)
		enqueue(t, d, first, "look", "a")
		receive(t, begun)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := first.Stop(ctx); err != nil {
			t.Error(err)
		}
		second, log := queue(t, d)
		second.Handle("look", job.Options{}, func(context.Context, string) error { begun <- struct{}{}; return nil })
		start(t, second)
		receive(t, begun)
		second.Drain(t, within(t))
		if log.String() != "" {
			t.Error(log)
		}
	})
}

func TestWhatCouldntBeWrittenDownRunsAgain(t *testing.T) {
	t.Parallel()
	d := dbtest.Open(t, db.Postgres)
	q, _ := queue(t, d)
	ran := make(chan struct{}, 10)
	q.Handle("look", job.Options{}, func(context.Context, string) error { ran <- struct{}{}; return nil })
	// The end of the first run fails, as when the database is out of reach.
	for _, statement := range []string{
		`CREATE SEQUENCE ends`,
		`CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('ends') = 1 THEN RAISE 'no'; END IF; RETURN NEW; END $$`,
		`CREATE TRIGGER fail BEFORE UPDATE ON river_job FOR EACH ROW WHEN (NEW.state = 'completed') EXECUTE FUNCTION fail()`,
	} {
		if _, err := d.Writer().ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	start(t, q)
	enqueue(t, d, q, "look", "a")
	receive(t, ran)
	receive(t, ran)
	q.Drain(t, within(t))
	if left, err := db.Value[int](t.Context(), d, "SELECT count(*) FROM river_job WHERE state <> 'completed'"); err != nil || left != 0 {
		t.Errorf("%d are left, %v", left, err)
	}
}

// TestAKilledServersJobsRunAgain starts this test's program once more, as the
// server that is killed.
func TestAKilledServersJobsRunAgain(t *testing.T) {
	t.Parallel()
	if where := os.Getenv("JOB_TEST_KILLED"); where != "" {
		d, err := db.Open(t.Context(), where)
		if err != nil {
			t.Fatal(err)
		}
		q, _ := queue(t, d)
		q.Handle("look", job.Options{Timeout: time.Hour}, func(context.Context, string) error {
			fmt.Fprint(os.Stdout, "running")
			select {}
		})
		start(t, q)
		if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if err := q.EnqueueAt(ctx, tx, time.Now().Add(6*time.Second), "later", "b"); err != nil {
				return err
			}
			return q.Enqueue(ctx, tx, "look", "a")
		}); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	if testing.Short() {
		t.Skip("it waits for a lease to end")
	}
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			where := dbtest.Where(t, engine)
			victim := exec.Command(os.Args[0], "-test.run=^TestAKilledServersJobsRunAgain$")
			victim.Env = append(os.Environ(), "JOB_TEST_KILLED="+where)
			out, err := victim.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := victim.Start(); err != nil {
				t.Fatal(err)
			}
			if line := make([]byte, 7); true {
				if _, err := out.Read(line); err != nil || string(line) != "running" {
					t.Fatalf("%q, %v", line, err)
				}
			}
			if err := victim.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = victim.Wait()
			killed := time.Now()

			d, err := db.Open(t.Context(), where)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.Close() })
			q, _ := queue(t, d)
			ran, later, swept := make(chan time.Time, 1), make(chan time.Time, 1), make(chan time.Time, 10)
			q.Handle("later", job.Options{}, func(context.Context, string) error { later <- time.Now(); return nil })
			q.Handle("look", job.Options{}, func(context.Context, string) error { ran <- time.Now(); return nil })
			q.Every("sweep", time.Hour, func(context.Context) error { swept <- time.Now(); return nil })
			start(t, q)
			t.Logf("a sweep %v after the kill", receive(t, swept).Sub(killed))
			t.Logf("the job of 6 s later %v after the kill", receive(t, later).Sub(killed))
			t.Logf("the job %v after the kill", receive(t, ran).Sub(killed))
			q.Drain(t, within(t))
		})
	}
}

func TestLongJobsKeepTheirLease(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it waits for a lease to end")
	}
	d := dbtest.Open(t, db.Postgres)
	begun, end := make(chan struct{}, 10), make(chan struct{})
	var first *job.Queue
	for range 2 {
		q, _ := queue(t, d)
		q.Handle("look", job.Options{Timeout: time.Hour}, func(context.Context, string) error {
			begun <- struct{}{}
			<-end
			return nil
		})
		start(t, q)
		first = q
	}
	enqueue(t, d, first, "look", "a")
	receive(t, begun)
	select {
	case <-begun:
		t.Error("a job that runs was begun again")
	case <-time.After(20 * time.Second):
	}
	close(end)
	first.Drain(t, within(t))
}

func BenchmarkEnqueueToWork(b *testing.B) {
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		b.Run(string(engine), func(b *testing.B) {
			d := dbtest.Open(b, engine)
			q, err := job.New(d, slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			ran := make(chan struct{})
			q.Handle("look", job.Options{}, func(context.Context, string) error { ran <- struct{}{}; return nil })
			if err := q.Start(b.Context()); err != nil {
				b.Fatal(err)
			}
			var most time.Duration
			for b.Loop() {
				from := time.Now()
				if err := d.Write(b.Context(), func(ctx context.Context, tx *db.Tx) error { return q.Enqueue(ctx, tx, "look", "a") }); err != nil {
					b.Fatal(err)
				}
				<-ran
				most = max(most, time.Since(from))
			}
			b.ReportMetric(float64(most.Milliseconds()), "ms-most")
			if err := q.Stop(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
