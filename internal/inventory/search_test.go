package inventory

import (
	"context"
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/identity"
)

func TestSearchFindsOfEachKindFirstWhatBeginsWithTheText(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.add(App{Name: "A bank of seeds", Description: "Seeds"})
		gone := r.add(App{Name: "Bank that was"})
		_, err := r.RemoveApp(t.Context(), identity.Operator(), gone.ID)
		check(t, err)
		r.team("bank")
		r.team("of the bank")
		r.user("banker", "Banker", "banker@example.com")
		r.user("seb", "Seb Banks", "")
		r.person("Eva Banks", "eva@example.com", "eva")
		r.person("Bankole", "bankole@example.com", "bankole")
		r.user("percent", "100%", "")
		line := func(h Hit) string {
			return strings.TrimSpace(fmt.Sprintf("%s %s (%s) %s", h.Kind, h.Name, h.Detail, h.AppName))
		}
		for text, want := range map[string][]string{
			" bAnK": {
				"app Bank () Bank", "app A bank of seeds (Seeds) A bank of seeds",
				"entitlement Member of bank (Team bank) Bank", "entitlement Member of of the bank (Team of the bank) Bank",
				"account Banker (banker@example.com) Bank", "account Seb Banks (seb) Bank",
				"resource Team bank (team) Bank", "resource Team of the bank (team) Bank",
				"person Bankole (bankole@example.com)", "person Eva Banks (eva@example.com)",
			},
			"banker@": {"account Banker (banker@example.com) Bank"},
			"EVA@ex":  {"person Eva Banks (eva@example.com)"},
			"%":       {"account 100% (percent) Bank"},
			"nothing": {}, "  ": {},
		} {
			hits, partial, err := r.Search(t.Context(), identity.Operator(), text, 10)
			check(t, err)
			if diff := gocmp.Diff(want, texts(hits, line)); diff != "" || partial {
				t.Errorf("%q (partial %t): want -, got +:\n%s", text, partial, diff)
			}
		}
		hits, _, err := r.Search(t.Context(), identity.Operator(), "bank", 1)
		check(t, err)
		if diff := gocmp.Diff([]string{"app Bank", "entitlement Member of bank", "account Banker", "resource Team bank", "person Bankole"},
			texts(hits, func(h Hit) string { return string(h.Kind) + " " + h.Name })); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAListThatLooksAtTooMuchSaysSo(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes many rows")
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := crowdedApp(t, d)
		ctx, appID := t.Context(), r.app.ID
		// The last user is the only one with this in it, behind more than a page looks at.
		read := func(after Key) (Page[AccountItem], error) {
			return r.AccountList(ctx, identity.Operator(), AccountFilter{AppID: appID, Search: "ser 9999"}, Order{}, after, 10)
		}
		first, err := read(Key{})
		check(t, err)
		if len(first.Rows) > 0 || !first.Partial || first.Next == (Key{}) {
			t.Errorf("the first page has %d rows, partial %t, next %v", len(first.Rows), first.Partial, first.Next)
		}
		all, partial := every(t, 10, read)
		if len(all) != 1 || all[0].Name != "User 9999" || !partial {
			t.Errorf("the list has %d rows, partial %t", len(all), partial)
		}
		_, partial, err = r.Search(ctx, identity.Operator(), "ser 9999", 10)
		check(t, err)
		if !partial {
			t.Error("a search that looked at a part doesn't say so")
		}
		// Pages look on where they stopped, and no principal without grants hides one.
		grants, _ := every(t, 1000, func(after Key) (Page[GrantItem], error) {
			return r.GrantList(ctx, identity.Operator(), GrantFilter{AppID: appID}, after, 1000)
		})
		if len(grants) != 2*manyUsers {
			t.Errorf("%d grants are listed, not %d", len(grants), 2*manyUsers)
		}
		for entitlement, want := range map[string]int{"te0": manyUsers, "fe1": manyUsers, "te7": manyUsers / (manyRoles - 1)} {
			seen := map[string]bool{}
			holders, _ := every(t, 1000, func(after Key) (Page[GrantItem], error) {
				return r.HolderList(ctx, identity.Operator(), entitlement, HolderFilter{}, after, 1000)
			})
			for _, h := range holders {
				seen[h.PrincipalID] = true
			}
			if len(holders) != len(seen) || len(holders) < want || len(holders) > want+1 {
				t.Errorf("%d holders of %s are listed, %d different ones, not %d", len(holders), entitlement, len(seen), want)
			}
		}
		if _, all, err := r.HolderCount(ctx, identity.Operator(), "fe1"); err != nil || !all.More || all.N > mostCounted {
			t.Errorf("the count of many holders is %v, %v", all, err)
		}
		if n, err := r.AppCounts(ctx, identity.Operator(), appID); err != nil || n.Accounts != (Count{mostCounted, true}) || n.Assignments != (Count{N: manyRoles}) {
			t.Errorf("the counts are %+v, %v", n, err)
		}
		// Many changes: the ends alone are listed.
		r.write(func(ctx context.Context, tx *db.Tx) error {
			_, err := EndGrants(ctx, tx, appID, []Pair{{"te0", "u1"}, {"te0", "u2"}}, Ending{At: r.clock.Now(), SyncID: "s"})
			return err
		})
		changes, partial := every(t, 1, func(after Key) (Page[Change], error) {
			return r.Changes(ctx, identity.Operator(), ChangeFilter{AppID: appID}, after, 1)
		})
		if len(changes) != 2 || !changes[0].Ended || !partial {
			t.Errorf("%d changes are listed, partial %t", len(changes), partial)
		}
	})
}
