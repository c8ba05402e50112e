package provision

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/integration"
)

func TestWhatFollowsAState(t *testing.T) {
	for from, all := range map[State][]State{Running: {Done, Failed}, Done: {Verified, Failed}, Verified: nil, Failed: nil} {
		for _, to := range []State{Running, Done, Verified, Failed} {
			if got := from.may(to); got != slices.Contains(all, to) {
				t.Errorf("from %s to %s: %t", from, to, got)
			}
		}
		if from.Over() != (all == nil) {
			t.Errorf("%s is over: %t", from, from.Over())
		}
	}
}

func TestAGrantIsDoneAndThenSeen(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		c := b.grant("gold", "bob")
		b.is(c, Running, "")
		if b.held(b.ask("gold", "bob")) {
			t.Error("it is noted before it is done")
		}
		task := b.changes(1)[0]
		sent := task.GetGrant()
		if sent.GetEntitlement().GetResource().GetDisplayName() != "gold" || sent.GetPrincipal().GetDisplayName() != "bob" {
			t.Errorf("the connector got a part of it: %v", sent)
		}
		b.does(task)
		done := b.is(c, Done, "")
		if done.DoneAt.IsZero() || done.SyncID == "" || !b.held(b.ask("gold", "bob")) {
			t.Errorf("%+v", done)
		}
		if sync := b.sync(); sync.ID != done.SyncID || sync.Cause != integration.CauseVerify {
			t.Errorf("another sync than %s: %+v", done.SyncID, sync)
		}
		if b.is(c, Verified, "").VerifiedAt.IsZero() {
			t.Error("it has no time")
		}
		if diff := cmp.Diff([]string{"operator grant.began", "connector grant.done", "system grant.verified"}, b.steps(c)); diff != "" {
			t.Error(diff)
		}
		reasons, err := b.Inventory.Reasons(t.Context(), d, c.EntitlementID, c.PrincipalID)
		check(t, err)
		if len(reasons) != 1 || reasons[0].Kind != ByOperator || reasons[0].Ref != c.ID {
			t.Errorf("the reasons are %+v", reasons)
		}
		b.idle()
	})
}

func TestARevokeIsDoneAndThenSeen(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		c := b.revoke("gold", "ann")
		task := b.changes(1)[0]
		if got := task.GetRevoke().GetGrant().GetId(); got != "gold/ann" {
			t.Errorf("the grant is called %q", got)
		}
		b.does(task)
		b.is(c, Done, "")
		if b.held(b.ask("gold", "ann")) {
			t.Error("it is still noted")
		}
		b.sync()
		b.is(c, Verified, "")
		if diff := cmp.Diff([]string{"operator revoke.began", "connector revoke.done", "system revoke.verified"}, b.steps(c)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWhatNoSyncShowsIsntBelieved(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		grant, revoke := b.grant("gold", "bob"), b.revoke("gold", "ann")
		for _, task := range b.changes(2) {
			b.does(task)
		}
		b.holds = map[string]bool{"gold ann": true} // somebody undid both
		b.sync()
		b.is(grant, Failed, "doesn't show the grant")
		b.is(revoke, Failed, "still shows the grant")
		if b.held(b.ask("gold", "bob")) || !b.held(b.ask("gold", "ann")) {
			t.Error("the inventory isn't what the sync saw")
		}
		if steps := b.steps(grant); steps[len(steps)-1] != "system grant.unverified" {
			t.Error(steps)
		}
	})
}

// The server's log has a line for what became of a change, with its ids.
func TestWhatBecomesOfAChangeIsLogged(t *testing.T) {
	b := newRig(t, dbtest.Open(t, db.SQLite)).open("Bank")
	out := &lines{}
	b.Log = slog.New(slog.NewTextHandler(out, nil))
	grant, refused := b.grant("gold", "bob"), b.revoke("gold", "ann")
	for _, task := range b.changes(2) {
		if task.HasGrant() {
			b.does(task)
		} else {
			b.refuses(task, codes.PermissionDenied, "no")
		}
	}
	b.is(refused, Failed, "no")
	b.sync()
	b.is(grant, Verified, "")
	for _, want := range []string{
		`level=INFO msg="change done" change=` + grant.ID + " kind=grant app=" + grant.AppID + " connector=" + grant.ConnectorID + " task=" + grant.TaskID,
		`level=INFO msg="change verified" change=` + grant.ID,
		`level=WARN msg="change failed" change=` + refused.ID + " kind=revoke",
	} {
		if !strings.Contains(out.text(), want) {
			t.Errorf("%s isn't in\n%s", want, out.text())
		}
	}
	if n := strings.Count(out.text(), "\n"); n != 3 {
		t.Errorf("%d lines:\n%s", n, out.text())
	}
}

