package integration

import (
	"context"
	"testing"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

func TestWhoLooksAtAPageIsShownSyncsClientsAndLogs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.connector("Bank")
		r.hello(actor, "one")
		list, err := r.Syncs(t.Context(), identity.Operator(), SyncFilter{ConnectorID: c.ID}, "", 1)
		check(t, err)
		auditor, nobody := identity.PersonActor("1", "Ann", identity.Auditor), identity.PersonActor("2", "Bob", identity.User)

		sync, err := r.ShowSync(t.Context(), auditor, list[0].ID)
		check(t, err)
		if sync.ConnectorID != c.ID {
			t.Errorf("the sync is %+v", sync)
		}
		clients, err := r.Clients(t.Context(), auditor, c.ID)
		check(t, err)
		if len(clients) != 1 {
			t.Errorf("it has the clients %+v", clients)
		}
		_, fresh, err := r.Rotate(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		clients, err = r.Clients(t.Context(), auditor, c.ID)
		check(t, err)
		if len(clients) != 1 || clients[0].ID != fresh.ClientID {
			t.Errorf("after a rotation it has the clients %+v", clients)
		}

		check(t, r.AppendLog(t.Context(), c.ID, []LogLine{{Message: "a"}, {Message: "b"}, {Message: "c"}}))
		var all []string
		for after := int64(0); ; {
			lines, err := r.LogAfter(t.Context(), auditor, c.ID, after, 2)
			check(t, err)
			if len(lines) == 0 {
				break
			}
			for _, line := range lines {
				all, after = append(all, line.Message), line.N
			}
		}
		if len(all) != 4 || all[0] != "connected" || all[3] != "c" {
			t.Errorf("the log is %q", all)
		}

		for what, ask := range map[string]func(context.Context) error{
			"a sync":  func(ctx context.Context) error { _, err := r.ShowSync(ctx, nobody, sync.ID); return err },
			"clients": func(ctx context.Context) error { _, err := r.Clients(ctx, nobody, c.ID); return err },
			"a log":   func(ctx context.Context) error { _, err := r.LogAfter(ctx, nobody, c.ID, 0, 10); return err },
		} {
			if err := ask(t.Context()); !fault.Is(err, fault.Forbidden) {
				t.Errorf("%s is shown to anybody: %v", what, err)
			}
		}
		if _, err := r.ShowSync(t.Context(), auditor, "nothing"); !fault.Is(err, fault.NotFound) {
			t.Errorf("a sync that there isn't: %v", err)
		}
	})
}
