package web

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"airlock/internal/audit"
	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
)

// settingRoutes are what administrators set: sign-in, product roles, keys and checkpoints.
func (s *Server) settingRoutes() []Route {
	signIn, roles, sessions := needs(identity.Read, "sign-in"), needs(identity.Read, "role"), needs(identity.Read, "session")
	return []Route{
		s.page("GET /settings", signIn, func(c *Call) (Page, error) { return s.signInSettings(c, providerForm{}, nil, "") }),
		s.form("POST /settings/provider", needs(identity.Manage, "sign-in"), s.saveProvider),
		s.form("POST /settings/provider/check", needs(identity.Manage, "sign-in"), s.checkProvider),
		s.form("POST /settings/bind", needs(identity.Manage, "sign-in"), s.bindSignIn),
		s.page("GET /settings/roles", roles, func(c *Call) (Page, error) { return s.rolesPage(c, roleForm{}, nil) }),
		s.form("POST /settings/roles", needs(identity.Manage, "role"), s.assignRole),
		s.page("GET /settings/roles/{person}/{role}/remove", needs(identity.Manage, "role"), s.askRemoveRole),
		s.form("POST /settings/roles/{person}/{role}/remove", needs(identity.Manage, "role"), s.removeRole),
		s.page("GET /settings/sessions", sessions, s.sessionsPage),
		s.form("POST /settings/sessions/{id}/end", needs(identity.Manage, "session"), func(c *Call) (Outcome, error) { return s.endSession(c, "/settings/sessions") }),
		s.page("GET /settings/keys", needs(identity.Read, "audit"), s.keysPage),
		s.page("GET /settings/about", signIn, s.aboutPage),
	}
}

// About is what the pages tell of the server itself.
type About struct {
	Version   string
	PublicURL string
	Database  string          // in words: "SQLite", "PostgreSQL at db.example.com"
	DataDir   string          //
	KeyIDs    func() []string // of the sealing keys, the current one first
	KeysFrom  string          // in words: where these are kept
}

func settingsTabs(current string) []view.Tab {
	var tabs []view.Tab
	for _, one := range [][2]string{
		{"Sign-in", "/settings"}, {"Product roles", "/settings/roles"}, {"Sessions", "/settings/sessions"}, {"Keys and checkpoints", "/settings/keys"}, {"About", "/settings/about"},
	} {
		tabs = append(tabs, view.Tab{Title: one[0], Href: one[1], Current: one[1] == current})
	}
	return tabs
}

func settingsPage(title, path string, body templ.Component) Page {
	return Page{Title: title, Section: "Settings", Body: settingsBody(settingsTabs(path), body)}
}

// providerForm is how people sign in, as it is typed.
type providerForm struct {
	On             bool     `form:"on"`
	BreakGlassOnly bool     `form:"break_glass_only"`
	Issuer         string   `form:"issuer"`
	ClientID       string   `form:"client_id"`
	Secret         string   `form:"secret,raw"`
	Scopes         string   `form:"scopes"`
	GroupClaim     string   `form:"group_claim"`
	Group          []string `form:"group"` // beside Role, line by line
	Role           []string `form:"role"`
	Domains        string   `form:"domains"`
	Button         string   `form:"button"`
}

// formOf is a provider as it is shown to be changed.
func formOf(p identity.Provider) providerForm {
	f := providerForm{
		On: p.On, BreakGlassOnly: p.BreakGlassOnly, Issuer: p.Issuer, ClientID: p.ClientID, Scopes: strings.Join(p.Scopes, " "),
		GroupClaim: p.GroupClaim, Domains: strings.Join(p.Domains, " "), Button: p.Button,
	}
	for _, group := range slices.Sorted(maps.Keys(p.Groups)) {
		for role := range p.Groups[group].Each() {
			if role != identity.User {
				f.Group, f.Role = append(f.Group, group), append(f.Role, role.String())
			}
		}
	}
	return f
}

// provider is what the form says.
func (f providerForm) provider() (identity.Provider, error) {
	p := identity.Provider{
		On: f.On, BreakGlassOnly: f.BreakGlassOnly, Issuer: f.Issuer, ClientID: f.ClientID, Scopes: strings.Fields(f.Scopes),
		GroupClaim: f.GroupClaim, Groups: map[string]identity.Roles{}, Domains: strings.FieldsFunc(f.Domains, func(r rune) bool { return r == ' ' || r == ',' || r == ';' }),
		Button: f.Button,
	}
	for n, group := range f.Group {
		if group == "" || n >= len(f.Role) {
			continue
		}
		role, err := identity.ParseRole(f.Role[n])
		if err != nil {
			return p, fault.New(fault.Invalid, "choose a role for the group %q; nothing was changed", group).At("groups")
		}
		p.Groups[group] |= role
	}
	return p, nil
}

