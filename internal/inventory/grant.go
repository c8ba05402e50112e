package inventory

import "time"

// Grant is an entitlement that a principal holds: an account, a role, a group.
type Grant struct {
	AppID           string
	EntitlementID   string
	Entitlement     string // external id
	EntitlementName string
	PrincipalID     string
	Principal       string // external ids: type:resource
	PrincipalName   string
	Direct          bool
	ExternalID      string    // of a direct one
	Immutable       bool      // the source doesn't let it be revoked
	Since           time.Time // when a direct one was first seen or made
	SyncID          string    // that saw it first; "" before one has
	Path            []Step    // how an inherited one comes about, from what is held directly to what gives this one; nil for a direct one
	Account         bool      // the principal is an account
	PersonID        string    // whose account
	PersonName      string
	PersonEmail     string
}

// Step is a part of the way to an inherited grant: an entitlement that is held.
type Step struct {
	EntitlementID string
	ExternalID    string
	Name          string
}

// PastGrant is a direct grant that ended.
type PastGrant struct {
	ID              string
	AppID           string
	EntitlementID   string
	Entitlement     string // external id
	EntitlementName string
	PrincipalID     string
	Principal       string // external ids: type:resource
	PrincipalName   string
	Since           time.Time // the same as Until where it was revoked before a sync had seen it
	SyncID          string
	Until           time.Time
	UntilSyncID     string // that saw it gone; "" where it was revoked here, AppRemoved where it wasn't
}

// AppRemoved is where the sync of a PastGrant would be that was there when its app
// was removed: nobody revoked it.
const AppRemoved = "removed"

// Reason is why a grant is there. One found in the target alone has none.
type Reason struct {
	Kind      string // operator; later request, standing, review
	Ref       string // what it comes from
	Since     time.Time
	ExpiresAt time.Time // zero is without end
}

// The flags of a grant as it is kept.
const (
	FlagImmutable  = 1
	FlagExpandable = 2
)
