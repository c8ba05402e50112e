package identity

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
)

// insertClient keeps a client; false says that its id is taken.
func insertClient(ctx context.Context, tx *db.Tx, c Client) (bool, error) {
	n, err := tx.Exec(ctx, "INSERT INTO client (id, kind, subject_id, public_key, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING",
		c.ID, c.Kind, c.SubjectID, []byte(c.publicKey), c.CreatedAt)
	return n == 1, err
}

const clientColumns = "id, kind, subject_id, public_key, created_at, last_used_at, revoked_at"

func scanClient(s db.Scanner) (c Client, err error) {
	err = s.Scan(&c.ID, &c.Kind, &c.SubjectID, (*[]byte)(&c.publicKey), db.Time(&c.CreatedAt), db.Time(&c.LastUsedAt), db.Time(&c.RevokedAt))
	return c, err
}

// clientByID finds a client; sql.ErrNoRows says that there is none.
func clientByID(ctx context.Context, q db.Querier, id string) (Client, error) {
	return db.One(ctx, q, scanClient, "SELECT "+clientColumns+" FROM client WHERE id = $1", id)
}

func clientsOf(ctx context.Context, q db.Querier, subjectID string) ([]Client, error) {
	return db.All(ctx, q, scanClient, "SELECT "+clientColumns+" FROM client WHERE subject_id = $1 ORDER BY created_at, id", subjectID)
}

// revokeClients revokes the clients of a subject, of one kind or of all, but one.
func revokeClients(ctx context.Context, tx *db.Tx, subjectID, kind, except string, at time.Time) error {
	_, err := tx.Exec(ctx, "UPDATE client SET revoked_at = $1 WHERE subject_id = $2 AND ($3 = '' OR kind = $3) AND id <> $4 AND revoked_at IS NULL",
		at, subjectID, kind, except)
	return err
}

// useClient notes that a client got a token, if that was last noted before some
// time.
func useClient(ctx context.Context, tx *db.Tx, id string, now, before time.Time) error {
	_, err := tx.Exec(ctx, "UPDATE client SET last_used_at = $1 WHERE id = $2 AND (last_used_at IS NULL OR last_used_at <= $3)", now, id, before)
	return err
}

// useNonce keeps a nonce until some time; false says that it was used before.
func useNonce(ctx context.Context, tx *db.Tx, clientID, nonce string, until time.Time) (bool, error) {
	n, err := tx.Exec(ctx, "INSERT INTO assertion_nonce (client_id, nonce, expires_at) VALUES ($1, $2, $3) ON CONFLICT (client_id, nonce) DO NOTHING",
		clientID, nonce, until)
	return n == 1, err
}

func countNonces(ctx context.Context, q db.Querier, clientID string, now time.Time) (int, error) {
	return db.Value[int](ctx, q, "SELECT COUNT(*) FROM assertion_nonce WHERE client_id = $1 AND expires_at > $2", clientID, db.Micros(now))
}

// dropExpired removes the nonces of assertions that aren't taken any more, and
// the clients of children that ended before some time.
func dropExpired(ctx context.Context, tx *db.Tx, now, hostedBefore time.Time) error {
	if _, err := tx.Exec(ctx, "DELETE FROM assertion_nonce WHERE expires_at <= $1", now); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "DELETE FROM client WHERE kind = $1 AND revoked_at < $2", ClientHosted, hostedBefore)
	return err
}

var personColumnNames = []string{
	"id", "name", "email", "username", "employee_id", "department", "job_title", "manager_id", "kind", "status",
	"source", "external_id", "profile", "created_at", "updated_at",
}

const personFields = "id, name, email, username, employee_id, department, job_title, manager_id, kind, status, source, external_id, profile, created_at, updated_at"

func scanPerson(s db.Scanner) (p Person, err error) {
	err = s.Scan(&p.ID, &p.Name, &p.Email, &p.Username, &p.EmployeeID, &p.Department, &p.JobTitle, &p.ManagerID, &p.Kind, &p.Status,
		&p.Source, &p.ExternalID, db.JSON(&p.Profile), db.Time(&p.CreatedAt), db.Time(&p.UpdatedAt))
	return p, err
}