// lines are the groups and their roles, and two more to fill in.
func (f providerForm) lines() (list [][2]string) {
	for n, group := range f.Group {
		if group != "" && n < len(f.Role) {
			list = append(list, [2]string{group, f.Role[n]})
		}
	}
	return append(list, [2]string{}, [2]string{})
}

// signInSettings is what the settings of signing in show.
type signInSettings struct {
	form     providerForm
	kept     bool // a client secret is
	edits    bool
	checked  string // what a check found, in words
	wrong    view.Errors
	callback string
	pending  []identity.Binding
	people   []identity.Person
}

func (s *Server) signInSettings(c *Call, form providerForm, wrong view.Errors, checked string) (Page, error) {
	provider, err := s.SignIns.Provider(c.Context(), c.Actor())
	if err != nil {
		return Page{}, err
	}
	p := signInSettings{
		form: form, kept: provider.HasSecret, edits: c.may(identity.Manage, "sign-in"), checked: checked, wrong: wrong,
		callback: strings.TrimSuffix(cmp.Or(s.SignIns.PublicURL, s.About.PublicURL), "/") + identity.OIDCCallback,
	}
	if wrong == nil && checked == "" {
		p.form = formOf(provider)
	}
	if p.pending, err = s.SignIns.PendingSignIns(c.Context(), c.Actor()); err != nil {
		return Page{}, err
	}
	if p.people, err = s.toChoose(c, len(p.pending) > 0); err != nil {
		return Page{}, err
	}
	return settingsPage("Sign-in", "/settings", signInSettingsBody(p)), nil
}

// toChoose are people to choose from while one types; others are found by e-mail.
func (s *Server) toChoose(c *Call, needed bool) ([]identity.Person, error) {
	if !needed || !c.may(identity.Read, "person") {
		return nil, nil
	}
	return s.People.List(c.Context(), c.Actor(), identity.PersonFilter{Status: identity.Enabled, Limit: 200})
}

func (s *Server) saveProvider(c *Call) (Outcome, error) {
	var in providerForm
	err := c.Form(&in)
	var p identity.Provider
	if err == nil {
		p, err = in.provider()
	}
	if err == nil {
		err = s.SignIns.SetProvider(c.Context(), c.Actor(), p, in.Secret)
	}
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) { return s.signInSettings(c, in, wrong, "") })
	}
	return Go("/settings", "Saved. Try it in another browser before you sign out here."), nil
}

func (s *Server) checkProvider(c *Call) (Outcome, error) {
	var in providerForm
	err := c.Form(&in)
	var p identity.Provider
	if err == nil {
		p, err = in.provider()
	}
	if err == nil {
		err = s.SignIns.CheckProvider(c.Context(), c.Actor(), p)
	}
	if fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Timeout) {
		page, failed := s.signInSettings(c, in, view.ErrorsOf(err), "")
		return Outcome{Page: &page, err: err}, failed
	}
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) { return s.signInSettings(c, in, wrong, "") })
	}
	page, err := s.signInSettings(c, in, nil, "The provider answers, and names itself "+p.Issuer+".")
	return Show(page), err
}

// personNamed finds whom somebody named, for who may do what the name is for.
func (s *Server) personNamed(c *Call, kind, text string) (string, error) {
	if err := identity.Can(c.Actor(), identity.Manage, identity.Object{Kind: kind}); err != nil {
		return "", err
	}
	if text == "" {
		return "", fault.New(fault.Invalid, "say who, by e-mail or name; nothing was changed").At("person")
	}
	person, err := s.People.Find(c.Context(), s.DB, text)
	if known, ours := errors.AsType[*fault.Error](err); ours && (known.Code == fault.NotFound || known.Code == fault.Conflict) {
		words := "more than one person is called %q: give the e-mail; nothing was changed"
		if known.Code == fault.NotFound {
			words = "there is nobody with the e-mail or name %q; nothing was changed"
		}
		return "", fault.New(fault.Invalid, words, text).At("person")
	}
	return person.ID, err
}

func (s *Server) bindSignIn(c *Call) (Outcome, error) {
	var in struct {
		Issuer  string `form:"issuer,raw"`
		Subject string `form:"subject,raw"`
		Person  string `form:"person"`
	}
	err := c.Form(&in)
	var personID string
	if err == nil {
		personID, err = s.personNamed(c, "sign-in", in.Person)
	}
	if err == nil {
		err = s.SignIns.BindSignIn(c.Context(), c.Actor(), in.Issuer, in.Subject, personID)
	}
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) {
			provider, err := s.SignIns.Provider(c.Context(), c.Actor())
			if err != nil {
				return Page{}, err
			}
			return s.signInSettings(c, formOf(provider), wrong, "")
		})
	}
	return Go("/settings", "Bound. They can sign in now."), nil
}

