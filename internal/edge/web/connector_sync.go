package web

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/a-h/templ"

	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
	"airlock/internal/ingest"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// syncLabel is the state of a sync.
func syncLabel(state integration.SyncState) (view.Shape, string) {
	switch state {
	case integration.Waiting:
		return view.ShapeWait, "Waiting"
	case integration.Reading:
		return view.ShapeRun, "Reading"
	case integration.Uploading:
		return view.ShapeRun, "Uploading"
	case integration.Comparing:
		return view.ShapeRun, "Comparing"
	case integration.Applying:
		return view.ShapeRun, "Applying"
	case integration.HeldBack:
		return view.ShapeWarn, "Held back"
	case integration.Failed:
		return view.ShapeError, "Failed"
	case integration.Cancelled:
		return view.ShapeEnded, "Cancelled"
	case integration.Discarded:
		return view.ShapeEnded, "Discarded"
	case integration.Applied:
	}
	return view.ShapeOK, "Complete"
}

// syncChanges are what a sync changes, by kind.
func syncChanges(s integration.Sync) (c ingest.Changes, known bool) {
	return c, len(s.Changes) > 0 && json.Unmarshal(s.Changes, &c) == nil
}

// changeWords are all changes of a sync in a few letters: "+2 −1".
func changeWords(s integration.Sync) string {
	c, known := syncChanges(s)
	if !known {
		return ""
	}
	var all ingest.Change
	for _, one := range []ingest.Change{c.Types, c.Resources, c.Entitlements, c.Grants} {
		all.Added, all.Changed, all.Removed = all.Added+one.Added, all.Changed+one.Changed, all.Removed+one.Removed
	}
	words := ""
	for _, one := range []struct {
		n    int64
		sign string
	}{{all.Added, "+"}, {all.Removed, "−"}, {all.Changed, "~"}} {
		if one.n > 0 {
			words += " " + one.sign + view.Number(one.n)
		}
	}
	switch {
	case words == "":
		return "none"
	case s.State == integration.Failed || s.State == integration.Discarded:
		return "not used"
	}
	return words[1:]
}

// syncTable is a history of syncs.
func syncTable(c *Call, list []integration.Sync, may bool) view.Table[integration.Sync] {
	now := c.Now
	number := func(of func(ingest.Counts) int64) func(integration.Sync) string {
		return func(s integration.Sync) string {
			if len(s.Counts) == 0 {
				return ""
			}
			return view.Number(of(countsOf(s)))
		}
	}
	return view.Table[integration.Sync]{
		ID: "syncs", Name: "Syncs", Rows: list, View: c.View(), Key: func(s integration.Sync) string { return s.ID },
		Empty: view.Empty("sync", "No sync yet", "Each sync is listed here with what it found and what it changed."),
		Columns: []view.Column[integration.Sync]{
			{
				ID: "started", Title: "Started", Main: true, Text: func(s integration.Sync) string { return s.CreatedAt.UTC().Format(time.RFC3339) },
				Cell: syncStarted,
			},
			{
				ID: "result", Title: "Result", Fill: true, Text: func(s integration.Sync) string { return string(s.State) },
				Cell: syncResult,
			},
			{ID: "accounts", Title: "Accounts", Number: true, Text: number(func(n ingest.Counts) int64 { return n.Accounts })},
			{ID: "entitlements", Title: "Entitlements", Number: true, Text: number(func(n ingest.Counts) int64 { return n.Entitlements })},
			{ID: "grants", Title: "Grants", Number: true, Text: number(func(n ingest.Counts) int64 { return n.Grants })},
			{ID: "changes", Title: "Changes", Number: true, Text: changeWords},
			{ID: "took", Title: "Took", Number: true, Text: func(s integration.Sync) string {
				if s.State == integration.Waiting || s.State == integration.HeldBack {
					return ""
				}
				return view.Took(took(s, now))
			}},
			{ID: "file", Title: "File", Number: true, Cell: func(s integration.Sync) templ.Component { return syncDoes(s, may) }},
		},
	}
}

