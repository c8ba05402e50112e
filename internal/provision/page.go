package provision

import (
	"context"
	"fmt"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// Place is where a change stands among all: by when it was asked for, and by its
// id among those of the same time. The zero Place is before the newest.
type Place struct {
	At time.Time
	ID string
}

// Newest lists changes, newest first, after a place: all, or those in the apps that
// the actor owns; open are those that aren't over.
func (s *Service) Newest(ctx context.Context, actor identity.Actor, after Place, open bool, limit int) ([]Change, error) {
	only, err := inventory.CanList(ctx, s.DB, actor, identity.Read, identity.Object{Kind: "change"})
	if err != nil {
		return nil, err
	}
	query, args := `SELECT `+columns+` FROM change WHERE TRUE`, []any{}
	if after.ID != "" {
		args = append(args, after.At, after.ID)
		query += ` AND (created_at, id) < ($1, $2)`
	}
	if open {
		query += ` AND next_at IS NOT NULL`
	}
	if len(only) > 0 {
		query += ` AND app_id IN ` + db.In(len(args)+1, len(only))
		for _, appID := range only {
			args = append(args, appID)
		}
	} else if only != nil {
		return nil, nil
	}
	return db.All(ctx, s.DB, scan, query+fmt.Sprintf(` ORDER BY created_at DESC, id DESC LIMIT %d`, limit), args...)
}
