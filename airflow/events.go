package airflow

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Event is an entry of Airflow's event log.
type Event struct {
	// ID grows with time.
	ID   int64
	Time time.Time
	// Name is the event's: "trigger_dag_run", "running".
	Name string
	// Owner is the username of who did it; for what a task did, the DAG's owner.
	Owner string
	// DAG and Task are empty where the event isn't about one.
	DAG, Task string
}

type wireEvent struct {
	ID    int64   `json:"event_log_id"`
	When  string  `json:"when"`
	Name  string  `json:"event"`
	Owner *string `json:"owner"`
	DAG   *string `json:"dag_id"`
	Task  *string `json:"task_id"`
}

func (w wireEvent) event(zone *time.Location) (Event, error) {
	if w.ID <= 0 {
		return Event{}, errors.New("an event without an id")
	}
	at, err := parseTime(w.When, zone)
	if err != nil {
		return Event{}, err
	}
	e := Event{ID: w.ID, Time: at, Name: w.Name}
	for _, s := range []struct {
		from *string
		to   *string
	}{{w.Owner, &e.Owner}, {w.DAG, &e.DAG}, {w.Task, &e.Task}} {
		if s.from != nil {
			*s.to = *s.from
		}
	}
	return e, nil
}

// Events reads up to limit entries of the event log (100 at most) that are later
// than after, the oldest first, leaving out offset of them and those named in
// except. more says whether others follow.
func (c *Client) Events(ctx context.Context, after time.Time, offset, limit int, except []string) (events []Event, more bool, err error) {
	s, err := c.routes(ctx)
	if err != nil {
		return nil, false, err
	}
	query := url.Values{
		"order_by": {"event_log_id"}, "limit": {strconv.Itoa(limit)}, "offset": {strconv.Itoa(offset)},
		"excluded_events": except,
	}
	if s.api == 1 && len(except) > 0 {
		query["excluded_events"] = []string{strings.Join(except, ",")}
	}
	if !after.IsZero() {
		query.Set("after", after.UTC().Format(time.RFC3339Nano))
	}
	var answer struct {
		Events []wireEvent `json:"event_logs"`
		Total  *int        `json:"total_entries"`
	}
	call := call{
		op: "read the event log", method: http.MethodGet, endpoint: api, path: s.apiPath("eventLogs"), query: query,
		needs: Permission{Action: "can_read", Resource: "Audit Logs"},
	}
	if err := c.do(ctx, call, &answer); err != nil {
		if e := new(Error); errors.As(err, &e) && e.Kind == Forbidden {
			e.Hint += ", and from Airflow 3.1 on can_read on DAGs or on one of them"
		}
		return nil, false, err
	}
	events, total, err := items(call, answer.Events, answer.Total, func(w wireEvent) (Event, error) { return w.event(c.zone) })
	return events, err == nil && offset+len(events) < total && len(events) > 0, err
}
