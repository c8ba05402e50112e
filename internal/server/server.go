// Package server builds all there is, once and in order, starts it, and stops it
// gracefully.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/id"
	"airlock/internal/base/job"
	"airlock/internal/base/trace"
	"airlock/internal/edge/admin"
	"airlock/internal/edge/baton"
	"airlock/internal/edge/token"
	"airlock/internal/edge/web"
	"airlock/internal/ingest"
	"airlock/internal/insight"
	"airlock/internal/integration/hosting"
	"airlock/internal/inventory"
)

// Server is a whole Airlock.
type Server struct {
	settings Settings
	log      *slog.Logger
	lock     *os.File
	db       *db.DB
	*domain
	host  *hosting.Host
	baton *baton.Server
	pages *web.Server

	public   *http.Server // the one https port
	children *http.Server // the same for hosted connectors, on loopback
	socket   *http.Server // commands
	listener struct{ public, children, socket net.Listener }
	stopping context.Context // ends when the server begins to stop
	stop     context.CancelFunc
	grace    time.Duration // that what runs has to end when the server is stopped
	failed   chan error
	ready    atomic.Bool
}

// How long what runs usually has to end when the server is stopped, and then the
// last checkpoint of the audit log.
const (
	usualGrace = 20 * time.Second
	lastGrace  = 5 * time.Second
)

// bodyTime is how long the body of a request may be on its way, other than a
// connector's.
const bodyTime = 30 * time.Second

// Run serves until the context ends, and then stops.
func Run(ctx context.Context, settings Settings, logTo io.Writer) error {
	s, err := New(ctx, settings, logTo)
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return errors.Join(err, s.Stop())
	}
	select {
	case <-ctx.Done():
		s.log.InfoContext(ctx, "stopping; a second signal ends it at once")
	case err = <-s.failed:
		s.log.ErrorContext(ctx, "stopping", "error", err)
	}
	return errors.Join(err, s.Stop())
}

// New builds a server: it opens the doors' sockets, but lets nobody in yet, and
// the database, which it brings up to date.
func New(ctx context.Context, settings Settings, logTo io.Writer) (_ *Server, err error) {
	s := &Server{settings: settings, log: logger(settings, logTo), grace: usualGrace, failed: make(chan error, 3)}
	s.stopping, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err == nil {
			return
		}
		s.stop()
		if s.domain != nil {
			err = errors.Join(err, s.jobs.Stop(context.WithoutCancel(ctx)))
		}
		err = errors.Join(err, s.close())
	}()
	if s.lock, err = lockDataDir(settings.DataDir); err != nil {
		return nil, err
	}
	if err := s.listen(ctx); err != nil {
		return nil, err
	}
	if s.db, err = openDatabase(ctx, settings); err != nil {
		return nil, err
	}
	if err := keyIsThere(ctx, s.db, settings); err != nil {
		return nil, err
	}
	d, err := openDomain(ctx, s.db, settings, s.log)
	if err != nil {
		return nil, err
	}
	s.domain = d
	ca, err := openAuthority(ctx, d.vault, d.clock)
	if err != nil {
		return nil, err
	}
	if err := ca.writeCA(filepath.Join(settings.DataDir, "ca")); err != nil {
		return nil, err
	}
	intake, err := ingest.New(ingest.Config{
		DB: s.db, Jobs: d.jobs, Live: d.live, Audit: d.audit, Inventory: d.inventory, Integration: d.integration, Clock: d.clock, Log: s.log,
		TempDir: filepath.Join(settings.DataDir, "tmp", "ingest"), Packs: d.packs, Decoder: settings.Decoder,
	})
	if err != nil {
		return nil, err
	}
	s.host = hosting.New(s.hosted())
	s.sweeps()

	metrics, err := newMetrics(d, s.log)
	if err != nil {
		return nil, err
	}
	s.baton = baton.New(baton.Config{
		DB: s.db, Integration: d.integration, Identity: d.identity, Log: s.log, TempDir: filepath.Join(settings.DataDir, "tmp", "uploads"),
	})
	caPEM := string(ca.pem)
	if settings.TLS == "off" || settings.TLSCert != "" {
		caPEM = ""
	}
	s.pages = s.newPages(intake, caPEM)
	tokens := token.Handler(d.identity, s.log)
	if err := s.serveTLS(s.door(metrics, tokens, s.pages), s.door(metrics, tokens, http.NotFoundHandler()), ca); err != nil {
		return nil, err
	}
	s.socket = &http.Server{ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), Handler: admin.New(admin.Config{
		DB: s.db, Live: d.live, Audit: d.audit, Vault: d.vault, Identity: d.identity, Inventory: d.inventory, Catalog: d.catalog,
		SignIns: d.signIns, Integration: d.integration, Ingest: intake, Provision: d.provision, Log: s.log, Stopping: s.stopping,
		CADir: filepath.Join(settings.DataDir, "ca"), CA: caPEM, TempDir: filepath.Join(settings.DataDir, "tmp"), KeyFromEnv: settings.Key != "",
	})}
	return s, nil
}

