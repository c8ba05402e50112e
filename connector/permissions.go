package connector

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/types/entitlement"
	"github.com/conductorone/baton-sdk/pkg/types/grant"
	rs "github.com/conductorone/baton-sdk/pkg/types/resource"

	"airlock/airflow"
)

// perDAG are the two kinds of permissions on one DAG. One of FAB's permissions is
// an action on a resource; where the resource's name begins with the prefix, the
// rest of it is the DAG's id.
var perDAG = []struct {
	prefix string
	// slug begins the entitlement's slug, before the action.
	slug string
	// what the actions are done to, in words.
	what string
	// all is the resource on which the same permission is for all DAGs.
	all string
	// actions are those that FAB knows on all or on one.
	actions []string
}{
	{"DAG:", "", "the DAG", "DAGs", []string{"can_read", "can_edit", "can_delete"}},
	// A DAG's access_control can't give can_edit on its runs alone, all the same
	// it is had by who has it on the runs of all DAGs.
	{"DAG Run:", "run.", "runs of the DAG", "DAG Runs", []string{"can_read", "can_create", "can_edit", "can_delete", "menu_access"}},
}

// held is a permission that a role has: an action on a resource of FAB's.
type held struct{ role, resource, action string }

// permissionsOf are the permissions that roles have, in an order that stays.
func permissionsOf(roles []rolePermissions) iter.Seq[held] {
	return func(yield func(held) bool) {
		for _, r := range roles {
			for _, resource := range slices.Sorted(maps.Keys(r.On)) {
				for _, action := range r.On[resource] {
					if !yield(held{r.Name, resource, action}) {
						return
					}
				}
			}
		}
	}
}

// on is the resource that the permission is about, and the slug and the name of
// its entitlement there.
func (h held) on() (on *v2.Resource, slug, name string) {
	for _, kind := range perDAG {
		if dagID, ok := strings.CutPrefix(h.resource, kind.prefix); ok && dagID != "" {
			return ref(dagType, dagID), kind.slug + h.action, inWords(h.action, kind.what)
		}
	}
	return ref(resourceType, h.resource), h.action, inWords(h.action, h.resource)
}

// inWords says what one may do: "edit the DAG".
func inWords(action, what string) string {
	if action == "menu_access" {
		return "see the menu of " + what
	}
	return strings.ReplaceAll(strings.TrimPrefix(action, "can_"), "_", " ") + " " + what
}

var dagType = v2.ResourceType_builder{
	Id:          "dag",
	DisplayName: "DAG",
	Description: "A workflow; its entitlements are FAB's permissions on it (can_edit) and on its runs (run.can_create)",
	Annotations: typeAnnotations([]airflow.Permission{readDAGs, readRoles}, &v2.TypeScopedEntitlements{}, &v2.TypeScopedGrants{}),
}.Build()

var resourceType = v2.ResourceType_builder{
	Id:          "resource",
	DisplayName: "Airflow resource",
	Description: "What FAB's permissions are about, apart from single DAGs: Connections, Variables, all DAGs together",
	Annotations: typeAnnotations([]airflow.Permission{readRoles}, &v2.TypeScopedEntitlements{}, &v2.TypeScopedGrants{}),
}.Build()

// permissionEntitlement is the entitlement of one permission. It comes with a
// role and can't be granted by itself.
func permissionEntitlement(of *v2.Resource, slug, name string) *v2.Entitlement {
	return entitlement.NewPermissionEntitlement(of, slug,
		entitlement.WithGrantableTo(roleType, userType),
		entitlement.WithDisplayName(name),
		entitlement.WithDescription("May "+name+"; comes with roles"),
		entitlement.WithAnnotation(&v2.EntitlementImmutable{}),
	)
}

// byRole is the grant of a permission to a role, and through it to its members.
func byRole(of *v2.Resource, slug, roleName string) *v2.Grant {
	members := entitlement.NewEntitlementID(ref(roleType, roleName), assigned)
	return grant.NewGrant(of, slug, ref(roleType, roleName), grant.WithAnnotation(
		&v2.GrantImmutable{},
		v2.GrantExpandable_builder{EntitlementIds: []string{members}, Shallow: true, ResourceTypeIds: []string{userType.GetId()}}.Build(),
	))
}

