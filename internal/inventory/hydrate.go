package inventory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"google.golang.org/protobuf/proto"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
)

// Connectors read more of what they are asked to change than its id. These give
// it to them as whole as they once sent it.

// SentResource is a resource as its connector sent it.
func (s *Service) SentResource(ctx context.Context, q db.Querier, resourceID string) (*v2.Resource, error) {
	var resource v2.Resource
	if err := sent(ctx, q, `SELECT source FROM resource WHERE id = $1`, resourceID, &resource); err != nil {
		return nil, fmt.Errorf("read the resource %s: %w", resourceID, err)
	}
	return &resource, nil
}

// SentEntitlement is an entitlement as its connector sent it, with its resource.
func (s *Service) SentEntitlement(ctx context.Context, q db.Querier, entitlementID string) (*v2.Entitlement, error) {
	var entitlement v2.Entitlement
	if err := sent(ctx, q, `SELECT source FROM entitlement WHERE id = $1`, entitlementID, &entitlement); err != nil {
		return nil, fmt.Errorf("read the entitlement %s: %w", entitlementID, err)
	}
	resourceID, err := db.Value[string](ctx, q, `SELECT resource_id FROM entitlement WHERE id = $1`, entitlementID)
	if err != nil {
		return nil, fmt.Errorf("read the entitlement %s: %w", entitlementID, err)
	}
	resource, err := s.SentResource(ctx, q, resourceID)
	if err != nil {
		return nil, err
	}
	entitlement.SetResource(resource)
	return &entitlement, nil
}

// SentGrant is a grant as its connector would send it, whether it is there or not.
func (s *Service) SentGrant(ctx context.Context, q db.Querier, entitlementID, principalID string) (*v2.Grant, error) {
	entitlement, err := s.SentEntitlement(ctx, q, entitlementID)
	if err != nil {
		return nil, err
	}
	principal, err := s.SentResource(ctx, q, principalID)
	if err != nil {
		return nil, err
	}
	externalID, err := none(db.Value[string](ctx, q, `SELECT g.external_id FROM access_grant g JOIN entitlement e ON e.app_id = g.app_id AND e.id = g.entitlement_id
		WHERE g.entitlement_id = $1 AND g.principal_id = $2`, entitlementID, principalID))
	if err != nil {
		return nil, fmt.Errorf("read the grant: %w", err)
	}
	if externalID == "" {
		externalID = GrantID(entitlement.GetId(), principal.GetId().GetResourceType(), principal.GetId().GetResource())
	}
	return v2.Grant_builder{Id: externalID, Entitlement: entitlement, Principal: principal}.Build(), nil
}

// GrantID is the id that most connectors give a grant.
func GrantID(entitlement, principalType, principal string) string {
	return entitlement + ":" + principalType + ":" + principal
}

func sent(ctx context.Context, q db.Querier, query, rowID string, message proto.Message) error {
	source, err := db.Value[[]byte](ctx, q, query, rowID)
	if errors.Is(err, sql.ErrNoRows) {
		return fault.New(fault.NotFound, "it isn't in the inventory any more")
	}
	if err != nil {
		return err
	}
	return proto.Unmarshal(source, message)
}
