package airflowtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// field is a field of the JSON body: "users.0.username".
func (r reply) field(t *testing.T, path string) any {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(r.body), &value); err != nil {
		t.Fatalf("no JSON: %v: %s", err, r.body)
	}
	for step := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[step]
		case []any:
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

// each is a field of all the objects of a list, with commas between.
func (r reply) each(t *testing.T, list, name string) string {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal([]byte(r.body), &body); err != nil {
		t.Fatalf("no JSON: %v: %s", err, r.body)
	}
	var out []string
	for _, object := range objects(body[list]) {
		out = append(out, fmt.Sprint(object[name]))
	}
	return strings.Join(out, ",")
}

// send asks the server. auth is "name:password", "bearer TOKEN", or empty.
func send(t *testing.T, s *Server, method, path, auth, body string) (reply, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token, isToken := strings.CutPrefix(auth, "bearer "); isToken {
		req.Header.Set("Authorization", "Bearer "+token)
	} else if name, password, isBasic := strings.Cut(auth, ":"); isBasic {
		req.SetBasicAuth(name, password)
	}
	client := *s.http.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(raw)}, err
}

// ask is send for requests that are answered.
func ask(t *testing.T, s *Server, method, path, auth, body string) reply {
	t.Helper()
	r, err := send(t, s, method, path, auth, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

// credentials are the ones that open the users, the roles and Airflow's own API.
func credentials(s *Server, username, password string) (users, roles, core string) {
	basic := username + ":" + password
	users, roles, core = basic, basic, basic
	if s.Profile.V2() {
		return users, roles, core
	}
	core = "bearer " + s.Token(username)
	if s.Profile.FastAPIUsers {
		users = core
	}
	if s.Profile.FastAPIRoles {
		roles = core
	}
	return users, roles, core
}

// everywhere runs a test on every release.
func everywhere(t *testing.T, f func(t *testing.T, s *Server)) {
	for _, p := range Profiles() {
		t.Run(p.Airflow, func(t *testing.T) {
			f(t, Start(t, Options{Profile: p}))
		})
	}
}

// core is where Airflow's own API is.
func core(s *Server) string {
	if s.Profile.V2() {
		return "/api/v1"
	}
	return "/api/v2"
}

const eve = `{"username":"eve","email":"eve@example.com","first_name":"Eve","last_name":"X","password":"pw","roles":[{"name":"Viewer"}]}`

// rolesOf is the portable body that gives eve some roles.
func rolesOf(names ...string) string {
	roles := []map[string]string{}
	for _, name := range names {
		roles = append(roles, map[string]string{"name": name})
	}
	return string(encode(map[string]any{
		"username": "eve", "email": "eve@example.com", "first_name": "Eve", "last_name": "X", "roles": roles,
	}))
}

// The table of which credential opens which endpoint: bearer/basic.
func TestCredentials(t *testing.T) {
	want := map[string][5]string{ // token, users, roles, permissions, core
		"2.10.5": {"404", "401/200", "401/200", "401/200", "401/200"},
		"2.11.2": {"404", "403/200", "403/200", "403/200", "403/200"},
		"3.0.6":  {"201", "401/200", "401/200", "401/200", "200/401"},
		"3.1.2":  {"201", "401/200", "401/200", "401/200", "200/401"},
		"3.1.6":  {"201", "401/200", "200/401", "401/200", "200/401"},
		"3.1.8":  {"201", "200/401", "200/401", "200/401", "200/401"},
		"3.2.2":  {"201", "200/401", "200/401", "200/401", "200/401"},
		"3.3.2":  {"201", "200/401", "200/401", "200/401", "200/401"},
	}
	everywhere(t, func(t *testing.T, s *Server) {
		got := [5]string{fmt.Sprint(ask(t, s, "POST", "/auth/token", "", `{"username":"admin","password":"admin"}`).status)}
		for i, path := range []string{"/auth/fab/v1/users", "/auth/fab/v1/roles", "/auth/fab/v1/permissions", core(s) + "/dags"} {
			bearer := ask(t, s, "GET", path, "bearer "+s.Token("admin"), "").status
			basic := ask(t, s, "GET", path, "admin:admin", "").status
			got[i+1] = fmt.Sprintf("%d/%d", bearer, basic)
		}
		if diff := cmp.Diff(want[s.Profile.Airflow], got); diff != "" {
			t.Error(diff)
		}
	})
}

// The oracle lists exactly the endpoints that take the token.
func TestOpenAPI(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Server) {
		r := ask(t, s, "GET", "/auth/openapi.json", "", "")
		if s.Profile.V2() {
			if r.status != 404 {
				t.Errorf("status %d, want 404", r.status)
			}
			return
		}
		paths, _ := r.field(t, "paths").(map[string]any)
		for path, want := range map[string]bool{
			"/token": true, "/fab/v1/users": s.Profile.FastAPIUsers, "/fab/v1/users/{username}": s.Profile.FastAPIUsers,
			"/fab/v1/roles": s.Profile.FastAPIRoles, "/fab/v1/roles/{name}": s.Profile.FastAPIRoles, "/fab/v1/permissions": s.Profile.FastAPIPermissions,
		} {
			if _, got := paths[path]; got != want {
				t.Errorf("%s listed: %v, want %v", path, got, want)
			}
		}
	})
}

