package web

import (
	"cmp"
	"io"
	"maps"
	"net/url"

	"github.com/a-h/templ"

	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
	"airlock/internal/insight"
	"airlock/internal/inventory"
)

// accountRoutes are an account's page, and what people say of it by hand.
func (s *Server) accountRoutes() []Route {
	read, manage := needs(identity.Read, "account"), needs(identity.Manage, "account")
	return []Route{
		s.page("GET /accounts/{id}", read, func(c *Call) (Page, error) { return s.accountPage(c, nil) }),
		s.page("GET /accounts/{id}/past", read, s.pastAccess),
		s.form("POST /accounts/{id}/person", manage, s.linkAccount),
		s.form("POST /accounts/{id}/free", manage, s.freeAccount),
		s.form("POST /accounts/{id}/kind", manage, s.setKind),
	}
}

// accountView is what an account's page shows.
type accountView struct {
	inventory.Account
	App     inventory.App
	Person  *identity.Person
	Holds   view.Table[insight.Holding]
	Changes []inventory.Change
	Titles  map[string]string // of what changed
	May     bool              // say whose it is, and what uses it
	Find    string            // whom one looks for to link it to
	Found   []identity.Person
	More    bool
	Wrong   view.Errors
}

func (a accountView) path() string { return "/accounts/" + url.PathEscape(a.ID) }

func (s *Server) accountPage(c *Call, wrong view.Errors) (Page, error) {
	a, err := s.account(c)
	if err != nil {
		return Page{}, err
	}
	v := c.View()
	a.Wrong = wrong
	var export func(io.Writer) error
	if a.Holds, export, err = s.holds(c, a.ID, v); err != nil {
		return Page{}, err
	}
	changes, err := s.Inventory.Changes(c.Context(), c.Actor(), inventory.ChangeFilter{PrincipalID: a.ID}, inventory.Key{}, 8)
	if err != nil {
		return Page{}, err
	}
	a.Changes = changes.Rows
	if a.Titles, err = s.titles(c, changesOf(a.Changes)); err != nil {
		return Page{}, err
	}
	if a.Find = v.Get("find"); a.Find != "" && a.May {
		query := identity.PersonQuery{Search: a.Find, PersonFilter: identity.PersonFilter{Limit: 10}}
		if a.Found, a.More, err = s.People.Directory(c.Context(), c.Actor(), query); err != nil {
			return Page{}, err
		}
	}
	return Page{
		Title: a.Name + ", " + a.App.Name, Section: applications, Body: accountBody(a), Name: a.Name + " access",
		CSV: export,
	}, nil
}

// account reads an account, for whoever may see it.
func (s *Server) account(c *Call) (accountView, error) {
	var a accountView
	var err error
	if a.Account, err = s.Inventory.AccountByID(c.Context(), s.DB, c.Path("id")); err != nil {
		return a, err
	}
	object := identity.Object{Kind: "account", ID: a.ID, AppID: a.AppID, SubjectID: a.PersonID}
	if err := inventory.Can(c.Context(), s.DB, c.Actor(), identity.Read, object); err != nil {
		return a, err
	}
	a.May = inventory.Can(c.Context(), s.DB, c.Actor(), identity.Manage, object) == nil
	if a.App, err = s.Inventory.AppByID(c.Context(), s.DB, a.AppID); err != nil || a.PersonID == "" {
		return a, err
	}
	person, err := s.People.ByID(c.Context(), s.DB, a.PersonID)
	a.Person = &person
	return a, err
}

// access is a page of what something holds, with what the parts of the paths are
// called: its roles, or all that comes with them too.
func (s *Server) access(c *Call, principalID string, all bool, after inventory.Key, limit int) (inventory.Page[insight.Holding], map[string]string, error) {
	if !all {
		page, err := s.Inventory.Roles(c.Context(), c.Actor(), principalID, after, limit)
		if err != nil {
			return inventory.Page[insight.Holding]{}, nil, err
		}
		return s.holdings(c, page)
	}
	list, err := s.Inventory.Access(c.Context(), c.Actor(), principalID, after, limit+1)
	if err != nil {
		return inventory.Page[insight.Holding]{}, nil, err
	}
	page := inventory.Page[inventory.GrantItem]{}
	if len(list) > limit {
		list = list[:limit]
		page.Next = inventory.Key{Name: list[limit-1].EntitlementName, ID: list[limit-1].EntitlementID}
	}
	var ids []string
	for _, grant := range list {
		page.Rows = append(page.Rows, inventory.GrantItem{Grant: grant})
		ids = append(ids, grant.EntitlementID)
	}
	titles, err := s.titles(c, ids)
	if err != nil {
		return inventory.Page[insight.Holding]{}, nil, err
	}
	for n := range page.Rows {
		page.Rows[n].EntitlementName = cmp.Or(titles[page.Rows[n].EntitlementID], page.Rows[n].EntitlementName)
	}
	return s.holdings(c, page)
}

// holdings says of a page of grants what they let one do, and what the parts of
// their paths are called.
func (s *Server) holdings(c *Call, page inventory.Page[inventory.GrantItem]) (inventory.Page[insight.Holding], map[string]string, error) {
	out := inventory.Page[insight.Holding]{Next: page.Next, Partial: page.Partial}
	titles, err := s.titles(c, pathsOf(page.Rows))
	if err != nil {
		return out, nil, err
	}
	out.Rows, err = s.Insight.Holdings(c.Context(), c.Actor(), page.Rows)
	return out, titles, err
}

