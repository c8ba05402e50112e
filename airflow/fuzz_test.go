package airflow_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"airlock/airflow"
)

// saying is a client of an Airflow 3.3.2 which says the same at each of its lists.
func saying(t *testing.T, status int, body []byte) *airflow.Client {
	t.Helper()
	known := map[string]string{
		"/api/v2/version":    `{"version":"3.3.2"}`,
		"/auth/openapi.json": `{"info":{"title":"FAB auth manager API"},"paths":{"/fab/v1/users":{},"/fab/v1/roles":{},"/fab/v1/permissions":{}}}`,
		"/auth/token":        `{"access_token":"a-token"}`,
	}
	return dial(t, "http://airflow.internal", newClock(), func(cfg *airflow.Config) {
		cfg.HTTP = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			answer := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Request: r}
			said := string(body)
			if text, ok := known[r.URL.Path]; ok {
				answer.StatusCode, said = http.StatusOK, text
			}
			answer.Body = io.NopCloser(strings.NewReader(said))
			return answer, nil
		})}
	})
}

// fuzzList feeds a list's decoder. It never panics, and never is there success
// with fewer items than the JSON holds.
func fuzzList(f *testing.F, list string, read func(*testing.T, *airflow.Client) (map[string]bool, error), name func(map[string]json.RawMessage) string, seeds ...string) {
	for _, items := range append(seeds, ``, `null`, `{}`, `[]`, `1`, `"a"`) {
		f.Add([]byte(`{"` + list + `":[` + items + `],"total_entries":1}`))
		f.Add([]byte(`{"` + list + `":[` + items + `,` + items + `],"total_entries":2}`))
	}
	for _, whole := range []string{``, `null`, `[]`, `{}`, `{"` + list + `":null,"total_entries":0}`, `{"` + list + `":[],"total_entries":0}`, `{"` + list + `":[],"total_entries":9}`, `{"` + list + `":[],"total_entries":-1}`} {
		f.Add([]byte(whole))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := read(t, saying(t, http.StatusOK, body))
		if err != nil {
			return
		}
		var answer map[string]json.RawMessage
		var items []map[string]json.RawMessage
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatalf("success, of what is no JSON object: %v", err)
		}
		lists := 0
		for key, value := range answer {
			if strings.EqualFold(key, list) { // as encoding/json matches names
				lists++
				if err := json.Unmarshal(value, &items); err != nil {
					t.Fatalf("success, of what is no list: %v", err)
				}
			}
		}
		if lists > 1 {
			return // which of them counts is anybody's guess
		}
		for _, item := range items {
			if n := name(item); n != "" && !got[n] {
				t.Errorf("success without %q: %v", n, got)
			}
		}
		if len(items) > 0 && len(got) == 0 {
			t.Errorf("success without any of %d items", len(items))
		}
	})
}

// field is a member that is a text.
func field(key string) func(map[string]json.RawMessage) string {
	return func(item map[string]json.RawMessage) (text string) {
		_ = json.Unmarshal(item[key], &text)
		return text
	}
}

func FuzzUsers(f *testing.F) {
	fuzzList(f, "users", func(t *testing.T, c *airflow.Client) (map[string]bool, error) {
		users, err := collect(c.Users(t.Context()))
		got := map[string]bool{}
		for _, u := range users {
			got[u.Username] = true
		}
		return got, err
	}, field("username"),
		`{"username":"a","email":"a@b","first_name":"A","last_name":"B","roles":[{"name":"Op"}],"active":true,"last_login":"2026-01-01T00:00:00.5","login_count":1,"fail_login_count":null,"created_on":"2026-01-01T00:00:00","changed_on":null}`,
		`{"username":"a","roles":[]}`, `{"username":"a","roles":null}`, `{"username":"","roles":[]}`, `{"username":"a","roles":[{}]}`, `{"USERNAME":"a","Roles":[]}`,
		`{"username":"a","roles":[],"created_on":"x"}`, `{"username":"a","roles":[],"login_count":1e99}`)
}