func TestVersion(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Server) {
		if got := ask(t, s, "GET", core(s)+"/version", "", "").field(t, "version"); got != s.Profile.Airflow {
			t.Errorf("version %v", got)
		}
		if r := ask(t, s, "GET", "/api/v1/users", "", ""); !s.Profile.V2() && (r.status != 404 || !strings.Contains(r.body, "has been removed")) {
			t.Errorf("/api/v1 on Airflow 3: %d %s", r.status, r.body)
		}
	})
}

func TestBasicOff(t *testing.T) {
	for _, p := range Profiles() {
		s := Start(t, Options{Profile: p, BasicOff: true})
		if p.FastAPIUsers {
			continue
		}
		r := ask(t, s, "GET", "/auth/fab/v1/users", "admin:admin", "")
		if r.status != p.Anonymous || r.header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s: %d, WWW-Authenticate %q", p, r.status, r.header.Get("WWW-Authenticate"))
		}
	}
}

func TestWritingUsers(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Server) {
		users, _, _ := credentials(s, "admin", "admin")
		expect := func(method, path, body string, status int, text string) {
			t.Helper()
			if r := ask(t, s, method, "/auth/fab/v1/users"+path, users, body); r.status != status || !strings.Contains(r.body, text) {
				t.Errorf("%s %s %s: %d %s; want %d with %q", method, path, body, r.status, r.body, status, text)
			}
		}
		flask := !s.Profile.FastAPIUsers
		either := func(ifFlask, ifFastAPI int) int {
			if flask {
				return ifFlask
			}
			return ifFastAPI
		}
		expect("POST", "", eve, 200, "eve@example.com")
		expect("POST", "", strings.Replace(eve, `"eve"`, `"EVE"`, 1), 409, "Username `EVE` already exists. Use PATCH to update.")
		expect("POST", "", strings.Replace(eve, `"eve"`, `"eva"`, 1), 409, "The email `eve@example.com` is already taken.")
		expect("POST", "", strings.NewReplacer("eve", "bob", "Viewer", "viewer").Replace(eve), 400, "Unknown roles: 'viewer'")
		expect("POST", "", strings.Replace(eve, `"password"`, `"active":false,"password"`, 1), either(400, 422), "active")
		expect("POST", "", strings.Replace(eve, `"password"`, `"extra":1,"password"`, 1), either(400, 422), "extra")
		expect("POST", "", strings.NewReplacer("eve", "dup", `[{`, `[{"name":"Viewer"},{`).Replace(eve), map[bool]int{true: 500, false: 200}[s.Profile.DoubledRolesFail], "dup")

		expect("GET", "/EVE", "", 200, `"eve"`)
		expect("GET", "/nobody", "", 404, "The User with username `nobody` was not found")
		expect("POST", "", strings.ReplaceAll(eve, "eve", "a/b"), 200, "a/b")
		expect("GET", "/a%2Fb", "", 404, "")
		expect("DELETE", "/a%2Fb", "", 404, "")

		expect("PATCH", "/eve?update_mask=roles", rolesOf("Op"), 200, `"Op"`)
		expect("PATCH", "/EVE?update_mask=roles", rolesOf("User"), 409, "The username `eve` already exists")
		expect("PATCH", "/eve?update_mask=roles", rolesOf("Nope"), 400, "Unknown roles: 'Nope'")
		expect("PATCH", "/eve?update_mask=bogus", rolesOf("User"), 400, "Unknown update masks: 'bogus'")
		expect("PATCH", "/eve?update_mask=first_name", strings.Replace(rolesOf("User"), "Eve", "Eva", 1), 200, "Eva")
		if got := s.Roles("eve"); !slices.Equal(got, []string{"Op"}) {
			t.Errorf("roles are %v, want Op", got)
		}
		expect("PATCH", "/eve?update_mask=roles", `{"roles":[{"name":"User"}]}`, either(400, 200), "")
		expect("PATCH", "/eve?update_mask=roles", `{"username":"eve","email":"eve@example.com","first_name":"E","last_name":"X"}`, either(400, 200), "")
		expect("PATCH", "/eve?update_mask=roles", rolesOf(), 200, "")
		if got := s.Roles("eve"); len(got) != 0 {
			t.Errorf("roles are %v, want none", got)
		}
		expect("DELETE", "/Eve", "", 204, "")
		expect("DELETE", "/eve", "", 404, "")
	})
}

