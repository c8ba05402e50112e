package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
)

// door is sign-ins with all that belongs to them.
type door struct {
	*SignIns
	site site
}

func newDoor(t testing.TB, d *db.DB) door {
	t.Helper()
	return openDoor(newSite(t, d), nil)
}

func openDoor(s site, client *http.Client) door {
	signIns := NewSignIns(SignInConfig{
		DB: s.db, Audit: s.audit, Vault: s.vault, Live: s.live, Clock: s.clock, Log: slog.New(slog.DiscardHandler), People: s.Service,
		PublicURL: publicURL, Client: client,
	})
	signIns.hashes.cost = cost{passes: 1, kilobytes: 64, threads: 1} // tests are many
	return door{signIns, s}
}

const (
	publicURL = "https://airlock.example.com"
	secret    = "correct horse battery"
)

func (d door) admin(t testing.TB, email string) Admin {
	t.Helper()
	admin, err := d.AdminCreate(t.Context(), Operator(), email, "", secret)
	if err != nil {
		t.Fatal(err)
	}
	return admin
}

func (d door) signIn(t testing.TB, email string) (Session, Actor, string) {
	t.Helper()
	entered, err := d.SignIn(t.Context(), email, secret, Visit{Address: "192.0.2.1", UserAgent: "Firefox"})
	if err != nil {
		t.Fatal(err)
	}
	session, actor, err := d.Session(t.Context(), entered.Token)
	if err != nil {
		t.Fatal(err)
	}
	return session, actor, entered.Token
}

// entries are the audit log, oldest first, as "action object by actor detail".
func (d door) entries(t testing.TB, action string) []audit.Entry {
	t.Helper()
	list, err := d.Audit.List(t.Context(), Operator(), audit.Filter{Action: action})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func (d door) gone(t testing.TB, token string) {
	t.Helper()
	if _, _, err := d.Session(t.Context(), token); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("the session is still good: %v", err)
	}
}

func want(t testing.TB, err error, code fault.Code, words string) {
	t.Helper()
	if !fault.Is(err, code) || !strings.Contains(fault.Words(err), words) {
		t.Errorf("got %v (%s), want %s with %q", err, fault.CodeOf(err), code, words)
	}
}

func TestTheFirstAdministratorComesByALinkThatIsGoodOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newDoor(t, d)
		old, needed, err := s.SetupLink(t.Context())
		if err != nil || !needed {
			t.Fatal(needed, err)
		}
		other, _, err := s.SetupLink(t.Context()) // of another replica
		if err != nil || other == old {
			t.Fatal(err)
		}
		kept, err := db.Value[int](t.Context(), d, "SELECT COUNT(*) FROM setup_link WHERE hash = $1", []byte(other))
		if err != nil || kept != 0 {
			t.Error("the token itself is kept", err)
		}
		create := func(token, email, password string) (Entered, error) {
			return s.CreateFirstAdmin(t.Context(), token, email, "Ada Lovelace", password, Visit{Address: "192.0.2.1"})
		}
		_, err = create("guess", "ada@example.com", secret)
		want(t, err, fault.Forbidden, "set-up link")
		_, err = create(old, "ada", secret)
		want(t, err, fault.Invalid, "e-mail")
		_, err = create(old, "ada@example.com", "short")
		want(t, err, fault.Invalid, "12 letters")
		entered, err := create(old, "ada@example.com", secret)
		if err != nil {
			t.Fatal(err)
		}
		_, actor, err := s.Session(t.Context(), entered.Token)
		if err != nil || RolesOf(actor) != SuperAdmin|User || actor.Name != "Ada Lovelace" {
			t.Errorf("%+v, %v", actor, err)
		}
		for _, token := range []string{old, other} {
			_, err = create(token, "eve@example.com", secret)
			want(t, err, fault.Forbidden, "set-up link")
			want(t, s.CheckSetup(t.Context(), token), fault.Forbidden, "set-up link")
		}
		if _, needed, err := s.SetupLink(t.Context()); err != nil || needed {
			t.Error("another link is given", err)
		}
		if list := s.entries(t, "administrator.created"); len(list) != 1 || list[0].Actor.Kind != KindVisitor || list[0].Object.Name != "Ada Lovelace" {
			t.Errorf("%+v", list)
		}
	})
}

