package inventory

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

func TestAppsAreFoundByNameInAnyCase(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx := t.Context()
		added := r.add(App{Name: "  Größe   und WEITE ", Description: "x"})
		if added.Name != "Größe und WEITE" || added.Source != SourceManual || added.Matching != Narrow {
			t.Errorf("added %+v", added)
		}
		for _, name := range []string{"grösse", ""} {
			_, err := r.AppByName(ctx, d, name)
			wants(t, err, fault.NotFound, "airlock app list")
		}
		found, err := r.AppByName(ctx, d, "GRÖßE und weite")
		check(t, err)
		if diff := cmp.Diff(added, found); diff != "" {
			t.Error(diff)
		}
		err = d.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := r.AddApp(ctx, tx, identity.Operator(), App{Name: "größe UND weite"})
			return err
		})
		wants(t, err, fault.Conflict, "already")
		_, err = r.RenameApp(ctx, identity.Operator(), added.ID, "BANK")
		wants(t, err, fault.Conflict, "keeps its name")
		changed, err := r.SetApp(ctx, identity.Operator(), added.ID, func(a *App) { a.Matching, a.Directory = Broad, true })
		check(t, err)
		if changed.Matching != Broad || !changed.Directory {
			t.Errorf("changed to %+v", changed)
		}
		_, err = r.SetApp(ctx, audit.Actor{Kind: "person"}, added.ID, func(*App) {})
		wants(t, err, fault.Forbidden, "")
		list, err := r.Apps(ctx, identity.Operator(), Key{}, 1)
		check(t, err)
		rest, err := r.Apps(ctx, identity.Operator(), Key{list[0].Name, list[0].ID}, 10)
		check(t, err)
		if len(list) != 1 || len(rest) != 1 || rest[0].ID == list[0].ID {
			t.Errorf("pages %v, %v", list, rest)
		}
	})
}

func TestOwnersMustExist(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ann, admins := r.person("Ann", "ann@x.example", "ann"), r.team("admins")
		set := func(list ...Owner) error {
			return d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				return r.SetOwners(ctx, tx, identity.Operator(), r.app.ID, list)
			})
		}
		check(t, set(Owner{Kind: OwnerPerson, ID: ann}, Owner{Kind: OwnerEntitlement, ID: admins}))
		wants(t, set(Owner{Kind: OwnerPerson, ID: "nobody"}), fault.NotFound, "stay as they are")
		wants(t, set(Owner{Kind: "cat", ID: ann}), fault.NotFound, "cat")
		got, err := r.Owners(t.Context(), d, r.app.ID)
		check(t, err)
		want := []Owner{{OwnerEntitlement, admins, "Member of admins"}, {OwnerPerson, ann, "Ann"}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWhatSomebodySaidOfAnAccountStays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx, operator := t.Context(), identity.Operator()
		ann, bob := r.person("Ann", "ann@x.example", "ann"), r.person("Bob", "bob@x.example", "bob")
		a, b, c := r.user("a", "A", "ann@x.example"), r.user("b", "B", "bob@x.example"), r.user("c", "C", "nobody@x.example")
		state := func(id string) string {
			account, err := r.AccountByID(ctx, d, id)
			check(t, err)
			return account.PersonName + " by " + account.MatchedBy
		}
		rematched := func(want ...string) {
			t.Helper()
			check(t, r.Rematch(ctx, ""))
			if diff := cmp.Diff(want, []string{state(a), state(b), state(c)}); diff != "" {
				t.Error(diff)
			}
		}
		rematched("Ann by email", "Bob by email", " by ")
		check(t, r.Link(ctx, operator, a, ""))  // it is nobody's
		check(t, r.Link(ctx, operator, b, ann)) // and this is hers
		check(t, r.Link(ctx, operator, c, bob))
		wants(t, r.Link(ctx, operator, c, "nobody"), fault.NotFound, "stays as it is")
		rematched(" by hand", "Ann by hand", "Bob by hand")
		unmatched, err := r.Accounts(ctx, operator, AccountFilter{AppID: r.app.ID, Unmatched: true}, Key{}, 10)
		check(t, err)
		if len(unmatched) != 1 || unmatched[0].ID != a {
			t.Errorf("unmatched: %v", unmatched)
		}
		check(t, r.Free(ctx, operator, a))
		rematched("Ann by email", "Ann by hand", "Bob by hand")

		check(t, r.SetKind(ctx, operator, a, ServiceKind))
		wants(t, r.SetKind(ctx, operator, a, "robot"), fault.Invalid, "robot")
		r.write(func(ctx context.Context, tx *db.Tx) error { // as a sync would
			return SetResources(ctx, tx, r.stamp(), []ResourceRow{{ID: a, Name: "A", Profile: "{}", Source: []byte{}, Hash: []byte{}, Account: &AccountRow{Kind: Human, Status: Disabled}}})
		})
		account, err := r.AccountByID(ctx, d, a)
		check(t, err)
		if account.Kind != ServiceKind || !account.KindByHand || account.Status != Disabled || account.PersonID != ann {
			t.Errorf("after a sync: %+v", account)
		}

		if _, err := r.people.ImportPeople(ctx, operator, csv("email,status\nann@x.example,disabled\n")); err != nil {
			t.Fatal(err)
		}
		orphaned, err := r.Accounts(ctx, operator, AccountFilter{Orphaned: true}, Key{}, 10)
		check(t, err)
		if len(orphaned) != 2 || !orphaned[0].Orphaned() {
			t.Errorf("orphaned: %v", orphaned)
		}
	})
}