func TestCreateWithoutRoles(t *testing.T) {
	want := map[string]string{
		"2.10.5": "500 Failed to add user `eve`.", "2.11.2": "200 Public",
		"3.0.6": "500 Failed to add user `eve`.", "3.1.2": "500 Failed to add user `eve`.", "3.1.6": "500 Failed to add user `eve`.",
		"3.1.8": "500 Default registration role", "3.2.2": "500 Default registration role", "3.3.2": "500 Default registration role",
	}
	everywhere(t, func(t *testing.T, s *Server) {
		users, _, _ := credentials(s, "admin", "admin")
		r := ask(t, s, "POST", "/auth/fab/v1/users", users, strings.Replace(eve, `{"name":"Viewer"}`, "", 1))
		status, text, _ := strings.Cut(want[s.Profile.Airflow], " ")
		if fmt.Sprint(r.status) != status || !strings.Contains(r.body, text) {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
}

// What PATCH of a role stores, and what it says it does; what DELETE does.
func TestWritingRoles(t *testing.T) {
	const edit = `{"name":"team","actions":[{"action":{"name":"can_edit"},"resource":{"name":"DAGs"}}]}`
	type result struct {
		Create, Status, Told, Stored, Delete string
	}
	want := map[string]result{
		"2.10.5": {"{}", "200", "2", "can_edit can_read", "204 "},
		"2.11.2": {"{}", "200", "2", "can_edit can_read", "204 "},
		"3.0.6":  {"{}", "200", "2", "can_edit can_read", "204 "},
		"3.1.2":  {"{}", "200", "2", "can_edit can_read", "204 "},
		"3.1.6":  {"", "403", "0", "can_read", "500 Internal Server Error"},
		"3.1.8":  {"", "200", "1", "can_edit can_read", "500 Internal Server Error"},
		"3.2.2":  {"", "200", "1", "can_edit can_read", "200 null"},
		"3.3.2":  {"", "200", "1", "can_edit", "200 null"},
	}
	everywhere(t, func(t *testing.T, s *Server) {
		_, roles, _ := credentials(s, "admin", "admin")
		created := ask(t, s, "POST", "/auth/fab/v1/roles", roles, strings.Replace(edit, "can_edit", "can_read", 1))
		patched := ask(t, s, "PATCH", "/auth/fab/v1/roles/team", roles, edit)
		told, _ := patched.field(t, "actions").([]any)
		stored := map[string]bool{}
		team, _ := s.Role("team")
		for _, p := range team.Permissions {
			if p.Resource == "DAGs" {
				stored[p.Action] = true
			}
		}
		told = slices.DeleteFunc(told, func(p any) bool { return strings.Contains(fmt.Sprint(p), "Website") })
		for body, text := range map[string]string{
			`{"name":"Op","actions":[]}`:                                          "already exists; please update with the PATCH endpoint",
			strings.NewReplacer("team", "x", "can_edit", "can_fly").Replace(edit): "The specified action: 'can_fly' was not found",
			strings.NewReplacer("team", "x", "DAGs", "Moon").Replace(edit):        "The specified resource: 'Moon' was not found",
		} {
			if r := ask(t, s, "POST", "/auth/fab/v1/roles", roles, body); !strings.Contains(r.body, text) {
				t.Errorf("POST %s: %d %s", body, r.status, r.body)
			}
		}
		deleted := ask(t, s, "DELETE", "/auth/fab/v1/roles/team", roles, "")
		got := result{
			fmt.Sprint(map[bool]string{true: "{}"}[created.body == "{}"]), fmt.Sprint(patched.status), fmt.Sprint(len(told)),
			strings.Join(sortedKeys(stored), " "), fmt.Sprintf("%d %s", deleted.status, deleted.body),
		}
		if diff := cmp.Diff(want[s.Profile.Airflow], got); diff != "" {
			t.Error(diff)
		}
		if _, left := s.Role("team"); left != s.Profile.RoleDeleteFails {
			t.Errorf("the role is left: %v", left)
		}
	})
}

func TestPermissionsList(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Server) {
		s.PutRole("reader", Permissions("can_read Users", "can_read Roles")...)
		s.PutUser(User{Username: "reader", Roles: []string{"reader"}, Active: true, Password: "pw"})
		users, _, _ := credentials(s, "reader", "pw")
		r := ask(t, s, "GET", "/auth/fab/v1/permissions?limit=1", users, "")
		if !s.Profile.FastAPIPermissions {
			if r.status != 403 {
				t.Errorf("without can_read on Permissions: %d", r.status)
			}
			r = ask(t, s, "GET", "/auth/fab/v1/permissions?limit=1", "admin:admin", "")
			if name := r.field(t, "actions.0.name"); name == nil {
				t.Errorf("want names of actions: %s", r.body)
			}
			return
		}
		if name := r.field(t, "actions.0.resource.name"); name == nil {
			t.Errorf("want pairs: %s", r.body)
		}
	})
}

func TestRefusals(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Server) {
		s.PutUser(User{Username: "op", Roles: []string{"Op"}, Active: true, Password: "pw"})
		s.PutUser(User{Username: "none", Active: true, Password: "pw"})
		for _, of := range []struct {
			user, path string
			want       int
		}{
			{"op", "/auth/fab/v1/users", 403},
			{"op", "/auth/fab/v1/roles", 403},
			{"op", core(s) + "/providers", 200},
			{"op", core(s) + "/eventLogs", 403},
			{"op", core(s) + "/dags", 200},
			{"none", core(s) + "/dags", 403},
			{"none", core(s) + "/providers", 403},
		} {
			users, roles, own := credentials(s, of.user, "pw")
			auth := own
			if strings.HasSuffix(of.path, "users") {
				auth = users
			} else if strings.HasSuffix(of.path, "roles") {
				auth = roles
			}
			r := ask(t, s, "GET", of.path, auth, "")
			if r.status != of.want || of.want == 403 && !strings.Contains(r.body, "Forbidden") {
				t.Errorf("%s %s: %d %s", of.user, of.path, r.status, r.body)
			}
		}
		if !s.Profile.FastAPIUsers {
			lacking := ask(t, s, "GET", "/auth/fab/v1/users", "op:pw", "").header.Get("Set-Cookie") != ""
			wrong := ask(t, s, "GET", "/auth/fab/v1/users", "op:no", "").header.Get("Set-Cookie") != ""
			if !lacking || wrong != s.Profile.SessionForAll {
				t.Errorf("a session for who lacks the right: %v, for the wrong password: %v", lacking, wrong)
			}
		}
		if s.Profile.V2() {
			return
		}
		for auth, want := range map[string]string{
			"":            `401 {"detail":"Not authenticated"}`,
			"admin:admin": `401 {"detail":"Not authenticated"}`,
			"bearer a.b":  `403 {"detail":"Invalid JWT token"}`,
		} {
			if r := ask(t, s, "GET", "/api/v2/dags", auth, ""); fmt.Sprintf("%d %s", r.status, r.body) != want {
				t.Errorf("%q: %d %s", auth, r.status, r.body)
			}
		}
		if r := ask(t, s, "POST", "/auth/token", "", `{"username":"op","password":"no"}`); r.status != 401 || !strings.Contains(r.body, "Invalid credentials") {
			t.Errorf("wrong password: %d %s", r.status, r.body)
		}
	})
}

