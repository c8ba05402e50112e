package integration

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// person adds somebody who owns an app.
func (r *rig) owner(name, appID string) string {
	r.t.Helper()
	_, err := r.identity.ImportPeople(r.t.Context(), identity.Operator(), strings.NewReader("name,email,username\n"+name+","+name+"@bank.example,"+name+"\n"))
	check(r.t, err)
	person, err := r.identity.Find(r.t.Context(), r.db, name)
	check(r.t, err)
	r.write(func(ctx context.Context, tx *db.Tx) error {
		return r.inventory.SetOwners(ctx, tx, identity.Operator(), appID, []inventory.Owner{{Kind: inventory.OwnerPerson, ID: person.ID}})
	})
	return person.ID
}

// account adds an account of somebody's, or of nobody's.
func (r *rig) account(appID, name, personID string) {
	r.t.Helper()
	r.write(func(ctx context.Context, tx *db.Tx) error {
		types := []inventory.TypeRow{{ID: appID, ExternalID: "person", Name: "Person", Traits: []string{"user"}}}
		if err := inventory.PutTypes(ctx, tx, appID, types, r.clock.Now()); err != nil {
			return err
		}
		row := inventory.AccountRow{Login: name, Kind: inventory.Human, Status: inventory.Enabled}
		row.Owner.PersonID = personID
		return inventory.AddResources(ctx, tx, inventory.Stamp{AppID: appID, SyncID: "sync", At: r.clock.Now()}, []inventory.ResourceRow{{
			ID: name + "-of-" + appID, TypeID: appID, ExternalID: name, Name: name, Profile: "{}", Source: []byte{}, Hash: []byte{}, Account: &row,
		}})
	})
}

