package ingest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

const (
	// afterOther is when a sync is looked at again that another one of its app keeps waiting.
	afterOther = 2 * time.Second
	// mostStarts is how often a file is begun to be read. One that takes the server
	// down each time isn't begun again.
	mostStarts = 5
)

// open states of a sync that this package has to do with.
func working() []integration.SyncState {
	return []integration.SyncState{integration.Comparing, integration.Applying}
}

// run is one run of an ingest.
type run struct {
	*Service
	sync      integration.Sync
	app       inventory.App
	connector string // its catalog name, or ""
	stop      bool   // what looks wrong is held back
	resumed   bool   // a run before this one had begun to write
	began     time.Time
	fence     int64
	source    *source
	copies    *copies
	header    header
	stage     *stage
	told      time.Time // when progress was told last
	done, of  int64     // rows
}

// ingest is the job: it takes the file of a sync as far as it goes.
func (s *Service) ingest(ctx context.Context, syncID string) error {
	r, err := s.begin(ctx, syncID)
	if err != nil || r == nil {
		return err
	}
	err = r.work(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, inventory.ErrTakenOver), fault.Is(err, fault.Conflict):
		s.log.InfoContext(ctx, "an ingest was taken over", "sync", syncID, "error", err)
		return nil
	case ctx.Err() != nil:
		return err
	}
	switch fault.CodeOf(err) {
	case fault.Invalid, fault.TooLarge, fault.NotFound:
		if found, ok := errors.AsType[*panicked](err); ok {
			s.log.ErrorContext(ctx, "the reader of a file panicked", "sync", syncID, "file", r.sync.FileHash, "panic", fmt.Sprint(found.value), "stack", string(found.stack))
		}
		return r.fail(ctx, err)
	default:
		return errors.Join(err, s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			return inventory.Rest(ctx, tx, r.app.ID, syncID, r.fence)
		}))
	}
}

// begin claims the app for a run, or returns nil where there is nothing to do.
func (s *Service) begin(ctx context.Context, syncID string) (r *run, err error) {
	err = s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		r = nil
		sync, err := s.integration.SyncByID(ctx, tx, syncID)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil || !slices.Contains(working(), sync.State) {
			return err
		}
		claiming, err := inventory.Claim(ctx, tx, sync.AppID, syncID)
		if fault.Is(err, fault.NotFound) {
			return s.integration.Advance(ctx, tx, syncID, working(), func(sync *integration.Sync) {
				sync.State, sync.Error = integration.Failed, "the app was removed meanwhile; nothing was changed"
			})
		}
		if err != nil {
			return err
		}
		if claiming.Holder != "" {
			return s.wait(ctx, tx, sync, claiming.Holder)
		}
		r = &run{Service: s, sync: sync, stop: true, fence: claiming.Fence, resumed: sync.State == integration.Applying}
		if r.app, err = s.inventory.AppByID(ctx, tx, sync.AppID); err != nil {
			return err
		}
		connector, err := s.integration.ConnectorOfApp(ctx, tx, sync.AppID)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err == nil {
			r.connector, r.stop = connector.Kind(), connector.AnomalyStop
		}
		if !r.resumed && claiming.Runs > mostStarts {
			r = nil
			if err := inventory.Release(ctx, tx, sync.AppID, syncID); err != nil {
				return err
			}
			return s.integration.Advance(ctx, tx, syncID, working(), func(sync *integration.Sync) {
				sync.State = integration.Failed
				sync.Error = fmt.Sprintf("the server stopped %d times while it read the file; it isn't tried again, and nothing was changed", mostStarts)
			})
		}
		return nil
	})
	return r, err
}

// wait looks at a sync again later, since another one has the app. If that is
// over, the app is free at once.
func (s *Service) wait(ctx context.Context, tx *db.Tx, sync integration.Sync, holderID string) error {
	holder, err := s.integration.SyncByID(ctx, tx, holderID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if err == nil && slices.Contains(working(), holder.State) {
		return s.jobs.EnqueueAt(ctx, tx, s.clock.Now().Add(afterOther), Job, sync.ID)
	}
	if err := inventory.Release(ctx, tx, sync.AppID, holderID); err != nil {
		return err
	}
	return s.jobs.Enqueue(ctx, tx, Job, sync.ID)
}

// write runs a transaction of this run: others are kept out. It tells how far the
// run is, now and then.
func (r *run) write(ctx context.Context, rows int, change func(ctx context.Context, tx *db.Tx) error) error {
	start := time.Now()
	tell := false
	err := r.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		start = time.Now() // it may have waited for its turn
		if err := inventory.Guard(ctx, tx, r.app.ID, r.sync.ID, r.fence); err != nil {
			return err
		}
		if rows > 0 { // what else there is to write says how far the sync is
			if err := tx.Unhurried(ctx); err != nil {
				return err
			}
		}
		if err := change(ctx, tx); err != nil {
			return err
		}
		now := r.clock.Now()
		tell = rows > 0 && now.Sub(r.told) >= time.Second
		if !tell {
			return nil
		}
		return r.integration.Advance(ctx, tx, r.sync.ID, working(), func(sync *integration.Sync) {
			sync.Progress.Rows, sync.Progress.Of = r.done+int64(rows), r.of
		})
	})
	if err != nil {
		return err
	}
	r.done += int64(rows)
	if tell {
		r.told = r.clock.Now()
	}
	return r.wrote(time.Since(start))
}

