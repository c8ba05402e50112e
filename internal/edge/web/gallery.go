package web

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/a-h/templ"

	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/integration/catalog"
)

// sample is a row of the gallery's table.
type sample struct {
	ID, Name, What, Requestable, Longest, Owner string
	Risk                                        view.Risk
	Holders                                     int
}

var samples = []sample{
	{"admin", "Admin", "Everything, including users, roles, passwords and stored secrets", "Emergency", "2 hours", "Elena Petrova", view.RiskCritical, 3},
	{"op", "Op", "Edit and run all 148 workflows; change connections, variables and pools", "Yes", "1 day", "Ines Marchetti", view.RiskHigh, 4},
	{"payroll-editor", "payroll-editor", "Edit and run 3 payroll workflows; read stored connection passwords", "Yes", "8 hours", "Hannah Vogel", view.RiskHigh, 4},
	{"gdpr-operator", "gdpr-operator", "Run one workflow; read and change variables", "Yes", "4 hours", "Ruth Abrams", view.RiskHigh, 2},
	{"user", "User", "Edit and run all 148 workflows", "Yes", "30 days", "Ines Marchetti", view.RiskMedium, 12},
	{"public", "Public", "Without signing in: see names and import errors", "No", "", "Ines Marchetti", view.RiskMedium, 0},
	{"builder", "builder", "Edit and run 11 workflows", "Yes", "30 days", "Priya Raman", view.RiskMedium, 7},
	{"trainer", "trainer", "Run 6 workflows; use the large pool", "Yes", "90 days", "Chen Wei", view.RiskMedium, 5},
	{"release-bot", "release-bot", "Pause and unpause all workflows during a release", "No", "", "Owen Gallagher", view.RiskMedium, 2},
	{"reader", "reader", "See runs and logs of 9 workflows", "Yes", "180 days", "Hannah Vogel", view.RiskLow, 6},
	{"viewer", "Viewer", "See all 148 workflows, runs and logs", "Yes", "No limit", "Ines Marchetti", view.RiskLow, 26},
}

var riskOrder = []view.Risk{view.RiskLow, view.RiskMedium, view.RiskHigh, view.RiskCritical}

// looks counts how often the gallery was looked at: what its live part shows.
var looks atomic.Int64

func (s *Server) galleryRoutes() []Route {
	return []Route{
		s.page("GET /dev/components", anybody(), s.gallery),
		s.form("POST /dev/components", anybody(), s.tryForm),
		s.page("GET /dev/question", anybody(), s.tryQuestion),
		s.page("GET /dev/gate", anybody(), func(*Call) (Page, error) {
			return Page{Title: "Sign in to Airlock", Under: "Kestrel Freight", Gate: true, Body: galleryGate()}, nil
		}),
		s.page("GET /dev/error", anybody(), func(*Call) (Page, error) {
			return Page{}, errors.New("dial tcp 10.0.0.1: password=secret")
		}),
	}
}

// galleryForm is the form that can be tried in the gallery.
type galleryForm struct {
	URL      string        `form:"base-url"`
	Username string        `form:"username"`
	Password string        `form:"password,raw"`
	For      time.Duration `form:"for"`
}

func (s *Server) gallery(c *Call) (Page, error) {
	return s.galleryPage(c, galleryForm{URL: "https://airflow.example.com", Username: "airlock-connector"}, nil)
}

func (s *Server) tryForm(c *Call) (Outcome, error) {
	var in galleryForm
	err := c.Form(&in)
	if err == nil && !strings.HasPrefix(in.URL, "https://") {
		err = fault.New(fault.Invalid, "this is not an address; start with https://").At("base-url")
	}
	if err == nil && in.Password == "" {
		err = fault.New(fault.Invalid, "a password is needed").At("password")
	}
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) { return s.galleryPage(c, in, wrong) })
	}
	return Go("/dev/components", "Saved. The first sync has begun."), nil
}

func (s *Server) tryQuestion(c *Call) (Page, error) {
	chosen := c.URL().Query()["id"]
	return Page{Title: "Revoke", Body: galleryQuestion(max(len(chosen), 12))}, nil
}

