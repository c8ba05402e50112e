// Package web is the pages: it decides nothing. A handler decodes what was asked
// for, calls one method of a service, and renders; the services say who may do
// what. All of it works without scripts; scripts make it quicker.
//
// # How to write a page
//
// A group of pages is a Go file and a templ file of the same name in this
// package, such as connectors.go and connectors.templ. The Go file has a function
// that gives its routes, and Server.table calls that:
//
//	func (s *Server) connectorRoutes() []Route {
//		return []Route{
//			s.page("GET /connectors", needs(identity.Read, "connector"), s.connectors),
//			s.form("POST /connectors/{id}/pause", needs(identity.Manage, "connector"), s.pauseConnector),
//		}
//	}
//
// The services it needs are fields of Config. An entry of the navigation is in
// sections already: it shows as soon as a page has its path. Nothing else is to
// be registered.
//
// A page returns a Page: the window's title, the section of the navigation, and a
// body made of the components of the package view. The first of them is
// view.Head. Errors are those of the service, as they come:
//
//	func (s *Server) connectors(c *Call) (Page, error) {
//		list, err := s.Integration.List(c.Context(), c.Actor(), …)
//		if err != nil {
//			return Page{}, err
//		}
//		table := connectorTable(list, c.View())
//		return Page{Title: "Connectors", Section: "Integrations", Body: connectorsBody(table), CSV: table.Export(…)}, nil
//	}
//
// A form is an ordinary <form method="post"> (view.PanelForm, view.PostButton).
// Its handler returns where to go and what to say there, once:
//
//	func (s *Server) saveSettings(c *Call) (Outcome, error) {
//		var in struct {
//			URL      string `form:"base-url"`
//			Password string `form:"password,raw"`
//		}
//		err := c.Form(&in)
//		if err == nil {
//			err = s.Integration.Set(c.Context(), c.Actor(), c.Path("id"), …)
//		}
//		if err != nil {
//			return c.Again(err, func(wrong view.Errors) (Page, error) { return s.settingsPage(c, in, wrong) })
//		}
//		return Go("/connectors/"+c.Path("id"), "Saved. A sync has begun."), nil
//	}
//
// Again shows the form with what was typed and what is wrong with it: a service's
// errors name their field by fault.Error.At, and the field shows wrong["its
// name"]. A password never comes back. Show answers a form with a page that is
// seen once, such as a secret. What is far-reaching is asked for first: a link
// with data-dialog to a page that is a view.Ask; it opens over the page, and
// without scripts it is the page.
//
// # Signing in
//
// A page for who isn't signed in has anybody() for its access and is a Gate. When
// somebody has signed in, c.SetCookie(SessionCookie, token, 0) keeps the session,
// and Go(c.Back(), "") leads to the page that they had asked for. Single sign-on
// begins with a link, not with a form: the policy forbids that a form's answer
// leads to another site.
//
// # Tables
//
// view.Table is a list of rows of any type: columns with a cell (a component) and
// a text (for CSV), filters, sort, pages by key, an unfolding row, actions for
// many. What the reader asks for is in the address: c.View() has it, and
// View.SortBy, View.Get and View.Query say it to the service. Call Draw in the
// body. Columns that somebody chose and the height of rows are kept by the table
// itself.
//
// # Live parts
//
// Put what changes by itself into view.Live(id, topics), topics with spaces
// between, or set LiveID and Live of a view.PageHead. When something is told of a
// topic, the page is asked for anew by its own address and the elements with
// these ids are brought up to date; what is typed, ticked, open, selected or
// focused in them stays. So a page needs no address of its own for its parts; it
// must not change anything when it is looked at. Config.MayHear says who may
// follow a topic.
//
// # Keys
//
// data-key="a" on a button, link or field gives it a key; print it on the button
// with <kbd>a</kbd> and name it in aria-keyshortcuts. Rows of tables have j, k,
// x, o and Enter of themselves. In the navigation the key of a section follows g.
//
// # Style
//
// No style attribute, no script in a page: the policy forbids both. Classes are
// in static/css, a sheet for each family of components; static.go names them in
// their order. In development all components are at /dev/components.
//
// `make generate` writes the _templ.go files. In tests webtest opens pages in a
// browser; a test of a page calls webtest.Axe at each width and scheme.
package web
