package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/mail"
	"strings"
	"sync"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
)

// SignInConfig is what sign-ins work with.
type SignInConfig struct {
	DB    *db.DB
	Audit *audit.Log
	Vault *seal.Vault
	Live  *live.Hub
	Clock clock.Clock
	Log   *slog.Logger

	People *Service // is told of people who are new

	PublicURL string        // https://host[:port], without a path: providers send browsers back there
	Idle      time.Duration // a session that isn't used ends; an hour unless told
	Absolute  time.Duration // a session ends; twelve hours unless told
	Client    *http.Client  // asks the provider; one with sane timeouts unless told
}

// SignIns knows who is signed in: by a password or a provider, with which roles.
type SignIns struct {
	SignInConfig
	hashes hashes

	discovering sync.Mutex
	discovered  discovered // the provider, once it was needed; guarded by discovering
}

// NewSignIns makes the service.
func NewSignIns(config SignInConfig) *SignIns {
	s := &SignIns{SignInConfig: config, hashes: newHashes(usualCost)}
	if s.Idle <= 0 {
		s.Idle = usualIdle
	}
	if s.Absolute <= 0 {
		s.Absolute = usualAbsolute
	}
	s.Client = polite(s.Client)
	return s
}

// errWrong is the one answer to whatever isn't an e-mail with its password.
func errWrong() error {
	return fault.New(fault.Unauthenticated, "the e-mail or the password is wrong")
}

// Visitor is somebody who isn't signed in.
func visitor(v Visit) Actor {
	return Actor{Kind: KindVisitor, ID: cut(v.Address, 100), Name: cut(v.Address, 100)}
}

// SignIn lets somebody in who has a password. An e-mail that nobody has takes the
// same time and gets the same answer as a wrong password. Where a provider is set
// up the audit log says that the glass was broken.
func (s *SignIns) SignIn(ctx context.Context, email, password string, v Visit) (Entered, error) {
	email = strings.TrimSpace(email)
	if err := s.attempt(ctx, email, v.Address); err != nil {
		return Entered{}, err
	}
	person, kept, err := s.local(ctx, s.DB, email)
	if err != nil {
		return Entered{}, fmt.Errorf("find who signs in: %w", err)
	}
	fits, err := s.hashes.fits(ctx, password, kept)
	if err != nil {
		return Entered{}, fmt.Errorf("check the password: %w", err)
	}
	provider, err := s.provider(ctx, s.DB)
	if err != nil {
		return Entered{}, fmt.Errorf("read how people sign in: %w", err)
	}
	failed := func(reason string) (Entered, error) {
		object := personObject(person)
		if person.ID == "" {
			object = audit.Object{Kind: kindPerson, Name: plausible(email)}
		}
		if err := s.note(ctx, visitor(v), "person.sign_in_failed", object, signInDetail{
			Method: ByPassword, Reason: reason, Address: v.Address, BreakGlass: provider.On,
		}); err != nil {
			return Entered{}, err
		}
		return Entered{}, errWrong()
	}
	switch {
	case kept == "":
		return failed("there is no such account with a password")
	case !fits:
		return failed("the password is wrong")
	}
	var entered Entered
	reason := ""
	err = s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		reason = ""
		if err := forgive(ctx, tx, email, v.Address); err != nil { // first, as attempts hold it first
			return err
		}
		now, err := holdPerson(ctx, tx, person.ID)
		if err != nil {
			return err
		}
		roles, err := rolesOf(ctx, tx, person.ID)
		if err != nil {
			return err
		}
		_, again, err := s.local(ctx, tx, email)
		switch {
		case err != nil:
			return err
		case now.Status != Enabled || now.Kind != Human:
			reason = "the person is " + now.Status
			return errWrong()
		case again != kept:
			reason = "the password has just been changed"
			return errWrong()
		case provider.On && provider.BreakGlassOnly && !roles.Has(SuperAdmin):
			reason = "only a Super Admin signs in with a password"
			return errWrong()
		}
		entered, err = s.enter(ctx, tx, now, ByPassword, v)
		if err != nil {
			return err
		}
		return s.entered(ctx, tx, now, roles, entered.Session, provider.On)
	})
	switch {
	case reason != "":
		return failed(reason)
	case err != nil:
		return Entered{}, fmt.Errorf("sign in: %w", err)
	}
	if provider.On {
		s.Log.WarnContext(ctx, "somebody signed in with a password, though a provider is set up", "person", person.ID, "address", v.Address)
	}
	return entered, nil
}

// plausible keeps a password that was typed as the e-mail out of the log.
func plausible(email string) string {
	if !strings.Contains(email, "@") || len(email) > 320 {
		return ""
	}
	return email
}

