package view

import (
	"encoding/csv"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/a-h/templ"
)

// Table is a list of rows of the type R: what it looks like, how it is read on a
// narrow window, what can be done with it, and its export.
//
// What the reader asks for is in the page's address (View): filters, sort, page.
// Which columns there are, and how high the rows, is the reader's own choice and
// kept in a cookie of the table.
type Table[R any] struct {
	ID      string // a word, that no other table of the product has
	Name    string // what its rows are: "Entitlements"
	Columns []Column[R]
	Rows    []R
	Key     func(R) string          // of a row; unique
	Detail  func(R) templ.Component // what unfolds under a row; asked for the one that is open

	View    View
	Sums    string // below it: "13 entitlements", "Items 101 to 200 of 4,210"
	Earlier string // the cursor of the page before, if there is one: parameter before
	Later   string // of the page after: parameter after

	Search  string   // the hint in its search field (parameter q); none without it
	Filters []Filter // beside it
	Chips   []Filter // filters that have no field: from a link; Title says what they do
	CSV     bool     // the same address gives the rows as CSV

	Actions []Action // what can be done to many rows; makes them selectable
	Total   int      // how many match in all, if known: then all of them can be selected

	Class   string         // of the table, where it has a form of its own on narrow windows
	Density string         // of its rows, unless the reader chooses one
	Group   func(R) string // words above the rows that have them in common

	Empty  templ.Component // what is shown without rows
	Bare   bool            // inside a panel: no border, no bar above it
	Scroll bool            // a table of numbers: scrolls sideways instead of becoming a list
}

// Column is a column of a table.
type Column[R any] struct {
	ID    string // of the sort and the choice of columns
	Title string
	Cell  func(R) templ.Component // what is shown; nil shows Text
	Text  func(R) string          // what stands in the CSV; nil leaves the column out of it

	Main   bool // the name of the row; there is one, and it can't be hidden
	Fill   bool // takes the free width; at most one
	Number bool // at the right edge
	Wide   bool // takes the whole line where the table became a list
	Wrap   bool // may break into lines even where there is room
	End    bool // buttons at the end of the row; its title is only heard
	Sorts  bool // can be sorted by
	Extra  bool // is hidden until somebody chooses it
}

// Filter is a choice above a table.
type Filter struct {
	Name    string // its parameter
	Title   string // what it chooses: "Risk"
	Options []Option
	Links   bool // as links side by side instead of a list: for the one that matters most
	Date    bool // a day, instead of a list
}

// Action is what can be done to the rows that are selected.
type Action struct {
	Verb    string // "Revoke": the button adds how many, and dots if it Asks
	To      string // where the selection is posted to, as values of id; all=true and query say all that match
	Primary bool
	Danger  bool
	Asks    bool   // a question follows
	Key     string // does it from the keyboard
}

// View is what the reader asks for: decode it from the page's query as part of
// the page's own, or by ParseView.
type View struct {
	Query  string `form:"q"`
	Sort   string `form:"sort"` // a column; with a minus before it, from the largest
	After  string `form:"after"`
	Before string `form:"before"`
	Open   string `form:"open"` // the row that is unfolded
	Values url.Values
}

// ParseView reads a view from a query.
func ParseView(query url.Values) View {
	return View{
		Query: query.Get("q"), Sort: query.Get("sort"), After: query.Get("after"), Before: query.Get("before"), Open: query.Get("open"),
		Values: query,
	}
}

// SortBy is the column to sort by, and whether from the largest; what isn't one
// of these is the first.
func (v View) SortBy(columns ...string) (column string, falling bool) {
	column, falling = strings.CutPrefix(v.Sort, "-")
	if !slices.Contains(columns, column) && len(columns) > 0 {
		return columns[0], false
	}
	return column, falling
}

// Get is the value of a filter.
func (v View) Get(name string) string { return v.Values.Get(name) }

// Choice is what a reader chose for a table: the zero choice chooses nothing.
type Choice struct {
	Density string   // compact, default or roomy
	Columns []string // those that are shown; empty: all that aren't Extra
}

// densities in the order in which a button goes through them.
var densities = []string{"default", "compact", "roomy"}

func (c Choice) density() string {
	if slices.Contains(densities, c.Density) {
		return c.Density
	}
	return densities[0]
}

func (c Choice) next() string {
	return densities[(slices.Index(densities, c.density())+1)%len(densities)]
}

// shows reports whether a column is shown.
func (c Choice) shows(h heading) bool {
	if h.main || h.end {
		return true
	}
	if len(c.Columns) == 0 {
		return !h.extra
	}
	return slices.Contains(c.Columns, h.id)
}

// heading is a column without its type of row.
type heading struct {
	id, title                                  string
	main, fill, number, wide, wrap, end, extra bool
	sorts                                      bool
}

type cell struct {
	heading heading
	content templ.Component
}

type line struct {
	key    string
	group  string // begins with this row
	cells  []cell
	detail templ.Component
	open   bool
}