// openDatabase opens the database that the settings name.
func openDatabase(ctx context.Context, settings Settings) (*db.DB, error) {
	d, err := db.Open(ctx, settings.database())
	if err != nil && settings.DatabaseURL != "" {
		return nil, fault.New(fault.NotReady, "%w; AIRLOCK_DATABASE_URL names it", err)
	}
	return d, err
}

// keyIsThere fails where the database holds sealed secrets and their key is gone:
// a new one would open none of them, and hide that the old one is needed.
func keyIsThere(ctx context.Context, d *db.DB, settings Settings) error {
	if settings.Key != "" {
		return nil
	}
	if _, err := os.Stat(settings.KeyFile); !errors.Is(err, os.ErrNotExist) {
		return nil // what else is wrong with it is told when it is read
	}
	version, err := d.Version(ctx)
	if err != nil || version == 0 {
		return err
	}
	sealed, err := db.Value[int64](ctx, d, "SELECT COUNT(*) FROM secret")
	if err != nil || sealed == 0 {
		return err
	}
	return fault.New(fault.NotReady, "the database holds %d sealed secrets, and the file with their key isn't there: put your copy of it back at %s (chmod 600), "+
		"name its place in AIRLOCK_KEY_FILE, or give the key in AIRLOCK_KEY; no new key was made, nothing was changed", sealed, settings.KeyFile)
}

// logger writes lines with the ids of what is being done. What has no value is
// left out.
func logger(settings Settings, to io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: settings.LogLevel, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if v := a.Value.Any(); v == nil || v == "" {
			return slog.Attr{}
		}
		return a
	}}
	if settings.LogFormat == "json" {
		return slog.New(trace.Handler(slog.NewJSONHandler(to, options)))
	}
	return slog.New(trace.Handler(slog.NewTextHandler(to, options)))
}

// lockDataDir makes the data directory, for our eyes alone, and keeps a second
// server out of it.
func lockDataDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.New(fault.NotReady, "make the data directory: %w; AIRLOCK_DATA_DIR names another", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator names the directory
	if err != nil {
		return nil, fault.New(fault.NotReady, "lock the data directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fault.New(fault.NotReady, "the data directory %s is used by another server; stop that, or name another directory", dir), lock.Close())
	}
	tmp := filepath.Join(dir, "tmp") // what a server that was killed left there is of no use
	if err := errors.Join(os.RemoveAll(tmp), os.Mkdir(tmp, 0o700)); err != nil {
		return nil, errors.Join(fmt.Errorf("empty the data directory's tmp: %w", err), lock.Close())
	}
	return lock, nil
}

// listen opens the sockets, so that a port in use is told before anything starts.
func (s *Server) listen(ctx context.Context) (err error) {
	var config net.ListenConfig
	if s.listener.public, err = config.Listen(ctx, "tcp", s.settings.Listen); err != nil {
		return fault.New(fault.NotReady, "listen at %s: %w; AIRLOCK_LISTEN names another address", s.settings.Listen, err)
	}
	if s.listener.children, err = config.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return fmt.Errorf("listen for hosted connectors: %w", err)
	}
	// The socket is made in a folder of our own and moved to its place once it is
	// 0600. We have the directory's lock: one there is of a server that is gone.
	made, path := admin.Socket(filepath.Join(s.settings.DataDir, "tmp")), admin.Socket(s.settings.DataDir)
	socket, err := config.Listen(ctx, "unix", made)
	if err != nil {
		return fault.New(fault.NotReady, "listen for commands: %w (a socket's path has 103 letters at most: choose a shorter data directory)", err)
	}
	s.listener.socket = socket
	if unix, ok := socket.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false) // it is called otherwise then
	}
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, path)); err != nil {
		return fault.New(fault.NotReady, "listen for commands: %w", err)
	}
	return nil
}

