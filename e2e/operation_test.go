package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/airflow/airflowtest"
	"airlock/internal/base/db/dbtest"
	command "airlock/internal/edge/admin"
)

// TestBackup carries a server from SQLite to PostgreSQL and back, out of backups
// that are made while it syncs.
func TestBackup(t *testing.T) {
	fake, url := company(t)
	dir := t.TempDir()
	old := newAirlock(t, "")
	old.serve()
	old.addHosted(url, "Airflow")
	old.run("connector", "sync", "Airflow", "--wait", "--timeout", "2m")
	list := func(a *airlock) string { return a.run("export", "grants", "--app", "Airflow") }
	before := list(old)

	// The connector is in the middle of a sync that finds much.
	fake.SetRoles("eve", "Op")
	hold := airflowtest.NewHold()
	fake.Inject(airflowtest.Fault{Method: http.MethodGet, Skip: 3, Act: hold.Act})
	old.run("connector", "sync", "Airflow")
	<-hold.Entered()
	file := filepath.Join(dir, "first.backup")
	old.run("backup", file)
	if key, err := os.ReadFile(filepath.Join(old.dataDir, "airlock.key")); err != nil || contains(t, file, strings.TrimSpace(string(key))) {
		t.Errorf("the backup holds the key, %v", err)
	}
	fake.ClearFaults()
	hold.Release()
	old.run("connector", "sync", "Airflow", "--wait", "--timeout", "2m")
	if list(old) == before {
		t.Fatal("the sync found nothing")
	}
	old.stop()

	// With another key nothing is restored, and nothing of the attempt stays.
	another := newAirlock(t, "")
	another.serve()
	another.stop()
	fresh := newAirlock(t, dbtest.PostgresURL(t))
	give(t, another, fresh, "airlock.key")
	if _, problems, code := fresh.try("restore", file); code == 0 || !strings.Contains(problems, "key") {
		t.Fatalf("with another key: %d: %s", code, problems)
	}
	give(t, old, fresh, "airlock.key")
	give(t, old, fresh, "checkpoints.txt") // as it was kept elsewhere
	fresh.run("restore", file)
	if _, problems, code := fresh.try("restore", file); code == 0 || !strings.Contains(problems, "empty") {
		t.Errorf("a second restore: %d: %s", code, problems)
	}
	fresh.serve()
	if diff := cmp.Diff(before, list(fresh)); diff != "" {
		t.Errorf("restored (-before +after):\n%s", diff)
	}
	var c command.Connector
	fresh.json(&c, "connector", "show", "Airflow")
	if c.Status != "Paused" || !strings.Contains(c.Detail, "backup") {
		t.Errorf("the connector is %s: %s", c.Status, c.Detail)
	}
	if said := fresh.run("audit", "verify"); !strings.Contains(said, "restored") {
		t.Errorf("verified against the checkpoints of before: %s", said)
	}
	export := filepath.Join(dir, "audit.jsonl")
	fresh.run("audit", "export", "-o", export)
	if said := fresh.run("audit", "verify", export, "--checkpoints", filepath.Join(old.dataDir, "checkpoints.txt")); !strings.Contains(said, "restored") {
		t.Errorf("the export against the checkpoints of before: %s", said)
	}
	if _, problems, code := fresh.try("connector", "sync", "Airflow", "--wait", "--timeout", "2s"); code != 2 && code != 5 {
		t.Errorf("a paused connector syncs: %d: %s", code, problems)
	}
	fresh.run("connector", "resume", "Airflow")
	fresh.run("connector", "sync", "Airflow", "--wait", "--timeout", "2m")
	fresh.checkGrant("eve", "Viewer")

	// And back.
	file = filepath.Join(dir, "second.backup")
	fresh.run("backup", file)
	after := list(fresh)
	fresh.stop()
	back := newAirlock(t, "")
	give(t, fresh, back, "airlock.key")
	give(t, fresh, back, "checkpoints.txt")
	back.run("restore", file)
	back.serve()
	if diff := cmp.Diff(after, list(back)); diff != "" {
		t.Errorf("restored (-before +after):\n%s", diff)
	}
	back.run("audit", "verify")
	back.run("connector", "resume", "Airflow")
	back.run("connector", "sync", "Airflow", "--wait", "--timeout", "2m")
	back.stop()
}

