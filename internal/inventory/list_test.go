package inventory

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

// every reads a list page by page, and fails if a page is longer than it may be, or
// if it doesn't end.
func every[T any](t *testing.T, limit int, read func(after Key) (Page[T], error)) (all []T, partial bool) {
	t.Helper()
	after := Key{}
	for range 10_000 {
		page, err := read(after)
		check(t, err)
		if len(page.Rows) > limit {
			t.Fatalf("a page has %d rows, not at most %d", len(page.Rows), limit)
		}
		all, partial = append(all, page.Rows...), partial || page.Partial
		if page.Next == (Key{}) {
			return all, partial
		}
		after = page.Next
	}
	t.Fatal("the list doesn't end")
	return nil, false
}

// each returns a text of each item.
func texts[T any](list []T, text func(T) string) []string {
	out := make([]string, len(list))
	for n, item := range list {
		out[n] = text(item)
	}
	return out
}

// crowd is a rig with accounts, teams and grants of which many have equal names.
type crowd struct {
	*rig
	accounts     []Account
	search       map[string]string // of resources and entitlements, by id
	entitlements []Entitlement
	gone, here   string // persons; the first left
}

func newCrowd(t *testing.T, d *db.DB) *crowd {
	c := &crowd{rig: newRig(t, d), search: map[string]string{}}
	c.here, c.gone = c.person("Ann", "ann@example.com", "ann"), c.person("Bo", "bo@example.com", "bo")
	c.write(func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE person SET status = 'deleted' WHERE id = $1`, c.gone)
		if err != nil {
			return err
		}
		return PutTypes(ctx, tx, c.app.ID, []TypeRow{{ID: "bots", ExternalID: "bot", Name: "Bot", Traits: []string{"user"}}}, c.clock.Now())
	})
	random := rand.New(rand.NewPCG(1, 2))
	pool := []string{"ann", "Ann", "ANN", "bob", "bo", "Ännchen", "bob b", "100%", "a_b", "z"}
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	stamp := c.stamp()
	c.write(func(ctx context.Context, tx *db.Tx) error {
		var rows []ResourceRow
		for n := range 60 {
			row := ResourceRow{
				ID: fmt.Sprintf("acc%02d", 97*n%60), TypeID: pick(c.ids["user"], "bots"), ExternalID: fmt.Sprintf("u%d", n), Name: pick(pool...),
				Profile: "{}", Source: []byte{}, Hash: []byte{},
				Account: &AccountRow{
					Login: fmt.Sprintf("u%d", n), Kind: AccountKind(pick("human", "human", "service")), Status: AccountStatus(pick("enabled", "enabled", "disabled")),
					Owner: identity.Owner{PersonID: pick("", c.here, c.gone)}, LastLoginAt: []time.Time{{}, stamp.At, stamp.At.Add(time.Hour)}[random.IntN(3)],
				},
			}
			row.Search = Fold(row.Name)
			if n%2 == 0 {
				row.Search += "\n" + row.ExternalID
			}
			rows = append(rows, row)
			a := row.Account
			c.accounts = append(c.accounts, Account{
				Resource: Resource{ID: row.ID, TypeID: row.TypeID, Name: row.Name}, Kind: a.Kind, Status: a.Status, PersonID: a.Owner.PersonID, LastLoginAt: a.LastLoginAt,
			})
			c.search[row.ID] = row.Search
		}
		if err := AddResources(ctx, tx, stamp, rows); err != nil {
			return err
		}
		rows = nil
		for n := range 12 {
			name := pick(pool...)
			rows = append(rows, ResourceRow{ID: fmt.Sprintf("team%02d", n), TypeID: c.ids["team"], ExternalID: fmt.Sprintf("t%d", n), Name: name, Search: Fold(name), Profile: "{}", Source: []byte{}, Hash: []byte{}})
			c.search[rows[n].ID] = rows[n].Search
		}
		if err := AddResources(ctx, tx, stamp, rows); err != nil {
			return err
		}
		var rights []EntitlementRow
		for n := range 40 {
			name := pick(pool...)
			e := EntitlementRow{
				ID: fmt.Sprintf("ent%02d", 17*n%40), ResourceID: fmt.Sprintf("team%02d", n%12), ExternalID: fmt.Sprintf("e%d", n), Name: name, Search: Fold(name),
				Purpose: pick("assignment", "permission", "unspecified", "ownership"), GrantableTo: []string{}, Source: []byte{}, Hash: []byte{},
			}
			rights = append(rights, e)
			c.search[e.ID] = e.Search
			c.entitlements = append(c.entitlements, Entitlement{ID: e.ID, ResourceID: e.ResourceID, Purpose: e.Purpose})
		}
		if err := AddEntitlements(ctx, tx, stamp, rights); err != nil {
			return err
		}
		var grants []GrantRow
		for n := range c.entitlements {
			e := &c.entitlements[n]
			e.Risk, e.Requestable = Risk(pick("", "", "low", "high", "critical")), random.IntN(3) == 0
			if _, err := tx.Exec(ctx, `UPDATE entitlement SET risk = $2, requestable = $3 WHERE id = $1`, e.ID, e.Risk, e.Requestable); err != nil {
				return err
			}
			for _, a := range c.accounts {
				if random.IntN(8) == 0 {
					grants = append(grants, GrantRow{EntitlementID: e.ID, PrincipalID: a.ID})
					e.Grants++
				}
			}
		}
		return AddGrants(ctx, tx, stamp, grants)
	})
	return c
}

// sorted sorts ids by what they are found by.
func (c *crowd) sorted(ids []string) []string {
	slices.SortFunc(ids, func(a, b string) int { return cmp.Or(strings.Compare(c.search[a], c.search[b]), strings.Compare(a, b)) })
	return ids
}

func TestEachAccountIsListedOnceInOrder(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		c := newCrowd(t, d)
		for _, test := range []struct {
			name   string
			filter AccountFilter
			fits   func(a Account) bool
		}{
			{"all", AccountFilter{}, func(Account) bool { return true }},
			{"service", AccountFilter{Kind: ServiceKind}, func(a Account) bool { return a.Kind == ServiceKind }},
			{"disabled", AccountFilter{Status: Disabled}, func(a Account) bool { return a.Status == Disabled }},
			{"enabled people", AccountFilter{Status: Enabled, Kind: Human}, func(a Account) bool { return a.Status == Enabled && a.Kind == Human }},
			{"unmatched", AccountFilter{Unmatched: true}, func(a Account) bool { return a.PersonID == "" }},
			{"orphaned", AccountFilter{Orphaned: true}, func(a Account) bool { return a.PersonID == c.gone }},
			{"of a person", AccountFilter{PersonID: c.here}, func(a Account) bool { return a.PersonID == c.here }},
			{"orphaned services", AccountFilter{Orphaned: true, Kind: ServiceKind}, func(a Account) bool { return a.PersonID == c.gone && a.Kind == ServiceKind }},
		} {
			test.filter.AppID = c.app.ID
			var want []string
			for _, a := range c.accounts {
				if test.fits(a) {
					want = append(want, a.ID)
				}
			}
			for _, limit := range []int{1, 3, 1000} {
				for _, order := range []Order{{}, {Falling: true}, {By: ByLastLogin}, {By: ByLastLogin, Falling: true}} {
					want := c.sorted(want)
					if order.By == ByLastLogin {
						last := map[string]int64{}
						for _, a := range c.accounts {
							if !a.LastLoginAt.IsZero() {
								last[a.ID] = a.LastLoginAt.UnixMicro()
							}
						}
						slices.SortFunc(want, func(a, b string) int { return cmp.Or(cmp.Compare(last[a], last[b]), strings.Compare(a, b)) })
					}
					if order.Falling {
						want = slices.Clone(want)
						slices.Reverse(want)
					}
					got, partial := every(t, limit, func(after Key) (Page[AccountItem], error) {
						return c.AccountList(t.Context(), identity.Operator(), test.filter, order, after, limit)
					})
					if diff := gocmp.Diff(want, texts(got, func(a AccountItem) string { return a.ID })); diff != "" || partial {
						t.Errorf("%s, %+v, by %d (partial %t): want -, got +:\n%s", test.name, order, limit, partial, diff)
					}
				}
			}
		}
	})
}

// found are those of some ids that a text is at the beginning of, or else within.
func (c *crowd) found(ids []string, text string) (begin, inside []string) {
	for _, id := range c.sorted(ids) {
		if strings.HasPrefix(c.search[id], Fold(text)) {
			begin = append(begin, id)
		} else if strings.Contains(c.search[id], Fold(text)) {
			inside = append(inside, id)
		}
	}
	return begin, inside
}

func TestASearchFindsWhatBeginsWithATextThenWhatHasItWithin(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		c := newCrowd(t, d)
		var accounts, entitlements []string
		for _, a := range c.accounts {
			accounts = append(accounts, a.ID)
		}
		for _, e := range c.entitlements {
			entitlements = append(entitlements, e.ID)
		}
		for _, text := range []string{"AN", "b", "änn", "%", "_", "100%", "u1", "\nu1", "nothing", "  bob   B "} {
			for _, limit := range []int{1, 4, 1000} {
				begin, inside := c.found(slices.Clone(accounts), text)
				got, _ := every(t, limit, func(after Key) (Page[AccountItem], error) {
					return c.AccountList(t.Context(), identity.Operator(), AccountFilter{AppID: c.app.ID, Search: text}, Order{}, after, limit)
				})
				if diff := gocmp.Diff(append(begin, inside...), append([]string(nil), texts(got, func(a AccountItem) string { return a.ID })...)); diff != "" {
					t.Errorf("accounts %q by %d: want -, got +:\n%s", text, limit, diff)
				}
				begin, inside = c.found(slices.Clone(entitlements), text)
				rights, _ := every(t, limit, func(after Key) (Page[EntitlementItem], error) {
					return c.EntitlementList(t.Context(), identity.Operator(), EntitlementQuery{AppID: c.app.ID, Search: text}, Order{}, after, limit)
				})
				if diff := gocmp.Diff(append(begin, inside...), append([]string(nil), texts(rights, func(e EntitlementItem) string { return e.ID })...)); diff != "" {
					t.Errorf("entitlements %q by %d: want -, got +:\n%s", text, limit, diff)
				}
			}
		}
		// What begins with it is all of the first page: the reader is told that there may be more.
		page, err := c.AccountList(t.Context(), identity.Operator(), AccountFilter{AppID: c.app.ID, Search: "bo"}, Order{}, Key{}, 1000)
		check(t, err)
		if !page.Partial || page.Next == (Key{}) || len(page.Rows) == 0 {
			t.Errorf("the page of what begins with a text says partial %t, next %v", page.Partial, page.Next)
		}
	})
}

func TestEachEntitlementIsListedOnceInOrder(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		c := newCrowd(t, d)
		yes, no := true, false
		level := map[Risk]int64{Low: 1, Medium: 2, High: 3, Critical: 4}
		for _, test := range []struct {
			name  string
			query EntitlementQuery
			fits  func(e Entitlement) bool
		}{
			{"all", EntitlementQuery{}, func(Entitlement) bool { return true }},
			{"assignments", EntitlementQuery{Purpose: "assignment"}, func(e Entitlement) bool { return e.Purpose == "assignment" }},
			{"of a team", EntitlementQuery{ResourceID: "team03"}, func(e Entitlement) bool { return e.ResourceID == "team03" }},
			{"high", EntitlementQuery{Risk: High}, func(e Entitlement) bool { return e.Risk == High }},
			{"requestable", EntitlementQuery{Requestable: &yes}, func(e Entitlement) bool { return e.Requestable }},
			{"not requestable", EntitlementQuery{Requestable: &no, Purpose: "permission"}, func(e Entitlement) bool { return !e.Requestable && e.Purpose == "permission" }},
			{"of the type", EntitlementQuery{TypeID: c.ids["team"]}, func(Entitlement) bool { return true }},
			{"of the type, requestable", EntitlementQuery{TypeID: c.ids["team"], Requestable: &yes}, func(e Entitlement) bool { return e.Requestable }},
			{"of another type", EntitlementQuery{TypeID: c.ids["user"]}, func(Entitlement) bool { return false }},
		} {
			test.query.AppID = c.app.ID
			for _, order := range []Order{{}, {Falling: true}, {By: ByHolders}, {By: ByHolders, Falling: true}, {By: ByRisk, Falling: true}} {
				var list []Entitlement
				for _, e := range c.entitlements {
					if test.fits(e) {
						list = append(list, e)
					}
				}
				slices.SortFunc(list, func(a, b Entitlement) int {
					byName := cmp.Or(strings.Compare(c.search[a.ID], c.search[b.ID]), strings.Compare(a.ID, b.ID))
					sign := 1
					if order.Falling {
						sign = -1
					}
					switch {
					case order.By == ByHolders:
						return cmp.Or(sign*cmp.Compare(a.Grants, b.Grants), byName)
					case order.By == ByRisk:
						return cmp.Or(sign*cmp.Compare(level[a.Risk], level[b.Risk]), byName)
					case test.query.TypeID != "":
						return cmp.Or(sign*strings.Compare(c.search[a.ResourceID], c.search[b.ResourceID]), sign*strings.Compare(a.ResourceID, b.ResourceID), byName)
					}
					return sign * byName
				})
				for _, limit := range []int{1, 7, 1000} {
					got, partial := every(t, limit, func(after Key) (Page[EntitlementItem], error) {
						return c.EntitlementList(t.Context(), identity.Operator(), test.query, order, after, limit)
					})
					if diff := gocmp.Diff(texts(list, func(e Entitlement) string { return e.ID }), texts(got, func(e EntitlementItem) string { return e.ID })); diff != "" || partial {
						t.Errorf("%s, %+v, by %d (partial %t): want -, got +:\n%s", test.name, order, limit, partial, diff)
					}
				}
			}
		}
	})
}

func TestGrantsAreListedByPrincipalThenEntitlement(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		c := newCrowd(t, d)
		type pairOf struct{ principal, entitlement string }
		all, err := db.All(t.Context(), d, func(row db.Scanner) (p pairOf, err error) { return p, row.Scan(&p.principal, &p.entitlement) },
			`SELECT principal_id, entitlement_id FROM access_grant`)
		check(t, err)
		slices.SortFunc(all, func(a, b pairOf) int {
			return cmp.Or(strings.Compare(c.search[a.principal], c.search[b.principal]), strings.Compare(a.principal, b.principal),
				strings.Compare(c.search[a.entitlement], c.search[b.entitlement]), strings.Compare(a.entitlement, b.entitlement))
		})
		kindOf := map[string]string{}
		for _, a := range c.accounts {
			kindOf[a.ID] = a.TypeID
		}
		for _, test := range []struct {
			filter GrantFilter
			fits   func(p pairOf) bool
		}{
			{GrantFilter{}, func(pairOf) bool { return true }},
			{GrantFilter{TypeID: "bots"}, func(p pairOf) bool { return kindOf[p.principal] == "bots" }},
			{GrantFilter{EntitlementID: "ent07"}, func(p pairOf) bool { return p.entitlement == "ent07" }},
			{GrantFilter{EntitlementID: "ent07", TypeID: "bots"}, func(p pairOf) bool { return p.entitlement == "ent07" && kindOf[p.principal] == "bots" }},
			{GrantFilter{PrincipalID: "acc11"}, func(p pairOf) bool { return p.principal == "acc11" }},
		} {
			test.filter.AppID = c.app.ID
			var want []string
			for _, p := range all {
				if test.fits(p) {
					want = append(want, p.principal+" "+p.entitlement)
				}
			}
			for _, limit := range []int{1, 5, 1000} {
				got, partial := every(t, limit, func(after Key) (Page[GrantItem], error) {
					return c.GrantList(t.Context(), identity.Operator(), test.filter, after, limit)
				})
				if diff := gocmp.Diff(want, texts(got, func(g GrantItem) string { return g.PrincipalID + " " + g.EntitlementID })); diff != "" || partial || len(got) == 0 {
					t.Errorf("%+v by %d (partial %t): want -, got +:\n%s", test.filter, limit, partial, diff)
				}
			}
		}
		for _, text := range []string{"an", "o", "u1"} {
			var begin, inside []string
			for _, p := range all {
				if strings.HasPrefix(c.search[p.principal], text) {
					begin = append(begin, p.principal+" "+p.entitlement)
				} else if strings.Contains(c.search[p.principal], text) {
					inside = append(inside, p.principal+" "+p.entitlement)
				}
			}
			for _, limit := range []int{1, 5, 1000} {
				got, _ := every(t, limit, func(after Key) (Page[GrantItem], error) {
					return c.GrantList(t.Context(), identity.Operator(), GrantFilter{AppID: c.app.ID, Search: text}, after, limit)
				})
				if diff := gocmp.Diff(append(begin, inside...), texts(got, func(g GrantItem) string { return g.PrincipalID + " " + g.EntitlementID })); diff != "" {
					t.Errorf("%q by %d: want -, got +:\n%s", text, limit, diff)
				}
			}
		}
	})
}

func TestTheListOfAccountsNamesAFewRoles(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ann, person := r.user("ann", "Ann", "ann@example.com"), r.person("Ann", "ann@example.com", "ann")
		r.user("bob", "Bob", "bob@example.com")
		for _, team := range []string{"e", "d", "c", "b", "a"} {
			r.team(team)
			r.grant("team:"+team+":member", "user:ann")
		}
		r.write(func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE entitlement SET purpose = 'permission' WHERE id = $1`, r.ids["team:a:member"])
			return err
		})
		check(t, r.Link(t.Context(), identity.Operator(), ann, person))
		page, err := r.AccountList(t.Context(), identity.Operator(), AccountFilter{AppID: r.app.ID}, Order{}, Key{}, 10)
		check(t, err)
		var got []string
		for _, a := range page.Rows {
			got = append(got, fmt.Sprint(a.Name, a.TypeName, a.Grants, a.Assigned, a.Roles, a.PersonName))
		}
		if diff := gocmp.Diff([]string{"Annuser5 4 [Team b Team c Team d]Ann", "Bobuser0 0 []"}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// holdersOf is a rig where an entitlement is held directly and by way of two others.
func holdersOf(t *testing.T, d *db.DB) *rig {
	r := newRig(t, d)
	for _, team := range []string{"top", "mid", "low"} {
		r.team(team)
	}
	for _, id := range []string{"ann", "bob", "cia", "dan"} {
		r.user(id, strings.ToUpper(id), id+"@example.com")
	}
	r.edge("team:mid:member", "team:top:member", "user", false)
	r.edge("team:low:member", "team:mid:member", "", false)
	r.grant("team:top:member", "team:mid")
	r.clock.Advance(time.Hour)
	r.grant("team:mid:member", "team:low")
	r.grant("team:top:member", "user:bob")
	r.grant("team:mid:member", "user:ann")
	r.clock.Advance(time.Hour)
	r.grant("team:low:member", "user:cia")
	return r
}

func TestHoldersAreListedWithPathSinceAndReason(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := holdersOf(t, d)
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return r.RecordGrant(ctx, tx, r.app.ID, r.ids["team:top:member"], r.ids["user:dan"], Reason{Kind: "operator", Ref: "T-1"})
		})
		yes, no := true, false
		for _, test := range []struct {
			filter HolderFilter
			want   []string
		}{
			{HolderFilter{}, []string{
				"ANN 13:00 team:mid:member", "BOB 13:00", "CIA 14:00 team:low:member team:mid:member", "DAN 14:00 operator T-1", "Team mid 12:00",
			}},
			{HolderFilter{Direct: &yes}, []string{"BOB 13:00", "DAN 14:00 operator T-1", "Team mid 12:00"}},
			{HolderFilter{Direct: &no}, []string{"ANN 13:00 team:mid:member", "CIA 14:00 team:low:member team:mid:member"}},
			{HolderFilter{Search: "an"}, []string{"ANN 13:00 team:mid:member", "DAN 14:00 operator T-1"}},
		} {
			for _, limit := range []int{1, 2, 100} {
				got, _ := every(t, limit, func(after Key) (Page[GrantItem], error) {
					return r.HolderList(t.Context(), identity.Operator(), r.ids["team:top:member"], test.filter, after, limit)
				})
				lines := texts(got, func(g GrantItem) string {
					line := g.PrincipalName + " " + g.Since.Format("15:04")
					for _, step := range g.Path {
						line += " " + step.ExternalID
					}
					for _, reason := range g.Reasons {
						line += " " + reason.Kind + " " + reason.Ref
					}
					return line
				})
				if diff := gocmp.Diff(test.want, lines); diff != "" {
					t.Errorf("%+v by %d: want -, got +:\n%s", test.filter, limit, diff)
				}
			}
		}
		direct, all, err := r.HolderCount(t.Context(), identity.Operator(), r.ids["team:top:member"])
		check(t, err)
		if (direct != Count{N: 3}) || (all != Count{N: 5}) {
			t.Errorf("%v hold it directly and %v in all, not 3 and 5", direct, all)
		}
	})
}

