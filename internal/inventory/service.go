package inventory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/id"
	"airlock/internal/base/live"
	"airlock/internal/identity"
)

// Service answers what there is, and changes what people decide on it. What
// connectors report comes in by the functions of bulk.go.
type Service struct {
	db     *db.DB
	audit  *audit.Log
	people *identity.Service
	live   *live.Hub
	clock  clock.Clock

	// Enqueue asks for one of this package's jobs, and InUse says why an app can't
	// be removed (an error) or that it can: set before the first call, by whoever
	// has a queue, or connectors; or nil.
	Enqueue func(ctx context.Context, tx *db.Tx, kind, row string) error
	InUse   func(ctx context.Context, tx *db.Tx, app App) error
}

// New makes the service.
func New(d *db.DB, log *audit.Log, people *identity.Service, h *live.Hub, c clock.Clock) *Service {
	return &Service{db: d, audit: log, people: people, live: h, clock: c}
}

func appObject(app App) identity.Object {
	return identity.Object{Kind: "app", ID: app.ID, AppID: app.ID}
}

// AddApp adds an app. Its name must be free.
func (s *Service) AddApp(ctx context.Context, tx *db.Tx, actor identity.Actor, app App) (App, error) {
	if err := identity.Can(actor, identity.Manage, identity.Object{Kind: "app"}); err != nil {
		return App{}, err
	}
	app, err := app.named()
	if err != nil {
		return App{}, err
	}
	if app, err = app.checked(); err != nil {
		return App{}, err
	}
	if _, err := appByKey(ctx, tx, Fold(app.Name)); err == nil {
		return App{}, fault.New(fault.Conflict, "there is an app %q already; `airlock app list` shows it", app.Name).At("name")
	} else if !errors.Is(err, sql.ErrNoRows) {
		return App{}, err
	}
	app.ID, app.CreatedAt = id.New(), s.clock.Now()
	if err := insertApp(ctx, tx, app); err != nil {
		if db.Duplicate(err) {
			return App{}, fault.New(fault.Conflict, "there is an app %q already; `airlock app list` shows it", app.Name).At("name")
		}
		return App{}, err
	}
	return app, s.note(ctx, tx, actor, "app.added", app, map[string]any{"managed": app.Managed, "source": app.Source, "matching": app.Matching, "directory": app.Directory})
}

// SetApp changes an app by a function that gets it as it is. Its name is for
// RenameApp, and what its syncs write stays theirs.
func (s *Service) SetApp(ctx context.Context, actor identity.Actor, appID string, change func(*App)) (App, error) {
	return s.change(ctx, actor, appID, func(ctx context.Context, tx *db.Tx, app *App) error {
		old := *app
		change(app)
		app.Name = old.Name
		var err error
		if *app, err = app.checked(); err != nil {
			return err
		}
		if app.Matching != old.Matching {
			if err := s.enqueue(ctx, tx, RematchJob, app.ID); err != nil {
				return err
			}
		}
		return s.note(ctx, tx, actor, "app.changed", *app, map[string]any{
			"matching": app.Matching, "directory": app.Directory, "description": app.Description,
		})
	})
}

// RenameApp gives an app another name. One that a directory tells of has its name
// from there.
func (s *Service) RenameApp(ctx context.Context, actor identity.Actor, appID, name string) (App, error) {
	return s.change(ctx, actor, appID, func(ctx context.Context, tx *db.Tx, app *App) error {
		directory, err := s.toldBy(ctx, tx, *app)
		switch {
		case err != nil:
			return err
		case directory != "":
			return fault.New(fault.NotReady, "the app %q has its name from the directory %q, which would give it that again: rename it there", app.Name, directory).At("name")
		}
		was := app.Name
		app.Name = name
		if *app, err = app.named(); err != nil {
			return err
		}
		return s.note(ctx, tx, actor, "app.renamed", *app, map[string]any{"before": was})
	})
}

