package inventory

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/id"
	"airlock/internal/identity"
)

// Directory makes people of the accounts of a directory's app, and unmanaged apps
// of the app resources that it tells of. Whose accounts they are is another job:
// RematchJob. The audit log has an entry of the people that changed, and one of
// the apps.
func (s *Service) Directory(ctx context.Context, actor identity.Actor, app App) error {
	if err := Can(ctx, s.db, actor, identity.Manage, appObject(app)); err != nil {
		return err
	}
	var people []identity.DirectoryPerson
	var told []Resource
	err := s.db.Read(ctx, func(q *db.Snapshot) (err error) {
		if people, err = directoryPeople(ctx, q, app.ID); err != nil {
			return err
		}
		told, err = appResources(ctx, q, app.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("read the directory %s: %w", app.Name, err)
	}
	note := func(ctx context.Context, tx *db.Tx, detail map[string]any) error {
		return s.audit.Append(ctx, tx, audit.Event{
			Actor: actor, Action: "directory.read", AppID: app.ID, Object: audit.Object{Kind: "app", ID: app.ID, Name: app.Name}, Detail: detail,
		})
	}
	_, err = s.people.ReadDirectory(ctx, app.ID, people, func(ctx context.Context, tx *db.Tx, result identity.ImportResult) error {
		return note(ctx, tx, map[string]any{"people": result})
	})
	if err != nil {
		return err
	}
	return s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		apps, err := s.tellApps(ctx, tx, app, told)
		if err != nil || apps == 0 {
			return err
		}
		return note(ctx, tx, map[string]any{"apps": apps})
	})
}

// tellApps adds, renames and removes the unmanaged apps that a directory tells of;
// it returns how many changed.
func (s *Service) tellApps(ctx context.Context, tx *db.Tx, directory App, told []Resource) (changed int, err error) {
	known, err := db.All(ctx, tx, scanApp, `SELECT `+appColumns+` FROM app WHERE source = $1 AND `+present, directory.ID)
	if err != nil {
		return 0, err
	}
	gone := map[string]App{}
	for _, app := range known {
		gone[app.ExternalID] = app
	}
	now := s.clock.Now()
	for _, resource := range told {
		externalID := resource.Type + ":" + resource.ExternalID
		app, there := gone[externalID]
		delete(gone, externalID)
		name, description := cmp.Or(identity.Shown(resource.Name, 150), identity.Shown(externalID, 150)), identity.Shown(resource.Description, mostDescription)
		switch {
		case !there:
			app = App{ID: id.New(), Source: directory.ID, ExternalID: externalID, Matching: Narrow, CreatedAt: now}
		case app.RemovedAt.IsZero() && app.Description == description && strings.HasPrefix(app.Name, name):
			continue
		}
		app.Name, app.Description, app.RemovedAt = name, description, time.Time{}
		// Another app may have the name: the directory's, or the id, tells them apart.
		for _, more := range []string{"", " (" + directory.Name + ")", " (" + app.ID + ")"} {
			app.Name = name + more
			other, err := appByKey(ctx, tx, Fold(app.Name))
			if errors.Is(err, sql.ErrNoRows) || err == nil && other.ID == app.ID {
				break
			}
			if err != nil {
				return 0, err
			}
		}
		if there {
			err = updateApp(ctx, tx, app)
		} else {
			err = insertApp(ctx, tx, app)
		}
		if err != nil {
			return 0, err
		}
		changed++
	}
	for _, app := range gone {
		if app.Managed || !app.RemovedAt.IsZero() {
			continue
		}
		app.RemovedAt = now
		if err := updateApp(ctx, tx, app); err != nil {
			return 0, err
		}
		changed++
	}
	return changed, nil
}

// directoryPeople are the accounts of a directory's app as people.
func directoryPeople(ctx context.Context, q db.Querier, appID string) ([]identity.DirectoryPerson, error) {
	return db.All(ctx, q, func(row db.Scanner) (p identity.DirectoryPerson, err error) {
		var keys identity.Keys
		var kind AccountKind
		var status AccountStatus
		if err := row.Scan(&p.ExternalID, &p.Name, db.JSON(&p.Profile), db.JSON(&keys), &kind, &status); err != nil {
			return p, err
		}
		p.Emails, p.Usernames, p.EmployeeIDs = keys.Emails, keys.Usernames, keys.EmployeeIDs
		if kind != UnknownKind {
			p.Kind = string(kind)
		}
		if status != UnknownStatus {
			p.Status = string(status)
		}
		text := func(names ...string) string {
			for _, name := range names {
				if value, ok := p.Profile[name].(string); ok && value != "" {
					return value
				}
			}
			return ""
		}
		p.Department = text("department")
		p.JobTitle = text("job_title", "title")
		p.ManagerID = text("manager_id")
		if p.ManagerEmail = text("manager_email", "manager"); !strings.Contains(p.ManagerEmail, "@") {
			p.ManagerEmail = ""
		}
		return p, nil
	}, `SELECT r.external_id, r.name, r.profile, a.keys, a.kind, a.status FROM account a JOIN resource r ON r.id = a.id WHERE a.app_id = $1 ORDER BY a.id`, appID)
}

// appResources are the resources of an app that are apps themselves.
func appResources(ctx context.Context, q db.Querier, appID string) ([]Resource, error) {
	var list []Resource
	kinds, err := types(ctx, q, appID)
	if err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		if !slices.Contains(kind.Traits, "app") {
			continue
		}
		of, err := resources(ctx, q, ResourceFilter{AppID: appID, TypeID: kind.ID}, Key{}, mostApps)
		if err != nil {
			return nil, err
		}
		list = append(list, of...)
	}
	return list, nil
}

// mostApps is how many apps of a type a directory tells of.
const mostApps = 100_000
