package inventory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

// aPast is a rig whose entitlement team:x:member was held by ann from 12 to 14, by bob
// from 13 on, and by cia from 13 to 14 and again from 15 on; that of dan was revoked at
// 14 before a sync had seen it.
func aPast(t *testing.T, d *db.DB) *rig {
	r := newRig(t, d)
	r.team("x")
	for _, id := range []string{"ann", "bob", "cia", "dan"} {
		r.user(id, id, id+"@example.com")
	}
	r.grant("team:x:member", "user:ann")
	r.clock.Advance(time.Hour)
	r.grant("team:x:member", "user:bob")
	r.grant("team:x:member", "user:cia")
	r.clock.Advance(time.Hour)
	r.write(func(ctx context.Context, tx *db.Tx) error {
		_, err := EndGrants(ctx, tx, r.app.ID, []Pair{{r.ids["team:x:member"], r.ids["user:ann"]}}, Ending{At: r.clock.Now(), SyncID: "s2"})
		if err == nil {
			err = r.RecordRevoke(ctx, tx, r.app.ID, r.ids["team:x:member"], r.ids["user:cia"])
		}
		if err == nil {
			err = r.RecordRevoke(ctx, tx, r.app.ID, r.ids["team:x:member"], r.ids["user:dan"])
		}
		return err
	})
	r.clock.Advance(time.Hour)
	r.grant("team:x:member", "user:cia")
	return r
}

func TestHoldersOverTimeAreRightAtTheEdges(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := aPast(t, d)
		noon := r.clock.Now().Add(-3 * time.Hour)
		for _, test := range []struct {
			from, to time.Duration
			points   int
			want     string
		}{
			{-time.Hour, 4 * time.Hour, 6, "11:00:00 0, 12:00:00 1, 13:00:00 3, 14:00:00 1, 15:00:00 2, 16:00:00 2"},
			{-time.Microsecond, time.Microsecond, 3, "11:59:59 0, 12:00:00 1, 12:00:00 1"},
			{2*time.Hour - time.Microsecond, 2 * time.Hour, 2, "13:59:59 3, 14:00:00 1"},
			{5 * time.Hour, 6 * time.Hour, 2, "17:00:00 2, 18:00:00 2"},
			{-2 * time.Hour, -time.Hour, 2, "10:00:00 0, 11:00:00 0"},
		} {
			history, err := r.HolderHistory(t.Context(), identity.Operator(), r.ids["team:x:member"], noon.Add(test.from), noon.Add(test.to), test.points)
			check(t, err)
			got := strings.Join(texts(history, func(p HolderPoint) string { return fmt.Sprintf("%s %d", p.At.Format(time.TimeOnly), p.Holders) }), ", ")
			if got != test.want {
				t.Errorf("from %s to %s: %s, not %s", test.from, test.to, got, test.want)
			}
		}
		for _, points := range []int{-1, 1, 1001} {
			_, err := r.HolderHistory(t.Context(), identity.Operator(), r.ids["team:x:member"], noon, noon.Add(time.Hour), points)
			wants(t, err, fault.Invalid, "2 to 1000 points")
		}
		_, err := r.HolderHistory(t.Context(), identity.Operator(), r.ids["team:x:member"], noon, noon, 2)
		wants(t, err, fault.Invalid, "to a later one")
	})
}

func TestChangesAreBeginningsAndEndsTheLatestFirst(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := aPast(t, d)
		line := func(c Change) string {
			word := "+"
			if c.Ended {
				word = "-"
			}
			return c.At.Format("15") + " " + word + c.PrincipalName + " " + c.EntitlementName + " " + c.SyncID
		}
		all := []string{
			"15 +cia Member of x sync", "14 -ann Member of x s2", "14 -cia Member of x ", "14 -dan Member of x ",
			"13 +bob Member of x sync", "13 +cia Member of x sync", "12 +ann Member of x sync",
		}
		for _, filter := range []ChangeFilter{{AppID: r.app.ID}, {EntitlementID: r.ids["team:x:member"]}} {
			for _, limit := range []int{1, 2, 3, 100} {
				got, partial := every(t, limit, func(after Key) (Page[Change], error) {
					return r.Changes(t.Context(), identity.Operator(), filter, after, limit)
				})
				lines := texts(got, line)
				if len(lines) == len(all) { // those of one time are in the order of their ids
					slices.Sort(lines[1:4])
					slices.Sort(lines[4:6])
				}
				if diff := gocmp.Diff(all, lines); diff != "" || partial {
					t.Errorf("%+v by %d (partial %t): want -, got +:\n%s", filter, limit, partial, diff)
				}
			}
		}
		got, err := r.Changes(t.Context(), identity.Operator(), ChangeFilter{PrincipalID: r.ids["user:cia"]}, Key{}, 9)
		check(t, err)
		if diff := gocmp.Diff([]string{all[0], all[2], all[5]}, texts(got.Rows, line)); diff != "" {
			t.Error(diff)
		}
		_, err = r.Changes(t.Context(), identity.Operator(), ChangeFilter{AppID: r.app.ID}, Key{"now", "a"}, 9)
		wants(t, err, fault.Invalid, "isn't one of this list")
	})
}
