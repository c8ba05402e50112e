package inventory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"

	"airlock/internal/base/db"
	"airlock/internal/identity"
)

// NameFirst gives an app that came with its connector a name, or that with a number
// behind it if another app has it, as long as its name is one that was given
// without anybody knowing what it is.
func (s *Service) NameFirst(ctx context.Context, tx *db.Tx, actor identity.Actor, appID string, given *regexp.Regexp, name string) error {
	app, err := s.AppByID(ctx, tx, appID)
	if err != nil {
		return err
	}
	if err := identity.Can(actor, identity.Manage, appObject(app)); err != nil {
		return err
	}
	if app.Source != SourceConnector || !given.MatchString(app.Name) {
		return nil
	}
	was := app.Name
	for n := 1; ; n++ {
		app.Name = name
		if n > 1 {
			app.Name = fmt.Sprintf("%s %d", name, n)
		}
		if _, err := appByKey(ctx, tx, Fold(app.Name)); errors.Is(err, sql.ErrNoRows) {
			break
		} else if err != nil {
			return err
		}
	}
	if err := updateApp(ctx, tx, app); err != nil {
		return err
	}
	return s.note(ctx, tx, actor, "app.renamed", app, map[string]any{"before": was})
}
