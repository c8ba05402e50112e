package integration

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// actions are what the audit log says was done, the oldest first.
func (r *rig) actions() []string {
	r.t.Helper()
	list, err := ids(r.t.Context(), r.db, `SELECT action FROM audit_event ORDER BY seq`)
	check(r.t, err)
	return list
}

func TestAConnectorIsAddedWithItsApp(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, credentials, err := r.Add(t.Context(), identity.Operator(), AddConnector{Catalog: "bank", App: " The  Bank "})
		check(t, err)
		if c.Name != "The Bank" || credentials.ClientID == "" || credentials.ClientSecret == "" {
			t.Errorf("added %+v with %+v", c, credentials)
		}
		app, err := r.inventory.AppByName(t.Context(), d, "the bank")
		check(t, err)
		if app.ID != c.AppID || !app.Managed {
			t.Errorf("the app is %+v", app)
		}
		view := r.show(c)
		if view.State != NotConnected || view.Open == nil || view.Open.Cause != CauseFirst || view.NextSyncAt != r.clock.Now().Add(time.Hour) {
			t.Errorf("it stands so: %+v", view)
		}
		if got := r.actions(); !cmp.Equal(got, []string{"app.added", "connector.added"}) {
			t.Errorf("the audit log says %v", got)
		}

		_, _, err = r.Add(t.Context(), identity.Operator(), AddConnector{Catalog: "bank", App: "THE BANK"})
		wants(t, err, fault.Conflict, "has the connector")
		_, _, err = r.Add(t.Context(), identity.Operator(), AddConnector{Catalog: "bank", App: "Other", Name: "the bank"})
		wants(t, err, fault.Conflict, "already")
		if _, err := r.inventory.AppByName(t.Context(), d, "Other"); !fault.Is(err, fault.NotFound) {
			t.Errorf("the app of a connector that couldn't be added is there: %v", err)
		}
		_, _, err = r.Add(t.Context(), identity.Connector(c.ID, "x"), AddConnector{Catalog: "bank", App: "Other"})
		wants(t, err, fault.Forbidden, "may not")
	})
}

func TestWhatIsWrongWithANewConnectorIsTold(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	for _, test := range []struct {
		add  AddConnector
		code fault.Code
		says string
	}{
		{AddConnector{App: "A"}, fault.Invalid, "name in the catalog"},
		{AddConnector{Catalog: "bank", App: " "}, fault.Invalid, "needs an app"},
		{AddConnector{Catalog: "bank", App: "A", Settings: map[string]string{"url": "x"}}, fault.Invalid, "has its settings there"},
		{AddConnector{Catalog: "bank", App: "A", Hosted: true}, fault.Invalid, "url is missing"},
		{AddConnector{Catalog: "none", App: "A", Hosted: true}, fault.NotFound, "no connector"},
		{AddConnector{Catalog: "bank", App: "A", Owners: []string{"nobody@x.example"}}, fault.NotFound, "no person"},
		{AddConnector{Catalog: "bank", App: "A", Hosted: true, Settings: map[string]string{"url": "a\x00b"}}, fault.Invalid, "isn't text"},
		{AddConnector{Catalog: "bank", App: "A", Name: "2abcdefghijklmnopqrstuvwxyz"}, fault.Invalid, "looks like an id"},
	} {
		_, _, err := r.Add(t.Context(), identity.Operator(), test.add)
		wants(t, err, test.code, test.says)
	}
	if got := r.actions(); len(got) > 0 {
		t.Errorf("the audit log says %v", got)
	}
}