// lines are a log that many write.
type lines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// A sync that had begun before the connector did it proves nothing.
func TestASyncOfBeforeProvesNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		finish := b.begin(b.file())
		grant, revoke := b.grant("gold", "bob"), b.revoke("gold", "ann")
		for _, task := range b.changes(2) {
			b.does(task)
		}
		finish()
		b.is(grant, Done, "")
		b.is(revoke, Done, "")
		if !b.held(b.ask("gold", "bob")) || b.held(b.ask("gold", "ann")) {
			t.Error("a sync of before took back what the connector did")
		}
		b.sync()
		b.is(grant, Verified, "")
		b.is(revoke, Verified, "")
	})
}

func TestWhatTheConnectorRefusesFailsInItsWords(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		c := b.grant("gold", "bob")
		b.refuses(b.changes(1)[0], codes.PermissionDenied, "not on a Sunday")
		b.is(c, Failed, "not on a Sunday")
		b.is(c, Failed, "lacks a permission")
		if b.held(b.ask("gold", "bob")) {
			t.Error("it is noted")
		}
		if diff := cmp.Diff([]string{"operator grant.began", "system grant.failed"}, b.steps(c)); diff != "" {
			t.Error(diff)
		}
		b.idle() // nothing is to be seen

		// What may pass is tried again, and others of the account wait for it.
		c = b.grant("gold", "bob")
		other := b.grant("cash", "bob")
		b.refuses(b.changes(1)[0], codes.Unavailable, "closed")
		b.is(c, Running, "")
		b.does(b.changes(1)[0])
		b.is(c, Done, "")
		b.is(other, Running, "")
	})
}

func TestWhatWasCancelledOrLostFails(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		c := b.grant("gold", "bob")
		check(t, d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return b.Integration.CancelTask(ctx, tx, identity.Operator(), c.TaskID)
		}))
		b.settle()
		b.is(c, Failed, "cancelled")

		c = b.grant("gold", "bob")
		for range 5 { // it takes it and is never heard of again
			b.changes(1)
			b.clock.Advance(time.Hour)
			check(t, b.Integration.SweepTasks(t.Context()))
		}
		b.settle()
		b.is(c, Failed, "never answered")
		b.holds["gold bob"] = true // it had done it
		if list := b.take(); len(list) != 1 || !list[0].HasSyncFull() {
			t.Errorf("nobody looks what it did: %v", list)
		}
	})
}

func TestALikeChangeIsJoined(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		var all sync.WaitGroup
		ask, ids := b.ask("gold", "bob"), make([]string, 20)
		for n := range ids {
			all.Go(func() {
				c, err := b.Grant(t.Context(), identity.Operator(), ask)
				if err != nil {
					t.Error(err)
				}
				ids[n] = c.ID
			})
		}
		all.Wait()
		if one := slices.Compact(ids); len(one) != 1 {
			t.Fatalf("%d changes", len(one))
		}
		b.does(b.changes(1)[0])
		list, err := b.Newest(t.Context(), identity.Operator(), Place{}, true, 10)
		check(t, err)
		if len(list) != 1 || list[0].State != Done || len(b.steps(list[0])) != 2 {
			t.Errorf("%+v: %v", list, b.steps(list[0]))
		}
	})
}

// What was asked for last is so in the end.
func TestOppositeChangesGoOneAfterAnother(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		first := b.grant("gold", "bob")
		second := b.revoke("gold", "bob")
		third := b.grant("gold", "bob")
		if third.ID == first.ID || b.grant("gold", "bob").ID != third.ID {
			t.Fatal("the last grant is to be joined, and no other")
		}
		for _, c := range []Change{first, second, third} {
			task := b.changes(1)[0] // one at a time
			if (task.GetGrant() != nil) != (c.Kind == Grant) {
				t.Fatalf("out of turn: %v", task)
			}
			b.is(c, Running, "")
			b.does(task)
			b.is(c, Done, "")
		}
		b.sync()
		b.is(first, Failed, "a later revoke took its place")
		b.is(second, Failed, "a later grant took its place")
		b.is(third, Verified, "")
	})
}

// While a later change may have been done already, a sync says nothing of the
// one before.
func TestNothingIsJudgedWhileItIsBeingUndone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		grant := b.grant("gold", "bob")
		b.does(b.changes(1)[0])
		revoke := b.revoke("gold", "bob")
		task := b.changes(1)[0]
		b.holds["gold bob"] = false
		b.sync()
		b.is(grant, Done, "")
		b.refuses(task, codes.NotFound, "no such thing")
		b.is(revoke, Failed, "no such thing")
		b.clock.Advance(time.Hour)
		check(t, b.sweep(t.Context()))
		b.settle()
		b.is(grant, Failed, "doesn't show the grant")
	})
}