func personValues(p Person) []any {
	if p.Profile == nil {
		p.Profile = map[string]any{}
	}
	return []any{
		p.ID, p.Name, p.Email, p.Username, p.EmployeeID, p.Department, p.JobTitle, p.ManagerID, p.Kind, p.Status,
		p.Source, p.ExternalID, db.JSON(p.Profile), p.CreatedAt, p.UpdatedAt,
	}
}

// personByID finds a person; sql.ErrNoRows says that there is none.
func personByID(ctx context.Context, q db.Querier, id string) (Person, error) {
	return db.One(ctx, q, scanPerson, "SELECT "+personFields+" FROM person WHERE id = $1", id)
}

// listPeople reads a page by name.
func listPeople(ctx context.Context, q db.Querier, f PersonFilter) ([]Person, error) {
	where, args := []string{"(name, id) > ($1, $2)"}, []any{f.AfterName, f.AfterID}
	for _, by := range []struct{ condition, value string }{{"status = $", f.Status}, {"source = $", f.Source}, {"manager_id = $", f.ManagerID}} {
		if by.value != "" {
			args = append(args, by.value)
			where = append(where, by.condition+strconv.Itoa(len(args)))
		}
	}
	args = append(args, f.Limit)
	return db.All(ctx, q, scanPerson,
		"SELECT "+personFields+" FROM person WHERE "+strings.Join(where, " AND ")+" ORDER BY name, id LIMIT $"+strconv.Itoa(len(args)), args...)
}

