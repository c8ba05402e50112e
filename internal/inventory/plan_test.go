package inventory

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/identity"
)

// The size of a crowdedApp: what looks at all of something looks at many more rows
// than a page has.
const (
	manyUsers  = 12_000
	manyRoles  = 1_500
	manyFolder = 11_000 // that nobody is granted anything of, with a permission each
)

// crowdedApp is a rig with users that hold two roles each; all of them hold the first.
func crowdedApp(t *testing.T, d *db.DB) *rig {
	r := newRig(t, d)
	stamp := r.stamp()
	r.write(func(ctx context.Context, tx *db.Tx) error {
		if err := PutTypes(ctx, tx, r.app.ID, []TypeRow{{ID: "folder", ExternalID: "folder", Name: "Folder"}}, stamp.At); err != nil {
			return err
		}
		var rows []ResourceRow
		add := func(count int, kind, name, id string) {
			for n := range count {
				row := ResourceRow{
					ID: fmt.Sprintf(id, n), TypeID: kind, ExternalID: strconv.Itoa(n), Name: fmt.Sprintf(name, n), Profile: "{}", Source: []byte{}, Hash: []byte{},
				}
				row.Search = Fold(row.Name) + "\n" + row.ID
				if id == "u%d" {
					row.Account = &AccountRow{Kind: Human, Status: Enabled, Owner: identity.Owner{PersonID: "p" + strconv.Itoa(n)}}
					if n%4000 == 0 {
						row.Account.Owner, row.Account.Status, row.Account.Kind = identity.Owner{}, Disabled, ServiceKind
					}
				}
				rows = append(rows, row)
			}
		}
		add(manyUsers, r.ids["user"], "User %d", "u%d")
		add(manyRoles, r.ids["team"], "Role %d", "t%d")
		add(manyFolder, "folder", "Folder %d", "f%d")
		if err := AddResources(ctx, tx, stamp, rows); err != nil {
			return err
		}
		var rights []EntitlementRow
		for n := range manyRoles + manyFolder {
			e := EntitlementRow{ID: fmt.Sprintf("te%d", n), ResourceID: fmt.Sprintf("t%d", n), Purpose: "assignment", Name: fmt.Sprintf("Role %d", n)}
			if f := n - manyRoles; f >= 0 {
				e.ID, e.ResourceID, e.Purpose, e.Name = fmt.Sprintf("fe%d", f), fmt.Sprintf("f%d", f), "permission", fmt.Sprintf("Folder %d", f)
			}
			e.ExternalID, e.Slug, e.Search, e.GrantableTo, e.Source, e.Hash = e.ID, "member", Fold(e.Name), []string{}, []byte{}, []byte{}
			rights = append(rights, e)
		}
		if err := AddEntitlements(ctx, tx, stamp, rights); err != nil {
			return err
		}
		var grants []GrantRow
		for n := range manyUsers {
			grants = append(grants, GrantRow{EntitlementID: "te0", PrincipalID: fmt.Sprintf("u%d", n)},
				GrantRow{EntitlementID: fmt.Sprintf("te%d", 1+n%(manyRoles-1)), PrincipalID: fmt.Sprintf("u%d", n)})
		}
		if err := AddGrants(ctx, tx, stamp, grants); err != nil {
			return err
		}
		if err := AddEdges(ctx, tx, r.app.ID, []Edge{{TargetID: "fe1", PrincipalID: "t0", SourceID: "te0"}}); err != nil {
			return err
		}
		var people [][]any
		for n := range manyUsers {
			status := "enabled"
			if n%10 == 1 {
				status = "deleted"
			}
			people = append(people, []any{"p" + strconv.Itoa(n), "Person", "", "", "", "", "", "", "human", status, "csv", "", "{}", 0, 0})
		}
		return tx.Insert(ctx, "person", []string{
			"id", "name", "email", "username", "employee_id", "department", "job_title", "manager_id", "kind", "status", "source", "external_id", "profile", "created_at", "updated_at",
		}, people)
	})
	check(t, d.Analyze(t.Context(), "resource", "account", "entitlement", "access_grant", "expansion", "person", "resource_type"))
	return r
}

// planner asks the database, and notes how it would find the answers.
type planner struct {
	*db.DB
	t     *testing.T
	plans []string
	most  int // how many rows a step goes through
}

