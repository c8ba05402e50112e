package web_test

import (
	"context"
	"encoding/csv"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/edge/web"
	"airlock/internal/edge/web/webtest"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// newHeadquarters is the company, and Ines, who runs Airlock.
func newHeadquarters(t *testing.T) (c *company, token string) {
	t.Helper()
	c = newCompany(t)
	c.serve(func(config *web.Config) {
		config.About = web.About{
			Version: "v0.9.0", PublicURL: "https://airlock.kestrelfreight.com", Database: "PostgreSQL at db.kestrelfreight.com", DataDir: "/var/lib/airlock",
			KeyIDs: func() []string { return []string{"k-2f81a9c4", "k-77d01b3e"} }, KeysFrom: "/var/lib/airlock/airlock.key",
		}
	})
	_, token = c.as("ines.marchetti@kestrelfreight.com", identity.SuperAdmin)
	return c, token
}

func TestTheFirstPageSaysWhatNeedsAnAdministrator(t *testing.T) {
	c, token := newHeadquarters(t)
	p := c.tab(token)
	look(t, p, "/", "home-admin")
	p.Open("/")
	if got := p.Text("#sync-problems"); !strings.Contains(got, "Airflow (staging)") || !strings.Contains(got, "Not connected") {
		t.Errorf("the sync problems are %q", got)
	}
	if got := p.Text("#home-healthy"); !strings.Contains(got, "Airflow (prod)") {
		t.Errorf("the others are %q", got)
	}
	if got := p.Text("#p-accounts-without-a-person"); !strings.Contains(got, "1 account") || !strings.Contains(got, "Marcus Bell") || !strings.Contains(got, "J. Doe") {
		t.Errorf("the accounts without a person are %q", got)
	}
	if got := p.Text("#my-access"); !strings.Contains(got, "Admin") || !strings.Contains(got, "Airflow (prod)") {
		t.Errorf("my access is %q", got)
	}
	// What a connector does shows without touching the page.
	p.Wait(`document.documentElement.dataset.stream === "open"`)
	_, err := c.Integration.Pause(t.Context(), identity.Operator(), c.connector.ID, "upgrade to 3.1")
	check(t, err)
	p.Wait(`document.querySelector("#sync-problems")?.innerText.includes("upgrade to 3.1")`)
	check(t, c.Audit.Checkpoint(t.Context()))
	p.Wait(`document.querySelector("#home-trail").innerText.includes("covers every entry")`)
}

func TestAUserSeesWhatIsTheirs(t *testing.T) {
	c, _ := newHeadquarters(t)
	_, token := c.as("daniel.okafor@kestrelfreight.com", identity.User)
	p := c.tab(token)
	look(t, p, "/", "home-user")
	look(t, p, "/me", "me-user")
	p.Open("/")
	if got := p.Text("#my-access"); !strings.Contains(got, "finance-reader") || !strings.Contains(got, "User") {
		t.Errorf("my access is %q", got)
	}
	if got := p.Text("#my-accounts"); !strings.Contains(got, "dokafor") {
		t.Errorf("my accounts are %q", got)
	}
	if got := p.Text("main"); strings.Contains(got, "Sync problems") || strings.Contains(got, "Audit log") || strings.Contains(got, "Marcus Bell") {
		t.Errorf("a user sees %q", got)
	}
	if got := p.Text(".rail .nav"); strings.Contains(got, "Settings") || strings.Contains(got, "Audit") {
		t.Errorf("a user's navigation is %q", got)
	}
	rows, err := csv.NewReader(strings.NewReader(c.call(token, "GET", "/me?format=csv", "").text)).ReadAll()
	check(t, err)
	if len(rows) < 3 || rows[0][0] != "Right" {
		t.Errorf("the export is %v", rows)
	}
	if got := c.call(token, "GET", "/search?q=elena", "").text; strings.Contains(got, "Elena Petrova") {
		t.Error("a user finds other people")
	}
}

func TestSearchFindsAllKindsAsOneTypes(t *testing.T) {
	c, token := newHeadquarters(t)
	p := c.tab(token)
	look(t, p, "/search?q=pa", "search")
	look(t, p, "/search?q=nothing%20like%20this", "search-nothing")
	p.Open("/")
	p.Press("/")
	p.Press("airflow\r")
	p.Wait(`location.pathname === "/search" && document.querySelector("#found")`)
	if got := webtest.Eval[string](p, `[...document.querySelectorAll("#found .group")].map((e) => e.innerText.trim()).join()`); !strings.Contains(got, "Applications") || !strings.Contains(got, "Connectors") {
		t.Errorf("the groups are %s", got)
	}
	p.Fill("#search-q", "hannah")
	p.Wait(`location.search === "?q=hannah" && document.activeElement.id === "search-q" && document.querySelector("#found")?.innerText.includes("Hannah Vogel")`)
	webtest.Eval[bool](p, `(document.activeElement.blur(), true)`)
	p.Press("j")
	p.Wait(`document.querySelector("#found tr[data-cursor]")?.dataset.key.startsWith("person-")`)
	p.Press("\r")
	p.Wait(`location.pathname.startsWith("/people/")`)
	p = c.tab(token)
	p.NoScripts()
	p.Open("/search?q=payroll-editor")
	if got := p.Text("#found"); !strings.Contains(got, "Entitlements") || !strings.Contains(got, "payroll-editor") {
		t.Errorf("without scripts there is %q", got)
	}
}

func TestTheAuditLogIsSearchedUnfoldedVerifiedAndExported(t *testing.T) {
	c, _ := newHeadquarters(t)
	check(t, c.Audit.Checkpoint(t.Context()))
	c.clock.Advance(26 * 3600e9)
	_, token := c.as("ines.marchetti@kestrelfreight.com", identity.SuperAdmin) // the session before has ended
	_, err := c.Integration.Rename(t.Context(), identity.Operator(), c.connector.ID, "Airflow, production")
	check(t, err)
	p := c.tab(token)
	look(t, p, "/audit", "audit")
	look(t, p, "/audit?open=3", "audit-open")

	p.Open("/audit")
	if got := p.Text("#log tr.group"); !strings.HasPrefix(got, "Today, ") {
		t.Errorf("the newest are of %q", got)
	}
	if got := webtest.Eval[int](p, `document.querySelectorAll("#log .entry:not(.entry--ok)").length`); got == 0 {
		t.Error("no entry waits for a checkpoint")
	}
	p.Fill("#log-q", "production")
	p.Wait(`document.querySelectorAll("#log tr[data-key]").length === 1 && document.querySelector("#log").innerText.includes("Connector renamed")`)
	p.Open("/audit?action=app&from=2026-11-23&to=2026-11-23")
	if got := webtest.Eval[bool](p, `[...document.querySelectorAll("#log td[data-name=Action]")].every((e) => e.innerText.startsWith("App"))`); !got {
		t.Errorf("the actions are %s", p.Text("#log"))
	}
	p.Open("/audit?from=2030-01-01")
	if got := p.Text("#log .empty h2"); got != "No entry matches" {
		t.Errorf("nothing says %q", got)
	}
	p.Open("/audit")
	p.Click(`#log tr[data-key] td[data-name=Who] a`)
	p.Wait(`location.search.startsWith("?who=") && document.querySelector("a.filter")?.innerText.includes("By ")`)

	// A row unfolds in its place, with its proof.
	p.Open("/audit?after=4")
	p.Press("jo")
	p.Wait(`document.querySelector("#log-3-detail .record")?.innerText.includes("In a signed checkpoint")`)
	proof := c.call(token, "GET", "/audit/3/proof", "")
	if proof.StatusCode != http.StatusOK || !strings.Contains(proof.text, `"checkpoint"`) || !strings.Contains(proof.Header.Get("Content-Disposition"), "audit-3-proof.json") {
		t.Errorf("the proof is %s %s", proof.Status, proof.text)
	}
	entries, _, err := c.Audit.Extent(t.Context())
	check(t, err)
	if open := c.call(token, "GET", "/audit/"+strconv.FormatInt(entries-1, 10)+"/proof", ""); open.StatusCode != http.StatusConflict && open.StatusCode != http.StatusPreconditionFailed {
		t.Errorf("what no checkpoint covers is proved: %s", open.Status)
	}

	p.Open("/audit")
	p.Wait(`document.documentElement.dataset.stream === "open"`)
	p.Submit(`form[action="/audit/verify"] button`)
	p.Wait(`document.querySelector("#log-head").innerText.includes("Verified up to entry")`)
	p.Screenshot("audit-verified")
	webtest.Axe(t, p)

	export := c.call(token, "GET", "/audit/export", "")
	report, err := audit.VerifyExport(strings.NewReader(export.text), audit.VerifyOptions{})
	check(t, err)
	if report.Tampered != "" || report.Size != entries || !strings.HasPrefix(export.Header.Get("Content-Disposition"), "attachment; filename=\"audit-2026-") {
		t.Errorf("the export: %+v", report)
	}
	rows, err := csv.NewReader(strings.NewReader(c.call(token, "GET", "/audit?format=csv&action=app", "").text)).ReadAll()
	check(t, err)
	if len(rows) < 3 || rows[0][0] != "Time, UTC" {
		t.Errorf("the table's export is %v", rows)
	}

	// What was altered is said at the top.
	check(t, c.DB.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE audit_event SET actor_name = 'somebody else' WHERE seq = 2")
		return err
	}))
	p.Submit(`form[action="/audit/verify"] button`)
	p.Wait(`document.querySelector("#log-verdict .alert--bad")?.innerText.includes("tampered")`)
	p.Screenshot("audit-tampered")
	webtest.Axe(t, p)
}

