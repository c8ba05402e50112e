package hosting

import (
	"context"

	"airlock/internal/base/db"
)

// ReleaseAll releases all leases, in a database that was restored: the servers
// that held them aren't its own.
func ReleaseAll(ctx context.Context, tx *db.Tx) error {
	_, err := tx.Exec(ctx, `UPDATE hosting SET until = 0`)
	return err
}
