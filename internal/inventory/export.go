package inventory

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"airlock/internal/base/db"
	"airlock/internal/identity"
)

// exportPage is how many rows of an export are in memory at a time.
const exportPage = 500

// pages turns a list that is read page by page into one.
func pages[T any](key func(T) Key, page func(after Key) ([]T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for after := (Key{}); ; {
			list, err := page(after)
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, item := range list {
				if !yield(item, nil) {
					return
				}
			}
			if len(list) < exportPage {
				return
			}
			after = key(list[len(list)-1])
		}
	}
}

// ExportAccounts lists the accounts of an app, or of all (""), by name.
func (s *Service) ExportAccounts(ctx context.Context, actor identity.Actor, appID string) iter.Seq2[Account, error] {
	return pages(func(a Account) Key { return Key{a.Name, a.ID} }, func(after Key) ([]Account, error) {
		return s.Accounts(ctx, actor, AccountFilter{AppID: appID}, after, exportPage)
	})
}

// ExportEntitlements lists the entitlements of an app, or of all (""), by name.
func (s *Service) ExportEntitlements(ctx context.Context, actor identity.Actor, appID string) iter.Seq2[Entitlement, error] {
	return pages(func(e Entitlement) Key { return Key{e.Name, e.ID} }, func(after Key) ([]Entitlement, error) {
		return s.Entitlements(ctx, actor, EntitlementFilter{AppID: appID}, after, exportPage)
	})
}

// PersonExport is a person with the number of their accounts.
type PersonExport struct {
	ID, Name, Email, Username, EmployeeID, Department, JobTitle, ManagerID string
	Kind, Status, Source                                                   string
	Accounts                                                               int64
}

// ExportPeople lists people by name; those with accounts in an app, or all ("").
func (s *Service) ExportPeople(ctx context.Context, actor identity.Actor, appID string) iter.Seq2[PersonExport, error] {
	return pages(func(p PersonExport) Key { return Key{p.Name, p.ID} }, func(after Key) ([]PersonExport, error) {
		if err := identity.Can(actor, identity.Read, identity.Object{Kind: "person", AppID: appID}); err != nil {
			return nil, err
		}
		f := filters{args: []any{appID}}
		f.words = append(f.words, `($1 = '' OR EXISTS (SELECT 1 FROM account a WHERE a.person_id = p.id AND a.app_id = $1))`)
		f.after("p.name, p.id", after)
		f.args = append(f.args, exportPage)
		return db.All(ctx, s.db, func(row db.Scanner) (p PersonExport, err error) {
			return p, row.Scan(&p.ID, &p.Name, &p.Email, &p.Username, &p.EmployeeID, &p.Department, &p.JobTitle, &p.ManagerID,
				&p.Kind, &p.Status, &p.Source, &p.Accounts)
		}, `SELECT p.id, p.name, p.email, p.username, p.employee_id, p.department, p.job_title, p.manager_id, p.kind, p.status, p.source,
			(SELECT COUNT(*) FROM account a WHERE a.person_id = p.id AND ($1 = '' AND a.`+presentApp+` OR a.app_id = $1)) FROM person p`+f.where()+
			fmt.Sprintf(` ORDER BY p.name, p.id LIMIT $%d`, len(f.args)), f.args...)
	})
}

// ExportGrants lists who holds what in an app, or in all (""), directly and by way
// of others: by resource type, principal and entitlement. What is in memory are
// the app's edges, and what a few principals hold.
func (s *Service) ExportGrants(ctx context.Context, actor identity.Actor, appID string) iter.Seq2[Grant, error] {
	return s.grantsOf(ctx, actor, appID, false)
}

// ExportAccountGrants lists of those of ExportGrants what accounts hold.
func (s *Service) ExportAccountGrants(ctx context.Context, actor identity.Actor, appID string) iter.Seq2[Grant, error] {
	return s.grantsOf(ctx, actor, appID, true)
}

func (s *Service) grantsOf(ctx context.Context, actor identity.Actor, appID string, accounts bool) iter.Seq2[Grant, error] {
	return func(yield func(Grant, error) bool) {
		only, err := CanList(ctx, s.db, actor, identity.Read, identity.Object{Kind: "grant", AppID: appID})
		if err == nil && appID != "" {
			_, err = s.exportGrants(ctx, appID, accounts, yield)
		} else if err == nil {
			for app, listed := range pages(func(a App) Key { return Key{a.Name, a.ID} }, func(after Key) ([]App, error) { return appsOf(ctx, s.db, only, after, exportPage) }) {
				if err = listed; err != nil {
					break
				}
				var more bool
				if more, err = s.exportGrants(ctx, app.ID, accounts, yield); err != nil || !more {
					break
				}
			}
		}
		if err != nil {
			yield(Grant{}, err)
		}
	}
}

