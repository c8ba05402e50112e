package integration

import (
	"context"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

// PauseHosted pauses all hosted connectors, in a database that was restored:
// nobody has looked yet whether what they would do still fits. It tells how many.
func (s *Service) PauseHosted(ctx context.Context, tx *db.Tx, actor identity.Actor, why string) (int64, error) {
	if err := identity.Can(actor, identity.Manage, identity.Object{Kind: objectKind}); err != nil {
		return 0, err
	}
	return tx.Exec(ctx, `UPDATE connector SET paused_at = $1, paused_why = $2 WHERE hosted = $3 AND removed_at IS NULL AND paused_at IS NULL`,
		s.clock.Now(), why, true)
}

// WithdrawGrants ends the tasks that would grant something and weren't taken
// yet, in a database that was restored.
func (s *Service) WithdrawGrants(ctx context.Context, tx *db.Tx, actor identity.Actor) error {
	if err := identity.Can(actor, identity.Manage, identity.Object{Kind: objectKind}); err != nil {
		return err
	}
	list, err := ids(ctx, tx,
		`SELECT id FROM connector_task WHERE kind IN ($1, $2) AND state IN ($3, $4)`, KindGrant, KindCreateAccount, TaskQueued, TaskLeased)
	if err != nil {
		return err
	}
	for _, taskID := range list {
		if err := s.CancelTask(ctx, tx, actor, taskID); err != nil && !fault.Is(err, fault.NotReady) {
			return err
		}
	}
	return nil
}