func TestSecretSettingsAreSealed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		settings := map[string]string{"url": "https://bank.example", "passphrase": "swordfish"}
		c, credentials, err := r.Add(t.Context(), identity.Operator(), AddConnector{Catalog: "bank", App: "Bank", Hosted: true, Settings: settings})
		check(t, err)
		if credentials != (Credentials{}) {
			t.Errorf("a hosted connector has credentials")
		}
		c = r.now(c)
		if !cmp.Equal(c.Settings, map[string]string{"url": "https://bank.example"}) || !cmp.Equal(c.Secrets, []string{"passphrase"}) {
			t.Errorf("kept in the clear: %v, as secrets: %v", c.Settings, c.Secrets)
		}
		hosted, err := r.Hosted(t.Context())
		check(t, err)
		if len(hosted) != 1 || !maps.Equal(hosted[0].Settings, settings) {
			t.Errorf("to be hosted: %+v", hosted)
		}

		r.clock.Advance(time.Minute)
		_, err = r.Set(t.Context(), identity.Operator(), "bank", map[string]string{"color": "red"}, []string{"url"})
		wants(t, err, fault.Invalid, "url is missing")
		c, err = r.Set(t.Context(), identity.Operator(), "bank", map[string]string{"passphrase": "marlin", "color": "red"}, nil)
		check(t, err)
		if c.SettingsAt != r.clock.Now() {
			t.Error("it isn't told that the settings changed")
		}
		hosted, err = r.Hosted(t.Context())
		check(t, err)
		if want := map[string]string{"url": "https://bank.example", "passphrase": "marlin", "color": "red"}; !maps.Equal(hosted[0].Settings, want) {
			t.Errorf("after a change: %v", hosted[0].Settings)
		}
		_, err = r.Set(t.Context(), identity.Operator(), "bank", nil, []string{"passphrase", "color"})
		check(t, err)
		if c = r.now(c); len(c.Secrets) > 0 || len(c.Settings) != 1 {
			t.Errorf("after the removal: %v, %v", c.Settings, c.Secrets)
		}
		left, err := db.Value[int](t.Context(), d, `SELECT count(*) FROM secret WHERE name LIKE 'connector/%'`)
		check(t, err)
		if left != 0 {
			t.Errorf("%d secrets are left", left)
		}
	})
}

func TestRemovingStopsAllAndKeepsWhatWasFound(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.working()
		c, actor := r.connector("Bank")
		r.hello(actor, "a")
		r.one(actor, "a") // the first sync runs
		taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask(), Follow: Follow{"follow", "row"}})
		_, err := r.Remove(t.Context(), identity.Operator(), "bank")
		check(t, err)
		if got := <-r.followed; got != "follow row" {
			t.Errorf("the job is %q", got)
		}
		if task := r.task(taskID); task.State != TaskCancelled {
			t.Errorf("its task is %s", task.State)
		}
		syncs, err := r.Syncs(t.Context(), identity.Operator(), SyncFilter{ConnectorID: c.ID}, "", 10)
		check(t, err)
		if len(syncs) != 1 || syncs[0].State != Cancelled {
			t.Errorf("its syncs are %+v", syncs)
		}
		_, err = r.Take(t.Context(), actor, Poll{Host: "a", Most: 1})
		wants(t, err, fault.NotReady, "was removed")
		clients, err := r.identity.Clients(t.Context(), d, c.ID)
		check(t, err)
		if len(clients) != 1 || clients[0].RevokedAt.IsZero() {
			t.Errorf("its clients are %+v", clients)
		}
		_, err = r.Find(t.Context(), identity.Operator(), "Bank")
		wants(t, err, fault.NotFound, "no connector")
		if again := r.now(c); !again.Removed() || again.Name != "Bank" {
			t.Errorf("by its id: %+v", again)
		}
		// Name and app are free for another.
		_, _, err = r.Add(t.Context(), identity.Operator(), AddConnector{Catalog: "bank", App: "Bank"})
		check(t, err)
	})
}

