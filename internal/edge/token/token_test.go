package token

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conductorone/baton-sdk/pkg/ugrpc"
	"google.golang.org/grpc/credentials"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
	"airlock/internal/identity"
)

// TestMain lets this process trust httptest's certificate as a connector trusts a private
// CA: by SSL_CERT_FILE, which is read once.
func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	dir, err := os.MkdirTemp("", "airlock-token-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := errors.Join(os.WriteFile(file, text, 0o600), os.Setenv("SSL_CERT_FILE", file)); err != nil {
		panic(err)
	}
	return m.Run()
}

type site struct {
	people *identity.Service
	db     *db.DB
	server *httptest.Server
	log    *strings.Builder
}

func newSite(t *testing.T, d *db.DB) site {
	t.Helper()
	keys, err := seal.OpenKeyring(filepath.Join(t.TempDir(), "key"), "")
	if err != nil {
		t.Fatal(err)
	}
	vault, hub := seal.NewVault(d, keys, clock.System{}), live.New(d, slog.New(slog.DiscardHandler))
	log, err := audit.New(d, vault, clock.System{}, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := site{people: identity.New(d, log, vault, hub, clock.System{}), db: d, log: &strings.Builder{}}
	mux := http.NewServeMux()
	mux.Handle(Path, Handler(s.people, slog.New(slog.NewTextHandler(s.log, nil))))
	s.server = httptest.NewTLSServer(mux)
	t.Cleanup(s.server.Close)
	return s
}

func (s site) addClient(t *testing.T) (clientID, secret string) {
	t.Helper()
	host := strings.TrimPrefix(s.server.URL, "https://")
	err := s.db.Write(t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		clientID, secret, err = s.people.AddClient(ctx, tx, identity.ClientConnector, "c1", host)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return clientID, secret
}

// bearer gets a token as every connector does: with the SDK's own code, over TLS.
func bearer(t *testing.T, clientID, secret string) (string, error) {
	t.Helper()
	provider, _, _, err := ugrpc.NewC1CredentialProvider(t.Context(), clientID, secret)
	if err != nil {
		t.Fatal(err)
	}
	ctx := credentials.NewContextWithRequestInfo(t.Context(), credentials.RequestInfo{AuthInfo: credentials.TLSInfo{
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}})
	metadata, err := provider.GetRequestMetadata(ctx)
	return metadata["authorization"], err
}

func TestAnUnmodifiedConnectorGetsATokenThatAuthenticates(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		clientID, secret := s.addClient(t)
		shown, err := bearer(t, clientID, secret)
		if err != nil {
			t.Fatal(err)
		}
		access, ok := strings.CutPrefix(shown, "Bearer ")
		if !ok {
			t.Fatal(shown)
		}
		client, err := s.people.Authenticate(t.Context(), access)
		if err != nil || client.ID != clientID || client.SubjectID != "c1" {
			t.Fatal(client, err)
		}
		if s.log.String() != "" {
			t.Error(s.log.String())
		}
	})
}

func TestAnUnmodifiedConnectorWithAForeignOrRevokedSecretGetsNone(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	clientID, secret := s.addClient(t)
	_, foreign := s.addClient(t)
	for _, attempt := range []struct{ clientID, secret string }{{clientID, foreign}, {"x" + clientID, secret}} {
		if _, err := bearer(t, attempt.clientID, attempt.secret); err == nil || !strings.Contains(err.Error(), "401") {
			t.Error(err)
		}
	}
	err := s.db.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		return s.people.RevokeClients(ctx, tx, "c1", identity.ClientConnector, "")
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bearer(t, clientID, secret); err == nil || !strings.Contains(err.Error(), "401") {
		t.Error(err)
	}
	for _, reason := range []string{"isn't signed by the client's key", "there is no such client", "the client was revoked"} {
		if !strings.Contains(s.log.String(), reason) {
			t.Errorf("the log doesn't say %q: %s", reason, s.log)
		}
	}
}

// post sends a form, and reads the answer as a client would.
func (s site) post(t *testing.T, body string) answered {
	t.Helper()
	response, err := s.server.Client().Post(s.server.URL+Path, "application/x-www-form-urlencoded; charset=utf-8", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return answered{response.StatusCode, response.Header, readJSON(t, response)}
}

// answered is what came back.
type answered struct {
	status int
	header http.Header
	said   map[string]any
}

func readJSON(t *testing.T, response *http.Response) (said map[string]any) {
	t.Helper()
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &said); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if response.Header.Get("Cache-Control") != "no-store" || response.Header.Get("Content-Type") != "application/json" {
		t.Error(response.Header)
	}
	return said
}

