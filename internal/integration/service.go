package integration

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"google.golang.org/grpc/codes"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/id"
	"airlock/internal/base/job"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// Config is what a Service needs.
type Config struct {
	DB        *db.DB
	Jobs      *job.Queue
	Live      *live.Hub
	Audit     *audit.Log
	Vault     *seal.Vault
	Identity  *identity.Service
	Inventory *inventory.Service
	Clock     clock.Clock
	Log       *slog.Logger

	// PublicHost is the host, with its port unless that is 443, that Client IDs carry.
	PublicHost string
	// Form finds the settings form of a catalog name; fault.NotFound says that there
	// is no such binary here.
	Form func(ctx context.Context, catalog string) (Form, error)
	// Known reports whether there are words for what connectors of a kind tell, by
	// which the kind of one is chosen that doesn't say it outright. May be nil.
	Known func(kind string) bool
	// OnEvents is told of each page of events of a connector, at least once. May be
	// nil. Resources that changed are synced anyway.
	OnEvents func(ctx context.Context, connectorID string, events []*v2.Event) error

	Limits Limits
}

// Form is a connector's settings form.
type Form struct {
	Check   func(settings map[string]string) error // what is wrong, by setting
	Secrets []string                               // names of the fields that are secret
}

// Limits bound what is kept; the zero value of each means what stands beside it.
type Limits struct {
	KeepFiles time.Duration // 30 days; the last file that was applied stays
	KeepLogs  time.Duration // 30 days
	KeepSyncs time.Duration // 400 days; the last that was applied stays
	MaxUpload int64         // 2 GiB
	Silent    time.Duration // 5 minutes without contact are an error
}

// Service is all that can be done with connectors.
type Service struct {
	db        *db.DB
	jobs      *job.Queue
	live      *live.Hub
	audit     *audit.Log
	vault     *seal.Vault
	identity  *identity.Service
	inventory *inventory.Service
	clock     clock.Clock
	log       *slog.Logger
	host      string
	form      func(ctx context.Context, catalog string) (Form, error)
	known     func(kind string) bool
	onEvents  func(ctx context.Context, connectorID string, events []*v2.Event) error
	limits    Limits
	began     time.Time
}

// New makes a Service, and registers its job with the queue.
func New(c Config) *Service {
	limit(&c.Limits.KeepFiles, 30*day)
	limit(&c.Limits.KeepLogs, 30*day)
	limit(&c.Limits.KeepSyncs, 400*day)
	limit(&c.Limits.MaxUpload, 2<<30)
	limit(&c.Limits.Silent, 5*time.Minute)
	s := &Service{
		db: c.DB, jobs: c.Jobs, live: c.Live, audit: c.Audit, vault: c.Vault, identity: c.Identity, inventory: c.Inventory,
		clock: c.Clock, log: c.Log, host: c.PublicHost, form: c.Form, known: c.Known, onEvents: c.OnEvents, limits: c.Limits, began: c.Clock.Now(),
	}
	c.Jobs.Handle(jobEvents, job.Options{Timeout: time.Minute}, s.takeEvents)
	return s
}

func limit[T time.Duration | int64](value *T, usual T) {
	if *value <= 0 {
		*value = usual
	}
}

// AddConnector is a new connector.
type AddConnector struct {
	Catalog   string            // the binary's name without baton-
	App       string            // the name of a new app, or the name or id of one that has no connector
	Name      string            // "" is the app's name
	Owners    []string          // people, by id or e-mail
	Hosted    bool              // we run it
	Later     bool              // a hosted one has no settings yet: it is started once Set gave it some
	Directory bool              // a new app's accounts are the people
	Settings  map[string]string // of a hosted one; secret ones too
	Host      string            // that its Client ID carries; "" is the public host
}

// Credentials are what a self-hosted connector is started with. The secret isn't
// kept.
type Credentials struct{ ClientID, ClientSecret string }

