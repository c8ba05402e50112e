// Package apt gets programs that tests and the demo need from the system's
// packages, where that is allowed: to root, where there is apt-get.
package apt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// ErrUnable says that nothing can be installed here.
var ErrUnable = errors.New("packages are installed only by root, with apt-get")

// Able reports whether packages can be installed here.
func Able() bool {
	_, err := exec.LookPath("apt-get")
	return err == nil && os.Geteuid() == 0
}

// Install installs a package unless found says that it is there; one process at a
// time, since several tests may want the same.
func Install(ctx context.Context, name string, found func() bool) error {
	if !Able() {
		return ErrUnable
	}
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "airlock-apt-"+name), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the name is a package's
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // which unlocks it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if found() {
		return nil // another process has installed it meanwhile
	}
	for _, args := range [][]string{
		{"update"},
		{"-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends", name},
	} {
		command := exec.CommandContext(ctx, "apt-get", args...) //nolint:gosec // fixed words and a package's name
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %v: %w: %s", args, err, out)
		}
	}
	return nil
}