// dag shows DAGs and what one may do with each.
type dag struct{ *Connector }

func (dag) ResourceType(context.Context) *v2.ResourceType { return dagType }

// dagsPage reads a page of DAGs, for an account that may read all of them: one
// that may read some is given a shorter list, without a word.
func (c *Connector) dagsPage(ctx context.Context, cur airflow.Cursor) (airflow.Page[airflow.DAG], error) {
	if cur.Page == 0 {
		own, err := c.ownRights(ctx)
		if err == nil {
			err = own.missing([]airflow.Permission{readDAGs})
		}
		if err != nil {
			return airflow.Page[airflow.DAG]{}, err
		}
	}
	page, err := c.airflow.DAGsPage(ctx, cur)
	if airflow.Is(err, airflow.Forbidden) {
		err = rights{}.missing([]airflow.Permission{readDAGs}) // it says how to do without
	}
	return page, err
}

// List gives the DAGs that Airflow lists, then those it doesn't but on which a
// role has a permission: it counts again as soon as the DAG comes back.
func (d dag) List(ctx context.Context, _ *v2.ResourceId, opts rs.SyncOpAttrs) ([]*v2.Resource, *rs.SyncOpResults, error) {
	pos, err := parsePosition(opts)
	if err != nil {
		return nil, nil, err
	}
	if pos.Part == 1 {
		return d.listUnlisted(ctx, opts, pos)
	}
	page, err := d.dags.whole(ctx, opts, pos.Cursor)
	if err != nil {
		return nil, nil, listError(err)
	}
	out := make([]*v2.Resource, len(page.Items))
	for i, item := range page.Items {
		if out[i], err = dagResource(item, true); err != nil {
			return nil, nil, listError(err)
		}
	}
	next := pos.after(page.Next)
	if next == nil {
		next = &position{Part: 1}
	}
	return out, nextPage(next), nil
}

func (d dag) listUnlisted(ctx context.Context, opts rs.SyncOpAttrs, pos position) ([]*v2.Resource, *rs.SyncOpResults, error) {
	page, err := d.roles.brief(ctx, opts, pos.Cursor)
	if err != nil {
		return nil, nil, listError(err)
	}
	unlisted := subjects(page.Items, dagType)
	for cur := new(airflow.Cursor); cur != nil && len(unlisted) > 0; {
		dags, err := d.dags.brief(ctx, opts, *cur) // from the session
		if err != nil {
			return nil, nil, listError(err)
		}
		for _, dagID := range dags.Items {
			delete(unlisted, dagID)
		}
		cur = dags.Next
	}
	var out []*v2.Resource
	for _, dagID := range slices.Sorted(maps.Keys(unlisted)) {
		r, err := dagResource(airflow.DAG{ID: dagID, Stale: true}, false)
		if err != nil {
			return nil, nil, listError(err)
		}
		out = append(out, r)
	}
	return out, nextPage(pos.after(page.Next)), nil
}

// subjects are the ids of the resources of a type that the roles' permissions are about.
func subjects(roles []rolePermissions, t *v2.ResourceType) map[string]bool {
	ids := map[string]bool{}
	for h := range permissionsOf(roles) {
		if on, _, _ := h.on(); on.GetId().GetResourceType() == t.GetId() {
			ids[on.GetId().GetResource()] = true
		}
	}
	return ids
}

func dagResource(d airflow.DAG, listed bool) (*v2.Resource, error) {
	name := d.Name
	if name == "" {
		name = d.ID
	}
	description := d.Description
	if !listed {
		description = "Airflow has no such DAG now, but roles still have permissions on it"
	}
	return rs.NewResource(name, dagType, d.ID, rs.WithDescription(description), rs.WithResourceProfile(map[string]any{
		"dag_id": d.ID,
		"owners": anys(d.Owners),
		"tags":   anys(d.Tags),
		"paused": d.Paused,
		"stale":  d.Stale,
		"listed": listed,
	}))
}

func anys(s []string) []any {
	out := make([]any, len(s))
	for i := range s {
		out[i] = s[i]
	}
	return out
}

