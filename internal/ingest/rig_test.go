package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/annotations"
	"github.com/conductorone/baton-sdk/pkg/connectorstore"
	"github.com/conductorone/baton-sdk/pkg/dotc1z"
	"github.com/conductorone/baton-sdk/pkg/dotc1z/c1zstore"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/job"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
	"airlock/internal/identity"
	"airlock/internal/ingest/pack"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// world is what a connector would report.
type world struct {
	kind         connectorstore.SyncType
	types        []string // "user!" has the trait user, "app+" the trait app
	resources    []thingOf
	entitlements []string // type:resource:slug
	grants       []grantOf
	unfinished   bool
	token        string
}

type thingOf struct {
	id      string // type:resource
	name    string
	parent  string
	email   string
	login   string
	account v2.UserTrait_AccountType
	status  v2.Status_ResourceStatus
	profile map[string]any
}

type grantOf struct {
	entitlement string
	principal   string // type:resource
	expand      []string
	shallow     bool
	types       []string
	derived     bool
	immutable   bool
	id          string
}

func split(id string) (kind, rest string) {
	kind, rest, _ = strings.Cut(id, ":")
	return kind, rest
}

func resourceID(id string) *v2.ResourceId {
	kind, rest := split(id)
	return v2.ResourceId_builder{ResourceType: kind, Resource: rest}.Build()
}

func (w world) typeList() []*v2.ResourceType {
	var list []*v2.ResourceType
	for _, name := range w.types {
		b := v2.ResourceType_builder{Id: strings.TrimRight(name, "!+"), DisplayName: strings.TrimRight(name, "!+")}
		if strings.HasSuffix(name, "!") {
			b.Traits = []v2.ResourceType_Trait{v2.ResourceType_TRAIT_USER}
		}
		if strings.HasSuffix(name, "+") {
			b.Traits = []v2.ResourceType_Trait{v2.ResourceType_TRAIT_APP}
		}
		list = append(list, b.Build())
	}
	return list
}

func (r thingOf) sent(t testing.TB) *v2.Resource {
	b := v2.Resource_builder{Id: resourceID(r.id), DisplayName: r.name}
	if r.parent != "" {
		b.ParentResourceId = resourceID(r.parent)
	}
	if r.email != "" || r.login != "" || r.account != 0 {
		user := v2.UserTrait_builder{Login: r.login, AccountType: r.account}
		if r.email != "" {
			user.Emails = []*v2.UserTrait_Email{v2.UserTrait_Email_builder{Address: r.email, IsPrimary: true}.Build()}
		}
		b.Annotations = annotations.New(user.Build())
	}
	if r.profile != nil {
		profile, err := structpb.NewStruct(r.profile)
		check(t, err)
		b.Profile = profile
	}
	if r.status != 0 {
		b.Status = v2.Status_builder{Status: r.status}.Build()
	}
	return b.Build()
}

func entitlementOf(id string) *v2.Entitlement {
	parts := strings.SplitN(id, ":", 3)
	return v2.Entitlement_builder{
		Id: id, Slug: parts[2], DisplayName: parts[1] + " " + parts[2], Purpose: v2.Entitlement_PURPOSE_VALUE_ASSIGNMENT,
		Resource: v2.Resource_builder{Id: v2.ResourceId_builder{ResourceType: parts[0], Resource: parts[1]}.Build()}.Build(),
	}.Build()
}

func (g grantOf) sent() *v2.Grant {
	b := v2.Grant_builder{
		Id: g.id, Entitlement: entitlementOf(g.entitlement), Principal: v2.Resource_builder{Id: resourceID(g.principal)}.Build(),
	}
	if b.Id == "" {
		b.Id = g.entitlement + ":" + g.principal
	}
	var notes []proto.Message
	if g.immutable || g.derived {
		notes = append(notes, &v2.GrantImmutable{})
	}
	if g.derived {
		b.Sources = v2.GrantSources_builder{Sources: map[string]*v2.GrantSources_GrantSource{"elsewhere": {}}}.Build()
	}
	if len(g.expand) > 0 {
		notes = append(notes, v2.GrantExpandable_builder{EntitlementIds: g.expand, Shallow: g.shallow, ResourceTypeIds: g.types}.Build())
	}
	b.Annotations = annotations.New(notes...)
	return b.Build()
}

// write makes a .c1z of a world.
func (w world) write(t testing.TB, engine c1zstore.Engine) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "sync.c1z")
	ctx := context.Background()
	store, err := dotc1z.NewStore(ctx, path, dotc1z.WithEngine(engine), dotc1z.WithTmpDir(dir))
	check(t, err)
	kind := w.kind
	if kind == "" {
		kind = connectorstore.SyncTypeFull
	}
	_, err = store.StartNewSync(ctx, kind, "")
	check(t, err)
	check(t, store.PutResourceTypes(ctx, w.typeList()...))
	for _, r := range w.resources {
		check(t, store.PutResources(ctx, r.sent(t)))
	}
	for _, e := range w.entitlements {
		check(t, store.PutEntitlements(ctx, entitlementOf(e)))
	}
	for _, g := range w.grants {
		if g.derived {
			check(t, store.Grants().StoreExpandedGrants(ctx, g.sent()))
			continue
		}
		check(t, store.PutGrants(ctx, g.sent()))
	}
	if w.token != "" {
		check(t, store.CheckpointSync(ctx, w.token))
	}
	if !w.unfinished {
		check(t, store.EndSync(ctx))
	}
	check(t, store.Close(ctx))
	return path
}

