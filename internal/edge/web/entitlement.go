package web

import (
	"fmt"
	"net/url"
	"time"

	"github.com/a-h/templ"

	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
	"airlock/internal/insight"
	"airlock/internal/inventory"
)

// entitlementRoutes are an entitlement's page and its settings; the list of them is
// a tab of their app.
func (s *Server) entitlementRoutes() []Route {
	read, manage := needs(identity.Read, "entitlement"), needs(identity.Manage, "entitlement")
	return []Route{
		s.page("GET /entitlements/{id}", read, func(c *Call) (Page, error) { return s.entitlementPage(c, nil, nil) }),
		s.page("GET /entitlements/{id}/past", read, s.pastHolders),
		s.page("GET /entitlements/{id}/edit", manage, s.editRules),
		s.form("POST /entitlements/{id}", manage, s.saveRules),
	}
}

// ---- the entitlements of an app

func (s *Server) appEntitlements(c *Call) (Page, error) {
	h, err := s.head(c, "Entitlements")
	if err != nil {
		return Page{}, err
	}
	types, err := s.Inventory.Types(c.Context(), c.Actor(), h.ID)
	if err != nil {
		return Page{}, err
	}
	v := c.View()
	query := entitlementQuery(h, v)
	order := entitlementOrder(h, &v)
	read := func(after inventory.Key, limit int) (inventory.Page[insight.Right], error) {
		return s.Insight.Rights(c.Context(), c.Actor(), s.Inventory, query, order, after, limit)
	}
	page, err := read(place(v.After), pageSize)
	if err != nil {
		return Page{}, err
	}
	table := entitlementTable(h, types, page, v)
	if table.Detail, err = s.unfolded(c, h, page, v.Open); err != nil {
		return Page{}, err
	}
	out := appPage(h, liveTable(h, table.Draw()))
	out.CSV = table.Export(everything(read))
	return out, nil
}

// entitlementQuery is what a view asks for: unless it says more, what is assigned,
// such as roles and groups; what these permit are entitlements too, and many.
func entitlementQuery(h appHead, v view.View) inventory.EntitlementQuery {
	query := inventory.EntitlementQuery{AppID: h.ID, Search: v.Query, Risk: inventory.Risk(v.Get("risk"))}
	switch kind := v.Get("type"); kind {
	case "":
		if h.Numbers.Assignments.N > 0 {
			query.Purpose = "assignment"
		}
	case "all":
	default:
		query.TypeID = kind
	}
	if asked := v.Get("requestable"); asked != "" {
		is := asked == "yes"
		query.Requestable = &is
	}
	return query
}

// entitlementOrder is how a view sorts: what can be judged at once by risk, unless
// it says otherwise.
func entitlementOrder(h appHead, v *view.View) inventory.Order {
	if v.Sort == "" && v.Get("type") == "" && !h.Numbers.Assignments.More && h.Numbers.Assignments.N <= insight.MostJudged {
		v.Sort = "-risk"
	}
	column, falling := v.SortBy("name", "risk", "holders")
	return inventory.Order{By: inventory.OrderBy(column), Falling: falling}
}

// unfolded reads what a row shows that is open.
func (s *Server) unfolded(c *Call, h appHead, page inventory.Page[insight.Right], open string) (func(insight.Right) templ.Component, error) {
	var holders inventory.Page[inventory.GrantItem]
	var all inventory.Count
	for _, right := range page.Rows {
		if right.ID != open {
			continue
		}
		var err error
		if holders, err = s.Inventory.HolderList(c.Context(), c.Actor(), open, inventory.HolderFilter{}, inventory.Key{}, 6); err != nil {
			return nil, err
		}
		if _, all, err = s.Inventory.HolderCount(c.Context(), c.Actor(), open); err != nil {
			return nil, err
		}
	}
	titles, err := s.titles(c, pathsOf(holders.Rows))
	return func(r insight.Right) templ.Component { return entitlementUnfold(h, r, holders.Rows, all, titles) }, err
}

// pathsOf are the entitlements on the ways of grants.
func pathsOf(grants []inventory.GrantItem) (ids []string) {
	for _, grant := range grants {
		for _, step := range grant.Path {
			ids = append(ids, step.EntitlementID)
		}
	}
	return ids
}