func TestAPersonsAccessIsThatOfAllTheirAccounts(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := holdersOf(t, d)
		person := r.person("Cia", "cia@example.com", "cia")
		check(t, r.Link(t.Context(), identity.Operator(), r.ids["user:cia"], person))
		check(t, r.Link(t.Context(), identity.Operator(), r.ids["user:bob"], person))
		other := r.app
		r.app = r.add(App{Name: "Archive", Managed: true})
		r.ids["user"] = "users-of-archive"
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return PutTypes(ctx, tx, r.app.ID, []TypeRow{{ID: r.ids["user"], ExternalID: "user", Traits: []string{"user"}}}, r.clock.Now())
		})
		account := r.user("c", "Cia", "c@example.com")
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return AddEntitlements(ctx, tx, r.stamp(), []EntitlementRow{{ID: "read", ResourceID: account, ExternalID: "read", Name: "Read", GrantableTo: []string{}, Source: []byte{}, Hash: []byte{}}})
		})
		r.ids["read"] = "read"
		r.grant("read", "user:c")
		check(t, r.Link(t.Context(), identity.Operator(), account, person))
		want := []string{
			"Archive Cia read 14:00 direct",
			"Bank BOB team:top:member 13:00 direct",
			"Bank CIA team:low:member 14:00 direct", "Bank CIA team:mid:member 14:00 < team:low:member", "Bank CIA team:top:member 14:00 < team:low:member < team:mid:member",
		}
		line := func(g GrantItem) string {
			text := g.AppName + " " + g.PrincipalName + " " + g.Entitlement + " " + g.Since.Format("15:04")
			if g.Direct {
				text += " direct"
			}
			for _, step := range g.Path {
				text += " < " + step.ExternalID
			}
			return text
		}
		for _, limit := range []int{1, 2, 4, 100} {
			got, _ := every(t, limit, func(after Key) (Page[GrantItem], error) {
				return r.PersonAccess(t.Context(), identity.Operator(), person, after, limit)
			})
			if diff := gocmp.Diff(want, texts(got, line)); diff != "" {
				t.Errorf("by %d: want -, got +:\n%s", limit, diff)
			}
		}
		// They see their own access, and an owner sees what is in the app that they own.
		got, err := r.PersonAccess(t.Context(), identity.PersonActor(person, "Cia", 0), person, Key{}, 100)
		check(t, err)
		if len(got.Rows) != len(want) {
			t.Errorf("they see %d of their own rights, not %d", len(got.Rows), len(want))
		}
		owner := r.person("Olga", "olga@example.com", "olga")
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return r.SetOwners(ctx, tx, identity.Operator(), other.ID, []Owner{{Kind: OwnerPerson, ID: owner}})
		})
		olga := identity.PersonActor(owner, "Olga", identity.ApplicationAdmin)
		if got, err = r.PersonAccess(t.Context(), olga, person, Key{}, 100); err != nil || len(got.Rows) != len(want)-1 {
			t.Errorf("the owner of one app sees %d rights (%v), not %d", len(got.Rows), err, len(want)-1)
		}
		accounts, err := r.AccountList(t.Context(), olga, AccountFilter{PersonID: person}, Order{}, Key{}, 100)
		check(t, err)
		if diff := gocmp.Diff([]string{"BOB", "CIA"}, texts(accounts.Rows, func(a AccountItem) string { return a.Name })); diff != "" {
			t.Error(diff)
		}
		apps, err := r.AppList(t.Context(), olga, AppFilter{Managed: true}, Key{}, 100)
		check(t, err)
		if diff := gocmp.Diff([]string{"Bank"}, texts(apps.Rows, func(a AppRow) string { return a.Name })); diff != "" {
			t.Error(diff)
		}
		if hits, _, err := r.Search(t.Context(), olga, "CIA", 10); err != nil || strings.Join(texts(hits, func(h Hit) string { return string(h.Kind) + " " + h.AppName }), ", ") != "account Bank, person " {
			t.Errorf("the owner of one app finds %v, %v", hits, err)
		}
	})
}