// peopleByKeys finds who has any of some keys: key → persons, once each.
func peopleByKeys(ctx context.Context, q db.Querier, keys []personKey) (map[personKey][]string, error) {
	byKind := map[string][]string{}
	for _, key := range keys {
		byKind[key.kind] = append(byKind[key.kind], key.value)
	}
	found := map[personKey][]string{}
	for kind, values := range byKind {
		slices.Sort(values)
		for chunk := range slices.Chunk(slices.Compact(values), 500) {
			args := []any{kind}
			for _, value := range chunk {
				args = append(args, value)
			}
			err := db.Each(ctx, q, func(s db.Scanner) error {
				key := personKey{kind: kind}
				var person string
				err := s.Scan(&key.value, &person)
				if !slices.Contains(found[key], person) {
					found[key] = append(found[key], person)
				}
				return err
			}, "SELECT value, person_id FROM person_key WHERE kind = $1 AND value IN "+db.In(2, len(chunk)), args...)
			if err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// readBook reads all people, for an import.
func readBook(ctx context.Context, q db.Querier, source string, now time.Time) (*book, error) {
	b := newBook(source, now)
	err := db.Each(ctx, q, func(s db.Scanner) error {
		person, err := scanPerson(s)
		b.people[person.ID] = person
		return err
	}, "SELECT "+personFields+" FROM person")
	if err != nil {
		return nil, err
	}
	err = db.Each(ctx, q, func(s db.Scanner) error {
		var person, from string
		var key personKey
		err := s.Scan(&person, &from, &key.kind, &key.value)
		b.addKey(person, from, key)
		return err
	}, "SELECT person_id, source, kind, value FROM person_key ORDER BY person_id, source, kind, value")
	if err != nil {
		return nil, err
	}
	return b, nil
}

// errMeanwhile says that what an import was planned by has changed since.
var errMeanwhile = fault.New(fault.Unavailable, "people were changed by somebody else meanwhile; try again")

// check fails with errMeanwhile if somebody whom the book doesn't know has an
// e-mail or employee id that a step gives.
func (b *book) check(ctx context.Context, q db.Querier, steps []step) error {
	var keys []personKey
	for _, s := range steps {
		for _, key := range s.keys {
			if s.rekeyed && (key.kind == byEmail || key.kind == byEmployeeID) {
				keys = append(keys, key)
			}
		}
	}
	found, err := peopleByKeys(ctx, q, keys)
	if err != nil {
		return err
	}
	for _, persons := range found {
		for _, person := range persons {
			if _, known := b.people[person]; !known && !b.touch[person] {
				return errMeanwhile
			}
		}
	}
	return nil
}

// write carries out steps of the plan, or fails with errMeanwhile.
func (b *book) write(ctx context.Context, tx *db.Tx, steps []step) error {
	if err := b.check(ctx, tx, steps); err != nil {
		return err
	}
	var rows, keys [][]any
	for _, s := range steps {
		switch {
		case s.isNew:
			rows = append(rows, personValues(s.person))
		case s.isChanged:
			if err := updatePerson(ctx, tx, s.person, s.seen); err != nil {
				return err
			}
		}
		if !s.rekeyed {
			continue
		}
		if len(b.keys[s.person.ID][b.source]) > 0 {
			if _, err := tx.Exec(ctx, "DELETE FROM person_key WHERE person_id = $1 AND source = $2", s.person.ID, b.source); err != nil {
				return err
			}
		}
		for _, key := range s.keys {
			keys = append(keys, []any{key.kind, key.value, s.person.ID, b.source})
		}
	}
	for chunk := range slices.Chunk(rows, 1000) {
		if err := tx.Insert(ctx, "person", personColumnNames, chunk); err != nil {
			return err
		}
	}
	for chunk := range slices.Chunk(keys, 1000) {
		if err := tx.Insert(ctx, "person_key", []string{"kind", "value", "person_id", "source"}, chunk); err != nil {
			return err
		}
	}
	return nil
}

// analyze lets PostgreSQL look at how many people there are, after many were added:
// until it does so by itself it goes on reading tables whole that were small.
func analyze(ctx context.Context, tx *db.Tx) error {
	if tx.Engine() != db.Postgres {
		return nil
	}
	_, err := tx.Exec(ctx, "ANALYZE person, person_key")
	return err
}

func updatePerson(ctx context.Context, tx *db.Tx, p Person, seen time.Time) error {
	set := make([]string, len(personColumnNames)-1)
	for n, column := range personColumnNames[1:] {
		set[n] = column + " = $" + strconv.Itoa(n+2)
	}
	changed, err := tx.Exec(ctx, "UPDATE person SET "+strings.Join(set, ", ")+" WHERE id = $1 AND updated_at = $"+strconv.Itoa(len(set)+2), append(personValues(p), seen)...)
	if err == nil && changed == 0 {
		err = errMeanwhile
	}
	return err
}

// ofDirectory lists whom a directory tells of, or told something of.
func ofDirectory(ctx context.Context, q db.Querier, source string) ([]string, error) {
	return db.All(ctx, q, func(s db.Scanner) (person string, err error) {
		err = s.Scan(&person)
		return person, err
	}, "SELECT id FROM person WHERE source = $1 UNION SELECT person_id FROM person_key WHERE source = $1", source)
}

// release makes what a directory said of some persons what files say.
func release(ctx context.Context, tx *db.Tx, source string, persons []string, now time.Time) error {
	args := []any{source, SourceCSV}
	for _, person := range persons {
		args = append(args, person)
	}
	in := db.In(3, len(persons))
	_, err := tx.Exec(ctx, "INSERT INTO person_key (kind, value, person_id, source) SELECT kind, value, person_id, $2 FROM person_key WHERE source = $1 AND person_id IN "+in+
		" ON CONFLICT (kind, value, person_id, source) DO NOTHING", args...)
	if err != nil {
		return err
	}
	// Both name all arguments, since PostgreSQL wants to know what each is.
	if _, err := tx.Exec(ctx, "DELETE FROM person_key WHERE source = $1 AND source <> $2 AND person_id IN "+in, args...); err != nil {
		return err
	}
	args = append(args, now)
	_, err = tx.Exec(ctx, "UPDATE person SET source = $2, external_id = '', updated_at = $"+strconv.Itoa(len(args))+" WHERE source = $1 AND id IN "+in, args...)
	return err
}

// none reports whether an error says that there is no such row.
func none(err error) bool { return errors.Is(err, sql.ErrNoRows) }
