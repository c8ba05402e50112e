package web

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
	"airlock/internal/ingest"
	"airlock/internal/integration"
	"airlock/internal/inventory"

	"github.com/a-h/templ"
)

// connectorRoutes are the connectors: list, add, and each one's page.
func (s *Server) connectorRoutes() []Route {
	read, manage := needs(identity.Read, "connector"), needs(identity.Manage, "connector")
	return []Route{
		s.page("GET /connectors", read, s.connectors),
		s.page("GET /connectors/add", manage, s.connectorCatalog),
		s.page("GET /connectors/add/{catalog}", manage, s.connectorWays),
		s.form("POST /connectors/add", manage, s.addConnector),
		s.form("POST /connectors/upload", needs(identity.Manage, "app"), s.uploadFile),
		s.raw("GET /connector-icons/{catalog}", needs(identity.Read, "catalog"), s.connectorIcon),

		s.page("GET /connectors/{id}", read, func(c *Call) (Page, error) { return s.connectorPage(c, connectorForm{}) }),
		s.form("POST /connectors/{id}/sync", manage, s.syncConnector),
		s.form("POST /connectors/{id}/pause", manage, s.pauseConnector),
		s.form("POST /connectors/{id}/resume", manage, s.resumeConnector),
		s.form("POST /connectors/{id}/anomaly-stop", manage, s.setAnomalyStop),
		s.form("POST /connectors/{id}/debug", manage, s.setDebug),
		s.page("GET /connectors/{id}/edit/settings", manage, s.editing("settings")),
		s.form("POST /connectors/{id}/edit/settings", manage, s.saveSettings),
		s.page("GET /connectors/{id}/edit/details", manage, s.editing("details")),
		s.form("POST /connectors/{id}/edit/details", manage, s.saveDetails),
		s.page("GET /connectors/{id}/edit/schedule", manage, s.editing("schedule")),
		s.form("POST /connectors/{id}/edit/schedule", manage, s.saveSchedule),
		s.page("GET /connectors/{id}/edit/name", manage, func(c *Call) (Page, error) { return s.askName(c, "", nil) }),
		s.form("POST /connectors/{id}/edit/name", manage, s.renameConnector),
		s.page("GET /connectors/{id}/edit/rotate", manage, s.askRotate),
		s.form("POST /connectors/{id}/edit/rotate", manage, s.rotateConnector),
		s.page("GET /connectors/{id}/edit/remove", manage, s.askRemove),
		s.form("POST /connectors/{id}/edit/remove", manage, s.removeConnector),
		s.raw("GET /connectors/{id}/log/all", read, s.downloadLog),

		s.page("GET /syncs", read, s.syncHistory),
		s.page("GET /syncs/{id}", read, s.syncPage),
		s.raw("GET /syncs/{id}/file", manage, s.syncFile(integration.FileC1Z)),
		s.raw("GET /syncs/{id}/log", manage, s.syncFile(integration.FileLog)),
		s.form("POST /syncs/{id}/cancel", manage, s.cancelSync),
		s.page("GET /syncs/{id}/confirm", manage, s.askConfirm),
		s.form("POST /syncs/{id}/confirm", manage, s.confirmSync),
		s.page("GET /syncs/{id}/discard", manage, s.askDiscard),
		s.form("POST /syncs/{id}/discard", manage, s.discardSync),
	}
}

const integrations = "Integrations"

var connectorCrumbs = []view.Crumb{{Title: integrations}, {Title: "Connectors", Href: "/connectors"}}

// manages reports whether somebody is shown what changes connectors.
func manages(c *Call) bool {
	return identity.Can(c.Actor(), identity.Manage, identity.Object{Kind: "connector"}) == nil
}

// connectorRow is a connector with what its page and the list show.
type connectorRow struct {
	integration.Overview
	app    inventory.App
	kind   string // what it is, in words
	owners []identity.Person
	counts ingest.Counts // of the last sync that was applied
	usual  time.Duration
	may    bool
}