// rig is a Service with all that it needs, an app, and a clock that stands still.
type rig struct {
	*Service
	t     testing.TB
	clock *clock.Fake
	app   inventory.App
	log   *audit.Log
	ids   *identity.Service
}

func newRig(t testing.TB, d *db.DB) *rig {
	t.Helper()
	key, err := seal.NewKey()
	check(t, err)
	keys, err := seal.OpenKeyring("", key)
	check(t, err)
	at := clock.NewFake(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).AddDate(-1, 0, 0))
	log := slog.New(slog.DiscardHandler)
	vault := seal.NewVault(d, keys, at)
	hub := live.New(d, log)
	jobs, err := job.New(d, log)
	check(t, err)
	records, err := audit.New(d, vault, at, audit.Options{})
	check(t, err)
	people := identity.New(d, records, vault, hub, at)
	inv := inventory.New(d, records, people, hub, at)
	for _, kind := range []string{VerifyJob, inventory.RematchJob} {
		jobs.Handle(kind, job.Options{}, func(context.Context, string) error { return nil })
	}
	connectors := integration.New(integration.Config{
		DB: d, Jobs: jobs, Live: hub, Audit: records, Vault: vault, Identity: people, Inventory: inv, Clock: at, Log: log, PublicHost: "localhost",
	})
	packs, err := pack.Load("")
	check(t, err)
	r := &rig{t: t, clock: at, log: records, ids: people}
	r.Service, err = New(Config{
		DB: d, Jobs: jobs, Live: hub, Audit: records, Inventory: inv, Integration: connectors, Clock: at, Log: log,
		TempDir: filepath.Join(t.TempDir(), "ingest"), Packs: packs,
	})
	check(t, err)
	check(t, d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		r.app, err = inv.AddApp(ctx, tx, identity.Operator(), inventory.App{Name: "Wiki", Managed: true, Matching: inventory.Broad})
		return err
	}))
	return r
}

// in is the rig in a subtest.
func (r *rig) in(t testing.TB) *rig {
	other := *r
	other.t = t
	return &other
}

// bring brings a file by hand. A minute passes.
func (r *rig) bring(path string) string {
	r.t.Helper()
	r.clock.Advance(time.Minute)
	from, err := os.Open(path)
	check(r.t, err)
	defer from.Close()
	syncID, err := r.IngestFile(r.t.Context(), identity.Operator(), r.app.ID, from)
	check(r.t, err)
	return syncID
}

// take ingests a world, and returns the sync as it is then.
func (r *rig) take(w world) integration.Sync {
	r.t.Helper()
	return r.run(r.bring(w.write(r.t, c1zstore.EnginePebble)))
}

func (r *rig) run(syncID string) integration.Sync {
	r.t.Helper()
	check(r.t, r.ingest(r.t.Context(), syncID))
	r.empty()
	return r.state(syncID)
}

func (r *rig) state(syncID string) integration.Sync {
	r.t.Helper()
	sync, err := r.integration.SyncByID(r.t.Context(), r.db, syncID)
	check(r.t, err)
	return sync
}

// applied fails unless the world is applied.
func (r *rig) applied(w world) integration.Sync {
	r.t.Helper()
	sync := r.take(w)
	if sync.State != integration.Applied {
		r.t.Fatalf("the sync is %s: %s %s", sync.State, sync.Error, sync.Anomaly)
	}
	return sync
}

// empty fails if something is left in the folder for unpacked files.
func (r *rig) empty() {
	r.t.Helper()
	left, err := os.ReadDir(r.temp)
	check(r.t, err)
	if len(left) > 0 {
		r.t.Errorf("%v is left in the folder for unpacked files", left)
	}
}