// change changes an app in a transaction.
func (s *Service) change(ctx context.Context, actor identity.Actor, appID string, change func(ctx context.Context, tx *db.Tx, app *App) error) (App, error) {
	var app App
	err := s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if app, err = s.AppByID(ctx, tx, appID); err != nil {
			return err
		}
		if err := Can(ctx, tx, actor, identity.Manage, appObject(app)); err != nil {
			return err
		}
		if err := change(ctx, tx, &app); err != nil {
			return err
		}
		err = updateApp(ctx, tx, app)
		if db.Duplicate(err) {
			return fault.New(fault.Conflict, "there is another app %q; this one keeps its name", app.Name).At("name")
		}
		return err
	})
	return app, err
}

// toldBy is the name of the directory that tells of an app, or "".
func (s *Service) toldBy(ctx context.Context, q db.Querier, app App) (string, error) {
	if app.Source == SourceManual || app.Source == SourceConnector || !app.RemovedAt.IsZero() {
		return "", nil
	}
	directory, err := none(appByID(ctx, q, app.Source))
	if !directory.Directory {
		return "", err
	}
	return directory.Name, err
}

// RemoveApp removes an app that has no connector: it is in no list from then on,
// its name is free, and RemoveJob deletes what is in it. It stays on record, with
// its past grants (those that were there become past) for as long as these are
// kept; whom it told of as a directory stay as if a file had brought them, and
// apps that it told of stay as if somebody had added them.
func (s *Service) RemoveApp(ctx context.Context, actor identity.Actor, appID string) (App, error) {
	held, err := s.Holdings(ctx, actor, appID) // which may take long, and without a connector nothing changes
	if err != nil {
		return App{}, err
	}
	var app App
	err = s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := lockApp(ctx, tx, appID); err != nil {
			return err
		}
		if app, err = s.AppByID(ctx, tx, appID); err != nil {
			return err
		}
		if err := Can(ctx, tx, actor, identity.Manage, appObject(app)); err != nil {
			return err
		}
		directory, err := s.toldBy(ctx, tx, app)
		switch {
		case err != nil:
			return err
		case directory != "":
			return fault.New(fault.NotReady, "the directory %q tells of the app %q, and would bring it back: remove it there; nothing was removed", directory, app.Name)
		}
		ingesting, err := db.Value[string](ctx, tx, `SELECT ingest_id FROM app WHERE id = $1`, appID)
		switch {
		case err != nil:
			return err
		case ingesting != "":
			return fault.New(fault.NotReady, "a sync of the app %q is being taken in: try again when it is over; nothing was removed", app.Name)
		}
		if s.InUse != nil {
			if err := s.InUse(ctx, tx, app); err != nil {
				return err
			}
		}
		app.RemovedAt = s.clock.Now()
		if err := removeApp(ctx, tx, appID, app.RemovedAt); err != nil {
			return err
		}
		if err := s.enqueue(ctx, tx, RemoveJob, appID); err != nil {
			return err
		}
		return s.note(ctx, tx, actor, "app.removed", app, held)
	})
	return app, err
}

// Holdings counts what RemoveApp would remove with an app.
func (s *Service) Holdings(ctx context.Context, actor identity.Actor, appID string) (Holdings, error) {
	app, err := s.AppByID(ctx, s.db, appID)
	if err != nil {
		return Holdings{}, err
	}
	if err := Can(ctx, s.db, actor, identity.Read, appObject(app)); err != nil {
		return Holdings{}, err
	}
	held, err := count(ctx, s.db, appID)
	if err == nil {
		held.People, err = s.people.CountDirectory(ctx, s.db, appID)
	}
	if err != nil {
		return Holdings{}, fmt.Errorf("count what is in the app: %w", err)
	}
	return held, nil
}

func (s *Service) enqueue(ctx context.Context, tx *db.Tx, kind, row string) error {
	if s.Enqueue == nil {
		return nil
	}
	return s.Enqueue(ctx, tx, kind, row)
}

