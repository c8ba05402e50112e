package web_test

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/base/live"
	"airlock/internal/edge/web"
	"airlock/internal/edge/web/webtest"
	"airlock/internal/identity"
)

func TestMain(m *testing.M) { webtest.Main(m) }

// rig is a server of pages, and somebody who is signed in with the token "ines".
type rig struct {
	server *web.Server
	live   *live.Hub
	clock  *clock.Fake
	url    string

	mu    sync.Mutex
	ended map[string]bool
}

func newRig(t *testing.T, change func(*web.Config)) *rig {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	r := &rig{clock: clock.NewFake(time.Date(2026, 11, 23, 9, 40, 12, 0, time.UTC)), ended: map[string]bool{}}
	r.live = live.New(dbtest.Open(t, db.SQLite), log)
	config := web.Config{
		Session: r.session, Live: r.live, Clock: r.clock, Log: log, Organisation: "Kestrel Freight", Development: true,
		SignOut: func(context.Context, string) error {
			r.end("session-1")
			return nil
		},
		MayHear: func(_ context.Context, _ identity.Actor, topic string) error {
			if topic == "secret" {
				return fault.New(fault.Forbidden, "you may not hear of this")
			}
			return nil
		},
	}
	if change != nil {
		change(&config)
	}
	r.server = web.New(config)
	r.url = webtest.Serve(t, r.server)
	t.Cleanup(r.server.Stop)
	return r
}

func (r *rig) session(_ context.Context, token string) (web.Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if token != "ines" || r.ended["session-1"] {
		return web.Session{}, fault.New(fault.Unauthenticated, "your session has ended; sign in again")
	}
	return web.Session{
		ID: "session-1", Actor: identity.Operator(), Name: "Ines Marchetti", Email: "ines.marchetti@example.com", Role: "Super Admin",
	}, nil
}

func (r *rig) end(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended[id] = true
}

// browser is a tab of somebody who is signed in.
func (r *rig) browser(t *testing.T) *webtest.Page {
	t.Helper()
	p := webtest.Browser(t, r.url)
	p.Cookie(web.SessionCookie, "ines")
	return p
}

// answer is a response, read.
type answer struct {
	*http.Response
	text string
}

// open makes a request as somebody who is signed in; its answer is to be closed.
func (r *rig) open(t *testing.T, method, path, form string, headers ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	if form != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	request.AddCookie(&http.Cookie{Name: web.SessionCookie, Value: "ines"})
	for n := 0; n+1 < len(headers); n += 2 {
		request.Header.Set(headers[n], headers[n+1])
	}
	client := &http.Client{
		// The test's own certificate has no other proof.
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(client.CloseIdleConnections)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// call makes a request and reads the answer.
func (r *rig) call(t *testing.T, method, path, form string, headers ...string) answer {
	t.Helper()
	response := r.open(t, method, path, form, headers...)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response, string(text)}
}
