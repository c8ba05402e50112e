package airflowtest

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

//go:embed releases.tsv
var releasesTSV string

// Release is a row of releases.tsv: an Airflow and what it is installed with.
type Release struct {
	// Airflow and FAB are versions, such as 3.3.2 and 3.10.2; Python is one such
	// as 3.11; Date is the day its dependencies are resolved as of.
	Airflow, FAB, Python, Date string
	// Kind is "test" for the ones that each `make test` starts, else "compat".
	Kind string
}

// Releases returns the releases of a kind, newest first; all of them for "".
func Releases(kind string) []Release {
	var releases []Release
	for line := range strings.Lines(releasesTSV) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 5 {
			panic(fmt.Sprintf("airflowtest: releases.tsv, which is built in, has a row of %d columns, not 5: %q", len(f), line))
		}
		if kind == "" || kind == f[4] {
			releases = append(releases, Release{Airflow: f[0], FAB: f[1], Python: f[2], Date: f[3], Kind: f[4]})
		}
	}
	return releases
}

// Real is a real Airflow on loopback that holds the company. It ends with this
// process, by whatever death.
type Real struct {
	// URL is its base URL, with the path of AIRFLOW_BASE_PATH.
	URL     string
	Release string
	// AdminUser and AdminPassword are the company's working administrator.
	AdminUser, AdminPassword string
	// Dir holds its database and airflow.log.
	Dir string

	script, port string
	env          []string
	lifeline     io.Closer
	ended        chan struct{} // closed when the process is gone and end is set
	end          error
}

// StartReal starts an Airflow of a release of releases.tsv with its data in dir,
// and installs it before that where the cache has none, which takes up to a
// minute. It returns when the server answers. The context bounds the start, not
// the life of the server. Options are those of scripts/airflow, as
// "AIRFLOW_BASIC=off"; those in the environment of this process don't count.
func StartReal(ctx context.Context, dir, release string, options ...string) (*Real, error) {
	script, err := findScript()
	if err != nil {
		return nil, err
	}
	admin := Company().User("admin")
	r := &Real{
		Release: release, AdminUser: admin.Username, AdminPassword: admin.Password, Dir: dir,
		script: script, port: "0",
	}
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "AIRFLOW_") {
			r.env = append(r.env, setting)
		}
	}
	r.env = append(r.env, options...)
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// RealForTest starts an Airflow that ends with the test. It skips the test under
// -short and where AIRFLOW_TESTS is off, and fails it if there is no Airflow.
func RealForTest(t testing.TB, release string, options ...string) *Real {
	t.Helper()
	wantReal(t)
	r, err := StartReal(t.Context(), t.TempDir(), release, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
		if log, err := os.ReadFile(filepath.Join(r.Dir, "airflow.log")); t.Failed() && err == nil {
			lines := bytes.SplitAfter(log, []byte("\n"))
			t.Logf("the last lines of Airflow %s's log:\n%s", release, bytes.Join(lines[max(0, len(lines)-30):], nil))
		}
	})
	return r
}

func wantReal(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a real Airflow, which -short leaves out")
	}
	if os.Getenv("AIRFLOW_TESTS") == "off" {
		t.Skip("needs a real Airflow, which AIRFLOW_TESTS=off leaves out")
	}
}

// Restart ends the server, if it runs, and starts it again with the same data
// at the same URL. Tokens that it gave out stay good.
func (r *Real) Restart(ctx context.Context) error {
	if err := r.Stop(); err != nil {
		return err
	}
	return r.start(ctx)
}

// Stop ends the server and all its processes. It is an error if the server had
// ended before, by itself.
func (r *Real) Stop() error {
	_ = r.lifeline.Close() // closed twice, it stays closed
	<-r.ended
	return r.end
}

func (r *Real) start(ctx context.Context) error {
	var said bytes.Buffer
	cmd := exec.Command(r.script, "run", r.Release, r.Dir, r.port)
	cmd.Env = r.env
	cmd.Stderr = &said
	cmd.WaitDelay = time.Second // an install that was broken off may hold stderr
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start Airflow %s: %w", r.Release, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start Airflow %s: %w", r.Release, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start Airflow %s: %w", r.Release, err)
	}
	ready, ended := make(chan string, 1), make(chan struct{})
	r.lifeline, r.ended = lifeline, ended
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if address, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
				ready <- address
			}
		}
		r.end = nil
		if err := cmd.Wait(); err != nil {
			r.end = fmt.Errorf("airflow %s: %w: %s", r.Release, err, strings.TrimSpace(said.String()))
		}
		close(ended)
	}()

	select {
	case r.URL = <-ready:
	case <-ended:
		if r.end == nil {
			r.end = errors.New("it ended before it was ready")
		}
		return fmt.Errorf("start: %w", r.end)
	case <-ctx.Done():
		_ = cmd.Process.Signal(syscall.SIGTERM) // an install doesn't watch its stdin
		_ = r.Stop()
		return fmt.Errorf("start Airflow %s: it was not ready in time: %w", r.Release, context.Cause(ctx))
	}
	address, err := url.Parse(r.URL)
	if err != nil {
		_ = r.Stop()
		return fmt.Errorf("start Airflow %s: %w", r.Release, err)
	}
	r.port = address.Port()
	return nil
}

// findScript finds scripts/airflow of the checkout that the process runs in:
// tests run in the folder of their package, everything else at the root.
func findScript() (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find scripts/airflow: %w", err)
	}
	for folder := here; ; folder = filepath.Dir(folder) {
		script := filepath.Join(folder, "scripts", "airflow")
		if _, err := os.Stat(script); err == nil {
			return script, nil
		}
		if folder == filepath.Dir(folder) {
			return "", fmt.Errorf("no scripts/airflow in %s or above it: a real Airflow is started from within the checkout", here)
		}
	}
}
