package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"google.golang.org/grpc/codes"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/id"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

const (
	// jobIngest is the job that compares a file with the inventory; its row is the sync.
	jobIngest = "ingest"
	// retrySoon is when a sync is tried again that failed since the target system
	// couldn't be reached.
	retrySoon = 5 * time.Minute
	// mostTargets is how many resources one partial sync reads.
	mostTargets = 200
)

// RequestSync asks for a full sync, or joins one that waits to begin: one that
// runs may have passed what is to be seen. A connector that is paused or removed
// answers fault.NotReady.
func (s *Service) RequestSync(ctx context.Context, tx *db.Tx, actor identity.Actor, connectorID, cause string) (syncID string, err error) {
	return s.request(ctx, tx, actor, connectorID, SyncFull{}, cause)
}

// RequestTargetedSync asks for a sync of some resources alone, or joins a sync that
// waits to begin. Where the connector can't read single resources of these types,
// it is a full one.
func (s *Service) RequestTargetedSync(ctx context.Context, tx *db.Tx, actor identity.Actor, connectorID string, targets []*v2.Resource, cause string) (syncID string, err error) {
	return s.request(ctx, tx, actor, connectorID, SyncFull{Targets: targets}, cause)
}

func (s *Service) request(ctx context.Context, tx *db.Tx, actor identity.Actor, connectorID string, what SyncFull, cause string) (string, error) {
	c, err := holdConnector(ctx, tx, connectorID)
	if err != nil {
		return "", err
	}
	if err := inventory.Can(ctx, tx, actor, identity.Manage, identity.Object{Kind: objectKind, ID: c.ID, AppID: c.AppID}); err != nil {
		return "", err
	}
	if err := present(c); err != nil {
		return "", err
	}
	if c.Unset() {
		return "", fault.New(fault.NotReady, "%q has no settings yet and can't sync", c.Name)
	}
	if !c.Paused.At.IsZero() {
		return "", fault.New(fault.NotReady, "%q is paused and doesn't sync", c.Name)
	}
	if slices.ContainsFunc(what.Targets, func(r *v2.Resource) bool { return !c.Targets(r.GetId().GetResourceType()) }) {
		what.Targets = nil
	}
	syncID, err := s.requestSync(ctx, tx, &c, what, cause)
	if err != nil {
		return "", err
	}
	return syncID, s.save(ctx, tx, c)
}

// requestSync queues a sync of a connector that the caller holds, and saves
// afterwards.
func (s *Service) requestSync(ctx context.Context, tx *db.Tx, c *Connector, what SyncFull, cause string) (string, error) {
	kind := Full
	switch {
	case len(what.Targets) > 0 || len(what.Types) > 0:
		kind = Partial
	case what.ResourcesOnly:
		kind = ResourcesOnly
	}
	if kind == Full {
		c.NextSyncAt = c.Schedule.Next(s.clock.Now())
	}
	list, err := openSyncs(ctx, tx, c.ID)
	if err != nil {
		return "", err
	}
	for _, other := range list {
		switch {
		case other.State != Waiting:
		case other.Kind == Full:
			return other.ID, nil
		case other.Kind == Partial && len(what.Targets) > 0:
			joined, err := s.join(ctx, tx, other, what.Targets)
			if err != nil || joined {
				return other.ID, err
			}
		}
	}
	what.Debug = what.Debug || c.Debug
	taskID, err := s.addTask(ctx, tx, TaskSpec{ConnectorID: c.ID, Request: what, Lane: syncLane})
	if err != nil {
		return "", err
	}
	sync := Sync{ID: id.New(), AppID: c.AppID, ConnectorID: c.ID, TaskID: taskID, Kind: kind, Cause: cause, State: Waiting, CreatedAt: s.clock.Now()}
	return sync.ID, insertSync(ctx, tx, sync)
}

// join adds resources to a partial sync that waits, if there is room.
func (s *Service) join(ctx context.Context, tx *db.Tx, sync Sync, targets []*v2.Resource) (bool, error) {
	task, err := taskByID(ctx, tx, sync.TaskID)
	if err != nil || task.State != TaskQueued {
		return false, err
	}
	message, err := task.message()
	if err != nil {
		return false, err
	}
	all := message.GetSyncFull().GetTargetedSyncResources()
	if len(all) == 0 { // it is limited to types
		return false, nil
	}
	for _, target := range targets {
		if !slices.ContainsFunc(all, func(r *v2.Resource) bool {
			return r.GetId().GetResource() == target.GetId().GetResource() && r.GetId().GetResourceType() == target.GetId().GetResourceType()
		}) {
			all = append(all, target)
		}
	}
	if len(all) > mostTargets {
		return false, nil
	}
	message.GetSyncFull().SetTargetedSyncResources(all)
	if err := task.carry(message); err != nil {
		if fault.Is(err, fault.TooLarge) {
			return false, nil
		}
		return false, err
	}
	return true, updateTask(ctx, tx, task)
}

