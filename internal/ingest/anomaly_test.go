package ingest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conductorone/baton-sdk/pkg/connectorstore"
	"github.com/google/go-cmp/cmp"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/integration"
)

func TestHowMuchIsMuch(t *testing.T) {
	for _, c := range []struct {
		gone, have int64
		want       bool
	}{
		{0, 0, false},
		{0, 10, false},
		{1, 1, false},
		{1, 2, false},
		{2, 2, true},
		{2, 3, false},
		{3, 3, true},
		{2, 10, false},
		{3, 10, true},
		{3, 15, true},
		{3, 16, false},
		{20, 100, true},
		{19, 100, false},
		{199, 1000, false},
		{200, 1000, true},
		{499, 9000, false},
		{500, 10_000, true},
		{4999, 100_000, false},
		{5000, 100_000, true},
	} {
		if got := much(c.gone, c.have); got != c.want {
			t.Errorf("%d of %d: %v", c.gone, c.have, got)
		}
	}
}

func (r *rig) held(w world) (integration.Sync, Anomaly) {
	r.t.Helper()
	before := r.dump()
	sync := r.take(w)
	if sync.State != integration.HeldBack {
		r.t.Fatalf("the sync is %s, not held back: %s", sync.State, sync.Error)
	}
	if diff := cmp.Diff(before, r.dump()); diff != "" {
		r.t.Fatalf("a sync that is held back changed something: %s", diff)
	}
	var anomaly Anomaly
	check(r.t, json.Unmarshal(sync.Anomaly, &anomaly))
	return sync, anomaly
}

func TestASyncThatWouldRemoveMuchWaits(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.applied(wiki(10))
		less := wiki(10).without("user:u00", "user:u01", "user:u02")
		sync, anomaly := r.held(less)
		want := Anomaly{
			Reasons: []string{"it would remove 3 of 10 accounts (user)", "it would remove 4 of 16 grants"},
			Gone: []Gone{
				{Kind: "accounts", Type: "user", Have: 10, Gone: 3, Alarm: true, Names: []string{"User u00 (u00)", "User u01 (u01)", "User u02 (u02)"}},
				{Kind: "grants", Have: 16, Gone: 4, Alarm: true, Names: []string{
					"page:home:edit of User u00", "team:staff:member of User u00", "team:staff:member of User u01", "team:staff:member of User u02",
				}},
			},
		}
		for _, gone := range anomaly.Gone { // ids of one second are in any order
			slices.Sort(gone.Names)
		}
		if diff := cmp.Diff(want, anomaly); diff != "" {
			t.Error(diff)
		}
		check(t, r.Confirm(t.Context(), identity.Operator(), sync.ID))
		if sync = r.run(sync.ID); sync.State != integration.Applied || sync.ConfirmedBy != "operator" {
			t.Fatalf("the confirmed sync is %s: %s", sync.State, sync.Error)
		}
		if rows := r.rows(); rows["account"] != 7 || rows["past_grant"] != 4 {
			t.Errorf("rows: %v", rows)
		}
		if err := r.Confirm(t.Context(), identity.Operator(), sync.ID); !fault.Is(err, fault.NotReady) {
			t.Errorf("a sync was confirmed twice: %v", err)
		}
		var actions []string
		check(t, db.Each(t.Context(), r.db, func(row db.Scanner) error {
			var action string
			err := row.Scan(&action)
			actions = append(actions, action)
			return err
		}, `SELECT action FROM audit_event WHERE object_id = $1 ORDER BY seq`, sync.ID))
		if diff := cmp.Diff([]string{"sync.held", "sync.confirmed", "sync.applied"}, actions); diff != "" {
			t.Error(diff)
		}
	})
}

