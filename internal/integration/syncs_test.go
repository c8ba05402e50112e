package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

func TestASyncGoesItsWay(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.working()
		c, actor := r.connector("Bank")
		syncID := r.show(c).Open.ID
		state := func(want SyncState, status Status) Sync {
			t.Helper()
			view := r.show(c)
			if got := r.sync(syncID); got.State != want || view.State != status {
				t.Fatalf("it is %s, and the connector %s; not %s, %s", got.State, view.State, want, status)
			}
			return r.sync(syncID)
		}
		state(Waiting, NotConnected)
		r.hello(actor, "a")
		state(Waiting, Syncing)
		task := r.one(actor, "a")
		r.clock.Advance(time.Second)
		if sync := state(Reading, Syncing); sync.Host != "a" || sync.Version != "v1.2.3" || sync.StartedAt.IsZero() {
			t.Errorf("while it reads: %+v", sync)
		}
		check(t, r.ReadingCounts(t.Context(), c.ID, map[string]int64{"person": 5}))
		check(t, r.Uploading(t.Context(), actor, task.GetId(), 1000))
		if sync := state(Uploading, Syncing); sync.Progress.Bytes != 1000 || sync.Progress.Counts["person"] != 5 {
			t.Errorf("while it uploads: %+v", sync.Progress)
		}
		file := r.upload(actor, "a", task.GetId(), "content")
		state(Uploading, Syncing)
		r.finish(actor, "a", task.GetId(), ok(nil))
		if sync := state(Comparing, Syncing); sync.FileID != file.ID || sync.FileHash != file.SHA256 || sync.FileSize != file.Size {
			t.Errorf("with its file: %+v", sync)
		}
		if got := <-r.followed; got != "ingest "+syncID {
			t.Errorf("the job is %q", got)
		}
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return r.Advance(ctx, tx, syncID, []SyncState{Comparing}, func(s *Sync) {
				s.State, s.Counts, s.Progress.Of = Applying, []byte(`{"person":5}`), 10
			})
		})
		state(Applying, Syncing)
		err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return r.Advance(ctx, tx, syncID, []SyncState{Comparing}, func(*Sync) {})
		})
		wants(t, err, fault.Conflict, "is applying")
		err = d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return r.Advance(ctx, tx, syncID, []SyncState{Applying}, func(s *Sync) { s.State = Waiting })
		})
		if err == nil {
			t.Error("a sync went back")
		}
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return r.Advance(ctx, tx, syncID, []SyncState{Applying}, func(s *Sync) { s.State = Applied })
		})
		if sync := state(Applied, Connected); sync.FinishedAt.IsZero() || string(sync.Counts) != `{"person":5}` {
			t.Errorf("at its end: %+v", sync)
		}
		usual, err := r.Usual(t.Context(), identity.Operator(), c.ID)
		if err != nil || usual != time.Second {
			t.Errorf("it usually takes %s, %v", usual, err)
		}
		if view := r.show(c); view.Open != nil || view.Last == nil || view.Last.ID != syncID {
			t.Errorf("it shows %+v", view)
		}
	})
}

func TestAFailedSyncIsAProblemUntilOneSucceeds(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		for _, test := range []struct {
			answer Answer
			kind   ProblemKind
			words  string
			soon   bool
		}{
			{bad(codes.Unauthenticated, "rpc error: code = Unauthenticated desc = bad password"), Refused, "refused the connector's credentials: check its settings: bad password", false},
			{bad(codes.PermissionDenied, "role missing"), Refused, "lacks a permission: role missing", false},
			{bad(codes.Unavailable, "no route"), Unreachable, "can't be reached: no route", true},
			{bad(codes.Internal, "oops"), SyncFailed, "the last sync failed: oops", false},
			{ok(nil), SyncFailed, "sent no file", false},
		} {
			syncID, err := r.SyncNow(t.Context(), identity.Operator(), c.ID)
			check(t, err)
			task := r.one(actor, "a")
			r.finish(actor, "a", task.GetId(), test.answer)
			view := r.show(c)
			if view.State != Errored || view.Problem.Kind != test.kind || !strings.Contains(view.Detail, test.words) {
				t.Errorf("it is %s (%s): %s", view.State, view.Problem.Kind, view.Detail)
			}
			if sync := r.sync(syncID); sync.State != Failed || !strings.HasSuffix(view.Detail, sync.Error) {
				t.Errorf("the sync is %s: %s", sync.State, sync.Error)
			}
			if soon := view.NextSyncAt.Equal(r.clock.Now().Add(retrySoon)); soon != test.soon {
				t.Errorf("the next is due at %s", view.NextSyncAt)
			}
		}
		syncID, err := r.SyncNow(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		task := r.one(actor, "a")
		if r.show(c).State != Errored {
			t.Error("the error is forgotten before a sync succeeds")
		}
		r.upload(actor, "a", task.GetId(), "x")
		r.finish(actor, "a", task.GetId(), ok(nil))
		r.apply(syncID)
		if view := r.show(c); view.State != Connected {
			t.Errorf("it is %s: %s", view.State, view.Detail)
		}
	})
}

