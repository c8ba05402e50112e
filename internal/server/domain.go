package server

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/job"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
	"airlock/internal/identity"
	"airlock/internal/ingest/pack"
	"airlock/internal/integration"
	"airlock/internal/integration/catalog"
	"airlock/internal/inventory"
	"airlock/internal/provision"
)

// domain is all that a database is seen through: what a server and a restore
// both need.
type domain struct {
	clock       clock.Clock
	keys        *seal.Keyring
	vault       *seal.Vault
	live        *live.Hub
	jobs        *job.Queue
	audit       *audit.Log
	identity    *identity.Service
	signIns     *identity.SignIns
	packs       pack.Packs
	inventory   *inventory.Service
	catalog     *catalog.Catalog
	integration *integration.Service
	provision   *provision.Service
}

// openDomain brings a database up to date and builds the services over it, each
// from those before it.
func openDomain(ctx context.Context, d *db.DB, settings Settings, log *slog.Logger) (m *domain, err error) {
	if err := d.Migrate(ctx); err != nil {
		return nil, err
	}
	keys, err := seal.OpenKeyring(settings.KeyFile, settings.Key)
	if err != nil {
		return nil, err
	}
	m = &domain{clock: clock.System{}, keys: keys}
	m.vault = seal.NewVault(d, keys, m.clock)
	if err := m.vault.Check(ctx); err != nil {
		return nil, err
	}
	m.live = live.New(d, log)
	if m.jobs, err = job.New(d, log); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.jobs.Stop(context.WithoutCancel(ctx)))
		}
	}()
	if err := m.jobs.Migrate(ctx); err != nil {
		return nil, err
	}
	m.audit, err = audit.New(d, m.vault, m.clock, audit.Options{
		File: filepath.Join(settings.DataDir, "checkpoints.txt"), Live: m.live, Log: log,
		MayRead: func(actor audit.Actor) error {
			return identity.Can(actor, identity.Read, identity.Object{Kind: "audit"})
		},
	})
	if err != nil {
		return nil, err
	}
	m.identity = identity.New(d, m.audit, m.vault, m.live, m.clock)
	m.signIns = identity.NewSignIns(identity.SignInConfig{
		DB: d, Audit: m.audit, Vault: m.vault, Live: m.live, Clock: m.clock, Log: log, People: m.identity,
		PublicURL: settings.PublicURL, Idle: settings.SessionIdle, Absolute: settings.SessionAbsolute,
	})
	if m.packs, err = pack.Load(settings.PacksDir); err != nil {
		return nil, err
	}
	m.inventory = inventory.New(d, m.audit, m.identity, m.live, m.clock)
	m.inventory.Enqueue = m.jobs.Enqueue
	m.identity.PeopleChanged = func(ctx context.Context, tx *db.Tx) error { return m.jobs.Enqueue(ctx, tx, inventory.RematchJob, "") }
	m.catalog = catalog.Open(settings.ConnectorsDir, catalog.Options{Log: log})
	m.integration = integration.New(integration.Config{
		DB: d, Jobs: m.jobs, Live: m.live, Audit: m.audit, Vault: m.vault, Identity: m.identity, Inventory: m.inventory, Clock: m.clock, Log: log,
		PublicHost: settings.public.Host, Form: form(m.catalog),
		Known:  func(kind string) bool { _, known := m.packs[kind]; return known },
		Limits: integration.Limits{KeepFiles: settings.KeepFiles, KeepLogs: settings.KeepLogs, KeepSyncs: settings.KeepSyncs, MaxUpload: settings.MaxUpload},
	})
	m.inventory.InUse = func(ctx context.Context, tx *db.Tx, app inventory.App) error {
		connector, err := m.integration.ConnectorOfApp(ctx, tx, app.ID)
		switch {
		case fault.Is(err, fault.NotFound):
			return nil
		case err != nil:
			return err
		}
		return fault.New(fault.NotReady, "the app %q has the connector %q: remove that first, by `airlock connector remove`; nothing was removed", app.Name, connector.Name)
	}
	m.provision = provision.New(provision.Config{
		DB: d, Jobs: m.jobs, Live: m.live, Audit: m.audit, Inventory: m.inventory, Integration: m.integration, Clock: m.clock, Log: log,
	})
	return m, nil
}

// form finds the settings form of a connector in the connectors folder.
func form(shelf *catalog.Catalog) func(ctx context.Context, name string) (integration.Form, error) {
	return func(ctx context.Context, name string) (integration.Form, error) {
		entry, err := shelf.Entry(ctx, name)
		if err != nil {
			return integration.Form{}, err
		}
		if entry.Problem != "" {
			return integration.Form{}, fault.New(fault.NotReady, "the connector %q can't be used: %s", name, entry.Problem)
		}
		return integration.Form{Check: entry.Check, Secrets: entry.Secrets()}, nil
	}
}
