package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"

	"airlock/internal/edge/web/webtest"
	"airlock/internal/identity"
)

// look checks a page as axe does, wide and narrow, and takes pictures of it.
func look(t *testing.T, p *webtest.Page, path, name string) {
	t.Helper()
	for _, width := range []int64{1440, 360} {
		p.Size(width, 900)
		for _, dark := range []bool{false, true} {
			p.Dark(dark)
			p.Open(path)
			p.Fits()
			scheme := map[bool]string{false: "light", true: "dark"}[dark]
			p.Screenshot(fmt.Sprintf("%s-%d-%s", name, width, scheme))
			if dark {
				webtest.Axe(t, p, "color-contrast")
			} else {
				webtest.Axe(t, p)
			}
		}
	}
	p.Size(1440, 900)
	p.Dark(false)
}

func TestTheFirstAdministratorIsMadeAndSignsInByKeysAlone(t *testing.T) {
	m := newDomain(t, nil)
	m.serve(nil)
	token, needed, err := m.SignIns.SetupLink(t.Context())
	check(t, err)
	if !needed {
		t.Fatal("no administrator is needed")
	}
	p := m.tab("")
	p.Allow("422")
	look(t, p, "/setup/"+token, "setup")
	p.Open("/setup/" + token)
	// Typing begins in the first field.
	p.Wait(`document.activeElement.id === "f-name"`)
	p.Press("Ines Marchetti" + kb.Tab + "ines@airlock.test" + kb.Tab + "short")
	p.Press(kb.Enter)
	p.Wait(`document.querySelector("#f-password-error")?.innerText.includes("at least 12")`)
	if name, email := p.Value("#f-name"), p.Value("#f-email"); name != "Ines Marchetti" || email != "ines@airlock.test" {
		t.Errorf("what was typed is now %q, %q", name, email)
	}
	p.Wait(`document.activeElement.id === "f-password"`)
	p.Press(password + kb.Enter)
	p.Wait(`location.pathname === "/" && document.querySelector("h1")?.innerText === "Home"`)
	if got := p.Text(".empty h2"); got != "No system is connected yet" {
		t.Errorf("an empty server's first page says %q", got)
	}
	look(t, p, "/", "home-empty")

	p.Open("/")
	webtest.Eval[bool](p, `(document.querySelector(".usermenu summary").focus(), true)`)
	p.Press(kb.Enter)
	p.Press(kb.Tab + kb.Tab + kb.Enter)
	p.Wait(`location.pathname === "/sign-in" && document.activeElement.id === "f-email"`)
	p.Allow("401")
	p.Press("ines@airlock.test" + kb.Tab + "not this" + kb.Enter)
	p.Wait(`document.querySelector("#form-errors")?.innerText.includes("The e-mail or the password is wrong")`)
	webtest.Axe(t, p)
	p.Wait(`document.activeElement.id === "f-password"`)
	p.Press(password + kb.Enter)
	p.Wait(`location.pathname === "/" && document.querySelector("h1")?.innerText === "Home"`)
	p.Open("/sign-in") // who is signed in needs no door
	p.Wait(`location.pathname === "/"`)

	p = m.tab("")
	p.Allow("403")
	look(t, p, "/setup/"+token, "setup-over")
	if got := p.Text("main"); !strings.Contains(got, "airlock admin create") {
		t.Errorf("a link that is over says %q", got)
	}
	if again := m.call("", "POST", "/setup/"+token, url.Values{"email": {"eve@evil.example"}, "name": {"Eve"}, "password": {password}}.Encode()); again.StatusCode != http.StatusForbidden {
		t.Errorf("a link was used twice: %s", again.Status)
	}
}

func TestOneSignsInWithoutScriptsAndComesBackToWhatOneAskedFor(t *testing.T) {
	m := newDomain(t, nil)
	m.serve(nil)
	m.admin("ines@airlock.test")
	p := m.tab("")
	p.NoScripts()
	p.Open("/audit?q=ines")
	if got := p.Text("h1"); got != "Sign in to Airlock" {
		t.Fatalf("the page is %q", got)
	}
	p.Fill("#f-email", "ines@airlock.test")
	p.Fill("#f-password", password)
	p.Submit("form .button--primary")
	if got := webtest.Eval[string](p, "location.pathname + location.search"); got != "/audit?q=ines" {
		t.Errorf("one came back to %s", got)
	}
	p.Open("/me")
	p.Fill("#f-old", password)
	p.Fill("#f-password", "another long password")
	p.Fill("#f-again", "another long password")
	p.Submit("#p-change-password .button")
	if got := p.Text("#toasts"); !strings.HasPrefix(got, "Your password is changed.") {
		t.Errorf("the toast says %q", got)
	}
}

