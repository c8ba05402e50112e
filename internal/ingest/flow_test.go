package ingest

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/dotc1z/c1zstore"
	"github.com/google/go-cmp/cmp"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/ingest/pack"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

func TestTheQueueTakesASyncFromTheFileToTheEnd(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.decoder = decoder(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		check(t, r.jobs.Start(ctx))
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			check(t, r.jobs.Stop(ctx))
		})
		syncID := r.bring(wiki(10).write(t, c1zstore.EngineSQLite))
		r.jobs.Drain(t, ctx)
		if sync := r.state(syncID); sync.State != integration.Applied {
			t.Fatalf("the sync is %s: %s", sync.State, sync.Error)
		}
		syncID = r.bring(wiki(2).write(t, c1zstore.EnginePebble))
		r.jobs.Drain(t, ctx)
		if sync := r.state(syncID); sync.State != integration.HeldBack {
			t.Fatalf("the sync is %s: %s", sync.State, sync.Error)
		}
		check(t, r.Confirm(ctx, identity.Operator(), syncID))
		r.jobs.Drain(t, ctx)
		if rows := r.rows(); rows["account"] != 2 {
			t.Errorf("rows: %v", rows)
		}
		bad := r.bring(file_(t, []byte("C1ZF\x00 and nothing")))
		r.jobs.Drain(t, ctx)
		if sync := r.state(bad); sync.State != integration.Failed {
			t.Errorf("the bad one is %s", sync.State)
		}
		app, err := r.inventory.AppByID(ctx, d, r.app.ID)
		check(t, err)
		if app.SyncID != syncID || app.SyncedAt.IsZero() {
			t.Errorf("the app was synced last by %s at %s", app.SyncID, app.SyncedAt)
		}
		r.empty()
	})
}

func TestASyncTellsWhatTheSourceSaysItHas(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.packs = pack.Packs{"wiki": {Connector: "wiki", Totals: map[string]map[string]string{"team": {"members": "user"}}}}
		w := wiki(3)
		w.resources[0].profile = map[string]any{"members": 4}
		syncID := r.bring(w.write(t, c1zstore.EnginePebble))
		run, err := r.begin(t.Context(), syncID)
		check(t, err)
		run.connector = "wiki"
		check(t, run.work(t.Context()))
		sync := r.state(syncID)
		var totals map[string]Total
		check(t, json.Unmarshal(sync.Totals, &totals))
		if diff := cmp.Diff(map[string]Total{"user": {Source: 4, File: 3}}, totals); diff != "" {
			t.Error(diff)
		}
		if sync.FileHash == "" || sync.ChangesHash == "" || sync.SourceSyncID == "" || sync.BeganAt.IsZero() || sync.EndedAt.Before(sync.BeganAt) || sync.Kind != integration.Full {
			t.Errorf("%+v", sync)
		}
	})
}

func TestADirectorysAccountsBecomePeople(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		app, err := r.inventory.SetApp(t.Context(), identity.Operator(), r.app.ID, func(a *inventory.App) { a.Directory = true })
		check(t, err)
		w := wiki(3)
		w.types = append(w.types, "application+")
		w.resources = append(w.resources, thingOf{id: "application:crm", name: "CRM"})
		r.applied(w)
		people, err := db.Value[int64](t.Context(), d, `SELECT COUNT(*) FROM person WHERE source = $1`, app.ID)
		check(t, err)
		crm, err := r.inventory.AppByName(t.Context(), d, "crm")
		check(t, err)
		if people != 3 || crm.Managed || crm.Source != app.ID {
			t.Errorf("%d people, %+v", people, crm)
		}
		check(t, r.inventory.Rematch(t.Context(), ""))
		accounts, err := r.inventory.Accounts(t.Context(), identity.Operator(), inventory.AccountFilter{AppID: app.ID, Unmatched: true}, inventory.Key{}, 10)
		check(t, err)
		if len(accounts) != 0 {
			t.Errorf("nobody's: %v", accounts)
		}
	})
}

func TestASyncOfAnAppThatWasRemovedFails(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.inventory.Enqueue = func(context.Context, *db.Tx, string, string) error { return nil }
		syncID := r.bring(wiki(3).write(t, c1zstore.EnginePebble))
		_, err := r.inventory.RemoveApp(t.Context(), identity.Operator(), r.app.ID)
		check(t, err)
		sync := r.run(syncID)
		if sync.State != integration.Failed || !strings.Contains(sync.Error, "the app was removed") {
			t.Errorf("the sync is %s: %s", sync.State, sync.Error)
		}
		if rows := r.rows(); rows["resource"] != 0 || rows["access_grant"] != 0 {
			t.Errorf("%v came into an app that was removed", rows)
		}
	})
}

func TestAChangeOfMatchingDuringASyncMatchesAgainAfterIt(t *testing.T) {
	d := dbtest.Open(t, db.SQLite)
	r := newRig(t, d)
	run, err := r.begin(t.Context(), r.bring(wiki(3).write(t, c1zstore.EnginePebble)))
	check(t, err)
	_, err = r.inventory.SetApp(t.Context(), identity.Operator(), r.app.ID, func(a *inventory.App) { a.Matching = inventory.Narrow })
	check(t, err)
	check(t, run.work(t.Context()))
	again, err := db.Value[int64](t.Context(), d, `SELECT COUNT(*) FROM river_job WHERE json(args) LIKE '%' || $1 || '%' AND json(args) LIKE '%' || $2 || '%'`, inventory.RematchJob, r.app.ID)
	check(t, err)
	if again == 0 {
		t.Error("accounts that were matched the old way are left so")
	}
}