// A token keeps the rights of its owner for as long as the cache, and no longer.
func TestCache(t *testing.T) {
	clock := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, p := range Profiles() {
		if p.V2() {
			continue
		}
		s := Start(t, Options{Profile: p, Now: func() time.Time { return clock }})
		s.PutUser(User{Username: "eve", Roles: []string{"Viewer"}, Active: true, Password: "pw"})
		_, _, token := credentials(s, "eve", "pw")
		status := func() int { return ask(t, s, "GET", "/api/v2/dags", token, "").status }
		if got := status(); got != 200 {
			t.Fatalf("%s: a viewer gets %d", p, got)
		}
		s.SetRoles("eve")
		want := map[bool]int{true: 200, false: 403}[p.CacheTTL > 0]
		if got := status(); got != want {
			t.Errorf("%s: right after the revocation %d, want %d", p, got, want)
		}
		clock = clock.Add(31 * time.Second)
		if got := status(); got != 403 {
			t.Errorf("%s: after the cache %d, want 403", p, got)
		}
		s.DeleteUser("eve")
		clock = clock.Add(31 * time.Second)
		if got := status(); got != p.GoneStatus {
			t.Errorf("%s: deleted %d, want %d", p, got, p.GoneStatus)
		}
	}
}

func TestTokenEnds(t *testing.T) {
	clock := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	s := Start(t, Options{TokenLife: time.Minute, Now: func() time.Time { return clock }})
	token := "bearer " + s.Token("admin")
	expect := func(token, want string) {
		t.Helper()
		if r := ask(t, s, "GET", "/auth/fab/v1/roles?limit=0", token, ""); !strings.HasPrefix(fmt.Sprint(r.status, r.body), want) {
			t.Errorf("%d %s, want %s", r.status, r.body, want)
		}
	}
	expect(token, "200")
	clock = clock.Add(2 * time.Minute)
	expect(token, `401{"detail":"Token Expired"}`)
	token = "bearer " + s.Token("admin")
	s.RevokeTokens()
	expect(token, `403{"detail":"Invalid JWT token"}`)
	token = "bearer " + s.Token("admin")
	expect(token, "200")
	s.ExpireTokens()
	expect(token, `401{"detail":"Token Expired"}`)
}

