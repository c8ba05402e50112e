package admin

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/integration"
	"airlock/internal/inventory"
	"airlock/internal/provision"
)

// change gives or takes access, and follows it if told to.
func (d *door) change(parent context.Context, in ChangeAccess, out *Stream) (any, error) {
	app, err := d.Inventory.AppByName(parent, d.DB, in.App)
	if err != nil {
		return nil, err
	}
	entitlement, err := d.Inventory.FindEntitlement(parent, app.ID, in.Entitlement)
	if err != nil {
		return nil, err
	}
	principal, err := d.Inventory.FindPrincipal(parent, app.ID, in.Account)
	if err != nil {
		return nil, err
	}
	request := provision.Request{
		AppID: app.ID, EntitlementID: entitlement.ID, PrincipalID: principal.ID, Reason: provision.Reason{Kind: provision.ByOperator}, Why: in.Why,
	}
	do := d.Provision.Grant
	if in.Revoke {
		do = d.Provision.Revoke
	}
	change, err := do(parent, d.actor, request)
	if err != nil {
		return nil, err
	}
	return d.followChange(parent, change, in.Wait, in.Timeout, out)
}

func (d *door) showChange(ctx context.Context, in ShowChange, out *Stream) (any, error) {
	change, err := d.Provision.ByID(ctx, d.actor, in.ID)
	if err != nil {
		return nil, err
	}
	return d.followChange(ctx, change, in.Wait, in.Timeout, out)
}

// changes sends the last changes, newest first.
func (d *door) changes(ctx context.Context, in ListChanges, out *Stream) (any, error) {
	var after provision.Place
	for left := in.Last; left > 0; {
		page, err := d.Provision.Newest(ctx, d.actor, after, in.Open, min(left, pageSize))
		if err != nil || len(page) == 0 {
			return nothing{}, err
		}
		for _, c := range page {
			row, err := d.changeRow(ctx, c)
			if err != nil {
				return nil, err
			}
			if err := out.Row(row); err != nil {
				return nil, err
			}
			after = provision.Place{At: c.CreatedAt, ID: c.ID}
		}
		left -= len(page)
	}
	return nothing{}, nil
}

// followChange tells how far a change is until it is over.
func (d *door) followChange(parent context.Context, change provision.Change, wait bool, timeout time.Duration, out *Stream) (any, error) {
	ctx, cancel := d.within(parent, timeout)
	defer cancel()
	news := d.Live.Subscribe("change/"+change.ID, "connector/"+change.ConnectorID)
	defer news.Close()
	again := time.NewTicker(time.Second) // what a sync is at is told too
	defer again.Stop()
	for {
		var err error
		if change, err = d.Provision.ByID(parent, d.actor, change.ID); err != nil {
			return nil, err
		}
		row, err := d.changeRow(parent, change)
		if err != nil || change.State.Over() {
			return row, err
		}
		progress, err := d.outlook(parent, change)
		if err != nil {
			return nil, err
		}
		row.Waits = progress.Words
		if progress.Problem != "" {
			row.Waits += ": " + progress.Problem
		}
		if !wait {
			return row, nil
		}
		if err := out.Progress(progress); err != nil {
			return nil, err
		}
		select {
		case <-news.C():
		case <-again.C:
		case <-ctx.Done():
			return row, late(ctx, ctx.Err())
		}
	}
}