// Add adds a connector and, unless it is there already, its app. The first sync
// waits for it, or for its settings. A hosted connector has no Credentials: it gets
// a fresh key pair at each start.
func (s *Service) Add(ctx context.Context, actor identity.Actor, add AddConnector) (Connector, Credentials, error) {
	if err := identity.Can(actor, identity.Manage, identity.Object{Kind: objectKind}); err != nil {
		return Connector{}, Credentials{}, err
	}
	form, err := s.formOf(ctx, add)
	if err != nil {
		return Connector{}, Credentials{}, err
	}
	now := s.clock.Now()
	var (
		connector   Connector
		credentials Credentials
	)
	err = s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		app, err := s.appFor(ctx, tx, actor, add)
		if err != nil {
			return err
		}
		connector = Connector{
			ID: id.New(), AppID: app.ID, Name: add.Name, Catalog: add.Catalog, Hosted: add.Hosted,
			SettingsAt: now, Schedule: Schedule{Every: usualInterval}, AnomalyStop: true, CreatedAt: now,
		}
		if !add.Later {
			connector.Settings = map[string]string{}
		}
		if connector.Name == "" {
			connector.Name = app.Name
		}
		if connector.Name, err = named(connector.Name); err != nil {
			return err
		}
		for field, value := range add.Settings {
			if err := s.put(ctx, tx, &connector, form, field, value); err != nil {
				return err
			}
		}
		if err := insertConnector(ctx, tx, connector); err != nil {
			return taken(err, connector.Name)
		}
		owners, err := s.replaceOwners(ctx, tx, connector.ID, add.Owners)
		if err != nil {
			return err
		}
		if !add.Hosted {
			host := add.Host
			if host == "" {
				host = s.host
			}
			credentials.ClientID, credentials.ClientSecret, err = s.identity.AddClient(ctx, tx, identity.ClientConnector, connector.ID, host)
			if err != nil {
				return err
			}
		}
		if err := s.record(ctx, tx, actor, "connector.added", connector, map[string]any{
			"catalog": add.Catalog, "hosted": add.Hosted, "owners": owners, "settings": slices.Sorted(maps.Keys(add.Settings)),
		}); err != nil {
			return err
		}
		if connector.Unset() {
			return s.save(ctx, tx, connector)
		}
		if _, err := s.requestSync(ctx, tx, &connector, SyncFull{}, CauseFirst); err != nil {
			return err
		}
		if err := s.hostedChanged(ctx, tx, connector); err != nil {
			return err
		}
		return s.save(ctx, tx, connector)
	})
	return connector, credentials, err
}

// formOf checks what a new connector is given against its catalog entry. One that
// runs elsewhere needs none.
func (s *Service) formOf(ctx context.Context, add AddConnector) (Form, error) {
	switch {
	case add.Catalog == "" || add.Catalog != clean(add.Catalog, 100):
		return Form{}, fault.New(fault.Invalid, "give the connector's name in the catalog, such as airflow").At("catalog")
	case strings.TrimSpace(add.App) == "":
		return Form{}, fault.New(fault.Invalid, "a connector needs an app whose access it reports").At("app")
	case !add.Hosted && len(add.Settings) > 0:
		return Form{}, fault.New(fault.Invalid, "a connector that runs elsewhere has its settings there, not here").At("settings")
	case add.Later && (!add.Hosted || len(add.Settings) > 0):
		return Form{}, fault.New(fault.Invalid, "a connector that gets its settings later is hosted here, and has none yet").At("settings")
	case !add.Hosted:
		return Form{}, nil
	}
	form, err := s.form(ctx, add.Catalog)
	if err != nil || add.Later {
		return form, err
	}
	err = form.Check(add.Settings)
	return form, err
}

// appFor finds or makes the app of a new connector.
func (s *Service) appFor(ctx context.Context, tx *db.Tx, actor identity.Actor, add AddConnector) (inventory.App, error) {
	app, err := s.inventory.AppByID(ctx, tx, add.App)
	if fault.Is(err, fault.NotFound) {
		app, err = s.inventory.AppByName(ctx, tx, add.App)
	}
	if fault.Is(err, fault.NotFound) {
		return s.inventory.AddApp(ctx, tx, actor, inventory.App{Name: add.App, Managed: true, Source: inventory.SourceConnector, Directory: add.Directory})
	}
	if err != nil {
		return app, err
	}
	other, err := connectorOfApp(ctx, tx, app.ID)
	switch {
	case err != nil:
		return app, err
	case other != "":
		c, err := connectorByID(ctx, tx, other)
		if err != nil {
			return app, err
		}
		return app, fault.New(fault.Conflict, "the app %q has the connector %q already; remove that, or give another app", app.Name, c.Name).At("app")
	case !app.Managed:
		return s.inventory.Manage(ctx, tx, actor, app.ID)
	}
	return app, nil
}

