package inventory

import (
	"context"
	"slices"
	"testing"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

func TestAnAppIsConfiguredAsAWhole(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ann := r.person("Ann", "ann@bank.test", "ann")
		asked := 0
		r.Enqueue = func(_ context.Context, _ *db.Tx, kind, row string) error {
			if kind == RematchJob && row == r.app.ID {
				asked++
			}
			return nil
		}
		set := AppSettings{Name: "The Bank", Description: "Money", Matching: Narrow, Owners: []Owner{{Kind: OwnerPerson, ID: ann}}}
		app, err := r.Configure(t.Context(), identity.Operator(), r.app.ID, set)
		check(t, err)
		owners, err := r.Owners(t.Context(), d, app.ID)
		check(t, err)
		if app.Name != "The Bank" || app.Description != "Money" || len(owners) != 1 || owners[0].Name != "Ann" || asked != 1 {
			t.Errorf("%+v with %v, matched anew %d times", app, owners, asked)
		}
		events := func() int64 {
			n, err := db.Value[int64](t.Context(), d, `SELECT COUNT(*) FROM audit_event`)
			check(t, err)
			return n
		}
		before := events()
		_, err = r.Configure(t.Context(), identity.Operator(), r.app.ID, set)
		check(t, err)
		if events() != before || asked != 1 {
			t.Error("what changes nothing is noted as a change")
		}
		r.add(App{Name: "Other"})
		set.Name, set.Description = "other", "lost"
		_, err = r.Configure(t.Context(), identity.Operator(), r.app.ID, set)
		wants(t, err, fault.Conflict, "another app")
		set.Name, set.Owners = "Bank", []Owner{{Kind: OwnerPerson, ID: "nobody"}}
		_, err = r.Configure(t.Context(), identity.Operator(), r.app.ID, set)
		wants(t, err, fault.NotFound, "nobody")
		app, err = r.AppByID(t.Context(), d, r.app.ID)
		check(t, err)
		if app.Name != "The Bank" || app.Description != "Money" || events() != before+1 {
			t.Errorf("half of it was changed: %+v", app)
		}
		_, err = r.Configure(t.Context(), identity.PersonActor(ann, "Ann", identity.Auditor), r.app.ID, set)
		wants(t, err, fault.Forbidden, "may not manage")
	})
}

func TestANewAppHasItsOwnersOrIsNotThere(t *testing.T) {
	d := dbtest.Open(t, db.SQLite)
	r := newRig(t, d)
	ann := r.person("Ann", "ann@bank.test", "ann")
	app, err := r.NewApp(t.Context(), identity.Operator(), AppSettings{Name: "Wiki", Owners: []Owner{{Kind: OwnerPerson, ID: ann}}})
	check(t, err)
	if owners, err := r.Owners(t.Context(), d, app.ID); err != nil || len(owners) != 1 || app.Managed {
		t.Errorf("%+v, %v, %v", app, owners, err)
	}
	_, err = r.NewApp(t.Context(), identity.Operator(), AppSettings{Name: "Forum", Owners: []Owner{{Kind: OwnerPerson, ID: "nobody"}}})
	wants(t, err, fault.NotFound, "nobody")
	if _, err := r.AppByName(t.Context(), d, "Forum"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the app is there without its owner: %v", err)
	}
}

func TestTheKindOfManyAccountsIsSetAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ann := r.person("Ann", "ann@bank.test", "ann")
		first, second := r.user("ann", "Ann", "ann@bank.test"), r.user("robot", "Robot", "")
		changed, err := r.SetKinds(t.Context(), identity.Operator(), r.app.ID, []string{first, second}, ServiceKind)
		check(t, err)
		if changed != 2 {
			t.Errorf("%d were changed", changed)
		}
		changed, err = r.SetKinds(t.Context(), identity.Operator(), r.app.ID, []string{first, second}, ServiceKind)
		check(t, err)
		if changed != 0 {
			t.Errorf("%d were changed again", changed)
		}
		check(t, r.Link(t.Context(), identity.Operator(), first, ann))
		// One's own account isn't among those that one may change: then none is.
		_, err = r.SetKinds(t.Context(), identity.PersonActor(ann, "Ann", identity.SuperAdmin), r.app.ID, []string{second, first}, Human)
		wants(t, err, fault.Forbidden, "their own access")
		account, err := r.AccountByID(t.Context(), d, second)
		check(t, err)
		if account.Kind != ServiceKind || !account.KindByHand {
			t.Errorf("half of them were changed: %+v", account)
		}
		_, err = r.SetKinds(t.Context(), identity.Operator(), "elsewhere", []string{second}, Human)
		wants(t, err, fault.NotFound, "isn't of this app")
		_, err = r.SetKinds(t.Context(), identity.Operator(), r.app.ID, nil, Human)
		wants(t, err, fault.Invalid, "choose accounts")
		_, err = r.SetKinds(t.Context(), identity.Operator(), r.app.ID, make([]string, MostAccounts+1), Human)
		wants(t, err, fault.Invalid, "at most")
		_, err = r.SetKinds(t.Context(), identity.Operator(), r.app.ID, []string{second}, "alien")
		wants(t, err, fault.Invalid, "alien")
	})
}

