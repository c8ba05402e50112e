// Package inventory holds what there is: apps, their resources, accounts and
// entitlements, who is granted what, since when and until when, and how one
// grant follows from another.
package inventory

import (
	"strings"
	"time"

	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

// App is a system that people have access to. A managed one has a connector; an
// unmanaged one is only known, by hand or from a directory that tells of it.
type App struct {
	ID          string
	Name        string
	Managed     bool
	Source      string // SourceManual, SourceConnector, or the id of the directory's app that tells of it
	ExternalID  string // type:resource that the directory has it as, or ""
	Description string
	Matching    Matching
	Directory   bool      // its accounts make people
	SyncID      string    // the last sync that was applied, or ""
	SyncedAt    time.Time // when it was
	CreatedAt   time.Time
	RemovedAt   time.Time // when its directory ceased to tell of it, or it was removed
}

// Where apps come from, if not from a directory.
const (
	SourceManual    = "manual"
	SourceConnector = "connector"
)

// Matching is how an app's accounts are matched to people.
type Matching string

// Narrow matching goes by e-mail alone; broad matching by username and employee
// id too.
const (
	Narrow Matching = "narrow"
	Broad  Matching = "broad"
)

// Owner is a person who owns an app, or an entitlement whose holders do.
type Owner struct {
	Kind OwnerKind
	ID   string
	Name string // of what it is; not needed to set it
}

// OwnerKind is what an owner is.
type OwnerKind string

// The kinds of owner.
const (
	OwnerPerson      OwnerKind = "person"
	OwnerEntitlement OwnerKind = "entitlement"
)

// mostOwners is how many owners of each kind an app can have.
const mostOwners = 32

// named is the app with its name as it is kept, or an error that says what is wrong.
func (a App) named() (App, error) {
	name, err := identity.Name("an app", a.Name)
	a.Name = name
	return a, err
}

// checked is the app as it is kept, or an error that says what is wrong.
func (a App) checked() (App, error) {
	switch a.Matching {
	case "":
		a.Matching = Narrow
	case Narrow, Broad:
	default:
		return a, fault.New(fault.Invalid, "matching is narrow or broad, not %q", a.Matching).At("matching")
	}
	if a.Source == "" {
		a.Source = SourceManual
	}
	var err error
	a.Description, err = identity.Line("the description of an app", a.Description, mostDescription)
	return a, err
}

// mostDescription is how many bytes the description of an app may have.
const mostDescription = 4096

// Fold makes the key by which a name is found: the databases compare bytes.
func Fold(name string) string { return identity.Fold(strings.Join(strings.Fields(name), " ")) }

// Storable reports whether both databases can keep a text.
func Storable(text string) bool {
	return strings.ToValidUTF8(text, "") == text && !strings.ContainsRune(text, 0)
}

// Key is a place in a list that is sorted by name: a page begins after it. The
// zero Key is the start.
type Key struct{ Name, ID string }
