package airflow_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/airflow"
	"airlock/airflow/airflowtest"
)

func TestEvents(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := start(t, airflowtest.Options{Profile: p})
		day := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
		all := make([]airflow.Event, 8)
		for i, e := range []airflowtest.Event{
			{Event: "cli_dag_reserialize", Owner: "root"},
			{Event: "trigger_dag_run", Owner: "eve", DAG: "payroll"},
			{Event: "running", Owner: "airflow", DAG: "payroll"},
			{Event: "success", Owner: "airflow", DAG: "payroll"},
			{Event: "patch_dag", Owner: "omar", DAG: "etl"},
			{Event: "post_variable"},
			{Event: "running", Owner: "airflow", DAG: "etl"},
			{Event: "trigger_dag_run", Owner: "omar", DAG: "etl"},
		} {
			e.When = day.Add(time.Duration(i) * time.Hour).Add(time.Duration(i) * time.Microsecond)
			id := r.srv.AddEvent(e)
			all[i] = airflow.Event{ID: int64(id), Time: e.When, Name: e.Event, Owner: e.Owner, DAG: e.DAG}
		}
		for name, c := range map[string]struct {
			after         time.Time
			offset, limit int
			except        []string
			want          []airflow.Event
			more          bool
		}{
			"all":             {time.Time{}, 0, 100, nil, all, false},
			"a part":          {time.Time{}, 0, 3, nil, all[:3], true},
			"the next part":   {time.Time{}, 3, 3, nil, all[3:6], true},
			"the last part":   {time.Time{}, 6, 3, nil, all[6:], false},
			"to the end":      {time.Time{}, 6, 2, nil, all[6:], false},
			"beyond the end":  {time.Time{}, 8, 3, nil, []airflow.Event{}, false},
			"later":           {all[3].Time, 0, 100, nil, all[4:], false},
			"later elsewhere": {all[3].Time.In(time.FixedZone("", 3*3600)), 0, 100, nil, all[4:], false},
			"just before":     {all[3].Time.Add(-time.Microsecond), 0, 100, nil, all[3:], false},
			"later, a part":   {all[3].Time, 1, 2, nil, all[5:7], true},
			"without one":     {time.Time{}, 0, 100, []string{"running"}, []airflow.Event{all[0], all[1], all[3], all[4], all[5], all[7]}, false},
			"without two":     {all[0].Time, 0, 3, []string{"running", "success"}, []airflow.Event{all[1], all[4], all[5]}, true},
			"with none":       {all[7].Time, 0, 100, nil, []airflow.Event{}, false},
		} {
			events, more, err := r.Events(t.Context(), c.after, c.offset, c.limit, c.except)
			if diff := cmp.Diff(c.want, events); err != nil || more != c.more || diff != "" {
				t.Errorf("%s: more %v, %v (-want +got):\n%s", name, more, err, diff)
			}
		}
	})
}

// More than Airflow gives at once is a part, and said to be one.
func TestEventsByItsOwnLimit(t *testing.T) {
	r := start(t, airflowtest.Options{PageLimit: 2})
	for range 5 {
		r.srv.AddEvent(airflowtest.Event{Event: "x"})
	}
	if events, more, err := r.Events(t.Context(), time.Time{}, 0, 100, nil); err != nil || len(events) != 2 || !more {
		t.Errorf("%d events, more %v, %v", len(events), more, err)
	}
}

func TestEventsForbidden(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := start(t, airflowtest.Options{Profile: p})
		_, _, err := join(t, r.srv, reader(r.srv)).Events(t.Context(), time.Time{}, 0, 10, nil)
		if e := want(t, err, airflow.Forbidden, "read the event log", "can_read on Audit Logs", "can_read on DAGs"); e.Needs.Resource != "Audit Logs" {
			t.Errorf("it needs %s", e.Needs)
		}
	})
}

// Who asks again as long as there is more would never end.
func TestEventsThatAreOnlyCounted(t *testing.T) {
	r := start(t, airflowtest.Options{})
	r.srv.Inject(airflowtest.Fault{Path: "/api/v2/eventLogs", Act: airflowtest.Answer(200, "application/json", `{"total_entries":5,"event_logs":[]}`)})
	if events, more, err := r.Events(t.Context(), time.Time{}, 3, 10, nil); err != nil || len(events) > 0 || more {
		t.Errorf("%d events, more %v, %v", len(events), more, err)
	}
}

func TestEventOfATask(t *testing.T) {
	r := start(t, airflowtest.Options{})
	r.srv.Inject(airflowtest.Fault{Path: "/api/v2/eventLogs", Act: airflowtest.Answer(200, "application/json", `{"total_entries":1,"event_logs":[
		{"event_log_id":7,"when":"2026-05-01T12:00:00.5Z","event":"running","owner":"airflow","dag_id":"payroll","task_id":"pay","extra":null}]}`)})
	events, _, err := r.Events(t.Context(), time.Time{}, 0, 10, nil)
	wanted := []airflow.Event{{ID: 7, Time: time.Date(2026, 5, 1, 12, 0, 0, 5e8, time.UTC), Name: "running", Owner: "airflow", DAG: "payroll", Task: "pay"}}
	if diff := cmp.Diff(wanted, events); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
