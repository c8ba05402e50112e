package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/seal"
	"airlock/internal/edge/admin"
	"airlock/internal/integration/catalog"
)

// leastFree is the space below which the doctor warns, in bytes, and leastLeft
// how long a certificate should still be good.
const (
	leastFree = 1 << 30
	leastLeft = 14 * day
)

// Finding is what the doctor says of one thing.
type Finding struct {
	What  string `json:"what"`
	OK    bool   `json:"ok"`
	Note  bool   `json:"note,omitempty"` // it is well for some, and not for others
	Words string `json:"words"`
}

// findings are what was found so far.
type findings []Finding

// add says that a thing is wrong, if there is an error, or how it is.
func (f *findings) add(what string, err error, words string, args ...any) {
	if err != nil {
		*f = append(*f, Finding{What: what, Words: err.Error()})
		return
	}
	*f = append(*f, Finding{What: what, OK: true, Words: fmt.Sprintf(words, args...)})
}

// ask asks the server that runs what it finds.
func (f *findings) ask(parent context.Context, dataDir string) {
	ctx, cancel := context.WithTimeout(parent, 10*time.Second)
	defer cancel()
	list, err := admin.Dial(dataDir).Doctor(ctx)
	for _, one := range list {
		*f = append(*f, Finding{What: one.What, OK: one.OK, Words: one.Words})
	}
	if ctx.Err() != nil && parent.Err() == nil {
		err = errors.New("it was asked, and hasn't answered within 10 seconds")
	}
	f.add("server", err, "runs")
}

// Wrong is an error if something is wrong.
func Wrong(list []Finding) error {
	wrong := 0
	for _, f := range list {
		if !f.OK {
			wrong++
		}
	}
	switch wrong {
	case 0:
		return nil
	case 1:
		return errors.New("one thing is wrong")
	}
	return fmt.Errorf("%d things are wrong", wrong)
}

// Doctor looks at what a server needs, whether one runs or not, and says of each
// thing how it is. It changes nothing.
func Doctor(ctx context.Context, settings Settings) []Finding {
	var all findings
	all.add("settings", nil, "listen %s, public URL %s", settings.Listen, settings.PublicURL)
	if settings.local() {
		all = append(all, Finding{What: "public URL", OK: true, Note: true, Words: settings.PublicURL + " is this machine's own: " + localWords})
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", admin.Socket(settings.DataDir))
	running := err == nil
	switch {
	case running:
		_ = conn.Close() // nothing was sent
		all.ask(ctx, settings.DataDir)
	case errors.Is(err, unix.EACCES):
		all.add("server", fmt.Errorf("this user may not use %s: look as the user that runs the server", admin.Socket(settings.DataDir)), "")
	default:
		all.add("server", nil, "doesn't run")
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", settings.Listen)
		if err == nil {
			err = listener.Close()
		}
		all.add("port", err, "%s is free", settings.Listen)
	}
	all.add("data directory", dataDirProblem(settings.DataDir), "%s", settings.DataDir)
	if settings.TLSCert != "" {
		all.add("certificate", certificateProblem(settings), "is for %s", settings.public.Hostname())
	}
	diagnoseDatabase(ctx, settings, running, &all)

	shelf := catalog.Open(settings.ConnectorsDir, catalog.Options{Log: slog.New(slog.DiscardHandler)})
	entries, err := shelf.List(ctx)
	there := settings.ConnectorsDir + ": " + admin.Count(len(entries), "connector")
	if _, gone := os.Stat(settings.ConnectorsDir); gone != nil {
		there = settings.ConnectorsDir + " isn't there: none can be hosted"
	}
	all.add("connectors folder", err, "%s", there)
	for _, entry := range entries {
		var problem error
		if entry.Problem != "" {
			problem = errors.New(entry.Problem)
		}
		all.add("connector "+entry.Name, problem, "%s", entry.Version)
	}
	return all
}

// dataDirProblem finds what is wrong with the data directory.
func dataDirProblem(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil // the first start makes it
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	case info.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("everybody can write into %s (%s), and so take the place of the server's socket: chmod 700 it", dir, info.Mode().Perm())
	}
	if err := unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("this user can't write into %s: %w", dir, err)
	}
	var space unix.Statfs_t
	if err := unix.Statfs(dir, &space); err != nil {
		return err
	}
	if free := space.Bavail * uint64(space.Bsize); free < leastFree { //nolint:gosec // a block's size isn't negative
		return fmt.Errorf("only %d MB are free in %s", free>>20, dir)
	}
	return nil
}

// certificateProblem finds what is wrong with the operator's certificate.
func certificateProblem(settings Settings) error {
	pair, err := tls.LoadX509KeyPair(settings.TLSCert, settings.TLSKey)
	if err != nil {
		return err
	}
	if left := time.Until(pair.Leaf.NotAfter); left < leastLeft {
		return fmt.Errorf("%s is good until %s only", settings.TLSCert, pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	return pair.Leaf.VerifyHostname(settings.public.Hostname())
}

// diagnoseDatabase looks into the database without changing it.
func diagnoseDatabase(ctx context.Context, settings Settings, running bool, all *findings) {
	where := settings.database()
	if settings.DatabaseURL == "" {
		if _, err := os.Stat(where); errors.Is(err, os.ErrNotExist) {
			all.add("database", nil, "none yet: the first start makes it")
			return
		}
	}
	d, err := db.OpenToRead(ctx, where, running)
	if err != nil {
		all.add("database", err, "")
		return
	}
	defer func() { _ = d.Close() }() // nothing was written
	version, err := d.Version(ctx)
	if err == nil && version > db.Newest() {
		err = fmt.Errorf("it is of version %d, and this program knows versions up to %d: use the newer program", version, db.Newest())
	}
	switch {
	case err == nil && version == 0:
		all.add("database", nil, "%s, empty: the first start makes its tables", d.Engine())
		return
	case err == nil && version < db.Newest():
		all.add("database", nil, "%s, version %d: the next start brings it up to %d", d.Engine(), version, db.Newest())
	default:
		all.add("database", err, "%s, version %d", d.Engine(), version)
	}
	if err != nil {
		return
	}
	if err := keyIsThere(ctx, d, settings); err != nil {
		all.add("sealing key", err, "")
		return
	}
	if _, err := os.Stat(settings.KeyFile); settings.Key == "" && errors.Is(err, os.ErrNotExist) {
		all.add("sealing key", nil, "none yet: the next start makes it")
		return
	}
	keyring, err := seal.OpenKeyring(settings.KeyFile, settings.Key)
	if err == nil {
		err = seal.NewVault(d, keyring, clock.System{}).Check(ctx)
	}
	all.add("sealing key", err, "opens the secrets")
}
