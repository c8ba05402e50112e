package inventory

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

// HolderPoint is how many held an entitlement directly at a time.
type HolderPoint struct {
	At      time.Time
	Holders int64
}

// mostPoints is how many points a history has.
const mostPoints = 1000

// HolderHistory is how many held an entitlement directly over time: at from, at to,
// and at times between them, evenly. Who got it at a time holds it then, and whose
// grant ended at a time doesn't. What is older than past grants are kept lacks
// those who held it then.
func (s *Service) HolderHistory(ctx context.Context, actor identity.Actor, entitlementID string, from, to time.Time, points int) ([]HolderPoint, error) {
	if !from.Before(to) || points < 2 || points > mostPoints {
		return nil, fault.New(fault.Invalid, "a history has 2 to %d points from a time to a later one, not %d from %s to %s", mostPoints, points,
			from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))
	}
	history := make([]HolderPoint, points)
	for n := range history {
		share := float64(n) / float64(points-1)
		history[n].At = from.Add(time.Duration(share * float64(to.Sub(from)))).UTC()
	}
	history[points-1].At = to.UTC()
	err := s.db.Read(ctx, func(q *db.Snapshot) error {
		entitlement, err := s.readable(ctx, q, actor, entitlementID)
		if err != nil {
			return err
		}
		return db.Each(ctx, q, func(row db.Scanner) error {
			var at time.Time
			var more int64
			if err := row.Scan(db.Time(&at), &more); err != nil {
				return err
			}
			first, _ := slices.BinarySearchFunc(history, at, func(p HolderPoint, at time.Time) int { return p.At.Compare(at) })
			for n := range history[first:] {
				history[first+n].Holders += more
			}
			return nil
		}, `SELECT since, COUNT(*) FROM access_grant WHERE app_id = $1 AND entitlement_id = $2 GROUP BY since
			UNION ALL SELECT since, COUNT(*) FROM past_grant WHERE entitlement_id = $2 GROUP BY since
			UNION ALL SELECT until, -COUNT(*) FROM past_grant WHERE entitlement_id = $2 GROUP BY until`, entitlement.AppID, entitlementID)
	})
	if err != nil {
		return nil, fmt.Errorf("read the history of an entitlement: %w", err)
	}
	return history, nil
}

// ChangeFilter says whose timeline is asked for: one of these.
type ChangeFilter struct{ EntitlementID, PrincipalID, AppID string }

// Change is the beginning or the end of a direct grant.
type Change struct {
	Grant
	At     time.Time
	Ended  bool
	SyncID string // the sync that saw it; "" where it was done here; see AppRemoved
}

// Changes lists when direct grants of an entitlement, of a principal or of an app
// began and ended, the latest first. What has more than mostSorted grants shows the
// ends alone, and each page is Partial.
func (s *Service) Changes(ctx context.Context, actor identity.Actor, filter ChangeFilter, after Key, limit int) (Page[Change], error) {
	return readList(ctx, s, "changes of access", func(q db.Querier) (page Page[Change], err error) {
		object := identity.Object{Kind: "grant", AppID: filter.AppID}
		switch {
		case filter.EntitlementID != "":
			entitlement, err := s.EntitlementByID(ctx, q, filter.EntitlementID)
			if err != nil {
				return page, err
			}
			object.AppID = entitlement.AppID
		case filter.PrincipalID != "":
			principal, err := s.ResourceByID(ctx, q, filter.PrincipalID)
			if err != nil {
				return page, err
			}
			object.AppID = principal.AppID
			if object.SubjectID, err = personOf(ctx, q, principal.AppID, principal.ID); err != nil {
				return page, err
			}
		default:
			if err := oneApp(filter.AppID); err != nil {
				return page, err
			}
		}
		if err := Can(ctx, q, actor, identity.Read, object); err != nil {
			return page, err
		}
		filter.AppID = object.AppID
		return changePage(ctx, q, filter, after, limit)
	})
}

// The changes that there are, by the letter of their key: of those at one time ends
// come before beginnings.
const (
	letterHeld  = "a" // the beginning of a grant that is there
	letterBegan = "b" // the beginning of one that isn't any more
	letterEnded = "c" // its end
)

