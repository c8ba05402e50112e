package web

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"airlock/internal/audit"
	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
	"airlock/internal/integration"
	"airlock/internal/inventory"
	"airlock/internal/provision"
)

// homeRoutes are the first page.
func (s *Server) homeRoutes() []Route {
	return []Route{s.page("GET /{$}", member(), s.home)}
}

// may reports whether somebody may do so to objects of a kind: to all of them, or
// to those of the apps that they own. It is for what a page shows; the services
// decide.
func (c *Call) may(action identity.Action, kind string) bool {
	return identity.Can(c.Actor(), action, identity.Object{Kind: kind}) == nil || action == identity.Read && identity.OnlyOwned(c.Actor(), kind)
}

// homePage is what the first page shows; what the reader may not see is nil.
type homePage struct {
	runs       bool // sees connectors: an administrator, an auditor, an owner
	adds       bool // may add one
	connectors []integration.Overview
	loose      []loose
	changes    *changeList
	trail      *trail
	mine       mine
}

// loose are accounts without a person.
type loose struct {
	word, title, sub string
	shape            view.Shape
	accounts         []accountRow
}

// accountRow is an account with the name of its app.
type accountRow struct {
	inventory.Account
	app, href string
}

// changeList are the last changes of access.
type changeList struct {
	rows []view.Row
	late int64
	live string
}

// trail is how far the audit log is.
type trail struct {
	entries, covered int64
	last             audit.Checkpoint
	verification     audit.Verification
}

func (s *Server) home(c *Call) (Page, error) {
	p := homePage{runs: c.may(identity.Read, "connector"), adds: c.may(identity.Manage, "connector")}
	var err error
	if p.runs {
		if p.connectors, err = s.allConnectors(c); err != nil {
			return Page{}, err
		}
		if p.loose, err = s.looseAccounts(c); err != nil {
			return Page{}, err
		}
		if p.changes, err = s.lastChanges(c); err != nil {
			return Page{}, err
		}
	}
	if c.may(identity.Read, "audit") {
		if p.trail, err = s.trail(c); err != nil {
			return Page{}, err
		}
	}
	if p.mine, err = s.mine(c); err != nil {
		return Page{}, err
	}
	return Page{Title: "Home", Section: "Home", Body: homeBody(p, c.Now)}, nil
}

// allConnectors are those that the reader sees: the ones that need somebody first.
func (s *Server) allConnectors(c *Call) (all []integration.Overview, err error) {
	for after := (inventory.Key{}); ; {
		page, err := s.Integration.List(c.Context(), c.Actor(), after, 200)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < 200 {
			break
		}
		last := page[len(page)-1]
		after = inventory.Key{Name: last.Name, ID: last.ID}
	}
	slices.SortStableFunc(all, func(a, b integration.Overview) int {
		return cmp.Compare(slices.Index(states, a.State), slices.Index(states, b.State))
	})
	return all, nil
}

// ails reports whether a connector needs somebody.
func ails(o integration.Overview) bool {
	return o.State != integration.Connected && o.State != integration.Syncing
}

// So many accounts are named; beyond so many they aren't counted.
const namedAccounts, countedAccounts = 4, 100

func (s *Server) looseAccounts(c *Call) (list []loose, err error) {
	for _, one := range []struct {
		filter inventory.AccountFilter
		row    loose
		noun   string
		sub    string
	}{
		{
			inventory.AccountFilter{Orphaned: true, Status: inventory.Enabled},
			loose{word: "Orphaned", shape: view.ShapeWarn},
			"account",
			"Their people left or are disabled; the accounts can still be used.",
		},
		{
			inventory.AccountFilter{Unmatched: true, Kind: inventory.Human},
			loose{word: "Unmatched", shape: view.ShapeNone},
			"account of a human",
			"Nobody knows whose they are: say so by hand, or mend the e-mail.",
		},
	} {
		accounts, err := s.Inventory.Accounts(c.Context(), c.Actor(), one.filter, inventory.Key{}, countedAccounts+1)
		if err != nil {
			return nil, err
		}
		if len(accounts) == 0 {
			continue
		}
		row := one.row
		row.sub = one.sub
		row.title = looseWords(len(accounts), one.noun)
		for _, account := range accounts[:min(len(accounts), namedAccounts)] {
			named, err := s.accountRow(c, account)
			if err != nil {
				return nil, err
			}
			row.accounts = append(row.accounts, named)
		}
		list = append(list, row)
	}
	return list, nil
}