func TestChangesOfAnAccountGoOutOneAfterAnother(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		b.grant("gold", "bob")
		b.grant("cash", "bob")
		b.grant("cash", "cid")
		tasks := b.changes(2)
		for _, task := range tasks {
			b.does(task)
		}
		b.does(b.changes(1)[0])
		b.sync()
		list, err := b.Newest(t.Context(), identity.Operator(), Place{}, false, 10)
		check(t, err)
		if len(list) != 3 {
			t.Fatalf("%d changes", len(list))
		}
		for _, c := range list {
			b.is(c, Verified, "")
		}
	})
}

func TestWhatCantBeIsRefusedAndNothingIsWritten(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		other := r.open("Other")
		b := r.open("Bank")
		b.immutable = map[string]bool{"gold ann": true, "cash": true}
		b.sync()
		ctx, operator := t.Context(), identity.Operator()
		ask := b.ask("gold", "ann")

		_, err := b.Revoke(ctx, operator, ask)
		wants(t, err, fault.NotReady, "follows from something else")
		_, err = b.Revoke(ctx, operator, b.ask("gold", "bob"))
		wants(t, err, fault.NotReady, "nothing to revoke")
		_, err = b.Grant(ctx, operator, b.ask("cash", "bob"))
		wants(t, err, fault.NotReady, "can't be changed")

		vault, err := b.Inventory.FindPrincipal(ctx, b.connector.AppID, "vault:gold")
		check(t, err)
		onto := ask
		onto.PrincipalID = vault.ID
		_, err = b.Grant(ctx, operator, onto)
		wants(t, err, fault.Invalid, "isn't for a vault")

		foreign := other.ask("gold", "ann")
		mixed := ask
		mixed.EntitlementID = foreign.EntitlementID
		_, err = b.Grant(ctx, operator, mixed)
		wants(t, err, fault.Invalid, "not both are of the app")
		mixed = foreign
		mixed.AppID = ask.AppID
		_, err = b.Revoke(ctx, operator, mixed)
		wants(t, err, fault.Invalid, "not both are of the app")

		unknown := ask
		unknown.EntitlementID = "none"
		_, err = b.Grant(ctx, operator, unknown)
		wants(t, err, fault.NotFound, "none")
		unknown = ask
		unknown.PrincipalID = "none"
		_, err = b.Grant(ctx, operator, unknown)
		wants(t, err, fault.NotFound, "none")

		_, err = b.Grant(ctx, b.actor, ask)
		wants(t, err, fault.Forbidden, "may not")
		c := other.grant("gold", "bob")
		if got, err := b.ByID(ctx, b.actor, c.ID); !fault.Is(err, fault.Forbidden) || got.ID != "" {
			t.Errorf("a connector reads changes: %+v, %v", got, err)
		}

		_, err = b.Integration.Remove(ctx, operator, b.connector.ID)
		check(t, err)
		_, err = b.Grant(ctx, operator, b.ask("gold", "bob"))
		wants(t, err, fault.NotFound, "no connector")

		list, err := b.Newest(ctx, operator, Place{}, false, 10)
		check(t, err)
		if len(list) != 1 || list[0].ID != c.ID {
			t.Errorf("the changes are %+v", list)
		}
		if n, err := db.Value[int64](ctx, d, `SELECT count(*) FROM connector_task WHERE kind IN ('grant', 'revoke')`); err != nil || n != 1 {
			t.Errorf("%d tasks, %v", n, err)
		}
	})
}

func TestAPausedConnectorChangesAccessAndIsSeenLater(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		_, err := b.Integration.Pause(t.Context(), identity.Operator(), b.connector.ID, "holidays")
		check(t, err)
		c := b.grant("gold", "bob")
		b.does(b.changes(1)[0])
		for range 10 { // for long
			b.clock.Advance(24 * time.Hour)
			check(t, b.sweep(t.Context()))
			b.settle()
		}
		b.is(c, Done, "")
		_, err = b.Integration.Resume(t.Context(), identity.Operator(), b.connector.ID)
		check(t, err)
		b.sync()
		b.is(c, Verified, "")
	})
}

func TestARemovedConnectorEndsItsChanges(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		running, done := b.grant("gold", "bob"), b.grant("gold", "cid")
		b.does(b.changes(2)[1])
		_, err := b.Integration.Remove(t.Context(), identity.Operator(), b.connector.ID)
		check(t, err)
		b.settle()
		b.is(running, Failed, "the connector was removed")
		b.is(done, Done, "")
		b.clock.Advance(time.Hour)
		check(t, b.sweep(t.Context()))
		b.settle()
		b.is(done, Failed, "removed before a sync could see it")
	})
}

