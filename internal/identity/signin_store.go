package identity

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
)

// holdPerson reads a person whom nobody else changes or signs in until the end of
// the transaction.
func holdPerson(ctx context.Context, tx *db.Tx, personID string) (Person, error) {
	if _, err := tx.Exec(ctx, "UPDATE person SET id = id WHERE id = $1", personID); err != nil {
		return Person{}, err
	}
	person, err := personByID(ctx, tx, personID)
	if none(err) {
		return Person{}, fault.New(fault.NotFound, "there is no person with the id %.100q: nothing was changed", personID)
	}
	return person, err
}

// Roles.

func insertRole(ctx context.Context, tx *db.Tx, personID string, role Roles, source string, now time.Time) (fresh bool, err error) {
	n, err := tx.Exec(ctx, "INSERT INTO person_role (person_id, role, source, added_at) VALUES ($1, $2, $3, $4) ON CONFLICT (person_id, role, source) DO NOTHING",
		personID, role.String(), source, now)
	return n == 1, err
}

func deleteRole(ctx context.Context, tx *db.Tx, personID string, role Roles, source string) (gone bool, err error) {
	n, err := tx.Exec(ctx, "DELETE FROM person_role WHERE person_id = $1 AND role = $2 AND source = $3", personID, role.String(), source)
	return n == 1, err
}

// dropRoles takes roles of a source from all people.
func dropRoles(ctx context.Context, tx *db.Tx, source string, roles Roles) error {
	for role := range roles.Each() {
		if _, err := tx.Exec(ctx, "DELETE FROM person_role WHERE source = $1 AND role = $2", source, role.String()); err != nil {
			return err
		}
	}
	return nil
}

// rolesOf are the roles of a person, but for user.
func rolesOf(ctx context.Context, q db.Querier, personID string) (Roles, error) {
	return rolesBy(ctx, q, personID, "")
}

func rolesBy(ctx context.Context, q db.Querier, personID, source string) (roles Roles, err error) {
	err = db.Each(ctx, q, func(row db.Scanner) error {
		var name string
		if err := row.Scan(&name); err != nil {
			return err
		}
		role, err := ParseRole(name)
		roles |= role
		return err
	}, "SELECT role FROM person_role WHERE person_id = $1 AND ($2 = '' OR source = $2)", personID, source)
	return roles, err
}

func roleHoldings(ctx context.Context, q db.Querier, personID string) ([]RoleHolding, error) {
	return db.All(ctx, q, func(row db.Scanner) (h RoleHolding, err error) {
		var name string
		if err := row.Scan(&h.PersonID, &h.Name, &h.Email, &h.Status, &name, &h.Source, db.Time(&h.AddedAt)); err != nil {
			return h, err
		}
		h.Role, err = ParseRole(name)
		return h, err
	}, `SELECT p.id, p.name, p.email, p.status, r.role, r.source, r.added_at FROM person_role r JOIN person p ON p.id = r.person_id
		WHERE ($1 = '' OR r.person_id = $1) ORDER BY p.name, p.id, r.source`, personID)
}

func anySuperAdmin(ctx context.Context, q db.Querier) (bool, error) {
	return db.Value[bool](ctx, q, "SELECT EXISTS (SELECT 1 FROM person_role WHERE role = $1)", SuperAdmin.String())
}

// countSuperAdmins counts who is Super Admin and can sign in: with a password, or
// at a provider that is on. Until the end of the transaction nobody else changes them.
func countSuperAdmins(ctx context.Context, tx *db.Tx) (int, error) {
	if _, err := tx.Exec(ctx, "UPDATE person_role SET source = source WHERE role = $1", SuperAdmin.String()); err != nil {
		return 0, err
	}
	p, err := readProvider(ctx, tx)
	if err != nil && !none(err) {
		return 0, err
	}
	issuer := ""
	if p.On {
		issuer = p.Issuer
	}
	return db.Value[int](ctx, tx, `SELECT COUNT(*) FROM person p WHERE p.status = $1 AND p.kind = $2
		AND EXISTS (SELECT 1 FROM person_role r WHERE r.person_id = p.id AND r.role = $3)
		AND (EXISTS (SELECT 1 FROM password w WHERE w.person_id = p.id) OR EXISTS (SELECT 1 FROM sign_in i WHERE i.person_id = p.id AND i.issuer = $4))`,
		Enabled, Human, SuperAdmin.String(), issuer)
}

// People with a password.

// insertPerson keeps a new person, with what they are found by.
func insertPerson(ctx context.Context, tx *db.Tx, p Person, keys []personKey) error {
	if err := tx.Insert(ctx, "person", personColumnNames, [][]any{personValues(p)}); err != nil {
		return err
	}
	rows := make([][]any, len(keys))
	for n, key := range keys {
		rows[n] = []any{key.kind, key.value, p.ID, p.Source}
	}
	return tx.Insert(ctx, "person_key", []string{"kind", "value", "person_id", "source"}, rows)
}

