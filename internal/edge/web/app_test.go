package web_test

import (
	"fmt"
	"testing"

	"airlock/internal/edge/web/webtest"
	"airlock/internal/identity"
)

// pages are all of these, by a word for each.
func (c *company) pages() map[string]string {
	return map[string]string{
		"apps": "/apps", "apps-unmanaged": "/apps/unmanaged", "app-new": "/apps/new", "app": "/apps/" + c.prod.ID, "app-empty": "/apps/" + c.payroll.ID,
		"app-entitlements": "/apps/" + c.prod.ID + "/entitlements?open=prod/role/payroll-editor/assigned", "app-accounts": "/apps/" + c.prod.ID + "/accounts",
		"app-accounts-empty": "/apps/" + c.payroll.ID + "/accounts",
		"app-resources":      "/apps/" + c.prod.ID + "/resources?type=prod/role", "app-grants": "/apps/" + c.prod.ID + "/grants?holder=prod/user", "app-settings": "/apps/" + c.prod.ID + "/settings",
		"app-settings-edit": "/apps/" + c.prod.ID + "/settings/edit", "app-remove": "/apps/" + c.payroll.ID + "/remove",
		"resource":    "/resources/prod%2Fdag%2Fpayroll_close",
		"entitlement": "/entitlements/prod%2Frole%2Fpayroll-editor%2Fassigned", "entitlement-edit": "/entitlements/prod%2Frole%2FOp%2Fassigned/edit",
		"entitlement-inherited": "/entitlements/prod%2Fdag%2Fpayroll_close%2Fcan_edit", "entitlement-past": "/entitlements/prod%2Frole%2Fpayroll-editor%2Fassigned/past",
		"account": "/accounts/prod%2Fuser%2Fhvogel", "account-unmatched": "/accounts/prod%2Fuser%2Fsvc-payroll?find=okafor", "account-past": "/accounts/prod%2Fuser%2Ftlindqvist/past",
		"people": "/people", "people-import": "/people/import", "person": "/people/" + c.people["daniel.okafor"],
	}
}

func TestThePagesOfAppsAndPeopleAreWholeOnEachScreenInBothSchemes(t *testing.T) {
	c := newCompany(t)
	_, token := c.as("ines@kestrelfreight.com", identity.SuperAdmin)
	p := c.tab(token)
	for name, path := range c.pages() {
		t.Run(name, func(t *testing.T) {
			for _, width := range []int64{1440, 360} {
				p.Size(width, 900)
				p.Dark(false)
				p.Open(path)
				p.Fits()
				p.Screenshot(fmt.Sprintf("%s-%d-light", name, width))
				webtest.Axe(t, p)
				p.Dark(true)
				webtest.Axe(t, p, "color-contrast")
			}
			p.Size(1440, 900)
			p.Screenshot(name + "-1440-dark")
		})
	}
}
