package identity

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"airlock/internal/base/db"
)

// mostLooked is how many keys of people are looked at for those that have a text
// within them.
const mostLooked = 20_000

// FindPeople finds people by the beginning of their name, e-mail address, username or
// employee id, by name; if those are too few, also by a text within these. partial
// says that for that not all people were looked at.
func (s *Service) FindPeople(ctx context.Context, actor Actor, text string, limit int) (list []Person, partial bool, err error) {
	if err := Can(actor, Read, Object{Kind: kindPerson}); err != nil {
		return nil, false, err
	}
	if text = Fold(text); text == "" {
		return nil, false, nil
	}
	ids, err := personsBegin(ctx, s.db, text, limit)
	if err == nil && len(ids) < limit {
		var more []string
		more, partial, err = personsWith(ctx, s.db, text, limit)
		for _, id := range more {
			if len(ids) < limit && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("find people: %w", err)
	}
	people, err := s.ByIDs(ctx, s.db, ids)
	for _, id := range ids {
		if person, there := people[id]; there {
			list = append(list, person)
		}
	}
	// What begins with the text comes first.
	slices.SortStableFunc(list, func(a, b Person) int {
		within := func(p Person) int {
			if strings.HasPrefix(Fold(p.Name), text) {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(within(a), within(b)), strings.Compare(Fold(a.Name), Fold(b.Name)))
	})
	return list, partial, err
}

func scanID(row db.Scanner) (id string, err error) {
	err = row.Scan(&id)
	return id, err
}

// personsBegin finds people by the beginning of a key.
func personsBegin(ctx context.Context, q db.Querier, text string, limit int) (ids []string, err error) {
	for _, kind := range []string{byName, byEmail, byUsername, byEmployeeID} {
		found, err := db.All(ctx, q, scanID, `SELECT person_id FROM person_key WHERE kind = $1 AND value >= $2 AND value < $3
			ORDER BY value, person_id LIMIT $4`, kind, text, text+"\U0010FFFF", 3*limit) // a person may have a key from three sources
		if err != nil {
			return nil, err
		}
		for _, id := range found {
			if len(ids) < limit && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// personsWith finds people by a text within a key.
func personsWith(ctx context.Context, q db.Querier, text string, limit int) (ids []string, partial bool, err error) {
	ids, err = db.All(ctx, q, scanID, fmt.Sprintf(`SELECT DISTINCT person_id FROM (SELECT person_id, value FROM person_key LIMIT %d) AS looked
		WHERE value LIKE $1 ESCAPE '!' ORDER BY person_id LIMIT $2`, mostLooked), "%"+db.Escape(text)+"%", 2*limit)
	if err != nil {
		return nil, false, err
	}
	keys, err := db.Value[int64](ctx, q, fmt.Sprintf(`SELECT COUNT(*) FROM (SELECT 1 FROM person_key LIMIT %d) AS looked`, mostLooked+1))
	return ids, keys > mostLooked, err
}