// newPages makes the pages, over the services.
func (s *Server) newPages(intake *ingest.Service, ca string) *web.Server {
	settings, database := s.settings, "SQLite, in the data directory"
	if s.db.Engine() == db.Postgres {
		database = "PostgreSQL"
	}
	keysFrom := "AIRLOCK_KEY"
	if s.keys.FromFile() {
		keysFrom = settings.KeyFile
	}
	return web.New(web.Config{
		Session: web.SessionsOf(s.signIns), SignOut: s.signIns.SignOut,
		SignIns: s.signIns, People: s.identity, Inventory: s.inventory, Catalog: s.catalog, Integration: s.integration, Ingest: intake,
		Provision: s.provision, Insight: insight.New(s.db, s.integration, s.packs), Audit: s.audit, DB: s.db,
		Live: s.live, Clock: s.clock, Log: s.log, CA: ca, Organisation: settings.Organisation, Development: settings.Development,
		About: web.About{
			Version: settings.Version, PublicURL: settings.PublicURL, Database: database, DataDir: settings.DataDir,
			KeyIDs: s.keys.IDs, KeysFrom: keysFrom,
		},
		Origins: []string{settings.public.Scheme + "://" + settings.public.Host}, // a proxy may change the Host
	})
}

// door is what answers at the one https port: connectors by gRPC, all others by
// HTTP; what isn't asked by programs is a page.
func (s *Server) door(metrics *metrics, tokens, pages http.Handler) http.Handler {
	rpc := metrics.rpc(s.baton.Handler())
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.Handle(token.Path, tokens)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	others := metrics.http(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := clientAddress(r, s.settings.Proxies)
		r = r.WithContext(trace.With(r.Context(), "address", from))
		r.RemoteAddr = from
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			rpc.ServeHTTP(w, r)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.ContentLength != 0 { // a body is a small form here, or an upload that lifts the limit itself
			// A connection that can't be given a deadline is a test's.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
		}
		others.ServeHTTP(w, r.WithContext(trace.With(r.Context(), "request", id.New())))
	})
}

// clientAddress is where a request comes from: the last address of its way that
// isn't a trusted proxy's. Who isn't one can say what they like in a header.
func clientAddress(r *http.Request, proxies []netip.Prefix) string {
	at := r.RemoteAddr
	way := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, before := range slices.Backward(way) {
		address, ok := addressOf(at)
		if !ok || !slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(address) }) {
			return at
		}
		before = strings.TrimSpace(before)
		if _, ok := addressOf(before); !ok {
			return at
		}
		at = before
	}
	return at
}

// addressOf reads an address, with a port or without.
func addressOf(text string) (netip.Addr, bool) {
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return withPort.Addr().Unmap().WithZone(""), true
	}
	address, err := netip.ParseAddr(text)
	return address.Unmap().WithZone(""), err == nil
}