// outlook is what a change waits for, and what keeps it from going on.
func (d *door) outlook(ctx context.Context, c provision.Change) (Progress, error) {
	p := Progress{ID: c.ID, Words: "waiting for the connector to take the " + string(c.Kind)}
	connector, err := d.Integration.ByID(ctx, d.DB, c.ConnectorID)
	if err != nil {
		return p, err
	}
	if c.State == provision.Running {
		task, err := d.Integration.TaskByID(ctx, d.DB, c.TaskID)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return p, err
		}
		if task.State != integration.TaskQueued {
			p.Words = "the connector has it"
		}
		if connector.Paused.At.IsZero() { // changes go through one that is paused
			p.Problem = trouble(connector)
		}
		return p, nil
	}
	done := map[provision.Kind]string{provision.Grant: "granted", provision.Revoke: "revoked"}[c.Kind] + " in the target; to be verified by a sync"
	p.Words = done
	if c.SyncID == "" {
		p.Problem = trouble(connector)
		return p, nil
	}
	sync, err := d.Integration.SyncByID(ctx, d.DB, c.SyncID)
	if fault.Is(err, fault.NotFound) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	if p, err = d.progress(ctx, sync); err != nil {
		return p, err
	}
	p.ID, p.Words = c.ID, done+", which is "+p.Words
	switch sync.State {
	case integration.Waiting:
		p.Words = done + ", which waits for the connector"
	case integration.HeldBack:
		p.Words = done + ", which is held back"
		p.Problem = fmt.Sprintf("`airlock connector show %q` says why, `airlock connector confirm %q` applies it", connector.Name, connector.Name)
	case integration.Failed, integration.Cancelled, integration.Discarded:
		p.Words = fmt.Sprintf("%s; the last one was %s, another comes by %s", done, sync.State, c.NextAt.UTC().Format(timeFormat))
		if sync.State == integration.Failed {
			p.Words = fmt.Sprintf("%s; the last one failed, another comes by %s", done, c.NextAt.UTC().Format(timeFormat))
		}
		if p.Problem = sync.Error; connector.Problem.Kind != "" {
			p.Problem = trouble(connector)
		}
	case integration.Reading, integration.Uploading, integration.Comparing, integration.Applying, integration.Applied:
	}
	return p, nil
}

// changeRow names what a change is about, as far as it is still known.
func (d *door) changeRow(ctx context.Context, c provision.Change) (Change, error) {
	row := Change{
		ID: c.ID, Kind: string(c.Kind), Entitlement: c.EntitlementID, Account: c.PrincipalID,
		State: string(c.State), Error: c.Error, Created: c.CreatedAt, Done: optional(c.DoneAt), Verified: optional(c.VerifiedAt),
	}
	app, err := d.Inventory.AppOnRecord(ctx, d.DB, c.AppID)
	if err != nil {
		return row, err
	}
	row.App = app.Name
	entitlement, err := d.Inventory.EntitlementByID(ctx, d.DB, c.EntitlementID)
	if err == nil {
		row.Entitlement = entitlement.ExternalID
	} else if !fault.Is(err, fault.NotFound) {
		return row, err
	}
	principal, err := d.Inventory.ResourceByID(ctx, d.DB, c.PrincipalID)
	if err == nil {
		row.Account = principal.ExternalID
	} else if !fault.Is(err, fault.NotFound) {
		return row, err
	}
	return row, nil
}

// Rows of exports: flat, in the order of the columns of a CSV file.
type (
	// AccountRow is an account.
	AccountRow struct {
		App          string     `json:"app"`
		ID           string     `json:"id"`
		Type         string     `json:"type"`
		ExternalID   string     `json:"external_id"`
		Name         string     `json:"name"`
		Login        string     `json:"login"`
		Email        string     `json:"email"`
		Kind         string     `json:"kind"`
		Status       string     `json:"status"`
		Detail       string     `json:"status_detail"`
		LastLogin    *time.Time `json:"last_login"`
		Person       string     `json:"person"`
		PersonStatus string     `json:"person_status"`
		MatchedBy    string     `json:"matched_by"`
		Orphaned     bool       `json:"orphaned"`
		FirstSeen    time.Time  `json:"first_seen"`
	}
	// EntitlementRow is an entitlement.
	EntitlementRow struct {
		App          string    `json:"app"`
		ID           string    `json:"id"`
		ExternalID   string    `json:"external_id"`
		Name         string    `json:"name"`
		Slug         string    `json:"slug"`
		ResourceType string    `json:"resource_type"`
		Resource     string    `json:"resource"`
		Description  string    `json:"description"`
		Purpose      string    `json:"purpose"`
		Grants       int64     `json:"direct_grants"`
		Risk         string    `json:"risk"`
		Requestable  bool      `json:"requestable"`
		Longest      string    `json:"longest"`
		FirstSeen    time.Time `json:"first_seen"`
	}
	// GrantRow is a grant, direct or inherited.
	GrantRow struct {
		App             string     `json:"app"`
		Entitlement     string     `json:"entitlement"`
		EntitlementName string     `json:"entitlement_name"`
		PrincipalType   string     `json:"principal_type"`
		Principal       string     `json:"principal"`
		PrincipalName   string     `json:"principal_name"`
		Inherited       bool       `json:"inherited"`
		Path            []string   `json:"path"` // of an inherited one, from what is held directly
		Since           *time.Time `json:"since"`
		Person          string     `json:"person"`
	}
	// PersonRow is a person.
	PersonRow struct {
		ID         string `json:"id"`
		Name       string `json:"name"`
		Email      string `json:"email"`
		Username   string `json:"username"`
		EmployeeID string `json:"employee_id"`
		Department string `json:"department"`
		JobTitle   string `json:"job_title"`
		Kind       string `json:"kind"`
		Status     string `json:"status"`
		Source     string `json:"source"`
	}
)