var (
	// rowsOfStep are the rows that a step of a plan of PostgreSQL gave, or left out.
	rowsOfStep = regexp.MustCompile(`actual rows=([\d.]+) loops=(\d+)|Rows Removed by [ \w]+: (\d+)`)
	// counts are the steps whose rows are the app's. Others, such as the names of what a
	// page shows, it may well read whole: that is a matter of how wide their rows are.
	counts = regexp.MustCompile(`(?:Scan|Scan using \w+|Scan Backward using \w+) on (resource|account|access_grant|past_grant|expansion|person_key)\b|Sort  \(`)
	// whole is a step of a plan of SQLite that goes through a whole table. The alias r is
	// that of a resource, and within a recursion that of what was reached.
	// fromStart is a step that reads an index from its start, for a query that begins
	// furtherOn.
	fromStart = regexp.MustCompile(`USING (COVERING )?INDEX (\w+_sorted|account_login) \([^<>]*\)$`)
	furtherOn = regexp.MustCompile(`\) [<>] \(\$`)
	whole     = regexp.MustCompile(`SCAN (r USING|(e|a|g|er|d|resource|account|entitlement|access_grant|past_grant|expansion|person|person_key)\b|p( USING COVERING|$))|SEARCH g USING PRIMARY KEY \(app_id=\?\)$`)
)

func (p *planner) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	explain := "EXPLAIN QUERY PLAN "
	if p.Engine() == db.Postgres {
		explain = "EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, SUMMARY OFF) "
	}
	var lines []string
	counted := false
	check(p.t, db.Each(ctx, p.DB, func(row db.Scanner) error {
		var line string
		if p.Engine() == db.Postgres {
			err := row.Scan(&line)
			lines = append(lines, line)
			if strings.Contains(line, "actual rows") {
				counted = counts.MatchString(line)
			}
			if found := rowsOfStep.FindStringSubmatch(line); counted && found != nil {
				rows, _ := strconv.ParseFloat(found[1]+found[3], 64)
				loops, _ := strconv.Atoi("0" + found[2])
				p.most = max(p.most, int(rows)*max(1, loops))
			}
			return err
		}
		var id, parent, unused int
		err := row.Scan(&id, &parent, &unused, &line)
		lines = append(lines, line)
		if whole.MatchString(line) || furtherOn.MatchString(query) && fromStart.MatchString(line) {
			p.most = 1 << 30
		}
		return err
	}, explain+query, args...))
	p.plans = append(p.plans, query+"\n\t"+strings.Join(lines, "\n\t"))
	return p.DB.Query(ctx, query, args...)
}

