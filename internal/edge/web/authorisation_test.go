package web_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"airlock/internal/base/db"
	"airlock/internal/edge/web"
	"airlock/internal/edge/web/webtest"
	"airlock/internal/identity"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

var update = flag.Bool("update", false, "write what the tests of this package compare with")

// callers are who call each route. A forged form comes from another site, with the
// cookie of a Super Admin.
var callers = []struct {
	name string
	role identity.Roles
	owns bool // the app
}{
	{name: "nobody"},
	{name: "ended", role: identity.SuperAdmin},
	{name: "forged", role: identity.SuperAdmin},
	{name: "User", role: identity.User},
	{name: "Auditor", role: identity.Auditor},
	{name: "Campaign", role: identity.CampaignAdmin},
	{name: "App, own", role: identity.ApplicationAdmin, owns: true},
	{name: "App, other", role: identity.ApplicationAdmin},
	{name: "Connector", role: identity.ConnectorAdmin},
	{name: "Super", role: identity.SuperAdmin},
}

// serve serves the pages anew, with the real answer to who may hear what.
func (m *domain) serve(change func(*web.Config)) {
	m.t.Helper()
	m.MayHear = nil
	if change != nil {
		change(&m.Config)
	}
	m.server = web.New(m.Config)
	m.url = webtest.Serve(m.t, m.server)
	m.t.Cleanup(m.server.Stop)
}

// call makes a request as whoever has a token.
func (m *domain) call(token, method, path, form string, headers ...string) answer {
	m.t.Helper()
	return (&rig{url: m.url}).call(m.t, method, path, form, append([]string{"Cookie", web.SessionCookie + "=" + token}, headers...)...)
}

// ground is one of each thing that a route is about, by the path's beginning.
func (m *domain) ground(owner string) map[string]string {
	m.t.Helper()
	ctx := m.t.Context()
	connector, _, err := m.Integration.Add(ctx, identity.Operator(), integration.AddConnector{Catalog: "airflow", App: "Airflow"})
	check(m.t, err)
	somebody, err := m.SignIns.AdminCreate(ctx, identity.Operator(), "somebody@airlock.test", "Somebody", password)
	check(m.t, err)
	for range 2 {
		_, err := m.SignIns.SignIn(ctx, somebody.Email, password, identity.Visit{Address: "192.0.2.9"})
		check(m.t, err)
	}
	app := connector.AppID
	stamp := inventory.Stamp{AppID: app, SyncID: "sync", At: m.clock.Now()}
	check(m.t, m.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		err := inventory.PutTypes(ctx, tx, app, []inventory.TypeRow{{ID: "t-user", ExternalID: "user", Name: "User", Traits: []string{"user"}}, {ID: "t-role", ExternalID: "role", Name: "Role", Traits: []string{"role"}}}, stamp.At)
		if err == nil {
			err = inventory.AddResources(ctx, tx, stamp, []inventory.ResourceRow{
				{ID: "account", TypeID: "t-user", ExternalID: "1", Name: "account", Search: "account", Profile: "{}", Source: []byte{}, Hash: []byte{}, Account: &inventory.AccountRow{
					Login: "account", Kind: inventory.Human, Status: inventory.Enabled, Owner: identity.Owner{PersonID: somebody.PersonID, By: "email"}, MatchedAt: stamp.At,
				}},
				{ID: "resource", TypeID: "t-role", ExternalID: "2", Name: "Op", Search: "op", Profile: "{}", Source: []byte{}, Hash: []byte{}},
			})
		}
		if err == nil {
			err = inventory.AddEntitlements(ctx, tx, stamp, []inventory.EntitlementRow{{ID: "entitlement", ResourceID: "resource", ExternalID: "role:2:assigned", Slug: "assigned", Name: "Assigned", Search: "op", Purpose: "assignment", GrantableTo: []string{"user"}, Source: []byte{}, Hash: []byte{}}})
		}
		if err == nil {
			err = inventory.AddGrants(ctx, tx, stamp, []inventory.GrantRow{{EntitlementID: "entitlement", PrincipalID: "account"}})
		}
		if err == nil && owner != "" {
			err = m.Inventory.SetOwners(ctx, tx, identity.Operator(), app, []inventory.Owner{{Kind: inventory.OwnerPerson, ID: owner}})
		}
		return err
	}))
	syncs, err := m.Integration.Syncs(ctx, identity.Operator(), integration.SyncFilter{ConnectorID: connector.ID}, "", 1)
	check(m.t, err)
	sessions, err := m.SignIns.Sessions(ctx, identity.Operator(), somebody.PersonID)
	check(m.t, err)
	return map[string]string{
		"/apps/{id}": app, "/accounts/{id}": "account", "/entitlements/{id}": "entitlement", "/resources/{id}": "resource", "/people/{id}": somebody.PersonID,
		"/connectors/{id}": connector.ID, "/syncs/{id}": syncs[0].ID, "/connectors/add/{catalog}": "airflow", "/connector-icons/{catalog}": "airflow",
		"/settings/sessions/{id}": sessions[0].ID, "/me/sessions/{id}": sessions[1].ID, "/settings/roles/{person}": somebody.PersonID,
		"/settings/roles/{person}/{role}": "super_admin", "/setup/{token}": "x", "/audit/{seq}": "0", "/choices/{table}": "x",
	}
}

