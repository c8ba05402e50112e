package airflowtest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// store is the database. Server.mu guards it.
type store struct {
	users   []row          // in order of id
	byName  map[string]int // lower-case user name → id, of users that are written out
	byEmail map[string]int
	lastID  int
	scaled  scaled

	builtin   map[string][]Permission
	roles     []*role      // in order of id
	pairs     []Permission // in order of id
	known     map[Permission]bool
	actions   []string
	resources map[string]bool

	dags   []DAG // in order of their ids
	events []Event
}

// row is a user: written out, or nil for one that is computed from its id.
type row struct {
	id int
	u  *user
}

// user is an account as stored.
type user struct {
	id                                   int
	username, email, firstName, lastName string
	password                             string // empty: can't sign in
	roles                                []*role
	active                               bool
	lastLogin, created                   time.Time
	logins, fails                        *int // nil until the first sign-in
}

// role is a role as stored. has is replaced, never changed, so that who holds it
// keeps what was.
type role struct {
	name  string
	perms []Permission
	has   map[Permission]bool
	gone  bool
}

// Permission is a right: an action on a resource.
type Permission struct{ Action, Resource string }

// rights are what somebody may do, as of one moment.
type rights struct {
	username string
	sets     []map[Permission]bool
}

func (r rights) has(action, resource string) bool {
	return slices.ContainsFunc(r.sets, func(set map[Permission]bool) bool { return set[Permission{action, resource}] })
}

func (u user) rights() rights {
	r := rights{username: u.username}
	for _, role := range u.heldRoles() {
		r.sets = append(r.sets, role.has)
	}
	return r
}

// heldRoles are the roles that still exist.
func (u user) heldRoles() []*role {
	return slices.DeleteFunc(slices.Clone(u.roles), func(r *role) bool { return r.gone })
}

func (st *store) init(p Profile) {
	st.byName, st.byEmail = map[string]int{}, map[string]int{}
	st.known, st.resources = map[Permission]bool{}, map[string]bool{}
	st.builtin = builtinRoles(p.Airflow)
	for _, name := range builtinNames {
		st.addRole(name, st.builtin[name])
	}
}

// of returns the user of a row.
func (st *store) of(r row) user {
	if r.u != nil {
		return *r.u
	}
	return st.scaled.user(r.id)
}

// position finds a user by id.
func (st *store) position(id int) (int, bool) {
	return slices.BinarySearchFunc(st.users, id, func(r row, id int) int { return r.id - id })
}

func (st *store) byID(id int) (user, bool) {
	i, found := st.position(id)
	if !found {
		return user{}, false
	}
	return st.of(st.users[i]), true
}

// find finds a user by name, in whatever case it is written.
func (st *store) find(username string) (user, bool) {
	name := strings.ToLower(username)
	if id, found := st.byName[name]; found {
		return st.byID(id)
	}
	return st.computed(name)
}

func (st *store) findEmail(email string) (user, bool) {
	if id, found := st.byEmail[email]; found {
		return st.byID(id)
	}
	name, _, _ := strings.Cut(email, "@")
	u, found := st.computed(name)
	return u, found && u.email == email
}

// computed finds a user that is not written out.
func (st *store) computed(name string) (user, bool) {
	i, found := st.position(st.scaled.id(name))
	if !found || st.users[i].u != nil {
		return user{}, false
	}
	return st.of(st.users[i]), true
}

// save writes a user out, new when its id is 0.
func (st *store) save(u user) user {
	if u.id == 0 {
		st.lastID++
		u.id = st.lastID
		st.users = append(st.users, row{id: u.id})
	}
	i, _ := st.position(u.id)
	if old := st.users[i].u; old != nil {
		st.unindex(*old)
	}
	st.users[i].u = &u
	st.byName[strings.ToLower(u.username)] = u.id
	st.byEmail[u.email] = u.id
	return u
}

func (st *store) unindex(u user) {
	delete(st.byName, strings.ToLower(u.username))
	delete(st.byEmail, u.email)
}