// StaticEntitlements gives each DAG the permissions that Airflow knows for one.
func (dag) StaticEntitlements(context.Context, rs.SyncOpAttrs) ([]*v2.Entitlement, *rs.SyncOpResults, error) {
	var out []*v2.Entitlement
	for _, kind := range perDAG {
		for _, action := range kind.actions {
			out = append(out, permissionEntitlement(nil, kind.slug+action, inWords(action, kind.what)))
		}
	}
	return out, nil, nil
}

// EntitlementsForResourceType gives the permissions on single DAGs that Airflow
// itself doesn't know: somebody made them, and roles have them.
func (d dag) EntitlementsForResourceType(ctx context.Context, _ string, opts rs.SyncOpAttrs) ([]*v2.Entitlement, *rs.SyncOpResults, error) {
	out, next, err := d.entitlements(ctx, opts, dagType)
	return slices.DeleteFunc(out, func(e *v2.Entitlement) bool { return isStatic(e.GetSlug()) }), next, err
}

// isStatic reports whether every DAG has an entitlement of that slug.
func isStatic(slug string) bool {
	for _, kind := range perDAG {
		if action, ok := strings.CutPrefix(slug, kind.slug); ok && slices.Contains(kind.actions, action) {
			return true
		}
	}
	return false
}

// GrantsForResourceType gives the permissions that roles have on single DAGs,
// then those that reach every DAG from the permission on all of them.
func (d dag) GrantsForResourceType(ctx context.Context, _ string, opts rs.SyncOpAttrs) ([]*v2.Grant, *rs.SyncOpResults, error) {
	pos, err := parsePosition(opts)
	if err != nil {
		return nil, nil, err
	}
	if pos.Part == 1 {
		return d.grantsFromAll(ctx, opts, pos)
	}
	out, next, err := d.grants(ctx, opts, pos, dagType)
	if err != nil {
		return nil, nil, err
	}
	if next == nil {
		next = &position{Part: 1}
	}
	return out, nextPage(next), nil
}

func (d dag) grantsFromAll(ctx context.Context, opts rs.SyncOpAttrs, pos position) ([]*v2.Grant, *rs.SyncOpResults, error) {
	page, err := d.dags.brief(ctx, opts, pos.Cursor)
	if err != nil {
		return nil, nil, listError(err)
	}
	var out []*v2.Grant
	for _, dagID := range page.Items {
		for _, kind := range perDAG {
			all := ref(resourceType, kind.all)
			for _, action := range kind.actions {
				out = append(out, grant.NewGrant(ref(dagType, dagID), kind.slug+action, all, grant.WithAnnotation(
					&v2.GrantImmutable{},
					v2.GrantExpandable_builder{EntitlementIds: []string{entitlement.NewEntitlementID(all, action)}}.Build(),
				)))
			}
		}
	}
	return out, nextPage(pos.after(page.Next)), nil
}

// Entitlements gives those of one DAG, apart from the static ones.
func (d dag) Entitlements(ctx context.Context, of *v2.Resource, opts rs.SyncOpAttrs) ([]*v2.Entitlement, *rs.SyncOpResults, error) {
	return only(of, (*v2.Entitlement).GetResource)(d.EntitlementsForResourceType(ctx, dagType.GetId(), opts))
}

// Grants gives those of one DAG.
func (d dag) Grants(ctx context.Context, of *v2.Resource, opts rs.SyncOpAttrs) ([]*v2.Grant, *rs.SyncOpResults, error) {
	return only(of, onResource)(d.GrantsForResourceType(ctx, dagType.GetId(), opts))
}

// resource shows what permissions are about, apart from single DAGs.
type resource struct{ *Connector }

func (resource) ResourceType(context.Context) *v2.ResourceType { return resourceType }