func TestAnIDThatIsTooLongIsNamed(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	w := wiki(1)
	w.resources = append(w.resources, thingOf{id: "user:long" + strings.Repeat("x", longestID), name: "Long"})
	sync := r.take(w)
	if sync.State != integration.Failed || !strings.Contains(sync.Error, "type user") || !strings.Contains(sync.Error, "longxxx") {
		t.Errorf("the sync is %s: %s", sync.State, sync.Error)
	}
}

func TestAccountsAreMatchedWithTheirSync(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		_, err := r.ids.ImportPeople(t.Context(), identity.Operator(), strings.NewReader("name,email\nZero,u00@example.com\nOne,u01@example.com\n"))
		check(t, err)
		// The server is killed once the accounts are written: they are matched with that.
		syncID := r.bring(wiki(3).write(t, c1zstore.EnginePebble))
		left := 3
		r.wrote = func(time.Duration) error {
			if left--; left == 0 {
				return errCrash
			}
			return nil
		}
		if err := r.ingest(t.Context(), syncID); err == nil {
			t.Fatal("it wasn't killed")
		}
		matched := func() (count int) {
			for a, err := range r.inventory.ExportAccounts(t.Context(), identity.Operator(), r.app.ID) {
				check(t, err)
				if a.PersonID != "" && !a.MatchedAt.IsZero() {
					count++
				}
			}
			return count
		}
		if count := matched(); count != 2 {
			t.Errorf("%d accounts are matched before the end", count)
		}
		r.run(syncID)
		if count := matched(); count != 2 {
			t.Errorf("%d accounts are matched", count)
		}
		// One that changes becomes somebody else's in the transaction that changes it.
		w := wiki(3)
		w.resources[3].email, w.resources[3].login = "u01@example.com", "u01"
		w.resources[4].email, w.resources[4].login = "nobody@example.com", "nobody"
		syncID = r.bring(w.write(t, c1zstore.EnginePebble))
		left = 2
		if err := r.ingest(t.Context(), syncID); err == nil {
			t.Fatal("it wasn't killed")
		}
		if count := matched(); count != 1 {
			t.Errorf("%d accounts are matched after the change", count)
		}
	})
}

func TestAnAccountIsReadAsNewAndOldConnectorsTellIt(t *testing.T) {
	read := func(r *v2.Resource) *inventory.AccountRow {
		source, err := canonical(r, r.GetAnnotations())
		check(t, err)
		return resourceRow(r, false, source).Account
	}
	old := v2.UserTrait_builder{
		Login: "ann", LoginAliases: []string{"a", "ann"}, EmployeeIds: []string{"7"}, AccountType: v2.UserTrait_ACCOUNT_TYPE_SERVICE,
		Emails: []*v2.UserTrait_Email{
			v2.UserTrait_Email_builder{Address: "second@x"}.Build(), v2.UserTrait_Email_builder{Address: "first@x", IsPrimary: true}.Build(),
		},
		Status: v2.UserTrait_Status_builder{Status: v2.UserTrait_Status_STATUS_DISABLED, Details: "left"}.Build(), //nolint:staticcheck // as older connectors do
	}.Build()
	w := thingOf{id: "user:ann", name: "Ann"}.sent(t)
	r := annotated(t, w, old)
	want := &inventory.AccountRow{
		Login: "ann", Email: "first@x", EmployeeID: "7", Kind: inventory.ServiceKind, Status: inventory.Disabled, StatusDetail: "left",
		Keys: identity.Keys{Emails: []string{"first@x", "second@x"}, Usernames: []string{"ann", "a"}, EmployeeIDs: []string{"7"}},
	}
	if diff := cmp.Diff(want, read(r)); diff != "" {
		t.Error(diff)
	}
	r.SetStatus(v2.Status_builder{Status: v2.Status_RESOURCE_STATUS_ENABLED, Details: "back"}.Build())
	want.Status, want.StatusDetail = inventory.Enabled, "back"
	if diff := cmp.Diff(want, read(r)); diff != "" {
		t.Error(diff)
	}
	if got := read(thingOf{id: "team:x"}.sent(t)); got != nil {
		t.Errorf("a team is an account: %+v", got)
	}
}

func TestStrangersBringNoFiles(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	_, err := r.IngestFile(t.Context(), audit.Actor{Kind: "person", Name: "x"}, r.app.ID, strings.NewReader("x"))
	if !fault.Is(err, fault.Forbidden) {
		t.Errorf("%v", err)
	}
	_, err = r.IngestFile(t.Context(), identity.Operator(), "nothing", strings.NewReader("x"))
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
	taken, err := db.Value[int64](t.Context(), r.db, `SELECT COUNT(*) FROM file`)
	check(t, err)
	if taken > 0 {
		t.Error("a file was taken")
	}
}