func TestADiscardedSyncChangesNothing(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.applied(wiki(4))
		sync, _ := r.held(world{types: wiki(0).types})
		stranger := audit.Actor{Kind: "person", ID: "x", Name: "x"}
		if err := r.Discard(t.Context(), stranger, sync.ID); !fault.Is(err, fault.Forbidden) {
			t.Errorf("somebody discarded a sync: %v", err)
		}
		check(t, r.Discard(t.Context(), identity.Operator(), sync.ID))
		if sync = r.run(sync.ID); sync.State != integration.Discarded {
			t.Errorf("the sync is %s", sync.State)
		}
		if rows := r.rows(); rows["account"] != 4 {
			t.Errorf("rows: %v", rows)
		}
	})
}

func TestANewerSyncTakesThePlaceOfOneThatIsHeldBack(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.applied(wiki(10))
		first, _ := r.held(wiki(4))
		r.applied(world{kind: connectorstore.SyncTypePartial, types: []string{"user!"}})
		if first = r.state(first.ID); first.State != integration.HeldBack {
			t.Errorf("a partial sync took the place of a full one: it is %s", first.State)
		}
		second, _ := r.held(wiki(5))
		if first = r.state(first.ID); first.State != integration.Discarded {
			t.Errorf("the first is %s", first.State)
		}
		r.applied(wiki(10))
		if second = r.state(second.ID); second.State != integration.Discarded {
			t.Errorf("the second is %s", second.State)
		}
	})
}

func TestATypeThatVanishedWaits(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.applied(wiki(4))
		less := wiki(4).without("page:home")
		less.types = []string{"user!", "team"}
		sync, anomaly := r.held(less)
		if !strings.Contains(strings.Join(anomaly.Reasons, "; "), "doesn't list the type page any more, of which there are 1") {
			t.Errorf("reasons: %v", anomaly.Reasons)
		}
		if len(anomaly.Gone) == 0 || !cmp.Equal(anomaly.Gone[0].Names, []string{"Home"}) {
			t.Errorf("gone: %v", anomaly.Gone)
		}
		check(t, r.Confirm(t.Context(), identity.Operator(), sync.ID))
		if sync = r.run(sync.ID); sync.State != integration.Applied {
			t.Fatalf("the confirmed sync is %s: %s", sync.State, sync.Error)
		}
		for _, line := range r.dump() {
			if strings.Contains(line, "page") && !strings.HasPrefix(line, "past") {
				t.Errorf("%s", line)
			}
		}
		if rows := r.rows(); rows["resource_type"] != 2 || rows["past_grant"] != 3 || rows["expansion"] != 1 {
			t.Errorf("rows: %v", rows)
		}
	})
}

func TestWithoutTheStopWhatIsNotListedStays(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.applied(wiki(10))
		less := wiki(3).without("page:home")
		less.types = []string{"user!", "team"}
		before := r.rows()
		stopped := r.bring(less.write(t, "pebble"))
		run, err := r.begin(t.Context(), stopped)
		check(t, err)
		run.stop = false
		check(t, run.work(t.Context()))
		after := r.rows()
		if after["account"] != 3 || after["resource_type"] != before["resource_type"] || after["entitlement"] != before["entitlement"] {
			t.Errorf("rows: %v, before: %v", after, before)
		}
	})
}

func TestAnEmptyFileWaits(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.applied(world{types: []string{"user!"}, resources: wiki(1).resources[3:]})
		_, anomaly := r.held(world{types: []string{"user!"}})
		if len(anomaly.Reasons) == 0 {
			t.Error("no reason is given")
		}
	})
}

func TestAnOlderSyncDoesNotOverwriteANewerOne(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		old := r.bring(wiki(3).write(t, "pebble"))
		r.clock.Advance(time.Hour)
		r.applied(wiki(4))
		before := r.dump()
		if sync := r.run(old); sync.State != integration.Failed || !strings.Contains(sync.Error, "nothing was changed") {
			t.Errorf("the older sync is %s: %s", sync.State, sync.Error)
		}
		if diff := cmp.Diff(before, r.dump()); diff != "" {
			t.Error(diff)
		}
	})
}