// signInDetail is what the audit log keeps of a sign-in.
type signInDetail struct {
	Method     string `json:"method"`
	Address    string `json:"address"`
	BreakGlass bool   `json:"break_glass,omitempty"` // by a password, though a provider is set up
	Reason     string `json:"reason,omitempty"`      // why it failed
	Session    string `json:"session,omitempty"`
	Roles      string `json:"roles,omitempty"`
	Issuer     string `json:"issuer,omitempty"`
	Subject    string `json:"subject,omitempty"`
	Email      string `json:"email,omitempty"` // that the provider told of
}

func (s *SignIns) entered(ctx context.Context, tx *db.Tx, person Person, roles Roles, session Session, breakGlass bool) error {
	return s.Audit.Append(ctx, tx, audit.Event{
		Actor: PersonActor(person.ID, person.Name, roles), Action: "person.signed_in", Object: personObject(person),
		Detail: signInDetail{Method: session.Method, Address: session.Address, BreakGlass: breakGlass, Session: session.ID, Roles: (roles | User).String()},
	})
}

// note writes an audit event that comes with no change.
func (s *SignIns) note(ctx context.Context, actor Actor, action string, object audit.Object, detail any) error {
	return s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		return s.Audit.Append(ctx, tx, audit.Event{Actor: actor, Action: action, Object: object, Detail: detail})
	})
}

// local finds who has an e-mail and a password, and its hash; "" is nobody, or
// several.
func (s *SignIns) local(ctx context.Context, q db.Querier, email string) (Person, string, error) {
	if len(email) > 320 {
		return Person{}, "", nil
	}
	list, err := peopleWithPassword(ctx, q, Fold(email))
	if err != nil || len(list) != 1 {
		return Person{}, "", err
	}
	person, err := personByID(ctx, q, list[0].personID)
	return person, list[0].hash, err
}

// ChangePassword changes one's own password; one's other sessions end.
func (s *SignIns) ChangePassword(ctx context.Context, actor Actor, old, password string, v Visit) error {
	if err := Can(actor, Manage, Object{Kind: kindLocal, SubjectID: actor.ID}); err != nil {
		return err
	}
	if actor.Kind != KindPerson {
		return fault.New(fault.Invalid, "%s has no password", actor.Name)
	}
	person, err := personByID(ctx, s.DB, actor.ID)
	if err != nil {
		return fmt.Errorf("find whose password it is: %w", err)
	}
	if err := CheckPassword(person.Email, person.Name, password); err != nil {
		return err
	}
	if err := s.attempt(ctx, person.Email, v.Address); err != nil {
		return err
	}
	kept, err := passwordOf(ctx, s.DB, actor.ID)
	if err != nil && !none(err) {
		return fmt.Errorf("read the password: %w", err)
	}
	fits, err := s.hashes.fits(ctx, old, kept)
	switch {
	case err != nil:
		return fmt.Errorf("check the password: %w", err)
	case !fits:
		wrong := fault.New(fault.Forbidden, "the present password is wrong: it stays").At("old")
		return errors.Join(wrong, s.note(ctx, actor, "password.change_failed", personObject(person), signInDetail{Method: ByPassword, Address: v.Address}))
	}
	hash, err := s.hashes.make(ctx, password)
	if err != nil {
		return fmt.Errorf("change the password: %w", err)
	}
	return s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		if again, err := passwordOf(ctx, tx, actor.ID); err != nil || again != kept {
			return errors.Join(fault.New(fault.Conflict, "the password was changed meanwhile: it stays as it is now"), err)
		}
		if err := setPassword(ctx, tx, actor.ID, hash, s.Clock.Now()); err != nil {
			return err
		}
		if err := forgive(ctx, tx, person.Email, v.Address); err != nil {
			return err
		}
		except := ""
		if session, err := sessionByHash(ctx, tx, tokenHash(v.Token)); err == nil {
			except = session.ID
		} else if !none(err) {
			return err
		}
		if err := endSessionsOf(ctx, tx, []string{actor.ID}, except); err != nil {
			return err
		}
		return s.Audit.Append(ctx, tx, audit.Event{Actor: actor, Action: "password.changed", Object: personObject(person)})
	})
}

// checkAddress refuses what isn't an e-mail address.
func checkAddress(email string) (string, error) {
	email = strings.TrimSpace(email)
	parsed, err := mail.ParseAddress(email)
	if err != nil || parsed.Address != email || len(email) > 320 {
		return "", fault.New(fault.Invalid, "%.100q isn't an e-mail address: nothing was changed", email).At("email")
	}
	return email, nil
}
