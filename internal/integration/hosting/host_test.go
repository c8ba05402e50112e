package hosting

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/id"
	"airlock/internal/integration"
	"airlock/internal/integration/integrationtest"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// rig is a Host with what the rest of the server would be.
type rig struct {
	*testing.T
	host     *Host
	config   Config
	programs string
	report   string // the file that the fake connector writes
	lines    chan integration.LogLine
	problems chan integration.Problem
	counts   chan map[string]int64
	retries  chan integration.Retry
	clients  chan string // "add" and "revoke except …"

	asked chan struct{} // what should run

	mu     sync.Mutex
	hosted []integration.HostedConnector
	broken error
}

// connectors makes a folder with the fake connector, which is this very program.
func connectors(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "baton-fake")
	if os.Link(self, path) == nil {
		return dir
	}
	if out, err := exec.CommandContext(t.Context(), "cp", self, path).CombinedOutput(); err != nil { // on another disk
		t.Fatal(err, string(out))
	}
	return dir
}

func newRig(t *testing.T, d *db.DB, change func(*Config)) *rig {
	t.Helper()
	r := &rig{
		T: t, programs: connectors(t), report: filepath.Join(t.TempDir(), "report"),
		lines: make(chan integration.LogLine, 100_000), problems: make(chan integration.Problem, 1000),
		counts: make(chan map[string]int64, 1000), retries: make(chan integration.Retry, 1000), clients: make(chan string, 1000),
		asked: make(chan struct{}, 1),
	}
	c := config(d, r.programs, filepath.Join(t.TempDir(), "hosted"))
	c.Times = Times{
		Look: 100 * time.Millisecond, Lease: 6 * time.Second, Grace: patience,
		First: 10 * time.Millisecond, Longest: 50 * time.Millisecond, Sample: 50 * time.Millisecond, Flush: 10 * time.Millisecond,
	}
	c.Hosted = func(context.Context) ([]integration.HostedConnector, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		select {
		case r.asked <- struct{}{}:
		default:
		}
		return slices.Clone(r.hosted), r.broken
	}
	c.AppendLog = func(_ context.Context, _ string, list []integration.LogLine) error {
		for _, line := range list {
			r.lines <- line
		}
		return nil
	}
	c.ReportProblem = func(_ context.Context, _ string, p integration.Problem) error { r.problems <- p; return nil }
	c.ReadingCounts = func(_ context.Context, _ string, counts map[string]int64) error { r.counts <- counts; return nil }
	c.Retrying = func(_ context.Context, _ string, again integration.Retry) error { r.retries <- again; return nil }
	add := c.AddClient
	c.AddClient = func(ctx context.Context, tx *db.Tx, kind, subjectID, host string) (string, string, error) {
		tx.AfterCommit(func() { r.clients <- "add " + kind })
		return add(ctx, tx, kind, subjectID, host)
	}
	c.RevokeClients = func(_ context.Context, tx *db.Tx, _, kind, except string) error {
		tx.AfterCommit(func() { r.clients <- strings.TrimSpace("revoke " + kind + " " + except) })
		return nil
	}
	if change != nil {
		change(&c)
	}
	r.config = c
	r.host = New(c)
	if err := r.host.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = r.host.Stop(ctx)
	})
	return r
}

// host says what should run: the fake connector, which acts so.
func (r *rig) run(connectorID, act string, settings ...string) {
	r.Helper()
	all := map[string]string{"act": act, "report": r.report}
	for n := 0; n < len(settings); n += 2 {
		all[settings[n]] = settings[n+1]
	}
	r.set(integration.HostedConnector{ID: connectorID, Name: "Fake", Catalog: "fake", Settings: all, SettingsAt: time.Now()})
}

func (r *rig) set(hosted ...integration.HostedConnector) {
	r.mu.Lock()
	r.hosted = hosted
	r.mu.Unlock()
	r.config.Live.Tell(r.Context(), integration.HostedTopic)
}

// next receives what must come.
func next[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case got := <-from:
		return got
	case <-time.After(patience):
		t.Fatalf("no %s came", what)
		panic("unreachable")
	}
}

// line waits for a line of the log.
func (r *rig) line(message string) integration.LogLine {
	r.Helper()
	for {
		if got := next(r.T, r.lines, "line "+message); strings.Contains(got.Message, message) {
			return got
		}
	}
}