// way is how somebody comes to hold something: the titles from what is held directly
// to the grant itself; none where that is held directly.
func way(g inventory.GrantItem, titles map[string]string) (steps []string) {
	for _, step := range g.Path {
		title := titles[step.EntitlementID]
		if title == "" {
			title = step.Name
		}
		steps = append(steps, title)
	}
	if len(steps) > 0 {
		steps = append(steps, g.Title())
	}
	return steps
}

func wayWords(g inventory.GrantItem, titles map[string]string) string {
	words := ""
	for n, step := range way(g, titles) {
		if n > 0 {
			words += " → "
		}
		words += step
	}
	if words == "" {
		return "Direct"
	}
	return words
}

func entitlementTable(h appHead, types []inventory.Type, page inventory.Page[insight.Right], v view.View) view.Table[insight.Right] {
	type item = insight.Right
	options := []view.Option{{Title: "What is assigned"}}
	for _, one := range types {
		options = append(options, view.Option{Value: one.ID, Title: one.Name})
	}
	options = append(options, view.Option{Value: "all", Title: "All types"})
	all := h.Numbers.Assignments
	if h.Numbers.Assignments.N == 0 {
		options = append([]view.Option{{Title: "All types"}}, options[1:len(options)-1]...)
		all = h.Numbers.Entitlements
	}
	table := view.Table[item]{
		ID: "entitlements", Name: "Entitlements", Rows: page.Rows, View: v, Key: func(r item) string { return r.ID },
		Search: "Search entitlements", CSV: true, Later: cursor(page.Next), Sums: sums(page, v, all, "entitlement", "entitlements"),
		Filters: []view.Filter{
			{Name: "type", Title: "Type", Options: options},
			{Name: "risk", Title: "Risk", Options: []view.Option{
				{Title: "Any risk"}, {Value: "medium", Title: "Medium and above"}, {Value: "high", Title: "High and above"}, {Value: "critical", Title: "Critical"},
			}},
			{Name: "requestable", Title: "Requestable", Options: []view.Option{
				{Title: "Requestable or not"}, {Value: "yes", Title: "Requestable"}, {Value: "no", Title: "Not requestable"},
			}},
		},
		Columns: []view.Column[item]{
			{
				ID: "name", Title: "Entitlement", Main: true, Sorts: true, Text: func(r item) string { return r.Title() },
				Cell: func(r item) templ.Component { return view.Link("/entitlements/"+url.PathEscape(r.ID), r.Title()) },
			},
			{ID: "what", Title: "What it lets one do", Fill: true, Text: meant},
			{
				ID: "risk", Title: "Risk", Sorts: true, Text: func(r item) string { return riskWords(r) },
				Cell: func(r item) templ.Component { return riskOf(r) },
			},
			{ID: "holders", Title: "Holders", Number: true, Sorts: true, Text: func(r item) string { return view.Number(r.Grants) }},
			{ID: "requestable", Title: "Requestable", Text: func(r item) string { return yes(r.Requestable) }},
			{
				ID: "longest", Title: "Longest", Text: func(r item) string { return longest(r.Rules) },
				Cell: func(r item) templ.Component { return cell(longest(r.Rules), view.Text) },
			},
			{ID: "owner", Title: "Owner", Text: func(r item) string { return r.OwnerName }},
			{ID: "type", Title: "Type", Extra: true, Text: func(r item) string { return r.TypeName }},
			{ID: "id", Title: "Id", Extra: true, Text: func(r item) string { return r.ExternalID }, Cell: func(r item) templ.Component { return cell(r.ExternalID, view.Mono) }, Wrap: true},
			{
				ID: "seen", Title: "First seen", Extra: true, Text: func(r item) string { return written(r.FirstSeenAt) },
				Cell: func(r item) templ.Component { return view.Day(r.FirstSeenAt) },
			},
		},
	}
	table.Empty = nothingRead(h, "shield", "entitlements")
	if filtered(v) {
		table.Empty = nobody("entitlement")
	}
	return table
}

