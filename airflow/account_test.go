package airflow_test

import (
	"errors"
	"testing"

	"airlock/airflow"
	"airlock/airflow/airflowtest"
)

// basicReleases are those whose users endpoint takes username and password.
func basicReleases() (all []airflowtest.Profile) {
	for _, p := range airflowtest.Profiles() {
		if !p.FastAPIUsers {
			all = append(all, p)
		}
	}
	return all
}

func TestDiagnose(t *testing.T) {
	for _, p := range basicReleases() {
		for _, c := range []struct {
			name     string
			basicOff bool
			password string
			kind     airflow.Kind
			words    []string
		}{
			{"basic off", true, "admin", airflow.Precondition, []string{"are right", "basic authentication is off", "AIRFLOW__FAB__AUTH_BACKENDS", "AIRFLOW__API__AUTH_BACKENDS", "backend.basic_auth", p.Airflow}},
			{"basic off and wrong password", true, "no", airflow.Unauthenticated, []string{"is wrong"}},
			{"wrong password", false, "no", airflow.Unauthenticated, []string{"is wrong"}},
		} {
			t.Run(p.Airflow+" "+c.name, func(t *testing.T) {
				r := start(t, airflowtest.Options{Profile: p, BasicOff: c.basicOff, Path: "/login/airflow"}, as("admin", c.password))
				_, err := r.UsersPage(t.Context(), airflow.Cursor{})
				want(t, err, airflow.Unauthenticated, "AUTH_BACKENDS")
				err = r.Diagnose(t.Context(), err)
				want(t, err, c.kind, append(c.words, "list users")...)
				if n := r.srv.Count("POST /auth/token", "POST /login/"); n != 1 {
					t.Errorf("it signed in %d times, want once", n)
				}
			})
		}
		t.Run(p.Airflow+" inactive", func(t *testing.T) {
			r := start(t, airflowtest.Options{Profile: p}, as("eve", "eve"))
			r.srv.PutUser(airflowtest.User{Username: "eve", Password: "eve", Roles: []string{"Admin"}})
			_, err := r.UsersPage(t.Context(), airflow.Cursor{})
			want(t, r.Diagnose(t.Context(), err), airflow.Unauthenticated, "switched off")
		})
	}
}

// Where nothing more can be found out, the error stays what it was.
func TestDiagnoseLeavesTheRest(t *testing.T) {
	for _, p := range basicReleases() {
		r := start(t, airflowtest.Options{Profile: p, BasicOff: true})
		_, before := r.UsersPage(t.Context(), airflow.Cursor{})
		for _, act := range []airflowtest.Act{airflowtest.Status(503), airflowtest.Reset(), airflowtest.Answer(200, "text/html", "<title>Single sign-on</title>")} {
			r.srv.ClearFaults()
			r.srv.Inject(airflowtest.Fault{Path: "/login/", Times: -1, Act: act})
			r.srv.Inject(airflowtest.Fault{Path: "/auth/token", Times: -1, Act: act})
			if after := r.Diagnose(t.Context(), before); !errors.Is(after, before) {
				t.Errorf("%s: %v became %v", p, before, after)
			}
		}
		r.srv.ClearFaults()
		signedIn := r.srv.Count("POST /auth/token", "POST /login/")
		for _, err := range []error{nil, errors.New("other"), &airflow.Error{Kind: airflow.Forbidden}, &airflow.Error{Kind: airflow.Unauthenticated}} {
			if got := r.Diagnose(t.Context(), err); !errors.Is(got, err) {
				t.Errorf("%v became %v", err, got)
			}
		}
		if n := r.srv.Count("POST /auth/token", "POST /login/"); n != signedIn {
			t.Errorf("%s: it signed in for nothing", p)
		}
	}
	// A token that is refused has nothing to do with the basic backend.
	r := start(t, airflowtest.Options{Profile: airflowtest.For("3.1.6")}, func(cfg *airflow.Config) { cfg.Token = "broken" })
	_, err := r.RolesPage(t.Context(), airflow.Cursor{})
	want(t, r.Diagnose(t.Context(), err), airflow.Unauthenticated, "the token that was given")
}

func TestMe(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := start(t, airflowtest.Options{Profile: p})
		wanted := ""
		if p.Me {
			wanted = "admin"
		}
		if got, err := r.Me(t.Context()); err != nil || got != wanted {
			t.Errorf("got %q, %v, want %q", got, err, wanted)
		}
	})
	r := start(t, airflowtest.Options{}, withToken("broken"))
	_, err := r.Me(t.Context())
	want(t, err, airflow.Unauthenticated)
}
