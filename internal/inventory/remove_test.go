package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/base/job"
	"airlock/internal/identity"
)

// queue runs this package's jobs, as the server does.
func (r *rig) queue() (drain func()) {
	r.t.Helper()
	jobs, err := job.New(r.db, slog.New(slog.DiscardHandler))
	check(r.t, err)
	r.Enqueue = jobs.Enqueue
	r.people.PeopleChanged = func(ctx context.Context, tx *db.Tx) error { return jobs.Enqueue(ctx, tx, RematchJob, "") }
	jobs.Handle(RematchJob, job.Options{Slow: true}, r.Rematch)
	jobs.Handle(RemoveJob, job.Options{Slow: true}, r.Remove)
	check(r.t, jobs.Start(r.t.Context()))
	r.t.Cleanup(func() { check(r.t, jobs.Stop(context.WithoutCancel(r.t.Context()))) })
	return func() {
		r.t.Helper()
		ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
		defer cancel()
		jobs.Drain(r.t.(*testing.T), ctx)
	}
}

func TestAccountsFollowThePeople(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx, operator := t.Context(), identity.Operator()
		drain := r.queue()
		ann, byHand, byName := r.user("a", "A", "ann@x.example"), r.user("b", "B", "ann@x.example"), r.user("annie", "C", "other@x.example")
		of := func() (names []string) {
			t.Helper()
			drain()
			for _, account := range []string{ann, byHand, byName} {
				account, err := r.AccountByID(ctx, d, account)
				check(t, err)
				names = append(names, account.PersonName)
			}
			return names
		}
		is := func(what string, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, of()); diff != "" {
				t.Errorf("%s: %s", what, diff)
			}
		}
		r.person("Bob", "bob@x.example", "bob")
		check(t, r.Link(ctx, operator, byHand, r.person("Bob", "bob@x.example", "bob")))
		is("at first", "", "Bob", "")
		r.person("Ann", "ann@x.example", "annie")
		is("with Ann", "Ann", "Bob", "Ann")
		_, err := r.people.ImportPeople(ctx, operator, csv("email,username\nann@new.example,annie\n"))
		check(t, err)
		is("with her new e-mail", "", "Bob", "Ann")
		_, err = r.people.ImportPeople(ctx, operator, csv("email,name\nann@x.example,Anna\n"))
		check(t, err)
		is("with another who has the old one", "Anna", "Bob", "Ann")
		_, err = r.SetApp(ctx, operator, r.app.ID, func(a *App) { a.Matching = Narrow })
		check(t, err)
		is("matched narrowly", "Anna", "Bob", "")
		_, err = r.SetApp(ctx, operator, r.app.ID, func(a *App) { a.Matching = Broad })
		check(t, err)
		is("matched broadly", "Anna", "Bob", "Ann")

		directory := r.add(App{Name: "Directory", Directory: true})
		_, err = r.people.ReadDirectory(ctx, directory.ID, []identity.DirectoryPerson{{ExternalID: "1", Name: "Cid", Emails: []string{"other@x.example"}}},
			func(context.Context, *db.Tx, identity.ImportResult) error { return nil })
		check(t, err)
		is("with a directory", "Anna", "Bob", "Cid")
	})
}

func TestAnAppIsRenamed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx, operator := t.Context(), identity.Operator()
		for name, says := range map[string]string{"": "needs a name", "a\u200bb": "U+200B", r.app.ID: "looks like an id"} {
			_, err := r.RenameApp(ctx, operator, r.app.ID, name)
			wants(t, err, fault.Invalid, says)
			err = d.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
				_, err := r.AddApp(ctx, tx, operator, App{Name: name})
				return err
			})
			wants(t, err, fault.Invalid, says)
		}
		_, err := r.SetApp(ctx, operator, r.app.ID, func(a *App) { a.Description = "x\x1b[2J" })
		wants(t, err, fault.Invalid, "U+001B")
		_, err = r.RenameApp(ctx, audit.Actor{Kind: "person"}, r.app.ID, "x")
		wants(t, err, fault.Forbidden, "")
		renamed, err := r.RenameApp(ctx, operator, r.app.ID, " bank  of\u00a0X ")
		check(t, err)
		found, err := r.AppByName(ctx, d, "BANK OF X")
		check(t, err)
		if renamed.Name != "bank of X" || cmp.Diff(renamed, found) != "" {
			t.Errorf("%+v, found as %+v", renamed, found)
		}
		r.add(App{Name: "Bank"}) // the old name is free
		if got := lastEvent(t, r, "app.renamed"); got != `{"before":"Bank"}` {
			t.Error(got)
		}

		okta := r.add(App{Name: "Okta", Directory: true})
		wiki := r.add(App{Name: "Wiki", Source: okta.ID})
		_, err = r.RenameApp(ctx, operator, wiki.ID, "x")
		wants(t, err, fault.NotReady, `from the directory "Okta"`)
		_, err = r.RemoveApp(ctx, operator, wiki.ID)
		wants(t, err, fault.NotReady, `the directory "Okta" tells of the app "Wiki", and would bring it back`)
		_, err = r.SetApp(ctx, operator, okta.ID, func(a *App) { a.Directory = false })
		check(t, err)
		_, err = r.RemoveApp(ctx, operator, wiki.ID)
		check(t, err)
	})
}

