package ingest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"google.golang.org/protobuf/proto"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/identity"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// How many rows one transaction writes on SQLite, where all others wait for it:
// so many that a million is quick, so few that nobody waits long. On PostgreSQL,
// where only changes of the same app wait, it is some times as many.
const (
	fewRows  = 500  // of resources and entitlements, and where each is a statement
	someRows = 1000 // of grants
	more     = 4

	manyRows = 10_000 // after which the database looks at its tables anew
)

func chunks(engine db.Engine) (few, some int) {
	if engine == db.Postgres {
		return fewRows * more, someRows * more
	}
	return fewRows, someRows
}

// apply writes the difference, in an order in which each row finds what it refers
// to, and in which what goes is left by all that refers to it first.
func (r *run) apply(ctx context.Context, d *difference) error {
	s := r.stage
	few, some := chunks(r.db.Engine())
	stamp := inventory.Stamp{AppID: r.app.ID, SyncID: r.sync.ID, At: r.began}
	r.of = int64(len(d.types) + d.resources + d.entitlements + len(d.add) + len(d.set) + len(d.end) + len(d.addEdges) + len(d.dropEdges) +
		len(d.goneResources) + len(d.goneEntitlements))
	if err := r.applyTypes(ctx, stamp, d); err != nil {
		return fmt.Errorf("write the resource types: %w", err)
	}
	if d.resources+d.entitlements > 0 {
		if err := r.again(ctx); err != nil {
			return err
		}
	}
	if err := r.applyResources(ctx, stamp, d); err != nil {
		return fmt.Errorf("write the resources: %w", err)
	}
	if err := r.applyEntitlements(ctx, stamp, d); err != nil {
		return fmt.Errorf("write the entitlements: %w", err)
	}
	for grants := range slices.Chunk(d.add, some) {
		rows := s.rows(grants)
		err := r.write(ctx, len(rows), func(ctx context.Context, tx *db.Tx) error {
			// What a connector did since the comparison, it did after the sync began.
			granted, revoked, err := inventory.Fresh(ctx, tx, r.app.ID, r.began)
			if err != nil {
				return err
			}
			rows := rows
			if len(granted)+len(revoked) > 0 {
				rows = slices.DeleteFunc(slices.Clone(rows), func(g inventory.GrantRow) bool {
					pair := inventory.Pair{EntitlementID: g.EntitlementID, PrincipalID: g.PrincipalID}
					return granted[pair] || revoked[pair]
				})
			}
			return inventory.AddGrants(ctx, tx, stamp, rows)
		})
		if err != nil {
			return fmt.Errorf("write the grants: %w", err)
		}
	}
	for grants := range slices.Chunk(d.set, few) {
		rows := s.rows(grants)
		err := r.write(ctx, len(rows), func(ctx context.Context, tx *db.Tx) error { return inventory.SetGrants(ctx, tx, stamp, rows) })
		if err != nil {
			return fmt.Errorf("write the grants: %w", err)
		}
	}
	if err := r.applyEdges(ctx, d); err != nil {
		return fmt.Errorf("write how grants follow from others: %w", err)
	}
	for pairs := range slices.Chunk(d.end, few) {
		err := r.write(ctx, len(pairs), func(ctx context.Context, tx *db.Tx) error {
			_, err := inventory.EndGrants(ctx, tx, r.app.ID, pairs, inventory.Ending{At: r.began, SyncID: r.sync.ID, Unless: r.began})
			return err
		})
		if err != nil {
			return fmt.Errorf("end the grants that are gone: %w", err)
		}
	}
	return r.remove(ctx, d)
}

// again reads the file a second time, up to its grants: for what is to be written
// of the things that changed.
func (r *run) again(ctx context.Context) (err error) {
	r.source.close()
	r.orders.Things = true
	if r.source, err = read(ctx, r.decoder, r.orders); err != nil {
		return err
	}
	if _, err := r.source.header(ctx); err != nil {
		return err
	}
	return r.source.each(ctx, tagType, 1, func([][]byte) error { return nil })
}

func (s *stage) rows(grants []uint64) []inventory.GrantRow {
	rows := make([]inventory.GrantRow, len(grants))
	for n, grant := range grants {
		rows[n] = s.row(grant)
	}
	return rows
}

