package inventory

import (
	"context"
	"database/sql"
	"errors"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
)

// DirectGrant is what is known of a direct grant: its ids, since when, which
// sync saw it first ("" before one has), whether it can be revoked. There may be
// none: fault.NotFound.
func (s *Service) DirectGrant(ctx context.Context, q db.Querier, appID, entitlementID, principalID string) (Grant, error) {
	grant, err := db.One(ctx, q, func(row db.Scanner) (g Grant, err error) {
		var flags int64
		err = row.Scan(&g.ExternalID, &flags, db.Time(&g.Since), &g.SyncID)
		g.Immutable = flags&FlagImmutable != 0
		return g, err
	}, `SELECT external_id, flags, since, sync_id FROM access_grant WHERE app_id = $1 AND entitlement_id = $2 AND principal_id = $3`,
		appID, entitlementID, principalID)
	if errors.Is(err, sql.ErrNoRows) {
		return Grant{}, fault.New(fault.NotFound, "the principal %s doesn't hold the entitlement %s directly", principalID, entitlementID)
	}
	grant.AppID, grant.EntitlementID, grant.PrincipalID, grant.Direct = appID, entitlementID, principalID, true
	return grant, err
}