// fail ends the sync. What was written before stays; only a file that vanished
// while it was being applied comes to that.
func (r *run) fail(ctx context.Context, cause error) error {
	return r.write(ctx, 0, func(ctx context.Context, tx *db.Tx) error {
		err := r.integration.Advance(ctx, tx, r.sync.ID, working(), func(sync *integration.Sync) {
			sync.State, sync.Error = integration.Failed, fault.Words(cause)
		})
		if err != nil {
			return err
		}
		if err := inventory.Release(ctx, tx, r.app.ID, r.sync.ID); err != nil {
			return err
		}
		return r.note(ctx, tx, identity.System(), "sync.failed", r.sync, map[string]any{"file": r.sync.FileHash, "error": fault.Words(cause)})
	})
}

// work reads the file, compares it, and applies it or holds it back.
func (r *run) work(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp(r.temp, "ingest-*")
	if err != nil {
		return fmt.Errorf("make a folder to unpack a file in: %w", err)
	}
	defer func() {
		if r.source != nil {
			r.source.close()
		}
		if r.copies != nil {
			r.copies.close()
		}
		if removed := os.RemoveAll(dir); removed != nil {
			r.log.WarnContext(ctx, "a folder with an unpacked file couldn't be removed; the next start does it", "folder", dir, "error", removed)
		}
	}()
	if err := r.open(ctx, dir); err != nil {
		return err
	}
	d, err := r.compare(ctx)
	if err != nil {
		return err
	}
	if !r.resumed {
		if apply, err := r.judge(ctx, d); err != nil || !apply {
			return err
		}
	}
	if err := r.apply(ctx, d); err != nil {
		return err
	}
	return r.finish(ctx)
}

// open fetches the file and opens it.
func (r *run) open(ctx context.Context, dir string) error {
	from, err := r.integration.FileReader(ctx, r.sync.FileID)
	if err != nil {
		return err
	}
	defer from.Close()
	path, err := fetch(from, dir, r.sync.FileHash)
	if err != nil {
		if fault.Is(err, fault.NotFound) && !errors.Is(err, sql.ErrNoRows) {
			return errors.New(err.Error()) // the database failed us, not the file: try again
		}
		return err
	}
	if r.copies, err = newCopies(dir); err != nil {
		return err
	}
	if r.source, err = read(ctx, r.decoder, orders{Path: path, Limits: r.limits}); err != nil {
		return err
	}
	r.source.copies = r.copies
	if r.header, err = r.source.header(ctx); err != nil {
		return err
	}
	if r.sync.Kind != integration.Full && r.header.Kind == integration.Full {
		r.header.Kind = r.sync.Kind // less was asked for: what isn't there isn't known
	}
	// Our own clock tells when the reading began, if a connector did it for us.
	r.began = r.sync.StartedAt
	if r.began.IsZero() {
		r.began = r.header.Began
	}
	if r.began.IsZero() || r.began.After(r.sync.CreatedAt) && r.sync.StartedAt.IsZero() {
		r.began = r.sync.CreatedAt
	}
	return nil
}

