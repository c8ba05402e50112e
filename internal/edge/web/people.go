package web

import (
	"bytes"
	"cmp"
	"maps"
	"net/url"
	"slices"

	"github.com/a-h/templ"

	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
	"airlock/internal/insight"
	"airlock/internal/inventory"
)

const people = "People"

// peopleRoutes are the people and each one's page.
func (s *Server) peopleRoutes() []Route {
	read, manage := needs(identity.Read, "person"), needs(identity.Manage, "person")
	return []Route{
		s.page("GET /people", read, s.people),
		s.page("GET /people/import", manage, func(*Call) (Page, error) { return importPage(importForm{}, nil), nil }),
		s.form("POST /people/import", manage, s.importPeople),
		s.page("GET /people/{id}", read, s.person),
	}
}

// ---- the directory

// personLine is a person in the list.
type personLine struct {
	identity.Person
	Manager  string
	Accounts int64
	Source   string // in words
}

func (s *Server) people(c *Call) (Page, error) {
	v := c.View()
	facets, err := s.People.Facets(c.Context(), c.Actor())
	if err != nil {
		return Page{}, err
	}
	sources, err := s.sources(c, facets.Sources)
	if err != nil {
		return Page{}, err
	}
	read := func(after inventory.Key, limit int) (inventory.Page[personLine], error) {
		return s.peopleList(c, v, sources, after, limit)
	}
	page, err := read(place(v.After), pageSize)
	if err != nil {
		return Page{}, err
	}
	may := inventory.Can(c.Context(), s.DB, c.Actor(), identity.Manage, identity.Object{Kind: "person"}) == nil
	table := peopleTable(page, v, facets, sources, may)
	return Page{Title: people, Section: people, Body: peopleBody(table, may), Name: people, CSV: table.Export(everything(read))}, nil
}

// sources are what sources of people are called.
func (s *Server) sources(c *Call, ids []string) (map[string]string, error) {
	names := map[string]string{}
	for _, id := range ids {
		switch id {
		case identity.SourceCSV:
			names[id] = "File"
		case identity.SourceManual:
			names[id] = "By hand"
		default:
			app, err := s.Inventory.AppOnRecord(c.Context(), s.DB, id)
			if err != nil && !fault.Is(err, fault.NotFound) {
				return nil, err
			}
			names[id] = cmp.Or(app.Name, id)
		}
	}
	return names, nil
}

func (s *Server) peopleList(c *Call, v view.View, sources map[string]string, after inventory.Key, limit int) (inventory.Page[personLine], error) {
	page := inventory.Page[personLine]{}
	list, more, err := s.People.Directory(c.Context(), c.Actor(), identity.PersonQuery{
		Search: v.Query, Department: v.Get("department"),
		PersonFilter: identity.PersonFilter{Status: v.Get("status"), Source: v.Get("source"), ManagerID: v.Get("manager"), AfterName: after.Name, AfterID: after.ID, Limit: limit},
	})
	if err != nil {
		return page, err
	}
	var ids, managers []string
	for _, person := range list {
		ids, managers = append(ids, person.ID), append(managers, person.ManagerID)
	}
	known, err := s.People.ByIDs(c.Context(), s.DB, managers)
	if err != nil {
		return page, err
	}
	accounts, err := s.Inventory.AccountsOf(c.Context(), s.DB, ids)
	if err != nil {
		return page, err
	}
	for _, person := range list {
		page.Rows = append(page.Rows, personLine{person, known[person.ManagerID].Name, accounts[person.ID], cmp.Or(sources[person.Source], person.Source)})
	}
	if more {
		last := list[len(list)-1]
		page.Next = inventory.Key{Name: last.Name, ID: last.ID}
	}
	return page, nil
}

