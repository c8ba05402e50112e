package web

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
	"airlock/internal/ingest"
	"airlock/internal/insight"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

const applications = "Applications"

// appRoutes are the apps and their tabs.
func (s *Server) appRoutes() []Route {
	read, manage := needs(identity.Read, "app"), needs(identity.Manage, "app")
	return []Route{
		s.page("GET /apps", read, func(c *Call) (Page, error) { return s.apps(c, true) }),
		s.page("GET /apps/unmanaged", read, func(c *Call) (Page, error) { return s.apps(c, false) }),
		s.page("GET /apps/new", manage, func(c *Call) (Page, error) { return s.newAppPage(c, appForm{}, nil) }),
		s.form("POST /apps/new", manage, s.newApp),
		s.page("GET /apps/{id}", read, s.appOverview),
		s.page("GET /apps/{id}/entitlements", needs(identity.Read, "entitlement"), s.appEntitlements),
		s.page("GET /apps/{id}/accounts", needs(identity.Read, "account"), s.appAccounts),
		s.form("POST /apps/{id}/accounts/kind", needs(identity.Manage, "account"), s.setKinds),
		s.page("GET /apps/{id}/resources", read, s.appResources),
		s.page("GET /apps/{id}/grants", needs(identity.Read, "grant"), s.appGrants),
		s.page("GET /apps/{id}/settings", read, s.appSettings),
		s.page("GET /apps/{id}/settings/edit", manage, s.editApp),
		s.form("POST /apps/{id}/settings", manage, s.saveApp),
		s.page("GET /apps/{id}/remove", manage, func(c *Call) (Page, error) { return s.askRemoveApp(c, nil) }),
		s.form("POST /apps/{id}/remove", manage, s.removeApp),
		s.page("GET /resources/{id}", needs(identity.Read, "resource"), s.resource),
	}
}

// ---- what the lists of these pages share

const pageSize = 100

// cursor writes a place in a list into an address.
func cursor(key inventory.Key) string {
	if key == (inventory.Key{}) {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(key.Name + "\x00" + key.ID))
}

// place reads a place in a list; what isn't one is the start.
func place(text string) inventory.Key {
	plain, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || !inventory.Storable(strings.ReplaceAll(string(plain), "\x00", "")) {
		return inventory.Key{}
	}
	name, id, _ := strings.Cut(string(plain), "\x00")
	return inventory.Key{Name: name, ID: id}
}

// everything reads all pages of a list, for an export.
func everything[R any](read func(after inventory.Key, limit int) (inventory.Page[R], error)) func(yield func(R) error) error {
	return func(yield func(R) error) error {
		for after := (inventory.Key{}); ; {
			page, err := read(after, 500)
			if err != nil {
				return err
			}
			for _, row := range page.Rows {
				if err := yield(row); err != nil {
					return err
				}
			}
			if page.Next == (inventory.Key{}) {
				return nil
			}
			after = page.Next
		}
	}
}

// sums says how many rows there are: on the page, and in all where that is known.
func sums[R any](page inventory.Page[R], v view.View, all inventory.Count, one, many string) string {
	whole := v.After == "" && page.Next == (inventory.Key{})
	words := view.Count(len(page.Rows), one, many)
	switch {
	case page.Partial:
		words += ". Not all were looked through: narrow it down, or go on with Later."
	case whole && all.N > int64(len(page.Rows)):
		words += " of " + tally(all)
	case !whole && all.N > 0 && !filtered(v):
		words = view.Number(len(page.Rows)) + " of " + tally(all) + " " + many
	case !whole:
		words += " on this page"
	}
	return words
}

// filtered reports whether a view shows less than all.
func filtered(v view.View) bool {
	for name, values := range v.Values {
		if !slices.Contains([]string{"sort", "after", "before", "open", "format"}, name) && strings.Join(values, "") != "" {
			return true
		}
	}
	return false
}

// counted is a count in words: "4,210", "10,000+".
func tally(count inventory.Count) string {
	words := view.Number(count.N)
	if count.More {
		words += "+"
	}
	return words
}

// upper begins with a capital.
func upper(words string) string {
	for n, letter := range words {
		if n == 0 {
			return strings.ToUpper(string(letter)) + words[len(string(letter)):]
		}
	}
	return words
}

