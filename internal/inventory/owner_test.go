package inventory

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

// Who may do what: as each role, in an app that they own, in another one, and with
// their own access.
func TestWhoMayDoWhatInWhichApp(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx := t.Context()
		mine, other := r.app, r.add(App{Name: "Shop"})
		ann := r.person("Ann", "ann@bank.example", "ann")
		bob := r.person("Bob", "bob@bank.example", "bob")
		account, theirs, team := r.user("ann", "Ann", "ann@bank.example"), r.user("bob", "Bob", "bob@bank.example"), r.team("a")
		r.grant("team:a:member", "user:ann")
		check(t, r.Rematch(ctx, mine.ID))
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return r.SetOwners(ctx, tx, identity.Operator(), mine.ID, []Owner{{Kind: OwnerPerson, ID: ann}})
		})
		nothing := func(*Rules) {}
		for _, test := range []struct {
			what string
			who  string // the first letters of the roles that may: super, connector, application, campaign admin, auditor, user
			do   func(actor identity.Actor) error
		}{
			{"read own app", "scaAC", func(a identity.Actor) error { _, err := r.Types(ctx, a, mine.ID); return err }},
			{"read another app", "scAC", func(a identity.Actor) error { _, err := r.Types(ctx, a, other.ID); return err }},
			{"count own app", "scaAC", func(a identity.Actor) error { _, err := r.Holdings(ctx, a, mine.ID); return err }},
			{"list apps", "scaAC", func(a identity.Actor) error { _, err := r.Apps(ctx, a, Key{}, 10); return err }},
			{"list accounts", "scaAC", func(a identity.Actor) error { _, err := r.Accounts(ctx, a, AccountFilter{}, Key{}, 10); return err }},
			{"list accounts of another app", "scAC", func(a identity.Actor) error {
				_, err := r.Accounts(ctx, a, AccountFilter{AppID: other.ID}, Key{}, 10)
				return err
			}},
			{"list own accounts", "scaACu", func(a identity.Actor) error {
				_, err := r.Accounts(ctx, a, AccountFilter{PersonID: ann}, Key{}, 10)
				return err
			}},
			{"list another's accounts", "scaAC", func(a identity.Actor) error {
				_, err := r.Accounts(ctx, a, AccountFilter{PersonID: bob}, Key{}, 10)
				return err
			}},
			{"list entitlements", "scaAC", func(a identity.Actor) error {
				_, err := r.Entitlements(ctx, a, EntitlementFilter{AppID: mine.ID}, Key{}, 10)
				return err
			}},
			{"list resources", "scaAC", func(a identity.Actor) error {
				_, err := r.Resources(ctx, a, ResourceFilter{AppID: mine.ID}, Key{}, 10)
				return err
			}},
			{"read own access", "scaACu", func(a identity.Actor) error { _, err := r.Access(ctx, a, account, Key{}, 10); return err }},
			{"read another's access", "scaAC", func(a identity.Actor) error { _, err := r.Access(ctx, a, theirs, Key{}, 10); return err }},
			{"read who holds something", "scaAC", func(a identity.Actor) error { _, err := r.Holders(ctx, a, team, Key{}, 10); return err }},
			{"read own past", "scaACu", func(a identity.Actor) error {
				_, err := r.PastGrants(ctx, a, PastFilter{PrincipalID: account}, PastKey{}, 10)
				return err
			}},
			{"read the past", "scAC", func(a identity.Actor) error {
				_, err := r.PastGrants(ctx, a, PastFilter{AppID: other.ID}, PastKey{}, 10)
				return err
			}},
			{"change own app", "sca", func(a identity.Actor) error { _, err := r.SetApp(ctx, a, mine.ID, func(*App) {}); return err }},
			{"change another app", "sc", func(a identity.Actor) error { _, err := r.SetApp(ctx, a, other.ID, func(*App) {}); return err }},
			{"add an app", "sc", func(a identity.Actor) error {
				return r.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
					_, err := r.AddApp(ctx, tx, a, App{Name: "New"})
					return errors.Join(err, takeBack(err))
				})
			}},
			{"set rules", "sa", func(a identity.Actor) error { return r.SetRules(ctx, a, team, nothing) }},
			{"say whose an account is", "sa", func(a identity.Actor) error { return r.Link(ctx, a, theirs, bob) }},
			{"say what uses an account", "sa", func(a identity.Actor) error { return r.SetKind(ctx, a, theirs, Human) }},
			{"let an account be matched", "sa", func(a identity.Actor) error { return r.Free(ctx, a, theirs) }},
			{"say whose one's own account is", "", func(a identity.Actor) error { return r.Link(ctx, a, account, bob) }},
			{"make an account one's own", "", func(a identity.Actor) error { return r.Link(ctx, a, theirs, ann) }},
			{"let one's own account be matched", "", func(a identity.Actor) error { return r.Free(ctx, a, account) }},
		} {
			for letter, role := range map[string]identity.Roles{
				"s": identity.SuperAdmin, "c": identity.ConnectorAdmin, "a": identity.ApplicationAdmin, "C": identity.CampaignAdmin, "A": identity.Auditor, "u": identity.User,
			} {
				err := test.do(identity.PersonActor(ann, "Ann", role))
				if errors.Is(err, errTakenBack) {
					err = nil
				}
				if may := strings.Contains(test.who, letter); err != nil && (may || !fault.Is(err, fault.Forbidden)) || err == nil && !may {
					t.Errorf("%s as %s: %v", test.what, role, err)
				}
			}
		}
		owner := identity.PersonActor(ann, "Ann", identity.ApplicationAdmin)
		if list, err := r.Apps(ctx, owner, Key{}, 10); err != nil || len(list) != 1 || list[0].ID != mine.ID {
			t.Errorf("an owner lists %+v, %v", list, err)
		}
		stranger := identity.PersonActor(bob, "Bob", identity.ApplicationAdmin)
		if list, err := r.Apps(ctx, stranger, Key{}, 10); err != nil || len(list) != 0 {
			t.Errorf("who owns nothing lists %+v, %v", list, err)
		}
		if list, err := r.Accounts(ctx, stranger, AccountFilter{PersonID: ann}, Key{}, 10); err != nil || len(list) != 0 {
			t.Errorf("who owns nothing lists %+v, %v", list, err)
		}
		for actor, want := range map[identity.Actor]int{owner: 1, stranger: 0} {
			n := 0
			for _, err := range r.ExportGrants(ctx, actor, "") {
				check(t, err)
				n++
			}
			if n != want {
				t.Errorf("%s exports %d grants, not %d", actor.Name, n, want)
			}
		}

		// An account that would be matched to oneself isn't let go.
		check(t, r.Link(ctx, identity.Operator(), account, bob))
		wants(t, r.Free(ctx, owner, account), fault.Forbidden, "own access")
	})
}

