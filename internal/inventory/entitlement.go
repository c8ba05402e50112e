package inventory

import (
	"time"

	"airlock/internal/base/fault"
)

// Entitlement is a right that can be granted: to be a member of a group, to be
// assigned a role.
type Entitlement struct {
	ID           string
	AppID        string
	ResourceID   string
	ResourceName string
	ResourceType string // external id
	ExternalID   string
	Slug         string
	Name         string
	Description  string
	Purpose      string   // assignment, permission, ownership, unspecified
	GrantableTo  []string // external ids of resource types
	Immutable    bool     // the source doesn't let it be granted or revoked
	Grants       int64    // how many hold it directly
	FirstSeenAt  time.Time
	ChangedAt    time.Time
	Rules
}

// Rules are what people decide on an entitlement. No sync changes them.
type Rules struct {
	Risk        Risk
	Requestable bool
	Longest     time.Duration // of a grant; 0 is without end
	OwnerID     string        // a person, or ""
}

// Risk is how much harm an entitlement can do; "" is not judged.
type Risk string

// The levels of risk.
const (
	Low      Risk = "low"
	Medium   Risk = "medium"
	High     Risk = "high"
	Critical Risk = "critical"
)

func (r Rules) check() error {
	switch r.Risk {
	case "", Low, Medium, High, Critical:
	default:
		return fault.New(fault.Invalid, "a risk is low, medium, high or critical, not %q", string(r.Risk)).At("risk")
	}
	if r.Longest < 0 || r.Longest%time.Second != 0 {
		return fault.New(fault.Invalid, "the longest duration of a grant is in whole seconds, not %s", r.Longest).At("longest")
	}
	return nil
}
