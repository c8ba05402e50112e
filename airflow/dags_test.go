package airflow_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"airlock/airflow"
	"airlock/airflow/airflowtest"
)

func TestDAGs(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := start(t, airflowtest.Options{Profile: p, PageLimit: 2})
		r.srv.PutDAG(airflowtest.DAG{ID: "payroll", Description: "pays", Owners: []string{"finance", " operations"}, Tags: []string{"b", "a"}, Paused: true})
		r.srv.PutDAG(airflowtest.DAG{ID: "etl", Owners: []string{"data"}})
		r.srv.PutDAG(airflowtest.DAG{ID: "old", Owners: []string{"data"}, Stale: true})
		wanted := []airflow.DAG{
			{ID: "etl", Name: "etl", Owners: []string{"data"}},
			{ID: "old", Name: "old", Owners: []string{"data"}, Stale: true},
			{ID: "payroll", Name: "payroll", Description: "pays", Owners: []string{"finance", "operations"}, Tags: []string{"b", "a"}, Paused: true},
		}
		dags, err := collect(r.DAGs(t.Context()))
		if diff := cmp.Diff(wanted, dags); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		page, err := r.DAGsPage(t.Context(), airflow.Cursor{})
		if err != nil || page.Total != 3 || len(page.Items) != 2 {
			t.Errorf("got %+v, %v", page, err)
		}
		// Whoever may read one DAG sees that one, as if it were all.
		r.srv.PutRole("one", airflowtest.Permissions("can_read DAG:etl")...)
		r.srv.PutUser(airflowtest.User{Username: "one", Password: "the-one", Roles: []string{"one"}, Active: true})
		page, err = join(t, r.srv, as("one", "the-one")).DAGsPage(t.Context(), airflow.Cursor{})
		if err != nil || page.Total != 1 {
			t.Errorf("got %+v, %v", page, err)
		}
		// And whoever may read none, at FAB's endpoint too, learns what is missing.
		_, err = collect(join(t, r.srv, reader(r.srv)).DAGs(t.Context()))
		want(t, err, airflow.Forbidden, "list DAGs", "can_read on DAGs")
		r.srv.PutUser(airflowtest.User{Username: "none", Password: "nothing", Active: true})
		_, err = collect(join(t, r.srv, as("none", "nothing")).DAGs(t.Context()))
		want(t, err, airflow.Forbidden, "can_read on DAGs")
		_, err = collect(join(t, r.srv, as("none", "wrong")).DAGs(t.Context()))
		want(t, err, airflow.Unauthenticated)
	})
}
