package airflowtest

import (
	"cmp"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// User is an account, for seeding and looking at. A user without a password
// can't sign in.
type User struct {
	Username, Email, FirstName, LastName string
	Password                             string
	Roles                                []string
	Active                               bool
	LastLogin, Created                   time.Time
	Logins, FailedLogins                 int
}

// Role is a role with all its permissions.
type Role struct {
	Name        string
	Permissions []Permission
}

// Permissions reads a list such as "can_read Users", "can_edit Users".
func Permissions(texts ...string) []Permission {
	out := make([]Permission, len(texts))
	for i, text := range texts {
		action, resource, _ := strings.Cut(text, " ")
		out[i] = Permission{action, resource}
	}
	return out
}

// PutUser adds a user, or replaces the one of that name. The roles must exist;
// it panics otherwise.
func (s *Server) PutUser(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, _ := s.store.find(u.Username)
	row := user{
		id: old.id, username: u.Username, email: cmp.Or(u.Email, u.Username+"@example.com"), firstName: u.FirstName, lastName: u.LastName,
		password: u.Password, roles: s.mustRoles(u.Roles), active: u.Active, lastLogin: u.LastLogin, created: u.Created,
	}
	if u.Created.IsZero() {
		row.created = s.now()
	}
	if u.Logins > 0 || u.FailedLogins > 0 {
		row.logins, row.fails = &u.Logins, &u.FailedLogins
	}
	s.store.save(row)
}

func (s *Server) mustRoles(names []string) (roles []*role) {
	for _, name := range names {
		r := s.store.role(name)
		if r == nil {
			panic(fmt.Sprintf("airflowtest: there is no role %q", name))
		}
		roles = append(roles, r)
	}
	return roles
}

func (s *Server) mustFind(username string) user {
	u, found := s.store.find(username)
	if !found {
		panic(fmt.Sprintf("airflowtest: there is no user %q", username))
	}
	return u
}

// change changes an existing user; it panics when there is none.
func (s *Server) change(username string, f func(*user)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.mustFind(username)
	f(&u)
	s.store.save(u)
}

// SetRoles gives an existing user exactly these roles.
func (s *Server) SetRoles(username string, roles ...string) {
	s.change(username, func(u *user) { u.roles = s.mustRoles(roles) })
}

// SetActive switches an existing user on or off, as only Airflow's own pages can.
func (s *Server) SetActive(username string, active bool) {
	s.change(username, func(u *user) { u.active = active })
}

// SetPassword changes the password of an existing user.
func (s *Server) SetPassword(username, password string) {
	s.change(username, func(u *user) { u.password = password })
}

// DeleteUser deletes a user, if there is one.
func (s *Server) DeleteUser(username string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u, found := s.store.find(username); found {
		s.store.remove(u)
	}
}

// User returns a user, found by name in any case.
func (s *Server) User(username string) (User, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, found := s.store.find(username)
	return u.public(), found
}

// Roles are the names of the user's roles, in alphabetical order; nil when there
// is no such user.
func (s *Server) Roles(username string) []string {
	u, _ := s.User(username)
	slices.Sort(u.Roles)
	return u.Roles
}

// Users are all users in order of their ids.
func (s *Server) Users() []User {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]User, len(s.store.users))
	for i, r := range s.store.users {
		out[i] = s.store.of(r).public()
	}
	return out
}

func (u user) public() User {
	out := User{
		Username: u.username, Email: u.email, FirstName: u.firstName, LastName: u.lastName, Password: u.password, Active: u.active,
		LastLogin: u.lastLogin, Created: u.created, Logins: deref(u.logins), FailedLogins: deref(u.fails),
	}
	for _, r := range u.heldRoles() {
		out.Roles = append(out.Roles, r.name)
	}
	return out
}

// PutRole adds a role, or gives the one of that name exactly these permissions.
func (s *Server) PutRole(name string, perms ...Permission) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.store.role(name); r != nil {
		s.store.setPermissions(r, perms)
		return
	}
	s.store.addRole(name, perms)
}

// DeleteRole deletes a role, if there is one.
func (s *Server) DeleteRole(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.store.role(name); r != nil {
		s.store.removeRole(r)
	}
}