// Signing in is counted, by token and by password alike; times don't say their
// zone, and leave out a fraction of zero.
func TestLogins(t *testing.T) {
	zone := time.FixedZone("there", 2*3600)
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, airflow := range []string{"2.11.2", "3.1.6", "3.3.2"} {
		s := Start(t, Options{Profile: For(airflow), Zone: zone, Now: func() time.Time { return now }})
		s.PutUser(User{Username: "eve", Roles: []string{"Admin"}, Active: true, Password: "pw"})
		users, _, _ := credentials(s, "admin", "admin")
		if r := ask(t, s, "GET", "/auth/fab/v1/users/eve", users, ""); r.field(t, "login_count") != nil || r.field(t, "last_login") != nil {
			t.Errorf("%s: before: %s", airflow, r.body)
		}
		login := func(password string) {
			if s.Profile.V2() {
				ask(t, s, "GET", "/api/v1/dags", "eve:"+password, "")
			} else {
				ask(t, s, "POST", "/auth/token", "", `{"username":"EVE@example.com","password":"`+password+`"}`)
			}
		}
		s.PutUser(User{Username: "eve", Email: "EVE@example.com", Roles: []string{"Admin"}, Active: true, Password: "pw"})
		login("pw")
		login("wrong")
		r := ask(t, s, "GET", "/auth/fab/v1/users/eve", users, "")
		got := fmt.Sprintf("%v %v %v", r.field(t, "login_count"), r.field(t, "fail_login_count"), r.field(t, "last_login"))
		if want := "1 1 2026-11-01T14:00:00"; got != want {
			t.Errorf("%s: %s, want %s", airflow, got, want)
		}
		s.SetActive("eve", false)
		login("pw")
		if u, _ := s.User("eve"); u.Logins != 1 {
			t.Errorf("%s: an inactive user signed in", airflow)
		}
	}
}

func TestPaging(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Server) {
		s.Generate(Scale{Users: 250, Roles: 3})
		users, _, _ := credentials(s, "admin", "admin")
		var names []string
		for len(names) < 251 {
			r := ask(t, s, "GET", fmt.Sprintf("/auth/fab/v1/users?limit=1000&offset=%d", len(names)), users, "")
			page := strings.Split(r.each(t, "users", "username"), ",")
			if len(page) > 100 || page[0] == "" {
				t.Fatalf("a page of %d", len(page))
			}
			names = append(names, page...)
			if total := r.field(t, "total_entries"); total != 251.0 {
				t.Fatalf("total_entries %v", total)
			}
		}
		if names[0] != "admin" || names[1] != "user-000000" || names[250] != "user-000249" {
			t.Errorf("%s … %s", names[1], names[250])
		}
		if r := ask(t, s, "GET", "/auth/fab/v1/users?order_by=-id&limit=1", users, ""); (r.status == 400) == s.Profile.FastAPIUsers {
			t.Errorf("descending: %d", r.status)
		}
		if r := ask(t, s, "GET", "/auth/fab/v1/users?limit=-1", users, ""); r.status != map[bool]int{true: 422, false: 400}[s.Profile.FastAPIUsers] {
			t.Errorf("negative limit: %d", r.status)
		}
	})
}

