package insight

import (
	"context"
	"fmt"
	"strings"

	"airlock/internal/base/db"
)

// mostNames is how many resources of a group are named.
const mostNames = 3

// given reads what entitlements of an app give whoever holds them directly, by
// the entitlement: themselves, and all that comes with them, without what is but
// the way to others (the role that a group gives). Entitlements of resources of
// the groups count together by their slug.
func given(ctx context.Context, q db.Querier, appID string, entitlementIDs, groups []string) (map[string][]found, error) {
	args := []any{appID}
	list := func(values []string) string {
		if len(values) == 0 {
			return "('')"
		}
		first := len(args) + 1
		for _, value := range values {
			args = append(args, value)
		}
		return db.In(first, len(values))
	}
	asked, alike := list(entitlementIDs), list(groups)
	rows := map[string][]found{}
	// A group's rows are ranked by the resource's name, so that the first few can be named.
	err := db.Each(ctx, q, func(row db.Scanner) error {
		var one found
		var name string
		var rank int64
		if err := row.Scan(&one.entitlementID, &one.kind, &one.slug, &one.gives, &one.resource, &name, &one.name, &rank, &one.count); err != nil {
			return err
		}
		mine := rows[one.entitlementID]
		if rank > 1 {
			mine[len(mine)-1].names = append(mine[len(mine)-1].names, name)
			return nil
		}
		one.resourceName, one.names = name, []string{name}
		rows[one.entitlementID] = append(mine, one)
		return nil
	}, `WITH RECURSIVE reach (start_id, entitlement_id, direct) AS (
			SELECT e.id, e.id, TRUE FROM entitlement e WHERE e.app_id = $1 AND e.id IN `+asked+`
			UNION
			SELECT r.start_id, x.target_id, FALSE FROM reach r JOIN expansion x ON x.source_id = r.entitlement_id
			WHERE r.direct = TRUE OR x.shallow = FALSE),
		held (start_id, entitlement_id) AS (SELECT DISTINCT start_id, entitlement_id FROM reach),
		lines (start_id, kind, slug, alike, gives, resource, resource_name, name) AS (
			SELECT h.start_id, t.external_id, e.slug, CASE WHEN t.external_id IN `+alike+` THEN '' ELSE e.resource_id END, e.id, r.external_id, r.name, e.name
			FROM held h JOIN entitlement e ON e.id = h.entitlement_id JOIN resource r ON r.id = e.resource_id JOIN resource_type t ON t.id = r.type_id
			WHERE e.purpose <> 'assignment' OR h.start_id <> h.entitlement_id AND NOT EXISTS (SELECT 1 FROM expansion x WHERE x.source_id = e.id)),
		ranked AS (
			SELECT l.*, ROW_NUMBER() OVER (PARTITION BY start_id, kind, slug, alike ORDER BY resource_name, gives) AS place,
				COUNT(*) OVER (PARTITION BY start_id, kind, slug, alike) AS size
			FROM lines l)
		SELECT start_id, kind, slug, gives, resource, resource_name, name, place, size FROM ranked
		WHERE place <= `+fmt.Sprint(mostNames)+` ORDER BY start_id, kind, slug, alike, place`, args...)
	return rows, err
}

// sizes counts the resources of some types of an app.
func sizes(ctx context.Context, q db.Querier, appID string, types []string) (map[string]int64, error) {
	counts := map[string]int64{}
	if len(types) == 0 {
		return counts, nil
	}
	args := []any{appID}
	for _, one := range types {
		args = append(args, one)
	}
	return counts, db.Each(ctx, q, func(row db.Scanner) error {
		var kind string
		var count int64
		err := row.Scan(&kind, &count)
		counts[kind] = count
		return err
	}, strings.TrimSpace(`SELECT t.external_id, (SELECT COUNT(*) FROM resource r WHERE r.app_id = t.app_id AND r.type_id = t.id)
		FROM resource_type t WHERE t.app_id = $1 AND t.external_id IN `+db.In(2, len(types))), args...)
}
