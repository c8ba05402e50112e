package airflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// User is an account of Airflow's FAB auth manager.
type User struct {
	Username, Email, FirstName, LastName string
	// Roles are the names of its roles, in Airflow's order.
	Roles []string
	// Active is whether it may sign in. The API can't change it.
	Active bool
	// LastLogin and Created are zero where Airflow has no time.
	LastLogin, Created time.Time
	// Logins and FailedLogins count sign-ins; the latter is reset by one that works.
	Logins, FailedLogins int
}

// HasRole reports whether the user has that role.
func (u User) HasRole(role string) bool { return slices.Contains(u.Roles, role) }

// wireUser is a user as Airflow writes it, the same on every version.
type wireUser struct {
	Username     string     `json:"username"`
	Email        string     `json:"email"`
	FirstName    string     `json:"first_name"`
	LastName     string     `json:"last_name"`
	Roles        []wireName `json:"roles"`
	Active       *bool      `json:"active"`
	LastLogin    *string    `json:"last_login"`
	Created      *string    `json:"created_on"`
	Logins       *int       `json:"login_count"`
	FailedLogins *int       `json:"fail_login_count"`
}

type wireName struct {
	Name string `json:"name"`
}

func (w wireUser) user(zone *time.Location) (User, error) {
	u := User{Username: w.Username, Email: w.Email, FirstName: w.FirstName, LastName: w.LastName, Active: w.Active != nil && *w.Active}
	switch {
	case u.Username == "":
		return User{}, errors.New("a user without a username")
	case w.Roles == nil:
		return User{}, fmt.Errorf("user %q without the list of roles", w.Username)
	}
	for _, r := range w.Roles {
		if r.Name == "" {
			return User{}, fmt.Errorf("user %q has a role without a name", w.Username)
		}
		u.Roles = append(u.Roles, r.Name)
	}
	if w.Logins != nil {
		u.Logins = *w.Logins
	}
	if w.FailedLogins != nil {
		u.FailedLogins = *w.FailedLogins
	}
	for _, t := range []struct {
		from *string
		to   *time.Time
	}{{w.LastLogin, &u.LastLogin}, {w.Created, &u.Created}} {
		if t.from == nil {
			continue
		}
		var err error
		if *t.to, err = parseTime(*t.from, zone); err != nil {
			return User{}, fmt.Errorf("user %q: %w", w.Username, err)
		}
	}
	return u, nil
}

// userBody is what creates or changes a user. Every version takes the first
// five together; the older ones refuse a part of them, even under update_mask,
// and those that take the token refuse an empty text, which others may have put
// there.
type userBody struct {
	Username  string     `json:"username"`
	Email     *string    `json:"email,omitempty"`
	FirstName *string    `json:"first_name,omitempty"`
	LastName  *string    `json:"last_name,omitempty"`
	Roles     []wireName `json:"roles"`
	Password  string     `json:"password,omitempty"`
}

// body names each role once: some versions take a role named twice for an error
// 500, or for nothing to do.
func body(u User) userBody {
	b := userBody{Username: u.Username, Email: &u.Email, FirstName: &u.FirstName, LastName: &u.LastName, Roles: []wireName{}}
	for _, r := range u.Roles {
		if !slices.Contains(b.Roles, wireName{r}) {
			b.Roles = append(b.Roles, wireName{r})
		}
	}
	return b
}

var listUsers = call{
	op: "list users", method: http.MethodGet, endpoint: users, path: []string{"auth", "fab", "v1", "users"},
	needs: Permission{Action: "can_read", Resource: "Users"},
}

var userList = list[User]{
	call:  listUsers,
	order: "id", // grows: new users come last
	// One who was deleted and made anew is another, at another place.
	key: func(u User) string { return u.Username + " " + strconv.FormatInt(u.Created.UnixMicro(), 36) },
	fetch: func(ctx context.Context, c *Client, call call) ([]User, int, error) {
		var answer struct {
			Users []wireUser `json:"users"`
			Total *int       `json:"total_entries"`
		}
		if err := c.do(ctx, call, &answer); err != nil {
			return nil, 0, err
		}
		return items(call, answer.Users, answer.Total, func(w wireUser) (User, error) { return w.user(c.zone) })
	},
}

// items converts what a list's answer holds. An answer without the list, or with
// an item that can't be read, is an error: never a shorter list.
func items[W, T any](call call, wire []W, total *int, convert func(W) (T, error)) ([]T, int, error) {
	if wire == nil || total == nil {
		return nil, 0, &Error{Kind: Precondition, Op: call.op, Hint: "the answer holds no such list: this isn't the API it should be"}
	}
	out := make([]T, len(wire))
	for i, w := range wire {
		var err error
		if out[i], err = convert(w); err != nil {
			return nil, 0, &Error{Kind: Precondition, Op: call.op, Err: err, Hint: "the list was not used"}
		}
	}
	return out, *total, nil
}