func (r *run) applyTypes(ctx context.Context, stamp inventory.Stamp, d *difference) error {
	if len(d.types) == 0 {
		return nil
	}
	rows := make([]inventory.TypeRow, len(d.types))
	for n, t := range d.types {
		rows[n] = r.stage.types[t].row
	}
	return r.write(ctx, len(rows), func(ctx context.Context, tx *db.Tx) error {
		return inventory.PutTypes(ctx, tx, stamp.AppID, rows, stamp.At)
	})
}

// batch collects rows that are new, and rows that changed, for transactions of few.
type batch[T any] struct {
	fresh, old []T
	most       int
	flush      func(fresh, old []T) error
}

func (b *batch[T]) put(row T, what change) error {
	if what == isNew {
		b.fresh = append(b.fresh, row)
	} else {
		b.old = append(b.old, row)
	}
	if len(b.fresh)+len(b.old) < b.most {
		return nil
	}
	return b.end()
}

func (b *batch[T]) end() error {
	if len(b.fresh)+len(b.old) == 0 {
		return nil
	}
	err := b.flush(b.fresh, b.old)
	b.fresh, b.old = nil, nil
	return err
}

// applyResources writes the resources that are new or changed.
func (r *run) applyResources(ctx context.Context, stamp inventory.Stamp, d *difference) error {
	if d.resources+d.entitlements == 0 {
		return r.matchAccounts(ctx, nil)
	}
	s := r.stage
	var accounts []string
	few, _ := chunks(r.db.Engine())
	rows := batch[inventory.ResourceRow]{most: few, flush: func(fresh, old []inventory.ResourceRow) error {
		return r.write(ctx, len(fresh)+len(old), func(ctx context.Context, tx *db.Tx) error {
			if err := inventory.AddResources(ctx, tx, stamp, fresh); err != nil {
				return err
			}
			return inventory.SetResources(ctx, tx, stamp, old)
		})
	}}
	err := r.source.each(ctx, tagResource, 4, func(fields [][]byte) error {
		n, ok := s.resource(fields[0], fields[1])
		if !ok || s.resources[n].change == same {
			return nil
		}
		var sent v2.Resource
		if err := proto.Unmarshal(fields[3], &sent); err != nil {
			return refuse("the resource %s:%s can't be read: %w", fields[0], fields[1], err)
		}
		row := resourceRow(&sent, s.types[s.resources[n].of].user, bytes.Clone(fields[3]))
		row.ID, row.TypeID = s.resources[n].id, s.types[s.resources[n].of].row.ID
		above := sent.GetParentResourceId()
		if parent, ok := s.resource([]byte(above.GetResourceType()), []byte(above.GetResource())); ok {
			row.ParentID = s.resources[parent].id
		}
		if row.Account != nil {
			accounts = append(accounts, row.ID)
		}
		return rows.put(row, s.resources[n].change)
	})
	if err == nil {
		err = rows.end()
	}
	if err != nil {
		return err
	}
	return r.matchAccounts(ctx, accounts)
}

// matchAccounts looks whose the accounts are that are new or changed: all of them,
// if a run before this one may have written some.
func (r *run) matchAccounts(ctx context.Context, accounts []string) error {
	if r.resumed {
		return r.inventory.Rematch(ctx, r.app.ID)
	}
	return r.inventory.MatchAccounts(ctx, r.app, accounts)
}

func (r *run) applyEntitlements(ctx context.Context, stamp inventory.Stamp, d *difference) error {
	if d.entitlements == 0 {
		return nil
	}
	s := r.stage
	few, _ := chunks(r.db.Engine())
	rows := batch[inventory.EntitlementRow]{most: few, flush: func(fresh, old []inventory.EntitlementRow) error {
		return r.write(ctx, len(fresh)+len(old), func(ctx context.Context, tx *db.Tx) error {
			if err := inventory.AddEntitlements(ctx, tx, stamp, fresh); err != nil {
				return err
			}
			return inventory.SetEntitlements(ctx, tx, stamp, old)
		})
	}}
	err := r.source.each(ctx, tagEntitlement, 4, func(fields [][]byte) error {
		n, ok := s.entitlementOf[string(fields[0])]
		if !ok || s.entitlements[n].change == same {
			return nil
		}
		of, ok := s.resource(fields[1], fields[2])
		if !ok {
			return nil // it was dropped
		}
		var sent v2.Entitlement
		if err := proto.Unmarshal(fields[3], &sent); err != nil {
			return refuse("the entitlement %s can't be read: %w", fields[0], err)
		}
		row := entitlementRow(&sent, s.resources[of].key, bytes.Clone(fields[3]))
		row.ID, row.ResourceID = s.entitlements[n].id, s.resources[of].id
		return rows.put(row, s.entitlements[n].change)
	})
	if err != nil {
		return err
	}
	return rows.end()
}