func TestNarrowMatchingGoesByLess(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.person("Ann", "ann@x.example", "ann")
		id := r.user("ann", "Ann", "other@x.example")
		check(t, r.Rematch(t.Context(), r.app.ID))
		account, err := r.AccountByID(t.Context(), d, id)
		check(t, err)
		if account.PersonName != "Ann" || account.MatchedBy != "username" {
			t.Errorf("broad: %q by %q", account.PersonName, account.MatchedBy)
		}
		_, err = r.SetApp(t.Context(), identity.Operator(), r.app.ID, func(a *App) { a.Matching = Narrow })
		check(t, err)
		check(t, r.Rematch(t.Context(), r.app.ID))
		if account, err = r.AccountByID(t.Context(), d, id); err != nil || account.PersonID != "" {
			t.Errorf("narrow: %q %v", account.PersonName, err)
		}
	})
}

func TestThingsAreFoundByIDOrAUniqueName(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx := t.Context()
		r.team("ops")
		r.team("Ops")
		r.team("dev")
		r.user("eve", "Eve Adams", "eve@x.example")
		r.user("eve2", "Eve Adams", "eve2@x.example")
		r.user("dev", "Developer", "dev@x.example")
		r.user("100%", "Per cent", "p@x.example")
		for name, want := range map[string]string{
			"team:ops:member": "team:ops:member", "member OF dev": "team:dev:member", "Team dev": "team:dev:member", "team DEV member": "team:dev:member",
		} {
			if got, err := r.FindEntitlement(ctx, r.app.ID, name); err != nil || got.ExternalID != want {
				t.Errorf("%s: %s %v", name, got.ExternalID, err)
			}
		}
		_, err := r.FindEntitlement(ctx, r.app.ID, "member of ops")
		wants(t, err, fault.Conflict, "could be 2: team:Ops:member, team:ops:member")
		_, err = r.FindEntitlement(ctx, r.app.ID, "nothing")
		wants(t, err, fault.NotFound, "nothing")
		for name, want := range map[string]string{
			"eve": "eve", "EVE2": "eve2", "eve@X.example": "eve", "user:eve": "eve", "Developer": "dev", "dev": "dev", "team:dev": "dev", "Team dev": "dev", "100%": "100%",
		} {
			if got, err := r.FindPrincipal(ctx, r.app.ID, name); err != nil || got.ExternalID != want {
				t.Errorf("%s: %s %v", name, got.ExternalID, err)
			}
		}
		_, err = r.FindPrincipal(ctx, r.app.ID, "eve adams")
		wants(t, err, fault.Conflict, "user:eve, user:eve2; give the id of one")
		for _, size := range []int{LongestID + 1, 100_000} { // which SQLite takes for too complex a pattern
			long := "user:" + strings.Repeat("x", size)
			_, err = r.FindPrincipal(ctx, r.app.ID, long)
			wants(t, err, fault.Invalid, fmt.Sprintf(`there is no account "user:xxx%s"…: that has %d bytes, and an id or name has at most 1024`, strings.Repeat("x", 52), len(long)))
			_, err = r.FindEntitlement(ctx, r.app.ID, long)
			wants(t, err, fault.Invalid, `there is no entitlement "user:xxx`)
		}
		_, err = r.FindPrincipal(ctx, r.app.ID, "%")
		wants(t, err, fault.NotFound, "airlock export accounts")
	})
}

func TestRulesAreCheckedAndStay(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx, id := t.Context(), r.team("ops")
		ann := r.person("Ann", "ann@x.example", "ann")
		want := Rules{Risk: High, Requestable: true, Longest: 8 * time.Hour, OwnerID: ann}
		check(t, r.SetRules(ctx, identity.Operator(), id, func(rules *Rules) { *rules = want }))
		wants(t, r.SetRules(ctx, identity.Operator(), id, func(rules *Rules) { rules.Risk = "huge" }), fault.Invalid, "huge")
		wants(t, r.SetRules(ctx, identity.Operator(), id, func(rules *Rules) { rules.OwnerID = "x" }), fault.NotFound, "stays as it is")
		wants(t, r.SetRules(ctx, identity.Operator(), id, func(rules *Rules) { rules.Longest = time.Millisecond }), fault.Invalid, "whole seconds")
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return SetEntitlements(ctx, tx, r.stamp(), []EntitlementRow{{ID: id, ResourceID: r.ids["team:ops"], Name: "New", Source: []byte{}, Hash: []byte{}}})
		})
		got, err := r.EntitlementByID(ctx, d, id)
		check(t, err)
		if got.Name != "New" || got.Rules != want {
			t.Errorf("after a sync: %+v", got)
		}
	})
}

