package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/id"
)

// How long a session lasts, unless told.
const (
	usualIdle     = time.Hour
	usualAbsolute = 12 * time.Hour

	touchEvery = time.Minute // so that reading pages writes little
	mostListed = 1000
)

// SessionCookie is the cookie that carries the token of a session: Secure,
// HttpOnly, SameSite=Lax, Path=/, without a domain.
const SessionCookie = "__Host-airlock"

// The ways to sign in.
const (
	ByPassword = "password"
	ByOIDC     = "oidc"
)

// Session is somebody who is signed in with a browser.
type Session struct {
	ID         string
	PersonID   string
	PersonName string
	Email      string // of the person
	Method     string // password or oidc
	Address    string
	UserAgent  string
	CreatedAt  time.Time
	SeenAt     time.Time // to the minute
	ExpiresAt  time.Time // however much it is used
}

// Visit is where a sign-in comes from.
type Visit struct {
	Address   string // of the browser, as trusted proxies tell
	UserAgent string
	Token     string // of the session that the browser has, which the new one replaces; or ""
}

// Entered is a sign-in that succeeded.
type Entered struct {
	Token    string // for the cookie
	Session  Session
	ReturnTo string // a path of ours
}

// newToken makes 256 random bits, and the hash by which they are found.
func newToken() (token string, hash []byte) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	token = base64.RawURLEncoding.EncodeToString(random)
	return token, tokenHash(token)
}

func tokenHash(token string) []byte {
	hash := sha256.Sum256([]byte(token))
	return hash[:]
}

// enter begins a session, in place of the one that the browser had.
func (s *SignIns) enter(ctx context.Context, tx *db.Tx, person Person, method string, v Visit) (Entered, error) {
	now := s.Clock.Now()
	token, hash := newToken()
	session := Session{
		ID: id.New(), PersonID: person.ID, PersonName: person.Name, Email: person.Email, Method: method, Address: cut(v.Address, 100), UserAgent: cut(v.UserAgent, 300),
		CreatedAt: now, SeenAt: now, ExpiresAt: now.Add(s.Absolute),
	}
	if v.Token != "" {
		if err := deleteSessionByHash(ctx, tx, tokenHash(v.Token)); err != nil {
			return Entered{}, err
		}
	}
	return Entered{Token: token, Session: session}, insertSession(ctx, tx, session, hash)
}

// cut is a text of so many bytes at most.
func cut(text string, most int) string { return text[:min(len(text), most)] }

// Session finds whose session a token is of, and what they may do now. It reads
// the person each time: who was disabled isn't let in any more. What isn't a
// session is Unauthenticated.
func (s *SignIns) Session(ctx context.Context, token string) (Session, Actor, error) {
	signInAgain := fault.New(fault.Unauthenticated, "nobody is signed in here, or the session has ended: sign in again")
	if token == "" || len(token) > 100 {
		return Session{}, Actor{}, signInAgain
	}
	now := s.Clock.Now()
	found, err := sessionByHash(ctx, s.DB, tokenHash(token))
	switch {
	case none(err):
		return Session{}, Actor{}, signInAgain
	case err != nil:
		return Session{}, Actor{}, fmt.Errorf("find the session: %w", err)
	case !found.good(now, s.Idle), found.status != Enabled, found.kind != Human:
		return Session{}, Actor{}, signInAgain
	}
	if !now.Before(found.SeenAt.Add(touchEvery)) {
		// Who only reads is let in even where nothing can be written, such as on a
		// full disk; unless noted, the session ends the sooner.
		if err := s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			return touchSession(ctx, tx, found.ID, now, now.Add(-touchEvery))
		}); err != nil {
			s.Log.WarnContext(ctx, "it couldn't be noted that a session is used", "session", found.ID, "error", err)
		}
	}
	return found.Session, PersonActor(found.PersonID, found.PersonName, found.roles), nil
}

// good reports whether a session hasn't ended by itself.
func (s Session) good(now time.Time, idle time.Duration) bool {
	return now.Before(s.ExpiresAt) && now.Before(s.SeenAt.Add(idle))
}

