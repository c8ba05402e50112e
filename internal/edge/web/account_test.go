package web_test

import (
	"testing"

	"airlock/internal/edge/web/webtest"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

func TestAnAccountIsLinkedToAPersonWithoutScripts(t *testing.T) {
	c := newCompany(t)
	_, token := c.as("ines@kestrelfreight.com", identity.SuperAdmin)
	p := c.tab(token)
	p.NoScripts()
	p.Open("/apps/" + c.prod.ID + "/accounts?match=unmatched")
	p.Submit("a[href='/accounts/prod%2Fuser%2Fsvc-payroll']")
	p.Fill("#f-find", "okafor")
	p.Submit(".find button")
	p.Submit("button[aria-label='Link to Daniel Okafor']")
	if got := p.Text("#p-person a.title-link"); got != "Daniel Okafor" {
		t.Errorf("the account is %q's", got)
	}
	p.Submit("form[action$='/free'] button")
	if got := p.Text("#p-person .label"); got != "Unmatched" {
		t.Errorf("freed, it is %q", got)
	}
	p.Submit("button[name=nobody]")
	if got := p.Text("#p-person .label"); got != "Nobody’s" {
		t.Errorf("unlinked, it is %q", got)
	}
}

func TestEntitlementsUnfoldByKeysAndFollowTheirApp(t *testing.T) {
	c := newCompany(t)
	_, token := c.as("ines@kestrelfreight.com", identity.SuperAdmin)
	p := c.tab(token)
	p.Open("/apps/" + c.prod.ID + "/entitlements")
	p.Wait(`document.documentElement.dataset.stream === "open"`)
	p.Press("jj")
	p.Press("o")
	p.Wait(`document.querySelector("tr.detail .perms") !== null`)
	webtest.Axe(t, p)
	if got := webtest.Eval[string](p, `document.querySelector("tr[data-open]").dataset.key`); got != "prod/role/Op/assigned" {
		t.Errorf("%s is open", got)
	}
	check(t, c.Inventory.SetRules(t.Context(), identity.Operator(), "prod/role/Op/assigned", func(r *inventory.Rules) { r.Requestable = false }))
	p.Wait(`document.querySelector("tr[data-open] [data-name=Requestable]").innerText.trim() === "No"`)
	if !webtest.Eval[bool](p, `document.querySelector("tr.detail .perms") !== null`) {
		t.Error("the row was folded by a change elsewhere")
	}
	p.Press("o")
	p.Wait(`document.querySelector("tr.detail") === null`)
}