// dump is the inventory of the app as lines, by external ids.
func (r *rig) dump() []string {
	r.t.Helper()
	var lines []string
	for _, query := range []string{
		`SELECT 'type ' || external_id || ' ' || name || ' ' || traits FROM resource_type WHERE app_id = $1`,
		`SELECT 'resource ' || t.external_id || ':' || r.external_id || ' ' || r.name || ' in ' || COALESCE(p.external_id, r.parent_id) || ' ' || r.profile
			FROM resource r JOIN resource_type t ON t.id = r.type_id LEFT JOIN resource p ON p.id = r.parent_id WHERE r.app_id = $1`,
		`SELECT 'account ' || r.external_id || ' ' || a.login || ' ' || a.email || ' ' || a.kind || ' ' || a.status || ' of ' || a.person_id FROM account a JOIN resource r ON r.id = a.id WHERE a.app_id = $1`,
		`SELECT 'entitlement ' || e.external_id || ' ' || e.name || ' held by ' || e.grant_count FROM entitlement e JOIN resource r ON r.id = e.resource_id WHERE e.app_id = $1`,
		`SELECT 'grant ' || e.external_id || ' to ' || t.external_id || ':' || r.external_id || ' ' || g.flags || ' ' || g.external_id FROM access_grant g
			JOIN entitlement e ON e.id = g.entitlement_id JOIN resource r ON r.id = g.principal_id JOIN resource_type t ON t.id = r.type_id WHERE g.app_id = $1`,
		`SELECT 'past ' || entitlement || ' to ' || principal || ' until ' || until FROM past_grant WHERE app_id = $1`,
		`SELECT 'edge ' || s.external_id || ' to ' || e.external_id || ' by ' || r.external_id || ' for ' || COALESCE(t.external_id, x.type_id) || CASE WHEN x.shallow = TRUE THEN ' shallow' ELSE '' END
			FROM expansion x JOIN entitlement s ON s.id = x.source_id JOIN entitlement e ON e.id = x.target_id JOIN resource r ON r.id = x.principal_id
			LEFT JOIN resource_type t ON t.id = x.type_id WHERE x.app_id = $1`,
	} {
		check(r.t, db.Each(r.t.Context(), r.db, func(row db.Scanner) error {
			var line string
			err := row.Scan(&line)
			lines = append(lines, line)
			return err
		}, query+` ORDER BY 1`, r.app.ID))
	}
	return lines
}

// rows counts the rows of the inventory's tables, also those that a dump can't
// show since what they refer to is gone.
func (r *rig) rows() map[string]int64 {
	r.t.Helper()
	rows := map[string]int64{}
	for _, table := range []string{"resource_type", "resource", "account", "entitlement", "access_grant", "expansion", "past_grant"} {
		count, err := db.Value[int64](r.t.Context(), r.db, `SELECT COUNT(*) FROM `+table+` WHERE app_id = $1`, r.app.ID)
		check(r.t, err)
		rows[table] = count
	}
	return rows
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wiki is a small world: some users, teams one in the other, pages.
func wiki(users int) world {
	w := world{
		types:     []string{"user!", "team", "page"},
		resources: []thingOf{{id: "team:all", name: "Everybody"}, {id: "team:staff", name: "Staff"}, {id: "page:home", name: "Home", parent: "team:all"}},
		entitlements: []string{
			"team:all:member", "team:staff:member", "page:home:edit", "page:home:read",
		},
		grants: []grantOf{
			{entitlement: "team:all:member", principal: "team:staff", expand: []string{"team:staff:member"}},
			{entitlement: "page:home:read", principal: "team:all", expand: []string{"team:all:member"}},
		},
	}
	for n := range users {
		login := fmt.Sprintf("u%02d", n)
		w.resources = append(w.resources, thingOf{
			id: "user:" + login, name: "User " + login, login: login, email: login + "@example.com", account: v2.UserTrait_ACCOUNT_TYPE_HUMAN,
			status: v2.Status_RESOURCE_STATUS_ENABLED, profile: map[string]any{"a": 1, "b": "x", "c": true, "d": []any{1, 2}},
		})
		w.grants = append(w.grants, grantOf{entitlement: "team:staff:member", principal: "user:" + login})
		if n%3 == 0 {
			w.grants = append(w.grants, grantOf{entitlement: "page:home:edit", principal: "user:" + login, immutable: n%2 == 0})
		}
	}
	return w
}

// without is the world without some resources, and without what refers to them.
func (w world) without(gone ...string) world {
	is := func(id string) bool { return slices.Contains(gone, id) }
	out := w
	out.resources, out.entitlements, out.grants = nil, nil, nil
	for _, r := range w.resources {
		if !is(r.id) {
			out.resources = append(out.resources, r)
		}
	}
	for _, e := range w.entitlements {
		if !is(e) && !is(e[:strings.LastIndexByte(e, ':')]) {
			out.entitlements = append(out.entitlements, e)
		}
	}
	for _, g := range w.grants {
		if !is(g.principal) && !is(g.entitlement) && !is(g.entitlement[:strings.LastIndexByte(g.entitlement, ':')]) && !is(g.entitlement+" "+g.principal) {
			out.grants = append(out.grants, g)
		}
	}
	return out
}

var errCrash = errors.New("the server was killed")

func engines(t *testing.T, test func(t *testing.T, d *db.DB)) { //nolint:thelper // it is the subtests
	dbtest.Each(t, test)
}

// annotated is a resource with one more annotation.
func annotated(t testing.TB, r *v2.Resource, note proto.Message) *v2.Resource {
	t.Helper()
	list := annotations.Annotations(r.GetAnnotations())
	list.Append(note)
	r.SetAnnotations(list)
	return r
}
