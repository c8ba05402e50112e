package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/connectorstore"
	"github.com/conductorone/baton-sdk/pkg/dotc1z"
	"github.com/conductorone/baton-sdk/pkg/dotc1z/c1zstore"
	"github.com/conductorone/baton-sdk/pkg/types/entitlement"
	"github.com/conductorone/baton-sdk/pkg/types/grant"
	rs "github.com/conductorone/baton-sdk/pkg/types/resource"
)

// company is what a connector would report: so many grants, 10 of each user.
//
// Of 1,000,000 grants are 30,000 those of 2,000 roles on the 15,000 entitlements
// of 5,000 projects, which their holders have by way of the role; 800,000 make
// users members of roles, and 170,000 give them a project's entitlement directly.
type company struct {
	Grants int
	// Changed is whether half a percent of the grants is gone and half a percent is new.
	Changed bool
}

func (c company) users() int    { return c.Grants / 10 }
func (c company) roles() int    { return c.Grants / 500 }
func (c company) projects() int { return c.Grants / 200 }
func (c company) direct() int   { return c.Grants - 2*c.rights() } // grants to users

// rights are the entitlements of projects.
func (c company) rights() int { return 3 * c.projects() }

// moved is how many grants are gone, and how many are new, in a changed company.
func (c company) moved() int { return c.Grants / 200 }

var levels = [3]string{"read", "edit", "own"}

func resource(kind, id string) *v2.Resource {
	return v2.Resource_builder{Id: v2.ResourceId_builder{ResourceType: kind, Resource: id}.Build()}.Build()
}

func role(n int) *v2.Resource    { return resource("role", fmt.Sprintf("role-%04d", n)) }
func project(n int) *v2.Resource { return resource("project", fmt.Sprintf("project-%05d", n)) }
func user(n int) *v2.Resource    { return resource("user", fmt.Sprintf("user-%06d", n)) }

// right is the n-th entitlement of all projects together.
func right(n int, to *v2.Resource, options ...grant.GrantOption) *v2.Grant {
	return grant.NewGrant(project(n/3), levels[n%3], to, options...)
}

// grantTo is the n-th grant to a user: eight are of roles, the others of projects.
func (c company) grantTo(n int) *v2.Grant {
	who, which := n%c.users(), n/c.users()
	if which < 8 {
		return grant.NewGrant(role((who+which*c.roles()/8)%c.roles()), "member", user(who))
	}
	return right((7*who+which*c.rights()/8)%c.rights(), user(who))
}

// write makes a .c1z as connectors do.
func (c company) write(ctx context.Context, path string) (err error) {
	store, err := dotc1z.NewStore(ctx, path, dotc1z.WithEngine(c1zstore.EnginePebble), dotc1z.WithTmpDir(filepath.Dir(path)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close(ctx)) }()
	if _, err := store.StartNewSync(ctx, connectorstore.SyncTypeFull, ""); err != nil {
		return err
	}
	err = store.PutResourceTypes(ctx,
		v2.ResourceType_builder{Id: "user", DisplayName: "User", Traits: []v2.ResourceType_Trait{v2.ResourceType_TRAIT_USER}}.Build(),
		v2.ResourceType_builder{Id: "role", DisplayName: "Role", Traits: []v2.ResourceType_Trait{v2.ResourceType_TRAIT_ROLE}}.Build(),
		v2.ResourceType_builder{Id: "project", DisplayName: "Project"}.Build())
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return put(ctx, c.roles(), newRole, store.PutResources) },
		func() error { return put(ctx, c.projects(), newProject, store.PutResources) },
		func() error { return put(ctx, c.users(), newUser, store.PutResources) },
		func() error { return put(ctx, c.roles()+c.rights(), c.entitlement, store.PutEntitlements) },
		func() error { return put(ctx, 2*c.rights(), c.ofRole, store.PutGrants) },
		func() error { return put(ctx, c.direct(), c.ofUser, store.PutGrants) },
		func() error { return store.EndSync(ctx) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// put makes so many things and stores them by the thousand.
func put[T any](ctx context.Context, count int, thing func(n int) (T, error), store func(context.Context, ...T) error) error {
	var page []T
	for n := range count {
		one, err := thing(n)
		if err != nil {
			return err
		}
		if page = append(page, one); len(page) < 1000 && n+1 < count {
			continue
		}
		if err := store(ctx, page...); err != nil {
			return err
		}
		page = nil
	}
	return nil
}

func newRole(n int) (*v2.Resource, error) {
	id := role(n).GetId().GetResource()
	return rs.NewRoleResource(fmt.Sprintf("Role %d", n), v2.ResourceType_builder{Id: "role"}.Build(), id,
		nil, rs.WithResourceProfile(map[string]any{"team": fmt.Sprintf("Team %d", n%100)}))
}

func newProject(n int) (*v2.Resource, error) {
	return rs.NewResource(fmt.Sprintf("Project %d", n), v2.ResourceType_builder{Id: "project"}.Build(), project(n).GetId().GetResource(),
		rs.WithDescription(fmt.Sprintf("What team %d works at, since 2019.", n%100)))
}

func newUser(n int) (*v2.Resource, error) {
	login := user(n).GetId().GetResource()
	return rs.NewUserResource(fmt.Sprintf("Firstname%d Lastname%d", n%1000, n), v2.ResourceType_builder{Id: "user"}.Build(), login, []rs.UserTraitOption{
		rs.WithUserLogin(login), rs.WithEmail(login+"@example.com", true),
	}, rs.WithResourceStatus(v2.Status_RESOURCE_STATUS_ENABLED, ""), rs.WithResourceProfile(map[string]any{
		"first_name": fmt.Sprintf("Firstname%d", n%1000), "last_name": fmt.Sprintf("Lastname%d", n), "department": fmt.Sprintf("Department %d", n%50),
	}))
}

func (c company) entitlement(n int) (*v2.Entitlement, error) {
	kinds := []*v2.ResourceType{v2.ResourceType_builder{Id: "user"}.Build()}
	if n < c.roles() {
		return entitlement.NewAssignmentEntitlement(role(n), "member", entitlement.WithGrantableTo(kinds...),
			entitlement.WithDisplayName(fmt.Sprintf("Role %d member", n)), entitlement.WithDescription(fmt.Sprintf("Member of role %d", n))), nil
	}
	n -= c.roles()
	level := levels[n%3]
	return entitlement.NewPermissionEntitlement(project(n/3), level, entitlement.WithGrantableTo(kinds...),
		entitlement.WithDisplayName(fmt.Sprintf("Project %d %s", n/3, level)), entitlement.WithDescription(fmt.Sprintf("May %s project %d", level, n/3))), nil
}

// ofRole is a project's entitlement that a role has: each has two of them.
func (c company) ofRole(n int) (*v2.Grant, error) {
	holder := role((n/2*7 + n%2*c.roles()/2) % c.roles())
	return right(n/2, holder, grant.WithAnnotation(v2.GrantExpandable_builder{
		EntitlementIds: []string{entitlement.NewEntitlementID(holder, "member")}, ResourceTypeIds: []string{"user"},
	}.Build())), nil
}

// ofUser is a grant to a user. Those that are gone in a changed company are spread
// over all, and its new ones are of the users that lost one.
func (c company) ofUser(n int) (*v2.Grant, error) {
	every := c.direct() / c.moved()
	if !c.Changed || n%every != 0 || n/every >= c.moved() {
		return c.grantTo(n), nil
	}
	who := n % c.users()
	return grant.NewGrant(role((who+c.roles()/16)%c.roles()), "member", user(who)), nil
}
