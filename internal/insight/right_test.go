package insight

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

func TestRightsAreSortedAndFilteredByTheRiskThatTheyAreJudgedOf(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d, kitchen)
		stock := stockOf(t, d)
		for _, room := range []string{"safe", "hall"} {
			r.thing("room", room, "permission", "use", "enter")
		}
		for _, badge := range []string{"chief", "guest", "judged", "none"} {
			r.thing("badge", badge, "assignment", "worn")
		}
		r.gives("chief", "room:safe:use")
		r.gives("guest", "room:hall:enter")
		check(t, stock.SetRules(t.Context(), identity.Operator(), "badge:judged:worn", func(rules *inventory.Rules) { rules.Risk = inventory.High }))
		list := func(query inventory.EntitlementQuery, order inventory.Order) (got []string) {
			query.AppID, query.Purpose = r.stamp.AppID, "assignment"
			for after := (inventory.Key{}); ; {
				page, err := r.Rights(t.Context(), identity.Operator(), stock, query, order, after, 2)
				check(t, err)
				for _, row := range page.Rows {
					risk, byHand := row.Judged()
					got = append(got, fmt.Sprint(row.Title(), " ", risk, " ", byHand))
				}
				if after = page.Next; after == (inventory.Key{}) {
					return got
				}
			}
		}
		all := []string{"worn of chief critical false", "worn of judged high true", "worn of guest low false", "worn of none  false"}
		if got := list(inventory.EntitlementQuery{}, inventory.Order{By: inventory.ByRisk, Falling: true}); !slices.Equal(got, all) {
			t.Errorf("by risk: %q", got)
		}
		if got := list(inventory.EntitlementQuery{Risk: inventory.High}, inventory.Order{By: inventory.ByName}); !slices.Equal(got, all[:2]) {
			t.Errorf("high and above: %q", got)
		}
		if got := list(inventory.EntitlementQuery{}, inventory.Order{By: inventory.ByName}); len(got) != 4 {
			t.Errorf("by name: %q", got)
		}
		held, err := r.Holdings(t.Context(), identity.Operator(), []inventory.GrantItem{{Grant: inventory.Grant{AppID: r.stamp.AppID, EntitlementID: "badge:chief:worn"}}})
		check(t, err)
		if risk, _ := held[0].Judged(); risk != inventory.Critical || held[0].Meaning.Summary() == "" {
			t.Errorf("%+v", held[0])
		}
		held, err = r.Holdings(t.Context(), identity.PersonActor("p", "P", identity.User), []inventory.GrantItem{{Grant: inventory.Grant{AppID: r.stamp.AppID, EntitlementID: "badge:chief:worn"}}})
		if err != nil || len(held) != 1 || held[0].Meaning.Risk != "" {
			t.Errorf("who may not know what it means sees the grant alone: %+v, %v", held, err)
		}
	})
}

func stockOf(t *testing.T, d *db.DB) *inventory.Service {
	t.Helper()
	key, err := seal.NewKey()
	check(t, err)
	keys, err := seal.OpenKeyring("", key)
	check(t, err)
	now, hub := clock.System{}, live.New(d, slog.New(slog.DiscardHandler))
	vault := seal.NewVault(d, keys, now)
	log, err := audit.New(d, vault, now, audit.Options{})
	check(t, err)
	return inventory.New(d, log, identity.New(d, log, vault, hub, now), hub, now)
}