func (s *Server) galleryPage(c *Call, in galleryForm, wrong view.Errors) (Page, error) {
	table := galleryTable(c.View())
	body := gallerySheet(in, wrong, table, looks.Add(1))
	return Page{Title: "Component sheet", Section: "Settings", Body: body, Name: "entitlements", CSV: table.Export(func(yield func(sample) error) error {
		for _, row := range table.Rows {
			if err := yield(row); err != nil {
				return err
			}
		}
		return nil
	})}, nil
}

func galleryTable(v view.View) view.Table[sample] {
	rows := slices.DeleteFunc(slices.Clone(samples), func(r sample) bool {
		return !strings.Contains(strings.ToLower(r.Name+" "+r.What), strings.ToLower(v.Query)) ||
			(v.Get("risk") != "" && slices.Index(riskOrder, r.Risk) < slices.Index(riskOrder, view.Risk(v.Get("risk")))) ||
			(v.Get("request") != "" && !strings.EqualFold(r.Requestable, v.Get("request")))
	})
	column, falling := v.SortBy("name", "risk", "holders")
	if v.Sort != "" {
		slices.SortStableFunc(rows, func(a, b sample) int {
			order := cmp.Compare(a.Name, b.Name)
			switch column {
			case "risk":
				order = cmp.Compare(slices.Index(riskOrder, a.Risk), slices.Index(riskOrder, b.Risk))
			case "holders":
				order = cmp.Compare(a.Holders, b.Holders)
			}
			if falling {
				return -order
			}
			return order
		})
	}
	return view.Table[sample]{
		ID: "samples", Name: "Entitlements", Rows: rows, View: v, Key: func(r sample) string { return r.ID },
		Search: "Search roles and permissions", CSV: true, Total: 4210,
		Sums: "Items 1 to " + strconv.Itoa(len(rows)) + " of 4,210 matching", Later: "opaque",
		Filters: []view.Filter{
			{Name: "risk", Title: "Risk", Options: []view.Option{{Title: "Any risk"}, {Value: "medium", Title: "Medium and above"}, {Value: "high", Title: "High and above"}}},
			{Name: "request", Title: "Requestable", Links: true, Options: []view.Option{
				{Title: "All", Count: "11"}, {Value: "yes", Title: "Requestable", Count: "8"}, {Value: "no", Title: "Not", Count: "2"},
			}},
		},
		Actions: []view.Action{
			{Verb: "Certify", To: "/dev/components", Primary: true, Key: "a"},
			{Verb: "Revoke", To: "/dev/question", Danger: true, Asks: true, Key: "r"},
		},
		Empty:  view.Empty("search", "No entitlement matches", "13 entitlements were searched. Take a filter out, or search for fewer letters."),
		Detail: galleryDetail,
		Columns: []view.Column[sample]{
			{
				ID: "name", Title: "Entitlement", Main: true, Sorts: true,
				Text: func(r sample) string { return r.Name },
				Cell: func(r sample) templ.Component { return view.Link("/dev/components?open="+r.ID, r.Name) },
			},
			{ID: "what", Title: "What it lets one do", Fill: true, Text: func(r sample) string { return r.What }},
			{
				ID: "risk", Title: "Risk", Sorts: true,
				Text: func(r sample) string { return string(r.Risk) },
				Cell: func(r sample) templ.Component { return view.RiskMark(r.Risk) },
			},
			{ID: "holders", Title: "Holders", Number: true, Sorts: true, Text: func(r sample) string { return strconv.Itoa(r.Holders) }},
			{ID: "requestable", Title: "Requestable", Text: func(r sample) string { return r.Requestable }},
			{ID: "longest", Title: "Longest", Text: func(r sample) string { return r.Longest }},
			{ID: "owner", Title: "Owner", Extra: true, Text: func(r sample) string { return r.Owner }},
		},
	}
}

