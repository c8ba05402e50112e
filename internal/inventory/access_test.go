package inventory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/identity"
)

func (r *rig) holders(entitlement string, page int) (lines []string) {
	r.t.Helper()
	for after := (Key{}); ; {
		list, err := r.Holders(r.t.Context(), identity.Operator(), r.ids[entitlement], after, page)
		check(r.t, err)
		for _, g := range list {
			lines = append(lines, line(g))
		}
		if len(list) < page {
			return lines
		}
		after = Key{list[page-1].PrincipalName, list[page-1].PrincipalID}
	}
}

func (r *rig) access(principal string, page int) (lines []string) {
	r.t.Helper()
	for after := (Key{}); ; {
		list, err := r.Access(r.t.Context(), identity.Operator(), r.ids[principal], after, page)
		check(r.t, err)
		for _, g := range list {
			lines = append(lines, line(g))
		}
		if len(list) < page {
			return lines
		}
		after = Key{list[page-1].EntitlementName, list[page-1].EntitlementID}
	}
}

func (r *rig) export() (lines []string) {
	r.t.Helper()
	for g, err := range r.ExportGrants(r.t.Context(), identity.Operator(), r.app.ID) {
		check(r.t, err)
		lines = append(lines, line(g))
	}
	return lines
}

func TestAccessFollowsEdgesAndTellsThePath(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.user("ann", "Ann", "ann@x")
		r.user("bob", "Bob", "bob@x")
		for _, id := range []string{"a", "b", "c", "d"} {
			r.team(id)
		}
		// ann is in a, a is in b, b is in c, which only takes direct members of b; and c is in a: a circle.
		r.grant("team:a:member", "user:ann")
		r.grant("team:b:member", "user:bob")
		r.grant("team:b:member", "team:a")
		r.grant("team:c:member", "team:b")
		r.grant("team:a:member", "team:c")
		r.grant("team:d:member", "team:c")
		r.edge("team:a:member", "team:b:member", "", false)
		r.edge("team:b:member", "team:c:member", "", true)
		r.edge("team:c:member", "team:a:member", "", false)
		r.edge("team:c:member", "team:d:member", "team", false)
		for page := 1; page < 4; page++ {
			if diff := cmp.Diff([]string{"team:a:member user:ann direct", "team:b:member user:ann < team:a:member"}, r.access("user:ann", page)); diff != "" {
				t.Error(diff)
			}
			want := []string{
				"team:a:member user:bob < team:b:member < team:c:member", "team:b:member user:bob direct", "team:c:member user:bob < team:b:member",
			}
			if diff := cmp.Diff(want, r.access("user:bob", page)); diff != "" {
				t.Error(diff)
			}
			want = []string{"team:c:member user:bob < team:b:member", "team:c:member team:a < team:b:member", "team:c:member team:b direct"}
			if diff := cmp.Diff(want, r.holders("team:c:member", page)); diff != "" {
				t.Error(diff)
			}
			// d is for teams alone: b comes to it by c, bob doesn't.
			want = []string{"team:d:member team:a < team:b:member < team:c:member", "team:d:member team:b < team:c:member", "team:d:member team:c direct"}
			if diff := cmp.Diff(want, r.holders("team:d:member", page)); diff != "" {
				t.Error(diff)
			}
		}
	})
}