// ready waits until the fake connector runs, and returns what it tells.
func (r *rig) ready() report {
	r.Helper()
	r.line("ready")
	text, err := os.ReadFile(r.report)
	if err != nil {
		r.Fatal(err)
	}
	var told report
	if err := json.Unmarshal(text, &told); err != nil {
		r.Fatal(err)
	}
	return told
}

// process waits for the end of processes, also of those that aren't children.
type process struct {
	*testing.T
	pid, fd int
}

func (r *rig) processes(pids ...int) []process { return processes(r.T, pids...) }

func processes(t *testing.T, pids ...int) (list []process) {
	t.Helper()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatalf("process %d: %v", pid, err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		list = append(list, process{t, pid, fd})
	}
	return list
}

func (p process) ends() {
	p.Helper()
	poll := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	deadline := time.Now().Add(patience)
	for {
		n, err := unix.Poll(poll, int(time.Until(deadline).Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || n == 0:
			p.Fatalf("process %d didn't end: %v", p.pid, err)
		default:
			return
		}
	}
}

func (p process) runs() bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 0)
	return n == 0 && err == nil
}

func TestAChildHasItsSettingsAndNothingElse(t *testing.T) {
	t.Setenv("AIRLOCK_KEY", "of the server")
	t.Setenv("BATON_ACT", "of the server")
	t.Setenv("HTTPS_PROXY", "http://proxy.example:3128")
	t.Setenv("SSL_CERT_DIR", "")
	t.Setenv("SSL_CERT_FILE", "")
	r := newRig(t, dbtest.Open(t, db.SQLite), nil)
	connectorID := id.New()
	r.run(connectorID, "tell", "secret", "pa55word", "list", `a,"b,c"`, "key-file", "the key")
	told := r.ready()
	dir := filepath.Join(r.config.Dir, connectorID)
	host, _ := os.Hostname()
	want := []string{
		"BATON_ACT=tell", "BATON_C1_API_HOST=127.0.0.1:1", "BATON_CLIENT_ID=some-fake-1@127.0.0.1:1/ccc", "BATON_CLIENT_SECRET=" + clientSecret,
		"BATON_HOST_ID=" + host, "BATON_KEY_FILE=" + dir + "/key-file.pem", `BATON_LIST=a,"b,c"`, "BATON_LOG_FORMAT=json", "BATON_LOG_LEVEL=info",
		"BATON_PROVISIONING=true", "BATON_REPORT=" + r.report, "BATON_SECRET=pa55word", "BATON_TMPDIR=" + dir, "GOMEMLIMIT=644245094", "HOME=" + dir,
		"HTTPS_PROXY=http://proxy.example:3128", "PATH=/usr/local/bin:/usr/bin:/bin", "SSL_CERT_DIR=/etc/ssl/certs:/etc/pki/tls/certs:/ca", "TMPDIR=" + dir,
	}
	slices.Sort(told.Environment)
	for n, variable := range told.Environment {
		if rest, ok := strings.CutPrefix(variable, "BATON_HOST_ID="+host+"-"); ok && len(rest) == 8 {
			told.Environment[n] = "BATON_HOST_ID=" + host // and a mark of this start
		}
	}
	if diff := cmp.Diff(want, told.Environment); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{r.programs + "/baton-fake"}, told.Args); diff != "" {
		t.Error(diff)
	}
	if told.Dir != dir || told.Mode.Perm() != 0o700 || told.KeyFile != "the key" || !slices.Equal(told.Files, []string{"key-file.pem"}) {
		t.Errorf("%+v", told)
	}
}

