package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"airlock/internal/base/apt"
)

// ErrMissing says that the machine has no PostgreSQL and that none could be
// installed.
var ErrMissing = errors.New("there is no PostgreSQL server on this machine: install one (apt-get install postgresql, or brew install postgresql)")

// binaries finds the folder of initdb and postgres. Where there is none, root
// gets one by apt-get.
func binaries(ctx context.Context) (string, error) {
	if bin := find(); bin != "" {
		return bin, nil
	}
	if !apt.Able() {
		return "", ErrMissing
	}
	if err := install(ctx); err != nil {
		return "", errors.Join(ErrMissing, err)
	}
	if bin := find(); bin != "" {
		return bin, nil
	}
	return "", ErrMissing
}

func find() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil && complete(filepath.Dir(real)) {
			return filepath.Dir(real)
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin",
		"/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin",
	} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			continue
		}
		for _, dir := range slices.Backward(dirs) { // the newest sorts last
			if complete(dir) {
				return dir
			}
		}
	}
	return ""
}

func complete(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// install gets the server's programs, and keeps Debian's packages from starting a
// server of their own.
func install(ctx context.Context) (err error) {
	const clusters = "/etc/postgresql-common/createcluster.d"
	if err := os.MkdirAll(clusters, 0o755); err != nil { //nolint:gosec // as Debian's package makes it
		return err
	}
	quiet := filepath.Join(clusters, fmt.Sprintf("airlock-%d.conf", os.Getpid()))
	if err := os.WriteFile(quiet, []byte("create_main_cluster = false\n"), 0o644); err != nil { //nolint:gosec // settings, read by Debian's tools
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(quiet)) }()
	return apt.Install(ctx, "postgresql", func() bool { return find() != "" })
}
