package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"airlock/airflow/airflowtest"
)

// TestCompat runs the contract and the connector over every release there is a
// row for, and writes docs/compatibility.md from what it saw. `make compat`
// calls it; it takes about half an hour.
func TestCompat(t *testing.T) {
	if os.Getenv("COMPAT") == "" {
		t.Skip("runs over all releases: make compat")
	}
	checks := []struct {
		name string
		run  func(t *testing.T, baseURL string, release airflowtest.Release)
	}{
		{"sync", func(t *testing.T, url string, _ airflowtest.Release) { testSync(t, url) }},
		{"grant, revoke", func(t *testing.T, url string, _ airflowtest.Release) { testGrants(t, url) }},
		{"create, delete, rotate", func(t *testing.T, url string, _ airflowtest.Release) { testAccounts(t, url) }},
		{"refusals", func(t *testing.T, url string, _ airflowtest.Release) { testRefusals(t, url) }},
		{"revoke_all_roles", func(t *testing.T, url string, _ airflowtest.Release) { testAction(t, url) }},
		{"usage events", func(t *testing.T, url string, r airflowtest.Release) { testUsage(t, url, r) }},
		{"client's contract", func(t *testing.T, url string, r airflowtest.Release) {
			airflowtest.Contract(t, airflowtest.Target{URL: url, Airflow: r.Airflow, FAB: r.FAB})
		}},
	}
	var doc strings.Builder
	doc.WriteString(compatHead + "| Airflow | FAB | as of | takes | roles deleted by the API |")
	for _, check := range checks {
		fmt.Fprintf(&doc, " %s |", check.name)
	}
	doc.WriteString("\n" + strings.Repeat("|---", 5+len(checks)) + "|\n")
	for _, release := range airflowtest.Releases("") {
		t.Run(release.Airflow, func(t *testing.T) {
			real := airflowtest.RealForTest(t, release.Airflow)
			server, err := admin(t, real.URL).Server(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			deletes := "yes"
			if !airflowtest.DeletesRoles(release.FAB) {
				deletes = "no, Airflow answers 500"
			}
			fmt.Fprintf(&doc, "| %s | %s | %s | %s | %s |", server.Airflow, server.FAB, release.Date, server.Credentials(), deletes)
			for _, check := range checks {
				result := "failed"
				if t.Run(check.name, func(t *testing.T) { check.run(t, real.URL, release) }) {
					result = "ok"
				}
				fmt.Fprintf(&doc, " %s |", result)
			}
			doc.WriteString("\n")
		})
	}
	if err := os.WriteFile("../docs/compatibility.md", []byte(doc.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

const compatHead = `# Which Airflow it works with

` + "`make compat`" + ` starts each of these real Airflows, with its dependencies as they
were on the day named, runs the checks of the columns with the real program
against it, and writes this table from what it saw. Three of them, marked "test"
in ` + "`airflow/airflowtest/releases.tsv`" + `, also run in every ` + "`make test`" + `.

*takes*: what the endpoints of users and roles take: a token (bearer), or username
and password (basic). Where basic is among it, Airflow has to be told to allow it:
[connector.mdx](connector.mdx#airflow-versions) says how. Releases that aren't in the table
are judged by what they answer, not by their number.

`