func TestASetupLinkIsGoodForADay(t *testing.T) {
	s := newDoor(t, dbtest.Open(t, db.SQLite))
	token, _, err := s.SetupLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.site.clock.Advance(setupLife)
	want(t, s.CheckSetup(t.Context(), token), fault.Forbidden, "too old")
}

func TestOfManyFirstAdministratorsOneIs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newDoor(t, d)
		token, _, err := s.SetupLink(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		made := make(chan string, 4)
		for n := range cap(made) {
			all.Go(func() {
				email := fmt.Sprintf("admin%d@example.com", n)
				if _, err := s.CreateFirstAdmin(t.Context(), token, email, "", secret, Visit{}); err == nil {
					made <- email
				} else if !fault.Is(err, fault.Forbidden) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if len(made) != 1 {
			t.Errorf("%d became administrators", len(made))
		}
	})
}

func TestTheOperatorMakesAndRecoversAdministrators(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newDoor(t, d)
		s.site.mustImport(t, "email,name,status\nada@example.com,Ada,\nbob@example.com,Bob,disabled\n")
		changed := 0
		s.People.PeopleChanged = func(context.Context, *db.Tx) error { changed++; return nil }
		ada := s.admin(t, "ADA@example.com")
		if ada.Name != "Ada" || ada.Recovered || changed != 0 {
			t.Errorf("%+v, %d", ada, changed)
		}
		_, actor, token := s.signIn(t, "ada@example.com")
		if actor.ID != ada.PersonID || !RolesOf(actor).Has(SuperAdmin) {
			t.Errorf("%+v", actor)
		}
		again, err := s.AdminCreate(t.Context(), Operator(), "ada@example.com", "", "a whole new password")
		if err != nil || !again.Recovered || again.PersonID != ada.PersonID {
			t.Errorf("%+v, %v", again, err)
		}
		s.gone(t, token)
		_, err = s.SignIn(t.Context(), "ada@example.com", secret, Visit{})
		want(t, err, fault.Unauthenticated, "wrong")
		if _, err := s.SignIn(t.Context(), "ada@example.com", "a whole new password", Visit{}); err != nil {
			t.Error(err)
		}
		_, err = s.AdminCreate(t.Context(), Operator(), "bob@example.com", "", secret)
		want(t, err, fault.NotReady, "disabled")
		_, err = s.AdminCreate(t.Context(), actor, "eve@example.com", "", secret)
		want(t, err, fault.Forbidden, "administrator")
		if s.admin(t, "new@example.com"); changed != 1 {
			t.Error("nobody was told of a person who is new")
		}
		if got := len(s.entries(t, "administrator.recovered")); got != 1 {
			t.Errorf("%d recoveries are in the log", got)
		}
	})
}

func TestASignInThatFailsTellsNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newDoor(t, d)
		s.site.mustImport(t, "email,name\nnopassword@example.com,Nobody\n")
		s.admin(t, "ada@example.com")
		words := map[string]bool{}
		for n, try := range [][2]string{
			{"ada@example.com", "wrong password"},
			{"ada@example.com", ""},
			{"ada@example.com", strings.Repeat("x", 1<<20)},
			{"nopassword@example.com", secret},
			{"nobody@example.com", secret},
			{secret, secret}, // typed into the wrong field
			{"", ""},
			{strings.Repeat("a", 10_000) + "@example.com", "\x00\xff"},
		} {
			_, err := s.SignIn(t.Context(), try[0], try[1], Visit{Address: fmt.Sprint("192.0.2.", n)})
			want(t, err, fault.Unauthenticated, "")
			words[fault.Words(err)] = true
		}
		if len(words) != 1 {
			t.Errorf("the answers differ: %v", words)
		}
		list := s.entries(t, "person.sign_in_failed")
		if len(list) != 8 {
			t.Errorf("%d failures are in the log", len(list))
		}
		for _, entry := range list {
			if strings.Contains(string(entry.Record()), secret) || entry.Actor.Kind != KindVisitor {
				t.Errorf("%s", entry.Record())
			}
		}
	})
}

