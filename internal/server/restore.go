package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/integration/hosting"
)

// Restored is what a restore did.
type Restored struct {
	Engine  db.Engine `json:"engine"`
	Paused  int64     `json:"paused"`   // hosted connectors
	GivenUp int64     `json:"given_up"` // grants that were under way
	Aside   string    `json:"aside"`    // where checkpoints.txt of another audit log is now, if there was one
}

// Restore makes an empty database into what a backup holds, all or nothing. The
// key that seals the backup's secrets must be in place. Nothing is granted by
// yesterday's word: hosted connectors are paused, and what was to be granted is
// given up.
func Restore(ctx context.Context, settings Settings, backup string) (done Restored, err error) {
	if settings.Key == "" {
		if _, err := os.Stat(settings.KeyFile); errors.Is(err, os.ErrNotExist) {
			return done, fault.New(fault.NotReady, "the sealing key of the time of the backup isn't there: put its file at %s, or give it in AIRLOCK_KEY; nothing was restored", settings.KeyFile)
		}
	}
	if _, err := os.Stat(backup); err != nil {
		return done, fault.New(fault.Invalid, "the backup can't be read: %w", err)
	}
	return done, directly(ctx, settings, func(ctx context.Context, d *db.DB, m *domain) error {
		done, err = m.restore(ctx, d, backup)
		return err
	})
}

// restore fills the database, which is empty.
func (m *domain) restore(ctx context.Context, d *db.DB, backup string) (done Restored, err error) {
	actor := identity.Operator()
	done.Engine = d.Engine()
	err = d.Restore(ctx, backup, func(ctx context.Context, tx *db.Tx) error {
		if err := m.vault.CheckWith(ctx, tx); err != nil {
			return fault.New(fault.CodeOf(err), "%w; nothing was restored", err)
		}
		// The entry comes before all others: it marks where the backup ends.
		err := m.audit.AppendRestored(ctx, tx, actor, audit.Object{Kind: "server", ID: "server", Name: "airlock"})
		if err != nil {
			return err
		}
		if done.Paused, err = m.integration.PauseHosted(ctx, tx, actor, "restored from a backup: check it, then resume it"); err != nil {
			return err
		}
		if err := hosting.ReleaseAll(ctx, tx); err != nil {
			return err
		}
		if err := identity.ForgetSignIns(ctx, tx); err != nil {
			return err
		}
		if err := m.integration.WithdrawGrants(ctx, tx, actor); err != nil {
			return err
		}
		done.GivenUp, err = m.provision.GiveUpGrants(ctx, tx, actor, "a backup was restored while it was under way")
		return err
	})
	if err != nil {
		return done, err
	}
	if done.Aside, err = m.audit.SetAside(ctx); err != nil {
		return done, fmt.Errorf("the backup is restored, but: %w", err)
	}
	return done, m.audit.Checkpoint(ctx)
}

// directly does something as a server would that doesn't run: nobody else uses the
// data directory meanwhile.
func directly(ctx context.Context, settings Settings, do func(ctx context.Context, d *db.DB, m *domain) error) (err error) {
	lock, err := lockDataDir(settings.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	d, err := openDatabase(ctx, settings)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := keyIsThere(ctx, d, settings); err != nil {
		return err
	}
	m, err := openDomain(ctx, d, settings, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.jobs.Stop(context.WithoutCancel(ctx))) }()
	return do(ctx, d, m)
}