// listed are names in a sentence: "A", "A and B", "A, B and 3 more".
func listed(names []string, most int) string {
	switch {
	case len(names) == 0:
		return ""
	case len(names) == 1:
		return names[0]
	case len(names) > most:
		return strings.Join(names[:most-1], ", ") + " and " + strconv.Itoa(len(names)-most+1) + " more"
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// written is a time in a CSV.
func written(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}

// yes is a boolean in words.
func yes(is bool) string {
	if is {
		return "Yes"
	}
	return "No"
}

// nobody is what a search that found nothing shows.
func nobody(what string) templ.Component {
	return view.Empty("search", "No "+what+" matches", "Take a filter out, or search for fewer letters.")
}

// cell is a cell, or nothing where there are no words.
func cell(words string, of func(string) templ.Component) templ.Component {
	if words == "" {
		return nil
	}
	return of(words)
}

// ---- the list of apps

// appLine is an app in the list, with its connector.
type appLine struct {
	inventory.AppRow
	Connector *integration.Overview
}

func (l appLine) ownerNames() []string { return ownerNames(l.Owners) }

func ownerNames(owners []inventory.Owner) (names []string) {
	for _, owner := range owners {
		if owner.Kind == inventory.OwnerEntitlement {
			names = append(names, "holders of "+owner.Name)
			continue
		}
		names = append(names, owner.Name)
	}
	return names
}

func (s *Server) apps(c *Call, managed bool) (Page, error) {
	v := c.View()
	read := func(after inventory.Key, limit int) (inventory.Page[appLine], error) {
		page, err := s.Inventory.AppList(c.Context(), c.Actor(), inventory.AppFilter{Managed: managed, Search: v.Query}, after, limit)
		if err != nil {
			return inventory.Page[appLine]{}, err
		}
		out := inventory.Page[appLine]{Next: page.Next, Partial: page.Partial}
		for _, row := range page.Rows {
			line := appLine{AppRow: row}
			if line.Connector, err = s.connectorOf(c, row.ID); err != nil {
				return out, err
			}
			out.Rows = append(out.Rows, line)
		}
		return out, nil
	}
	page, err := read(place(v.After), pageSize)
	if err != nil {
		return Page{}, err
	}
	title := "Managed apps"
	if !managed {
		title = "Unmanaged apps"
	}
	table := appTable(page, v, managed)
	return Page{
		Title: title, Section: applications, Name: title, CSV: table.Export(everything(read)),
		Body: appsBody(table, managed, appTopics(page.Rows), s.mayManage(c, "app", "")),
	}, nil
}

func appTopics(rows []appLine) string {
	var topics []string
	for _, row := range rows {
		topics = append(topics, "app/"+row.ID)
		if row.Connector != nil {
			topics = append(topics, "connector/"+row.Connector.ID)
		}
	}
	return strings.Join(topics, " ")
}

// connectorOf is the connector of an app, or nil.
func (s *Server) connectorOf(c *Call, appID string) (*integration.Overview, error) {
	connector, err := s.Integration.ConnectorOfApp(c.Context(), s.DB, appID)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	overview, err := s.Integration.Show(c.Context(), c.Actor(), connector.ID)
	if fault.Is(err, fault.Forbidden) {
		return nil, nil
	}
	return &overview, err
}

// mayManage reports whether the actor may manage an app's objects, for the buttons: the
// services decide.
func (s *Server) mayManage(c *Call, kind, appID string) bool {
	return inventory.Can(c.Context(), s.DB, c.Actor(), identity.Manage, identity.Object{Kind: kind, AppID: appID}) == nil
}

func appTable(page inventory.Page[appLine], v view.View, managed bool) view.Table[appLine] {
	number := func(id, title string, count func(appLine) inventory.Count) view.Column[appLine] {
		return view.Column[appLine]{
			ID: id, Title: title, Number: true,
			Text: func(l appLine) string { return tally(count(l)) },
		}
	}
	table := view.Table[appLine]{
		ID: "apps", Name: "Applications", Rows: page.Rows, View: v, Key: func(l appLine) string { return l.ID }, Search: "Search apps", CSV: true,
		Later: cursor(page.Next), Sums: sums(page, v, inventory.Count{}, "app", "apps"),
		Columns: []view.Column[appLine]{
			{
				ID: "name", Title: "App", Main: true, Text: func(l appLine) string { return l.Name },
				Cell: appName,
			},
			{
				ID: "status", Title: "Status", Text: func(l appLine) string { return string(stateOf(l.Connector)) },
				Cell: func(l appLine) templ.Component { return connectorLabel(l.Connector) },
			},
			number("accounts", "Accounts", func(l appLine) inventory.Count { return l.Accounts }),
			number("entitlements", "Entitlements", func(l appLine) inventory.Count { return l.Entitlements }),
			number("grants", "Grants", func(l appLine) inventory.Count { return l.Grants }),
			number("unmatched", "Unmatched", func(l appLine) inventory.Count { return l.Unmatched }),
			{ID: "owners", Title: "Owners", Fill: true, Text: func(l appLine) string { return listed(l.ownerNames(), 3) }},
			{
				ID: "synced", Title: "Synced", Text: func(l appLine) string { return written(l.SyncedAt) },
				Cell: func(l appLine) templ.Component { return view.Time(l.SyncedAt) },
			},
		},
	}
	if !managed {
		table.Columns = slices.DeleteFunc(table.Columns, func(c view.Column[appLine]) bool { return c.ID == "status" })
	}
	table.Empty = appsEmpty(managed)
	if v.Query != "" {
		table.Empty = nobody("app")
	}
	return table
}

// stateOf is what a connector is doing, as the pages say it.
func stateOf(connector *integration.Overview) integration.Status {
	if connector == nil {
		return "No connector"
	}
	return connector.State
}

var stateShapes = map[integration.Status]view.Shape{
	integration.NotConnected: view.ShapeNone, integration.Syncing: view.ShapeRun, integration.Connected: view.ShapeOK,
	integration.Errored: view.ShapeError, integration.Paused: view.ShapePaused,
}

// ---- a new app, and what people decide on one

type appForm struct {
	Name        string   `form:"name"`
	Description string   `form:"description"`
	Matching    string   `form:"matching"`
	Directory   bool     `form:"directory"`
	Owners      string   `form:"owners"`
	Keep        []string `form:"keep"` // entitlements whose holders own it
}

// settings are what a form says; owners are named by what a person is found by.
func (s *Server) settings(c *Call, in appForm) (inventory.AppSettings, error) {
	set := inventory.AppSettings{Name: in.Name, Description: in.Description, Matching: inventory.Matching(in.Matching), Directory: in.Directory}
	for name := range strings.FieldsFuncSeq(in.Owners, func(r rune) bool { return r == '\n' || r == ',' || r == ';' }) {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		person, err := s.People.Find(c.Context(), s.DB, name)
		if err != nil {
			return set, atField(err, "owners")
		}
		set.Owners = append(set.Owners, inventory.Owner{Kind: inventory.OwnerPerson, ID: person.ID})
	}
	for _, id := range in.Keep {
		set.Owners = append(set.Owners, inventory.Owner{Kind: inventory.OwnerEntitlement, ID: id})
	}
	return set, nil
}

// atField says at which field something was wrong that a person typed there: what
// isn't found was typed wrong.
func atField(err error, field string) error {
	if known, ours := err.(*fault.Error); ours && (known.Code == fault.NotFound || known.Code == fault.Conflict || known.Code == fault.Invalid) { //nolint:errorlint // the answer itself
		return fault.New(fault.Invalid, "%s", fault.Words(err)).At(field)
	}
	return err
}

func (s *Server) newAppPage(_ *Call, in appForm, wrong view.Errors) (Page, error) {
	return Page{Title: "New app", Section: applications, Body: newAppBody(in, wrong)}, nil
}

func (s *Server) newApp(c *Call) (Outcome, error) {
	var in appForm
	err := c.Form(&in)
	if err == nil {
		var set inventory.AppSettings
		if set, err = s.settings(c, in); err == nil {
			var app inventory.App
			if app, err = s.Inventory.NewApp(c.Context(), c.Actor(), set); err == nil {
				return Go("/apps/"+app.ID, app.Name+" was added."), nil
			}
		}
	}
	return c.Again(err, func(wrong view.Errors) (Page, error) { return s.newAppPage(c, in, wrong) })
}

// ---- an app's page

// appHead is what is above each tab of an app.
type appHead struct {
	inventory.App
	Numbers   inventory.AppNumbers
	Connector *integration.Overview
	Owners    []inventory.Owner
	May       bool // change its settings
	tab       string
}

func (h appHead) path() string { return "/apps/" + h.ID }

func (h appHead) topics() string {
	topics := "app/" + h.ID
	if h.Connector != nil {
		topics += " connector/" + h.Connector.ID
	}
	return topics
}

func (s *Server) head(c *Call, tab string) (appHead, error) {
	h := appHead{tab: tab}
	var err error
	if h.App, err = s.Inventory.AppByID(c.Context(), s.DB, c.Path("id")); err != nil {
		return h, err
	}
	if h.Numbers, err = s.Inventory.AppCounts(c.Context(), c.Actor(), h.ID); err != nil {
		return h, err
	}
	if h.Owners, err = s.Inventory.Owners(c.Context(), s.DB, h.ID); err != nil {
		return h, err
	}
	h.May = s.mayManage(c, "app", h.ID)
	h.Connector, err = s.connectorOf(c, h.ID)
	return h, err
}

func (h appHead) tabs() []view.Tab {
	roles := h.Numbers.Assignments
	if roles.N == 0 {
		roles = h.Numbers.Entitlements
	}
	tabs := []view.Tab{
		{Title: "Overview", Href: h.path()},
		{Title: "Entitlements", Href: h.path() + "/entitlements", Count: tally(roles)},
		{Title: "Accounts", Href: h.path() + "/accounts", Count: tally(h.Numbers.Accounts)},
		{Title: "Resources", Href: h.path() + "/resources", Count: tally(h.Numbers.Resources)},
		{Title: "Grants", Href: h.path() + "/grants", Count: tally(h.Numbers.Grants)},
		{Title: "Settings", Href: h.path() + "/settings"},
	}
	for n := range tabs {
		tabs[n].Current = tabs[n].Title == h.tab
	}
	return tabs
}

// appPage is a tab of an app.
func appPage(h appHead, body templ.Component) Page {
	title := h.Name
	if h.tab != "Overview" {
		title = h.tab + ", " + h.Name
	}
	return Page{Title: title, Section: applications, Body: appBody(h, body), Name: h.Name + " " + h.tab}
}

// overview is what an app's first tab shows.
type overview struct {
	appHead
	Riskiest []insight.Right
	Changes  []inventory.Change
	Titles   map[string]string // of what changed
	Sync     *integration.Sync // the last that was applied
	Proof    []proof
}

// proof is how many of a type the source says it has, and how many were read.
type proof struct {
	Type         string
	Source, File int64
}

func (s *Server) appOverview(c *Call) (Page, error) {
	h, err := s.head(c, "Overview")
	if err != nil {
		return Page{}, err
	}
	o := overview{appHead: h}
	rights, err := s.Insight.Rights(c.Context(), c.Actor(), s.Inventory, inventory.EntitlementQuery{AppID: h.ID, Purpose: "assignment"},
		inventory.Order{By: inventory.ByRisk, Falling: true}, inventory.Key{}, 6)
	if err != nil {
		return Page{}, err
	}
	o.Riskiest = rights.Rows
	changes, err := s.Inventory.Changes(c.Context(), c.Actor(), inventory.ChangeFilter{AppID: h.ID}, inventory.Key{}, 8)
	if err != nil {
		return Page{}, err
	}
	o.Changes = changes.Rows
	if o.Titles, err = s.titles(c, changesOf(o.Changes)); err != nil {
		return Page{}, err
	}
	syncs, err := s.Integration.Syncs(c.Context(), c.Actor(), integration.SyncFilter{AppID: h.ID}, "", 20)
	if err != nil && !fault.Is(err, fault.Forbidden) {
		return Page{}, err
	}
	if n := slices.IndexFunc(syncs, func(s integration.Sync) bool { return s.State == integration.Applied }); n >= 0 {
		types, err := s.Inventory.Types(c.Context(), c.Actor(), h.ID)
		if err != nil {
			return Page{}, err
		}
		names := map[string]string{}
		for _, one := range types {
			names[one.ExternalID] = one.Name
		}
		o.Sync, o.Proof = &syncs[n], proofs(syncs[n], names)
	}
	return appPage(h, overviewBody(o)), nil
}

// proofs reads what a sync says of its source's totals.
func proofs(sync integration.Sync, names map[string]string) []proof {
	var totals map[string]ingest.Total
	if len(sync.Totals) == 0 || json.Unmarshal(sync.Totals, &totals) != nil {
		return nil
	}
	var list []proof
	for kind, total := range totals {
		list = append(list, proof{cmp.Or(names[kind], kind), total.Source, total.File})
	}
	slices.SortFunc(list, func(a, b proof) int { return strings.Compare(a.Type, b.Type) })
	return list
}

func changesOf(list []inventory.Change) (ids []string) {
	for _, change := range list {
		ids = append(ids, change.EntitlementID)
	}
	return ids
}

// titles are how people call entitlements.
func (s *Server) titles(c *Call, ids []string) (map[string]string, error) {
	return s.Inventory.Titles(c.Context(), s.DB, ids)
}

// ---- accounts of an app

func (s *Server) accountFilter(v view.View, appID string) inventory.AccountFilter {
	return inventory.AccountFilter{
		AppID: appID, Search: v.Query, Kind: inventory.AccountKind(v.Get("kind")), Status: inventory.AccountStatus(v.Get("status")),
		Unmatched: v.Get("match") == "unmatched", Orphaned: v.Get("match") == "orphaned",
	}
}

func (s *Server) appAccounts(c *Call) (Page, error) {
	h, err := s.head(c, "Accounts")
	if err != nil {
		return Page{}, err
	}
	v := c.View()
	column, falling := v.SortBy("name", "login")
	order := inventory.Order{By: inventory.ByName, Falling: falling}
	if column == "login" {
		order.By = inventory.ByLastLogin
	}
	read := func(after inventory.Key, limit int) (inventory.Page[inventory.AccountItem], error) {
		return s.Inventory.AccountList(c.Context(), c.Actor(), s.accountFilter(v, h.ID), order, after, limit)
	}
	page, err := read(place(v.After), pageSize)
	if err != nil {
		return Page{}, err
	}
	table := accountTable(h, page, v)
	if s.mayManage(c, "account", h.ID) {
		for _, kind := range []inventory.AccountKind{inventory.Human, inventory.ServiceKind, inventory.SystemKind} {
			table.Actions = append(table.Actions, view.Action{Verb: "Mark as " + string(kind), To: h.path() + "/accounts/kind?kind=" + string(kind)})
		}
		if !filtered(v) && !h.Numbers.Accounts.More && h.Numbers.Accounts.N <= inventory.MostAccounts {
			table.Total = int(h.Numbers.Accounts.N)
		}
	}
	out := appPage(h, liveTable(h, table.Draw()))
	out.CSV = table.Export(everything(read))
	return out, nil
}

func accountTable(h appHead, page inventory.Page[inventory.AccountItem], v view.View) view.Table[inventory.AccountItem] {
	type item = inventory.AccountItem
	table := view.Table[item]{
		ID: "accounts", Name: "Accounts", Rows: page.Rows, View: v, Key: func(a item) string { return a.ID }, Search: "Search names, logins, e-mail", CSV: true,
		Later: cursor(page.Next), Sums: sums(page, v, h.Numbers.Accounts, "account", "accounts"),
		Filters: []view.Filter{
			{Name: "match", Title: "Whose they are", Links: true, Options: []view.Option{
				{Title: "All", Count: tally(h.Numbers.Accounts)},
				{Value: "unmatched", Title: "Unmatched", Count: tally(h.Numbers.Unmatched)},
				{Value: "orphaned", Title: "Orphaned", Count: tally(h.Numbers.Orphaned)},
			}},
			{Name: "kind", Title: "Type", Options: []view.Option{
				{Title: "All types"}, {Value: "human", Title: "Human"}, {Value: "service", Title: "Service"}, {Value: "system", Title: "System"}, {Value: "unknown", Title: "Unknown"},
			}},
			{Name: "status", Title: "Status", Options: []view.Option{
				{Title: "Any status"}, {Value: "enabled", Title: "Enabled"}, {Value: "disabled", Title: "Disabled"}, {Value: "deleted", Title: "Deleted"}, {Value: "unknown", Title: "Unknown"},
			}},
		},
		Columns: []view.Column[item]{
			{
				ID: "name", Title: "Account", Main: true, Sorts: true, Text: func(a item) string { return a.Name },
				Cell: func(a item) templ.Component { return accountName(a.Account) },
			},
			{
				ID: "person", Title: "Person", Text: func(a item) string { return a.PersonName },
				Cell: func(a item) templ.Component { return accountPerson(a.Account) },
			},
			{ID: "roles", Title: "Roles", Fill: true, Text: rolesOf},
			{ID: "kind", Title: "Type", Text: func(a item) string { return upper(string(a.Kind)) }},
			{
				ID: "status", Title: "Status", Text: func(a item) string { return upper(string(a.Status)) },
				Cell: func(a item) templ.Component { return accountStatus(a.Account) },
			},
			{
				ID: "login", Title: "Last login", Sorts: true, Text: func(a item) string { return written(a.LastLoginAt) },
				Cell: func(a item) templ.Component { return view.Time(a.LastLoginAt) },
			},
			{ID: "username", Title: "Username", Extra: true, Text: func(a item) string { return a.Login }, Cell: func(a item) templ.Component { return cell(a.Login, view.Mono) }},
			{ID: "email", Title: "E-mail", Extra: true, Text: func(a item) string { return a.Email }},
			{ID: "matched", Title: "Matched by", Extra: true, Text: func(a item) string { return matchedBy(a.MatchedBy) }},
			{ID: "grants", Title: "Grants", Extra: true, Number: true, Text: func(a item) string { return view.Number(a.Grants) }},
			{
				ID: "created", Title: "Created", Extra: true, Text: func(a item) string { return written(a.CreatedAt) },
				Cell: func(a item) templ.Component { return view.Day(a.CreatedAt) },
			},
		},
	}
	table.Empty = nothingRead(h, "user", "accounts")
	if filtered(v) {
		table.Empty = nobody("account")
	}
	return table
}

func rolesOf(a inventory.AccountItem) string {
	if more := a.Assigned - int64(len(a.Roles)); more > 0 && len(a.Roles) > 0 {
		return strings.Join(a.Roles, ", ") + " and " + view.Number(more) + " more"
	}
	return strings.Join(a.Roles, ", ")
}

// matchedBy says how it is known whose an account is.
func matchedBy(by string) string {
	switch by {
	case "":
		return ""
	case "email":
		return "E-mail"
	case "username":
		return "Username"
	case "employee_id":
		return "Employee id"
	case inventory.ByHand:
		return "By hand"
	}
	return by
}

// setKinds sets the kind of the accounts that are chosen, or of all that the page
// shows.
func (s *Server) setKinds(c *Call) (Outcome, error) {
	var in struct {
		IDs   []string `form:"id"`
		All   bool     `form:"all"`
		Query string   `form:"query"`
	}
	if err := c.Form(&in); err != nil {
		return Outcome{}, err
	}
	if in.All {
		query, err := url.ParseQuery(in.Query)
		if err != nil {
			return Outcome{}, fault.New(fault.Invalid, "the filter can't be read; nothing was changed")
		}
		page, err := s.Inventory.AccountList(c.Context(), c.Actor(), s.accountFilter(view.ParseView(query), c.Path("id")), inventory.Order{}, inventory.Key{}, inventory.MostAccounts+1)
		if err != nil {
			return Outcome{}, err
		}
		in.IDs = nil
		for _, account := range page.Rows {
			in.IDs = append(in.IDs, account.ID)
		}
	}
	kind := c.URL().Query().Get("kind")
	changed, err := s.Inventory.SetKinds(c.Context(), c.Actor(), c.Path("id"), in.IDs, inventory.AccountKind(kind))
	if err != nil {
		return Outcome{}, err
	}
	return Go("/apps/"+url.PathEscape(c.Path("id"))+"/accounts"+question(in.Query), view.Count(changed, "account")+" marked as "+kind+". No sync changes that."), nil
}

// question is a query as it is written behind an address.
func question(query string) string {
	values, err := url.ParseQuery(query)
	if err != nil || len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}

// ---- resources and grants of an app

func (s *Server) appResources(c *Call) (Page, error) {
	h, err := s.head(c, "Resources")
	if err != nil {
		return Page{}, err
	}
	types, err := s.Inventory.Types(c.Context(), c.Actor(), h.ID)
	if err != nil {
		return Page{}, err
	}
	v := c.View()
	read := func(after inventory.Key, limit int) (inventory.Page[inventory.ResourceItem], error) {
		return s.Inventory.ResourceList(c.Context(), c.Actor(), inventory.ResourceFilter{AppID: h.ID, TypeID: v.Get("type"), Search: v.Query}, after, limit)
	}
	page, err := read(place(v.After), pageSize)
	if err != nil {
		return Page{}, err
	}
	table := resourceTable(h, types, page, v)
	out := appPage(h, liveTable(h, table.Draw()))
	out.CSV = table.Export(everything(read))
	return out, nil
}

func resourceTable(h appHead, types []inventory.Type, page inventory.Page[inventory.ResourceItem], v view.View) view.Table[inventory.ResourceItem] {
	type item = inventory.ResourceItem
	options := []view.Option{{Title: "All", Count: tally(h.Numbers.Resources)}}
	for _, one := range types {
		options = append(options, view.Option{Value: one.ID, Title: one.Name, Count: view.Number(one.Resources)})
	}
	table := view.Table[item]{
		ID: "resources", Name: "Resources", Rows: page.Rows, View: v, Key: func(r item) string { return r.ID }, Search: "Search names and ids", CSV: true,
		Later: cursor(page.Next), Sums: sums(page, v, h.Numbers.Resources, "resource", "resources"),
		Filters: []view.Filter{{Name: "type", Title: "Type", Links: true, Options: options}},
		Columns: []view.Column[item]{
			{
				ID: "name", Title: "Resource", Main: true, Wrap: true, Text: func(r item) string { return r.Name },
				Cell: func(r item) templ.Component {
					return view.Link("/resources/"+url.PathEscape(r.ID), cmp.Or(r.Name, r.ExternalID))
				},
			},
			{ID: "type", Title: "Type", Text: func(r item) string { return r.TypeName }},
			{ID: "id", Title: "Id", Text: func(r item) string { return r.ExternalID }, Cell: func(r item) templ.Component { return cell(r.ExternalID, view.Mono) }, Wrap: true},
			{ID: "parent", Title: "Part of", Extra: true, Text: func(r item) string { return r.ParentName }},
			{ID: "what", Title: "Description", Fill: true, Text: func(r item) string { return r.Description }},
			{ID: "entitlements", Title: "Entitlements", Number: true, Text: func(r item) string { return view.Number(r.Entitlements) }},
			{
				ID: "seen", Title: "First seen", Text: func(r item) string { return written(r.FirstSeenAt) },
				Cell: func(r item) templ.Component { return view.Day(r.FirstSeenAt) },
			},
		},
	}
	if len(options) > 9 { // more than side by side
		table.Filters[0].Links = false
		options[0].Title = "All types"
	}
	table.Empty = nothingRead(h, "folder", "resources")
	if filtered(v) {
		table.Empty = nobody("resource")
	}
	return table
}

func (s *Server) appGrants(c *Call) (Page, error) {
	h, err := s.head(c, "Grants")
	if err != nil {
		return Page{}, err
	}
	types, err := s.Inventory.Types(c.Context(), c.Actor(), h.ID)
	if err != nil {
		return Page{}, err
	}
	v := c.View()
	read := func(after inventory.Key, limit int) (inventory.Page[inventory.GrantItem], error) {
		return s.Inventory.GrantList(c.Context(), c.Actor(), inventory.GrantFilter{AppID: h.ID, TypeID: v.Get("holder"), Search: v.Query}, after, limit)
	}
	page, err := read(place(v.After), pageSize)
	if err != nil {
		return Page{}, err
	}
	table := grantTable(h, types, page, v)
	out := appPage(h, liveTable(h, table.Draw()))
	out.CSV = table.Export(everything(read))
	return out, nil
}

func grantTable(h appHead, types []inventory.Type, page inventory.Page[inventory.GrantItem], v view.View) view.Table[inventory.GrantItem] {
	type item = inventory.GrantItem
	options := []view.Option{{Title: "All holders"}}
	for _, one := range types {
		options = append(options, view.Option{Value: one.ID, Title: one.Name})
	}
	table := view.Table[item]{
		ID: "grants", Name: "Grants", Rows: page.Rows, View: v, Search: "Search holders", CSV: true,
		Key:   func(g item) string { return g.EntitlementID + " " + g.PrincipalID },
		Later: cursor(page.Next), Sums: sums(page, v, h.Numbers.Grants, "direct grant", "direct grants"),
		Filters: []view.Filter{{Name: "holder", Title: "Type of holder", Options: options}},
		Columns: []view.Column[item]{
			{
				ID: "holder", Title: "Holder", Main: true, Text: func(g item) string { return g.PrincipalName },
				Cell: holderName,
			},
			{
				ID: "entitlement", Title: "Entitlement", Fill: true, Text: func(g item) string { return g.Title() },
				Cell: func(g item) templ.Component {
					return view.Link("/entitlements/"+url.PathEscape(g.EntitlementID), g.Title())
				},
			},
			{ID: "type", Title: "Type", Text: func(g item) string { return g.EntitlementType }},
			sinceColumn(), untilColumn(), howColumn(h.Name),
			{ID: "person", Title: "Person", Extra: true, Text: func(g item) string { return g.PersonName }},
			{ID: "principal", Title: "Holder's id", Extra: true, Text: func(g item) string { return g.Principal }},
			{ID: "right", Title: "Entitlement's id", Extra: true, Text: func(g item) string { return g.Entitlement }},
		},
	}
	table.Empty = nothingRead(h, "shield", "grants")
	if filtered(v) {
		table.Empty = nobody("grant")
	}
	return table
}

func sinceColumn() view.Column[inventory.GrantItem] {
	return view.Column[inventory.GrantItem]{
		ID: "since", Title: "Since", Text: func(g inventory.GrantItem) string { return written(g.Since) },
		Cell: sinceOf,
	}
}

// sinceOf is since when something is held; of what is inherited that may not be known.
func sinceOf(g inventory.GrantItem) templ.Component {
	if g.Since.IsZero() {
		return nil
	}
	return view.Time(g.Since)
}

func untilColumn() view.Column[inventory.GrantItem] {
	return view.Column[inventory.GrantItem]{
		ID: "until", Title: "Until", Text: func(g inventory.GrantItem) string { return written(g.Until()) },
		Cell: func(g inventory.GrantItem) templ.Component { return ends(g.Until()) },
	}
}

func howColumn(app string) view.Column[inventory.GrantItem] {
	return view.Column[inventory.GrantItem]{ID: "how", Title: "How granted", Text: func(g inventory.GrantItem) string { return howGranted(g, app) }}
}

// howGranted says why a grant is there. A direct one without a reason was made in the
// app itself.
func howGranted(g inventory.GrantItem, app string) string {
	if !g.Direct {
		return "Inherited"
	}
	if len(g.Reasons) == 0 {
		return "Found in " + app
	}
	var words []string
	for _, reason := range g.Reasons {
		switch reason.Kind {
		case "operator":
			words = append(words, "By an operator")
		default:
			words = append(words, upper(reason.Kind))
		}
	}
	return strings.Join(slices.Compact(words), ", ")
}

// ---- an app's settings

func (s *Server) appSettings(c *Call) (Page, error) {
	h, err := s.head(c, "Settings")
	if err != nil {
		return Page{}, err
	}
	return appPage(h, appSettingsBody(h)), nil
}

func (s *Server) editApp(c *Call) (Page, error) {
	h, err := s.head(c, "Settings")
	if err != nil {
		return Page{}, err
	}
	in := appForm{Name: h.Name, Description: h.Description, Matching: string(h.Matching), Directory: h.Directory}
	var ids []string
	for _, owner := range h.Owners {
		if owner.Kind == inventory.OwnerPerson {
			ids = append(ids, owner.ID)
		} else {
			in.Keep = append(in.Keep, owner.ID)
		}
	}
	people, err := s.People.ByIDs(c.Context(), s.DB, ids)
	if err != nil {
		return Page{}, err
	}
	for _, id := range ids {
		in.Owners += cmp.Or(people[id].Email, id) + "\n"
	}
	return appPage(h, editAppBody(h, in, nil)), nil
}

func (s *Server) saveApp(c *Call) (Outcome, error) {
	var in appForm
	err := c.Form(&in)
	if err == nil {
		var set inventory.AppSettings
		if set, err = s.settings(c, in); err == nil {
			var app inventory.App
			if app, err = s.Inventory.Configure(c.Context(), c.Actor(), c.Path("id"), set); err == nil {
				return Go("/apps/"+app.ID+"/settings", "Saved."), nil
			}
		}
	}
	return c.Again(err, func(wrong view.Errors) (Page, error) {
		h, err := s.head(c, "Settings")
		return appPage(h, editAppBody(h, in, wrong)), err
	})
}

func (s *Server) askRemoveApp(c *Call, wrong view.Errors) (Page, error) {
	app, err := s.Inventory.AppByID(c.Context(), s.DB, c.Path("id"))
	if err != nil {
		return Page{}, err
	}
	held, err := s.Inventory.Holdings(c.Context(), c.Actor(), app.ID)
	if err != nil {
		return Page{}, err
	}
	connector, err := s.connectorOf(c, app.ID)
	if err != nil {
		return Page{}, err
	}
	return Page{Title: "Remove " + app.Name, Section: applications, Body: removeAppBody(app, held, connector, wrong)}, nil
}

func (s *Server) removeApp(c *Call) (Outcome, error) {
	app, err := s.Inventory.RemoveApp(c.Context(), c.Actor(), c.Path("id"))
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) { return s.askRemoveApp(c, wrong) })
	}
	to := "/apps/unmanaged"
	if app.Managed {
		to = "/apps"
	}
	return Go(to, app.Name+" was removed."), nil
}

