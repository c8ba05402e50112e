package provision

import (
	"context"
	"time"

	"airlock/internal/base/db"
)

// overdue is by how much a change is late that is told as such.
const overdue = 5 * time.Minute

// Counts are the changes that aren't over, by state, and how many of them should
// have moved on for some minutes.
func (s *Service) Counts(ctx context.Context) (open map[State]int64, late int64, err error) {
	open = map[State]int64{}
	err = db.Each(ctx, s.DB, func(row db.Scanner) error {
		var state State
		var n int64
		err := row.Scan(&state, &n)
		open[state] = n
		return err
	}, `SELECT state, COUNT(*) FROM change WHERE next_at IS NOT NULL GROUP BY state`)
	if err != nil {
		return nil, 0, err
	}
	late, err = db.Value[int64](ctx, s.DB, `SELECT COUNT(*) FROM change WHERE next_at < $1`, s.Clock.Now().Add(-overdue))
	return open, late, err
}
