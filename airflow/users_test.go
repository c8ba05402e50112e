package airflow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/airflow"
	"airlock/airflow/airflowtest"
)

const (
	userDelete = "DELETE /auth/fab/v1/users/{username}"
	userCreate = "POST /auth/fab/v1/users"
)

// withEve starts an Airflow with a Viewer.
func withEve(t testing.TB, opts airflowtest.Options) rig {
	t.Helper()
	r := start(t, opts)
	r.srv.PutUser(airflowtest.User{Username: "Eve", FirstName: "Eve", LastName: "E", Email: "eve@example.com", Roles: []string{"Viewer"}, Active: true})
	return r
}

// doneButFailed does what was asked, and says that it failed.
func doneButFailed(status int) airflowtest.Act {
	return func(w http.ResponseWriter, r *http.Request, api http.Handler) {
		api.ServeHTTP(httptest.NewRecorder(), r)
		airflowtest.Status(status)(w, r, api)
	}
}

// notDone says that it was done, and does nothing.
func notDone(status int) airflowtest.Act { return airflowtest.Answer(status, "application/json", "{}") }

func TestUsers(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		vienna, err := time.LoadLocation("Europe/Vienna")
		if err != nil {
			t.Fatal(err)
		}
		r := start(t, airflowtest.Options{Profile: p, Zone: vienna}, func(cfg *airflow.Config) { cfg.Zone = vienna })
		summer := time.Date(2026, 7, 1, 10, 11, 12, 345678000, time.UTC)
		winter := time.Date(2026, 1, 1, 23, 30, 0, 0, time.UTC)
		r.srv.PutUser(airflowtest.User{
			Username: "Eve", FirstName: "Eva", LastName: "Müller", Email: "eve@example.com", Roles: []string{"Viewer", "Op"}, Active: true,
			LastLogin: summer, Created: winter, Logins: 7, FailedLogins: 2,
		})
		r.srv.PutUser(airflowtest.User{Username: "gone", Created: summer})
		wanted := []airflow.User{
			{
				Username: "Eve", FirstName: "Eva", LastName: "Müller", Email: "eve@example.com", Roles: []string{"Viewer", "Op"}, Active: true,
				LastLogin: summer, Created: winter, Logins: 7, FailedLogins: 2,
			},
			{Username: "gone", Email: "gone@example.com", Created: summer},
		}
		users, err := collect(r.Users(t.Context()))
		if err != nil || len(users) != 3 {
			t.Fatalf("%d users, %v", len(users), err)
		}
		if diff := cmp.Diff(wanted, users[1:]); diff != "" {
			t.Errorf("listed (-want +got):\n%s", diff)
		}
		one, err := r.User(t.Context(), "EVE")
		if diff := cmp.Diff(wanted[0], one); err != nil || diff != "" {
			t.Errorf("read alone: %v (-want +got):\n%s", err, diff)
		}
		_, err = r.User(t.Context(), "nobody")
		want(t, err, airflow.NotFound, "read user nobody", "nobody` was not found")
	})
}

