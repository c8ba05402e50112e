package integration

import (
	"cmp"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"
)

// Task is work for a connector. It is queued, leased to one of the connector's
// hosts, and then done, failed or cancelled. A lease that lapses puts it back:
// connectors die, and some of their failures are never told.
type Task struct {
	ID          string
	ConnectorID string
	Kind        Kind
	State       TaskState
	Lane        string
	Attempts    int64 // how often it was leased
	NotBefore   time.Time
	GiveUpAt    time.Time
	Host        string // that has it, or had it last
	Process     string // the only host that may have it, or ""
	LeasedAt    time.Time
	LeaseUntil  time.Time
	Cancel      bool // it is to be cancelled; the connector is told at its next heartbeat
	Code        codes.Code
	Error       string // in words
	Follow      Follow
	CreatedAt   time.Time
	FinishedAt  time.Time

	request  []byte // c1.connectorapi.baton.v1.Task
	response []byte // google.protobuf.Any of a done one, google.rpc.Status of a failed one
}

// Follow is the job to enqueue in the transaction that finishes a task.
type Follow struct{ Kind, Row string }

// TaskState is how far a task is.
type TaskState string

// The states of a task; the last three are final.
const (
	TaskQueued    TaskState = "queued"
	TaskLeased    TaskState = "leased"
	TaskDone      TaskState = "done"
	TaskFailed    TaskState = "failed"
	TaskCancelled TaskState = "cancelled"
)

// Over reports whether nothing follows a state.
func (s TaskState) Over() bool { return s != TaskQueued && s != TaskLeased }

// Kind is what a task asks for.
type Kind string

// The kinds of task.
const (
	KindHello            Kind = "hello"
	KindSync             Kind = "sync_full"
	KindGrant            Kind = "grant"
	KindRevoke           Kind = "revoke"
	KindCreateAccount    Kind = "create_account"
	KindCreateResource   Kind = "create_resource"
	KindDeleteResource   Kind = "delete_resource"
	KindRotateCredential Kind = "rotate_credentials" //nolint:gosec // no credential
	KindIssueCredential  Kind = "issue_credential"   //nolint:gosec // the same
	KindListActions      Kind = "action_list_schemas"
	KindGetAction        Kind = "action_get_schema"
	KindInvokeAction     Kind = "action_invoke"
	KindActionStatus     Kind = "action_status"
	KindListEventFeeds   Kind = "list_event_feeds"
	KindListEvents       Kind = "list_events"
)

// kinds are all kinds of task.
var kinds = []Kind{
	KindHello, KindSync, KindGrant, KindRevoke, KindCreateAccount, KindCreateResource, KindDeleteResource, KindRotateCredential, KindIssueCredential,
	KindListActions, KindGetAction, KindInvokeAction, KindActionStatus, KindListEventFeeds, KindListEvents,
}

// Heartbeat is how often a connector tells that it still syncs; it heartbeats for
// nothing else.
const Heartbeat = 20 * time.Second

// forFirst is how long the first heartbeat of a sync may take. Connectors send it
// before anything else, have 30 s to reach us, and drop the sync if that fails
// (baton-sdk v0.25.0, HeartbeatTask): later there is nobody who has it.
const forFirst = 40 * time.Second

// rules are how tasks of a kind are treated.
type rules struct {
	rank     int64         // lower goes first
	lease    time.Duration // so long it is out without a sign of life
	first    time.Duration // so long until the first one; 0 is lease
	runs     time.Duration // so long it may be out at all
	waits    time.Duration // after that it isn't given out any more
	attempts int64         // so often it may be given out
	repeat   bool          // an error that may pass is tried again
	secret   bool          // the answer is sealed for a key pair of the task
	keep     time.Duration // so long it is kept once it is over
}

const (
	day = 24 * time.Hour
	// forSyncs is how long a sync waits for a connector that never called: until it does.
	forSyncs = 10 * 365 * day
)