func TestDAGs(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Server) {
		s.PutRole("finance")
		s.PutUser(User{Username: "fin", Roles: []string{"finance"}, Active: true, Password: "pw"})
		s.PutDAG(DAG{ID: "a"})
		s.PutDAG(DAG{ID: "c", Stale: true})
		s.PutDAG(DAG{ID: "b", Owners: []string{"ann"}, Tags: []string{"t"}, Paused: true, Access: map[string]map[string][]string{"finance": {"DAGs": {"can_read"}, "DAG Runs": {"can_create"}}}})
		list := func(user, password, query string) string {
			_, _, auth := credentials(s, user, password)
			return ask(t, s, "GET", core(s)+"/dags"+query, auth, "").each(t, "dags", "dag_id")
		}
		if got := list("admin", "admin", ""); got != "a,b" {
			t.Errorf("admin sees %s", got)
		}
		if got := list("admin", "admin", map[bool]string{true: "?only_active=false", false: "?exclude_stale=false"}[s.Profile.V2()]); got != "a,b,c" {
			t.Errorf("with the stale ones: %s", got)
		}
		if got := list("fin", "pw", ""); got != "b" {
			t.Errorf("with a right on b: %s", got)
		}
		finance, _ := s.Role("finance")
		if want := Permissions("can_create DAG Run:b", "can_read DAG:b", "can_read Website"); !sameNames(names(finance.Permissions), names(want)) {
			t.Errorf("access control gave %v", finance.Permissions)
		}
		s.PutDAG(DAG{ID: "b", Access: map[string]map[string][]string{}})
		if finance, _ = s.Role("finance"); len(finance.Permissions) != 1 {
			t.Errorf("and took away all but %v", finance.Permissions)
		}
	})
}

func names(perms []Permission) (out []string) {
	for _, p := range perms {
		out = append(out, p.Action+" "+p.Resource)
	}
	return out
}

func TestEvents(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	everywhere(t, func(t *testing.T, s *Server) {
		s.PutRole("audit", Permissions("can_read Audit Logs")...)
		s.PutUser(User{Username: "audit", Roles: []string{"audit"}, Active: true, Password: "pw"})
		for i := range 5 {
			s.AddEvent(Event{Event: fmt.Sprintf("event%d", i), DAG: "d", Owner: "eve", When: at.Add(time.Duration(i) * time.Minute)})
		}
		_, _, auth := credentials(s, "admin", "admin")
		ids := func(query string) string {
			r := ask(t, s, "GET", core(s)+"/eventLogs?"+query, auth, "")
			if r.status == 500 {
				return "500 "
			}
			return fmt.Sprint(r.status, " ", r.each(t, "event_logs", "event_log_id"))
		}
		for query, want := range map[string]string{
			"order_by=event_log_id&limit=2&offset=1": "200 2,3",
			"order_by=-event_log_id&limit=2":         "200 5,4",
			"after=2026-11-01T12:01:00Z":             "200 3,4,5", // strictly
			"before=2026-11-01T12:01:00Z":            "200 1",
			"event=event3":                           "200 4",
			"owner=bob":                              "200 ",
			"excluded_events=event0":                 "200 2,3,4,5",
			"after=2026-11-01T12:01:00":              map[bool]string{true: "400 ", false: "500 "}[s.Profile.V2()],
			"limit=0":                                map[bool]string{true: "200 1,2,3,4,5", false: "200 "}[s.Profile.V2()],
		} {
			if got := ids(query); got != want {
				t.Errorf("%s: %s, want %s", query, got, want)
			}
		}
		_, _, auth = credentials(s, "audit", "pw")
		want := map[string]string{"2.10.5": "200 1,2,3,4,5", "2.11.2": "200 1,2,3,4,5", "3.0.6": "200 "}[s.Profile.Airflow]
		if want == "" {
			want = "403 "
		}
		if got := ids(""); got != want {
			t.Errorf("can_read on Audit Logs alone: %s, want %s", got, want)
		}
	})
}

// Two writers that read before either writes lose one of the updates.
func TestLostUpdate(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Server) {
		users, _, _ := credentials(s, "admin", "admin")
		ask(t, s, "POST", "/auth/fab/v1/users", users, eve)
		var once sync.Once
		s.Before(func(r Request) {
			if r.Endpoint == "PATCH /auth/fab/v1/users/{username}" {
				once.Do(func() { s.SetRoles("eve", "Viewer", "Op") })
			}
		})
		ask(t, s, "PATCH", "/auth/fab/v1/users/eve?update_mask=roles", users, rolesOf("Viewer", "User"))
		if got := s.Roles("eve"); !slices.Equal(got, []string{"User", "Viewer"}) {
			t.Errorf("roles are %v", got)
		}
	})
}