func TestSyncsComeOneAtATime(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		first, err := r.SyncNow(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		joined, err := r.SyncNow(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		if first != joined {
			t.Error("a second sync waits beside the first")
		}
		task := r.one(actor, "a")
		// One that reads may have passed what changed: the next waits behind it.
		next, err := r.SyncNow(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		if next == first {
			t.Error("a sync that reads already was joined")
		}
		r.none(actor, "b")
		r.upload(actor, "a", task.GetId(), "x")
		r.finish(actor, "a", task.GetId(), ok(nil))
		r.none(actor, "b") // the file is being compared
		r.apply(first)
		r.one(actor, "b")
	})
}

func TestScheduledSyncsBegin(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		check(t, r.SweepSchedules(t.Context()))
		r.none(actor, "a")
		r.clock.Advance(time.Hour)
		check(t, r.SweepSchedules(t.Context()))
		check(t, r.SweepSchedules(t.Context()))
		view := r.show(c)
		if view.Open == nil || view.Open.Cause != CauseSchedule || !view.NextSyncAt.Equal(r.clock.Now().Add(time.Hour)) {
			t.Errorf("it shows %+v", view)
		}
		r.clock.Advance(time.Hour) // it still waits
		check(t, r.SweepSchedules(t.Context()))
		syncs, err := r.Syncs(t.Context(), identity.Operator(), SyncFilter{ConnectorID: c.ID}, "", 10)
		check(t, err)
		if len(syncs) != 2 {
			t.Errorf("there are %d syncs", len(syncs))
		}
	})
}

func TestASyncSurvivesItsConnector(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.connector("Bank")
		syncID := r.show(c).Open.ID
		r.hello(actor, "a")
		for n := range 5 {
			r.one(actor, "a")
			if got := r.sync(syncID).State; got != Reading {
				t.Fatalf("at try %d it is %s", n, got)
			}
			r.clock.Advance(5 * Heartbeat)
			check(t, r.SweepTasks(t.Context()))
		}
		if sync := r.sync(syncID); sync.State != Failed || !strings.Contains(sync.Error, "several times") {
			t.Errorf("it is %s: %s", sync.State, sync.Error)
		}
	})
}

func TestHeartbeatsKeepASync(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.connector("Bank")
		syncID := r.show(c).Open.ID
		r.hello(actor, "a")
		task := r.one(actor, "a")
		for range 10 {
			r.clock.Advance(Heartbeat)
			stop, err := r.Beat(t.Context(), actor, "a", []string{task.GetId()})
			if err != nil || len(stop) > 0 {
				t.Fatalf("at a heartbeat: %v, %v", stop, err)
			}
			check(t, r.SweepTasks(t.Context()))
		}
		// We were away longer than the lease, and the connector worked on.
		r.clock.Advance(10 * time.Minute)
		check(t, r.SweepTasks(t.Context()))
		if got := r.sync(syncID).State; got != Waiting {
			t.Errorf("it is %s", got)
		}
		stop, err := r.Beat(t.Context(), actor, "a", []string{task.GetId()})
		if err != nil || len(stop) > 0 {
			t.Errorf("back again: %v, %v", stop, err)
		}
		if got := r.sync(syncID).State; got != Reading {
			t.Errorf("it is %s", got)
		}
		// Another host that says so is to stop.
		if stop, err := r.Beat(t.Context(), actor, "b", []string{task.GetId()}); err != nil || len(stop) != 1 {
			t.Errorf("another host: %v, %v", stop, err)
		}
		// But not for ever.
		for range 12 * 60 {
			r.clock.Advance(time.Minute)
			if _, err := r.Beat(t.Context(), actor, "a", []string{task.GetId()}); err != nil {
				t.Fatal(err)
			}
		}
		check(t, r.SweepTasks(t.Context()))
		if sync := r.sync(syncID); sync.State != Failed || !strings.Contains(sync.Error, "more than 12h") {
			t.Errorf("it is %s: %s", sync.State, sync.Error)
		}
	})
}