func TestSettingsAreReadByAuditorsAndChangedByAdministrators(t *testing.T) {
	c, token := newHeadquarters(t)
	id := c.people["ines.marchetti"]
	check(t, c.SignIns.SetProvider(t.Context(), identity.Operator(), identity.Provider{
		Issuer: "https://login.kestrelfreight.com", ClientID: "airlock", Groups: map[string]identity.Roles{"airlock-admins": identity.SuperAdmin, "audit": identity.Auditor | identity.CampaignAdmin},
	}, "a client secret"))
	check(t, c.SignIns.AssignRole(t.Context(), identity.Operator(), c.people["ruth.abrams"], identity.Auditor))
	check(t, c.SignIns.AssignRole(t.Context(), identity.Operator(), c.people["elena.petrova"], identity.ApplicationAdmin))
	check(t, c.Audit.Checkpoint(t.Context()))
	p := c.tab(token)
	for path, name := range map[string]string{
		"/settings": "settings", "/settings/roles": "settings-roles", "/settings/sessions": "settings-sessions", "/settings/keys": "settings-keys", "/settings/about": "settings-about",
	} {
		look(t, p, path, name)
	}
	p.Allow("422")
	p.Open("/settings/roles")
	p.Fill("#f-person", "nobody at all")
	p.Submit("#assign .button--primary")
	if got := p.Text("#f-person-error"); !strings.Contains(got, "There is nobody with the e-mail or name") {
		t.Errorf("the field says %q", got)
	}
	p.Fill("#f-person", "Hannah Vogel")
	webtest.Eval[bool](p, `(document.querySelector("#f-role").value = "connector_admin", true)`)
	p.Submit("#assign .button--primary")
	if got := p.Text("#roles"); !strings.Contains(got, "Hannah Vogel") {
		t.Errorf("the roles are %q", got)
	}
	if webtest.Eval[bool](p, `document.querySelector("a[href*='`+id+`'][href$=remove]") !== null`) {
		t.Error("one's own role can be removed")
	}
	p.Click(`a[href="/settings/roles/` + c.people["hannah.vogel"] + `/connector_admin/remove"]`)
	p.Wait(`document.querySelector("dialog:modal h1")?.innerText === "Remove Connector Admin from Hannah Vogel?"`)
	webtest.Axe(t, p)
	p.Submit("dialog .button--danger-solid")
	if got := p.Text("#roles"); strings.Contains(got, "Hannah Vogel") {
		t.Errorf("the roles are %q", got)
	}
	own := c.call(token, "POST", "/settings/roles", url.Values{"person": {"ines.marchetti@kestrelfreight.com"}, "role": {"auditor"}}.Encode())
	if own.StatusCode != http.StatusForbidden || !strings.Contains(own.text, "nobody decides on their own access") && !strings.Contains(own.text, "Nobody decides on their own access") {
		t.Errorf("one gives oneself a role: %s", own.Status)
	}
	bad := c.call(token, "POST", "/settings/provider", url.Values{"issuer": {"no address"}, "client_id": {"x"}, "group": {"g"}, "role": {"auditor"}}.Encode())
	if bad.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(bad.text, `value="no address"`) || !strings.Contains(bad.text, `value="g"`) {
		t.Errorf("a wrong provider: %s", bad.Status)
	}

	_, reader := c.as("ruth.abrams@kestrelfreight.com", identity.Auditor)
	text := c.call(reader, "GET", "/settings", "").text
	if strings.Contains(text, "<form method=\"post\" action=\"/settings") || !strings.Contains(text, "login.kestrelfreight.com") || strings.Contains(text, "a client secret") {
		t.Error("an auditor can change the provider, doesn't see it, or sees too much")
	}
	sessions, err := c.SignIns.Sessions(t.Context(), identity.Operator(), c.people["ruth.abrams"])
	check(t, err)
	if ended := c.call(token, "POST", "/settings/sessions/"+sessions[0].ID+"/end", ""); ended.Header.Get("Location") != "/settings/sessions" {
		t.Errorf("ending a session leads to %s", ended.Status)
	}
	if after := c.call(reader, "GET", "/settings", ""); after.Header.Get("Location") != "/sign-in" {
		t.Errorf("a session that was ended: %s", after.Status)
	}
}

