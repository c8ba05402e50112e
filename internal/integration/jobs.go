package integration

import (
	"context"
	"errors"
	"strconv"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
)

// The sweeps look for what is due in the tables themselves: nothing is lost with
// a job, a timer or a server. The server runs each at its interval.

// How often the sweeps are to run.
const (
	TasksEvery     = 5 * time.Second
	SchedulesEvery = 15 * time.Second
	SilentEvery    = 30 * time.Second
	FeedsEvery     = 10 * time.Second
	OldEvery       = 10 * time.Minute
)

// reunion is how long connectors have after our start to tell that they still
// work at what they were given before it.
const reunion = time.Minute

// SweepTasks takes back the tasks whose lease ended, and gives up those that
// nobody took in time. After a start it gives connectors time to tell that they
// still work, but for what was handed over and never heard of.
func (s *Service) SweepTasks(ctx context.Context) error {
	for {
		now := s.clock.Now()
		leases := now
		if now.Before(s.began.Add(reunion)) {
			leases = time.Time{} // none
		}
		list, err := lapsedTasks(ctx, s.db, leases, now)
		if err != nil || len(list) == 0 {
			return err
		}
		var problems []error // one task's trouble isn't the others'
		for _, task := range list {
			problems = append(problems, s.takeBack(ctx, task))
		}
		if err := errors.Join(problems...); err != nil {
			return err
		}
	}
}

func (s *Service) takeBack(ctx context.Context, task Task) error {
	return s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		c, err := holdConnector(ctx, tx, task.ConnectorID)
		if err != nil {
			return err
		}
		task, err := taskByID(ctx, tx, task.ID)
		if err != nil {
			return err
		}
		now := s.clock.Now()
		verdict := ignored
		switch {
		case task.State == TaskQueued:
			verdict = task.expire(now)
		case task.State == TaskLeased && !now.Before(task.LeaseUntil):
			if verdict = task.lose(now); verdict == requeued {
				if err := s.note(ctx, tx, &c, "warn", "the connector went silent while it had a task; it is given out again", map[string]any{
					"task": task.ID, "kind": string(task.Kind), "host": task.Host,
				}); err != nil {
					return err
				}
			}
		}
		if verdict == ignored {
			return nil
		}
		if err := s.settle(ctx, tx, &c, task, verdict); err != nil {
			return err
		}
		return s.save(ctx, tx, c)
	})
}

// SweepSchedules queues the full syncs that are due. Where one isn't over, the
// next is left out.
func (s *Service) SweepSchedules(ctx context.Context) error {
	list, err := dueConnectors(ctx, s.db, s.clock.Now())
	if err != nil {
		return err
	}
	var problems []error
	for _, connectorID := range list {
		_, err := s.change(ctx, connectorID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
			now := s.clock.Now()
			if c.NextSyncAt.IsZero() || c.NextSyncAt.After(now) || !c.Paused.At.IsZero() {
				return nil
			}
			open, err := openSync(ctx, tx, c.ID)
			if err != nil {
				return err
			}
			if open != nil {
				c.NextSyncAt = c.Schedule.Next(now)
				return nil
			}
			_, err = s.requestSync(ctx, tx, c, SyncFull{}, CauseSchedule)
			return err
		})
		if err != nil && !fault.Is(err, fault.NotReady) { // removed meanwhile
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// SweepSilent says of connectors that went away that they did.
func (s *Service) SweepSilent(ctx context.Context) error {
	now := s.clock.Now()
	if now.Before(s.began.Add(s.limits.Silent)) {
		return nil // it may be we who were away
	}
	list, err := silentConnectors(ctx, s.db, now.Add(-s.limits.Silent), now)
	if err != nil {
		return err
	}
	for _, connectorID := range list {
		_, err := s.change(ctx, connectorID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
			if c.Problem.Kind != "" || !c.SeenAt.Before(now.Add(-s.limits.Silent)) {
				return nil
			}
			words := "nothing was heard of it since " + c.SeenAt.Format("2006-01-02 15:04:05 MST") + ": see whether it runs on " + strconv.Quote(c.Host) + " and reaches this server"
			if c.Hosted {
				words = "nothing was heard of it since " + c.SeenAt.Format("2006-01-02 15:04:05 MST") + "; its log may say why"
			}
			return s.blame(ctx, tx, c, Problem{Kind: Silent, Words: words})
		})
		if err != nil && !fault.Is(err, fault.NotReady) {
			return err
		}
	}
	return nil
}

// SweepOld deletes what was kept for its time: files, tasks, log lines, syncs.
func (s *Service) SweepOld(ctx context.Context) error {
	now := s.clock.Now()
	return errors.Join(s.oldFiles(ctx, now), s.oldTasks(ctx, now), s.oldLines(ctx, now), s.oldSyncs(ctx, now))
}

func (s *Service) oldFiles(ctx context.Context, now time.Time) error {
	for {
		list, err := staleFiles(ctx, s.db, now.Add(-time.Hour), now.Add(-s.limits.KeepFiles))
		if err != nil || len(list) == 0 {
			return err
		}
		for _, fileID := range list {
			if err := s.dropFile(ctx, fileID); err != nil {
				return err
			}
		}
	}
}

func (s *Service) oldTasks(ctx context.Context, now time.Time) error {
	byTime := map[time.Duration][]Kind{}
	for _, kind := range kinds {
		keep := kind.rules().keep
		byTime[keep] = append(byTime[keep], kind)
	}
	for keep, list := range byTime {
		err := s.drain(ctx, func(ctx context.Context, tx *db.Tx) (int64, error) {
			dropped, err := dropTasks(ctx, tx, list, now.Add(-keep), 200)
			if err != nil {
				return 0, err
			}
			for _, taskID := range dropped {
				if err := s.vault.Delete(ctx, tx, keyName(taskID)); err != nil {
					return 0, err
				}
			}
			return int64(len(dropped)), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) oldLines(ctx context.Context, now time.Time) error {
	ends, err := logEnds(ctx, s.db)
	if err != nil {
		return err
	}
	for connectorID, last := range ends {
		err := s.drain(ctx, func(ctx context.Context, tx *db.Tx) (int64, error) {
			return dropLines(ctx, tx, connectorID, last, last-mostLinesKept, now.Add(-s.limits.KeepLogs), 1000)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) oldSyncs(ctx context.Context, now time.Time) error {
	return s.drain(ctx, func(ctx context.Context, tx *db.Tx) (int64, error) {
		return dropSyncs(ctx, tx, now.Add(-s.limits.KeepSyncs), 200)
	})
}

// drain deletes piece by piece, until there is nothing more.
func (s *Service) drain(ctx context.Context, drop func(ctx context.Context, tx *db.Tx) (int64, error)) error {
	for {
		dropped := int64(0)
		err := s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
			dropped, err = drop(ctx, tx)
			return err
		})
		if err != nil || dropped == 0 {
			return err
		}
	}
}