var errTakenBack = errors.New("taken back")

func takeBack(err error) error {
	if err == nil {
		return errTakenBack
	}
	return nil
}

// An app is owned by those whom it names, and by whoever holds an entitlement that
// it names, by whatever way.
func TestWhoOwnsAnApp(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx := t.Context()
		people := map[string]string{}
		for _, name := range []string{"ann", "bob", "cid", "dot", "eve"} {
			people[name] = r.person(name, name+"@bank.example", name)
			r.user(name, name, name+"@bank.example")
		}
		for _, team := range []string{"owners", "staff", "trainees"} {
			r.team(team)
		}
		r.grant("team:owners:member", "user:bob")
		r.grant("team:staff:member", "user:cid")
		r.edge("team:staff:member", "team:owners:member", "user", true)
		r.grant("team:trainees:member", "user:dot")
		r.edge("team:trainees:member", "team:staff:member", "user", false) // staff gives to direct members only
		check(t, r.Rematch(ctx, r.app.ID))
		shop := r.add(App{Name: "Shop"})
		r.write(func(ctx context.Context, tx *db.Tx) error {
			err := r.SetOwners(ctx, tx, identity.Operator(), r.app.ID, []Owner{{Kind: OwnerPerson, ID: people["ann"]}, {Kind: OwnerPerson, ID: people["eve"]}})
			if err != nil {
				return err
			}
			return r.SetOwners(ctx, tx, identity.Operator(), shop.ID, []Owner{{Kind: OwnerEntitlement, ID: r.ids["team:owners:member"]}, {Kind: OwnerPerson, ID: people["eve"]}})
		})
		for name, want := range map[string][]string{"ann": {r.app.ID}, "bob": {shop.ID}, "cid": {shop.ID}, "dot": nil, "eve": {r.app.ID, shop.ID}} {
			actor := identity.PersonActor(people[name], name, identity.ApplicationAdmin)
			got, err := Owned(ctx, d, actor)
			check(t, err)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s owns %v, not %v", name, got, want)
			}
			for _, appID := range []string{r.app.ID, shop.ID} {
				owners, err := OwnersFor(d, actor)(ctx, appID)
				check(t, err)
				if slices.Contains(owners, actor.ID) != slices.Contains(want, appID) {
					t.Errorf("%s: the owners of %s are %v", name, appID, owners)
				}
			}
		}
		if owned, err := Owned(ctx, d, identity.Operator()); err != nil || owned != nil {
			t.Errorf("the operator owns %v, %v", owned, err)
		}
	})
}

