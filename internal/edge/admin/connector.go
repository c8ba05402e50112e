package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/integration"
	"airlock/internal/integration/catalog"
	"airlock/internal/inventory"
)

// catalog sends what lies in the connectors folder.
func (d *door) catalog(ctx context.Context, _ nothing, out *Stream) (any, error) {
	if err := identity.Can(d.actor, identity.Read, identity.Object{Kind: "catalog"}); err != nil {
		return nil, err
	}
	entries, err := d.Catalog.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if err := out.Row(formRow(e)); err != nil {
			return nil, err
		}
	}
	return nothing{}, nil
}

// form is one entry of the catalog.
func (d *door) form(ctx context.Context, in Named, _ *Stream) (any, error) {
	if err := identity.Can(d.actor, identity.Read, identity.Object{Kind: "catalog"}); err != nil {
		return nil, err
	}
	e, err := d.Catalog.Entry(ctx, in.Name)
	return formRow(e), err
}

func formRow(e catalog.Entry) CatalogEntry {
	row := CatalogEntry{Name: e.Name, DisplayName: e.DisplayName, Version: e.Version, HelpURL: e.HelpURL, Problem: e.Problem, Settings: []Setting{}}
	for _, f := range e.Fields {
		setting := Setting{
			Name: f.Name, Kind: string(f.Kind), Title: f.DisplayName, Description: f.Description, Required: f.Required, Secret: f.Secret, Default: f.Default,
		}
		for _, o := range f.Options {
			setting.Options = append(setting.Options, o.Value)
		}
		row.Settings = append(row.Settings, setting)
	}
	return row
}

// connectors sends all connectors, by name.
func (d *door) connectors(ctx context.Context, _ nothing, out *Stream) (any, error) {
	for after := (inventory.Key{}); ; {
		page, err := d.Integration.List(ctx, d.actor, after, pageSize)
		if err != nil || len(page) == 0 {
			return nothing{}, err
		}
		for _, view := range page {
			row, err := d.show(ctx, view)
			if err != nil {
				return nil, err
			}
			if err := out.Row(row); err != nil {
				return nil, err
			}
			after = inventory.Key{Name: view.Name, ID: view.ID}
		}
	}
}

// connector is one connector with its last syncs.
func (d *door) connector(ctx context.Context, in Named, _ *Stream) (any, error) {
	view, err := d.Integration.Show(ctx, d.actor, in.Name)
	if err != nil {
		return nil, err
	}
	row, err := d.show(ctx, view)
	if err != nil {
		return nil, err
	}
	row.Syncs = []Sync{}
	syncs, err := d.Integration.Syncs(ctx, d.actor, integration.SyncFilter{ConnectorID: view.ID}, "", 20)
	if err != nil {
		return nil, err
	}
	for _, s := range syncs {
		row.Syncs = append(row.Syncs, syncRow(s))
	}
	clients, err := d.Identity.Clients(ctx, d.DB, view.ID)
	for _, client := range clients {
		if client.RevokedAt.IsZero() {
			row.Clients = append(row.Clients, client.ID)
		}
	}
	return row, err
}

// show is a connector as commands show it.
func (d *door) show(ctx context.Context, view integration.Overview) (Connector, error) {
	c := view.Connector
	app, err := d.Inventory.AppOnRecord(ctx, d.DB, c.AppID)
	if err != nil {
		return Connector{}, err
	}
	row := Connector{
		ID: c.ID, Name: c.Name, App: app.Name, AppID: app.ID, Catalog: c.Kind(), Hosted: c.Hosted, Status: string(view.State), Detail: view.Detail,
		Schedule: c.Schedule.Words(), NextSync: optional(c.NextSyncAt), Version: c.Version, Host: c.Host, Seen: optional(c.SeenAt),
		Owners: []string{}, Settings: c.Settings, Secrets: c.Secrets, AnomalyStop: c.AnomalyStop, Created: c.CreatedAt, Removed: optional(c.RemovedAt),
	}
	if view.State == integration.Errored || c.Unset() {
		row.Next = nextStep(c)
	}
	if view.Last != nil {
		row.LastSync = optional(view.Last.FinishedAt)
	}
	if view.Open != nil && view.State == integration.Syncing {
		p, err := d.stage(ctx, *view.Open)
		if err != nil {
			return Connector{}, err
		}
		row.Detail = strings.TrimSpace(p.Words + " " + p.Detail)
	}
	for _, owner := range view.Owners {
		person, err := d.Identity.ByID(ctx, d.DB, owner)
		if err != nil {
			return Connector{}, err
		}
		row.Owners = append(row.Owners, person.Email)
	}
	return row, nil
}

