package airflow_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"airlock/airflow"
	"airlock/airflow/airflowtest"
)

// reader adds somebody who may read users and roles, and nothing else.
func reader(srv *airflowtest.Server) func(*airflow.Config) {
	srv.PutRole("reader", airflowtest.Permissions("can_read Users", "can_read Roles")...)
	srv.PutUser(airflowtest.User{Username: "reader", Password: "reading", Active: true, Roles: []string{"reader"}})
	return as("reader", "reading")
}

func TestServerSaysWhatItIs(t *testing.T) {
	shown := map[string]string{
		"3.10.2": "3.3 or later", "3.6.5": "3.3 or later", "3.4.0": "3.3 or later", "3.1.2": "3.0.2 to 3.1",
		"3.0.1": "2.0 to 3.0.1", "2.4.1": "2.0 to 3.0.1", "1.5.4": "1.x", "1.5.3": "1.x",
	}
	credentials := map[string]string{"3.1.2": "bearer and basic", "3.0.1": "basic", "2.4.1": "basic", "1.5.4": "basic", "1.5.3": "basic"}
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := start(t, airflowtest.Options{Profile: p})
		c := credentials[p.FAB]
		if c == "" {
			c = "bearer"
		}
		for fab, client := range map[string]*airflow.Client{p.FAB: r.Client, shown[p.FAB]: join(t, r.srv, reader(r.srv)).Client} {
			server, err := client.Server(t.Context())
			if want := fmt.Sprintf("Airflow %s, FAB %s, %s", p.Airflow, fab, c); err != nil || server.String() != want {
				t.Errorf("it is %q, %v, want %q", server, err, want)
			}
		}
		asked := r.srv.Count()
		if _, err := r.Server(t.Context()); err != nil || r.srv.Count() != asked {
			t.Errorf("it asks again what it knows: %v", err)
		}
		r.Rediscover()
		if _, err := r.Server(t.Context()); err != nil || r.srv.Count() == asked {
			t.Errorf("it doesn't look again: %v", err)
		}
	})
}

func TestServerTakesItAsItAnswers(t *testing.T) {
	newer := airflowtest.Newest()
	newer.Airflow, newer.FAB = "4.1.0", "9.0"
	mixed := airflowtest.For("3.1.6")
	mixed.Airflow, mixed.FAB = "3.99.0", "3.99"
	old := airflowtest.For("2.11.2")
	old.Airflow, old.FAB = "2.99.0", "1.99"
	for _, c := range []struct {
		profile airflowtest.Profile
		want    string
	}{
		{newer, "Airflow 4.1.0, FAB 9.0, bearer"},
		{mixed, "Airflow 3.99.0, FAB 3.99, bearer and basic"},
		{old, "Airflow 2.99.0, FAB 1.99, basic"},
	} {
		r := start(t, airflowtest.Options{Profile: c.profile})
		server, err := r.Server(t.Context())
		if err != nil || server.String() != c.want {
			t.Errorf("it is %q, %v, want %q", server, err, c.want)
		}
		if users, err := collect(r.Users(t.Context())); err != nil || len(users) != 1 {
			t.Errorf("%s: %d users, %v", c.want, len(users), err)
		}
	}
}

// What only serves to tell FAB's version never stands in the way.
func TestServerWithoutProviders(t *testing.T) {
	for _, act := range []airflowtest.Act{
		airflowtest.Status(503), airflowtest.Status(500), airflowtest.SignInPage(), airflowtest.Reset(),
		airflowtest.Answer(200, "application/json", `{"providers":[],"total_entries":90}`),
	} {
		r := start(t, airflowtest.Options{})
		r.srv.Inject(airflowtest.Fault{Path: "/api/v2/providers", Times: -1, Act: act})
		if server, err := r.Server(t.Context()); err != nil || server.String() != "Airflow 3.3.2, FAB 3.3 or later, bearer" {
			t.Errorf("it is %q, %v", server, err)
		}
	}
	r := start(t, airflowtest.Options{PageLimit: 1})
	if server, err := r.Server(t.Context()); err != nil || server.FAB != "3.10.2" {
		t.Errorf("provider by provider it is %q, %v", server, err)
	}
}