// rules: what isn't idempotent goes out once, since nobody knows what became of
// it when no answer came. Grants and revokes are by contract: what is there
// already, or is gone already, is a success.
func (k Kind) rules() rules {
	switch k {
	case KindSync:
		return rules{rank: 30, lease: 4 * Heartbeat, first: forFirst, runs: 12 * time.Hour, waits: forSyncs, attempts: 5, keep: 90 * day}
	case KindGrant, KindRevoke, KindDeleteResource:
		return rules{rank: 10, lease: 10 * time.Minute, runs: 10 * time.Minute, waits: day, attempts: 5, repeat: true, keep: 90 * day}
	case KindCreateAccount, KindRotateCredential, KindIssueCredential:
		return rules{rank: 10, lease: 15 * time.Minute, runs: 15 * time.Minute, waits: day, attempts: 1, secret: true, keep: 90 * day}
	case KindCreateResource, KindInvokeAction:
		return rules{rank: 10, lease: 15 * time.Minute, runs: 15 * time.Minute, waits: day, attempts: 1, keep: 90 * day}
	case KindActionStatus:
		return rules{rank: 10, lease: 2 * time.Minute, runs: 2 * time.Minute, waits: 10 * time.Minute, attempts: 3, repeat: true, keep: day}
	case KindListEvents, KindListEventFeeds:
		return rules{rank: 40, lease: 5 * time.Minute, runs: 5 * time.Minute, waits: 10 * time.Minute, attempts: 1, keep: day}
	case KindHello, KindListActions, KindGetAction:
	}
	return rules{rank: 20, lease: 2 * time.Minute, runs: 2 * time.Minute, waits: time.Hour, attempts: 3, repeat: true, keep: day}
}

// Answer is how a connector says a task ended.
type Answer struct {
	OK       bool
	Status   *status.Status // why it isn't OK
	Response *anypb.Any
}

// verdict is what an event does to a task.
type verdict int

const (
	ignored  verdict = iota // the event comes too late, or from whom it doesn't concern
	requeued                // it is queued again
	ended                   // it is over
)

// lease gives a queued task to a host.
func (t *Task) lease(host string, now time.Time) {
	t.State, t.Host, t.LeasedAt = TaskLeased, host, now
	t.Code, t.Error = codes.OK, ""
	t.Attempts++
	r := t.Kind.rules()
	t.extend(now, cmp.Or(r.first, r.lease))
}

func (t *Task) extend(now time.Time, lease time.Duration) {
	t.LeaseUntil = earlier(now.Add(lease), t.LeasedAt.Add(t.Kind.rules().runs))
}

// holds reports whether a host has the task, as far as we know.
func (t *Task) holds(host string) bool { return t.State == TaskLeased && t.Host == host }

// lapsed reports whether a task is back in the queue though the host that had it
// last may still be at it: its lease ended while we, or the network, were away.
func (t *Task) lapsed(host string) bool {
	return t.State == TaskQueued && t.Attempts > 0 && t.Host == host && t.Code == codes.OK
}

// beat takes a sign of life of a host that works at the task. It reports whether
// the host may go on.
func (t *Task) beat(host string, now time.Time) bool {
	switch {
	case t.Cancel && t.holds(host):
		t.LeaseUntil = earlier(t.LeaseUntil, now.Add(time.Minute)) // it may end without a word
		return false
	case t.Cancel:
		return false
	case t.lapsed(host): // nobody else took it meanwhile
		t.State = TaskLeased
	case !t.holds(host):
		return false
	}
	t.extend(now, t.Kind.rules().lease)
	return true
}

// lose takes a task back from a host that is gone.
func (t *Task) lose(now time.Time) verdict {
	r := t.Kind.rules()
	switch {
	case t.State != TaskLeased:
		return ignored
	case t.Cancel:
		return t.end(TaskCancelled, codes.Canceled, "it was cancelled", now)
	case !r.repeat && r.attempts == 1:
		return t.end(TaskFailed, codes.DeadlineExceeded, "the connector took it and never answered: it may have been done, or not", now)
	case t.Kind == KindSync && !now.Before(t.LeasedAt.Add(r.runs)):
		return t.end(TaskFailed, codes.DeadlineExceeded, "the connector needed more than "+span(r.runs), now)
	case t.Attempts >= r.attempts:
		return t.end(TaskFailed, codes.DeadlineExceeded, "the connector took it several times and never answered; its own log may say why", now)
	}
	t.State, t.NotBefore, t.LeaseUntil = TaskQueued, now, time.Time{}
	return requeued
}