func TestChangesOfAConnectorAreKeptAndAudited(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.connector("Bank")
		operator := identity.Operator()
		for _, change := range []func(context.Context) (Connector, error){
			func(ctx context.Context) (Connector, error) { return r.Rename(ctx, operator, "bank", "Vaults") },
			func(ctx context.Context) (Connector, error) {
				return r.SetSchedule(ctx, operator, "vaults", Schedule{Cron: "0 3 * * *", Zone: "Europe/Vienna"})
			},
			func(ctx context.Context) (Connector, error) { return r.SetAnomalyStop(ctx, operator, c.ID, false) },
			func(ctx context.Context) (Connector, error) { return r.SetDebug(ctx, operator, c.ID, true) },
			func(ctx context.Context) (Connector, error) { return r.SetOwners(ctx, operator, c.ID, nil) },
			func(ctx context.Context) (Connector, error) { return r.Pause(ctx, operator, c.ID, "moving") },
		} {
			_, err := change(t.Context())
			check(t, err)
			_, err = change(cancelled(t))
			if err == nil {
				t.Error("a cancelled call changed something")
			}
		}
		c = r.now(c)
		if c.Name != "Vaults" || c.AnomalyStop || !c.Debug || c.Paused.Why != "moving" || c.Schedule.Cron != "0 3 * * *" {
			t.Errorf("it is %+v", c)
		}
		if want := time.Date(2026, 11, 25, 2, 0, 0, 0, time.UTC); !c.NextSyncAt.Equal(want) {
			t.Errorf("the next sync is due at %s", c.NextSyncAt)
		}
		want := []string{
			"app.added", "connector.added", "connector.renamed", "connector.schedule_changed", "connector.anomaly_stop_changed", "connector.debug_changed",
			"connector.owners_changed", "connector.paused",
		}
		if got := r.actions(); !cmp.Equal(got, want) {
			t.Errorf("the audit log says %v", got)
		}
		_, err := r.SetAnomalyStop(t.Context(), actor, c.ID, true)
		wants(t, err, fault.Forbidden, "may not")
	})
}

func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestAPausedConnectorGetsChangesButNoSyncs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.connector("Bank")
		r.hello(actor, "a")
		_, err := r.Pause(t.Context(), identity.Operator(), c.ID, "moving")
		check(t, err)
		r.none(actor, "a")
		r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask()})
		if task := r.one(actor, "a"); !task.HasGrant() {
			t.Errorf("given out: %v", task)
		}
		_, err = r.SyncNow(t.Context(), identity.Operator(), c.ID)
		wants(t, err, fault.NotReady, "is paused")
		r.clock.Advance(3 * time.Hour)
		check(t, r.SweepSchedules(t.Context()))
		if view := r.show(c); view.State != Paused || view.Detail != "moving" {
			t.Errorf("it is %s: %s", view.State, view.Detail)
		}
		_, err = r.Resume(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		if task := r.one(actor, "a"); !task.HasSyncFull() {
			t.Errorf("given out: %v", task)
		}
	})
}

func TestSilenceIsAProblemUntilItEnds(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.connector("Bank")
		r.clock.Advance(time.Hour)
		check(t, r.SweepSilent(t.Context()))
		if view := r.show(c); view.State != NotConnected {
			t.Errorf("one that never called is %s", view.State)
		}
		r.hello(actor, "a")
		task := r.one(actor, "a")
		r.finish(actor, "a", task.GetId(), bad(3, "no"))
		// A failed sync is the problem already; let one succeed.
		syncID, err := r.SyncNow(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		task = r.one(actor, "a")
		r.upload(actor, "a", task.GetId(), "x")
		r.finish(actor, "a", task.GetId(), ok(nil))
		r.apply(syncID)
		r.clock.Advance(6 * time.Minute)
		check(t, r.SweepSilent(t.Context()))
		if view := r.show(c); view.State != Errored || view.Problem.Kind != Silent {
			t.Errorf("it is %s: %+v", view.State, view.Problem)
		}
		r.none(actor, "a")
		if view := r.show(c); view.State != Connected {
			t.Errorf("back again it is %s: %+v", view.State, view.Problem)
		}
		// One that has a task, and no hand free for asking, isn't silent.
		r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask()})
		r.one(actor, "a")
		r.clock.Advance(6 * time.Minute)
		check(t, r.SweepSilent(t.Context()))
		if view := r.show(c); view.State != Connected {
			t.Errorf("while it works it is %s: %+v", view.State, view.Problem)
		}
	})
}