// Manage makes an unmanaged app a managed one: it gets a connector.
func (s *Service) Manage(ctx context.Context, tx *db.Tx, actor identity.Actor, appID string) (App, error) {
	app, err := s.AppByID(ctx, tx, appID)
	if err != nil {
		return App{}, err
	}
	if err := Can(ctx, tx, actor, identity.Manage, appObject(app)); err != nil {
		return App{}, err
	}
	app.Managed, app.RemovedAt = true, time.Time{}
	if err := updateApp(ctx, tx, app); err != nil {
		return App{}, err
	}
	return app, s.note(ctx, tx, actor, "app.managed", app, nil)
}

// AppByID finds an app.
func (s *Service) AppByID(ctx context.Context, q db.Querier, appID string) (App, error) {
	app, err := appByID(ctx, q, appID)
	if errors.Is(err, sql.ErrNoRows) {
		return app, noApp(appID)
	}
	return app, err
}

// AppOnRecord finds an app, also one that was removed, to name what is on record
// of it.
func (s *Service) AppOnRecord(ctx context.Context, q db.Querier, appID string) (App, error) {
	app, err := appOnRecord(ctx, q, appID)
	if errors.Is(err, sql.ErrNoRows) {
		return app, noApp(appID)
	}
	return app, err
}

func noApp(appID string) error {
	return fault.New(fault.NotFound, "there is no app with the id %q", appID)
}

// AppByName finds an app by its name, or by its id.
func (s *Service) AppByName(ctx context.Context, q db.Querier, name string) (App, error) {
	app, err := appByKey(ctx, q, Fold(name))
	if errors.Is(err, sql.ErrNoRows) {
		app, err = appByID(ctx, q, name)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return app, fault.New(fault.NotFound, "there is no app %q; `airlock app list` names them", name)
	}
	return app, err
}

// Apps lists apps by name, also those that their directory doesn't tell of any
// more, after a key: all, or those that the actor owns.
func (s *Service) Apps(ctx context.Context, actor identity.Actor, after Key, limit int) ([]App, error) {
	only, err := CanList(ctx, s.db, actor, identity.Read, identity.Object{Kind: "app"})
	if err != nil {
		return nil, err
	}
	return appsOf(ctx, s.db, only, after, limit)
}

// Owners lists the owners of an app.
func (s *Service) Owners(ctx context.Context, q db.Querier, appID string) ([]Owner, error) {
	return owners(ctx, q, appID)
}

// SetOwners says who owns an app, all of them.
func (s *Service) SetOwners(ctx context.Context, tx *db.Tx, actor identity.Actor, appID string, list []Owner) error {
	app, err := s.AppByID(ctx, tx, appID)
	if err != nil {
		return err
	}
	if err := Can(ctx, tx, actor, identity.Manage, appObject(app)); err != nil {
		return err
	}
	count := map[OwnerKind]int{}
	for _, owner := range list {
		count[owner.Kind]++
		known, err := ownerExists(ctx, tx, owner)
		switch {
		case err != nil:
			return err
		case !known:
			return fault.New(fault.NotFound, "there is no %s with the id %q; the owners of %s stay as they are", owner.Kind, owner.ID, app.Name).At("owners")
		case count[owner.Kind] > mostOwners:
			return fault.New(fault.Invalid, "an app has at most %d owners of a kind; the owners of %s stay as they are", mostOwners, app.Name).At("owners")
		}
	}
	if err := setOwners(ctx, tx, appID, list, s.clock.Now()); err != nil {
		return err
	}
	return s.note(ctx, tx, actor, "app.owners_set", app, map[string]any{"owners": list})
}