// AddFileSync makes the sync of a file that was brought by hand, and has it
// ingested.
func (s *Service) AddFileSync(ctx context.Context, tx *db.Tx, actor identity.Actor, appID string, file File) (syncID string, err error) {
	if err := inventory.Can(ctx, tx, actor, identity.Manage, identity.Object{Kind: "app", ID: appID, AppID: appID}); err != nil {
		return "", err
	}
	now := s.clock.Now()
	sync := Sync{
		ID: id.New(), AppID: appID, Kind: Full, Cause: CauseFile, State: Comparing, FileID: file.ID, FileHash: file.SHA256, FileSize: file.Size,
		CreatedAt: now, UploadedAt: now,
	}
	if err := insertSync(ctx, tx, sync); err != nil {
		return "", err
	}
	if err := s.live.Publish(ctx, tx, syncTopic(sync.ID)); err != nil {
		return "", err
	}
	return sync.ID, s.jobs.Enqueue(ctx, tx, jobIngest, sync.ID)
}

// SyncByID is a sync.
func (s *Service) SyncByID(ctx context.Context, q db.Querier, syncID string) (Sync, error) {
	return syncByID(ctx, q, syncID)
}

// Syncs is the history of syncs, newest first: those before one, or the newest
// where that is "".
func (s *Service) Syncs(ctx context.Context, actor identity.Actor, f SyncFilter, before string, limit int) ([]Sync, error) {
	object := identity.Object{Kind: objectKind, ID: f.ConnectorID, AppID: f.AppID}
	if f.ConnectorID != "" && f.AppID == "" && identity.OnlyOwned(actor, objectKind) {
		c, err := connectorByID(ctx, s.db, f.ConnectorID)
		if err != nil {
			return nil, err
		}
		object.AppID = c.AppID
	}
	if err := inventory.Can(ctx, s.db, actor, identity.Read, object); err != nil {
		return nil, err
	}
	return listSyncs(ctx, s.db, f, before, min(max(limit, 1), 500))
}

// Usual is how long a connector usually reads: the median of its last full syncs;
// 0 if it had none.
func (s *Service) Usual(ctx context.Context, actor identity.Actor, connectorID string) (time.Duration, error) {
	c, err := connectorByID(ctx, s.db, connectorID)
	if err != nil {
		return 0, err
	}
	if err := inventory.Can(ctx, s.db, actor, identity.Read, identity.Object{Kind: objectKind, ID: connectorID, AppID: c.AppID}); err != nil {
		return 0, err
	}
	list, err := readingTimes(ctx, s.db, connectorID)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	slices.Sort(list)
	return list[len(list)/2], nil
}

// CancelSync cancels a sync that the connector still has to do with.
func (s *Service) CancelSync(ctx context.Context, actor identity.Actor, syncID string) error {
	sync, err := syncByID(ctx, s.db, syncID)
	if err != nil {
		return err
	}
	if sync.ConnectorID == "" {
		return fault.New(fault.NotReady, "a file that was brought by hand can't be cancelled any more")
	}
	if err := inventory.Can(ctx, s.db, actor, identity.Manage, sync.object()); err != nil {
		return err
	}
	_, err = s.change(ctx, sync.ConnectorID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		if sync, err = syncByID(ctx, tx, syncID); err != nil {
			return err
		}
		if !slices.Contains(withConnector, sync.State) {
			return fault.New(fault.NotReady, "the sync is %s: it can't be cancelled any more", sync.State)
		}
		task, err := taskByID(ctx, tx, sync.TaskID)
		if err != nil {
			return err
		}
		if err := s.move(ctx, tx, c, sync, func(next *Sync) { next.State, next.Error = Cancelled, "it was cancelled by "+actor.Name }); err != nil {
			return err
		}
		if err := s.withdraw(ctx, tx, c, task); err != nil {
			return err
		}
		return s.record(ctx, tx, actor, "connector.sync_cancelled", *c, map[string]any{"sync": syncID})
	})
	return err
}

// Advance changes a sync that is in one of some states, within the transaction of
// whoever works at it; fault.Conflict says that it is in another. The change may
// set the next state. What follows for the connector happens with it.
func (s *Service) Advance(ctx context.Context, tx *db.Tx, syncID string, from []SyncState, change func(*Sync)) error {
	sync, err := syncByID(ctx, tx, syncID)
	if err != nil {
		return err
	}
	var c *Connector
	if sync.ConnectorID != "" {
		held, err := holdConnector(ctx, tx, sync.ConnectorID)
		if err != nil {
			return err
		}
		if sync, err = syncByID(ctx, tx, syncID); err != nil {
			return err
		}
		c = &held
	}
	if !slices.Contains(from, sync.State) {
		return fault.New(fault.Conflict, "the sync %s is %s meanwhile", syncID, sync.State)
	}
	var next Sync
	if err := s.move(ctx, tx, c, sync, func(sync *Sync) { change(sync); next = *sync }); err != nil {
		return err
	}
	if c == nil || c.Removed() {
		return nil
	}
	if next.State == Failed {
		if err := s.blameSync(ctx, tx, c, Problem{Kind: SyncFailed, Words: "the last sync failed: " + next.Error}); err != nil {
			return err
		}
	}
	return s.save(ctx, tx, *c)
}

