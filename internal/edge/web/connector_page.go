package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"

	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
	"airlock/internal/ingest"
	"airlock/internal/integration"
	"airlock/internal/integration/catalog"
)

// connectorForm is what of a connector's page is edited, and how it was sent.
type connectorForm struct {
	part     string // settings, details, schedule; or nothing
	typed    map[string]string
	schedule scheduleForm
	picked   []string // owners, by id
	owner    string   // more, as typed
	wrong    view.Errors
}

// connectorSheet is what a connector's page shows.
type connectorSheet struct {
	connectorRow
	connectorForm
	now      time.Time
	entry    catalog.Entry // none where Name is empty
	settings view.Settings
	clients  []identity.Client
	types    map[string]string
	syncs    []integration.Sync // the newest
	history  view.Table[integration.Sync]
	chart    *view.Chart
	held     *heldSync
	lines    []view.LogLine
	level    string
	follow   bool
	people   []identity.Person // to choose owners from
	chosen   []identity.Person // as owners
	version  string
	can      []ability
	extras   []string // abilities of the whole connector
	cant     bool     // it has yet to say what it can do
}

// shownSyncs are the syncs on a connector's page, and chartSyncs those of its chart.
const (
	shownSyncs = 8
	chartSyncs = 60
	shownLines = 200
)

func (s *Server) editing(part string) func(*Call) (Page, error) {
	return func(c *Call) (Page, error) { return s.connectorPage(c, connectorForm{part: part}) }
}

// connectorRowOf is the connector of the address.
func (s *Server) connectorRowOf(c *Call) (connectorRow, error) {
	o, err := s.Integration.Show(c.Context(), c.Actor(), c.Path("id"))
	if err != nil {
		return connectorRow{}, err
	}
	return s.connectorNames(c.Context()).row(c, o)
}

func (s *Server) connectorPage(c *Call, form connectorForm) (Page, error) {
	row, err := s.connectorRowOf(c)
	if err != nil {
		return Page{}, err
	}
	p := connectorSheet{connectorRow: row, connectorForm: form, now: c.Now}
	if p.part != "" {
		if err := identity.Can(c.Actor(), identity.Manage, identity.Object{Kind: "connector", ID: row.ID, AppID: row.AppID}); err != nil {
			return Page{}, err
		}
	}
	for _, read := range []func(*Call, *connectorSheet) error{s.readSettings, s.readTypes, s.readSyncs, s.readLog, s.readOwners} {
		if err := read(c, &p); err != nil {
			return Page{}, err
		}
	}
	p.readAbilities()
	return Page{Title: row.Name, Section: integrations, Body: connectorBody(p)}, nil
}

func (s *Server) readSettings(c *Call, p *connectorSheet) (err error) {
	if p.entry, err = s.entryOf(c, p.Connector); err != nil {
		return err
	}
	p.version = strings.TrimSpace("baton-" + p.Kind() + " " + cmp.Or(p.Version, p.entry.Version))
	if p.Kind() == integration.AnyCatalog {
		p.version = ""
	}
	if !p.Hosted {
		p.clients, err = s.Integration.Clients(c.Context(), c.Actor(), p.ID)
		return err
	}
	values := maps.Clone(p.Settings)
	if p.typed != nil {
		values = p.typed
	}
	p.settings = view.Settings{Entry: p.entry, Values: values, Errors: p.wrong, Kept: func(name string) bool { return slices.Contains(p.Secrets, name) }}
	return nil
}

func (s *Server) readTypes(c *Call, p *connectorSheet) error {
	list, err := s.Inventory.Types(c.Context(), c.Actor(), p.AppID)
	p.types = typesOf(p.Connector)
	for _, one := range list {
		p.types[one.ExternalID] = one.Name
	}
	return err
}

