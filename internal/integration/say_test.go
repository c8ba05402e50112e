package integration

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/base/trace"
	"airlock/internal/identity"
)

// The server's log has one line for each thing that somebody who runs it wants to
// know, with the ids by which more is found.
func TestTheLogTellsOfConnectorsAndSyncs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		var out bytes.Buffer
		r.log = slog.New(trace.Handler(slog.NewTextHandler(&out, nil)))
		line := func(parts ...string) {
			t.Helper()
			text := out.String()
			out.Reset()
			if strings.Count(text, "\n") != 1 {
				t.Errorf("not one line: %q", text)
			}
			for _, part := range parts {
				if !strings.Contains(text, part) {
					t.Errorf("%q isn't in %s", part, text)
				}
			}
		}
		c, actor := r.connector("Bank")
		r.hello(actor, "a")
		line("level=INFO", "connected for the first time", "connector="+c.ID, "name=Bank", "host=a", "version=v1.2.3")
		r.hello(actor, "a")
		line("level=INFO", `msg="connector connected"`, "connector="+c.ID)
		syncID := r.show(c).Open.ID
		task := r.one(actor, "a")
		line("level=INFO", `msg="sync started"`, "sync="+syncID, "connector="+c.ID, "cause=first", "host=a")
		r.clock.Advance(90 * time.Second)
		r.upload(actor, "a", task.GetId(), "x")
		r.finish(actor, "a", task.GetId(), ok(nil))
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return r.Advance(ctx, tx, syncID, []SyncState{Comparing}, func(s *Sync) {
				s.State, s.Changes = HeldBack, []byte(`{"grants":{"added":2,"changed":0,"removed":7},"accounts":{"added":1},"types":{},"kept":3}`)
			})
		})
		line("level=WARN", "sync held back", "sync="+syncID, `changes="accounts: 1 added; grants: 2 added, 7 removed"`, "took=1m30s")
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return r.Advance(ctx, tx, syncID, []SyncState{HeldBack}, func(s *Sync) { s.State = Applying })
		})
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return r.Advance(ctx, tx, syncID, []SyncState{Applying}, func(s *Sync) { s.State = Applied })
		})
		line("level=INFO", `msg="sync applied"`, "sync="+syncID, "took=1m30s", "changes=", "bytes=6")
		_, err := r.SyncNow(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		task = r.one(actor, "a")
		out.Reset()
		r.finish(actor, "a", task.GetId(), bad(codes.Internal, "oops"))
		line("level=WARN", `msg="sync failed"`, "error=oops", "connector="+c.ID)
	})
}

// What a hosted connector tries again and again is told as its error while it
// does so, and no longer.
func TestAStuckSyncIsAProblemWhileItIs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, _, err := r.Add(t.Context(), identity.Operator(), AddConnector{Catalog: "bank", App: "Bank", Hosted: true, Settings: map[string]string{"url": "http://127.0.0.1:9"}})
		check(t, err)
		actor := identity.Connector(c.ID, "Bank")
		refused := Retry{First: true, Times: 1, Error: "rpc error: code = Unavailable desc = bank: connection refused: check the URL"}
		retry := func(times int, first bool) {
			t.Helper()
			again := refused
			again.Times, again.First = times, first
			check(t, r.Retrying(t.Context(), c.ID, again))
		}
		is := func(state Status, words string) {
			t.Helper()
			if view := r.show(c); view.State != state || !strings.Contains(view.Detail, words) {
				t.Errorf("it is %s: %s", view.State, view.Detail)
			}
		}
		r.hello(actor, "a")
		retry(1, true)
		is(Syncing, "") // nothing is being read
		task := r.one(actor, "a")
		retry(1, false)
		is(Syncing, "")
		retry(1, true) // the first sync ever, and the first thing it asks
		is(Errored, "the target system can't be reached: bank: connection refused: check the URL; the connector goes on trying")
		since := r.show(c).Problem.At
		r.clock.Advance(time.Second)
		retry(2, true)
		if at := r.show(c).Problem.At; !at.Equal(since) {
			t.Errorf("it is told anew, %s and %s", since, at)
		}
		check(t, r.ReadingCounts(t.Context(), c.ID, map[string]int64{"resources/person": 1}))
		is(Syncing, "")
		retry(mostRetries-1, false)
		is(Syncing, "")
		retry(mostRetries, false)
		is(Errored, "goes on trying")
		r.upload(actor, "a", task.GetId(), "x") // it came through
		r.finish(actor, "a", task.GetId(), ok(nil))
		is(Syncing, "")
		syncs, err := r.Syncs(t.Context(), identity.Operator(), SyncFilter{ConnectorID: c.ID}, "", 1)
		check(t, err)
		r.apply(syncs[0].ID)
		// One that has worked may have a weak minute.
		_, err = r.SyncNow(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		task = r.one(actor, "a")
		retry(1, true)
		is(Syncing, "")
		retry(mostRetries, true)
		is(Errored, "goes on trying")
		r.finish(actor, "a", task.GetId(), bad(codes.Unavailable, "connection refused"))
		is(Errored, "the last sync failed: the target system can't be reached: connection refused")
		retry(5, true) // late
		is(Errored, "the last sync failed")
	})
}

func TestWhatASyncReadIsHandedOutAndSaid(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.connector("Bank")
		r.hello(actor, "a")
		syncID := r.show(c).Open.ID
		task := r.one(actor, "a")
		_, _, err := r.SyncFile(t.Context(), identity.Operator(), syncID, FileC1Z)
		wants(t, err, fault.NotFound, "has no file")
		r.upload(actor, "a", task.GetId(), "all of it")
		_, err = r.TakeUpload(t.Context(), actor, "a", task.GetId(), strings.NewReader(`{"msg":"a debug log"}`))
		check(t, err)
		r.finish(actor, "a", task.GetId(), ok(nil))
		before := len(r.actions())
		for kind, want := range map[FileKind][2]string{
			FileC1Z: {"C1Z3\x00all of it", "sync-" + syncID + ".c1z"}, FileLog: {`{"msg":"a debug log"}`, "sync-" + syncID + ".log"},
		} {
			file, name, err := r.SyncFile(t.Context(), identity.Operator(), syncID, kind)
			check(t, err)
			got, err := io.ReadAll(file)
			check(t, err)
			check(t, file.Close())
			if string(got) != want[0] || name != want[1] {
				t.Errorf("%s: %q", name, got)
			}
		}
		if got := r.actions()[before:]; len(got) != 2 || got[0] != "sync_file.read" {
			t.Error(got)
		}
		_, _, err = r.SyncFile(t.Context(), actor, syncID, FileC1Z)
		wants(t, err, fault.Forbidden, "")
		if got := r.actions()[before:]; len(got) != 2 {
			t.Error(got)
		}
	})
}