func enablePerson(ctx context.Context, tx *db.Tx, personID string, now time.Time) error {
	_, err := tx.Exec(ctx, "UPDATE person SET status = $2, updated_at = $3 WHERE id = $1", personID, Enabled, now)
	return err
}

func setPassword(ctx context.Context, tx *db.Tx, personID, hash string, now time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO password (person_id, hash, changed_at) VALUES ($1, $2, $3)
		ON CONFLICT (person_id) DO UPDATE SET hash = excluded.hash, changed_at = excluded.changed_at`, personID, hash, now)
	return err
}

func passwordOf(ctx context.Context, q db.Querier, personID string) (string, error) {
	return db.Value[string](ctx, q, "SELECT hash FROM password WHERE person_id = $1", personID)
}

type passwordRow struct{ personID, hash string }

// peopleWithPassword finds who has an e-mail and a password.
func peopleWithPassword(ctx context.Context, q db.Querier, email string) ([]passwordRow, error) {
	return db.All(ctx, q, func(row db.Scanner) (p passwordRow, err error) {
		err = row.Scan(&p.personID, &p.hash)
		return p, err
	}, `SELECT DISTINCT w.person_id, w.hash FROM person_key k JOIN password w ON w.person_id = k.person_id WHERE k.kind = $1 AND k.value = $2`, byEmail, email)
}

// The throttle.

// holdThrottle reads what is counted under a key, which nobody else counts under until
// the end of the transaction.
func holdThrottle(ctx context.Context, tx *db.Tx, key string) (failures int64, since, until time.Time, err error) {
	_, err = db.One(ctx, tx, func(row db.Scanner) (struct{}, error) {
		return struct{}{}, row.Scan(&failures, db.Time(&since), db.Time(&until))
	}, `INSERT INTO sign_in_throttle (key, failures) VALUES ($1, 0) ON CONFLICT (key) DO UPDATE SET failures = sign_in_throttle.failures
		RETURNING failures, since, until`, key)
	return failures, since, until, err
}

func setThrottle(ctx context.Context, tx *db.Tx, key string, failures int64, since, until time.Time) error {
	_, err := tx.Exec(ctx, "UPDATE sign_in_throttle SET failures = $2, since = $3, until = $4 WHERE key = $1", key, failures, since, until)
	return err
}

func easeThrottle(ctx context.Context, tx *db.Tx, key string) error {
	_, err := tx.Exec(ctx, "UPDATE sign_in_throttle SET failures = failures - 1, until = NULL WHERE key = $1 AND failures > 0", key)
	return err
}

func deleteThrottle(ctx context.Context, tx *db.Tx, key string) error {
	_, err := tx.Exec(ctx, "DELETE FROM sign_in_throttle WHERE key = $1", key)
	return err
}

// dropAttempts removes what doesn't count any more.
func dropAttempts(ctx context.Context, tx *db.Tx, now, before time.Time) error {
	for _, statement := range []struct {
		text string
		arg  time.Time
	}{
		{"DELETE FROM sign_in_throttle WHERE since IS NULL OR since < $1", before},
		{"DELETE FROM sign_in_state WHERE expires_at <= $1", now},
		{"DELETE FROM setup_link WHERE expires_at <= $1", now},
	} {
		if _, err := tx.Exec(ctx, statement.text, statement.arg); err != nil {
			return err
		}
	}
	return nil
}

// Set-up links.

func insertSetup(ctx context.Context, tx *db.Tx, hash []byte, now, until time.Time) error {
	if _, err := tx.Exec(ctx, "DELETE FROM setup_link WHERE expires_at <= $1", now); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "INSERT INTO setup_link (hash, expires_at) VALUES ($1, $2)", hash, until)
	return err
}

func setupGood(ctx context.Context, q db.Querier, hash []byte, now time.Time) (bool, error) {
	return db.Value[bool](ctx, q, "SELECT EXISTS (SELECT 1 FROM setup_link WHERE hash = $1 AND expires_at > $2)", hash, db.Micros(now))
}

// takeSetup uses up all links, and tells whether a good one was among them. Of two
// at once the second finds none.
func takeSetup(ctx context.Context, tx *db.Tx, hash []byte, now time.Time) (good bool, err error) {
	err = db.Each(ctx, tx, func(row db.Scanner) error {
		var found []byte
		var until time.Time
		err := row.Scan(&found, db.Time(&until))
		good = good || bytes.Equal(found, hash) && now.Before(until)
		return err
	}, "DELETE FROM setup_link RETURNING hash, expires_at")
	return good, err
}

// Sessions.

func insertSession(ctx context.Context, tx *db.Tx, s Session, hash []byte) error {
	_, err := tx.Exec(ctx, `INSERT INTO session (id, hash, person_id, method, address, user_agent, created_at, seen_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, s.ID, hash, s.PersonID, s.Method, s.Address, s.UserAgent, s.CreatedAt, s.SeenAt, s.ExpiresAt)
	return err
}