// meant is what an entitlement lets one do, in a line.
func meant(r insight.Right) string {
	if summary := r.Meaning.Summary(); summary != "" {
		return upper(summary)
	}
	return r.Description
}

// judged is what has a risk: an entitlement, or what somebody holds.
type judged interface {
	Judged() (risk inventory.Risk, byHand bool)
}

func riskOf(of judged) templ.Component {
	risk, _ := of.Judged()
	if risk == "" {
		return nil
	}
	return view.RiskMark(view.Risk(risk))
}

func riskWords(of judged) string {
	risk, _ := of.Judged()
	return upper(string(risk))
}

// longest is how long somebody may have what they request; "" where it can't be
// requested.
func longest(rules inventory.Rules) string {
	if !rules.Requestable && rules.Longest == 0 {
		return ""
	}
	return view.Duration(rules.Longest)
}

// ---- an entitlement's page

// entitlementView is what an entitlement's page shows.
type entitlementView struct {
	insight.Right
	App         inventory.App
	Type        string // of its resource, in words
	Owner       string
	Direct, All inventory.Count
	Holders     view.Table[inventory.GrantItem]
	Changes     []inventory.Change
	History     []inventory.HolderPoint
	May         bool
	Lines       bool // all lines of what it lets one do
}

func (e entitlementView) path() string { return "/entitlements/" + url.PathEscape(e.ID) }

func (s *Server) right(c *Call) (entitlementView, error) {
	var e entitlementView
	entitlement, err := s.Inventory.EntitlementByID(c.Context(), s.DB, c.Path("id"))
	if err != nil {
		return e, err
	}
	meanings, err := s.Insight.Meanings(c.Context(), c.Actor(), entitlement.AppID, []string{entitlement.ID})
	if err != nil {
		return e, err
	}
	e.Right = insight.Right{EntitlementItem: inventory.EntitlementItem{Entitlement: entitlement}, Meaning: meanings[entitlement.ID]}
	if e.App, err = s.Inventory.AppByID(c.Context(), s.DB, entitlement.AppID); err != nil {
		return e, err
	}
	e.Type = entitlement.ResourceType
	types, err := s.Inventory.Types(c.Context(), c.Actor(), entitlement.AppID)
	if err != nil {
		return e, err
	}
	for _, one := range types {
		if one.ExternalID == entitlement.ResourceType {
			e.Type = one.Name
		}
	}
	if entitlement.OwnerID != "" {
		owners, err := s.People.ByIDs(c.Context(), s.DB, []string{entitlement.OwnerID})
		if err != nil {
			return e, err
		}
		e.Owner = owners[entitlement.OwnerID].Name
	}
	e.May = s.mayManage(c, "entitlement", entitlement.AppID)
	return e, nil
}

// entitlementPage is an entitlement's page; with the form of its rules if that is
// given.
func (s *Server) entitlementPage(c *Call, form *rulesForm, wrong view.Errors) (Page, error) {
	e, err := s.right(c)
	if err != nil {
		return Page{}, err
	}
	v := c.View()
	e.Lines = v.Get("lines") == "all"
	filter := inventory.HolderFilter{Search: v.Query}
	if by := v.Get("by"); by != "" {
		direct := by == "direct"
		filter.Direct = &direct
	}
	read := func(after inventory.Key, limit int) (inventory.Page[inventory.GrantItem], error) {
		return s.Inventory.HolderList(c.Context(), c.Actor(), e.ID, filter, after, limit)
	}
	page, err := read(place(v.After), pageSize)
	if err != nil {
		return Page{}, err
	}
	if e.Direct, e.All, err = s.Inventory.HolderCount(c.Context(), c.Actor(), e.ID); err != nil {
		return Page{}, err
	}
	titles, err := s.titles(c, pathsOf(page.Rows))
	if err != nil {
		return Page{}, err
	}
	changes, err := s.Inventory.Changes(c.Context(), c.Actor(), inventory.ChangeFilter{EntitlementID: e.ID}, inventory.Key{}, 8)
	if err != nil {
		return Page{}, err
	}
	e.Changes = changes.Rows
	if e.History, err = s.Inventory.HolderHistory(c.Context(), c.Actor(), e.ID, c.Now.AddDate(-1, 0, 0), c.Now, 53); err != nil {
		return Page{}, err
	}
	e.Holders = holderTable(e, page, titles, v)
	return Page{
		Title: e.Title() + ", " + e.App.Name, Section: applications, Body: entitlementBody(e, form, wrong),
		Name: e.Title() + " holders", CSV: e.Holders.Export(everything(read)),
	}, nil
}