// durations is the chart of how long syncs took, if there is something to see.
func durations(list []integration.Sync, now time.Time) *view.Chart {
	var points []view.Point
	var all []time.Duration
	for _, s := range slices.Backward(list) {
		if s.State == integration.Applied && s.Kind == integration.Full {
			d := took(s, now)
			all = append(all, d)
			points = append(points, view.Point{At: s.CreatedAt, Y: d.Seconds()})
		}
	}
	if len(points) < 3 {
		return nil
	}
	longest := slices.Max(all)
	slices.Sort(all)
	seconds := func(y float64) string {
		if y == 0 {
			return "0"
		}
		return view.Took(time.Duration(y * float64(time.Second)))
	}
	return &view.Chart{
		Name: "Duration of the last " + view.Number(len(points)) + " complete syncs", Unit: seconds,
		Words:  "Usually " + view.Took(all[len(all)/2]) + ", at most " + view.Took(longest) + ".",
		Series: []view.Series{{Name: "Took", Points: points}},
	}
}

// shownHistory is how many syncs a page of the history shows.
const shownHistory = 100

// syncHistory is the history of a connector, or of all.
func (s *Server) syncHistory(c *Call) (Page, error) {
	v := c.View()
	filter := integration.SyncFilter{ConnectorID: v.Get("connector"), AppID: v.Get("app")}
	list, err := s.Integration.Syncs(c.Context(), c.Actor(), filter, v.After, shownHistory+1)
	if err != nil {
		return Page{}, err
	}
	crumbs, title := connectorCrumbs, "Sync history"
	if filter.ConnectorID != "" {
		connector, err := s.Integration.Find(c.Context(), c.Actor(), filter.ConnectorID)
		if err != nil {
			return Page{}, err
		}
		crumbs = append(crumbs[:2:2], view.Crumb{Title: connector.Name, Href: "/connectors/" + connector.ID})
		title = "Sync history of " + connector.Name
	}
	table := syncTable(c, list, manages(c))
	table.ID, table.CSV = "history", true
	if len(list) > shownHistory {
		table.Rows, table.Later = list[:shownHistory], list[shownHistory-1].ID
	}
	table.Sums = view.Count(len(table.Rows), "sync") + ", newest first."
	export := table.Export(func(yield func(integration.Sync) error) error {
		for after := ""; ; {
			page, err := s.Integration.Syncs(c.Context(), c.Actor(), filter, after, 500)
			if err != nil || len(page) == 0 {
				return err
			}
			for _, one := range page {
				if err := yield(one); err != nil {
					return err
				}
				after = one.ID
			}
		}
	})
	return Page{Title: title, Section: integrations, Name: "syncs", Body: historyBody(crumbs, title, table), CSV: export}, nil
}

// syncSheet is what a sync's page shows.
type syncSheet struct {
	integration.Sync
	now       time.Time
	app       inventory.App
	connector integration.Connector // the zero one of a file that was brought by hand
	types     map[string]string
	counts    ingest.Counts
	totals    map[string]ingest.Total
	usual     time.Duration
	held      *heldSync
	may       bool
}

func (p syncSheet) href() string { return "/syncs/" + p.ID }

// live are the topics of a sync's page.
func (p syncSheet) live() string { return "sync/" + p.ID }

func (p syncSheet) title() string {
	if p.ConnectorID == "" {
		return "File for " + p.app.Name
	}
	return "Sync of " + p.CreatedAt.UTC().Format("2 Jan 2006, 15:04")
}

func (p syncSheet) crumbs() []view.Crumb {
	if p.ConnectorID == "" {
		return []view.Crumb{{Title: "Applications", Href: "/apps"}, {Title: p.app.Name, Href: "/apps/" + p.app.ID}}
	}
	return append(connectorCrumbs[:2:2], view.Crumb{Title: p.connector.Name, Href: "/connectors/" + p.connector.ID})
}

