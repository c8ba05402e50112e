package ingest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// pair names a grant of the app.
func (r *rig) pair(entitlement, principal string) (string, string) {
	r.t.Helper()
	e, err := r.inventory.FindEntitlement(r.t.Context(), r.app.ID, entitlement)
	check(r.t, err)
	p, err := r.inventory.FindPrincipal(r.t.Context(), r.app.ID, principal)
	check(r.t, err)
	return e.ID, p.ID
}

func (r *rig) grant(entitlement, principal string) {
	r.t.Helper()
	e, p := r.pair(entitlement, principal)
	check(r.t, r.db.Write(r.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		return r.inventory.RecordGrant(ctx, tx, r.app.ID, e, p, inventory.Reason{Kind: "operator", Ref: "x"})
	}))
}

func (r *rig) revoke(entitlement, principal string) {
	r.t.Helper()
	e, p := r.pair(entitlement, principal)
	check(r.t, r.db.Write(r.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		return r.inventory.RecordRevoke(ctx, tx, r.app.ID, e, p)
	}))
}

func (r *rig) has(line string) bool {
	r.t.Helper()
	return slices.ContainsFunc(r.dump(), func(one string) bool { return strings.HasPrefix(one, line) })
}

func TestWhatAConnectorDidSinceTheSyncBeganStays(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		w := wiki(12)
		r.applied(w)
		granted, revoked, again := "grant page:home:edit to user:u01", "grant page:home:edit to user:u00", "grant page:home:edit to user:u03"
		// The file is made, and begins, before; what follows comes after.
		syncID := r.bring(w.without("page:home:edit user:u03").write(t, "pebble"))
		r.clock.Advance(time.Minute)
		r.grant("page:home:edit", "u01")
		r.revoke("page:home:edit", "u00")
		r.grant("page:home:edit", "u03") // the inventory had it, the target system not: it was made anew
		r.revoke("page:home:edit", "u02")
		if sync := r.run(syncID); sync.State != integration.Applied {
			t.Fatalf("the sync is %s: %s %s", sync.State, sync.Error, sync.Anomaly)
		}
		if !r.has(granted) || r.has(revoked) || !r.has(again) {
			t.Errorf("the sync undid what a connector did:\n%s", strings.Join(r.dump(), "\n"))
		}
		// The next sync is believed.
		r.clock.Advance(time.Minute)
		r.applied(w.without("page:home:edit user:u03"))
		if r.has(granted) || !r.has(revoked) || r.has(again) {
			t.Errorf("the next sync isn't believed:\n%s", strings.Join(r.dump(), "\n"))
		}
	})
}

func TestWhatAConnectorDoesWhileTheSyncIsAppliedStays(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		w := wiki(12)
		w.resources = append(w.resources, thingOf{id: "user:new", name: "New"}, thingOf{id: "user:other", name: "Other"})
		r.applied(w)
		more := w
		more.grants = append(slices.Clone(w.grants), grantOf{entitlement: "page:home:edit", principal: "user:new"}, grantOf{entitlement: "page:home:edit", principal: "user:other"})
		more = more.without("page:home:edit user:u03")
		syncID := r.bring(more.write(t, "pebble"))
		r.clock.Advance(time.Minute)
		done := false
		r.wrote = func(time.Duration) error {
			if !done { // between the comparison and the first row
				done = true
				r.grant("page:home:edit", "user:new")
				r.grant("page:home:edit", "user:other")
				r.revoke("page:home:edit", "user:other")
				r.grant("page:home:edit", "u03")
			}
			return nil
		}
		if sync := r.run(syncID); sync.State != integration.Applied {
			t.Fatalf("the sync is %s: %s %s", sync.State, sync.Error, sync.Anomaly)
		}
		if !r.has("grant page:home:edit to user:new") || r.has("grant page:home:edit to user:other") || !r.has("grant page:home:edit to user:u03") {
			t.Errorf("the sync undid what a connector did:\n%s", strings.Join(r.dump(), "\n"))
		}
		if !r.has("entitlement page:home:edit home edit held by 5") {
			t.Errorf("holders are counted wrongly:\n%s", strings.Join(r.dump(), "\n"))
		}
	})
}

