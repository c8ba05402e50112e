// Package pgserver runs a private PostgreSQL from the machine's own packages: for
// tests, the demo and the benchmark. It lives in a folder of its own, is reached
// by a Unix socket in it, trades safety against power failure for speed, and
// ends with the process that started it, however that ends.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const owner = "airlock" // the superuser of the databases

// keeper runs the server as its child. When its standard input closes, which
// happens when our process ends by whatever cause, it ends the server and
// removes what the server left.
const keeper = `dir=$1; shift
"$@" </dev/null &
server=$!
cat >/dev/null
kill -QUIT $server 2>/dev/null
wait $server
rm -rf "$dir/data" "$dir/log" "$dir"/.s.PGSQL.*
rmdir "$dir" 2>/dev/null`

// Server is a running PostgreSQL.
type Server struct {
	dir   string
	stdin io.Closer
	ended chan struct{}
}

// Start makes a new server in a folder, which is made if need be and whose path
// is some 80 bytes long at most, and waits until it answers. Settings such as
// "fsync=on" override ours. For root it runs as the user postgres or nobody, who
// must be able to reach the folder.
func Start(ctx context.Context, dir string, settings ...string) (*Server, error) {
	s, err := start(ctx, dir, settings)
	if err != nil {
		return nil, fmt.Errorf("start a private PostgreSQL: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, dir string, settings []string) (*Server, error) {
	bin, err := binaries(ctx)
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	process := &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for us alone: the keeper sees us end
	if os.Geteuid() == 0 {
		process.Credential, err = unprivileged()
		if err != nil {
			return nil, err
		}
		if err := os.Chown(dir, int(process.Credential.Uid), int(process.Credential.Gid)); err != nil {
			return nil, err
		}
	}
	environment := []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}

	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), //nolint:gosec // of the system's PostgreSQL
		"--pgdata="+data, "--username="+owner, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	initdb.Dir, initdb.Env, initdb.SysProcAttr = dir, environment, process
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb in %s: %w: %s", dir, err, out)
	}

	args := []string{"-c", keeper, "keeper", dir, filepath.Join(bin, "postgres"), "-D", data}
	for _, setting := range append([]string{
		"listen_addresses=", "unix_socket_directories=" + dir, "max_connections=500", "shared_buffers=64MB",
		"fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off",
	}, settings...) {
		args = append(args, "-c", setting)
	}
	log, err := os.Create(filepath.Join(dir, "log")) //nolint:gosec // the caller's folder
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()          // the server has it
	command := exec.Command("/bin/sh", args...) //nolint:gosec,noctx // it outlives the context, and ends with its standard input
	command.Dir, command.Env, command.SysProcAttr = dir, environment, process
	command.Stdout, command.Stderr = log, log
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	s := &Server{dir: dir, stdin: stdin, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		_ = command.Wait() // how it ended is in its log
	}()
	if err := s.answer(ctx); err != nil {
		words, _ := os.ReadFile(log.Name())
		s.Stop()
		return nil, fmt.Errorf("%w: %s", err, words)
	}
	return s, nil
}

// answer waits until the server answers.
func (s *Server) answer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// URL is where a database of the server is; "postgres" is always there.
func (s *Server) URL(database string) string {
	return (&url.URL{
		Scheme: "postgres", User: url.User(owner), Path: "/" + database,
		RawQuery: url.Values{"host": {s.dir}, "sslmode": {"disable"}}.Encode(),
	}).String()
}

// Exec runs a statement on the server, such as CREATE DATABASE.
func (s *Server) Exec(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// Stop ends the server at once and removes its data.
func (s *Server) Stop() {
	_ = s.stdin.Close() // closed twice, it says so
	<-s.ended
}

// unprivileged is the user that the server runs as, for PostgreSQL refuses root.
func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, bad := strconv.ParseUint(found.Uid, 10, 32)
		gid, worse := strconv.ParseUint(found.Gid, 10, 32)
		if bad == nil && worse == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("it doesn't run as root, and there is no user postgres or nobody")
}