// ---- a resource's page

func (s *Server) resource(c *Call) (Page, error) {
	detail, err := s.Inventory.ResourcePage(c.Context(), c.Actor(), c.Path("id"))
	if err != nil {
		return Page{}, err
	}
	v := c.View()
	read := func(after inventory.Key, limit int) (inventory.Page[insight.Right], error) {
		return s.Insight.Rights(c.Context(), c.Actor(), s.Inventory, inventory.EntitlementQuery{AppID: detail.AppID, ResourceID: detail.ID}, inventory.Order{}, after, limit)
	}
	page, err := read(place(v.After), pageSize)
	if err != nil {
		return Page{}, err
	}
	table := resourceRights(detail, page, v)
	own := v
	own.After, own.Values = v.Get("held"), nil
	held, _, err := s.holds(c, detail.ID, own)
	if err != nil {
		return Page{}, err
	}
	held.Later = "" // the account's page, or the list of grants, has them all
	return Page{
		Title: cmp.Or(detail.Name, detail.ExternalID), Section: applications, CSV: table.Export(everything(read)), Name: detail.Name,
		Body: resourceBody(detail, table.Draw(), held.Draw(), profileFacts(detail.Profile)),
	}, nil
}

func resourceRights(detail inventory.ResourceDetail, page inventory.Page[insight.Right], v view.View) view.Table[insight.Right] {
	type item = insight.Right
	return view.Table[item]{
		ID: "rights", Name: "Entitlements of " + detail.Name, Rows: page.Rows, View: v, Bare: true, Key: func(r item) string { return r.ID },
		Later: cursor(page.Next), Sums: sums(page, v, inventory.Count{}, "entitlement", "entitlements"),
		Empty: view.Empty("shield", "Nothing to grant", "The source tells of no entitlement of this resource."),
		Columns: []view.Column[item]{
			{
				ID: "name", Title: "Entitlement", Main: true, Wrap: true, Text: func(r item) string { return r.Name },
				Cell: func(r item) templ.Component { return view.Link("/entitlements/"+url.PathEscape(r.ID), r.Name) },
			},
			{ID: "what", Title: "What it lets one do", Fill: true, Text: meant},
			{
				ID: "risk", Title: "Risk", Text: func(r item) string { return riskWords(r) },
				Cell: func(r item) templ.Component { return riskOf(r) },
			},
			{ID: "holders", Title: "Direct holders", Number: true, Text: func(r item) string { return view.Number(r.Grants) }},
		},
	}
}

