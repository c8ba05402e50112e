package web_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/base/job"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
	"airlock/internal/edge/web"
	"airlock/internal/edge/web/webtest"
	"airlock/internal/identity"
	"airlock/internal/ingest"
	"airlock/internal/ingest/pack"
	"airlock/internal/insight"
	"airlock/internal/integration"
	"airlock/internal/integration/catalog"
	"airlock/internal/inventory"
	"airlock/internal/provision"
)

// domain is a server of pages over real services and an empty database.
type domain struct {
	web.Config
	t      *testing.T
	clock  *clock.Fake
	jobs   *job.Queue
	server *web.Server
	url    string
}

func newDomain(t *testing.T, change func(*web.Config)) *domain {
	t.Helper()
	d := dbtest.Open(t, db.SQLite)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	key, err := seal.NewKey()
	check(t, err)
	keys, err := seal.OpenKeyring("", key)
	check(t, err)
	now := clock.NewFake(time.Date(2026, 11, 23, 9, 40, 12, 0, time.UTC))
	vault, hub := seal.NewVault(d, keys, now), live.New(d, log)
	jobs, err := job.New(d, log)
	check(t, err)
	t.Cleanup(func() { check(t, jobs.Stop(context.WithoutCancel(t.Context()))) })
	trail, err := audit.New(d, vault, now, audit.Options{
		File: filepath.Join(t.TempDir(), "checkpoints.txt"), Live: hub, Log: log,
		MayRead: func(actor audit.Actor) error {
			return identity.Can(actor, identity.Read, identity.Object{Kind: "audit"})
		},
	})
	check(t, err)
	people := identity.New(d, trail, vault, hub, now)
	stock := inventory.New(d, trail, people, hub, now)
	connectors := integration.New(integration.Config{
		DB: d, Jobs: jobs, Live: hub, Audit: trail, Vault: vault, Identity: people, Inventory: stock, Clock: now, Log: log, PublicHost: "airlock.test",
	})
	packs, err := pack.Load("")
	check(t, err)
	intake, err := ingest.New(ingest.Config{
		DB: d, Jobs: jobs, Live: hub, Audit: trail, Inventory: stock, Integration: connectors, Clock: now, Log: log, TempDir: t.TempDir(), Packs: packs,
	})
	check(t, err)
	signIns := identity.NewSignIns(identity.SignInConfig{DB: d, Audit: trail, Vault: vault, Live: hub, Clock: now, Log: log, People: people, PublicURL: "https://airlock.test"})
	m := &domain{t: t, clock: now, jobs: jobs}
	m.Config = web.Config{
		Session: web.SessionsOf(signIns), SignOut: signIns.SignOut, MayHear: func(context.Context, identity.Actor, string) error { return nil },
		SignIns: signIns, People: people, Inventory: stock, Catalog: catalog.Open(t.TempDir(), catalog.Options{Log: log}), Integration: connectors,
		Ingest: intake, Insight: insight.New(d, connectors, packs), Audit: trail, DB: d,
		Provision: provision.New(provision.Config{DB: d, Jobs: jobs, Live: hub, Audit: trail, Inventory: stock, Integration: connectors, Clock: now, Log: log}),
		Live:      hub, Clock: now, Log: log, Organisation: "Kestrel Freight",
	}
	if change != nil {
		change(&m.Config)
	}
	m.server = web.New(m.Config)
	m.url = webtest.Serve(t, m.server)
	t.Cleanup(m.server.Stop)
	return m
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const password = "correct horse battery"

// admin makes a Super Admin and signs them in; the token is their session's.
func (m *domain) admin(email string) (personID, token string) {
	m.t.Helper()
	made, err := m.SignIns.AdminCreate(m.t.Context(), identity.Operator(), email, strings.ToUpper(email[:1])+email[1:strings.IndexByte(email, '@')], password)
	check(m.t, err)
	entered, err := m.SignIns.SignIn(m.t.Context(), email, password, identity.Visit{Address: "192.0.2.1", UserAgent: "test"})
	check(m.t, err)
	return made.PersonID, entered.Token
}

// as makes a person with a role (0 is a plain User) and signs them in.
func (m *domain) as(email string, role identity.Roles) (personID, token string) {
	m.t.Helper()
	personID, token = m.admin(email)
	if role == identity.SuperAdmin {
		return personID, token
	}
	if _, err := m.SignIns.Options(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	if role&^identity.User != 0 {
		check(m.t, m.SignIns.AssignRole(m.t.Context(), identity.Operator(), personID, role))
	}
	keeper, err := m.SignIns.AdminCreate(m.t.Context(), identity.Operator(), "keeper@airlock.test", "Keeper", password) // somebody must stay Super Admin
	if err != nil && !fault.Is(err, fault.Conflict) {
		m.t.Fatal(err, keeper)
	}
	check(m.t, m.SignIns.RemoveRole(m.t.Context(), identity.Operator(), personID, identity.SuperAdmin))
	return personID, token
}

// tab is a browser's tab of somebody who is signed in; "" is nobody.
func (m *domain) tab(token string) *webtest.Page {
	m.t.Helper()
	p := webtest.Browser(m.t, m.url)
	if token != "" {
		p.Cookie(web.SessionCookie, token)
	}
	return p
}

func TestTheDomainOfThePagesStands(t *testing.T) {
	m := newDomain(t, nil)
	_, token := m.as("ann@airlock.test", identity.Auditor)
	p := m.tab(token)
	p.Open("/keys")
	if _, other := m.as("bob@airlock.test", 0); other == token {
		t.Error("two people have one session")
	}
}
