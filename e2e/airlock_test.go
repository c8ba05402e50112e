package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/airflow/airflowtest"
	"airlock/internal/base/db/dbtest"
	command "airlock/internal/edge/admin"
)

var airlockProgram = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programs, "airlock")
	if out, err := exec.Command("go", "build", "-o", path, "../cmd/airlock").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build airlock: %w: %s", err, out)
	}
	// The connectors folder beside the program, as it is shipped.
	connectors := filepath.Join(programs, "connectors")
	if err := os.MkdirAll(connectors, 0o755); err != nil {
		return "", err
	}
	connector, err := batonAirflow()
	if err != nil {
		return "", err
	}
	return path, os.Link(connector, filepath.Join(connectors, "baton-airflow"))
})

// airlock is a running server.
type airlock struct {
	t       *testing.T
	program string
	dataDir string
	address string
	env     []string
	*process
}

// logbook keeps what a process logs, and wakes whoever waits for a line.
type logbook struct {
	mu    sync.Mutex
	lines []string
	news  chan struct{}
}

func (l *logbook) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	close(l.news)
	l.news = make(chan struct{})
}

// wait returns once a line with these words was logged.
func (l *logbook) wait(ctx context.Context, words string) error {
	for from := 0; ; {
		l.mu.Lock()
		fresh, news := l.lines[from:], l.news
		from = len(l.lines)
		l.mu.Unlock()
		if slices.ContainsFunc(fresh, func(line string) bool { return strings.Contains(line, words) }) {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("%q was never logged: %w", words, ctx.Err())
		}
	}
}

// signal is closed once a line with these words was logged, before the test ends.
func (l *logbook) signal(t *testing.T, words string) <-chan struct{} {
	heard := make(chan struct{})
	go func() {
		if l.wait(t.Context(), words) == nil {
			close(heard)
		}
	}()
	return heard
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// process is a running program with its log.
type process struct {
	cmd   *exec.Cmd
	log   *logbook
	ended chan error
}

// ends waits for the end of a process.
func (p *process) ends(t *testing.T) error {
	t.Helper()
	select {
	case err := <-p.ended:
		p.ended <- err
		return err
	case <-time.After(2 * time.Minute):
		t.Fatalf("it didn't end; it logged:\n%s", p.log)
		return nil
	}
}

// kill ends a process as a power cut would, and waits until it is gone.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.ended
}

// start runs a program and keeps its log.
func start(t *testing.T, program string, env []string, dir string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Dir = env, dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	book := &logbook{news: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(read)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			book.add(lines.Text())
		}
		ended <- cmd.Wait()
	}()
	t.Cleanup(func() { // whatever happened
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
		}
	})
	return &process{cmd, book, ended}
}