// Who may do what: as each role, to the connector of an app that they own, to
// another one, and for their own account.
func TestWhoMayDoWhatWithWhichConnector(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx := t.Context()
		mine, _ := r.connector("Mine")
		other, actor := r.connector("Other")
		r.hello(actor, "host")
		r.finish(actor, "host", func() string {
			task := r.one(actor, "host")
			r.upload(actor, "host", task.GetId(), "file")
			return task.GetId()
		}(), ok(nil))
		ann := r.owner("ann", mine.AppID)
		for _, c := range []Connector{mine, other} {
			r.account(c.AppID, "ann", ann)
			r.account(c.AppID, "bob", "bob")
			r.account(c.AppID, "nobody", "")
		}
		ask := func(a identity.Actor, c Connector, name string) error {
			task := grantTask()
			task.Principal = resource("person", name)
			return r.asked(a, TaskSpec{ConnectorID: c.ID, Request: task})
		}
		newAccount := func(a identity.Actor, email string) error {
			info := v2.AccountInfo_builder{Emails: []*v2.AccountInfo_Email{v2.AccountInfo_Email_builder{Address: email}.Build()}}.Build()
			return r.asked(a, TaskSpec{ConnectorID: mine.ID, Request: CreateAccount{Account: info}})
		}
		syncs, err := r.Syncs(ctx, identity.Operator(), SyncFilter{ConnectorID: other.ID}, "", 1)
		check(t, err)
		for _, test := range []struct {
			what string
			who  string // the first letters of the roles that may: super, connector, application, campaign admin, auditor, user
			do   func(actor identity.Actor) error
		}{
			{"see the own app's", "scaAC", func(a identity.Actor) error { _, err := r.Show(ctx, a, mine.ID); return err }},
			{"see another's", "scAC", func(a identity.Actor) error { _, err := r.Show(ctx, a, other.ID); return err }},
			{"list", "scaAC", func(a identity.Actor) error { _, err := r.List(ctx, a, inventory.Key{}, 10); return err }},
			{"ask for the oldest task", "scaAC", func(a identity.Actor) error { _, _, err := r.OldestTask(ctx, a); return err }},
			{"read its log", "scaAC", func(a identity.Actor) error { _, err := r.Log(ctx, a, mine.ID, 0, 0, 1); return err }},
			{"read another's log", "scAC", func(a identity.Actor) error { _, err := r.Log(ctx, a, other.ID, 0, 0, 1); return err }},
			{"read its syncs", "scaAC", func(a identity.Actor) error {
				_, err := r.Syncs(ctx, a, SyncFilter{ConnectorID: mine.ID}, "", 1)
				return err
			}},
			{"read an app's syncs", "scaAC", func(a identity.Actor) error {
				_, err := r.Syncs(ctx, a, SyncFilter{AppID: mine.AppID}, "", 1)
				return err
			}},
			{"read another's syncs", "scAC", func(a identity.Actor) error {
				_, err := r.Syncs(ctx, a, SyncFilter{ConnectorID: other.ID}, "", 1)
				return err
			}},
			{"ask how long it reads", "scaAC", func(a identity.Actor) error { _, err := r.Usual(ctx, a, mine.ID); return err }},
			{"take its file", "sc", func(a identity.Actor) error {
				content, _, err := r.SyncFile(ctx, a, syncs[0].ID, FileC1Z)
				if err == nil {
					_, err = io.Copy(io.Discard, content)
				}
				return err
			}},
			{"change it", "sc", func(a identity.Actor) error { _, err := r.SetDebug(ctx, a, mine.ID, true); return err }},
			{"sync it", "sc", func(a identity.Actor) error { _, err := r.SyncNow(ctx, a, mine.ID); return err }},
			{"change access in the own app", "sa", func(a identity.Actor) error { return ask(a, mine, "bob") }},
			{"change access in another app", "s", func(a identity.Actor) error { return ask(a, other, "bob") }},
			{"change an unmatched account's", "s", func(a identity.Actor) error { return ask(a, mine, "nobody") }},
			{"change an unknown account's", "s", func(a identity.Actor) error { return ask(a, mine, "gone") }},
			{"change one's own access", "", func(a identity.Actor) error { return ask(a, mine, "ann") }},
			{"rotate one's own password", "", func(a identity.Actor) error {
				return r.asked(a, TaskSpec{ConnectorID: mine.ID, Request: RotateCredential{ID: resource("person", "ann").GetId()}})
			}},
			{"make oneself an account", "", func(a identity.Actor) error { return newAccount(a, "ANN@bank.example") }},
			{"make an account for who knows whom", "s", func(a identity.Actor) error { return newAccount(a, "who@bank.example") }},
		} {
			for letter, role := range map[string]identity.Roles{
				"s": identity.SuperAdmin, "c": identity.ConnectorAdmin, "a": identity.ApplicationAdmin, "C": identity.CampaignAdmin, "A": identity.Auditor, "u": identity.User,
			} {
				err := test.do(identity.PersonActor(ann, "ann", role))
				if may := strings.Contains(test.who, letter); err != nil && (may || !fault.Is(err, fault.Forbidden)) || err == nil && !may {
					t.Errorf("%s as %s: %v", test.what, role, err)
				}
			}
		}
		owner := identity.PersonActor(ann, "ann", identity.ApplicationAdmin)
		if list, err := r.List(ctx, owner, inventory.Key{}, 10); err != nil || len(list) != 1 || list[0].ID != mine.ID {
			t.Errorf("an owner lists %+v, %v", list, err)
		}
		if _, name, err := r.OldestTask(ctx, owner); err != nil || name != "Mine" {
			t.Errorf("an owner is told of %q, %v", name, err)
		}
		if list, err := r.List(ctx, identity.PersonActor("bob", "bob", identity.ApplicationAdmin), inventory.Key{}, 10); err != nil || len(list) != 0 {
			t.Errorf("who owns nothing lists %+v, %v", list, err)
		}

		// Secrets of one's own account are for somebody else to hand over.
		rotated := r.add(TaskSpec{ConnectorID: mine.ID, Request: RotateCredential{ID: resource("person", "ann").GetId()}})
		if _, err := r.Disclose(ctx, identity.PersonActor(ann, "ann", identity.AllRoles()), rotated); !fault.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), "own access") {
			t.Error(err)
		}
		err = d.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			return r.CancelTask(ctx, tx, identity.PersonActor(ann, "ann", identity.AllRoles()), rotated)
		})
		wants(t, err, fault.Forbidden, "own access")
	})
}

// asked asks for a task as somebody, and takes it back.
func (r *rig) asked(actor identity.Actor, spec TaskSpec) error {
	taken := errors.New("taken back")
	err := r.db.Write(r.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		if _, err := r.AddTask(ctx, tx, actor, spec); err != nil {
			return err
		}
		return taken
	})
	if errors.Is(err, taken) {
		return nil
	}
	return err
}

