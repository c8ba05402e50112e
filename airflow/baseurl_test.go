package airflow_test

import (
	"strings"
	"testing"

	"airlock/airflow"
)

func TestParseBaseURL(t *testing.T) {
	for _, c := range []struct{ given, want string }{
		{"https://airflow.example.com", "https://airflow.example.com"},
		{"https://airflow.example.com/", "https://airflow.example.com"},
		{" https://airflow.example.com//\n", "https://airflow.example.com"},
		{"HTTPS://Airflow.Example.COM:8443/", "https://airflow.example.com:8443"},
		{"http://127.0.0.1:8080", "http://127.0.0.1:8080"},
		{"http://[::1]:8080/airflow", "http://[::1]:8080/airflow"},
		{"https://example.com/Airflow/", "https://example.com/Airflow"},
		{"https://example.com/team%20a/airflow", "https://example.com/team%20a/airflow"},
		{"https://example.com/a%2Fb", "https://example.com/a%2Fb"},
		// Pasted from a browser or from documentation.
		{"https://example.com/auth", "https://example.com"},
		{"https://example.com/auth/login/?next=%2Fhome", "https://example.com"},
		{"https://example.com/auth/token", "https://example.com"},
		{"https://example.com/auth/fab/v1/users?limit=3", "https://example.com"},
		{"https://example.com/api/v2", "https://example.com"},
		{"https://example.com/api/v2/dags", "https://example.com"},
		{"https://example.com/api/v1/", "https://example.com"},
		{"https://example.com/home#top", "https://example.com"},
		{"https://example.com/login/", "https://example.com"},
		{"https://example.com/airflow/dags/payroll/runs", "https://example.com/airflow"},
		{"https://example.com/airflow/auth/", "https://example.com/airflow"},
		{"https://example.com/airflow/api/v2/", "https://example.com/airflow"},
		{"https://example.com/airflow/home/auth", "https://example.com/airflow"},
		{"https://example.com/authors", "https://example.com/authors"},
		{"https://example.com/homepage", "https://example.com/homepage"},
	} {
		got, err := airflow.ParseBaseURL(c.given)
		if err != nil || got.String() != c.want {
			t.Errorf("%q: got %v, %v, want %s", c.given, got, err, c.want)
		}
	}
}

func TestParseBaseURLRefuses(t *testing.T) {
	for _, c := range []struct{ given, want string }{
		{"", "empty"},
		{"  ", "empty"},
		{"airflow.example.com", "no scheme"},
		{"admin:se-cret@airflow.example.com", "no scheme"},
		{"localhost:8080", "no scheme"},
		{"ftp://example.com", `scheme "ftp"`},
		{"file:///etc/passwd", `scheme "file"`},
		{"javascript://example.com", `scheme "javascript"`},
		{"https://", "no host"},
		{"https:///airflow", "no host"},
		{"https://:8080", "no host"},
		{"https:opaque://x", "no host"},
		{"https://admin:se-cret@example.com", "own settings"},
		{"https://se-cret@example.com", "own settings"},
		{"https://exa mple.com/se-cret", "can't be read"},
		{"https://example.com:port/se-cret", "can't be read"},
		{"https://example.com/%zz", "can't be read"},
		{"https://[::1%25\xff]/", "host that can't be read"},
	} {
		got, err := airflow.ParseBaseURL(c.given)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, %v, want an error that says %q", c.given, got, err, c.want)
		} else if strings.Contains(err.Error(), "se-cret") {
			t.Errorf("%q: the error repeats a secret: %v", c.given, err)
		}
	}
}

func FuzzParseBaseURL(f *testing.F) {
	for _, s := range []string{
		"https://example.com", "http://h:1/airflow/auth/", "https://h/%2e%2e/api/v2/x?y#z", "https://u:p@h", "HTTP://[::1%25eth0]/home//auth",
		"https://h//auth", "https://h/a%2fauth", "https://\xff/\xff", "https://K/dags", "x", "https://h:/", "https://h/;/?", "https://h/api/v2/home/auth//",
		"HTTP://[::%25\x85]",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := airflow.ParseBaseURL(s)
		if err != nil {
			return
		}
		if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			t.Errorf("%q: got %#v", s, u)
		}
		again, err := airflow.ParseBaseURL(u.String())
		if err != nil || again.String() != u.String() {
			t.Errorf("%q gives %q, and that gives %v, %v", s, u, again, err)
		}
		if strings.HasSuffix(u.String(), "/") {
			t.Errorf("%q gives %q, with a slash at the end", s, u)
		}
	})
}