// Find finds a connector by its name or id; one that was removed by its id only.
func (s *Service) Find(ctx context.Context, actor identity.Actor, nameOrID string) (Connector, error) {
	c, err := connectorBy(ctx, s.db, nameOrID)
	if err != nil {
		return Connector{}, err
	}
	if err := inventory.Can(ctx, s.db, actor, identity.Read, identity.Object{Kind: objectKind, ID: c.ID, AppID: c.AppID}); err != nil {
		return Connector{}, err
	}
	return c, nil
}

// ByID is the connector with an id, also a removed one.
func (s *Service) ByID(ctx context.Context, q db.Querier, connectorID string) (Connector, error) {
	return connectorByID(ctx, q, connectorID)
}

// ConnectorOfApp is the connector of an app; fault.NotFound if it has none, or
// only ones that were removed.
func (s *Service) ConnectorOfApp(ctx context.Context, q db.Querier, appID string) (Connector, error) {
	connectorID, err := connectorOfApp(ctx, q, appID)
	if err != nil {
		return Connector{}, err
	}
	if connectorID == "" {
		return Connector{}, fault.New(fault.NotFound, "the app has no connector, so nothing can be done in it from here")
	}
	return connectorByID(ctx, q, connectorID)
}

// KindOfApp is the kind of the connector that found what is in an app, also of one
// that was removed; "" where there was none.
func (s *Service) KindOfApp(ctx context.Context, q db.Querier, appID string) (string, error) {
	c, err := lastOfApp(ctx, q, appID)
	return c.Kind(), err
}

// Overview is a connector with its state and its last syncs.
type Overview struct {
	Connector
	State  Status
	Detail string   // of the state, in words
	Open   *Sync    // that waits, runs or is held
	Last   *Sync    // that was applied
	Owners []string // people's ids
}

// List is a page of the connectors that aren't removed, by name, after a name and
// id: all, or those of the apps that the actor owns.
func (s *Service) List(ctx context.Context, actor identity.Actor, after inventory.Key, limit int) ([]Overview, error) {
	only, err := inventory.CanList(ctx, s.db, actor, identity.Read, identity.Object{Kind: objectKind})
	if err != nil {
		return nil, err
	}
	list, err := listConnectors(ctx, s.db, only, after, min(max(limit, 1), 500))
	if err != nil {
		return nil, err
	}
	var out []Overview
	for _, c := range list {
		one, err := s.overview(ctx, c)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// Show is one connector, by name or id, with its state.
func (s *Service) Show(ctx context.Context, actor identity.Actor, nameOrID string) (Overview, error) {
	c, err := s.Find(ctx, actor, nameOrID)
	if err != nil {
		return Overview{}, err
	}
	return s.overview(ctx, c)
}

func (s *Service) overview(ctx context.Context, c Connector) (Overview, error) {
	view := Overview{Connector: c}
	open, err := openSync(ctx, s.db, c.ID)
	if err != nil {
		return view, err
	}
	if view.Last, err = lastApplied(ctx, s.db, c.ID); err != nil {
		return view, err
	}
	if view.Owners, err = ownersOf(ctx, s.db, c.ID); err != nil {
		return view, err
	}
	view.Open = open
	view.State = c.Status(open != nil)
	view.Detail = c.Words(view.State)
	return view, nil
}

// Set changes settings of a hosted connector: what is given is set, what is named
// in unset goes. It is restarted with them, and syncs.
func (s *Service) Set(ctx context.Context, actor identity.Actor, nameOrID string, settings map[string]string, unset []string) (Connector, error) {
	c, err := s.manageable(ctx, actor, nameOrID)
	if err != nil {
		return c, err
	}
	if !c.Hosted {
		return c, fault.New(fault.Invalid, "%q runs elsewhere and has its settings there, not here", c.Name).At("settings")
	}
	form, err := s.form(ctx, c.Catalog)
	if err != nil {
		return c, err
	}
	return s.change(ctx, c.ID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		all, err := s.settings(ctx, tx, *c)
		if err != nil {
			return err
		}
		maps.Copy(all, settings)
		cause := CauseSettings
		if c.Unset() {
			cause, c.Settings = CauseFirst, map[string]string{}
		}
		for _, field := range unset {
			delete(all, field)
		}
		if err := form.Check(all); err != nil {
			return err
		}
		for field, value := range settings {
			if err := s.put(ctx, tx, c, form, field, value); err != nil {
				return err
			}
		}
		for _, field := range unset {
			delete(c.Settings, field)
			c.Secrets = slices.DeleteFunc(c.Secrets, func(name string) bool { return name == field })
			if err := s.vault.Delete(ctx, tx, secretName(c.ID, field)); err != nil {
				return err
			}
		}
		c.SettingsAt, c.Problem = s.clock.Now(), Problem{}
		if err := s.record(ctx, tx, actor, "connector.settings_changed", *c, map[string]any{
			"set": slices.Sorted(maps.Keys(settings)), "unset": unset,
		}); err != nil {
			return err
		}
		if _, err := s.requestSync(ctx, tx, c, SyncFull{}, cause); err != nil {
			return err
		}
		return s.hostedChanged(ctx, tx, *c)
	})
}

// SetSchedule says when a connector syncs.
func (s *Service) SetSchedule(ctx context.Context, actor identity.Actor, nameOrID string, schedule Schedule) (Connector, error) {
	c, err := s.manageable(ctx, actor, nameOrID)
	if err != nil {
		return c, err
	}
	schedule, err = schedule.Checked()
	if err != nil {
		return c, err
	}
	return s.change(ctx, c.ID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		c.Schedule, c.NextSyncAt = schedule, schedule.Next(s.clock.Now())
		if c.Unset() {
			c.NextSyncAt = time.Time{}
		}
		return s.record(ctx, tx, actor, "connector.schedule_changed", *c, map[string]any{"schedule": schedule.Words()})
	})
}