func (r connectorRow) href() string  { return "/connectors/" + r.ID }
func (r connectorRow) topic() string { return "connector/" + r.ID }

// editor is the page on which a part is edited.
func (r connectorRow) editor(part string) string { return r.href() + "/edit/" + part }

// where says who runs it.
func (r connectorRow) where() string {
	if r.Hosted {
		return "hosted here"
	}
	return "runs elsewhere"
}

func (r connectorRow) ownerNames() string {
	var names []string
	for _, owner := range r.owners {
		names = append(names, owner.Name)
	}
	return strings.Join(names, ", ")
}

// words are the state, in words: why it is so and what comes next.
func (r connectorRow) words(now time.Time) string {
	switch r.State {
	case integration.Errored:
		return view.Sentence(r.Problem.Words)
	case integration.Syncing:
		return progressOf(*r.Open, r.usual, now, typesOf(r.Connector)).now
	case integration.Paused:
		words := "Paused " + view.Relative(now, r.Paused.At)
		if r.Paused.Why != "" {
			words += ": " + r.Paused.Why
		}
		return words + ". No reading; changes of access still go through it."
	case integration.NotConnected:
		if !r.Hosted && r.HelloAt.IsZero() {
			return "Waiting for its first call. Rotate, copy Client ID and Secret, and start the connector."
		}
		return view.Sentence(r.Detail)
	case integration.Connected:
		if !r.SeenAt.IsZero() {
			return "Heard from " + r.Host + " " + view.Relative(now, r.SeenAt)
		}
	}
	return ""
}

// connectorShape is the shape of a state.
func connectorShape(state integration.Status) view.Shape {
	switch state {
	case integration.NotConnected:
		return view.ShapeNone
	case integration.Syncing:
		return view.ShapeRun
	case integration.Errored:
		return view.ShapeError
	case integration.Paused:
		return view.ShapePaused
	case integration.Connected:
	}
	return view.ShapeOK
}

// badge is the state as it stands beside the name.
func (r connectorRow) badge() templ.Component {
	if r.Removed() {
		return view.LabelBoxed(view.ShapeEnded, "Removed")
	}
	return view.LabelBoxed(connectorShape(r.State), string(r.State))
}

// states in the order in which they need somebody.
var states = []integration.Status{integration.Errored, integration.NotConnected, integration.Syncing, integration.Paused, integration.Connected}

// connectorNames finds what rows show of other things, each once.
type connectorNames struct {
	s      *Server
	ctx    context.Context //nolint:containedctx // of the one page that is made
	people map[string]identity.Person
	kinds  map[string]string
}

func (s *Server) connectorNames(ctx context.Context) *connectorNames {
	return &connectorNames{s: s, ctx: ctx, people: map[string]identity.Person{}, kinds: map[string]string{}}
}

func (n *connectorNames) person(id string) (identity.Person, error) {
	person, known := n.people[id]
	if known {
		return person, nil
	}
	person, err := n.s.People.ByID(n.ctx, n.s.DB, id)
	n.people[id] = person
	return person, err
}

// kind is what connectors of a kind are called.
func (n *connectorNames) kind(name string) (string, error) {
	if known, ok := n.kinds[name]; ok {
		return known, nil
	}
	words := "Baton"
	if name != integration.AnyCatalog {
		words = "baton-" + name
		entry, err := n.s.Catalog.Entry(n.ctx, name)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return "", err
		}
		if err == nil {
			words = entry.DisplayName
		}
	}
	n.kinds[name] = words
	return words, nil
}

// row is a connector with its names.
func (n *connectorNames) row(c *Call, o integration.Overview) (connectorRow, error) {
	r := connectorRow{Overview: o, may: manages(c) && !o.Removed()}
	var err error
	if r.app, err = n.s.Inventory.AppOnRecord(n.ctx, n.s.DB, o.AppID); err != nil {
		return r, err
	}
	if r.kind, err = n.kind(o.Kind()); err != nil {
		return r, err
	}
	for _, id := range o.Owners {
		person, err := n.person(id)
		if err != nil {
			return r, err
		}
		r.owners = append(r.owners, person)
	}
	if o.Last != nil {
		r.counts = countsOf(*o.Last)
	}
	if o.Open != nil {
		r.usual, err = n.s.Integration.Usual(n.ctx, c.Actor(), o.ID)
	}
	return r, err
}

