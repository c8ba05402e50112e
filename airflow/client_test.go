package airflow_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"airlock/airflow"
	"airlock/airflow/airflowtest"
)

// troubles are the ways in which a request fails that may do better later.
var troubles = map[string]airflowtest.Act{
	"429": airflowtest.Status(429), "408": airflowtest.Status(408), "500": airflowtest.Status(500),
	"502": airflowtest.Status(502), "503": airflowtest.Status(503), "504": airflowtest.Status(504),
	"reset": airflowtest.Reset(), "reset in the answer": airflowtest.ResetMidBody(), "half an answer": airflowtest.Truncate(),
}

func TestReadingIsTriedAgain(t *testing.T) {
	for name, act := range troubles {
		t.Run(name, func(t *testing.T) {
			r := start(t, airflowtest.Options{})
			r.srv.Generate(airflowtest.Scale{Users: 150})
			r.srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users", Times: 3, Act: act})
			users, err := collect(r.Users(t.Context()))
			if err != nil || len(users) != 151 {
				t.Errorf("%d users, %v", len(users), err)
			}
			r.counted(t, userList, 2+3)
			waits := r.clock.waited()
			if len(waits) != 3 {
				t.Fatalf("it waited %v", waits)
			}
			for i, about := range []time.Duration{250 * time.Millisecond, time.Second, 4 * time.Second} {
				if waits[i] < about/2 || waits[i] >= about*3/2 {
					t.Errorf("wait %d was %v, want about %v", i+1, waits[i], about)
				}
			}
		})
	}
}

func TestReadingIsGivenUp(t *testing.T) {
	for name, act := range troubles {
		t.Run(name, func(t *testing.T) {
			r := start(t, airflowtest.Options{})
			r.srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users", Times: -1, Act: act})
			users, err := collect(r.Users(t.Context()))
			want(t, err, airflow.Unavailable, "list users")
			if len(users) > 0 {
				t.Errorf("it gave %d users", len(users))
			}
			r.counted(t, userList, 4)
		})
	}
	// What comes first has its own tries, and they aren't multiplied.
	r := start(t, airflowtest.Options{})
	r.srv.Inject(airflowtest.Fault{Path: "/api/v2/version", Times: -1, Act: airflowtest.Status(503)})
	_, err := r.UsersPage(t.Context(), airflow.Cursor{})
	want(t, err, airflow.Unavailable, "read the version", "503", "try again later")
	r.counted(t, "GET /api/v2/version", 4)
}

func TestRetryAfter(t *testing.T) {
	at := func(after string, status int) airflowtest.Act {
		return func(w http.ResponseWriter, r *http.Request, api http.Handler) {
			w.Header().Set("Retry-After", after)
			airflowtest.Status(status)(w, r, api)
		}
	}
	date := func(after time.Duration) string { return newClock().now().Add(after).Format(http.TimeFormat) }
	for _, c := range []struct {
		name   string
		act    airflowtest.Act
		waited []time.Duration
		told   time.Duration
	}{
		{"soon", airflowtest.TooManyRequests(7 * time.Second), []time.Duration{7 * time.Second}, 0},
		{"soon, with 503", at("7", 503), []time.Duration{7 * time.Second}, 0},
		{"soon, as a date", at(date(5*time.Second), 429), []time.Duration{5 * time.Second}, 0},
		{"later", airflowtest.TooManyRequests(time.Minute), nil, time.Minute},
		{"later, as a date", at(date(time.Hour), 503), nil, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, airflowtest.Options{})
			if _, err := r.Server(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users", Act: c.act})
			_, err := r.UsersPage(t.Context(), airflow.Cursor{})
			if fmt.Sprint(r.clock.waited()) != fmt.Sprint(c.waited) {
				t.Errorf("it waited %v, want %v", r.clock.waited(), c.waited)
			}
			if c.told == 0 && err != nil {
				t.Error(err)
			}
			if c.told > 0 {
				if e := want(t, err, airflow.Unavailable); e.RetryAfter != c.told {
					t.Errorf("it tells %v, want %v", e.RetryAfter, c.told)
				}
				r.counted(t, userList, 1)
			}
		})
	}
}

