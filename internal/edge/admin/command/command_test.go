package command_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"

	"airlock/internal/base/db/dbtest"
	"airlock/internal/edge/admin/command"
	"airlock/internal/integration/integrationtest"
	"airlock/internal/server"
)

var update = flag.Bool("update", false, "write docs/commands.md")

// connectors is the folder with the tiny connector.
var connectors string

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "airlock-command-")
	if err == nil {
		connectors = dir
		_, err = integrationtest.Build(context.Background(), dir, integrationtest.Tiny)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// airlock runs a command line, and returns its exit code.
func airlock(ctx context.Context, getenv func(string) string, in io.Reader, out, problems io.Writer, args ...string) int {
	root := command.New("test", getenv, server.Commands("test", getenv)...)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(problems)
	root.SetArgs(args)
	return command.Run(ctx, root)
}

// servers are those that run for a script, by data directory.
type servers struct {
	t       *testing.T
	mu      sync.Mutex
	running map[string]*server.Server
}

func (s *servers) start(dir string, getenv func(string) string, log io.Writer) error {
	settings, err := server.FromEnvironment(server.Settings{DataDir: dir, Version: "test"}, getenv)
	if err != nil {
		return err
	}
	one, err := server.New(s.t.Context(), settings, log)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.running[dir] = one
	s.mu.Unlock()
	return one.Start(s.t.Context())
}

func (s *servers) stop(dir string) error {
	s.mu.Lock()
	one := s.running[dir]
	delete(s.running, dir)
	s.mu.Unlock()
	if one == nil {
		return nil
	}
	return one.Stop()
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// shortDir is a folder whose path leaves room for that of a socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "al-") //nolint:usetesting // for that the name of the test is too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestScripts runs the scripts in testdata, each with a server of its own. In a
// script, $DATA is the data directory, $DATA2 and $DATA3 are free ones, and
// $OTHER is the AIRLOCK_DATABASE_URL of an empty database of the other kind.
func TestScripts(t *testing.T) {
	withPostgres := os.Getenv("POSTGRES_TESTS") != "off"
	for _, test := range []struct {
		name, dir string
		postgres  bool
	}{{"sqlite", "sqlite", false}, {"both on sqlite", "both", false}, {"both on postgres", "both", true}} {
		t.Run(test.name, func(t *testing.T) {
			if test.postgres && !withPostgres {
				t.Skip("POSTGRES_TESTS=off: not tested on PostgreSQL")
			}
			testscript.Run(t, testscript.Params{
				Dir: filepath.Join("testdata", test.dir),
				Setup: func(env *testscript.Env) error {
					own, other := "", ""
					if test.postgres {
						own = dbtest.PostgresURL(t)
					} else if withPostgres && test.dir == "both" {
						other = dbtest.PostgresURL(t)
					}
					data := shortDir(t)
					env.Setenv("AIRLOCK_DATABASE_URL", own)
					env.Setenv("AIRLOCK_LISTEN", freeAddress(t))
					env.Setenv("AIRLOCK_CONNECTORS_DIR", connectors)
					env.Setenv("AIRLOCK_LOG_LEVEL", "warn")
					env.Setenv("OTHER", other)
					env.Setenv("CONNECTORS", connectors)
					for _, name := range []string{"DATA", "DATA2", "DATA3"} {
						env.Setenv(name, filepath.Join(data, strings.ToLower(name)))
					}
					all := &servers{t: t, running: map[string]*server.Server{}}
					env.Values["servers"] = all
					env.Defer(func() {
						for dir := range all.running {
							if err := all.stop(dir); err != nil {
								t.Error(err)
							}
						}
					})
					return nil
				},
				Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
					"airlock": func(ts *testscript.TestScript, neg bool, args []string) {
						if code := run(ts, args); code != 0 && !neg || code == 0 && neg {
							ts.Fatalf("exit %d", code)
						}
					},
					"exit":   exits,
					"server": serverCommand,
					"json":   isJSON,
					"narrow": narrow,
					"keep":   keep,
				},
			})
		})
	}
}

// run runs a command; arguments after < name a file for the standard input.
func run(ts *testscript.TestScript, args []string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	in := io.Reader(strings.NewReader(""))
	if len(args) > 1 && args[len(args)-2] == "<" {
		in = strings.NewReader(ts.ReadFile(args[len(args)-1]))
		args = args[:len(args)-2]
	}
	paths := append([]string{"--data-dir", ts.Getenv("DATA")}, args...)
	// Files are named from the script's folder.
	for n, arg := range paths {
		if key, name, ok := strings.Cut(arg, "=./"); ok {
			paths[n] = key + "=" + ts.MkAbs(name)
		} else if name, ok := strings.CutPrefix(arg, "./"); ok {
			paths[n] = ts.MkAbs(name)
		}
	}
	return airlock(ctx, ts.Getenv, in, ts.Stdout(), ts.Stderr(), paths...)
}

// exits wants an exit code: exit CODE ARGUMENTS.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := run(ts, args[1:]); got != want {
		ts.Fatalf("exit %d, not %d", got, want)
	}
}

// serverCommand starts or stops the server of $DATA: server start|stop.
func serverCommand(ts *testscript.TestScript, _ bool, args []string) {
	all, ok := ts.Value("servers").(*servers)
	if !ok {
		ts.Fatalf("no servers")
	}
	if args[0] == "stop" {
		ts.Check(all.stop(ts.Getenv("DATA")))
		return
	}
	ts.Check(all.start(ts.Getenv("DATA"), ts.Getenv, testWriter{all.t}))
}