// give copies a file of one server's data directory into another's.
func give(t *testing.T, from, to *airlock, name string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(from.dataDir, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(to.dataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to.dataDir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func contains(t *testing.T, file, words string) bool {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(content), words)
}

// checkGrant grants an account a role.
func (a *airlock) checkGrant(account, role string) {
	a.t.Helper()
	var change command.Change
	a.json(&change, "grant", "role:"+role+":assigned", account, "--app", "Airflow", "--wait", "--timeout", "2m")
	if change.State != "verified" || !slices.Contains(a.holds("Airflow", "role:"+role+":assigned"), account) {
		a.t.Errorf("the grant of %s to %s is %s: %s", role, account, change.State, change.Error)
	}
}

// TestTLS has a connector call by each way that the one port can be protected.
func TestTLS(t *testing.T) {
	works := func(t *testing.T, a *airlock, variables string, more ...string) {
		t.Helper()
		_, airflow := company(t)
		a.selfHosted(variables, airflow, more...)
		a.run("connector", "sync", "Airflow", "--wait", "--timeout", "2m")
		a.checkCompany("Airflow")
		a.checkGrant("eve", "Op")
		a.stop()
	}
	t.Run("its own CA", func(t *testing.T) {
		a := newAirlock(t, "")
		a.serve()
		variables := a.run("connector", "add", "airflow", "--app", "Airflow")
		dir := filepath.Join(a.dataDir, "ca")
		if !strings.Contains(variables, "SSL_CERT_DIR="+dir+"\n") {
			t.Errorf("SSL_CERT_DIR isn't told: %s", variables)
		}
		if list, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(list) != 1 || filepath.Base(list[0]) != "ca.pem" {
			t.Errorf("in the folder are %v, %v", list, err)
		}
		works(t, a, variables)
	})
	t.Run("the operator's certificate", func(t *testing.T) {
		dir, cert, key := authority(t)
		a := newAirlock(t, "", "AIRLOCK_TLS_CERT="+cert, "AIRLOCK_TLS_KEY="+key)
		a.serve()
		variables := a.run("connector", "add", "airflow", "--app", "Airflow")
		if strings.Contains(variables, "SSL_CERT") {
			t.Errorf("a CA is told that doesn't matter: %s", variables)
		}
		works(t, a, variables, "SSL_CERT_DIR="+dir)
	})
	t.Run("a proxy ends TLS", func(t *testing.T) {
		dir, cert, key := authority(t)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		a := newAirlock(t, "", "AIRLOCK_TLS=off", "AIRLOCK_PUBLIC_URL=https://"+listener.Addr().String(), "AIRLOCK_TRUSTED_PROXIES=127.0.0.0/8")
		a.serve()
		plain := &http.Transport{Protocols: new(http.Protocols)}
		plain.Protocols.SetUnencryptedHTTP2(true)
		proxy := &http.Server{ReadHeaderTimeout: time.Minute, Handler: &httputil.ReverseProxy{
			Transport: plain, FlushInterval: -1,
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "http", Host: a.address})
				r.Out.Host = r.In.Host
				r.SetXForwarded()
			},
		}}
		ended := make(chan error, 1)
		go func() { ended <- proxy.ServeTLS(listener, cert, key) }()
		t.Cleanup(func() {
			_ = proxy.Close()
			<-ended
		})
		works(t, a, a.run("connector", "add", "airflow", "--app", "Airflow"), "SSL_CERT_DIR="+dir)
	})
}