// note writes the audit event of a change of an app, and tells pages of it.
func (s *Service) note(ctx context.Context, tx *db.Tx, actor identity.Actor, action string, app App, detail any) error {
	err := s.audit.Append(ctx, tx, audit.Event{
		Actor: actor, Action: action, AppID: app.ID, Detail: detail,
		Object: audit.Object{Kind: "app", ID: app.ID, Name: app.Name},
	})
	if err != nil {
		return err
	}
	return s.live.Publish(ctx, tx, "app/"+app.ID)
}

// Types lists an app's resource types with the number of their resources.
func (s *Service) Types(ctx context.Context, actor identity.Actor, appID string) ([]Type, error) {
	if err := Can(ctx, s.db, actor, identity.Read, identity.Object{Kind: "app", ID: appID, AppID: appID}); err != nil {
		return nil, err
	}
	return types(ctx, s.db, appID)
}

// ResourceFilter says which resources are asked for; its zero fields all.
type ResourceFilter struct {
	AppID  string
	TypeID string
	Search string // part of a name or id

	only []string // apps that it is limited to; nil is all
}

// Resources lists resources by name, after a key.
func (s *Service) Resources(ctx context.Context, actor identity.Actor, filter ResourceFilter, after Key, limit int) ([]Resource, error) {
	only, err := CanList(ctx, s.db, actor, identity.Read, identity.Object{Kind: "app", ID: filter.AppID, AppID: filter.AppID})
	if err != nil {
		return nil, err
	}
	filter.only = only
	return resources(ctx, s.db, filter, after, limit)
}

// ResourceByID finds a resource.
func (s *Service) ResourceByID(ctx context.Context, q db.Querier, resourceID string) (Resource, error) {
	resource, err := resourceByID(ctx, q, resourceID)
	if errors.Is(err, sql.ErrNoRows) {
		return resource, fault.New(fault.NotFound, "there is no resource with the id %q", resourceID)
	}
	return resource, err
}

// AccountFilter says which accounts are asked for; its zero fields all.
type AccountFilter struct {
	AppID     string
	PersonID  string
	Kind      AccountKind
	Status    AccountStatus
	Unmatched bool // that belong to nobody
	Orphaned  bool // whose person left
	Search    string

	only []string // apps that it is limited to; nil is all
}

// Accounts lists accounts by name, after a key. Everybody may list their own.
func (s *Service) Accounts(ctx context.Context, actor identity.Actor, filter AccountFilter, after Key, limit int) ([]Account, error) {
	only, err := CanList(ctx, s.db, actor, identity.Read, identity.Object{Kind: "account", AppID: filter.AppID, SubjectID: filter.PersonID})
	if err != nil {
		return nil, err
	}
	filter.only = only
	return accounts(ctx, s.db, filter, after, limit)
}

// AccountByID finds an account.
func (s *Service) AccountByID(ctx context.Context, q db.Querier, accountID string) (Account, error) {
	account, err := accountByID(ctx, q, accountID)
	if errors.Is(err, sql.ErrNoRows) {
		return account, fault.New(fault.NotFound, "there is no account with the id %q", accountID)
	}
	return account, err
}

// Link says by hand whose an account is; no person says that it is nobody's.
// That stays until somebody says otherwise. Nobody does so of their own accounts, nor
// makes one their own.
func (s *Service) Link(ctx context.Context, actor identity.Actor, accountID, personID string) error {
	return s.account(ctx, actor, accountID, func(ctx context.Context, tx *db.Tx, account Account) (string, map[string]any, error) {
		if err := mayOwn(ctx, tx, actor, account, personID); err != nil {
			return "", nil, err
		}
		if personID == "" {
			return "account.unlinked", map[string]any{"was": account.PersonID}, setPerson(ctx, tx, accountID, "", ByHand, s.clock.Now())
		}
		known, err := ownerExists(ctx, tx, Owner{Kind: OwnerPerson, ID: personID})
		if err != nil {
			return "", nil, err
		}
		if !known {
			return "", nil, fault.New(fault.NotFound, "there is no person with the id %q; the account %q stays as it is", personID, account.Name)
		}
		return "account.linked", map[string]any{"person": personID, "was": account.PersonID}, setPerson(ctx, tx, accountID, personID, ByHand, s.clock.Now())
	})
}