func TestGuessingIsSlowedDownByAccountAndByAddress(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newDoor(t, d)
		replica := openDoor(site{s.People, s.site.clock}, nil) // counts together with it
		s.admin(t, "ada@example.com")
		try := func(email, password, address string) error {
			_, err := replica.SignIn(t.Context(), email, password, Visit{Address: address})
			s, replica = replica, s
			return err
		}
		for n := range int(byAccount.free) {
			want(t, try("ada@example.com", "guess", fmt.Sprint("192.0.2.", n)), fault.Unauthenticated, "wrong")
		}
		// From now on by nobody from nowhere, not even with the password, for a while.
		want(t, try("ada@example.com", secret, "198.51.100.1"), fault.Exhausted, "1s")
		want(t, try("ADA@example.com ", secret, "198.51.100.2"), fault.Exhausted, "1s")
		if err := try("bob@example.com", secret, "198.51.100.3"); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("others wait too: %v", err)
		}
		s.site.clock.Advance(time.Second)
		want(t, try("ada@example.com", "guess", "198.51.100.1"), fault.Unauthenticated, "wrong")
		s.site.clock.Advance(time.Second)
		want(t, try("ada@example.com", "guess", "198.51.100.1"), fault.Exhausted, "1s")
		for range 20 { // it grows, but never to more than a minute
			s.site.clock.Advance(time.Minute)
			want(t, try("ada@example.com", "guess", "2001:db8::1"), fault.Unauthenticated, "wrong")
		}
		want(t, try("ada@example.com", secret, "203.0.113.1"), fault.Exhausted, "1m")
		s.site.clock.Advance(time.Minute)
		if err := try("ada@example.com", secret, "203.0.113.1"); err != nil {
			t.Errorf("nobody is locked out for ever: %v", err)
		}
		want(t, try("ada@example.com", "guess", "203.0.113.1"), fault.Unauthenticated, "wrong")

		// A network that guesses at many accounts waits too, IPv6 by its 64 bits.
		for n := range int(byAddress.free) {
			err := try(fmt.Sprintf("person%d@example.com", n), "guess", fmt.Sprintf("2001:db8:1:1::%x", n))
			want(t, err, fault.Unauthenticated, "wrong")
		}
		want(t, try("somebody@example.com", "guess", "2001:db8:1:1:ffff::1"), fault.Exhausted, "1s")
		want(t, try("somebody@example.com", "guess", "2001:db8:1:2::1"), fault.Unauthenticated, "wrong")

		s.site.clock.Advance(forgetAfter + time.Second)
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		left, err := db.Value[int](t.Context(), d, "SELECT COUNT(*) FROM sign_in_throttle")
		if err != nil || left != 0 {
			t.Errorf("%d are left, %v", left, err)
		}
	})
}

func TestWhatFailedIsForgottenLittleByLittle(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	failures, since := byAddress.count(0, time.Time{}, now)
	for range 100 { // an office in which somebody mistypes now and then
		now = now.Add(forgetOne - time.Second)
		failures, since = byAddress.count(failures, since, now)
		now = now.Add(forgetOne / 2)
	}
	if failures > 3 {
		t.Errorf("%d count", failures)
	}
	for range 1000 { // somebody who guesses
		now = now.Add(time.Second)
		failures, since = byAddress.count(failures, since, now)
	}
	if failures != byAddress.free+mostCounted || byAddress.pause(failures) != byAddress.longest || now.Sub(since) > forgetOne {
		t.Errorf("%d count since %s", failures, since)
	}
	if failures, _ = byAddress.count(failures, since, now.Add(24*time.Hour)); failures != 1 {
		t.Errorf("%d count a day later", failures)
	}
}