// roleForm is a role that is being given.
type roleForm struct {
	Person string `form:"person"`
	Role   string `form:"role"`
}

type rolesPage struct {
	table  view.Table[identity.RoleHolding]
	form   roleForm
	wrong  view.Errors
	edits  bool
	people []identity.Person
}

// roleMeanings say what each role may.
var roleMeanings = map[identity.Roles]string{
	identity.SuperAdmin:       "runs everything, but for their own access",
	identity.ConnectorAdmin:   "runs connectors and their apps",
	identity.ApplicationAdmin: "runs the apps that they own",
	identity.CampaignAdmin:    "runs access reviews, and sees what there is",
	identity.Auditor:          "sees everything, changes nothing",
	identity.User:             "sees what is theirs",
}

func (s *Server) rolesPage(c *Call, form roleForm, wrong view.Errors) (Page, error) {
	holdings, err := s.SignIns.RoleHoldings(c.Context(), c.Actor(), "")
	if err != nil {
		return Page{}, err
	}
	p := rolesPage{form: form, wrong: wrong, edits: c.may(identity.Manage, "role"), table: s.roleTable(c, holdings)}
	if p.people, err = s.toChoose(c, p.edits); err != nil {
		return Page{}, err
	}
	page := settingsPage("Product roles", "/settings/roles", rolesBody(p))
	page.Name = "product-roles"
	page.CSV = p.table.Export(func(yield func(identity.RoleHolding) error) error {
		for _, one := range holdings {
			if err := yield(one); err != nil {
				return err
			}
		}
		return nil
	})
	return page, nil
}

func (s *Server) roleTable(c *Call, holdings []identity.RoleHolding) view.Table[identity.RoleHolding] {
	edits := c.may(identity.Manage, "role")
	return view.Table[identity.RoleHolding]{
		ID: "roles", Name: "Product roles", Rows: holdings, View: c.View(), CSV: true,
		Key:   func(h identity.RoleHolding) string { return h.PersonID + "-" + h.Role.String() + "-" + h.Source },
		Sums:  view.Count(len(holdings), "role is held", "roles are held") + "; everybody else who can sign in is a User.",
		Empty: view.Empty("people", "Nobody has a role", "Everybody who can sign in is a User."),
		Columns: []view.Column[identity.RoleHolding]{
			{
				ID: "who", Title: "Who", Main: true, Text: func(h identity.RoleHolding) string { return h.Name },
				Cell: func(h identity.RoleHolding) templ.Component {
					return holderCell(h, s.pageOf("person", h.PersonID), h.PersonID == c.Actor().ID)
				},
			},
			{ID: "email", Title: "E-mail", Text: func(h identity.RoleHolding) string { return h.Email }},
			{ID: "role", Title: "Role", Text: func(h identity.RoleHolding) string { return h.Role.Title() }},
			{ID: "means", Title: "Which", Fill: true, Text: func(h identity.RoleHolding) string { return roleMeanings[h.Role] }},
			{ID: "source", Title: "Given", Text: func(h identity.RoleHolding) string {
				if h.Source == identity.RoleByOIDC {
					return "by a group"
				}
				return "by hand"
			}},
			{
				ID: "since", Title: "Since", Text: func(h identity.RoleHolding) string { return h.AddedAt.UTC().Format("2006-01-02") },
				Cell: func(h identity.RoleHolding) templ.Component { return view.Day(h.AddedAt) },
			},
			{ID: "end", Title: "Actions", End: true, Cell: func(h identity.RoleHolding) templ.Component {
				return roleEnd(h, edits, h.PersonID == c.Actor().ID)
			}},
		},
	}
}

func (s *Server) assignRole(c *Call) (Outcome, error) {
	var in roleForm
	err := c.Form(&in)
	var personID string
	if err == nil {
		personID, err = s.personNamed(c, "role", in.Person)
	}
	var role identity.Roles
	if err == nil {
		if role, err = identity.ParseRole(in.Role); err != nil {
			err = fault.New(fault.Invalid, "choose a role; nothing was changed").At("role")
		}
	}
	if err == nil {
		err = s.SignIns.AssignRole(c.Context(), c.Actor(), personID, role)
	}
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) { return s.rolesPage(c, in, wrong) })
	}
	return Go("/settings/roles", "The role "+role.Title()+" is given."), nil
}