const sessionFields = `s.id, s.person_id, p.name, p.email, s.method, s.address, s.user_agent, s.created_at, s.seen_at, s.expires_at
	FROM session s JOIN person p ON p.id = s.person_id`

func (s *Session) targets() []any {
	return []any{
		&s.ID, &s.PersonID, &s.PersonName, &s.Email, &s.Method, &s.Address, &s.UserAgent, db.Time(&s.CreatedAt), db.Time(&s.SeenAt), db.Time(&s.ExpiresAt),
	}
}

func scanSession(row db.Scanner) (s Session, err error) {
	err = row.Scan(s.targets()...)
	return s, err
}

// foundSession is a session with what its person is now.
type foundSession struct {
	Session
	status, kind string
	roles        Roles
}

// sessionByHash finds a session by its token's hash, with a row for each role of its
// person.
func sessionByHash(ctx context.Context, q db.Querier, hash []byte) (foundSession, error) {
	list, err := db.All(ctx, q, func(row db.Scanner) (f foundSession, err error) {
		var role string
		if err := row.Scan(append([]any{&f.status, &f.kind, &role}, f.targets()...)...); err != nil || role == "" {
			return f, err
		}
		f.roles, err = ParseRole(role)
		return f, err
	}, "SELECT p.status, p.kind, COALESCE(r.role, ''), "+sessionFields+" LEFT JOIN person_role r ON r.person_id = s.person_id WHERE s.hash = $1", hash)
	if err != nil {
		return foundSession{}, err
	}
	if len(list) == 0 {
		return foundSession{}, sql.ErrNoRows
	}
	for _, row := range list[1:] {
		list[0].roles |= row.roles
	}
	return list[0], nil
}

func sessionByID(ctx context.Context, q db.Querier, id string) (Session, error) {
	return db.One(ctx, q, scanSession, "SELECT "+sessionFields+" WHERE s.id = $1", id)
}

func sessions(ctx context.Context, q db.Querier, personID string, now, seenAfter time.Time) ([]Session, error) {
	return db.All(ctx, q, scanSession, "SELECT "+sessionFields+
		" WHERE ($1 = '' OR s.person_id = $1) AND s.expires_at > $2 AND s.seen_at > $3 ORDER BY s.created_at DESC, s.id DESC LIMIT "+strconv.Itoa(mostListed),
		personID, db.Micros(now), db.Micros(seenAfter))
}

func touchSession(ctx context.Context, tx *db.Tx, id string, now, before time.Time) error {
	_, err := tx.Exec(ctx, "UPDATE session SET seen_at = $2 WHERE id = $1 AND seen_at <= $3", id, now, before)
	return err
}

func deleteSession(ctx context.Context, tx *db.Tx, id string) (bool, error) {
	n, err := tx.Exec(ctx, "DELETE FROM session WHERE id = $1", id)
	return n == 1, err
}

func deleteSessionByHash(ctx context.Context, tx *db.Tx, hash []byte) error {
	_, err := tx.Exec(ctx, "DELETE FROM session WHERE hash = $1", hash)
	return err
}

func endSessionsOf(ctx context.Context, tx *db.Tx, personIDs []string, except string) error {
	args := []any{except}
	for _, person := range personIDs {
		args = append(args, person)
	}
	_, err := tx.Exec(ctx, "DELETE FROM session WHERE id <> $1 AND person_id IN "+db.In(2, len(personIDs)), args...)
	return err
}

func endSessionsBy(ctx context.Context, tx *db.Tx, method string) error {
	_, err := tx.Exec(ctx, "DELETE FROM session WHERE method = $1", method)
	return err
}

func dropSessions(ctx context.Context, tx *db.Tx, now, seenBefore time.Time) error {
	_, err := tx.Exec(ctx, "DELETE FROM session WHERE expires_at <= $1 OR seen_at <= $2", now, seenBefore)
	return err
}

// The provider, and sign-ins there.

func readProvider(ctx context.Context, q db.Querier) (Provider, error) {
	return db.One(ctx, q, func(row db.Scanner) (p Provider, err error) {
		err = row.Scan(db.JSON(&p))
		return p, err
	}, "SELECT settings FROM sign_in_provider WHERE id = $1", providerID)
}