// exportGrants lists an app's grants, all or those of accounts, until no more are
// wanted.
func (s *Service) exportGrants(ctx context.Context, appID string, accounts bool, yield func(Grant, error) bool) (more bool, err error) {
	kinds, err := db.All(ctx, s.db, scanPair, `SELECT id, external_id FROM resource_type WHERE app_id = $1 ORDER BY external_id`, appID)
	if err != nil {
		return false, err
	}
	ways, err := scanGraph(ctx, s.db, `SELECT `+edgeColumns+` FROM expansion x JOIN entitlement e ON e.id = x.source_id WHERE x.app_id = $1
		ORDER BY x.target_id, x.principal_id, x.source_id, x.type_id`, appID)
	if err != nil {
		return false, err
	}
	targets, err := targetSteps(ctx, s.db, appID)
	if err != nil {
		return false, err
	}
	const few = 50 // one may hold thousands
	for _, kind := range kinds {
		for after := (Key{}); ; {
			list, err := principals(ctx, s.db, appID, kind.ID, accounts, after, few)
			if err != nil {
				return false, err
			}
			direct, err := directOf(ctx, s.db, appID, list)
			if err != nil {
				return false, err
			}
			for _, principal := range list {
				principal.Principal = kind.Name + ":" + principal.Principal
				for _, g := range effective(principal, direct[principal.PrincipalID], kind.ID, ways, targets) {
					if !yield(g, nil) {
						return false, nil
					}
				}
			}
			if len(list) < few {
				break
			}
			after = Key{list[few-1].PrincipalName, list[few-1].PrincipalID}
		}
	}
	return true, nil
}

// effective is what a principal holds in all, by the entitlement's external id.
func effective(principal Grant, direct []Grant, typeID string, ways graph, targets map[string]Step) []Grant {
	held, list := make([]string, len(direct)), make([]Grant, 0, len(direct))
	for n, g := range direct {
		held[n] = g.EntitlementID
		g.AppID, g.PrincipalID, g.Principal, g.PrincipalName = principal.AppID, principal.PrincipalID, principal.Principal, principal.PrincipalName
		g.Account, g.PersonID, g.PersonName, g.PersonEmail = principal.Account, principal.PersonID, principal.PersonName, principal.PersonEmail
		g.Direct = true
		list = append(list, g)
	}
	walked := ways.walk(held, typeID)
	for _, one := range walked.order {
		if walked.from[one] == "" {
			continue
		}
		g := principal
		g.EntitlementID, g.Entitlement, g.EntitlementName = one, targets[one].ExternalID, targets[one].Name
		g.Path = walked.path(one)
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b Grant) int { return strings.Compare(a.Entitlement, b.Entitlement) })
	return list
}

func scanPair(row db.Scanner) (pair Key, err error) { return pair, row.Scan(&pair.ID, &pair.Name) }

// targetSteps are the entitlements of an app that others give.
func targetSteps(ctx context.Context, q db.Querier, appID string) (map[string]Step, error) {
	targets := map[string]Step{}
	return targets, db.Each(ctx, q, func(row db.Scanner) error {
		var step Step
		err := row.Scan(&step.EntitlementID, &step.ExternalID, &step.Name)
		targets[step.EntitlementID] = step
		return err
	}, `SELECT id, external_id, name FROM entitlement WHERE app_id = $1 AND id IN (SELECT target_id FROM expansion WHERE app_id = $1)`, appID)
}

// principals are resources of a type, as grants that lack their entitlement.
func principals(ctx context.Context, q db.Querier, appID, typeID string, accounts bool, after Key, limit int) ([]Grant, error) {
	f := filters{args: []any{appID, typeID}, words: []string{"r.app_id = $1", "r.type_id = $2"}}
	if accounts {
		f.words = append(f.words, "a.id IS NOT NULL")
	}
	f.after("r.name, r.id", after)
	f.args = append(f.args, limit)
	return db.All(ctx, q, func(row db.Scanner) (Grant, error) {
		g := Grant{AppID: appID}
		return g, row.Scan(&g.PrincipalID, &g.Principal, &g.PrincipalName, &g.Account, &g.PersonID, &g.PersonName, &g.PersonEmail)
	}, `SELECT r.id, r.external_id, r.name, `+personColumns+` FROM resource r LEFT JOIN account a ON a.id = r.id LEFT JOIN person p ON p.id = a.person_id`+f.where()+
		fmt.Sprintf(` ORDER BY r.name, r.id LIMIT $%d`, len(f.args)), f.args...)
}

// directOf is what principals hold directly.
func directOf(ctx context.Context, q db.Querier, appID string, list []Grant) (map[string][]Grant, error) {
	if len(list) == 0 {
		return nil, nil
	}
	args := []any{appID}
	for _, g := range list {
		args = append(args, g.PrincipalID)
	}
	direct := map[string][]Grant{}
	return direct, db.Each(ctx, q, func(row db.Scanner) error {
		var g Grant
		var principalID string
		var flags int64
		err := row.Scan(&principalID, &g.EntitlementID, &g.Entitlement, &g.EntitlementName, &g.ExternalID, &flags, db.Time(&g.Since), &g.SyncID)
		g.Immutable = flags&FlagImmutable != 0
		direct[principalID] = append(direct[principalID], g)
		return err
	}, `SELECT g.principal_id, e.id, e.external_id, e.name, g.external_id, g.flags, g.since, g.sync_id
		FROM access_grant g JOIN entitlement e ON e.id = g.entitlement_id WHERE g.app_id = $1 AND g.principal_id IN `+db.In(2, len(list)), args...)
}