// What is asked for once is sent once, whatever becomes of it.
func TestWritingIsNeverRepeated(t *testing.T) {
	eve := airflow.User{Username: "eve", Email: "eve@example.com", FirstName: "Eve", LastName: "E", Roles: []string{"Viewer"}}
	for _, c := range []struct {
		name, endpoint, says string
		write                func(context.Context, rig) error
	}{
		{"create a user", "POST /auth/fab/v1/users", "it isn't known whether the account was created", func(ctx context.Context, r rig) error {
			_, err := r.CreateUser(ctx, eve, "secret")
			return err
		}},
		{"create a role", "POST /auth/fab/v1/roles", "it isn't known whether the role was created", func(ctx context.Context, r rig) error {
			_, err := r.CreateRole(ctx, airflow.Role{Name: "night"})
			return err
		}},
		{"set a password", userPatch, "it isn't known whether the password was changed", func(ctx context.Context, r rig) error {
			return r.SetPassword(ctx, "admin", "secret")
		}},
	} {
		for _, p := range []string{"3.3.2", "2.11.2"} {
			for name, act := range troubles {
				t.Run(c.name+" "+p+" "+name, func(t *testing.T) {
					r := start(t, airflowtest.Options{Profile: airflowtest.For(p)})
					method, _, _ := strings.Cut(c.endpoint, " ")
					r.srv.Inject(airflowtest.Fault{Method: method, Path: "/auth/fab/v1/*", Times: -1, Act: act})
					r.srv.Inject(airflowtest.Fault{Method: method, Path: "/auth/fab/v1/users/*", Times: -1, Act: act})
					want(t, c.write(t.Context(), r), airflow.Unavailable, c.says)
					r.counted(t, c.endpoint, 1)
				})
			}
		}
	}
}

func TestCanceling(t *testing.T) {
	why := errors.New("the sync was called off")
	for name, call := range map[string]func(context.Context, rig) error{
		"list":  func(ctx context.Context, r rig) error { return second(collect(r.Users(ctx))) },
		"page":  func(ctx context.Context, r rig) error { return second(r.UsersPage(ctx, airflow.Cursor{})) },
		"read":  func(ctx context.Context, r rig) error { return second(r.User(ctx, "admin")) },
		"write": func(ctx context.Context, r rig) error { return r.SetPassword(ctx, "admin", "x") },
		"look":  func(ctx context.Context, r rig) error { return second(r.Role(ctx, "Op")) },
		"first": func(ctx context.Context, r rig) error { r.Rediscover(); return second(r.Server(ctx)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, airflowtest.Options{})
			if _, err := r.Server(t.Context()); err != nil {
				t.Fatal(err)
			}
			hold := airflowtest.NewHold()
			r.srv.Inject(airflowtest.Fault{Times: -1, Act: hold.Act})
			ctx, cancel := context.WithCancelCause(t.Context())
			ended := make(chan error)
			go func() { ended <- call(ctx, r) }()
			<-hold.Entered()
			asked := r.srv.Count()
			cancel(why)
			err := <-ended
			if !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
				t.Errorf("got %v, want canceled, and why", err)
			}
			if r.srv.Count() != asked || len(r.clock.waited()) > 0 {
				t.Error("it went on")
			}
		})
	}
	t.Run("while it waits to try again", func(t *testing.T) {
		r := start(t, airflowtest.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		r.SetClock(time.Now, func(ctx context.Context, _ time.Duration) error {
			cancel()
			return airflow.Wait(ctx, time.Hour)
		})
		r.srv.Inject(airflowtest.Fault{Times: -1, Act: airflowtest.Status(503)})
		if _, err := r.User(ctx, "admin"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want canceled", err)
		}
	})
	t.Run("while it waits for another's change", func(t *testing.T) {
		r := start(t, airflowtest.Options{})
		hold := airflowtest.NewHold()
		r.srv.Inject(airflowtest.Fault{Method: http.MethodPatch, Act: hold.Act})
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := r.AddRole(t.Context(), "admin", "Op"); err != nil {
				t.Error(err)
			}
		})
		<-hold.Entered()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, err := range []error{
			third(r.AddRole(ctx, "Admin", "User")), r.SetPassword(ctx, "ADMIN", "x"), r.DeleteUser(ctx, "admin"),
		} {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want canceled", err)
			}
		}
		hold.Release()
		wg.Wait()
		if _, after, err := r.AddRole(t.Context(), "admin", "User"); err != nil || !after.HasRole("Op") {
			t.Errorf("got %+v, %v", after, err)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		r := start(t, airflowtest.Options{})
		ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		if _, err := r.User(ctx, "admin"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
	})
}

