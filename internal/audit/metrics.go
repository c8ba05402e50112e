package audit

import (
	"context"

	"airlock/internal/base/db"
)

// Extent is how many entries the log has, and how many of them the last
// checkpoint covers.
func (l *Log) Extent(ctx context.Context) (entries, covered int64, err error) {
	err = l.db.Read(ctx, func(s *db.Snapshot) error {
		entries, _, covered, err = extent(ctx, s)
		return err
	})
	return entries, covered, err
}