func (d *door) shown(ctx context.Context, nameOrID string) (any, error) {
	view, err := d.Integration.Show(ctx, d.actor, nameOrID)
	if err != nil {
		return nil, err
	}
	return d.show(ctx, view)
}

// stage says how far a sync is.
func (d *door) stage(ctx context.Context, s integration.Sync) (Progress, error) {
	switch s.State {
	case integration.Waiting:
		return Progress{Words: "waiting for the connector to take the sync"}, nil
	case integration.Reading:
		p := Progress{Words: "reading"}
		if !s.StartedAt.IsZero() {
			p.Detail = "for " + time.Since(s.StartedAt).Round(time.Second).String()
			usual, err := d.Integration.Usual(ctx, d.actor, s.ConnectorID)
			if err != nil {
				return p, err
			}
			if usual > 0 {
				p.Detail += fmt.Sprintf(" (usually %s)", usual.Round(time.Second))
			}
		}
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(s.Progress.Counts)) {
			parts = append(parts, fmt.Sprintf("%d %s", s.Progress.Counts[name], name))
		}
		if len(parts) > 0 {
			p.Detail += ": " + strings.Join(parts, ", ")
		}
		return p, nil
	case integration.Uploading:
		return Progress{Words: "uploading", Detail: fmt.Sprintf("%d KB", s.Progress.Bytes>>10)}, nil
	case integration.Comparing:
		return Progress{Words: "comparing"}, nil
	case integration.Applying:
		return Progress{Words: "applying", Detail: fmt.Sprintf("%d of %d rows", s.Progress.Rows, s.Progress.Of)}, nil
	case integration.HeldBack:
		return Progress{Words: "held back until it is confirmed"}, nil
	case integration.Applied, integration.Failed, integration.Cancelled, integration.Discarded:
	}
	return Progress{Words: string(s.State)}, nil
}

func syncRow(s integration.Sync) Sync {
	row := Sync{
		ID: s.ID, State: string(s.State), Kind: string(s.Kind), Cause: s.Cause, Created: s.CreatedAt, Started: optional(s.StartedAt), Finished: optional(s.FinishedAt),
		Host: s.Host, Version: s.Version, FileHash: s.FileHash, FileSize: s.FileSize,
		Counts: s.Counts, Totals: s.Totals, Changes: s.Changes, Anomaly: s.Anomaly, Error: s.Error, Confirmed: s.ConfirmedBy,
		SourceFrom: optional(s.BeganAt), SourceTo: optional(s.EndedAt),
	}
	return row
}

func (d *door) addConnector(ctx context.Context, in AddConnector, _ *Stream) (any, error) {
	connector, credentials, err := d.Integration.Add(ctx, d.actor, integration.AddConnector{
		Catalog: in.Catalog, App: in.App, Name: in.Name, Owners: in.Owners, Hosted: in.Hosted, Directory: in.Directory, Settings: in.Settings,
	})
	if err != nil {
		return nil, err
	}
	return d.credentials(ctx, connector, credentials)
}

func (d *door) rotate(ctx context.Context, in Named, _ *Stream) (any, error) {
	connector, credentials, err := d.Integration.Rotate(ctx, d.actor, in.Name)
	if err != nil {
		return nil, err
	}
	return d.credentials(ctx, connector, credentials)
}

func (d *door) credentials(ctx context.Context, connector integration.Connector, credentials integration.Credentials) (any, error) {
	view, err := d.Integration.Show(ctx, d.actor, connector.ID)
	if err != nil {
		return nil, err
	}
	row, err := d.show(ctx, view)
	answer := Credentials{Connector: row, ClientID: credentials.ClientID, ClientSecret: credentials.ClientSecret}
	if d.CA != "" {
		answer.CADir, answer.CA = d.CADir, d.CA
	}
	return answer, err
}