// holding finds a role that a person has by hand.
func (s *Server) holding(c *Call) (identity.RoleHolding, error) {
	role, err := identity.ParseRole(c.Path("role"))
	if err != nil {
		return identity.RoleHolding{}, fault.New(fault.NotFound, "there is no role %q", c.Path("role"))
	}
	list, err := s.SignIns.RoleHoldings(c.Context(), c.Actor(), c.Path("person"))
	if err != nil {
		return identity.RoleHolding{}, err
	}
	for _, one := range list {
		if one.Role == role && one.Source == identity.RoleByHand {
			return one, nil
		}
	}
	return identity.RoleHolding{}, fault.New(fault.NotFound, "this person hasn't the role %s by hand; it may have been removed meanwhile", role.Title())
}

func (s *Server) askRemoveRole(c *Call) (Page, error) {
	if err := identity.Can(c.Actor(), identity.Manage, identity.Object{Kind: "role", SubjectID: c.Path("person")}); err != nil {
		return Page{}, err
	}
	held, err := s.holding(c)
	if err != nil {
		return Page{}, err
	}
	return Page{Title: "Remove a role", Section: "Settings", Body: view.Ask(view.Question{
		Title: "Remove " + held.Role.Title() + " from " + held.Name + "?", Words: "It ends at once, also where they are signed in. What their groups give stays.",
		Action: c.URL().Path, Button: "Remove " + held.Role.Title(), Danger: true, Cancel: "/settings/roles",
	})}, nil
}

func (s *Server) removeRole(c *Call) (Outcome, error) {
	role, err := identity.ParseRole(c.Path("role"))
	if err != nil {
		return Outcome{}, fault.New(fault.NotFound, "there is no role %q", c.Path("role"))
	}
	if err := s.SignIns.RemoveRole(c.Context(), c.Actor(), c.Path("person"), role); err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) { return s.rolesPage(c, roleForm{}, wrong) })
	}
	return Go("/settings/roles", "The role "+role.Title()+" is removed."), nil
}

func (s *Server) sessionsPage(c *Call) (Page, error) {
	list, err := s.SignIns.Sessions(c.Context(), c.Actor(), "")
	if err != nil {
		return Page{}, err
	}
	return settingsPage("Sessions", "/settings/sessions", s.sessionTable(c, list).Draw()), nil
}

func (s *Server) sessionTable(c *Call, list []identity.Session) view.Table[identity.Session] {
	edits := c.may(identity.Manage, "session")
	return view.Table[identity.Session]{
		ID: "sessions", Name: "Sessions", Rows: list, View: c.View(), Key: func(one identity.Session) string { return one.ID },
		Sums:  view.Count(len(list), "session"),
		Empty: view.Empty("people", "Nobody is signed in", "Sessions would be here."),
		Columns: []view.Column[identity.Session]{
			{
				ID: "who", Title: "Who", Main: true, Text: func(one identity.Session) string { return one.PersonName },
				Cell: func(one identity.Session) templ.Component {
					return sessionCell(one, s.pageOf("person", one.PersonID), one.ID == c.Session.ID)
				},
			},
			{ID: "browser", Title: "Browser", Fill: true, Text: func(one identity.Session) string { return browserWords(one.UserAgent) }},
			{ID: "address", Title: "Address", Cell: func(one identity.Session) templ.Component { return view.Mono(one.Address) }},
			{ID: "method", Title: "Signed in by", Text: func(one identity.Session) string { return methodWords(one.Method) }},
			{ID: "since", Title: "Since", Cell: func(one identity.Session) templ.Component { return view.Time(one.CreatedAt) }},
			{ID: "seen", Title: "Used", Cell: func(one identity.Session) templ.Component { return view.Time(one.SeenAt) }},
			{ID: "ends", Title: "Ends at the latest", Cell: func(one identity.Session) templ.Component { return view.Time(one.ExpiresAt) }},
			{ID: "end", Title: "Actions", End: true, Cell: func(one identity.Session) templ.Component {
				return sessionEnd(one, edits)
			}},
		},
	}
}

// keyPage is what the page of keys shows.
type keyPage struct {
	sealing  []string
	from     string
	public   string
	trail    trail
	verified audit.Verification
}

func (s *Server) keysPage(c *Call) (Page, error) {
	t, err := s.trail(c)
	if err != nil {
		return Page{}, err
	}
	p := keyPage{trail: *t, verified: t.verification, from: s.About.KeysFrom}
	if p.public, err = s.Audit.Key(c.Context()); err != nil {
		return Page{}, err
	}
	if s.About.KeyIDs != nil {
		p.sealing = s.About.KeyIDs()
	}
	return settingsPage("Keys and checkpoints", "/settings/keys", keysBody(p)), nil
}

func (s *Server) aboutPage(c *Call) (Page, error) {
	if err := identity.Can(c.Actor(), identity.Read, identity.Object{Kind: "sign-in"}); err != nil {
		return Page{}, err
	}
	return settingsPage("About", "/settings/about", aboutBody(s.About)), nil
}
