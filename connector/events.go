package connector

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/annotations"
	"github.com/conductorone/baton-sdk/pkg/connectorbuilder"
	"github.com/conductorone/baton-sdk/pkg/pagination"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"airlock/airflow"
)

// usageFeed tells who used which DAG when, from Airflow's event log. Changes of
// users and roles aren't in that log.
type usageFeed struct{ *Connector }

// EventFeeds are the feeds there are.
func (c *Connector) EventFeeds(context.Context) []connectorbuilder.EventFeed {
	return []connectorbuilder.EventFeed{usageFeed{c}}
}

// EventFeedMetadata names the feed.
func (usageFeed) EventFeedMetadata(context.Context) *v2.EventFeedMetadata {
	return v2.EventFeedMetadata_builder{
		Id:                  "dag_usage",
		SupportedEventTypes: []v2.EventType{v2.EventType_EVENT_TYPE_USAGE},
	}.Build()
}

// notPeople are the events that tasks make themselves; their owner is the DAG's,
// a free text, and not an account.
var notPeople = []string{
	"running", "success", "failed", "skipped", "queued", "scheduled", "removed", "restarting", "deferred",
	"up_for_retry", "up_for_reschedule", "upstream_failed", "awaiting_input",
	"state mismatch", "heartbeat timeout", "stuck in queued reschedule", "stuck in queued tries exceeded", "fail task",
}

// feedCursor is where the feed stands: after the entries of the log that were
// told. Airflow looks for entries later than a time, and pages by counting. An
// entry can be seen a moment after one with a higher id and a later time, since
// the request that writes it may take that long. So each round of reading begins
// somewhat before the newest entry, and what was told of that time is remembered.
type feedCursor struct {
	After time.Time `json:"after"`
	// Offset is how many entries later than After this round has read.
	Offset int `json:"offset,omitempty"`
	// Told are the newest entries that were told.
	Told told `json:"told,omitempty"`
	// Since is the time after which all that were told are among these.
	Since time.Time `json:"since"`
}

// overlap is how far each round of reading begins before the newest entry; less
// where so much happened that the cursor would grow beyond the bytes that the
// protocol gives it.
const (
	overlap   = time.Minute
	cursorMax = 4096
)

// told are entries of the log: their ids, with their times in milliseconds,
// rounded up.
type told map[int64]int64

// MarshalText writes entry after entry what it adds to the one before, id and
// time, as few bytes as may be: "3x.k0ns2v1b,1.5,2.-3".
func (t told) MarshalText() ([]byte, error) {
	var b []byte
	var lastID, lastAt int64
	for _, id := range slices.Sorted(maps.Keys(t)) {
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, id-lastID, 36)
		b = append(b, '.')
		b = strconv.AppendInt(b, t[id]-lastAt, 36)
		lastID, lastAt = id, t[id]
	}
	return b, nil
}

// UnmarshalText reads what MarshalText writes.
func (t *told) UnmarshalText(text []byte) error {
	*t = told{}
	var id, at int64
	for entry := range strings.SplitSeq(string(text), ",") {
		if entry == "" {
			continue
		}
		a, b, _ := strings.Cut(entry, ".")
		addID, err := strconv.ParseInt(a, 36, 64)
		if err != nil {
			return err
		}
		addAt, err := strconv.ParseInt(b, 36, 64)
		if err != nil {
			return err
		}
		id, at = id+addID, at+addAt
		(*t)[id] = at
	}
	return nil
}

// forget drops the entries that aren't later than since.
func (t told) forget(since time.Time) {
	maps.DeleteFunc(t, func(_, at int64) bool { return at <= since.UnixMilli() })
}

// eventPage is how many entries of the log are read at once: Airflow's maximum.
const eventPage = 100

// ListEvents gives the usage that a page of the event log tells of.
func (f usageFeed) ListEvents(ctx context.Context, earliest *timestamppb.Timestamp, token *pagination.StreamToken) (
	[]*v2.Event, *pagination.StreamState, annotations.Annotations, error,
) {
	var cur feedCursor
	if token != nil && token.Cursor != "" {
		if err := json.Unmarshal([]byte(token.Cursor), &cur); err != nil {
			return nil, nil, nil, status.Errorf(codes.InvalidArgument, "baton-airflow: the cursor isn't one of this feed's: %v", err)
		}
	} else if earliest != nil {
		cur.After = earliest.AsTime()
		cur.Since = cur.After
	}
	entries, more, err := f.airflow.Events(ctx, cur.After, cur.Offset, eventPage, notPeople)
	if err != nil {
		return nil, nil, nil, listError(err)
	}
	next := feedCursor{After: cur.After, Since: cur.Since, Told: maps.Clone(cur.Told)}
	if next.Told == nil {
		next.Told = told{}
	}
	var out []*v2.Event
	for _, e := range entries {
		if _, before := cur.Told[e.ID]; !before && isUse(e) {
			out = append(out, usageEvent(e))
		}
		next.Told[e.ID] = e.Time.Add(time.Millisecond - 1).UnixMilli()
	}
	if more {
		next.Offset = cur.Offset + len(entries)
	}
	encoded, err := next.encode(more)
	if err != nil {
		return nil, nil, nil, listError(err)
	}
	return out, &pagination.StreamState{Cursor: encoded, HasMore: more}, nil, nil
}

// encode writes the cursor, with as much of what was told as the next round
// needs and the cursor can hold.
func (next feedCursor) encode(more bool) (string, error) {
	times := slices.Sorted(maps.Values(next.Told))
	if n := len(times); n > 0 {
		next.Since = latest(next.Since, time.UnixMilli(times[n-1]).UTC().Add(-overlap))
	}
	for drop := 0; ; drop += 1 + len(times)/20 {
		if drop > 0 {
			next.Since = latest(next.Since, time.UnixMilli(times[min(drop, len(times))-1]).UTC())
		}
		next.Told.forget(next.Since)
		if !more {
			next.After = next.Since
		}
		encoded, err := json.Marshal(next)
		if err != nil || len(encoded) <= cursorMax || len(next.Told) == 0 {
			return string(encoded), err
		}
	}
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// isUse reports whether an entry is of a person or program at a DAG. Commands of
// Airflow's own command line are written with the name of its server's account.
func isUse(e airflow.Event) bool {
	return e.DAG != "" && e.Owner != "" && e.Owner != "anonymous" && !strings.HasPrefix(e.Name, "cli_")
}

func usageEvent(e airflow.Event) *v2.Event {
	return v2.Event_builder{
		Id:         fmt.Sprintf("airflow-event-%d", e.ID),
		OccurredAt: timestamppb.New(e.Time),
		UsageEvent: v2.UsageEvent_builder{
			TargetResource: v2.Resource_builder{
				Id: v2.ResourceId_builder{ResourceType: dagType.GetId(), Resource: e.DAG}.Build(), DisplayName: e.DAG,
			}.Build(),
			ActorResource: v2.Resource_builder{
				Id: v2.ResourceId_builder{ResourceType: userType.GetId(), Resource: e.Owner}.Build(), DisplayName: e.Owner,
			}.Build(),
		}.Build(),
	}.Build()
}