func galleryChart(now time.Time) view.Chart {
	day := func(n int) time.Time { return now.AddDate(0, 0, n) }
	points := func(from, step int, values ...float64) (list []view.Point) {
		for n, y := range values {
			list = append(list, view.Point{At: day(from + n*step), Y: y})
		}
		return list
	}
	return view.Chart{
		Name: "Holders over 12 months", Words: "From 6 without end in March to 3 today. Temporary ones peak at month ends.", Steps: true,
		Marks: []time.Time{day(-200), day(-100)}, Mark: "Review",
		Series: []view.Series{
			{Name: "Temporary", Points: points(-360, 30, 6, 6, 6, 7, 6, 5, 6, 5, 4, 3, 6, 4, 4)},
			{Name: "Without end", Points: points(-360, 30, 6, 6, 6, 6, 5, 5, 5, 4, 3, 3, 3, 3, 3)},
		},
	}
}

func galleryBurndown(now time.Time) view.Chart {
	day := func(n int) time.Time { return now.AddDate(0, 0, n) }
	return view.Chart{
		Name: "Undecided items, day by day", Words: "At this pace done on 27 Nov, 3 days early.",
		Marks: []time.Time{now}, Mark: "Now",
		Series: []view.Series{
			{Name: "Undecided", Points: []view.Point{{At: day(-7), Y: 176}, {At: day(-5), Y: 150}, {At: day(-4), Y: 130}, {At: day(-2), Y: 95}, {At: now, Y: 67}}},
			{Name: "Even pace", Style: view.Plan, Points: []view.Point{{At: day(-7), Y: 176}, {At: day(7), Y: 0}}},
			{Name: "At this pace", Style: view.Guess, Points: []view.Point{{At: now, Y: 67}, {At: day(4), Y: 0}}},
		},
	}
}

var galleryEffects = []view.Effect{
	{Number: 9, Words: "people lose a role; 3 of them keep no access at all"},
	{Number: 4, Words: "roles are touched"},
	{Number: 1, Words: "service account runs 2 workflows every day"},
}

// gallerySettings is a form as a connector could ask for it, with every kind of
// setting.
var gallerySettings = view.Settings{
	Entry: catalog.Entry{
		Name: "example", DisplayName: "Example",
		Groups: []catalog.Group{
			{Name: "password", DisplayName: "With a password", Default: true, Fields: []string{"user", "pass"}},
			{Name: "token", DisplayName: "With a token", Help: "A token of the service, without an end.", Fields: []string{"token"}},
		},
		Fields: []catalog.Field{
			{Name: "url", DisplayName: "Base URL", Kind: catalog.Text, Required: true, Description: "as you open it in the browser", Placeholder: "https://"},
			{Name: "user", DisplayName: "Username", Kind: catalog.Text, Required: true, Groups: []string{"password"}},
			{Name: "pass", DisplayName: "Password", Kind: catalog.Text, Required: true, Secret: true, Groups: []string{"password"}},
			{Name: "token", DisplayName: "Token", Kind: catalog.Text, Required: true, Secret: true, Groups: []string{"token"}},
			{Name: "proxy-pass", DisplayName: "Proxy password", Kind: catalog.Text, Secret: true},
			{Name: "inactive", DisplayName: "Read inactive accounts", Kind: catalog.Bool, Description: "they are shown as disabled"},
			{Name: "page", DisplayName: "Page size", Kind: catalog.Int, Default: "100"},
			{Name: "region", DisplayName: "Region", Kind: catalog.Select, Options: []catalog.Option{{Value: "eu", DisplayName: "Europe"}, {Value: "us", DisplayName: "United States"}}},
			{Name: "kinds", DisplayName: "What to read", Kind: catalog.List, Options: []catalog.Option{{Value: "role", DisplayName: "Roles"}, {Value: "group", DisplayName: "Groups"}}},
			{Name: "skip", DisplayName: "Leave out", Kind: catalog.List},
			{Name: "headers", DisplayName: "Headers", Kind: catalog.Map},
			{Name: "ca", DisplayName: "Certificate", Kind: catalog.File, Extensions: []string{"pem", "crt"}},
		},
	},
	Values: map[string]string{"url": "https://example.com", "user": "airlock-connector", "kinds": "role", "skip": "a,\"b,c\"", "headers": `{"X-Team":"data"}`},
	Kept:   func(name string) bool { return name == "pass" || name == "proxy-pass" },
}
