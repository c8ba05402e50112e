package ingest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/connectorstore"
	"github.com/conductorone/baton-sdk/pkg/dotc1z/c1zstore"
	"github.com/google/go-cmp/cmp"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/integration"
)

func TestAFirstSyncFillsTheInventory(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		sync := r.applied(wiki(3))
		var counts Counts
		check(t, json.Unmarshal(sync.Counts, &counts))
		want := Counts{Resources: map[string]int64{"user": 3, "team": 2, "page": 1}, Accounts: 3, Entitlements: 4, Grants: 6, Edges: 2}
		if diff := cmp.Diff(want, counts); diff != "" {
			t.Error(diff)
		}
		wantLines := []string{
			"type page page []", "type team team []", `type user user ["user"]`,
			`resource page:home Home in all {}`, `resource team:all Everybody in  {}`, `resource team:staff Staff in  {}`,
			`resource user:u00 User u00 in  {"a":1,"b":"x","c":true,"d":[1,2]}`,
			`resource user:u01 User u01 in  {"a":1,"b":"x","c":true,"d":[1,2]}`,
			`resource user:u02 User u02 in  {"a":1,"b":"x","c":true,"d":[1,2]}`,
			"account u00 u00 u00@example.com human enabled of ", "account u01 u01 u01@example.com human enabled of ", "account u02 u02 u02@example.com human enabled of ",
			"entitlement page:home:edit home edit held by 1", "entitlement page:home:read home read held by 1",
			"entitlement team:all:member all member held by 1", "entitlement team:staff:member staff member held by 3",
			"grant page:home:edit to user:u00 1 ", "grant page:home:read to team:all 2 ", "grant team:all:member to team:staff 2 ",
			"grant team:staff:member to user:u00 0 ", "grant team:staff:member to user:u01 0 ", "grant team:staff:member to user:u02 0 ",
			"edge team:all:member to page:home:read by all for ", "edge team:staff:member to team:all:member by staff for ",
		}
		if diff := cmp.Diff(wantLines, r.dump()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestBothFormsOfFileMakeTheSameInventory(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		old := r.run(r.bring(wiki(3).write(t, c1zstore.EngineSQLite)))
		before := r.dump()
		again := r.run(r.bring(wiki(3).write(t, c1zstore.EnginePebble)))
		if old.State != integration.Applied || again.State != integration.Applied {
			t.Fatalf("%s %s, %s %s", old.State, old.Error, again.State, again.Error)
		}
		if diff := cmp.Diff(before, r.dump()); diff != "" {
			t.Error(diff)
		}
		var changes Changes
		check(t, json.Unmarshal(again.Changes, &changes))
		if diff := cmp.Diff(Changes{}, changes); diff != "" {
			t.Errorf("the other form of file changed something: %s", diff)
		}
	})
}

func TestChangesAreAppliedAndKept(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.applied(wiki(9))
		w := wiki(9).without("user:u03")
		w.resources[0].name = "All of us"
		w.grants = append(w.grants, grantOf{entitlement: "page:home:edit", principal: "user:u01", id: "of its own"})
		sync := r.applied(w)
		var changes Changes
		check(t, json.Unmarshal(sync.Changes, &changes))
		want := Changes{
			Accounts: Change{Removed: 1}, Resources: Change{Changed: 1, Removed: 1}, Grants: Change{Added: 1, Removed: 2},
		}
		if diff := cmp.Diff(want, changes); diff != "" {
			t.Error(diff)
		}
		dump := strings.Join(r.dump(), "\n")
		for _, line := range []string{
			"resource team:all All of us in  {}", "grant page:home:edit to user:u01 0 of its own",
			"past page:home:edit to user:u03 until ", "past team:staff:member to user:u03 until ",
			"entitlement team:staff:member staff member held by 8",
		} {
			if !strings.Contains(dump, line) {
				t.Errorf("%q is missing in\n%s", line, dump)
			}
		}
		if strings.Contains(dump, "resource user:u03") || strings.Contains(dump, "account u03") {
			t.Errorf("u03 is still there:\n%s", dump)
		}
	})
}