// UsersPage reads the part of the list of users at cur.
func (c *Client) UsersPage(ctx context.Context, cur Cursor) (Page[User], error) {
	return userList.page(ctx, c, cur)
}

// Users yields every user once; one who is deleted and made anew meanwhile may
// come as both.
func (c *Client) Users(ctx context.Context) iter.Seq2[User, error] { return userList.all(ctx, c) }

// User reads one user. Airflow finds the name whatever its case; the user's own
// spelling is in the answer.
func (c *Client) User(ctx context.Context, username string) (User, error) {
	op := "read user " + username
	if err := CheckName("user", username); err != nil {
		return User{}, err
	}
	var answer wireUser
	err := c.do(ctx, call{
		op: op, method: http.MethodGet, endpoint: users, path: []string{"auth", "fab", "v1", "users", username}, one: true,
		needs: Permission{Action: "can_read", Resource: "Users"},
	}, &answer)
	if err != nil {
		return User{}, err
	}
	u, err := answer.user(c.zone)
	if err != nil {
		return User{}, &Error{Kind: Precondition, Op: op, Err: err}
	}
	return u, nil
}

// CreateUser makes an account with that password and reads it back. It needs at
// least one role: without, Airflow's versions do anything from an error 500 to
// a role of their own choice. An account of that name or e-mail address is an
// error of the kind Conflict.
func (c *Client) CreateUser(ctx context.Context, u User, password string) (User, error) {
	op := "create user " + u.Username
	if err := CheckName("user", u.Username); err != nil {
		return User{}, err
	}
	for _, field := range []struct{ name, value string }{
		{"an e-mail address", u.Email},
		{"a first name", u.FirstName},
		{"a last name", u.LastName},
		{"a password", password},
		{"a role", strings.Join(u.Roles, "")},
	} {
		if field.value == "" {
			return User{}, &Error{Kind: Invalid, Op: op, Hint: "a new account needs " + field.name + ": nothing was created"}
		}
	}
	b := body(u)
	b.Password = password
	var ignored json.RawMessage // what it says isn't believed: it is read back
	if err := c.do(ctx, call{
		op: op, method: http.MethodPost, endpoint: users, path: []string{"auth", "fab", "v1", "users"}, body: b,
		needs: Permission{Action: "can_create", Resource: "Users"},
	}, &ignored); err != nil {
		if Is(err, Unavailable) {
			return User{}, fmt.Errorf("%w: it isn't known whether the account was created, look before you try again", err)
		}
		return User{}, err
	}
	made, err := c.User(ctx, u.Username)
	if err != nil {
		return User{}, fmt.Errorf("the account %s was created, but not read back: %w", u.Username, err)
	}
	if missing := without(u.Roles, made.Roles); len(missing) > 0 {
		return made, &Error{Kind: Moved, Op: op, Hint: fmt.Sprintf("the account was created without %s: its roles are now %s", names(missing), names(made.Roles))}
	}
	return made, nil
}

// DeleteUser removes an account for good and makes sure that it is gone. One
// that isn't there is an error of the kind NotFound.
func (c *Client) DeleteUser(ctx context.Context, username string) error {
	op := "delete user " + username
	if err := CheckName("user", username); err != nil {
		return err
	}
	unlock, err := c.users.lock(ctx, strings.ToLower(username))
	if err != nil {
		return err
	}
	defer unlock()
	return c.deleteAndLook(ctx, call{
		op: op, method: http.MethodDelete, endpoint: users, path: []string{"auth", "fab", "v1", "users", username}, one: true,
		needs: Permission{Action: "can_delete", Resource: "Users"},
	}, func() error { _, err := c.User(ctx, username); return err })
}

// deleteAndLook deletes, and believes it when a look at the thing answers
// NotFound: some versions answer 500 to a delete that worked, and a success may
// be none.
func (c *Client) deleteAndLook(ctx context.Context, call call, look func() error) error {
	deleted := c.do(ctx, call, nil)
	if deleted != nil && !Is(deleted, Unavailable) {
		return deleted
	}
	found := look()
	switch {
	case Is(found, NotFound):
		return nil
	case deleted != nil && found != nil:
		return fmt.Errorf("%w (and whether it was done anyhow can't be seen: %w)", deleted, found)
	case deleted != nil:
		return deleted
	case found != nil:
		return fmt.Errorf("%s: airflow said it was done, but whether it was can't be seen: %w", call.op, found)
	default:
		return &Error{Kind: Moved, Op: call.op, Hint: "airflow said it was done, but it is still there"}
	}
}

