package web

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"airlock/internal/audit"
	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// auditRoutes are the audit log.
func (s *Server) auditRoutes() []Route {
	read := needs(identity.Read, "audit")
	return []Route{
		s.page("GET /audit", read, s.auditLog),
		s.form("POST /audit/verify", read, s.verifyAudit),
		s.raw("GET /audit/export", read, s.exportAudit),
		s.raw("GET /audit/{seq}/proof", read, s.proofOf),
	}
}

// auditQuery is what the page's address asks for.
type auditQuery struct {
	Text   string    `form:"q"`
	Who    string    `form:"who"` // the id of an actor
	Action string    `form:"action"`
	Object string    `form:"object"` // a kind, or kind/id
	App    string    `form:"app"`
	From   time.Time `form:"from"` // days, both of them included
	To     time.Time `form:"to"`
	Before int64     `form:"after"`
}

func (q auditQuery) query() audit.Query {
	kind, id, _ := strings.Cut(q.Object, "/")
	query := audit.Query{Text: q.Text, ActorID: q.Who, Action: q.Action, ObjectKind: kind, ObjectID: id, AppID: q.App, From: q.From, Before: q.Before}
	if !q.To.IsZero() {
		query.To = q.To.AddDate(0, 0, 1)
	}
	return query
}

// logPage is what the page of the audit log shows.
type logPage struct {
	table        view.Table[audit.Entry]
	verification audit.Verification
	entries      int64
	live         bool // shows the newest entries, and those that come
}

func (s *Server) auditLog(c *Call) (Page, error) {
	var q auditQuery
	if err := c.Query(&q); err != nil {
		return Page{}, err
	}
	query := q.query()
	found, err := s.Audit.Search(c.Context(), c.Actor(), query)
	if err != nil {
		return Page{}, err
	}
	entries, covered, err := s.Audit.Extent(c.Context())
	if err != nil {
		return Page{}, err
	}
	verification, err := s.verifier.Last(c.Actor())
	if err != nil {
		return Page{}, err
	}
	var proof audit.Proof
	if seq, err := strconv.ParseInt(c.View().Open, 10, 64); err == nil {
		if proof, err = s.Audit.Prove(c.Context(), c.Actor(), seq); err != nil && !fault.Is(err, fault.NotFound) {
			return Page{}, err
		}
	}
	apps, err := s.appNames(c)
	if err != nil {
		return Page{}, err
	}
	p := logPage{table: s.auditTable(c, q, found, covered, proof, apps), verification: verification, entries: entries, live: q.Before == 0}
	return Page{Title: "Audit log", Section: "Audit log", Body: auditBody(p), Name: "audit-log", CSV: p.table.Export(func(yield func(audit.Entry) error) error {
		for {
			for _, entry := range found.Entries {
				if err := yield(entry); err != nil {
					return err
				}
			}
			if found.Next == 0 {
				return nil
			}
			query.Before, query.Limit = found.Next, 1000
			var err error
			if found, err = s.Audit.Search(c.Context(), c.Actor(), query); err != nil {
				return err
			}
		}
	})}, nil
}

// appNames are the names of the apps, by their id: those that the reader may see,
// as far as a list to choose from makes sense.
func (s *Server) appNames(c *Call) (map[string]string, error) {
	list, err := s.Inventory.Apps(c.Context(), c.Actor(), inventory.Key{}, 100)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, app := range list {
		names[app.ID] = app.Name
	}
	return names, nil
}

// actionKinds are what actions begin with, in words.
var actionKinds = []view.Option{
	{Title: "Any action"},
	{Value: "grant", Title: "Grants"},
	{Value: "revoke", Title: "Revocations"},
	{Value: "person", Title: "Sign-ins"},
	{Value: "session", Title: "Sessions"},
	{Value: "sign-in", Title: "Single sign-on"},
	{Value: "role", Title: "Product roles"},
	{Value: "administrator", Title: "Administrators"},
	{Value: "password", Title: "Passwords"},
	{Value: "connector", Title: "Connectors"},
	{Value: "sync", Title: "Syncs"},
	{Value: "app", Title: "Applications"},
	{Value: "entitlement", Title: "Entitlements"},
	{Value: "account", Title: "Accounts"},
	{Value: "people", Title: "People, imported"},
	{Value: "directory", Title: "People, from a directory"},
	{Value: "key", Title: "Keys"},
	{Value: "server", Title: "The server"},
}