func TestSettingsRestartAndRemovalEndsAChild(t *testing.T) {
	t.Parallel()
	r := newRig(t, dbtest.Open(t, db.SQLite), nil)
	connectorID := id.New()
	r.run(connectorID, "litter one")
	first := r.ready()
	r.run(connectorID, "litter two")
	r.line("interrupted")
	second := r.ready()
	if first.PIDs[0] == second.PIDs[0] || !slices.Contains(second.Environment, "BATON_ACT=litter two") {
		t.Error("it doesn't run anew", second)
	}
	if len(second.Files) != 0 {
		t.Error("its folder wasn't emptied:", second.Files)
	}
	child := r.processes(second.PIDs...)[0]
	r.set()
	child.ends()
	defer func() {
		if left, err := os.ReadDir(r.config.Dir); err != nil || len(left) > 1 { // but for whose folder it is
			t.Error("its folder is still there", left, err)
		}
	}()
	for _, want := range []string{
		"add hosted", "revoke hosted some-fake-1@127.0.0.1:1/ccc", "revoke hosted",
		"add hosted", "revoke hosted some-fake-1@127.0.0.1:1/ccc", "revoke hosted",
	} {
		if got := next(t, r.clients, "client"); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

// What can't be read isn't taken for nothing: what runs goes on.
func TestAChildOutlivesAFailingDatabase(t *testing.T) {
	t.Parallel()
	r := newRig(t, dbtest.Open(t, db.SQLite), nil)
	r.run(id.New(), "tell")
	child := r.processes(r.ready().PIDs...)[0]
	r.mu.Lock()
	r.hosted, r.broken = nil, errors.New("the database is away")
	r.mu.Unlock()
	for range 5 {
		next(t, r.asked, "look")
	}
	if !child.runs() {
		t.Error("the child was ended")
	}
}

func TestAProgramThatEndsIsStartedAgainAndSaidSo(t *testing.T) {
	t.Parallel()
	r := newRig(t, dbtest.Open(t, db.SQLite), nil)
	r.run(id.New(), "exit", "secret", "sesame")
	for range 3 {
		p := next(t, r.problems, "problem")
		if p.Kind != integration.Crashes || !strings.Contains(p.Words, "exit status 3: error: the door is closed to "+mask) {
			t.Errorf("%+v", p)
		}
	}
}

func TestWhatCannotBeStartedIsSaid(t *testing.T) {
	t.Parallel()
	r := newRig(t, dbtest.Open(t, db.SQLite), nil)
	for words, connector := range map[string]integration.HostedConnector{
		`there is no connector "gone"`: {Catalog: "gone"},
		"there is no setting colour":   {Catalog: "fake", Settings: map[string]string{"colour": "red"}},
		"it doesn't tell its settings": {Catalog: "broken"},
		"can't be run; `chmod +x":      {Catalog: "text"},
	} {
		for name, mode := range map[string]os.FileMode{"baton-broken": 0o700, "baton-text": 0o600} {
			if err := os.WriteFile(filepath.Join(r.programs, name), []byte("\x7fELF"), mode); err != nil {
				t.Fatal(err)
			}
		}
		connector.ID, connector.SettingsAt = id.New(), time.Now()
		r.set(connector)
		for p := next(t, r.problems, "problem"); !strings.Contains(p.Words, words); p = next(t, r.problems, words) {
		}
	}
}

func TestAStubbornChildIsKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, dbtest.Open(t, db.SQLite), func(c *Config) { c.Times.Grace = 200 * time.Millisecond })
	r.run(id.New(), "stubborn")
	child := r.processes(r.ready().PIDs...)[0]
	r.set()
	child.ends()
}

func TestStopEndsAllGentlyOrByForce(t *testing.T) {
	t.Parallel()
	d := dbtest.Open(t, db.SQLite)
	r := newRig(t, d, nil)
	r.run(id.New(), "parent")
	all := r.processes(r.ready().PIDs...)
	if err := r.host.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.line("interrupted")
	for _, p := range all {
		p.ends()
	}
	known, err := leases(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for connectorID, l := range known {
		if !l.until.IsZero() {
			t.Error("the lease wasn't released:", connectorID)
		}
	}

	r = newRig(t, d, nil) // with a long grace
	r.run(id.New(), "stubborn")
	all = r.processes(r.ready().PIDs...)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := r.host.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	all[0].ends()
}

// What keeps a sync is told as soon as it is in the log.
func TestWhatAConnectorTriesAgainIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, dbtest.Open(t, db.SQLite), nil)
	r.run(id.New(), "stuck", "secret", "sesame")
	want := integration.Retry{First: true, Times: 1, Error: "rpc error: code = Unavailable desc = refused as " + mask}
	if got := next(t, r.retries, "retry"); got != want {
		t.Errorf("%+v", got)
	}
}

func TestTriesAreCountedUntilSomethingIsRead(t *testing.T) {
	out := newOutput(nil, "c", nil)
	for _, test := range []struct {
		line  string
		times int
		first bool
	}{
		{`{"msg":"Handling full sync task."}`, 0, false},
		{`{"msg":"retrying operation","grpc.method":"Validate","error":"x"}`, 1, true},
		{`{"msg":"retrying operation","grpc.method":"Grant","error":"x"}`, 1, true}, // a change of access
		{`{"msg":"retrying operation","grpc.method":"Validate","error":7}`, 2, true},
		{`{"msg":"Syncing resource types..."}`, 0, false},
		{`{"msg":"retrying operation","error":"x"}`, 1, false},
		{`{"msg":"something else"}`, 1, false},
		{`{"msg":"retrying operation","error":"x"}`, 2, false},
		{`{"msg":"Synced resources","resource_type_id":"user","count":10}`, 0, false},
		{`{"msg":"retrying operation","error":"x"}`, 1, false},
		{`{"msg":"Handling full sync task."}`, 0, false},
	} {
		out.line([]byte(test.line), false)
		if out.retry.Times != test.times || out.retry.First != test.first || out.retried != (test.times > 0) {
			t.Errorf("after %s: %+v, %t", test.line, out.retry, out.retried)
		}
	}
}

