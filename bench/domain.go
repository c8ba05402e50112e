package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/job"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
	"airlock/internal/identity"
	"airlock/internal/ingest"
	"airlock/internal/ingest/pack"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// domain is a server without its doors: what `airlock serve` builds below them.
type domain struct {
	db          *db.DB
	live        *live.Hub
	jobs        *job.Queue
	identity    *identity.Service
	inventory   *inventory.Service
	integration *integration.Service
	ingest      *ingest.Service
}

// openDomain opens a database, brings it up to date, and starts what works on it.
// End it with close.
func openDomain(ctx context.Context, where, dir string, observe func(held time.Duration)) (_ *domain, err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	m := &domain{}
	if m.db, err = db.Open(ctx, where); err != nil {
		return nil, err
	}
	if err := m.db.Migrate(ctx); err != nil {
		return nil, err
	}
	m.db.Observe(observe)
	keys, err := seal.OpenKeyring(filepath.Join(dir, "key"), "")
	if err != nil {
		return nil, err
	}
	vault := seal.NewVault(m.db, keys, clock.System{})
	m.live = live.New(m.db, log)
	if m.jobs, err = job.New(m.db, log); err != nil {
		return nil, err
	}
	if err := m.jobs.Migrate(ctx); err != nil {
		return nil, err
	}
	records, err := audit.New(m.db, vault, clock.System{}, audit.Options{Live: m.live, Log: log})
	if err != nil {
		return nil, err
	}
	m.identity = identity.New(m.db, records, vault, m.live, clock.System{})
	m.inventory = inventory.New(m.db, records, m.identity, m.live, clock.System{})
	m.integration = integration.New(integration.Config{
		DB: m.db, Jobs: m.jobs, Live: m.live, Audit: records, Vault: vault, Identity: m.identity, Inventory: m.inventory,
		Clock: clock.System{}, Log: log, PublicHost: publicHost,
	})
	packs, err := pack.Load("")
	if err != nil {
		return nil, err
	}
	m.ingest, err = ingest.New(ingest.Config{
		DB: m.db, Jobs: m.jobs, Live: m.live, Audit: records, Inventory: m.inventory, Integration: m.integration, Clock: clock.System{}, Log: log,
		TempDir: filepath.Join(dir, "ingest"), Decoder: []string{self, decodeArgument}, Packs: packs,
	})
	if err != nil {
		return nil, err
	}
	nothing := func(context.Context, string) error { return nil }
	m.jobs.Handle(ingest.VerifyJob, job.Options{}, nothing)
	m.jobs.Handle(inventory.RematchJob, job.Options{}, nothing)
	if err := m.live.Start(ctx); err != nil {
		return nil, err
	}
	return m, m.jobs.Start(ctx)
}

func (m *domain) close(ctx context.Context) error {
	err := m.jobs.Stop(ctx)
	m.live.Stop()
	return errors.Join(err, m.db.Close())
}
