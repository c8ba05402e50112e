package airflowtest_test

import (
	"testing"

	"airlock/airflow/airflowtest"
)

// TestContract holds the Airflow in memory to what the real ones are held to.
func TestContract(t *testing.T) {
	for _, profile := range airflowtest.Profiles() {
		t.Run(profile.Airflow, func(t *testing.T) {
			srv := airflowtest.Start(t, airflowtest.Options{Profile: profile})
			srv.Load(airflowtest.Company())
			for _, event := range []string{"cli_users_create", "cli_dag_reserialize", "trigger_dag_run"} {
				srv.AddEvent(airflowtest.Event{Event: event})
			}
			airflowtest.Contract(t, airflowtest.Target{URL: srv.URL, Airflow: profile.Airflow, FAB: profile.FAB})
		})
	}
}
