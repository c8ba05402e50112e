package identity

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strings"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
)

// Roles is a set of product roles; one role is a set of one.
type Roles uint16

// The product roles. Everybody who can sign in is a User.
const (
	User             Roles = 1 << iota // sees what is theirs
	Auditor                            // reads everything, changes nothing
	CampaignAdmin                      // runs access reviews
	ApplicationAdmin                   // runs the apps that they own
	ConnectorAdmin                     // runs connectors and their apps
	SuperAdmin                         // runs everything, but for their own access

	allRoles = User | Auditor | CampaignAdmin | ApplicationAdmin | ConnectorAdmin | SuperAdmin
)

var roleNames = []struct {
	role        Roles
	name, title string
}{
	{SuperAdmin, "super_admin", "Super Admin"},
	{ConnectorAdmin, "connector_admin", "Connector Admin"},
	{ApplicationAdmin, "application_admin", "Application Admin"},
	{CampaignAdmin, "campaign_admin", "Campaign Admin"},
	{Auditor, "auditor", "Auditor"},
	{User, "user", "User"},
}

// Each lists the roles of a set, the mightiest first; AllRoles those there are.
func (r Roles) Each() iter.Seq[Roles] {
	return func(yield func(Roles) bool) {
		for _, known := range roleNames {
			if r&known.role != 0 && !yield(known.role) {
				return
			}
		}
	}
}

// AllRoles is the set of all roles.
func AllRoles() Roles { return allRoles }

// Has reports whether one of some roles is in the set.
func (r Roles) Has(some Roles) bool { return r&some != 0 }

// String is how roles are kept and written in commands: super_admin,auditor.
func (r Roles) String() string { return r.join(",", func(n int) string { return roleNames[n].name }) }

// Title is how people read them: Super Admin, Auditor.
func (r Roles) Title() string { return r.join(", ", func(n int) string { return roleNames[n].title }) }

func (r Roles) join(by string, word func(n int) string) string {
	var words []string
	for n, known := range roleNames {
		if r&known.role != 0 {
			words = append(words, word(n))
		}
	}
	return strings.Join(words, by)
}

// ParseRole reads the name of one role, as it is kept or as people read it.
func ParseRole(text string) (Roles, error) {
	key := strings.NewReplacer(" ", "_", "-", "_").Replace(Fold(text))
	var names []string
	for _, known := range roleNames {
		if known.name == key {
			return known.role, nil
		}
		names = append(names, known.name)
	}
	return 0, fault.New(fault.Invalid, "there is no role %.100q; the roles are %s", text, strings.Join(names, ", ")).At("role")
}

// MarshalText and UnmarshalText keep one role or several by name.
func (r Roles) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *Roles) UnmarshalText(text []byte) error {
	*r = 0
	for name := range strings.SplitSeq(string(text), ",") {
		if name == "" {
			continue
		}
		role, err := ParseRole(name)
		if err != nil {
			return err
		}
		*r |= role
	}
	return nil
}

// The sources of a role: a Super Admin, or the groups that a provider told of at
// the last sign-in.
const (
	RoleByHand = "hand"
	RoleByOIDC = "oidc"
)

// RoleHolding is a role that somebody has.
type RoleHolding struct {
	PersonID, Name, Email, Status string // of the person
	Role                          Roles
	Source                        string // hand or oidc
	AddedAt                       time.Time
}

// RoleHoldings lists who has which role, by role and name; of one person, or of all
// (""). User isn't listed: everybody is.
func (s *SignIns) RoleHoldings(ctx context.Context, actor Actor, personID string) ([]RoleHolding, error) {
	if err := Can(actor, Read, Object{Kind: kindRole, SubjectID: personID}); err != nil {
		return nil, err
	}
	list, err := roleHoldings(ctx, s.DB, personID)
	if err != nil {
		return nil, fmt.Errorf("list the roles: %w", err)
	}
	slices.SortStableFunc(list, func(a, b RoleHolding) int { return cmp.Compare(bits.Len16(uint16(b.Role)), bits.Len16(uint16(a.Role))) })
	return list, nil
}

// AssignRole gives a person a role. Nobody does so for themself.
func (s *SignIns) AssignRole(ctx context.Context, actor Actor, personID string, role Roles) error {
	return s.changeRole(ctx, actor, personID, role, "role.assigned", func(ctx context.Context, tx *db.Tx, person Person) (bool, error) {
		if person.Status != Enabled || person.Kind != Human {
			return false, fault.New(fault.NotReady, "%s (%s, %s) can't sign in: no role was assigned", person.Name, person.Kind, person.Status)
		}
		return insertRole(ctx, tx, personID, role, RoleByHand, s.Clock.Now())
	})
}

// RemoveRole takes a role that was given by hand from a person; what their groups
// say stays. Super Admin isn't taken from the last one who can sign in.
func (s *SignIns) RemoveRole(ctx context.Context, actor Actor, personID string, role Roles) error {
	return s.changeRole(ctx, actor, personID, role, "role.removed", func(ctx context.Context, tx *db.Tx, person Person) (bool, error) {
		var gone bool
		err := KeepSuperAdmin(ctx, tx, person.Name+" keeps the role", func() (err error) {
			gone, err = deleteRole(ctx, tx, personID, role, RoleByHand)
			return err
		})
		return gone, err
	})
}

func (s *SignIns) changeRole(
	ctx context.Context, actor Actor, personID string, role Roles, action string, change func(context.Context, *db.Tx, Person) (bool, error),
) error {
	if err := Can(actor, Manage, Object{Kind: kindRole, SubjectID: personID}); err != nil {
		return err
	}
	if role == User || bits.OnesCount16(uint16(role&allRoles)) != 1 {
		return fault.New(fault.Invalid, "%q isn't a role that is assigned: it takes one of all but user, which everybody is", role).At("role")
	}
	return s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		person, err := holdPerson(ctx, tx, personID)
		if err != nil {
			return err
		}
		changed, err := change(ctx, tx, person)
		if err != nil || !changed {
			return err
		}
		if err := s.Live.Publish(ctx, tx, TopicPeople); err != nil {
			return err
		}
		return s.Audit.Append(ctx, tx, audit.Event{
			Actor: actor, Action: action, Object: personObject(person), Detail: map[string]any{"role": role, "source": RoleByHand},
		})
	})
}

// KeepSuperAdmin makes a change within a transaction, and refuses it if nobody would
// be left who is Super Admin and can sign in; stays says what isn't changed then.
func KeepSuperAdmin(ctx context.Context, tx *db.Tx, stays string, change func() error) error {
	before, err := countSuperAdmins(ctx, tx)
	if err != nil {
		return err
	}
	if err := change(); err != nil || before == 0 {
		return err
	}
	after, err := countSuperAdmins(ctx, tx)
	switch {
	case err != nil:
		return err
	case after == 0:
		return fault.New(fault.Conflict, "nobody would be left who is Super Admin and can sign in: %s; make another one first", stays)
	}
	return nil
}

// personObject is a person as the audit log names them.
func personObject(p Person) audit.Object { return audit.Object{Kind: "person", ID: p.ID, Name: p.Name} }

// EndSessionsOf ends the sessions of people, in the transaction that lets them not
// sign in any more. The session check wouldn't let them in either.
func EndSessionsOf(ctx context.Context, tx *db.Tx, personIDs ...string) error {
	for chunk := range slices.Chunk(personIDs, 500) {
		if err := endSessionsOf(ctx, tx, chunk, ""); err != nil {
			return fmt.Errorf("end the sessions of people: %w", err)
		}
	}
	return nil
}