func TestTopicsAreHeardByWhoMayReadWhatTheyAreAbout(t *testing.T) {
	c, admin := newHeadquarters(t)
	_, owner := c.as("elena.petrova@kestrelfreight.com", identity.ApplicationAdmin)
	_, user := c.as("daniel.okafor@kestrelfreight.com", identity.User)
	_, auditor := c.as("ruth.abrams@kestrelfreight.com", identity.Auditor)
	syncs, err := c.Integration.List(t.Context(), identity.Operator(), inventory.Key{}, 10)
	check(t, err)
	for topic, may := range map[string]string{ // of admin, owner, user, auditor
		"connector/" + c.connector.ID:    "yyny",
		"connector/" + syncs[1].ID:       "ynny", // of another app
		"sync/" + syncs[0].Last.ID:       "yyny",
		"app/" + c.prod.ID:               "yyny",
		"app/" + c.staging.ID:            "ynny",
		"connectors":                     "yyny",
		"people":                         "yyny",
		"audit":                          "ynny",
		"audit/verify":                   "ynny",
		"change/nothing":                 "nnnn",
		"session/other":                  "nnnn",
		"tasks/" + c.connector.ID:        "nnnn",
		"whatever":                       "nnnn",
		"app/":                           "nnnn",
		"audit/" + c.connector.ID + "/x": "nnnn",
	} {
		got := ""
		for _, token := range []string{admin, owner, user, auditor} {
			status := c.hear(token, topic)
			got += map[bool]string{true: "y", false: "n"}[status == http.StatusOK]
		}
		if got != may {
			t.Errorf("%s: %s, not %s", topic, got, may)
		}
	}
}

// hear opens a stream and tells its status.
func (m *domain) hear(token, topic string) int {
	m.t.Helper()
	response := (&rig{url: m.url}).open(m.t, "GET", "/events?topics="+url.QueryEscape(topic), "", "Cookie", web.SessionCookie+"="+token, "Accept", "text/event-stream")
	defer response.Body.Close()
	return response.StatusCode
}