func TestALateFileOfALapsedSyncCounts(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.connector("Bank")
		syncID := r.show(c).Open.ID
		r.hello(actor, "a")
		task := r.one(actor, "a")
		r.upload(actor, "a", task.GetId(), "x")
		r.clock.Advance(10 * time.Minute)
		check(t, r.SweepTasks(t.Context()))
		r.finish(actor, "a", task.GetId(), ok(nil))
		if sync := r.sync(syncID); sync.State != Comparing || sync.StartedAt.IsZero() || sync.Host != "a" {
			t.Errorf("it is %s: %+v", sync.State, sync)
		}
	})
}

func TestCancelledSyncs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		syncID, err := r.SyncNow(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		task := r.one(actor, "a")
		check(t, r.CancelSync(t.Context(), identity.Operator(), syncID))
		wants(t, r.CancelSync(t.Context(), identity.Operator(), syncID), fault.NotReady, "is cancelled")
		if stop, err := r.Beat(t.Context(), actor, "a", []string{task.GetId()}); err != nil || len(stop) != 1 {
			t.Errorf("at its heartbeat: %v, %v", stop, err)
		}
		_, err = r.BeginUpload(t.Context(), actor, "a", task.GetId())
		wants(t, err, fault.NotReady, "was cancelled")
		next, err := r.SyncNow(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		r.none(actor, "b") // until the connector has let go
		r.finish(actor, "a", task.GetId(), bad(codes.Unknown, "context canceled"))
		r.one(actor, "b")
		if got := r.sync(syncID); got.State != Cancelled || r.sync(next).State != Reading || r.show(c).State != Syncing {
			t.Errorf("it is %s", got.State)
		}
	})
}

func TestTargetedSyncs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		request := func(targets ...*v2.Resource) (syncID string) {
			t.Helper()
			r.write(func(ctx context.Context, tx *db.Tx) (err error) {
				syncID, err = r.RequestTargetedSync(ctx, tx, identity.System(), c.ID, targets, CauseVerify)
				return err
			})
			return syncID
		}
		first := request(resource("person", "ann"))
		if again := request(resource("person", "bob"), resource("person", "ann")); again != first {
			t.Error("it didn't join")
		}
		due := r.now(c).NextSyncAt
		task := r.one(actor, "a")
		var names []string
		for _, target := range task.GetSyncFull().GetTargetedSyncResources() {
			names = append(names, target.GetId().GetResource())
		}
		if !cmp.Equal(names, []string{"ann", "bob"}) || r.sync(first).Kind != Partial || task.GetId() != r.sync(first).TaskID {
			t.Errorf("it reads %v: %+v", names, r.sync(first))
		}
		if whole := request(resource("vault", "gold")); r.sync(whole).Kind != Full {
			t.Error("a type whose single resources can't be read is read alone")
		} else if joined := request(resource("person", "ann")); joined != whole {
			t.Error("it didn't join the full sync that waits")
		}
		if r.now(c).NextSyncAt.Before(due) {
			t.Error("a partial sync moved the schedule")
		}
	})
}

func TestAHeldSyncIsAProblemUntilSomebodyDecides(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		hold := func() string {
			t.Helper()
			syncID, err := r.SyncNow(t.Context(), identity.Operator(), c.ID)
			check(t, err)
			task := r.one(actor, "a")
			r.upload(actor, "a", task.GetId(), "x")
			r.finish(actor, "a", task.GetId(), ok(nil))
			r.write(func(ctx context.Context, tx *db.Tx) error {
				return r.Advance(ctx, tx, syncID, []SyncState{Comparing}, func(s *Sync) { s.State, s.Anomaly = HeldBack, []byte(`{}`) })
			})
			r.clock.Advance(time.Second)
			return syncID
		}
		first := hold()
		if view := r.show(c); view.State != Errored || view.Problem.Kind != Held {
			t.Errorf("it is %s: %+v", view.State, view.Problem)
		}
		second := hold()
		if sync := r.sync(first); sync.State != Discarded || sync.Error != "a newer sync took its place" {
			t.Errorf("the older is %s", sync.State)
		}
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return r.Advance(ctx, tx, second, []SyncState{HeldBack}, func(s *Sync) { s.State = Discarded })
		})
		if view := r.show(c); view.State != Connected {
			t.Errorf("it is %s: %+v", view.State, view.Problem)
		}
	})
}