var objectKinds = []view.Option{
	{Title: "Any object"},
	{Value: "person", Title: "Person"},
	{Value: "account", Title: "Account"},
	{Value: "entitlement", Title: "Entitlement"},
	{Value: "grant", Title: "Grant"},
	{Value: "app", Title: "Application"},
	{Value: "connector", Title: "Connector"},
	{Value: "sync", Title: "Sync"},
	{Value: "key", Title: "Key"},
	{Value: "server", Title: "Server"},
}

func (s *Server) auditTable(c *Call, q auditQuery, found audit.Found, covered int64, proof audit.Proof, apps map[string]string) view.Table[audit.Entry] {
	v := c.View()
	choices := []view.Option{{Title: "All applications"}}
	for id, name := range apps {
		choices = append(choices, view.Option{Value: id, Title: name})
	}
	slices.SortFunc(choices[1:], func(a, b view.Option) int { return cmp.Compare(strings.ToLower(a.Title), strings.ToLower(b.Title)) })
	t := view.Table[audit.Entry]{
		ID: "log", Name: "Audit log", Class: "audit", Density: "compact", Rows: found.Entries, View: v,
		Key:    func(e audit.Entry) string { return strconv.FormatInt(e.Seq, 10) },
		Search: "Who or what: a name or an id", CSV: true,
		Filters: []view.Filter{
			{Name: "action", Title: "Action", Options: withOwn(actionKinds, q.Action, actionWords)},
			{Name: "app", Title: "Application", Options: withOwn(choices, q.App, func(string) string { return "One that was removed" })},
			{Name: "from", Title: "From", Date: true},
			{Name: "to", Title: "to", Date: true},
		},
		Group:  func(e audit.Entry) string { return dayWords(c.Now, e.At) },
		Empty:  view.Empty("search", "No entry matches", "Take a filter out, or search for fewer letters."),
		Detail: func(e audit.Entry) templ.Component { return record(proof, s.references(e, apps)) },
		Columns: []view.Column[audit.Entry]{
			{
				ID: "time", Title: "Time, UTC", Main: true,
				Text: func(e audit.Entry) string { return e.At.UTC().Format(time.RFC3339Nano) },
				Cell: func(e audit.Entry) templ.Component { return timeOfEntry(e.At) },
			},
			{
				ID: "who", Title: "Who", Text: func(e audit.Entry) string { return actorName(e.Actor) },
				Cell: func(e audit.Entry) templ.Component { return actorCell(e.Actor) },
			},
			{ID: "action", Title: "Action", Text: func(e audit.Entry) string { return actionWords(e.Action) }},
			{
				ID: "object", Title: "Object", Text: func(e audit.Entry) string { return objectName(e.Object) },
				Cell: func(e audit.Entry) templ.Component { return objectCell(e.Object) },
			},
			{
				ID: "detail", Title: "Detail", Fill: true, Text: func(e audit.Entry) string { return detailOf(e).words() },
				Cell: func(e audit.Entry) templ.Component { return detailOf(e).component() },
			},
			{ID: "app", Title: "Application", Extra: true, Text: func(e audit.Entry) string { return apps[e.AppID] }},
			{ID: "source", Title: "Source", Text: func(e audit.Entry) string { return sourceWords(e.Actor.Kind) }},
			{
				ID: "request", Title: "Request", Extra: true, Text: func(e audit.Entry) string { return e.RequestID },
				Cell: func(e audit.Entry) templ.Component {
					if e.RequestID == "" {
						return nil
					}
					return view.Mono(e.RequestID)
				},
			},
			{
				ID: "entry", Title: "Entry", Number: true, Text: func(e audit.Entry) string { return strconv.FormatInt(e.Seq, 10) },
				Cell: func(e audit.Entry) templ.Component { return entryNumber(e.Seq, e.Seq < covered) },
			},
		},
	}
	if q.Who != "" {
		name := q.Who
		if len(found.Entries) > 0 {
			name = actorName(found.Entries[0].Actor)
		}
		t.Chips = append(t.Chips, view.Filter{Name: "who", Title: "By " + name})
	}
	if strings.Contains(q.Object, "/") {
		name := q.Object
		if len(found.Entries) > 0 {
			name = objectName(found.Entries[0].Object)
		}
		t.Chips = append(t.Chips, view.Filter{Name: "object", Title: "About " + name})
	} else {
		t.Filters = slices.Insert(t.Filters, 1, view.Filter{Name: "object", Title: "Object", Options: withOwn(objectKinds, q.Object, view.Sentence)})
	}
	if found.Next > 0 {
		t.Later = strconv.FormatInt(found.Next, 10)
	}
	switch {
	case len(found.Entries) == 0 && found.Next > 0:
		t.Empty = auditLooked(found)
	case len(found.Entries) > 0:
		t.Sums = "Entries " + view.Number(found.Entries[0].Seq) + " to " + view.Number(found.Entries[len(found.Entries)-1].Seq)
	}
	return t
}

