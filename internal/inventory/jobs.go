package inventory

import (
	"context"
	"fmt"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/identity"
)

// RematchJob is the kind of job that Rematch is run as; its row is an app, or ""
// for all.
const RematchJob = "inventory.rematch"

// Rematch looks again whose the accounts of an app, or of all (""), are: people
// changed, or how an app is matched.
func (s *Service) Rematch(ctx context.Context, appID string) error {
	for app, err := range pages(func(a App) Key { return Key{a.Name, a.ID} }, func(after Key) ([]App, error) { return apps(ctx, s.db, after, exportPage) }) {
		if err != nil {
			return err
		}
		if appID != "" && appID != app.ID {
			continue
		}
		for after := ""; ; {
			ids, err := accountIDs(ctx, s.db, app.ID, after, exportPage)
			if err != nil {
				return err
			}
			if err := s.MatchAccounts(ctx, app, ids); err != nil {
				return err
			}
			if len(ids) < exportPage {
				break
			}
			after = ids[len(ids)-1]
		}
	}
	return nil
}

// MatchAccounts looks whose some accounts of an app are, in the order of their
// ids. Those that were matched by hand stay.
func (s *Service) MatchAccounts(ctx context.Context, app App, ids []string) error {
	for len(ids) > 0 {
		chunk := ids[:min(len(ids), exportPage)]
		ids = ids[len(chunk):]
		var changed []matchable
		err := s.db.Read(ctx, func(q *db.Snapshot) error {
			free, err := matchables(ctx, q, app.ID, chunk)
			if err != nil {
				return err
			}
			changed, err = s.matches(ctx, q, app, free)
			return err
		})
		if err != nil {
			return fmt.Errorf("match the accounts of %s: %w", app.Name, err)
		}
		if len(changed) == 0 {
			continue
		}
		err = s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := setMatches(ctx, tx, changed, s.clock.Now()); err != nil {
				return err
			}
			return s.live.Publish(ctx, tx, "app/"+app.ID)
		})
		if err != nil {
			return fmt.Errorf("match the accounts of %s: %w", app.Name, err)
		}
	}
	return nil
}

// matches are the accounts that are somebody else's than is kept.
func (s *Service) matches(ctx context.Context, q db.Querier, app App, free []matchable) ([]matchable, error) {
	keys := make([]identity.Keys, len(free))
	for n, account := range free {
		keys[n] = account.keys
	}
	owners, err := s.people.Matches(ctx, q, keys, app.Matching == Broad)
	if err != nil {
		return nil, err
	}
	var changed []matchable
	for n, account := range free {
		if now := owners[n]; now.PersonID != account.personID || now.By != account.by {
			account.personID, account.by = now.PersonID, now.By
			changed = append(changed, account)
		}
	}
	return changed, nil
}

// SweepPast removes grants that ended longer ago than they are kept.
func (s *Service) SweepPast(ctx context.Context, keep time.Duration) error {
	before := s.clock.Now().Add(-keep)
	for {
		var removed int64
		err := s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
			removed, err = sweepPast(ctx, tx, before, 1000)
			return err
		})
		if err != nil || removed == 0 {
			return err
		}
	}
}
