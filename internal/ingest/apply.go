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

// fewRows is how many rows one transaction writes on SQLite, where all others wait
// for it: so many that a million is quick, so few that nobody waits for a tenth of a
// second. On PostgreSQL, where only changes of the same app wait, it is some times as
// many, but for what takes several statements.
const fewRows = 500

// manyRows is after how many rows the database looks at its tables anew.
const manyRows = 10_000

// chunks are how many resources, entitlements or changed rows, and how many new
// grants, one transaction writes.
func chunks(engine db.Engine) (few, some int) {
	if engine == db.Postgres {
		return 2 * fewRows, 8 * fewRows
	}
	return fewRows, 2 * fewRows
}

// apply writes the difference, in an order in which each row finds what it refers
// to, and in which what goes is left by all that refers to it first.
func (r *run) apply(ctx context.Context, d *difference) error {
	s := r.stage
	few, some := chunks(r.db.Engine())
	if r.db.Engine() == db.SQLite && d.haveAll.grants > 0 {
		some = fewRows // they go between others, most to a page of their own
	}
	stamp := inventory.Stamp{AppID: r.app.ID, SyncID: r.sync.ID, At: r.began}
	r.of = int64(len(d.types) + d.resources + d.entitlements + len(d.add) + len(d.set) + len(d.end) + len(d.addEdges) + len(d.dropEdges) +
		len(d.goneResources) + len(d.goneEntitlements))
	if err := r.applyTypes(ctx, stamp, d); err != nil {
		return fmt.Errorf("write the resource types: %w", err)
	}
	if d.resources+d.entitlements > 0 {
		things, err := r.copies.source()
		if err != nil {
			return err
		}
		if err := r.applyResources(ctx, stamp, things); err != nil {
			return fmt.Errorf("write the resources: %w", err)
		}
		if err := r.applyEntitlements(ctx, stamp, things); err != nil {
			return fmt.Errorf("write the entitlements: %w", err)
		}
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
	for pairs := range slices.Chunk(d.end, fewRows) {
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

// batch is some rows that are new, and some that changed.
type batch[T any] struct{ fresh, old []T }

// inBatches makes rows and writes them, so many in a transaction: some are made
// while those before are written.
func inBatches[T any](ctx context.Context, most int, each func(ctx context.Context, put func(row T, what change) error) error, write func(ctx context.Context, b batch[T]) error) error {
	batches := make(chan batch[T])
	return beside(ctx, func(ctx context.Context) error {
		for b := range batches {
			if err := write(ctx, b); err != nil {
				return err
			}
		}
		return nil
	}, func(ctx context.Context) error {
		defer close(batches)
		var b batch[T]
		hand := func() error {
			select {
			case batches <- b:
				b = batch[T]{}
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		err := each(ctx, func(row T, what change) error {
			if what == isNew {
				b.fresh = append(b.fresh, row)
			} else {
				b.old = append(b.old, row)
			}
			if len(b.fresh)+len(b.old) < most {
				return nil
			}
			return hand()
		})
		if err != nil || len(b.fresh)+len(b.old) == 0 {
			return err
		}
		return hand()
	})
}

// applyResources writes the resources that are new or changed, and whose the
// accounts are.
func (r *run) applyResources(ctx context.Context, stamp inventory.Stamp, things *source) error {
	s := r.stage
	few, _ := chunks(r.db.Engine())
	return inBatches(ctx, few, func(ctx context.Context, put func(inventory.ResourceRow, change) error) error {
		return things.each(ctx, tagResource, 4, func(fields [][]byte) error {
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
			return put(row, s.resources[n].change)
		})
	}, func(ctx context.Context, b batch[inventory.ResourceRow]) error {
		return r.write(ctx, len(b.fresh)+len(b.old), func(ctx context.Context, tx *db.Tx) error {
			if err := r.inventory.Own(ctx, tx, r.app, b.fresh); err != nil {
				return err
			}
			if err := inventory.AddResources(ctx, tx, stamp, b.fresh); err != nil {
				return err
			}
			if err := inventory.SetResources(ctx, tx, stamp, b.old); err != nil {
				return err
			}
			return r.inventory.Match(ctx, tx, r.app, b.old)
		})
	})
}

func (r *run) applyEntitlements(ctx context.Context, stamp inventory.Stamp, things *source) error {
	s := r.stage
	few, _ := chunks(r.db.Engine())
	return inBatches(ctx, few, func(ctx context.Context, put func(inventory.EntitlementRow, change) error) error {
		return things.each(ctx, tagEntitlement, 4, func(fields [][]byte) error {
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
			return put(row, s.entitlements[n].change)
		})
	}, func(ctx context.Context, b batch[inventory.EntitlementRow]) error {
		return r.write(ctx, len(b.fresh)+len(b.old), func(ctx context.Context, tx *db.Tx) error {
			if err := inventory.AddEntitlements(ctx, tx, stamp, b.fresh); err != nil {
				return err
			}
			return inventory.SetEntitlements(ctx, tx, stamp, b.old)
		})
	})
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
		if err := inventory.Analyze(ctx, r.db); err != nil {
			return err
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
		if now, err := r.inventory.AppByID(ctx, tx, r.app.ID); err != nil {
			return err
		} else if now.Matching != r.app.Matching { // what came after the change was matched the old way
			if err := r.jobs.Enqueue(ctx, tx, inventory.RematchJob, r.app.ID); err != nil {
				return err
			}
		}
		if err := r.jobs.Enqueue(ctx, tx, VerifyJob, r.sync.ID); err != nil {
			return err
		}
		return r.live.Publish(ctx, tx, "app/"+r.app.ID)
	})
}