// authority is a folder with a CA's certificate, and a certificate for 127.0.0.1
// by that CA with its key.
func authority(t *testing.T) (dir, cert, key string) {
	t.Helper()
	place := t.TempDir()
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(place, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	make1 := func(template, parent *x509.Certificate, by *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			parent, by = template, private
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		content, err := x509.CreateCertificate(rand.Reader, template, parent, &private.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		return content, private
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the operator's CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	content, private := make1(ca, nil, nil)
	dir = filepath.Dir(write("ca/ca.pem", "CERTIFICATE", content))
	content, mine := make1(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "airlock"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, private)
	der, err := x509.MarshalPKCS8PrivateKey(mine)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = write("cert.pem", "CERTIFICATE", content), write("key.pem", "PRIVATE KEY", der)
	if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
		t.Fatal(err)
	}
	return dir, cert, key
}

// TestRotate takes a connector through its life: new credentials, a pause, its end.
func TestRotate(t *testing.T) {
	fake, url := company(t)
	a := newAirlock(t, "")
	a.serve()
	variables := a.run("connector", "add", "airflow", "--app", "Airflow")
	old := a.selfHosted(variables, url)
	a.run("connector", "sync", "Airflow", "--wait", "--timeout", "2m")

	fresh := a.run("connector", "rotate", "Airflow")
	if fresh == variables {
		t.Fatal("the credentials are the old ones")
	}
	if err := old.log.wait(t.Context(), "Unauthenticated"); err != nil { // in the call that it holds
		t.Fatal(err)
	}
	if err := a.selfHosted(variables, url).ends(t); err == nil {
		t.Error("a connector with the old credentials ended well")
	}
	connector := a.selfHosted(fresh, url)
	a.run("connector", "sync", "Airflow", "--wait", "--timeout", "2m")

	a.run("connector", "pause", "Airflow", "--why", "Airflow moves")
	if _, problems, code := a.try("connector", "sync", "Airflow", "--wait"); code != 2 || !strings.Contains(problems, "paused") {
		t.Errorf("a paused connector syncs: %d: %s", code, problems)
	}
	var c command.Connector
	a.json(&c, "connector", "show", "Airflow")
	if c.Status != "Paused" || c.Detail != "Airflow moves" {
		t.Errorf("it is %s: %s", c.Status, c.Detail)
	}
	var change command.Change // changes go through; they are seen later
	a.json(&change, "grant", "role:Op:assigned", "eve", "--app", "Airflow")
	a.run("connector", "resume", "Airflow")
	a.json(&change, "change", "show", change.ID, "--wait", "--timeout", "2m")
	if change.State != "verified" || !slices.Contains(fake.Roles("eve"), "Op") {
		t.Errorf("the grant is %s: %s", change.State, change.Error)
	}

	// What it found stays when it is removed, and is never read as "all revoked".
	before := a.run("export", "grants", "--app", "Airflow")
	a.run("connector", "remove", "Airflow")
	if err := connector.log.wait(t.Context(), "Unauthenticated"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, a.run("export", "grants", "--app", "Airflow")); diff != "" {
		t.Errorf("after it was removed (-before +after):\n%s", diff)
	}
	if _, problems, code := a.try("grant", "role:Op:assigned", "ann", "--app", "Airflow"); code != 2 {
		t.Errorf("a grant without a connector: %d: %s", code, problems)
	}
	if out := a.run("--json", "connector", "list"); strings.Contains(out, "Airflow") {
		t.Errorf("it is still listed: %s", out)
	}
	// The app can have another.
	a.selfHosted(a.run("connector", "add", "airflow", "--app", "Airflow"), url)
	a.run("connector", "sync", "Airflow", "--wait", "--timeout", "2m")
	if diff := cmp.Diff(before, a.run("export", "grants", "--app", "Airflow")); diff != "" {
		t.Errorf("by another connector (-before +after):\n%s", diff)
	}
	a.run("audit", "verify")
	a.stop()
}

// TestManyTasksAtOnce has a connector take its tasks by several, and send its
// debug log along.
func TestManyTasksAtOnce(t *testing.T) {
	fake, url := company(t)
	a := newAirlock(t, "")
	a.serve()
	variables := a.run("connector", "add", "airflow", "--app", "Airflow")
	a.run("connector", "set", "Airflow", "--debug-log")
	a.selfHosted(variables, url, "BATON_GET_TASKS=true")
	a.run("connector", "sync", "Airflow", "--wait", "--timeout", "2m")
	a.checkCompany("Airflow")
	var asked []command.Change
	for _, user := range fake.Users()[:6] {
		var change command.Change
		a.json(&change, "grant", "role:Op:assigned", user.Username, "--app", "Airflow")
		asked = append(asked, change)
	}
	for _, change := range asked {
		a.json(&change, "change", "show", change.ID, "--wait", "--timeout", "3m")
		if change.State != "verified" {
			t.Errorf("the grant for %s is %s: %s", change.Account, change.State, change.Error)
		}
	}
	if err := a.log.wait(t.Context(), "kind=log"); err != nil {
		t.Error(err)
	}
	a.stop()
}
