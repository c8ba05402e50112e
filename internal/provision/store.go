package provision

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
)

const columns = `id, app_id, connector_id, kind, entitlement_id, principal_id, reason_kind, reason_ref, state, task_id, sync_id,
	attempts, error, by_kind, by_id, by_name, created_at, next_at, done_at, verified_at`

func scan(row db.Scanner) (c Change, err error) {
	err = row.Scan(&c.ID, &c.AppID, &c.ConnectorID, &c.Kind, &c.EntitlementID, &c.PrincipalID, &c.Reason.Kind, &c.Reason.Ref, &c.State, &c.TaskID, &c.SyncID,
		&c.Attempts, &c.Error, &c.By.Kind, &c.By.ID, &c.By.Name, db.Time(&c.CreatedAt), db.Time(&c.NextAt), db.Time(&c.DoneAt), db.Time(&c.VerifiedAt))
	return c, err
}

func insert(ctx context.Context, tx *db.Tx, c Change) error {
	_, err := tx.Exec(ctx, `INSERT INTO change (`+columns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)`,
		c.ID, c.AppID, c.ConnectorID, c.Kind, c.EntitlementID, c.PrincipalID, c.Reason.Kind, c.Reason.Ref, c.State, c.TaskID, c.SyncID,
		c.Attempts, c.Error, c.By.Kind, c.By.ID, c.By.Name, c.CreatedAt, c.NextAt, c.DoneAt, c.VerifiedAt)
	return err
}

// update writes a change that is still in the state it was read in; false says
// that it isn't.
func update(ctx context.Context, tx *db.Tx, c Change, from State) (bool, error) {
	n, err := tx.Exec(ctx, `UPDATE change SET state = $1, task_id = $2, sync_id = $3, attempts = $4, error = $5, next_at = $6, done_at = $7, verified_at = $8
		WHERE id = $9 AND state = $10`,
		c.State, c.TaskID, c.SyncID, c.Attempts, c.Error, c.NextAt, c.DoneAt, c.VerifiedAt, c.ID, from)
	return n == 1, err
}

func byID(ctx context.Context, q db.Querier, id string) (Change, error) {
	c, err := db.One(ctx, q, scan, `SELECT `+columns+` FROM change WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return c, fault.New(fault.NotFound, "there is no change of access %q", id)
	}
	return c, err
}

// open are the changes of an access that aren't over, the oldest first.
func open(ctx context.Context, q db.Querier, entitlementID, principalID string) ([]Change, error) {
	return db.All(ctx, q, scan, `SELECT `+columns+` FROM change
		WHERE entitlement_id = $1 AND principal_id = $2 AND next_at IS NOT NULL ORDER BY created_at, id`, entitlementID, principalID)
}

// undoing are the changes that do the opposite of one, and came after it.
func undoing(ctx context.Context, q db.Querier, c Change) ([]Change, error) {
	return db.All(ctx, q, scan, `SELECT `+columns+` FROM change
		WHERE entitlement_id = $1 AND principal_id = $2 AND kind <> $3 AND created_at > $4 ORDER BY created_at DESC, id`, c.EntitlementID, c.PrincipalID, c.Kind, c.CreatedAt)
}

// awaiting are the changes of an app that wait for a sync to see them, and were
// done before it began.
func awaiting(ctx context.Context, q db.Querier, appID string, before time.Time) ([]Change, error) {
	return db.All(ctx, q, scan, `SELECT `+columns+` FROM change
		WHERE next_at IS NOT NULL AND state = $1 AND app_id = $2 AND done_at <= $3 ORDER BY created_at, id LIMIT 1000`, Done, appID, before)
}

// due are changes that it is time to look at again.
func due(ctx context.Context, q db.Querier, now time.Time) ([]string, error) {
	return db.All(ctx, q, func(row db.Scanner) (id string, err error) {
		err = row.Scan(&id)
		return id, err
	}, `SELECT id FROM change WHERE next_at <= $1 ORDER BY next_at LIMIT 500`, now)
}

func runningGrants(ctx context.Context, q db.Querier) ([]Change, error) {
	return db.All(ctx, q, scan, `SELECT `+columns+` FROM change WHERE kind = $1 AND state = $2 ORDER BY created_at, id`, Grant, Running)
}