// newAirlock prepares a server; url is of its PostgreSQL, or "" for SQLite.
func newAirlock(t *testing.T, url string, env ...string) *airlock {
	t.Helper()
	if testing.Short() {
		t.Skip("whole programs: `make e2e` runs them")
	}
	program, err := airlockProgram()
	if err != nil {
		t.Fatal(err)
	}
	// A socket's path is short.
	dir, err := os.MkdirTemp("", "airlock-") //nolint:usetesting // that is too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a := &airlock{t: t, program: program, dataDir: filepath.Join(dir, "data"), address: freeAddress(t)}
	a.env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "AIRLOCK_DATABASE_URL=" + url, "AIRLOCK_LISTEN=" + a.address}, env...)
	return a
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// serve starts it and returns when it is ready.
func (a *airlock) serve() {
	a.t.Helper()
	a.process = start(a.t, a.program, a.env, "", "serve", "--data-dir", a.dataDir)
	ctx, cancel := context.WithCancel(a.t.Context())
	defer cancel()
	go func() {
		select {
		case err := <-a.ended:
			a.ended <- err
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := a.log.wait(ctx, "airlock serves"); err != nil {
		a.t.Fatalf("%v; it logged:\n%s", err, a.log)
	}
	a.t.Cleanup(func() {
		if a.t.Failed() {
			a.t.Logf("the server logged:\n%s", a.log)
		}
	})
}

// stop ends it as an operator would.
func (a *airlock) stop() {
	a.t.Helper()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		a.t.Fatal(err)
	}
	if err := <-a.ended; err != nil {
		a.t.Errorf("stopping failed: %v; it logged:\n%s", err, a.log)
	}
}

// kill ends it as a power cut would.
func (a *airlock) kill() {
	a.t.Helper()
	a.process.kill(a.t)
}

// children are the processes that it has started and that run: its hosted
// connectors.
func (a *airlock) children() (pids []int) {
	a.t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", a.cmd.Process.Pid))
	if err != nil {
		a.t.Fatal(err)
	}
	for _, thread := range threads {
		list, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		for child := range strings.FieldsSeq(string(list)) {
			pid, err := strconv.Atoi(child)
			if err != nil {
				a.t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// try runs a command and returns what it printed and its exit code.
func (a *airlock) try(args ...string) (stdout, stderr string, code int) {
	a.t.Helper()
	cmd := exec.CommandContext(a.t.Context(), a.program, append([]string{"--data-dir", a.dataDir}, args...)...)
	cmd.Env = a.env
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		a.t.Fatalf("airlock %v: %v", args, err)
	}
	return out.String(), problems.String(), cmd.ProcessState.ExitCode()
}

// run runs a command that must succeed.
func (a *airlock) run(args ...string) string {
	a.t.Helper()
	out, problems, code := a.try(args...)
	if code != 0 {
		a.t.Fatalf("airlock %s: exit %d: %s%s", strings.Join(args, " "), code, out, problems)
	}
	return out
}

// json runs a command with --json and decodes what it prints.
func (a *airlock) json(out any, args ...string) {
	a.t.Helper()
	text := a.run(append([]string{"--json"}, args...)...)
	if err := json.Unmarshal([]byte(text), out); err != nil {
		a.t.Fatalf("airlock %s: %v: %.300s", strings.Join(args, " "), err, text)
	}
}

// addHosted adds Airflow as a connector that the server runs.
func (a *airlock) addHosted(baseURL, app string) {
	a.t.Helper()
	account := airflowtest.Company().User("airlock")
	password := filepath.Join(a.t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(account.Password+"\n"), 0o600); err != nil {
		a.t.Fatal(err)
	}
	a.run("connector", "add", "airflow", "--app", app, "--hosted", "--set", "airflow-base-url="+baseURL,
		"--set", "airflow-username="+account.Username, "--set-file", "airflow-password="+password)
}

// selfHosted starts baton-airflow as somebody would elsewhere: with the two
// variables that `connector add` printed and its own settings.
func (a *airlock) selfHosted(variables, baseURL string, more ...string) *process {
	a.t.Helper()
	program, err := batonAirflow()
	if err != nil {
		a.t.Fatal(err)
	}
	account := airflowtest.Company().User("airlock")
	return a.elsewhere(program, variables, append([]string{
		"BATON_AIRFLOW_BASE_URL=" + baseURL, "BATON_AIRFLOW_USERNAME=" + account.Username, "BATON_AIRFLOW_PASSWORD=" + account.Password,
	}, more...)...)
}

// elsewhere starts a connector with the variables that `connector add` printed and
// its own settings, and nothing else.
func (a *airlock) elsewhere(program, variables string, settings ...string) *process {
	a.t.Helper()
	dir := a.t.TempDir()
	env := slices.Concat([]string{"PATH=/nowhere", "HOME=" + dir, "TMPDIR=" + dir, "BATON_PROVISIONING=true", "BATON_LOG_FORMAT=json"},
		strings.Fields(variables), settings)
	connector := start(a.t, program, env, dir)
	a.t.Cleanup(func() {
		if a.t.Failed() {
			a.t.Logf("the connector logged:\n%s", connector.log)
		}
	})
	return connector
}

type grantRow struct {
	Entitlement   string `json:"entitlement"`
	PrincipalType string `json:"principal_type"`
	Principal     string `json:"principal"`
	Inherited     bool   `json:"inherited"`
}

// holds is who holds an entitlement directly, by the connector's ids.
func (a *airlock) holds(app, entitlement string) []string {
	a.t.Helper()
	var rows []grantRow
	a.json(&rows, "export", "grants", "--app", app)
	var list []string
	for _, row := range rows {
		if row.Entitlement == entitlement && row.PrincipalType == "user" && !row.Inherited {
			list = append(list, row.Principal)
		}
	}
	return sorted(list)
}

// checkCompany holds an app's inventory against the company in Airflow.
func (a *airlock) checkCompany(app string) {
	a.t.Helper()
	company := airflowtest.Company()
	var accounts []struct {
		ID     string `json:"external_id"`
		Status string `json:"status"`
		Email  string `json:"email"`
	}
	a.json(&accounts, "export", "accounts", "--app", app)
	got, want := map[string]string{}, map[string]string{}
	for _, account := range accounts {
		got[account.ID] = account.Status
	}
	assigned := map[string][]string{}
	for _, u := range company.Users {
		want[u.Username] = map[bool]string{true: "enabled", false: "disabled"}[u.Active]
		for _, role := range u.Roles {
			assigned[role] = append(assigned[role], u.Username)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		a.t.Errorf("accounts (-company +inventory):\n%s", diff)
	}
	for role, members := range assigned {
		if diff := cmp.Diff(sorted(members), a.holds(app, "role:"+role+":assigned")); diff != "" {
			a.t.Errorf("who has %s (-company +inventory):\n%s", role, diff)
		}
	}
	var entitlements []struct {
		ID string `json:"external_id"`
	}
	a.json(&entitlements, "export", "entitlements", "--app", app)
	if len(entitlements) < len(company.Roles) {
		a.t.Errorf("%d entitlements of %d roles and more", len(entitlements), len(company.Roles))
	}
}

// checkChange grants and revokes by the command line, and looks in Airflow.
func (a *airlock) checkChange(app, baseURL string) {
	a.t.Helper()
	const entitlement, account = "role:payroll-editor:assigned", "eve"
	in := func() bool {
		user, err := admin(a.t, baseURL).User(a.t.Context(), account)
		if err != nil {
			a.t.Fatal(err)
		}
		return slices.Contains(user.Roles, "payroll-editor")
	}
	var change command.Change
	a.json(&change, "grant", entitlement, account, "--app", app, "--wait", "--timeout", "5m")
	if change.State != "verified" || !in() || !slices.Contains(a.holds(app, entitlement), account) {
		a.t.Fatalf("after the grant: %+v, in Airflow: %t, in the inventory: %v", change, in(), a.holds(app, entitlement))
	}
	a.json(&change, "revoke", entitlement, account, "--app", app, "--wait", "--timeout", "5m")
	if change.State != "verified" || in() || slices.Contains(a.holds(app, entitlement), account) {
		a.t.Fatalf("after the revoke: %+v, in Airflow: %t, in the inventory: %v", change, in(), a.holds(app, entitlement))
	}
	_, problems, code := a.try("revoke", entitlement, account, "--app", app, "--wait")
	if code != 2 || !strings.Contains(problems, "nothing to revoke") {
		a.t.Errorf("a second revoke: exit %d: %s", code, problems)
	}
}

// engines runs a test on SQLite and on PostgreSQL.
func engines(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, "") })
	t.Run("postgres", func(t *testing.T) { test(t, dbtest.PostgresURL(t)) })
}

// TestServer takes a real Airflow in, hosted and self-hosted, on both databases.
func TestServer(t *testing.T) {
	release := airflowtest.Releases("test")[0]
	real := airflowtest.RealForTest(t, release.Airflow)
	engines(t, func(t *testing.T, url string) {
		a := newAirlock(t, url)
		a.serve()
		t.Run("hosted", func(t *testing.T) {
			a := a.in(t)
			a.addHosted(real.URL, "Airflow")
			a.run("connector", "sync", "Airflow", "--wait", "--timeout", "5m")
			a.checkCompany("Airflow")
			a.checkChange("Airflow", real.URL)
		})
		t.Run("self-hosted", func(t *testing.T) {
			a := a.in(t)
			variables := a.run("connector", "add", "airflow", "--app", "Elsewhere")
			a.selfHosted(variables, real.URL)
			a.run("connector", "sync", "Elsewhere", "--wait", "--timeout", "5m")
			a.checkCompany("Elsewhere")
			a.checkChange("Elsewhere", real.URL)
		})
		t.Run("file", func(t *testing.T) {
			a := a.in(t)
			c := connectorFor(t, real.URL)
			sync1(t, c)
			a.run("app", "add", "By hand", "--unmanaged")
			a.run("ingest", c.File(), "--app", "By hand")
			a.checkCompany("By hand")
		})
		a.run("audit", "verify")
		export := filepath.Join(t.TempDir(), "audit.jsonl")
		a.run("audit", "export", "-o", export)
		a.stop()
		a.run("audit", "verify", export)
	})
}

// in is the same server for a subtest.
func (a *airlock) in(t *testing.T) *airlock {
	b := *a
	b.t = t
	return &b
}