func TestASyncThatSeesAGrantVerifiesIt(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		w := wiki(4)
		r.applied(w)
		r.clock.Advance(time.Minute)
		r.grant("page:home:edit", "u01")
		w.grants = append(w.grants, grantOf{entitlement: "page:home:edit", principal: "user:u01"})
		sync := r.applied(w)
		e, p := r.pair("page:home:edit", "u01")
		by, err := db.Value[string](t.Context(), r.db, `SELECT sync_id FROM access_grant WHERE entitlement_id = $1 AND principal_id = $2`, e, p)
		check(t, err)
		if by != sync.ID {
			t.Errorf("it was seen by %q", by)
		}
		reasons, err := r.inventory.Reasons(t.Context(), r.db, e, p)
		check(t, err)
		if len(reasons) != 1 {
			t.Errorf("reasons: %v", reasons)
		}
		r.revoke("page:home:edit", "u01")
		if reasons, err = r.inventory.Reasons(t.Context(), r.db, e, p); err != nil || len(reasons) != 0 {
			t.Errorf("reasons of what was revoked: %v %v", reasons, err)
		}
	})
}

func TestTwoSyncsOfAnAppAreNeverAppliedAtOnce(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		first, second := r.bring(wiki(4).write(t, "pebble")), r.bring(wiki(5).write(t, "pebble"))
		inside := false
		r.wrote = func(time.Duration) error {
			if inside || r.state(first).State.Over() {
				return nil
			}
			inside = true
			defer func() { inside = false }()
			run, err := r.begin(t.Context(), second) // as another replica would
			if run != nil {
				t.Error("the second sync began while the first one was applied")
			}
			return err
		}
		r.run(first)
		r.wrote = func(time.Duration) error { return nil }
		if sync := r.run(second); sync.State != integration.Applied {
			t.Errorf("the second is %s: %s", sync.State, sync.Error)
		}
		if rows := r.rows(); rows["account"] != 5 {
			t.Errorf("rows: %v", rows)
		}
	})
}

func TestARunThatWasTakenOverWritesNoMore(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		syncID := r.bring(wiki(4).write(t, "pebble"))
		old, err := r.begin(t.Context(), syncID)
		check(t, err)
		if sync := r.run(syncID); sync.State != integration.Applied {
			t.Fatalf("the sync is %s: %s", sync.State, sync.Error)
		}
		if err := old.work(t.Context()); !errors.Is(err, inventory.ErrTakenOver) {
			t.Errorf("the old run ended with %v", err)
		}
	})
}