func (s *Server) readSyncs(c *Call, p *connectorSheet) error {
	list, err := s.Integration.Syncs(c.Context(), c.Actor(), integration.SyncFilter{ConnectorID: p.ID}, "", chartSyncs)
	if err != nil {
		return err
	}
	p.syncs = list[:min(len(list), shownSyncs)]
	p.history = syncTable(c, p.syncs, p.may)
	p.history.Bare = true
	p.chart = durations(list, c.Now)
	if p.Open != nil && p.Open.State == integration.HeldBack {
		p.held = heldOf(*p.Open)
	}
	return nil
}

func (s *Server) readLog(c *Call, p *connectorSheet) error {
	query := c.URL().Query()
	p.level, p.follow = query.Get("level"), query.Get("follow") != "off"
	lines, err := s.Integration.Log(c.Context(), c.Actor(), p.ID, 0, 0, 1000)
	for _, line := range lines {
		if levelOf(line.Level) >= levelOf(p.level) {
			p.lines = append(p.lines, view.LogLine{At: line.At, Level: line.Level, Text: lineText(line)})
		}
	}
	p.lines = p.lines[max(0, len(p.lines)-shownLines):]
	return err
}

func (s *Server) readOwners(c *Call, p *connectorSheet) (err error) {
	if p.part != "details" {
		return nil
	}
	ids := p.picked
	if p.wrong == nil {
		ids = p.Owners
	}
	p.people, p.chosen, err = s.ownerChoice(c, ids)
	return err
}

// readAbilities finds what the connector can do: as it says itself, or else as its
// program does.
func (p *connectorSheet) readAbilities() {
	all := p.Capabilities()
	if p.HelloAt.IsZero() && p.entry.Capabilities != nil {
		all = p.entry.Capabilities
	}
	p.can = canDo(all)
	p.cant = len(p.can) == 0
	for _, one := range []struct {
		is    []v2.Capability
		words string
	}{
		{[]v2.Capability{v2.Capability_CAPABILITY_EVENT_FEED, v2.Capability_CAPABILITY_EVENT_FEED_V2}, "Tells of what happens as it happens"},
		{[]v2.Capability{v2.Capability_CAPABILITY_ACTIONS}, "Has actions of its own"},
		{[]v2.Capability{v2.Capability_CAPABILITY_TICKETING}, "Opens tickets"},
	} {
		if slices.ContainsFunc(all.GetConnectorCapabilities(), func(c v2.Capability) bool { return slices.Contains(one.is, c) }) {
			p.extras = append(p.extras, one.words)
		}
	}
}

// setting is a setting as it is shown when nobody edits it.
type shownSetting struct {
	name, value string
	secret      bool
}

// shown are the settings there are, without what is secret.
func (p connectorSheet) shown() []shownSetting {
	var list []shownSetting
	for _, f := range p.entry.Fields {
		value, set := p.Settings[f.Name]
		secret := slices.Contains(p.Secrets, f.Name)
		switch {
		case f.Kind == catalog.Other:
		case secret:
			list = append(list, shownSetting{name: f.DisplayName, secret: true})
		case set && f.Kind == catalog.File:
			list = append(list, shownSetting{name: f.DisplayName, value: "A file of " + bytesWords(int64(len(value)))})
		case set:
			list = append(list, shownSetting{name: f.DisplayName, value: value})
		case f.Required && len(f.Groups) == 0:
			list = append(list, shownSetting{name: f.DisplayName})
		}
	}
	return list
}

// used reports whether a connector was ever started with what is to be replaced.
func (p connectorSheet) used() bool {
	return slices.ContainsFunc(p.clients, func(c identity.Client) bool { return !c.LastUsedAt.IsZero() })
}

// meta are a few facts below the name.
func (r connectorRow) meta() string {
	if r.Last == nil {
		return ""
	}
	return view.Count(r.counts.Accounts, "account") + ", " + view.Count(r.counts.Entitlements, "entitlement") + ", " + view.Count(r.counts.Grants, "grant")
}