func writeProvider(ctx context.Context, tx *db.Tx, p Provider, now time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO sign_in_provider (id, settings, updated_at) VALUES ($1, $2, $3)
		ON CONFLICT (id) DO UPDATE SET settings = excluded.settings, updated_at = excluded.updated_at`, providerID, db.JSON(p), now)
	return err
}

// useState notes that a sign-in came back; false says that it did so before.
func useState(ctx context.Context, tx *db.Tx, hash []byte, until time.Time) (bool, error) {
	n, err := tx.Exec(ctx, "INSERT INTO sign_in_state (hash, expires_at) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING", hash, until)
	return n == 1, err
}

// meetSignIn notes that somebody came from a provider, and tells whose the sign-in is
// and by whom it was made so. Nobody else changes it until the end of the transaction.
func meetSignIn(ctx context.Context, tx *db.Tx, someone who, now time.Time) (personID, boundBy string, err error) {
	_, err = db.One(ctx, tx, func(row db.Scanner) (struct{}, error) { return struct{}{}, row.Scan(&personID, &boundBy) },
		`INSERT INTO sign_in (issuer, subject, person_id, email, verified, name, reason, bound_by, first_at, last_at) VALUES ($1, $2, '', $3, $4, $5, '', '', $6, $6)
		ON CONFLICT (issuer, subject) DO UPDATE SET email = excluded.email, verified = excluded.verified, name = excluded.name, last_at = excluded.last_at
		RETURNING person_id, bound_by`, someone.issuer, someone.subject, someone.email, someone.verified, someone.name, db.Micros(now))
	return personID, boundBy, err
}

// refuseSignIn says why a sign-in is nobody's, and forgets the oldest of so many.
func refuseSignIn(ctx context.Context, tx *db.Tx, someone who, reason string, most int) error {
	if _, err := tx.Exec(ctx, "UPDATE sign_in SET reason = $3 WHERE issuer = $1 AND subject = $2", someone.issuer, someone.subject, reason); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, fmt.Sprintf(`DELETE FROM sign_in WHERE person_id = '' AND bound_by = '' AND last_at <
		(SELECT last_at FROM sign_in WHERE person_id = '' ORDER BY last_at DESC LIMIT 1 OFFSET %d)`, most-1))
	return err
}

func bindSignIn(ctx context.Context, tx *db.Tx, issuer, subject, personID, by string, now time.Time) error {
	_, err := tx.Exec(ctx, "UPDATE sign_in SET person_id = $3, bound_by = $4, bound_at = $5, reason = '' WHERE issuer = $1 AND subject = $2",
		issuer, subject, personID, by, now)
	return err
}

func countBindings(ctx context.Context, q db.Querier, personID, issuer string) (int, error) {
	return db.Value[int](ctx, q, "SELECT COUNT(*) FROM sign_in WHERE person_id = $1 AND issuer = $2", personID, issuer)
}

const bindingFields = `SELECT i.issuer, i.subject, i.person_id, COALESCE(p.name, ''), i.email, i.verified, i.name, i.reason, i.bound_by, i.bound_at, i.first_at, i.last_at
	FROM sign_in i LEFT JOIN person p ON p.id = i.person_id`

func scanBinding(row db.Scanner) (b Binding, err error) {
	err = row.Scan(&b.Issuer, &b.Subject, &b.PersonID, &b.PersonName, &b.Email, &b.Verified, &b.Name, &b.Reason, &b.BoundBy,
		db.Time(&b.BoundAt), db.Time(&b.FirstAt), db.Time(&b.LastAt))
	return b, err
}

// bindings lists the sign-ins of a person, or those that are nobody's ("").
func bindings(ctx context.Context, q db.Querier, personID string) ([]Binding, error) {
	return db.All(ctx, q, scanBinding, bindingFields+" WHERE i.person_id = $1 ORDER BY i.last_at DESC, i.issuer, i.subject LIMIT "+strconv.Itoa(mostListed), personID)
}

func holdBinding(ctx context.Context, tx *db.Tx, issuer, subject string) (Binding, error) {
	if _, err := tx.Exec(ctx, "UPDATE sign_in SET subject = subject WHERE issuer = $1 AND subject = $2", issuer, subject); err != nil {
		return Binding{}, err
	}
	return db.One(ctx, tx, scanBinding, bindingFields+" WHERE i.issuer = $1 AND i.subject = $2", issuer, subject)
}

// dropUnbound forgets sign-ins that are nobody's and weren't tried for long. Those
// that were taken from somebody stay, or they would be bound by e-mail again.
func dropUnbound(ctx context.Context, tx *db.Tx, before time.Time) error {
	_, err := tx.Exec(ctx, "DELETE FROM sign_in WHERE person_id = '' AND bound_by = '' AND last_at < $1", before)
	return err
}
