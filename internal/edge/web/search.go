package web

import (
	"strings"

	"github.com/a-h/templ"

	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// searchRoutes find people, accounts, apps, entitlements and connectors.
func (s *Server) searchRoutes() []Route {
	return []Route{s.page("GET /search", member(), s.search)}
}

// So many of each kind are found.
const foundOfKind = 8

// foundRow is what a search found.
type foundRow struct {
	inventory.Hit
	href string
}

// hitConnector is a connector that was found.
const hitConnector inventory.HitKind = "connector"

// hitKinds are the kinds in the order in which they are shown.
var hitKinds = []struct {
	kind  inventory.HitKind
	title string
}{
	{inventory.HitPerson, "People"},
	{inventory.HitApp, "Applications"},
	{inventory.HitEntitlement, "Entitlements"},
	{inventory.HitAccount, "Accounts"},
	{hitConnector, "Connectors"},
	{inventory.HitResource, "Resources"},
}

func (s *Server) search(c *Call) (Page, error) {
	text := strings.TrimSpace(c.View().Query)
	var rows []foundRow
	var partial bool
	if text != "" {
		hits, some, err := s.Inventory.Search(c.Context(), c.Actor(), text, foundOfKind)
		if err != nil {
			return Page{}, err
		}
		connectors, err := s.connectorHits(c, text)
		if err != nil {
			return Page{}, err
		}
		partial = some
		hits = append(hits, connectors...)
		for _, group := range hitKinds {
			for _, hit := range hits {
				if hit.Kind != group.kind {
					continue
				}
				if hit.Kind == inventory.HitEntitlement {
					hit.Name, hit.Detail = inventory.Title(hit.Detail, hit.Name, "assignment"), hit.Name
				}
				rows = append(rows, foundRow{hit, s.pageOf(string(hit.Kind), hit.ID)})
			}
		}
	}
	title := "Search"
	if text != "" {
		title = "Search: " + shortened(text, 40)
	}
	return Page{Title: title, Body: searchBody(text, foundTable(c.View(), rows), len(rows), partial)}, nil
}

// connectorHits are the connectors with a text in their names.
func (s *Server) connectorHits(c *Call, text string) (hits []inventory.Hit, err error) {
	all, err := s.allConnectors(c)
	if err != nil && !fault.Is(err, fault.Forbidden) {
		return nil, err
	}
	for _, one := range all {
		if len(hits) < foundOfKind && strings.Contains(identity.Fold(one.Name), identity.Fold(text)) {
			hits = append(hits, inventory.Hit{Kind: hitConnector, ID: one.ID, Name: one.Name, Detail: string(one.State)})
		}
	}
	return hits, nil
}

func foundTable(v view.View, rows []foundRow) view.Table[foundRow] {
	titles := map[inventory.HitKind]string{}
	for _, group := range hitKinds {
		titles[group.kind] = group.title
	}
	return view.Table[foundRow]{
		ID: "found", Name: "What was found", Rows: rows, View: v, Bare: true,
		Key:   func(r foundRow) string { return string(r.Kind) + "-" + r.ID },
		Group: func(r foundRow) string { return titles[r.Kind] },
		Columns: []view.Column[foundRow]{
			{
				ID: "name", Title: "Name", Main: true, Text: func(r foundRow) string { return r.Name },
				Cell: func(r foundRow) templ.Component { return linked(r.href, r.Name) },
			},
			{ID: "detail", Title: "Which", Fill: true, Text: func(r foundRow) string { return r.Detail }},
			{ID: "app", Title: "Application", Text: func(r foundRow) string {
				if r.Kind == inventory.HitApp {
					return ""
				}
				return r.AppName
			}},
		},
	}
}