// syncing reports whether a sync is under way.
func (r connectorRow) syncing() bool {
	return r.Open != nil && r.Open.State != integration.HeldBack
}

// remedy is the next step out of a problem, in words.
func (r connectorRow) remedy() string {
	stays := "Nothing was changed. "
	if r.Last != nil {
		stays = "Nothing was changed: what the last complete sync found stays in use. "
	}
	switch r.Problem.Kind {
	case integration.Refused, integration.Unreachable, integration.Stuck, integration.SyncFailed, integration.Crashes:
		if r.Hosted {
			return stays + "Mend the settings, or the application itself; saving starts a sync. The log below tells more."
		}
		return stays + "Its settings are given where it runs" + onHost(r.Host) + "; mend them there and start it again. The log below tells more."
	case integration.Silent:
		if r.Hosted {
			return stays + "The log below may say why."
		}
		return stays + "See whether it runs" + onHost(r.Host) + " and reaches this server; what it logs there says why."
	case integration.BinaryMissing:
		return stays + "Put the program into the connectors folder, and it starts by itself."
	case integration.NoChanges:
		return "It still reads. Start it with BATON_PROVISIONING=true to let it change access."
	case integration.DiskFull:
		return stays + "Make room on the server's disk, then sync again."
	case integration.Held:
	}
	return stays
}

func onHost(host string) string {
	if host == "" {
		return ""
	}
	return " on " + host
}

// logLink is the page with another part of the log.
func (p connectorSheet) logLink(level string, follow bool) string {
	query := url.Values{}
	if level != "" {
		query.Set("level", level)
	}
	if !follow {
		query.Set("follow", "off")
	}
	to := p.href()
	if len(query) > 0 {
		to += "?" + query.Encode()
	}
	return to + "#p-log"
}

// words are what can be done: "read, grant and revoke".
func (a ability) words() string { return strings.Join(a.verbs, ", ") }

// mendable reports whether new settings may be what helps.
func (r connectorRow) mendable() bool {
	return r.Hosted && slices.Contains([]integration.ProblemKind{
		integration.Refused, integration.Unreachable, integration.Stuck, integration.SyncFailed, integration.Crashes,
	}, r.Problem.Kind)
}

// levels of a log, from the least.
var levels = []string{"debug", "info", "warn", "error"}

func levelOf(level string) int { return slices.Index(levels, level) }

// lineText is a line of a log with its fields.
func lineText(line integration.LogLine) string {
	var fields map[string]any
	if json.Unmarshal(line.Fields, &fields) != nil {
		return line.Message
	}
	text := line.Message
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if value := fmt.Sprint(fields[name]); name != "by" {
			text += " " + name + "=" + strings.ReplaceAll(value, "\n", " ")
		}
	}
	return text
}

// downloadLog sends a connector's whole log as text, as far as it is kept.
func (s *Server) downloadLog(c *Call) error {
	o, err := s.Integration.Find(c.Context(), c.Actor(), c.Path("id"))
	if err != nil {
		return err
	}
	level := c.URL().Query().Get("level")
	h := c.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Disposition", attachment(o.Name+".log"))
	for after := int64(0); ; {
		lines, err := s.Integration.LogAfter(c.Context(), c.Actor(), o.ID, after, 1000)
		if err != nil {
			return err
		}
		for _, line := range lines {
			if levelOf(line.Level) >= levelOf(level) {
				if _, err := fmt.Fprintf(c.w, "%s %-5s %s\n", line.At.UTC().Format("2006-01-02T15:04:05.000Z"), line.Level, lineText(line)); err != nil {
					return nil //nolint:nilerr // the browser went away
				}
			}
		}
		if len(lines) == 0 {
			return nil
		}
		after = lines[len(lines)-1].N
	}
}

// attachment names a file that is downloaded.
func attachment(name string) string {
	return mime.FormatMediaType("attachment", map[string]string{"filename": strings.Join(strings.Fields(name), "-")})
}

