package integration

import (
	"context"

	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// ShowSync is a sync, for somebody who looks at it.
func (s *Service) ShowSync(ctx context.Context, actor identity.Actor, syncID string) (Sync, error) {
	sync, err := syncByID(ctx, s.db, syncID)
	if err != nil {
		return Sync{}, err
	}
	return sync, inventory.Can(ctx, s.db, actor, identity.Read, sync.object())
}

// Clients are the credentials of a connector that runs elsewhere, but for those
// that are revoked.
func (s *Service) Clients(ctx context.Context, actor identity.Actor, connectorID string) ([]identity.Client, error) {
	c, err := s.Find(ctx, actor, connectorID)
	if err != nil {
		return nil, err
	}
	list, err := s.identity.Clients(ctx, s.db, c.ID)
	var valid []identity.Client
	for _, client := range list {
		if client.RevokedAt.IsZero() && client.Kind == identity.ClientConnector {
			valid = append(valid, client)
		}
	}
	return valid, err
}

// LogAfter is the part of a connector's log that follows a line, the oldest line
// first; after 0 it begins with the first there is.
func (s *Service) LogAfter(ctx context.Context, actor identity.Actor, connectorID string, after int64, limit int) ([]LogLine, error) {
	if _, err := s.Find(ctx, actor, connectorID); err != nil {
		return nil, err
	}
	return linesAfter(ctx, s.db, connectorID, after, min(max(limit, 1), mostLines))
}