func TestTheHostsProblemsEndWithAHello(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.connector("Bank")
		check(t, r.ReportProblem(t.Context(), c.ID, Problem{Kind: Crashes, Words: "it ended with code 4"}))
		check(t, r.ReportProblem(t.Context(), c.ID, Problem{Kind: Crashes, Words: "it ended with code 4"}))
		if view := r.show(c); view.State != Errored || view.Detail != "it ended with code 4" {
			t.Errorf("it is %s: %s", view.State, view.Detail)
		}
		lines, err := r.Log(t.Context(), identity.Operator(), c.ID, 0, 0, 10)
		check(t, err)
		if len(lines) != 1 {
			t.Errorf("the log has %d lines about it", len(lines))
		}
		r.hello(actor, "a")
		if view := r.show(c); view.State != Syncing {
			t.Errorf("it is %s: %s", view.State, view.Detail)
		}
	})
}

func TestConnectorsListByName(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		for _, name := range []string{"C", "A", "B"} {
			r.connector(name)
		}
		var names []string
		after := inventory.Key{}
		for {
			page, err := r.List(t.Context(), identity.Operator(), after, 2)
			check(t, err)
			if len(page) == 0 {
				break
			}
			for _, one := range page {
				names = append(names, one.Name)
				after = inventory.Key{Name: one.Name, ID: one.ID}
			}
		}
		if !cmp.Equal(names, []string{"A", "B", "C"}) {
			t.Errorf("listed: %v", names)
		}
	})
}

func TestRotatingEndsTheOldClient(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, credentials, err := r.Add(t.Context(), identity.Operator(), AddConnector{Catalog: "bank", App: "Bank"})
		check(t, err)
		_, fresh, err := r.Rotate(t.Context(), identity.Operator(), "bank")
		check(t, err)
		clients, err := r.identity.Clients(t.Context(), d, c.ID)
		check(t, err)
		state := map[string]bool{}
		for _, client := range clients {
			state[client.ID] = client.RevokedAt.IsZero()
		}
		if !cmp.Equal(state, map[string]bool{credentials.ClientID: false, fresh.ClientID: true}) {
			t.Errorf("the clients that may go on: %v", state)
		}
	})
}

func TestALogIsBoundedAndNumbered(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, _ := r.connector("Bank")
		var lines []LogLine
		for range 1500 {
			lines = append(lines, LogLine{Level: "shout", Message: "a\x00b", Fields: []byte("{]")})
		}
		lines[1499] = LogLine{Level: "warn", Message: string(make([]byte, 1<<20)) + "end", Fields: []byte(`{"n":1}`)}
		check(t, r.AppendLog(t.Context(), c.ID, lines))
		check(t, r.AppendLog(t.Context(), c.ID, nil))
		page, err := r.Log(t.Context(), identity.Operator(), c.ID, 0, 0, 2)
		check(t, err)
		if len(page) != 2 || page[0].N != 999 || page[0].Message != "ab" || page[0].Level != "info" || page[0].Fields != nil || page[1].Message != "end" || string(page[1].Fields) != `{"n":1}` {
			t.Errorf("the last lines are %+v", page)
		}
		page, err = r.Log(t.Context(), identity.Operator(), c.ID, 0, 999, 1)
		check(t, err)
		if len(page) != 1 || page[0].N != 998 {
			t.Errorf("before them: %+v", page)
		}
		r.clock.Advance(31 * day)
		check(t, r.SweepOld(t.Context()))
		check(t, r.AppendLog(t.Context(), c.ID, []LogLine{{Message: "new"}}))
		page, err = r.Log(t.Context(), identity.Operator(), c.ID, 999, 0, 10)
		check(t, err)
		if len(page) != 2 || page[1].N != 1001 || page[1].Message != "new" {
			t.Errorf("after the old ones are gone: %+v", page)
		}
	})
}