// TestListsAreForWhoMayReadThem asks each as somebody who may not.
func TestListsAreForWhoMayReadThem(t *testing.T) {
	d := dbtest.Open(t, db.SQLite)
	r := holdersOf(t, d)
	entitlement, account, appID := r.ids["team:top:member"], r.ids["user:ann"], r.app.ID
	nobody := identity.PersonActor("p-nobody", "Nobody", identity.ApplicationAdmin) // owns nothing
	ctx := t.Context()
	for name, ask := range map[string]func(actor identity.Actor) error{
		"AppCounts": func(a identity.Actor) error { _, err := r.AppCounts(ctx, a, appID); return err },
		"EntitlementList": func(a identity.Actor) error {
			_, err := r.EntitlementList(ctx, a, EntitlementQuery{AppID: appID}, Order{}, Key{}, 9)
			return err
		},
		"AccountList": func(a identity.Actor) error {
			_, err := r.AccountList(ctx, a, AccountFilter{AppID: appID}, Order{}, Key{}, 9)
			return err
		},
		"ResourceList": func(a identity.Actor) error {
			_, err := r.ResourceList(ctx, a, ResourceFilter{AppID: appID}, Key{}, 9)
			return err
		},
		"ResourcePage": func(a identity.Actor) error { _, err := r.ResourcePage(ctx, a, account); return err },
		"GrantList": func(a identity.Actor) error {
			_, err := r.GrantList(ctx, a, GrantFilter{AppID: appID}, Key{}, 9)
			return err
		},
		"HolderList": func(a identity.Actor) error {
			_, err := r.HolderList(ctx, a, entitlement, HolderFilter{}, Key{}, 9)
			return err
		},
		"HolderCount": func(a identity.Actor) error { _, _, err := r.HolderCount(ctx, a, entitlement); return err },
		"HolderHistory": func(a identity.Actor) error {
			_, err := r.HolderHistory(ctx, a, entitlement, r.clock.Now().Add(-time.Hour), r.clock.Now(), 3)
			return err
		},
		"Changes of an entitlement": func(a identity.Actor) error {
			_, err := r.Changes(ctx, a, ChangeFilter{EntitlementID: entitlement}, Key{}, 9)
			return err
		},
		"Changes of a principal": func(a identity.Actor) error {
			_, err := r.Changes(ctx, a, ChangeFilter{PrincipalID: account}, Key{}, 9)
			return err
		},
		"Changes of an app": func(a identity.Actor) error {
			_, err := r.Changes(ctx, a, ChangeFilter{AppID: appID}, Key{}, 9)
			return err
		},
	} {
		wants(t, ask(nobody), fault.Forbidden, "may not read")
		if err := ask(identity.PersonActor("p-auditor", "Auditor", identity.Auditor)); err != nil {
			t.Errorf("%s: an auditor may read it, and gets %v", name, err)
		}
	}
	user := identity.PersonActor("p-user", "User", 0)
	if _, err := r.AppList(ctx, user, AppFilter{}, Key{}, 9); !fault.Is(err, fault.Forbidden) {
		t.Errorf("AppList: %v", err)
	}
	if _, err := r.PersonAccess(ctx, user, "somebody", Key{}, 9); !fault.Is(err, fault.Forbidden) {
		t.Errorf("PersonAccess: %v", err)
	}
	if hits, _, err := r.Search(ctx, user, "ann", 9); err != nil || len(hits) > 0 {
		t.Errorf("who may read nothing finds %v, %v", hits, err)
	}
	wants(t, func() error {
		_, err := r.ResourceList(ctx, identity.Operator(), ResourceFilter{}, Key{}, 9)
		return err
	}(), fault.Invalid, "say which")
	wants(t, func() error {
		_, err := r.AccountList(ctx, identity.Operator(), AccountFilter{AppID: appID}, Order{By: ByLastLogin}, Key{"yesterday", "x"}, 9)
		return err
	}(), fault.Invalid, "isn't one of this list")
}