// Free takes back what was said by hand: the account is matched like others.
func (s *Service) Free(ctx context.Context, actor identity.Actor, accountID string) error {
	return s.account(ctx, actor, accountID, func(ctx context.Context, tx *db.Tx, account Account) (string, map[string]any, error) {
		if err := setPerson(ctx, tx, accountID, "", "", time.Time{}); err != nil {
			return "", nil, err
		}
		app, err := s.AppByID(ctx, tx, account.AppID)
		if err != nil {
			return "", nil, err
		}
		free, err := matchables(ctx, tx, app.ID, []string{accountID})
		if err != nil {
			return "", nil, err
		}
		matches, err := s.matches(ctx, tx, app, free)
		if err != nil {
			return "", nil, err
		}
		for _, match := range matches {
			if err := mayOwn(ctx, tx, actor, account, match.personID); err != nil {
				return "", nil, err
			}
		}
		return "account.freed", map[string]any{"was": account.PersonID}, setMatches(ctx, tx, matches, s.clock.Now())
	})
}

// SetKind says by hand what uses an account. That stays.
func (s *Service) SetKind(ctx context.Context, actor identity.Actor, accountID string, kind AccountKind) error {
	if err := kind.check(); err != nil {
		return err
	}
	return s.account(ctx, actor, accountID, func(ctx context.Context, tx *db.Tx, account Account) (string, map[string]any, error) {
		return "account.kind_set", map[string]any{"kind": kind, "was": account.Kind}, setKind(ctx, tx, accountID, kind)
	})
}

// mayOwn is whether somebody may change an account that is, or will be, a person's.
func mayOwn(ctx context.Context, q db.Querier, actor identity.Actor, account Account, personID string) error {
	return Can(ctx, q, actor, identity.Manage, identity.Object{Kind: "account", ID: account.ID, AppID: account.AppID, SubjectID: personID})
}

// account changes an account, and notes the change.
func (s *Service) account(ctx context.Context, actor identity.Actor, accountID string, change func(context.Context, *db.Tx, Account) (string, map[string]any, error)) error {
	return s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		account, err := s.AccountByID(ctx, tx, accountID)
		if err != nil {
			return err
		}
		if err := mayOwn(ctx, tx, actor, account, account.PersonID); err != nil {
			return err
		}
		action, detail, err := change(ctx, tx, account)
		if err != nil {
			return err
		}
		err = s.audit.Append(ctx, tx, audit.Event{
			Actor: actor, Action: action, AppID: account.AppID, Detail: detail,
			Object: audit.Object{Kind: "account", ID: account.ID, Name: account.Name},
		})
		if err != nil {
			return err
		}
		return s.live.Publish(ctx, tx, "app/"+account.AppID)
	})
}

// EntitlementFilter says which entitlements are asked for; its zero fields all.
type EntitlementFilter struct {
	AppID      string
	ResourceID string
	Search     string

	only []string // apps that it is limited to; nil is all
}

// Entitlements lists entitlements by name, after a key.
func (s *Service) Entitlements(ctx context.Context, actor identity.Actor, filter EntitlementFilter, after Key, limit int) ([]Entitlement, error) {
	only, err := CanList(ctx, s.db, actor, identity.Read, identity.Object{Kind: "entitlement", AppID: filter.AppID})
	if err != nil {
		return nil, err
	}
	filter.only = only
	return entitlements(ctx, s.db, filter, after, limit)
}

// EntitlementByID finds an entitlement.
func (s *Service) EntitlementByID(ctx context.Context, q db.Querier, entitlementID string) (Entitlement, error) {
	entitlement, err := entitlementByID(ctx, q, entitlementID)
	if errors.Is(err, sql.ErrNoRows) {
		return entitlement, fault.New(fault.NotFound, "there is no entitlement with the id %q", entitlementID)
	}
	return entitlement, err
}