func TestRolesAreListedWithoutWhatTheyPermit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ann := r.person("Ann", "ann@bank.test", "ann")
		account := r.user("ann", "Ann", "ann@bank.test")
		check(t, r.Link(t.Context(), identity.Operator(), account, ann))
		for _, team := range []string{"a", "b", "c"} {
			r.team(team)
		}
		r.resource("team", "vault", "Vault", nil)
		r.ids["team:vault:open"] = "open-of-" + r.app.ID
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return AddEntitlements(ctx, tx, r.stamp(), []EntitlementRow{{
				ID: r.ids["team:vault:open"], ResourceID: r.ids["team:vault"], ExternalID: "team:vault:open", Slug: "open", Name: "open Vault",
				Purpose: "permission", GrantableTo: []string{}, Source: []byte{}, Hash: []byte{},
			}})
		})
		r.grant("team:a:member", "user:ann")
		r.edge("team:a:member", "team:b:member", "", false)
		r.edge("team:b:member", "team:vault:open", "", false)
		var got []string
		for after := (Key{}); ; {
			page, err := r.PersonRoles(t.Context(), identity.Operator(), ann, after, 1)
			check(t, err)
			for _, row := range page.Rows {
				got = append(got, row.AppName+" "+line(row.Grant))
			}
			if after = page.Next; after == (Key{}) {
				break
			}
		}
		want := []string{"Bank team:a:member user:ann direct", "Bank team:b:member user:ann < team:a:member"}
		if !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		page, err := r.Roles(t.Context(), identity.PersonActor(ann, "Ann", identity.User), account, Key{}, 10)
		check(t, err)
		if len(page.Rows) != 2 || page.Next != (Key{}) {
			t.Errorf("%+v", page)
		}
		r.grant("team:vault:open", "user:ann")
		page, err = r.Roles(t.Context(), identity.Operator(), account, Key{}, 10)
		check(t, err)
		if len(page.Rows) != 3 {
			t.Errorf("what is held directly is missing: %+v", page.Rows)
		}
		for _, list := range []func() error{
			func() error {
				_, err := r.Roles(t.Context(), identity.PersonActor("other", "Other", identity.User), account, Key{}, 10)
				return err
			},
			func() error {
				_, err := r.PersonRoles(t.Context(), identity.PersonActor("other", "Other", identity.User), ann, Key{}, 10)
				return err
			},
		} {
			wants(t, list(), fault.Forbidden, "may not read")
		}
		counts, err := r.AccountsOf(t.Context(), d, []string{ann, "nobody"})
		check(t, err)
		if counts[ann] != 1 || len(counts) != 1 {
			t.Errorf("accounts: %v", counts)
		}
		titles, err := r.Titles(t.Context(), d, []string{r.ids["team:a:member"], r.ids["team:vault:open"], "gone"})
		check(t, err)
		if len(titles) != 2 || titles[r.ids["team:vault:open"]] != "open Vault" {
			t.Errorf("titles: %v", titles)
		}
	})
}

func TestEntitlementsAreCalledByWhatTheyAreOf(t *testing.T) {
	for _, c := range []struct{ resource, name, purpose, want string }{
		{"Op", "Assigned", "assignment", "Op"},
		{"Sales", "Member", "assignment", "Sales"},
		{"Sales", "Owner", "assignment", "Sales: Owner"},
		{"Sales", "Sales Group Member", "assignment", "Sales Group Member"},
		{"", "Admin", "permission", "Admin"},
		{"vault", "open", "permission", "vault: open"},
	} {
		if got := Title(c.resource, c.name, c.purpose); got != c.want {
			t.Errorf("%v is called %q", c, got)
		}
	}
}

func TestAGrantEndsWithItsLastReason(t *testing.T) {
	early, late := time.Unix(1000, 0), time.Unix(2000, 0)
	for _, c := range []struct {
		reasons []Reason
		want    time.Time
	}{{nil, time.Time{}}, {[]Reason{{ExpiresAt: late}, {ExpiresAt: early}}, late}, {[]Reason{{ExpiresAt: late}, {}}, time.Time{}}} {
		if got := (GrantItem{Reasons: c.reasons}).Until(); !got.Equal(c.want) {
			t.Errorf("%v ends %v", c.reasons, got)
		}
	}
}