func TestAFileBroughtByHandIsASync(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.working()
		c, _ := r.connector("Bank")
		file, err := r.StoreFile(t.Context(), FileC1Z, "", strings.NewReader("C1Z3\x00x"), 0)
		check(t, err)
		var syncID string
		r.write(func(ctx context.Context, tx *db.Tx) (err error) {
			syncID, err = r.AddFileSync(ctx, tx, identity.Operator(), c.AppID, file)
			return err
		})
		if got := <-r.followed; got != "ingest "+syncID {
			t.Errorf("the job is %q", got)
		}
		r.apply(syncID)
		syncs, err := r.Syncs(t.Context(), identity.Operator(), SyncFilter{AppID: c.AppID}, "", 10)
		check(t, err)
		if len(syncs) != 2 {
			t.Errorf("the app has %d syncs", len(syncs))
		}
	})
}

func TestFilesAreKeptInPiecesAndReadBack(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		for _, size := range []int{1, chunkSize, chunkSize + 1, 3*chunkSize - 1} {
			content := make([]byte, size)
			_, err := rand.Read(content)
			check(t, err)
			file, err := r.StoreFile(t.Context(), FileC1Z, "", iotest.HalfReader(bytes.NewReader(content)), 0)
			check(t, err)
			reader, err := r.FileReader(t.Context(), file.ID)
			check(t, err)
			got, err := io.ReadAll(reader)
			check(t, err)
			if !bytes.Equal(got, content) || file.Size != int64(size) {
				t.Errorf("of %d bytes %d came back", size, len(got))
			}
		}
	})
}

func TestWhatIsNoWholeFileIsntKept(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		_, err := r.StoreFile(t.Context(), FileC1Z, "", strings.NewReader(""), 0)
		wants(t, err, fault.Invalid, "is empty")
		_, err = r.StoreFile(t.Context(), FileC1Z, "", bytes.NewReader(make([]byte, 3*chunkSize)), 2*chunkSize)
		wants(t, err, fault.TooLarge, "more than")
		_, err = r.StoreFile(t.Context(), FileC1Z, "", io.MultiReader(bytes.NewReader(make([]byte, chunkSize)), iotest.ErrReader(errBroken)), 0)
		if !errors.Is(err, errBroken) {
			t.Errorf("the error is %v", err)
		}
		left, err := db.Value[int](t.Context(), d, `SELECT (SELECT count(*) FROM file) + (SELECT count(*) FROM file_chunk)`)
		check(t, err)
		if left != 0 {
			t.Errorf("%d rows are left", left)
		}
		_, err = r.FileReader(t.Context(), "x")
		wants(t, err, fault.NotFound, "no file")
	})
}

func TestUploadsAreForSyncsOfTheHostThatHasThem(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask()})
		r.one(actor, "a")
		_, err := r.TakeUpload(t.Context(), actor, "a", taskID, strings.NewReader("C1Z3\x00"))
		wants(t, err, fault.Invalid, "isn't a sync")
		_, err = r.SyncNow(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		task := r.one(actor, "a")
		_, err = r.TakeUpload(t.Context(), actor, "b", task.GetId(), strings.NewReader("C1Z3\x00"))
		wants(t, err, fault.NotReady, "isn't with this host")
		_, err = r.TakeUpload(t.Context(), actor, "a", task.GetId(), strings.NewReader("#!/bin/sh"))
		wants(t, err, fault.Invalid, "neither")
		_, err = r.TakeUpload(t.Context(), actor, "a", task.GetId(), strings.NewReader("C1"))
		wants(t, err, fault.Invalid, "neither")
		// The last file counts; a debug log is none.
		r.upload(actor, "a", task.GetId(), "one")
		r.clock.Advance(time.Second)
		last := r.upload(actor, "a", task.GetId(), "two")
		log, err := r.TakeUpload(t.Context(), actor, "a", task.GetId(), strings.NewReader(`{"level":"debug"}`))
		check(t, err)
		r.finish(actor, "a", task.GetId(), ok(nil))
		sync, err := syncOfTask(t.Context(), d, task.GetId())
		check(t, err)
		if sync.FileID != last.ID || log.Kind != FileLog {
			t.Errorf("its file is %s, not %s", sync.FileID, last.ID)
		}
	})
}

