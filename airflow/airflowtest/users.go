package airflowtest

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// userRoutes are the endpoints of users below a prefix.
func (s *Server) userRoutes(prefix string) []route {
	list, one, flask := prefix+"/users", prefix+"/users/{username}", !s.Profile.FastAPIUsers
	return []route{
		{method: "GET", path: list, flask: flask, action: "can_read", resource: "Users", params: listParams, handle: s.listUsers},
		{method: "POST", path: list, flask: flask, action: "can_create", resource: "Users", schema: userSchema, handle: s.createUser},
		{method: "GET", path: one, flask: flask, action: "can_read", resource: "Users", handle: s.ofUser(s.getUser)},
		{method: "PATCH", path: one, flask: flask, action: "can_edit", resource: "Users", schema: userPatchSchema, handle: s.ofUser(s.patchUser)},
		{method: "DELETE", path: one, flask: flask, action: "can_delete", resource: "Users", handle: s.ofUser(s.deleteUser)},
	}
}

var listParams = []string{"limit", "offset", "order_by"}

type nameJSON struct {
	Name string `json:"name"`
}

type userJSON struct {
	Username       string     `json:"username"`
	Email          string     `json:"email"`
	FirstName      string     `json:"first_name"`
	LastName       string     `json:"last_name"`
	Roles          []nameJSON `json:"roles"`
	Active         bool       `json:"active"`
	LastLogin      *string    `json:"last_login"`
	LoginCount     *int       `json:"login_count"`
	FailLoginCount *int       `json:"fail_login_count"`
	CreatedOn      *string    `json:"created_on"`
	ChangedOn      *string    `json:"changed_on"`
}

func (s *Server) userJSON(u user) userJSON {
	out := userJSON{
		Username: u.username, Email: u.email, FirstName: u.firstName, LastName: u.lastName,
		Active: u.active, Roles: []nameJSON{}, LoginCount: u.logins, FailLoginCount: u.fails,
		LastLogin: s.naive(u.lastLogin), CreatedOn: s.naive(u.created), ChangedOn: s.naive(u.created),
	}
	for _, r := range u.heldRoles() {
		out.Roles = append(out.Roles, nameJSON{r.name})
	}
	return out
}

// naive is a time as the server's clock on the wall shows it, without saying in
// which zone; null for none. Python leaves out a fraction of zero.
func (s *Server) naive(at time.Time) *string {
	if at.IsZero() {
		return nil
	}
	at = at.In(s.opts.Zone).Truncate(time.Microsecond)
	layout := "2006-01-02T15:04:05.000000"
	if at.Nanosecond() == 0 {
		layout = "2006-01-02T15:04:05"
	}
	text := at.Format(layout)
	return &text
}

// userColumns are what users can be ordered by, besides id. Flask knows some of
// them, and no descending order.
var (
	userColumns = map[string]func(user) string{
		"username":   func(u user) string { return u.username },
		"email":      func(u user) string { return u.email },
		"first_name": func(u user) string { return u.firstName },
		"last_name":  func(u user) string { return u.lastName },
		"active":     func(u user) string { return strconv.FormatBool(u.active) },
	}
	flaskColumns  = []string{"id", "first_name", "last_name", "email"}
	brokenColumns = []string{"user_name", "is_active", "role"} // allowed, but the table doesn't have them
)

func (s *Server) listUsers(c *call) answer {
	column, descending := c.order("id")
	key := userColumns[column]
	switch {
	case c.flask && !descending && slices.Contains(brokenColumns, column):
		return answer{status: 500, html: errorPage}
	case c.flask && (descending || !slices.Contains(flaskColumns, column)), key == nil && column != "id" && column != "user_id":
		return s.badOrder(c)
	}
	rows := s.store.users
	if key != nil {
		rows = slices.Clone(rows)
		slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(key(s.store.of(a)), key(s.store.of(b))) })
	}
	if descending {
		rows = slices.Clone(rows)
		slices.Reverse(rows)
	}
	return paged(s, c, "users", rows, func(r row) userJSON { return s.userJSON(s.store.of(r)) })
}

// ofUser is for the endpoints of one user.
func (s *Server) ofUser(handle func(*call, user) answer) func(*call) answer {
	return func(c *call) answer {
		u, found := s.store.find(c.name)
		if !found {
			return s.fail(c, 404, "User not found", "The User with username `"+c.name+"` was not found")
		}
		return handle(c, u)
	}
}