func peopleTable(page inventory.Page[personLine], v view.View, facets identity.Facets, sources map[string]string, may bool) view.Table[personLine] {
	type item = personLine
	table := view.Table[item]{
		ID: "people", Name: people, Rows: page.Rows, View: v, Key: func(p item) string { return p.ID }, Search: "Search names, e-mail, ids", CSV: true,
		Later: cursor(page.Next), Sums: sums(page, v, inventory.Count{N: facets.People}, "person", "people"),
		Filters: []view.Filter{{Name: "status", Title: "Status", Options: []view.Option{
			{Title: "Any status"}, {Value: identity.Enabled, Title: "Active"}, {Value: identity.Disabled, Title: "Disabled"}, {Value: identity.Deleted, Title: "Left"},
		}}},
		Columns: []view.Column[item]{
			{
				ID: "name", Title: "Person", Main: true, Text: func(p item) string { return p.Name },
				Cell: func(p item) templ.Component { return personName(p.Person) },
			},
			{ID: "title", Title: "Job title", Fill: true, Text: func(p item) string { return p.JobTitle }},
			{ID: "department", Title: "Department", Text: func(p item) string { return p.Department }},
			{
				ID: "manager", Title: "Manager", Text: func(p item) string { return p.Manager },
				Cell: func(p item) templ.Component {
					if p.Manager == "" {
						return nil
					}
					return view.More("/people/"+url.PathEscape(p.ManagerID), p.Manager)
				},
			},
			{
				ID: "status", Title: "Status", Text: func(p item) string { return personState(p.Status) },
				Cell: func(p item) templ.Component { return personStatus(p.Person) },
			},
			{ID: "accounts", Title: "Accounts", Number: true, Text: func(p item) string { return view.Number(p.Accounts) }},
			{ID: "source", Title: "Source", Text: func(p item) string { return p.Source }},
			{ID: "email", Title: "E-mail", Extra: true, Text: func(p item) string { return p.Email }},
			{ID: "username", Title: "Username", Extra: true, Text: func(p item) string { return p.Username }},
			{ID: "employee-id", Title: "Employee id", Extra: true, Text: func(p item) string { return p.EmployeeID }},
			{ID: "kind", Title: "Kind", Extra: true, Text: func(p item) string { return upper(p.Kind) }},
		},
	}
	if len(facets.Departments) > 1 || v.Get("department") != "" {
		options := []view.Option{{Title: "All departments"}}
		for _, one := range facets.Departments {
			options = append(options, view.Option{Value: one, Title: one})
		}
		table.Filters = append(table.Filters, view.Filter{Name: "department", Title: "Department", Options: options})
	}
	if len(facets.Sources) > 1 {
		options := []view.Option{{Title: "All sources"}}
		for _, one := range facets.Sources {
			options = append(options, view.Option{Value: one, Title: sources[one]})
		}
		table.Filters = append(table.Filters, view.Filter{Name: "source", Title: "Source", Options: options})
	}
	if v.Get("manager") != "" {
		table.Chips = append(table.Chips, view.Filter{Name: "manager", Title: "Reports of one manager"})
	}
	table.Empty = peopleEmpty(may)
	if filtered(v) {
		table.Empty = nobody("person")
	}
	return table
}

// personState is whether a person is there, in a word.
func personState(status string) string {
	switch status {
	case identity.Enabled:
		return "Active"
	case identity.Deleted:
		return "Left"
	}
	return upper(status)
}

// ---- a file of people

// importForm is a file of people, as text: what was looked at is what is imported.
type importForm struct {
	CSV     string `form:"csv,raw"`
	Confirm bool   `form:"confirm"`
	result  *identity.ImportResult
}

func importPage(in importForm, wrong view.Errors) Page {
	return Page{Title: "Import people", Section: people, Body: importBody(in, wrong)}
}

// importPeople shows what a file of people would change; once that is confirmed, it
// is imported.
func (s *Server) importPeople(c *Call) (Outcome, error) {
	var in importForm
	err := c.Form(&in)
	again := func(err error) (Outcome, error) {
		return c.Again(err, func(wrong view.Errors) (Page, error) { return importPage(in, wrong), nil })
	}
	if err != nil {
		return again(err)
	}
	file, err := c.File("file")
	if err != nil {
		return again(err)
	}
	if len(file) > 0 {
		in.CSV = string(file)
	}
	if in.CSV == "" {
		return again(fault.New(fault.Invalid, "choose a file; nobody was imported").At("file"))
	}
	if !in.Confirm || len(file) > 0 {
		result, err := s.People.PreviewPeople(c.Context(), c.Actor(), bytes.NewReader([]byte(in.CSV)))
		if err != nil {
			return again(err)
		}
		in.result = &result
		return Show(importPage(in, nil)), nil
	}
	result, err := s.People.ImportPeople(c.Context(), c.Actor(), bytes.NewReader([]byte(in.CSV)))
	if err != nil {
		return again(err)
	}
	return Go("/people", view.Count(result.Added, "person was", "people were")+" added, "+view.Number(result.Changed)+" changed."), nil
}

// ---- a person's page