func (s *Server) syncConnector(c *Call) (Outcome, error) {
	_, err := s.Integration.SyncNow(c.Context(), c.Actor(), c.Path("id"))
	return Go(c.came("/connectors/"+c.Path("id")), "A sync was asked for."), err
}

// came is the page that a button was on, if it was the list of connectors.
func (c *Call) came(otherwise string) string {
	if from, err := url.Parse(c.r.Referer()); err == nil && from.Host == c.r.Host && from.Path == "/connectors" {
		return from.RequestURI()
	}
	return otherwise
}

func (s *Server) pauseConnector(c *Call) (Outcome, error) {
	connector, err := s.Integration.Pause(c.Context(), c.Actor(), c.Path("id"), "by "+c.Actor().Name)
	return Outcome{
		To: "/connectors/" + c.Path("id"), Toast: connector.Name + " is paused: no syncs until it is resumed.", Undo: "/connectors/" + c.Path("id") + "/resume",
	}, err
}

func (s *Server) resumeConnector(c *Call) (Outcome, error) {
	connector, err := s.Integration.Resume(c.Context(), c.Actor(), c.Path("id"))
	return Go(c.came("/connectors/"+c.Path("id")), connector.Name+" syncs again."), err
}

func (s *Server) setAnomalyStop(c *Call) (Outcome, error) {
	var in struct {
		On bool `form:"on"`
	}
	err := c.Form(&in)
	if err == nil {
		_, err = s.Integration.SetAnomalyStop(c.Context(), c.Actor(), c.Path("id"), in.On)
	}
	words := "A sync that would remove much is applied without a question."
	if in.On {
		words = "A sync that would remove much waits for somebody."
	}
	return Go("/connectors/"+c.Path("id"), words), err
}

func (s *Server) setDebug(c *Call) (Outcome, error) {
	var in struct {
		On bool `form:"on"`
	}
	err := c.Form(&in)
	if err == nil {
		_, err = s.Integration.SetDebug(c.Context(), c.Actor(), c.Path("id"), in.On)
	}
	words := "Syncs bring no debug log."
	if in.On {
		words = "The next syncs bring a debug log."
	}
	return Go("/connectors/"+c.Path("id"), words), err
}

// saveSettings checks and keeps the settings of a hosted connector, which then syncs.
func (s *Server) saveSettings(c *Call) (Outcome, error) {
	row, err := s.connectorRowOf(c)
	if err != nil {
		return Outcome{}, err
	}
	entry, err := s.entryOf(c, row.Connector)
	if err != nil {
		return Outcome{}, err
	}
	values, err := c.Values()
	if err != nil {
		return Outcome{}, err
	}
	set, unset, err := view.ReadSettings(entry, values, c.File)
	if err == nil {
		_, err = s.Integration.Set(c.Context(), c.Actor(), row.ID, set, unset)
	}
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) {
			typed := maps.Clone(set)
			for _, field := range entry.Fields {
				if field.Secret || field.Kind == catalog.OAuth || field.Kind == catalog.File {
					delete(typed, field.Name)
				}
			}
			return s.connectorPage(c, connectorForm{part: "settings", typed: typed, wrong: wrong})
		})
	}
	return Go(row.href(), "Saved. A sync begins."), nil
}

func (s *Server) saveDetails(c *Call) (Outcome, error) {
	var in waysForm
	err := c.Form(&in)
	owners := in.Owners
	if err == nil {
		owners, err = s.owners(c, in.Owners, in.Owner)
	}
	if err == nil {
		_, err = s.Integration.SetOwners(c.Context(), c.Actor(), c.Path("id"), owners)
	}
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) {
			return s.connectorPage(c, connectorForm{part: "details", picked: in.Owners, owner: in.Owner, wrong: wrong})
		})
	}
	return Go("/connectors/"+c.Path("id"), "Saved."), nil
}

