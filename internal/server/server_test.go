package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/base/seal"
	"airlock/internal/edge/admin"
	"airlock/internal/identity"
)

const patience = 30 * time.Second // for what comes at once on an idle machine

// variables are settings for a server on a free port, with more.
func variables(t *testing.T, more ...string) map[string]string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dir, err := os.MkdirTemp("", "al-") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "connectors"), 0o700); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{
		"AIRLOCK_LISTEN": listener.Addr().String(), "AIRLOCK_DATA_DIR": filepath.Join(dir, "data"), "AIRLOCK_CONNECTORS_DIR": filepath.Join(dir, "connectors"),
	}
	for _, pair := range more {
		name, value, _ := strings.Cut(pair, "=")
		all[name] = value
	}
	return all
}

func settingsOf(t *testing.T, variables map[string]string) Settings {
	t.Helper()
	settings, err := FromEnvironment(Settings{Version: "test"}, func(name string) string { return variables[name] })
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

// started starts a server, which is stopped after the test.
func started(t *testing.T, settings Settings) *Server {
	t.Helper()
	s, err := New(t.Context(), settings, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(errors.Join(err, s.Stop()))
	}
	stop := sync.OnceValue(s.Stop)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// client trusts the CA of a server alone.
func client(t *testing.T, settings Settings) *http.Client {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(settings.DataDir, "ca", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func get(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestTheDoorIsOpen(t *testing.T) {
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			url := ""
			if engine == db.Postgres {
				url = dbtest.PostgresURL(t)
			}
			settings := settingsOf(t, variables(t, "AIRLOCK_DATABASE_URL="+url))
			s := started(t, settings)
			c := client(t, settings)
			for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/nothing": 404, "/auth/v1/token": 405} {
				if status, body := get(t, c, settings.PublicURL+path); status != want {
					t.Errorf("%s: %d %s", path, status, body)
				}
			}
			err := admin.Dial(settings.DataDir).Call(t.Context(), "connector/add", admin.AddConnector{Catalog: "tiny", App: "Bank"}, nil, admin.Answer{})
			if err != nil {
				t.Fatal(err)
			}
			_, body := get(t, c, settings.PublicURL+"/metrics")
			for _, want := range []string{
				"airlock_database_up 1", "airlock_changes_overdue 0", "airlock_audit_checkpoint_entries 0",
				`airlock_connectors{problem=""} 1`, `airlock_connector_tasks{state="queued"} 1`, `airlock_syncs{state="waiting"} 1`,
				`airlock_call_seconds_count{code="404",route="/"} 1`, `airlock_call_seconds_count{code="200",route="/healthz"} 1`,
			} {
				if !strings.Contains(body, want+"\n") {
					t.Errorf("the metrics have no %s in\n%s", want, body)
				}
			}
			s.ready.Store(false)
			if status, _ := get(t, c, settings.PublicURL+"/readyz"); status != http.StatusServiceUnavailable {
				t.Errorf("a server that stops is ready: %d", status)
			}
			for name, mode := range map[string]os.FileMode{"": 0o700, "airlock.sock": 0o600, "airlock.key": 0o600} {
				info, err := os.Stat(filepath.Join(settings.DataDir, name))
				if err != nil || info.Mode().Perm() != mode {
					t.Errorf("%q: %v, %v", name, info.Mode(), err)
				}
			}
			files, err := os.ReadDir(filepath.Join(settings.DataDir, "ca"))
			if err != nil || len(files) != 1 {
				t.Errorf("the CA's folder holds %v, %v", files, err)
			}
		})
	}
}

// Two replicas have one CA, each in its own data directory.
func TestReplicasShareTheCA(t *testing.T) {
	url := dbtest.PostgresURL(t)
	first := settingsOf(t, variables(t, "AIRLOCK_DATABASE_URL="+url))
	started(t, first)
	second := settingsOf(t, variables(t, "AIRLOCK_DATABASE_URL="+url, "AIRLOCK_KEY_FILE="+first.KeyFile))
	started(t, second)
	if status, _ := get(t, client(t, first), second.PublicURL+"/readyz"); status != 200 {
		t.Error(status)
	}
}

func TestASecondServerIsKeptOut(t *testing.T) {
	first := variables(t)
	started(t, settingsOf(t, first))
	for _, more := range []struct{ variable, says string }{
		{"AIRLOCK_LISTEN=127.0.0.1:1", "is used by another server"},
		{"AIRLOCK_DATA_DIR=" + t.TempDir(), "address already in use"},
	} {
		name, value, _ := strings.Cut(more.variable, "=")
		other := maps.Clone(first)
		other[name] = value
		if _, err := New(t.Context(), settingsOf(t, other), io.Discard); err == nil || !strings.Contains(err.Error(), more.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A start that fails leaves nothing behind that would be in the way of the next.
func TestAFailedStartClosesAll(t *testing.T) {
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			url := ""
			if engine == db.Postgres {
				url = dbtest.PostgresURL(t)
			}
			settings := settingsOf(t, variables(t, "AIRLOCK_DATABASE_URL="+url))
			if err := os.MkdirAll(settings.DataDir, 0o700); err != nil {
				t.Fatal(err)
			}
			inTheWay := filepath.Join(settings.DataDir, "ca") // fails after the database is open
			if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := New(t.Context(), settings, io.Discard); err == nil {
				t.Fatal("it started over a file that is in the way")
			}
			if err := os.Remove(inTheWay); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(settings.DataDir, "hosted"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := New(t.Context(), settings, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Start(t.Context()); err == nil {
				t.Error("it started over a file that is in the way of hosted connectors")
			}
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
			if err := os.Remove(filepath.Join(settings.DataDir, "hosted")); err != nil {
				t.Fatal(err)
			}
			if s, err = New(t.Context(), settings, io.Discard); err != nil {
				t.Fatal(err)
			}
			if err := s.Stop(); err != nil { // before it was started
				t.Error(err)
			}
			started(t, settings)
		})
	}
}

// What hangs doesn't keep a server from stopping.
func TestStoppingIsBounded(t *testing.T) {
	settings := settingsOf(t, variables(t))
	s, err := New(t.Context(), settings, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.grace = time.Second
	// A file that never ends is being taken.
	commands := admin.Dial(settings.DataDir)
	if err := commands.Call(t.Context(), "app/add", admin.AddApp{Name: "Bank"}, nil, admin.Answer{}); err != nil {
		t.Fatal(err)
	}
	read, write := io.Pipe()
	uploaded := make(chan error, 1)
	go func() {
		uploaded <- commands.Upload(t.Context(), "ingest", admin.Ingest{App: "Bank"}, read, nil, admin.Answer{})
	}()
	if _, err := write.Write([]byte("begun")); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took < s.grace || took > s.grace+patience {
		t.Errorf("stopping took %s", took)
	}
	write.Close()
	if err := <-uploaded; err == nil {
		t.Error("the upload succeeded")
	}
}

func TestAllThatIsWrongIsToldAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := map[string]string{
		"AIRLOCK_LISTEN": "8443", "AIRLOCK_PUBLIC_URL": "http://x/y", "AIRLOCK_DATA_DIR": file, "AIRLOCK_DATABASE_URL": "mysql://x",
		"AIRLOCK_CONNECTORS_DIR": file, "AIRLOCK_PACKS_DIR": file, "AIRLOCK_TLS": "perhaps", "AIRLOCK_TRUSTED_PROXIES": "10.0.0.0/8, nobody",
		"AIRLOCK_KEY": "abc", "AIRLOCK_LOG_LEVEL": "loud", "AIRLOCK_LOG_FORMAT": "xml", "AIRLOCK_KEEP_FILES": "1h", "AIRLOCK_KEEP_LOGS": "d",
		"AIRLOCK_KEEP_SYNCS": "-3d", "AIRLOCK_KEEP_GRANTS": "400", "AIRLOCK_MAX_UPLOAD": "2", "AIRLOCK_CONNECTOR_MEMORY": "1KB",
		"AIRLOCK_SESSION_IDLE": "1m", "AIRLOCK_SESSION_ABSOLUTE": "never",
	}
	_, err := FromEnvironment(Settings{}, func(name string) string { return wrong[name] }, "AIRLOCK_PUBLICURL=x", "BATON_X=y")
	if !fault.Is(err, fault.Invalid) {
		t.Fatal("all of it is right:", err)
	}
	if !strings.Contains(err.Error(), "AIRLOCK_PUBLICURL is no setting; the nearest is AIRLOCK_PUBLIC_URL") {
		t.Error(err)
	}
	for name := range wrong {
		if strings.Count("\n"+err.Error(), "\n"+name+" ")+strings.Count("\n"+err.Error(), "\n"+name+":") != 1 {
			t.Errorf("%s isn't told once in\n%v", name, err)
		}
	}
	if strings.Contains(err.Error(), "abc") {
		t.Error("the key is in the error")
	}
}

func TestSettings(t *testing.T) {
	for _, test := range []struct {
		given  Settings
		env    string
		public string
		wrong  string
	}{
		{env: "", public: "https://localhost:8443"},
		{env: "AIRLOCK_LISTEN=:443", public: "https://localhost"},
		{env: "AIRLOCK_LISTEN=[::1]:443", public: "https://[::1]"},
		{env: "AIRLOCK_LISTEN=[::]:9000", public: "https://localhost:9000"},
		{env: "AIRLOCK_LISTEN=10.0.0.5:9000", public: "https://10.0.0.5:9000"},
		{env: "AIRLOCK_LISTEN=:https", public: "https://localhost:https", wrong: "AIRLOCK_PUBLIC_URL"},
		{env: "AIRLOCK_LISTEN=:0", wrong: "changes with each start"},
		{env: "AIRLOCK_LISTEN=:0 AIRLOCK_PUBLIC_URL=https://a.example", public: "https://a.example"},
		{env: "AIRLOCK_LISTEN=:70000", wrong: "AIRLOCK_LISTEN"},
		{env: "AIRLOCK_PUBLIC_URL=https://Airlock.Example.com:443/", public: "https://airlock.example.com"},
		{env: "AIRLOCK_PUBLIC_URL=https://bücher.example", wrong: "xn--"},
		{env: "AIRLOCK_PUBLIC_URL=https://a.example/airlock", wrong: "nothing after it"},
		{env: "AIRLOCK_PUBLIC_URL=https://u:p@a.example", wrong: "nothing after it"},
		{env: "AIRLOCK_TLS=off", wrong: "set AIRLOCK_PUBLIC_URL"},
		{env: "AIRLOCK_TLS=off AIRLOCK_PUBLIC_URL=https://a.example", public: "https://a.example"},
		{env: "AIRLOCK_TLS=off AIRLOCK_TLS_CERT=x AIRLOCK_PUBLIC_URL=https://a.example", wrong: "without use"},
		{env: "AIRLOCK_TLS_CERT=x", wrong: "go together"},
		{env: "AIRLOCK_TLS_CERT=x AIRLOCK_TLS_KEY=y", wrong: "AIRLOCK_TLS_CERT: open x"},
		{env: "AIRLOCK_KEEP_LOGS=90d AIRLOCK_MAX_UPLOAD=512mb", public: "https://localhost:8443"},
		{env: "AIRLOCK_SESSION_ABSOLUTE=30m", public: "https://localhost:8443"},
		{env: "AIRLOCK_SESSION_IDLE=8h AIRLOCK_SESSION_ABSOLUTE=7d", public: "https://localhost:8443"},
		{env: "AIRLOCK_SESSION_IDLE=8h AIRLOCK_SESSION_ABSOLUTE=1h", wrong: "AIRLOCK_SESSION_IDLE is 8h0m0s, which would be without effect"},
		{given: Settings{Listen: ":1", PublicURL: "https://flag.example"}, env: "AIRLOCK_LISTEN=:2 AIRLOCK_PUBLIC_URL=https://env.example", public: "https://flag.example"},
	} {
		env := map[string]string{"AIRLOCK_DATA_DIR": "data"}
		for pair := range strings.FieldsSeq(test.env) {
			name, value, _ := strings.Cut(pair, "=")
			env[name] = value
		}
		s, err := FromEnvironment(test.given, func(name string) string { return env[name] })
		if test.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("%s: %v", test.env, err)
			}
			continue
		}
		if err != nil || s.SessionIdle < 5*time.Minute || s.SessionIdle > s.SessionAbsolute || s.PublicURL != test.public || s.public.String() != test.public || !filepath.IsAbs(s.DataDir) || !filepath.IsAbs(s.KeyFile) {
			t.Errorf("%s: %+v, %v", test.env, s, err)
		}
	}
}

// A folder that was named is needed; the usual one isn't.
func TestFoldersThatWereNamedMustBeThere(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	for _, test := range []struct {
		given Settings
		name  string
		wrong string
	}{
		{name: "AIRLOCK_CONNECTORS_DIR", wrong: `AIRLOCK_CONNECTORS_DIR is "` + gone + `", which can't be used: no such file`},
		{given: Settings{ConnectorsDir: gone}, wrong: "AIRLOCK_CONNECTORS_DIR"}, // by the flag
		{name: "AIRLOCK_PACKS_DIR", wrong: "AIRLOCK_PACKS_DIR is"},
		{name: "AIRLOCK_KEY_FILE", wrong: "AIRLOCK_KEY_FILE is"},
		{name: "none"},
	} {
		path := gone
		if test.name == "AIRLOCK_KEY_FILE" {
			path = filepath.Join(gone, "key")
		}
		_, err := FromEnvironment(test.given, func(name string) string {
			return map[string]string{"AIRLOCK_DATA_DIR": "data", test.name: path}[name]
		})
		if test.wrong == "" && err != nil || test.wrong != "" && (!fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), test.wrong)) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestNamesThatAreNoSettingsAreFound(t *testing.T) {
	for name, nearest := range map[string]string{
		"AIRLOCK_TRUSTED_PROXY": "AIRLOCK_TRUSTED_PROXIES", "AIRLOCK_TSL": "AIRLOCK_TLS", "AIRLOCK_KEYFILE": "AIRLOCK_KEY_FILE", "AIRLOCK_": "AIRLOCK_TLS",
		"AIRLOCK_TLS": "", "AIRLOCK_CACHE": "", "AIRLOCKED": "", "BATON_AIRLOCK_X": "", "PATH": "",
		// What Kubernetes sets for services that are called airlock and airlock-db.
		"AIRLOCK_SERVICE_HOST": "", "AIRLOCK_SERVICE_PORT": "", "AIRLOCK_SERVICE_PORT_HTTPS": "", "AIRLOCK_PORT": "", "AIRLOCK_PORT_8443_TCP": "",
		"AIRLOCK_PORT_8443_TCP_ADDR": "", "AIRLOCK_PORT_8443_TCP_PORT": "", "AIRLOCK_DB_SERVICE_HOST": "", "AIRLOCK_DB_PORT_5432_TCP_PROTO": "",
	} {
		found := unknown([]string{name + "=x"})
		if (len(found) > 0) != (nearest != "") || nearest != "" && !strings.Contains(found[0].Error(), nearest+",") {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// Else a setting would be refused.
func TestEverySettingIsKnown(t *testing.T) {
	read := map[string]bool{}
	_, _ = FromEnvironment(Settings{}, func(name string) string { // what is wrong is of no interest
		if strings.HasPrefix(name, "AIRLOCK_") {
			read[name] = true
		}
		return ""
	})
	known := slices.Sorted(slices.Values(names))
	if got := slices.Sorted(maps.Keys(read)); !slices.Equal(got, known) {
		t.Errorf("read are %v, and known are %v", got, known)
	}
}

func TestOnlyThisMachineIsSaid(t *testing.T) {
	for env, want := range map[string]bool{
		"AIRLOCK_LISTEN=:8443": true, "AIRLOCK_LISTEN=0.0.0.0:1": true, "AIRLOCK_LISTEN=10.0.0.1:1 AIRLOCK_PUBLIC_URL=https://127.0.0.1:2": true,
		"AIRLOCK_LISTEN=127.0.0.1:1": false, "AIRLOCK_LISTEN=[::1]:1": false, "AIRLOCK_LISTEN=localhost:1": false,
		"AIRLOCK_PUBLIC_URL=https://airlock.example": false, "AIRLOCK_LISTEN=10.0.0.1:1": false,
	} {
		all := map[string]string{"AIRLOCK_DATA_DIR": "data"}
		for pair := range strings.FieldsSeq(env) {
			name, value, _ := strings.Cut(pair, "=")
			all[name] = value
		}
		settings := settingsOf(t, all)
		if settings.local() != want {
			t.Errorf("%s: %t", env, !want)
		}
	}
	all := variables(t)
	_, port, err := net.SplitHostPort(all["AIRLOCK_LISTEN"])
	if err != nil {
		t.Fatal(err)
	}
	all["AIRLOCK_LISTEN"] = ":" + port
	settings := settingsOf(t, all)
	if err := os.Remove(settings.ConnectorsDir); err != nil {
		t.Fatal(err)
	}
	if list := Doctor(t.Context(), settings); Wrong(list) != nil || !slices.ContainsFunc(list, func(f Finding) bool {
		return f.What == "public URL" && f.Note && strings.Contains(f.Words, "set AIRLOCK_PUBLIC_URL")
	}) {
		t.Errorf("%+v", list)
	}
	var log bytes.Buffer
	s, err := New(t.Context(), settings, &log)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Start(t.Context()), s.Stop()); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Count(text, "set AIRLOCK_PUBLIC_URL before one is added") != 1 || strings.Count(text, "there is no connectors folder") != 1 {
		t.Error(text)
	}
}

// A lost key isn't made good by a new one: that would open nothing.
func TestALostKeyIsSaidAndNotMadeAnew(t *testing.T) {
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			url := ""
			if engine == db.Postgres {
				url = dbtest.PostgresURL(t)
			}
			settings := settingsOf(t, variables(t, "AIRLOCK_DATABASE_URL="+url))
			s, err := New(t.Context(), settings, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(settings.KeyFile, settings.KeyFile+".away"); err != nil {
				t.Fatal(err)
			}
			_, err = New(t.Context(), settings, io.Discard)
			if !fault.Is(err, fault.NotReady) || !strings.Contains(err.Error(), "put your copy of it back at "+settings.KeyFile) {
				t.Error(err)
			}
			if _, err := os.Stat(settings.KeyFile); !errors.Is(err, os.ErrNotExist) {
				t.Error("a key was made", err)
			}
			if err := os.Rename(settings.KeyFile+".away", settings.KeyFile); err != nil {
				t.Fatal(err)
			}
			started(t, settings)
		})
	}
}

// A restore into a data directory in which another server's checkpoints lie.
func TestARestoreKeepsAnotherServersCheckpoints(t *testing.T) {
	from := settingsOf(t, variables(t))
	started(t, from)
	backup := filepath.Join(t.TempDir(), "backup")
	file, err := os.Create(backup)
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.Dial(from.DataDir).Call(t.Context(), "backup", struct{}{}, nil, admin.Answer{File: file}); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}

	other := settingsOf(t, variables(t))
	s := started(t, other)
	if err := admin.Dial(other.DataDir).Call(t.Context(), "app/add", admin.AddApp{Name: "Bank"}, nil, admin.Answer{}); err != nil {
		t.Fatal(err)
	}
	if err := s.audit.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(filepath.Join(other.DataDir, "checkpoints.txt"))
	if err != nil || len(foreign) == 0 {
		t.Fatal(err)
	}

	into := variables(t)
	settings := settingsOf(t, into)
	if err := os.Mkdir(settings.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(settings.DataDir, "checkpoints.txt"), foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), settings, backup); !fault.Is(err, fault.NotReady) || !strings.Contains(err.Error(), "nothing was restored") {
		t.Error("without the key:", err)
	}
	into["AIRLOCK_KEY_FILE"] = from.KeyFile
	done, err := Restore(t.Context(), settingsOf(t, into), backup)
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := os.ReadFile(done.Aside); err != nil || !bytes.Equal(kept, foreign) {
		t.Errorf("%q: %v", done.Aside, err)
	}
	var report audit.Report
	again := started(t, settingsOf(t, into))
	if report, err = again.audit.Verify(t.Context(), identity.Operator()); err != nil || !report.Sound() || report.Outside == 0 {
		t.Error(report.Verdict(), err)
	}
}

