package airflow_test

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"airlock/airflow"
	"airlock/airflow/airflowtest"
)

// clock is a time that passes only by waiting and by hand.
type clock struct {
	mu    sync.Mutex
	time  time.Time
	waits []time.Duration
}

func newClock() *clock { return &clock{time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time = c.time.Add(d)
}

// tick is a clock that goes on a second whenever it is looked at.
func (c *clock) tick() time.Time {
	c.advance(time.Second)
	return c.now()
}

func (c *clock) wait(ctx context.Context, d time.Duration) error {
	c.advance(d)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits = append(c.waits, d)
	return ctx.Err()
}

func (c *clock) waited() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.waits)
}

// rig is a client and the Airflow it talks to.
type rig struct {
	*airflow.Client
	srv   *airflowtest.Server
	clock *clock
}

// start starts an Airflow, and a client that is its admin. Its connections are
// used once: Go repeats a GET itself when one that was used before breaks.
func start(t testing.TB, opts airflowtest.Options, change ...func(*airflow.Config)) rig {
	t.Helper()
	srv := airflowtest.Start(t, opts)
	return join(t, srv, change...)
}

// join makes another client of the same Airflow.
func join(t testing.TB, srv *airflowtest.Server, change ...func(*airflow.Config)) rig {
	t.Helper()
	r := rig{srv: srv, clock: newClock()}
	r.Client = dial(t, srv.URL, r.clock, change...)
	return r
}

// startInside starts an Airflow that is called without a network.
func startInside(t testing.TB, opts airflowtest.Options, change ...func(*airflow.Config)) rig {
	t.Helper()
	r := rig{srv: airflowtest.New(opts), clock: newClock()}
	r.srv.URL = "http://airflow.internal"
	change = append(change, inside(r.srv))
	r.Client = dial(t, r.srv.URL, r.clock, change...)
	return r
}

func inside(handler http.Handler) func(*airflow.Config) {
	return func(cfg *airflow.Config) {
		cfg.HTTP = &http.Client{Transport: roundTrip(func(request *http.Request) (*http.Response, error) {
			if request.Body == nil {
				request.Body = http.NoBody
			}
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, request)
			return answer.Result(), request.Context().Err()
		})}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// dial makes an admin's client of a base URL.
func dial(t testing.TB, url string, clock *clock, change ...func(*airflow.Config)) *airflow.Client {
	t.Helper()
	cfg := airflow.Config{
		BaseURL: url, Username: "admin", Password: "admin",
		HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := airflow.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.SetClock(clock.now, clock.wait)
	return c
}

func as(username, password string) func(*airflow.Config) {
	return func(cfg *airflow.Config) { cfg.Username, cfg.Password = username, password }
}

// withToken works with a ready-made token alone.
func withToken(token string) func(*airflow.Config) {
	return func(cfg *airflow.Config) { cfg.Username, cfg.Password, cfg.Token = "", "", token }
}

// forEach runs a test on each release.
func forEach(t *testing.T, test func(*testing.T, airflowtest.Profile)) {
	t.Helper()
	for _, p := range airflowtest.Profiles() {
		t.Run(p.Airflow, func(t *testing.T) { test(t, p) })
	}
}

// collect reads a list to its end.
func collect[T any](list iter.Seq2[T, error]) (items []T, err error) {
	for item, err := range list {
		if err != nil {
			return items, err
		}
		items = append(items, item)
	}
	return items, nil
}

func usernames(users []airflow.User) (names []string) {
	for _, u := range users {
		names = append(names, u.Username)
	}
	return names
}

// want fails the test unless err is of that kind and its text holds these words.
func want(t *testing.T, err error, kind airflow.Kind, words ...string) *airflow.Error {
	t.Helper()
	var e *airflow.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("got %v, want an error of the kind %d", err, kind)
		return new(airflow.Error)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error is %q and doesn't say %q", err, w)
		}
	}
	return e
}