func (r *run) applyEdges(ctx context.Context, d *difference) error {
	for edges := range slices.Chunk(d.dropEdges, fewRows) {
		err := r.write(ctx, len(edges), func(ctx context.Context, tx *db.Tx) error { return inventory.RemoveEdges(ctx, tx, r.app.ID, edges) })
		if err != nil {
			return err
		}
	}
	for edges := range slices.Chunk(d.addEdges, fewRows) {
		err := r.write(ctx, len(edges), func(ctx context.Context, tx *db.Tx) error {
			_, revoked, err := inventory.Fresh(ctx, tx, r.app.ID, r.began)
			if err != nil {
				return err
			}
			return inventory.AddEdges(ctx, tx, r.app.ID, slices.DeleteFunc(slices.Clone(edges), func(e inventory.Edge) bool {
				return revoked[inventory.Pair{EntitlementID: e.TargetID, PrincipalID: e.PrincipalID}]
			}))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// remove removes what is gone, once nothing refers to it.
func (r *run) remove(ctx context.Context, d *difference) error {
	for _, step := range []struct {
		ids    []string
		remove func(ctx context.Context, tx *db.Tx, appID string, ids []string) error
	}{
		{idsOf(d.goneEntitlements), inventory.RemoveEntitlements},
		{idsOf(d.goneResources), inventory.RemoveResources},
		{d.goneTypes, inventory.RemoveTypes},
	} {
		for ids := range slices.Chunk(step.ids, fewRows) {
			err := r.write(ctx, len(ids), func(ctx context.Context, tx *db.Tx) error { return step.remove(ctx, tx, r.app.ID, ids) })
			if err != nil {
				return fmt.Errorf("remove what is gone: %w", err)
			}
		}
	}
	return nil
}

// finish ends the sync: it was applied.
func (r *run) finish(ctx context.Context) error {
	if r.of >= manyRows {
		// Without the app's row, so that no change of access waits for it.
		if err := r.db.Write(ctx, inventory.Analyze); err != nil {
			return fmt.Errorf("analyze the tables: %w", err)
		}
	}
	if r.app.Directory {
		if err := r.inventory.Directory(ctx, identity.System(), r.app); err != nil {
			return err
		}
	}
	return r.write(ctx, 0, func(ctx context.Context, tx *db.Tx) error {
		var sync integration.Sync
		err := r.integration.Advance(ctx, tx, r.sync.ID, working(), func(next *integration.Sync) {
			next.State, next.Progress.Rows, next.Progress.Of = integration.Applied, r.of, r.of
			sync = *next
		})
		if err != nil {
			return err
		}
		var fullAt time.Time
		if r.stage.full() {
			fullAt = r.began
		}
		if err := inventory.Finish(ctx, tx, r.app.ID, r.sync.ID, r.clock.Now(), fullAt); err != nil {
			return err
		}
		err = r.audit.Append(ctx, tx, audit.Event{
			Actor: identity.System(), Action: "sync.applied", AppID: r.app.ID, Object: audit.Object{Kind: "sync", ID: r.sync.ID, Name: r.app.Name},
			Detail: map[string]any{
				"file": sync.FileHash, "kind": sync.Kind, "counts": sync.Counts, "totals": sync.Totals,
				"changes": sync.Changes, "changes_hash": sync.ChangesHash, "confirmed_by": sync.ConfirmedBy,
			},
		})
		if err != nil {
			return err
		}
		if r.app.Directory {
			if err := r.jobs.Enqueue(ctx, tx, inventory.RematchJob, ""); err != nil {
				return err
			}
		}
		if err := r.jobs.Enqueue(ctx, tx, VerifyJob, r.sync.ID); err != nil {
			return err
		}
		return r.live.Publish(ctx, tx, "app/"+r.app.ID)
	})
}