// Pause stops a connector's syncs, also the one that waits. One that runs ends.
func (s *Service) Pause(ctx context.Context, actor identity.Actor, nameOrID, why string) (Connector, error) {
	c, err := s.manageable(ctx, actor, nameOrID)
	if err != nil {
		return c, err
	}
	return s.change(ctx, c.ID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		if !c.Paused.At.IsZero() {
			return fault.New(fault.NotReady, "%q is paused already", c.Name)
		}
		c.Paused = Pause{At: s.clock.Now(), Why: clean(strings.TrimSpace(why), 1000)}
		return s.record(ctx, tx, actor, "connector.paused", *c, map[string]any{"why": c.Paused.Why})
	})
}

// Resume lets a paused connector sync again; what was due meanwhile is due now.
func (s *Service) Resume(ctx context.Context, actor identity.Actor, nameOrID string) (Connector, error) {
	c, err := s.manageable(ctx, actor, nameOrID)
	if err != nil {
		return c, err
	}
	return s.change(ctx, c.ID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		if c.Paused.At.IsZero() {
			return fault.New(fault.NotReady, "%q isn't paused", c.Name)
		}
		c.Paused = Pause{}
		if err := s.record(ctx, tx, actor, "connector.resumed", *c, nil); err != nil {
			return err
		}
		return s.live.Publish(ctx, tx, tasksTopic(c.ID))
	})
}

// SyncNow asks for a sync, or joins the one that waits.
func (s *Service) SyncNow(ctx context.Context, actor identity.Actor, nameOrID string) (syncID string, err error) {
	c, err := s.manageable(ctx, actor, nameOrID)
	if err != nil {
		return "", err
	}
	_, err = s.change(ctx, c.ID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		if !c.Paused.At.IsZero() {
			return fault.New(fault.NotReady, "%q is paused and doesn't sync; `airlock connector resume %s` lets it", c.Name, c.Name)
		}
		if c.Unset() {
			return fault.New(fault.NotReady, "%q has no settings yet and can't sync: %s", c.Name, unsetWords)
		}
		if syncID, err = s.requestSync(ctx, tx, c, SyncFull{}, CauseDemand); err != nil {
			return err
		}
		return s.record(ctx, tx, actor, "connector.sync_requested", *c, map[string]any{"sync": syncID})
	})
	return syncID, err
}

// Rotate makes a new client for a self-hosted connector. The old one is refused
// from now on, also in a call that it holds.
func (s *Service) Rotate(ctx context.Context, actor identity.Actor, nameOrID string) (Connector, Credentials, error) {
	c, err := s.manageable(ctx, actor, nameOrID)
	if err != nil {
		return c, Credentials{}, err
	}
	if c.Hosted {
		return c, Credentials{}, fault.New(fault.Invalid, "%q is hosted here: it gets new credentials at each start", c.Name)
	}
	var fresh Credentials
	c, err = s.change(ctx, c.ID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		fresh.ClientID, fresh.ClientSecret, err = s.identity.AddClient(ctx, tx, identity.ClientConnector, c.ID, s.host)
		if err != nil {
			return err
		}
		if err := s.identity.RevokeClients(ctx, tx, c.ID, identity.ClientConnector, fresh.ClientID); err != nil {
			return err
		}
		if err := s.record(ctx, tx, actor, "connector.rotated", *c, map[string]any{"client": fresh.ClientID}); err != nil {
			return err
		}
		return s.live.Publish(ctx, tx, tasksTopic(c.ID)) // wakes the calls that are held
	})
	return c, fresh, err
}

