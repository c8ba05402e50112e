package airflow_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"airlock/airflow"
	"airlock/airflow/airflowtest"
)

func permission(action, resource string) airflow.Permission {
	return airflow.Permission{Action: action, Resource: resource}
}

func TestRoles(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := start(t, airflowtest.Options{Profile: p})
		r.srv.PutRole("night shift", airflowtest.Permissions("can_read DAGs", "can_edit DAG:payroll on time")...)
		r.srv.PutRole("nothing")
		roles, err := collect(r.Roles(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		// The oldest first, so that new ones come last.
		i := slices.IndexFunc(roles, func(role airflow.Role) bool { return role.Name == "night shift" })
		if i != len(roles)-2 || roles[i+1].Name != "nothing" {
			t.Errorf("got %v", roles)
		}
		one, err := r.Role(t.Context(), "night shift")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(one, roles[i]); diff != "" {
			t.Errorf("alone and in the list (-alone +list):\n%s", diff)
		}
		for _, p := range []airflow.Permission{permission("can_read", "DAGs"), permission("can_edit", "DAG:payroll on time")} {
			if !slices.Contains(one.Permissions, p) {
				t.Errorf("it lacks %s: %v", p, one)
			}
		}
		_, err = r.Role(t.Context(), "Night shift")
		want(t, err, airflow.NotFound, "read role Night shift")
	})
}

func TestListOfRolesMoves(t *testing.T) {
	r := start(t, airflowtest.Options{PageLimit: 3})
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		r.srv.PutRole(name)
	}
	r.srv.Before(func(request airflowtest.Request) {
		if request.Endpoint == "GET /auth/fab/v1/roles" && r.srv.Count(request.Endpoint) == 3 {
			r.srv.DeleteRole("User")
			r.srv.PutRole("AAA")
		}
	})
	roles, err := collect(r.Roles(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(roles))
	for i, role := range roles {
		names[i] = role.Name
	}
	complete(t, names, []string{"Admin", "Op", "Viewer", "Public", "a", "b", "c", "d", "e", "f", "g"})
}

func TestPermissions(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := start(t, airflowtest.Options{Profile: p, PageLimit: 20})
		all, err := collect(r.Permissions(t.Context()))
		wanted := permission("can_edit", "Users")
		if !p.FastAPIPermissions {
			wanted.Resource = ""
		}
		if err != nil || !slices.Contains(all, wanted) {
			t.Errorf("%d permissions, %v", len(all), err)
		}
		lacks := "can_read on Permissions"
		if p.FastAPIPermissions {
			lacks = "can_read on Roles"
		}
		r.srv.PutRole("half", airflowtest.Permissions("can_read Users", map[bool]string{true: "can_read Permissions", false: "can_read Roles"}[p.FastAPIPermissions])...)
		r.srv.PutUser(airflowtest.User{Username: "half", Password: "halves", Roles: []string{"half"}, Active: true})
		_, err = collect(join(t, r.srv, as("half", "halves")).Permissions(t.Context()))
		if e := want(t, err, airflow.Forbidden, "list permissions", lacks); e.Needs.String() != lacks {
			t.Errorf("it needs %s", e.Needs)
		}
	})
}

func TestCreateRole(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := start(t, airflowtest.Options{Profile: p})
		for _, wanted := range []airflow.Role{
			{Name: "night shift", Permissions: []airflow.Permission{permission("can_read", "DAGs"), permission("can_delete", "Website")}},
			{Name: "nothing"},
		} {
			made, err := r.CreateRole(t.Context(), wanted)
			if err != nil || made.Name != wanted.Name {
				t.Fatalf("made %v, %v", made, err)
			}
			for _, p := range wanted.Permissions {
				if !slices.Contains(made.Permissions, p) {
					t.Errorf("made %v, want %v", made, wanted)
				}
			}
			_, err = r.CreateRole(t.Context(), wanted)
			want(t, err, airflow.Conflict, "create role "+wanted.Name, "already exists")
		}
		_, err := r.CreateRole(t.Context(), airflow.Role{Name: "bad", Permissions: []airflow.Permission{permission("can_fly", "DAGs")}})
		want(t, err, airflow.Invalid, "can_fly", "nothing was changed")
		_, err = r.CreateRole(t.Context(), airflow.Role{Name: "bad", Permissions: []airflow.Permission{permission("can_read", "Moons")}})
		want(t, err, airflow.Invalid, "Moons")
	})
}