// A hosted connector may be added before it is set up: until then it isn't run.
func TestSettingsMayComeLater(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx, operator := t.Context(), identity.Operator()
		later := AddConnector{Catalog: "bank", App: "Bank", Hosted: true, Later: true}
		for _, wrong := range []AddConnector{
			{Catalog: "bank", App: "Bank", Hosted: true},
			{Catalog: "bank", App: "Bank", Later: true},
			{Catalog: "bank", App: "Bank", Hosted: true, Later: true, Settings: map[string]string{"url": "x"}},
		} {
			if _, _, err := r.Add(ctx, operator, wrong); !fault.Is(err, fault.Invalid) {
				t.Errorf("%+v: %v", wrong, err)
			}
		}
		unknown := later
		unknown.Catalog = "shop"
		_, _, err := r.Add(ctx, operator, unknown)
		wants(t, err, fault.NotFound, "no connector")

		c, credentials, err := r.Add(ctx, operator, later)
		check(t, err)
		unset := func() {
			t.Helper()
			view := r.show(c)
			if !view.Unset() || view.State != NotConnected || view.Detail != "open Settings, Edit and Save its settings" || view.Open != nil || !view.NextSyncAt.IsZero() {
				t.Fatalf("%+v", view)
			}
			if list, err := r.Hosted(ctx); err != nil || len(list) != 0 {
				t.Fatalf("%+v is run, %v", list, err)
			}
		}
		if credentials != (Credentials{}) {
			t.Error("it has credentials")
		}
		unset()
		_, err = r.SetSchedule(ctx, operator, c.ID, Schedule{Every: 2 * time.Hour})
		check(t, err)
		r.clock.Advance(24 * time.Hour)
		check(t, r.SweepSchedules(ctx))
		_, err = r.SyncNow(ctx, operator, c.ID)
		wants(t, err, fault.NotReady, "no settings yet")
		err = d.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := r.RequestSync(ctx, tx, operator, c.ID, CauseVerify)
			return err
		})
		wants(t, err, fault.NotReady, "no settings yet")
		_, err = r.Set(ctx, operator, c.ID, map[string]string{"passphrase": "sesame"}, nil)
		wants(t, err, fault.Invalid, "url is missing")
		unset()

		_, err = r.Set(ctx, operator, c.ID, map[string]string{"url": "https://bank.example", "passphrase": "sesame"}, nil)
		check(t, err)
		view := r.show(c)
		if view.Unset() || view.Detail != "it is being started" || view.Open == nil || view.Open.Cause != CauseFirst || view.NextSyncAt.Sub(r.clock.Now()) != 2*time.Hour {
			t.Errorf("%+v", view)
		}
		list, err := r.Hosted(ctx)
		if err != nil || len(list) != 1 || list[0].Settings["passphrase"] != "sesame" {
			t.Errorf("%+v is run, %v", list, err)
		}
		// Without any setting it is set up all the same.
		_, err = r.change(ctx, c.ID, func(_ context.Context, _ *db.Tx, c *Connector) error { c.Settings = map[string]string{}; return nil })
		check(t, err)
		if r.now(c).Unset() {
			t.Error("it has yet to be set up")
		}
	})
}

func TestWhatAConnectorIsIsLearned(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	r.known = func(kind string) bool { return kind == "till" || kind == "vault-keeper" }
	for _, test := range []struct{ pkg, name, kind string }{
		{"example.com/baton-bank", "Other", "bank"},
		{"example.com/baton-bank/v2", "", "bank"},
		{"example.com/baton-old/cmd/baton-new", "", "new"},
		{"bank", "Till", "till"},
		{"bank", "Fine Old Till", "till"},
		{"bank", "ACME: Vault Keeper", "vault-keeper"},
		{"bank", "Big Bank!", "big-bank"},
		{"/baton-", " \u202e ", ""},
		{"", "", ""},
	} {
		if got := r.learn(test.pkg, test.name); got != test.kind {
			t.Errorf("%q, %q: %q, not %q", test.pkg, test.name, got, test.kind)
		}
	}
	if c := (Connector{Catalog: "bank", Learned: "shop"}); c.Kind() != "bank" {
		t.Error("what was said when it was added doesn't count:", c.Kind())
	}
}