func TestOldFilesGoAndTheLastAppliedStays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		r.clock.Advance(time.Second)
		older := r.show(c).Last
		syncID, err := r.SyncNow(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		task := r.one(actor, "a")
		r.upload(actor, "a", task.GetId(), "last")
		r.finish(actor, "a", task.GetId(), ok(nil))
		r.apply(syncID)
		// Ids sort by the machine's second: make the order sure.
		r.write(func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE sync SET id = $1 WHERE id = $2`, "0"+older.ID[1:], older.ID)
			return err
		})
		half := File{ID: "half", Kind: FileC1Z, CreatedAt: r.clock.Now()}
		r.write(func(ctx context.Context, tx *db.Tx) error { return insertFile(ctx, tx, half) })
		r.clock.Advance(2 * time.Hour)
		check(t, r.SweepOld(t.Context()))
		count := func() int {
			n, err := db.Value[int](t.Context(), d, `SELECT count(*) FROM file`)
			check(t, err)
			return n
		}
		if n := count(); n != 2 {
			t.Errorf("%d files are left, not the two that are whole", n)
		}
		r.clock.Advance(31 * day)
		check(t, r.SweepOld(t.Context()))
		if n := count(); n != 1 {
			t.Errorf("%d files are left", n)
		}
		reader, err := r.FileReader(t.Context(), r.sync(syncID).FileID)
		check(t, err)
		check(t, reader.Close())
		r.clock.Advance(400 * day)
		check(t, r.SweepOld(t.Context()))
		syncs, err := r.Syncs(t.Context(), identity.Operator(), SyncFilter{ConnectorID: c.ID}, "", 10)
		check(t, err)
		if len(syncs) != 1 || syncs[0].ID != syncID {
			t.Errorf("the syncs left are %+v", syncs)
		}
	})
}

func TestEventsAreReadFromTheirCursor(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.working()
		c, actor := r.idle("Bank")
		check(t, r.Hello(t.Context(), actor, Greeting{Host: "a", Metadata: metadata(v2.Capability_CAPABILITY_EVENT_FEED_V2)}))
		task := r.one(actor, "a")
		feeds := v2.ListEventFeedsResponse_builder{List: []*v2.EventFeedMetadata{v2.EventFeedMetadata_builder{Id: "changes"}.Build(), v2.EventFeedMetadata_builder{Id: ""}.Build()}}.Build()
		r.finish(actor, "a", task.GetId(), ok(feeds))
		r.jobs.Drain(t, t.Context())

		changed := func(kind, name string) *v2.Event {
			return v2.Event_builder{ResourceChangeEvent: v2.ResourceChangeEvent_builder{ResourceId: resource(kind, name).GetId()}.Build()}.Build()
		}
		check(t, r.SweepFeeds(t.Context()))
		check(t, r.SweepFeeds(t.Context()))
		task = r.one(actor, "a")
		if asked := task.GetListEvents(); asked.GetEventFeedId() != "changes" || asked.GetCursor() != "" || asked.GetStartAt() == nil {
			t.Errorf("asked: %v", asked)
		}
		page := v2.ListEventsResponse_builder{Cursor: "one", HasMore: true, Events: []*v2.Event{changed("person", "ann"), changed("person", "ann"), changed("vault", "gold")}}.Build()
		r.finish(actor, "a", task.GetId(), ok(page))
		r.jobs.Drain(t, t.Context())
		if events := <-r.events; len(events) != 3 {
			t.Errorf("told: %v", events)
		}
		if open := r.show(c).Open; open == nil || open.Kind != Partial || open.Cause != CauseEvent {
			t.Errorf("the sync of what changed is %+v", open)
		}
		check(t, r.takeEvents(t.Context(), task.GetId())) // a job may run twice

		check(t, r.SweepFeeds(t.Context())) // there was more
		var events, syncs int
		for _, task := range r.poll(actor, "a") {
			switch {
			case task.HasSyncFull():
				syncs++
				if len(task.GetSyncFull().GetTargetedSyncResources()) != 1 {
					t.Errorf("it reads %v", task)
				}
				r.finish(actor, "a", task.GetId(), bad(codes.NotFound, "she left"))
			case task.GetListEvents().GetCursor() == "one":
				events++
				r.finish(actor, "a", task.GetId(), bad(codes.Unavailable, "no route"))
			}
		}
		if events != 1 || syncs != 1 {
			t.Errorf("given out: %d questions for events, %d syncs", events, syncs)
		}
		r.jobs.Drain(t, t.Context())
		check(t, r.SweepFeeds(t.Context()))
		r.none(actor, "a") // a minute's rest
		r.clock.Advance(2 * time.Minute)
		check(t, r.SweepFeeds(t.Context()))
		if task := r.one(actor, "a"); task.GetListEvents().GetCursor() != "one" {
			t.Errorf("given out: %v", task)
		}
		// A task that nobody answers is no end of the feed.
		r.clock.Advance(time.Hour)
		check(t, r.SweepTasks(t.Context()))
		r.jobs.Drain(t, t.Context())
		r.none(actor, "a")
		check(t, r.SweepFeeds(t.Context()))
		r.clock.Advance(2 * time.Minute)
		r.none(actor, "a")
		check(t, r.SweepFeeds(t.Context()))
		if list := r.poll(actor, "a"); len(list) == 0 {
			t.Error("the feed isn't read any more")
		}
	})
}