// The server's log has a line for each start and each end, with its reason.
func TestStartsAndEndsAreLogged(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var text strings.Builder
	r := newRig(t, dbtest.Open(t, db.SQLite), func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return text.Write(p)
		}), nil))
	})
	connectorID := id.New()
	r.run(connectorID, "exit")
	next(t, r.problems, "problem")
	r.run(connectorID, "tell")
	r.ready()
	if !r.host.Restart(connectorID, "somebody said so") {
		t.Error("it doesn't run")
	}
	r.ready()
	if err := r.host.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	log := text.String()
	for _, want := range []string{
		`level=INFO msg="hosted connector started" connector=` + connectorID + ` name=Fake program=baton-fake pid=`,
		`level=WARN msg="hosted connector ended"`, "exit status 3", "it is restarted: somebody said so", `why="the server stops"`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("%s isn't in\n%s", want, log)
		}
	}
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestRestartOnDemand(t *testing.T) {
	t.Parallel()
	r := newRig(t, dbtest.Open(t, db.SQLite), nil)
	connectorID := id.New()
	if r.host.Restart(connectorID, "nobody knows it") {
		t.Error("it runs nothing")
	}
	r.run(connectorID, "tell")
	first := r.ready()
	if !r.host.Restart(connectorID, "a task took too long") {
		t.Error("it runs")
	}
	if line := r.line("it is restarted"); line.Level != "warn" || !strings.Contains(line.Message, "a task took too long") {
		t.Errorf("%+v", line)
	}
	if second := r.ready(); second.PIDs[0] == first.PIDs[0] {
		t.Error("it wasn't restarted")
	}
}

// The memory of all that the program started counts.
func TestAGluttonIsKilled(t *testing.T) {
	t.Parallel()
	for _, act := range []string{"eat", "eat-below"} {
		t.Run(act, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, dbtest.Open(t, db.SQLite), func(c *Config) { c.Memory = 150 << 20 })
			r.run(id.New(), act)
			all := r.processes(r.ready().PIDs...)
			for _, p := range all {
				p.ends()
			}
			if p := next(t, r.problems, "problem"); p.Kind != integration.Crashes || !strings.Contains(p.Words, "may use 150 MB") {
				t.Errorf("%+v", p)
			}
		})
	}
}

func TestAFloodOfLinesIsDammed(t *testing.T) {
	t.Parallel()
	r := newRig(t, dbtest.Open(t, db.SQLite), nil)
	r.run(id.New(), "flood")
	kept := 0
	for {
		line := next(t, r.lines, "warning")
		if len(line.Message) > maxMessage+len("…") {
			t.Errorf("a line of %d bytes was kept", len(line.Message))
		}
		kept++
		if line.Level == "warn" && strings.Contains(line.Message, "too much") {
			break
		}
	}
	if kept > 5000 {
		t.Errorf("%d lines were kept", kept)
	}
}

func TestSecretsAreMaskedInTheLog(t *testing.T) {
	t.Parallel()
	r := newRig(t, dbtest.Open(t, db.SQLite), nil)
	const secret = `pa"55/wörd&12345`
	const key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END PRIVATE KEY-----\n"
	encoded := "data:application/x-pem-file;base64," + base64.StdEncoding.EncodeToString([]byte(key))
	r.run(id.New(), "leak", "secret", secret, "key-file", encoded)
	var all strings.Builder
	for {
		line := next(t, r.lines, "line")
		all.WriteString(line.Message + "\n" + string(line.Fields) + "\n")
		if len(line.Fields) > 0 && !json.Valid(line.Fields) {
			t.Errorf("%s isn't JSON", line.Fields)
		}
		if line.Message == "ready" {
			break
		}
	}
	for _, leak := range []string{"55", "MC4CAQAwBQYDK2VwBCIEIA", "eyJrdHki", "secret-token"} {
		if strings.Contains(all.String(), leak) {
			t.Errorf("%q is in the log:\n%s", leak, all.String())
		}
	}
	if !strings.Contains(all.String(), "in a message "+mask) || !strings.Contains(all.String(), `"n":12345`) {
		t.Errorf("the rest isn't in the log:\n%s", all.String())
	}
}

