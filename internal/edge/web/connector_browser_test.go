package web_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"google.golang.org/grpc/codes"

	"airlock/internal/edge/web"
	"airlock/internal/edge/web/webtest"
	"airlock/internal/identity"
	"airlock/internal/integration"
)

// whole looks at a page on each screen in both schemes.
func whole(t *testing.T, p *webtest.Page, name, path string) {
	t.Helper()
	for _, width := range []int64{1440, 360} {
		for _, dark := range []bool{false, true} {
			if dark && width < 1440 {
				continue // the colours are the same
			}
			p.Size(width, 900)
			p.Dark(dark)
			if path != "" {
				p.Open(path)
			}
			p.Fits()
			p.Screenshot(fmt.Sprintf("%s-%d-%s", name, width, map[bool]string{false: "light", true: "dark"}[dark]))
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

// many are connectors in every state, by name.
func (o *office) many() map[string]integration.Connector {
	o.t.Helper()
	all := map[string]integration.Connector{}
	for _, name := range []string{"Bank (prod)", "Bank (staging)", "Bank (sandbox)", "Bank (branches)", "Directory"} {
		c := o.elsewhere(name)
		if name == "Bank (staging)" || name == "Bank (sandbox)" {
			c = o.bank(name + " hosted")
		}
		all[name] = c
		actor := o.hello(c)
		if name == "Bank (sandbox)" {
			taskID := o.take(actor)
			o.clock.Advance(3 * time.Second)
			o.fail(actor, taskID, codes.Unauthenticated, "the passphrase is wrong")
			continue
		}
		o.cycle(c, 12, integration.Applied)
	}
	again := func(name string, people int, becomes integration.SyncState) {
		o.clock.Advance(time.Hour)
		_, err := o.Integration.SyncNow(o.t.Context(), identity.Operator(), all[name].ID)
		check(o.t, err)
		o.cycle(all[name], people, becomes)
	}
	for n := range 4 {
		again("Bank (staging)", 13+n, integration.Applied)
	}
	again("Bank (prod)", 13, integration.Applied)
	again("Bank (branches)", 3, integration.HeldBack)
	_, err := o.Integration.Pause(o.t.Context(), identity.Operator(), all["Directory"].ID, "the directory moves")
	check(o.t, err)
	_, _, err = o.Integration.Add(o.t.Context(), identity.Operator(), integration.AddConnector{Catalog: "baton", App: "Baton", Owners: []string{o.me}})
	check(o.t, err)
	// One that is under way.
	staging := all["Bank (staging)"]
	_, err = o.Integration.SyncNow(o.t.Context(), identity.Operator(), staging.ID)
	check(o.t, err)
	o.take(identity.Connector(staging.ID, staging.Name))
	check(o.t, o.Integration.ReadingCounts(o.t.Context(), staging.ID, map[string]int64{"person": 12, "team": 1}))
	check(o.t, o.Integration.AppendLog(o.t.Context(), staging.ID, []integration.LogLine{
		{At: o.clock.Now(), Level: "info", Message: "signed in, token valid 24 h"}, {At: o.clock.Now(), Level: "warn", Message: "503 on GET /teams, trying again in 2 s (1 of 5)"},
	}))
	o.clock.Advance(21 * time.Second)
	entered, err := o.SignIns.SignIn(o.t.Context(), "ann@airlock.test", password, identity.Visit{Address: "192.0.2.1", UserAgent: "test"})
	check(o.t, err) // hours have passed
	o.token = entered.Token
	return all
}

func TestPagesOfConnectorsAreWholeOnEachScreenInBothSchemes(t *testing.T) {
	o := newOffice(t)
	p := o.tab(o.token)
	p.Allow("422")
	whole(t, p, "connectors-empty", "/connectors")
	all := o.many()
	p.Cookie(web.SessionCookie, o.token)
	whole(t, p, "connectors", "/connectors")
	whole(t, p, "connector-syncing", "/connectors/"+all["Bank (staging)"].ID)
	whole(t, p, "connector-settings", "/connectors/"+all["Bank (staging)"].ID+"/edit/settings")
	whole(t, p, "connector-schedule", "/connectors/"+all["Bank (staging)"].ID+"/edit/schedule")
	whole(t, p, "connector-error", "/connectors/"+all["Bank (sandbox)"].ID)
	whole(t, p, "connector-held", "/connectors/"+all["Bank (branches)"].ID)
	whole(t, p, "connector-paused", "/connectors/"+all["Directory"].ID)
	whole(t, p, "connector-details", "/connectors/"+all["Directory"].ID+"/edit/details")
	whole(t, p, "connector-add", "/connectors/add")
	whole(t, p, "connector-ways", "/connectors/add/tiny")
	whole(t, p, "connector-file", "/connectors/add/file")
	whole(t, p, "syncs", "/syncs?connector="+all["Bank (staging)"].ID)
	list, err := o.Integration.Syncs(t.Context(), identity.Operator(), integration.SyncFilter{ConnectorID: all["Bank (prod)"].ID}, "", 1)
	check(t, err)
	whole(t, p, "sync", "/syncs/"+list[0].ID)
	held, err := o.Integration.Syncs(t.Context(), identity.Operator(), integration.SyncFilter{ConnectorID: all["Bank (branches)"].ID}, "", 1)
	check(t, err)
	whole(t, p, "sync-confirm", "/syncs/"+held[0].ID+"/confirm")
	whole(t, p, "connector-rotate", "/connectors/"+all["Bank (prod)"].ID+"/edit/rotate")

	// What is only shown as an answer.
	p.Open("/connectors/" + all["Bank (staging)"].ID + "/edit/settings")
	p.Fill("#f-world", "")
	p.Press(kb.Delete)
	p.Fill("#f-page-size", "5000")
	p.Submit("#p-settings .button--primary")
	whole(t, p, "connector-wrong", "")
	p.Open("/connectors/" + all["Bank (prod)"].ID + "/edit/settings")
	p.Submit("#p-settings .button--primary")
	whole(t, p, "connector-secret", "")
}

func TestAConnectorIsAddedByKeysAlone(t *testing.T) {
	o := newOffice(t)
	p := o.tab(o.token)
	p.Allow("422")
	p.Open("/connectors")
	enter(p, "a")
	p.Wait(`location.pathname === "/connectors/add" && document.activeElement.id === "catalog-q"`)
	p.Press("tiny")
	enter(p)
	p.Wait(`document.querySelectorAll(".card").length === 3`)
	reach(p, `document.activeElement.getAttribute("aria-label") === "Add Tiny Bank"`)
	enter(p)
	p.Wait(`document.querySelector("h1")?.textContent.includes("Tiny Bank")`)
	if got := p.Text("#p-ways-title"); got != "Choose how to set up the new Tiny Bank connector" {
		t.Errorf("the page is %q", got)
	}
	reach(p, `document.activeElement.textContent.trim() === "Next"`)
	enter(p)
	p.Wait(`document.querySelector("#connector-head .label")?.textContent.includes("Not connected")`)
	reach(p, `document.activeElement.textContent.trim() === "Edit" && document.activeElement.closest("#p-settings")`)
	enter(p)
	p.Wait(`document.querySelector("#f-world")`)

	// Wrong: the password isn't kept, the rest is, and the focus is where it is wrong.
	reach(p, `document.activeElement.id === "f-passphrase"`)
	p.Press("sesame")
	reach(p, `document.activeElement.id === "f-page-size"`)
	p.Fill("#f-page-size", "7")
	enter(p)
	p.Wait(`document.querySelector("#form-errors") && document.activeElement.id === "f-world"`)
	if p.Value("#f-passphrase") != "" || p.Value("#f-page-size") != "7" {
		t.Error("the password came back, or the rest is gone")
	}
	p.Press("/tmp/bank.json")
	enter(p)
	p.Wait(`/^.connectors.[^/]+$/.test(location.pathname) && !document.querySelector("#f-world")`)

	// From here on the page is left alone.
	c, err := o.Integration.Find(t.Context(), identity.Operator(), "Tiny Bank")
	check(t, err)
	p.Wait(`document.documentElement.dataset.stream === "open"`)
	actor := o.hello(c)
	label := func(word string) {
		t.Helper()
		p.Wait(fmt.Sprintf(`document.querySelector("#connector-head .label").textContent.trim() === %q`, word))
	}
	label("Syncing")
	taskID := o.take(actor)
	p.Wait(`document.querySelector(".phases")?.textContent.includes("Reading")`)
	check(t, o.Integration.ReadingCounts(t.Context(), c.ID, map[string]int64{"person": 7}))
	p.Wait(`document.querySelector(".phases").textContent.includes("Person 7")`)
	o.bring(actor, taskID, 7)
	label("Connected")
	p.Wait(`document.querySelector("#connector-history").textContent.includes("Complete") && document.querySelector(".page-meta").textContent.includes("7 accounts")`)

	// It fails later, and is mended.
	enter(p, "s")
	label("Syncing")
	o.fail(actor, o.take(actor), codes.Unauthenticated, "the passphrase is wrong")
	label("Error")
	p.Wait(`document.querySelector("[role=alert]")?.textContent.includes("the passphrase is wrong")`)
	reach(p, `document.activeElement.textContent.trim() === "Edit settings"`)
	enter(p)
	p.Wait(`document.querySelector("#f-passphrase")`)
	reach(p, `document.activeElement.id === "f-passphrase"`)
	p.Press("open sesame")
	enter(p)
	p.Wait(`/^.connectors.[^/]+$/.test(location.pathname) && !document.querySelector("#f-world")`)
	label("Syncing")
	o.bring(actor, o.take(actor), 7)
	label("Connected")
}

// enter presses Enter, or another key, that leads to another page, and waits for
// that.
func enter(p *webtest.Page, key ...string) {
	p.Run(chromedp.ActionFunc(func(ctx context.Context) error {
		loaded := make(chan struct{}, 1)
		listening, stop := context.WithCancel(ctx)
		defer stop()
		chromedp.ListenTarget(listening, func(event any) {
			if _, ok := event.(*page.EventLoadEventFired); ok {
				select {
				case loaded <- struct{}{}:
				default:
				}
			}
		})
		if err := chromedp.KeyEvent(append(key, kb.Enter)[0]).Do(ctx); err != nil {
			return err
		}
		select {
		case <-loaded:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}))
}

// reach presses Tab until an expression holds.
func reach(p *webtest.Page, expression string) {
	for range 80 {
		if webtest.Eval[bool](p, "!!("+expression+")") {
			return
		}
		p.Press(kb.Tab)
	}
	p.Wait(expression)
}

func TestAHeldSyncIsConfirmedInTwoTabs(t *testing.T) {
	o := newOffice(t)
	c := o.elsewhere("Bank")
	o.hello(c)
	o.cycle(c, 12, integration.Applied)
	p := o.tab(o.token)
	at := "/connectors/" + c.ID
	p.Open(at)
	p.Wait(`document.documentElement.dataset.stream === "open"`)
	other := p.Tab()
	other.Open("/connectors")
	other.Wait(`document.documentElement.dataset.stream === "open"`)
	o.leads(o.send("POST", at+"/sync", url.Values{}), at)
	o.cycle(c, 4, integration.HeldBack)
	p.Wait(`document.querySelector("#p-held")?.textContent.includes("Confirm changes")`)
	other.Wait(`document.querySelector("tbody").textContent.includes("Decide")`)
	p.Click("#p-held details summary")
	p.Click(`#p-held a[href$="/confirm"]`)
	p.Wait(`document.querySelector("dialog:modal h1")?.textContent.startsWith("Confirm changes: remove 16")`)
	p.Screenshot("held-dialog")
	webtest.Axe(t, p)
	p.Submit("dialog .button--danger-solid")
	p.Wait(`document.querySelector("#connector-head .label").textContent.trim() === "Connected" && !document.querySelector("#p-held")`)
	other.Wait(`document.querySelector("tbody").textContent.includes("Connected")`)
}

func TestASecretIsCopiedAndTheWaysToRunItChange(t *testing.T) {
	o := newOffice(t)
	c := o.elsewhere("Baton")
	p := o.tab(o.token)
	at := "/connectors/" + c.ID
	p.Open(at)
	p.Submit("#p-settings a[href$='/edit/settings']")
	p.Submit("#p-settings .button--primary")
	if !strings.HasPrefix(p.Text("#secret-1"), "secret-token:") {
		t.Errorf("the secret is %q", p.Text("#secret-1"))
	}
	if !webtest.Eval[bool](p, `document.querySelector("#run-kubernetes").checkVisibility() && !document.querySelector("#run-docker").checkVisibility()`) {
		t.Error("not Kubernetes is shown, or not alone")
	}
	p.Click(`.segments label:has([value=docker])`)
	p.Wait(`document.querySelector("#run-docker").checkVisibility() && !document.querySelector("#run-kubernetes").checkVisibility()`)
	p.Wait(`document.documentElement.dataset.stream === "open"`)
	actor := o.hello(c)
	p.Wait(`document.querySelector("#connector-head .label").textContent.trim() === "Syncing"`)
	if !strings.HasPrefix(p.Text("#secret-1"), "secret-token:") {
		t.Error("the secret went when the connector called")
	}
	o.bring(actor, o.take(actor), 3)
	p.Submit("#p-settings .panel-foot .button--primary")
	p.Wait(`document.querySelector("#connector-head h1").textContent.includes("Tiny Bank")`) // its name is learned
}

func TestConnectorsWorkWithoutScripts(t *testing.T) {
	o := newOffice(t)
	p := o.tab(o.token)
	p.NoScripts()
	p.Allow("422")
	p.Open("/connectors")
	p.Submit(".page-head .button--primary")
	p.Submit(`a[aria-label="Add Tiny Bank"]`)
	p.Fill("#f-name", "The bank")
	p.Submit(".panel-foot .button--primary")
	p.Submit("#p-settings .button--primary")
	p.Submit("#p-settings .button--primary")
	if !strings.Contains(p.Text("#f-world-error"), "needed") {
		t.Errorf("the field says %q", p.Text("#f-world-error"))
	}
	p.Fill("#f-world", "/tmp/bank.json")
	p.Submit("#p-settings .button--primary")
	c, err := o.Integration.Find(t.Context(), identity.Operator(), "The bank")
	check(t, err)
	o.hello(c)
	o.cycle(c, 12, integration.Applied)
	p.Open("/connectors/" + c.ID)
	p.Submit(`form[action$="/sync"] button`)
	o.cycle(c, 2, integration.HeldBack)
	p.Open("/connectors/" + c.ID)
	p.Submit(`#p-held a[href$="/confirm"]`)
	p.Submit(".button--danger-solid")
	o.until(c, integration.Applied)
	p.Open("/connectors/" + c.ID)
	p.Submit(`form[action$="/pause"] button`)
	p.Submit(`form[action$="/connectors/` + c.ID + `/resume"] button`)
	p.Click("#connector-more summary")
	p.Submit(`#connector-more a[href$="/edit/remove"]`)
	p.Submit(".button--danger-solid")
	if got := p.Text("h2"); got != "No connectors yet" {
		t.Errorf("the page says %q", got)
	}
}
