package airflowtest

import (
	"cmp"
	"encoding/json"
	"slices"
)

// roleRoutes are the endpoints of roles and permissions below a prefix.
func (s *Server) roleRoutes(prefix string) []route {
	list, one, flask := prefix+"/roles", prefix+"/roles/{name}", !s.Profile.FastAPIRoles
	edit := "can_edit"
	if s.Profile.RolePatch == Forbidden {
		edit = "PATCH" // an action that nobody can have
	}
	permissions := route{method: "GET", path: prefix + "/permissions", action: "can_read", resource: "Roles", handle: s.permissions}
	if !s.Profile.FastAPIPermissions {
		permissions.flask, permissions.resource, permissions.params = true, "Permissions", []string{"limit", "offset"}
	}
	return []route{
		{method: "GET", path: list, flask: flask, action: "can_read", resource: "Roles", params: listParams, handle: s.listRoles},
		{method: "POST", path: list, flask: flask, action: "can_create", resource: "Roles", schema: roleSchema, handle: s.createRole},
		{method: "GET", path: one, flask: flask, action: "can_read", resource: "Roles", handle: s.ofRole(s.getRole)},
		{method: "PATCH", path: one, flask: flask, action: edit, resource: "Roles", schema: roleSchema, handle: s.ofRole(s.patchRole)},
		{method: "DELETE", path: one, flask: flask, action: "can_delete", resource: "Roles", handle: s.ofRole(s.deleteRole)},
		permissions,
	}
}

type permissionJSON struct {
	Action   nameJSON `json:"action"`
	Resource nameJSON `json:"resource"`
}

type roleJSON struct {
	Name    string           `json:"name"`
	Actions []permissionJSON `json:"actions"`
}

func (p Permission) json() permissionJSON {
	return permissionJSON{nameJSON{p.Action}, nameJSON{p.Resource}}
}

func permissionsJSON(perms []Permission) []permissionJSON {
	out := make([]permissionJSON, len(perms))
	for i, p := range perms {
		out[i] = p.json()
	}
	return out
}

func (r *role) json() roleJSON { return roleJSON{r.name, permissionsJSON(r.perms)} }

func (s *Server) listRoles(c *call) answer {
	column, descending := c.order("name")
	if column != "name" && column != "role_id" || c.flask && descending {
		return s.badOrder(c)
	}
	roles := slices.Clone(s.store.roles)
	if column == "name" {
		slices.SortFunc(roles, func(a, b *role) int { return cmp.Compare(a.name, b.name) })
	}
	if descending {
		slices.Reverse(roles)
	}
	return paged(s, c, "roles", roles, (*role).json)
}

// ofRole is for the endpoints of one role.
func (s *Server) ofRole(handle func(*call, *role) answer) func(*call) answer {
	return func(c *call) answer {
		r := s.store.role(c.name)
		switch {
		case r != nil:
			return handle(c, r)
		case c.flask:
			return s.fail(c, 404, "Role not found", "Role with name '"+c.name+"' was not found")
		}
		return s.fail(c, 404, "", "Role with name '"+c.name+"' does not exist.")
	}
}

func (s *Server) getRole(_ *call, r *role) answer { return ok(r.json()) }

// permissionsOf reads the actions of a body. Each action and each resource must
// be known, the pair may be new.
func (s *Server) permissionsOf(c *call) (perms []Permission, a answer) {
	for _, object := range objects(c.body["actions"]) {
		p := Permission{nameOf(object["action"]), nameOf(object["resource"])}
		switch {
		case !slices.Contains(s.store.actions, p.Action):
			return nil, s.fail(c, 400, "Bad Request", "The specified action: '"+p.Action+"' was not found")
		case !s.store.resources[p.Resource]:
			return nil, s.fail(c, 400, "Bad Request", "The specified resource: '"+p.Resource+"' was not found")
		}
		perms = append(perms, p)
	}
	return perms, answer{}
}

func (s *Server) createRole(c *call) answer {
	name := c.text("name")
	if s.store.role(name) != nil {
		return s.fail(c, 409, "Conflict", "Role with name '"+name+"' already exists; please update with the PATCH endpoint")
	}
	if _, given := c.body["actions"]; !given && c.flask {
		return answer{status: 500, html: errorPage} // it doesn't expect that
	}
	perms, a := s.permissionsOf(c)
	if a.status != 0 {
		return a
	}
	r := s.store.addRole(name, perms)
	if c.flask {
		return ok(struct{}{}) // it answers with the role that it looked for before
	}
	return ok(r.json())
}

func (s *Server) patchRole(c *call, r *role) answer {
	names, _ := c.mask()
	if !c.r.URL.Query().Has("update_mask") || len(names) == 0 {
		names = []string{"name", "actions"}
	}
	for _, name := range names {
		if name != "name" && name != "actions" {
			return s.fail(c, 400, "Bad Request", "'"+name+"' in update_mask is unknown")
		}
	}
	_, given := c.body["actions"]
	replaces, masked := s.Profile.RolePatch == Replaces, slices.Contains(names, "actions")
	told := r.json()
	// What adds, adds in FastAPI even what the mask leaves out.
	if given && masked || !replaces && !c.flask {
		perms, a := s.permissionsOf(c)
		switch {
		case a.status != 0:
			return a
		case replaces:
			s.store.setPermissions(r, perms)
		default:
			s.store.addPermissions(r, perms...)
		}
		if masked { // what was asked for, not what is stored
			told.Actions = permissionsJSON(perms)
		}
	}
	if name := c.text("name"); slices.Contains(names, "name") && name != "" {
		r.name, told.Name = name, name
	}
	if c.flask {
		told = r.json()
	}
	return ok(told)
}

func (s *Server) deleteRole(c *call, r *role) answer {
	if s.Profile.RoleDeleteFails {
		return unhandled
	}
	s.store.removeRole(r)
	if c.flask {
		return answer{status: 204}
	}
	return ok(json.RawMessage("null"))
}

// permissions lists all pairs; Flask's lists the names of the actions only.
func (s *Server) permissions(c *call) answer {
	if c.flask {
		return paged(s, c, "actions", s.store.actions, func(name string) nameJSON { return nameJSON{name} })
	}
	pairs := slices.Clone(s.store.pairs)
	if column, descending := c.order("id"); s.Profile.OrdersPermissions {
		switch column {
		case "id":
		case "action_id":
			slices.SortStableFunc(pairs, func(a, b Permission) int { return cmp.Compare(a.Action, b.Action) })
		case "resource_id":
			slices.SortStableFunc(pairs, func(a, b Permission) int { return cmp.Compare(a.Resource, b.Resource) })
		default:
			return s.badOrder(c)
		}
		if descending {
			slices.Reverse(pairs)
		}
	}
	return paged(s, c, "actions", pairs, Permission.json)
}