func looseWords(n int, noun string) string {
	noun, of, _ := strings.Cut(noun, " ")
	words := view.Count(n, noun)
	if n > countedAccounts {
		words = "More than " + view.Count(countedAccounts, noun)
	}
	return strings.TrimSpace(words + " " + of)
}

func (s *Server) accountRow(c *Call, account inventory.Account) (accountRow, error) {
	app, err := s.Inventory.AppOnRecord(c.Context(), s.DB, account.AppID)
	return accountRow{Account: account, app: app.Name, href: s.pageOf("account", account.ID)}, err
}

// lastChanges are the last changes of access that the reader may see.
func (s *Server) lastChanges(c *Call) (*changeList, error) {
	changes, err := s.Provision.Newest(c.Context(), c.Actor(), provision.Place{}, false, 6)
	if err != nil {
		return nil, err
	}
	list := &changeList{}
	if identity.Can(c.Actor(), identity.Read, identity.Object{Kind: "change"}) == nil {
		if _, list.late, err = s.Provision.Counts(c.Context()); err != nil {
			return nil, err
		}
	}
	var topics []string
	for _, change := range changes {
		row, err := s.changeRow(c, change)
		if err != nil {
			return nil, err
		}
		list.rows = append(list.rows, row)
		topics = append(topics, "change/"+change.ID)
	}
	if c.may(identity.Read, "audit") {
		topics = append(topics, audit.Topic)
	}
	list.live = strings.Join(topics, " ")
	return list, nil
}

func (s *Server) changeRow(c *Call, change provision.Change) (view.Row, error) {
	titles, err := s.Inventory.Titles(c.Context(), s.DB, []string{change.EntitlementID})
	if err != nil {
		return view.Row{}, err
	}
	who, err := s.Inventory.ResourceByID(c.Context(), s.DB, change.PrincipalID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return view.Row{}, err
	}
	app, err := s.Inventory.AppOnRecord(c.Context(), s.DB, change.AppID)
	if err != nil {
		return view.Row{}, err
	}
	shape, word := changeLabel(change)
	name, title := cmp.Or(who.Name, "a former account"), cmp.Or(titles[change.EntitlementID], "a former entitlement")
	return view.Row{
		Label: view.Label(shape, word),
		Title: homeChange(change, name, s.pageOf("account", change.PrincipalID), title, s.pageOf("entitlement", change.EntitlementID)),
		Sub:   changeSub(app.Name, change, c.Now),
	}, nil
}

// changeLabel is how far a change is.
func changeLabel(change provision.Change) (view.Shape, string) {
	switch change.State {
	case provision.Verified:
		return view.ShapeOK, map[provision.Kind]string{provision.Grant: "Granted", provision.Revoke: "Revoked"}[change.Kind]
	case provision.Failed:
		return view.ShapeError, "Failed"
	case provision.Done:
		return view.ShapeWait, "To be seen"
	case provision.Running:
	}
	return view.ShapeRun, map[provision.Kind]string{provision.Grant: "Granting", provision.Revoke: "Revoking"}[change.Kind]
}

func changeSub(app string, change provision.Change, now time.Time) string {
	words := app + ", by " + actorName(change.By) + ", " + view.Relative(now, change.CreatedAt)
	if change.State == provision.Failed && change.Error != "" {
		words += ". " + view.Sentence(change.Error)
	}
	return words
}

func (s *Server) trail(c *Call) (*trail, error) {
	t := &trail{}
	var err error
	if t.entries, t.covered, err = s.Audit.Extent(c.Context()); err != nil {
		return nil, err
	}
	if t.last, err = s.Audit.LastCheckpoint(c.Context(), c.Actor()); err != nil {
		return nil, err
	}
	t.verification, err = s.verifier.Last(c.Actor())
	return t, err
}