// SetPassword gives the account another password. Airflow has no way to read it
// back; before FAB 3.9 it also answers 200 where saving failed. After an error of
// the kind Unavailable it isn't known which password holds.
func (c *Client) SetPassword(ctx context.Context, username, password string) error {
	op := "set the password of user " + username
	if password == "" {
		return &Error{Kind: Invalid, Op: op, Hint: "the new password is empty: nothing was changed"}
	}
	unlock, err := c.users.lock(ctx, strings.ToLower(username))
	if err != nil {
		return err
	}
	defer unlock()
	u, err := c.User(ctx, username)
	if err != nil {
		return err
	}
	b := body(u)
	b.Password = password
	err = c.patchUser(ctx, op, b, "password")
	if Is(err, Unavailable) {
		return fmt.Errorf("%w: it isn't known whether the password was changed", err)
	}
	return err
}

// patchUser writes the whole portable body; mask says which part of it counts.
// The body's username is the user's own spelling: Airflow wants it the same as
// in the path, to the letter.
func (c *Client) patchUser(ctx context.Context, op string, b userBody, mask string) error {
	s, err := c.routes(ctx)
	if err != nil {
		return err
	}
	if s.takesBearer(users) {
		for _, text := range []**string{&b.Email, &b.FirstName, &b.LastName} {
			if **text == "" {
				*text = nil // left out, it stays as it is
			}
		}
	}
	var ignored json.RawMessage // what it says isn't believed: it is read back
	return c.do(ctx, call{
		op: op, method: http.MethodPatch, endpoint: users, path: []string{"auth", "fab", "v1", "users", b.Username}, one: true,
		query: url.Values{"update_mask": {mask}}, body: b,
		needs: Permission{Action: "can_edit", Resource: "Users"},
	}, &ignored)
}

// changeAttempts is how often a change of roles is made, at most, when it didn't
// hold.
const changeAttempts = 6

// ChangeRoles gives a user the roles that change makes of the user as it is
// now, and reads back what became of it. It returns the user before and after.
//
// Airflow knows no versions and no conditional writes: of two that write at
// once the later wins whole. So inside this process one change of a user goes
// after the other; a change that another program's write undid is made again,
// from a fresh look; and if it never holds, the error says what the roles are
// now. change is called with each fresh look, so more than once: it says only
// what the roles of that user should be, leaves them alone by returning what it
// was given, and may refuse by an error.
func (c *Client) ChangeRoles(ctx context.Context, username string, change func(User) ([]string, error)) (before, after User, err error) {
	op := "change the roles of user " + username
	unlock, err := c.users.lock(ctx, strings.ToLower(username))
	if err != nil {
		return User{}, User{}, err
	}
	defer unlock()

	look := func() (want []string, done bool, err error) {
		if after, err = c.User(ctx, username); err != nil {
			return nil, false, err
		}
		// What counts is that nothing is left to change, not that the roles are
		// the ones written: somebody else may have changed others meanwhile.
		want, err = change(after)
		return want, err == nil && sameNames(want, after.Roles), err
	}
	want, done, err := look()
	before = after
	for try := 1; err == nil && !done; try++ {
		wanted := after
		wanted.Roles = want
		written := c.patchUser(ctx, op, body(wanted), "roles")
		if written != nil && !Is(written, Unavailable) {
			return before, after, written
		}
		if _, done, err = look(); err != nil {
			return before, after, fmt.Errorf("the new roles of user %s were sent, but then: %w", username, err)
		}
		if done {
			break
		}
		why := &Error{Kind: Moved, Op: op, Hint: "the change didn't hold, something else writes the same user"}
		errors.As(written, &why)
		if try == changeAttempts || why.RetryAfter > patience {
			return before, after, fmt.Errorf("%w: its roles are now %s", why, names(after.Roles))
		}
		if err := c.wait(ctx, backoff(min(try, 2), why.RetryAfter)); err != nil {
			return before, after, fmt.Errorf("airflow: %s: %w", op, err)
		}
		want, done, err = look()
	}
	return before, after, err
}

// AddRole gives a user a role, if it doesn't have it; see [Client.ChangeRoles].
func (c *Client) AddRole(ctx context.Context, username, role string) (before, after User, err error) {
	return c.ChangeRoles(ctx, username, func(u User) ([]string, error) {
		if u.HasRole(role) {
			return u.Roles, nil
		}
		return append(slices.Clone(u.Roles), role), nil
	})
}

// RemoveRole takes a role from a user, if it has it; see [Client.ChangeRoles].
func (c *Client) RemoveRole(ctx context.Context, username, role string) (before, after User, err error) {
	return c.ChangeRoles(ctx, username, func(u User) ([]string, error) { return without(u.Roles, []string{role}), nil })
}

// without returns the names that are not among the others.
func without(all, others []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(n string) bool { return slices.Contains(others, n) })
}

func sameNames(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// names puts role names into words.
func names(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, ", ")
}
