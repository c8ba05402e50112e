package inventory

import (
	"context"
	"fmt"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

// Page is a part of a list.
type Page[T any] struct {
	Rows []T
	Next Key // the next page is after it; the zero Key says that this was the last one
	// Partial says that the rows were looked for, not found by an index, and that not
	// all were looked at: there may be fewer here than fit, or none, and more after Next.
	Partial bool
}

// Count is how many there are: N, or more than N where counting stopped there.
type Count struct {
	N    int64
	More bool
}

// Order is how a list is sorted: by By, from the largest if it is Falling.
type Order struct {
	By      OrderBy
	Falling bool
}

// OrderBy is what a list is sorted by.
type OrderBy string

// The orders. Each list knows ByName; what it doesn't know is that.
const (
	ByName      OrderBy = "name"
	ByHolders   OrderBy = "holders"    // entitlements, by how many hold them directly
	ByRisk      OrderBy = "risk"       // entitlements, by the risk that was set by hand
	ByLastLogin OrderBy = "last-login" // accounts; those that never did come first
)

// AppFilter says which apps are asked for.
type AppFilter struct {
	Managed bool   // or those that aren't
	Search  string // part of the name
}

// AppRow is an app in a list.
type AppRow struct {
	App
	Accounts     Count
	Entitlements Count
	Grants       Count // direct ones
	Unmatched    Count // accounts that belong to nobody
	Owners       []Owner
}

// AppNumbers are how much is in an app.
type AppNumbers struct {
	Accounts     Count
	Assignments  Count // entitlements that are roles, groups and the like
	Entitlements Count // all of them
	Resources    Count
	Grants       Count // direct ones
	Unmatched    Count // accounts that belong to nobody
	Orphaned     Count // accounts whose person left
}

// EntitlementQuery says which entitlements are asked for; its zero fields all, but
// there must be an app.
type EntitlementQuery struct {
	AppID       string
	TypeID      string // of their resource
	ResourceID  string
	Purpose     string // assignment, permission, ownership, unspecified
	Risk        Risk   // set by hand
	Requestable *bool
	Search      string
}

// EntitlementItem is an entitlement in a list.
type EntitlementItem struct {
	Entitlement
	TypeName  string
	OwnerName string
}

// AccountItem is an account in a list.
type AccountItem struct {
	Account
	TypeName string
	Grants   int64    // direct ones
	Roles    []string // what a few of its assignments are of, by name
	Assigned int64    // how many assignments they are in all
}

// ResourceItem is a resource in a list.
type ResourceItem struct {
	Resource
	TypeName     string
	ParentName   string
	Entitlements int64
}

// ResourceDetail is a resource's page.
type ResourceDetail struct {
	ResourceItem
	App     App
	Account bool  // it is an account, which has a page of its own
	Holds   Count // direct grants to it
}

// GrantFilter says which direct grants are asked for; its zero fields all, but there
// must be an app.
type GrantFilter struct {
	AppID         string
	TypeID        string // of the principal
	EntitlementID string
	PrincipalID   string
	Search        string // part of what the principal is found by
}

// GrantItem is a grant in a list.
type GrantItem struct {
	Grant
	AppName         string // in lists of several apps
	EntitlementType string // the name of the type of the entitlement's resource
	ResourceName    string // what it is an entitlement of
	Purpose         string
	Risk            Risk
	PrincipalType   string // the name of the principal's type
	Reasons         []Reason
}

// HolderFilter says which holders are asked for; its zero fields all.
type HolderFilter struct {
	Search string // part of what the principal is found by
	Direct *bool  // holds it directly, or by way of others
}

// readList reads a list from a snapshot, so that its questions are answered from one
// state.
func readList[T any](ctx context.Context, s *Service, what string, read func(q db.Querier) (Page[T], error)) (page Page[T], err error) {
	err = s.db.Read(ctx, func(q *db.Snapshot) error {
		page, err = read(q)
		return err
	})
	if err != nil {
		return Page[T]{}, fmt.Errorf("list the %s: %w", what, err)
	}
	return page, nil
}

// oneApp refuses a list of all apps together.
func oneApp(appID string) error {
	if appID == "" {
		return fault.New(fault.Invalid, "the list is of one app: say which")
	}
	return nil
}

// AppList lists apps by name.
func (s *Service) AppList(ctx context.Context, actor identity.Actor, filter AppFilter, after Key, limit int) (Page[AppRow], error) {
	return readList(ctx, s, "apps", func(q db.Querier) (Page[AppRow], error) {
		only, err := CanList(ctx, q, actor, identity.Read, identity.Object{Kind: "app"})
		if err != nil {
			return Page[AppRow]{}, err
		}
		return appPage(ctx, q, filter, only, after, limit)
	})
}

// AppCounts counts what is in an app.
func (s *Service) AppCounts(ctx context.Context, actor identity.Actor, appID string) (n AppNumbers, err error) {
	err = s.db.Read(ctx, func(q *db.Snapshot) error {
		if _, err := s.AppByID(ctx, q, appID); err != nil {
			return err
		}
		if err := Can(ctx, q, actor, identity.Read, identity.Object{Kind: "app", ID: appID, AppID: appID}); err != nil {
			return err
		}
		n, err = numbersOf(ctx, q, appID)
		return err
	})
	if err != nil {
		return AppNumbers{}, fmt.Errorf("count what is in the app: %w", err)
	}
	return n, nil
}

// EntitlementList lists entitlements of an app by name; those of one type by their
// resource's name first. More than mostSorted aren't sorted by anything else: then
// only so many of them are in the list, and it is Partial.
func (s *Service) EntitlementList(ctx context.Context, actor identity.Actor, query EntitlementQuery, order Order, after Key, limit int) (Page[EntitlementItem], error) {
	return readList(ctx, s, "entitlements", func(q db.Querier) (Page[EntitlementItem], error) {
		err := oneApp(query.AppID)
		if err == nil {
			err = Can(ctx, q, actor, identity.Read, identity.Object{Kind: "entitlement", AppID: query.AppID})
		}
		if err != nil {
			return Page[EntitlementItem]{}, err
		}
		return entitlementPage(ctx, q, query, order, after, limit)
	})
}

// AccountList lists accounts of an app, or of a person in all apps that the actor
// may read.
func (s *Service) AccountList(ctx context.Context, actor identity.Actor, filter AccountFilter, order Order, after Key, limit int) (Page[AccountItem], error) {
	return readList(ctx, s, "accounts", func(q db.Querier) (Page[AccountItem], error) {
		if filter.PersonID == "" {
			if err := oneApp(filter.AppID); err != nil {
				return Page[AccountItem]{}, err
			}
		}
		only, err := CanList(ctx, q, actor, identity.Read, identity.Object{Kind: "account", AppID: filter.AppID, SubjectID: filter.PersonID})
		if err != nil {
			return Page[AccountItem]{}, err
		}
		return accountPage(ctx, q, filter, only, order, after, limit)
	})
}

// ResourceList lists resources of an app by name.
func (s *Service) ResourceList(ctx context.Context, actor identity.Actor, filter ResourceFilter, after Key, limit int) (Page[ResourceItem], error) {
	return readList(ctx, s, "resources", func(q db.Querier) (Page[ResourceItem], error) {
		err := oneApp(filter.AppID)
		if err == nil {
			err = Can(ctx, q, actor, identity.Read, identity.Object{Kind: "app", ID: filter.AppID, AppID: filter.AppID})
		}
		if err != nil {
			return Page[ResourceItem]{}, err
		}
		return resourcePage(ctx, q, filter, after, limit)
	})
}

// ResourcePage is what the page of a resource says.
func (s *Service) ResourcePage(ctx context.Context, actor identity.Actor, resourceID string) (d ResourceDetail, err error) {
	err = s.db.Read(ctx, func(q *db.Snapshot) error {
		resource, err := s.ResourceByID(ctx, q, resourceID)
		if err != nil {
			return err
		}
		object := identity.Object{Kind: "resource", ID: resourceID, AppID: resource.AppID}
		account, err := none(accountByID(ctx, q, resourceID))
		if err != nil {
			return err
		}
		object.SubjectID = account.PersonID
		if err := Can(ctx, q, actor, identity.Read, object); err != nil {
			return err
		}
		d.Account = account.ID != ""
		if d.App, err = s.AppOnRecord(ctx, q, resource.AppID); err != nil {
			return err
		}
		items, err := resourceItems(ctx, q, []Key{{ID: resourceID}})
		if err != nil {
			return err
		}
		d.ResourceItem = items[0]
		d.Holds, err = counted(ctx, q, `access_grant WHERE app_id = $1 AND principal_id = $2`, resource.AppID, resourceID)
		return err
	})
	if err != nil {
		return ResourceDetail{}, fmt.Errorf("read the resource: %w", err)
	}
	return d, nil
}

// GrantList lists direct grants of an app by the principal's name, then the
// entitlement's.
func (s *Service) GrantList(ctx context.Context, actor identity.Actor, filter GrantFilter, after Key, limit int) (Page[GrantItem], error) {
	return readList(ctx, s, "grants", func(q db.Querier) (Page[GrantItem], error) {
		err := oneApp(filter.AppID)
		object := identity.Object{Kind: "grant", AppID: filter.AppID}
		if err == nil && filter.PrincipalID != "" {
			object.SubjectID, err = personOf(ctx, q, filter.AppID, filter.PrincipalID)
		}
		if err == nil {
			err = Can(ctx, q, actor, identity.Read, object)
		}
		if err != nil {
			return Page[GrantItem]{}, err
		}
		return grantPage(ctx, q, filter, after, limit)
	})
}

// HolderList lists who holds an entitlement, directly or by way of others, by name.
func (s *Service) HolderList(ctx context.Context, actor identity.Actor, entitlementID string, filter HolderFilter, after Key, limit int) (Page[GrantItem], error) {
	return readList(ctx, s, "holders", func(q db.Querier) (Page[GrantItem], error) {
		entitlement, err := s.readable(ctx, q, actor, entitlementID)
		if err != nil {
			return Page[GrantItem]{}, err
		}
		return holderPage(ctx, q, entitlement, filter, after, limit)
	})
}

// HolderCount counts who holds an entitlement directly, and in all.
func (s *Service) HolderCount(ctx context.Context, actor identity.Actor, entitlementID string) (direct, all Count, err error) {
	err = s.db.Read(ctx, func(q *db.Snapshot) error {
		entitlement, err := s.readable(ctx, q, actor, entitlementID)
		if err != nil {
			return err
		}
		direct = Count{N: entitlement.Grants}
		all, err = holderCount(ctx, q, entitlement)
		return err
	})
	if err != nil {
		return Count{}, Count{}, fmt.Errorf("count the holders: %w", err)
	}
	return direct, all, nil
}

// readable is an entitlement that the actor may read.
func (s *Service) readable(ctx context.Context, q db.Querier, actor identity.Actor, entitlementID string) (Entitlement, error) {
	entitlement, err := s.EntitlementByID(ctx, q, entitlementID)
	if err != nil {
		return entitlement, err
	}
	return entitlement, Can(ctx, q, actor, identity.Read, identity.Object{Kind: "entitlement", ID: entitlementID, AppID: entitlement.AppID})
}

// PersonAccess lists what a person's accounts hold, directly or by way of others, in
// all apps that the actor may read: by app, account and entitlement.
func (s *Service) PersonAccess(ctx context.Context, actor identity.Actor, personID string, after Key, limit int) (Page[GrantItem], error) {
	return readList(ctx, s, "access of a person", func(q db.Querier) (Page[GrantItem], error) {
		only, err := CanList(ctx, q, actor, identity.Read, identity.Object{Kind: "grant", SubjectID: personID})
		if err != nil {
			return Page[GrantItem]{}, err
		}
		return personAccess(ctx, q, personID, only, after, limit)
	})
}