// personView is what a person's page shows.
type personView struct {
	identity.Person
	Manager  identity.Person
	Source   string // in words
	Roles    identity.Roles
	Accounts []inventory.AccountItem
	Apps     map[string]string // name by id, of the accounts
	Access   view.Table[insight.Holding]
	rights   []insight.Holding
	More     bool // there is more access than is on this page
	Reports  int
	SeeRoles bool
	May      bool // change product roles
}

func (p personView) path() string { return "/people/" + url.PathEscape(p.ID) }

func (s *Server) person(c *Call) (Page, error) {
	p, err := s.personOf(c)
	if err != nil {
		return Page{}, err
	}
	v := c.View()
	titles, list := map[string]string{}, s.Inventory.PersonRoles
	if v.Get("show") == "all" {
		list = s.Inventory.PersonAccess
	}
	read := func(after inventory.Key, limit int) (inventory.Page[insight.Holding], error) {
		grants, err := list(c.Context(), c.Actor(), p.ID, after, limit)
		if err != nil {
			return inventory.Page[insight.Holding]{}, err
		}
		page, some, err := s.holdings(c, grants)
		maps.Copy(titles, some)
		return page, err
	}
	page, err := read(place(v.After), pageSize)
	if err != nil {
		return Page{}, err
	}
	p.rights, p.More = page.Rows, page.Next != (inventory.Key{}) || v.After != ""
	p.Access = holdsTable("access", page, titles, v)
	if p.Accounts, err = s.accountsOf(c, &p); err != nil {
		return Page{}, err
	}
	return Page{Title: p.Name, Section: people, Body: personBody(p), Name: p.Name + " access", CSV: p.Access.Export(everything(read))}, nil
}

// personOf reads who a person is, for whoever may see them.
func (s *Server) personOf(c *Call) (personView, error) {
	var p personView
	object := identity.Object{Kind: "person", ID: c.Path("id"), SubjectID: c.Path("id")}
	if err := inventory.Can(c.Context(), s.DB, c.Actor(), identity.Read, object); err != nil {
		return p, err
	}
	var err error
	if p.Person, err = s.People.ByID(c.Context(), s.DB, c.Path("id")); err != nil {
		return p, err
	}
	if p.ManagerID != "" {
		managers, err := s.People.ByIDs(c.Context(), s.DB, []string{p.ManagerID})
		if err != nil {
			return p, err
		}
		p.Manager = managers[p.ManagerID]
	}
	sources, err := s.sources(c, []string{p.Person.Source})
	if err != nil {
		return p, err
	}
	p.Source = sources[p.Person.Source]
	if reports, more, err := s.People.Directory(c.Context(), c.Actor(), identity.PersonQuery{PersonFilter: identity.PersonFilter{ManagerID: p.ID, Limit: 1000}}); err == nil && !more {
		p.Reports = len(reports)
	}
	holdings, err := s.SignIns.RoleHoldings(c.Context(), c.Actor(), p.ID)
	if fault.Is(err, fault.Forbidden) {
		return p, nil
	}
	p.SeeRoles = true
	for _, holding := range holdings {
		p.Roles |= holding.Role
	}
	p.May = inventory.Can(c.Context(), s.DB, c.Actor(), identity.Manage, identity.Object{Kind: "role", SubjectID: p.ID}) == nil
	return p, err
}

// accountsOf are a person's accounts in all apps.
func (s *Server) accountsOf(c *Call, p *personView) ([]inventory.AccountItem, error) {
	page, err := s.Inventory.AccountList(c.Context(), c.Actor(), inventory.AccountFilter{PersonID: p.ID}, inventory.Order{}, inventory.Key{}, pageSize)
	if err != nil {
		return nil, err
	}
	p.Apps = map[string]string{}
	for _, account := range page.Rows {
		if p.Apps[account.AppID] != "" {
			continue
		}
		app, err := s.Inventory.AppByID(c.Context(), s.DB, account.AppID)
		if err != nil {
			return nil, err
		}
		p.Apps[account.AppID] = app.Name
	}
	return page.Rows, nil
}

// riskiest is the highest risk of some rights, and how many have it.
func riskiest(rights []insight.Holding) (risk inventory.Risk, count int) {
	order := []inventory.Risk{"", inventory.Low, inventory.Medium, inventory.High, inventory.Critical}
	for _, right := range rights {
		has, _ := right.Judged()
		switch at, most := slices.Index(order, has), slices.Index(order, risk); {
		case at > most:
			risk, count = has, 1
		case at == most:
			count++
		}
	}
	return risk, count
}
