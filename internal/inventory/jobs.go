package inventory

import (
	"context"
	"fmt"
	"slices"
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
			if len(ids) == 0 {
				break
			}
			if err := s.rematch(ctx, app, ids); err != nil {
				return err
			}
			after = ids[len(ids)-1]
		}
	}
	return nil
}

// rematch looks whose some accounts of an app are. Those that were matched by hand
// stay.
func (s *Service) rematch(ctx context.Context, app App, ids []string) error {
	var changed []matchable
	err := s.db.Read(ctx, func(q *db.Snapshot) error {
		free, err := matchables(ctx, q, app.ID, ids)
		if err == nil {
			changed, err = s.matches(ctx, q, app, free)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("match the accounts of %s: %w", app.Name, err)
	}
	if len(changed) == 0 {
		return nil
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
	return nil
}

// Own looks whose accounts are that are about to be added, in the transaction that
// adds them, and says so in their rows.
func (s *Service) Own(ctx context.Context, tx *db.Tx, app App, list []ResourceRow) error {
	var accounts []*AccountRow
	var keys []identity.Keys
	for _, r := range list {
		if r.Account != nil {
			accounts, keys = append(accounts, r.Account), append(keys, r.Account.Keys)
		}
	}
	owners, err := s.people.Matches(ctx, tx, keys, app.Matching == Broad)
	if err != nil {
		return fmt.Errorf("match the accounts of %s: %w", app.Name, err)
	}
	for n, owner := range owners {
		if accounts[n].Owner = owner; owner.PersonID != "" {
			accounts[n].MatchedAt = s.clock.Now()
		}
	}
	return nil
}

// Match looks again whose accounts are that were changed, in the transaction that
// changed them. Those that were matched by hand stay.
func (s *Service) Match(ctx context.Context, tx *db.Tx, app App, list []ResourceRow) error {
	for rows := range slices.Chunk(list, exportPage) {
		ids := make([]string, len(rows))
		for n, r := range rows {
			ids[n] = r.ID
		}
		free, err := matchables(ctx, tx, app.ID, ids)
		if err == nil {
			free, err = s.matches(ctx, tx, app, free)
		}
		if err == nil {
			err = setMatches(ctx, tx, free, s.clock.Now())
		}
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
