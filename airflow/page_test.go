package airflow_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"airlock/airflow"
	"airlock/airflow/airflowtest"
)

// people makes users u00, u01, … beside admin.
func people(srv *airflowtest.Server, n int) {
	for i := range n {
		srv.PutUser(airflowtest.User{Username: fmt.Sprintf("u%02d", i), Roles: []string{"Viewer"}, Active: true})
	}
}

// complete fails the test unless the list holds each name exactly once.
func complete(t *testing.T, got, names []string) {
	t.Helper()
	count := map[string]int{}
	for _, name := range got {
		count[name]++
	}
	for _, name := range names {
		if count[name] != 1 {
			t.Errorf("%s is there %d times", name, count[name])
		}
	}
}

func TestPagesAreCountedByWhatComes(t *testing.T) {
	for _, limit := range []int{2, 3, 7, 99, 100, 1000} {
		for _, n := range []int{0, 1, 2, 6, 7, 8, 98, 99, 100, 199, 200} {
			r := startInside(t, airflowtest.Options{PageLimit: limit})
			people(r.srv, n)
			users, err := collect(r.Users(t.Context()))
			if err != nil || len(users) != n+1 {
				t.Errorf("limit %d: %d of %d users, %v", limit, len(users), n+1, err)
			}
			// Each page but the first begins with the last of the one before.
			size := min(limit, 100)
			if asked := r.srv.Count(userList); asked > 1+max(0, n+1-size+size-2)/(size-1) {
				t.Errorf("limit %d: %d requests for %d users", limit, asked, n+1)
			}
		}
	}
}

func TestPageOfOne(t *testing.T) {
	r := startInside(t, airflowtest.Options{PageLimit: 1})
	if users, err := collect(r.Users(t.Context())); err != nil || len(users) != 1 {
		t.Errorf("one user: %v, %v", users, err)
	}
	people(r.srv, 2)
	for _, err := range []error{second(collect(r.Users(t.Context()))), second(collect(r.Roles(t.Context())))} {
		want(t, err, airflow.Precondition, "one item at a time", "maximum_page_limit")
	}
}

func TestEmptyList(t *testing.T) {
	forEach(t, func(t *testing.T, p airflowtest.Profile) {
		r := startInside(t, airflowtest.Options{Profile: p})
		if page, err := r.DAGsPage(t.Context(), airflow.Cursor{}); err != nil || len(page.Items) != 0 || page.Total != 0 || page.Next != nil {
			t.Errorf("got %+v, %v", page, err)
		}
	})
}

// One change at each place in the list, before each request.
func TestListMovesAtEveryPosition(t *testing.T) {
	const n, limit = 22, 7
	changes := map[string]func(*airflowtest.Server, string){
		"delete":     (*airflowtest.Server).DeleteUser,
		"delete two": func(srv *airflowtest.Server, u string) { srv.DeleteUser(u); srv.DeleteUser(u[:2] + "5") },
		"insert":     func(srv *airflowtest.Server, u string) { srv.PutUser(airflowtest.User{Username: "new-" + u}) },
		"replace": func(srv *airflowtest.Server, u string) {
			srv.DeleteUser(u)
			srv.PutUser(airflowtest.User{Username: u})
		},
		"delete a page and more": func(srv *airflowtest.Server, u string) {
			for _, other := range srv.Users() {
				if other.Username != "admin" && other.Username <= u {
					srv.DeleteUser(other.Username)
				}
			}
		},
	}
	for name, change := range changes {
		for request := 2; request <= 4; request++ {
			for position := range n {
				r := startInside(t, airflowtest.Options{PageLimit: limit})
				people(r.srv, n)
				before := r.srv.Users()
				r.srv.Before(func(asked airflowtest.Request) {
					if asked.Endpoint == userList && r.srv.Count(userList) == request {
						change(r.srv, before[position+1].Username)
					}
				})
				users, err := collect(r.Users(t.Context()))
				if err != nil {
					t.Errorf("%s %d before request %d: %v", name, position, request, err)
				}
				complete(t, usernames(users), stayed(before, r.srv))
				if t.Failed() {
					t.Fatalf("%s %d before request %d: %v", name, position, request, usernames(users))
				}
			}
		}
	}
}