// SignOut ends the session of a token; one that has ended already is no error.
func (s *SignIns) SignOut(ctx context.Context, token string) error {
	session, err := sessionByHash(ctx, s.DB, tokenHash(token))
	switch {
	case none(err):
		return nil
	case err != nil:
		return fmt.Errorf("find the session: %w", err)
	}
	return s.endSession(ctx, PersonActor(session.PersonID, session.PersonName, session.roles), session.Session, "session.signed_out")
}

// Sessions lists who is signed in, newest first; one person's sessions, or all ("").
func (s *SignIns) Sessions(ctx context.Context, actor Actor, personID string) ([]Session, error) {
	if err := Can(actor, Read, Object{Kind: kindSession, SubjectID: personID}); err != nil {
		return nil, err
	}
	now := s.Clock.Now()
	list, err := sessions(ctx, s.DB, personID, now, now.Add(-s.Idle))
	if err != nil {
		return nil, fmt.Errorf("list the sessions: %w", err)
	}
	return list, nil
}

// EndSession ends a session: one's own, or as an administrator anybody's.
func (s *SignIns) EndSession(ctx context.Context, actor Actor, sessionID string) error {
	session, err := sessionByID(ctx, s.DB, sessionID)
	if err != nil && !none(err) {
		return fmt.Errorf("find the session: %w", err)
	}
	if err := Can(actor, Manage, Object{Kind: kindSession, ID: sessionID, SubjectID: session.PersonID}); err != nil {
		return err
	}
	if none(err) {
		return fault.New(fault.NotFound, "there is no session %q: it has ended", sessionID)
	}
	return s.endSession(ctx, actor, session, "session.ended")
}

func (s *SignIns) endSession(ctx context.Context, actor Actor, session Session, action string) error {
	err := s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		gone, err := deleteSession(ctx, tx, session.ID)
		if err != nil || !gone {
			return err
		}
		return s.Audit.Append(ctx, tx, audit.Event{
			Actor: actor, Action: action, Object: audit.Object{Kind: "person", ID: session.PersonID, Name: session.PersonName},
			Detail: map[string]any{"session": session.ID, "address": session.Address},
		})
	})
	if err != nil {
		return fmt.Errorf("end a session: %w", err)
	}
	return nil
}

// EndSessions ends all sessions of a person, but for one ("").
func (s *SignIns) EndSessions(ctx context.Context, actor Actor, personID, except string) error {
	if err := Can(actor, Manage, Object{Kind: kindSession, SubjectID: personID}); err != nil {
		return err
	}
	return s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		person, err := holdPerson(ctx, tx, personID)
		if err != nil {
			return err
		}
		if err := endSessionsOf(ctx, tx, []string{personID}, except); err != nil {
			return err
		}
		return s.Audit.Append(ctx, tx, audit.Event{Actor: actor, Action: "session.all_ended", Object: personObject(person), Detail: map[string]any{"except": except}})
	})
}

// ForgetSignIns is for a database that comes from a backup: sessions that have
// ended since, and links that were used, come back with it.
func ForgetSignIns(ctx context.Context, tx *db.Tx) error {
	for _, table := range []string{"session", "setup_link", "sign_in_throttle"} {
		if _, err := tx.Exec(ctx, "DELETE FROM "+table); err != nil {
			return fmt.Errorf("forget old sessions: %w", err)
		}
	}
	return nil
}

// Sweep removes what is over: sessions, set-up links, failed attempts, and sign-ins
// that nobody bound in 30 days. The server calls it now and then.
func (s *SignIns) Sweep(ctx context.Context) error {
	err := s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		now := s.Clock.Now()
		return errors.Join(
			dropSessions(ctx, tx, now, now.Add(-s.Idle)),
			dropAttempts(ctx, tx, now, now.Add(-forgetAfter)),
			dropUnbound(ctx, tx, now.Add(-30*24*time.Hour)),
		)
	})
	if err != nil {
		return fmt.Errorf("sweep what is over of sign-ins: %w", err)
	}
	return nil
}

// network is what attempts from an address count for: whoever has an address of
// IPv6 has 2⁶⁴ of them.
func network(address string) string {
	parsed, err := netip.ParseAddr(address)
	if err != nil {
		return cut(address, 100)
	}
	parsed = parsed.Unmap().WithZone("")
	if parsed.Is4() {
		return parsed.String()
	}
	prefix, err := parsed.Prefix(64)
	if err != nil {
		return parsed.String()
	}
	return prefix.String()
}