func (d *door) setConnector(ctx context.Context, in SetConnector, _ *Stream) (any, error) {
	connector, err := d.Integration.Find(ctx, d.actor, in.Name)
	if err != nil {
		return nil, err
	}
	if len(in.Settings)+len(in.Unset) > 0 {
		if _, err := d.Integration.Set(ctx, d.actor, connector.ID, in.Settings, in.Unset); err != nil {
			return nil, err
		}
	}
	if in.Rename != nil {
		if _, err := d.Integration.Rename(ctx, d.actor, connector.ID, *in.Rename); err != nil {
			return nil, err
		}
	}
	if in.Owners != nil {
		if _, err := d.Integration.SetOwners(ctx, d.actor, connector.ID, *in.Owners); err != nil {
			return nil, err
		}
	}
	if in.AnomalyStop != nil {
		if _, err := d.Integration.SetAnomalyStop(ctx, d.actor, connector.ID, *in.AnomalyStop); err != nil {
			return nil, err
		}
	}
	if in.Debug != nil {
		if _, err := d.Integration.SetDebug(ctx, d.actor, connector.ID, *in.Debug); err != nil {
			return nil, err
		}
	}
	return d.shown(ctx, connector.ID)
}

func (d *door) schedule(ctx context.Context, in ScheduleConnector, _ *Stream) (any, error) {
	connector, err := d.Integration.SetSchedule(ctx, d.actor, in.Name, integration.Schedule{Every: in.Every, Cron: in.Cron, Zone: in.Zone})
	if err != nil {
		return nil, err
	}
	return d.shown(ctx, connector.ID)
}

func (d *door) pause(ctx context.Context, in PauseConnector, _ *Stream) (any, error) {
	connector, err := d.Integration.Pause(ctx, d.actor, in.Name, in.Why)
	if err != nil {
		return nil, err
	}
	return d.shown(ctx, connector.ID)
}

func (d *door) resume(ctx context.Context, in Named, _ *Stream) (any, error) {
	connector, err := d.Integration.Resume(ctx, d.actor, in.Name)
	if err != nil {
		return nil, err
	}
	return d.shown(ctx, connector.ID)
}

func (d *door) remove(ctx context.Context, in Named, _ *Stream) (any, error) {
	connector, err := d.Integration.Remove(ctx, d.actor, in.Name)
	if err != nil {
		return nil, err
	}
	return d.shown(ctx, connector.ID)
}

// sync asks for a sync, or joins the one under way, and follows it if told to.
func (d *door) sync(ctx context.Context, in SyncConnector, out *Stream) (any, error) {
	view, err := d.Integration.Show(ctx, d.actor, in.Name)
	if err != nil {
		return nil, err
	}
	// A held one is judged anew by the next; one that waits for a paused connector
	// would wait for ever, and asking for another says so.
	joins := view.Open != nil && view.Open.State != integration.HeldBack && (view.State != integration.Paused || view.Open.State != integration.Waiting)
	var syncID string
	if joins {
		syncID = view.Open.ID
	} else if syncID, err = d.Integration.SyncNow(ctx, d.actor, view.ID); err != nil {
		return nil, err
	}
	return d.follow(ctx, syncID, in.Wait, in.Timeout, out)
}

// follow tells how far a sync is until nothing more comes of it by itself.
func (d *door) follow(parent context.Context, syncID string, wait bool, timeout time.Duration, out *Stream) (any, error) {
	ctx, cancel := d.within(parent, timeout)
	defer cancel()
	s, err := d.Integration.SyncByID(parent, d.DB, syncID)
	if err != nil || !wait {
		return syncRow(s), err
	}
	news := d.Live.Subscribe("sync/"+syncID, "connector/"+s.ConnectorID)
	defer news.Close()
	again := time.NewTicker(time.Second) // the time that it takes is told too
	defer again.Stop()
	for {
		if s, err = d.Integration.SyncByID(parent, d.DB, syncID); err != nil {
			return nil, err
		}
		if s.State.Over() || s.State == integration.HeldBack {
			return d.followed(parent, s)
		}
		progress, err := d.progress(parent, s)
		if err != nil {
			return nil, err
		}
		if err := out.Progress(progress); err != nil {
			return nil, err
		}
		select {
		case <-news.C():
		case <-again.C:
		case <-ctx.Done():
			return syncRow(s), late(ctx, ctx.Err())
		}
	}
}

// followed is a sync of which nothing more comes by itself, with what helps if it
// failed.
func (d *door) followed(ctx context.Context, s integration.Sync) (any, error) {
	row := syncRow(s)
	if s.State != integration.Failed || s.ConnectorID == "" {
		return row, nil
	}
	c, err := d.Integration.ByID(ctx, d.DB, s.ConnectorID)
	row.Next = nextStep(c)
	return row, err
}