// compare compares the file with the inventory.
func (r *run) compare(ctx context.Context) (*difference, error) {
	s := newStage(r.limits, r.header)
	r.stage = s
	if err := s.readTypes(ctx, r.source); err != nil {
		return nil, err
	}
	if err := s.readResources(ctx, r.source, r.packs, r.connector); err != nil {
		return nil, err
	}
	var d *difference
	err := r.db.Read(ctx, func(q *db.Snapshot) (err error) {
		d, err = compareResources(ctx, q, r.app.ID, s, r.sync.ConfirmedBy != "")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("compare the resources: %w", err)
	}
	if err := s.readEntitlements(ctx, r.source); err != nil {
		return nil, err
	}
	err = r.db.Read(ctx, func(q *db.Snapshot) error { return compareEntitlements(ctx, q, r.app.ID, s, d) })
	if err != nil {
		return nil, fmt.Errorf("compare the entitlements: %w", err)
	}
	// The file's grants are read while the database's are.
	s.rank()
	var held held
	err = beside(ctx, func(ctx context.Context) error {
		if err := s.readGrants(ctx, r.source); err != nil {
			return err
		}
		return r.source.end(ctx)
	}, func(ctx context.Context) error {
		err := r.db.Read(ctx, func(q *db.Snapshot) (err error) {
			held, err = readHeld(ctx, q, r.app.ID, s, r.began)
			return err
		})
		if err != nil {
			return fmt.Errorf("read the grants that are there: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	d.compareGrants(s, held)
	err = r.db.Read(ctx, func(q *db.Snapshot) error { return d.compareEdges(ctx, q, r.app.ID, s, held.revoked) })
	if err != nil {
		return nil, fmt.Errorf("compare how grants follow from others: %w", err)
	}
	d.count(s)
	return d, nil
}

// beside runs two functions at the same time, and returns when both have ended. The
// first that fails stops the other, and is what is told.
func beside(ctx context.Context, here, there func(ctx context.Context) error) error {
	ctx, fail := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() {
			if found := recover(); found != nil { // the queue does the same with what it runs
				fail(fmt.Errorf("a part of an ingest panicked: %v\n%s", found, debug.Stack()))
			}
		}()
		if err := there(ctx); err != nil {
			fail(err)
		}
	}()
	returned := false
	defer func() {
		if !returned { // here panicked
			fail(context.Canceled)
			<-ended
		}
	}()
	if err := here(ctx); err != nil {
		fail(err)
	}
	<-ended
	returned = true
	err := context.Cause(ctx)
	fail(nil)
	return err
}

// judge decides whether the difference is applied: not if a newer sync was, and
// not by itself if it looks wrong.
func (r *run) judge(ctx context.Context, d *difference) (apply bool, err error) {
	var anomaly *Anomaly
	if r.stop && r.sync.ConfirmedBy == "" {
		if anomaly = judge(r.stage, d); anomaly != nil {
			if err := r.db.Read(ctx, func(q *db.Snapshot) error { return anomaly.name(ctx, q, r.app.ID, d) }); err != nil {
				return false, fmt.Errorf("read what would go: %w", err)
			}
		}
	}
	described, err := r.describe(d)
	if err != nil {
		return false, err
	}
	outdated, err := r.outdated(ctx)
	if err != nil {
		return false, err
	}
	apply = true
	err = r.write(ctx, 0, func(ctx context.Context, tx *db.Tx) error {
		newest, err := inventory.FullAt(ctx, tx, r.app.ID)
		if err != nil {
			return err
		}
		if r.began.Before(newest) {
			return refuse("a sync that began at %s was applied already, and this one began before, at %s: nothing was changed",
				newest.Format(time.RFC3339), r.began.Format(time.RFC3339))
		}
		for _, old := range outdated {
			err := r.integration.Advance(ctx, tx, old, []integration.SyncState{integration.HeldBack}, func(sync *integration.Sync) {
				sync.State, sync.Error = integration.Discarded, "a newer sync took its place"
			})
			if err != nil && !fault.Is(err, fault.Conflict) {
				return err
			}
		}
		if anomaly == nil {
			return r.integration.Advance(ctx, tx, r.sync.ID, working(), func(sync *integration.Sync) {
				described(sync)
				if !d.none() {
					sync.State = integration.Applying
				}
			})
		}
		apply = false
		text, err := asJSON(anomaly)
		if err != nil {
			return err
		}
		err = r.integration.Advance(ctx, tx, r.sync.ID, working(), func(sync *integration.Sync) {
			described(sync)
			sync.State, sync.Anomaly = integration.HeldBack, text
		})
		if err != nil {
			return err
		}
		if err := inventory.Release(ctx, tx, r.app.ID, r.sync.ID); err != nil {
			return err
		}
		return r.note(ctx, tx, identity.System(), "sync.held", r.sync, map[string]any{"file": r.sync.FileHash, "anomaly": anomaly})
	})
	return apply, err
}

// outdated are the syncs of the app that are held back, and that this one is newer than.
func (r *run) outdated(ctx context.Context) ([]string, error) {
	if !r.stage.full() {
		return nil, nil
	}
	list, err := r.integration.Syncs(ctx, identity.System(), integration.SyncFilter{AppID: r.app.ID}, "", 100)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, sync := range list {
		if sync.State == integration.HeldBack && sync.ID != r.sync.ID && !sync.CreatedAt.After(r.sync.CreatedAt) {
			ids = append(ids, sync.ID)
		}
	}
	return ids, nil
}

// Total is how many resources of a type a source says it has, and how many its
// file holds.
type Total struct {
	Source int64 `json:"source"`
	File   int64 `json:"file"`
}

// describe is what is kept of the file and of the difference with the sync. It is
// written before the first change: a run that goes on after another sees only
// what that left.
func (r *run) describe(d *difference) (func(*integration.Sync), error) {
	counts, err := asJSON(r.stage.counts)
	if err != nil {
		return nil, err
	}
	totals := map[string]Total{}
	for name, total := range r.stage.totals {
		totals[name] = Total{Source: total, File: r.stage.counts.Resources[name]}
	}
	told, err := asJSON(totals)
	if err != nil {
		return nil, err
	}
	changes, err := asJSON(d.changes)
	if err != nil {
		return nil, err
	}
	return func(sync *integration.Sync) {
		sync.Kind, sync.SourceSyncID = r.header.Kind, r.header.ID
		sync.BeganAt, sync.EndedAt = r.header.Began, r.header.Ended
		sync.Counts, sync.Totals, sync.Changes, sync.ChangesHash = counts, told, changes, d.hash
	}, nil
}