// holds is a table of what something holds, and its export.
func (s *Server) holds(c *Call, principalID string, v view.View) (view.Table[insight.Holding], func(io.Writer) error, error) {
	all, titles := v.Get("show") == "all", map[string]string{}
	read := func(after inventory.Key, limit int) (inventory.Page[insight.Holding], error) {
		page, some, err := s.access(c, principalID, all, after, limit)
		maps.Copy(titles, some)
		return page, err
	}
	page, err := read(place(v.After), pageSize)
	table := holdsTable("holds", page, titles, v)
	return table, table.Export(everything(read)), err
}

// holdsTable is a table of what somebody holds.
func holdsTable(id string, page inventory.Page[insight.Holding], titles map[string]string, v view.View) view.Table[insight.Holding] {
	type item = insight.Holding
	table := view.Table[item]{
		ID: id, Name: "Access", Rows: page.Rows, View: v, Bare: true, Key: func(g item) string { return g.PrincipalID + "." + g.EntitlementID }, Later: cursor(page.Next),
		Empty: view.Empty("shield", "No access", "As of the last sync there is nothing that is held, directly or by way of others."),
		Columns: []view.Column[item]{
			{
				ID: "right", Title: "Right", Main: true, Wrap: v.Get("show") == "all", Text: func(g item) string { return g.Title() },
				Cell: func(g item) templ.Component { return rightOf(g.GrantItem) },
			},
			{ID: "app", Title: "Application", Extra: true, Text: func(g item) string { return g.AppName }},
			{ID: "risk", Title: "Risk", Text: func(g item) string { return riskWords(g) }, Cell: func(g item) templ.Component { return riskOf(g) }},
			{ID: "what", Title: "What it lets one do", Fill: true, Text: func(g item) string { return upper(g.Meaning.Summary()) }},
			{
				ID: "path", Title: "Path", Wide: true, Wrap: true, Text: func(g item) string { return wayWords(g.GrantItem, titles) },
				Cell: func(g item) templ.Component { return wayOf(g.GrantItem, titles) },
			},
			{
				ID: "since", Title: "Since", Text: func(g item) string { return written(g.Since) },
				Cell: func(g item) templ.Component { return sinceOf(g.GrantItem) },
			},
			{ID: "until", Title: "Until", Text: func(g item) string { return written(g.Until()) }, Cell: func(g item) templ.Component { return ends(g.Until()) }},
			{ID: "account", Title: "Account", Extra: true, Text: func(g item) string { return g.PrincipalName }},
			{ID: "id", Title: "Id", Extra: true, Text: func(g item) string { return g.Entitlement }},
		},
	}
	if page.Next != (inventory.Key{}) || v.After != "" {
		table.Sums = view.Count(len(page.Rows), "right") + " on this page"
	}
	return table
}

// pastAccess lists what an account held before.
func (s *Server) pastAccess(c *Call) (Page, error) {
	a, err := s.account(c)
	if err != nil {
		return Page{}, err
	}
	v := c.View()
	titles := map[string]string{}
	read := func(after inventory.Key, limit int) (inventory.Page[inventory.PastGrant], error) {
		page, err := s.pastGrants(c, inventory.PastFilter{AppID: a.AppID, PrincipalID: a.ID}, after, limit)
		if err != nil {
			return page, err
		}
		var ids []string
		for _, grant := range page.Rows {
			ids = append(ids, grant.EntitlementID)
		}
		some, err := s.titles(c, ids)
		maps.Copy(titles, some)
		return page, err
	}
	page, err := read(place(v.After), pageSize)
	if err != nil {
		return Page{}, err
	}
	table := pastTable(page, v, "entitlement",
		func(g inventory.PastGrant) string { return cmp.Or(titles[g.EntitlementID], g.EntitlementName) }, func(g inventory.PastGrant) string { return g.Entitlement })
	return Page{
		Title: "Past access of " + a.Name, Section: applications, Body: pastAccessBody(a, table), Name: a.Name + " past access", CSV: table.Export(everything(read)),
	}, nil
}

// linkAccount says whose an account is; no person, that it is nobody's.
func (s *Server) linkAccount(c *Call) (Outcome, error) {
	var in struct {
		Person string `form:"person"`
		Nobody bool   `form:"nobody"`
	}
	err := c.Form(&in)
	if err == nil && in.Person == "" && !in.Nobody {
		err = fault.New(fault.Invalid, "choose a person; nothing was changed")
	}
	if err == nil {
		err = s.Inventory.Link(c.Context(), c.Actor(), c.Path("id"), in.Person)
	}
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) { return s.accountPage(c, wrong) })
	}
	words := "Linked. No sync changes that."
	if in.Person == "" {
		words = "The account is nobody's now. No sync changes that."
	}
	return Go("/accounts/"+url.PathEscape(c.Path("id")), words), nil
}

// freeAccount lets an account be matched by itself again.
func (s *Server) freeAccount(c *Call) (Outcome, error) {
	if err := s.Inventory.Free(c.Context(), c.Actor(), c.Path("id")); err != nil {
		return Outcome{}, err
	}
	return Go("/accounts/"+url.PathEscape(c.Path("id")), "The account is matched by itself again."), nil
}

func (s *Server) setKind(c *Call) (Outcome, error) {
	var in struct {
		Kind string `form:"kind"`
	}
	err := c.Form(&in)
	if err == nil {
		err = s.Inventory.SetKind(c.Context(), c.Actor(), c.Path("id"), inventory.AccountKind(in.Kind))
	}
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) { return s.accountPage(c, wrong) })
	}
	return Go("/accounts/"+url.PathEscape(c.Path("id")), "Saved. No sync changes that."), nil
}