// profileFacts are what a source tells of something besides, by name.
func profileFacts(profile json.RawMessage) []view.Fact {
	var values map[string]any
	if len(profile) == 0 || json.Unmarshal(profile, &values) != nil {
		return nil
	}
	var facts []view.Fact
	for name, value := range values {
		words, plain := value.(string)
		if !plain {
			text, err := json.Marshal(value)
			if err != nil {
				continue
			}
			words = string(text)
		}
		if words != "" && words != "null" {
			facts = append(facts, view.Fact{Name: name, Value: view.Text(words)})
		}
	}
	slices.SortFunc(facts, func(a, b view.Fact) int { return strings.Compare(a.Name, b.Name) })
	return facts
}

// ---- the words of these pages

// orID is a name, or the id of what has none.
func orID(name, id string) string { return cmp.Or(name, id) }

// short is a text of at most so many letters.
func short(words string, most int) string {
	letters := []rune(words)
	if len(letters) <= most {
		return words
	}
	return strings.TrimSpace(string(letters[:most-1])) + "…"
}

func appCrumbs(app inventory.App) []view.Crumb {
	list := view.Crumb{Title: "Managed apps", Href: "/apps"}
	if !app.Managed {
		list = view.Crumb{Title: "Unmanaged apps", Href: "/apps/unmanaged"}
	}
	return []view.Crumb{{Title: applications, Href: "/apps"}, list}
}