// readyz answers whether the server can serve now.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if !s.ready.Load() {
		http.Error(w, "starting or stopping", http.StatusServiceUnavailable)
		return
	}
	if _, err := db.Value[int64](ctx, s.db, "SELECT 1"); err != nil {
		s.log.WarnContext(ctx, "the database doesn't answer", "error", err)
		http.Error(w, "the database doesn't answer", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// serveTLS makes the two servers of the door: the public one, and the one for
// hosted connectors, which always has our own certificate.
func (s *Server) serveTLS(door, childrensDoor http.Handler, ca *authority) error {
	server := func(door http.Handler) *http.Server {
		return &http.Server{
			Handler: door, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
			ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // handshakes that fail are others' doing
		}
	}
	local, err := ca.config([]string{"127.0.0.1", "localhost"})
	if err != nil {
		return err
	}
	s.children, s.public = server(childrensDoor), server(door)
	s.children.TLSConfig = local
	switch {
	case s.settings.TLS == "off":
		s.public.Protocols = new(http.Protocols)
		s.public.Protocols.SetHTTP1(true)
		s.public.Protocols.SetUnencryptedHTTP2(true)
	case s.settings.TLSCert != "":
		s.public.TLSConfig = reloading(s.settings.TLSCert, s.settings.TLSKey, s.log, s.clock)
	default:
		hosts := []string{s.settings.public.Hostname()}
		listen, _, err := net.SplitHostPort(s.settings.Listen)
		if err != nil {
			return err
		}
		if name, err := os.Hostname(); err == nil {
			hosts = append(hosts, name)
		}
		hosts = append(hosts, listen, "localhost", "127.0.0.1", "::1")
		if s.public.TLSConfig, err = ca.config(distinct(hosts)); err != nil {
			return err
		}
	}
	return nil
}

func distinct(list []string) []string {
	var out []string
	seen := map[string]bool{"": true, "0.0.0.0": true, "::": true}
	for _, item := range list {
		if !seen[item] {
			out, seen[item] = append(out, item), true
		}
	}
	return out
}

// Start lets everything run. If it fails, Stop ends what was started.
func (s *Server) Start(ctx context.Context) error {
	background := context.WithoutCancel(ctx) // Stop ends things in order
	if err := s.live.Start(background); err != nil {
		return err
	}
	if err := s.jobs.Start(background); err != nil {
		return err
	}
	serve := func(name string, server *http.Server, listener net.Listener) {
		if server.TLSConfig != nil {
			listener = tls.NewListener(listener, server.TLSConfig)
		}
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serve %s: %w", name, err)
		}
	}
	go serve("the public port", s.public, s.listener.public)
	go serve("hosted connectors", s.children, s.listener.children)
	go serve("commands", s.socket, s.listener.socket)
	if err := s.host.Start(background); err != nil {
		return err
	}
	s.ready.Store(true)
	if _, err := os.Stat(s.settings.ConnectorsDir); err != nil {
		s.log.InfoContext(ctx, "there is no connectors folder: none can be hosted", "connectors_dir", s.settings.ConnectorsDir)
	}
	if s.settings.local() {
		s.log.WarnContext(ctx, "the public URL is this machine's own: "+localWords, "public_url", s.settings.PublicURL)
	}
	s.log.InfoContext(ctx, "airlock serves", "listen", s.listener.public.Addr().String(), "public_url", s.settings.PublicURL, "data_dir", s.settings.DataDir,
		"database", s.db.Engine(), "connectors_dir", s.settings.ConnectorsDir, "version", s.settings.Version)
	return s.offerSetup(background)
}

// offerSetup logs the link by which the first administrator is made, as long as
// there is none. It is told this once: only its hash is kept.
func (s *Server) offerSetup(ctx context.Context) error {
	token, needed, err := s.signIns.SetupLink(ctx)
	if err != nil || !needed {
		return err
	}
	s.log.InfoContext(ctx, "there is no administrator yet: open this link within a day to become the first one", "link", s.settings.PublicURL+"/setup/"+token)
	return nil
}

// Stop ends everything in order: no new work, hosted connectors, what is under
// way, the last checkpoint, the database. What hasn't ended in time is broken
// off: it is done again after the next start.
func (s *Server) Stop() error {
	s.ready.Store(false)
	s.stop() // commands that wait are told so
	s.pages.Stop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.stopping), s.grace)
	defer cancel()
	problems := []error{s.host.Stop(ctx)}
	s.baton.Stop() // connectors that wait for a task are told that there is none
	var ended sync.WaitGroup
	for _, server := range []*http.Server{s.socket, s.public, s.children} {
		ended.Go(func() {
			if server.Shutdown(ctx) != nil {
				_ = server.Close() // what didn't end in time is cut off, which is told to it
			}
		})
	}
	ended.Wait()
	problems = append(problems, s.jobs.Stop(ctx))
	s.live.Stop()
	signing, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastGrace)
	defer cancel()
	if err := s.audit.Checkpoint(signing); err != nil {
		problems = append(problems, fmt.Errorf("the last checkpoint of the audit log: %w", err))
	}
	return errors.Join(append(problems, s.close())...)
}

