package connector

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"airlock/airflow/airflowtest"
)

// feed reads events as a control plane does: until there are no more for now.
type feed struct {
	*bare
	cursor string
	asked  int
}

func (f *feed) read(t *testing.T, from time.Time) (ids []string) {
	t.Helper()
	for {
		req := v2.ListEventsRequest_builder{EventFeedId: "dag_usage", Cursor: f.cursor}.Build()
		if !from.IsZero() {
			req.SetStartAt(timestamppb.New(from))
		}
		answer, err := f.ListEvents(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		f.asked++
		for _, e := range answer.GetEvents() {
			ids = append(ids, strings.TrimPrefix(e.GetId(), "airflow-event-"))
		}
		f.cursor = answer.GetCursor()
		if n := len(f.cursor); n > 4096 {
			t.Fatalf("a cursor of %d bytes, which the protocol doesn't carry", n)
		}
		if !answer.GetHasMore() {
			return ids
		}
	}
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// use is an entry that eve makes at a DAG.
func use(at time.Time) airflowtest.Event {
	return airflowtest.Event{When: at, DAG: "payroll_close", Event: "trigger_dag_run", Owner: "eve"}
}

func TestEventFeed(t *testing.T) {
	t.Parallel()
	for _, profile := range airflowtest.Profiles() {
		t.Run(profile.Airflow, func(t *testing.T) {
			t.Parallel()
			srv := airflowtest.New(airflowtest.Options{Profile: profile})
			srv.Load(airflowtest.Company())
			var want []string
			for i := range 345 {
				at := noon.Add(time.Duration(i/7) * time.Second) // several have the same time
				id := srv.AddEvent(use(at))
				want = append(want, fmt.Sprint(id))
				srv.AddEvent(airflowtest.Event{When: at, DAG: "payroll_close", Event: "success", Owner: "payroll"})
			}
			f := &feed{bare: newBare(t, srv)}
			if diff := cmp.Diff(want, f.read(t, time.Time{})); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			if f.asked != 4 {
				t.Errorf("it took %d calls", f.asked)
			}
			for range 3 {
				if got := f.read(t, time.Time{}); got != nil {
					t.Errorf("told again: %q", got)
				}
			}
			// What comes later is told once, by another process with the cursor too.
			f.bare = newBare(t, srv)
			late := srv.AddEvent(use(noon.Add(49 * time.Second))) // with the time of the last ones
			next := srv.AddEvent(use(noon.Add(time.Hour)))
			if got, want := f.read(t, time.Time{}), []string{fmt.Sprint(late), fmt.Sprint(next)}; !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			if got := f.read(t, time.Time{}); got != nil {
				t.Errorf("told again: %q", got)
			}
			// From a time on.
			since := &feed{bare: newBare(t, srv)}
			if got, want := since.read(t, noon.Add(48*time.Second)), append(want[len(want)-2:], fmt.Sprint(late), fmt.Sprint(next)); !slices.Equal(got, want) {
				t.Errorf("from a time on: %q, want %q", got, want)
			}
		})
	}
}

// An entry that becomes visible after later ones were told, as its request took
// longer, is told all the same; and so is what is written while pages are read.
func TestEventsOutOfOrder(t *testing.T) {
	t.Parallel()
	srv := airflowtest.New(airflowtest.Options{PageLimit: 40})
	f := &feed{bare: newBare(t, srv)}
	told := map[string]int{}
	n := 0
	read := func() {
		for _, id := range f.read(t, time.Time{}) {
			told[id]++
		}
	}
	var at time.Time
	srv.Before(func(q airflowtest.Request) { // in the middle of the pages
		if q.Query.Get("offset") == "80" {
			srv.AddEvent(use(at))
			n++
		}
	})
	for round := range 8 {
		at = noon.Add(time.Duration(round) * 20 * time.Second)
		for i := range 150 {
			srv.AddEvent(use(at.Add(time.Duration(i) * 10 * time.Millisecond)))
			n++
		}
		read()
		srv.AddEvent(use(at.Add(-30 * time.Second))) // late
		n++
		read()
	}
	read()
	for id, times := range told {
		if times != 1 {
			t.Errorf("event %s was told %d times", id, times)
		}
	}
	if len(told) != n {
		t.Errorf("of %d events %d were told", n, len(told))
	}
}

// More happens within a minute than a cursor can remember.
func TestBusyEventLog(t *testing.T) {
	t.Parallel()
	srv := airflowtest.New(airflowtest.Options{})
	f := &feed{bare: newBare(t, srv)}
	n := 3000
	for i := range n {
		srv.AddEvent(use(noon.Add(time.Duration(i) * 7 * time.Millisecond)))
		for range i % 5 { // what tasks do takes ids too
			srv.AddEvent(airflowtest.Event{When: noon, DAG: "payroll_close", Event: "success", Owner: "payroll"})
		}
	}
	if got := f.read(t, time.Time{}); len(got) != n {
		t.Errorf("of %d events %d were told", n, len(got))
	}
	if got := f.read(t, time.Time{}); got != nil {
		t.Errorf("told again: %d", len(got))
	}
	late := srv.AddEvent(use(noon.Add(time.Duration(n) * 7 * time.Millisecond)))
	if got := f.read(t, time.Time{}); !slices.Equal(got, []string{fmt.Sprint(late)}) {
		t.Errorf("%q, want %d", got, late)
	}
}

func TestWhatIsAnEvent(t *testing.T) {
	t.Parallel()
	srv := airflowtest.New(airflowtest.Options{})
	for _, e := range []airflowtest.Event{
		{DAG: "payroll_close", Event: "running", Owner: "payroll"},
		{DAG: "payroll_close", Event: "cli_task_run", Owner: "root"},
		{DAG: "payroll_close", Event: "trigger_dag_run"},
		{DAG: "payroll_close", Event: "trigger_dag_run", Owner: "anonymous"},
		{Event: "post_variable", Owner: "eve"},
	} {
		e.When = noon
		srv.AddEvent(e)
	}
	srv.AddEvent(use(noon))
	answer, err := newBare(t, srv).ListEvents(t.Context(), v2.ListEventsRequest_builder{EventFeedId: "dag_usage"}.Build())
	if err != nil || len(answer.GetEvents()) != 1 {
		t.Fatalf("%v, %v", answer, err)
	}
	want := &v2.Event{}
	if err := protojson.Unmarshal([]byte(`{
		"id": "airflow-event-6", "occurredAt": "2026-11-24T12:00:00Z", "usageEvent": {
			"targetResource": {"id": {"resourceType": "dag", "resource": "payroll_close"}, "displayName": "payroll_close"},
			"actorResource": {"id": {"resourceType": "user", "resource": "eve"}, "displayName": "eve"}
		}
	}`), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, answer.GetEvents()[0], protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEventsThatAreNotTold(t *testing.T) {
	t.Parallel()
	srv := airflowtest.Start(t, airflowtest.Options{})
	srv.Load(airflowtest.Company())
	r := newRig(t, srv)
	ask := func(cursor string) error {
		_, err := r.ListEvents(t.Context(), v2.ListEventsRequest_builder{EventFeedId: "dag_usage", Cursor: cursor}.Build())
		return err
	}
	for _, garbage := range []string{"what?", "7", `{"told":[1]}`, `{"after":"yesterday"}`, `{"told":{"one":"2026-11-24T12:00:00Z"}}`} {
		if err := ask(garbage); status.Code(err) != codes.InvalidArgument {
			t.Errorf("cursor %s: %v", garbage, err)
		}
	}
	srv.PutRole("airlock-connector", airflowtest.Permissions("can_read Users", "can_read Roles", "can_read DAGs")...)
	if err := ask(""); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "can_read on Audit Logs") {
		t.Errorf("without the right: %v", err)
	}
}
