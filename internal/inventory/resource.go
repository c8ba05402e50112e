package inventory

import (
	"encoding/json"
	"time"

	"airlock/internal/base/fault"
)

// LongestID is how many bytes an id that a connector gives may have: of a type, a
// resource, an entitlement.
const LongestID = 1024

// Type is a kind of resource of an app, as its connector has it.
type Type struct {
	ID          string
	AppID       string
	ExternalID  string
	Name        string
	Description string
	Traits      []string // user, role, group, app, …
	FirstSeenAt time.Time
	Resources   int64 // how many there are; set by Types alone
}

// Resource is a thing in an app: an account, a role, a group, whatever its
// connector reports.
type Resource struct {
	ID          string
	AppID       string
	TypeID      string
	Type        string // external id of its type
	ExternalID  string
	ParentID    string // a resource, or ""
	Name        string
	Description string
	Profile     json.RawMessage
	FirstSeenAt time.Time
	ChangedAt   time.Time
}

// Account is a resource that somebody, or something, signs in with.
type Account struct {
	Resource
	Login        string
	Email        string
	EmployeeID   string
	Kind         AccountKind
	KindByHand   bool
	Status       AccountStatus
	StatusDetail string // in the source's words
	LastLoginAt  time.Time
	CreatedAt    time.Time // in the source
	PersonID     string    // whose it is, or ""
	PersonName   string
	PersonStatus string
	MatchedBy    string // email, username, employee_id, ByHand, or ""
	MatchedAt    time.Time
}

// ByHand is what an account was matched by if somebody said whose it is, or
// that it is nobody's. No sync changes that.
const ByHand = "hand"

// Orphaned reports whether the account's person left.
func (a Account) Orphaned() bool {
	return a.PersonID != "" && (a.PersonStatus == "disabled" || a.PersonStatus == "deleted")
}

// AccountKind is what uses an account.
type AccountKind string

// The kinds of account.
const (
	Human       AccountKind = "human"
	ServiceKind AccountKind = "service"
	SystemKind  AccountKind = "system"
	UnknownKind AccountKind = "unknown"
)

func (k AccountKind) check() error {
	switch k {
	case Human, ServiceKind, SystemKind:
		return nil
	case UnknownKind:
	}
	return fault.New(fault.Invalid, "an account is human, service or system, not %q", string(k)).At("kind")
}

// AccountStatus is whether an account can be used.
type AccountStatus string

// The states of an account in its source.
const (
	Enabled       AccountStatus = "enabled"
	Disabled      AccountStatus = "disabled"
	Deleted       AccountStatus = "deleted"
	UnknownStatus AccountStatus = "unknown"
)
