package connector

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"airlock/airflow/airflowtest"
	"airlock/connector/config"
)

func TestNewRefusesWrongSettings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*config.Airflow)
		says   string
	}{
		"no zone":        {func(c *config.Airflow) { c.AirflowTimeZone = "Middle/Earth" }, "Middle/Earth"},
		"no certificate": {func(c *config.Airflow) { c.AirflowCaCert = []byte("hello") }, "airflow-ca-cert holds no PEM certificate"},
		"no URL":         {func(c *config.Airflow) { c.AirflowBaseUrl = "" }, "base URL is empty"},
		"another scheme": {func(c *config.Airflow) { c.AirflowBaseUrl = "ftp://airflow.example.com" }, "scheme"},
		"no credentials": {func(c *config.Airflow) { c.AirflowPassword = "" }, "credentials are missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := &config.Airflow{AirflowBaseUrl: "https://airflow.example.com", AirflowUsername: "airlock", AirflowPassword: "of the test"}
			test.change(cfg)
			if _, _, err := New(t.Context(), cfg, nil); err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "of the test") {
				t.Errorf("%v, want an error that says %q", err, test.says)
			}
		})
	}
}

// Airflow's times carry no zone; a CA of one's own is trusted beside the system's.
func TestZoneAndCA(t *testing.T) {
	t.Parallel()
	vienna, err := time.LoadLocation("Europe/Vienna")
	if err != nil {
		t.Fatal(err)
	}
	srv := withCompany(t, airflowtest.Options{TLS: true, Zone: vienna})
	eve, _ := srv.User("eve")
	eve.LastLogin = time.Date(2026, 7, 1, 10, 0, 0, 0, time.UTC)
	srv.PutUser(eve)
	if _, err := newRig(t, srv).Connector.Validate(t.Context()); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "CA certificate") {
		t.Errorf("without the CA: %v", err)
	}
	r := newRig(t, srv, func(c *config.Airflow) { c.AirflowCaCert, c.AirflowTimeZone = srv.Certificate(), "Europe/Vienna" })
	found := r.sync(t, raw)
	if got := found.Resources["user:eve"].GetProfile().AsMap()["last_login"]; got != "2026-07-01T10:00:00Z" {
		t.Errorf("she signed in last at %v", got)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	html := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html><head><title>Welcome to nginx!</title></head></html>"))
	}))
	t.Cleanup(html.Close)
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	closed := httptest.NewServer(nil)
	closed.Close()
	at := func(url string) func(*airflowtest.Server, *config.Airflow) {
		return func(_ *airflowtest.Server, c *config.Airflow) { c.AirflowBaseUrl = url }
	}
	wrongPassword := func(_ *airflowtest.Server, c *config.Airflow) { c.AirflowPassword = "wrong" }
	may := func(permissions ...string) func(*airflowtest.Server, *config.Airflow) {
		return func(srv *airflowtest.Server, _ *config.Airflow) {
			srv.PutRole("airlock-connector", airflowtest.Permissions(permissions...)...)
		}
	}
	byToken := func(srv *airflowtest.Server, c *config.Airflow) {
		c.AirflowToken, c.AirflowUsername, c.AirflowPassword = srv.Token("airlock"), "", ""
	}
	release := func(airflow string) airflowtest.Options {
		return airflowtest.Options{Profile: airflowtest.For(airflow)}
	}
	basicOff := func(airflow string) airflowtest.Options {
		return airflowtest.Options{Profile: airflowtest.For(airflow), BasicOff: true}
	}
	// What each version asks: which Airflow, FAB's version, the account and its role.
	for name, test := range map[string]struct {
		opts   airflowtest.Options
		change func(*airflowtest.Server, *config.Airflow)
		code   codes.Code // OK unless said
		says   []string
	}{
		"all is well":                {},
		"all is well, by token":      {change: byToken},
		"signed in by e-mail":        {change: func(_ *airflowtest.Server, c *config.Airflow) { c.AirflowUsername = "airlock@example.com" }},
		"a page's address pasted in": {change: func(srv *airflowtest.Server, c *config.Airflow) { c.AirflowBaseUrl = srv.URL + "/home" }},
		"nothing there":              {change: at(closed.URL), code: codes.Unavailable, says: []string{"no answer", "base URL"}},
		"not Airflow":                {change: at(other.URL), code: codes.FailedPrecondition, says: []string{"no such endpoint at this address", "base URL"}},
		"a web page":                 {change: at(html.URL), code: codes.FailedPrecondition, says: []string{"Welcome to nginx!", "HTML", "base URL"}},
		"another path": {opts: airflowtest.Options{Path: "/airflow"}, change: func(srv *airflowtest.Server, c *config.Airflow) {
			c.AirflowBaseUrl = strings.TrimSuffix(srv.URL, "/airflow")
		}, code: codes.FailedPrecondition, says: []string{"base URL"}},
		"wrong password, 3.3.2":        {change: wrongPassword, code: codes.Unauthenticated, says: []string{"username or password is wrong"}},
		"wrong password, 3.1.6":        {opts: release("3.1.6"), change: wrongPassword, code: codes.Unauthenticated, says: []string{"username or password is wrong"}},
		"wrong password, 3.0.6":        {opts: release("3.0.6"), change: wrongPassword, code: codes.Unauthenticated, says: []string{"username or password is wrong"}},
		"wrong password, 2.11.2":       {opts: release("2.11.2"), change: wrongPassword, code: codes.Unauthenticated, says: []string{"username or password is wrong"}},
		"wrong password, 2.10.5":       {opts: release("2.10.5"), change: wrongPassword, code: codes.Unauthenticated, says: []string{"username or password is wrong"}},
		"a broken token":               {change: func(_ *airflowtest.Server, c *config.Airflow) { c.AirflowToken, c.AirflowPassword = "a.b.c", "" }, code: codes.Unauthenticated, says: []string{"token"}},
		"a token where basic is taken": {opts: release("3.1.6"), change: byToken, code: codes.FailedPrecondition, says: []string{"username"}},
		"whose token it is":            {opts: release("3.1.8"), change: byToken, code: codes.FailedPrecondition, says: []string{"--airflow-username"}},
		"another's token": {change: func(srv *airflowtest.Server, c *config.Airflow) {
			byToken(srv, c)
			c.AirflowUsername = "eve"
		}, code: codes.FailedPrecondition, says: []string{"belongs to airlock, not to eve"}},
		"https where http is": {change: func(srv *airflowtest.Server, c *config.Airflow) {
			c.AirflowBaseUrl = "https" + strings.TrimPrefix(srv.URL, "http")
		}, code: codes.FailedPrecondition, says: []string{"speaks http, not https"}},
		"has a role with a slash too": {change: func(srv *airflowtest.Server, _ *config.Airflow) {
			srv.PutRole("a/b")
			srv.SetRoles("airlock", "airlock-connector", "a/b")
		}},
		"the simple auth manager":      {opts: airflowtest.Options{Auth: airflowtest.Simple}, code: codes.FailedPrecondition, says: []string{"Simple auth manager", "FAB"}},
		"Keycloak":                     {opts: airflowtest.Options{Auth: airflowtest.Keycloak}, code: codes.FailedPrecondition, says: []string{"Keycloak auth manager", "FAB"}},
		"basic is off, 3.1.6":          {opts: basicOff("3.1.6"), code: codes.FailedPrecondition, says: []string{"AIRFLOW__FAB__AUTH_BACKENDS", "basic authentication is off"}},
		"basic is off, 3.0.6":          {opts: basicOff("3.0.6"), code: codes.FailedPrecondition, says: []string{"AIRFLOW__FAB__AUTH_BACKENDS", "basic authentication is off"}},
		"basic is off, 2.11.2":         {opts: basicOff("2.11.2"), code: codes.FailedPrecondition, says: []string{"AIRFLOW__API__AUTH_BACKENDS", "basic authentication is off"}},
		"basic is off, 2.10.5":         {opts: basicOff("2.10.5"), code: codes.FailedPrecondition, says: []string{"AIRFLOW__API__AUTH_BACKENDS", "basic authentication is off"}},
		"basic is off, and it's wrong": {opts: basicOff("3.0.6"), change: wrongPassword, code: codes.Unauthenticated, says: []string{"username or password is wrong"}},
		"may not read users":           {change: may("can_read Roles", "can_read DAGs"), code: codes.PermissionDenied, says: []string{"can_read on Users"}},
		"may not read users, 2.11.2":   {opts: release("2.11.2"), change: may("can_read Roles", "can_read DAGs"), code: codes.PermissionDenied, says: []string{"can_read on Users"}},
		"may not read roles":           {change: may("can_read Users", "can_read DAGs"), code: codes.PermissionDenied, says: []string{"can_read on Roles"}},
		"may not read roles, 2.11.2":   {opts: release("2.11.2"), change: may("can_read Users", "can_read DAGs"), code: codes.PermissionDenied, says: []string{"can_read on Roles"}},
		"may not read DAGs":            {change: may("can_read Users", "can_read Roles"), code: codes.PermissionDenied, says: []string{"can_read on DAGs", "--sync-permissions=false"}},
		"may not read DAGs, not asked": {change: func(srv *airflowtest.Server, c *config.Airflow) {
			may("can_read Users", "can_read Roles")(srv, c)
			c.SyncPermissions = false
		}},
		"may not change a thing": {change: may("can_read Users", "can_read Roles", "can_read DAGs")},
		"has no role":            {change: func(srv *airflowtest.Server, _ *config.Airflow) { srv.SetRoles("airlock") }, code: codes.PermissionDenied, says: []string{"can_read on Users"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.opts.CacheTTL = -1
			srv := withCompany(t, test.opts)
			cfg := settings(srv)
			if test.change != nil {
				test.change(srv, cfg)
			}
			_, err := serve(t.Context(), t, srv, cfg).Connector.Validate(t.Context())
			if status.Code(err) != test.code {
				t.Errorf("%v, want %v", err, test.code)
			}
			for _, word := range test.says {
				if err != nil && !strings.Contains(err.Error(), word) {
					t.Errorf("%v doesn't say %q", err, word)
				}
			}
		})
	}
}

// Validate is cheap, and signs in only once.
func TestWhatValidateCosts(t *testing.T) {
	t.Parallel()
	srv := withCompany(t, airflowtest.Options{})
	r := newRig(t, srv)
	for _, want := range []int{6, 5} { // the first signs in
		before := srv.Count()
		if _, err := r.Connector.Validate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := srv.Count() - before; n != want {
			t.Errorf("it costs %d requests, want %d", n, want)
		}
	}
	// It sees an Airflow that was changed for another.
	other := withCompany(t, airflowtest.Options{Auth: airflowtest.Simple})
	srv.Inject(airflowtest.Fault{Times: -1, Act: func(w http.ResponseWriter, r *http.Request, _ http.Handler) { other.ServeHTTP(w, r) }})
	if _, err := r.Connector.Validate(t.Context()); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("with another auth manager: %v", err)
	}
}
