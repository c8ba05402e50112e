package integration

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// OldestTask is since when the connector task waits that could have been taken
// first, of those whose connector does nothing else meanwhile, and that connector's
// name; the zero time says that none waits. Who owns apps alone is told of theirs.
func (s *Service) OldestTask(ctx context.Context, actor identity.Actor) (since time.Time, connector string, err error) {
	only, err := inventory.CanList(ctx, s.db, actor, identity.Read, identity.Object{Kind: objectKind})
	if err != nil {
		return time.Time{}, "", err
	}
	args := []any{TaskQueued, TaskLeased}
	_, err = db.One(ctx, s.db, func(row db.Scanner) (struct{}, error) {
		return struct{}{}, row.Scan(db.Time(&since), &connector)
	}, `SELECT t.not_before, c.name FROM connector_task t JOIN connector c ON c.id = t.connector_id
		WHERE t.state = $1 AND c.removed_at IS NULL AND NOT EXISTS (SELECT 1 FROM connector_task o WHERE o.connector_id = c.id AND o.state = $2)`+
		ofApps("c.app_id", only, &args)+` ORDER BY t.not_before, t.id LIMIT 1`, args...)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return since, connector, err
}