func TestGuessesAtOnceAreCountedEach(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newDoor(t, d)
		var all sync.WaitGroup
		var mu sync.Mutex
		taken := 0
		for range 20 {
			all.Go(func() {
				err := s.attempt(t.Context(), "ada@example.com", "192.0.2.1")
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					taken++
				case !fault.Is(err, fault.Exhausted):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if taken != int(byAccount.free) {
			t.Errorf("%d of 20 guesses at once were taken", taken)
		}
	})
}

func TestSessionsEnd(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newDoor(t, d)
		ada := s.admin(t, "ada@example.com")
		now := s.site.clock.Now()
		session, actor, token := s.signIn(t, "ada@example.com")
		wanted := Session{
			ID: session.ID, PersonID: ada.PersonID, PersonName: "ada@example.com", Email: "ada@example.com", Method: ByPassword, Address: "192.0.2.1", UserAgent: "Firefox",
			CreatedAt: now, SeenAt: now, ExpiresAt: now.Add(12 * time.Hour),
		}
		if diff := cmp.Diff(wanted, session); diff != "" {
			t.Error(diff)
		}
		if len(token) != 43 {
			t.Errorf("a token of %d letters", len(token))
		}
		plain, err := db.Value[int](t.Context(), d, "SELECT COUNT(*) FROM session WHERE hash = $1", []byte(token))
		if err != nil || plain != 0 {
			t.Error("the token itself is kept", err)
		}
		for _, wrong := range []string{"", "x", token + "A", strings.ToUpper(token), strings.Repeat("x", 1000)} {
			s.gone(t, wrong)
		}

		// Used, it lasts until its end; it is noted to the minute.
		s.site.clock.Advance(30 * time.Second)
		if seen, _, err := s.Session(t.Context(), token); err != nil || !seen.SeenAt.Equal(now) {
			t.Error(seen.SeenAt, err)
		}
		for range 14 {
			s.site.clock.Advance(50 * time.Minute)
			if _, _, err := s.Session(t.Context(), token); err != nil {
				t.Fatal(err)
			}
		}
		s.site.clock.Advance(50 * time.Minute)
		s.gone(t, token)

		// Not used, it ends after an hour.
		_, _, token = s.signIn(t, "ada@example.com")
		s.site.clock.Advance(time.Hour)
		s.gone(t, token)
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left, err := db.Value[int](t.Context(), d, "SELECT COUNT(*) FROM session"); err != nil || left != 0 {
			t.Errorf("%d are left, %v", left, err)
		}

		// A new one replaces the browser's own.
		first, _, token := s.signIn(t, "ada@example.com")
		entered, err := s.SignIn(t.Context(), "ada@example.com", secret, Visit{Token: token})
		if err != nil || entered.Session.ID == first.ID || entered.Token == token {
			t.Error(err)
		}
		s.gone(t, token)

		// Ended by oneself; by another; by signing out.
		s.site.clock.Advance(time.Second)
		mine, _, mineToken := s.signIn(t, "ada@example.com")
		list, err := s.Sessions(t.Context(), actor, "")
		if err != nil || len(list) != 2 || list[0].ID != mine.ID {
			t.Errorf("%+v, %v", list, err)
		}
		if err := s.EndSession(t.Context(), actor, entered.Session.ID); err != nil {
			t.Fatal(err)
		}
		s.gone(t, entered.Token)
		want(t, s.EndSession(t.Context(), actor, entered.Session.ID), fault.NotFound, "ended")
		bob := PersonActor("bob", "Bob", User)
		want(t, s.EndSession(t.Context(), bob, mine.ID), fault.Forbidden, "may not")
		want(t, s.EndSession(t.Context(), bob, "no such"), fault.Forbidden, "may not")
		if _, err := s.Sessions(t.Context(), bob, ""); !fault.Is(err, fault.Forbidden) {
			t.Error(err)
		}
		if _, err := s.Sessions(t.Context(), bob, ada.PersonID); !fault.Is(err, fault.Forbidden) {
			t.Error(err)
		}
		if list, err := s.Sessions(t.Context(), bob, "bob"); err != nil || len(list) != 0 {
			t.Error(list, err)
		}
		_, _, other := s.signIn(t, "ada@example.com")
		if err := s.EndSessions(t.Context(), actor, ada.PersonID, mine.ID); err != nil {
			t.Fatal(err)
		}
		s.gone(t, other)
		if _, _, err := s.Session(t.Context(), mineToken); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := s.SignOut(t.Context(), mineToken); err != nil {
				t.Error(err)
			}
		}
		s.gone(t, mineToken)

		// A backup brings none back.
		_, _, token = s.signIn(t, "ada@example.com")
		s.site.write(t, ForgetSignIns)
		s.gone(t, token)
	})
}

func TestWhoIsDisabledIsOutAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newDoor(t, d)
		s.site.mustImport(t, "email,name\nada@example.com,Ada\n")
		s.admin(t, "ada@example.com")
		s.admin(t, "eve@example.com")
		_, _, token := s.signIn(t, "ada@example.com")
		for _, status := range []string{"disabled", "deleted"} {
			s.site.mustImport(t, "email,status\nada@example.com,"+status+"\n")
			s.gone(t, token)
			s.sessions(t, 0)
			_, err := s.SignIn(t.Context(), "ada@example.com", secret, Visit{})
			want(t, err, fault.Unauthenticated, "wrong")
		}
		s.site.mustImport(t, "email,status\nada@example.com,enabled\n")
		for _, gone := range []DirectoryPerson{
			{ExternalID: "1", Emails: []string{"ada@example.com"}, Status: Disabled},
			{ExternalID: "1", Emails: []string{"ada@example.com"}, Kind: ServicePerson},
			{ExternalID: "2", Emails: []string{"bob@example.com"}},
		} {
			s.site.directory(t, "okta", DirectoryPerson{ExternalID: "1", Emails: []string{"ada@example.com"}, Status: Enabled, Kind: Human})
			s.signIn(t, "ada@example.com")
			s.sessions(t, 1)
			s.site.directory(t, "okta", gone)
			s.sessions(t, 0)
		}
	})
}

// sessions counts those that are kept.
func (d door) sessions(t testing.TB, want int) {
	t.Helper()
	if n, err := db.Value[int](t.Context(), d.DB, "SELECT COUNT(*) FROM session"); err != nil || n != want {
		t.Errorf("%d sessions, not %d: %v", n, want, err)
	}
}

func TestAFileLeavesASuperAdmin(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newDoor(t, d)
		s.site.mustImport(t, "email,name\nada@example.com,Ada\nbob@example.com,Bob\n")
		s.admin(t, "ada@example.com")
		_, err := s.People.ImportPeople(t.Context(), Operator(), strings.NewReader("email,status\nbob@example.com,disabled\nada@example.com,disabled\n"))
		want(t, err, fault.Conflict, "nobody was imported")
		s.site.mustImport(t, "email,status\nbob@example.com,disabled\n")
		// A directory says what is so.
		s.site.directory(t, "okta", DirectoryPerson{ExternalID: "1", Emails: []string{"ada@example.com"}, Status: Disabled})
		if person, err := s.People.Find(t.Context(), d, "ada@example.com"); err != nil || person.Status != Disabled {
			t.Errorf("%+v, %v", person, err)
		}
	})
}