// A connector that was added without anybody knowing what it is has the name that
// it gives itself, once its first sync is applied.
func TestAConnectorNamesItself(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx, operator := t.Context(), identity.Operator()
		syncs := func(actor identity.Actor) {
			t.Helper()
			r.hello(actor, "host")
			task := r.one(actor, "host")
			r.upload(actor, "host", task.GetId(), "file")
			r.finish(actor, "host", task.GetId(), ok(nil))
			sync, err := syncOfTask(ctx, d, task.GetId())
			check(t, err)
			r.apply(sync.ID)
		}
		names := func(c Connector) string {
			t.Helper()
			app, err := r.inventory.AppByID(ctx, d, c.AppID)
			check(t, err)
			return r.now(c).Name + ", " + app.Name
		}
		add := func(a AddConnector) Connector {
			t.Helper()
			a.Catalog = AnyCatalog
			c, credentials, err := r.Add(ctx, operator, a)
			check(t, err)
			if credentials.ClientSecret == "" {
				t.Error("it has no credentials")
			}
			return c
		}
		r.write(func(ctx context.Context, tx *db.Tx) error {
			_, err := r.inventory.AddApp(ctx, tx, operator, inventory.App{Name: "Baton 2"})
			return err
		})
		first := add(AddConnector{App: "Baton"})
		if r.now(first).Kind() != AnyCatalog {
			t.Error("it is known already")
		}
		r.hello(identity.Connector(first.ID, "Baton"), "host")
		if r.now(first).Kind() != "bank" || names(first) != "Baton, Baton" {
			t.Errorf("after its Hello it is %s of the kind %s", names(first), r.now(first).Kind())
		}
		syncs(identity.Connector(first.ID, "Baton"))
		if got := names(first); got != "Bank, Bank" {
			t.Error(got)
		}
		for _, action := range []string{"connector.renamed", "app.renamed"} {
			entries, err := r.audit.List(ctx, operator, audit.Filter{Action: action})
			if err != nil || len(entries) != 1 || entries[0].Actor.Kind != identity.KindSystem || !strings.Contains(string(entries[0].Detail), `"Baton"`) {
				t.Errorf("%+v, %v", entries, err)
			}
		}
		if kind, err := r.KindOfApp(ctx, d, first.AppID); err != nil || kind != "bank" {
			t.Error(kind, err)
		}
		second := add(AddConnector{App: "Baton"})
		syncs(identity.Connector(second.ID, "Baton"))
		if got := names(second); got != "Bank 2, Bank 2" {
			t.Error(got)
		}
		// What people called otherwise stays, and so does a name that they give later.
		own, given := add(AddConnector{App: "Our bank"}), add(AddConnector{App: "Baton 2"})
		syncs(identity.Connector(own.ID, "Baton"))
		syncs(identity.Connector(given.ID, "Baton"))
		if got := names(own) + "; " + names(given); got != "Our bank, Our bank; Bank 3, Baton 2" {
			t.Error(got)
		}
		_, err := r.Rename(ctx, operator, first.ID, "Baton")
		check(t, err)
		_, err = r.SyncNow(ctx, operator, first.ID)
		check(t, err)
		syncs(identity.Connector(first.ID, "Baton"))
		if got := names(first); got != "Baton, Bank" {
			t.Error(got)
		}
		// What it found is still known once it is gone.
		_, err = r.Remove(ctx, operator, first.ID)
		check(t, err)
		if kind, err := r.KindOfApp(ctx, d, first.AppID); err != nil || kind != "bank" {
			t.Error(kind, err)
		}
		if kind, err := r.KindOfApp(ctx, d, "nothing"); err != nil || kind != "" {
			t.Error(kind, err)
		}
	})
}

// Ids of one second are in no order: syncs are listed by when they were asked for.
func TestSyncsAreListedByWhenTheyWereAskedFor(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, _ := r.connector("Bank")
		begin := r.clock.Now().Add(time.Minute)
		const all = 7
		r.write(func(ctx context.Context, tx *db.Tx) error {
			for n := range all { // two at a time
				sync := Sync{
					ID: string(rune('a' + (n*5)%all)), AppID: c.AppID, ConnectorID: c.ID, Kind: Full, State: Applied,
					CreatedAt: begin.Add(time.Duration(n/2) * time.Millisecond), StartedAt: begin, UploadedAt: begin.Add(time.Duration(n) * time.Second),
				}
				if err := insertSync(ctx, tx, sync); err != nil {
					return err
				}
			}
			return nil
		})
		var list []Sync
		for before := ""; ; {
			page, err := r.Syncs(t.Context(), identity.Operator(), SyncFilter{ConnectorID: c.ID}, before, 2)
			check(t, err)
			if len(page) == 0 {
				break
			}
			list = append(list, page...)
			before = page[len(page)-1].ID
		}
		if len(list) != all+1 || !slices.IsSortedFunc(list, func(a, b Sync) int { return b.CreatedAt.Compare(a.CreatedAt) }) {
			t.Errorf("%d syncs: %+v", len(list), list)
		}
		last := r.show(c).Last
		if last == nil || last.ID != list[0].ID || !last.CreatedAt.Equal(begin.Add(3*time.Millisecond)) {
			t.Errorf("the last is %+v", last)
		}
	})
}
