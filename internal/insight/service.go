package insight

import (
	"context"
	"maps"
	"slices"

	"airlock/internal/base/db"
	"airlock/internal/identity"
	"airlock/internal/ingest/pack"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// Service answers what access means.
type Service struct {
	db          *db.DB
	integration *integration.Service
	packs       pack.Packs
}

// New makes the service.
func New(d *db.DB, connectors *integration.Service, packs pack.Packs) *Service {
	return &Service{db: d, integration: connectors, packs: packs}
}

// Meanings says what entitlements of an app let one do, by their ids. One that
// lets one do nothing that is known is there too, without lines.
func (s *Service) Meanings(ctx context.Context, actor identity.Actor, appID string, entitlementIDs []string) (map[string]Meaning, error) {
	if err := inventory.Can(ctx, s.db, actor, identity.Read, identity.Object{Kind: "entitlement", AppID: appID}); err != nil {
		return nil, err
	}
	meanings := make(map[string]Meaning, len(entitlementIDs))
	if len(entitlementIDs) == 0 {
		return meanings, nil
	}
	kind, err := s.integration.KindOfApp(ctx, s.db, appID)
	if err != nil {
		return nil, err
	}
	groups := slices.Sorted(maps.Keys(s.packs[kind].Groups))
	return meanings, s.db.Read(ctx, func(q *db.Snapshot) error {
		counts, err := sizes(ctx, q, appID, groups)
		if err != nil {
			return err
		}
		rows, err := given(ctx, q, appID, entitlementIDs, groups)
		if err != nil {
			return err
		}
		for _, one := range entitlementIDs {
			meanings[one] = explain(s.packs, kind, one, rows[one], counts)
		}
		return nil
	})
}