// Remove removes a connector: its syncs and tasks are cancelled, its clients
// revoked, its secrets deleted. What it found stays.
func (s *Service) Remove(ctx context.Context, actor identity.Actor, nameOrID string) (Connector, error) {
	c, err := s.manageable(ctx, actor, nameOrID)
	if err != nil {
		return c, err
	}
	return s.change(ctx, c.ID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		now := s.clock.Now()
		c.RemovedAt, c.NextSyncAt, c.Problem = now, time.Time{}, Problem{}
		list, err := openTasks(ctx, tx, c.ID)
		if err != nil {
			return err
		}
		for _, task := range list {
			task.Cancel = true
			task.end(TaskCancelled, codes.Canceled, "the connector was removed", now)
			if err := s.settle(ctx, tx, c, task, ended); err != nil {
				return err
			}
		}
		if err := s.discardHeld(ctx, tx, c.ID, now, "the connector was removed"); err != nil {
			return err
		}
		if err := dropFeeds(ctx, tx, c.ID, nil); err != nil {
			return err
		}
		if err := s.identity.RevokeClients(ctx, tx, c.ID, "", ""); err != nil {
			return err
		}
		c.Secrets = nil
		if err := s.vault.DeletePrefix(ctx, tx, secretName(c.ID, "")); err != nil {
			return err
		}
		if err := s.record(ctx, tx, actor, "connector.removed", *c, nil); err != nil {
			return err
		}
		if err := s.hostedChanged(ctx, tx, *c); err != nil {
			return err
		}
		return s.live.Publish(ctx, tx, tasksTopic(c.ID))
	})
}

// Rename gives a connector another name.
func (s *Service) Rename(ctx context.Context, actor identity.Actor, nameOrID, name string) (Connector, error) {
	c, err := s.manageable(ctx, actor, nameOrID)
	if err != nil {
		return c, err
	}
	if name, err = named(name); err != nil {
		return c, err
	}
	c, err = s.change(ctx, c.ID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		before := c.Name
		c.Name = name
		return s.record(ctx, tx, actor, "connector.renamed", *c, map[string]any{"before": before})
	})
	return c, taken(err, name)
}

// SetOwners says who owns a connector: people by id or e-mail.
func (s *Service) SetOwners(ctx context.Context, actor identity.Actor, nameOrID string, owners []string) (Connector, error) {
	c, err := s.manageable(ctx, actor, nameOrID)
	if err != nil {
		return c, err
	}
	return s.change(ctx, c.ID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		people, err := s.replaceOwners(ctx, tx, c.ID, owners)
		if err != nil {
			return err
		}
		return s.record(ctx, tx, actor, "connector.owners_changed", *c, map[string]any{"owners": people})
	})
}

// SetAnomalyStop says whether a sync that would remove much waits for somebody.
func (s *Service) SetAnomalyStop(ctx context.Context, actor identity.Actor, nameOrID string, on bool) (Connector, error) {
	c, err := s.manageable(ctx, actor, nameOrID)
	if err != nil {
		return c, err
	}
	return s.change(ctx, c.ID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		c.AnomalyStop = on
		return s.record(ctx, tx, actor, "connector.anomaly_stop_changed", *c, map[string]any{"on": on})
	})
}

// SetDebug says whether the connector's debug log comes with each sync.
func (s *Service) SetDebug(ctx context.Context, actor identity.Actor, nameOrID string, on bool) (Connector, error) {
	c, err := s.manageable(ctx, actor, nameOrID)
	if err != nil {
		return c, err
	}
	return s.change(ctx, c.ID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		c.Debug = on
		return s.record(ctx, tx, actor, "connector.debug_changed", *c, map[string]any{"on": on})
	})
}

// blame says what is wrong with a connector, in its row and its log.
func (s *Service) blame(ctx context.Context, tx *db.Tx, c *Connector, p Problem) error {
	p.Words = clean(p.Words, 4000)
	if c.Problem.Kind == p.Kind && c.Problem.Words == p.Words {
		return nil // it says so already, since when it began
	}
	c.Problem = Problem{Kind: p.Kind, Words: p.Words, At: s.clock.Now()}
	return appendLog(ctx, tx, c.ID, []LogLine{{At: s.clock.Now(), Level: "error", Message: p.Words, Fields: ours}})
}