func TestRolesAreReadAtEachUse(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newDoor(t, d)
		s.site.mustImport(t, "email,name,status,kind\nbob@example.com,Bob,,\ncy@example.com,Cy,disabled,\nbot@example.com,Bot,,service\n")
		id := func(name string) string {
			person, err := s.People.Find(t.Context(), d, name)
			if err != nil {
				t.Fatal(err)
			}
			return person.ID
		}
		ada, eve := s.admin(t, "ada@example.com"), s.admin(t, "eve@example.com")
		_, actor, _ := s.signIn(t, "ada@example.com")
		_, _, eves := s.signIn(t, "eve@example.com")
		rolesOf := func(token string) Roles {
			_, actor, err := s.Session(t.Context(), token)
			if err != nil {
				t.Fatal(err)
			}
			return RolesOf(actor)
		}
		want(t, s.AssignRole(t.Context(), actor, ada.PersonID, Auditor), fault.Forbidden, "own access")
		want(t, s.RemoveRole(t.Context(), actor, ada.PersonID, SuperAdmin), fault.Forbidden, "own access")
		want(t, s.AssignRole(t.Context(), PersonActor("x", "X", allRoles&^SuperAdmin), id("Bob"), User), fault.Forbidden, "may not")
		want(t, s.AssignRole(t.Context(), actor, id("Bob"), User), fault.Invalid, "everybody")
		want(t, s.AssignRole(t.Context(), actor, id("Bob"), Auditor|CampaignAdmin), fault.Invalid, "one of")
		want(t, s.AssignRole(t.Context(), actor, id("Cy"), Auditor), fault.NotReady, "disabled")
		want(t, s.AssignRole(t.Context(), actor, id("Bot"), Auditor), fault.NotReady, "service")
		want(t, s.AssignRole(t.Context(), actor, "nobody", Auditor), fault.NotFound, "no person")
		for range 2 {
			if err := s.AssignRole(t.Context(), actor, eve.PersonID, Auditor); err != nil {
				t.Fatal(err)
			}
		}
		if got := rolesOf(eves); got != SuperAdmin|Auditor|User {
			t.Error(got)
		}
		if err := s.RemoveRole(t.Context(), actor, eve.PersonID, SuperAdmin); err != nil {
			t.Fatal(err)
		}
		if got := rolesOf(eves); got != Auditor|User {
			t.Error(got)
		}
		// Bob is Super Admin by name, but has no way in: Ada is the last one.
		if err := s.AssignRole(t.Context(), actor, id("Bob"), SuperAdmin); err != nil {
			t.Fatal(err)
		}
		want(t, s.RemoveRole(t.Context(), Operator(), ada.PersonID, SuperAdmin), fault.Conflict, "keeps the role")
		if err := s.RemoveRole(t.Context(), Operator(), id("Bob"), SuperAdmin); err != nil {
			t.Error(err)
		}
		err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return KeepSuperAdmin(ctx, tx, "Ada stays", func() error {
				_, err := tx.Exec(ctx, "UPDATE person SET status = 'disabled' WHERE id = $1", ada.PersonID)
				return err
			})
		})
		want(t, err, fault.Conflict, "Ada stays")

		list, err := s.RoleHoldings(t.Context(), actor, "")
		var got []string
		for _, h := range list {
			got = append(got, h.Role.String()+" "+h.Name+" "+h.Source)
		}
		if diff := cmp.Diff([]string{"super_admin ada@example.com hand", "auditor eve@example.com hand"}, got); diff != "" || err != nil {
			t.Error(diff, err)
		}
		if n := len(s.entries(t, "role.assigned")); n != 2 {
			t.Errorf("%d assignments are in the log", n)
		}
	})
}

func TestOfTwoSuperAdminsWhoRemoveEachOtherOneStays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newDoor(t, d)
		ada, eve := s.admin(t, "ada@example.com"), s.admin(t, "eve@example.com")
		var all sync.WaitGroup
		for _, pair := range [][2]Admin{{ada, eve}, {eve, ada}} {
			all.Go(func() {
				err := s.RemoveRole(t.Context(), PersonActor(pair[0].PersonID, pair[0].Name, SuperAdmin), pair[1].PersonID, SuperAdmin)
				if err != nil && !fault.Is(err, fault.Conflict) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		list, err := s.RoleHoldings(t.Context(), Operator(), "")
		if err != nil || len(list) != 1 {
			t.Errorf("%d are left, %v", len(list), err)
		}
	})
}