func (s *Server) getUser(_ *call, u user) answer { return ok(s.userJSON(u)) }

// findRoles resolves the roles of a body. doubled tells whether one is named
// twice.
func (s *Server) findRoles(c *call) (roles []*role, doubled bool, a answer) {
	var missing []string
	for _, object := range objects(c.body["roles"]) {
		r := s.store.role(nameOf(object))
		switch {
		case r == nil:
			missing = append(missing, nameOf(object))
		case slices.Contains(roles, r):
			doubled = true
		default:
			roles = append(roles, r)
		}
	}
	if len(missing) > 0 {
		a = s.fail(c, 400, "Bad Request", "Unknown roles: "+quoted(missing))
	}
	return roles, doubled, a
}

func (c *call) text(name string) string {
	text, _ := c.body[name].(string)
	return text
}

func (s *Server) createUser(c *call) answer {
	if _, found := s.store.find(c.text("username")); found {
		return s.fail(c, 409, "Conflict", "Username `"+c.text("username")+"` already exists. Use PATCH to update.")
	}
	if _, found := s.store.findEmail(c.text("email")); found {
		return s.fail(c, 409, "Conflict", "The email `"+c.text("email")+"` is already taken.")
	}
	roles, doubled, a := s.findRoles(c)
	if a.status != 0 {
		return a
	}
	if standard := s.store.role(s.Profile.DefaultRole); len(roles) == 0 && standard != nil {
		roles = append(roles, standard)
	}
	switch {
	case len(roles) == 0 && !c.flask:
		return s.fail(c, 500, "", "Default registration role is not configured or not found.")
	case len(roles) == 0, doubled && s.Profile.DoubledRolesFail:
		return s.fail(c, 500, "Internal Server Error", "Failed to add user `"+c.text("username")+"`.")
	}
	return ok(s.userJSON(s.store.save(user{
		username: c.text("username"), email: c.text("email"), firstName: c.text("first_name"), lastName: c.text("last_name"),
		password: c.text("password"), roles: roles, active: true, created: s.now(),
	})))
}

func (s *Server) patchUser(c *call, u user) answer {
	// Compared with the path, letter by letter: another spelling of the same name
	// finds the user itself, and is refused.
	if name := c.text("username"); name != "" && name != c.name {
		if _, taken := s.store.find(name); taken {
			return s.fail(c, 409, "Conflict", "The username `"+name+"` already exists")
		}
	}
	if email := c.text("email"); email != "" && email != u.email {
		if _, taken := s.store.findEmail(email); taken {
			return s.fail(c, 409, "Conflict", "The email `"+email+"` already exists")
		}
	}
	fields, a := s.userMask(c)
	if a.status != 0 {
		return a
	}
	before := u
	for _, name := range fields {
		if _, given := c.body[name]; !given {
			continue
		}
		if name == "roles" {
			var doubled bool
			if u.roles, doubled, a = s.findRoles(c); a.status != 0 {
				return a
			}
			if doubled && s.Profile.DoubledRolesFail {
				return ok(s.userJSON(before)) // the save fails, unnoticed
			}
			continue
		}
		*u.field(name) = c.text(name)
	}
	return ok(s.userJSON(s.store.save(u)))
}

func (u *user) field(name string) *string {
	return map[string]*string{
		"username": &u.username, "email": &u.email, "first_name": &u.firstName, "last_name": &u.lastName, "password": &u.password,
	}[name]
}

// userMask are the fields to change. FastAPI knows the names that may be in
// update_mask, Flask takes those that are in the body.
func (s *Server) userMask(c *call) ([]string, answer) {
	all := append([]string{"roles"}, userText...)
	names, given := c.mask()
	if !given {
		return all, answer{}
	}
	unknown := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, inBody := c.body[name]
		return slices.Contains(all, name) && (inBody || !c.flask)
	})
	if len(unknown) > 0 {
		return nil, s.fail(c, 400, "Bad Request", "Unknown update masks: "+quoted(unknown))
	}
	return names, answer{}
}

func (s *Server) deleteUser(_ *call, u user) answer {
	s.store.remove(u)
	return answer{status: 204}
}
