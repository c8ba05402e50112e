package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
	"airlock/internal/identity"
	"airlock/internal/ingest"
	"airlock/internal/integration"
	"airlock/internal/integration/catalog"
	"airlock/internal/inventory"
	"airlock/internal/provision"
)

// Config is what the door opens to.
type Config struct {
	DB          *db.DB
	Live        *live.Hub
	Audit       *audit.Log
	Vault       *seal.Vault
	Identity    *identity.Service
	SignIns     *identity.SignIns
	Inventory   *inventory.Service
	Catalog     *catalog.Catalog
	Integration *integration.Service
	Ingest      *ingest.Service
	Provision   *provision.Service
	Log         *slog.Logger
	CADir       string // the folder of our own CA
	CA          string // its certificate as PEM; "" where the public port has another
	TempDir     string
	KeyFromEnv  bool
	Stopping    context.Context // ends when the server stops: what waits is told so
}

// door answers commands.
type door struct {
	Config
	actor identity.Actor
}

// New makes the handler behind the socket.
func New(config Config) http.Handler {
	d := &door{Config: config, actor: identity.Operator()}
	mux := http.NewServeMux()
	for name, do := range map[string]handler{
		"connector/catalog":  handle(d.catalog),
		"connector/form":     handle(d.form),
		"connector/list":     handle(d.connectors),
		"connector/show":     handle(d.connector),
		"connector/add":      handle(d.addConnector),
		"connector/set":      handle(d.setConnector),
		"connector/schedule": handle(d.schedule),
		"connector/pause":    handle(d.pause),
		"connector/resume":   handle(d.resume),
		"connector/rotate":   handle(d.rotate),
		"connector/remove":   handle(d.remove),
		"connector/sync":     handle(d.sync),
		"connector/cancel":   handle(d.cancel),
		"connector/confirm":  handle(d.confirm),
		"connector/discard":  handle(d.discard),
		"connector/logs":     handle(d.logs),
		"connector/file":     handle(d.syncFile),
		"admin/create":       handle(d.createAdmin),
		"admin/list":         handle(d.roles),
		"access/change":      handle(d.change),
		"change/show":        handle(d.showChange),
		"change/list":        handle(d.changes),
		"ingest":             upload(d.ingestFile),
		"export":             handle(d.export),
		"app/list":           handle(d.apps),
		"app/add":            handle(d.addApp),
		"app/set":            handle(d.setApp),
		"app/rename":         handle(d.renameApp),
		"app/held":           handle(d.heldByApp),
		"app/remove":         handle(d.removeApp),
		"account/link":       handle(d.link),
		"account/unlink":     handle(d.unlink),
		"people/import":      upload(d.importPeople),
		"audit/tail":         handle(d.auditTail),
		"audit/export":       handle(d.auditExport),
		"audit/verify":       handle(d.auditVerify),
		"key/rotate":         handle(d.rotateKey),
		"backup":             handle(d.backup),
		"doctor":             handle(d.doctor),
	} {
		mux.Handle("POST /"+name, serve(config.Log, name, do))
	}
	return mux
}

type nothing struct{}

// pageSize is how many rows are read from the database at a time.
const pageSize = 500

// auditTail sends the last events, and those that come.
func (d *door) auditTail(parent context.Context, in AuditTail, out *Stream) (any, error) {
	ctx, cancel := d.within(parent, 0)
	defer cancel()
	last, err := d.Audit.List(ctx, d.actor, audit.Filter{Limit: in.Last})
	if err != nil {
		return nil, err
	}
	next := int64(0)
	for _, entry := range slices.Backward(last) {
		next = entry.Seq + 1
		if err := out.Row(entry); err != nil {
			return nil, err
		}
	}
	if !in.Follow {
		return nothing{}, nil
	}
	out.Flush()
	return nothing{}, late(ctx, d.Audit.Follow(ctx, d.actor, next, func(e audit.Entry) error {
		defer out.Flush()
		return out.Row(e)
	}))
}

func (d *door) auditExport(ctx context.Context, _ nothing, out *Stream) (any, error) {
	return nothing{}, d.Audit.Export(ctx, d.actor, out)
}

