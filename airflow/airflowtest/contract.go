package airflowtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"airlock/airflow"
)

// Target is an Airflow that holds the company of company.json, as its prepared
// home has it: in memory or a real one.
type Target struct {
	// URL is its base URL.
	URL string
	// Airflow and FAB are the versions it should say it is.
	Airflow, FAB string
}

// client signs in as somebody of the company.
func (target Target) client(t *testing.T, username string) *airflow.Client {
	t.Helper()
	return target.clientWith(t, username, Company().User(username).Password)
}

func (target Target) clientWith(t *testing.T, username, password string) *airflow.Client {
	t.Helper()
	c, err := airflow.New(airflow.Config{BaseURL: target.URL, Username: username, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Contract checks that an Airflow behaves as package airflow takes it to behave.
// The one in memory and the real ones run the same checks, so that the former
// can't drift from the truth. It leaves the company as it was.
func Contract(t *testing.T, target Target) {
	t.Run("says what it is", target.saysWhatItIs)
	t.Run("lists everybody", target.listsEverybody)
	t.Run("lists roles and what they may do", target.listsRoles)
	t.Run("lists DAGs", target.listsDAGs)
	t.Run("lists permissions", target.listsPermissions)
	t.Run("reads one", target.readsOne)
	t.Run("refuses a wrong password", target.refusesWrongPassword)
	t.Run("names the missing permission", target.namesMissingPermission)
	t.Run("least privilege is enough", target.leastPrivilege)
	t.Run("adds and removes a role", target.addsAndRemovesRole)
	t.Run("ends concurrent changes in what was asked", target.concurrentChanges)
	t.Run("creates and deletes a user", target.createsAndDeletesUser)
	t.Run("sets a password", target.setsPassword)
	t.Run("creates and deletes a role", target.createsAndDeletesRole)
	t.Run("reads the event log", target.readsEventLog)
}

func (target Target) saysWhatItIs(t *testing.T) {
	server, err := target.client(t, "admin").Server(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	credentials := "bearer"
	switch {
	case older(target.FAB, 3, 0) || target.FAB == "3.0.1":
		credentials = "basic"
	case older(target.FAB, 3, 2):
		credentials = "bearer and basic"
	}
	if got, want := server.String(), fmt.Sprintf("Airflow %s, FAB %s, %s", target.Airflow, target.FAB, credentials); got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
}

// older reports whether a version is before major.minor.
func older(version string, major, minor int) bool {
	var a, b int
	if _, err := fmt.Sscanf(version, "%d.%d", &a, &b); err != nil {
		panic(fmt.Sprintf("airflowtest: %q is no version", version))
	}
	return a < major || a == major && b < minor
}

func (target Target) listsEverybody(t *testing.T) {
	want := map[string]CompanyUser{}
	for _, u := range Company().Users {
		want[u.Username] = u
	}
	for u, err := range target.client(t, "admin").Users(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		w, ok := want[u.Username]
		if !ok {
			t.Errorf("%s isn't of the company", u.Username)
			continue
		}
		delete(want, u.Username)
		if u.Email != w.Email || u.FirstName != w.FirstName || u.LastName != w.LastName || u.Active != w.Active || !sameSet(u.Roles, w.Roles) {
			t.Errorf("got %+v, want %+v", u, w)
		}
		if u.Created.IsZero() {
			t.Errorf("%s has no time of creation", u.Username)
		}
	}
	for name := range want {
		t.Errorf("%s is missing", name)
	}
}

func (target Target) listsRoles(t *testing.T) {
	got := map[string]airflow.Role{}
	for r, err := range target.client(t, "admin").Roles(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got[r.Name] = r
	}
	for _, builtIn := range []string{"Admin", "Op", "User", "Viewer", "Public"} {
		if _, ok := got[builtIn]; !ok {
			t.Errorf("the role %s is missing", builtIn)
		}
	}
	for _, p := range []airflow.Permission{{Action: "can_edit", Resource: "Users"}, {Action: "can_read", Resource: "Audit Logs"}} {
		if !slices.Contains(got["Admin"].Permissions, p) {
			t.Errorf("Admin lacks %s", p)
		}
	}
	company := Company()
	if want := len(company.Roles) + 5; len(got) != want {
		t.Errorf("%d roles, want %d", len(got), want)
	}
	for _, want := range company.Roles {
		for _, p := range want.Permissions {
			if !slices.Contains(got[want.Name].Permissions, airflow.Permission{Action: p[0], Resource: p[1]}) {
				t.Errorf("%s lacks %v", want.Name, p)
			}
		}
	}
	for _, dag := range company.DAGs {
		for role, access := range dag.AccessControl {
			for _, action := range access["DAGs"] {
				if p := (airflow.Permission{Action: action, Resource: "DAG:" + dag.ID}); !slices.Contains(got[role].Permissions, p) {
					t.Errorf("%s lacks %s", role, p)
				}
			}
		}
	}
}

func (target Target) listsDAGs(t *testing.T) {
	want := map[string]CompanyDAG{}
	for _, d := range Company().DAGs {
		want[d.ID] = d
	}
	for d, err := range target.client(t, "admin").DAGs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		w, ok := want[d.ID]
		if !ok {
			t.Errorf("%s isn't of the company", d.ID)
			continue
		}
		delete(want, d.ID)
		if d.Paused != w.Paused || d.Stale || !sameSet(d.Owners, w.Owners) || !sameSet(d.Tags, w.Tags) {
			t.Errorf("got %+v, want %+v", d, w)
		}
	}
	for id := range want {
		t.Errorf("%s is missing", id)
	}
}

func (target Target) listsPermissions(t *testing.T) {
	found := map[airflow.Permission]bool{}
	for p, err := range target.client(t, "admin").Permissions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		found[p] = true
	}
	want := airflow.Permission{Action: "can_edit", Resource: "Users"}
	if older(target.FAB, 3, 3) {
		want.Resource = ""
	}
	if !found[want] {
		t.Errorf("%q is not among the %d permissions", want, len(found))
	}
}

func (target Target) readsOne(t *testing.T) {
	c := target.client(t, "admin")
	u, err := c.User(t.Context(), "EVE")
	if err != nil || u.Username != "eve" || !u.HasRole("Viewer") {
		t.Errorf("EVE is %+v, %v", u, err)
	}
	if _, err := c.User(t.Context(), "nobody"); !airflow.Is(err, airflow.NotFound) {
		t.Errorf("nobody: %v, want NotFound", err)
	}
	for _, name := range []string{"a/b", "..", ""} {
		if _, err := c.User(t.Context(), name); !airflow.Is(err, airflow.Invalid) {
			t.Errorf("user %q: %v, want Invalid", name, err)
		}
		if _, err := c.Role(t.Context(), name); !airflow.Is(err, airflow.Invalid) {
			t.Errorf("role %q: %v, want Invalid", name, err)
		}
	}
	if r, err := c.Role(t.Context(), "payroll-editor"); err != nil || r.Name != "payroll-editor" || len(r.Permissions) == 0 {
		t.Errorf("payroll-editor is %+v, %v", r, err)
	}
	for _, name := range []string{"nobody", "PAYROLL-EDITOR", "a b?c#d%41"} {
		if _, err := c.Role(t.Context(), name); !airflow.Is(err, airflow.NotFound) {
			t.Errorf("role %q: %v, want NotFound", name, err)
		}
	}
}

func (target Target) refusesWrongPassword(t *testing.T) {
	for u, err := range target.clientWith(t, "admin", "wrong").Users(t.Context()) {
		if !airflow.Is(err, airflow.Unauthenticated) {
			t.Errorf("got %v, %v, want Unauthenticated", u, err)
		}
		break
	}
}

func (target Target) namesMissingPermission(t *testing.T) {
	c := target.client(t, "eve") // a Viewer
	_, _, added := c.AddRole(t.Context(), "eve", "Admin")
	_, listed := c.UsersPage(t.Context(), airflow.Cursor{})
	_, roles := c.RolesPage(t.Context(), airflow.Cursor{})
	_, _, events := c.Events(t.Context(), time.Time{}, 0, 10, nil)
	var permissions error
	for _, err := range c.Permissions(t.Context()) {
		permissions = err
	}
	readsPermissions := "can_read on Roles"
	if older(target.FAB, 3, 3) {
		readsPermissions = "can_read on Permissions"
	}
	for _, call := range []struct {
		name string
		err  error
		want string
	}{
		{"add a role", added, "can_read on Users"},
		{"list users", listed, "can_read on Users"},
		{"list roles", roles, "can_read on Roles"},
		{"read events", events, "can_read on Audit Logs"},
		{"list permissions", permissions, readsPermissions},
	} {
		if !airflow.Is(call.err, airflow.Forbidden) || !strings.Contains(call.err.Error(), call.want) {
			t.Errorf("%s: %v, want Forbidden for lack of %s", call.name, call.err, call.want)
		}
	}
}

func (target Target) leastPrivilege(t *testing.T) {
	c := target.client(t, "airlock")
	server, err := c.Server(t.Context())
	if err != nil || server.FAB == "" {
		t.Errorf("it is %s, %v: the version is told, or what the endpoints show", server, err)
	}
	me, err := c.Me(t.Context())
	if tells := !older(target.Airflow, 3, 2); err != nil || me != map[bool]string{true: "airlock"}[tells] {
		t.Errorf("it is told to be %q, %v", me, err)
	}
	n := 0
	for _, err := range c.Users(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if want := len(Company().Users); n != want {
		t.Errorf("%d users, want %d", n, want)
	}
	if _, err := c.RolesPage(t.Context(), airflow.Cursor{}); err != nil {
		t.Error(err)
	}
	if p, err := c.DAGsPage(t.Context(), airflow.Cursor{}); err != nil || p.Total != len(Company().DAGs) {
		t.Errorf("%d DAGs, %v", p.Total, err)
	}
	if _, _, err := c.AddRole(t.Context(), "aroha.ngata", "Viewer"); err != nil {
		t.Error(err)
	}
	if _, _, err := c.RemoveRole(t.Context(), "aroha.ngata", "Viewer"); err != nil {
		t.Error(err)
	}
}

func (target Target) addsAndRemovesRole(t *testing.T) {
	c := target.client(t, "admin")
	for _, step := range []struct {
		do   func(ctx context.Context, username, role string) (before, after airflow.User, err error)
		want []string
	}{
		{c.AddRole, []string{"Viewer", "finance-viewer"}},
		{c.AddRole, []string{"Viewer", "finance-viewer"}},
		{c.RemoveRole, []string{"Viewer"}},
		{c.RemoveRole, []string{"Viewer"}},
	} {
		if _, after, err := step.do(t.Context(), "eve", "finance-viewer"); err != nil || !sameSet(after.Roles, step.want) {
			t.Fatalf("roles are %v, %v, want %v", after.Roles, err, step.want)
		}
		if u, err := c.User(t.Context(), "eve"); err != nil || !sameSet(u.Roles, step.want) || u.FirstName != "Eve" || !u.Active {
			t.Fatalf("read back: %+v, %v", u, err)
		}
	}
	if _, _, err := c.AddRole(t.Context(), "eve", "no such role"); !airflow.Is(err, airflow.Invalid) {
		t.Errorf("unknown role: %v, want Invalid", err)
	}
	if _, _, err := c.AddRole(t.Context(), "nobody", "Viewer"); !airflow.Is(err, airflow.NotFound) {
		t.Errorf("unknown user: %v, want NotFound", err)
	}
}

// concurrentChanges adds several roles at once, then removes them at once.
func (target Target) concurrentChanges(t *testing.T) {
	c := target.client(t, "admin")
	var wg sync.WaitGroup
	add := []string{"Op", "User", "finance-viewer", "payroll-editor", "data-engineer", "ml-engineer"}
	for _, role := range add {
		wg.Go(func() {
			if _, _, err := c.AddRole(t.Context(), "aroha.ngata", role); err != nil {
				t.Errorf("add %s: %v", role, err)
			}
		})
	}
	wg.Wait()
	if u, err := c.User(t.Context(), "aroha.ngata"); err != nil || !sameSet(u.Roles, add) {
		t.Errorf("roles are %v, %v, want %v", u.Roles, err, add)
	}
	for _, role := range add {
		wg.Go(func() {
			if _, _, err := c.RemoveRole(t.Context(), "aroha.ngata", role); err != nil {
				t.Errorf("remove %s: %v", role, err)
			}
		})
	}
	wg.Wait()
	if u, err := c.User(t.Context(), "aroha.ngata"); err != nil || len(u.Roles) != 0 {
		t.Errorf("roles are %v, %v, want none", u.Roles, err)
	}
}

func (target Target) createsAndDeletesUser(t *testing.T) {
	c := target.client(t, "airlock")
	new := airflow.User{Username: "Frida K+1@b c", Email: "frida@example.com", FirstName: "Frida", LastName: "K", Roles: []string{"Viewer", "finance-viewer"}}
	made, err := c.CreateUser(t.Context(), new, "frida-of-the-test")
	if err != nil {
		t.Fatal(err)
	}
	if made.Username != new.Username || made.Email != new.Email || !sameSet(made.Roles, new.Roles) || !made.Active {
		t.Errorf("made %+v, want %+v", made, new)
	}
	if _, err := c.CreateUser(t.Context(), new, "frida-of-the-test"); !airflow.Is(err, airflow.Conflict) {
		t.Errorf("again: %v, want Conflict", err)
	}
	unknown := new
	unknown.Username, unknown.Email, unknown.Roles = "gus", "gus@example.com", []string{"no such role"}
	if _, err := c.CreateUser(t.Context(), unknown, "gus"); !airflow.Is(err, airflow.Invalid) {
		t.Errorf("unknown role: %v, want Invalid", err)
	}
	unknown.Roles = nil
	if _, err := c.CreateUser(t.Context(), unknown, "gus"); !airflow.Is(err, airflow.Invalid) {
		t.Errorf("no role: %v, want Invalid", err)
	}
	if err := c.DeleteUser(t.Context(), new.Username); err != nil {
		t.Fatal(err)
	}
	if _, err := c.User(t.Context(), new.Username); !airflow.Is(err, airflow.NotFound) {
		t.Errorf("after delete: %v, want NotFound", err)
	}
	if err := c.DeleteUser(t.Context(), new.Username); !airflow.Is(err, airflow.NotFound) {
		t.Errorf("delete again: %v, want NotFound", err)
	}
}

func (target Target) setsPassword(t *testing.T) {
	old := Company().User("hannah.weiss").Password
	c := target.client(t, "admin")
	for _, password := range []string{"another-of-the-test", old} {
		if err := c.SetPassword(t.Context(), "hannah.weiss", password); err != nil {
			t.Fatal(err)
		}
		// She may not list users; what counts is that she is known.
		_, err := target.clientWith(t, "hannah.weiss", password).UsersPage(t.Context(), airflow.Cursor{})
		if !airflow.Is(err, airflow.Forbidden) {
			t.Errorf("with the new password: %v, want Forbidden", err)
		}
	}
	if u, err := c.User(t.Context(), "hannah.weiss"); err != nil || !sameSet(u.Roles, Company().User("hannah.weiss").Roles) {
		t.Errorf("her roles are %v, %v", u.Roles, err)
	}
}

func (target Target) createsAndDeletesRole(t *testing.T) {
	c := target.client(t, "admin")
	want := airflow.Role{Name: "night shift", Permissions: []airflow.Permission{{Action: "can_read", Resource: "DAGs"}, {Action: "can_edit", Resource: "DAGs"}}}
	made, err := c.CreateRole(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range want.Permissions {
		if !slices.Contains(made.Permissions, p) {
			t.Errorf("made %v, want %v", made, want)
		}
	}
	if _, err := c.CreateRole(t.Context(), want); !airflow.Is(err, airflow.Conflict) {
		t.Errorf("again: %v, want Conflict", err)
	}
	bad := airflow.Role{Name: "bad", Permissions: []airflow.Permission{{Action: "can_fly", Resource: "DAGs"}}}
	if _, err := c.CreateRole(t.Context(), bad); !airflow.Is(err, airflow.Invalid) {
		t.Errorf("unknown action: %v, want Invalid", err)
	}
	err = c.DeleteRole(t.Context(), want.Name)
	if !DeletesRoles(target.FAB) {
		if !airflow.Is(err, airflow.Unavailable) || !strings.Contains(err.Error(), "still there") {
			t.Errorf("delete: %v, want it to say that the role is still there", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteRole(t.Context(), want.Name); !airflow.Is(err, airflow.NotFound) {
		t.Errorf("delete again: %v, want NotFound", err)
	}
}

func (target Target) readsEventLog(t *testing.T) {
	c := target.client(t, "admin")
	read := func(after time.Time, offset, limit int, except ...string) []airflow.Event {
		t.Helper()
		events, _, err := c.Events(t.Context(), after, offset, limit, except)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range events {
			if e.Time.IsZero() || e.Name == "" || i > 0 && e.ID <= events[i-1].ID || slices.Contains(except, e.Name) || !e.Time.After(after) {
				t.Errorf("event %d after %v without %v is %+v", i, after, except, e)
			}
		}
		return events
	}
	all := read(time.Time{}, 0, 100)
	if len(all) < 2 {
		t.Fatalf("only %d events", len(all))
	}
	if some := read(time.Time{}, 1, 1); len(some) != 1 || some[0] != all[1] {
		t.Errorf("the second alone is %+v, want %+v", some, all[1])
	}
	if some := read(time.Time{}, 0, 100, all[0].Name, "no such event"); len(some) >= len(all) {
		t.Errorf("without %s there are %d of %d", all[0].Name, len(some), len(all))
	}
	if some := read(all[0].Time, 0, 100); len(some) >= len(all) {
		t.Errorf("after %v there are %d of %d", all[0].Time, len(some), len(all))
	}
}

// DeletesRoles reports whether that version of FAB can delete a role by its API:
// 3.0.2 to 3.5 answer 500 and don't.
func DeletesRoles(fab string) bool {
	return older(fab, 3, 0) || fab == "3.0.1" || !older(fab, 3, 6)
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