// close lets go of what New took.
func (s *Server) close() error {
	var problems []error
	for _, listener := range []net.Listener{s.listener.public, s.listener.children, s.listener.socket} {
		if listener != nil {
			if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) { // a server closes its own
				problems = append(problems, err)
			}
		}
	}
	if s.listener.socket != nil {
		if err := os.Remove(admin.Socket(s.settings.DataDir)); err != nil && !errors.Is(err, os.ErrNotExist) {
			problems = append(problems, err)
		}
	}
	if s.db != nil {
		problems = append(problems, s.db.Close())
	}
	if s.lock != nil {
		problems = append(problems, s.lock.Close())
	}
	return errors.Join(problems...)
}

// sweeps are what is looked at from time to time, on one replica at a time.
func (s *Server) sweeps() {
	s.jobs.Every("audit.checkpoint", time.Minute, s.audit.Checkpoint)
	s.jobs.Every("identity.nonces", 5*time.Minute, s.identity.Sweep)
	s.jobs.Every("identity.sign_ins", 5*time.Minute, s.signIns.Sweep)
	s.jobs.Every("inventory.retention", time.Hour, func(ctx context.Context) error { return s.inventory.SweepPast(ctx, s.settings.KeepGrants) })
	s.jobs.Every("integration.tasks", 5*time.Second, s.integration.SweepTasks)
	s.jobs.Every("integration.schedules", 15*time.Second, s.integration.SweepSchedules)
	s.jobs.Every("integration.silent", time.Minute, s.integration.SweepSilent)
	s.jobs.Every("integration.feeds", 15*time.Second, s.integration.SweepFeeds)
	s.jobs.Every("integration.retention", 10*time.Minute, s.integration.SweepOld)
	s.jobs.Handle(inventory.RematchJob, job.Options{Timeout: time.Hour, Slow: true}, s.inventory.Rematch)
	s.jobs.Handle(inventory.RemoveJob, job.Options{Timeout: time.Hour, Slow: true}, s.inventory.Remove)
	s.jobs.Every("inventory.removed", time.Hour, func(ctx context.Context) error { // should its job have been lost
		return s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error { return s.jobs.Enqueue(ctx, tx, inventory.RemoveJob, "") })
	})
}

// hosted tells the host of hosted connectors what should run, and whom to tell
// how they do.
func (s *Server) hosted() hosting.Config {
	return hosting.Config{
		DB: s.db, Live: s.live, Catalog: s.catalog, Log: s.log,
		Hosted: s.integration.Hosted, ReportProblem: s.integration.ReportProblem, AppendLog: s.integration.AppendLog, ReadingCounts: s.integration.ReadingCounts, Retrying: s.integration.Retrying,
		AddClient: s.identity.AddClient, RevokeClients: s.identity.RevokeClients,
		Dir: filepath.Join(s.settings.DataDir, "hosted"), Door: s.listener.children.Addr().String(), CADir: filepath.Join(s.settings.DataDir, "ca"),
		Memory: s.settings.ChildMemory,
	}
}
