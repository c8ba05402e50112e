// Package e2e proves the connector against real Airflows, by the real program
// and with the SDK's own command line.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"airlock/airflow"
	"airlock/airflow/airflowtest"
	"airlock/connector/connectortest"
	"airlock/internal/edge/web/webtest"
)

// The programs under test, built once.
var (
	programs     string
	batonAirflow = sync.OnceValues(func() (string, error) { return connectortest.Build(context.Background(), programs) })
	baton        = sync.OnceValues(func() (string, error) {
		path := filepath.Join(programs, "baton")
		cmd := exec.Command("go", "build", "-modfile=../tools/baton/go.mod", "-o", path, "github.com/conductorone/baton-sdk/cmd/baton")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build baton: %w: %s", err, out)
		}
		return path, nil
	})
)

func TestMain(m *testing.M) {
	var err error
	if programs, err = os.MkdirTemp("", "airlock-e2e-"); err != nil {
		panic(err)
	}
	code := m.Run()
	webtest.End()
	if err := os.RemoveAll(programs); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// TestAirflow checks all there is to check on each release that every run tests.
func TestAirflow(t *testing.T) {
	for _, release := range airflowtest.Releases("test") {
		t.Run(release.Airflow, func(t *testing.T) {
			// Ten users a page, so that the company fills several.
			real := airflowtest.RealForTest(t, release.Airflow, "AIRFLOW__API__MAXIMUM_PAGE_LIMIT=10")
			target := airflowtest.Target{URL: real.URL, Airflow: release.Airflow, FAB: release.FAB}
			t.Run("sync", func(t *testing.T) { testSync(t, real.URL) })
			t.Run("grants", func(t *testing.T) { testGrants(t, real.URL) })
			t.Run("accounts", func(t *testing.T) { testAccounts(t, real.URL) })
			t.Run("refusals", func(t *testing.T) { testRefusals(t, real.URL) })
			t.Run("action", func(t *testing.T) { testAction(t, real.URL) })
			t.Run("usage", func(t *testing.T) { testUsage(t, real.URL, release) })
			t.Run("user deleted between pages", func(t *testing.T) { testDeletedBetweenPages(t, real.URL) })
			t.Run("restart in mid-sync", func(t *testing.T) { testRestart(t, real) })
			t.Run("contract", func(t *testing.T) { airflowtest.Contract(t, target) })
			t.Run("50 at once", func(t *testing.T) { testConcurrency(t, real.URL) }) // last: it leaves its roles behind
		})
	}
}

// connectorFor is the connector with its least-privilege account.
func connectorFor(t *testing.T, baseURL string) connectortest.Connector {
	t.Helper()
	program, err := batonAirflow()
	if err != nil {
		t.Fatal(err)
	}
	airlock := airflowtest.Company().User("airlock")
	return connectortest.New(program, t.TempDir(), baseURL, airlock.Username, airlock.Password)
}

func admin(t *testing.T, baseURL string) *airflow.Client {
	t.Helper()
	u := airflowtest.Company().User("admin")
	c, err := airflow.New(airflow.Config{BaseURL: baseURL, Username: u.Username, Password: u.Password})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sync1(t *testing.T, c connectortest.Connector) connectortest.Found {
	t.Helper()
	found, err := c.Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func run(t *testing.T, c connectortest.Connector, args ...string) string {
	t.Helper()
	log, err := c.Run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// batonJSON asks the SDK's own command line about what a sync found.
func batonJSON(t *testing.T, c connectortest.Connector, out any, args ...string) {
	t.Helper()
	program, err := baton()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, append(args, "-o", "json", "-f", c.File())...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	answer, err := cmd.Output()
	if err != nil {
		t.Fatalf("baton %v: %v: %s", args, err, stderr.String())
	}
	if err := json.Unmarshal(answer, out); err != nil {
		t.Fatalf("baton %v: %v: %.200s", args, err, answer)
	}
}

// testSync syncs twice, compares, and holds what was found against the company.
func testSync(t *testing.T, baseURL string) {
	c := connectorFor(t, baseURL)
	found := sync1(t, c)
	again := sync1(t, c)
	for _, ids := range [][2][]string{
		{keys(found.Resources), keys(again.Resources)},
		{keys(found.Entitlements), keys(again.Entitlements)},
		{keys(found.Grants), keys(again.Grants)},
	} {
		if diff := cmp.Diff(ids[0], ids[1]); diff != "" {
			t.Errorf("two syncs differ (-first +second):\n%s", diff)
		}
	}

	company := airflowtest.Company()
	var users, dags []string
	assigned := map[string][]string{}
	for _, u := range company.Users {
		users = append(users, u.Username)
		for _, role := range u.Roles {
			assigned[role] = append(assigned[role], u.Username)
		}
	}
	for _, d := range company.DAGs {
		dags = append(dags, d.ID)
	}
	if diff := cmp.Diff(sorted(users), found.Of("user")); diff != "" {
		t.Errorf("users (-company +found):\n%s", diff)
	}
	if diff := cmp.Diff(sorted(dags), found.Of("dag")); diff != "" {
		t.Errorf("DAGs (-company +found):\n%s", diff)
	}
	for role, members := range assigned {
		if diff := cmp.Diff(sorted(members), found.Holders("role:"+role+":assigned", "user")); diff != "" {
			t.Errorf("who has %s (-company +found):\n%s", role, diff)
		}
	}
	totals := found.Resources["instance:airflow"].GetProfile().AsMap()
	for key, want := range map[string]int{"users_total": len(found.Of("user")), "roles_total": len(found.Of("role")), "dags_total": len(found.Of("dag"))} {
		if got, _ := totals[key].(float64); int(got) != want {
			t.Errorf("the instance says %s = %v, and %d were found", key, totals[key], want)
		}
	}
	// Who can edit a DAG: by a role that names it, or by one that may edit all.
	want := map[string]bool{}
	for _, r := range rolesThat(t, baseURL, "can_edit", "DAGs", "DAG:payroll_close") {
		for _, u := range assigned[r] {
			want[u] = true
		}
	}
	if diff := cmp.Diff(keys(want), found.Holders("dag:payroll_close:can_edit", "user")); diff != "" {
		t.Errorf("who can edit payroll_close (-Airflow's roles +found):\n%s", diff)
	}
}

// rolesThat are the roles which permit an action on one of the resources.
func rolesThat(t *testing.T, baseURL, action string, resources ...string) []string {
	t.Helper()
	var names []string
	for role, err := range admin(t, baseURL).Roles(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(role.Permissions, func(p airflow.Permission) bool {
			return p.Action == action && slices.Contains(resources, p.Resource)
		}) {
			names = append(names, role.Name)
		}
	}
	return names
}

// testGrants is the official check of grants, step by step.
func testGrants(t *testing.T, baseURL string) {
	const entitlement, principal = "role:Op:assigned", "eve"
	c := connectorFor(t, baseURL)
	grantID := func() string {
		var answer struct {
			Grants []struct {
				Grant     struct{ ID string }
				Principal struct {
					ID struct{ Resource string }
				}
			}
		}
		batonJSON(t, c, &answer, "grants", "--entitlement", entitlement)
		for _, g := range answer.Grants {
			if g.Principal.ID.Resource == principal {
				return g.Grant.ID
			}
		}
		return ""
	}
	give := []string{"--grant-entitlement", entitlement, "--grant-principal", principal, "--grant-principal-type", "user"}

	if out := run(t, c, "capabilities"); !strings.Contains(out, "CAPABILITY_PROVISION") {
		t.Errorf("capabilities don't say that it provisions: %s", out)
	}
	sync1(t, c)
	if id := grantID(); id != "" {
		t.Fatalf("%s has the role before: %s", principal, id)
	}
	run(t, c, give...)
	sync1(t, c)
	id := grantID()
	if want := entitlement + ":user:" + principal; id != want {
		t.Fatalf("after the grant there is %q, want %q", id, want)
	}
	run(t, c, give...) // again
	run(t, c, "--revoke-grant", id)
	run(t, c, "--revoke-grant", id) // again
	sync1(t, c)
	if id := grantID(); id != "" {
		t.Errorf("after the revoke there still is %s", id)
	}
	run(t, c, give...)
	sync1(t, c)
	if grantID() == "" {
		t.Error("after the second grant there is none")
	}
	run(t, c, "--revoke-grant", id)
	if u, err := admin(t, baseURL).User(t.Context(), principal); err != nil || !slices.Equal(u.Roles, []string{"Viewer"}) {
		t.Errorf("in the end %s has %v, %v", principal, u.Roles, err)
	}
}

// testAccounts is the official check of accounts, step by step.
func testAccounts(t *testing.T, baseURL string) {
	c := connectorFor(t, baseURL)
	matches := func() (n int) {
		var answer struct {
			Resources []struct {
				Resource struct {
					ID          struct{ Resource string }
					Annotations []struct {
						Emails []struct{ Address string }
						Login  string
					}
				}
			}
		}
		batonJSON(t, c, &answer, "resources", "-t", "user")
		for _, r := range answer.Resources {
			for _, a := range r.Resource.Annotations {
				if a.Login == "greta" && len(a.Emails) == 1 && a.Emails[0].Address == "greta@example.com" {
					n++
				}
			}
		}
		return n
	}
	create := []string{
		"--create-account-login", "greta", "--create-account-email", "greta@example.com",
		"--create-account-profile", `{"first_name":"Greta","last_name":"Olsen"}`,
	}
	sync1(t, c)
	if n := matches(); n != 0 {
		t.Fatalf("the account is there before, %d times", n)
	}
	run(t, c, create...)
	sync1(t, c)
	if n := matches(); n != 1 {
		t.Fatalf("the account is there %d times, want once", n)
	}
	u, err := admin(t, baseURL).User(t.Context(), "greta")
	if err != nil || u.FirstName != "Greta" || u.LastName != "Olsen" || !slices.Equal(u.Roles, []string{"Viewer"}) || !u.Active {
		t.Errorf("in Airflow it is %+v, %v", u, err)
	}
	run(t, c, create...) // there already: reported, and left as it is
	run(t, c, "--rotate-credentials", "greta", "--rotate-credentials-type", "user")
	run(t, c, "--delete-resource", "greta", "--delete-resource-type", "user")
	run(t, c, "--delete-resource", "greta", "--delete-resource-type", "user") // again
	sync1(t, c)
	if n := matches(); n != 0 {
		t.Errorf("after the delete the account is there %d times", n)
	}
}

// testRefusals asks for what must not be done, and looks that it wasn't.
func testRefusals(t *testing.T, baseURL string) {
	c := connectorFor(t, baseURL)
	before := sync1(t, c)
	refuse := func(want string, args ...string) {
		t.Helper()
		if log, err := c.Run(t.Context(), args...); err == nil || !strings.Contains(log, want) {
			t.Errorf("%v: %v, want a refusal that says %q in %.2000s", args, err, want, log)
		}
	}
	refuse("own account", "--revoke-grant", "role:airlock-connector:assigned:user:airlock")
	refuse("own account", "--delete-resource", "airlock", "--delete-resource-type", "user")
	refuse("built-in", "--delete-resource", "Viewer", "--delete-resource-type", "role")

	// Two active admins: one may go, then the other may not.
	run(t, c, "--revoke-grant", "role:Admin:assigned:user:kofi.mensah")
	refuse("last active admin", "--revoke-grant", "role:Admin:assigned:user:admin")
	refuse("last active admin", "--delete-resource", "admin", "--delete-resource-type", "user")
	run(t, c, "--grant-entitlement", "role:Admin:assigned", "--grant-principal", "kofi.mensah", "--grant-principal-type", "user")

	after := sync1(t, c)
	if diff := cmp.Diff(keys(before.Grants), keys(after.Grants)); diff != "" {
		t.Errorf("something changed (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(keys(before.Resources), keys(after.Resources)); diff != "" {
		t.Errorf("something changed (-before +after):\n%s", diff)
	}
}

func testAction(t *testing.T, baseURL string) {
	c := connectorFor(t, baseURL)
	roles := airflowtest.Company().User("omar.haddad").Roles
	run(t, c, "--invoke-action", "revoke_all_roles", "--invoke-action-args", `{"user_id":"omar.haddad"}`)
	u, err := admin(t, baseURL).User(t.Context(), "omar.haddad")
	if err != nil || len(u.Roles) != 0 {
		t.Errorf("his roles are %v, %v, want none", u.Roles, err)
	}
	for _, role := range roles {
		if _, _, err := admin(t, baseURL).AddRole(t.Context(), "omar.haddad", role); err != nil {
			t.Error(err)
		}
	}
}

// testUsage has a person use a DAG, and looks for it in the event feed.
func testUsage(t *testing.T, baseURL string, release airflowtest.Release) {
	company := airflowtest.Company()
	program, err := batonAirflow()
	if err != nil {
		t.Fatal(err)
	}
	// The event log is for who may read it, and that is an admin.
	c := connectortest.New(program, t.TempDir(), baseURL, "admin", company.User("admin").Password)
	sync1(t, c)

	const dag = "payroll_close"
	was := pause(t, baseURL, release, dag, true)
	t.Cleanup(func() { pause(t, baseURL, release, dag, was) })
	log := run(t, c, "--event-feed=true", "--event-feed-id", "dag_usage")
	if !strings.Contains(log, dag) || !strings.Contains(log, `"admin"`) {
		t.Errorf("the feed doesn't tell that admin used %s: %.3000s", dag, log)
	}
}

// pause pauses a DAG as the admin would, and tells whether it was.
func pause(t *testing.T, baseURL string, release airflowtest.Release, dag string, paused bool) (was bool) {
	t.Helper()
	for _, d := range airflowtest.Company().DAGs {
		if d.ID == dag {
			was = d.Paused
		}
	}
	path := "/api/v2/dags/" + dag
	if strings.HasPrefix(release.Airflow, "2.") {
		path = "/api/v1/dags/" + dag
	}
	body := fmt.Sprintf(`{"is_paused":%t}`, paused)
	ctx := context.WithoutCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, baseURL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	u := airflowtest.Company().User("admin")
	if strings.HasPrefix(release.Airflow, "2.") {
		req.SetBasicAuth(u.Username, u.Password)
	} else {
		req.Header.Set("Authorization", "Bearer "+token(t, baseURL, u))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("pause %s: %s", dag, resp.Status)
	}
	return was
}

func token(t *testing.T, baseURL string, u airflowtest.CompanyUser) string {
	t.Helper()
	body, err := json.Marshal(map[string]string{"username": u.Username, "password": u.Password})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, baseURL+"/auth/token", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("no token: %s, %v", resp.Status, err)
	}
	return answer.AccessToken
}

// between is a proxy in front of an Airflow that does something once, after the
// first page of users was answered and before anything else is.
func between(t *testing.T, baseURL string, do func()) string {
	t.Helper()
	to, err := url.Parse(baseURL)
	if err != nil {
		t.Fatal(err)
	}
	var pages atomic.Int32
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	proxy.ModifyResponse = func(resp *http.Response) error {
		if resp.Request.URL.Path == "/auth/fab/v1/users" && resp.Request.URL.Query().Get("limit") != "" && resp.StatusCode == http.StatusOK && pages.Add(1) == 1 {
			do()
		}
		return nil
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return server.URL
}

// testDeletedBetweenPages deletes somebody of the first page when that was read:
// all that follow move up by one. Nobody else may be missing.
func testDeletedBetweenPages(t *testing.T, baseURL string) {
	c := admin(t, baseURL)
	first, err := c.UsersPage(t.Context(), airflow.Cursor{})
	if err != nil || first.Next == nil {
		t.Fatalf("the users must fill several pages: %+v, %v", first, err)
	}
	gone := first.Items[len(first.Items)/2]
	var deleted error
	proxied := connectorFor(t, between(t, baseURL, func() { deleted = c.DeleteUser(context.Background(), gone.Username) }))
	found := sync1(t, proxied)
	if deleted != nil {
		t.Fatal(deleted)
	}
	for _, u := range airflowtest.Company().Users {
		if _, ok := found.Resources["user:"+u.Username]; !ok && u.Username != gone.Username {
			t.Errorf("%s is missing", u.Username)
		}
		for _, role := range u.Roles {
			if _, ok := found.Grants["role:"+role+":assigned:user:"+u.Username]; !ok && u.Username != gone.Username {
				t.Errorf("that %s has %s is missing", u.Username, role)
			}
		}
	}
	was := airflowtest.Company().User(gone.Username)
	password := was.Password
	if password == "" {
		password = "of-the-test"
	}
	if len(gone.Roles) == 0 || !was.Active {
		t.Fatalf("%s can't be made again as it was: choose another for this test", gone.Username)
	}
	if _, err := c.CreateUser(t.Context(), gone, password); err != nil {
		t.Fatal(err)
	}
}

// testRestart restarts Airflow, with other keys for its tokens, when the first
// page of users was read.
func testRestart(t *testing.T, real *airflowtest.Real) {
	var restarted error
	c := connectorFor(t, between(t, real.URL, func() {
		restarted = errors.Join(real.Stop(), os.Remove(filepath.Join(real.Dir, "secrets.json")), real.Restart(context.Background()))
	}))
	found := sync1(t, c)
	if restarted != nil {
		t.Fatal(restarted)
	}
	if got, want := len(found.Of("user")), len(airflowtest.Company().Users); got != want {
		t.Errorf("%d users, want %d", got, want)
	}
}

// testConcurrency asks for 50 changes of one user at once.
func testConcurrency(t *testing.T, baseURL string) {
	c := admin(t, baseURL)
	const username = "aroha.ngata"
	var have, want []string
	for i := range 50 {
		name := fmt.Sprintf("shift-%02d", i)
		if _, err := c.CreateRole(t.Context(), airflow.Role{Name: name}); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			have = append(have, name)
		} else {
			want = append(want, name)
		}
	}
	if _, _, err := c.ChangeRoles(t.Context(), username, func(airflow.User) ([]string, error) { return have, nil }); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, role := range have {
		wg.Go(func() {
			if _, _, err := c.RemoveRole(t.Context(), username, role); err != nil {
				t.Error(err)
			}
		})
	}
	for _, role := range want {
		wg.Go(func() {
			if _, _, err := c.AddRole(t.Context(), username, role); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	u, err := c.User(t.Context(), username)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, sorted(u.Roles)); diff != "" {
		t.Errorf("roles (-asked for +found):\n%s", diff)
	}
	if _, _, err := c.ChangeRoles(t.Context(), username, func(airflow.User) ([]string, error) { return nil, nil }); err != nil {
		t.Error(err)
	}
}

func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}