func FuzzRoles(f *testing.F) {
	fuzzList(f, "roles", func(t *testing.T, c *airflow.Client) (map[string]bool, error) {
		roles, err := collect(c.Roles(t.Context()))
		got := map[string]bool{}
		for _, r := range roles {
			got[r.Name] = true
		}
		return got, err
	}, field("name"),
		`{"name":"a","actions":[{"action":{"name":"can_read"},"resource":{"name":"DAGs"}}]}`, `{"name":"a","actions":[]}`, `{"name":"a","actions":null}`,
		`{"name":"a","actions":[null]}`, `{"name":"a","actions":[{"name":"x"}]}`)
}

func FuzzDAGs(f *testing.F) {
	fuzzList(f, "dags", func(t *testing.T, c *airflow.Client) (map[string]bool, error) {
		dags, err := collect(c.DAGs(t.Context()))
		got := map[string]bool{}
		for _, d := range dags {
			got[d.ID] = true
		}
		return got, err
	}, field("dag_id"),
		`{"dag_id":"a","dag_display_name":"A","description":null,"owners":["x"," y"],"tags":[{"name":"t","dag_id":"a"}],"is_paused":false,"is_stale":true}`,
		`{"dag_id":"a","is_active":false,"tags":[null],"owners":null}`, `{"dag_id":""}`)
}

func FuzzEvents(f *testing.F) {
	fuzzList(f, "event_logs", func(t *testing.T, c *airflow.Client) (map[string]bool, error) {
		events, _, err := c.Events(t.Context(), time.Time{}, 0, 100, nil)
		got := map[string]bool{}
		for _, e := range events {
			got[e.Name] = true
		}
		return got, err
	}, field("event"),
		`{"event_log_id":1,"when":"2026-01-01T00:00:00Z","event":"running","owner":"a","dag_id":"b","task_id":"c"}`,
		`{"event_log_id":0,"when":"2026-01-01T00:00:00Z"}`, `{"event_log_id":1,"when":null,"event":"x"}`, `{"event_log_id":1,"when":"x"}`)
}

func FuzzPermissions(f *testing.F) {
	fuzzList(f, "actions", func(t *testing.T, c *airflow.Client) (map[string]bool, error) {
		all, err := collect(c.Permissions(t.Context()))
		got := map[string]bool{}
		for _, p := range all {
			got[p.Action] = true
		}
		return got, err
	}, func(map[string]json.RawMessage) string { return "" },
		`{"action":{"name":"can_read"},"resource":{"name":"DAGs"}}`, `{"name":"can_read"}`, `{"action":{"name":"can_read"}}`, `{"action":null,"resource":null}`)
}

// FuzzErrors feeds what an answer that is no success may say.
func FuzzErrors(f *testing.F) {
	for _, status := range []uint16{100, 200, 204, 307, 400, 401, 403, 404, 405, 409, 422, 429, 500, 503, 999} {
		for _, body := range []string{
			``, `null`, `[]`, `{"detail":"Forbidden"}`, `{"detail":null,"title":"Forbidden"}`, `{"detail":[{"loc":["body",1],"msg":"m"}]}`, `{"detail":[null]}`, `{"detail":{"a":1}}`,
			`{"detail":"The User with username eve was not found"}`, `<title>x`, "<title>\xff</title>",
		} {
			f.Add(status, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, status uint16, body []byte) {
		c := saying(t, int(status), body)
		u, err := c.User(t.Context(), "eve")
		if ok := status >= 200 && status < 300; err == nil && (!ok || u.Username == "") {
			t.Errorf("success, of %d %q: %+v", status, body, u)
		}
		if err != nil && len(err.Error()) > 2000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		if err := c.DeleteUser(t.Context(), "eve"); err == nil {
			t.Error("success, of a delete after which nothing says that it is gone")
		}
		if _, err := collect(c.Users(t.Context())); airflow.Is(err, airflow.NotFound) {
			t.Errorf("a list isn't there: %v", err)
		}
	})
}