// progress is how far a sync is, and what keeps its connector from going on.
func (d *door) progress(ctx context.Context, s integration.Sync) (Progress, error) {
	p, err := d.stage(ctx, s)
	p.ID = s.ID
	if err != nil || s.ConnectorID == "" {
		return p, err
	}
	switch s.State {
	case integration.Waiting, integration.Reading, integration.Uploading:
		c, err := d.Integration.ByID(ctx, d.DB, s.ConnectorID)
		if err != nil {
			return p, err
		}
		p.Problem = trouble(c)
	case integration.Comparing, integration.Applying, integration.HeldBack, integration.Applied, integration.Failed, integration.Cancelled, integration.Discarded:
	}
	return p, nil
}

// trouble is why a connector doesn't do what waits for it, and what to do, if it
// is known. That an older sync is held back doesn't keep a newer one.
func trouble(c integration.Connector) string {
	words := c.Words(c.Status(true))
	switch {
	case !c.Paused.At.IsZero():
		if words != "" {
			words = ": " + words
		}
		return fmt.Sprintf("%s is paused%s; `airlock connector resume %q` lets it go on", c.Name, words, c.Name)
	case c.Problem.Kind == integration.Held:
	case c.Problem.Kind != "":
		if next := nextStep(c); next != "" {
			words += "; " + next
		}
		return fmt.Sprintf("%s is in Error since %s: %s", c.Name, c.Problem.At.UTC().Format(timeFormat), words)
	case words != "":
		return fmt.Sprintf("%s isn't connected yet: %s", c.Name, words)
	}
	return ""
}

// timeFormat is a time in words for people.
const timeFormat = "2006-01-02 15:04:05Z"

// nextStep are the commands that help a connector which is in Error, or has no
// settings yet.
func nextStep(c integration.Connector) string {
	if c.Unset() {
		return fmt.Sprintf("`airlock connector set %q --set …` gives it them too", c.Name)
	}
	logs := fmt.Sprintf("`airlock connector logs %q` tells more", c.Name)
	switch c.Problem.Kind {
	case integration.Refused, integration.Unreachable, integration.Stuck, integration.SyncFailed, integration.Crashes:
		if c.Hosted {
			return fmt.Sprintf("`airlock connector set %q --set …` changes its settings, %s", c.Name, logs)
		}
		return "its settings are given where it runs; " + logs
	case integration.Silent:
		return logs
	case integration.Held:
		return fmt.Sprintf("`airlock connector show %q` says what, `airlock connector confirm %q` applies it, `airlock connector discard %q` doesn't", c.Name, c.Name, c.Name)
	case integration.BinaryMissing, integration.NoChanges, integration.DiskFull:
	}
	return ""
}

// cancel cancels the sync of a connector that is under way.
func (d *door) cancel(ctx context.Context, in Named, _ *Stream) (any, error) {
	view, err := d.Integration.Show(ctx, d.actor, in.Name)
	if err != nil {
		return nil, err
	}
	if view.Open == nil {
		return nil, fault.New(fault.NotReady, "%q has no sync under way: there is nothing to cancel", view.Name)
	}
	if err := d.Integration.CancelSync(ctx, d.actor, view.Open.ID); err != nil {
		return nil, err
	}
	s, err := d.Integration.SyncByID(ctx, d.DB, view.Open.ID)
	return syncRow(s), err
}

