package server

import (
	"strings"
	"testing"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/edge/admin"
	"airlock/internal/identity"
)

// What a change of people, or of an app, asks for reaches the packages above.
func TestPeopleAndAppsAreKnownToThoseAbove(t *testing.T) {
	settings := settingsOf(t, variables(t))
	s := started(t, settings)
	ctx, operator := t.Context(), identity.Operator()
	if err := admin.Dial(settings.DataDir).Call(ctx, "connector/add", admin.AddConnector{Catalog: "tiny", App: "Bank", Name: "bank-1"}, nil, admin.Answer{}); err != nil {
		t.Fatal(err)
	}
	app, err := s.inventory.AppByName(ctx, s.db, "Bank")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.inventory.RemoveApp(ctx, operator, app.ID); !fault.Is(err, fault.NotReady) || !strings.Contains(err.Error(), `the connector "bank-1"`) {
		t.Error(err)
	}
	if _, err := s.integration.Remove(ctx, operator, "bank-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.inventory.RemoveApp(ctx, operator, app.ID); err != nil {
		t.Error(err)
	}
	if _, err := s.identity.ImportPeople(ctx, operator, strings.NewReader("email\nann@example.com\n")); err != nil {
		t.Error(err)
	}
	for _, like := range []string{"%inventory.remove%" + app.ID + "%", "%inventory.rematch%"} {
		if n, err := db.Value[int](ctx, s.db, "SELECT COUNT(*) FROM river_job WHERE CAST(args AS TEXT) LIKE $1", like); err != nil || n == 0 {
			t.Errorf("no job like %s: %v", like, err)
		}
	}
}