// scheduleForm is when a connector syncs.
type scheduleForm struct {
	Way   string        `form:"way"` // every or cron
	Every time.Duration `form:"every"`
	Cron  string        `form:"cron"`
	Zone  string        `form:"zone"`
}

func (f scheduleForm) schedule() integration.Schedule {
	if f.Way == "cron" {
		return integration.Schedule{Cron: cmp.Or(f.Cron, "-"), Zone: f.Zone}
	}
	return integration.Schedule{Every: f.Every}
}

func (s *Server) saveSchedule(c *Call) (Outcome, error) {
	var in scheduleForm
	err := c.Form(&in)
	if err == nil {
		_, err = s.Integration.SetSchedule(c.Context(), c.Actor(), c.Path("id"), in.schedule())
	}
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) {
			return s.connectorPage(c, connectorForm{part: "schedule", schedule: in, wrong: wrong})
		})
	}
	return Go("/connectors/"+c.Path("id"), "Saved."), nil
}

// scheduled is what the schedule's form begins with.
func (p connectorSheet) scheduled() scheduleForm {
	if p.wrong != nil {
		return p.schedule
	}
	f := scheduleForm{Way: "every", Every: cmp.Or(p.Schedule.Every, time.Hour), Cron: p.Schedule.Cron, Zone: cmp.Or(p.Schedule.Zone, "UTC")}
	if f.Cron != "" {
		f.Way = "cron"
	}
	return f
}

// everyWords is an interval: "Every hour", "Every 4 hours".
func everyWords(d time.Duration) string {
	words := view.Duration(d)
	if one, single := strings.CutPrefix(words, "1 "); single && !strings.Contains(one, " ") {
		words = one
	}
	return "Every " + words
}

// intervals are those that can be chosen, and the present one.
func (f scheduleForm) intervals() []view.Option {
	var list []view.Option
	for _, every := range []time.Duration{30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour} {
		list = append(list, view.Option{Value: every.String(), Title: everyWords(every)})
	}
	if !slices.ContainsFunc(list, func(o view.Option) bool { return o.Value == f.Every.String() }) {
		list = append(list, view.Option{Value: f.Every.String(), Title: everyWords(f.Every)})
	}
	return list
}

func (s *Server) askName(c *Call, name string, wrong view.Errors) (Page, error) {
	row, err := s.connectorRowOf(c)
	if err != nil {
		return Page{}, err
	}
	if wrong == nil {
		name = row.Name
	}
	return Page{Title: "Rename " + row.Name, Section: integrations, Body: nameQuestion(row, name, wrong)}, nil
}

func (s *Server) renameConnector(c *Call) (Outcome, error) {
	var in struct {
		Name string `form:"name"`
	}
	err := c.Form(&in)
	if err == nil {
		_, err = s.Integration.Rename(c.Context(), c.Actor(), c.Path("id"), in.Name)
	}
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) { return s.askName(c, in.Name, wrong) })
	}
	return Go("/connectors/"+c.Path("id"), "Renamed."), nil
}

