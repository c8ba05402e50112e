package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
)

// section is an entry of the navigation. It is shown when its page exists and
// the actor may call it.
type section struct {
	title, icon, path, key string
}

// show renders a page: whole, or only its main for a script.
func (s *Server) show(c *Call, status int, page Page) error {
	ctx := view.WithFrame(c.Context(), view.Frame{Now: c.Now, URL: c.r.URL, Choices: c.choice})
	var list []view.Toast
	if c.r.Header.Get("HX-Live") == "" { // a refresh of live parts shows none, so it takes none
		list = c.takeToast()
	}
	var around templ.Component
	switch {
	case page.Gate:
		around = view.Gate(page.Title, page.Under)
	case c.byScript():
		around = view.Part(page.Title, list)
	default:
		around = view.Whole(view.Shell{
			Title: page.Title, Organisation: s.Organisation, Nav: s.nav(c, page.Section), Toasts: list,
			Name: c.Session.Name, Email: c.Session.Email, Role: c.Session.Role,
			SearchHint: "Search people, roles, apps",
		})
	}
	var out bytes.Buffer
	if err := around.Render(templ.WithChildren(ctx, page.Body), &out); err != nil {
		return fmt.Errorf("render %q: %w", page.Title, err)
	}
	c.write(status, out.Bytes())
	return nil
}

// write sends a page, compressed where the browser takes it.
func (c *Call) write(status int, body []byte) {
	h := c.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Vary", "Accept-Encoding, HX-Request")
	if len(body) < 1024 || !strings.Contains(c.r.Header.Get("Accept-Encoding"), "gzip") {
		c.w.WriteHeader(status)
		_, _ = c.w.Write(body) // who went away needs no answer
		return
	}
	h.Set("Content-Encoding", "gzip")
	c.w.WriteHeader(status)
	w := gzip.NewWriter(c.w)
	_, _ = w.Write(body)
	_ = w.Close()
}

// export sends a page's table as CSV. An error in its middle breaks the
// connection, so that no half file is taken for a whole one.
func (s *Server) export(c *Call, page Page) error {
	name := page.Name
	if name == "" {
		name = page.Title
	}
	h := c.w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("Vary", "Accept")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{
		"filename": strings.ToLower(strings.Join(strings.Fields(name), "-")) + "-" + c.Now.Format(time.DateOnly) + ".csv",
	}))
	out := &counted{to: c.w}
	err := page.CSV(out)
	if err == nil {
		return nil
	}
	if out.written == 0 {
		for _, name := range []string{"Content-Disposition", "Content-Type"} {
			h.Del(name)
		}
		return err
	}
	s.Log.ErrorContext(c.Context(), "an export ended early and was cut off", "path", c.r.URL.Path, "error", err)
	panic(http.ErrAbortHandler)
}

type counted struct {
	to      http.ResponseWriter
	written int
}

func (w *counted) Write(p []byte) (int, error) {
	w.written += len(p)
	return w.to.Write(p)
}

// nav is the navigation as the actor sees it.
func (s *Server) nav(c *Call, current string) []view.NavItem {
	if c.Session.ID == "" {
		return nil
	}
	var counts map[string]string
	if s.Counts != nil {
		counts = s.Counts(c.Context(), c.Actor())
	}
	var items []view.NavItem
	for _, one := range sections {
		n := slices.IndexFunc(s.routes, func(r Route) bool {
			return r.Pattern == "GET "+one.path || (one.path == "/" && r.Pattern == "GET /{$}")
		})
		if n < 0 {
			continue
		}
		access := s.routes[n].Access
		if access.Action != "" && identity.Can(c.Actor(), access.Action, identity.Object{Kind: access.Kind}) != nil &&
			!identity.OnlyOwned(c.Actor(), access.Kind) {
			continue
		}
		items = append(items, view.NavItem{
			Title: one.title, Icon: one.icon, Href: one.path, Key: one.key, Count: counts[one.title], Current: one.title == current,
		})
	}
	return items
}

// fail tells what went wrong. Who isn't signed in is led to the sign-in, and
// comes back.
func (s *Server) fail(c *Call, err error) {
	if fault.Is(err, fault.Unauthenticated) && c.Session.ID == "" {
		if c.byScript() || c.r.Header.Get("Accept") == "text/event-stream" {
			c.w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if c.r.Method == http.MethodGet {
			c.SetCookie(backCookie, url.QueryEscape(c.r.URL.RequestURI()), 15*time.Minute)
		}
		c.redirect("/sign-in")
		return
	}
	if c.Context().Err() != nil {
		return // nobody waits for the answer
	}
	status := fault.HTTP(err)
	switch {
	case status >= http.StatusInternalServerError:
		s.Log.ErrorContext(c.Context(), "a page could not be made", "method", c.r.Method, "path", c.r.URL.Path, "error", err)
	default:
		s.Log.DebugContext(c.Context(), "a call was refused", "method", c.r.Method, "path", c.r.URL.Path, "error", err)
	}
	page := Page{Title: errorTitle(err), Body: errorBody(err, c.r.Method, reference(c.Context()))}
	if failed := s.show(c, status, page); failed != nil {
		s.Log.ErrorContext(c.Context(), "the page of an error could not be made", "error", failed)
		http.Error(c.w, errorTitle(err), status)
	}
}

// Back is where whoever just signed in wanted to go.
func (c *Call) Back() string {
	to, err := url.QueryUnescape(c.cookie(backCookie))
	c.SetCookie(backCookie, "", -1)
	if err != nil || !local(to) || strings.HasPrefix(to, "/sign-") {
		return "/"
	}
	return to
}

// missing serves what no route has.
func (s *Server) missing(w http.ResponseWriter, r *http.Request, mux *http.ServeMux) {
	s.call(anybody(), func(*Call) error {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			other := r.Clone(context.WithoutCancel(r.Context()))
			other.Method = method
			if _, pattern := mux.Handler(other); method != r.Method && pattern != "/" && pattern != "" {
				return fault.New(fault.Invalid, "this address doesn't take %s; nothing was changed", r.Method)
			}
		}
		return fault.New(fault.NotFound, "there is no page %q", r.URL.Path)
	})(w, r)
}

// forged serves what was sent by a page of somebody else.
func (s *Server) forged(w http.ResponseWriter, r *http.Request) {
	s.call(anybody(), func(*Call) error {
		return fault.New(fault.Forbidden, "this form was sent by a page of another site, so it was not taken; open the page here and try again")
	})(w, r)
}