func TestCreateRoleIsReadBack(t *testing.T) {
	for name, c := range map[string]struct {
		act  airflowtest.Act
		kind airflow.Kind
		says string
	}{
		"answer lost":      {airflowtest.LoseAnswer(), airflow.Unavailable, "isn't known whether the role was created"},
		"500 but done":     {doneButFailed(500), airflow.Unavailable, "isn't known whether the role was created"},
		"200 but not done": {notDone(200), airflow.NotFound, "the role night was created, but not read back"},
		"a page":           {airflowtest.SignInPage(), airflow.Precondition, "HTML page"},
	} {
		r := start(t, airflowtest.Options{})
		r.srv.Inject(airflowtest.Fault{Method: http.MethodPost, Path: "/auth/fab/v1/roles", Times: -1, Act: c.act})
		_, err := r.CreateRole(t.Context(), airflow.Role{Name: "night"})
		want(t, err, c.kind, c.says)
		r.counted(t, "POST /auth/fab/v1/roles", 1)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	r := start(t, airflowtest.Options{})
	made := airflowtest.Answer(200, "application/json", `{"name":"night","actions":[]}`)
	r.srv.Inject(airflowtest.Fault{Method: http.MethodGet, Path: "/auth/fab/v1/roles/night", Times: -1, Act: made})
	_, err := r.CreateRole(t.Context(), airflow.Role{Name: "night", Permissions: []airflow.Permission{permission("can_read", "DAGs")}})
	want(t, err, airflow.Moved, "create role night", "was created without can_read on DAGs")
}

func TestDeleteRole(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := start(t, airflowtest.Options{Profile: p})
		r.srv.PutRole("night")
		err := r.DeleteRole(t.Context(), "night")
		if _, there := r.srv.Role("night"); there != p.RoleDeleteFails {
			t.Errorf("it is there: %v", there)
		}
		r.counted(t, "DELETE /auth/fab/v1/roles/{name}", 1)
		if p.RoleDeleteFails {
			want(t, err, airflow.Unavailable, "delete role night", "500", "still there", "FAB 3.0.2 to 3.5 can't delete roles")
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		want(t, r.DeleteRole(t.Context(), "night"), airflow.NotFound, "delete role night")
	})
}

func TestDeleteRoleIsReadBack(t *testing.T) {
	r := start(t, airflowtest.Options{})
	for name, act := range map[string]airflowtest.Act{"500 but done": doneButFailed(500), "answer lost": airflowtest.LoseAnswer()} {
		r.srv.PutRole("night")
		r.srv.Inject(airflowtest.Fault{Method: http.MethodDelete, Act: act})
		if err := r.DeleteRole(t.Context(), "night"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.srv.PutRole("night")
	r.srv.Inject(airflowtest.Fault{Method: http.MethodDelete, Act: notDone(200)})
	want(t, r.DeleteRole(t.Context(), "night"), airflow.Moved, "still there")
	r.srv.Inject(airflowtest.Fault{Method: http.MethodDelete, Times: -1, Act: airflowtest.Status(503)})
	want(t, r.DeleteRole(t.Context(), "night"), airflow.Unavailable, "503", "try again later")
}

func TestParsePermission(t *testing.T) {
	for _, p := range []airflow.Permission{permission("can_read", "DAGs"), permission("can_edit", "DAG:on time"), permission("menu_access", "Browse on it")} {
		if got, err := airflow.ParsePermission(p.String()); err != nil || got != p {
			t.Errorf("%s: got %s, %v", p, got, err)
		}
	}
	for _, s := range []string{"", "can_read", "can_read DAGs", " on DAGs", "can_read on ", " on "} {
		if got, err := airflow.ParsePermission(s); err == nil {
			t.Errorf("%q: got %s", s, got)
		}
	}
}
