package connector

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/annotations"
	"github.com/conductorone/baton-sdk/pkg/types/entitlement"
	"github.com/conductorone/baton-sdk/pkg/types/grant"
	rs "github.com/conductorone/baton-sdk/pkg/types/resource"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"airlock/airflow"
)

// assigned is the one entitlement of a role: to have it.
const assigned = "assigned"

var roleType = v2.ResourceType_builder{
	Id:          "role",
	DisplayName: "Role",
	Description: "A named set of permissions",
	Traits:      []v2.ResourceType_Trait{v2.ResourceType_TRAIT_ROLE},
	Annotations: typeAnnotations(
		[]airflow.Permission{readRoles, readUsers, editUsers, createRoles, deleteRoles},
		&v2.SkipEntitlements{}, // they are static
		&v2.TypeScopedGrants{},
	),
}.Build()

// rolePermissions is what is kept of a role for the permissions: which actions
// on which resource.
type rolePermissions struct {
	Name string              `json:"n"`
	On   map[string][]string `json:"p,omitempty"`
}

func keepRole(r airflow.Role) rolePermissions {
	k := rolePermissions{Name: r.Name, On: map[string][]string{}}
	for _, p := range r.Permissions {
		k.On[p.Resource] = append(k.On[p.Resource], p.Action)
	}
	return k
}

// role shows roles and who has them, and gives and takes them.
type role struct{ *Connector }

func (role) ResourceType(context.Context) *v2.ResourceType { return roleType }

// List gives a page of roles.
func (r role) List(ctx context.Context, _ *v2.ResourceId, opts rs.SyncOpAttrs) ([]*v2.Resource, *rs.SyncOpResults, error) {
	pos, err := parsePosition(opts)
	if err != nil {
		return nil, nil, err
	}
	page, err := r.roles.whole(ctx, opts, pos.Cursor)
	if err != nil {
		return nil, nil, listError(err)
	}
	out := make([]*v2.Resource, len(page.Items))
	for i, item := range page.Items {
		if out[i], err = roleResource(item); err != nil {
			return nil, nil, listError(err)
		}
	}
	return out, nextPage(pos.after(page.Next)), nil
}

// Get reads one role, for a targeted sync.
func (r role) Get(ctx context.Context, id, _ *v2.ResourceId) (*v2.Resource, annotations.Annotations, error) {
	found, err := r.airflow.Role(ctx, id.GetResource())
	if err != nil {
		return nil, nil, grpcError(err)
	}
	out, err := roleResource(found)
	return out, nil, grpcError(err)
}

func roleResource(r airflow.Role) (*v2.Resource, error) {
	description := "A role of this Airflow's own"
	if slices.Contains(builtIn, r.Name) {
		description = "One of the roles that every Airflow has"
	}
	return rs.NewRoleResource(r.Name, roleType, r.Name, nil, rs.WithDescription(description), rs.WithResourceProfile(map[string]any{
		"name":             r.Name,
		"built_in":         slices.Contains(builtIn, r.Name),
		"permission_count": len(r.Permissions),
	}))
}

// ref is a resource known by its id alone, which is all that a grant holds.
func ref(t *v2.ResourceType, name string) *v2.Resource {
	return v2.Resource_builder{Id: v2.ResourceId_builder{ResourceType: t.GetId(), Resource: name}.Build()}.Build()
}

// StaticEntitlements gives each role its one entitlement.
func (r role) StaticEntitlements(context.Context, rs.SyncOpAttrs) ([]*v2.Entitlement, *rs.SyncOpResults, error) {
	return []*v2.Entitlement{entitlement.NewAssignmentEntitlement(nil, assigned,
		entitlement.WithGrantableTo(userType),
		entitlement.WithDisplayName("Assigned"),
		entitlement.WithDescription("Has the role, and with it all that the role permits"),
	)}, nextPage(nil), nil
}

// Entitlements are the static one alone.
func (role) Entitlements(context.Context, *v2.Resource, rs.SyncOpAttrs) ([]*v2.Entitlement, *rs.SyncOpResults, error) {
	return nil, nil, nil
}

// GrantsForResourceType gives all assignments, a page of users at a time.
func (r role) GrantsForResourceType(ctx context.Context, _ string, opts rs.SyncOpAttrs) ([]*v2.Grant, *rs.SyncOpResults, error) {
	pos, err := parsePosition(opts)
	if err != nil {
		return nil, nil, err
	}
	page, err := r.users.brief(ctx, opts, pos.Cursor)
	if err != nil {
		return nil, nil, listError(err)
	}
	out, next := grantsOf(page, pos, assignments(page.Items), func(a assignment) *v2.Grant {
		return grant.NewGrant(ref(roleType, a.role), assigned, ref(userType, a.username))
	})
	return out, nextPage(next), nil
}

// assignment is that a user has a role.
type assignment struct{ username, role string }

func assignments(members []member) iter.Seq[assignment] {
	return func(yield func(assignment) bool) {
		for _, m := range members {
			for _, name := range m.Roles {
				if !yield(assignment{m.Username, name}) {
					return
				}
			}
		}
	}
}

// Grants gives the assignments of one role.
func (r role) Grants(ctx context.Context, of *v2.Resource, opts rs.SyncOpAttrs) ([]*v2.Grant, *rs.SyncOpResults, error) {
	return only(of, onResource)(r.GrantsForResourceType(ctx, roleType.GetId(), opts))
}

// onResource is the resource that a grant is on.
func onResource(g *v2.Grant) *v2.Resource { return g.GetEntitlement().GetResource() }