// A path that commands couldn't use is refused.
func TestASocketsPathIsShort(t *testing.T) {
	all := variables(t)
	all["AIRLOCK_DATA_DIR"] = filepath.Join(filepath.Dir(all["AIRLOCK_DATA_DIR"]), strings.Repeat("long", 22))
	if _, err := New(t.Context(), settingsOf(t, all), io.Discard); !fault.Is(err, fault.NotReady) || !strings.Contains(err.Error(), "choose a shorter data directory") {
		t.Error(err)
	}
	settings := settingsOf(t, variables(t))
	s, err := New(t.Context(), settings, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(admin.Socket(settings.DataDir)); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(admin.Socket(settings.DataDir)); !errors.Is(err, os.ErrNotExist) {
		t.Error("the socket is still there:", err)
	}
}

func TestWhatHasNoValueIsntLogged(t *testing.T) {
	var out bytes.Buffer
	logger(Settings{}, &out).Info("done", "cause", nil, "row", "", "n", 0, "on", false)
	if text := out.String(); strings.Contains(text, "cause") || strings.Contains(text, "row") || !strings.Contains(text, "msg=done n=0 on=false") {
		t.Error(text)
	}
}

func TestOnlyTrustedProxiesAreBelieved(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("192.0.2.7/32")}
	for _, test := range []struct {
		from    string
		way     []string
		proxies []netip.Prefix
		want    string
	}{
		{"198.51.100.1:5", []string{"203.0.113.9"}, proxies, "198.51.100.1:5"},
		{"198.51.100.1:5", []string{"203.0.113.9"}, nil, "198.51.100.1:5"},
		{"10.1.2.3:5", nil, proxies, "10.1.2.3:5"},
		{"10.1.2.3:5", []string{"203.0.113.9"}, proxies, "203.0.113.9"},
		{"[::ffff:10.1.2.3]:5", []string{"203.0.113.9"}, proxies, "203.0.113.9"},
		{"[fd00::1]:5", []string{"2001:db8::9"}, proxies, "2001:db8::9"},
		{"10.1.2.3:5", []string{"1.1.1.1, 203.0.113.9"}, proxies, "203.0.113.9"}, // the first is what the client says
		{"10.1.2.3:5", []string{"1.1.1.1", "203.0.113.9, 192.0.2.7"}, proxies, "203.0.113.9"},
		{"10.1.2.3:5", []string{"203.0.113.9, 10.9.9.9:77"}, proxies, "203.0.113.9"},
		{"10.1.2.3:5", []string{"10.0.0.1, 10.0.0.2"}, proxies, "10.0.0.1"},
		{"10.1.2.3:5", []string{"<script>"}, proxies, "10.1.2.3:5"},
		{"10.1.2.3:5", []string{"1.1.1.1, x, 10.0.0.2"}, proxies, "10.0.0.2"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = test.from
		for _, line := range test.way {
			r.Header.Add("X-Forwarded-For", line)
		}
		if got := clientAddress(r, test.proxies); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

// fixed is a clock that a test sets.
type fixed struct {
	mu sync.Mutex
	at time.Time
}

func (f *fixed) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

func (f *fixed) set(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = at
}

func TestCertificates(t *testing.T) {
	d := dbtest.Open(t, db.SQLite)
	keys, err := seal.OpenKeyring(filepath.Join(t.TempDir(), "key"), "")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	now := &fixed{at: start}
	ca, err := openAuthority(t.Context(), seal.NewVault(d, keys, now), now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := openAuthority(t.Context(), seal.NewVault(d, keys, now), now)
	if err != nil || !bytes.Equal(ca.pem, again.pem) {
		t.Fatal("another start has another CA", err)
	}
	config, err := ca.config([]string{"airlock.example.com", "10.0.0.5", "::1", "localhost", "a machine", "bücher"})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.pem)
	issued := func() *x509.Certificate {
		certificate, err := config.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"airlock.example.com", "10.0.0.5", "::1", "localhost"} {
			if _, err := certificate.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: now.Now()}); err != nil {
				t.Errorf("%s: %v", host, err)
			}
		}
		if certificate.Leaf.VerifyHostname("other.example.com") == nil {
			t.Error("it is for any host")
		}
		return certificate.Leaf
	}
	first := issued()
	now.set(start.Add(certificateLife - renewBefore - 2*time.Hour))
	if issued().SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Error("it was renewed early")
	}
	now.set(start.Add(certificateLife - renewBefore + time.Hour))
	if issued().SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Error("it wasn't renewed in time")
	}
	dir := filepath.Join(t.TempDir(), "ca")
	for range 2 {
		if err := ca.writeCA(dir); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "ca.pem")); err != nil || !bytes.Equal(text, ca.pem) {
		t.Error("the CA's file is wrong", err)
	}
}