// countsOf is what a sync's file holds.
func countsOf(s integration.Sync) (counts ingest.Counts) {
	_ = json.Unmarshal(s.Counts, &counts) // one of an older version counts nothing
	return counts
}

// mostConnectors is how many connectors a page of the list shows, all of which it
// follows.
const mostConnectors = 50

func (s *Server) connectors(c *Call) (Page, error) {
	var rows []connectorRow
	find := s.connectorNames(c.Context())
	for after := (inventory.Key{}); ; {
		list, err := s.Integration.List(c.Context(), c.Actor(), after, 500)
		if err != nil {
			return Page{}, err
		}
		for _, one := range list {
			row, err := find.row(c, one)
			if err != nil {
				return Page{}, err
			}
			rows = append(rows, row)
			after = inventory.Key{Name: one.Name, ID: one.ID}
		}
		if len(list) < 500 {
			break
		}
	}
	table := connectorTable(c, rows)
	return Page{
		Title: "Connectors", Section: integrations, Name: "connectors", Body: connectorsBody(table, manages(c), len(rows) == 0),
		CSV: table.Export(func(yield func(connectorRow) error) error {
			for _, row := range table.Rows {
				if err := yield(row); err != nil {
					return err
				}
			}
			return nil
		}),
	}, nil
}

func connectorTable(c *Call, all []connectorRow) view.Table[connectorRow] {
	v := c.View()
	perState := map[integration.Status]int{}
	var rows []connectorRow
	for _, row := range all {
		perState[row.State]++
		found := strings.Contains(inventory.Fold(row.Name+" "+row.app.Name+" "+row.kind+" "+row.ownerNames()), inventory.Fold(v.Query))
		if found && (v.Get("status") == "" || v.Get("status") == string(row.State)) {
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b connectorRow) int {
		return cmp.Or(cmp.Compare(slices.Index(states, a.State), slices.Index(states, b.State)), cmp.Compare(inventory.Fold(a.Name), inventory.Fold(b.Name)))
	})
	filter := view.Filter{Name: "status", Title: "Status", Links: true, Options: []view.Option{{Title: "All", Count: view.Number(len(all))}}}
	for _, state := range states {
		if perState[state] > 0 {
			filter.Options = append(filter.Options, view.Option{Value: string(state), Title: string(state), Count: view.Number(perState[state])})
		}
	}
	now, total := c.Now, len(rows)
	later := ""
	if !c.wantsCSV() {
		from, _ := strconv.Atoi(v.After)
		rows = rows[min(max(from, 0), total):]
		if len(rows) > mostConnectors {
			rows, later = rows[:mostConnectors], strconv.Itoa(max(from, 0)+mostConnectors)
		}
	}
	number := func(of func(ingest.Counts) int64) func(connectorRow) string {
		return func(r connectorRow) string {
			if r.Last == nil {
				return ""
			}
			return view.Number(of(r.counts))
		}
	}
	return view.Table[connectorRow]{
		ID: "connectors", Name: "Connectors", Rows: rows, View: v, Key: func(r connectorRow) string { return r.ID }, CSV: true,
		Search: "Search connectors", Filters: []view.Filter{filter}, Later: later,
		Sums:  view.Count(total, "connector") + ". Sorted by what needs attention.",
		Empty: view.Empty("search", "No connector matches", view.Count(len(all), "connector")+" searched, by name, app, kind and owner. Take a filter out, or search for fewer letters."),
		Columns: []view.Column[connectorRow]{
			{
				ID: "name", Title: "Connector", Main: true, Text: func(r connectorRow) string { return r.Name },
				Cell: connectorName,
			},
			{
				ID: "status", Title: "Status", Fill: true, Text: func(r connectorRow) string { return string(r.State) },
				Cell: func(r connectorRow) templ.Component { return connectorState(r, now) },
			},
			{ID: "why", Title: "Cause", Extra: true, Wrap: true, Text: func(r connectorRow) string { return r.words(now) }},
			{
				ID: "app", Title: "Application", Extra: true, Text: func(r connectorRow) string { return r.app.Name },
				Cell: func(r connectorRow) templ.Component { return view.Link("/apps/"+r.AppID, r.app.Name) },
			},
			{ID: "kind", Title: "Kind", Extra: true, Text: func(r connectorRow) string { return r.kind + ", " + r.where() }},
			{
				ID: "last", Title: "Last complete sync",
				Text: func(r connectorRow) string {
					if r.Last == nil {
						return ""
					}
					return r.Last.FinishedAt.UTC().Format(time.RFC3339)
				},
				Cell: func(r connectorRow) templ.Component { return connectorLast(r, now) },
			},
			{ID: "accounts", Title: "Accounts", Number: true, Text: number(func(n ingest.Counts) int64 { return n.Accounts })},
			{ID: "entitlements", Title: "Entitlements", Number: true, Text: number(func(n ingest.Counts) int64 { return n.Entitlements })},
			{ID: "grants", Title: "Grants", Number: true, Text: number(func(n ingest.Counts) int64 { return n.Grants })},
			{ID: "owners", Title: "Owners", Wrap: true, Text: connectorRow.ownerNames},
			{ID: "do", Title: "What to do", End: true, Cell: connectorAction},
		},
	}
}