func appBadge(h appHead) templ.Component {
	if h.Connector == nil {
		return nil
	}
	return boxed(h.Connector)
}

func appMeta(h appHead) []templ.Component {
	meta := []templ.Component{ownedBy(h.Owners)}
	if h.Directory {
		meta = append(meta, view.Text("Source of people"))
	}
	if h.Managed || !h.SyncedAt.IsZero() {
		meta = append(meta, synced(h))
	}
	return meta
}

func overviewFacts(o overview) []view.Fact {
	roles := o.Numbers.Assignments
	return []view.Fact{
		{Name: "Accounts", Value: view.Text(tally(o.Numbers.Accounts)), Sub: tally(o.Numbers.Unmatched) + " unmatched, " + tally(o.Numbers.Orphaned) + " orphaned"},
		{Name: "Entitlements", Value: view.Text(tally(roles)), Sub: "and " + view.Number(o.Numbers.Entitlements.N-roles.N) + " that come with them"},
		{Name: "Grants", Value: view.Text(tally(o.Numbers.Grants)), Sub: "direct ones"},
		{Name: "Resources", Value: view.Text(tally(o.Numbers.Resources)), Sub: "of all types"},
	}
}

// lookAt are what somebody should look at in an app.
func lookAt(o overview) []view.Row {
	var rows []view.Row
	add := func(count inventory.Count, shape view.Shape, title, words, query string) {
		if count.N > 0 {
			rows = append(rows, view.Row{Title: lookLink(shape, o.path()+"/accounts?match="+query, tally(count)+" "+title), Sub: words})
		}
	}
	add(o.Numbers.Orphaned, view.ShapeWarn, "orphaned", "Their person is disabled or left.", "orphaned")
	add(o.Numbers.Unmatched, view.ShapeInfo, "unmatched", "Nobody knows whose these accounts are.", "unmatched")
	if len(o.Owners) == 0 {
		rows = append(rows, view.Row{Title: lookLink(view.ShapeInfo, o.path()+"/settings", "No owner"), Sub: "Nobody decides on its access but administrators."})
	}
	for _, p := range o.Proof {
		if p.Source != p.File {
			words := "The source says it has " + view.Number(p.Source) + " of the type " + p.Type + "; " + view.Number(p.File) + " were read."
			rows = append(rows, view.Row{Title: lookLink(view.ShapeWarn, o.path(), "Not all was read"), Sub: words})
		}
	}
	if len(rows) == 0 {
		rows = append(rows, view.Row{Title: view.Label(view.ShapeOK, "Nothing"), Sub: "Every account has its person, and the app has an owner."})
	}
	return rows
}