func TestObserved(t *testing.T) {
	s := Start(t, Options{Path: "/airflow/"})
	token := "bearer " + s.Token("admin")
	var after []int
	s.After(func(r Request) { after = append(after, r.Status) })
	ask(t, s, "GET", "/auth/fab/v1/users?limit=3", token, "")
	ask(t, s, "GET", "/auth/fab/v1/users/Admin", "admin:admin", "")
	if r := ask(t, s, "GET", "-not/api/v2/version", "", ""); r.status != 404 {
		t.Errorf("outside of the path: %d", r.status)
	}
	got := s.Requests()[0]
	want := Request{
		Number: 1, Method: "GET", Path: "/auth/fab/v1/users", Query: map[string][]string{"limit": {"3"}},
		Credential: "bearer", User: "admin", Body: []byte{}, Status: 200, Endpoint: "GET /auth/fab/v1/users",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := s.Count("GET /auth/fab/v1/users/{username}"); n != 1 || s.Count() != 3 {
		t.Errorf("counted %d of %d", n, s.Count())
	}
	if !slices.Equal(after, []int{200, 401, 404}) {
		t.Errorf("after: %v", after)
	}
}

func TestFaults(t *testing.T) {
	s := Start(t, Options{})
	token := "bearer " + s.Token("admin")
	const path = "/auth/fab/v1/users"
	get := func() (reply, error) { return send(t, s, "GET", path, token, "") }
	whole, _ := get()

	s.Inject(Fault{Path: path, Skip: 1, Times: 2, Act: Status(503)})
	var got []int
	for range 4 {
		r, err := get()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.status)
	}
	if !slices.Equal(got, []int{200, 503, 503, 200}) {
		t.Errorf("statuses %v", got)
	}
	for name, of := range map[string]struct {
		act  Act
		good func(reply, error) bool
	}{
		"429":       {TooManyRequests(3 * time.Second), func(r reply, _ error) bool { return r.status == 429 && r.header.Get("Retry-After") == "3" }},
		"page":      {SignInPage(), func(r reply, _ error) bool { return r.status == 200 && strings.Contains(r.body, "<html>") }},
		"redirect":  {Redirect("https://elsewhere.example.com/"), func(r reply, _ error) bool { return r.header.Get("Location") != "" }},
		"expired":   {ExpiredToken(), func(r reply, _ error) bool { return r.status == 401 }},
		"revoked":   {InvalidToken(), func(r reply, _ error) bool { return r.status == 403 }},
		"mid body":  {ResetMidBody(), func(r reply, err error) bool { return r.status == 200 && err != nil && len(r.body) < len(whole.body) }},
		"truncated": {Truncate(), func(r reply, err error) bool { return err == nil && len(r.body) == len(whole.body)/2 }},
	} {
		s.Inject(Fault{Method: "GET", Path: "/auth/fab/v1/*", Act: of.act})
		if r, err := get(); !of.good(r, err) {
			t.Errorf("%s: %d %v %q %v", name, r.status, r.header, r.body, err)
		}
	}
	s.Inject(Fault{Method: "POST", Act: Reset()})
	if _, err := send(t, s, "POST", path, token, eve); err == nil {
		t.Error("no reset")
	}
	if _, there := s.User("eve"); there {
		t.Error("a reset connection did something")
	}
	s.Inject(Fault{Method: "POST", Times: -1, Act: LoseAnswer()})
	if _, err := send(t, s, "POST", path, token, eve); err == nil {
		t.Error("the answer was not lost")
	}
	if _, there := s.User("eve"); !there {
		t.Error("a lost answer did nothing")
	}
	s.ClearFaults()
	if r := ask(t, s, "POST", path, token, eve); r.status != 409 {
		t.Errorf("after the faults: %d", r.status)
	}
}

func TestHold(t *testing.T) {
	s := Start(t, Options{})
	hold := NewHold()
	s.Inject(Fault{Act: hold.Act})
	done := make(chan int)
	go func() {
		r, _ := send(t, s, "GET", "/api/v2/version", "", "")
		done <- r.status
	}()
	<-hold.Entered()
	select {
	case <-done:
		t.Fatal("it did not wait")
	default:
	}
	hold.Release()
	if got := <-done; got != 200 {
		t.Errorf("status %d", got)
	}
}

// A restart keeps the port, what is stored, and the tokens.
func TestRestart(t *testing.T) {
	s := Start(t, Options{})
	url, token := s.URL, "bearer "+s.Token("admin")
	s.Close()
	if _, err := send(t, s, "GET", "/api/v2/version", "", ""); err == nil {
		t.Error("it answers while it is down")
	}
	s.Listen()
	if r := ask(t, s, "GET", "/auth/fab/v1/users", token, ""); r.status != 200 || s.URL != url {
		t.Errorf("%d at %s, was at %s", r.status, s.URL, url)
	}
}