// topics are what a page of the list follows.
func topicsOf(rows []connectorRow) string {
	var topics []string
	for _, row := range rows {
		topics = append(topics, row.topic())
	}
	return strings.Join(topics, " ")
}

// next says when a connector syncs next.
func (r connectorRow) next(now time.Time) string {
	switch {
	case r.State == integration.Syncing:
		return "Running now"
	case r.Unset():
		return "Once it has its settings"
	case r.HelloAt.IsZero() && !r.Hosted:
		return "As soon as it calls"
	case !r.Paused.At.IsZero() || r.NextSyncAt.IsZero():
		return "None planned"
	case !r.NextSyncAt.After(now):
		return "Next is due now"
	}
	words := "Next " + view.Relative(now, r.NextSyncAt)
	if r.Last != nil {
		words = "Took " + view.Took(took(*r.Last, now)) + "; next " + view.Relative(now, r.NextSyncAt)
	}
	return words
}

// took is how long a sync took, or takes.
func took(s integration.Sync, now time.Time) time.Duration {
	from, until := s.StartedAt, s.FinishedAt
	if from.IsZero() {
		from = s.CreatedAt
	}
	if until.IsZero() {
		until = now
	}
	return until.Sub(from)
}

// syncProgress is how far a sync is, as it is shown.
type syncProgress struct {
	phases      []view.Phase
	done, total int64
	words       string
	now         string // the phase it is in
	cancel      bool   // somebody may cancel it
}

// causes are why a sync began, after "Started 21 s ago".
var causes = map[string]string{
	integration.CauseFirst: "for the first time", integration.CauseSchedule: "by the schedule", integration.CauseDemand: "by hand",
	integration.CauseSettings: "after new settings", integration.CauseVerify: "to verify a change", integration.CauseEvent: "after an event",
	integration.CauseFile: "from a file that was brought by hand",
}

// phaseOrder is the way of a sync.
var phaseOrder = []struct {
	state integration.SyncState
	words string
}{
	{integration.Waiting, "Waiting"},
	{integration.Reading, "Reading"},
	{integration.Uploading, "Uploading"},
	{integration.Comparing, "Comparing"},
	{integration.Applying, "Applying rows"},
}