// expire gives up a task that nobody took in time.
func (t *Task) expire(now time.Time) verdict {
	if t.State != TaskQueued || now.Before(t.GiveUpAt) {
		return ignored
	}
	if t.Attempts > 0 && t.Error != "" {
		return t.end(TaskFailed, t.Code, t.Error, now)
	}
	return t.end(TaskFailed, codes.DeadlineExceeded, "no connector took it within "+span(t.Kind.rules().waits), now)
}

// withdraw cancels a task: at once if nobody has it, else as soon as the
// connector hears of it. What it does before that counts.
func (t *Task) withdraw(now time.Time) verdict {
	switch t.State {
	case TaskQueued:
		return t.end(TaskCancelled, codes.Canceled, "it was cancelled", now)
	case TaskLeased:
		t.Cancel = true
	case TaskDone, TaskFailed, TaskCancelled:
	}
	return ignored
}

// finish takes a host's answer. Only the host that has the task decides on it;
// but a success of a host whose lease lapsed counts too, as long as nobody else
// took the task.
func (t *Task) finish(host string, answer Answer, now time.Time) verdict {
	late := t.lapsed(host)
	if !t.holds(host) && !(late && answer.OK) {
		return ignored
	}
	if answer.OK {
		return t.succeed(answer, now)
	}
	code, message := codeOf(answer.Status), plain(answer.Status.GetMessage())
	r := t.Kind.rules()
	switch {
	case t.Cancel:
		return t.end(TaskCancelled, codes.Canceled, "it was cancelled", now)
	case t.Kind == KindSync && interrupted(code, message) && t.Attempts < r.attempts:
		return t.lose(now) // the connector was stopped
	case r.repeat && passes(code, message) && t.Attempts < r.attempts && now.Add(backoff(t.Attempts)).Before(t.GiveUpAt):
		t.State, t.NotBefore, t.LeaseUntil = TaskQueued, now.Add(backoff(t.Attempts)), time.Time{}
		t.Code, t.Error = code, words(code, message)
		return requeued
	}
	t.response = pack(answer.Status)
	return t.end(TaskFailed, code, words(code, message), now)
}

func (t *Task) succeed(answer Answer, now time.Time) verdict {
	if want := t.Kind.answer(); want != nil {
		if err := answer.Response.UnmarshalTo(want); err != nil {
			return t.end(TaskFailed, codes.Internal, "the connector answered with something else than was asked for", now)
		}
		t.response = pack(answer.Response)
	}
	return t.end(TaskDone, codes.OK, "", now)
}

func (t *Task) end(state TaskState, code codes.Code, text string, now time.Time) verdict {
	t.State, t.Code, t.Error, t.FinishedAt, t.LeaseUntil = state, code, text, now, time.Time{}
	return ended
}

// backoff is how long to wait after the nth try.
func backoff(n int64) time.Duration {
	switch n {
	case 0, 1:
		return 15 * time.Second
	case 2:
		return time.Minute
	case 3:
		return 4 * time.Minute
	}
	return 15 * time.Minute
}

func codeOf(s *status.Status) codes.Code {
	code := codes.Code(s.GetCode()) //nolint:gosec // checked on the next line
	if s.GetCode() <= 0 || code > codes.Unauthenticated {
		return codes.Unknown // an error with the code OK is one too
	}
	return code
}

// passes reports whether an error may pass by itself.
func passes(code codes.Code, message string) bool {
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted:
		return true
	default:
		return interrupted(code, message)
	}
}

// interrupted reports whether a connector gave up since it was told to stop.
func interrupted(code codes.Code, message string) bool {
	return code == codes.Canceled || code == codes.Unknown && strings.Contains(message, "context canceled")
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
