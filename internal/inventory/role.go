package inventory

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

// Roles lists what a principal holds directly, and the assignments that come with
// that: its roles and groups, by what they are of. What these permit is left out,
// which Access lists too.
func (s *Service) Roles(ctx context.Context, actor identity.Actor, principalID string, after Key, limit int) (Page[GrantItem], error) {
	return readList(ctx, s, "roles", func(q db.Querier) (page Page[GrantItem], err error) {
		principal, err := s.ResourceByID(ctx, q, principalID)
		if err != nil {
			return page, err
		}
		subject, err := s.PersonOf(ctx, q, principalID)
		if err != nil {
			return page, err
		}
		object := identity.Object{Kind: "resource", ID: principalID, AppID: principal.AppID, SubjectID: subject}
		if err := Can(ctx, q, actor, identity.Read, object); err != nil {
			return page, err
		}
		return heldRoles(ctx, q, []Resource{principal}, after, limit)
	})
}

// PersonRoles is Roles of all accounts of a person, account by account.
func (s *Service) PersonRoles(ctx context.Context, actor identity.Actor, personID string, after Key, limit int) (Page[GrantItem], error) {
	return readList(ctx, s, "roles of a person", func(q db.Querier) (page Page[GrantItem], err error) {
		only, err := CanList(ctx, q, actor, identity.Read, identity.Object{Kind: "grant", SubjectID: personID})
		if err != nil {
			return page, err
		}
		var f filters
		f.add("a.person_id = ?", personID)
		f.words = append(f.words, "a."+presentApp)
		accounts, err := db.All(ctx, q, scanResource, `SELECT `+resourceColumns+` FROM account a JOIN resource r ON r.id = a.id JOIN resource_type t ON t.id = r.type_id
			JOIN app ON app.id = a.app_id`+f.where()+` ORDER BY app.name_key, app.id, a.id`, f.args...)
		if err != nil {
			return page, err
		}
		if only != nil {
			accounts = slices.DeleteFunc(accounts, func(r Resource) bool { return !slices.Contains(only, r.AppID) })
		}
		page, err = heldRoles(ctx, q, accounts, after, limit)
		names := map[string]string{}
		for n := range page.Rows {
			row := &page.Rows[n]
			if _, known := names[row.AppID]; !known && err == nil {
				var app App
				app, err = appOnRecord(ctx, q, row.AppID)
				names[row.AppID] = app.Name
			}
			row.AppName = names[row.AppID]
		}
		return page, err
	})
}

// heldRoles reads the roles of some principals, one after the other.
func heldRoles(ctx context.Context, q db.Querier, principals []Resource, after Key, limit int) (page Page[GrantItem], err error) {
	at, entitlementID, inside := strings.Cut(after.ID, "\n")
	if inside {
		start := slices.IndexFunc(principals, func(r Resource) bool { return r.ID == at })
		if start < 0 {
			return page, fault.New(fault.Conflict, "the list changed meanwhile; begin at its start")
		}
		principals = principals[start:]
	}
	for n, principal := range principals {
		f := filters{args: []any{principal.ID, principal.TypeID, principal.AppID}}
		f.words = append(f.words, `(e.purpose = 'assignment' OR EXISTS (SELECT 1 FROM access_grant g WHERE g.app_id = $3 AND g.entitlement_id = e.id AND g.principal_id = $1))`)
		if n == 0 && inside {
			f.after("COALESCE(r.name, ''), e.id", Key{after.Name, entitlementID})
		}
		f.args = append(f.args, limit+1-len(page.Rows))
		held, err := db.All(ctx, q, func(row db.Scanner) (g Grant, err error) { return g, row.Scan(&g.EntitlementID) },
			reachForth+`, held (entitlement_id) AS (SELECT DISTINCT entitlement_id FROM reach)
			SELECT e.id FROM held JOIN entitlement e ON e.id = held.entitlement_id LEFT JOIN resource r ON r.id = e.resource_id`+f.where()+
				fmt.Sprintf(` ORDER BY COALESCE(r.name, ''), e.id LIMIT $%d`, len(f.args)), f.args...)
		if err != nil {
			return page, err
		}
		items, err := completed(ctx, q, principal, held)
		if err != nil {
			return page, err
		}
		page.Rows = append(page.Rows, items...)
		if len(page.Rows) > limit {
			page.Rows = page.Rows[:limit]
			last := page.Rows[limit-1]
			page.Next = Key{last.ResourceName, last.PrincipalID + "\n" + last.EntitlementID}
			break
		}
	}
	return page, giveReasons(ctx, q, page.Rows)
}
