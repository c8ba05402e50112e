package identity

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"airlock/internal/base/db"
)

// PersonQuery says which people are wanted in a list; what is empty doesn't limit.
type PersonQuery struct {
	PersonFilter
	Search     string // part of a name, an e-mail address, a username or an employee id
	Department string
}

// Directory reads a page of people by name. more says that others follow.
func (s *Service) Directory(ctx context.Context, actor Actor, f PersonQuery) (list []Person, more bool, err error) {
	if err := Can(actor, Read, Object{Kind: kindPerson}); err != nil {
		return nil, false, err
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	f.Limit = min(f.Limit, 1000)
	list, err = directory(ctx, s.db, f)
	if err != nil {
		return nil, false, fmt.Errorf("list people: %w", err)
	}
	if len(list) > f.Limit {
		return list[:f.Limit], true, nil
	}
	return list, false, nil
}

func directory(ctx context.Context, q db.Querier, f PersonQuery) ([]Person, error) {
	where, args := []string{"(name, id) > ($1, $2)"}, []any{f.AfterName, f.AfterID}
	add := func(condition, value string) {
		if value != "" {
			args = append(args, value)
			where = append(where, strings.ReplaceAll(condition, "?", "$"+strconv.Itoa(len(args))))
		}
	}
	add("status = ?", f.Status)
	add("source = ?", f.Source)
	add("manager_id = ?", f.ManagerID)
	add("department = ?", f.Department)
	if text := Fold(f.Search); text != "" {
		add("EXISTS (SELECT 1 FROM person_key k WHERE k.person_id = person.id AND k.value LIKE ? ESCAPE '!')", "%"+db.Escape(text)+"%")
	}
	args = append(args, f.Limit+1)
	return db.All(ctx, q, scanPerson,
		"SELECT "+personFields+" FROM person WHERE "+strings.Join(where, " AND ")+" ORDER BY name, id LIMIT $"+strconv.Itoa(len(args)), args...)
}

// Facets are what a directory can be limited to, and how many people are in it.
type Facets struct {
	People      int64
	Departments []string // none where there are more than a list can show
	Sources     []string
}

const mostFacets = 100

// Facets tells what the directory can be limited to.
func (s *Service) Facets(ctx context.Context, actor Actor) (f Facets, err error) {
	if err := Can(actor, Read, Object{Kind: kindPerson}); err != nil {
		return f, err
	}
	if f.People, err = db.Value[int64](ctx, s.db, "SELECT COUNT(*) FROM person"); err == nil {
		f.Departments, err = distinct(ctx, s.db, "department")
	}
	if err == nil {
		f.Sources, err = distinct(ctx, s.db, "source")
	}
	if err != nil {
		return f, fmt.Errorf("count people: %w", err)
	}
	return f, nil
}

func distinct(ctx context.Context, q db.Querier, column string) ([]string, error) {
	list, err := db.All(ctx, q, scanID,
		"SELECT DISTINCT "+column+" FROM person WHERE "+column+" <> '' ORDER BY "+column+" LIMIT $1", mostFacets+1)
	if len(list) > mostFacets {
		return nil, err
	}
	return list, err
}

// ByIDs finds some people, for whoever may see what points at them. Those who aren't
// there are left out.
func (s *Service) ByIDs(ctx context.Context, q db.Querier, ids []string) (map[string]Person, error) {
	people := make(map[string]Person, len(ids))
	wanted := slices.Clone(ids)
	slices.Sort(wanted)
	for some := range slices.Chunk(slices.Compact(wanted), 500) {
		args := make([]any, len(some))
		for n, one := range some {
			args[n] = one
		}
		list, err := db.All(ctx, q, scanPerson, "SELECT "+personFields+" FROM person WHERE id IN "+db.In(1, len(some)), args...)
		if err != nil {
			return nil, fmt.Errorf("find people: %w", err)
		}
		for _, person := range list {
			people[person.ID] = person
		}
	}
	return people, nil
}