func TestASyncWithoutChangesWritesNothing(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.applied(wiki(20))
		written := 0
		r.wrote = func(_ time.Duration) error { written++; return nil }
		sync := r.applied(wiki(20))
		if written > 2 { // what it found, and that it was applied
			t.Errorf("a sync without changes wrote %d times", written)
		}
		var changes Changes
		check(t, json.Unmarshal(sync.Changes, &changes))
		if diff := cmp.Diff(Changes{}, changes); diff != "" {
			t.Error(diff)
		}
	})
}

func TestLessThanAFullSyncNeverRemoves(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.applied(wiki(3))
		before := r.dump()
		for _, kind := range []connectorstore.SyncType{connectorstore.SyncTypePartial, connectorstore.SyncTypeResourcesOnly} {
			r.applied(world{kind: kind, types: []string{"user!"}, resources: []thingOf{wiki(1).resources[3]}})
			if diff := cmp.Diff(before, r.dump()); diff != "" {
				t.Errorf("%s: %s", kind, diff)
			}
		}
		// A partial one may speak of what only the inventory has.
		r.applied(world{
			kind: connectorstore.SyncTypePartial, types: []string{"user!", "team", "page"},
			resources: []thingOf{{id: "user:new", name: "New", login: "new", email: "new@example.com", account: v2.UserTrait_ACCOUNT_TYPE_HUMAN}},
			grants:    []grantOf{{entitlement: "page:home:edit", principal: "user:new"}, {entitlement: "page:home:edit", principal: "user:nobody"}},
		})
		added := slices.DeleteFunc(r.dump(), func(line string) bool { return slices.Contains(before, line) })
		want := []string{
			"resource user:new New in  {}", "account new new new@example.com human unknown of ",
			"entitlement page:home:edit home edit held by 2", "grant page:home:edit to user:new 0 ",
		}
		if diff := cmp.Diff(want, added); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWhatTheConnectorWasToldToLeaveOutIsUnknown(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.applied(wiki(3))
		before := r.dump()
		w := wiki(3)
		w.grants, w.token = nil, `{"should_skip_grants": true}`
		r.applied(w)
		w.entitlements, w.token = nil, `{"should_skip_entitlements_and_grants": true}`
		r.applied(w)
		if diff := cmp.Diff(before, r.dump()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestDerivedGrantsAreNotKept(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		for _, engine := range []c1zstore.Engine{c1zstore.EngineSQLite, c1zstore.EnginePebble} {
			r := newRig(t, dbtest.Open(t, d.Engine()))
			w := wiki(2)
			r.applied(w)
			before := r.dump()
			w.grants = append(w.grants, grantOf{entitlement: "team:all:member", principal: "user:u01", derived: true})
			sync := r.run(r.bring(w.write(t, engine)))
			if diff := cmp.Diff(before, r.dump()); diff != "" || !strings.Contains(string(sync.Counts), `"derived":1`) {
				t.Errorf("%s: %s %s", engine, sync.Counts, diff)
			}
		}
	})
}

func TestEdgesFollowTheirGrants(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.applied(wiki(1))
		w := wiki(1)
		w.grants[0].shallow, w.grants[0].types = true, []string{"user", "page", "unheard-of"}
		w.grants[1].expand = nil
		r.applied(w)
		var edges []string
		for _, line := range r.dump() {
			if strings.HasPrefix(line, "edge") {
				edges = append(edges, line)
			}
		}
		want := []string{"edge team:staff:member to team:all:member by staff for page shallow", "edge team:staff:member to team:all:member by staff for user shallow"}
		if diff := cmp.Diff(want, edges); diff != "" {
			t.Error(diff)
		}
		// An edge must begin at what is the principal's own, and a circle is none of our business.
		w.grants[0].expand = []string{"page:home:edit"}
		w.grants = append(w.grants, grantOf{entitlement: "team:staff:member", principal: "team:all", expand: []string{"team:all:member", "team:staff:member"}})
		sync := r.applied(w)
		if !strings.Contains(string(sync.Counts), `"dropped":2`) {
			t.Errorf("counts are %s", sync.Counts)
		}
	})
}