// confirm applies the sync that is held back, and follows it if told to.
func (d *door) confirm(ctx context.Context, in Decide, out *Stream) (any, error) {
	syncID, err := d.held(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if err := d.Ingest.Confirm(ctx, d.actor, syncID); err != nil {
		return nil, err
	}
	if in.Wait {
		return d.follow(ctx, syncID, true, in.Timeout, out)
	}
	return d.decided(ctx, in.Name)
}

func (d *door) discard(ctx context.Context, in Named, _ *Stream) (any, error) {
	syncID, err := d.held(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if err := d.Ingest.Discard(ctx, d.actor, syncID); err != nil {
		return nil, err
	}
	return d.decided(ctx, in.Name)
}

// held finds the sync that is held back: a connector's, or that of a file which
// was brought by hand for the app of this name.
func (d *door) held(ctx context.Context, name string) (syncID string, err error) {
	view, err := d.Integration.Show(ctx, d.actor, name)
	var filters []integration.SyncFilter
	switch {
	case err == nil:
		name = view.Name
		filters = append(filters, integration.SyncFilter{ConnectorID: view.ID})
	case !fault.Is(err, fault.NotFound):
		return "", err
	}
	app, notApp := d.Inventory.AppByName(ctx, d.DB, name)
	switch {
	case notApp == nil:
		filters = append(filters, integration.SyncFilter{AppID: app.ID})
	case !fault.Is(notApp, fault.NotFound):
		return "", notApp
	case err != nil:
		return "", err
	}
	for _, filter := range filters {
		syncs, err := d.Integration.Syncs(ctx, d.actor, filter, "", pageSize)
		if err != nil {
			return "", err
		}
		for _, s := range syncs {
			if s.State == integration.HeldBack {
				return s.ID, nil
			}
		}
	}
	return "", fault.New(fault.NotReady, "no sync of %q is held back: there is nothing to decide", name)
}

// decided is the connector of which something was decided, or the app.
func (d *door) decided(ctx context.Context, name string) (any, error) {
	answer, err := d.shown(ctx, name)
	if !fault.Is(err, fault.NotFound) {
		return answer, err
	}
	app, err := d.Inventory.AppByName(ctx, d.DB, name)
	if err != nil {
		return nil, err
	}
	return d.appRow(ctx, app)
}

// ingestFile takes a file that was brought by hand.
func (d *door) ingestFile(ctx context.Context, in Ingest, file io.Reader, out *Stream) (any, error) {
	app, err := d.Inventory.AppByName(ctx, d.DB, in.App)
	if err != nil {
		return nil, err
	}
	syncID, err := d.Ingest.IngestFile(ctx, d.actor, app.ID, file)
	if err != nil {
		return nil, err
	}
	return d.follow(ctx, syncID, in.Wait, in.Timeout, out)
}

// syncFile sends what a connector sent for a sync.
func (d *door) syncFile(ctx context.Context, in SyncFile, out *Stream) (_ any, err error) {
	connector, err := d.Integration.Find(ctx, d.actor, in.Name)
	if err != nil {
		return nil, err
	}
	kind, what := integration.FileC1Z, "file"
	if in.Log {
		kind, what = integration.FileLog, "debug log"
	}
	syncs := []string{in.Sync}
	if in.Sync == "" {
		list, err := d.Integration.Syncs(ctx, d.actor, integration.SyncFilter{ConnectorID: connector.ID}, "", pageSize)
		if err != nil {
			return nil, err
		}
		syncs = nil
		for _, s := range list {
			syncs = append(syncs, s.ID)
		}
	} else if s, err := d.Integration.SyncByID(ctx, d.DB, in.Sync); fault.Is(err, fault.NotFound) || err == nil && s.ConnectorID != connector.ID {
		return nil, fault.New(fault.NotFound, "%q has no sync %q; `airlock connector show %q` lists them", connector.Name, in.Sync, connector.Name)
	} else if err != nil {
		return nil, err
	}
	for _, syncID := range syncs {
		content, _, err := d.Integration.SyncFile(ctx, d.actor, syncID, kind)
		if fault.Is(err, fault.NotFound) && in.Sync == "" {
			continue
		}
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(out, content)
		return nothing{}, errors.Join(err, content.Close())
	}
	return nil, fault.New(fault.NotFound, "no sync of %q has a %s any more, or yet", connector.Name, what)
}

// logs sends the last lines that a connector logged, and those that come.
func (d *door) logs(parent context.Context, in Logs, out *Stream) (any, error) {
	ctx, cancel := d.within(parent, 0)
	defer cancel()
	connector, err := d.Integration.Find(ctx, d.actor, in.Name)
	if err != nil {
		return nil, err
	}
	news := d.Live.Subscribe("connector/" + connector.ID)
	defer news.Close()
	lines, err := d.Integration.Log(ctx, d.actor, connector.ID, 0, 0, in.Last)
	if err != nil {
		return nil, err
	}
	last := int64(0)
	send := func(lines []integration.LogLine) error {
		for _, line := range lines {
			last = line.N
			if err := out.Row(LogLine{At: line.At, Level: line.Level, Message: line.Message, Fields: line.Fields}); err != nil {
				return err
			}
		}
		out.Flush()
		return nil
	}
	if err := send(lines); err != nil || !in.Follow {
		return nothing{}, err
	}
	for {
		select {
		case <-news.C():
		case <-ctx.Done():
			return nothing{}, late(ctx, ctx.Err())
		}
		for {
			lines, err := d.Integration.Log(ctx, d.actor, connector.ID, last, 0, pageSize)
			if err != nil {
				return nil, err
			}
			if err := send(lines); err != nil {
				return nil, err
			}
			if len(lines) < pageSize {
				break
			}
		}
	}
}
