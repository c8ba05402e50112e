package connector

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"airlock/airflow"
)

// The permissions the connector uses. All but the first two are needed only for
// what they are named after.
var (
	readUsers   = airflow.Permission{Action: "can_read", Resource: "Users"}
	readRoles   = airflow.Permission{Action: "can_read", Resource: "Roles"}
	readDAGs    = airflow.Permission{Action: "can_read", Resource: "DAGs"}
	readEvents  = airflow.Permission{Action: "can_read", Resource: "Audit Logs"}
	editUsers   = airflow.Permission{Action: "can_edit", Resource: "Users"}
	createUsers = airflow.Permission{Action: "can_create", Resource: "Users"}
	deleteUsers = airflow.Permission{Action: "can_delete", Resource: "Users"}
	createRoles = airflow.Permission{Action: "can_create", Resource: "Roles"}
	deleteRoles = airflow.Permission{Action: "can_delete", Resource: "Roles"}

	provisioning = []airflow.Permission{editUsers, createUsers, deleteUsers, createRoles, deleteRoles}
	used         = append([]airflow.Permission{readUsers, readRoles, readDAGs, readEvents}, provisioning...)
)

// adminRole is the role that may do everything, and whose last active holder
// keeps it.
const adminRole = "Admin"

// builtIn are the roles that Airflow makes itself, and makes again when they are
// gone, without those who had them.
var builtIn = []string{adminRole, "Op", "User", "Viewer", "Public"}

// needed are the permissions without which no sync works.
func (c *Connector) needed() []airflow.Permission {
	if c.skipPermissions {
		return []airflow.Permission{readUsers, readRoles}
	}
	return []airflow.Permission{readUsers, readRoles, readDAGs}
}

// rights are what an account may do: the sum of its roles' permissions.
type rights map[airflow.Permission]bool

// lacks are those of the permissions that aren't among the rights.
func (r rights) lacks(permissions []airflow.Permission) []airflow.Permission {
	var out []airflow.Permission
	for _, p := range permissions {
		if !r[p] {
			out = append(out, p)
		}
	}
	return out
}

// missing is the error that names what the account lacks.
func (r rights) missing(needed []airflow.Permission) error {
	lacks := r.lacks(needed)
	if len(lacks) == 0 {
		return nil
	}
	words := make([]string, len(lacks))
	for i, p := range lacks {
		words[i] = p.String()
	}
	hint := "give it a role that has " + strings.Join(words, " and ")
	if slices.Contains(lacks, readDAGs) {
		hint += " (can_read on DAGs is for the permissions on each DAG: --sync-permissions=false does without)"
	}
	return &airflow.Error{Kind: airflow.Forbidden, Op: "look at the account's own permissions", Hint: hint, Needs: lacks[0]}
}

// name is what the connector signs in as: a username or an e-mail address.
func (c *Connector) name(ctx context.Context) (string, error) {
	if !c.airflow.TokenGiven() {
		return c.username, nil
	}
	owner, err := c.airflow.Me(ctx)
	if err != nil {
		return "", err
	}
	switch {
	case owner == "" && c.username == "":
		return "", &airflow.Error{
			Kind: airflow.Precondition, Op: lookAtSelf,
			Hint: "whose token it is isn't known: give --airflow-username with --airflow-token",
		}
	case owner == "":
		return c.username, nil // this Airflow doesn't tell, so the settings do
	case c.username != "" && !strings.EqualFold(owner, c.username):
		return "", &airflow.Error{
			Kind: airflow.Precondition, Op: lookAtSelf,
			Hint: fmt.Sprintf("the token belongs to %s, not to %s: give the --airflow-username it belongs to, or none (nothing was changed)", owner, c.username),
		}
	}
	return owner, nil
}

const lookAtSelf = "look at the connector's own account"

// isNamed reports whether a user is the one who signs in by that name. Airflow
// takes the username, whatever its case, and the e-mail address.
func isNamed(u airflow.User, name string) bool {
	return name != "" && (strings.EqualFold(u.Username, name) || strings.EqualFold(u.Email, name))
}

// isSelf reports whether u is the account the connector works as.
func (c *Connector) isSelf(ctx context.Context, u airflow.User) (bool, error) {
	name, err := c.name(ctx)
	return isNamed(u, name), err
}

// self reads the account the connector works as.
func (c *Connector) self(ctx context.Context) (airflow.User, error) {
	name, err := c.name(ctx)
	if err != nil {
		return airflow.User{}, err
	}
	u, err := c.airflow.User(ctx, name)
	if !airflow.Is(err, airflow.NotFound) {
		return u, err
	}
	for u, err := range c.airflow.Users(ctx) {
		if err != nil {
			return airflow.User{}, err
		}
		if isNamed(u, name) {
			return u, nil
		}
	}
	return airflow.User{}, &airflow.Error{
		Kind: airflow.Precondition, Op: lookAtSelf,
		Hint: fmt.Sprintf("there is no account %q in Airflow's own list of users: use an account that is kept there", name),
	}
}

// rightsOf adds up what roles permit. A role that is gone permits nothing.
func (c *Connector) rightsOf(ctx context.Context, roles []string) (rights, error) {
	sum := rights{}
	for _, name := range roles {
		if airflow.CheckName("role", name) != nil {
			continue // it can't be read; what it permits comes on top
		}
		role, err := c.airflow.Role(ctx, name)
		if airflow.Is(err, airflow.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, p := range role.Permissions {
			sum[p] = true
		}
	}
	return sum, nil
}

// ownRights are those of the connector's own account.
func (c *Connector) ownRights(ctx context.Context) (rights, error) {
	self, err := c.self(ctx)
	if err != nil {
		return nil, err
	}
	return c.rightsOf(ctx, self.Roles)
}

// guard refuses a change after which u would have only the remaining roles (or,
// deleted, would be gone), if that took Airflow's last active admin, or from the
// connector's own account what it works with. Whoever changes who is an admin
// holds c.guarded.
func (c *Connector) guard(ctx context.Context, u airflow.User, remaining []string) error {
	if u.HasRole(adminRole) && u.Active && !slices.Contains(remaining, adminRole) {
		other, err := c.otherActiveAdmin(ctx, u.Username)
		if err != nil {
			return err
		}
		if !other {
			return refused(u.Username + " is the last active admin of this Airflow, make somebody else an admin first")
		}
	}
	self, err := c.isSelf(ctx, u)
	if err != nil || !self {
		return err
	}
	before, err := c.rightsOf(ctx, u.Roles)
	if err != nil {
		return err
	}
	after, err := c.rightsOf(ctx, remaining)
	if err != nil {
		return err
	}
	var lost []string
	for _, p := range used {
		if before[p] && !after[p] {
			lost = append(lost, p.String())
		}
	}
	if len(lost) > 0 {
		return refused(u.Username + " is the connector's own account and would lose " + strings.Join(lost, ", "))
	}
	return nil
}

// otherActiveAdmin looks through the users until it finds an active admin but
// that one.
func (c *Connector) otherActiveAdmin(ctx context.Context, but string) (bool, error) {
	for u, err := range c.airflow.Users(ctx) {
		if err != nil {
			return false, err
		}
		if u.Username != but && u.Active && u.HasRole(adminRole) {
			return true, nil
		}
	}
	return false, nil
}
