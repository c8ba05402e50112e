package airflow_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"airlock/airflow"
	"airlock/airflow/airflowtest"
)

// An error says what was being done, what Airflow said, what that means and what to do.
func TestErrorTexts(t *testing.T) {
	for _, c := range []struct {
		name string
		act  airflowtest.Act
		kind airflow.Kind
		text string
	}{
		{"forbidden", airflowtest.Answer(403, "application/json", `{"detail":"Forbidden"}`), airflow.Forbidden, "airflow: read user eve: status 403: Forbidden: the account lacks the permission can_read on Users: give it a role that has it"},
		{"a gateway's 403", airflowtest.Answer(403, "application/json", `{"message":"Forbidden"}`), airflow.Precondition, "airflow: read user eve: status 403: something in front of airflow refused the request: let this client pass"},
		{"a proxy's 403", airflowtest.Answer(403, "text/html", "<html><title>Blocked\n by</title>"), airflow.Precondition, `airflow: read user eve: status 403: an HTML page where JSON was expected: Blocked by: something in front of airflow refused the request: let this client pass`},
		{"not found", airflowtest.Answer(404, "application/json", `{"detail":"The User with username eve was not found"}`), airflow.NotFound, "airflow: read user eve: status 404: The User with username eve was not found"},
		{"422", airflowtest.Answer(422, "application/json", `{"detail":[{"type":"missing","loc":["body","email"],"msg":"Field required","input":{"password":"x"}},{"loc":["query","limit"],"msg":"too big"}]}`), airflow.Invalid, "airflow: read user eve: status 422: [body email]: Field required; [query limit]: too big: nothing was changed"},
		{"problem", airflowtest.Answer(400, "application/problem+json", `{"detail":"'x' is not one of ['y']","status":400,"title":"Bad Request","type":"about:blank"}`), airflow.Invalid, "airflow: read user eve: status 400: 'x' is not one of ['y']: nothing was changed"},
		{"problem without detail", airflowtest.Answer(400, "application/problem+json", `{"detail":null,"status":400,"title":"Bad Request"}`), airflow.Invalid, "airflow: read user eve: status 400: nothing was changed"},
		{"error", airflowtest.Answer(400, "application/json", `{"error":"no"}`), airflow.Invalid, "airflow: read user eve: status 400: nothing was changed"},
		{"conflict", airflowtest.Answer(409, "application/json", `{"detail":"taken"}`), airflow.Conflict, "airflow: read user eve: status 409: taken"},
		{"429", airflowtest.TooManyRequests(time.Minute), airflow.Unavailable, "airflow: read user eve: status 429: it is asked too often: try again later"},
		{"500", airflowtest.Answer(500, "text/html", "<title>Ooops</title>"), airflow.Unavailable, `airflow: read user eve: status 500: an HTML page where JSON was expected: Ooops: airflow, or a proxy in front of it, has trouble: try again later, and look into its log if that stays`},
		{"500 with detail", airflowtest.Answer(500, "application/json", `{"detail":"no default role"}`), airflow.Unavailable, "airflow: read user eve: status 500: no default role: airflow, or a proxy in front of it, has trouble: try again later, and look into its log if that stays"},
		{"sign-in page", airflowtest.SignInPage(), airflow.Precondition, `airflow: read user eve: status 200: an HTML page where JSON was expected: Sign in: a proxy or a sign-in page answered in airflow's place, or the path is wrong: check the base URL, and let this client pass`},
		{"redirect", airflowtest.Redirect("https://sso.example.com/x?y"), airflow.Precondition, "airflow: read user eve: status 307: it redirects to https://sso.example.com, where the credentials were not sent: give the address of airflow itself as the base URL"},
		{"half", airflowtest.Truncate(), airflow.Unavailable, "airflow: read user eve: status 200: unexpected end of JSON input: the answer broke off, or isn't the JSON it should be: nothing of it was used"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := withEve(t, airflowtest.Options{})
			r.srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users/*", Times: -1, Act: c.act})
			_, err := r.User(t.Context(), "eve")
			want(t, err, c.kind)
			if got := fmt.Sprint(err); got != c.text {
				t.Errorf("got  %s\nwant %s", got, c.text)
			}
		})
	}
}

func TestForbiddenNamesThePermission(t *testing.T) {
	calls := map[string]func(*testing.T, rig) error{
		"can_read on Users":   func(t *testing.T, r rig) error { return second(r.User(t.Context(), "admin")) },
		"can_edit on Users":   func(t *testing.T, r rig) error { return r.SetPassword(t.Context(), "admin", "new-one") },
		"can_create on Users": func(t *testing.T, r rig) error { return second(r.CreateUser(t.Context(), frida, "se-cret")) },
		"can_delete on Users": func(t *testing.T, r rig) error { return r.DeleteUser(t.Context(), "admin") },
		"can_read on Roles":   func(t *testing.T, r rig) error { return second(r.Role(t.Context(), "Op")) },
		"can_create on Roles": func(t *testing.T, r rig) error { return second(r.CreateRole(t.Context(), airflow.Role{Name: "night"})) },
		"can_delete on Roles": func(t *testing.T, r rig) error { return r.DeleteRole(t.Context(), "Op") },
	}
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		srv := airflowtest.Start(t, airflowtest.Options{Profile: p})
		for needed, call := range calls {
			var rest []string
			for _, other := range []string{"can_read Users", "can_edit Users", "can_create Users", "can_delete Users", "can_read Roles", "can_create Roles", "can_delete Roles"} {
				if strings.Replace(other, " ", " on ", 1) != needed {
					rest = append(rest, other)
				}
			}
			srv.PutRole("rest of "+needed, airflowtest.Permissions(rest...)...)
			srv.PutUser(airflowtest.User{Username: needed, Password: "se-cret", Roles: []string{"rest of " + needed}, Active: true})
			e := want(t, call(t, join(t, srv, as(needed, "se-cret"))), airflow.Forbidden, "lacks the permission "+needed)
			if e.Needs.String() != needed {
				t.Errorf("it needs %s, want %s", e.Needs, needed)
			}
		}
	})
}

// Whatever becomes of a request, and whatever a server echoes of it: no error
// repeats a password or a token.
func TestNoErrorRepeatsASecret(t *testing.T) {
	const password, newPassword = "the-password-itself", "another-password"
	acts := map[string]airflowtest.Act{"done": func(w http.ResponseWriter, r *http.Request, api http.Handler) { api.ServeHTTP(w, r) }}
	for _, status := range []int{200, 307, 400, 401, 403, 404, 422, 503} {
		for _, kind := range []string{"application/json", "text/html"} {
			acts[fmt.Sprint(status, kind)] = func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
				body, _ := io.ReadAll(r.Body)
				echo := fmt.Sprintf("%s %s %s", r.Header.Get("Authorization"), r.URL, body)
				w.Header().Set("Location", "http://elsewhere.example.com/?"+echo)
				w.Header().Set("Content-Type", kind)
				w.WriteHeader(status)
				if kind == "application/json" {
					_ = json.NewEncoder(w).Encode(map[string]any{"detail": echo})
					return
				}
				_, _ = io.WriteString(w, "<title>"+echo+"</title>")
			}
		}
	}
	acts["half"] = airflowtest.Truncate()
	texts := 0
	for _, release := range []string{"3.3.2", "3.1.6", "2.11.2"} {
		for name, act := range acts {
			r := startInside(t, airflowtest.Options{Profile: airflowtest.For(release)}, as("eve", password))
			r.srv.PutUser(airflowtest.User{Username: "eve", Password: password, Roles: []string{"Admin"}, Active: true, FirstName: "E", LastName: "E"})
			token := r.srv.Token("eve")
			given := rig{Client: dial(t, r.srv.URL, r.clock, inside(r.srv), withToken(token))}
			for _, client := range []*airflow.Client{r.Client, given.Client} {
				if _, err := client.Server(t.Context()); err != nil && release == "3.3.2" {
					t.Fatal(err)
				}
			}
			for _, path := range []string{"/auth/token", ""} {
				if r.srv.ClearFaults(); path != "" {
					r.srv.ExpireTokens()
				}
				r.srv.Inject(airflowtest.Fault{Path: path, Times: -1, Act: act})
				for _, client := range []*airflow.Client{r.Client, given.Client} {
					c := rig{Client: client}
					made := frida
					made.Username = "made-" + name
					errs := []error{
						second(collect(c.Users(t.Context()))), second(collect(c.Roles(t.Context()))), second(collect(c.DAGs(t.Context()))), second(c.Me(t.Context())),
						second(c.CreateUser(t.Context(), made, newPassword)), c.SetPassword(t.Context(), "eve", newPassword), c.SetPassword(t.Context(), "eve", password),
						third(c.AddRole(t.Context(), "eve", "Op")), c.DeleteUser(t.Context(), "nobody"), second(c.CreateRole(t.Context(), airflow.Role{Name: "night"})),
					}
					client.Rediscover()
					errs = append(errs, second(client.Server(t.Context())))
					for _, err := range errs {
						err = errors.Join(err, client.Diagnose(t.Context(), err))
						if err == nil {
							continue
						}
						texts++
						text := fmt.Sprintf("%v %+v", err, err)
						for _, secret := range []string{password, newPassword, token, base64.StdEncoding.EncodeToString([]byte("eve:" + password))} {
							if strings.Contains(text, secret) {
								t.Errorf("%s, %s: %v", release, name, err)
							}
						}
					}
				}
			}
		}
	}
	if texts < 500 {
		t.Errorf("only %d errors came", texts)
	}
}