// How gRPC connects is left out; what it warns of isn't.
func TestNoiseIsLeftOutOfTheLog(t *testing.T) {
	t.Parallel()
	r := newRig(t, dbtest.Open(t, db.SQLite), nil)
	r.run(id.New(), "sync")
	var all []string
	for len(all) == 0 || all[len(all)-1] != "ready" {
		all = append(all, next(t, r.lines, "line").Message)
	}
	if slices.Contains(all, "[core]Channel created") || !slices.Contains(all, "[core]the connection broke") {
		t.Errorf("%q", all)
	}
}

func TestCountsOfASyncAreTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, dbtest.Open(t, db.SQLite), nil)
	r.run(id.New(), "sync")
	want := map[string]int64{"resources/user": 17, "grants/role": 4}
	for got := next(t, r.counts, "counts"); !cmp.Equal(want, got); got = next(t, r.counts, "counts such as these") {
	}
}

// A real connector trusts our CA beside the system's, calls our door in service
// mode, and says why it ends when it is refused there.
func TestARealConnectorCallsOurDoor(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	door := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r.URL.Path + " " + r.FormValue("client_id"):
		default:
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	door.EnableHTTP2 = true
	door.StartTLS()
	t.Cleanup(door.Close)
	ca := t.TempDir()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: door.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(ca, "ca.pem"), certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	address := door.Listener.Addr().String()
	r := newRig(t, dbtest.Open(t, db.SQLite), func(c *Config) { c.Door, c.CADir = address, ca })
	if _, err := integrationtest.Build(t.Context(), r.programs, integrationtest.Tiny); err != nil {
		t.Fatal(err)
	}
	world := filepath.Join(t.TempDir(), "world")
	if err := integrationtest.WriteWorld(world, integrationtest.Bank()); err != nil {
		t.Fatal(err)
	}
	r.set(integration.HostedConnector{ID: id.New(), Catalog: "tiny", Settings: map[string]string{"world": world}, SettingsAt: time.Now()})
	if got, want := next(t, asked, "request"), "/auth/v1/token some-fake-1@"+address+"/ccc"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
	if p := next(t, r.problems, "problem"); !strings.Contains(p.Words, "exit status 16") || !strings.Contains(p.Words, "Unauthenticated") {
		t.Errorf("%+v", p)
	}
}

// kill -9 of the server ends what it hosts, and what that started.
func TestChildrenDieWithTheServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	programs := connectors(t)
	tiny, err := integrationtest.Build(t.Context(), programs, integrationtest.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	world, reported := filepath.Join(dir, "world"), filepath.Join(dir, "report")
	if err := integrationtest.WriteWorld(world, integrationtest.Bank()); err != nil {
		t.Fatal(err)
	}
	d, err := db.Open(t.Context(), filepath.Join(dir, "airlock.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Migrate(t.Context()), d.Close()); err != nil {
		t.Fatal(err)
	}
	order, err := json.Marshal(serverOrder{
		Database: filepath.Join(dir, "airlock.db"), Programs: programs, Dir: filepath.Join(dir, "hosted"),
		Hosted: []integration.HostedConnector{
			{ID: "1", Catalog: "fake", Settings: map[string]string{"act": "parent", "report": reported}},
			{ID: "2", Catalog: "tiny", Settings: map[string]string{"world": world}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server := exec.CommandContext(t.Context(), self)
	server.Env = append(os.Environ(), "HOSTING_SERVER="+string(order))
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill() })
	said := bufio.NewScanner(out)
	for said.Scan() && !strings.Contains(said.Text(), "ready") {
		t.Log(said.Text())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	text, err := os.ReadFile(reported)
	if err != nil {
		t.Fatal(err)
	}
	var told report
	if err := json.Unmarshal(text, &told); err != nil {
		t.Fatal(err)
	}
	all := processes(t, slices.Concat(told.PIDs, running(t, tiny, 2))...)
	if len(all) != 4 {
		t.Fatalf("%d processes run", len(all))
	}
	kill(server.Process.Pid)
	_ = server.Wait()
	for _, p := range all {
		p.ends()
	}
}

// running waits until so many processes of a program run.
func running(t *testing.T, program string, n int) []int {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		var pids []int
		links, err := filepath.Glob("/proc/[0-9]*/exe")
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			if target, err := os.Readlink(link); err == nil && target == program {
				if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
					pids = append(pids, pid)
				}
			}
		}
		if len(pids) == n {
			return pids
		}
	}
	t.Fatalf("there aren't %d processes of %s", n, program)
	return nil
}

// Two servers on one database: one runs the connector, the other takes over, at
// once when the first stops, and not before the first's child has ended when the
// first is cut off from the database.
func TestOneOfTwoServersRunsAConnector(t *testing.T) {
	t.Parallel()
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			t.Parallel()
			where := filepath.Join(t.TempDir(), "airlock.db")
			if engine == db.Postgres {
				where = dbtest.PostgresURL(t)
			}
			open := func() *db.DB {
				d, err := db.Open(t.Context(), where)
				if err != nil {
					t.Fatal(err)
				}
				return d
			}
			d := open()
			t.Cleanup(func() { _ = d.Close() })
			if err := d.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			cut := open()
			quick := func(c *Config) { c.Times.Lease = 3 * time.Second }
			a, b, c := newRig(t, d, quick), newRig(t, cut, quick), newRig(t, d, quick)
			connectorID := id.New()
			a.run(connectorID, "tell")
			a.ready()
			b.run(connectorID, "tell")
			if err := a.host.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			child := processes(t, b.ready().PIDs...)[0]
			c.run(connectorID, "tell")
			if err := cut.Close(); err != nil { // b can't renew its lease any more
				t.Fatal(err)
			}
			ended := make(chan time.Time, 1)
			go func() { child.ends(); ended <- time.Now() }()
			c.ready()
			if began, end := time.Now(), next(t, ended, "end of the first child"); end.After(began) {
				t.Errorf("it ran twice, for %s", end.Sub(began))
			}
			for _, r := range []*rig{a, b} {
				if len(r.lines) > 1 { // nothing but the note of its end
					t.Error("a server that lost the connector runs it again")
				}
			}
		})
	}
}

