package inventory

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/identity"
)

func TestZZ(t *testing.T) {
	if os.Getenv("ZZ") == "" {
		t.Skip()
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		st := r.stamp()
		src := make([]byte, 200)
		const users, roles, projects = 100_000, 2000, 5000
		began := time.Now()
		batch := func(n int, do func(tx *db.Tx, from, to int) error) {
			for i := 0; i < n; i += 2000 {
				r.write(func(ctx context.Context, tx *db.Tx) error { return do(tx, i, min(n, i+2000)) })
			}
		}
		res := func(kind, name, id string, n int) {
			batch(n, func(tx *db.Tx, from, to int) error {
				var rows []ResourceRow
				for i := from; i < to; i++ {
					row := ResourceRow{ID: fmt.Sprintf("0123456789abcdefghij-"+id, i), TypeID: kind, ExternalID: strconv.Itoa(i), Name: fmt.Sprintf(name, i%1000, i), Profile: `{"a":"b"}`, Source: src, Hash: src[:32]}
					row.Search = Fold(row.Name) + "\n" + row.ID
					if id == "u%d" {
						row.Account = &AccountRow{Kind: Human, Status: Enabled, Owner: identity.Owner{PersonID: "p" + strconv.Itoa(i)}}
						if i%20 == 0 {
							row.Account.Owner = identity.Owner{}
						}
					}
					rows = append(rows, row)
				}
				return AddResources(t.Context(), tx, st, rows)
			})
		}
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return PutTypes(ctx, tx, r.app.ID, []TypeRow{{ID: "project", ExternalID: "project", Name: "Project"}}, st.At)
		})
		res(r.ids["user"], "Firstname%d Lastname%d", "u%d", users)
		res(r.ids["team"], "Role %d %d", "t%d", roles)
		res("project", "Project %d %d", "f%d", projects)
		batch(roles+3*projects, func(tx *db.Tx, from, to int) error {
			var rows []EntitlementRow
			for i := from; i < to; i++ {
				e := EntitlementRow{ID: fmt.Sprintf("0123456789abcdefghij-e%d", i), ResourceID: fmt.Sprintf("0123456789abcdefghij-t%d", i), Purpose: "assignment", Name: fmt.Sprintf("Role %d member", i)}
				if f := i - roles; f >= 0 {
					e.ResourceID, e.Purpose, e.Name = fmt.Sprintf("0123456789abcdefghij-f%d", f/3), "permission", fmt.Sprintf("Project %d %d", f/3, f%3)
				}
				e.ExternalID, e.Slug, e.Search, e.GrantableTo, e.Source, e.Hash = e.ID, "member", Fold(e.Name), []string{}, src, src[:32]
				rows = append(rows, e)
			}
			return AddEntitlements(t.Context(), tx, st, rows)
		})
		batch(users, func(tx *db.Tx, from, to int) error {
			var rows []GrantRow
			for i := from; i < to; i++ {
				for w := range 10 {
					e := (i + w*roles/8) % roles
					if w >= 8 {
						e = roles + (7*i+w*3*projects/8)%(3*projects)
					}
					rows = append(rows, GrantRow{EntitlementID: fmt.Sprintf("0123456789abcdefghij-e%d", e), PrincipalID: fmt.Sprintf("0123456789abcdefghij-u%d", i)})
				}
			}
			return AddGrants(t.Context(), tx, st, rows)
		})
		batch(users, func(tx *db.Tx, from, to int) error {
			var people [][]any
			for n := from; n < to; n++ {
				status := "enabled"
				if n%20 == 1 {
					status = "deleted"
				}
				people = append(people, []any{"p" + strconv.Itoa(n), "Person", "", "", "", "", "", "", "human", status, "csv", "", "{}", 0, 0})
			}
			return tx.Insert(t.Context(), "person", []string{"id", "name", "email", "username", "employee_id", "department", "job_title", "manager_id", "kind", "status", "source", "external_id", "profile", "created_at", "updated_at"}, people)
		})
		check(t, d.Analyze(t.Context(), "resource", "account", "entitlement", "access_grant", "expansion", "person"))
		t.Log("filled", time.Since(began))
		ctx, op, app := t.Context(), identity.Operator(), r.app.ID
		mid := Key{"firstname5 lastname50005\n0123456789abcdefghij-u50005", "0123456789abcdefghij-u50005"}
		bare := func(q string, args ...any) func() error {
			return func() error {
				return db.Each(ctx, d, func(row db.Scanner) error {
					var a, b, c, e any
					return row.Scan(&a, &b, &c, &e)
				}, q, args...)
			}
		}
		for _, m := range []struct {
			name string
			do   func() error
		}{
			{"bare accounts (name order)", bare(`SELECT r.id, r.name, a.login, a.email FROM resource r JOIN account a ON a.id = r.id WHERE r.app_id = $1 AND r.type_id = $2 AND (substr(r.search,1,200), r.id) > ($3,$4) ORDER BY substr(r.search,1,200), r.id LIMIT 100`, app, r.ids["user"], mid.Name, mid.ID)},
			{"accounts", func() error { _, err := r.AccountList(ctx, op, AccountFilter{AppID: app}, Order{}, mid, 100); return err }},
			{"accounts prefix", func() error { _, err := r.AccountList(ctx, op, AccountFilter{AppID: app, Search: "firstname5"}, Order{}, Key{}, 100); return err }},
			{"accounts substring", func() error { _, err := r.AccountList(ctx, op, AccountFilter{AppID: app, Search: "lastname777"}, Order{}, Key{}, 100); return err }},
			{"accounts by login", func() error { _, err := r.AccountList(ctx, op, AccountFilter{AppID: app}, Order{By: ByLastLogin}, Key{}, 100); return err }},
			{"accounts unmatched", func() error { _, err := r.AccountList(ctx, op, AccountFilter{AppID: app, Unmatched: true}, Order{}, mid, 100); return err }},
			{"accounts orphaned", func() error { _, err := r.AccountList(ctx, op, AccountFilter{AppID: app, Orphaned: true}, Order{}, mid, 100); return err }},
			{"entitlements", func() error { _, err := r.EntitlementList(ctx, op, EntitlementQuery{AppID: app}, Order{}, Key{}, 100); return err }},
			{"assignments", func() error { _, err := r.EntitlementList(ctx, op, EntitlementQuery{AppID: app, Purpose: "assignment"}, Order{}, Key{}, 100); return err }},
			{"entitlements by holders", func() error { _, err := r.EntitlementList(ctx, op, EntitlementQuery{AppID: app}, Order{By: ByHolders, Falling: true}, Key{}, 100); return err }},
			{"assignments by risk", func() error { _, err := r.EntitlementList(ctx, op, EntitlementQuery{AppID: app, Purpose: "assignment"}, Order{By: ByRisk, Falling: true}, Key{}, 100); return err }},
			{"entitlements of type", func() error { _, err := r.EntitlementList(ctx, op, EntitlementQuery{AppID: app, TypeID: "project"}, Order{}, Key{}, 100); return err }},
			{"resources", func() error { _, err := r.ResourceList(ctx, op, ResourceFilter{AppID: app}, mid, 100); return err }},
			{"bare grants", bare(`SELECT g.since, e.name, r.name, e.id FROM (SELECT r.id, r.name, r.search FROM resource r WHERE r.app_id = $1 AND r.type_id = $2 AND (substr(r.search,1,200), r.id) > ($3,$4) ORDER BY substr(r.search,1,200), r.id LIMIT 11) r JOIN access_grant g ON g.principal_id = r.id JOIN entitlement e ON e.id = g.entitlement_id ORDER BY r.search, r.id, e.search, e.id LIMIT 100`, app, r.ids["user"], mid.Name, mid.ID)},
			{"grants", func() error { _, err := r.GrantList(ctx, op, GrantFilter{AppID: app}, mid, 100); return err }},
			{"holders of 400", func() error { _, err := r.HolderList(ctx, op, "0123456789abcdefghij-e7", HolderFilter{}, Key{}, 100); return err }},
			{"counts", func() error { _, err := r.AppCounts(ctx, op, app); return err }},
			{"apps", func() error { _, err := r.AppList(ctx, op, AppFilter{Managed: true}, Key{}, 100); return err }},
			{"search prefix", func() error { _, _, err := r.Search(ctx, op, "firstname55", 8); return err }},
			{"search none", func() error { _, _, err := r.Search(ctx, op, "nothing at all", 8); return err }},
			{"person access", func() error { _, err := r.PersonAccess(ctx, op, "p77", Key{}, 100); return err }},
			{"holder history", func() error { _, err := r.HolderHistory(ctx, op, "0123456789abcdefghij-e7", r.clock.Now().Add(-time.Hour), r.clock.Now(), 60); return err }},
			{"changes of the entitlement", func() error { _, err := r.Changes(ctx, op, ChangeFilter{EntitlementID: "0123456789abcdefghij-e7"}, Key{}, 50); return err }},
			{"changes of the app", func() error { _, err := r.Changes(ctx, op, ChangeFilter{AppID: app}, Key{}, 50); return err }},
		} {
			best := time.Hour
			for range 5 {
				at := time.Now()
				check(t, m.do())
				best = min(best, time.Since(at))
			}
			t.Logf("%-30s %6.2f ms", m.name, float64(best.Microseconds())/1000)
		}
	})
}
