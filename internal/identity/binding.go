package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
)

// Binding is somebody's sign-in at a provider, and whose it is.
type Binding struct {
	Issuer, Subject string
	PersonID        string // '' is nobody's yet: an administrator binds it
	PersonName      string
	Email           string // as the provider said last
	Verified        bool   // that the e-mail is theirs, as the provider says
	Name            string
	Reason          string // why it is nobody's, in words
	BoundBy         string // email, or who bound it, or who took it away
	BoundAt         time.Time
	FirstAt, LastAt time.Time
}

const (
	boundByEmail = "email"
	mostUnbound  = 1000 // that are kept
)

// errRefused takes nothing back: what it says was written.
type errRefused struct{ reason string }

func (e errRefused) Error() string { return e.reason }

// enterBound lets somebody in whom a provider vouches for, if they are a person
// here.
func (s *SignIns) enterBound(ctx context.Context, someone who, v Visit) (Entered, error) {
	var entered Entered
	var refusal error
	err := s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		entered, refusal = Entered{}, nil
		person, err := s.bound(ctx, tx, someone)
		refused, isRefused := errors.AsType[errRefused](err)
		switch {
		case isRefused:
			refusal = fault.New(fault.Forbidden, "you are known to the provider, but not let in here: %s", refused.reason)
			return s.Audit.Append(ctx, tx, audit.Event{
				Actor: visitor(v), Action: "person.sign_in_failed", Object: audit.Object{Kind: kindPerson, ID: person.ID, Name: firstOf(person.Name, someone.email)},
				Detail: signInDetail{
					Method: ByOIDC, Address: v.Address, Reason: refused.reason, Issuer: someone.issuer, Subject: someone.subject, Email: someone.email,
				},
			})
		case err != nil:
			return err
		}
		if err := s.takeGroups(ctx, tx, person, someone); err != nil {
			return err
		}
		roles, err := rolesOf(ctx, tx, person.ID)
		if err != nil {
			return err
		}
		if entered, err = s.enter(ctx, tx, person, ByOIDC, v); err != nil {
			return err
		}
		return s.entered(ctx, tx, person, roles, entered.Session, false)
	})
	switch {
	case err != nil:
		return Entered{}, fmt.Errorf("sign in: %w", err)
	case refusal != nil:
		return Entered{}, refusal
	}
	return entered, nil
}

// bound finds whose a sign-in is, and binds it the first time. errRefused says that
// nobody is let in.
func (s *SignIns) bound(ctx context.Context, tx *db.Tx, someone who) (Person, error) {
	now := s.Clock.Now()
	personID, boundBy, err := meetSignIn(ctx, tx, someone, now)
	if err != nil {
		return Person{}, err
	}
	if personID == "" {
		var reason string
		if boundBy != "" {
			reason = "an administrator took this sign-in from the person it was bound to"
		} else if personID, reason, err = s.byEmail(ctx, tx, someone); err != nil {
			return Person{}, err
		}
		if personID == "" {
			if err := refuseSignIn(ctx, tx, someone, reason, mostUnbound); err != nil {
				return Person{}, err
			}
			return Person{}, errRefused{reason + "; an administrator binds it in the settings of sign-in"}
		}
		if err := bindSignIn(ctx, tx, someone.issuer, someone.subject, personID, boundByEmail, now); err != nil {
			return Person{}, err
		}
		if err := s.noteBinding(ctx, tx, System(), "sign-in.bound", Binding{
			Issuer: someone.issuer, Subject: someone.subject, PersonID: personID, Email: someone.email, BoundBy: boundByEmail,
		}); err != nil {
			return Person{}, err
		}
	}
	person, err := holdPerson(ctx, tx, personID)
	switch {
	case err != nil:
		return Person{}, err
	case person.Status != Enabled || person.Kind != Human:
		return person, errRefused{fmt.Sprintf("%s (%s, %s) can't sign in", person.Name, person.Kind, person.Status)}
	}
	return person, nil
}

// byEmail finds the one person whose e-mail a provider has verified; else it says
// why there is none.
func (s *SignIns) byEmail(ctx context.Context, tx *db.Tx, someone who) (personID, reason string, err error) {
	p, err := s.provider(ctx, tx)
	if err != nil {
		return "", "", err
	}
	email := Fold(someone.email)
	_, domain, _ := strings.Cut(email, "@")
	switch {
	case someone.email == "":
		return "", "the provider tells no e-mail", nil
	case !someone.verified:
		return "", "the provider doesn't say that the e-mail " + someone.email + " is verified", nil
	case strings.ContainsFunc(someone.email, func(c rune) bool { return c <= ' ' || c > '~' }):
		return "", "the e-mail has letters that look like others", nil
	case len(p.Domains) > 0 && !slices.Contains(p.Domains, domain):
		return "", "e-mails of " + domain + " aren't bound by themselves", nil
	}
	key := personKey{byEmail, email}
	found, err := peopleByKeys(ctx, tx, []personKey{key})
	if err != nil {
		return "", "", err
	}
	switch persons := found[key]; {
	case len(persons) == 0:
		return "", "nobody here has the e-mail " + someone.email, nil
	case len(persons) > 1:
		return "", fmt.Sprintf("%d people have the e-mail %s", len(persons), someone.email), nil
	}
	person, err := holdPerson(ctx, tx, found[key][0]) // so that of two sign-ins at once one is the first
	if err != nil {
		return "", "", err
	}
	bound, err := countBindings(ctx, tx, person.ID, someone.issuer)
	switch {
	case err != nil:
		return "", "", err
	case bound > 0:
		return "", "the person with the e-mail " + someone.email + " has another sign-in at this provider", nil
	case person.Status != Enabled || person.Kind != Human:
		return "", fmt.Sprintf("the person with the e-mail %s (%s, %s) can't sign in", someone.email, person.Kind, person.Status), nil
	}
	return person.ID, "", nil
}

