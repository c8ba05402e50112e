package airflowtest

import (
	"slices"
	"strings"
	"time"
)

// Event is a row of Airflow's event log. Empty strings are null.
type Event struct {
	ID    int // given by AddEvent
	When  time.Time
	DAG   string
	Event string // such as trigger_dag_run
	Owner string // the user name
	Extra string // JSON in a string
}

var eventParams = []string{
	"limit", "offset", "order_by", "dag_id", "task_id", "run_id", "map_index", "try_number",
	"owner", "event", "included_events", "excluded_events", "before", "after",
}

func nullable(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func (s *Server) eventJSON(e Event) map[string]any {
	layout := "2006-01-02T15:04:05.000000Z07:00"
	if s.Profile.V2() {
		layout = "2006-01-02T15:04:05.000000-07:00"
	}
	return map[string]any{
		"event_log_id": e.ID, "when": e.When.UTC().Format(layout), "event": e.Event,
		"dag_id": nullable(e.DAG), "owner": nullable(e.Owner), "extra": nullable(e.Extra),
		"task_id": nil, "run_id": nil, "map_index": nil, "try_number": nil,
	}
}

// AddEvent adds a row to the event log; its number and, where it has none, its
// time are given here. It returns the number. Nothing that is done through the
// API appears in the log by itself, as in the real thing.
func (s *Server) AddEvent(e Event) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.ID = len(s.store.events) + 1
	if e.When.IsZero() {
		e.When = s.now()
	}
	e.When = e.When.Truncate(time.Microsecond) // as databases keep it
	s.store.events = append(s.store.events, e)
	return e.ID
}

func (s *Server) events(c *call) answer {
	reads, a := s.readable(c)
	switch {
	case s.Profile.V2(): // it shows the rows of all DAGs
		reads = func(string) bool { return true }
	case a.status != 0 && !s.Profile.LogsNeedNoDAGs:
		return a
	}
	query := c.r.URL.Query()
	before, beforeZoned, _ := parseTime(query.Get("before"))
	after, afterZoned, _ := parseTime(query.Get("after"))
	if query.Has("before") && !beforeZoned || query.Has("after") && !afterZoned {
		return unhandled // Airflow 3 can't compare that
	}
	column, descending := c.order("event_log_id")
	if !slices.Contains([]string{"event_log_id", "when"}, column) {
		return s.badOrder(c)
	}
	many := func(name string) []string { // Airflow 3 takes it many times, 2 with commas
		if s.Profile.V2() {
			return strings.Split(query.Get(name), ",")
		}
		return query[name]
	}
	events := slices.DeleteFunc(slices.Clone(s.store.events), func(e Event) bool {
		return e.DAG != "" && !reads(e.DAG) ||
			query.Has("dag_id") && e.DAG != query.Get("dag_id") ||
			query.Has("event") && e.Event != query.Get("event") ||
			query.Has("owner") && e.Owner != query.Get("owner") ||
			query.Has("before") && !e.When.Before(before) ||
			query.Has("after") && !e.When.After(after) ||
			query.Has("included_events") && !slices.Contains(many("included_events"), e.Event) ||
			query.Has("excluded_events") && slices.Contains(many("excluded_events"), e.Event)
	})
	if column == "when" {
		slices.SortStableFunc(events, func(a, b Event) int { return a.When.Compare(b.When) })
	}
	if descending {
		slices.Reverse(events)
	}
	return paged(s, c, "event_logs", events, s.eventJSON)
}
