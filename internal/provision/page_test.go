package provision

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/identity"
)

// Ids of one second are in no order: changes are listed by when they were asked for.
func TestChangesAreListedByWhenTheyWereAskedFor(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		const all = 7
		err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			for n := range all {
				c := Change{ID: fmt.Sprint("id", (n*5)%all), Kind: Grant, State: Failed, CreatedAt: begin.Add(time.Duration(n/2) * time.Millisecond)} // two at a time
				if n%2 == 0 {
					c.NextAt, c.State = begin, Running
				}
				if err := insert(ctx, tx, c); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, open := range []bool{false, true} {
			var list []Change
			for after := (Place{}); ; {
				page, err := r.Newest(t.Context(), identity.Operator(), after, open, 2)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				list = append(list, page...)
				after = Place{At: page[len(page)-1].CreatedAt, ID: page[len(page)-1].ID}
			}
			if want := map[bool]int{false: all, true: (all + 1) / 2}[open]; len(list) != want {
				t.Errorf("open %t: %d changes, not %d", open, len(list), want)
			}
			if !slices.IsSortedFunc(list, func(a, b Change) int { return b.CreatedAt.Compare(a.CreatedAt) }) {
				t.Errorf("open %t: %v", open, list)
			}
		}
		if _, err := r.Newest(t.Context(), identity.Actor{Kind: "person"}, Place{}, false, 1); err == nil {
			t.Error("anybody lists changes")
		}
	})
}