func lastEvent(t *testing.T, r *rig, action string) string {
	t.Helper()
	events, err := r.audit.List(t.Context(), identity.Operator(), audit.Filter{Action: action})
	check(t, err)
	if len(events) == 0 {
		t.Fatalf("no event %s", action)
	}
	return string(events[0].Detail)
}

// left counts the rows that an app has in each table.
func left(t *testing.T, d *db.DB, appID string) map[string]int64 {
	t.Helper()
	counts := map[string]int64{}
	for _, table := range []string{"access_grant", "past_grant", "expansion", "entitlement", "resource", "resource_type", "account", "app_owner"} {
		count, err := db.Value[int64](t.Context(), d, `SELECT COUNT(*) FROM `+table+` WHERE app_id = $1`, appID)
		check(t, err)
		if count > 0 {
			counts[table] = count
		}
	}
	return counts
}

func TestAnAppIsRemovedWithWhatIsInIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx, operator := t.Context(), identity.Operator()
		fill(t, r, 700)
		bank := r.app
		ann := r.person("Ann", "u1@x.example", "")
		_, err := r.people.ReadDirectory(ctx, bank.ID, []identity.DirectoryPerson{{ExternalID: "1", Name: "Dora"}}, func(context.Context, *db.Tx, identity.ImportResult) error { return nil })
		check(t, err)
		told := r.add(App{Name: "Told", Source: bank.ID, ExternalID: "application:1"})
		r.write(func(ctx context.Context, tx *db.Tx) error {
			if err := r.SetOwners(ctx, tx, operator, bank.ID, []Owner{{Kind: OwnerPerson, ID: ann}}); err != nil {
				return err
			}
			return r.RecordGrant(ctx, tx, bank.ID, r.ids["team:ops:member"], "u0", Reason{Kind: "operator", Ref: "x"})
		})
		before := left(t, d, bank.ID)

		// An app that is like it stays as it is.
		other := newOther(t, r)
		fill(t, other, 5)
		check(t, r.Rematch(ctx, ""))
		otherHas := left(t, d, other.app.ID)

		r.InUse = func(_ context.Context, _ *db.Tx, app App) error {
			return fault.New(fault.NotReady, "%s has a connector", app.Name)
		}
		_, err = r.RemoveApp(ctx, operator, bank.ID)
		wants(t, err, fault.NotReady, "Bank has a connector")
		r.InUse = nil
		r.write(func(ctx context.Context, tx *db.Tx) error { _, err := Claim(ctx, tx, bank.ID, "sync"); return err })
		_, err = r.RemoveApp(ctx, operator, bank.ID)
		wants(t, err, fault.NotReady, "is being taken in")
		r.write(func(ctx context.Context, tx *db.Tx) error { return Release(ctx, tx, bank.ID, "sync") })
		_, err = r.RemoveApp(ctx, audit.Actor{Kind: "person"}, bank.ID)
		wants(t, err, fault.Forbidden, "")
		check(t, r.Remove(ctx, bank.ID)) // a job for an app that is there does nothing
		check(t, r.Remove(ctx, ""))
		if diff := cmp.Diff(before, left(t, d, bank.ID)); diff != "" {
			t.Fatal(diff)
		}

		r.Enqueue = func(context.Context, *db.Tx, string, string) error { return errors.New("no queue") }
		if _, err := r.RemoveApp(ctx, operator, bank.ID); err == nil {
			t.Fatal("removed without a job")
		}
		var asked []string
		r.Enqueue = func(_ context.Context, _ *db.Tx, kind, row string) error {
			asked = append(asked, kind+" "+row)
			return nil
		}
		removed, err := r.RemoveApp(ctx, operator, bank.ID)
		check(t, err)
		if diff := cmp.Diff([]string{RemoveJob + " " + bank.ID}, asked); diff != "" || removed.RemovedAt != r.clock.Now() {
			t.Error(diff, removed)
		}
		if got := lastEvent(t, r, "app.removed"); got != `{"resources":701,"accounts":700,"entitlements":1,"grants":701,"people":1}` {
			t.Error(got)
		}

		// From now on it is nowhere, though all is there still.
		_, err = r.RemoveApp(ctx, operator, bank.ID)
		wants(t, err, fault.NotFound, "")
		for _, name := range []string{"Bank", bank.ID} {
			_, err = r.AppByName(ctx, d, name)
			wants(t, err, fault.NotFound, "airlock app list")
		}
		_, err = r.AppByID(ctx, d, bank.ID)
		wants(t, err, fault.NotFound, "")
		list, err := r.Apps(ctx, operator, Key{}, 10)
		check(t, err)
		if len(list) != 2 || list[0].ID != other.app.ID || list[1].ID != told.ID {
			t.Errorf("listed: %+v", list)
		}
		accounts, err := r.Accounts(ctx, operator, AccountFilter{PersonID: ann}, Key{}, 10)
		check(t, err)
		if len(accounts) != 1 || accounts[0].AppID != other.app.ID {
			t.Errorf("accounts: %+v", accounts)
		}
		for p, err := range r.ExportPeople(ctx, operator, "") {
			if err != nil || p.Name == "Ann" && p.Accounts != 1 {
				t.Errorf("%+v %v", p, err)
			}
		}
		for g, err := range r.ExportGrants(ctx, operator, "") {
			if err != nil || g.AppID != other.app.ID {
				t.Fatalf("%+v %v", g, err)
			}
		}
		err = d.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			return r.RecordGrant(ctx, tx, bank.ID, r.ids["team:ops:member"], "u1", Reason{Kind: "operator"})
		})
		wants(t, err, fault.NotFound, "")
		again := r.add(App{Name: "bank"}) // the name is free

		// The job may be cut off, and is taken up by a sweep.
		short, cancel := context.WithCancel(ctx)
		cancel()
		if err := r.Remove(short, bank.ID); err == nil {
			t.Error("it isn't cut off")
		}
		check(t, r.Remove(ctx, ""))
		check(t, r.Remove(ctx, ""))
		if diff := cmp.Diff(map[string]int64{"past_grant": 701}, left(t, d, bank.ID)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(otherHas, left(t, d, other.app.ID)); diff != "" {
			t.Error(diff)
		}
		past, err := r.PastGrants(ctx, operator, PastFilter{AppID: bank.ID}, PastKey{}, 1)
		check(t, err)
		if past[0].UntilSyncID != AppRemoved || past[0].Until != removed.RemovedAt || past[0].Entitlement != "team:ops:member" {
			t.Errorf("%+v", past[0])
		}
		reasons, err := r.Reasons(ctx, d, r.ids["team:ops:member"], "u0")
		check(t, err)
		record, err := r.AppOnRecord(ctx, d, bank.ID)
		check(t, err)
		if record.Name != "Bank" || len(reasons) != 0 {
			t.Errorf("%+v %v", record, reasons)
		}
		stays, err := r.AppByName(ctx, d, "told")
		check(t, err)
		if stays.Source != SourceManual || stays.ExternalID != "" {
			t.Errorf("%+v", stays)
		}
		dora, err := r.people.Find(ctx, d, "Dora")
		check(t, err)
		if dora.Source != identity.SourceCSV || dora.Status != identity.Enabled {
			t.Errorf("%+v", dora)
		}
		_, err = r.RemoveApp(ctx, operator, again.ID)
		check(t, err)
	})
}