func changePage(ctx context.Context, q db.Querier, filter ChangeFilter, after Key, limit int) (page Page[Change], err error) {
	var now, past filters
	switch {
	case filter.EntitlementID != "":
		now.add("app_id = ?", filter.AppID)
		now.add("entitlement_id = ?", filter.EntitlementID)
		past.add("entitlement_id = ?", filter.EntitlementID)
	case filter.PrincipalID != "":
		now.add("principal_id = ?", filter.PrincipalID)
		past.add("principal_id = ?", filter.PrincipalID)
	default:
		now.add("app_id = ?", filter.AppID)
		past.add("app_id = ?", filter.AppID)
	}
	all, err := now.atMost(ctx, q, mostSorted, "access_grant")
	if err == nil && all {
		all, err = past.atMost(ctx, q, mostSorted, "past_grant")
	}
	if err != nil {
		return page, err
	}
	page.Partial = !all

	var f filters
	n := f.arg(limit + 1)
	// of limits an arm to what it is about, and to what comes after the key.
	of := func(about filters, letter, time, id string) (string, error) {
		var words []string
		for _, word := range about.words {
			column, _, _ := strings.Cut(word, " ")
			words = append(words, column+" = "+f.arg(about.args[len(words)]))
		}
		if after != (Key{}) {
			at, err := strconv.ParseInt(after.Name, 10, 64)
			if err != nil || after.ID == "" {
				return "", noPlace(after)
			}
			switch last := after.ID[:1]; {
			case letter < last:
				words = append(words, time+" <= "+f.arg(at))
			case letter > last:
				words = append(words, time+" < "+f.arg(at))
			default:
				words = append(words, fmt.Sprintf("(%s, %s) < (%s, %s)", time, id, f.arg(at), f.arg(after.ID[1:])))
			}
		}
		return strings.Join(words, " AND ") + fmt.Sprintf(" ORDER BY %s DESC, %s DESC LIMIT %s", time, id, n), nil
	}
	const pastColumns = `id, app_id, entitlement_id, entitlement, entitlement_name, principal_id, principal, principal_name`
	ended, err := of(past, letterEnded, "until", "id")
	if err != nil {
		return page, err
	}
	arms := []string{`SELECT * FROM (SELECT until AS at, 'c' AS letter, ` + pastColumns + `, until_sync_id AS sync_id FROM past_grant WHERE ` + ended + `) AS ended`}
	if all {
		// One that was revoked before a sync had seen it has no beginning that is known.
		began, err := of(past, letterBegan, "since", "id")
		if err != nil {
			return page, err
		}
		held, err := of(now, letterHeld, "since", "entitlement_id || principal_id")
		if err != nil {
			return page, err
		}
		arms = append(
			arms, `SELECT * FROM (SELECT since AS at, 'b' AS letter, `+pastColumns+`, sync_id FROM past_grant WHERE since < until AND `+began+`) AS began`,
			`SELECT h.at, 'a', h.id, h.app_id, h.entitlement_id, COALESCE(e.external_id, ''), COALESCE(e.name, ''),
				h.principal_id, COALESCE(t.external_id || ':' || r.external_id, ''), COALESCE(r.name, ''), h.sync_id
			FROM (SELECT since AS at, entitlement_id || principal_id AS id, app_id, entitlement_id, principal_id, sync_id FROM access_grant WHERE `+held+`) AS h
			LEFT JOIN entitlement e ON e.id = h.entitlement_id LEFT JOIN resource r ON r.id = h.principal_id LEFT JOIN resource_type t ON t.id = r.type_id`,
		)
	}
	var keys []Key
	page.Rows, err = db.All(ctx, q, func(row db.Scanner) (c Change, err error) {
		var letter, id string
		err = row.Scan(db.Time(&c.At), &letter, &id, &c.AppID, &c.EntitlementID, &c.Entitlement, &c.EntitlementName, &c.PrincipalID, &c.Principal, &c.PrincipalName, &c.SyncID)
		c.Ended = letter == letterEnded
		keys = append(keys, Key{strconv.FormatInt(c.At.UnixMicro(), 10), letter + id})
		return c, err
	}, strings.Join(arms, " UNION ALL ")+` ORDER BY at DESC, letter DESC, id DESC LIMIT `+n, f.args...)
	if len(page.Rows) > limit {
		page.Rows = page.Rows[:limit]
		page.Next = keys[limit-1]
	}
	return page, err
}
