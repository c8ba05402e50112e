package ingest

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"github.com/conductorone/baton-sdk/pkg/dotc1z/c1zstore"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// Who may bring a file and decide on it: as each role, in an app that they own, and
// in another one.
func TestWhoMayDecideOnAFile(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		ctx := t.Context()
		r.applied(wiki(10))
		people := identity.New(d, r.audit, nil, r.live, r.clock)
		_, err := people.ImportPeople(ctx, identity.Operator(), strings.NewReader("name,email\nAnn,ann@wiki.example\n"))
		check(t, err)
		ann, err := people.Find(ctx, d, "Ann")
		check(t, err)
		var other inventory.App
		check(t, d.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
			if other, err = r.inventory.AddApp(ctx, tx, identity.Operator(), inventory.App{Name: "Other"}); err != nil {
				return err
			}
			return r.inventory.SetOwners(ctx, tx, identity.Operator(), r.app.ID, []inventory.Owner{{Kind: inventory.OwnerPerson, ID: ann.ID}})
		}))
		file, err := os.ReadFile(wiki(2).write(t, c1zstore.EnginePebble))
		check(t, err)
		for _, role := range []identity.Roles{
			identity.SuperAdmin, identity.ConnectorAdmin, identity.ApplicationAdmin, identity.CampaignAdmin, identity.Auditor, identity.User,
		} {
			actor := identity.PersonActor(ann.ID, "Ann", role)
			held, _ := r.held(wiki(2))
			_, mine := r.IngestFile(ctx, actor, r.app.ID, bytes.NewReader(file))
			_, theirs := r.IngestFile(ctx, actor, other.ID, bytes.NewReader(file))
			for what, err := range map[string]error{"discard": r.Discard(ctx, actor, held.ID), "bring": mine, "bring for another": theirs} {
				may := role.Has(identity.SuperAdmin|identity.ConnectorAdmin) || role.Has(identity.ApplicationAdmin) && what != "bring for another"
				if (err == nil) != may || err != nil && !fault.Is(err, fault.Forbidden) {
					t.Errorf("%s as %s: %v", what, role, err)
				}
			}
			check(t, d.Write(ctx, func(ctx context.Context, tx *db.Tx) error { // what may be left over
				_, err := tx.Exec(ctx, "DELETE FROM sync WHERE app_id = $1 AND state IN ('held', 'comparing')", r.app.ID)
				return err
			}))
		}
	})
}
