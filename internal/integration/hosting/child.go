package hosting

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/id"
	"airlock/internal/integration"
)

// child is one hosted connector with the settings it has now, while this server
// has its lease.
type child struct {
	host     *Host
	want     integration.HostedConnector
	fence    int64
	end      context.CancelCauseFunc // stops it for good
	lapse    *time.Timer             // stops it unless the lease is renewed
	restart  chan string             // ends the process that runs, and says why
	tooLarge chan usage              // what it uses, which is too much
	group    atomic.Int64            // the process group that runs, or 0
}

// run keeps the program running until ctx is over, then gives the lease back.
func (c *child) run(ctx context.Context) {
	times := c.host.config.Times
	pause := times.First
	for ctx.Err() == nil {
		began := time.Now()
		problem, again := c.once(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > times.Settled {
			pause = times.First
		}
		if again {
			continue
		}
		c.report(ctx, problem)
		wait := time.NewTimer(pause*3/4 + rand.N(pause/2+1)) // so that what broke for many isn't met by all at once
		select {
		case <-ctx.Done():
		case <-wait.C:
		case <-c.restart:
		}
		wait.Stop()
		pause = min(2*pause, times.Longest)
	}
	c.giveBack()
}

func (c *child) report(ctx context.Context, p integration.Problem) {
	if p.Kind == "" {
		return
	}
	p.At = time.Now().UTC()
	if err := c.host.config.ReportProblem(ctx, c.want.ID, p); err != nil && ctx.Err() == nil {
		c.host.config.Log.ErrorContext(ctx, "couldn't say what is wrong with a hosted connector",
			"connector", c.want.Name, "problem", p.Words, "error", err)
	}
}

// giveBack ends the rights of what ran and releases the lease, if it is still ours.
func (c *child) giveBack() {
	if err := os.RemoveAll(c.dir()); err != nil {
		c.host.config.Log.Warn("couldn't remove the folder of a hosted connector", "connector", c.want.Name, "error", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := c.host.config.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := holdLease(ctx, tx, c.want.ID, c.host.server, c.fence); err != nil {
			return err
		}
		if err := c.host.config.RevokeClients(ctx, tx, c.want.ID, clientKind, ""); err != nil {
			return err
		}
		return release(ctx, tx, c.want.ID, c.host.server, c.fence)
	})
	if err != nil && !errors.Is(err, errLapsed) {
		c.host.config.Log.WarnContext(ctx, "couldn't release a hosted connector; another server takes it over later", "connector", c.want.Name, "error", err)
	}
}

// once runs the program once. again says to start it anew at once; else there is
// a problem.
func (c *child) once(ctx context.Context) (problem integration.Problem, again bool) {
	cmd, out, err := c.prepare(ctx)
	switch {
	case errors.Is(err, errLapsed):
		c.end(errLapsed)
		return integration.Problem{}, true
	case fault.Is(err, fault.NotFound) || fault.Is(err, fault.NotReady):
		return integration.Problem{Kind: integration.BinaryMissing, Words: err.Error()}, false
	case fault.Is(err, fault.Invalid):
		return integration.Problem{Kind: integration.Crashes, Words: "its settings don't fit its program, set them again: " +
			strings.ReplaceAll(err.Error(), "\n", "; ")}, false
	case ctx.Err() != nil:
		return integration.Problem{}, true
	case err != nil: // of the server, not of the connector
		c.host.config.Log.ErrorContext(ctx, "couldn't prepare a hosted connector; it is tried again", "connector", c.want.Name, "error", err)
		return integration.Problem{}, false
	}
	select {
	case <-c.restart: // of the run before
	default:
	}
	began := time.Now()
	exited, err := start(cmd)
	if err != nil {
		return integration.Problem{Kind: integration.Crashes, Words: fmt.Sprintf("the program %s can't be started: %v", cmd.Path, err)}, false
	}
	c.group.Store(int64(cmd.Process.Pid))
	log := c.host.config.Log.With("connector", c.want.ID, "name", c.want.Name, "program", filepath.Base(cmd.Path), "pid", cmd.Process.Pid)
	log.InfoContext(ctx, "hosted connector started")
	flushed := make(chan struct{})
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	go func() { defer close(flushed); out.flushAll(reading) }()

	why, tooMuch, err := c.watch(ctx, cmd, exited, out)
	c.kill() // what it may have left behind
	c.group.Store(0)
	stopReading()
	<-flushed
	ended := func(level slog.Level, why string) {
		log.Log(ctx, level, "hosted connector ended", "after", time.Since(began).Round(time.Millisecond), "why", why)
	}
	problem = integration.Problem{Kind: integration.Crashes}
	switch {
	case why != "":
		ended(slog.LevelInfo, "it is restarted: "+why)
		return integration.Problem{}, true
	case tooMuch > 0:
		problem.Words = fmt.Sprintf("it was ended since it used %d MB of memory and may use %d MB; "+
			"raise the limit of hosted connectors, or let it run elsewhere. It is being started again", tooMuch>>20, c.host.config.Memory>>20)
	case ctx.Err() != nil:
		ended(slog.LevelInfo, context.Cause(ctx).Error())
		return problem, false
	default:
		problem.Words = crashed(err, time.Since(began), out.lastError())
	}
	ended(slog.LevelWarn, problem.Words)
	return problem, false
}

// watch waits for the end of a process, and brings it about: since it is to be
// restarted for a reason, since it uses too much memory, or since ctx is over.
func (c *child) watch(ctx context.Context, cmd *exec.Cmd, exited <-chan error, out *output) (why string, tooMuch int64, err error) {
	for {
		select {
		case err = <-exited:
			return "", 0, err
		case why = <-c.restart:
			out.note("warn", "it is restarted: "+why)
			return why, 0, c.terminate(cmd, exited)
		case used := <-c.tooLarge:
			if used.group != c.group.Load() {
				continue // of the run before
			}
			c.kill()
			return "", used.bytes, <-exited
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errLapsed) {
				c.kill()
			}
			return "", 0, c.terminate(cmd, exited)
		}
	}
}