func TestPasswordsAreChangedByTheirOwners(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newDoor(t, d)
		s.admin(t, "ada@example.com")
		_, actor, token := s.signIn(t, "ada@example.com")
		_, _, other := s.signIn(t, "ada@example.com")
		change := func(old, password string) error {
			return s.ChangePassword(t.Context(), actor, old, password, Visit{Address: "192.0.2.1", Token: token})
		}
		want(t, change("wrong", "a whole new password"), fault.Forbidden, "present password")
		want(t, change(secret, "ada@example.com"), fault.Invalid, "e-mail")
		want(t, s.ChangePassword(t.Context(), PersonActor("none", "", SuperAdmin), "", "a whole new password", Visit{}), fault.Internal, "")
		if err := change(secret, "a whole new password"); err != nil {
			t.Fatal(err)
		}
		s.gone(t, other)
		if _, _, err := s.Session(t.Context(), token); err != nil {
			t.Error(err)
		}
		if _, err := s.SignIn(t.Context(), "ada@example.com", "a whole new password", Visit{}); err != nil {
			t.Error(err)
		}
		if len(s.entries(t, "password.changed")) != 1 || len(s.entries(t, "password.change_failed")) != 1 {
			t.Error("it isn't in the log")
		}
	})
}

func TestPasswordRules(t *testing.T) {
	for password, ok := range map[string]bool{
		"correct horse":                        true,
		"ünïcödë wörds":                        true,
		"elevenchars":                          false,
		"ADA.lovelace@example.com":             false,
		"ada.lovelace":                         false,
		"Ada  Lovelace Byron":                  true,
		"Ada Lovelace":                         false,
		"aaaaaaaaaaaaaaaa":                     false,
		"aaaaaaaaaaaaaaab":                     true,
		"twelve\xffletters":                    false,
		strings.Repeat("long", 128):            true,
		strings.Repeat("long", 128) + "er":     false,
		"":                                     false,
		"            ":                         false,
		"\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9": false,
	} {
		if err := CheckPassword("Ada.Lovelace@example.com", "Ada Lovelace", password); (err == nil) != ok {
			t.Errorf("%q: %v", password, err)
		}
	}
}

func TestAHashIsWhatOthersReadToo(t *testing.T) {
	h := newHashes(usualCost)
	kept, err := h.make(t.Context(), secret)
	if err != nil || !strings.HasPrefix(kept, "$argon2id$v=19$m=65536,t=1,p=4$") {
		t.Fatal(kept, err)
	}
	again, err := h.make(t.Context(), secret)
	if err != nil || again == kept {
		t.Error("two hashes have the same salt", err)
	}
	// Of the reference implementation: argon2 somesalt -id -t 2 -m 16 -p 1, "password".
	known := "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, err := h.fits(t.Context(), "password", known); err != nil || !ok {
		t.Error("a known hash doesn't fit", err)
	}
	for _, bad := range []string{
		"x", "$argon2i$v=19$m=65536,t=1,p=4$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		strings.Replace(known, "m=65536", "m=4294967295", 1), strings.Replace(known, "t=2", "t=0", 1), strings.Replace(known, "p=1", "p=01", 1),
	} {
		if ok, err := h.fits(t.Context(), "password", bad); err == nil || ok {
			t.Errorf("%q is taken", bad)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	h.turn <- struct{}{}
	h.turn <- struct{}{}
	cancel()
	if _, err := h.make(ctx, secret); !errors.Is(err, context.Canceled) {
		t.Errorf("who waits and went away: %v", err)
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=1,t=1,p=1$$")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePHC(text)
		if err != nil {
			return
		}
		if p.String() != text || p.kilobytes > mostCost.kilobytes || p.passes > mostCost.passes || p.threads > mostCost.threads || p.threads == 0 {
			t.Errorf("%q is read as %+v", text, p)
		}
	})
}

func detailOf(t testing.TB, e audit.Entry) (d signInDetail) {
	t.Helper()
	if err := json.Unmarshal(e.Detail, &d); err != nil {
		t.Fatal(err)
	}
	return d
}