func (s *Server) askRemove(c *Call) (Page, error) {
	row, err := s.connectorRowOf(c)
	if err != nil {
		return Page{}, err
	}
	q := view.Question{
		Title: "Remove the connector " + row.Name + "?", Action: row.editor("remove"), Button: "Remove connector", Danger: true, Cancel: row.href(),
		Words: "It can't be undone. Access that is to be changed in " + row.app.Name + " can't be changed from here any more, until the app has another connector.",
	}
	if row.syncing() {
		q.Effects = append(q.Effects, view.Effect{Number: 1, Words: "sync that is under way is cancelled"})
	}
	if n := len(row.Secrets); n > 0 {
		q.Effects = append(q.Effects, view.Effect{Number: n, Words: plural(n, "secret setting is", "secret settings are") + " deleted"})
	}
	clients, err := s.Integration.Clients(c.Context(), c.Actor(), row.ID)
	if err != nil {
		return Page{}, err
	}
	if n := len(clients); n > 0 {
		q.Effects = append(q.Effects, view.Effect{Number: n, Words: plural(n, "Client ID is", "Client IDs are") + " refused at once"})
	}
	if row.Last != nil {
		n := int(row.counts.Accounts)
		q.Effects = append(q.Effects, view.Effect{Number: n, Words: plural(n, "account", "accounts") + " and what they hold stay as the last sync found them"})
	}
	return Page{Title: q.Title, Section: integrations, Body: view.Ask(q)}, nil
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func (s *Server) removeConnector(c *Call) (Outcome, error) {
	connector, err := s.Integration.Remove(c.Context(), c.Actor(), c.Path("id"))
	return Go("/connectors", connector.Name+" is removed. What it found stays."), err
}

// askRotate asks before credentials that a connector uses are replaced.
func (s *Server) askRotate(c *Call) (Page, error) {
	row, err := s.connectorRowOf(c)
	if err != nil {
		return Page{}, err
	}
	q := view.Question{
		Title: "Rotate the credentials of " + row.Name + "?", Action: row.editor("rotate"), Button: "Rotate", Danger: true, Cancel: row.editor("settings"),
		Effects: []view.Effect{{Number: 1, Words: "running connector is refused at once, until it is started with the new Client ID and Secret"}},
		Words:   "What it has found stays. A sync that it is at is tried again afterwards.",
	}
	return Page{Title: q.Title, Section: integrations, Body: rotateQuestion(row, q)}, nil
}

// rotateConnector shows new credentials, once.
func (s *Server) rotateConnector(c *Call) (Outcome, error) {
	_, fresh, err := s.Integration.Rotate(c.Context(), c.Actor(), c.Path("id"))
	if err != nil {
		return Outcome{}, err
	}
	row, err := s.connectorRowOf(c)
	if err != nil {
		return Outcome{}, err
	}
	entry, err := s.entryOf(c, row.Connector)
	if err != nil {
		return Outcome{}, err
	}
	run := running{program: "baton-" + row.Kind(), clientID: fresh.ClientID, secret: fresh.ClientSecret, fields: entry.Fields, ca: s.CA}
	if row.Kind() == integration.AnyCatalog {
		run.program = ""
	}
	return Show(Page{Title: "Credentials of " + row.Name, Section: integrations, Body: secretBody(row, fresh, run.texts())}), nil
}

// heldSync is a sync that waits for somebody, with what it would remove.
type heldSync struct {
	integration.Sync
	anomaly ingest.Anomaly
	largest ingest.Gone // what it was held for
}

func heldOf(s integration.Sync) *heldSync {
	h := &heldSync{Sync: s}
	_ = json.Unmarshal(s.Anomaly, &h.anomaly) // one of an older version says nothing
	for _, gone := range h.anomaly.Gone {
		if gone.Alarm && gone.Gone > h.largest.Gone || h.largest.Kind == "" {
			h.largest = gone
		}
	}
	return h
}

// rows is how many things a held sync would remove.
func (h heldSync) rows() (n int64) {
	for _, gone := range h.anomaly.Gone {
		n += gone.Gone
	}
	return n
}

func (h heldSync) effects(types map[string]string) []view.Effect {
	var list []view.Effect
	for _, gone := range h.anomaly.Gone {
		list = append(list, view.Effect{Number: int(gone.Gone), Words: "of " + view.Number(gone.Have) + " " + goneName(gone, types) + " go"})
	}
	return list
}

// goneName is what goes: "accounts (User)".
func goneName(gone ingest.Gone, types map[string]string) string {
	if gone.Type == "" {
		return gone.Kind
	}
	return gone.Kind + " (" + typeName(types, gone.Type) + ")"
}
