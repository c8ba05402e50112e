package web

import (
	"io"
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

// Access says who may call a route. Only the services decide: this is for the
// navigation, which shows what is allowed, and for the test of who may do what,
// which calls every route as everybody.
type Access struct {
	Public bool            // also who isn't signed in
	Action identity.Action // empty: everybody who is signed in
	Kind   string          // the kind of object, as identity.Object has it
}

// anybody need not be signed in; member must be.
func anybody() Access { return Access{Public: true} }
func member() Access  { return Access{} }

// needs is for what the services ask for.
func needs(action identity.Action, kind string) Access { return Access{Action: action, Kind: kind} }

// Route is an address and what serves it.
type Route struct {
	Pattern string // as of http.ServeMux, always with its method
	Access  Access
	serve   http.HandlerFunc
}

// Page is what a handler shows.
type Page struct {
	Title string // of the window; the page's head has its own
	Body  templ.Component
	// Section is the title of the navigation's entry that the page belongs to.
	Section string
	// CSV writes the page's table, if it has one: Table.Export. It is asked for
	// by ?format=csv, or by Accept: text/csv.
	CSV  func(io.Writer) error
	Name string // of the CSV's file, without .csv
	// Gate shows the body in the middle of the window, without navigation: for who
	// isn't signed in. Under is a line below the title.
	Gate  bool
	Under string
}

// page serves a page.
func (s *Server) page(pattern string, access Access, do func(*Call) (Page, error)) Route {
	return Route{Pattern: pattern, Access: access, serve: s.call(access, func(c *Call) error {
		page, err := do(c)
		if err != nil {
			return err
		}
		if !c.wantsCSV() {
			return s.show(c, http.StatusOK, page)
		}
		if page.CSV == nil {
			return fault.New(fault.NotFound, "this page can't be exported as CSV")
		}
		return s.export(c, page)
	})}
}

// Outcome is what a form leads to: another page, or one that is shown at once.
type Outcome struct {
	To    string // a path on this server
	Toast string // what was done: said once, on the page that comes
	Undo  string // a path to post to, which undoes it
	Page  *Page  // shown at once: a form that wasn't taken, a secret that is seen once
	err   error  // why it wasn't taken
}

// Go leads to another page and says there what was done.
func Go(to, toast string) Outcome { return Outcome{To: to, Toast: toast} }

// Show shows a page as the answer of a form: for what is never shown again.
func Show(page Page) Outcome { return Outcome{Page: &page} }

// form serves what a form posts.
func (s *Server) form(pattern string, access Access, do func(*Call) (Outcome, error)) Route {
	return Route{Pattern: pattern, Access: access, serve: s.call(access, func(c *Call) error {
		out, err := do(c)
		switch {
		case err != nil:
			return err
		case out.Page != nil && out.err != nil:
			status := fault.HTTP(out.err)
			if fault.Is(out.err, fault.Invalid) {
				status = http.StatusUnprocessableEntity
			}
			return s.show(c, status, *out.Page)
		case out.Page != nil:
			return s.show(c, http.StatusOK, *out.Page)
		}
		if out.Toast != "" {
			c.toast(out)
		}
		c.redirect(out.To)
		return nil
	})}
}

// raw serves what is neither page nor form: a stream, a download.
func (s *Server) raw(pattern string, access Access, do func(*Call) error) Route {
	return Route{Pattern: pattern, Access: access, serve: s.call(access, do)}
}

// call makes the call of a request and tells what goes wrong with it.
func (s *Server) call(access Access, do func(*Call) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &Call{server: s, w: w, r: r, access: access, Now: s.Clock.Now()}
		err := c.enter()
		if err == nil {
			err = do(c)
		}
		if err != nil {
			s.fail(c, err)
		}
	}
}

// local reports whether an address is a path on this server, and can't be taken
// for anything else.
func local(to string) bool {
	return strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "//") && !strings.ContainsAny(to, "\\\r\n\t")
}