// What keeps the client from learning which credential to show is told, not
// taken for an older version.
func TestServerWithoutOracle(t *testing.T) {
	for _, c := range []struct {
		act  airflowtest.Act
		kind airflow.Kind
		says string
	}{
		{airflowtest.Status(503), airflow.Unavailable, "503"},
		{airflowtest.Status(401), airflow.Precondition, "a proxy in front"},
		{airflowtest.Status(403), airflow.Precondition, "a proxy in front"},
		{airflowtest.Redirect("https://sso.example.com"), airflow.Precondition, "redirects to"},
		{airflowtest.Answer(200, "application/json", "{"), airflow.Unavailable, "broke off"},
	} {
		r := start(t, airflowtest.Options{})
		r.srv.Inject(airflowtest.Fault{Path: "/auth/openapi.json", Times: -1, Act: c.act})
		_, err := r.Server(t.Context())
		want(t, err, c.kind, "read which credentials airflow takes", c.says)
	}
	for _, act := range []airflowtest.Act{airflowtest.Status(404), airflowtest.SignInPage()} {
		r := start(t, airflowtest.Options{Profile: airflowtest.For("3.0.6")})
		r.srv.Inject(airflowtest.Fault{Path: "/auth/openapi.json", Times: -1, Act: act})
		if _, err := collect(r.Users(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// An Airflow whose public role may read users answers the question whether it
// has FAB with the users.
func TestServerThatIsOpenToAll(t *testing.T) {
	r := start(t, airflowtest.Options{Profile: airflowtest.For("3.0.6")})
	r.srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users", Act: airflowtest.Answer(200, "application/json", `{"users":[],"total_entries":0}`)})
	if users, err := collect(r.Users(t.Context())); err != nil || len(users) != 1 {
		t.Errorf("%d users, %v", len(users), err)
	}
}

func TestOtherAuthManagerIsRefusedByName(t *testing.T) {
	for _, manager := range []airflowtest.AuthManager{airflowtest.Simple, airflowtest.Keycloak} {
		for _, release := range []string{"3.3.2", "3.0.6"} {
			r := start(t, airflowtest.Options{Profile: airflowtest.For(release), Auth: manager})
			_, err := r.Server(t.Context())
			want(t, err, airflow.Precondition, string(manager)+" auth manager", "Airflow "+release, "FabAuthManager")
			_, err = r.UsersPage(t.Context(), airflow.Cursor{})
			want(t, err, airflow.Precondition, string(manager)+" auth manager")
			_, _, err = r.AddRole(t.Context(), "eve", "Op")
			want(t, err, airflow.Precondition, string(manager)+" auth manager")
			if n := r.srv.Count("POST /auth/token"); n > 0 {
				t.Errorf("it signed in %d times", n)
			}
		}
	}
	// Where its name can't be had, it is refused all the same.
	r := start(t, airflowtest.Options{Auth: airflowtest.Simple})
	r.srv.Inject(airflowtest.Fault{Path: "/auth/openapi.json", Times: -1, Act: airflowtest.Answer(404, "application/json", `{"detail":"Not Found"}`)})
	_, err := r.Server(t.Context())
	want(t, err, airflow.Precondition, "another auth manager")
}

func TestWhatIsNoAirflowIsToldApart(t *testing.T) {
	said := map[string]string{}
	for _, c := range []struct {
		name   string
		answer airflowtest.Act
		kind   airflow.Kind
		words  []string
	}{
		{"HTML", airflowtest.Answer(200, "text/html", "<!doctype html><title>Welcome to nginx!</title>"), airflow.Precondition, []string{"HTML page", "Welcome to nginx!", "base URL"}},
		{"HTML without a title", airflowtest.Answer(200, "text/html", "<p>"), airflow.Precondition, []string{"without a title"}},
		{"text", airflowtest.Answer(200, "text/plain", "ok"), airflow.Precondition, []string{"in airflow's place"}},
		{"other JSON", airflowtest.Answer(200, "application/json", `{"hello":"world"}`), airflow.Precondition, []string{"isn't airflow", "base URL"}},
		{"JSON of another shape", airflowtest.Answer(200, "application/json", `[1,2]`), airflow.Precondition, []string{"isn't what airflow says"}},
		{"404", airflowtest.Answer(404, "text/plain", "404 page not found"), airflow.Precondition, []string{"404", "no such endpoint", "base URL"}},
		{"404 JSON", airflowtest.Answer(404, "application/json", `{"message":"no Route matched with those values"}`), airflow.Precondition, []string{"404", "no such endpoint"}},
		{"502", airflowtest.Answer(502, "text/html", "<title>502 Bad Gateway</title>"), airflow.Unavailable, []string{"502", "Bad Gateway", "try again"}},
		{"401", airflowtest.Answer(401, "text/plain", "Unauthorized"), airflow.Precondition, []string{"401", "credential where airflow needs none"}},
		{"403", airflowtest.Answer(403, "application/json", `{"message":"Forbidden"}`), airflow.Precondition, []string{"403", "credential where airflow needs none"}},
		{"400", airflowtest.Answer(400, "text/plain", "Client sent an HTTP request to an HTTPS server."), airflow.Precondition, []string{"400", "http or https"}},
		{"redirect", airflowtest.Redirect("https://login.example.com/realms?secret=x"), airflow.Precondition, []string{"redirects to https://login.example.com,"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.answer(w, r, nil) }))
			t.Cleanup(srv.Close)
			_, err := dial(t, srv.URL, newClock()).Server(t.Context())
			want(t, err, c.kind, c.words...)
			if other, ok := said[fmt.Sprint(err)]; ok && c.name != "404 JSON" {
				t.Errorf("it is not told apart from %s: %v", other, err)
			}
			said[fmt.Sprint(err)] = c.name
			if strings.Contains(fmt.Sprint(err), "secret") {
				t.Errorf("it says more of the redirect than the host: %v", err)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		srv := httptest.NewServer(nil)
		srv.Close()
		_, err := dial(t, srv.URL, newClock()).Server(t.Context())
		want(t, err, airflow.Unavailable, "no answer", "refused", "base URL", "proxy")
	})
	t.Run("unknown certificate", func(t *testing.T) {
		srv, clock := airflowtest.Start(t, airflowtest.Options{TLS: true}), newClock()
		_, err := dial(t, srv.URL, clock).Server(t.Context())
		want(t, err, airflow.Precondition, "base URL", "CA certificate")
		if len(clock.waited()) > 0 {
			t.Error("it tried again")
		}
		trusted := x509.NewCertPool()
		trusted.AppendCertsFromPEM(srv.Certificate())
		_, err = dial(t, srv.URL, clock, func(cfg *airflow.Config) {
			cfg.HTTP = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
		}).Server(t.Context())
		if err != nil {
			t.Errorf("with the CA certificate: %v", err)
		}
	})
}

func TestBaseURLWithPath(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		srv := airflowtest.Start(t, airflowtest.Options{Profile: p, Path: "/team a/airflow"})
		for _, tail := range []string{"", "/", "/home", "/api/v2", "/auth/login/?next=x"} {
			c := dial(t, strings.Replace(srv.URL, " ", "%20", 1)+tail, newClock())
			if users, err := collect(c.Users(t.Context())); err != nil || len(users) != 1 {
				t.Errorf("%q: %d users, %v", tail, len(users), err)
			}
		}
		// Without the path there is no FAB there, and mostly no Airflow at all.
		_, err := dial(t, strings.TrimSuffix(srv.URL, "/team a/airflow"), newClock()).Server(t.Context())
		want(t, err, airflow.Precondition, "base URL")
	})
}

func TestNew(t *testing.T) {
	for _, cfg := range []airflow.Config{
		{BaseURL: "https://h"},
		{BaseURL: "https://h", Username: "admin"},
		{BaseURL: "https://h", Password: "se-cret"},
		{BaseURL: "https://h", Token: " \n"},
		{BaseURL: "h", Username: "admin", Password: "se-cret"},
	} {
		if _, err := airflow.New(cfg); err == nil || strings.Contains(err.Error(), "se-cret") {
			t.Errorf("%+v: got %v", cfg, err)
		}
	}
	for url, insecure := range map[string]bool{"http://H/x/": true, "https://H/x/": false} {
		c, err := airflow.New(airflow.Config{BaseURL: url, Token: "t"})
		if err != nil || c.Insecure() != insecure || !strings.HasSuffix(c.BaseURL(), "://h/x") {
			t.Errorf("%s: %v, %v", url, c, err)
		}
	}
}