// crashed says how a program ended that should have gone on.
func crashed(err error, ran time.Duration, last string) string {
	how := "without an error"
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		how = "by itself, with " + exit.String() // exit status 4; signal: killed
	} else if err != nil {
		how = err.Error()
	}
	if last != "" {
		how += ": " + last
	}
	return fmt.Sprintf("its program ended after %s %s. It is started again, at the latest after a few minutes; its log says more", ran.Round(100*time.Millisecond), how)
}

// prepare makes all that a run needs: the folder, the client, the command.
func (c *child) prepare(ctx context.Context) (*exec.Cmd, *output, error) {
	h := c.host
	entry, err := h.config.Catalog.Entry(ctx, c.want.Catalog)
	if err != nil {
		return nil, nil, err
	}
	if err := entry.Check(c.want.Settings); err != nil {
		return nil, nil, err
	}
	dir := c.dir()
	if err := os.RemoveAll(dir); err != nil {
		return nil, nil, fmt.Errorf("empty its folder: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make its folder: %w", err)
	}
	settings, files := entry.Environment(c.want.Settings, dir)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, nil, fmt.Errorf("write the file of a setting: %w", err)
		}
	}
	clientID, clientSecret, err := c.client(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("make its credentials: %w", err)
	}
	out := newOutput(c.host, c.want.ID, append(entry.SecretValues(c.want.Settings), clientSecret))
	out.note("info", strings.TrimSpace("starting "+filepath.Base(entry.Path)+" "+entry.Version))
	cmd := &exec.Cmd{
		Path: entry.Path, Args: []string{entry.Path}, Dir: dir,
		Env:    append(settings, h.environment(dir, clientID, clientSecret)...),
		Stdout: &lines{out: out}, Stderr: &lines{out: out, errors: true},
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
		WaitDelay:   time.Second, // for what it started and that holds our pipes
	}
	return cmd, out, nil
}

// dir is its private folder.
func (c *child) dir() string { return filepath.Join(c.host.config.Dir, c.want.ID) }

// client makes the key pair of a run, and revokes those of earlier runs, unless
// another server runs the connector meanwhile.
func (c *child) client(ctx context.Context) (clientID, secret string, err error) {
	err = c.host.config.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if err := holdLease(ctx, tx, c.want.ID, c.host.server, c.fence); err != nil {
			return err
		}
		if clientID, secret, err = c.host.config.AddClient(ctx, tx, clientKind, c.want.ID, c.host.config.Door); err != nil {
			return err
		}
		return c.host.config.RevokeClients(ctx, tx, c.want.ID, clientKind, clientID)
	})
	return clientID, secret, err
}

// passed are the variables that a child inherits: how to reach the network.
var passed = []string{
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy", "SSL_CERT_FILE",
}

// environment is what a child gets beside its settings, and all of it.
func (h *Host) environment(dir, clientID, clientSecret string) []string {
	// Go reads the system's bundle and these folders; naming any replaces the usual
	// folders, so they are named too.
	roots, ok := os.LookupEnv("SSL_CERT_DIR")
	if !ok || roots == "" {
		roots = "/etc/ssl/certs:/etc/pki/tls/certs"
	}
	name, err := os.Hostname()
	if err != nil {
		name = "airlock"
	}
	start := id.New()
	environment := []string{
		"PATH=/usr/local/bin:/usr/bin:/bin",
		"HOME=" + dir,
		"TMPDIR=" + dir,
		"SSL_CERT_DIR=" + roots + ":" + h.config.CADir,
		// A runtime that nears the limit collects garbage before we end it; two share it.
		fmt.Sprintf("GOMEMLIMIT=%d", h.config.Memory*6/10),
		"BATON_TMPDIR=" + dir,
		"BATON_CLIENT_ID=" + clientID,
		"BATON_CLIENT_SECRET=" + clientSecret,
		"BATON_C1_API_HOST=" + h.config.Door,
		"BATON_HOST_ID=" + name + "-" + start[len(start)-8:], // tells this run from the one before
		"BATON_PROVISIONING=true",
		"BATON_LOG_LEVEL=info",
		"BATON_LOG_FORMAT=json",
	}
	for _, name := range passed {
		if value := os.Getenv(name); value != "" {
			environment = append(environment, name+"="+value)
		}
	}
	return environment
}

// start starts a command. The kernel kills the process when the thread ends that
// started it, so that thread waits for it; it ends with us, however we end.
func start(cmd *exec.Cmd) (<-chan error, error) {
	started, exited := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			exited <- cmd.Wait()
		}
	}()
	return exited, <-started
}

// terminate asks a process to end, and makes it if it doesn't.
func (c *child) terminate(cmd *exec.Cmd, exited <-chan error) error {
	_ = cmd.Process.Signal(os.Interrupt) // it may have ended
	grace := time.NewTimer(c.host.config.Times.Grace)
	defer grace.Stop()
	select {
	case err := <-exited:
		return err
	case <-grace.C:
		c.kill()
		return <-exited
	}
}

// kill ends the process and all that it started.
func (c *child) kill() {
	if group := int(c.group.Load()); group > 0 {
		_ = syscall.Kill(-group, syscall.SIGKILL) // nobody may be left
	}
}