// A 404 that doesn't name what isn't there is no word on it: a proxy's, say.
func TestNotFoundIsAirflowsWord(t *testing.T) {
	for _, act := range []airflowtest.Act{
		airflowtest.Answer(404, "text/html", "<title>Airflow 404</title> eve"),
		airflowtest.Answer(404, "application/json", `{"detail":"Not Found"}`),
		airflowtest.Answer(404, "application/json", `{"message":"no Route matched with those values: eve"}`),
		airflowtest.Answer(404, "application/problem+json", `{"detail":"The requested URL was not found on the server.","title":"Not Found"}`),
		airflowtest.Answer(405, "application/json", `{"detail":"Method Not Allowed"}`),
	} {
		r := withEve(t, airflowtest.Options{})
		r.srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users/*", Times: -1, Act: act})
		r.srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/roles/*", Times: -1, Act: act})
		for _, err := range []error{
			second(r.User(t.Context(), "eve")), r.DeleteUser(t.Context(), "eve"), third(r.RemoveRole(t.Context(), "eve", "Viewer")),
			second(r.Role(t.Context(), "Op")), r.DeleteRole(t.Context(), "Op"), r.SetPassword(t.Context(), "eve", "x"),
		} {
			want(t, err, airflow.Precondition)
		}
	}
}

func TestNamesThatCannotBeAddressed(t *testing.T) {
	r := start(t, airflowtest.Options{})
	asked := r.srv.Count()
	for name, says := range map[string]string{"": "is empty", "a/b": "slash", "/": "slash", "..": "part of a path", ".": "part of a path"} {
		for _, err := range []error{
			airflow.CheckName("user", name), second(r.User(t.Context(), name)), r.DeleteUser(t.Context(), name), r.SetPassword(t.Context(), name, "x"),
			third(r.AddRole(t.Context(), name, "Op")), second(r.CreateUser(t.Context(), airflow.User{Username: name}, "x")),
			second(r.Role(t.Context(), name)), r.DeleteRole(t.Context(), name), second(r.CreateRole(t.Context(), airflow.Role{Name: name})),
		} {
			want(t, err, airflow.Invalid, says, "nothing was changed")
		}
	}
	if r.srv.Count() != asked {
		t.Error("it asked Airflow")
	}
}

// All names that an Airflow can address, whatever is in them.
func TestNamesAreEscaped(t *testing.T) {
	for _, release := range []string{"3.3.2", "3.1.6", "2.11.2"} {
		r := start(t, airflowtest.Options{Profile: airflowtest.For(release), Path: "/air flow"})
		for _, name := range []string{"a b", "a+b@c", "50%", "%2F", "a?b#c", "a&b=c", "a;b", "ä", "…", "a:b", `a"b'c`, "a\\b", "...", "~", "a,b"} {
			r.srv.PutUser(airflowtest.User{Username: name, FirstName: "F", LastName: "L", Email: name, Roles: []string{"Viewer"}})
			r.srv.PutRole(name)
			if u, err := r.User(t.Context(), name); err != nil || u.Username != name {
				t.Errorf("%s: user %q: %+v, %v", release, name, u, err)
			}
			if role, err := r.Role(t.Context(), name); err != nil || role.Name != name {
				t.Errorf("%s: role %q: %+v, %v", release, name, role, err)
			}
			if _, after, err := r.AddRole(t.Context(), name, name); err != nil || !after.HasRole(name) {
				t.Errorf("%s: add role to %q: %+v, %v", release, name, after, err)
			}
			if err := r.DeleteUser(t.Context(), name); err != nil {
				t.Errorf("%s: delete %q: %v", release, name, err)
			}
		}
	}
}

func TestChangeRoles(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := withEve(t, airflowtest.Options{Profile: p})
		for _, step := range []struct {
			change         func(context.Context, string, string) (airflow.User, airflow.User, error)
			before, after  []string
			role, username string
			patches        int
		}{
			{r.AddRole, []string{"Viewer"}, []string{"Op", "Viewer"}, "Op", "eve", 1},
			{r.AddRole, []string{"Op", "Viewer"}, []string{"Op", "Viewer"}, "Op", "Eve", 1},
			{r.RemoveRole, []string{"Op", "Viewer"}, []string{"Op"}, "Viewer", "EVE", 2},
			{r.RemoveRole, []string{"Op"}, []string{"Op"}, "Viewer", "eve", 2},
			{r.RemoveRole, []string{"Op"}, nil, "Op", "eve", 3},
		} {
			before, after, err := step.change(t.Context(), step.username, step.role)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(before.Roles)
			slices.Sort(after.Roles)
			if diff := cmp.Diff([][]string{step.before, step.after}, [][]string{before.Roles, after.Roles}); diff != "" {
				t.Errorf("before and after (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(step.after, r.srv.Roles("eve")); diff != "" {
				t.Errorf("in Airflow (-want +got):\n%s", diff)
			}
			r.counted(t, userPatch, step.patches)
		}
		if len(r.clock.waited()) > 0 {
			t.Error("it waited")
		}
		_, _, err := r.AddRole(t.Context(), "eve", "no such role")
		want(t, err, airflow.Invalid, "no such role", "nothing was changed")
		_, _, err = r.AddRole(t.Context(), "nobody", "Op")
		want(t, err, airflow.NotFound)
	})
}

// What every version takes: all five fields, the user's own spelling, and a mask.
func TestChangeRolesIsPortable(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := withEve(t, airflowtest.Options{Profile: p})
		_, _, err := r.ChangeRoles(t.Context(), "EVE", func(airflow.User) ([]string, error) { return []string{"Op", "Op", "User"}, nil })
		if err != nil {
			t.Fatal(err)
		}
		for _, request := range r.srv.Requests() {
			if request.Method != http.MethodPatch {
				continue
			}
			if request.Path != "/auth/fab/v1/users/Eve" || request.Query.Encode() != "update_mask=roles" {
				t.Errorf("it patched %s?%s", request.Path, request.Query.Encode())
			}
			wanted := `{"username":"Eve","email":"eve@example.com","first_name":"Eve","last_name":"E","roles":[{"name":"Op"},{"name":"User"}]}`
			if diff := cmp.Diff(wanted, string(request.Body)); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
		}
		r.counted(t, userPatch, 1)
	})
}

// Somebody who came by single sign-on may have no names. They stay so, and the roles change all the same.
func TestChangeRolesOfTheNameless(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := withEve(t, airflowtest.Options{Profile: p})
		r.srv.PutUser(airflowtest.User{Username: "sso", Roles: []string{"Viewer"}, Active: true})
		if _, _, err := r.AddRole(t.Context(), "sso", "Op"); err != nil {
			t.Fatal(err)
		}
		u, ok := r.srv.User("sso")
		if !ok || !slices.Equal(u.Roles, []string{"Viewer", "Op"}) || u.FirstName != "" || u.LastName != "" {
			t.Errorf("it is %+v", u)
		}
	})
}

// Fifty at once, in one process: what was asked for, all of it, and nothing else.
func TestConcurrentChanges(t *testing.T) {
	for _, release := range []string{"3.3.2", "2.11.2"} {
		r := withEve(t, airflowtest.Options{Profile: airflowtest.For(release)})
		var had, wanted []string
		for i := range 50 {
			role := fmt.Sprintf("role-%02d", i)
			r.srv.PutRole(role)
			if i%2 == 0 {
				had = append(had, role)
			} else {
				wanted = append(wanted, role)
			}
		}
		r.srv.SetRoles("eve", had...)
		var wg sync.WaitGroup
		for i, spelling := 0, []string{"eve", "Eve", "EVE"}; i < 50; i++ {
			role, change := fmt.Sprintf("role-%02d", i), r.AddRole
			if i%2 == 0 {
				change = r.RemoveRole
			}
			wg.Go(func() {
				if _, _, err := change(t.Context(), spelling[i%3], role); err != nil {
					t.Errorf("%s: %v", role, err)
				}
			})
		}
		wg.Wait()
		if diff := cmp.Diff(wanted, r.srv.Roles("eve")); diff != "" {
			t.Errorf("roles (-want +got):\n%s", diff)
		}
		r.counted(t, userPatch, 50)
	}
}

// undo gives eve her old roles back right after each of the first n patches.
func (r rig) undo(n int, roles ...string) {
	r.srv.After(func(request airflowtest.Request) {
		if request.Method == http.MethodPatch && r.srv.Count(userPatch) <= n {
			r.srv.SetRoles("eve", roles...)
		}
	})
}

func TestLostUpdateIsMadeAgain(t *testing.T) {
	for n := range 6 {
		r := withEve(t, airflowtest.Options{})
		r.undo(n, "Viewer", "User") // what another program made of an older look
		_, after, err := r.AddRole(t.Context(), "eve", "Op")
		if err != nil {
			t.Fatal(err)
		}
		wanted := []string{"Op", "User", "Viewer"}
		if n == 0 {
			wanted = []string{"Op", "Viewer"}
		}
		slices.Sort(after.Roles)
		if !slices.Equal(after.Roles, wanted) || !slices.Equal(r.srv.Roles("eve"), wanted) {
			t.Errorf("undone %d times: %v, in Airflow %v, want %v", n, after.Roles, r.srv.Roles("eve"), wanted)
		}
		r.counted(t, userPatch, n+1)
		waits := r.clock.waited()
		if len(waits) != n {
			t.Errorf("undone %d times: it waited %v", n, waits)
		}
		for _, d := range waits {
			if d <= 0 || d > 2*time.Second {
				t.Errorf("it waited %v", waits)
			}
		}
	}
}

func TestChangeThatNeverHolds(t *testing.T) {
	r := withEve(t, airflowtest.Options{})
	r.undo(1000, "Viewer", "User")
	_, _, err := r.AddRole(t.Context(), "eve", "Op")
	want(t, err, airflow.Moved, "change the roles of user eve", "didn't hold", "its roles are now Viewer, User")
	r.counted(t, userPatch, 6)
	r.undo(1000)
	_, _, err = r.AddRole(t.Context(), "eve", "Op")
	want(t, err, airflow.Moved, "its roles are now none")
}

// Another program changes other roles of the same user, and both changes stay.
func TestOtherChangesStay(t *testing.T) {
	r := withEve(t, airflowtest.Options{})
	r.srv.After(func(request airflowtest.Request) {
		if request.Method == http.MethodPatch {
			r.srv.SetRoles("eve", append(r.srv.Roles("eve"), "User")...)
		}
	})
	if _, after, err := r.AddRole(t.Context(), "eve", "Op"); err != nil || len(after.Roles) != 3 {
		t.Errorf("got %v, %v", after.Roles, err)
	}
	r.counted(t, userPatch, 1)
}

// What others do while a change waits for its next try is not lost either.
func TestNextTryLooksAfresh(t *testing.T) {
	r := withEve(t, airflowtest.Options{})
	r.undo(1, "Viewer")
	r.SetClock(r.clock.now, func(context.Context, time.Duration) error {
		r.srv.SetRoles("eve", "Viewer", "User")
		return nil
	})
	_, after, err := r.AddRole(t.Context(), "eve", "Op")
	if err != nil || !slices.Equal(r.srv.Roles("eve"), []string{"Op", "User", "Viewer"}) {
		t.Errorf("got %v, %v", after.Roles, err)
	}
}

// What a write did is read, not believed.
func TestWriteIsReadBack(t *testing.T) {
	for name, c := range map[string]struct {
		act     airflowtest.Act
		times   int
		patches int
		kind    airflow.Kind
		says    string
	}{
		"answer lost":           {airflowtest.LoseAnswer(), -1, 1, 0, ""},
		"answer broken off":     {airflowtest.ResetMidBody(), -1, 1, 0, ""},
		"half an answer":        {airflowtest.Truncate(), -1, 1, 0, ""},
		"500 but done":          {doneButFailed(500), -1, 1, 0, ""},
		"503, then well":        {airflowtest.Status(503), 1, 2, 0, ""},
		"reset, then well":      {airflowtest.Reset(), 2, 3, 0, ""},
		"200 but not done":      {notDone(200), 2, 3, 0, ""},
		"200 but never done":    {notDone(200), -1, 6, airflow.Moved, "its roles are now Viewer"},
		"500 always":            {airflowtest.Status(500), -1, 6, airflow.Unavailable, "its roles are now Viewer"},
		"429 for a moment":      {airflowtest.TooManyRequests(3 * time.Second), 1, 2, 0, ""},
		"429 for long":          {airflowtest.TooManyRequests(time.Minute), -1, 1, airflow.Unavailable, "its roles are now Viewer"},
		"a page in its place":   {airflowtest.SignInPage(), -1, 1, airflow.Precondition, "HTML page"},
		"forbidden":             {airflowtest.Answer(403, "application/json", `{"detail":"Forbidden"}`), -1, 1, airflow.Forbidden, "can_edit on Users"},
		"refused":               {airflowtest.Answer(422, "application/json", `{"detail":"no"}`), -1, 1, airflow.Invalid, "nothing was changed"},
		"taken by somebody new": {airflowtest.Answer(409, "application/json", `{"detail":"The username already exists"}`), -1, 1, airflow.Conflict, "already exists"},
	} {
		t.Run(name, func(t *testing.T) {
			r := withEve(t, airflowtest.Options{})
			r.srv.Inject(airflowtest.Fault{Method: http.MethodPatch, Times: c.times, Act: c.act})
			_, after, err := r.AddRole(t.Context(), "eve", "Op")
			r.counted(t, userPatch, c.patches)
			if c.kind != 0 {
				e := want(t, err, c.kind, "change the roles of user eve", c.says)
				if name == "429 for long" && e.RetryAfter != time.Minute {
					t.Errorf("it tells %v", e.RetryAfter)
				}
				return
			}
			if err != nil || !after.HasRole("Op") || !slices.Contains(r.srv.Roles("eve"), "Op") {
				t.Errorf("got %+v, %v", after, err)
			}
		})
	}
}

func TestUserGoesMeanwhile(t *testing.T) {
	for name, hook := range map[string]func(*airflowtest.Server, func(airflowtest.Request)){
		"before the write": (*airflowtest.Server).Before, "after it": (*airflowtest.Server).After,
	} {
		r := withEve(t, airflowtest.Options{})
		hook(r.srv, func(request airflowtest.Request) {
			if request.Method == http.MethodPatch {
				r.srv.DeleteUser("eve")
			}
		})
		_, _, err := r.AddRole(t.Context(), "eve", "Op")
		want(t, err, airflow.NotFound, "was not found")
		r.counted(t, userPatch, 1)
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

func TestReadBackFails(t *testing.T) {
	r := withEve(t, airflowtest.Options{})
	r.srv.Inject(airflowtest.Fault{Method: http.MethodGet, Path: "/auth/fab/v1/users/*", Skip: 1, Times: -1, Act: airflowtest.Status(503)})
	_, _, err := r.AddRole(t.Context(), "eve", "Op")
	want(t, err, airflow.Unavailable, "new roles of user eve were sent, but then", "read user eve")
}

// A change may refuse, and its error comes as it is.
func TestChangeRefuses(t *testing.T) {
	r := withEve(t, airflowtest.Options{})
	no := errors.New("no")
	_, _, err := r.ChangeRoles(t.Context(), "eve", func(u airflow.User) ([]string, error) {
		if u.Username != "Eve" || !u.HasRole("Viewer") {
			t.Errorf("it was shown %+v", u)
		}
		return []string{"Admin"}, no
	})
	if !errors.Is(err, no) {
		t.Errorf("got %v", err)
	}
	r.counted(t, userPatch, 0)
	// The order of roles and a role named twice are no change.
	r.srv.SetRoles("eve", "Op", "Viewer")
	_, _, err = r.ChangeRoles(t.Context(), "eve", func(airflow.User) ([]string, error) { return []string{"Viewer", "Op", "Viewer"}, nil })
	if err != nil {
		t.Error(err)
	}
	r.counted(t, userPatch, 0)
}

var frida = airflow.User{
	Username: "frida", Email: "frida@example.com", FirstName: "Frida", LastName: "K", Roles: []string{"Viewer", "Op", "Viewer"},
}

func TestCreateUser(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := start(t, airflowtest.Options{Profile: p})
		made, err := r.CreateUser(t.Context(), frida, "se-cret")
		if err != nil {
			t.Fatal(err)
		}
		wanted := frida
		wanted.Roles, wanted.Active, wanted.Created = []string{"Viewer", "Op"}, true, made.Created
		if diff := cmp.Diff(wanted, made); diff != "" || made.Created.IsZero() {
			t.Errorf("made (-want +got):\n%s", diff)
		}
		if u, _ := r.srv.User("frida"); u.Password != "se-cret" {
			t.Errorf("the password is %q", u.Password)
		}
		again := frida
		again.Username = "FRIDA"
		_, err = r.CreateUser(t.Context(), again, "x")
		want(t, err, airflow.Conflict, "create user FRIDA", "already exists")
		again.Username = "other"
		_, err = r.CreateUser(t.Context(), again, "x")
		want(t, err, airflow.Conflict, "frida@example.com")
		again.Email, again.Roles = "other@example.com", []string{"no such role"}
		_, err = r.CreateUser(t.Context(), again, "x")
		want(t, err, airflow.Invalid, "no such role")
	})
}

func TestCreateUserNeedsAll(t *testing.T) {
	r := start(t, airflowtest.Options{})
	for field, without := range map[string]func(*airflow.User, *string){
		"e-mail address": func(u *airflow.User, _ *string) { u.Email = "" },
		"first name":     func(u *airflow.User, _ *string) { u.FirstName = "" },
		"last name":      func(u *airflow.User, _ *string) { u.LastName = "" },
		"role":           func(u *airflow.User, _ *string) { u.Roles = nil },
		"password":       func(_ *airflow.User, password *string) { *password = "" },
	} {
		u, password := frida, "se-cret"
		without(&u, &password)
		_, err := r.CreateUser(t.Context(), u, password)
		want(t, err, airflow.Invalid, "create user frida", " "+field, "nothing was created")
	}
	if r.srv.Count() > 0 {
		t.Error("it asked Airflow")
	}
}

func TestCreateUserIsReadBack(t *testing.T) {
	readBack := airflowtest.Fault{Method: http.MethodGet, Path: "/auth/fab/v1/users/*", Times: -1}
	for name, c := range map[string]struct {
		create, read airflowtest.Act
		kind         airflow.Kind
		says         []string
	}{
		"answer lost":       {airflowtest.LoseAnswer(), nil, airflow.Unavailable, []string{"create user frida", "isn't known whether the account was created"}},
		"500 but done":      {doneButFailed(500), nil, airflow.Unavailable, []string{"isn't known whether the account was created", "look before you try again"}},
		"200 but not done":  {notDone(200), nil, airflow.NotFound, []string{"was created, but not read back"}},
		"page in its place": {airflowtest.SignInPage(), nil, airflow.Precondition, []string{"create user frida", "HTML page"}},
		"not read back":     {nil, airflowtest.Status(503), airflow.Unavailable, []string{"the account frida was created, but not read back", "read user frida"}},
		"roles left out": {nil, airflowtest.Answer(200, "application/json", `{"username":"frida","roles":[{"name":"Viewer"}]}`), airflow.Moved, []string{
			"was created without Op", "its roles are now Viewer",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, airflowtest.Options{})
			if c.create != nil {
				r.srv.Inject(airflowtest.Fault{Method: http.MethodPost, Path: "/auth/fab/v1/users", Times: -1, Act: c.create})
			} else {
				readBack.Act = c.read
				r.srv.Inject(readBack)
			}
			_, err := r.CreateUser(t.Context(), frida, "se-cret")
			want(t, err, c.kind, c.says...)
			r.counted(t, userCreate, 1)
		})
	}
}

func TestDeleteUser(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := withEve(t, airflowtest.Options{Profile: p})
		if err := r.DeleteUser(t.Context(), "eve"); err != nil {
			t.Fatal(err)
		}
		if _, there := r.srv.User("eve"); there {
			t.Error("she is still there")
		}
		want(t, r.DeleteUser(t.Context(), "eve"), airflow.NotFound, "delete user eve")
	})
}

func TestDeleteIsReadBack(t *testing.T) {
	noLook := &airflowtest.Fault{Method: http.MethodGet, Path: "/auth/fab/v1/users/*", Times: -1, Act: airflowtest.Status(503)}
	for name, c := range map[string]struct {
		act     airflowtest.Act
		times   int
		look    *airflowtest.Fault
		deletes int
		gone    bool
		kind    airflow.Kind
		says    []string
	}{
		"answer lost":               {airflowtest.LoseAnswer(), 1, nil, 2, true, 0, nil},
		"answer always lost":        {airflowtest.LoseAnswer(), -1, nil, 4, true, 0, nil},
		"500 but done":              {doneButFailed(500), -1, nil, 1, true, 0, nil},
		"500":                       {airflowtest.Status(500), -1, nil, 1, false, airflow.Unavailable, []string{"delete user eve", "500"}},
		"503, then well":            {airflowtest.Status(503), 2, nil, 3, true, 0, nil},
		"503 always":                {airflowtest.Status(503), -1, nil, 4, false, airflow.Unavailable, []string{"delete user eve", "503"}},
		"204 but not done":          {notDone(204), -1, nil, 1, false, airflow.Moved, []string{"said it was done", "still there"}},
		"200 but not done":          {notDone(200), -1, nil, 1, false, airflow.Moved, []string{"still there"}},
		"forbidden":                 {airflowtest.Answer(403, "application/json", `{"detail":"Forbidden"}`), -1, nil, 1, false, airflow.Forbidden, []string{"can_delete on Users"}},
		"done, but not to be seen":  {doneButFailed(204), 1, noLook, 1, true, airflow.Unavailable, []string{"delete user eve", "whether it was can't be seen", "read user eve"}},
		"500, and not to be seen":   {airflowtest.Status(500), 1, noLook, 1, false, airflow.Unavailable, []string{"delete user eve", "500", "can't be seen", "503"}},
		"deleted by somebody else":  {airflowtest.Answer(404, "application/json", `{"detail":"The User with username eve was not found"}`), 1, nil, 1, false, airflow.NotFound, nil},
		"an HTML page in its place": {airflowtest.SignInPage(), -1, nil, 1, false, airflow.Precondition, []string{"HTML page"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := withEve(t, airflowtest.Options{})
			r.srv.Inject(airflowtest.Fault{Method: http.MethodDelete, Times: c.times, Act: c.act})
			if c.look != nil {
				r.srv.Inject(*c.look)
			}
			err := r.DeleteUser(t.Context(), "eve")
			if _, there := r.srv.User("eve"); there == c.gone {
				t.Errorf("she is there: %v", there)
			}
			r.counted(t, userDelete, c.deletes)
			if c.kind != 0 {
				want(t, err, c.kind, c.says...)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSetPassword(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := withEve(t, airflowtest.Options{Profile: p})
		// Another program takes a role away between reading and writing: that stays.
		r.srv.Before(func(request airflowtest.Request) {
			if request.Method == http.MethodPatch {
				r.srv.SetRoles("eve", "Op")
			}
		})
		if err := r.SetPassword(t.Context(), "EVE", "se-cret"); err != nil {
			t.Fatal(err)
		}
		if u, _ := r.srv.User("eve"); u.Password != "se-cret" || !slices.Equal(u.Roles, []string{"Op"}) || u.FirstName != "Eve" || u.Email != "eve@example.com" {
			t.Errorf("she is now %+v", u)
		}
		want(t, r.SetPassword(t.Context(), "nobody", "x"), airflow.NotFound)
		want(t, r.SetPassword(t.Context(), "eve", ""), airflow.Invalid, "empty", "nothing was changed")
		r.counted(t, userPatch, 1)
	})
}

// What a new user is made of, to the letter.
func TestCreateUserBody(t *testing.T) {
	r := start(t, airflowtest.Options{})
	if _, err := r.CreateUser(t.Context(), frida, "se-cret"); err != nil {
		t.Fatal(err)
	}
	requests := r.srv.Requests()
	i := slices.IndexFunc(requests, func(q airflowtest.Request) bool { return q.Endpoint == userCreate })
	var body map[string]any
	if err := json.Unmarshal(requests[i].Body, &body); err != nil {
		t.Fatal(err)
	}
	keys := slices.Sorted(maps.Keys(body))
	if got := strings.Join(keys, " "); got != "email first_name last_name password roles username" {
		t.Errorf("it sent %s", got)
	}
}
