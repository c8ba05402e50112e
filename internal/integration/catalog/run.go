package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// maxOutput is how much a program may say, in bytes: the largest form known has
// some 100 KB.
const maxOutput = 4 << 20

var errTooMuch = fmt.Errorf("it wrote more than %d MB", maxOutput>>20)

// run asks a program something and gives what it wrote. The program is alone: in
// an empty folder, with nothing of our environment, in a process group that
// doesn't outlive the answer, nor us.
func (c *Catalog) run(ctx context.Context, path string, args ...string) (said []byte, err error) {
	dir, err := os.MkdirTemp(c.options.TempDir, "airlock-catalog-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, stop := context.WithTimeoutCause(ctx, c.options.TimeLimit, fmt.Errorf("it didn't end within %s", c.options.TimeLimit))
	defer stop()
	ctx, tooMuch := context.WithCancelCause(ctx)
	defer tooMuch(nil)

	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // the operator put it there
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + dir, "BATON_TMPDIR=" + dir, "BATON_LOG_LEVEL=error"}
	full := func() { tooMuch(errTooMuch) }
	stdout, stderr := capped{most: maxOutput, full: full}, capped{most: maxOutput, full: full}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for what it started and left behind with our pipe

	runtime.LockOSThread() // the signal comes when the thread ends that started it
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	err = cmd.Wait()
	if left := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); left == nil && errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it had said all; what it left behind is gone now
	}
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	if err != nil {
		if last := lastLine(stderr.kept.String()); last != "" {
			return nil, fmt.Errorf("%w: %s", err, last)
		}
		return nil, err
	}
	return stdout.kept.Bytes(), nil
}

// capped keeps what is written up to a limit; at the limit it says so. It is no
// bytes.Buffer, whose ReadFrom knows of no limit.
type capped struct {
	kept bytes.Buffer
	most int
	full func()
}

func (c *capped) Write(p []byte) (int, error) {
	if c.kept.Len()+len(p) > c.most {
		c.full()
		return 0, errTooMuch
	}
	return c.kept.Write(p)
}

// lastLine is the last line of a text that isn't empty.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return shorten(strings.ToValidUTF8(text[strings.LastIndexByte(text, '\n')+1:], "?"), 300)
}