// only keeps, of what is found for a whole resource type, what is on one resource.
// So engines are answered that ask for one resource after the other; the SDK's
// own asks for the type.
func only[T any](of *v2.Resource, on func(T) *v2.Resource) func([]T, *rs.SyncOpResults, error) ([]T, *rs.SyncOpResults, error) {
	return func(all []T, next *rs.SyncOpResults, err error) ([]T, *rs.SyncOpResults, error) {
		return slices.DeleteFunc(all, func(one T) bool {
			return on(one).GetId().GetResource() != of.GetId().GetResource()
		}), next, err
	}
}

// Grant gives a user a role. It is done when Airflow, asked again, says that the
// user has it; to have had it before is success too.
func (r role) Grant(ctx context.Context, principal *v2.Resource, e *v2.Entitlement) ([]*v2.Grant, annotations.Annotations, error) {
	name, username, err := r.parties(principal, e)
	if err != nil {
		return nil, nil, err
	}
	if name == adminRole {
		r.guarded.Lock()
		defer r.guarded.Unlock()
	}
	before, _, err := r.airflow.ChangeRoles(ctx, username, func(u airflow.User) ([]string, error) {
		if err := checkSpelling(u, username); err != nil {
			return nil, err
		}
		if u.HasRole(name) {
			return u.Roles, nil
		}
		return append(slices.Clone(u.Roles), name), nil
	})
	if err != nil {
		return nil, nil, grpcError(err)
	}
	var annos annotations.Annotations
	if before.HasRole(name) {
		annos.Append(&v2.GrantAlreadyExists{})
	}
	return []*v2.Grant{grant.NewGrant(e.GetResource(), assigned, principal)}, annos, nil
}

// Revoke takes a role from a user. It is done when Airflow, asked again, says
// that the user doesn't have it; not to have had it, or not to be there at all,
// is success too.
func (r role) Revoke(ctx context.Context, g *v2.Grant) (annotations.Annotations, error) {
	name, username, err := r.parties(g.GetPrincipal(), g.GetEntitlement())
	if err != nil {
		return nil, err
	}
	if name == adminRole {
		r.guarded.Lock()
		defer r.guarded.Unlock()
	}
	before, _, err := r.airflow.ChangeRoles(ctx, username, func(u airflow.User) ([]string, error) {
		if err := checkSpelling(u, username); err != nil || !u.HasRole(name) {
			return u.Roles, err
		}
		remaining := slices.DeleteFunc(slices.Clone(u.Roles), func(role string) bool { return role == name })
		return remaining, r.guard(ctx, u, remaining)
	})
	var annos annotations.Annotations
	switch {
	case airflow.Is(err, airflow.NotFound):
		annos.Append(&v2.GrantAlreadyRevoked{})
		return annos, nil
	case err != nil:
		return nil, grpcError(err)
	case !before.HasRole(name):
		annos.Append(&v2.GrantAlreadyRevoked{})
	}
	return annos, nil
}

// parties takes role and username from what the SDK hands over.
func (r role) parties(principal *v2.Resource, e *v2.Entitlement) (name, username string, err error) {
	if t := principal.GetId().GetResourceType(); t != userType.GetId() {
		return "", "", status.Errorf(codes.InvalidArgument, "baton-airflow: only a user can have a role, not a %q: nothing was changed", t)
	}
	if t := e.GetResource().GetId().GetResourceType(); t != roleType.GetId() {
		return "", "", status.Errorf(codes.InvalidArgument, "baton-airflow: only a role can be given to a user, not a %q: change what its role permits in Airflow", t)
	}
	name, username = e.GetResource().GetId().GetResource(), principal.GetId().GetResource()
	if err := airflow.CheckName("role", name); err != nil {
		return "", "", grpcError(err)
	}
	return name, username, grpcError(airflow.CheckName("user", username))
}

// Create makes a role. Its name is the resource's id, or else its display name;
// the key "permissions" of its profile may list what it permits, each as
// "can_read on DAGs".
func (r role) Create(ctx context.Context, wanted *v2.Resource) (*v2.Resource, annotations.Annotations, error) {
	want := airflow.Role{Name: cmp.Or(wanted.GetId().GetResource(), wanted.GetDisplayName())}
	permissions, err := texts("permissions", rs.GetProfile(wanted))
	if err != nil {
		return nil, nil, err
	}
	for _, text := range permissions {
		p, err := airflow.ParsePermission(text)
		if err != nil {
			return nil, nil, status.Errorf(codes.InvalidArgument, "baton-airflow: %v: the role %s was not created", err, want.Name)
		}
		want.Permissions = append(want.Permissions, p)
	}
	made, err := r.airflow.CreateRole(ctx, want)
	if err != nil {
		return nil, nil, grpcError(err)
	}
	out, err := roleResource(made)
	return out, nil, grpcError(err)
}

// Delete removes a role, and so takes it from everybody. A role that is gone is success.
func (r role) Delete(ctx context.Context, id, _ *v2.ResourceId) (annotations.Annotations, error) {
	name := id.GetResource()
	// Some databases find a role whatever the case of its name.
	if slices.ContainsFunc(builtIn, func(role string) bool { return strings.EqualFold(role, name) }) {
		return nil, refused(name + " is one of Airflow's built-in roles: it would come back, without those who have it")
	}
	r.guarded.Lock()
	defer r.guarded.Unlock()
	self, err := r.self(ctx)
	if err != nil {
		return nil, grpcError(err)
	}
	if self.HasRole(name) {
		remaining := slices.DeleteFunc(slices.Clone(self.Roles), func(role string) bool { return role == name })
		if err := r.guard(ctx, self, remaining); err != nil {
			return nil, grpcError(err)
		}
	}
	if err := r.airflow.DeleteRole(ctx, name); err != nil && !airflow.Is(err, airflow.NotFound) {
		return nil, grpcError(err)
	}
	return nil, nil
}