// A server that was killed and starts anew in its folder waits for no lease of its
// own; another server does.
func TestAServerThatStartsAnewTakesItsConnectorsOverAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		connectorID, ctx := id.New(), t.Context()
		ended := newRig(t, d, nil)
		if err := d.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			ok, err := takeLease(ctx, tx, connectorID, lease{}, ended.host.server, time.Now().Add(time.Hour))
			if !ok {
				t.Error("the lease isn't free")
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		free := func() bool {
			known, err := leases(ctx, d)
			if err != nil {
				t.Fatal(err)
			}
			return known[connectorID].until.IsZero()
		}
		newRig(t, d, nil) // elsewhere
		if free() {
			t.Error("another server released it")
		}
		newRig(t, d, func(c *Config) { c.Dir = ended.config.Dir })
		if !free() {
			t.Error("it has to lapse")
		}
	})
}

func TestALeaseIsTakenByOne(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		connectorID, seen := id.New(), lease{}
		for round := range 3 {
			var all sync.WaitGroup
			won := make(chan string, 10)
			for range 10 {
				all.Go(func() {
					server := id.New()
					var ok bool
					err := d.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
						ok, err = takeLease(ctx, tx, connectorID, seen, server, time.Now().Add(time.Minute))
						return err
					})
					if err != nil {
						t.Error(err)
					}
					if ok {
						won <- server
					}
				})
			}
			all.Wait()
			if len(won) != 1 {
				t.Fatalf("%d took it", len(won))
			}
			server, before := <-won, seen
			known, err := leases(ctx, d)
			if err != nil {
				t.Fatal(err)
			}
			seen = known[connectorID]
			if seen.server != server || seen.fence != int64(round)+1 || seen.until.IsZero() {
				t.Fatalf("%+v", seen)
			}
			hold := func(server string, fence int64) error {
				return d.Write(ctx, func(ctx context.Context, tx *db.Tx) error { return holdLease(ctx, tx, connectorID, server, fence) })
			}
			if err := hold(server, seen.fence); err != nil {
				t.Error(err)
			}
			if err := hold(before.server, before.fence); err == nil {
				t.Error("who lost it still holds it")
			}
			if round == 1 {
				if err := d.Write(ctx, func(ctx context.Context, tx *db.Tx) error { return release(ctx, tx, connectorID, server, seen.fence) }); err != nil {
					t.Fatal(err)
				}
				if err := hold(server, seen.fence); err == nil {
					t.Error("who released it still holds it")
				}
				seen.until = time.Time{}
			}
		}
	})
}
