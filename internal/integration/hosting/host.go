// Package hosting runs hosted connectors: the unmodified programs of the
// catalog, each as a child process in service mode that calls our own door like
// any other connector. What runs is made to be what should run, again and again,
// so that nothing is lost by a crash on either side; with several servers on one
// database a connector runs on one of them, by a lease.
package hosting

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/id"
	"airlock/internal/base/live"
	"airlock/internal/integration"
	"airlock/internal/integration/catalog"
)

// Config is what a Host needs.
type Config struct {
	DB      *db.DB
	Live    *live.Hub // integration.HostedTopic wakes the Host, which else looks every few seconds
	Catalog *catalog.Catalog
	Log     *slog.Logger

	// Hosted tells what should run.
	Hosted func(ctx context.Context) ([]integration.HostedConnector, error)
	// ReportProblem is told what is wrong with a connector. The connector's Hello
	// ends the problem.
	ReportProblem func(ctx context.Context, connectorID string, p integration.Problem) error
	// AppendLog is given what a connector logs, without its secrets.
	AppendLog func(ctx context.Context, connectorID string, lines []integration.LogLine) error
	// ReadingCounts is told how much a sync has read, by kind and resource type
	// ("resources/user", "entitlements/role", "grants/role"), each time all of it.
	ReadingCounts func(ctx context.Context, connectorID string, counts map[string]int64) error
	// Retrying is told that a sync tries something again and again.
	Retrying func(ctx context.Context, connectorID string, r integration.Retry) error
	// AddClient and RevokeClients are identity's.
	AddClient     func(ctx context.Context, tx *db.Tx, kind, subjectID, host string) (clientID, secret string, err error)
	RevokeClients func(ctx context.Context, tx *db.Tx, subjectID, kind, except string) error
	// Dir is where each child has its private folder. It belongs to this Host, which
	// empties it.
	Dir string
	// Door is the address of our own door, such as 127.0.0.1:8443, and CADir the
	// folder that holds the certificate of our CA and nothing else.
	Door, CADir string
	// Memory is how much a connector may use, in bytes; 0 is 1 GiB.
	Memory int64

	Times Times
}

// Times are how long things take; the zero value of each means what stands
// beside it.
type Times struct {
	Look    time.Duration // 3 s: between two looks at what should run; each renews the leases
	Lease   time.Duration // 15 s: after which another server takes over what this one ran
	Grace   time.Duration // 10 s: that a child has to end by itself
	First   time.Duration // 1 s: before a child that ended is started again, doubled each time
	Longest time.Duration // 5 min: the longest such pause
	Settled time.Duration // 1 min: a child that ran so long starts with the first pause again
	Sample  time.Duration // 2 s: between two looks at the memory
	Flush   time.Duration // 500 ms: between two writes of a child's log
}

// Host runs the hosted connectors of this server.
type Host struct {
	config Config
	server string // whose leases are ours; another one at each start
	look   chan struct{}
	ctx    context.Context // until Stop
	stop   context.CancelCauseFunc
	ended  sync.WaitGroup

	mu       sync.Mutex
	children map[string]*child // by connector

	observed map[string]lease // of other servers; only the loop has it
}

// clientKind is what identity calls the clients of children.
const clientKind = "hosted"

// New makes a Host.
func New(c Config) *Host {
	t := &c.Times
	for value, usual := range map[*time.Duration]time.Duration{
		&t.Look: 3 * time.Second, &t.Lease: 15 * time.Second, &t.Grace: 10 * time.Second, &t.First: time.Second,
		&t.Longest: 5 * time.Minute, &t.Settled: time.Minute, &t.Sample: 2 * time.Second, &t.Flush: 500 * time.Millisecond,
	} {
		*value = cmp.Or(*value, usual)
	}
	c.Memory = cmp.Or(c.Memory, 1<<30)
	return &Host{
		config: c, server: id.New(), look: make(chan struct{}, 1),
		children: map[string]*child{}, observed: map[string]lease{},
	}
}

// Start starts what should run, and keeps it so until Stop.
func (h *Host) Start(ctx context.Context) error {
	for _, dir := range []*string{&h.config.Dir, &h.config.CADir} { // a child has another working directory
		absolute, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		*dir = absolute
	}
	if err := h.takeOver(ctx); err != nil {
		return err
	}
	h.ctx, h.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	h.ended.Go(func() { h.loop(h.ctx) })
	h.ended.Go(func() { h.watchMemory(h.ctx) })
	return nil
}

// takeOver clears away what the server left behind that had this folder before
// and has ended: the folders of its children, and its leases, so that nobody
// waits until they lapse.
func (h *Host) takeOver(ctx context.Context) error {
	note := filepath.Join(h.config.Dir, "server") // whose folder it is
	before, err := os.ReadFile(note)              //nolint:gosec // it is ours
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("take over the hosted connectors: %w", err)
	}
	err = h.config.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error { return releaseOf(ctx, tx, string(before)) })
	if err != nil {
		return fmt.Errorf("take over the hosted connectors: %w", err)
	}
	if err := os.RemoveAll(h.config.Dir); err != nil {
		return fmt.Errorf("empty the folder of hosted connectors: %w", err)
	}
	if err := os.MkdirAll(h.config.Dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of hosted connectors: %w", err)
	}
	return os.WriteFile(note, []byte(h.server), 0o600)
}

var errStopping = errors.New("the server stops")

