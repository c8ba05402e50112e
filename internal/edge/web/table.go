package web

import (
	"slices"

	"airlock/internal/edge/web/view"
)

// sections are the navigation, in its order.
var sections = []section{
	{"Home", "home", "/", "h"},
	{"Requests", "requests", "/requests", "r"},
	{"Reviews", "reviews", "/reviews", "v"},
	{"Applications", "apps", "/apps", "a"},
	{"Integrations", "plug", "/connectors", "i"},
	{"People", "people", "/people", "p"},
	{"Policies", "policies", "/policies", "o"},
	{"Audit log", "audit", "/audit", "l"},
	{"Settings", "settings", "/settings", "s"},
}

// table is every route there is. A group of pages has a function of its own that
// gives its routes.
func (s *Server) table() []Route {
	routes := []Route{
		s.form("POST /choices/{table}", member(), s.choose),
		s.form("POST /sign-out", member(), s.signOut),
		s.page("GET /keys", member(), s.keys),
		s.raw("GET /events", member(), s.events),
	}
	routes = slices.Concat(routes, s.doorRoutes(), s.meRoutes(), s.homeRoutes(), s.searchRoutes(), s.auditRoutes(), s.settingRoutes(),
		s.connectorRoutes(), s.appRoutes(), s.entitlementRoutes(), s.accountRoutes(), s.peopleRoutes())
	if s.Development {
		routes = append(routes, s.galleryRoutes()...)
	}
	return routes
}

func (s *Server) keys(c *Call) (Page, error) {
	return Page{Title: "Keyboard", Body: view.Keys(s.nav(c, ""))}, nil
}

// signOut ends the session and what the browser knows of it.
func (s *Server) signOut(c *Call) (Outcome, error) {
	if err := s.SignOut(c.Context(), c.Token()); err != nil {
		return Outcome{}, err
	}
	c.SetCookie(SessionCookie, "", -1)
	c.w.Header().Set("Clear-Site-Data", `"cache"`)
	s.Live.Tell(c.Context(), "session/"+c.Session.ID)
	return Go("/sign-in", ""), nil
}