func holderTable(e entitlementView, page inventory.Page[inventory.GrantItem], titles map[string]string, v view.View) view.Table[inventory.GrantItem] {
	type item = inventory.GrantItem
	table := view.Table[item]{
		ID: "holders", Name: "Holders", Rows: page.Rows, View: v, Key: func(g item) string { return g.PrincipalID }, Bare: true,
		Later: cursor(page.Next), Empty: view.Empty("people", "Nobody has it", "As of the last sync nobody holds it, directly or by way of others."),
		Columns: []view.Column[item]{
			{
				ID: "holder", Title: "Holder", Main: true, Text: func(g item) string { return g.PrincipalName },
				Cell: holderName,
			},
			{
				ID: "path", Title: "Path", Text: func(g item) string { return wayWords(g, titles) },
				Cell: func(g item) templ.Component { return byWayOf(g, titles) },
			},
			sinceColumn(), untilColumn(), howColumn(e.App.Name),
			{ID: "principal", Title: "Id", Text: func(g item) string { return g.Principal }, Extra: true},
			{ID: "person", Title: "Person", Text: func(g item) string { return g.PersonName }, Extra: true},
		},
	}
	table.Columns[4].Fill = true
	if page.Partial || page.Next != (inventory.Key{}) || v.After != "" {
		table.Sums = sums(page, v, e.All, "holder", "holders")
	}
	if v.Query != "" || v.Get("by") != "" {
		table.Empty = nobody("holder")
	}
	return table
}

// historyChart is how many held an entitlement directly over time.
func historyChart(points []inventory.HolderPoint) view.Chart {
	chart := view.Chart{Name: "Direct holders over 12 months", Steps: true, Series: []view.Series{{Name: "Direct holders"}}}
	most, first := inventory.HolderPoint{}, int64(0)
	for n, point := range points {
		if n == 0 {
			first = point.Holders
		}
		if point.Holders > most.Holders {
			most = point
		}
		// The chart goes from step to step: what stays the same has no point but the last.
		if n == 0 || n == len(points)-1 || point.Holders != points[n-1].Holders {
			chart.Series[0].Points = append(chart.Series[0].Points, view.Point{At: point.At, Y: float64(point.Holders)})
		}
	}
	if len(points) > 0 {
		last := points[len(points)-1]
		chart.Words = fmt.Sprintf("From %s to %s today.", view.Number(first), view.Number(last.Holders))
		if most.Holders > max(first, last.Holders) {
			chart.Words += fmt.Sprintf(" Most at once: %s, on %s.", view.Number(most.Holders), view.Date(last.At, most.At))
		}
	}
	return chart
}

// pastHolders lists who held an entitlement before.
func (s *Server) pastHolders(c *Call) (Page, error) {
	e, err := s.right(c)
	if err != nil {
		return Page{}, err
	}
	v := c.View()
	read := func(after inventory.Key, limit int) (inventory.Page[inventory.PastGrant], error) {
		return s.pastGrants(c, inventory.PastFilter{AppID: e.AppID, EntitlementID: e.ID}, after, limit)
	}
	page, err := read(place(v.After), pageSize)
	if err != nil {
		return Page{}, err
	}
	table := pastTable(page, v, "holder", func(g inventory.PastGrant) string { return g.PrincipalName }, func(g inventory.PastGrant) string { return g.Principal })
	return Page{
		Title: "Past holders of " + e.Title(), Section: applications, Body: pastHoldersBody(e, table), Name: e.Title() + " past holders", CSV: table.Export(everything(read)),
	}, nil
}