// move changes a sync, and does what follows from it. Whoever calls it holds the
// connector, if there is one, and saves it afterwards.
func (s *Service) move(ctx context.Context, tx *db.Tx, c *Connector, sync Sync, change func(*Sync)) error {
	before := sync.State
	change(&sync)
	if !before.may(sync.State) {
		return fmt.Errorf("a sync that is %s can't become %s", before, sync.State)
	}
	now := s.clock.Now()
	if sync.State.Over() {
		sync.FinishedAt = now
	}
	sync.Error = clean(sync.Error, 4000)
	ok, err := updateSync(ctx, tx, sync, before)
	if err != nil {
		return err
	}
	if !ok {
		return fault.New(fault.Conflict, "the sync %s was changed meanwhile", sync.ID)
	}
	if before != sync.State {
		s.saySync(ctx, tx, sync)
	}
	topics := []string{syncTopic(sync.ID)}
	if c != nil {
		topics = append(topics, connectorTopic(c.ID))
		if before == Comparing || before == Applying {
			topics = append(topics, tasksTopic(c.ID)) // the next sync may begin
		}
		if before != sync.State {
			if err := s.follow(ctx, tx, c, sync); err != nil {
				return err
			}
		}
	}
	return s.live.Publish(ctx, tx, topics...)
}

// follow does what a sync's new state means for its connector.
func (s *Service) follow(ctx context.Context, tx *db.Tx, c *Connector, sync Sync) error {
	switch sync.State {
	case Applied:
		if sync.Kind == Partial { // it says nothing of all the rest
			return nil
		}
		c.Problem = Problem{}
		if err := s.nameByItself(ctx, tx, c, sync); err != nil {
			return err
		}
	case HeldBack:
		words := "the last sync would remove much, and waits for somebody to confirm or discard it"
		if err := s.blame(ctx, tx, c, Problem{Kind: Held, Words: words}); err != nil {
			return err
		}
	case Applying, Discarded:
		if c.Problem.Kind == Held {
			c.Problem = Problem{}
		}
		return nil
	case Waiting, Uploading, Comparing, Cancelled:
		c.goesOn()
		return nil
	case Reading, Failed:
		return nil
	}
	// A sync that was held is out of date once a newer one has come this far.
	return s.discardHeld(ctx, tx, c.ID, sync.CreatedAt.Add(-1), "a newer sync took its place")
}

// discardHeld discards a connector's syncs that are held and were asked for by a
// time.
func (s *Service) discardHeld(ctx context.Context, tx *db.Tx, connectorID string, until time.Time, why string) error {
	list, err := openSyncs(ctx, tx, connectorID)
	if err != nil {
		return err
	}
	for _, other := range list {
		if other.State != HeldBack || other.CreatedAt.After(until) {
			continue
		}
		if err := s.move(ctx, tx, nil, other, func(old *Sync) { old.State, old.Error = Discarded, why }); err != nil {
			return err
		}
	}
	return nil
}

// startSync marks the sync of a task that a host has just been given.
func (s *Service) startSync(ctx context.Context, tx *db.Tx, c *Connector, task Task) error {
	if task.Kind != KindSync {
		return nil
	}
	sync, err := syncOfTask(ctx, tx, task.ID)
	if err != nil || sync == nil || sync.State != Waiting {
		return err
	}
	return s.move(ctx, tx, c, *sync, func(next *Sync) {
		next.State, next.StartedAt, next.Host, next.Version = Reading, task.LeasedAt, task.Host, c.Version
		next.Progress = Progress{Attempts: task.Attempts}
	})
}