// mine is what somebody has themself.
type mine struct {
	accounts []accountRow
	held     []inventory.GrantItem
	ways     map[string]string // what entitlements on the way to others are called
	more     bool
}

// So much of what somebody holds is on the first page.
const mostOnHome = 8

// mine finds the accounts of who is signed in, and what these hold.
func (s *Server) mine(c *Call) (m mine, err error) {
	if c.Actor().Kind != identity.KindPerson {
		return m, nil
	}
	accounts, err := s.Inventory.Accounts(c.Context(), c.Actor(), inventory.AccountFilter{PersonID: c.Actor().ID}, inventory.Key{}, 200)
	if err != nil {
		return m, err
	}
	for _, account := range accounts {
		row, err := s.accountRow(c, account)
		if err != nil {
			return m, err
		}
		m.accounts = append(m.accounts, row)
	}
	page, err := s.Inventory.PersonRoles(c.Context(), c.Actor(), c.Actor().ID, inventory.Key{}, mostOnHome)
	if err != nil {
		return m, err
	}
	m.held, m.more = page.Rows, page.Next != (inventory.Key{})
	m.ways, err = s.titles(c, pathsOf(m.held))
	return m, err
}

// connectorTopics are those of a part of a page that shows connectors: those of the first
// ones, as a page follows a few topics only.
func connectorTopics(list []integration.Overview) string {
	topics := []string{integration.HostedTopic}
	for _, one := range list[:min(len(list), 40)] {
		topics = append(topics, "connector/"+one.ID)
	}
	return strings.Join(topics, " ")
}

// connectorRows are connectors as lines of a panel.
func connectorRows(list []integration.Overview, may bool, now time.Time) (rows []view.Row) {
	for _, o := range list {
		shape, word := connectorShape(o.State), string(o.State)
		if o.Problem.Kind == integration.Held && o.State == integration.Errored {
			shape, word = view.ShapeWarn, "Held back"
		}
		row := view.Row{
			Label: view.Label(shape, word),
			Title: view.Link("/connectors/"+o.ID, o.Name), Sub: connectorSub(o, now), End: connectorNext(o, may),
		}
		rows = append(rows, row)
	}
	return rows
}

func connectorSub(o integration.Overview, now time.Time) string {
	words := view.Sentence(o.Detail)
	if o.State == integration.Paused {
		words = "Paused " + view.Relative(now, o.Paused.At) + "."
		if o.Paused.Why != "" {
			words = strings.TrimSuffix(words, ".") + ": “" + o.Paused.Why + "”."
		}
	}
	if o.Last != nil {
		words = strings.TrimSpace(words + " What you see was read " + view.Relative(now, o.Last.EndedAt) + ".")
	} else if o.State != integration.NotConnected {
		words = strings.TrimSpace(words + " Nothing was read yet.")
	}
	return words
}

// divide tells connectors that need somebody from those that don't.
func divide(list []integration.Overview) (ailing, healthy []integration.Overview) {
	for _, o := range list {
		if ails(o) {
			ailing = append(ailing, o)
		} else {
			healthy = append(healthy, o)
		}
	}
	return ailing, healthy
}

// row is what somebody holds, as a line of a panel.
func (m mine) row(g inventory.GrantItem, now time.Time) view.Row {
	var end templ.Component
	if g.Risk != "" {
		end = view.RiskMark(view.Risk(g.Risk))
	}
	return view.Row{Title: heldTitle(g), Sub: m.words(g, now), End: end}
}

// words say how somebody holds something, since when and until when.
func (m mine) words(g inventory.GrantItem, now time.Time) string {
	words := "Direct"
	if !g.Direct {
		words = "By way of " + wayWords(g, m.ways)
	}
	if !g.Since.IsZero() {
		words += ", since " + view.Date(now, g.Since)
	}
	if until := g.Until(); !until.IsZero() {
		words += ", ends " + view.Relative(now, until)
	}
	return words
}