// newOther is a rig of another app over the same services.
func newOther(t *testing.T, r *rig) *rig {
	t.Helper()
	other := &rig{Service: r.Service, t: t, clock: r.clock, ids: map[string]string{}}
	other.app = r.add(App{Name: "Other"})
	r.write(func(ctx context.Context, tx *db.Tx) error {
		var rows []TypeRow
		for _, kind := range []string{"user", "team"} {
			other.ids[kind] = kind + "-of-" + other.app.ID
			rows = append(rows, TypeRow{ID: other.ids[kind], ExternalID: kind, Name: kind, Traits: []string{}})
		}
		return PutTypes(ctx, tx, other.app.ID, rows, r.clock.Now())
	})
	return other
}

// fill adds accounts that are all members of a team, and the team of itself.
func fill(t testing.TB, r *rig, many int) {
	t.Helper()
	r.team("ops")
	r.grant("team:ops:member", "team:ops")
	r.edge("team:ops:member", "team:ops:member", "", false)
	prefix := ""
	if r.app.Name != "Bank" {
		prefix = r.app.ID
	}
	for from := 0; from < many; from += 1000 {
		r.write(func(ctx context.Context, tx *db.Tx) error {
			var rows []ResourceRow
			var grants []GrantRow
			for n := from; n < min(many, from+1000); n++ {
				id := fmt.Sprintf("%su%d", prefix, n)
				rows = append(rows, ResourceRow{
					ID: id, TypeID: r.ids["user"], ExternalID: id, Name: id, Profile: "{}", Source: []byte{}, Hash: []byte{},
					Account: &AccountRow{Kind: Human, Status: Enabled, Keys: identity.Keys{Emails: []string{fmt.Sprintf("u%d@x.example", n)}}},
				})
				if n > 0 {
					grants = append(grants, GrantRow{EntitlementID: r.ids["team:ops:member"], PrincipalID: id})
				}
			}
			if err := AddResources(ctx, tx, r.stamp(), rows); err != nil {
				return err
			}
			return AddGrants(ctx, tx, r.stamp(), grants)
		})
	}
}