func TestAFileThatStopsTheServerEachTimeIsGivenUp(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	syncID := r.bring(wiki(1).write(t, "pebble"))
	for range mostStarts {
		_, err := r.begin(t.Context(), syncID) // and no end
		check(t, err)
	}
	if sync := r.run(syncID); sync.State != integration.Failed || !strings.Contains(sync.Error, "stopped 5 times") {
		t.Errorf("the sync is %s: %s", sync.State, sync.Error)
	}
	r.applied(wiki(1))
}

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "decode-for-a-test" {
		if err := Decode(context.Background(), os.Args[2], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if flag.Lookup("rapid.checks").Value.String() == flag.Lookup("rapid.checks").DefValue {
		checks := "15" // each makes some databases
		if testing.Short() {
			checks = "4"
		}
		if err := flag.Set("rapid.checks", checks); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// worlds makes small worlds of everything that a sync can hold.
func worlds(t *rapid.T, label string) world {
	w := world{types: []string{"user!", "team", "page"}}
	some := func(kind string, most int) (ids []string) {
		for n := range most {
			if rapid.IntRange(0, 3).Draw(t, label+kind) > 0 {
				ids = append(ids, fmt.Sprintf("%s:%d", kind, n))
			}
		}
		return ids
	}
	name := func() string { return rapid.SampledFrom([]string{"a", "b"}).Draw(t, label+"name") }
	users, teams, pages := some("user", 6), some("team", 3), some("page", 2)
	for _, id := range users {
		w.resources = append(w.resources, thingOf{id: id, name: name(), login: id, account: v2.UserTrait_AccountType(rapid.IntRange(0, 3).Draw(t, label+"account"))})
	}
	for _, id := range append(slices.Clone(teams), pages...) {
		r := thingOf{id: id, name: name()}
		if len(teams) > 0 && rapid.Bool().Draw(t, label+"child") {
			r.parent = teams[0]
		}
		w.resources = append(w.resources, r)
	}
	for _, id := range teams {
		w.entitlements = append(w.entitlements, id+":member")
	}
	for _, id := range pages {
		w.entitlements = append(w.entitlements, id+":read")
	}
	all := append(slices.Clone(users), teams...)
	if len(all) > 0 && len(w.entitlements) > 0 {
		seen := map[string]bool{}
		for range rapid.IntRange(0, 25).Draw(t, label+"grants") {
			g := grantOf{
				entitlement: rapid.SampledFrom(w.entitlements).Draw(t, label+"entitlement"),
				principal:   rapid.SampledFrom(all).Draw(t, label+"principal"),
				immutable:   rapid.Bool().Draw(t, label+"immutable"),
			}
			if seen[g.entitlement+g.principal] {
				continue
			}
			seen[g.entitlement+g.principal] = true
			if strings.HasPrefix(g.principal, "team") && rapid.Bool().Draw(t, label+"expands") {
				g.expand = []string{g.principal + ":member"}
				g.shallow = rapid.Bool().Draw(t, label+"shallow")
				if rapid.Bool().Draw(t, label+"typed") {
					g.types = []string{"user"}
				}
			}
			w.grants = append(w.grants, g)
		}
	}
	return w
}

// Whatever is in the inventory, and however often the server is killed on the
// way, what is there in the end is what the file says: the same as in an app that
// is told only the last file, but for its past.
func TestAnInventoryThatWasKilledOnTheWayIsTheSame(t *testing.T) {
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				killed, calm, fresh := newRig(t, dbtest.Open(t, engine)), newRig(t, dbtest.Open(t, engine)), newRig(t, dbtest.Open(t, engine))
				var last world
				for n := range 3 {
					last = worlds(rt, fmt.Sprint(n))
					path := last.write(t, "sqlite")
					calm.force(calm.bring(path))
					syncID := killed.bring(path)
					for tries := 0; ; tries++ {
						left := rapid.IntRange(0, 6).Draw(rt, "transactions")
						killed.wrote = func(time.Duration) error {
							if left--; left < 0 && tries < 10 {
								return errCrash
							}
							return nil
						}
						if killed.force(syncID) {
							break
						}
					}
				}
				fresh.force(fresh.bring(last.write(t, "sqlite")))
				if diff := cmp.Diff(calm.dump(), killed.dump()); diff != "" {
					rt.Fatalf("killed and not killed differ: %s", diff)
				}
				if diff := cmp.Diff(calm.rows(), killed.rows()); diff != "" {
					rt.Fatalf("killed and not killed differ: %s", diff)
				}
				now := slices.DeleteFunc(killed.dump(), func(line string) bool { return strings.HasPrefix(line, "past") })
				if diff := cmp.Diff(fresh.dump(), now); diff != "" {
					rt.Fatalf("it isn't what the last file says: %s", diff)
				}
			})
		})
	}
}

// force ingests a sync, and confirms it if it is held back; it reports whether it
// came to its end.
func (r *rig) force(syncID string) bool {
	r.t.Helper()
	for range 2 {
		if err := r.ingest(r.t.Context(), syncID); err != nil {
			if !errors.Is(err, errCrash) {
				r.t.Fatal(err)
			}
			return false
		}
		sync := r.state(syncID)
		switch sync.State {
		case integration.Applied:
			return true
		case integration.HeldBack:
			check(r.t, r.db.Write(r.t.Context(), func(ctx context.Context, tx *db.Tx) error {
				return r.integration.Advance(ctx, tx, syncID, []integration.SyncState{integration.HeldBack}, func(sync *integration.Sync) {
					sync.State, sync.ConfirmedBy = integration.Comparing, "a test"
				})
			}))
		default:
			r.t.Fatalf("the sync is %s: %s", sync.State, sync.Error)
		}
	}
	return false
}