func (st *store) remove(u user) {
	i, _ := st.position(u.id)
	st.users = slices.Delete(st.users, i, i+1)
	st.unindex(u)
}

// login compares the password and counts the sign-in. The name may be the
// e-mail address.
func (st *store) login(username, password string, now time.Time) (user, bool) {
	u, found := st.find(username)
	if !found {
		u, found = st.findEmail(username)
	}
	if !found || !u.active {
		return user{}, false
	}
	right := u.password != "" && u.password == password
	logins, fails := deref(u.logins), deref(u.fails)
	if right {
		logins, fails, u.lastLogin = logins+1, 0, now
	} else {
		fails++
	}
	u.logins, u.fails = &logins, &fails
	return st.save(u), right
}

func deref(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}

func (st *store) role(name string) *role {
	if i := slices.IndexFunc(st.roles, func(r *role) bool { return r.name == name }); i >= 0 {
		return st.roles[i]
	}
	return nil
}

func (st *store) addRole(name string, perms []Permission) *role {
	r := &role{name: name}
	st.roles = append(st.roles, r)
	st.setPermissions(r, perms)
	return r
}

// setPermissions gives the role exactly these.
func (st *store) setPermissions(r *role, perms []Permission) {
	r.perms, r.has = nil, map[Permission]bool{}
	for _, p := range perms {
		if !r.has[p] {
			r.has[p] = true
			r.perms = append(r.perms, p)
			st.know(p)
		}
	}
}

// addPermissions gives the role these too.
func (st *store) addPermissions(r *role, perms ...Permission) {
	if slices.ContainsFunc(perms, func(p Permission) bool { return !r.has[p] }) {
		st.setPermissions(r, slices.Concat(r.perms, perms))
	}
}

func (st *store) removeRole(r *role) {
	r.gone = true
	st.roles = slices.DeleteFunc(st.roles, func(x *role) bool { return x == r })
}

// know makes a permission known.
func (st *store) know(p Permission) {
	if st.known[p] {
		return
	}
	st.known[p], st.resources[p.Resource] = true, true
	st.pairs = append(st.pairs, p)
	if !slices.Contains(st.actions, p.Action) {
		st.actions = append(st.actions, p.Action)
	}
}

// syncRoles is what some releases do at each call: the built-in roles get back
// what they lack, Admin gets everything that isn't about one DAG, and every
// other role can read the website.
func (st *store) syncRoles() {
	for _, name := range builtinNames {
		if st.role(name) == nil {
			st.addRole(name, nil)
		}
		st.addPermissions(st.role(name), st.builtin[name]...)
	}
	for _, p := range st.pairs {
		if !strings.HasPrefix(p.Resource, "DAG:") && !strings.HasPrefix(p.Resource, "DAG Run:") {
			st.addPermissions(st.role("Admin"), p)
		}
	}
	for _, r := range st.roles {
		if !slices.Contains(builtinNames, r.name) {
			st.addPermissions(r, Permission{"can_read", "Website"})
		}
	}
}

// scaled are users that are computed from their ids: a hundred thousand of them
// take no more room than their ids.
type scaled struct {
	first, n int     // ids first … first+n-1
	roles    []*role // Viewer, then the others in turn
	at       time.Time
}

// id is the id of the user of that name, or 0.
func (sc scaled) id(name string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(name, "user-"))
	if err != nil || n < 0 || n >= sc.n || name != scaledName(n) {
		return 0
	}
	return sc.first + n
}

func scaledName(n int) string { return fmt.Sprintf("user-%06d", n) }

func (sc scaled) user(id int) user {
	n := id - sc.first
	u := user{
		id: id, username: scaledName(n), email: scaledName(n) + "@example.com",
		firstName: "Person", lastName: fmt.Sprintf("Number %d", n),
		roles: sc.roles[:1], active: n%100 != 99, created: sc.at,
	}
	if others := sc.roles[1:]; len(others) > 0 {
		u.roles = []*role{sc.roles[0], others[n%len(others)]}
	}
	if n%2 == 1 {
		one, none := 1, 0
		u.logins, u.fails, u.lastLogin = &one, &none, sc.at
	}
	return u
}
