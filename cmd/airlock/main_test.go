package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"airlock/internal/edge/admin"
)

func TestMain(m *testing.M) {
	if os.Getenv("AIRLOCK_TEST_MAIN") != "" {
		_ = os.Unsetenv("AIRLOCK_TEST_MAIN") // it is no setting
		main()
	}
	os.Exit(m.Run())
}

// airlock makes the command of a process that is this program.
func airlock(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = []string{"AIRLOCK_TEST_MAIN=1", "AIRLOCK_DATA_DIR=" + dir, "HOME=" + dir, "TMPDIR=" + os.TempDir()}
	return cmd
}

// serve starts a server and returns once it is ready, with its log from there on.
func serve(t *testing.T) (cmd *exec.Cmd, dir string, log *bufio.Scanner) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	short, err := os.MkdirTemp("", "al-") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	dir = filepath.Join(short, "data")
	cmd = airlock(t, dir, "serve", "--listen", listener.Addr().String())
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log = bufio.NewScanner(out)
	wait(t, log, "airlock serves")
	return cmd, dir, log
}

// wait reads a log until it has some words.
func wait(t *testing.T, log *bufio.Scanner, words string) {
	t.Helper()
	for log.Scan() {
		if strings.Contains(log.Text(), words) {
			return
		}
		t.Log(log.Text())
	}
	t.Fatalf("%q was never logged: %v", words, log.Err())
}

func TestASignalStopsTheServer(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		cmd, dir, log := serve(t)
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		wait(t, log, "stopping")
		readAll(log)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", signal, err)
		}
		if _, err := os.Stat(admin.Socket(dir)); !errors.Is(err, os.ErrNotExist) {
			t.Error("the socket is still there", err)
		}
	}
}

// readAll reads the rest of a log, so that its process can end.
func readAll(log *bufio.Scanner) {
	for more := true; more; more = log.Scan() {
		_ = log.Text()
	}
}

// A second signal ends a server at once, whatever it waits for.
func TestASecondSignalEndsTheServerAtOnce(t *testing.T) {
	cmd, dir, log := serve(t)
	commands := admin.Dial(dir)
	if err := commands.Call(t.Context(), "app/add", admin.AddApp{Name: "Bank"}, nil, admin.Answer{}); err != nil {
		t.Fatal(err)
	}
	read, write := io.Pipe() // a file that never ends is being taken
	uploaded := make(chan error, 1)
	go func() {
		uploaded <- commands.Upload(t.Context(), "ingest", admin.Ingest{App: "Bank"}, read, nil, admin.Answer{})
	}()
	if _, err := write.Write([]byte("begun")); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wait(t, log, "stopping")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	readAll(log)
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
		t.Errorf("it ended by itself: %v", err)
	}
	write.Close()
	if err := <-uploaded; err == nil {
		t.Error("the upload succeeded")
	}
	// The next start finds nothing in its way.
	if out, err := airlock(t, dir, "doctor").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// Whatever is wrong with the settings: the server doesn't start, and the code says
// that it is for somebody to mend.
func TestAWrongSettingEndsTheProcessWithTwo(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	used, usedDir, log := serve(t)
	defer func() {
		_ = used.Process.Signal(syscall.SIGTERM)
		readAll(log)
		_ = used.Wait()
	}()
	keyless := t.TempDir()
	first := airlock(t, keyless, "serve", "--listen", "127.0.0.1:0", "--public-url", "https://a.example")
	out, err := first.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	wait(t, lines, "airlock serves")
	_ = first.Process.Signal(syscall.SIGTERM)
	readAll(lines)
	if err := errors.Join(first.Wait(), os.Remove(filepath.Join(keyless, "airlock.key"))); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ dir, env, words string }{
		{t.TempDir(), "AIRLOCK_LISTEN=nowhere", "AIRLOCK_LISTEN"},
		{t.TempDir(), "AIRLOCK_LISTEN=" + taken.Addr().String(), "address already in use"},
		{t.TempDir(), "AIRLOCK_CONNECTORS_DIR=/nowhere", "no such file"},
		{t.TempDir(), "AIRLOCK_PACKS_DIR=/nowhere", "no such file"},
		{t.TempDir(), "AIRLOCK_LOG_LEVL=debug", "AIRLOCK_LOG_LEVEL"},
		{t.TempDir(), "AIRLOCK_DATABASE_URL=postgres://nobody@127.0.0.1:1/none", "AIRLOCK_DATABASE_URL"},
		{usedDir, "AIRLOCK_LISTEN=127.0.0.1:1", "is used by another server"},
		{keyless, "", "put your copy of it back"},
		{"/dev/null/data", "", "not a directory"},
	} {
		cmd := airlock(t, test.dir, "serve")
		cmd.Env = append(cmd.Env, "AIRLOCK_PUBLIC_URL=https://a.example")
		if !strings.HasPrefix(test.env, "AIRLOCK_LISTEN") {
			cmd.Env = append(cmd.Env, "AIRLOCK_LISTEN=127.0.0.1:0")
		}
		cmd.Env = append(cmd.Env, test.env)
		said, _ := cmd.CombinedOutput() // the code is looked at
		if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(said), test.words) {
			t.Errorf("%s: exit %d: %s", test.env, code, said)
		}
	}
}

func TestAProcessEndsWithTheCode(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		args []string
		code int
	}{{[]string{"--help"}, 0}, {[]string{"frobnicate"}, 2}, {[]string{"app", "list"}, 6}} {
		cmd := airlock(t, dir, test.args...)
		out, _ := cmd.Output() // the code is looked at
		if code := cmd.ProcessState.ExitCode(); code != test.code || test.code != 0 && len(out) > 0 {
			t.Errorf("%v: exit %d: %s", test.args, code, out)
		}
	}
}