// Nobody changes their own access: of their account, or of a group that they are in.
// Where nobody knows whose an account is, an owner alone doesn't either.
func TestNobodyChangesTheirOwnAccess(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx := t.Context()
		ann := r.person("Ann", "ann@bank.example", "ann")
		r.person("Bob", "bob@bank.example", "bob")
		r.user("ann", "Ann", "ann@bank.example")
		r.user("bob", "Bob", "bob@bank.example")
		r.user("nobody", "Nobody", "")
		for _, team := range []string{"mine", "above", "other"} {
			r.team(team)
		}
		r.grant("team:mine:member", "user:ann")
		r.edge("team:mine:member", "team:above:member", "user", false)
		check(t, r.Rematch(ctx, r.app.ID))
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return r.SetOwners(ctx, tx, identity.Operator(), r.app.ID, []Owner{{Kind: OwnerPerson, ID: ann}})
		})
		object := identity.Object{Kind: "app", ID: r.app.ID, AppID: r.app.ID}
		for principal, says := range map[string][2]string{ // to a Super Admin, and to the owner
			"user:ann": {"own access", "own access"}, "user:bob": {}, "user:nobody": {"", "could be your own"}, "user:gone": {"", "could be your own"},
			"team:mine": {"own access", "own access"}, "team:above": {"own access", "own access"}, "team:other": {},
		} {
			kind, name, _ := strings.Cut(principal, ":")
			for n, role := range []identity.Roles{identity.SuperAdmin, identity.ApplicationAdmin} {
				actor := identity.PersonActor(ann, "Ann", role)
				for _, err := range []error{
					CanChange(ctx, d, actor, identity.Change, object, r.ids[principal]), CanChangeNamed(ctx, d, actor, identity.Change, object, kind, name),
				} {
					if err == nil != (says[n] == "") || err != nil && (!fault.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), says[n])) {
						t.Errorf("%s of %s: %v", role, principal, err)
					}
				}
			}
		}
		check(t, CanChange(ctx, d, identity.Operator(), identity.Change, object, "gone"))
		if err := CanChange(ctx, d, identity.Connector("c", "c"), identity.Change, object, r.ids["user:bob"]); !fault.Is(err, fault.Forbidden) {
			t.Error(err)
		}
	})
}