func TestNoPageReadsOrSortsAllRows(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := crowdedApp(t, d)
		ctx, appID := t.Context(), r.app.ID
		if d.Engine() == db.Postgres { // so few rows are read faster whole, even where there is an index
			d.Writer().SetMaxOpenConns(1)
			_, err := d.Writer().ExecContext(ctx, "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_bitmapscan = off")
			check(t, err)
		}
		yes, no := true, false
		mid := func(name, id string) Key { return Key{Fold(name) + "\n" + id, id} }
		top := must(t)(r.EntitlementByID(ctx, d, "te0"))
		below := must(t)(r.EntitlementByID(ctx, d, "fe1"))
		accounts := func(f AccountFilter, o Order, after Key) func(q db.Querier) error {
			f.AppID = appID
			return func(q db.Querier) error { _, err := accountPage(ctx, q, f, nil, o, after, 100); return err }
		}
		entitlements := func(f EntitlementQuery, o Order, after Key) func(q db.Querier) error {
			f.AppID = appID
			return func(q db.Querier) error { _, err := entitlementPage(ctx, q, f, o, after, 100); return err }
		}
		resources := func(f ResourceFilter, after Key) func(q db.Querier) error {
			f.AppID = appID
			return func(q db.Querier) error { _, err := resourcePage(ctx, q, f, after, 100); return err }
		}
		grants := func(f GrantFilter, after Key) func(q db.Querier) error {
			f.AppID = appID
			return func(q db.Querier) error { _, err := grantPage(ctx, q, f, after, 100); return err }
		}
		holders := func(e Entitlement, f HolderFilter, after Key) func(q db.Querier) error {
			return func(q db.Querier) error { _, err := holderPage(ctx, q, e, f, after, 100); return err }
		}
		for name, ask := range map[string]func(q db.Querier) error{
			"accounts":                        accounts(AccountFilter{}, Order{}, Key{}),
			"accounts further on":             accounts(AccountFilter{}, Order{}, mid("User 6000", "u6000")),
			"accounts falling":                accounts(AccountFilter{}, Order{Falling: true}, mid("User 6000", "u6000")),
			"accounts by login":               accounts(AccountFilter{}, Order{By: ByLastLogin}, Key{"0", "u6000"}),
			"accounts that begin with":        accounts(AccountFilter{Search: "user 60"}, Order{}, Key{}),
			"accounts of nobody":              accounts(AccountFilter{Unmatched: true}, Order{}, Key{}),
			"accounts of who left":            accounts(AccountFilter{Orphaned: true}, Order{}, Key{}),
			"accounts of a person":            accounts(AccountFilter{PersonID: "p7"}, Order{}, Key{}),
			"accounts of services":            accounts(AccountFilter{Kind: ServiceKind}, Order{}, Key{}),
			"accounts that are disabled":      accounts(AccountFilter{Status: Disabled}, Order{}, Key{}),
			"accounts that are enabled":       accounts(AccountFilter{Status: Enabled}, Order{}, mid("User 6000", "u6000")),
			"entitlements":                    entitlements(EntitlementQuery{}, Order{}, Key{}),
			"assignments":                     entitlements(EntitlementQuery{Purpose: "assignment"}, Order{}, Key{"role 7", "te7"}),
			"entitlements that begin with":    entitlements(EntitlementQuery{Search: "folder 10"}, Order{}, Key{}),
			"entitlements of a type":          entitlements(EntitlementQuery{TypeID: r.ids["team"]}, Order{}, mid("Role 7", "t7")),
			"entitlements of a resource":      entitlements(EntitlementQuery{ResourceID: "t7"}, Order{}, Key{}),
			"entitlements of a risk":          entitlements(EntitlementQuery{Risk: High}, Order{}, Key{}),
			"entitlements that are requested": entitlements(EntitlementQuery{Requestable: &yes}, Order{}, Key{}),
			"resources":                       resources(ResourceFilter{}, mid("Role 7", "t7")),
			"resources of a type":             resources(ResourceFilter{TypeID: r.ids["user"]}, mid("User 6000", "u6000")),
			"resources that begin with":       resources(ResourceFilter{Search: "user 60"}, Key{}),
			"grants":                          grants(GrantFilter{TypeID: r.ids["user"]}, mid("User 6000", "u6000")),
			"grants inside":                   grants(GrantFilter{}, Key{"user 6000\nu6000", "u6000\nte0\nrole 0"}),
			"grants of an entitlement":        grants(GrantFilter{EntitlementID: "te0"}, mid("User 6000", "u6000")),
			"grants of one with few":          grants(GrantFilter{EntitlementID: "te7"}, Key{}),
			"grants to a principal":           grants(GrantFilter{PrincipalID: "u7"}, Key{}),
			"grants to who begins with":       grants(GrantFilter{Search: "user 60"}, Key{}),
			"holders of all":                  holders(top, HolderFilter{}, mid("User 6000", "u6000")),
			"holders of one with few":         holders(must(t)(r.EntitlementByID(ctx, d, "te7")), HolderFilter{}, Key{}),
			"direct holders of all":           holders(top, HolderFilter{Direct: &yes}, mid("User 6000", "u6000")),
			"count of holders": func(q db.Querier) error {
				_, err := holderCount(ctx, q, Entitlement{ID: "te7", AppID: appID})
				return err
			},
			"inherited holders": holders(below, HolderFilter{Direct: &no}, mid("User 6000", "u6000")),
			"hits": func(q db.Querier) error {
				_, _, err := findResources(ctx, q, "user 60", nil, 10, true)
				return err
			},
			"hits of entitlements": func(q db.Querier) error { _, _, err := findEntitlements(ctx, q, "role 1", nil, 10); return err },
			"access of a person":   func(q db.Querier) error { _, err := personAccess(ctx, q, "p7", nil, Key{}, 100); return err },
			"changes of a principal": func(q db.Querier) error {
				_, err := changePage(ctx, q, ChangeFilter{AppID: appID, PrincipalID: "u7"}, Key{}, 100)
				return err
			},
		} {
			t.Run(name, func(t *testing.T) {
				p := &planner{DB: d, t: t}
				check(t, ask(p))
				if len(p.plans) == 0 || p.most > mostAPage {
					t.Errorf("a page goes through %d rows:\n%s", p.most, strings.Join(p.plans, "\n"))
				}
			})
		}
	})
}

// mostAPage is how many rows a step of a page may go through: those of the page, of
// each of the types, with what belongs to them; not those of the app.
const mostAPage = 4000

func must(t *testing.T) func(Entitlement, error) Entitlement {
	return func(e Entitlement, err error) Entitlement {
		t.Helper()
		check(t, err)
		return e
	}
}