// Role returns a role, found by its exact name.
func (s *Server) Role(name string) (Role, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.store.role(name)
	if r == nil {
		return Role{}, false
	}
	return Role{r.name, slices.Clone(r.perms)}, true
}

// Totals are how many users, roles and DAGs there are.
func (s *Server) Totals() (users, roles, dags int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.store.users), len(s.store.roles), len(s.store.dags)
}

// Load adds a company: its roles, its users, its DAGs. A user who is there
// already is replaced.
func (s *Server) Load(c CompanyData) {
	for _, r := range c.Roles {
		perms := make([]Permission, len(r.Permissions))
		for i, p := range r.Permissions {
			perms[i] = Permission{p[0], p[1]}
		}
		s.PutRole(r.Name, perms...)
	}
	for _, u := range c.Users {
		s.PutUser(User{
			Username: u.Username, Email: u.Email, FirstName: u.FirstName, LastName: u.LastName,
			Password: u.Password, Roles: u.Roles, Active: u.Active,
		})
	}
	for _, d := range c.DAGs {
		s.PutDAG(DAG{ID: d.ID, Description: d.Description, Owners: d.Owners, Tags: d.Tags, Paused: d.Paused, Access: d.AccessControl})
	}
}

// Scale is how many of each to generate.
type Scale struct{ Users, Roles, DAGs int }

// Generate adds users user-000000, user-000001, …, roles team-0000, … and DAGs
// dag-00000, …, always the same ones. A user is a Viewer with one of the
// generated roles, every hundredth is not active, every other has signed in
// once, none has a password. A generated role may read one generated DAG. Users
// cost 16 bytes each until they are changed. It may be called once.
func (s *Server) Generate(n Scale) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.store
	if st.scaled.n > 0 {
		panic("airflowtest: Generate was called before")
	}
	for i := range n.DAGs {
		st.putDAG(DAG{ID: fmt.Sprintf("dag-%05d", i), Owners: []string{"data"}, Tags: []string{fmt.Sprintf("tag-%d", i%10)}, Paused: i%7 == 0})
	}
	st.scaled = scaled{first: st.lastID + 1, n: n.Users, roles: []*role{st.role("Viewer")}, at: s.now().Truncate(time.Second)}
	for i := range n.Roles {
		perms := Permissions("can_read Website")
		if n.DAGs > 0 {
			perms = append(perms, Permission{"can_read", fmt.Sprintf("DAG:dag-%05d", i%n.DAGs)})
		}
		st.scaled.roles = append(st.scaled.roles, st.addRole(fmt.Sprintf("team-%04d", i), perms))
	}
	st.users = slices.Grow(st.users, n.Users)
	for range n.Users {
		st.lastID++
		st.users = append(st.users, row{id: st.lastID})
	}
}

var builtinNames = []string{"Admin", "Public", "Viewer", "User", "Op"}

//go:embed builtin.tsv
var builtinTSV string

// builtinRoles are the built-in roles of a release.
func builtinRoles(release string) map[string][]Permission {
	out := map[string][]Permission{"Public": nil}
	below := map[string]string{"User": "Viewer", "Op": "User", "Admin": "Op"}
	for line := range strings.Lines(builtinTSV) {
		cells := strings.Split(strings.TrimSpace(line), "\t")
		if len(cells) != 5 {
			continue // a comment
		}
		role, action, first, last := cells[0], cells[1], cells[2], cells[3]
		if _, begun := out[role]; !begun {
			out[role] = slices.Clone(out[below[role]])
		}
		if first != "-" && number(release) < number(first) || last != "-" && number(release) > number(last) {
			continue
		}
		for resource := range strings.SplitSeq(cells[4], ", ") {
			out[role] = append(out[role], Permission{action, resource})
		}
	}
	return out
}

// number orders releases: 3.1.6 is 30106.
func number(release string) (n int) {
	for part := range strings.SplitSeq(release, ".") {
		i, err := strconv.Atoi(part)
		if err != nil {
			panic("airflowtest: " + release + " is no release")
		}
		n = n*100 + i
	}
	return n
}
