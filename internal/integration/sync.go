package integration

import (
	"encoding/json"
	"slices"
	"time"

	"airlock/internal/identity"
)

// Sync is one reading of what a target system holds: by a connector, or of a
// file that was brought by hand.
type Sync struct {
	ID           string
	AppID        string
	ConnectorID  string // "" for a file brought by hand
	TaskID       string
	Kind         SyncKind
	Cause        string
	State        SyncState
	Progress     Progress
	FileID       string
	FileHash     string // hex SHA-256
	FileSize     int64
	SourceSyncID string // of the run in the file
	Host         string
	Version      string
	BeganAt      time.Time // as the file says
	EndedAt      time.Time
	Counts       json.RawMessage // what the file holds, by type; the shapes of these five are ingest's
	Totals       json.RawMessage // what the source itself says it holds
	Changes      json.RawMessage // what was added, changed and removed
	ChangesHash  string
	Anomaly      json.RawMessage // why it was held
	ConfirmedBy  string
	Error        string // in words
	CreatedAt    time.Time
	StartedAt    time.Time // a connector took it
	UploadedAt   time.Time
	FinishedAt   time.Time
}

// object is what somebody is asked for who decides on a sync: its connector, or the
// app that its file was brought for.
func (s Sync) object() identity.Object {
	if s.ConnectorID == "" {
		return identity.Object{Kind: "app", ID: s.AppID, AppID: s.AppID}
	}
	return identity.Object{Kind: objectKind, ID: s.ConnectorID, AppID: s.AppID}
}

// SyncKind is how much a sync reads.
type SyncKind string

// The kinds of sync. Only a full one can tell that something is gone.
const (
	Full          SyncKind = "full"
	Partial       SyncKind = "partial"
	ResourcesOnly SyncKind = "resources_only"
)

// Causes of syncs.
const (
	CauseFirst    = "first"
	CauseSchedule = "schedule"
	CauseDemand   = "demand"
	CauseSettings = "settings"
	CauseVerify   = "verify"
	CauseEvent    = "event"
	CauseFile     = "file"
)

// SyncState is how far a sync is.
type SyncState string

// The states of a sync.
const (
	Waiting   SyncState = "waiting"   // for the connector to take it
	Reading   SyncState = "reading"   // the connector reads the target system
	Uploading SyncState = "uploading" // the file arrives
	Comparing SyncState = "comparing" // the file is compared with the inventory
	HeldBack  SyncState = "held"      // it would remove much: somebody is to confirm it
	Applying  SyncState = "applying"  // the differences are being written
	Applied   SyncState = "applied"
	Failed    SyncState = "failed"
	Cancelled SyncState = "cancelled"
	Discarded SyncState = "discarded" // it was held, and somebody refused it
)

// moves are the states that may follow each state.
var moves = map[SyncState][]SyncState{
	Waiting:   {Reading, Failed, Cancelled},
	Reading:   {Waiting, Uploading, Comparing, Failed, Cancelled},
	Uploading: {Waiting, Comparing, Failed, Cancelled},
	Comparing: {HeldBack, Applying, Applied, Failed},
	HeldBack:  {Comparing, Applying, Discarded, Failed},
	Applying:  {Applied, Failed},
}

// Over reports whether nothing follows a state.
func (s SyncState) Over() bool { return len(moves[s]) == 0 }

// may reports whether a state may become another, or stay.
func (s SyncState) may(next SyncState) bool {
	return s == next && !s.Over() || slices.Contains(moves[s], next)
}

// The states in which the connector has something to do with a sync, and those
// in which it isn't over.
var (
	withConnector = []SyncState{Waiting, Reading, Uploading}
	openStates    = []SyncState{Waiting, Reading, Uploading, Comparing, HeldBack, Applying}
)

// Progress is what can be told of a sync that runs. Counts come from the log of a
// hosted connector, and are missing for others: Baton's heartbeats carry none.
type Progress struct {
	Counts   map[string]int64 `json:"counts,omitempty"` // resources and grants read so far, by type
	Bytes    int64            `json:"bytes,omitempty"`  // of the file that have arrived
	Rows     int64            `json:"rows,omitempty"`   // compared or written
	Of       int64            `json:"of,omitempty"`     // so many rows
	Attempts int64            `json:"attempts,omitempty"`
}