// However far the list moves, the place is found again.
func TestListMovesByAnyDistance(t *testing.T) {
	for deleted := range 36 {
		r := startInside(t, airflowtest.Options{PageLimit: 7})
		people(r.srv, 60)
		r.srv.Before(func(asked airflowtest.Request) {
			if asked.Endpoint == userList && r.srv.Count(userList) == 7 {
				for i := range deleted {
					r.srv.DeleteUser(fmt.Sprintf("u%02d", i))
				}
			}
		})
		users, err := collect(r.Users(t.Context()))
		if err != nil || len(users) != 61 {
			t.Errorf("%d deleted: %d users, %v", deleted, len(users), err)
		}
	}
}

// stayed are the names of the users who were there before, and are the same still.
func stayed(before []airflowtest.User, srv *airflowtest.Server) (names []string) {
	for _, u := range before {
		if now, found := srv.User(u.Username); found && now.Created.Equal(u.Created) {
			names = append(names, u.Username)
		}
	}
	return names
}

// Whatever happens between the pages: who is there all the while is listed once,
// or the list ends in an error.
func TestListMovesAtRandom(t *testing.T) {
	moved := 0
	const runs = 150
	for seed := range uint64(runs) {
		random := rand.New(rand.NewPCG(seed, 1))
		clock := newClock()
		limit, n, changes := 2+random.IntN(8), random.IntN(40), random.IntN(5)
		r := startInside(t, airflowtest.Options{PageLimit: limit, Now: clock.tick, TokenLife: 1e6 * 1e9})
		people(r.srv, n)
		before := r.srv.Users()
		r.srv.Before(func(asked airflowtest.Request) {
			if asked.Endpoint != userList {
				return
			}
			for range random.IntN(changes + 1) {
				users := r.srv.Users()
				name := users[random.IntN(len(users))].Username
				switch kind := random.IntN(4); {
				case kind == 0:
					r.srv.PutUser(airflowtest.User{Username: fmt.Sprintf("new%d", random.IntN(1000))})
				case name == "admin":
				case kind == 1:
					r.srv.DeleteUser(name)
					r.srv.PutUser(airflowtest.User{Username: name})
				default:
					r.srv.DeleteUser(name)
				}
			}
		})
		users, err := collect(r.Users(t.Context()))
		if err != nil {
			want(t, err, airflow.Moved, "list users")
			moved++
			continue
		}
		complete(t, usernames(users), stayed(before, r.srv))
		if t.Failed() {
			t.Fatalf("seed %d: %d users by %d, %d changes a request: got %v", seed, n, limit, changes, usernames(users))
		}
	}
	if moved > runs/20 {
		t.Errorf("%d of %d lists were given up", moved, runs)
	}
}

// DAGs are in the order of their ids: new ones come anywhere.
func TestListOfDAGsMovesAtRandom(t *testing.T) {
	moved := 0
	const runs = 100
	for seed := range uint64(runs) {
		random := rand.New(rand.NewPCG(seed, 2))
		r := startInside(t, airflowtest.Options{PageLimit: 3 + random.IntN(8)})
		some := func() string { return fmt.Sprintf("dag%03d", random.IntN(1000)) }
		stay := map[string]bool{}
		for range random.IntN(40) {
			stay[some()] = true
		}
		for id := range stay {
			r.srv.PutDAG(airflowtest.DAG{ID: id})
		}
		r.srv.Before(func(asked airflowtest.Request) {
			if asked.Endpoint != "GET /api/v2/dags" {
				return
			}
			if random.IntN(2) == 0 {
				r.srv.PutDAG(airflowtest.DAG{ID: some()})
			}
			for range random.IntN(40) {
				id := some()
				r.srv.DeleteDAG(id)
				delete(stay, id)
			}
		})
		dags, err := collect(r.DAGs(t.Context()))
		if err != nil {
			want(t, err, airflow.Moved, "list DAGs")
			moved++
			continue
		}
		got := make([]string, len(dags))
		for i, d := range dags {
			got[i] = d.ID
		}
		complete(t, got, slices.Collect(maps.Keys(stay)))
		if t.Failed() {
			t.Fatalf("seed %d: got %v", seed, got)
		}
	}
	if moved > runs/20 {
		t.Errorf("%d of %d lists were given up", moved, runs)
	}
}