// progressOf says how far a sync is; types are the names of types that it counts.
func progressOf(s integration.Sync, usual time.Duration, now time.Time, types map[string]string) syncProgress {
	var p syncProgress
	at := slices.IndexFunc(phaseOrder, func(one struct {
		state integration.SyncState
		words string
	},
	) bool {
		return one.state == s.State
	})
	elapsed := took(s, now)
	detail := ""
	switch s.State {
	default:
	case integration.Waiting:
		elapsed = now.Sub(s.CreatedAt)
		detail = " for the connector to take it"
	case integration.Reading:
		if counts := countWords(s.Progress.Counts, types); counts != "" {
			detail = ": " + counts + " so far"
		}
		if usual > 0 {
			p.done, p.total = min(elapsed.Milliseconds(), usual.Milliseconds()*95/100), usual.Milliseconds()
		}
	case integration.Uploading:
		detail = ": " + bytesWords(s.Progress.Bytes) + " so far"
	case integration.Applying, integration.Comparing:
		if s.Progress.Of > 0 {
			p.done, p.total = s.Progress.Rows, s.Progress.Of
			detail = ": " + view.Number(s.Progress.Rows) + " of " + view.Number(s.Progress.Of)
		}
	}
	for n, phase := range phaseOrder {
		if s.ConnectorID == "" && n < 3 {
			continue // a file has been read already
		}
		shape, words := view.ShapeOpen, phase.words
		switch {
		case n < at:
			shape = view.ShapeOK
		case n == at:
			shape, words = view.ShapeRun, phase.words+detail
			p.now = words
		}
		p.phases = append(p.phases, view.Phase{Shape: shape, Words: words})
	}
	began := "Started "
	if s.State == integration.Waiting {
		began = "Asked for "
	}
	p.words = began + view.Took(elapsed) + " ago " + causes[s.Cause]
	if usual > 0 {
		p.words += ", reading usually takes about " + view.Took(usual)
	}
	p.words += ". Nothing in the inventory changes before it is compared."
	if s.Progress.Attempts > 1 {
		p.words += " This is try " + view.Number(s.Progress.Attempts) + "."
	}
	p.cancel = s.ConnectorID != "" && at >= 0 && at < 3
	return p
}

// countWords are counts by type: "Role 8, User 46".
func countWords(counts map[string]int64, types map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, typeName(types, name)+" "+view.Number(counts[name]))
	}
	return strings.Join(words, ", ")
}

// typesOf are what a connector calls its types.
func typesOf(c integration.Connector) map[string]string {
	types := map[string]string{}
	for _, one := range c.Capabilities().GetResourceTypeCapabilities() {
		types[one.GetResourceType().GetId()] = one.GetResourceType().GetDisplayName()
	}
	return types
}

// typeName is what a type is called, or its id.
func typeName(types map[string]string, id string) string {
	if name := types[id]; name != "" {
		return name
	}
	return id
}

func bytesWords(n int64) string {
	switch {
	case n >= 10<<20:
		return view.Number(n>>20) + " MB"
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
	case n >= 1<<10:
		return view.Number(n>>10) + " KB"
	}
	return view.Count(n, "byte")
}

// connectorIcon serves the image of a connector's program.
func (s *Server) connectorIcon(c *Call) error {
	if err := identity.Can(c.Actor(), identity.Read, identity.Object{Kind: "catalog"}); err != nil {
		return err
	}
	entry, err := s.Catalog.Entry(c.Context(), c.Path("catalog"))
	if err != nil {
		return err
	}
	if len(entry.Icon.Data) == 0 {
		return fault.New(fault.NotFound, "%s has no image", entry.DisplayName)
	}
	c.w.Header().Set("Content-Type", entry.Icon.MediaType)
	c.w.Header().Set("Cache-Control", "private, max-age=3600")
	_, _ = c.w.Write(entry.Icon.Data) // who went away needs no answer
	return nil
}

// capital is words that begin a line.
func capital(words string) string {
	if words == "" {
		return ""
	}
	first, size := utf8.DecodeRuneInString(words)
	return string(unicode.ToUpper(first)) + words[size:]
}
