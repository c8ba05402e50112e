package integration

import (
	"testing"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/identity"
)

func TestTheOldestTaskThatWaitsIsKnown(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		want := func(at time.Time, name string) {
			t.Helper()
			since, connector, err := r.OldestTask(t.Context(), identity.Operator())
			if err != nil || !since.Equal(at) || connector != name {
				t.Errorf("%s, %q, %v; it should be %s, %q", since, connector, err, at, name)
			}
		}
		want(time.Time{}, "")
		began := r.clock.Now()
		first, actor := r.connector("First")
		r.clock.Advance(time.Minute)
		r.connector("Second")
		want(began, "First")
		r.hello(actor, "host")
		if task := r.one(actor, "host"); task.GetSyncFull() == nil {
			t.Fatal(task)
		}
		want(began.Add(time.Minute), "Second") // the first one is at work
		if _, err := r.Remove(t.Context(), identity.Operator(), first.ID); err != nil {
			t.Fatal(err)
		}
		want(began.Add(time.Minute), "Second")
	})
}
