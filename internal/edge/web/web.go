package web

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/id"
	"airlock/internal/base/live"
	"airlock/internal/base/trace"
	"airlock/internal/edge/web/static"
	"airlock/internal/identity"
	"airlock/internal/ingest"
	"airlock/internal/insight"
	"airlock/internal/integration"
	"airlock/internal/integration/catalog"
	"airlock/internal/inventory"
	"airlock/internal/provision"
)

// Config is what the pages need.
type Config struct {
	// Session is the session of a token, which the cookie holds. It fails with
	// Unauthenticated where there is none, or it ended.
	Session func(ctx context.Context, token string) (Session, error)
	// SignOut ends the session of a token.
	SignOut func(ctx context.Context, token string) error
	// MayHear says whether an actor may be told of a topic; without it, whoever may
	// read what it is about.
	MayHear func(ctx context.Context, actor identity.Actor, topic string) error
	// Counts are what waits behind the entries of the navigation, by their title:
	// "4", "1 error"; without it, the connectors that are in error.
	Counts func(ctx context.Context, actor identity.Actor) map[string]string

	SignIns     *identity.SignIns
	People      *identity.Service
	Inventory   *inventory.Service
	Catalog     *catalog.Catalog
	Integration *integration.Service
	Ingest      *ingest.Service
	Provision   *provision.Service
	Insight     *insight.Service
	Audit       *audit.Log
	DB          *db.DB // of the services, which some are asked with

	Live         *live.Hub
	Clock        clock.Clock
	Log          *slog.Logger
	CA           string // PEM, of the CA that signed the server's certificate, where it is the server's own
	Organisation string // shown under the navigation
	About        About
	Development  bool // serves /dev/components
	// Origins are further origins from which forms may come, such as
	// https://airlock.example.com where a proxy changes the Host.
	Origins []string
	// Ping is how often a stream is pinged and its session looked at; 0 is 15 s.
	Ping time.Duration
}

// Session is somebody who is signed in.
type Session struct {
	ID    string
	Actor identity.Actor
	Name  string // of the person
	Email string
	Role  string // in words
}

// Server serves the pages.
type Server struct {
	Config
	routes  []Route
	handler http.Handler
	ctx     context.Context //nolint:containedctx // ends the streams, which belong to no caller
	stop    context.CancelFunc
	boot    string // begins the ids of events: another process, another count

	verifier *audit.Verifier
}

// New makes the pages.
func New(config Config) *Server {
	if config.Ping == 0 {
		config.Ping = 15 * time.Second
	}
	s := &Server{Config: config, boot: rand.Text()[:8], verifier: audit.NewVerifier(config.Audit)}
	if s.MayHear == nil {
		s.MayHear = s.mayHear
	}
	if s.Counts == nil && s.Integration != nil {
		s.Counts = s.counts
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.routes = s.table()
	mux := http.NewServeMux()
	for _, route := range s.routes {
		mux.HandleFunc(route.Pattern, route.serve)
	}
	mux.Handle("GET "+static.Path, static.Handler())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.missing(w, r, mux) })
	forged := http.NewCrossOriginProtection()
	for _, origin := range config.Origins {
		if err := forged.AddTrustedOrigin(origin); err != nil {
			config.Log.Warn("forms from an origin will be refused: it isn't one", "origin", origin, "error", err)
		}
	}
	forged.SetDenyHandler(http.HandlerFunc(s.forged))
	s.handler = secure(forged.Handler(mux))
	return s
}

// ServeHTTP serves a page, a form, a stream or an asset.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Stop ends the streams at once, so that the server can end.
func (s *Server) Stop() { s.stop() }

// Routes are all addresses: what a test of who may do what walks.
func (s *Server) Routes() []Route { return slices.Clone(s.routes) }

// policy lets a page load what this server gives, and nothing else. Forms may
// only be sent here: single sign-on begins with a link, since a form's answer
// may not lead elsewhere either.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()")
		h.Set("Cache-Control", "no-store")
		if trace.ID(r.Context(), "request") == "" {
			r = r.WithContext(trace.With(r.Context(), "request", id.New()))
		}
		next.ServeHTTP(w, r)
	})
}
