package ingest

import (
	"context"
	"fmt"
	"io"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/identity"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// IngestNew takes a file that was brought by hand as what a new app holds. Neither
// is there unless both are.
func (s *Service) IngestNew(ctx context.Context, actor identity.Actor, app inventory.App, from io.Reader) (syncID string, err error) {
	if err := identity.Can(actor, identity.Manage, identity.Object{Kind: "app"}); err != nil {
		return "", err
	}
	file, err := s.integration.StoreFile(ctx, integration.FileC1Z, "", from, 0)
	if err != nil {
		return "", fmt.Errorf("take the file for %s: %w", app.Name, err)
	}
	err = s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		added, err := s.inventory.AddApp(ctx, tx, actor, app)
		if err != nil {
			return err
		}
		if syncID, err = s.integration.AddFileSync(ctx, tx, actor, added.ID, file); err != nil {
			return err
		}
		return s.audit.Append(ctx, tx, audit.Event{
			Actor: actor, Action: "app.file_brought", AppID: added.ID, Object: audit.Object{Kind: "app", ID: added.ID, Name: added.Name},
			Detail: map[string]any{"file": file.SHA256, "bytes": file.Size, "sync": syncID},
		})
	})
	return syncID, err
}