func proofShape(p proof) view.Shape {
	if p.Source == p.File {
		return view.ShapeOK
	}
	return view.ShapeWarn
}

func syncFacts(o overview) []view.Fact {
	facts := []view.Fact{
		{Name: "Applied", Value: view.Time(o.Sync.FinishedAt)},
		{Name: "Read", Value: view.Text(view.Took(o.Sync.EndedAt.Sub(o.Sync.BeganAt)))},
	}
	var changes ingest.Changes
	if len(o.Sync.Changes) > 0 && json.Unmarshal(o.Sync.Changes, &changes) == nil {
		facts = append(facts, view.Fact{Name: "Accounts", Value: view.Text(changed(changes.Accounts))},
			view.Fact{Name: "Entitlements", Value: view.Text(changed(changes.Entitlements))}, view.Fact{Name: "Grants", Value: view.Text(changed(changes.Grants))})
	}
	if o.Sync.FileHash != "" {
		facts = append(facts, view.Fact{Name: "File", Value: view.Mono(short(o.Sync.FileHash, 17)), Sub: "SHA-256"})
	}
	return facts
}

// changed is how a sync changed something, in numbers: "+4 −1".
func changed(c ingest.Change) string {
	words := ""
	for _, one := range []struct {
		sign  string
		count int64
	}{{"+", c.Added}, {" −", c.Removed}} {
		if one.count > 0 {
			words += one.sign + view.Number(one.count)
		}
	}
	if words == "" {
		return "as before"
	}
	return strings.TrimSpace(words)
}

