package inventory

import (
	"context"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

// AppSettings are what people decide on an app.
type AppSettings struct {
	Name        string
	Description string
	Matching    Matching
	Directory   bool
	Owners      []Owner
}

// NewApp adds an unmanaged app with its owners.
func (s *Service) NewApp(ctx context.Context, actor identity.Actor, set AppSettings) (App, error) {
	var app App
	err := s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		app, err = s.AddApp(ctx, tx, actor, App{Name: set.Name, Description: set.Description, Matching: set.Matching, Directory: set.Directory})
		if err != nil || len(set.Owners) == 0 {
			return err
		}
		return s.SetOwners(ctx, tx, actor, app.ID, set.Owners)
	})
	return app, err
}

// Configure sets all that people decide on an app: all of it, or nothing.
func (s *Service) Configure(ctx context.Context, actor identity.Actor, appID string, set AppSettings) (App, error) {
	return s.change(ctx, actor, appID, func(ctx context.Context, tx *db.Tx, app *App) error {
		before := *app
		if err := s.rename(ctx, tx, actor, app, set.Name); err != nil {
			return err
		}
		app.Description, app.Matching, app.Directory = set.Description, set.Matching, set.Directory
		var err error
		if *app, err = app.checked(); err != nil {
			return err
		}
		if app.Matching != before.Matching {
			if err := s.enqueue(ctx, tx, RematchJob, app.ID); err != nil {
				return err
			}
		}
		if app.Description != before.Description || app.Matching != before.Matching || app.Directory != before.Directory {
			err := s.note(ctx, tx, actor, "app.changed", *app, map[string]any{
				"matching": app.Matching, "directory": app.Directory, "description": app.Description,
			})
			if err != nil {
				return err
			}
		}
		owned, err := owners(ctx, tx, appID)
		if err != nil || sameOwners(owned, set.Owners) {
			return err
		}
		return s.SetOwners(ctx, tx, actor, appID, set.Owners)
	})
}

// rename gives an app another name, if it is another.
func (s *Service) rename(ctx context.Context, tx *db.Tx, actor identity.Actor, app *App, name string) error {
	was := app.Name
	app.Name = name
	renamed, err := app.named()
	if err != nil || renamed.Name == was {
		app.Name = was
		return err
	}
	directory, err := s.toldBy(ctx, tx, *app)
	switch {
	case err != nil:
		return err
	case directory != "":
		return fault.New(fault.NotReady, "the app %q has its name from the directory %q, which would give it that again: rename it there", was, directory).At("name")
	}
	*app = renamed
	return s.note(ctx, tx, actor, "app.renamed", *app, map[string]any{"before": was})
}

func sameOwners(a, b []Owner) bool {
	is := func(list []Owner) map[Owner]bool {
		set := map[Owner]bool{}
		for _, one := range list {
			set[Owner{Kind: one.Kind, ID: one.ID}] = true
		}
		return set
	}
	first, second := is(a), is(b)
	for one := range first {
		if !second[one] {
			return false
		}
	}
	return len(first) == len(second)
}

// MostAccounts is how many accounts SetKinds changes at once.
const MostAccounts = 1000

// SetKinds says by hand what uses some accounts of an app: of all, or of none. It
// counts those whose kind is another now. That stays.
func (s *Service) SetKinds(ctx context.Context, actor identity.Actor, appID string, accountIDs []string, kind AccountKind) (changed int, err error) {
	if err := kind.check(); err != nil {
		return 0, err
	}
	switch {
	case len(accountIDs) == 0:
		return 0, fault.New(fault.Invalid, "choose accounts first; nothing was changed")
	case len(accountIDs) > MostAccounts:
		return 0, fault.New(fault.Invalid, "at most %d accounts are changed at once, and these are more; nothing was changed", MostAccounts)
	}
	err = s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		changed = 0
		for _, accountID := range accountIDs {
			account, err := s.AccountByID(ctx, tx, accountID)
			switch {
			case err != nil:
				return err
			case account.AppID != appID:
				return fault.New(fault.NotFound, "the account %q isn't of this app; nothing was changed", account.Name)
			}
			if err := mayOwn(ctx, tx, actor, account, account.PersonID); err != nil {
				return err
			}
			if account.Kind == kind && account.KindByHand {
				continue
			}
			changed++
			if err := setKind(ctx, tx, accountID, kind); err != nil {
				return err
			}
			err = s.audit.Append(ctx, tx, audit.Event{
				Actor: actor, Action: "account.kind_set", AppID: appID, Detail: map[string]any{"kind": kind, "was": account.Kind},
				Object: audit.Object{Kind: "account", ID: account.ID, Name: account.Name},
			})
			if err != nil {
				return err
			}
		}
		return s.live.Publish(ctx, tx, "app/"+appID)
	})
	return changed, err
}
