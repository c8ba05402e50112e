package integration

import (
	"context"

	"airlock/internal/base/db"
)

// Counts are numbers of things, by what tells them apart.
type Counts struct {
	Connectors map[ProblemKind]int64 // "" where nothing is wrong
	Tasks      map[TaskState]int64   // that aren't over
	Syncs      map[SyncState]int64   // that aren't over
}

// Counts counts what there is now.
func (s *Service) Counts(ctx context.Context) (Counts, error) {
	var c Counts
	var err error
	if c.Connectors, err = counts[ProblemKind](ctx, s.db, `SELECT problem, COUNT(*) FROM connector WHERE removed_at IS NULL GROUP BY problem`); err != nil {
		return c, err
	}
	if c.Tasks, err = counts[TaskState](ctx, s.db, `SELECT state, COUNT(*) FROM connector_task WHERE state IN ($1, $2) GROUP BY state`, TaskQueued, TaskLeased); err != nil {
		return c, err
	}
	var open []any
	for _, state := range openStates {
		open = append(open, state)
	}
	c.Syncs, err = counts[SyncState](ctx, s.db, `SELECT state, COUNT(*) FROM sync WHERE state IN `+db.In(1, len(open))+` GROUP BY state`, open...)
	return c, err
}

func counts[Label ~string](ctx context.Context, q db.Querier, query string, args ...any) (map[Label]int64, error) {
	all := map[Label]int64{}
	err := db.Each(ctx, q, func(row db.Scanner) error {
		var label Label
		var n int64
		err := row.Scan(&label, &n)
		all[label] = n
		return err
	}, query, args...)
	return all, err
}
