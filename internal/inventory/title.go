package inventory

import (
	"context"
	"slices"
	"strings"
	"time"

	"airlock/internal/base/db"
)

// Title is how people call an entitlement: an assignment by what it is of ("Op",
// not "Assigned"), and others by a name that says what it is about.
func Title(resource, name, purpose string) string {
	switch {
	case resource == "" || strings.Contains(Fold(name), Fold(resource)):
		return name
	case name == "" || purpose == "assignment" && (Fold(name) == "assigned" || Fold(name) == "member"):
		return resource
	}
	return resource + ": " + name
}

// Title is how people call it.
func (e Entitlement) Title() string { return Title(e.ResourceName, e.Name, e.Purpose) }

// Title is how people call what is granted.
func (g GrantItem) Title() string { return Title(g.ResourceName, g.EntitlementName, g.Purpose) }

// Until is when the grant ends: with its last reason. Without one that ends it, it is
// without end: the zero time.
func (g GrantItem) Until() (end time.Time) {
	for _, reason := range g.Reasons {
		if reason.ExpiresAt.IsZero() {
			return time.Time{}
		}
		if reason.ExpiresAt.After(end) {
			end = reason.ExpiresAt
		}
	}
	return end
}

// Titles are how people call some entitlements, by their ids. Those that are gone are
// not among them.
func (s *Service) Titles(ctx context.Context, q db.Querier, entitlementIDs []string) (map[string]string, error) {
	titles := make(map[string]string, len(entitlementIDs))
	ids := slices.Clone(entitlementIDs)
	slices.Sort(ids)
	for some := range slices.Chunk(slices.Compact(ids), 500) {
		args := make([]any, len(some))
		for n, one := range some {
			args[n] = one
		}
		err := db.Each(ctx, q, func(row db.Scanner) error {
			var id, resource, name, purpose string
			err := row.Scan(&id, &resource, &name, &purpose)
			titles[id] = Title(resource, name, purpose)
			return err
		}, `SELECT e.id, COALESCE(r.name, ''), e.name, e.purpose FROM entitlement e LEFT JOIN resource r ON r.id = e.resource_id WHERE e.id IN `+db.In(1, len(some)), args...)
		if err != nil {
			return nil, err
		}
	}
	return titles, nil
}

// AccountsOf counts the accounts of some people, by their ids.
func (s *Service) AccountsOf(ctx context.Context, q db.Querier, personIDs []string) (map[string]int64, error) {
	counts := make(map[string]int64, len(personIDs))
	for some := range slices.Chunk(personIDs, 500) {
		args := make([]any, len(some))
		for n, one := range some {
			args[n] = one
		}
		err := db.Each(ctx, q, func(row db.Scanner) error {
			var person string
			var count int64
			err := row.Scan(&person, &count)
			counts[person] = count
			return err
		}, `SELECT person_id, COUNT(*) FROM account WHERE person_id IN `+db.In(1, len(some))+` AND `+presentApp+` GROUP BY person_id`, args...)
		if err != nil {
			return nil, err
		}
	}
	return counts, nil
}