func TestAChangeOutlivesWhatItIsAbout(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		grant, refused, revoke := b.grant("cash", "bob"), b.grant("gold", "bob"), b.revoke("gold", "ann")
		tasks := b.changes(2)
		_, err := b.Integration.SetAnomalyStop(t.Context(), identity.Operator(), b.connector.ID, false)
		check(t, err)
		b.people = []string{"cid"}
		b.sync()
		for _, task := range tasks {
			b.does(task)
		}
		b.refuses(b.changes(1)[0], codes.NotFound, "who is bob")
		b.is(grant, Done, "")
		b.is(revoke, Done, "")
		b.is(refused, Failed, "who is bob")
		b.sync()
		b.is(grant, Failed, "doesn't show the grant")
		b.is(revoke, Verified, "")
	})
}

func TestNothingHangsWhenJobsAreLost(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		c := b.grant("gold", "bob")
		task := b.changes(1)[0]
		// The change isn't looked at when its task ends, nor when its sync is applied.
		follow := func(kind string) {
			check(t, d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE connector_task SET follow_kind = $1 WHERE id = $2`, kind, c.TaskID)
				return err
			}))
		}
		follow("")
		b.does(task)
		b.is(c, Running, "")
		look := func() {
			b.clock.Advance(time.Hour)
			check(t, b.sweep(t.Context()))
			b.settle()
		}
		look()
		done := b.is(c, Done, "")
		b.sync()
		check(t, d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := update(ctx, tx, done, Verified) // as before that sync's job
			return err
		}))
		b.is(c, Done, "")
		look()
		b.is(c, Verified, "")
		look()
		b.is(c, Verified, "")

		c = b.grant("cash", "bob")
		b.changes(1)
		check(t, d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `DELETE FROM connector_task WHERE id = $1`, c.TaskID)
			return err
		}))
		look()
		b.is(c, Failed, "isn't kept any more")
	})
}

func TestSyncsThatFailAreAskedForAgainAndThenGivenUp(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		ctx := t.Context()
		c := b.grant("gold", "bob")
		b.does(b.changes(1)[0])
		seen := map[string]bool{}
		for range mostLooks {
			now := b.is(c, Done, "")
			if seen[now.SyncID] {
				t.Fatalf("it waits for the sync %s again", now.SyncID)
			}
			seen[now.SyncID] = true
			b.passes(c) // while it waits nothing else is asked for
			if b.is(c, Done, "").SyncID != now.SyncID {
				t.Fatal("it waits for another sync")
			}
			if now.Attempts%2 == 0 {
				check(t, b.Integration.CancelSync(ctx, identity.Operator(), now.SyncID))
			} else {
				b.refuses(b.take()[0], codes.Internal, "the lights went out")
			}
			b.passes(c)
		}
		b.is(c, Failed, "after 6 syncs it isn't known")
	})
}

func TestASyncThatIsHeldBackIsWaitedFor(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		for _, more := range []string{"dot", "eve", "fay", "gil", "hal", "ida"} {
			b.people = append(b.people, more)
			b.holds["gold "+more] = true
		}
		b.sync()
		c, other := b.grant("cash", "bob"), b.grant("cash", "ann")
		for _, task := range b.changes(2) {
			b.does(task)
		}
		b.people = []string{"ann", "bob"}
		b.holds["cash ann"] = false
		held := b.sync()
		if held.State != integration.HeldBack {
			t.Fatalf("the sync is %s", held.State)
		}
		for range 10 {
			b.passes(c)
		}
		b.is(c, Done, "")
		check(t, b.in.Confirm(t.Context(), identity.Operator(), held.ID))
		b.settle()
		b.is(c, Verified, "")
		b.is(other, Failed, "doesn't show the grant")
	})
}

func TestARestoreGivesUpGrantsAndNotRevokes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := newRig(t, d).open("Bank")
		done := b.grant("gold", "cid")
		b.does(b.changes(1)[0])
		running, revoke := b.grant("gold", "bob"), b.revoke("gold", "ann")
		check(t, d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if n, err := b.GiveUpGrants(ctx, tx, b.actor, ""); n != 0 || !fault.Is(err, fault.Forbidden) {
				t.Errorf("a connector gives up %d grants: %v", n, err)
			}
			check(t, b.Integration.WithdrawGrants(ctx, tx, identity.Operator()))
			n, err := b.GiveUpGrants(ctx, tx, identity.Operator(), "a backup was restored")
			if n != 1 {
				t.Errorf("%d are given up", n)
			}
			return err
		}))
		b.settle()
		b.is(running, Failed, "a backup was restored")
		if diff := cmp.Diff([]string{"operator grant.began", "operator grant.failed"}, b.steps(running)); diff != "" {
			t.Error(diff)
		}
		b.does(b.changes(1)[0])
		b.sync()
		b.is(revoke, Verified, "")
		b.is(done, Verified, "")
	})
}