// Columns are the names of the fields of an export's rows, in their order.
func Columns(what string) []string {
	rows := map[string]any{"accounts": AccountRow{}, "entitlements": EntitlementRow{}, "grants": GrantRow{}, "people": PersonRow{}}
	row, known := rows[what]
	if !known {
		return nil
	}
	var names []string
	for field := range reflect.TypeOf(row).Fields() {
		names = append(names, field.Tag.Get("json"))
	}
	return names
}

// export sends a list of the inventory.
func (d *door) export(ctx context.Context, in Export, out *Stream) (any, error) {
	if in.What == "people" {
		return nothing{}, d.exportPeople(ctx, out)
	}
	var list []inventory.App
	if in.App != "" {
		app, err := d.Inventory.AppByName(ctx, d.DB, in.App)
		if err != nil {
			return nil, err
		}
		list = []inventory.App{app}
	} else if err := d.eachApp(ctx, func(app inventory.App) error { list = append(list, app); return nil }); err != nil {
		return nil, err
	}
	for _, app := range list {
		var err error
		switch in.What {
		case "accounts":
			err = d.exportAccounts(ctx, app, out)
		case "entitlements":
			err = d.exportEntitlements(ctx, app, out)
		case "grants":
			err = d.exportGrants(ctx, app, in.Accounts, out)
		default:
			return nil, fault.New(fault.Invalid, "there is no list %q; there are accounts, entitlements, grants, people", in.What)
		}
		if err != nil {
			return nil, err
		}
	}
	return nothing{}, nil
}

