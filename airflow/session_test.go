package airflow_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"airlock/airflow"
	"airlock/airflow/airflowtest"
)

const (
	signIns   = "POST /auth/token"
	userList  = "GET /auth/fab/v1/users"
	userPatch = "PATCH /auth/fab/v1/users/{username}"
)

// counted fails the test unless an endpoint was asked that often.
func (r rig) counted(t *testing.T, endpoint string, want int) {
	t.Helper()
	if got := r.srv.Count(endpoint); got != want {
		t.Errorf("%s was asked %d times, want %d", endpoint, got, want)
	}
}

func TestOneSignInForAll(t *testing.T) {
	r := start(t, airflowtest.Options{})
	r.srv.Generate(airflowtest.Scale{Users: 950})
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			if _, err := r.RolesPage(t.Context(), airflow.Cursor{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if users, err := collect(r.Users(t.Context())); err != nil || len(users) != 951 {
		t.Errorf("%d users, %v", len(users), err)
	}
	r.counted(t, signIns, 1)
	r.counted(t, "GET /api/v2/version", 1)
	r.counted(t, "GET /auth/openapi.json", 1)
	if u, _ := r.srv.User("admin"); u.Logins != 1 {
		t.Errorf("Airflow counts %d logins", u.Logins)
	}
}

// The lifetime is counted from the token's own times: the two clocks need not agree.
func TestTokenIsRenewedBeforeItExpires(t *testing.T) {
	for _, ahead := range []time.Duration{0, 5 * time.Hour, -5 * time.Hour} {
		clock := newClock()
		srv := airflowtest.Start(t, airflowtest.Options{TokenLife: 10 * time.Minute, Now: func() time.Time { return clock.now().Add(ahead) }})
		r := rig{srv: srv, clock: clock, Client: dial(t, srv.URL, clock)}
		for _, step := range []struct {
			after time.Duration
			want  int
		}{{0, 1}, {8 * time.Minute, 1}, {59 * time.Second, 1}, {time.Second, 2}, {8 * time.Minute, 2}, {5 * time.Hour, 3}} {
			clock.advance(step.after)
			if _, err := r.UsersPage(t.Context(), airflow.Cursor{}); err != nil {
				t.Fatal(err)
			}
			r.counted(t, signIns, step.want)
		}
		for _, request := range srv.Requests() {
			if request.Status >= 400 {
				t.Errorf("%s was answered %d", request.Endpoint, request.Status)
			}
		}
	}
}

func TestLifetime(t *testing.T) {
	token := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
	}
	for _, c := range []struct {
		token string
		want  time.Duration
	}{
		{token(`{"iat":1000,"exp":87400}`), 24*time.Hour - time.Minute},
		{token(`{"iat":1000,"exp":1100}`), 90 * time.Second},
		{token(`{"iat":1000.5,"exp":1010.5}`), 9 * time.Second},
		{token(`{"exp":1100}`), 15 * time.Minute},
		{token(`{"iat":1100,"exp":1000}`), 15 * time.Minute},
		{token(`{"iat":1,"exp":1e300}`), 15 * time.Minute},
		{token(`{"iat":"x"}`), 15 * time.Minute},
		{token(`no JSON`), 15 * time.Minute},
		{"opaque", 15 * time.Minute},
		{"a.!.c", 15 * time.Minute},
	} {
		if got := airflow.Lifetime(c.token); got != c.want {
			t.Errorf("%s: got %v, want %v", c.token, got, c.want)
		}
	}
}

func TestStaleTokenIsRenewedOnce(t *testing.T) {
	for name, spoil := range map[string]func(*airflowtest.Server){
		"401 expired": (*airflowtest.Server).ExpireTokens,
		"403 revoked": (*airflowtest.Server).RevokeTokens,
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, airflowtest.Options{})
			if _, err := r.UsersPage(t.Context(), airflow.Cursor{}); err != nil {
				t.Fatal(err)
			}
			spoil(r.srv)
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					if _, err := r.UsersPage(t.Context(), airflow.Cursor{}); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			r.counted(t, signIns, 2)
		})
	}
}