func grantedSteps(changes []inventory.Change, titles map[string]string, who func(inventory.Change) string) []view.Step {
	var steps []view.Step
	for _, ch := range changes {
		step := view.Step{Shape: view.ShapeOK, Title: "Granted", Sub: grantedSub(ch)}
		if ch.Ended {
			step.Shape, step.Title = view.ShapeEnded, "Ended"
		}
		title := ""
		if titles != nil {
			title = cmp.Or(titles[ch.EntitlementID], ch.EntitlementName, ch.Entitlement)
		}
		step.Rest = grantedRest(ch, title, who(ch))
		steps = append(steps, step)
	}
	return steps
}

func settingFacts(h appHead) []view.Fact {
	matching := view.Fact{Name: "Accounts matched by", Value: view.Text("E-mail or employee id")}
	if h.Matching == inventory.Broad {
		matching.Value, matching.Sub = view.Text("E-mail, employee id or username"), "Broad"
	}
	directory := view.Fact{Name: "Source of people", Value: view.Text(yes(h.Directory))}
	if h.Directory {
		directory.Sub = "Each sync makes people of its accounts"
	}
	facts := []view.Fact{
		{Name: "Name", Value: view.Text(h.Name)},
		{Name: "Description", Value: cell(h.Description, view.Text)},
		{Name: "Owners", Value: cell(listed(ownerNames(h.Owners), 99), view.Text)},
		matching, directory,
		{Name: "Added", Value: view.Day(h.CreatedAt)},
	}
	return facts
}