// withOwn adds what the address asks for to a list, if it isn't there.
func withOwn(options []view.Option, value string, words func(string) string) []view.Option {
	if slices.ContainsFunc(options, func(o view.Option) bool { return o.Value == value }) {
		return options
	}
	return append(slices.Clone(options), view.Option{Value: value, Title: words(value)})
}

// actionWords says an action as people do: "Connector added".
func actionWords(action string) string {
	words := strings.NewReplacer(".", " ", "_", " ").Replace(action)
	switch action {
	case "person.signed_in":
		words = "signed in"
	case "session.signed_out":
		words = "signed out"
	case "person.sign_in_failed":
		words = "sign-in refused"
	}
	return strings.TrimSuffix(view.Sentence(words), ".")
}

// sourceWords say what somebody acted through.
func sourceWords(kind string) string {
	switch kind {
	case identity.KindPerson:
		return "Page"
	case identity.KindOperator:
		return "Command line"
	case identity.KindConnector:
		return "Connector"
	case identity.KindSystem:
		return "Server"
	case identity.KindVisitor:
		return "Sign-in page"
	}
	return kind
}

func actorName(a audit.Actor) string { return cmp.Or(a.Name, a.ID, a.Kind) }

func objectName(o audit.Object) string { return cmp.Or(o.Name, o.ID, o.Kind) }

// dayWords say a day: "Today, Monday 23 November".
func dayWords(now, at time.Time) string {
	now, at = now.UTC(), at.UTC()
	words := at.Format("Monday 2 January")
	if at.Year() != now.Year() {
		words = at.Format("Monday 2 January 2006")
	}
	switch at.Format(time.DateOnly) {
	case now.Format(time.DateOnly):
		return "Today, " + words
	case now.AddDate(0, 0, -1).Format(time.DateOnly):
		return "Yesterday, " + words
	}
	return words
}

// details are the particulars of an entry in a line.
type details struct {
	before, after string
	rest          []string
}

// detailOf makes a line of the JSON of an entry. Ids and empty values say nothing
// to a reader; what is left out is in the record.
func detailOf(e audit.Entry) (d details) {
	fields := map[string]any{}
	if json.Unmarshal(e.Detail, &fields) != nil {
		return d
	}
	d.before, d.after = plainWords(fields["before"]), plainWords(fields["after"])
	if strings.HasSuffix(e.Action, ".renamed") {
		d.after = objectName(e.Object)
	}
	for name, value := range fields {
		words := plainWords(value)
		if seconds, long := value.(float64); long && seconds > 0 && strings.HasSuffix(name, "_s") {
			name, words = strings.TrimSuffix(name, "_s"), view.Duration(time.Duration(seconds)*time.Second)
		}
		name = strings.ReplaceAll(name, "_", " ")
		switch {
		case words == "", name == "before", name == "after":
		case value == true:
			d.rest = append(d.rest, name)
		default:
			d.rest = append(d.rest, name+" "+words)
		}
	}
	slices.Sort(d.rest)
	d.rest = d.rest[:min(len(d.rest), 4)]
	return d
}

// plainWords is a value as a reader sees it, or "" if that says nothing.
func plainWords(value any) string {
	switch v := value.(type) {
	case string:
		if len(v) >= 20 && !strings.ContainsAny(v, " .:@-") {
			return "" // an id or a hash
		}
		return shortened(strings.NewReplacer("_", " ", ",", ", ").Replace(strings.TrimSuffix(v, ",user")), 60)
	case float64:
		if v == 0 {
			return ""
		}
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		if v {
			return "yes"
		}
	case []any:
		var parts []string
		for _, one := range v {
			if _, many := one.(map[string]any); many {
				return strconv.Itoa(len(v))
			}
			if words := plainWords(one); words != "" {
				parts = append(parts, words)
			}
		}
		return shortened(strings.Join(parts, ", "), 60)
	case map[string]any:
		var parts []string
		for name, one := range v {
			if words := plainWords(one); words != "" {
				parts = append(parts, words+" "+strings.ReplaceAll(name, "_", " "))
			}
		}
		slices.Sort(parts)
		return shortened(strings.Join(parts, ", "), 60)
	}
	return ""
}

// shortened is a text of so many letters at most.
func shortened(text string, most int) string {
	letters := []rune(text)
	if len(letters) <= most {
		return text
	}
	return string(letters[:most-1]) + "…"
}

