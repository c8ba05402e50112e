package airflowtest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
)

func TestReleases(t *testing.T) {
	all, test, compat := Releases(""), Releases("test"), Releases("compat")
	if len(test) == 0 || len(compat) == 0 || len(test)+len(compat) != len(all) {
		t.Errorf("%d releases, of which %d test and %d compat", len(all), len(test), len(compat))
	}
	if len(test) > 0 && test[0].Airflow != all[0].Airflow {
		t.Errorf("the newest is %s, and is not in each test", all[0].Airflow)
	}
}

func TestCompanyHolds(t *testing.T) {
	company := Company()
	roles := map[string]bool{"Admin": true, "Op": true, "User": true, "Viewer": true, "Public": true}
	for _, role := range company.Roles {
		if roles[role.Name] {
			t.Errorf("the role %s is there twice", role.Name)
		}
		roles[role.Name] = true
	}
	usernames, emails := map[string]bool{}, map[string]bool{} // Airflow wants both unique
	for _, user := range company.Users {
		username := strings.ToLower(user.Username)
		if usernames[username] || emails[user.Email] {
			t.Errorf("%s, %s is there twice", user.Username, user.Email)
		}
		usernames[username], emails[user.Email] = true, true
		for _, role := range user.Roles {
			if !roles[role] {
				t.Errorf("%s has the role %s, which nobody defines", user.Username, role)
			}
		}
	}
	for _, dag := range company.DAGs {
		for role := range dag.AccessControl {
			if !roles[role] {
				t.Errorf("%s gives access to the role %s, which nobody defines", dag.ID, role)
			}
		}
	}
}

func TestRealSaysWhyItDidNotStart(t *testing.T) {
	_, err := StartReal(t.Context(), t.TempDir(), "1.0.0")
	if err == nil || !strings.Contains(err.Error(), "Airflow 1.0.0 is not in releases.tsv") {
		t.Errorf("got %v", err)
	}
}

func TestRealGivesUpInTime(t *testing.T) {
	wantReal(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := StartReal(ctx, t.TempDir(), Releases("test")[0].Airflow)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestRealRestartsWithItsData(t *testing.T) {
	r := RealForTest(t, Releases("test")[0].Airflow, "AIRFLOW_BASE_PATH=/airflow")
	var token struct {
		AccessToken string `json:"access_token"`
	}
	askReal(t, http.MethodPost, r.URL+"/auth/token", "", `{"username": "`+r.AdminUser+`", "password": "`+r.AdminPassword+`"}`, &token)
	askReal(t, http.MethodPost, r.URL+"/auth/fab/v1/roles", token.AccessToken, `{"name": "made-before"}`, nil)

	before := r.URL
	if err := r.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.URL != before || !strings.HasSuffix(r.URL, "/airflow") {
		t.Errorf("it was at %s and now is at %s", before, r.URL)
	}
	var role struct{ Name string }
	askReal(t, http.MethodGet, r.URL+"/auth/fab/v1/roles/made-before", token.AccessToken, "", &role)
	if role.Name != "made-before" {
		t.Errorf("got the role %q", role.Name)
	}

	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if response, err := http.Get(r.URL + "/api/v2/version"); err == nil {
		_ = response.Body.Close()
		t.Errorf("it was stopped and answers %s", response.Status)
	}
}

// askReal sends a request that must succeed and decodes its answer.
func askReal(t *testing.T, method, url, token, body string, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		t.Fatalf("%s %s: %s", method, url, response.Status)
	}
	if into == nil {
		return
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}