func entitlementOwners(owners []inventory.Owner) (options []view.Option) {
	for _, owner := range owners {
		if owner.Kind == inventory.OwnerEntitlement {
			options = append(options, view.Option{Value: owner.ID, Title: "Holders of " + owner.Name})
		}
	}
	return options
}

func removeEffects(held inventory.Holdings) (effects []view.Effect) {
	for _, one := range []struct {
		count int64
		words string
	}{
		{held.Accounts, "accounts are forgotten, with whose they are"},
		{held.Entitlements, "entitlements, with their owners and rules"},
		{held.Grants, "grants become past; nobody is told that they were revoked"},
		{held.People, "people stay, as if a file had brought them"},
	} {
		if one.count > 0 {
			effects = append(effects, view.Effect{Number: int(one.count), Words: one.words})
		}
	}
	return effects
}

func removeWords(app inventory.App, connector *integration.Overview) string {
	if connector != nil {
		return "It has the connector " + connector.Name + ": remove that first. Nothing is changed until then."
	}
	return "Nothing changes in " + app.Name + " itself. This can't be undone."
}

func resourceMeta(r inventory.ResourceDetail) []templ.Component {
	meta := []templ.Component{view.Text(r.TypeName)}
	if r.Description != "" {
		meta = append(meta, view.Text(short(r.Description, 160)))
	}
	return meta
}

func resourceFacts(r inventory.ResourceDetail) []view.Fact {
	facts := []view.Fact{{Name: "Type", Value: view.Text(r.TypeName)}, {Name: "Id", Value: view.Mono(r.ExternalID)}}
	if r.ParentID != "" {
		facts = append(facts, view.Fact{Name: "Part of", Value: partOf(r)})
	}
	return append(facts, view.Fact{Name: "First seen", Value: view.Day(r.FirstSeenAt)}, view.Fact{Name: "Changed", Value: view.Day(r.ChangedAt)})
}