func (d *door) exportAccounts(ctx context.Context, app inventory.App, out *Stream) error {
	for a, err := range d.Inventory.ExportAccounts(ctx, d.actor, app.ID) {
		if err != nil {
			return err
		}
		err := out.Row(AccountRow{
			App: app.Name, ID: a.ID, Type: a.Type, ExternalID: a.ExternalID, Name: a.Name, Login: a.Login, Email: a.Email, Kind: string(a.Kind),
			Status: string(a.Status), Detail: a.StatusDetail, LastLogin: optional(a.LastLoginAt), Person: a.PersonName, PersonStatus: a.PersonStatus,
			MatchedBy: a.MatchedBy, Orphaned: a.Orphaned(), FirstSeen: a.FirstSeenAt,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *door) exportEntitlements(ctx context.Context, app inventory.App, out *Stream) error {
	for e, err := range d.Inventory.ExportEntitlements(ctx, d.actor, app.ID) {
		if err != nil {
			return err
		}
		longest := ""
		if e.Longest > 0 {
			longest = e.Longest.String()
		}
		err := out.Row(EntitlementRow{
			App: app.Name, ID: e.ID, ExternalID: e.ExternalID, Name: e.Name, Slug: e.Slug, ResourceType: e.ResourceType, Resource: e.ResourceName,
			Description: e.Description, Purpose: e.Purpose, Grants: e.Grants, Risk: string(e.Risk), Requestable: e.Requestable, Longest: longest,
			FirstSeen: e.FirstSeenAt,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *door) exportGrants(ctx context.Context, app inventory.App, accounts bool, out *Stream) error {
	rows := d.Inventory.ExportGrants
	if accounts {
		rows = d.Inventory.ExportAccountGrants
	}
	for g, err := range rows(ctx, d.actor, app.ID) {
		if err != nil {
			return err
		}
		row := GrantRow{
			App: app.Name, Entitlement: g.Entitlement, EntitlementName: g.EntitlementName, PrincipalName: g.PrincipalName,
			Inherited: !g.Direct, Path: []string{}, Since: optional(g.Since), Person: g.PersonName,
		}
		row.PrincipalType, row.Principal, _ = strings.Cut(g.Principal, ":")
		for _, step := range g.Path {
			row.Path = append(row.Path, step.ExternalID)
		}
		if err := out.Row(row); err != nil {
			return err
		}
	}
	return nil
}

func (d *door) eachApp(ctx context.Context, each func(inventory.App) error) error {
	for after := (inventory.Key{}); ; {
		page, err := d.Inventory.Apps(ctx, d.actor, after, pageSize)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, app := range page {
			if err := each(app); err != nil {
				return err
			}
			after = inventory.Key{Name: app.Name, ID: app.ID}
		}
	}
}

func (d *door) apps(ctx context.Context, _ nothing, out *Stream) (any, error) {
	return nothing{}, d.eachApp(ctx, func(app inventory.App) error {
		row, err := d.appRow(ctx, app)
		if err != nil {
			return err
		}
		return out.Row(row)
	})
}

func (d *door) appRow(ctx context.Context, app inventory.App) (App, error) {
	row := App{
		ID: app.ID, Name: app.Name, Managed: app.Managed, Source: app.Source, Directory: app.Directory, Matching: string(app.Matching),
		Description: app.Description, Owners: []string{}, Synced: optional(app.SyncedAt),
	}
	owners, err := d.Inventory.Owners(ctx, d.DB, app.ID)
	for _, owner := range owners {
		name := owner.Name
		if owner.Kind == inventory.OwnerEntitlement {
			name = "holders of " + name
		}
		row.Owners = append(row.Owners, name)
	}
	return row, err
}

func (d *door) addApp(ctx context.Context, in AddApp, _ *Stream) (any, error) {
	var app inventory.App
	err := d.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		app, err = d.Inventory.AddApp(ctx, tx, d.actor, inventory.App{Name: in.Name, Description: in.Description, Source: inventory.SourceManual})
		if err != nil || len(in.Owners) == 0 {
			return err
		}
		owners, err := d.owners(ctx, tx, app.ID, in.Owners, nil)
		if err != nil {
			return err
		}
		return d.Inventory.SetOwners(ctx, tx, d.actor, app.ID, owners)
	})
	if err != nil {
		return nil, err
	}
	return d.appRow(ctx, app)
}

// owners finds people by e-mail or id, and entitlements of the app.
func (d *door) owners(ctx context.Context, q db.Querier, _ string, people []string, entitlements []inventory.Entitlement) ([]inventory.Owner, error) {
	var list []inventory.Owner
	for _, one := range people {
		person, err := d.Identity.Find(ctx, q, one)
		if err != nil {
			return nil, err
		}
		list = append(list, inventory.Owner{Kind: inventory.OwnerPerson, ID: person.ID})
	}
	for _, e := range entitlements {
		list = append(list, inventory.Owner{Kind: inventory.OwnerEntitlement, ID: e.ID})
	}
	return list, nil
}

func (d *door) setApp(ctx context.Context, in SetApp, _ *Stream) (any, error) {
	app, err := d.Inventory.AppByName(ctx, d.DB, in.Name)
	if err != nil {
		return nil, err
	}
	if in.Matching != nil || in.Directory != nil {
		app, err = d.Inventory.SetApp(ctx, d.actor, app.ID, func(a *inventory.App) {
			if in.Matching != nil {
				a.Matching = inventory.Matching(*in.Matching)
			}
			if in.Directory != nil {
				a.Directory = *in.Directory
			}
		})
		if err != nil {
			return nil, err
		}
	}
	if in.Owners != nil || in.OwnerEntitlements != nil {
		var people []string
		if in.Owners != nil {
			people = *in.Owners
		}
		var entitlements []inventory.Entitlement
		if in.OwnerEntitlements != nil {
			for _, name := range *in.OwnerEntitlements {
				e, err := d.Inventory.FindEntitlement(ctx, app.ID, name)
				if err != nil {
					return nil, err
				}
				entitlements = append(entitlements, e)
			}
		}
		err := d.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			owners, err := d.owners(ctx, tx, app.ID, people, entitlements)
			if err != nil {
				return err
			}
			return d.Inventory.SetOwners(ctx, tx, d.actor, app.ID, owners)
		})
		if err != nil {
			return nil, err
		}
	}
	return d.appRow(ctx, app)
}

func (d *door) renameApp(ctx context.Context, in RenameApp, _ *Stream) (any, error) {
	app, err := d.Inventory.AppByName(ctx, d.DB, in.Name)
	if err != nil {
		return nil, err
	}
	if app, err = d.Inventory.RenameApp(ctx, d.actor, app.ID, in.New); err != nil {
		return nil, err
	}
	return d.appRow(ctx, app)
}

// heldByApp counts what would go with an app that may be removed.
func (d *door) heldByApp(ctx context.Context, in Named, _ *Stream) (any, error) {
	app, err := d.Inventory.AppByName(ctx, d.DB, in.Name)
	if err != nil {
		return nil, err
	}
	connector, err := d.Integration.ConnectorOfApp(ctx, d.DB, app.ID)
	if err == nil {
		return nil, fault.New(fault.NotReady, "the app %q has the connector %q: remove that first, by `airlock connector remove`; nothing was removed", app.Name, connector.Name)
	}
	if !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	held, err := d.Inventory.Holdings(ctx, d.actor, app.ID)
	return Held{App: app.Name, Accounts: held.Accounts, Resources: held.Resources, Entitlements: held.Entitlements, Grants: held.Grants, People: held.People}, err
}

func (d *door) removeApp(ctx context.Context, in Named, _ *Stream) (any, error) {
	app, err := d.Inventory.AppByName(ctx, d.DB, in.Name)
	if err != nil {
		return nil, err
	}
	if app, err = d.Inventory.RemoveApp(ctx, d.actor, app.ID); err != nil {
		return nil, err
	}
	return d.appRow(ctx, app)
}

func (d *door) link(ctx context.Context, in LinkAccount, _ *Stream) (any, error) {
	person, err := d.Identity.Find(ctx, d.DB, in.Person)
	if err != nil {
		return nil, err
	}
	return d.linked(ctx, in, person.ID)
}

func (d *door) unlink(ctx context.Context, in LinkAccount, _ *Stream) (any, error) {
	return d.linked(ctx, in, "")
}

func (d *door) linked(ctx context.Context, in LinkAccount, personID string) (any, error) {
	app, err := d.Inventory.AppByName(ctx, d.DB, in.App)
	if err != nil {
		return nil, err
	}
	account, err := d.Inventory.FindPrincipal(ctx, app.ID, in.Account)
	if err != nil {
		return nil, err
	}
	if err := d.Inventory.Link(ctx, d.actor, account.ID, personID); err != nil {
		return nil, err
	}
	return map[string]string{"app": app.Name, "account": account.ExternalID, "person": personID}, nil
}

func (d *door) exportPeople(ctx context.Context, out *Stream) error {
	for after := (inventory.Key{}); ; {
		page, err := d.Identity.List(ctx, d.actor, identity.PersonFilter{AfterName: after.Name, AfterID: after.ID, Limit: pageSize})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, p := range page {
			err := out.Row(PersonRow{
				ID: p.ID, Name: p.Name, Email: p.Email, Username: p.Username, EmployeeID: p.EmployeeID, Department: p.Department, JobTitle: p.JobTitle,
				Kind: p.Kind, Status: p.Status, Source: p.Source,
			})
			if err != nil {
				return err
			}
			after = inventory.Key{Name: p.Name, ID: p.ID}
		}
	}
}