func TestWhoGuessesHasToWait(t *testing.T) {
	m := newDomain(t, nil)
	m.serve(nil)
	m.admin("ines@airlock.test")
	form := url.Values{"email": {"ines@airlock.test"}, "password": {"wrong"}}.Encode()
	for range 6 {
		last := m.call("", "POST", "/sign-in", form)
		if last.StatusCode == http.StatusTooManyRequests {
			if !strings.Contains(last.text, "ines@airlock.test") || strings.Contains(last.text, "wrong\"") || !strings.Contains(last.text, "wait") && !strings.Contains(last.text, "again in") {
				t.Errorf("the page of who has to wait: %s", last.text)
			}
			return
		}
		if last.StatusCode != http.StatusUnauthorized || last.Header.Get("Set-Cookie") != "" {
			t.Fatalf("%s, %q", last.Status, last.Header.Get("Set-Cookie"))
		}
	}
	t.Error("nobody had to wait")
}

func TestSigningOutInOneTabEndsTheOthersStream(t *testing.T) {
	m := newDomain(t, nil)
	m.serve(nil)
	_, token := m.admin("ines@airlock.test")
	one := m.tab(token)
	one.Open("/audit")
	one.Wait(`document.documentElement.dataset.stream === "open"`)
	one.Allow("401")
	two := one.Tab()
	two.Open("/me")
	two.Click(".usermenu summary")
	two.Submit(".usermenu button")
	two.Wait(`location.pathname === "/sign-in"`)
	one.Wait(`document.querySelector("#toasts")?.innerText.includes("signed out")`)
}

func TestSessionsOfOnesOwnAreListedAndEnded(t *testing.T) {
	m := newDomain(t, nil)
	m.serve(nil)
	id, token := m.admin("ines@airlock.test")
	var others []string
	for range 3 {
		entered, err := m.SignIns.SignIn(t.Context(), "ines@airlock.test", password, identity.Visit{Address: "198.51.100.7", UserAgent: "Mozilla/5.0 (X11; Linux x86_64) Firefox/130.0"})
		check(t, err)
		others = append(others, entered.Session.ID)
	}
	p := m.tab(token)
	look(t, p, "/me", "me-admin")
	if got := p.Text("#p-my-sessions"); !strings.Contains(got, "Firefox, Linux") || !strings.Contains(got, "198.51.100.7") {
		t.Errorf("the sessions are %q", got)
	}
	p.Submit(`form[action="/me/sessions/` + others[0] + `/end"] button`)
	p.Submit(`form[action="/me/sessions/end"] button`)
	left, err := m.SignIns.Sessions(t.Context(), identity.Operator(), id)
	check(t, err)
	if len(left) != 1 || m.call(token, "GET", "/me", "").StatusCode != http.StatusOK {
		t.Errorf("%d sessions are left", len(left))
	}
}

func TestBreakGlassIsBehindAWordWhereOnlyTheProviderLetsPeopleIn(t *testing.T) {
	m := newDomain(t, nil)
	m.serve(nil)
	m.admin("ines@airlock.test")
	check(t, m.SignIns.SetProvider(t.Context(), identity.Operator(), identity.Provider{
		On: true, BreakGlassOnly: true, Issuer: "https://login.example.com", ClientID: "airlock", Button: "Kestrel login",
	}, "secret"))
	p := m.tab("")
	look(t, p, "/sign-in", "sign-in-break-glass")
	if got := p.Text("main .button--primary"); got != "Kestrel login" {
		t.Errorf("the first button says %q", got)
	}
	if webtest.Eval[bool](p, `document.querySelector("#f-password").checkVisibility()`) {
		t.Error("the password field is there without being asked for")
	}
	p.Click("details summary")
	p.Fill("#f-email", "ines@airlock.test")
	p.Fill("#f-password", password)
	p.Submit("details button[type=submit]")
	if got := p.Text("h1"); got != "Home" {
		t.Errorf("the glass was broken, and the page is %q", got)
	}
}