// The names that a directory gives its apps may be any; those of apps are none that
// deceive whoever reads them.
func TestAppsThatADirectoryTellsOfHaveNamesOneCanRead(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.write(func(ctx context.Context, tx *db.Tx) error {
			_, err := r.tellApps(ctx, tx, r.app, []Resource{
				{Type: "application", ExternalID: "1", Name: "Wiki\x1b[2J\u202e", Description: "two\nlines"}, {Type: "application", ExternalID: "2", Name: "\u200b"},
			})
			return err
		})
		list, err := r.Apps(t.Context(), identity.Operator(), Key{}, 10)
		check(t, err)
		var names []string
		for _, app := range list {
			names = append(names, app.Name+"|"+app.Description)
			_, err := r.SetApp(t.Context(), identity.Operator(), app.ID, func(a *App) { a.Matching = Broad })
			check(t, err)
		}
		if diff := cmp.Diff([]string{"Bank|", "Wiki[2J|two lines", "application:2|"}, names); diff != "" {
			t.Error(diff)
		}
	})
}

func TestExportedTimesAreUTC(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.user("a", "A", "a@x.example")
		for a, err := range r.ExportAccounts(t.Context(), identity.Operator(), "") {
			check(t, err)
			if text, err := json.Marshal(a.FirstSeenAt); err != nil || string(text) != `"2026-11-24T12:00:00Z"` {
				t.Errorf("%s, %v", text, err)
			}
		}
	})
}

// How long a big app takes to be deleted, and the longest that others wait for it.
func BenchmarkRemove(b *testing.B) {
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		b.Run(string(engine), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				d := dbtest.Open(b, engine)
				r := newRig(b, d)
				fill(b, r, 100_000)
				check(b, Analyze(b.Context(), d))
				var longest time.Duration
				d.Observe(func(held time.Duration) { longest = max(longest, held) })
				b.StartTimer()
				_, err := r.RemoveApp(b.Context(), identity.Operator(), r.app.ID)
				check(b, err)
				b.ReportMetric(float64(longest.Milliseconds()), "ms/hiding")
				check(b, r.Remove(b.Context(), ""))
				b.ReportMetric(float64(longest.Milliseconds()), "ms/longest")
			}
		})
	}
}