func (d details) words() string {
	parts := d.rest
	if d.before != "" || d.after != "" {
		parts = append([]string{cmp.Or(d.before, "nothing") + " → " + d.after}, parts...)
	}
	return strings.Join(parts, ", ")
}

func (d details) component() templ.Component {
	switch {
	case d.before != "" && d.after != "":
		return view.Change(d.before, d.after)
	case d.words() == "" && d.before == "":
		return nil
	case d.before != "":
		return view.Text(strings.TrimSpace("before: " + d.before + " " + strings.Join(d.rest, ", ")))
	}
	return view.Text(d.words())
}

// refersTo is a page that an entry points at.
type refersTo struct{ Name, Words, Href string }

// references are the pages of what an entry is about, as far as there are such.
func (s *Server) references(e audit.Entry, apps map[string]string) (list []refersTo) {
	add := func(name, kind, id, words string) {
		if id == "" {
			return
		}
		list = append(list, refersTo{name, words, s.pageOf(kind, id)})
	}
	add("Object", e.Object.Kind, e.Object.ID, objectName(e.Object))
	if e.Object.Kind != "app" {
		add("Application", "app", e.AppID, cmp.Or(apps[e.AppID], e.AppID))
	}
	if e.Actor.Kind == identity.KindPerson || e.Actor.Kind == identity.KindConnector {
		add("Who", e.Actor.Kind, e.Actor.ID, actorName(e.Actor))
	}
	return list
}

// pageOf is the address of an object's page, or "" where there is none.
func (s *Server) pageOf(kind, id string) string {
	path := map[string]string{"app": "/apps/", "connector": "/connectors/", "person": "/people/", "account": "/accounts/", "entitlement": "/entitlements/", "resource": "/resources/"}[kind]
	if path == "" || !slices.ContainsFunc(s.routes, func(r Route) bool {
		rest, ok := strings.CutPrefix(r.Pattern, "GET "+path+"{")
		return ok && !strings.Contains(rest, "/")
	}) {
		return ""
	}
	return path + id
}

// pretty is JSON over several lines.
func pretty(text []byte) string {
	var out bytes.Buffer
	if json.Indent(&out, text, "", "  ") != nil {
		return string(text)
	}
	return out.String()
}

// verifyAudit begins a verification, and leads to where one sees it.
func (s *Server) verifyAudit(c *Call) (Outcome, error) {
	_, err := s.verifier.Begin(s.ctx, c.Actor())
	if err != nil && !fault.Is(err, fault.Conflict) {
		return Outcome{}, err
	}
	return Go("/audit", ""), nil
}

// exportAudit sends the whole log, as `airlock audit verify` reads it.
func (s *Server) exportAudit(c *Call) error {
	return s.send(c, "application/jsonl", "audit-"+c.Now.Format(time.DateOnly)+".jsonl", func(w io.Writer) error {
		return s.Audit.Export(c.Context(), c.Actor(), w)
	})
}

// proofOf sends what proves an entry without Airlock.
func (s *Server) proofOf(c *Call) error {
	seq, err := strconv.ParseInt(c.Path("seq"), 10, 64)
	if err != nil {
		return fault.New(fault.NotFound, "there is no entry %q", c.Path("seq"))
	}
	proof, err := s.Audit.Prove(c.Context(), c.Actor(), seq)
	if err != nil {
		return err
	}
	if proof.Checkpoint.Size == 0 {
		return fault.New(fault.NotReady, "no checkpoint covers entry %d yet, so it can't be proved; the next one is signed within a minute", seq)
	}
	return s.send(c, "application/json", fmt.Sprintf("audit-%d-proof.json", seq), func(w io.Writer) error {
		out := json.NewEncoder(w)
		out.SetEscapeHTML(false)
		out.SetIndent("", "  ")
		return out.Encode(map[string]any{"inclusion": proof.Inclusion, "checkpoint": proof.Checkpoint.Note})
	})
}

// send streams a file. An error in its middle breaks the connection, so that no
// half file is taken for a whole one.
func (s *Server) send(c *Call, kind, name string, write func(io.Writer) error) error {
	h := c.w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", `attachment; filename="`+name+`"`)
	if err := http.NewResponseController(c.w).SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	out := &counted{to: c.w}
	err := write(out)
	if err == nil {
		return nil
	}
	if out.written == 0 {
		h.Del("Content-Type")
		h.Del("Content-Disposition")
		return err
	}
	s.Log.ErrorContext(c.Context(), "a download ended early and was cut off", "path", c.r.URL.Path, "error", err)
	panic(http.ErrAbortHandler)
}
