package e2e

import (
	"strings"
	"testing"

	"airlock/airflow/airflowtest"
)

// TestOtherAuthManager points the connector at an Airflow whose users and roles
// are kept elsewhere.
func TestOtherAuthManager(t *testing.T) {
	real := airflowtest.RealForTest(t, newest(t, "3."), "AIRFLOW_AUTH_MANAGER=simple")
	fails(t, real.URL, "Simple auth manager", "only the FAB auth manager")
}

// TestBasicOff leaves basic authentication off, as Airflow's default does, where
// only that would open the users: on Airflow 2, and on a 3 below a path.
func TestBasicOff(t *testing.T) {
	for _, release := range []string{newest(t, "2."), newest(t, "3.1.")} {
		t.Run(release, func(t *testing.T) {
			real := airflowtest.RealForTest(t, release, "AIRFLOW_BASIC=off", "AIRFLOW_BASE_PATH=/data/airflow")
			fails(t, real.URL, "username and password are right", "basic authentication is off", "basic_auth")
			wrong := connectorFor(t, real.URL)
			wrong.Settings = append(wrong.Settings, "BATON_AIRFLOW_PASSWORD=wrong")
			if log, err := wrong.Run(t.Context()); err == nil || !strings.Contains(log, "username or password is wrong") {
				t.Errorf("with a wrong password: %v, in %.2000s", err, log)
			}
		})
	}
}

// TestBelowAPath syncs an Airflow that is served below a path, with a page's
// address pasted in.
func TestBelowAPath(t *testing.T) {
	real := airflowtest.RealForTest(t, newest(t, "3."), "AIRFLOW_BASE_PATH=/data/airflow")
	found := sync1(t, connectorFor(t, real.URL+"/auth/login/"))
	if got, want := len(found.Of("user")), len(airflowtest.Company().Users); got != want {
		t.Errorf("%d users, want %d", got, want)
	}
}

// newest is the newest release of a line that every run tests.
func newest(t *testing.T, line string) string {
	t.Helper()
	for _, r := range airflowtest.Releases("test") {
		if strings.HasPrefix(r.Airflow, line) {
			return r.Airflow
		}
	}
	t.Fatalf("no release %s* is tested", line)
	return ""
}

// fails asserts that a sync fails, and that what is logged says why.
func fails(t *testing.T, baseURL string, why ...string) {
	t.Helper()
	log, err := connectorFor(t, baseURL).Run(t.Context())
	if err == nil {
		t.Error("the sync didn't fail")
	}
	for _, words := range why {
		if !strings.Contains(log, words) {
			t.Errorf("it doesn't say %q: %.3000s", words, log)
		}
	}
}
