// Package provision carries out changes of access: it sends each through the
// app's connector, one at a time for an account, writes down what came of it,
// and believes it only when a sync has seen it.
package provision

import (
	"slices"
	"time"

	"airlock/internal/identity"
)

// Kind is what a change does.
type Kind string

// The kinds of change.
const (
	Grant  Kind = "grant"
	Revoke Kind = "revoke"
)

// State is how far a change is.
type State string

// The states of a change. Done is what the connector says; Verified is what a
// sync has seen.
const (
	Running  State = "running"
	Done     State = "done"
	Verified State = "verified"
	Failed   State = "failed"
)

// next are the states that may follow each state.
var next = map[State][]State{
	Running: {Done, Failed},
	Done:    {Verified, Failed},
}

func (s State) may(to State) bool { return slices.Contains(next[s], to) }

// Over reports whether nothing follows a state.
func (s State) Over() bool { return len(next[s]) == 0 }

// Reason is why access is given: the grant stays as long as it has one.
type Reason struct {
	Kind string // operator; later request, standing, review
	Ref  string // what it comes from
}

// ByOperator is the reason of an operator's direct change.
const ByOperator = "operator"

// Change is one grant or revoke on its way.
type Change struct {
	ID            string
	AppID         string
	ConnectorID   string
	Kind          Kind
	EntitlementID string
	PrincipalID   string
	Reason        Reason
	State         State
	TaskID        string // of the connector task
	SyncID        string // the sync that is to see it
	Attempts      int    // syncs that were asked to see it
	Error         string // in words
	By            identity.Actor
	CreatedAt     time.Time
	NextAt        time.Time // when to look again, should everything else be lost
	DoneAt        time.Time
	VerifiedAt    time.Time
}