// sheetOf is the sync of the address.
func (s *Server) sheetOf(c *Call) (syncSheet, error) {
	sync, err := s.Integration.ShowSync(c.Context(), c.Actor(), c.Path("id"))
	if err != nil {
		return syncSheet{}, err
	}
	p := syncSheet{Sync: sync, now: c.Now, counts: countsOf(sync), types: map[string]string{}, may: manages(c)}
	_ = json.Unmarshal(sync.Totals, &p.totals) // one of an older version has none
	if p.app, err = s.Inventory.AppOnRecord(c.Context(), s.DB, sync.AppID); err != nil {
		return p, err
	}
	if sync.ConnectorID == "" {
		p.may = identity.Can(c.Actor(), identity.Manage, identity.Object{Kind: "app"}) == nil
	} else {
		if p.connector, err = s.Integration.ByID(c.Context(), s.DB, sync.ConnectorID); err != nil {
			return p, err
		}
		if p.usual, err = s.Integration.Usual(c.Context(), c.Actor(), sync.ConnectorID); err != nil {
			return p, err
		}
	}
	types, err := s.Inventory.Types(c.Context(), c.Actor(), sync.AppID)
	for _, one := range types {
		p.types[one.ExternalID] = one.Name
	}
	if sync.State == integration.HeldBack {
		p.held = heldOf(sync)
	}
	return p, err
}

func (s *Server) syncPage(c *Call) (Page, error) {
	p, err := s.sheetOf(c)
	if err != nil {
		return Page{}, err
	}
	section := integrations
	if p.ConnectorID == "" {
		section = "Applications"
	}
	return Page{Title: p.title(), Section: section, Body: syncBody(p)}, nil
}

// syncDifference is a line of what a sync changed.
type syncDifference struct {
	what string
	ingest.Change
}

func (p syncSheet) differences() view.Table[syncDifference] {
	c, _ := syncChanges(p.Sync)
	rest := c.Resources // which count accounts too
	rest.Added, rest.Changed, rest.Removed = rest.Added-c.Accounts.Added, rest.Changed-c.Accounts.Changed, rest.Removed-c.Accounts.Removed
	number := func(n int64) string {
		if n == 0 {
			return ""
		}
		return view.Number(n)
	}
	return view.Table[syncDifference]{
		ID: "differences", Name: "Differences", Bare: true, Key: func(d syncDifference) string { return d.what },
		Rows: []syncDifference{{"Accounts", c.Accounts}, {"Other resources", rest}, {"Entitlements", c.Entitlements}, {"Grants", c.Grants}, {"Ways from one grant to another", c.Edges}},
		Columns: []view.Column[syncDifference]{
			{ID: "what", Title: "What", Main: true, Text: func(d syncDifference) string { return d.what }},
			{ID: "added", Title: "Added", Number: true, Text: func(d syncDifference) string { return number(d.Added) }},
			{ID: "changed", Title: "Changed", Number: true, Text: func(d syncDifference) string { return number(d.Changed) }},
			{ID: "removed", Title: "Removed", Number: true, Text: func(d syncDifference) string { return number(d.Removed) }},
		},
	}
}

// typeCount is a type with how many of it the file holds, and how many the source
// says it has.
type typeCount struct {
	what         string
	file, source string
	fits         *bool
}

// population is what the file holds, beside what the source says.
func (p syncSheet) population() []typeCount {
	var list []typeCount
	for _, name := range slices.Sorted(maps.Keys(p.counts.Resources)) {
		one := typeCount{what: typeName(p.types, name), file: view.Number(p.counts.Resources[name])}
		if total, told := p.totals[name]; told {
			fits := total.Source == total.File
			one.source, one.fits = view.Number(total.Source), &fits
		}
		list = append(list, one)
	}
	return append(list,
		typeCount{what: "Entitlements", file: view.Number(p.counts.Entitlements)},
		typeCount{what: "Grants, direct", file: view.Number(p.counts.Grants)})
}

