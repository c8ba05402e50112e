// Package ingest turns the files that connectors send into the inventory: it
// reads one, compares it with what is there, holds back what looks wrong, and
// writes the differences in short transactions. It may be stopped anywhere: it
// begins anew, and comes to the same end.
package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/job"
	"airlock/internal/base/live"
	"airlock/internal/identity"
	"airlock/internal/ingest/pack"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// The kinds of job: ours, and those that follow when a sync was applied; the row
// of the latter is the sync.
const (
	Job       = "ingest"
	VerifyJob = "provision.verify"
)

// Config is what a Service needs.
type Config struct {
	DB          *db.DB
	Jobs        *job.Queue
	Live        *live.Hub
	Audit       *audit.Log
	Inventory   *inventory.Service
	Integration *integration.Service
	Clock       clock.Clock
	Log         *slog.Logger

	TempDir string // files are unpacked there; it is emptied at each start
	// Decoder is the command that reads files apart from this process, with one
	// more argument: it calls Decode with that. Without it this process reads them
	// itself, and what a hostile one does to their readers it does to this process.
	Decoder []string
	Packs   pack.Packs
	Limits  Limits
}

// Limits bound what a file may hold; the zero value of each means what stands
// beside it.
type Limits struct {
	Decoded      int64 `json:"decoded"`      // bytes of the unpacked file: 8 GiB
	Types        int64 `json:"types"`        // 1,000
	Resources    int64 `json:"resources"`    // 5 million
	Entitlements int64 `json:"entitlements"` // 5 million
	Grants       int64 `json:"grants"`       // 50 million, each of 8 bytes
	Edges        int64 `json:"edges"`        // 1 million
}

func (l Limits) filled() Limits {
	for _, limit := range []struct {
		value *int64
		usual int64
	}{{&l.Decoded, 8 << 30}, {&l.Types, 1000}, {&l.Resources, 5e6}, {&l.Entitlements, 5e6}, {&l.Grants, 50e6}, {&l.Edges, 1e6}} {
		if *limit.value <= 0 {
			*limit.value = limit.usual
		}
	}
	return l
}

// Service ingests files.
type Service struct {
	db          *db.DB
	jobs        *job.Queue
	live        *live.Hub
	audit       *audit.Log
	inventory   *inventory.Service
	integration *integration.Service
	clock       clock.Clock
	log         *slog.Logger
	temp        string
	packs       pack.Packs
	limits      Limits
	decoder     []string

	// For tests and measurements: after each transaction that was committed, how
	// long it took. An error stops the run where it is, as a crash would.
	wrote func(took time.Duration) error
}

// New makes the service, and registers its job with the queue.
func New(c Config) (*Service, error) {
	if err := os.RemoveAll(c.TempDir); err != nil {
		return nil, fmt.Errorf("empty the folder for files that are unpacked: %w", err)
	}
	if err := os.MkdirAll(c.TempDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for files that are unpacked: %w", err)
	}
	s := &Service{
		db: c.DB, jobs: c.Jobs, live: c.Live, audit: c.Audit, inventory: c.Inventory, integration: c.Integration,
		clock: c.Clock, log: c.Log, temp: c.TempDir, packs: c.Packs, limits: c.Limits.filled(), decoder: c.Decoder,
		wrote: func(time.Duration) error { return nil },
	}
	c.Jobs.Handle(Job, job.Options{Slow: true, Timeout: 6 * time.Hour}, s.ingest)
	return s, nil
}

// Confirm lets a sync that was held back be applied, exactly as its file is.
func (s *Service) Confirm(ctx context.Context, actor identity.Actor, syncID string) error {
	return s.decide(ctx, actor, syncID, "sync.confirmed", func(ctx context.Context, tx *db.Tx) error {
		err := s.integration.Advance(ctx, tx, syncID, []integration.SyncState{integration.HeldBack}, func(sync *integration.Sync) {
			sync.State, sync.ConfirmedBy = integration.Comparing, actor.Name
		})
		if err != nil {
			return err
		}
		return s.jobs.Enqueue(ctx, tx, Job, syncID)
	})
}

// Discard refuses a sync that was held back. The inventory stays as it is.
func (s *Service) Discard(ctx context.Context, actor identity.Actor, syncID string) error {
	return s.decide(ctx, actor, syncID, "sync.discarded", func(ctx context.Context, tx *db.Tx) error {
		return s.integration.Advance(ctx, tx, syncID, []integration.SyncState{integration.HeldBack}, func(sync *integration.Sync) {
			sync.State, sync.Error = integration.Discarded, "it was discarded by "+actor.Name
		})
	})
}

func (s *Service) decide(ctx context.Context, actor identity.Actor, syncID, action string, change func(context.Context, *db.Tx) error) error {
	return s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		sync, err := s.integration.SyncByID(ctx, tx, syncID)
		if err != nil {
			return err
		}
		object := identity.Object{Kind: "connector", ID: sync.ConnectorID, AppID: sync.AppID}
		if sync.ConnectorID == "" { // the file was brought by hand, for the app
			object = identity.Object{Kind: "app", ID: sync.AppID, AppID: sync.AppID}
		}
		if err := inventory.Can(ctx, tx, actor, identity.Manage, object); err != nil {
			return err
		}
		if sync.State != integration.HeldBack {
			return fault.New(fault.NotReady, "the sync %s is %s: only one that is held back can be confirmed or discarded", syncID, sync.State)
		}
		if err := change(ctx, tx); err != nil {
			return err
		}
		return s.note(ctx, tx, actor, action, sync, map[string]any{"file": sync.FileHash, "anomaly": sync.Anomaly})
	})
}

// IngestFile takes a file that was brought by hand as what an app holds. The sync
// that it returns tells what becomes of it.
func (s *Service) IngestFile(ctx context.Context, actor identity.Actor, appID string, from io.Reader) (syncID string, err error) {
	app, err := s.inventory.AppByID(ctx, s.db, appID)
	if err != nil {
		return "", err
	}
	if err := inventory.Can(ctx, s.db, actor, identity.Manage, identity.Object{Kind: "app", ID: appID, AppID: appID}); err != nil {
		return "", err
	}
	file, err := s.integration.StoreFile(ctx, integration.FileC1Z, "", from, 0)
	if err != nil {
		return "", fmt.Errorf("take the file for %s: %w", app.Name, err)
	}
	err = s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		if syncID, err = s.integration.AddFileSync(ctx, tx, actor, appID, file); err != nil {
			return err
		}
		return s.audit.Append(ctx, tx, audit.Event{
			Actor: actor, Action: "app.file_brought", AppID: appID, Object: audit.Object{Kind: "app", ID: appID, Name: app.Name},
			Detail: map[string]any{"file": file.SHA256, "bytes": file.Size, "sync": syncID},
		})
	})
	return syncID, err
}

// note writes the audit event of a sync.
func (s *Service) note(ctx context.Context, tx *db.Tx, actor identity.Actor, action string, sync integration.Sync, detail any) error {
	return s.audit.Append(ctx, tx, audit.Event{
		Actor: actor, Action: action, AppID: sync.AppID, Detail: detail,
		Object: audit.Object{Kind: "sync", ID: sync.ID, Name: sync.ID},
	})
}

func asJSON(value any) (json.RawMessage, error) {
	text, err := json.Marshal(value)
	return text, err
}
