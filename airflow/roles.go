package airflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
)

// Permission is the right to do an action on a resource: (can_edit, DAGs).
type Permission struct {
	Action, Resource string
}

func (p Permission) String() string { return p.Action + " on " + p.Resource }

// ParsePermission reads what [Permission.String] writes: "can_edit on DAGs".
func ParsePermission(s string) (Permission, error) {
	action, resource, ok := strings.Cut(s, " on ")
	if !ok || action == "" || resource == "" {
		return Permission{}, fmt.Errorf("%q is no permission: write it as \"can_read on DAGs\"", s)
	}
	return Permission{Action: action, Resource: resource}, nil
}

// Role is a named set of permissions.
type Role struct {
	Name        string
	Permissions []Permission
}

type wirePermission struct {
	Action   wireName `json:"action"`
	Resource wireName `json:"resource"`
	// Name is set instead of both before FAB 3.3, in the list of permissions: it
	// is the action's.
	Name string `json:"name,omitempty"`
}

func (w wirePermission) permission() (Permission, error) {
	switch {
	case w.Action.Name != "" && w.Resource.Name != "":
		return Permission{Action: w.Action.Name, Resource: w.Resource.Name}, nil
	case w.Name != "":
		return Permission{Action: w.Name}, nil
	}
	return Permission{}, errors.New("a permission without an action or a resource")
}

type wireRole struct {
	Name    string           `json:"name"`
	Actions []wirePermission `json:"actions"`
}

func (w wireRole) role() (Role, error) {
	switch {
	case w.Name == "":
		return Role{}, errors.New("a role without a name")
	case w.Actions == nil:
		return Role{}, fmt.Errorf("role %q without the list of what it permits", w.Name)
	}
	r := Role{Name: w.Name, Permissions: make([]Permission, len(w.Actions))}
	for i, a := range w.Actions {
		var err error
		if r.Permissions[i], err = a.permission(); err != nil {
			return Role{}, fmt.Errorf("role %q: %w", w.Name, err)
		}
	}
	return r, nil
}

var roleList = list[Role]{
	call: call{
		op: "list roles", method: http.MethodGet, endpoint: roles, path: []string{"auth", "fab", "v1", "roles"},
		needs: Permission{Action: "can_read", Resource: "Roles"},
	},
	order: "role_id", // grows: new roles come last
	key:   func(r Role) string { return r.Name },
	fetch: func(ctx context.Context, c *Client, call call) ([]Role, int, error) {
		var answer struct {
			Roles []wireRole `json:"roles"`
			Total *int       `json:"total_entries"`
		}
		if err := c.do(ctx, call, &answer); err != nil {
			return nil, 0, err
		}
		return items(call, answer.Roles, answer.Total, wireRole.role)
	},
}

// RolesPage reads the part of the list of roles at cur.
func (c *Client) RolesPage(ctx context.Context, cur Cursor) (Page[Role], error) {
	return roleList.page(ctx, c, cur)
}

// Roles yields every role once.
func (c *Client) Roles(ctx context.Context) iter.Seq2[Role, error] { return roleList.all(ctx, c) }

// Role reads one role, by its exact name.
func (c *Client) Role(ctx context.Context, name string) (Role, error) {
	op := "read role " + name
	if err := CheckName("role", name); err != nil {
		return Role{}, err
	}
	var answer wireRole
	err := c.do(ctx, call{
		op: op, method: http.MethodGet, endpoint: roles, path: []string{"auth", "fab", "v1", "roles", name}, one: true,
		needs: Permission{Action: "can_read", Resource: "Roles"},
	}, &answer)
	if err != nil {
		return Role{}, err
	}
	r, err := answer.role()
	if err != nil {
		return Role{}, &Error{Kind: Precondition, Op: op, Err: err}
	}
	return r, nil
}

// CreateRole makes a role and reads it back. Its permissions' actions and
// resources must exist in Airflow. A role of that name is an error of the kind
// Conflict.
func (c *Client) CreateRole(ctx context.Context, r Role) (Role, error) {
	op := "create role " + r.Name
	if err := CheckName("role", r.Name); err != nil {
		return Role{}, err
	}
	w := wireRole{Name: r.Name, Actions: []wirePermission{}}
	for _, p := range r.Permissions {
		w.Actions = append(w.Actions, wirePermission{Action: wireName{p.Action}, Resource: wireName{p.Resource}})
	}
	var ignored json.RawMessage // older versions say {}: it is read back
	if err := c.do(ctx, call{
		op: op, method: http.MethodPost, endpoint: roles, path: []string{"auth", "fab", "v1", "roles"}, body: w,
		needs: Permission{Action: "can_create", Resource: "Roles"},
	}, &ignored); err != nil {
		if Is(err, Unavailable) {
			return Role{}, fmt.Errorf("%w: it isn't known whether the role was created, look before you try again", err)
		}
		return Role{}, err
	}
	made, err := c.Role(ctx, r.Name)
	if err != nil {
		return Role{}, fmt.Errorf("the role %s was created, but not read back: %w", r.Name, err)
	}
	for _, p := range r.Permissions {
		if !slices.Contains(made.Permissions, p) {
			return made, &Error{Kind: Moved, Op: op, Hint: "the role was created without " + p.String()}
		}
	}
	return made, nil
}

// DeleteRole removes a role, and with it everybody's assignment to it, and makes
// sure that it is gone. One that isn't there is an error of the kind NotFound.
func (c *Client) DeleteRole(ctx context.Context, name string) error {
	op := "delete role " + name
	if err := CheckName("role", name); err != nil {
		return err
	}
	err := c.deleteAndLook(ctx, call{
		op: op, method: http.MethodDelete, endpoint: roles, path: []string{"auth", "fab", "v1", "roles", name}, one: true,
		needs: Permission{Action: "can_delete", Resource: "Roles"},
	}, func() error { _, err := c.Role(ctx, name); return err })
	if e := new(Error); errors.As(err, &e) && e.Status == http.StatusInternalServerError {
		e.Hint = "the role is still there: FAB 3.0.2 to 3.5 can't delete roles by their API, 3.6 can"
	}
	return err
}

// permissionList asks for another right since FAB 3.3.
func (s Server) permissionList() list[Permission] {
	needs := Permission{Action: "can_read", Resource: "Permissions"}
	if s.bearer[permissions] {
		needs.Resource = "Roles"
	}
	return list[Permission]{
		call: call{
			op: "list permissions", method: http.MethodGet, endpoint: permissions, path: []string{"auth", "fab", "v1", "permissions"},
			needs: needs,
		},
		key: Permission.String,
		fetch: func(ctx context.Context, c *Client, call call) ([]Permission, int, error) {
			var answer struct {
				Actions []wirePermission `json:"actions"`
				Total   *int             `json:"total_entries"`
			}
			if err := c.do(ctx, call, &answer); err != nil {
				return nil, 0, err
			}
			return items(call, answer.Actions, answer.Total, wirePermission.permission)
		},
	}
}

// Permissions yields every permission that Airflow knows. Before FAB 3.3 it
// tells only the actions; Resource is then empty.
func (c *Client) Permissions(ctx context.Context) iter.Seq2[Permission, error] {
	return func(yield func(Permission, error) bool) {
		s, err := c.routes(ctx)
		if err != nil {
			yield(Permission{}, err)
			return
		}
		s.permissionList().all(ctx, c)(yield)
	}
}