// pastGrants is a page of grants that ended, with its place as other lists have it.
func (s *Server) pastGrants(c *Call, filter inventory.PastFilter, after inventory.Key, limit int) (inventory.Page[inventory.PastGrant], error) {
	var before inventory.PastKey
	if after != (inventory.Key{}) {
		before.ID = after.ID
		before.Until, _ = time.Parse(time.RFC3339Nano, after.Name) // what isn't a time is the start
	}
	list, err := s.Inventory.PastGrants(c.Context(), c.Actor(), filter, before, limit)
	page := inventory.Page[inventory.PastGrant]{Rows: list}
	if len(list) == limit && limit > 0 {
		last := list[limit-1]
		page.Next = inventory.Key{Name: last.Until.UTC().Format(time.RFC3339Nano), ID: last.ID}
	}
	return page, err
}

// pastTable is a table of grants that ended, of a holder or of an entitlement.
func pastTable(page inventory.Page[inventory.PastGrant], v view.View, of string, name, id func(inventory.PastGrant) string) view.Table[inventory.PastGrant] {
	type item = inventory.PastGrant
	return view.Table[item]{
		ID: "past", Name: "Past grants", Rows: page.Rows, View: v, Key: func(g item) string { return g.ID }, CSV: true,
		Later: cursor(page.Next), Sums: sums(page, v, inventory.Count{}, "past grant", "past grants"),
		Empty: view.Empty("clock", "Nothing has ended yet", "What is taken away, here or in the app itself, is kept here with its time."),
		Columns: []view.Column[item]{
			{ID: of, Title: upper(of), Main: true, Text: name},
			{ID: "id", Title: "Id", Text: id, Cell: func(g item) templ.Component { return cell(id(g), view.Mono) }, Wrap: true, Fill: true},
			{ID: "since", Title: "Since", Text: func(g item) string { return written(g.Since) }, Cell: func(g item) templ.Component { return view.Day(g.Since) }},
			{ID: "until", Title: "Until", Text: func(g item) string { return written(g.Until) }, Cell: func(g item) templ.Component { return view.TimeOfDay(g.Until) }},
			{ID: "how", Title: "How it ended", Text: func(g item) string { return howEnded(g.UntilSyncID) }},
		},
	}
}

// howEnded says how a grant ended.
func howEnded(syncID string) string {
	switch syncID {
	case "":
		return "Revoked here"
	case inventory.AppRemoved:
		return "The app was removed"
	}
	return "Seen gone by a sync"
}

// ---- what people decide on an entitlement

type rulesForm struct {
	Owner       string        `form:"owner"`
	Risk        string        `form:"risk"`
	Requestable bool          `form:"requestable"`
	Longest     time.Duration `form:"longest"`
}

func (s *Server) editRules(c *Call) (Page, error) {
	entitlement, err := s.Inventory.EntitlementByID(c.Context(), s.DB, c.Path("id"))
	if err != nil {
		return Page{}, err
	}
	in := rulesForm{Risk: string(entitlement.Risk), Requestable: entitlement.Requestable, Longest: entitlement.Longest}
	if entitlement.OwnerID != "" {
		people, err := s.People.ByIDs(c.Context(), s.DB, []string{entitlement.OwnerID})
		if err != nil {
			return Page{}, err
		}
		in.Owner = people[entitlement.OwnerID].Email
		if in.Owner == "" {
			in.Owner = entitlement.OwnerID
		}
	}
	return s.entitlementPage(c, &in, nil)
}

func (s *Server) saveRules(c *Call) (Outcome, error) {
	var in rulesForm
	err := c.Form(&in)
	owner := ""
	if err == nil && in.Owner != "" {
		var person identity.Person
		person, err = s.People.Find(c.Context(), s.DB, in.Owner)
		owner, err = person.ID, atField(err, "owner")
	}
	if err == nil {
		err = s.Inventory.SetRules(c.Context(), c.Actor(), c.Path("id"), func(rules *inventory.Rules) {
			*rules = inventory.Rules{Risk: inventory.Risk(in.Risk), Requestable: in.Requestable, Longest: in.Longest, OwnerID: owner}
		})
	}
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) { return s.entitlementPage(c, &in, wrong) })
	}
	return Go("/entitlements/"+url.PathEscape(c.Path("id")), "Saved."), nil
}

// durationText is a length of time as a form takes it: 4h, 30d.
func durationText(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d <= 0:
		return ""
	case d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return d.String()
}
