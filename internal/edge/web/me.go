package web

import (
	"maps"
	"slices"
	"strings"

	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
	"airlock/internal/insight"
	"airlock/internal/inventory"
)

// meRoutes are a person's own sessions, access and password.
func (s *Server) meRoutes() []Route {
	return []Route{
		s.page("GET /me", member(), func(c *Call) (Page, error) { return s.mePage(c, nil) }),
		s.form("POST /me/password", member(), s.changePassword),
		s.form("POST /me/sessions/end", member(), s.endMySessions),
		s.form("POST /me/sessions/{id}/end", member(), s.endMySession),
	}
}

// myPage is what the page about oneself shows.
type myPage struct {
	mine     mine
	held     view.Table[insight.Holding]
	all      bool // what roles give is listed too
	roles    string
	sessions []identity.Session
	current  string
	bindings []identity.Binding
	wrong    view.Errors
}

func (s *Server) mePage(c *Call, wrong view.Errors) (Page, error) {
	p := myPage{roles: c.Session.Role, current: c.Session.ID, wrong: wrong}
	var err error
	if p.mine, err = s.mine(c); err != nil {
		return Page{}, err
	}
	if p.sessions, err = s.SignIns.Sessions(c.Context(), c.Actor(), c.Actor().ID); err != nil {
		return Page{}, err
	}
	if p.bindings, err = s.SignIns.Bindings(c.Context(), c.Actor(), c.Actor().ID); err != nil {
		return Page{}, err
	}
	v := c.View()
	titles, list := map[string]string{}, s.Inventory.PersonRoles
	if p.all = v.Get("show") == "all"; p.all {
		list = s.Inventory.PersonAccess
	}
	read := func(after inventory.Key, limit int) (inventory.Page[insight.Holding], error) {
		grants, err := list(c.Context(), c.Actor(), c.Actor().ID, after, limit)
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
	p.held = holdsTable("held", page, titles, v)
	return Page{Title: "My account", Body: meBody(p, c.Session, c.Now), Name: "my-access", CSV: p.held.Export(everything(read))}, nil
}

func (s *Server) changePassword(c *Call) (Outcome, error) {
	var in struct {
		Old      string `form:"old,raw"`
		Password string `form:"password,raw"`
		Again    string `form:"again,raw"`
	}
	err := c.Form(&in)
	switch {
	case err != nil:
	case in.Again != in.Password:
		err = fault.New(fault.Invalid, "this differs from the new password above; the present one stays").At("again")
	default:
		err = s.SignIns.ChangePassword(c.Context(), c.Actor(), in.Old, in.Password, c.visit())
	}
	if wrong := view.ErrorsOf(err); fault.Is(err, fault.Forbidden) && wrong["old"] != "" {
		page, failed := s.mePage(c, wrong)
		return Outcome{Page: &page, err: err}, failed
	}
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) { return s.mePage(c, wrong) })
	}
	return Go("/me", "Your password is changed. Your other sessions have ended."), nil
}

func (s *Server) endMySessions(c *Call) (Outcome, error) {
	ending, err := s.SignIns.Sessions(c.Context(), c.Actor(), c.Actor().ID)
	if err != nil {
		return Outcome{}, err
	}
	if err := s.SignIns.EndSessions(c.Context(), c.Actor(), c.Actor().ID, c.Session.ID); err != nil {
		return Outcome{}, err
	}
	for _, session := range ending {
		s.Live.Tell(c.Context(), "session/"+session.ID)
	}
	return Go("/me", "All your other sessions have ended."), nil
}

func (s *Server) endMySession(c *Call) (Outcome, error) { return s.endSession(c, "/me") }

// endSession ends a session, and its streams.
func (s *Server) endSession(c *Call, to string) (Outcome, error) {
	if err := s.SignIns.EndSession(c.Context(), c.Actor(), c.Path("id")); err != nil {
		return Outcome{}, err
	}
	s.Live.Tell(c.Context(), "session/"+c.Path("id"))
	if c.Path("id") == c.Session.ID {
		c.SetCookie(SessionCookie, "", -1)
		return Go("/sign-in", ""), nil
	}
	return Go(to, "The session has ended."), nil
}

// browserWords say a browser in a few words.
func browserWords(agent string) string {
	find := func(pairs ...[2]string) string {
		for _, p := range pairs {
			if strings.Contains(agent, p[0]) {
				return p[1]
			}
		}
		return ""
	}
	name := find([2]string{"Edg/", "Edge"}, [2]string{"Firefox/", "Firefox"}, [2]string{"Chrome/", "Chrome"}, [2]string{"Safari/", "Safari"})
	system := find([2]string{"Windows", "Windows"}, [2]string{"Android", "Android"}, [2]string{"iPhone", "iPhone"}, [2]string{"iPad", "iPad"},
		[2]string{"Mac OS", "macOS"}, [2]string{"Linux", "Linux"})
	parts := slices.DeleteFunc([]string{name, system}, func(part string) bool { return part == "" })
	if len(parts) == 0 {
		return shortened(agent, 40)
	}
	return strings.Join(parts, ", ")
}

// methodWords say how somebody signed in.
func methodWords(method string) string {
	if method == identity.ByOIDC {
		return "single sign-on"
	}
	return "password"
}