// SetRules changes what people decide on an entitlement, by a function that gets
// it as it is.
func (s *Service) SetRules(ctx context.Context, actor identity.Actor, entitlementID string, change func(*Rules)) error {
	return s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		entitlement, err := s.EntitlementByID(ctx, tx, entitlementID)
		if err != nil {
			return err
		}
		if err := Can(ctx, tx, actor, identity.Manage, identity.Object{Kind: "entitlement", ID: entitlement.ID, AppID: entitlement.AppID}); err != nil {
			return err
		}
		rules := entitlement.Rules
		change(&rules)
		if err := rules.check(); err != nil {
			return err
		}
		if rules.OwnerID != "" {
			known, err := ownerExists(ctx, tx, Owner{Kind: OwnerPerson, ID: rules.OwnerID})
			if err != nil {
				return err
			}
			if !known {
				return fault.New(fault.NotFound, "there is no person with the id %q; %s stays as it is", rules.OwnerID, entitlement.ExternalID).At("owner")
			}
		}
		if err := setRules(ctx, tx, entitlementID, rules); err != nil {
			return err
		}
		err = s.audit.Append(ctx, tx, audit.Event{
			Actor: actor, Action: "entitlement.changed", AppID: entitlement.AppID,
			Object: audit.Object{Kind: "entitlement", ID: entitlement.ID, Name: entitlement.ExternalID},
			Detail: map[string]any{"risk": rules.Risk, "requestable": rules.Requestable, "longest_s": int64(rules.Longest / time.Second), "owner": rules.OwnerID},
		})
		if err != nil {
			return err
		}
		return s.live.Publish(ctx, tx, "app/"+entitlement.AppID)
	})
}

// FindEntitlement finds an entitlement of an app by its external id, or by a name
// that only one has: its own, or its resource's and its own.
func (s *Service) FindEntitlement(ctx context.Context, appID, idOrName string) (Entitlement, error) {
	if err := checkID("entitlement", idOrName); err != nil {
		return Entitlement{}, err
	}
	list, err := entitlementsByExternalID(ctx, s.db, appID, idOrName)
	if err != nil {
		return Entitlement{}, err
	}
	if len(list) == 0 {
		if list, err = entitlementsNamed(ctx, s.db, appID, idOrName); err != nil {
			return Entitlement{}, err
		}
	}
	if len(list) == 1 {
		return list[0], nil
	}
	var names []string
	for _, e := range list {
		names = append(names, e.ExternalID)
	}
	return Entitlement{}, notOne("entitlement", idOrName, names)
}

// FindPrincipal finds a resource of an app, first of all an account, by its
// external id, by type:id, or by a name that only one has: a display name, a
// login, an e-mail address.
func (s *Service) FindPrincipal(ctx context.Context, appID, idOrName string) (Resource, error) {
	if err := checkID("account", idOrName); err != nil {
		return Resource{}, err
	}
	list, err := resourcesByExternalID(ctx, s.db, appID, idOrName)
	if err != nil {
		return Resource{}, err
	}
	if len(list) == 0 {
		if list, err = resourcesNamed(ctx, s.db, appID, idOrName); err != nil {
			return Resource{}, err
		}
	}
	if len(list) > 1 {
		var signIns []found
		for _, one := range list {
			if one.account {
				signIns = append(signIns, one)
			}
		}
		if len(signIns) == 1 {
			list = signIns
		}
	}
	if len(list) == 1 {
		return list[0].Resource, nil
	}
	var names []string
	for _, one := range list {
		names = append(names, one.Type+":"+one.ExternalID)
	}
	return Resource{}, notOne("account", idOrName, names)
}