func third[A, B any](_ A, _ B, err error) error { return err }

// elsewhere is a server that must never hear of anything.
func elsewhere(t *testing.T) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s with %q went elsewhere", r.Method, r.URL, r.Header.Get("Authorization"))
	}))
	t.Cleanup(srv.Close)
	return srv
}

func TestRedirectsNeverLeadElsewhere(t *testing.T) {
	otherPort := elsewhere(t).URL
	otherHost := strings.Replace(otherPort, "127.0.0.1", "localhost", 1)
	for _, to := range []string{otherPort, otherHost, strings.Replace(otherPort, "http://", "https://", 1)} {
		for _, p := range []string{"3.3.2", "3.1.6", "2.11.2"} {
			r := start(t, airflowtest.Options{Profile: airflowtest.For(p)})
			if _, err := r.Server(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.srv.Inject(airflowtest.Fault{Times: -1, Act: airflowtest.Redirect(to + "/login?token=se-cret")})
			for _, err := range []error{
				second(r.UsersPage(t.Context(), airflow.Cursor{})), second(r.Role(t.Context(), "Op")), second(r.DAGsPage(t.Context(), airflow.Cursor{})),
				r.DeleteUser(t.Context(), "eve"), second(r.CreateRole(t.Context(), airflow.Role{Name: "night"})),
			} {
				e := want(t, err, airflow.Precondition, "redirects to "+to+",", "credentials were not sent")
				if strings.Contains(fmt.Sprint(err), "se-cret") || e.Status != http.StatusTemporaryRedirect {
					t.Errorf("got %v", err)
				}
			}
			r.Rediscover()
			_, err := r.Server(t.Context())
			want(t, err, airflow.Precondition, "redirects to "+to)
			// Signing in sends the password in the body.
			fresh := join(t, r.srv)
			r.srv.ClearFaults()
			r.srv.Inject(airflowtest.Fault{Method: http.MethodPost, Path: "/auth/token", Times: -1, Act: airflowtest.Redirect(to)})
			if _, err := fresh.RolesPage(t.Context(), airflow.Cursor{}); p != "2.11.2" {
				want(t, err, airflow.Precondition, "sign in as admin", "redirects to "+to)
			}
		}
	}
}

// Even on its own host nothing but a GET is sent again.
func TestWritesAreNotRedirected(t *testing.T) {
	r := start(t, airflowtest.Options{})
	r.srv.PutUser(airflowtest.User{Username: "eve", Roles: []string{"Viewer"}})
	r.srv.Inject(airflowtest.Fault{Method: http.MethodPatch, Times: -1, Act: airflowtest.Redirect("/auth/fab/v1/users/eve")})
	r.srv.Inject(airflowtest.Fault{Method: http.MethodDelete, Times: -1, Act: airflowtest.Redirect("/auth/fab/v1/users/eve")})
	want(t, third(r.AddRole(t.Context(), "eve", "Op")), airflow.Precondition, "redirects to")
	want(t, r.DeleteUser(t.Context(), "eve"), airflow.Precondition, "redirects to")
	r.counted(t, userPatch, 1)
	r.counted(t, "DELETE /auth/fab/v1/users/{username}", 1)
}

func TestReadingFollowsRedirectsOnItsHost(t *testing.T) {
	r := start(t, airflowtest.Options{})
	r.srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users", Act: airflowtest.Redirect("/auth/fab/v1/users?limit=100&offset=0")})
	if p, err := r.UsersPage(t.Context(), airflow.Cursor{}); err != nil || len(p.Items) != 1 {
		t.Errorf("got %+v, %v", p, err)
	}
	r.srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users", Times: -1, Act: airflowtest.Redirect("/auth/fab/v1/users")})
	_, err := r.UsersPage(t.Context(), airflow.Cursor{})
	want(t, err, airflow.Precondition, "redirects to "+r.srv.URL)
}

// From http up to https: followed on the usual ports of the same host, and never
// down again.
func TestRedirectsUpToHTTPS(t *testing.T) {
	for _, c := range []struct {
		base, to string
		followed bool
	}{
		{"http://example.com", "https://example.com", true},
		{"http://example.com:80", "https://example.com:443", true},
		{"http://example.com", "https://example.com:8443", false},
		{"http://example.com:8080", "https://example.com", false},
		{"http://example.com", "https://www.example.com", false},
		{"http://example.com", "ftp://example.com", false},
		{"https://example.com", "http://example.com", false},
		{"https://example.com:8443", "http://example.com:8443", false},
		{"https://example.com", "https://example.com:8443", false},
	} {
		srv := airflowtest.New(airflowtest.Options{})
		client := dial(t, c.base, newClock(), withToken(srv.Token("admin")), inside(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch at := r.URL.Scheme + "://" + r.URL.Host; {
			case at == c.base:
				http.Redirect(w, r, c.to+r.URL.RequestURI(), http.StatusMovedPermanently)
			case at == c.to && c.followed && r.Method == http.MethodGet:
				srv.ServeHTTP(w, r)
			default:
				t.Errorf("from %s %s went to %s", c.base, r.Method, at)
			}
		})))
		if _, err := client.UsersPage(t.Context(), airflow.Cursor{}); c.followed && err != nil {
			t.Errorf("%s to %s: %v", c.base, c.to, err)
		} else if !c.followed {
			want(t, err, airflow.Precondition, "redirects to "+c.to)
		}
		_, err := client.CreateRole(t.Context(), airflow.Role{Name: "night"})
		want(t, err, airflow.Precondition, "redirects to "+c.to)
	}
}

// The caller's http.Client is left as it is.
func TestHTTPClientIsNotChanged(t *testing.T) {
	given := &http.Client{}
	if _, err := airflow.New(airflow.Config{BaseURL: "https://h", Token: "t", HTTP: given}); err != nil || given.CheckRedirect != nil {
		t.Errorf("got %+v, %v", given, err)
	}
}

// Proxies are the transport's business, and it is asked.
func TestProxy(t *testing.T) {
	r := start(t, airflowtest.Options{})
	proxied := make(chan string, 100)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		proxied <- request.URL.String()
		r.srv.ServeHTTP(w, request)
	}))
	t.Cleanup(proxy.Close)
	to, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(to), DisableKeepAlives: true}
	c := dial(t, "http://airflow.internal", newClock(), func(cfg *airflow.Config) { cfg.HTTP = &http.Client{Transport: transport} })
	if _, err := c.User(t.Context(), "admin"); err != nil {
		t.Fatal(err)
	}
	if first := <-proxied; first != "http://airflow.internal/api/v2/version" {
		t.Errorf("the proxy was asked for %s", first)
	}
}