func encode(change func(form url.Values)) string {
	form := url.Values{
		"client_id": {"brave-fox-12345@a.example/ccc"}, "grant_type": {identity.GrantClientCredentials},
		"client_assertion_type": {identity.AssertionJWT}, "client_assertion": {"a.b.c"},
	}
	change(form)
	return form.Encode()
}

func TestEachWrongRequestGetsItsAnswer(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	for name, test := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"nobody known":        {encode(func(url.Values) {}), 401, "invalid_client"},
		"empty":               {"", 400, "invalid_request"},
		"no form":             {"%zz", 400, "invalid_request"},
		"another grant type":  {encode(func(f url.Values) { f.Set("grant_type", "password") }), 400, "unsupported_grant_type"},
		"no assertion":        {encode(func(f url.Values) { f.Del("client_assertion") }), 400, "invalid_request"},
		"a client secret":     {encode(func(f url.Values) { f.Del("client_assertion_type"); f.Set("client_secret", "x") }), 400, "invalid_request"},
		"twice":               {encode(func(f url.Values) { f.Add("client_id", "x") }), 400, "invalid_request"},
		"a huge assertion":    {encode(func(f url.Values) { f.Set("client_assertion", strings.Repeat("a", 9<<10)) }), 400, "invalid_request"},
		"a huge request":      {encode(func(f url.Values) { f.Set("client_assertion", strings.Repeat("a", maxForm)) }), 413, "invalid_request"},
		"odd letters":         {encode(func(f url.Values) { f.Set("client_id", "a\x00\xff") }), 400, "invalid_request"},
		"an odd long client":  {encode(func(f url.Values) { f.Set("client_id", strings.Repeat("a", 600)) }), 400, "invalid_request"},
		"an assertion of NUL": {encode(func(f url.Values) { f.Set("client_assertion", "\x00.\x00.\x00") }), 401, "invalid_client"},
	} {
		got := s.post(t, test.body)
		if got.status != test.status || got.said["error"] != test.code || got.said["error_description"] == "" {
			t.Errorf("%s: %d %v", name, got.status, got.said)
		}
	}
	response, err := s.server.Client().Get(s.server.URL + Path + "?" + encode(func(url.Values) {}))
	if err != nil {
		t.Fatal(err)
	}
	readJSON(t, response)
	if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != "POST" {
		t.Error(response.Status)
	}
	response, err = s.server.Client().Post(s.server.URL+Path+"?"+encode(func(url.Values) {}), "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	readJSON(t, response)
	if response.StatusCode != http.StatusUnsupportedMediaType {
		t.Error(response.Status)
	}
	// What is in the URL, and so in logs of proxies, doesn't count.
	response, err = s.server.Client().Post(s.server.URL+Path+"?"+encode(func(url.Values) {}), "application/x-www-form-urlencoded", nil)
	if err != nil {
		t.Fatal(err)
	}
	if readJSON(t, response); response.StatusCode != http.StatusBadRequest {
		t.Error(response.Status)
	}
}

// A starting connector takes any answer but 200 for a refusal and ends; what is
// our trouble is told as such, so that whoever runs it can see whose it is.
func TestTroubleInsideIsNoRefusal(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	clientID, secret := s.addClient(t)
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := bearer(t, clientID, secret); err == nil || !strings.Contains(err.Error(), "503") {
		t.Error(err)
	}
	got := s.post(t, encode(func(url.Values) {}))
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "5" || got.said["error"] != "temporarily_unavailable" || strings.Contains(got.said["error_description"].(string), "sql") {
		t.Error(got)
	}
	if !strings.Contains(s.log.String(), "level=ERROR") || !strings.Contains(s.log.String(), "closed") {
		t.Error(s.log.String())
	}
}

// No answer tells whether a client is known.
func TestKnownAndUnknownClientsAreRefusedAlike(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	clientID, _ := s.addClient(t)
	answers := map[string]bool{}
	for _, id := range []string{clientID, "brave-fox-00000@a.example/ccc"} {
		got := s.post(t, encode(func(f url.Values) { f.Set("client_id", id) }))
		got.header.Del("Date")
		text, err := json.Marshal([]any{got.status, got.header, got.said})
		if err != nil {
			t.Fatal(err)
		}
		answers[string(text)] = true
	}
	if len(answers) != 1 {
		t.Error(answers)
	}
}