// checkID refuses what can't be the id or name of anything: it would be too long
// a pattern to look for.
func checkID(what, idOrName string) error {
	if len(idOrName) <= LongestID {
		return nil
	}
	begin := strings.ToValidUTF8(idOrName[:60], "")
	return fault.New(fault.Invalid, "there is no %s %q…: that has %d bytes, and an id or name has at most %d", what, begin, len(idOrName), LongestID)
}

// notOne says that a name means nothing, or too much.
func notOne(what, name string, candidates []string) error {
	if len(candidates) == 0 {
		return fault.New(fault.NotFound, "there is no %s %q in this app; `airlock export %ss` lists them", what, name, what)
	}
	const most = 10
	shown, more := candidates, ""
	if len(shown) > most {
		shown, more = shown[:most], fmt.Sprintf(" and %d more", len(candidates)-most)
	}
	return fault.New(fault.Conflict, "%q could be %d: %s%s; give the id of one", name, len(candidates), strings.Join(shown, ", "), more)
}

// RecordGrant notes that a connector made a grant, and why. It is there from now
// on, unless it was before.
func (s *Service) RecordGrant(ctx context.Context, tx *db.Tx, appID, entitlementID, principalID string, reason Reason) error {
	if err := lockApp(ctx, tx, appID); err != nil {
		return err
	}
	now := s.clock.Now()
	if reason.Since.IsZero() {
		reason.Since = now
	}
	known, err := grantable(ctx, tx, appID, entitlementID, principalID)
	if err != nil {
		return err
	}
	if !known { // a sync removed one of the two; the next one tells
		return fault.New(fault.NotFound, "the entitlement %s or the principal %s isn't in the inventory any more; the grant wasn't noted", entitlementID, principalID)
	}
	if err := putGrant(ctx, tx, appID, entitlementID, principalID, now); err != nil {
		return err
	}
	if err := putReason(ctx, tx, entitlementID, principalID, reason); err != nil {
		return err
	}
	return s.live.Publish(ctx, tx, "app/"+appID)
}

// RecordRevoke notes that a connector took a grant away: it becomes past, and its
// reasons go.
func (s *Service) RecordRevoke(ctx context.Context, tx *db.Tx, appID, entitlementID, principalID string) error {
	if err := lockApp(ctx, tx, appID); err != nil {
		return err
	}
	now := s.clock.Now()
	ended, err := EndGrants(ctx, tx, appID, []Pair{{entitlementID, principalID}}, Ending{At: now})
	if err != nil {
		return err
	}
	if len(ended) == 0 {
		// A sync that is under way may have seen it before: this says that it is gone.
		if err := insertNeverSeen(ctx, tx, appID, Pair{entitlementID, principalID}, now); err != nil {
			return err
		}
	}
	return s.live.Publish(ctx, tx, "app/"+appID)
}

// Reasons lists why a grant is there.
func (s *Service) Reasons(ctx context.Context, q db.Querier, entitlementID, principalID string) ([]Reason, error) {
	return reasons(ctx, q, entitlementID, principalID)
}

// PastGrants lists the grants that ended, of an entitlement or of a principal,
// the latest first; before is the place that the last page ended at.
func (s *Service) PastGrants(ctx context.Context, actor identity.Actor, filter PastFilter, before PastKey, limit int) ([]PastGrant, error) {
	subject, err := s.PersonOf(ctx, s.db, filter.PrincipalID)
	if err != nil {
		return nil, err
	}
	only, err := CanList(ctx, s.db, actor, identity.Read, identity.Object{Kind: "grant", AppID: filter.AppID, SubjectID: subject})
	if err != nil {
		return nil, err
	}
	filter.only = only
	return pastGrants(ctx, s.db, filter, before, limit)
}

// PastFilter says which past grants are asked for; its zero fields all.
type PastFilter struct {
	AppID, EntitlementID, PrincipalID string

	only []string // apps that it is limited to; nil is all
}

// PastKey is a place in a list of past grants; the zero PastKey is the start.
type PastKey struct {
	Until time.Time
	ID    string
}
