package ingest

import (
	"os"
	"strings"
	"testing"

	"github.com/conductorone/baton-sdk/pkg/dotc1z/c1zstore"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

func TestAFileBringsItsAppWithIt(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		bring := func(actor identity.Actor, name string) (string, error) {
			file, err := os.Open(wiki(3).write(t, c1zstore.EnginePebble))
			check(t, err)
			defer file.Close()
			return r.IngestNew(t.Context(), actor, inventory.App{Name: name, Managed: true}, file)
		}
		syncID, err := bring(identity.Operator(), "By hand")
		check(t, err)
		app, err := r.inventory.AppByName(t.Context(), d, "By hand")
		check(t, err)
		if sync := r.run(syncID); sync.State != integration.Applied || sync.AppID != app.ID || !app.Managed {
			t.Errorf("the sync %+v of the app %+v", sync, app)
		}
		if _, err := bring(identity.Operator(), "by hand"); !fault.Is(err, fault.Conflict) {
			t.Errorf("an app of that name: %v", err)
		}
		if _, err := bring(identity.PersonActor("1", "Ann", identity.Auditor), "Theirs"); !fault.Is(err, fault.Forbidden) {
			t.Errorf("somebody who may not: %v", err)
		}
		if _, err := r.IngestNew(t.Context(), identity.Operator(), inventory.App{Name: "Empty"}, strings.NewReader("")); !fault.Is(err, fault.Invalid) {
			t.Errorf("an empty file: %v", err)
		}
		for _, name := range []string{"Theirs", "Empty"} {
			if _, err := r.inventory.AppByName(t.Context(), d, name); !fault.Is(err, fault.NotFound) {
				t.Errorf("the app %s is there: %v", name, err)
			}
		}
	})
}