// syncFile downloads what a connector sent for a sync.
func (s *Server) syncFile(kind integration.FileKind) func(*Call) error {
	return func(c *Call) error {
		file, name, err := s.Integration.SyncFile(c.Context(), c.Actor(), c.Path("id"), kind)
		if err != nil {
			return err
		}
		defer file.Close()
		c.w.Header().Set("Content-Type", "application/octet-stream")
		c.w.Header().Set("Content-Disposition", attachment(name))
		_ = http.NewResponseController(c.w).SetWriteDeadline(time.Time{}) // it may be large, and the line slow
		if _, err := io.Copy(c.w, file); err != nil {
			if c.Context().Err() == nil {
				s.Log.WarnContext(c.Context(), "a download broke off", "sync", c.Path("id"), "error", err)
			}
			panic(http.ErrAbortHandler) // so that no half file is taken for a whole one
		}
		return nil
	}
}

// backTo is the page of a sync's connector, or of the sync itself.
func (p syncSheet) backTo() string {
	if p.ConnectorID == "" {
		return p.href()
	}
	return "/connectors/" + p.ConnectorID
}

func (s *Server) cancelSync(c *Call) (Outcome, error) {
	p, err := s.sheetOf(c)
	if err != nil {
		return Outcome{}, err
	}
	return Go(p.backTo(), "The sync is cancelled."), s.Integration.CancelSync(c.Context(), c.Actor(), p.ID)
}

// decidable is a sync that waits for somebody.
func (s *Server) decidable(c *Call) (syncSheet, error) {
	p, err := s.sheetOf(c)
	if err == nil && p.held == nil {
		_, word := syncLabel(p.State)
		err = fault.New(fault.NotReady, "the sync isn't held back any more (%s): there is nothing to decide", word)
	}
	return p, err
}

func (s *Server) askConfirm(c *Call) (Page, error) {
	p, err := s.decidable(c)
	if err != nil {
		return Page{}, err
	}
	n := int(p.held.rows())
	q := view.Question{
		Title: fmt.Sprintf("Confirm changes: remove %s from %s?", view.Number(n), p.app.Name), Effects: p.held.effects(p.types),
		Words:  "The inventory becomes what the file holds. Nothing is removed in " + p.app.Name + " itself. What goes is kept as past access.",
		Action: p.href() + "/confirm", Button: "Confirm " + view.Count(n, "removal"), Danger: true, Cancel: p.backTo(),
	}
	return Page{Title: q.Title, Section: integrations, Body: view.Ask(q)}, nil
}

func (s *Server) confirmSync(c *Call) (Outcome, error) {
	p, err := s.sheetOf(c)
	if err != nil {
		return Outcome{}, err
	}
	return Go(p.backTo(), "Confirmed. The changes are being applied."), s.Ingest.Confirm(c.Context(), c.Actor(), p.ID)
}

func (s *Server) askDiscard(c *Call) (Page, error) {
	p, err := s.decidable(c)
	if err != nil {
		return Page{}, err
	}
	n := int(p.held.rows())
	q := view.Question{
		Title: "Discard this sync?", Effects: []view.Effect{{Number: n, Words: plural(n, "thing stays", "things stay") + " in the inventory, as the sync before found them"}},
		Words: "The next sync is judged anew, and held back too if it would remove as much.", Action: p.href() + "/discard", Button: "Discard", Cancel: p.backTo(),
	}
	return Page{Title: q.Title, Section: integrations, Body: view.Ask(q)}, nil
}

func (s *Server) discardSync(c *Call) (Outcome, error) {
	p, err := s.sheetOf(c)
	if err != nil {
		return Outcome{}, err
	}
	return Go(p.backTo(), "Discarded. Nothing was changed."), s.Ingest.Discard(c.Context(), c.Actor(), p.ID)
}