// pages reads the list page by page, keeping the cursor as JSON in between.
func pages(t *testing.T, r rig, cur airflow.Cursor) (users []airflow.User, totals []int, err error) {
	t.Helper()
	for {
		p, err := r.UsersPage(t.Context(), cur)
		if err != nil {
			return users, totals, err
		}
		users, totals = append(users, p.Items...), append(totals, p.Total)
		if p.Next == nil {
			return users, totals, nil
		}
		stored, err := json.Marshal(p.Next)
		if err != nil {
			t.Fatal(err)
		}
		cur = airflow.Cursor{}
		if err := json.Unmarshal(stored, &cur); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCursorIsStored(t *testing.T) {
	r := startInside(t, airflowtest.Options{PageLimit: 7})
	people(r.srv, 40)
	users, totals, err := pages(t, r, airflow.Cursor{})
	if err != nil || slices.Max(totals) != 41 || slices.Min(totals) != 41 {
		t.Errorf("%v, %v", totals, err)
	}
	if names := usernames(users); len(names) != 41 || names[0] != "admin" || !slices.IsSorted(names[1:]) {
		t.Errorf("got %v", names)
	}
}

// A page token of another time finds where it was, or begins anew.
func TestCursorOfAnotherTime(t *testing.T) {
	r := startInside(t, airflowtest.Options{PageLimit: 7})
	people(r.srv, 40)
	first, err := r.UsersPage(t.Context(), airflow.Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	for name, cur := range map[string]airflow.Cursor{
		"all others":     {Page: 3, Offset: 20, Known: []string{"x 1", "y 2", "z 3"}},
		"nothing known":  {Page: 3, Offset: 20},
		"beyond the end": {Page: 300, Offset: 2000, Known: []string{"x 1", "y 2", "z 3"}},
		"negative":       {Page: -1, Offset: -5},
	} {
		users, _, err := pages(t, r, cur)
		if err != nil || len(users) != 41 {
			t.Errorf("%s: %d users, %v", name, len(users), err)
		}
	}
	for i := range 30 {
		r.srv.DeleteUser(fmt.Sprintf("u%02d", i+5))
	}
	users, _, err := pages(t, r, *first.Next)
	if err != nil {
		t.Fatal(err)
	}
	complete(t, usernames(users), []string{"u35", "u36", "u37", "u38", "u39"})
}

func TestListThatNeverSettles(t *testing.T) {
	for name, keep := range map[string]bool{"all others each time": false, "one stays": true} {
		t.Run(name, func(t *testing.T) {
			r := startInside(t, airflowtest.Options{PageLimit: 7})
			// The account that reads comes last: what it reads is before it.
			generation := 0
			anew := func() {
				generation++
				for i, u := range r.srv.Users() {
					if u.Username != "reader" && (i > 0 || !keep) {
						r.srv.DeleteUser(u.Username)
					}
				}
				for i := range 30 {
					r.srv.PutUser(airflowtest.User{Username: fmt.Sprintf("g%d-%d", generation, i)})
				}
			}
			r.srv.PutUser(airflowtest.User{Username: "reader", Roles: []string{"Admin"}, Active: true})
			reader := dial(t, r.srv.URL, r.clock, inside(r.srv), withToken(r.srv.Token("reader")))
			r.srv.Before(func(asked airflowtest.Request) {
				if asked.Endpoint == userList {
					anew()
				}
			})
			_, err := collect(reader.Users(t.Context()))
			want(t, err, airflow.Moved, "list users", "kept changing", "read it again")
		})
	}
}

// retotal answers with another total_entries than the list's own.
func retotal(change func(int) int) airflowtest.Act {
	return func(w http.ResponseWriter, r *http.Request, api http.Handler) {
		whole := httptest.NewRecorder()
		api.ServeHTTP(whole, r)
		var answer map[string]any
		if err := json.Unmarshal(whole.Body.Bytes(), &answer); err != nil {
			panic(err)
		}
		if total, ok := answer["total_entries"].(float64); ok {
			answer["total_entries"] = change(int(total))
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func TestMoreIsCountedThanComes(t *testing.T) {
	for _, n := range []int{0, 1, 5, 6, 7, 20} {
		r := startInside(t, airflowtest.Options{PageLimit: 7})
		people(r.srv, n)
		more := retotal(func(n int) int { return n + 3 })
		r.srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users", Times: -1, Act: more})
		_, err := collect(r.Users(t.Context()))
		if n == 0 { // like an Airflow that gives one at a time
			want(t, err, airflow.Precondition, "list users")
			continue
		}
		want(t, err, airflow.Moved, "list users", "counts more than it gives")
		// Counted wrong once, it is asked again.
		r.srv.ClearFaults()
		r.srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users", Skip: n / 7, Times: 2, Act: more})
		if users, err := collect(r.Users(t.Context())); err != nil || len(users) != n+1 {
			t.Errorf("%d users, %v", len(users), err)
		}
	}
}

// An Airflow that gives an item twice gives another one not at all: read again.
func TestDuplicatesAreDropped(t *testing.T) {
	r := startInside(t, airflowtest.Options{PageLimit: 7, Now: newClock().now}) // all are made at one time
	people(r.srv, 30)
	shuffle := func(w http.ResponseWriter, r *http.Request, api http.Handler) {
		whole := httptest.NewRecorder()
		api.ServeHTTP(whole, r)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, strings.ReplaceAll(whole.Body.String(), `"u08"`, `"u03"`))
	}
	list := airflowtest.Fault{Path: "/auth/fab/v1/users", Skip: 1, Times: 1, Act: shuffle}
	r.srv.Inject(list)
	users, err := collect(r.Users(t.Context()))
	if err != nil || len(users) != 31 {
		t.Errorf("%d users, %v", len(users), err)
	}
	complete(t, usernames(users), []string{"admin", "u03", "u07", "u08", "u09", "u29"})
	// Always so, it is no list.
	list.Times = -1
	r.srv.Inject(list)
	_, err = collect(r.Users(t.Context()))
	want(t, err, airflow.Moved, "list users")
	// Within a page.
	r.srv.ClearFaults()
	r.srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users", Times: 2, Act: airflowtest.Answer(200, "application/json",
		`{"users":[{"username":"a","roles":[]},{"username":"a","roles":[]},{"username":"b","roles":[]}],"total_entries":3}`)})
	if users, err = collect(r.Users(t.Context())); err != nil || len(users) != 33 {
		t.Errorf("got %v, %v", usernames(users), err)
	}
}

// lists are all kinds of lists: how they are read, where, by what name in JSON.
var lists = map[string]struct {
	read           func(*testing.T, rig) error
	path, key, one string
}{
	"users":       {func(t *testing.T, r rig) error { return second(collect(r.Users(t.Context()))) }, "/auth/fab/v1/users", "users", `{"username":"a","roles":[]}`},
	"roles":       {func(t *testing.T, r rig) error { return second(collect(r.Roles(t.Context()))) }, "/auth/fab/v1/roles", "roles", `{"name":"a","actions":[]}`},
	"permissions": {func(t *testing.T, r rig) error { return second(collect(r.Permissions(t.Context()))) }, "/auth/fab/v1/permissions", "actions", `{"action":{"name":"a"},"resource":{"name":"b"}}`},
	"DAGs":        {func(t *testing.T, r rig) error { return second(collect(r.DAGs(t.Context()))) }, "/api/v2/dags", "dags", `{"dag_id":"a"}`},
	"events": {func(t *testing.T, r rig) error {
		_, _, err := r.Events(t.Context(), newClock().now(), 0, 10, nil)
		return err
	}, "/api/v2/eventLogs", "event_logs", `{"event_log_id":1,"when":"2026-01-01T00:00:00Z"}`},
}

// A list is never "not found", and never empty for want of an answer.
func TestListIsNeverNotFound(t *testing.T) {
	for name, list := range lists {
		for _, act := range []airflowtest.Act{
			airflowtest.Answer(404, "application/json", `{"detail":"Not Found"}`),
			airflowtest.Answer(404, "application/json", `{"detail":"`+list.path+` `+list.key+` was not found"}`),
			airflowtest.Answer(404, "application/problem+json", `{"detail":null,"title":"Not Found","status":404}`),
			airflowtest.Answer(404, "text/html", "<title>Airflow 404</title>"),
			airflowtest.Answer(405, "application/json", `{"detail":"Method Not Allowed"}`),
			airflowtest.Answer(410, "text/html", "<p>gone"),
			airflowtest.SignInPage(),
			airflowtest.Answer(200, "application/json", `null`),
			airflowtest.Answer(200, "application/json", `[]`),
			airflowtest.Answer(200, "application/json", `{}`),
			airflowtest.Answer(200, "application/json", `{"total_entries":0}`),
			airflowtest.Answer(200, "application/json", `{"`+list.key+`":null,"total_entries":0}`),
			airflowtest.Answer(200, "application/json", `{"`+list.key+`":[]}`),
			airflowtest.Answer(200, "application/json", `{"`+list.key+`":[null],"total_entries":1}`),
			airflowtest.Answer(200, "application/json", `{"`+list.key+`":[{}],"total_entries":1}`),
			airflowtest.Answer(200, "application/json", `{"`+list.key+`":[`+list.one+`,{"other":1}],"total_entries":2}`),
			airflowtest.Answer(200, "application/json", `{"`+list.key+`":["a"],"total_entries":1}`),
			airflowtest.Answer(200, "application/json", `{"`+list.key+`":{},"total_entries":1}`),
			airflowtest.Answer(200, "application/json", `{"`+list.key+`":[],"total_entries":"0"}`),
			airflowtest.Answer(204, "application/json", ``),
		} {
			r := startInside(t, airflowtest.Options{})
			r.srv.Inject(airflowtest.Fault{Path: list.path, Times: -1, Act: act})
			err := list.read(t, r)
			if !airflow.Is(err, airflow.Precondition) && !airflow.Is(err, airflow.Unavailable) {
				t.Errorf("%s: got %v, want Precondition", name, err)
			}
		}
		r := startInside(t, airflowtest.Options{})
		r.srv.Inject(airflowtest.Fault{Path: list.path, Act: airflowtest.Answer(200, "application/json", `{"`+list.key+`":[`+list.one+`],"total_entries":1}`)})
		if err := list.read(t, r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What can't be read whole is not used at all.
func TestItemsAreReadWhole(t *testing.T) {
	for _, c := range []struct{ list, item, says string }{
		{"users", `{"username":"","roles":[]}`, "without a username"},
		{"users", `{"username":"eve"}`, `"eve" without the list of roles`},
		{"users", `{"username":"eve","roles":null}`, `"eve" without the list of roles`},
		{"users", `{"username":"eve","roles":[{}]}`, "a role without a name"},
		{"users", `{"username":"eve","roles":[],"created_on":"yesterday"}`, `"yesterday"`},
		{"roles", `{"name":"","actions":[]}`, "without a name"},
		{"roles", `{"name":"Op"}`, `"Op" without the list of what it permits`},
		{"roles", `{"name":"Op","actions":[{"action":{"name":"can_read"}}]}`, `"Op": a permission without`},
		{"permissions", `{"action":{"name":"can_read"},"resource":null}`, "a permission without"},
		{"DAGs", `{"dag_display_name":"x"}`, "without an id"},
		{"events", `{"when":"2026-01-01T00:00:00Z"}`, "without an id"},
		{"events", `{"event_log_id":1,"when":"then"}`, `"then"`},
	} {
		list := lists[c.list]
		r := startInside(t, airflowtest.Options{})
		r.srv.Inject(airflowtest.Fault{Path: list.path, Times: -1, Act: airflowtest.Answer(200, "application/json", `{"`+list.key+`":[`+list.one+`,`+c.item+`],"total_entries":2}`)})
		want(t, list.read(t, r), airflow.Precondition, c.says, "not used")
	}
}

// A caller who has enough reads no further.
func TestListIsLeftEarly(t *testing.T) {
	r := startInside(t, airflowtest.Options{PageLimit: 7})
	people(r.srv, 30)
	for range r.Users(t.Context()) {
		break
	}
	r.counted(t, userList, 1)
}

// A page is handed on only when all of it has come.
func TestHalfAPageIsNoPage(t *testing.T) {
	for name, act := range map[string]airflowtest.Act{"reset": airflowtest.ResetMidBody(), "truncated": airflowtest.Truncate(), "connection closed": cutOff} {
		r := start(t, airflowtest.Options{PageLimit: 7})
		people(r.srv, 30)
		r.srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users", Skip: 2, Times: -1, Act: act})
		users, err := collect(r.Users(t.Context()))
		want(t, err, airflow.Unavailable, "broke off", "nothing of it was used")
		if len(users) != 13 {
			t.Errorf("%s: %d users of two whole pages", name, len(users))
		}
	}
}

// cutOff ends the connection within the answer, without a reset.
func cutOff(w http.ResponseWriter, r *http.Request, api http.Handler) {
	whole := httptest.NewRecorder()
	api.ServeHTTP(whole, r)
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.Copy(w, strings.NewReader(whole.Body.String()[:whole.Body.Len()-1]))
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}