// In the middle of a list, and before a write: nothing is left out, nothing lost.
func TestTokenExpiresInTheMiddle(t *testing.T) {
	r := start(t, airflowtest.Options{})
	r.srv.Generate(airflowtest.Scale{Users: 300})
	var page, patch sync.Once
	r.srv.Before(func(request airflowtest.Request) {
		switch {
		case request.Query.Get("offset") == "99":
			page.Do(r.srv.ExpireTokens)
		case request.Method == http.MethodPatch:
			patch.Do(r.srv.RevokeTokens)
		}
	})
	if users, err := collect(r.Users(t.Context())); err != nil || len(users) != 301 {
		t.Errorf("%d users, %v", len(users), err)
	}
	r.counted(t, signIns, 2)
	if _, after, err := r.AddRole(t.Context(), "user-000007", "Op"); err != nil || !after.HasRole("Op") {
		t.Errorf("got %+v, %v", after, err)
	}
	r.counted(t, signIns, 3)
	r.counted(t, userPatch, 2) // the first was refused
}

func TestTokenThatIsNeverTaken(t *testing.T) {
	for name, act := range map[string]airflowtest.Act{"401": airflowtest.ExpiredToken(), "403": airflowtest.InvalidToken()} {
		t.Run(name, func(t *testing.T) {
			r := start(t, airflowtest.Options{})
			r.srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/*", Times: -1, Act: act})
			_, err := r.UsersPage(t.Context(), airflow.Cursor{})
			want(t, err, airflow.Unauthenticated, "list users", "doesn't take the token", "secret")
			r.counted(t, signIns, 2)
			r.counted(t, userList, 2)
		})
	}
}

func TestGivenToken(t *testing.T) {
	r := start(t, airflowtest.Options{})
	r = join(t, r.srv, withToken(" "+r.srv.Token("admin")+"\n"))
	if _, err := r.UsersPage(t.Context(), airflow.Cursor{}); err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []func(){r.srv.ExpireTokens, r.srv.RevokeTokens} {
		spoil()
		asked := r.srv.Count(userList)
		_, err := r.UsersPage(t.Context(), airflow.Cursor{})
		want(t, err, airflow.Unauthenticated, "the token that was given", "give another one", "can't be renewed")
		r.counted(t, userList, asked+1)
	}
	r.counted(t, signIns, 0)
}

func TestGivenTokenWhereBasicIsNeeded(t *testing.T) {
	for _, p := range basicReleases() {
		srv := airflowtest.Start(t, airflowtest.Options{Profile: p})
		token := "a-token"
		if !p.V2() {
			token = srv.Token("admin")
		}
		r := join(t, srv, withToken(token))
		_, err := r.UsersPage(t.Context(), airflow.Cursor{})
		want(t, err, airflow.Precondition, "list users", "Airflow "+p.Airflow+", FAB ", "takes no token here", "username and password")
		r.counted(t, userList, 1) // to look whether FAB is there
		if p.FastAPIRoles {
			if _, err := r.RolesPage(t.Context(), airflow.Cursor{}); err != nil {
				t.Errorf("%s takes the token for roles: %v", p, err)
			}
		}
		// With both, each is used where it is taken, and nobody signs in.
		both := join(t, srv, func(cfg *airflow.Config) { cfg.Token = token })
		if _, err := both.UsersPage(t.Context(), airflow.Cursor{}); err != nil {
			t.Errorf("%s with both: %v", p, err)
		}
		if _, err := both.RolesPage(t.Context(), airflow.Cursor{}); err != nil {
			t.Errorf("%s with both: %v", p, err)
		}
		r.counted(t, signIns, 0)
	}
}

// Both credentials side by side, each where it is taken.
func TestCredentials(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := start(t, airflowtest.Options{Profile: p})
		for _, err := range []error{
			second(collect(r.Users(t.Context()))), second(collect(r.Roles(t.Context()))),
			second(collect(r.DAGs(t.Context()))), second(collect(r.Permissions(t.Context()))),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		for _, request := range r.srv.Requests() {
			if request.Status >= 400 && request.Credential != "none" {
				t.Errorf("%s with %s was answered %d", request.Endpoint, request.Credential, request.Status)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestSignInIsTriedAgain(t *testing.T) {
	for name, act := range map[string]airflowtest.Act{
		"500": airflowtest.Status(500), "502": airflowtest.Status(502), "503": airflowtest.Status(503), "429": airflowtest.Status(429),
		"reset": airflowtest.Reset(), "reset in the answer": airflowtest.ResetMidBody(), "half an answer": airflowtest.Truncate(),
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, airflowtest.Options{})
			r.srv.Inject(airflowtest.Fault{Path: "/auth/token", Times: 2, Act: act})
			if _, err := r.UsersPage(t.Context(), airflow.Cursor{}); err != nil {
				t.Fatal(err)
			}
			r.counted(t, signIns, 3)
			r.counted(t, userList, 1)
			if waits := r.clock.waited(); len(waits) != 2 {
				t.Errorf("it waited %v", waits)
			}
		})
	}
}

func TestSignInIsGivenUp(t *testing.T) {
	for _, c := range []struct {
		name  string
		act   airflowtest.Act
		tries int
		kind  airflow.Kind
		words []string
	}{
		{"503", airflowtest.Status(503), 4, airflow.Unavailable, []string{"503"}},
		{"429 for long", airflowtest.TooManyRequests(time.Minute), 1, airflow.Unavailable, []string{"429"}},
		{"404", airflowtest.Status(404), 1, airflow.Precondition, []string{"404", "no such endpoint"}},
		{"403 of a proxy", airflowtest.Status(403), 1, airflow.Precondition, []string{"403", "proxy"}},
		{"page", airflowtest.SignInPage(), 1, airflow.Precondition, []string{"HTML page"}},
		{"no token", airflowtest.Answer(201, "application/json", `{"token":"x"}`), 1, airflow.Precondition, []string{"access_token"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, airflowtest.Options{})
			r.srv.Inject(airflowtest.Fault{Path: "/auth/token", Times: -1, Act: c.act})
			_, err := r.UsersPage(t.Context(), airflow.Cursor{})
			want(t, err, c.kind, append(c.words, "sign in as admin")...)
			r.counted(t, signIns, c.tries)
			r.counted(t, userList, 0)
		})
	}
}

func TestWrongPasswordIsNotTriedAgain(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := start(t, airflowtest.Options{Profile: p}, as("admin", "wrong"))
		_, err := r.UsersPage(t.Context(), airflow.Cursor{})
		want(t, err, airflow.Unauthenticated, "wrong", "switched off")
		if u, _ := r.srv.User("admin"); u.FailedLogins != 1 {
			t.Errorf("Airflow counts %d failed logins", u.FailedLogins)
		}
		if len(r.clock.waited()) > 0 {
			t.Error("it tried again")
		}
	})
}

// Who waits for another's sign-in can give up, and is not dragged down by it.
func TestSignInEndsWithItsCaller(t *testing.T) {
	r := start(t, airflowtest.Options{})
	if _, err := r.Server(t.Context()); err != nil { // signs in for the providers
		t.Fatal(err)
	}
	r.srv.ExpireTokens()
	hold := airflowtest.NewHold()
	r.srv.Inject(airflowtest.Fault{Path: "/auth/token", Act: hold.Act})

	first, giveUpFirst := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := r.UsersPage(first, airflow.Cursor{}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want canceled", err)
		}
	})
	<-hold.Entered()
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.UsersPage(impatient, airflow.Cursor{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	wg.Go(func() {
		if _, err := r.UsersPage(t.Context(), airflow.Cursor{}); err != nil {
			t.Error(err)
		}
	})
	giveUpFirst()
	wg.Wait()
	r.counted(t, signIns, 3)
}