// testWriter writes a server's log into that of the test.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// isJSON wants the output to be one JSON array or object: json array|object.
func isJSON(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile("stdout")
	decoder := json.NewDecoder(strings.NewReader(text))
	var value any
	ts.Check(decoder.Decode(&value))
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		ts.Fatalf("something follows the JSON")
	}
	if _, array := value.([]any); array != (args[0] == "array") {
		ts.Fatalf("the JSON is %T", value)
	}
}

// narrow wants no line of the output to be longer than 100 letters.
func narrow(ts *testscript.TestScript, _ bool, _ []string) {
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if length := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); length > 100 {
			ts.Fatalf("%d letters: %s", length, line)
		}
	}
}

// keep keeps a part of the output: keep NAME REGEXP, with one group.
func keep(ts *testscript.TestScript, _ bool, args []string) {
	found := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(found) != 2 {
		ts.Fatalf("nothing matches %s", args[1])
	}
	ts.Setenv(args[0], found[1])
}

// A wait that is interrupted says what goes on, and ends with 130.
func TestAnInterruptEndsAWait(t *testing.T) {
	dir := filepath.Join(shortDir(t), "data")
	getenv := func(name string) string {
		return map[string]string{"AIRLOCK_LISTEN": freeAddress(t), "AIRLOCK_CONNECTORS_DIR": connectors, "AIRLOCK_DATA_DIR": dir}[name]
	}
	all := &servers{t: t, running: map[string]*server.Server{}}
	if err := all.start(dir, getenv, io.Discard); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := all.stop(dir); err != nil {
			t.Error(err)
		}
	})
	var out bytes.Buffer
	if code := airlock(t.Context(), getenv, nil, &out, io.Discard, "connector", "add", "tiny", "--app", "Bank"); code != 0 || !strings.Contains(out.String(), "BATON_CLIENT_SECRET=") {
		t.Fatal(code, out.String())
	}
	for _, test := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"connector", "sync", "Bank", "--wait"}, 130, "interrupted; the sync of Bank ("},
		{[]string{"audit", "tail", "-f"}, 0, ""},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		// It waits once it has said something.
		screen := &screen{said: sync.OnceFunc(cancel)}
		code := airlock(ctx, getenv, nil, screen, screen, test.args...)
		if code != test.code || !strings.Contains(screen.String(), test.says) {
			t.Errorf("%v: exit %d: %s", test.args, code, screen)
		}
		cancel()
	}

	// A server that stops says so to whoever waits.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stopped := make(chan error, 1)
	stopping := &screen{said: sync.OnceFunc(func() { go func() { stopped <- all.stop(dir) }() })}
	begun := time.Now()
	if code := airlock(ctx, getenv, nil, io.Discard, stopping, "connector", "sync", "Bank", "--wait"); code != command.ExitStopped || !strings.Contains(stopping.String(), "the server stops; the sync of Bank (") {
		t.Errorf("exit %d: %s", code, stopping)
	}
	if err := <-stopped; err != nil || time.Since(begun) > 10*time.Second {
		t.Errorf("stopping took %s: %v", time.Since(begun), err)
	}
}

// screen is what a command wrote; it tells of the first word.
type screen struct {
	said func()
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	s.said()
	return len(p), nil
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// What is waited for is named when the server dies, with the command to look.
func TestADeadServerIsSaid(t *testing.T) {
	for _, test := range []struct{ answer, args, says string }{
		{`{"progress":{"id":"2aaa","words":"reading"}}`, "connector sync Bank --wait", "the server ended; the sync of Bank (2aaa) goes on once one runs again: `airlock connector show \"Bank\"` tells"},
		{`{"progress":{"id":"2bbb","words":"reading"}}`, "grant a b --app Bank --wait", "the server ended; the grant (2bbb) goes on once one runs again: `airlock change show 2bbb --wait` follows it, `airlock change list` lists it"},
		{``, "revoke a b --app Bank --wait", "the server ended; whether the revoke was taken isn't known: once a server runs again, `airlock change list` shows it"},
		{``, "connector pause Bank", "the server ended before it had answered: whether it did what was asked isn't known"},
	} {
		dir := shortDir(t)
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, "airlock.sock"))
		if err != nil {
			t.Fatal(err)
		}
		dying := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, test.answer)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})}
		go dying.Serve(listener)
		t.Cleanup(func() { dying.Close() })
		var problems bytes.Buffer
		getenv := func(name string) string { return map[string]string{"AIRLOCK_DATA_DIR": dir}[name] }
		code := airlock(t.Context(), getenv, nil, io.Discard, &problems, strings.Fields(test.args)...)
		if code != command.ExitStopped || !strings.Contains(problems.String(), test.says) {
			t.Errorf("%s: exit %d: %s", test.args, code, &problems)
		}
	}
}

func TestAReasonHasALength(t *testing.T) {
	nothing := func(string) string { return "" }
	for length, want := range map[int]int{1000: command.ExitNoServer, 1001: command.ExitUsage} {
		for _, args := range [][]string{{"grant", "a", "b", "--app", "Bank"}, {"revoke", "a", "b", "--app", "Bank"}, {"connector", "pause", "Bank"}} {
			var problems bytes.Buffer
			args = append(args, "--data-dir", t.TempDir(), "--why", strings.Repeat("x", length))
			if code := airlock(t.Context(), nothing, nil, io.Discard, &problems, args...); code != want {
				t.Errorf("%d bytes: exit %d: %s", length, code, &problems)
			}
			if want == command.ExitUsage && !strings.Contains(problems.String(), "--why has 1001 bytes, and may have 1000; nothing was changed") {
				t.Error(&problems)
			}
		}
	}
}