// takeGroups gives a person the roles that their groups give now, beside those
// they have by hand.
func (s *SignIns) takeGroups(ctx context.Context, tx *db.Tx, person Person, someone who) error {
	p, err := s.provider(ctx, tx)
	if err != nil {
		return err
	}
	var wanted Roles
	for _, group := range someone.groups {
		wanted |= p.Groups[group] &^ User
	}
	had, err := rolesBy(ctx, tx, person.ID, RoleByOIDC)
	if err != nil || had == wanted {
		return err
	}
	for role := range (had &^ wanted).Each() {
		if _, err := deleteRole(ctx, tx, person.ID, role, RoleByOIDC); err != nil {
			return err
		}
	}
	for role := range (wanted &^ had).Each() {
		if _, err := insertRole(ctx, tx, person.ID, role, RoleByOIDC, s.Clock.Now()); err != nil {
			return err
		}
	}
	if err := s.Live.Publish(ctx, tx, TopicPeople); err != nil {
		return err
	}
	return s.Audit.Append(ctx, tx, audit.Event{
		Actor: System(), Action: "role.by_groups", Object: personObject(person),
		Detail: map[string]any{"added": wanted &^ had, "removed": had &^ wanted, "issuer": someone.issuer},
	})
}

// PendingSignIns lists sign-ins that are nobody's yet, the latest first.
func (s *SignIns) PendingSignIns(ctx context.Context, actor Actor) ([]Binding, error) {
	if err := Can(actor, Read, Object{Kind: kindSignIn}); err != nil {
		return nil, err
	}
	list, err := bindings(ctx, s.DB, "")
	if err != nil {
		return nil, fmt.Errorf("list the sign-ins that are nobody's: %w", err)
	}
	return list, nil
}

// Bindings lists the sign-ins of a person at providers.
func (s *SignIns) Bindings(ctx context.Context, actor Actor, personID string) ([]Binding, error) {
	if err := Can(actor, Read, Object{Kind: kindSignIn, SubjectID: personID}); err != nil {
		return nil, err
	}
	if personID == "" {
		return nil, nil
	}
	list, err := bindings(ctx, s.DB, personID)
	if err != nil {
		return nil, fmt.Errorf("list the sign-ins of a person: %w", err)
	}
	return list, nil
}

// BindSignIn says whose a sign-in is that is nobody's.
func (s *SignIns) BindSignIn(ctx context.Context, actor Actor, issuer, subject, personID string) error {
	return s.changeBinding(ctx, actor, issuer, subject, "sign-in.bound", func(ctx context.Context, tx *db.Tx, b *Binding) error {
		if b.PersonID != "" {
			return fault.New(fault.Conflict, "this sign-in is %s's: it stays so; unbind it first", b.PersonName)
		}
		person, err := holdPerson(ctx, tx, personID)
		switch {
		case err != nil:
			return err
		case person.Status != Enabled || person.Kind != Human:
			return fault.New(fault.NotReady, "%s (%s, %s) can't sign in: the sign-in stays nobody's", person.Name, person.Kind, person.Status)
		}
		b.PersonID, b.PersonName = person.ID, person.Name
		return bindSignIn(ctx, tx, issuer, subject, personID, actor.Name, s.Clock.Now())
	})
}

// Unbind takes a sign-in from the person whose it is: their sessions end, and so do the
// roles that their groups gave. It isn't bound by e-mail again.
func (s *SignIns) Unbind(ctx context.Context, actor Actor, issuer, subject string) error {
	return s.changeBinding(ctx, actor, issuer, subject, "sign-in.unbound", func(ctx context.Context, tx *db.Tx, b *Binding) error {
		return KeepSuperAdmin(ctx, tx, "the sign-in stays theirs", func() error {
			if err := bindSignIn(ctx, tx, issuer, subject, "", actor.Name, s.Clock.Now()); err != nil || b.PersonID == "" {
				return err
			}
			for role := range allRoles.Each() {
				if _, err := deleteRole(ctx, tx, b.PersonID, role, RoleByOIDC); err != nil {
					return err
				}
			}
			return EndSessionsOf(ctx, tx, b.PersonID)
		})
	})
}

func (s *SignIns) changeBinding(
	ctx context.Context, actor Actor, issuer, subject, action string, change func(context.Context, *db.Tx, *Binding) error,
) error {
	if err := Can(actor, Manage, Object{Kind: kindSignIn}); err != nil {
		return err
	}
	return s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		b, err := holdBinding(ctx, tx, issuer, subject)
		switch {
		case none(err):
			return fault.New(fault.NotFound, "there is no sign-in %.200q at %.200q: nothing was changed", subject, issuer)
		case err != nil:
			return err
		}
		if err := change(ctx, tx, &b); err != nil {
			return err
		}
		return s.noteBinding(ctx, tx, actor, action, b)
	})
}

func (s *SignIns) noteBinding(ctx context.Context, tx *db.Tx, actor Actor, action string, b Binding) error {
	return s.Audit.Append(ctx, tx, audit.Event{
		Actor: actor, Action: action, Object: audit.Object{Kind: kindPerson, ID: b.PersonID, Name: firstOf(b.PersonName, b.Email)},
		Detail: map[string]any{"issuer": b.Issuer, "subject": b.Subject, "email": b.Email},
	})
}