func (d *door) auditVerify(ctx context.Context, _ nothing, out *Stream) (any, error) {
	if err := out.Progress(Progress{Words: "checking the audit log"}); err != nil {
		return nil, err
	}
	// A checkpoint covers what was written since the last one; of a log that was
	// altered there is none, and the verification says why.
	if err := d.Audit.Checkpoint(ctx); err != nil && !errors.Is(err, audit.ErrTampered) {
		return nil, err
	}
	return d.Audit.Verify(ctx, d.actor)
}

// rotateKey seals all secrets anew with a new key.
func (d *door) rotateKey(ctx context.Context, _ nothing, out *Stream) (any, error) {
	if err := identity.Can(d.actor, identity.Manage, identity.Object{Kind: "key"}); err != nil {
		return nil, err
	}
	if err := out.Progress(Progress{Words: "sealing all secrets anew"}); err != nil {
		return nil, err
	}
	n, err := d.Vault.Rotate(ctx)
	if err != nil {
		return nil, err
	}
	words := "The old key is gone: backups made before need a copy of it."
	if d.KeyFromEnv {
		words = "The old key can be taken out of AIRLOCK_KEY now; backups made before need a copy of it."
	}
	err = d.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		return d.Audit.Append(ctx, tx, audit.Event{
			Actor: d.actor, Action: "key.rotated", Object: audit.Object{Kind: "key", ID: "seal", Name: "sealing key"}, Detail: map[string]int{"sealed": n},
		})
	})
	return map[string]any{"sealed": n, "words": words}, err
}

// backup sends a backup.
func (d *door) backup(ctx context.Context, _ nothing, out *Stream) (_ any, err error) {
	if err := identity.Can(d.actor, identity.Read, identity.Object{Kind: "backup"}); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(d.TempDir, "backup-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "backup")
	// The entry goes first, so that the backup has it.
	err = d.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		return d.Audit.Append(ctx, tx, audit.Event{Actor: d.actor, Action: "server.backed_up", Object: audit.Object{Kind: "server", ID: "server", Name: "airlock"}})
	})
	if err != nil {
		return nil, err
	}
	if err := out.Progress(Progress{Words: "collecting all rows"}); err != nil {
		return nil, err
	}
	if err := d.DB.Backup(ctx, path); err != nil {
		if db.Full(err) || errors.Is(err, syscall.ENOSPC) {
			return nil, fault.New(fault.Exhausted, "the disk of %s is full: a backup is put together there before it is sent; nothing was written: %w", d.TempDir, err)
		}
		return nil, err
	}
	return nothing{}, d.send(path, out)
}

// send sends a file.
func (d *door) send(path string, out *Stream) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	file, err := os.Open(path) //nolint:gosec // our own file
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	const part = 1 << 20
	for sent := int64(0); ; sent += part {
		progress := Progress{Words: "sending it", Detail: fmt.Sprintf("%d of %d MB", min(sent, info.Size())>>20, info.Size()>>20)}
		if err := out.Progress(progress); err != nil {
			return err
		}
		if _, err := io.CopyN(out, file, part); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (d *door) importPeople(ctx context.Context, _ nothing, file io.Reader, _ *Stream) (any, error) {
	return d.Identity.ImportPeople(ctx, d.actor, file)
}

var (
	errLate     = fault.New(fault.Timeout, "it wasn't over in time, and goes on")
	errStopping = fault.New(fault.Unavailable, "the server stops")
)

// within bounds a wait: by a time, unless that is zero, and by the server's stop.
func (d *door) within(parent context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	stop := context.AfterFunc(d.Stopping, func() { cancel(errStopping) })
	var timer *time.Timer
	if timeout > 0 {
		timer = time.AfterFunc(timeout, func() { cancel(errLate) })
	}
	return ctx, func() {
		if timer != nil {
			timer.Stop()
		}
		stop()
		cancel(nil)
	}
}

// optional is a time for JSON; the zero time is null.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// late turns the end of a wait into its answer. That the time is over is no
// error: what was waited for goes on, and the answer says how far it is.
func late(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	if errors.Is(context.Cause(ctx), errLate) {
		return nil
	}
	return context.Cause(ctx)
}