func TestCountsAndResourcesAndApps(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		c := newCrowd(t, d)
		var want AppNumbers
		for _, a := range c.accounts {
			want.Accounts.N++
			if a.PersonID == "" {
				want.Unmatched.N++
			}
			if a.PersonID == c.gone {
				want.Orphaned.N++
			}
		}
		for _, e := range c.entitlements {
			want.Entitlements.N++
			want.Grants.N += e.Grants
			if e.Purpose == "assignment" {
				want.Assignments.N++
			}
		}
		want.Resources.N = 72
		got, err := c.AppCounts(t.Context(), identity.Operator(), c.app.ID)
		check(t, err)
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		c.add(App{Name: "aardvark"})
		gone := c.add(App{Name: "abacus"})
		_, err = c.RemoveApp(t.Context(), identity.Operator(), gone.ID)
		check(t, err)
		for managed, name := range map[bool]string{true: "Bank", false: "aardvark"} {
			apps, _ := every(t, 1, func(after Key) (Page[AppRow], error) {
				return c.AppList(t.Context(), identity.Operator(), AppFilter{Managed: managed}, after, 1)
			})
			if len(apps) != 1 || apps[0].Name != name || managed && apps[0].Accounts != want.Accounts {
				t.Errorf("managed %t: %+v", managed, apps)
			}
		}
		resources, _ := every(t, 5, func(after Key) (Page[ResourceItem], error) {
			return c.ResourceList(t.Context(), identity.Operator(), ResourceFilter{AppID: c.app.ID}, after, 5)
		})
		var ids []string
		for id := range c.search {
			if !strings.HasPrefix(id, "ent") {
				ids = append(ids, id)
			}
		}
		if diff := gocmp.Diff(c.sorted(ids), texts(resources, func(r ResourceItem) string { return r.ID })); diff != "" {
			t.Error(diff)
		}
		team, err := c.ResourcePage(t.Context(), identity.Operator(), "team03")
		check(t, err)
		if team.Entitlements != 4 || team.TypeName != "team" || team.App.Name != "Bank" || team.Account {
			t.Errorf("the page of the team says %+v", team)
		}
	})
}