func TestOtherAuthManagers(t *testing.T) {
	for auth, title := range map[AuthManager]string{
		Simple: "Simple auth manager sub application", Keycloak: "Keycloak auth manager sub application",
	} {
		s := Start(t, Options{Auth: auth})
		if r := ask(t, s, "POST", "/auth/token", "", `{"username":"admin","password":"admin"}`); r.status != 201 {
			t.Errorf("%s: token %d", auth, r.status)
		}
		r := ask(t, s, "GET", "/auth/openapi.json", "", "")
		if r.field(t, "info.title") != title || strings.Contains(r.body, "/fab/") {
			t.Errorf("%s: %s", auth, r.body)
		}
		// The page of the UI answers what isn't there.
		if r := ask(t, s, "GET", "/auth/fab/v1/users", "bearer "+s.Token("admin"), ""); r.status != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: users %d %v", auth, r.status, r.header)
		}
		if r := ask(t, s, "POST", "/auth/fab/v1/users", "", "{}"); r.status != 405 {
			t.Errorf("%s: POST users %d", auth, r.status)
		}
	}
}

// After an error that nobody caught, the connection is closed without a word.
func TestUnhandledClosesConnection(t *testing.T) {
	s := Start(t, Options{Profile: For("3.1.8")})
	s.PutRole("team")
	token := "bearer " + s.Token("admin")
	if r := ask(t, s, "DELETE", "/auth/fab/v1/roles/team", token, ""); r.status != 500 || r.header.Get("Connection") != "" {
		t.Errorf("%d %v", r.status, r.header)
	}
	if r := ask(t, s, "GET", "/auth/fab/v1/roles/team", token, ""); r.status != 200 {
		t.Errorf("the role: %d", r.status)
	}
}

func TestTLS(t *testing.T) {
	s := Start(t, Options{TLS: true})
	if !strings.HasPrefix(s.URL, "https://") || !strings.Contains(string(s.Certificate()), "BEGIN CERTIFICATE") {
		t.Errorf("%s %s", s.URL, s.Certificate())
	}
	ask(t, s, "GET", "/api/v2/version", "", "")
}

func TestGenerated(t *testing.T) {
	s := New(Options{})
	s.Generate(Scale{Users: 100_000, Roles: 100, DAGs: 50})
	u, found := s.User("USER-099998")
	want := User{
		Username: "user-099998", Email: "user-099998@example.com", FirstName: "Person", LastName: "Number 99998",
		Roles: []string{"Viewer", "team-0098"}, Active: true, Created: u.Created,
	}
	if diff := cmp.Diff(want, u); !found || diff != "" {
		t.Error(diff)
	}
	s.SetRoles("user-099998", "Op")
	s.DeleteUser("user-000007")
	s.DeleteRole("team-0008")
	if got := s.Roles("user-099998"); !slices.Equal(got, []string{"Op"}) {
		t.Errorf("changed: %v", got)
	}
	if _, there := s.User("user-000007"); there {
		t.Error("deleted, but there")
	}
	if got := s.Roles("user-000008"); !slices.Equal(got, []string{"Viewer"}) {
		t.Errorf("after its role was deleted: %v", got)
	}
	if users, roles, dags := s.Totals(); users != 100_000 || roles != 104 || dags != 50 {
		t.Errorf("%d users, %d roles, %d DAGs", users, roles, dags)
	}
}

func TestCompany(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Server) {
		company := Company()
		s.Load(company)
		for _, u := range company.Users {
			got, _ := s.User(u.Username)
			if !sameNames(got.Roles, u.Roles) || got.Active != u.Active {
				t.Errorf("%s: %v", u.Username, got)
			}
		}
	})
}

// The profiles are the releases that the project is tested against.
func TestProfilesAreTheReleases(t *testing.T) {
	var got, want []string
	for _, p := range Profiles() {
		got = append(got, p.Airflow+" "+p.FAB)
	}
	for _, r := range Releases("") {
		want = append(want, r.Airflow+" "+r.FAB)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestConcurrent(t *testing.T) {
	s := Start(t, Options{})
	s.Generate(Scale{Users: 200, Roles: 5})
	token := "bearer " + s.Token("admin")
	s.Before(func(r Request) { s.SetActive("user-000001", r.Number%2 == 0) })
	var group sync.WaitGroup
	failed := make(chan error, 20)
	for i := range 20 {
		group.Go(func() {
			_, err := send(t, s, "GET", fmt.Sprintf("/auth/fab/v1/users?offset=%d", i), token, "")
			s.Users()
			failed <- err
		})
	}
	group.Wait()
	close(failed)
	for err := range failed {
		if err != nil && !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
	if n := len(s.Requests()); n != 20 {
		t.Errorf("%d requests", n)
	}
}

// sameNames compares without order.
func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