// manageable finds a connector that somebody may change.
func (s *Service) manageable(ctx context.Context, actor identity.Actor, nameOrID string) (Connector, error) {
	c, err := connectorBy(ctx, s.db, nameOrID)
	if err != nil {
		return c, err
	}
	if err := inventory.Can(ctx, s.db, actor, identity.Manage, identity.Object{Kind: objectKind, ID: c.ID, AppID: c.AppID}); err != nil {
		return c, err
	}
	return c, present(c)
}

func present(c Connector) error {
	if c.Removed() {
		return fault.New(fault.NotReady, "the connector %q was removed; what it found stays, and nothing can be done with it", c.Name)
	}
	return nil
}

// change changes a connector that isn't removed, within a transaction that holds
// its row.
func (s *Service) change(ctx context.Context, connectorID string, change func(ctx context.Context, tx *db.Tx, c *Connector) error) (Connector, error) {
	var c Connector
	err := s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if c, err = holdConnector(ctx, tx, connectorID); err != nil {
			return err
		}
		if err := present(c); err != nil {
			return err
		}
		if err := change(ctx, tx, &c); err != nil {
			return err
		}
		return s.save(ctx, tx, c)
	})
	return c, err
}

func (s *Service) save(ctx context.Context, tx *db.Tx, c Connector) error {
	if err := updateConnector(ctx, tx, c); err != nil {
		return err
	}
	return s.live.Publish(ctx, tx, connectorTopic(c.ID))
}

// settings are all settings of a connector, the secret ones unsealed.
func (s *Service) settings(ctx context.Context, q db.Querier, c Connector) (map[string]string, error) {
	all := maps.Clone(c.Settings)
	if all == nil {
		all = map[string]string{}
	}
	for _, field := range c.Secrets {
		value, err := s.vault.Get(ctx, q, secretName(c.ID, field))
		if err != nil {
			return nil, err
		}
		all[field] = string(value)
	}
	return all, nil
}

// put keeps a setting where it belongs: what is secret in the vault.
func (s *Service) put(ctx context.Context, tx *db.Tx, c *Connector, form Form, field, value string) error {
	if !slices.Contains(form.Secrets, field) {
		if !inventory.Storable(value) || !inventory.Storable(field) {
			return fault.New(fault.Invalid, "the setting %q isn't text", field).At(field)
		}
		c.Settings[field] = value
		return nil
	}
	delete(c.Settings, field)
	if !slices.Contains(c.Secrets, field) {
		c.Secrets = append(c.Secrets, field)
		slices.Sort(c.Secrets)
	}
	return s.vault.Put(ctx, tx, secretName(c.ID, field), []byte(value))
}

// replaceOwners finds people by id or e-mail and makes them the owners.
func (s *Service) replaceOwners(ctx context.Context, tx *db.Tx, connectorID string, owners []string) ([]string, error) {
	people := []string{}
	for _, owner := range owners {
		person, err := s.identity.Find(ctx, tx, owner)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(people, person.ID) {
			people = append(people, person.ID)
		}
	}
	return people, setOwners(ctx, tx, connectorID, people)
}

// record writes what was done to a connector into the audit log.
func (s *Service) record(ctx context.Context, tx *db.Tx, actor identity.Actor, action string, c Connector, detail map[string]any) error {
	return s.audit.Append(ctx, tx, audit.Event{
		Actor: actor, Action: action, AppID: c.AppID, Detail: detail,
		Object: audit.Object{Kind: objectKind, ID: c.ID, Name: c.Name},
	})
}

// named is a connector's name as it is kept.
func named(name string) (string, error) { return identity.Name("a connector", name) }

// taken says that another connector has the name.
func taken(err error, name string) error {
	if db.Duplicate(err) {
		return fault.New(fault.Conflict, "there is a connector %q already; give this one another name", name).At("name")
	}
	return err
}

const objectKind = "connector"

func secretName(connectorID, field string) string { return "connector/" + connectorID + "/" + field }
func connectorTopic(connectorID string) string    { return "connector/" + connectorID }
func tasksTopic(connectorID string) string        { return "tasks/" + connectorID }
func syncTopic(syncID string) string              { return "sync/" + syncID }