func TestWhatAConnectorDidIsRecorded(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx := t.Context()
		e, u, team := r.team("ops"), r.user("eve", "Eve", "eve@x"), r.ids["team:ops"]
		record := func(reason Reason) error {
			return d.Write(ctx, func(ctx context.Context, tx *db.Tx) error { return r.RecordGrant(ctx, tx, r.app.ID, e, u, reason) })
		}
		revoke := func(principal string) {
			r.write(func(ctx context.Context, tx *db.Tx) error { return r.RecordRevoke(ctx, tx, r.app.ID, e, principal) })
		}
		check(t, record(Reason{Kind: "operator", Ref: "1"}))
		check(t, record(Reason{Kind: "operator", Ref: "2", ExpiresAt: r.clock.Now().Add(time.Hour)})) // twice is once
		check(t, record(Reason{Kind: "operator", Ref: "2", ExpiresAt: r.clock.Now().Add(time.Hour)}))
		reasons, err := r.Reasons(ctx, d, e, u)
		check(t, err)
		entitlement, err := r.EntitlementByID(ctx, d, e)
		check(t, err)
		if len(reasons) != 2 || entitlement.Grants != 1 {
			t.Errorf("%d reasons, %d grants", len(reasons), entitlement.Grants)
		}
		r.clock.Advance(time.Hour)
		revoke(u)
		revoke(team) // which was never there
		past, err := r.PastGrants(ctx, identity.Operator(), PastFilter{EntitlementID: e}, PastKey{}, 10)
		check(t, err)
		if len(past) != 2 {
			t.Fatalf("past: %v", past)
		}
		more, err := r.PastGrants(ctx, identity.Operator(), PastFilter{EntitlementID: e}, PastKey{past[0].Until, past[0].ID}, 10)
		check(t, err)
		if diff := cmp.Diff(past[1:], more); diff != "" {
			t.Error(diff)
		}
		for _, g := range past {
			seen := g.PrincipalID == u
			if g.Entitlement != "team:ops:member" || g.EntitlementName != "Member of ops" || g.UntilSyncID != "" || g.Until != r.clock.Now() || g.Since.Before(g.Until) != seen {
				t.Errorf("%+v", g)
			}
		}
		if reasons, err = r.Reasons(ctx, d, e, u); err != nil || len(reasons) != 0 {
			t.Errorf("%v %v", reasons, err)
		}
		err = d.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			return r.RecordGrant(ctx, tx, r.app.ID, "gone", u, Reason{})
		})
		wants(t, err, fault.NotFound, "wasn't noted")

		r.clock.Advance(24 * time.Hour)
		check(t, r.SweepPast(ctx, 48*time.Hour))
		if past, err = r.PastGrants(ctx, identity.Operator(), PastFilter{}, PastKey{}, 10); err != nil || len(past) != 2 {
			t.Errorf("swept too early: %v %v", past, err)
		}
		check(t, r.SweepPast(ctx, 12*time.Hour))
		if past, err = r.PastGrants(ctx, identity.Operator(), PastFilter{}, PastKey{}, 10); err != nil || len(past) != 0 {
			t.Errorf("not swept: %v %v", past, err)
		}
	})
}