// settleSync takes a sync further after its task.
func (s *Service) settleSync(ctx context.Context, tx *db.Tx, c *Connector, task Task, v verdict) error {
	if task.Kind != KindSync {
		return nil
	}
	sync, err := syncOfTask(ctx, tx, task.ID)
	if err != nil || sync == nil || !slices.Contains(withConnector, sync.State) {
		return err
	}
	switch {
	case v == requeued && sync.State != Waiting:
		return s.move(ctx, tx, c, *sync, func(next *Sync) { next.State, next.StartedAt = Waiting, time.Time{} })
	case v == requeued:
		return nil
	case task.State == TaskCancelled:
		return s.move(ctx, tx, c, *sync, func(next *Sync) { next.State, next.Error = Cancelled, task.Error })
	case task.State == TaskFailed:
		return s.failSync(ctx, tx, c, *sync, task.Code, task.Error)
	}
	files, err := filesOfTask(ctx, tx, task.ID)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(files, func(f File) bool { return f.Kind == FileC1Z })
	if n < 0 {
		return s.failSync(ctx, tx, c, *sync, codes.DataLoss, "the connector says it has synced, but sent no file")
	}
	if sync.State == Waiting { // its lease had lapsed, but it went on
		sync.StartedAt, sync.Host = task.LeasedAt, task.Host
		if err := s.move(ctx, tx, c, *sync, func(next *Sync) { next.State = Reading }); err != nil {
			return err
		}
		sync.State = Reading
	}
	if err := s.move(ctx, tx, c, *sync, func(next *Sync) {
		next.State, next.FileID, next.FileHash, next.FileSize = Comparing, files[n].ID, files[n].SHA256, files[n].Size
		next.UploadedAt = files[n].CreatedAt
		next.Progress = Progress{Bytes: files[n].Size, Counts: sync.Progress.Counts, Attempts: task.Attempts}
	}); err != nil {
		return err
	}
	for _, older := range files[n+1:] { // of uploads whose answer was lost
		if older.Kind != FileC1Z {
			continue
		}
		if err := hideFile(ctx, tx, older.ID); err != nil {
			return err
		}
	}
	return s.jobs.Enqueue(ctx, tx, jobIngest, sync.ID)
}

// failSync ends a sync that its connector couldn't do.
func (s *Service) failSync(ctx context.Context, tx *db.Tx, c *Connector, sync Sync, code codes.Code, text string) error {
	if err := s.move(ctx, tx, c, sync, func(next *Sync) { next.State, next.Error = Failed, text }); err != nil {
		return err
	}
	found := problem(code, "the last sync failed: "+text)
	if soon := s.clock.Now().Add(retrySoon); found.Kind == Unreachable && soon.Before(c.NextSyncAt) {
		c.NextSyncAt = soon
	}
	return s.blameSync(ctx, tx, c, found)
}

// blameSync says that a sync failed, unless it is known already what is wrong with
// the connector itself.
func (s *Service) blameSync(ctx context.Context, tx *db.Tx, c *Connector, found Problem) error {
	if c.Removed() || slices.Contains(clearedByHello, c.Problem.Kind) && c.Problem.Kind != NoChanges {
		return nil
	}
	return s.blame(ctx, tx, c, found)
}

// ReadingCounts tells what a hosted connector has read so far, by type.
func (s *Service) ReadingCounts(ctx context.Context, connectorID string, counts map[string]int64) error {
	return s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		c, err := holdConnector(ctx, tx, connectorID)
		if err != nil {
			return err
		}
		list, err := openSyncs(ctx, tx, connectorID)
		if err != nil {
			return err
		}
		for _, sync := range list {
			if sync.State != Reading {
				continue
			}
			if c.goesOn() {
				if err := s.save(ctx, tx, c); err != nil {
					return err
				}
			}
			return s.move(ctx, tx, &c, sync, func(next *Sync) { next.Progress.Counts = counts })
		}
		return nil
	})
}

// Retry is that a hosted connector tries something again, since the target system
// doesn't answer.
type Retry struct {
	First bool   // it is what a sync begins with: whether the target system answers at all
	Times int    // without anything read in between
	Error string // as the connector logged it
}

// mostRetries is how often a connector may try again before it is said: many a
// target system has a weak minute.
const mostRetries = 3

// Retrying says what keeps a hosted connector from reading: it goes on trying for
// a minute, and in the middle of a sync for ever, without a word to us. One that
// never had a sync applied can't have worked before, so it is said at once. It
// stands until something is read, or the sync fails.
func (s *Service) Retrying(ctx context.Context, connectorID string, r Retry) error {
	_, err := s.change(ctx, connectorID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		if c.Problem.Kind != "" && c.Problem.Kind != Stuck {
			return nil // it is an error already, and for a reason that stands
		}
		open, err := openSync(ctx, tx, c.ID)
		if err != nil || open == nil || open.State != Reading {
			return err
		}
		if r.Times < mostRetries {
			before, err := lastApplied(ctx, tx, c.ID)
			if err != nil || before != nil || !r.First {
				return err
			}
		}
		code, message := codes.Unavailable, plain(r.Error)
		if strings.Contains(r.Error, "code = DeadlineExceeded") {
			code = codes.DeadlineExceeded
		}
		return s.blame(ctx, tx, c, Problem{Kind: Stuck, Words: words(code, message) + "; the connector goes on trying"})
	})
	return err
}