// pathOf puts objects into a pattern.
func pathOf(t *testing.T, pattern string, things map[string]string) (method, path string) {
	t.Helper()
	method, pattern, _ = strings.Cut(pattern, " ")
	pattern = strings.TrimSuffix(pattern, "{$}")
	at := ""
	for part := range strings.SplitSeq(strings.TrimPrefix(pattern, "/"), "/") {
		at += "/" + part
		if strings.HasPrefix(part, "{") {
			thing, ok := things[at]
			if !ok {
				t.Fatalf("%s: say in ground what %s is", pattern, at)
			}
			part = thing
		}
		path += "/" + part
	}
	return method, path
}

// outcome is what came of a call, in a word.
func outcome(a answer) string {
	switch to := a.Header.Get("Location"); {
	case a.StatusCode == http.StatusSeeOther && to == "/sign-in":
		return "sign-in"
	case a.StatusCode >= 500:
		return fmt.Sprint("BROKEN ", a.StatusCode)
	}
	return fmt.Sprint(a.StatusCode)
}

// TestWhoMayDoWhat calls each route as everybody, and compares what comes of it
// with testdata/authorisation.txt: `go test -run WhoMayDoWhat -update` writes that,
// to be read line by line. 403 is refused; forms are sent empty, so that 4xx are
// those who may, and left something out.
func TestWhoMayDoWhat(t *testing.T) {
	const file = "testdata/authorisation.txt"
	results := map[string][]string{}
	var patterns []string
	for _, who := range callers {
		m := newDomain(t, nil)
		m.serve(nil)
		token, person := "", ""
		if who.role != 0 {
			person, token = m.as("ann@airlock.test", who.role)
		}
		owner := ""
		if who.owns {
			owner = person
		}
		things := m.ground(owner)
		if who.name == "ended" {
			check(t, m.SignIns.SignOut(t.Context(), token))
		}
		routes := m.server.Routes()
		// What ends things comes last.
		weight := func(pattern string) int {
			for n, word := range []string{"/discard", "/cancel", "/sessions", "/remove", "/sign-out"} {
				if strings.Contains(pattern, word) && strings.HasPrefix(pattern, "POST") {
					return n + 2
				}
			}
			return strings.Index("GPOST", pattern[:1])
		}
		slices.SortStableFunc(routes, func(a, b web.Route) int { return weight(a.Pattern) - weight(b.Pattern) })
		for _, route := range routes {
			method, path := pathOf(t, route.Pattern, things)
			word := "-"
			switch {
			case who.name != "forged":
				word = outcome(m.call(token, method, path, ""))
			case method == http.MethodPost:
				word = outcome(m.call(token, method, path, "", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"))
			}
			results[route.Pattern] = append(results[route.Pattern], word)
			if !slices.Contains(patterns, route.Pattern) {
				patterns = append(patterns, route.Pattern)
			}
		}
	}
	slices.SortFunc(patterns, func(a, b string) int {
		methodA, pathA, _ := strings.Cut(a, " ")
		methodB, pathB, _ := strings.Cut(b, " ")
		return strings.Compare(pathA+" "+methodA, pathB+" "+methodB)
	})
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "route")
	for _, who := range callers {
		fmt.Fprint(w, "\t", who.name)
	}
	fmt.Fprintln(w)
	for _, pattern := range patterns {
		fmt.Fprintln(w, pattern+"\t"+strings.Join(results[pattern], "\t"))
	}
	check(t, w.Flush())
	if *update {
		check(t, os.MkdirAll("testdata", 0o755))
		check(t, os.WriteFile(file, out.Bytes(), 0o600))
	}
	want, err := os.ReadFile(file)
	check(t, err)
	known := strings.Split(string(want), "\n")
	for line := range strings.SplitSeq(out.String(), "\n") {
		if !slices.ContainsFunc(known, func(one string) bool { return slices.Equal(strings.Fields(one), strings.Fields(line)) }) {
			t.Errorf("this isn't what %s says:\n%s", file, line)
		}
	}
	if n, had := strings.Count(out.String(), "\n"), strings.Count(string(want), "\n"); n != had {
		t.Errorf("there are %d routes, and %s has %d", n-1, file, had-1)
	}
	if strings.Contains(out.String(), "BROKEN") {
		t.Error("some calls end with an error of ours")
	}
	for _, line := range known[1:] {
		fields := strings.Fields(line)
		if len(fields) > 3 && fields[0] == "POST" && fields[4] != "403" {
			t.Errorf("a form of another site is taken: %s", line)
		}
	}
}