// What Access, Holders and ExportGrants say is the same, and what simple rules say.
func TestAccessIsWhatTheRulesSay(t *testing.T) {
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				r := newRig(t, dbtest.Open(t, engine))
				var entitlements, principals []string
				for n := range rapid.IntRange(1, 6).Draw(rt, "teams") {
					r.team(fmt.Sprint(n))
					entitlements, principals = append(entitlements, fmt.Sprintf("team:%d:member", n)), append(principals, fmt.Sprintf("team:%d", n))
				}
				for n := range rapid.IntRange(1, 4).Draw(rt, "users") {
					r.user(fmt.Sprint(n), fmt.Sprint("User ", n), "")
					principals = append(principals, fmt.Sprintf("user:%d", n))
				}
				direct := map[string]bool{}
				for range rapid.IntRange(0, 10).Draw(rt, "grants") {
					e, p := rapid.SampledFrom(entitlements).Draw(rt, "e"), rapid.SampledFrom(principals).Draw(rt, "p")
					if !direct[e+" "+p] {
						direct[e+" "+p] = true
						r.grant(e, p)
					}
				}
				type edge struct {
					source, target, kind string
					shallow              bool
				}
				edges := map[[3]string]edge{}
				for range rapid.IntRange(0, 12).Draw(rt, "edges") {
					e := edge{
						rapid.SampledFrom(entitlements).Draw(rt, "source"), rapid.SampledFrom(entitlements).Draw(rt, "target"),
						rapid.SampledFrom([]string{"", "", "user", "team"}).Draw(rt, "kind"), rapid.Bool().Draw(rt, "shallow"),
					}
					edges[[3]string{e.source, e.target, e.kind}] = e
					r.edge(e.source, e.target, e.kind, e.shallow)
				}
				held := map[string]bool{}
				for pair := range direct {
					held[pair] = true
				}
				for again := true; again; {
					again = false
					for _, e := range edges {
						for _, p := range principals {
							from, to := e.source+" "+p, e.target+" "+p
							if e.kind != "" && !strings.HasPrefix(p, e.kind) || e.shallow && !direct[from] || !held[from] || held[to] {
								continue
							}
							held[to], again = true, true
						}
					}
				}
				var want []string
				for pair := range held {
					want = append(want, pair)
				}
				slices.Sort(want)
				var byHolder, byAccess, exported []string
				for _, e := range entitlements {
					byHolder = append(byHolder, r.holders(e, 3)...)
				}
				for _, p := range principals {
					byAccess = append(byAccess, r.access(p, 3)...)
				}
				exported = r.export()
				for name, got := range map[string][]string{"holders": byHolder, "access": byAccess, "export": exported} {
					var pairs []string
					for _, one := range got {
						fields := strings.Fields(one)
						pair := fields[0] + " " + fields[1]
						pairs = append(pairs, pair)
						if isDirect := strings.HasSuffix(one, " direct"); isDirect != direct[pair] {
							rt.Errorf("%s: %s", name, one)
						}
						// Each path begins with what is held directly, and each step gives the next.
						path := strings.Split(one, " < ")[1:]
						if len(path) == 0 && !direct[pair] {
							rt.Errorf("%s: %s has no path", name, one)
						}
						for n, step := range path {
							next := fields[0]
							if n+1 < len(path) {
								next = path[n+1]
							}
							gives := false
							for _, e := range edges {
								gives = gives || e.source == step && e.target == next && (e.kind == "" || strings.HasPrefix(fields[1], e.kind)) && (n == 0 || !e.shallow)
							}
							if !gives || n == 0 && !direct[step+" "+fields[1]] {
								rt.Errorf("%s: %s isn't a way", name, one)
							}
						}
					}
					slices.Sort(pairs)
					if diff := cmp.Diff(want, pairs); diff != "" {
						rt.Errorf("%s: %s", name, diff)
					}
				}
			})
		})
	}
}

func TestManyWaysAreWalkedOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.user("ann", "Ann", "")
		const depth = 40 // two ways at each level: 2^40 paths
		for n := range depth {
			r.team(fmt.Sprintf("%02da", n))
			r.team(fmt.Sprintf("%02db", n))
		}
		var edges []Edge
		for n := range depth - 1 {
			for _, from := range []string{"a", "b"} {
				for _, to := range []string{"a", "b"} {
					edges = append(edges, Edge{
						SourceID: r.ids[fmt.Sprintf("team:%02d%s:member", n, from)], TargetID: r.ids[fmt.Sprintf("team:%02d%s:member", n+1, to)],
						PrincipalID: r.ids[fmt.Sprintf("team:%02d%s", n, from)],
					})
				}
			}
		}
		r.write(func(ctx context.Context, tx *db.Tx) error { return AddEdges(ctx, tx, r.app.ID, edges) })
		r.grant("team:00a:member", "user:ann")
		if got := r.access("user:ann", 1000); len(got) != 1+2*(depth-1) {
			t.Errorf("%d entitlements", len(got))
		}
		if got := r.holders(fmt.Sprintf("team:%02db:member", depth-1), 1000); len(got) != 1 {
			t.Errorf("%v", got)
		}
	})
}