func TestOneSignsInAtARealProvider(t *testing.T) {
	provider := httptest.NewUnstartedServer(nil)
	provider.StartTLS()
	t.Cleanup(provider.Close)
	m := newDomain(t, nil)
	m.serve(nil)
	known := storage.NewStorageWithClients(storage.NewUserStore(provider.URL), map[string]*storage.Client{
		"airlock": storage.WebClient("airlock", "client-secret", m.url+identity.OIDCCallback),
	})
	provider.Config.Handler = exampleop.SetupServer(provider.URL, known, nil, false)
	m.clock.Advance(time.Until(m.clock.Now())) // the provider's clock is the real one
	m.SignIns.PublicURL, m.SignIns.Client = m.url, provider.Client()
	_, token := m.admin("ines@airlock.test")
	_, err := m.People.ImportPeople(t.Context(), identity.Operator(), strings.NewReader("email,name\ntest-user2@zitadel.ch,Test User Two\n"))
	check(t, err)

	// The administrator sets it up, as people do.
	p := m.tab(token)
	p.Allow("422")
	p.Allow("503")
	p.Open("/settings")
	p.Fill("#f-issuer", "https://127.0.0.1:1")
	p.Fill("#f-client_id", "airlock")
	p.Submit("[formaction='/settings/provider/check']")
	if got := p.Text("#form-errors"); got == "" {
		t.Error("a provider that doesn't answer was checked")
	}
	p.Fill("#f-issuer", provider.URL)
	p.Submit("[formaction='/settings/provider/check']")
	if got := p.Text("main .alert"); !strings.Contains(got, "The provider answers") {
		t.Errorf("the check says %q", got)
	}
	p.Click("#f-on")
	p.Fill("#f-secret", "client-secret")
	p.Fill("#f-button", "Test login")
	p.Submit("#provider .button--primary")
	if got := p.Text("#toasts"); !strings.Contains(got, "Saved.") {
		t.Errorf("saving says %q", got)
	}
	if text := m.call(token, "GET", "/settings", "").text; strings.Contains(text, "client-secret") || !strings.Contains(text, "Unchanged") {
		t.Error("the secret comes back, or isn't kept")
	}

	at := func(user string) *webtest.Page {
		p := m.tab("")
		p.Allow("403")
		p.Allow("favicon")
		p.Open("/people")
		if got := p.Text("main .button--primary"); got != "Test login" {
			t.Fatalf("the button says %q", got)
		}
		p.Submit("main .button--primary")
		p.Fill("[name=username]", user)
		p.Fill("[name=password]", "verysecure")
		p.Submit("[type=submit]")
		return p
	}
	bound := at("test-user2")
	if got := bound.Text(".usermenu .name"); got != "Test User Two" {
		t.Errorf("%q is signed in", got)
	}
	if got := webtest.Eval[string](bound, "location.pathname"); got != "/people" {
		t.Errorf("one came back to %s", got)
	}
	hostname, _, _ := strings.Cut(strings.TrimPrefix(provider.URL, "https://"), ":")
	unbound := at("test-user@" + hostname)
	if got := unbound.Text("main .alert"); !strings.Contains(got, "nobody here has the e-mail test-user@zitadel.ch") {
		t.Errorf("who isn't known is told %q", got)
	}
	webtest.Axe(t, unbound)

	// An administrator says whose it is; then the door opens.
	p.Open("/settings")
	look(t, p, "/settings", "settings-pending")
	p.Open("/settings")
	p.Fill("#pending [name=person]", "ines@airlock.test")
	p.Submit("#pending .button")
	if got := p.Text("#toasts"); !strings.Contains(got, "Bound.") {
		t.Errorf("binding says %q", got)
	}
	if got := at("test-user@" + hostname).Text(".usermenu .name"); got != "Ines" {
		t.Errorf("%q is signed in", got)
	}
	if lost := m.call("", "GET", identity.OIDCCallback+"?state=x&code=y", ""); lost.StatusCode != http.StatusBadRequest || !strings.Contains(lost.text, "begin again") {
		t.Errorf("a callback that nobody waits for: %s", lost.Status)
	}
}
