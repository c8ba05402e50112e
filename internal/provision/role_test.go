package provision

import (
	"context"
	"strings"
	"testing"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// Who may do what: as each role, in an app that they own, in another one, and with
// their own access.
func TestWhoMayChangeAccess(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx := t.Context()
		mine, other := r.open("Bank"), r.open("Shop")
		ann := mine.owns("ann")
		for _, b := range []*bank{mine, other} {
			for _, name := range []string{"ann", "bob"} {
				check(t, r.Inventory.Link(ctx, identity.Operator(), b.ask("gold", name).PrincipalID, map[string]string{"ann": ann, "bob": other.person("bob")}[name]))
			}
		}
		change := mine.grant("cash", "bob")
		own := mine.grant("cash", "ann")
		elsewhere := other.grant("cash", "bob")
		grant := func(b *bank, name string) func(identity.Actor) error {
			return func(a identity.Actor) error { _, err := r.Grant(ctx, a, b.ask("gold", name)); return err }
		}
		read := func(c Change) func(identity.Actor) error {
			return func(a identity.Actor) error { _, err := r.ByID(ctx, a, c.ID); return err }
		}
		for _, test := range []struct {
			what string
			who  string // the first letters of the roles that may: super, connector, application, campaign admin, auditor, user
			do   func(actor identity.Actor) error
		}{
			{"grant in the own app", "sa", grant(mine, "bob")},
			{"grant in another app", "s", grant(other, "bob")},
			{"grant to oneself", "", grant(mine, "ann")},
			{"grant to an account of nobody knows whom", "s", grant(mine, "cid")},
			{"revoke from oneself", "", func(a identity.Actor) error { _, err := r.Revoke(ctx, a, mine.ask("gold", "ann")); return err }},
			{"read a change in the own app", "scaAC", read(change)},
			{"read a change in another app", "scAC", read(elsewhere)},
			{"read a change of one's own access", "scaACu", read(own)},
			{"list changes", "scaAC", func(a identity.Actor) error { _, err := r.Newest(ctx, a, Place{}, false, 10); return err }},
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
		for after := (Place{}); ; {
			page, err := r.Newest(ctx, owner, after, true, 1)
			check(t, err)
			if len(page) == 0 {
				break
			}
			if page[0].AppID != mine.connector.AppID {
				t.Errorf("an owner is told of %+v", page[0])
			}
			after = Place{At: page[0].CreatedAt, ID: page[0].ID}
		}
		if list, err := r.Newest(ctx, identity.PersonActor("bob", "bob", identity.ApplicationAdmin), Place{}, false, 10); err != nil || len(list) != 0 {
			t.Errorf("who owns nothing is told of %+v, %v", list, err)
		}

		// A change that an owner asked for is carried out as any other, and is theirs.
		c, err := r.Grant(ctx, owner, mine.ask("gold", "bob"))
		check(t, err)
		if c.By.ID != ann {
			t.Errorf("it is by %+v", c.By)
		}
		for _, task := range mine.changes(3) { // ann's, bob's and cid's
			mine.does(task)
		}
	})
}

// person adds somebody.
func (r *rig) person(name string) string {
	r.t.Helper()
	people := identity.New(r.DB, r.Audit, nil, r.Live, r.clock)
	_, err := people.ImportPeople(r.t.Context(), identity.Operator(), strings.NewReader("name,email\n"+name+","+name+"@bank.example\n"))
	check(r.t, err)
	person, err := people.Find(r.t.Context(), r.DB, name)
	check(r.t, err)
	return person.ID
}

// owns adds somebody who owns the app.
func (b *bank) owns(name string) string {
	b.t.Helper()
	person := b.person(name)
	check(b.t, b.DB.Write(b.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		return b.Inventory.SetOwners(ctx, tx, identity.Operator(), b.connector.AppID, []inventory.Owner{{Kind: inventory.OwnerPerson, ID: person}})
	}))
	return person
}