func TestADirectoryMakesPeopleAndApps(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx := t.Context()
		r.user("ann", "Ann", "ann@x.example")
		r.user("bob", "Bob", "bob@x.example")
		r.write(func(ctx context.Context, tx *db.Tx) error {
			r.ids["application"] = "application-of-" + r.app.ID
			return PutTypes(ctx, tx, r.app.ID, []TypeRow{{ID: r.ids["application"], ExternalID: "application", Name: "Application", Traits: []string{"app"}}}, r.clock.Now())
		})
		r.resource("application", "1", "Wiki", nil)
		r.resource("application", "2", "bank", nil) // as the directory's own app is called
		app, err := r.SetApp(ctx, identity.Operator(), r.app.ID, func(a *App) { a.Directory = true })
		check(t, err)
		told := func() (names []string) {
			t.Helper()
			check(t, r.Directory(ctx, identity.System(), app))
			list, err := r.Apps(ctx, identity.Operator(), Key{}, 10)
			check(t, err)
			for _, a := range list {
				name := a.Name
				if a.Managed {
					name += " managed"
				}
				if !a.RemovedAt.IsZero() {
					name += " removed"
				}
				names = append(names, name)
			}
			return names
		}
		for range 2 {
			if diff := cmp.Diff([]string{"Bank managed", "Wiki", "bank (Bank)"}, told()); diff != "" {
				t.Error(diff)
			}
		}
		check(t, r.Rematch(ctx, ""))
		accounts, err := r.Accounts(ctx, identity.Operator(), AccountFilter{AppID: r.app.ID}, Key{}, 10)
		check(t, err)
		for _, a := range accounts {
			if a.PersonName != a.Name {
				t.Errorf("%s is %q", a.Name, a.PersonName)
			}
		}
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return RemoveResources(ctx, tx, r.app.ID, []string{r.ids["application:1"], r.ids["user:bob"]})
		})
		if diff := cmp.Diff([]string{"Bank managed", "Wiki removed", "bank (Bank)"}, told()); diff != "" {
			t.Error(diff)
		}
		status, err := db.Value[string](ctx, d, `SELECT status FROM person WHERE name = 'Bob'`)
		check(t, err)
		if status != "deleted" {
			t.Errorf("Bob is %s", status)
		}
		events, err := db.Value[int64](ctx, d, `SELECT COUNT(*) FROM audit_event WHERE action = 'directory.read'`)
		check(t, err)
		if events != 4 {
			t.Errorf("%d entries, for two changes of people and two of apps", events)
		}
	})
}

func TestExportsListAllByPages(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx := t.Context()
		const many = exportPage + 20
		ann := r.person("Ann", "ann@x.example", "")
		r.team("ops")
		r.write(func(ctx context.Context, tx *db.Tx) error {
			var rows []ResourceRow
			var grants []GrantRow
			for n := range many {
				id := fmt.Sprintf("u%04d", n)
				rows = append(rows, ResourceRow{
					ID: id, TypeID: r.ids["user"], ExternalID: id, Name: "same", Profile: "{}", Source: []byte{}, Hash: []byte{},
					Account: &AccountRow{Kind: Human, Status: Enabled, Keys: identity.Keys{Emails: []string{"ann@x.example"}}},
				})
				grants = append(grants, GrantRow{EntitlementID: r.ids["team:ops:member"], PrincipalID: id})
			}
			if err := AddResources(ctx, tx, r.stamp(), rows); err != nil {
				return err
			}
			return AddGrants(ctx, tx, r.stamp(), grants)
		})
		check(t, r.Rematch(ctx, ""))
		seen := map[string]bool{}
		for a, err := range r.ExportAccounts(ctx, identity.Operator(), "") {
			check(t, err)
			if a.PersonID != ann {
				t.Fatalf("%s is %q", a.ID, a.PersonID)
			}
			seen[a.ID] = true
		}
		grants := map[string]bool{}
		for g, err := range r.ExportGrants(ctx, identity.Operator(), "") {
			check(t, err)
			grants[g.PrincipalID] = true
			if !g.Account || g.PersonName != "Ann" || !g.Direct {
				t.Fatalf("%+v", g)
			}
		}
		if len(seen) != many || len(grants) != many {
			t.Errorf("%d accounts and %d grants of %d", len(seen), len(grants), many)
		}
		for p, err := range r.ExportPeople(ctx, identity.Operator(), r.app.ID) {
			check(t, err)
			if p.Name != "Ann" || p.Accounts != many {
				t.Errorf("%+v", p)
			}
		}
		for e, err := range r.ExportEntitlements(ctx, identity.Operator(), r.app.ID) {
			check(t, err)
			if e.Grants != many || e.ResourceName != "Team ops" {
				t.Errorf("%+v", e)
			}
		}
		for _, err := range r.ExportGrants(ctx, audit.Actor{Kind: "person"}, "") {
			wants(t, err, fault.Forbidden, "")
		}
		r.grant("team:ops:member", "team:ops")
		list := func(all iter.Seq2[Grant, error]) (count int) {
			for g, err := range all {
				check(t, err)
				if zone, offset := g.Since.Zone(); zone != "UTC" || offset != 0 {
					t.Fatalf("since %v", g.Since)
				}
				count++
			}
			return count
		}
		if all, some := list(r.ExportGrants(ctx, identity.Operator(), "")), list(r.ExportAccountGrants(ctx, identity.Operator(), "")); all != many+1 || some != many {
			t.Errorf("%d grants, and %d of accounts", all, some)
		}
		kinds, err := r.Types(ctx, identity.Operator(), r.app.ID)
		check(t, err)
		if len(kinds) != 2 || kinds[1].Resources != many {
			t.Errorf("%+v", kinds)
		}
	})
}

func csv(text string) io.Reader { return strings.NewReader(text) }