// List gives the resources on which a role has a permission, and those that
// stand for all DAGs. Admin has a permission on each that Airflow knows.
func (r resource) List(ctx context.Context, _ *v2.ResourceId, opts rs.SyncOpAttrs) ([]*v2.Resource, *rs.SyncOpResults, error) {
	pos, err := parsePosition(opts)
	if err != nil {
		return nil, nil, err
	}
	page, err := r.roles.brief(ctx, opts, pos.Cursor)
	if err != nil {
		return nil, nil, listError(err)
	}
	names := subjects(page.Items, resourceType)
	for _, kind := range perDAG {
		names[kind.all] = true
	}
	var out []*v2.Resource
	for _, name := range slices.Sorted(maps.Keys(names)) {
		res, err := rs.NewResource(name, resourceType, name)
		if err != nil {
			return nil, nil, listError(err)
		}
		out = append(out, res)
	}
	return out, nextPage(pos.after(page.Next)), nil
}

// EntitlementsForResourceType gives each permission that a role has, and those
// for all DAGs even where no role has them.
func (r resource) EntitlementsForResourceType(ctx context.Context, _ string, opts rs.SyncOpAttrs) ([]*v2.Entitlement, *rs.SyncOpResults, error) {
	out, next, err := r.entitlements(ctx, opts, resourceType)
	if err != nil {
		return nil, nil, err
	}
	for _, kind := range perDAG {
		for _, action := range kind.actions {
			e := permissionEntitlement(ref(resourceType, kind.all), action, inWords(action, kind.all))
			if !slices.ContainsFunc(out, func(other *v2.Entitlement) bool { return other.GetId() == e.GetId() }) {
				out = append(out, e)
			}
		}
	}
	return out, next, nil
}

// GrantsForResourceType gives the permissions that roles have.
func (r resource) GrantsForResourceType(ctx context.Context, _ string, opts rs.SyncOpAttrs) ([]*v2.Grant, *rs.SyncOpResults, error) {
	pos, err := parsePosition(opts)
	if err != nil {
		return nil, nil, err
	}
	out, next, err := r.grants(ctx, opts, pos, resourceType)
	return out, nextPage(next), err
}

// Entitlements gives those of one resource.
func (r resource) Entitlements(ctx context.Context, of *v2.Resource, opts rs.SyncOpAttrs) ([]*v2.Entitlement, *rs.SyncOpResults, error) {
	return only(of, (*v2.Entitlement).GetResource)(r.EntitlementsForResourceType(ctx, resourceType.GetId(), opts))
}

// Grants gives those of one resource.
func (r resource) Grants(ctx context.Context, of *v2.Resource, opts rs.SyncOpAttrs) ([]*v2.Grant, *rs.SyncOpResults, error) {
	return only(of, onResource)(r.GrantsForResourceType(ctx, resourceType.GetId(), opts))
}

// entitlements are those of the permissions on resources of a type that roles on
// a page have, each one once.
func (c *Connector) entitlements(ctx context.Context, opts rs.SyncOpAttrs, t *v2.ResourceType) ([]*v2.Entitlement, *rs.SyncOpResults, error) {
	pos, err := parsePosition(opts)
	if err != nil {
		return nil, nil, err
	}
	page, err := c.roles.brief(ctx, opts, pos.Cursor)
	if err != nil {
		return nil, nil, listError(err)
	}
	var out []*v2.Entitlement
	seen := map[string]bool{}
	for h := range permissionsOf(page.Items) {
		on, slug, name := h.on()
		e := permissionEntitlement(on, slug, name)
		if on.GetId().GetResourceType() == t.GetId() && !seen[e.GetId()] {
			seen[e.GetId()] = true
			out = append(out, e)
		}
	}
	return out, nextPage(pos.after(page.Next)), nil
}

// grants are the permissions on resources of a type that roles on a page have.
// The position after them is nil at the end of the list.
func (c *Connector) grants(ctx context.Context, opts rs.SyncOpAttrs, pos position, t *v2.ResourceType) ([]*v2.Grant, *position, error) {
	page, err := c.roles.brief(ctx, opts, pos.Cursor)
	if err != nil {
		return nil, nil, listError(err)
	}
	out, next := grantsOf(page, pos, permissionsOf(page.Items), func(h held) *v2.Grant {
		if on, slug, _ := h.on(); on.GetId().GetResourceType() == t.GetId() {
			return byRole(on, slug, h.role)
		}
		return nil
	})
	return out, next, nil
}