func TestTheOperatorsCertificateIsReadAnew(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func() *x509.Certificate {
		text, err := makeAuthority(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		key, cert, _ := bytes.Cut(text, []byte("-----BEGIN CERTIFICATE"))
		cert = append([]byte("-----BEGIN CERTIFICATE"), cert...)
		if err := errors.Join(os.WriteFile(certFile, cert, 0o600), os.WriteFile(keyFile, key, 0o600)); err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf
	}
	now := &fixed{at: time.Now()}
	var log bytes.Buffer
	config := reloading(certFile, keyFile, slog.New(slog.NewTextHandler(&log, nil)), now)
	served := func() *x509.Certificate {
		pair, err := config.GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf
	}
	if _, err := config.GetCertificate(&tls.ClientHelloInfo{}); err == nil {
		t.Error("a certificate was served where there is none")
	}
	first := write()
	if !served().Equal(first) {
		t.Error("the first isn't served")
	}
	second := write()
	if !served().Equal(first) {
		t.Error("the files are read at each handshake")
	}
	now.set(now.Now().Add(reloadAfter))
	if !served().Equal(second) {
		t.Error("the second isn't served")
	}
	if err := os.WriteFile(keyFile, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	now.set(now.Now().Add(reloadAfter))
	for range 2 {
		if !served().Equal(second) || strings.Count(log.String(), "level=WARN") != 1 {
			t.Error("half replaced files:", log.String())
		}
	}
}

// filesOf is all files of a folder, with times and contents.
func filesOf(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		text := []byte(nil)
		if info.Mode().IsRegular() {
			if text, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		all = append(all, fmt.Sprintf("%s %s %s %x", path, info.Mode(), info.ModTime(), text))
		return nil
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

func TestTheDoctorChangesNothing(t *testing.T) {
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			url := ""
			if engine == db.Postgres {
				url = dbtest.PostgresURL(t)
			}
			settings := settingsOf(t, variables(t, "AIRLOCK_DATABASE_URL="+url))
			well := func(when string) {
				t.Helper()
				if list := Doctor(t.Context(), settings); Wrong(list) != nil {
					t.Errorf("%s: %+v", when, list)
				}
			}
			well("before the first start")
			if _, err := os.Stat(settings.DataDir); !errors.Is(err, os.ErrNotExist) {
				t.Error("the doctor made the data directory", err)
			}
			if engine == db.Postgres {
				d, err := db.Open(t.Context(), url)
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				if n, err := db.Value[int64](t.Context(), d, "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'"); err != nil || n != 0 {
					t.Error("the doctor made tables", n, err)
				}
			}
			s, err := New(t.Context(), settings, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			well("beside a server")
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			before := filesOf(t, settings.DataDir)
			well("after a server")
			if after := filesOf(t, settings.DataDir); !slices.Equal(before, after) {
				t.Errorf("the doctor changed files:\n%s\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}

			// What is wrong is found.
			listener, err := net.Listen("tcp", settings.Listen)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			if err := errors.Join(os.Rename(settings.KeyFile, settings.KeyFile+".away"), os.Chmod(settings.DataDir, 0o777)); err != nil {
				t.Fatal(err)
			}
			list := Doctor(t.Context(), settings)
			for what, words := range map[string]string{"port": "in use", "sealing key": "isn't there", "data directory": "everybody can write"} {
				if !slices.ContainsFunc(list, func(f Finding) bool { return f.What == what && !f.OK && strings.Contains(f.Words, words) }) {
					t.Errorf("%s isn't wrong in %+v", what, list)
				}
			}
			if err := Wrong(list); err == nil || err.Error() != "3 things are wrong" {
				t.Error(err)
			}
		})
	}
}

// A killed server leaves a journal, in which the newest rows are.
func TestTheDoctorReadsTheJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "airlock.db")
	d, err := db.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, served := range []bool{true, false} { // as seen before and after its end
		look, err := db.OpenToRead(t.Context(), path, served)
		if err != nil {
			t.Fatal(err)
		}
		version, err := look.Version(t.Context())
		if err != nil || version != db.Newest() {
			t.Error(version, err)
		}
		err = look.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, "DELETE FROM secret")
			return err
		})
		if err == nil {
			t.Error("it could be changed")
		}
		look.Close()
	}
}