// Stop ends all children: gently, and by force when ctx is over.
func (h *Host) Stop(ctx context.Context) error {
	if h.stop == nil {
		return nil
	}
	h.stop(errStopping)
	done := make(chan struct{})
	go func() { h.ended.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		for _, c := range h.running() {
			c.kill()
		}
		<-done
		return ctx.Err()
	}
}

// Restart ends a connector's child, whose task took too long or that is stuck,
// and starts it again. It reports whether this server runs it.
func (h *Host) Restart(connectorID, why string) bool {
	h.mu.Lock()
	c := h.children[connectorID]
	h.mu.Unlock()
	if c == nil {
		return false
	}
	select {
	case c.restart <- why:
	default: // it is being restarted
	}
	return true
}

func (h *Host) running() []*child {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*child, 0, len(h.children))
	for _, c := range h.children {
		list = append(list, c)
	}
	return list
}

// lookNow makes the loop look again.
func (h *Host) lookNow() {
	select {
	case h.look <- struct{}{}:
	default:
	}
}

func (h *Host) loop(ctx context.Context) {
	ticker := time.NewTicker(h.config.Times.Look)
	defer ticker.Stop()
	changed := h.config.Live.Subscribe(integration.HostedTopic)
	defer changed.Close()
	for {
		// A database that hangs must not keep the loop from renewing when it is back.
		bounded, cancel := context.WithTimeout(ctx, h.config.Times.Lease/3)
		if err := h.reconcile(bounded); err != nil && ctx.Err() == nil {
			h.config.Log.ErrorContext(ctx, "couldn't look what should be hosted; what runs goes on until its lease lapses", "error", err)
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-h.look:
		case <-changed.C():
		}
	}
}

// reconcile makes what runs here be what should.
func (h *Host) reconcile(ctx context.Context) error {
	if err := h.renew(ctx); err != nil {
		return fmt.Errorf("renew the leases: %w", err)
	}
	list, err := h.config.Hosted(ctx)
	if err != nil {
		return err
	}
	wanted := map[string]integration.HostedConnector{}
	for _, want := range list {
		wanted[want.ID] = want
	}
	for _, c := range h.running() {
		want, still := wanted[c.want.ID]
		if !still || !want.SettingsAt.Equal(c.want.SettingsAt) || want.Catalog != c.want.Catalog {
			c.end(errChanged)
		}
		delete(wanted, c.want.ID) // once it ended, the loop looks again
	}
	if len(wanted) == 0 {
		return nil
	}
	mine, err := h.take(ctx, wanted)
	for connectorID, fence := range mine {
		h.run(wanted[connectorID], fence)
	}
	return err
}

var (
	errChanged = errors.New("it shouldn't run any more, or otherwise")
	errLapsed  = errors.New("this server lost its lease")
)

// renew renews the leases of what runs here. What isn't ours any more ends.
func (h *Host) renew(ctx context.Context) error {
	running := h.running()
	if len(running) == 0 {
		return nil
	}
	asked := time.Now()
	var held map[string]int64
	err := h.config.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		held, err = renewAll(ctx, tx, h.server, asked.Add(h.config.Times.Lease))
		return err
	})
	if err != nil {
		return err
	}
	for _, c := range running {
		if fence, ok := held[c.want.ID]; !ok || fence != c.fence {
			c.end(errLapsed)
			continue
		}
		c.lapse.Reset(time.Until(asked.Add(h.safe())))
	}
	return nil
}

// safe is how long after its last renewal a child may run: it must have ended
// when another server takes over.
func (h *Host) safe() time.Duration { return h.config.Times.Lease * 2 / 3 }

// take takes the leases that are free, and returns their fences. A lease of
// another server is free once it released it, or once this server has seen it
// unchanged for as long as leases last: so the servers' clocks need not agree.
func (h *Host) take(ctx context.Context, wanted map[string]integration.HostedConnector) (map[string]int64, error) {
	known, err := leases(ctx, h.config.DB)
	if err != nil {
		return nil, fmt.Errorf("read the leases: %w", err)
	}
	mine := map[string]int64{}
	for connectorID := range wanted {
		l := known[connectorID]
		if l.server != "" && l.server != h.server && !l.until.IsZero() {
			before := h.observed[connectorID]
			if before.server != l.server || before.fence != l.fence || !before.until.Equal(l.until) {
				l.seen = time.Now()
				h.observed[connectorID] = l
				continue
			}
			if time.Since(before.seen) < h.config.Times.Lease {
				continue
			}
		}
		var ok bool
		err := h.config.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
			ok, err = takeLease(ctx, tx, connectorID, l, h.server, time.Now().Add(h.config.Times.Lease))
			return err
		})
		if err != nil {
			return mine, fmt.Errorf("take the lease of connector %s: %w", connectorID, err)
		}
		if ok {
			delete(h.observed, connectorID)
			mine[connectorID] = l.fence + 1
		}
	}
	return mine, nil
}

// run starts a child. It ends when it is told to, or its lease lapses.
func (h *Host) run(want integration.HostedConnector, fence int64) {
	ctx, end := context.WithCancelCause(h.ctx)
	c := &child{host: h, want: want, fence: fence, end: end, restart: make(chan string, 1), tooLarge: make(chan usage, 1)}
	c.lapse = time.AfterFunc(h.safe(), func() { end(errLapsed) })
	h.mu.Lock()
	h.children[want.ID] = c
	h.mu.Unlock()
	h.ended.Go(func() {
		c.run(ctx)
		c.lapse.Stop()
		h.mu.Lock()
		delete(h.children, want.ID)
		h.mu.Unlock()
		h.lookNow()
	})
}
