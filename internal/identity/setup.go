package identity

import (
	"context"
	"fmt"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/id"
)

// SourceManual is the source of a person whom an administrator made.
const SourceManual = "manual"

// setupLife is how long a set-up link is good; the next start gives another one.
const setupLife = 24 * time.Hour

// SetupLink gives the token of a link for the first administrator, as long as
// there is none. Each start of a server asks for one; it is good for a day, once,
// and until somebody is Super Admin. Only its hash is kept.
func (s *SignIns) SetupLink(ctx context.Context) (token string, needed bool, err error) {
	err = s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		token, needed = "", false
		there, err := anySuperAdmin(ctx, tx)
		if err != nil || there {
			return err
		}
		var hash []byte
		token, hash = newToken()
		needed = true
		return insertSetup(ctx, tx, hash, s.Clock.Now(), s.Clock.Now().Add(setupLife))
	})
	if err != nil {
		return "", false, fmt.Errorf("make the set-up link: %w", err)
	}
	return token, needed, nil
}

// CheckSetup says whether a set-up link is good, for the page behind it.
func (s *SignIns) CheckSetup(ctx context.Context, token string) error {
	there, err := anySuperAdmin(ctx, s.DB)
	if err != nil {
		return fmt.Errorf("check the set-up link: %w", err)
	}
	good, err := setupGood(ctx, s.DB, tokenHash(token), s.Clock.Now())
	switch {
	case err != nil:
		return fmt.Errorf("check the set-up link: %w", err)
	case there || !good:
		return errSetup()
	}
	return nil
}

func errSetup() error {
	return fault.New(fault.Forbidden, "the set-up link was used, or is too old: restart the server for a new one, or use `airlock admin create`; nothing was changed")
}

// CreateFirstAdmin makes the first administrator, by a set-up link, and lets them
// in.
func (s *SignIns) CreateFirstAdmin(ctx context.Context, setupToken, email, name, password string, v Visit) (Entered, error) {
	if err := s.CheckSetup(ctx, setupToken); err != nil {
		return Entered{}, err
	}
	var entered Entered
	actor := visitor(v)
	_, err := s.admin(ctx, actor, email, name, password, func(ctx context.Context, tx *db.Tx) error {
		good, err := takeSetup(ctx, tx, tokenHash(setupToken), s.Clock.Now())
		if err != nil {
			return err
		}
		there, err := anySuperAdmin(ctx, tx)
		if err == nil && (there || !good) {
			return errSetup()
		}
		return err
	}, func(ctx context.Context, tx *db.Tx, person Person) (err error) {
		if entered, err = s.enter(ctx, tx, person, ByPassword, v); err != nil {
			return err
		}
		return s.entered(ctx, tx, person, SuperAdmin, entered.Session, false)
	})
	return entered, err
}

// Admin is an administrator whom AdminCreate made or let in again.
type Admin struct {
	PersonID  string `json:"person_id"`
	Name      string `json:"name"`
	Email     string `json:"email"`
	Recovered bool   `json:"recovered"` // had a password, which is replaced
}

// AdminCreate makes a Super Admin with a password, or gives one who is there a new
// one: the person with that e-mail, or a new one. Their sessions end, and the
// throttle forgets them. Only the operator may.
func (s *SignIns) AdminCreate(ctx context.Context, actor Actor, email, name, password string) (Admin, error) {
	if err := Can(actor, Manage, Object{Kind: "administrator"}); err != nil {
		return Admin{}, err
	}
	return s.admin(ctx, actor, email, name, password,
		func(context.Context, *db.Tx) error { return nil }, func(context.Context, *db.Tx, Person) error { return nil })
}

// admin makes an administrator with a password, between what comes before and
// after that in the transaction.
func (s *SignIns) admin(
	ctx context.Context, actor Actor, email, name, password string,
	before func(context.Context, *db.Tx) error, after func(context.Context, *db.Tx, Person) error,
) (Admin, error) {
	email, err := checkAddress(email)
	if err != nil {
		return Admin{}, err
	}
	if name, err = Line("the name", name, 200); err != nil {
		return Admin{}, err
	}
	if err := CheckPassword(email, name, password); err != nil {
		return Admin{}, err
	}
	hash, err := s.hashes.make(ctx, password)
	if err != nil {
		return Admin{}, fmt.Errorf("make an administrator: %w", err)
	}
	var admin Admin
	err = s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := before(ctx, tx); err != nil {
			return err
		}
		// Of two for one e-mail at once the second waits, and finds the first's person.
		if _, _, _, err := holdThrottle(ctx, tx, accountKey(email)); err != nil {
			return err
		}
		now := s.Clock.Now()
		person, err := s.personFor(ctx, tx, email, name, now)
		if err != nil {
			return err
		}
		_, err = passwordOf(ctx, tx, person.ID)
		if err != nil && !none(err) {
			return err
		}
		admin = Admin{PersonID: person.ID, Name: person.Name, Email: email, Recovered: err == nil}
		if err := setPassword(ctx, tx, person.ID, hash, now); err != nil {
			return err
		}
		if _, err := insertRole(ctx, tx, person.ID, SuperAdmin, RoleByHand, now); err != nil {
			return err
		}
		if err := EndSessionsOf(ctx, tx, person.ID); err != nil {
			return err
		}
		if err := deleteThrottle(ctx, tx, accountKey(email)); err != nil {
			return err
		}
		if err := s.Live.Publish(ctx, tx, TopicPeople); err != nil {
			return err
		}
		action := "administrator.created"
		if admin.Recovered {
			action = "administrator.recovered"
		}
		if err := s.Audit.Append(ctx, tx, audit.Event{Actor: actor, Action: action, Object: personObject(person), Detail: map[string]any{"email": email}}); err != nil {
			return err
		}
		return after(ctx, tx, person)
	})
	if err != nil {
		return Admin{}, fmt.Errorf("make an administrator: %w", err)
	}
	return admin, nil
}

// personFor finds the person with an e-mail, or makes one.
func (s *SignIns) personFor(ctx context.Context, tx *db.Tx, email, name string, now time.Time) (Person, error) {
	key := personKey{byEmail, Fold(email)}
	found, err := peopleByKeys(ctx, tx, []personKey{key})
	if err != nil {
		return Person{}, err
	}
	switch persons := found[key]; {
	case len(persons) > 1:
		return Person{}, fault.New(fault.Conflict, "%d people have the e-mail %s: nothing was changed; use an e-mail that is one person's", len(persons), email).At("email")
	case len(persons) == 1:
		person, err := holdPerson(ctx, tx, persons[0])
		if err != nil {
			return Person{}, err
		}
		if person.Kind == Human && person.Status != Enabled && person.Source == SourceManual {
			person.Status, person.UpdatedAt = Enabled, now
			return person, enablePerson(ctx, tx, person.ID, now)
		}
		if person.Kind != Human || person.Status != Enabled {
			return Person{}, fault.New(fault.NotReady, "%s (%s, %s) can't sign in: nothing was changed; enable them in %s, or use another e-mail",
				person.Name, person.Kind, person.Status, person.Source).At("email")
		}
		return person, nil
	}
	person := Person{
		ID: id.New(), Name: firstOf(name, email), Email: email, Kind: Human, Status: Enabled, Source: SourceManual, CreatedAt: now, UpdatedAt: now,
	}
	if err := insertPerson(ctx, tx, person, Keys{Emails: []string{email}}.all(person.Name)); err != nil {
		return Person{}, err
	}
	if s.People != nil && s.People.PeopleChanged != nil {
		return person, s.People.PeopleChanged(ctx, tx)
	}
	return person, nil
}
