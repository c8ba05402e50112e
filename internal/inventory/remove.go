package inventory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"airlock/internal/base/db"
)

// RemoveJob is the kind of job that Remove is run as; its row is an app, or "" for
// all that were removed and of which something is left.
const RemoveJob = "inventory.remove"

// Remove deletes what is in an app that was removed, in short transactions. It may
// be stopped anywhere: the next run goes on.
func (s *Service) Remove(ctx context.Context, appID string) error {
	list := []string{appID}
	if appID == "" {
		var err error
		if list, err = removedApps(ctx, s.db); err != nil {
			return fmt.Errorf("list the apps that were removed: %w", err)
		}
	}
	for _, appID := range list {
		if err := s.remove(ctx, appID); err != nil {
			return fmt.Errorf("delete what is in the app %s: %w", appID, err)
		}
	}
	return nil
}

func (s *Service) remove(ctx context.Context, appID string) error {
	app, err := s.AppOnRecord(ctx, s.db, appID)
	if err != nil {
		return err
	}
	if _, err := appByID(ctx, s.db, appID); !errors.Is(err, sql.ErrNoRows) {
		return err // nothing is deleted of one that wasn't removed
	}
	if err := s.people.LeaveDirectory(ctx, appID); err != nil {
		return err
	}
	some := 250 // rows of a transaction on SQLite, where all others wait for it
	if s.db.Engine() == db.Postgres {
		some *= 4
	}
	for after := (Pair{}); ; {
		grants, err := someGrants(ctx, s.db, appID, after, some)
		if err != nil {
			return err
		}
		if len(grants) == 0 {
			break
		}
		err = s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := EndGrants(ctx, tx, appID, grants, Ending{At: app.RemovedAt, SyncID: AppRemoved})
			return err
		})
		if err != nil {
			return err
		}
		after = grants[len(grants)-1]
	}
	for _, statement := range leftovers {
		for deleted := int64(1); deleted > 0; {
			err := s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
				deleted, err = tx.Exec(ctx, statement, appID, some)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
