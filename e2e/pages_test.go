package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"airlock/airflow/airflowtest"
	"airlock/internal/edge/web/webtest"
)

// pages are a server's pages, as a person opens them who has become the first
// administrator by the link that the server wrote to its log.
func (a *airlock) pages() *webtest.Page {
	a.t.Helper()
	const says = "become the first one"
	if err := a.log.wait(a.t.Context(), says); err != nil {
		a.t.Fatal(err)
	}
	link := regexp.MustCompile(`/setup/[^"\s]+`).FindString(a.log.String())
	if link == "" {
		a.t.Fatalf("the log has no link to set the server up:\n%s", a.log)
	}
	p := webtest.Browser(a.t, "https://"+a.address)
	p.Open(link)
	p.Fill("[name=name]", "Ines Marchetti")
	p.Fill("[name=email]", "ines@example.com")
	p.Fill("[name=password]", "correct horse battery staple")
	p.Submit(".button--primary")
	p.Wait(`document.querySelector(".rail, nav")`)
	return p
}

// label waits until the connector's page, which nobody touches, has a label.
func label(t *testing.T, p *webtest.Page, words string) {
	t.Helper()
	p.WaitLong(fmt.Sprintf(`document.querySelector("#connector-head .label")?.textContent.trim() === %q`, words))
}

// TestPages walks the two ways to add Airflow that the connector's documentation
// tells, against a real one.
func TestPages(t *testing.T) {
	release := airflowtest.Releases("test")[0]
	real := airflowtest.RealForTest(t, release.Airflow)
	account := airflowtest.Company().User("airlock")
	a := newAirlock(t, "", "AIRLOCK_ORGANISATION=Kestrel Freight")
	a.serve()
	p := a.pages()
	p.Allow("422")

	t.Run("hosted", func(t *testing.T) {
		p.Open("/")
		p.Follow("Integrations")
		p.Follow("Add connector")
		p.Fill("#catalog-q", "Airflow\r")
		p.Wait(`location.search.includes("Airflow")`)
		p.Follow("Add Apache Airflow")
		p.Wait(`document.body.innerText.includes("Create a new managed app")`)
		p.Fill("[name=name]", "Airflow")
		p.Follow("Next")
		label(t, p, "Not connected")
		p.Follow("Edit")
		p.Fill("#f-airflow-base-url", real.URL)
		p.Fill("#f-airflow-username", account.Username)
		p.Fill("#f-airflow-password", "wrong")
		p.Follow("Save")
		// A wrong password is told with its cause, and mended.
		label(t, p, "Error")
		p.Wait(`document.querySelector("[role=alert]").innerText.includes("401") || /sign|password|credential/i.test(document.querySelector("[role=alert]").innerText)`)
		p.Follow("Edit settings")
		p.Fill("#f-airflow-password", account.Password)
		p.Follow("Save")
		label(t, p, "Connected")
		webtest.Axe(t, p)

		p.Follow("Applications")
		p.Wait(`document.body.innerText.includes("Managed apps")`)
		p.Follow("Airflow")
		p.Follow("Entitlements")
		for _, role := range airflowtest.Company().Roles {
			p.Wait(fmt.Sprintf(`document.querySelector("table").innerText.includes(%q)`, role.Name))
		}
		webtest.Axe(t, p)
		p.Follow("Accounts")
		p.Wait(`document.querySelector("table").innerText.includes("eve")`)
		a.in(t).checkCompany("Airflow")
	})

	t.Run("self-hosted", func(t *testing.T) {
		p.Open("/connectors/add")
		p.Fill("#catalog-q", "Baton\r")
		p.Wait(`location.search.includes("Baton")`)
		p.Follow("Add Baton")
		p.Follow("Next")
		label(t, p, "Not connected")
		p.Follow("Edit")
		p.Follow("Rotate")
		p.Wait(`document.body.innerText.includes("secret-token:")`)
		id, secret := p.Text("#secret-0"), p.Text("#secret-1")
		if !strings.Contains(webtest.Eval[string](p, "document.body.textContent"), "BEGIN CERTIFICATE") {
			t.Error("what is to be run doesn't have the server's own CA")
		}
		p.Open("/connectors")
		p.Follow("Baton")
		a.in(t).selfHosted("BATON_CLIENT_ID="+id+"\nBATON_CLIENT_SECRET="+secret+"\nSSL_CERT_DIR="+filepath.Join(a.dataDir, "ca"), real.URL)
		label(t, p, "Connected")
		p.Wait(`!document.querySelector("h1").textContent.includes("Baton")`) // it has the connector's name by now
		if text := webtest.Eval[string](p, "document.documentElement.outerHTML"); strings.Contains(text, secret) {
			t.Error("the secret is shown again")
		}
	})
}
