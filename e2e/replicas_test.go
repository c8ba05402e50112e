package e2e

import (
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"airlock/airflow/airflowtest"
	"airlock/internal/base/db/dbtest"
	command "airlock/internal/edge/admin"
)

// company is an Airflow in memory with the company in it.
func company(t *testing.T) (*airflowtest.Server, string) {
	t.Helper()
	fake := airflowtest.New(airflowtest.Options{})
	fake.Load(airflowtest.Company())
	front := httptest.NewServer(fake)
	t.Cleanup(front.Close)
	return fake, front.URL
}

// TestReplicas runs two servers on one database: what one begins the other goes on
// with, and either does for the other what a connector is to do.
func TestReplicas(t *testing.T) {
	fake, url := company(t)
	database := dbtest.PostgresURL(t)
	first := newAirlock(t, database)
	first.serve()
	second := newAirlock(t, database, "AIRLOCK_KEY_FILE="+filepath.Join(first.dataDir, "airlock.key"))
	second.serve()

	// A connector that calls the first does what is asked for at the second, at once.
	variables := first.run("connector", "add", "airflow", "--app", "Elsewhere")
	first.selfHosted(variables, url)
	second.run("connector", "sync", "Elsewhere", "--wait", "--timeout", "2m")
	second.checkCompany("Elsewhere")
	began := time.Now()
	var change command.Change
	second.json(&change, "grant", "role:Op:assigned", "eve", "--app", "Elsewhere", "--wait", "--timeout", "2m")
	if took := time.Since(began); change.State != "verified" || took > 20*time.Second {
		t.Errorf("the grant is %s after %s: %s", change.State, took, change.Error)
	}
	if !slices.Contains(fake.Roles("eve"), "Op") || !slices.Contains(first.holds("Elsewhere", "role:Op:assigned"), "eve") {
		t.Errorf("Airflow: %v, the first server: %v", fake.Roles("eve"), first.holds("Elsewhere", "role:Op:assigned"))
	}

	// A hosted connector runs on one of them, and goes on on the other.
	first.addHosted(url, "Here")
	first.run("connector", "sync", "Here", "--wait", "--timeout", "2m")
	running, other := first, second
	if len(first.children()) == 0 {
		running, other = second, first
	}
	if n := len(other.children()); n > 0 {
		t.Errorf("it runs %d times", n+1)
	}
	other.run("connector", "sync", "Here") // that is lost with the server that does it
	running.kill()
	other.run("connector", "sync", "Here", "--wait", "--timeout", "3m")
	fake.SetRoles("eve", "Viewer")
	other.run("connector", "sync", "Here", "--wait", "--timeout", "3m")
	if slices.Contains(other.holds("Here", "role:Op:assigned"), "eve") {
		t.Error("the other server doesn't see what changed")
	}
	if len(other.children()) == 0 {
		t.Error("it runs nowhere")
	}
	other.run("audit", "verify")

	// The first comes back, and both serve.
	running.serve()
	running.run("connector", "sync", "Here", "--wait", "--timeout", "3m")
	if len(running.children()) > 0 || len(other.children()) == 0 {
		t.Error("it changed places for no reason")
	}
	running.stop()
	other.stop()
}
