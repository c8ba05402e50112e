package web

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"airlock/internal/base/clock"
	"airlock/internal/base/fault"
	"airlock/internal/edge/web/webtest"
	"airlock/internal/identity"
)

func TestTheNavigationShowsWhatExistsAndMayBeSeen(t *testing.T) {
	actor := identity.Operator()
	s := New(Config{
		Session: func(context.Context, string) (Session, error) {
			return Session{ID: "1", Actor: actor, Name: "Ines Marchetti"}, nil
		},
		Counts: func(context.Context, identity.Actor) map[string]string {
			return map[string]string{"Integrations": "1 error"}
		},
		MayHear: func(context.Context, identity.Actor, string) error { return fault.New(fault.Forbidden, "not this") },
		Clock:   clock.NewFake(time.Date(2026, 11, 23, 9, 40, 12, 0, time.UTC)), Log: slog.New(slog.DiscardHandler), Development: true,
		Organisation: "Kestrel Freight",
	})
	t.Cleanup(s.Stop)
	p := webtest.Browser(t, webtest.Serve(t, s))
	p.Cookie(SessionCookie, "x")
	shown := func() string {
		return webtest.Eval[string](p, `[...document.querySelectorAll(".rail .nav a")].map((a) => a.innerText.replace("\n", " ").trim()).join(", ")`)
	}
	p.Open("/dev/components")
	if got, want := shown(), "Home, Applications, Integrations 1 error, People, Audit log, Settings"; got != want {
		t.Errorf("the navigation shows %s", got)
	}
	if got := p.Text(".rail [aria-current]"); got != "Settings" {
		t.Errorf("the current section is %q", got)
	}
	p.Screenshot("navigation")
	p.Size(360, 700)
	p.Click(".drawer summary")
	p.Screenshot("drawer")
	webtest.Axe(t, p)
	p.Size(1440, 900)

	p.Allow("403")
	// There is nothing behind these pages here: what matters is which link is followed.
	webtest.Eval[bool](p, `(document.addEventListener("click", (e) => { e.preventDefault(); window.followed = e.target.closest("a").pathname }), true)`)
	p.Press("g")
	p.Press("a")
	p.Wait(`window.followed === "/apps"`)

	actor = identity.Connector("1", "one")
	p.Open("/dev/components")
	if got := shown(); got != "Home" {
		t.Errorf("who may read nothing sees %s", got)
	}
}
