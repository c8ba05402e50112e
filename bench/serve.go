package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"airlock/airflow/airflowtest"
	"airlock/connector/connectortest"
)

// buildServer builds the program as it is shipped, with baton-airflow in the
// folder of connectors beside it.
func buildServer(ctx context.Context, dir string) (program string, err error) {
	connectors := filepath.Join(dir, "connectors")
	if err := os.MkdirAll(connectors, 0o700); err != nil {
		return "", err
	}
	if _, err := connectortest.Build(ctx, connectors); err != nil {
		return "", err
	}
	program = filepath.Join(dir, "airlock")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "airlock/cmd/airlock")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build airlock: %w: %s", err, out)
	}
	return program, nil
}

// airlock is a running `airlock serve`.
type airlock struct {
	program, dataDir string
	cmd              *exec.Cmd
	ended            chan error
}

// serve starts one, and tells how long it took until it was ready.
func serve(ctx context.Context, program, dataDir, database string) (*airlock, time.Duration, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, 0, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, 0, err
	}
	a := &airlock{program: program, dataDir: dataDir, ended: make(chan error, 1)}
	a.cmd = exec.Command(program, "serve", "--data-dir", dataDir, "--listen", address) // no context: it is told to stop, and then stops in order
	a.cmd.Env = environment("AIRLOCK_DATABASE_URL=" + database)
	said, err := a.cmd.StderrPipe()
	if err != nil {
		return nil, 0, err
	}
	began := time.Now()
	if err := a.cmd.Start(); err != nil {
		return nil, 0, err
	}
	ready := make(chan time.Time, 1)
	var log bytes.Buffer // read once the process has ended
	go func() {
		serves := false
		for lines := bufio.NewScanner(said); lines.Scan(); {
			if log.Len() < 1<<20 {
				log.WriteString(lines.Text() + "\n")
			}
			if !serves && strings.Contains(lines.Text(), "airlock serves") {
				serves = true
				ready <- time.Now()
			}
		}
		a.ended <- a.cmd.Wait()
	}()
	select {
	case at := <-ready:
		return a, at.Sub(began), nil
	case err := <-a.ended:
		return nil, 0, fmt.Errorf("the server ended: %w: %s", err, log.String())
	case <-ctx.Done():
		return nil, 0, errors.Join(ctx.Err(), a.stop())
	}
}

func (a *airlock) stop() error {
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return <-a.ended
}

// command runs one against the server.
func (a *airlock) command(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, a.program, append([]string{"--data-dir", a.dataDir}, args...)...)
	cmd.Env = environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("airlock %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// starts is how long `airlock serve` takes until it is ready: with nothing there,
// and later.
type starts struct{ first, later time.Duration }

func (b serverBench) start(ctx context.Context, where place) (s starts, err error) {
	for n := range b.runs {
		dir, database, err := where.fresh(ctx, "start")
		if err != nil {
			return s, err
		}
		for _, took := range []*time.Duration{&s.first, &s.later} {
			a, ready, err := serve(ctx, b.program, dir, database)
			if err != nil {
				return s, err
			}
			if err := a.stop(); err != nil {
				return s, err
			}
			if n == 0 || ready < *took {
				*took = ready
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			return s, err
		}
	}
	return s, nil
}

// settling is how long a server is left alone before its memory is looked at.
const settling = time.Minute

// idle is the memory of a server that hosts one connector, whose sync of 1,000
// users is over since a while: all that is resident, and what of it isn't a part of
// the program's file.
type idle struct{ resident, own int64 }

func (b serverBench) idle(ctx context.Context, where place) (i idle, err error) {
	up, err := startUpstream(ctx, airflowtest.Scale{Users: 1000, Roles: 200, DAGs: 300})
	if err != nil {
		return i, err
	}
	defer func() { err = errors.Join(err, up.stop()) }()
	dir, database, err := where.fresh(ctx, "idle")
	if err != nil {
		return i, err
	}
	a, _, err := serve(ctx, b.program, dir, database)
	if err != nil {
		return i, err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("admin\n"), 0o600); err != nil {
		return i, err
	}
	for _, args := range [][]string{
		{"connector", "add", "airflow", "--app", "Airflow", "--hosted", "--set", "airflow-base-url=" + up.url, "--set", "airflow-username=admin", "--set-file", "airflow-password=" + password},
		{"connector", "sync", "Airflow", "--wait"},
	} {
		if err := a.command(ctx, args...); err != nil {
			return i, err
		}
	}
	select {
	case <-time.After(settling):
	case <-ctx.Done():
		return i, ctx.Err()
	}
	i.resident, err = statusOf(a.cmd.Process.Pid, "VmRSS")
	if err != nil {
		return i, err
	}
	i.own, err = statusOf(a.cmd.Process.Pid, "RssAnon")
	return i, err
}