// sheet is a table without its type of row: what is drawn.
type sheet struct {
	id, name       string
	headings       []heading // those that are shown
	all            []heading
	lines          []line
	unfolds        bool
	view           View
	choice         Choice
	frame          Frame
	sums           string
	earlier, later string
	search         string
	filters, chips []Filter
	csv            bool
	actions        []Action
	total          int
	empty          templ.Component
	bare, scroll   bool
	class, density string
}

func (t Table[R]) draw(f Frame) sheet {
	s := sheet{
		id: t.ID, name: t.Name, unfolds: t.Detail != nil, view: t.View, choice: f.Choices(t.ID), frame: f, sums: t.Sums,
		earlier: t.Earlier, later: t.Later, search: t.Search, filters: t.Filters, chips: t.Chips, csv: t.CSV, actions: t.Actions,
		total: t.Total, empty: t.Empty, bare: t.Bare, scroll: t.Scroll, class: t.Class,
	}
	if s.choice.Density == "" {
		s.choice.Density = t.Density
	}
	s.density = s.choice.density()
	group := ""
	var shown []Column[R]
	for _, c := range t.Columns {
		h := heading{
			id: c.ID, title: c.Title, main: c.Main, fill: c.Fill, number: c.Number, wide: c.Wide, wrap: c.Wrap, end: c.End,
			extra: c.Extra, sorts: c.Sorts,
		}
		s.all = append(s.all, h)
		if s.choice.shows(h) {
			s.headings = append(s.headings, h)
			shown = append(shown, c)
		}
	}
	for _, row := range t.Rows {
		l := line{key: t.Key(row)}
		if t.Group != nil && t.Group(row) != group {
			group = t.Group(row)
			l.group = group
		}
		for n, c := range shown {
			content := templ.Component(nil)
			switch {
			case c.Cell != nil:
				content = c.Cell(row)
			case c.Text != nil:
				if words := c.Text(row); words != "" {
					content = Text(words)
				}
			}
			l.cells = append(l.cells, cell{s.headings[n], content})
		}
		if t.Detail != nil && t.View.Open == l.key {
			l.open, l.detail = true, t.Detail(row)
		}
		s.lines = append(s.lines, l)
	}
	return s
}

// Export writes rows as CSV: one after the other, however many there are. It is
// for Page.CSV of the package web.
func (t Table[R]) Export(each func(yield func(R) error) error) func(io.Writer) error {
	return func(to io.Writer) error {
		w := csv.NewWriter(to)
		var heads []string
		var columns []Column[R]
		for _, c := range t.Columns {
			if c.Text != nil {
				heads, columns = append(heads, c.Title), append(columns, c)
			}
		}
		if err := w.Write(heads); err != nil {
			return err
		}
		err := each(func(row R) error {
			values := make([]string, len(columns))
			for n, c := range columns {
				values[n] = c.Text(row)
				if !c.Number {
					values[n] = harmless(values[n])
				}
			}
			return w.Write(values)
		})
		if err != nil {
			return err
		}
		w.Flush()
		return w.Error()
	}
}

// harmless is a text that no spreadsheet takes for a formula: names come from
// other systems.
func harmless(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

// sorted is how a table is sorted by a column: ascending, descending, or "".
func (s sheet) sorted(h heading) string {
	switch s.view.Sort {
	case h.id:
		return "ascending"
	case "-" + h.id:
		return "descending"
	}
	return ""
}

// sortLink is the address that sorts by a column, or the other way round.
func (s sheet) sortLink(h heading) string {
	if s.view.Sort == h.id {
		return s.frame.here("sort", "-"+h.id)
	}
	return s.frame.here("sort", h.id)
}

func (s sheet) openLink(l line) string {
	target := s.frame.here()
	if s.view.After != "" || s.view.Before != "" {
		target = s.frame.here("after", s.view.After, "before", s.view.Before)
	}
	if l.open {
		return target
	}
	separator := "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	return target + separator + "open=" + url.QueryEscape(l.key)
}

func (s sheet) width() int {
	n := len(s.headings)
	if len(s.actions) > 0 {
		n++
	}
	return n
}

// kept are the parameters that the search form has no field for, to be sent
// along.
func (s sheet) kept() []Option {
	fields := []string{"q", "after", "before", "open"}
	for _, f := range s.filters {
		if !f.Links {
			fields = append(fields, f.Name)
		}
	}
	var kept []Option
	query := s.frame.URL.Query()
	for _, name := range slices.Sorted(keys(query)) {
		if !slices.Contains(fields, name) {
			for _, value := range query[name] {
				kept = append(kept, Option{Value: value, Title: name})
			}
		}
	}
	return kept
}

func keys(values url.Values) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for name := range values {
			if !yield(name) {
				return
			}
		}
	}
}

func (s sheet) bar() bool {
	return !s.bare && (s.search != "" || len(s.filters) > 0 || len(s.chips) > 0 || s.csv || len(s.all) > 3)
}

func (a Action) class() string {
	switch {
	case a.Primary:
		return "button--primary"
	case a.Danger:
		return "button--danger"
	}
	return ""
}

func (a Action) after() string {
	if a.Asks {
		return "…"
	}
	return ""
}
