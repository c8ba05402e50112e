package inventory

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
	"airlock/internal/identity"
)

// rig is a Service with all that it needs, an app, and a clock that stands still.
type rig struct {
	*Service
	t     testing.TB
	clock *clock.Fake
	app   App
	ids   map[string]string // of types, resources and entitlements, by external id
}

func newRig(t testing.TB, d *db.DB) *rig {
	t.Helper()
	key, err := seal.NewKey()
	check(t, err)
	keys, err := seal.OpenKeyring("", key)
	check(t, err)
	at := clock.NewFake(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
	hub := live.New(d, slog.New(slog.DiscardHandler))
	vault := seal.NewVault(d, keys, at)
	log, err := audit.New(d, vault, at, audit.Options{})
	check(t, err)
	r := &rig{t: t, clock: at, ids: map[string]string{}}
	r.Service = New(d, log, identity.New(d, log, vault, hub, at), hub, at)
	r.app = r.add(App{Name: "Bank", Managed: true, Matching: Broad})
	r.write(func(ctx context.Context, tx *db.Tx) error {
		var rows []TypeRow
		for _, kind := range []string{"user", "team"} {
			row := TypeRow{ID: kind + "-of-" + r.app.ID, ExternalID: kind, Name: kind, Traits: []string{}}
			if kind == "user" {
				row.Traits = []string{"user"}
			}
			r.ids[kind] = row.ID
			rows = append(rows, row)
		}
		return PutTypes(ctx, tx, r.app.ID, rows, at.Now())
	})
	return r
}

func (r *rig) write(do func(ctx context.Context, tx *db.Tx) error) {
	r.t.Helper()
	check(r.t, r.db.Write(r.t.Context(), do))
}

func (r *rig) add(app App) (added App) {
	r.t.Helper()
	r.write(func(ctx context.Context, tx *db.Tx) (err error) {
		added, err = r.AddApp(ctx, tx, identity.Operator(), app)
		return err
	})
	return added
}

func (r *rig) stamp() Stamp { return Stamp{AppID: r.app.ID, SyncID: "sync", At: r.clock.Now()} }

// user adds an account.
func (r *rig) user(id, name, email string) string {
	r.t.Helper()
	r.resource("user", id, name, &AccountRow{
		Login: id, Email: email, Kind: Human, Status: Enabled, Keys: identity.Keys{Emails: []string{email}, Usernames: []string{id}},
	})
	return r.ids["user:"+id]
}

// team adds a resource with the entitlement member.
func (r *rig) team(id string) string {
	r.t.Helper()
	r.resource("team", id, "Team "+id, nil)
	key := "team:" + id + ":member"
	r.ids[key] = key + "-of-" + r.app.ID
	r.write(func(ctx context.Context, tx *db.Tx) error {
		return AddEntitlements(ctx, tx, r.stamp(), []EntitlementRow{{
			ID: r.ids[key], ResourceID: r.ids["team:"+id], ExternalID: key, Slug: "member", Name: "Member of " + id, Search: Fold("Member of " + id),
			Purpose: "assignment", GrantableTo: []string{}, Source: []byte{}, Hash: []byte{},
		}})
	})
	return r.ids[key]
}

func (r *rig) resource(kind, id, name string, account *AccountRow) {
	r.t.Helper()
	key := kind + ":" + id
	r.ids[key] = key + "-of-" + r.app.ID
	r.write(func(ctx context.Context, tx *db.Tx) error {
		search := Fold(name + "\n" + id)
		if account != nil {
			search += "\n" + Fold(account.Email)
		}
		return AddResources(ctx, tx, r.stamp(), []ResourceRow{{
			ID: r.ids[key], TypeID: r.ids[kind], ExternalID: id, Name: name, Search: search, Profile: "{}", Source: []byte{}, Hash: []byte{}, Account: account,
		}})
	})
}

func (r *rig) grant(entitlement, principal string) {
	r.t.Helper()
	r.write(func(ctx context.Context, tx *db.Tx) error {
		return AddGrants(ctx, tx, r.stamp(), []GrantRow{{EntitlementID: r.ids[entitlement], PrincipalID: r.ids[principal]}})
	})
}

// edge says that whoever holds source holds target, through the team of source.
func (r *rig) edge(source, target, kind string, shallow bool) {
	r.t.Helper()
	e := Edge{SourceID: r.ids[source], TargetID: r.ids[target], PrincipalID: r.ids[strings.TrimSuffix(source, ":member")], Shallow: shallow}
	if kind != "" {
		e.TypeID = r.ids[kind]
	}
	r.write(func(ctx context.Context, tx *db.Tx) error { return AddEdges(ctx, tx, r.app.ID, []Edge{e}) })
}

// person adds somebody by CSV.
func (r *rig) person(name, email, username string) string {
	r.t.Helper()
	_, err := r.people.ImportPeople(r.t.Context(), identity.Operator(), strings.NewReader("name,email,username\n"+name+","+email+","+username+"\n"))
	check(r.t, err)
	id, err := db.Value[string](r.t.Context(), r.db, `SELECT id FROM person WHERE email = $1`, email)
	check(r.t, err)
	return id
}

// line is a grant as a line.
func line(g Grant) string {
	text := g.Entitlement + " " + g.Principal
	if g.Direct {
		text += " direct"
	}
	for _, step := range g.Path {
		text += " < " + step.ExternalID
	}
	return text
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wants fails the test unless an error is of a kind and says something.
func wants(t testing.TB, err error, code fault.Code, says string) {
	t.Helper()
	if !fault.Is(err, code) || !strings.Contains(err.Error(), says) {
		t.Errorf("the error is %v (%s), not of kind %s with %q", err, fault.CodeOf(err), code, says)
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("rapid.checks").Value.String() == flag.Lookup("rapid.checks").DefValue {
		checks := "20" // each makes a database
		if testing.Short() {
			checks = "5"
		}
		if err := flag.Set("rapid.checks", checks); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
