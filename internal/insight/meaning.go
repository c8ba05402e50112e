// Package insight says what access means: what an entitlement lets one do, in
// words and by risk. The words come from packs; what a connector has no pack for
// is told by the names that it gives itself.
package insight

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"airlock/internal/ingest/pack"
	"airlock/internal/inventory"
)

// Meaning is what an entitlement lets one do, riskiest first.
type Meaning struct {
	EntitlementID string
	// Risk is that of the riskiest line; "" where nothing is known.
	Risk  inventory.Risk
	Lines []Line
}

// Line is one thing that an entitlement lets one do: by one entitlement of a
// resource, or by the same one of many resources of a group.
type Line struct {
	Risk  inventory.Risk
	Words string // after "may": "edit 3 DAGs"
	Slug  string // as the source spells it: can_edit …
	On    string // … on what: the resource, or "3 of 148 DAGs"
	Type  string // external id of the resource's type
	Count int64  // resources that it is about
	Of    int64  // resources of that type; 0 where it isn't told as a number
	Names []string
	// EntitlementID is the one entitlement that the line is about, or one of them.
	EntitlementID string
}

// All reports whether the line is about all resources of a group.
func (l Line) All() bool { return l.Of > 0 && l.Count == l.Of }

// Summary is what an entitlement lets one do in one line: what is riskiest, and
// how much more there is.
func (m Meaning) Summary() string {
	const most = 3
	var words []string
	for _, line := range m.Lines[:min(most, len(m.Lines))] {
		if line.Risk != m.Risk && len(words) > 0 {
			break
		}
		text, _, _ := strings.Cut(line.Words, ":") // the explanation is for the page
		words = append(words, text)
	}
	if len(words) == 0 {
		return ""
	}
	text := strings.Join(words, "; ")
	if more := len(m.Lines) - len(words); more > 0 {
		text += fmt.Sprintf("; %d more", more)
	}
	return text
}

// found is one row of what an entitlement gives: entitlements of a slug of one
// resource, or of all resources of a group.
type found struct {
	entitlementID string // that gives
	gives         string // one of those that it gives
	kind, slug    string
	resource      string // external id of one of the resources
	resourceName  string
	name          string // of one of the entitlements
	count         int64
	names         []string
}

// explain makes a meaning of what an entitlement gives.
func explain(known pack.Packs, connector, entitlementID string, rows []found, sizes map[string]int64) Meaning {
	m := Meaning{EntitlementID: entitlementID}
	groups := known[connector].Groups
	told := map[pack.Covered]bool{}
	for _, row := range rows {
		if _, many := groups[row.kind]; many {
			told[pack.Covered{Type: row.kind, Slug: row.slug}] = true
		}
	}
	covers := map[pack.Covered]found{}
	for _, row := range rows {
		words, _ := known.Words(connector, row.kind, row.resource, row.slug)
		if words.Covers != nil && told[*words.Covers] {
			covers[*words.Covers] = row
		}
	}
	for _, row := range rows {
		words, ok := known.Words(connector, row.kind, row.resource, row.slug)
		if !ok {
			words = pack.Words{Says: cmp.Or(row.name, row.slug)}
		}
		line := Line{Risk: inventory.Risk(words.Risk), Slug: row.slug, Type: row.kind, Count: row.count, Names: row.names, EntitlementID: row.gives}
		group, many := groups[row.kind]
		switch {
		case many:
			line.Of = sizes[row.kind]
			line.On = fmt.Sprintf("%d of %d %s", line.Count, line.Of, group.Many)
			if line.Count == 1 {
				line.On = row.resourceName
			}
			line.Words = strings.ReplaceAll(words.Says, "{which}", which(group, line, row.resourceName))
			if by, all := covers[pack.Covered{Type: row.kind, Slug: row.slug}]; all && line.All() {
				line.Slug, line.On, line.EntitlementID = by.slug, by.resourceName, by.gives
			}
		case words.Covers != nil && told[*words.Covers] && coversAll(rows, *words.Covers, sizes):
			continue // the group's line tells it
		default:
			line.On = row.resourceName
			line.Words = strings.ReplaceAll(words.Says, "{name}", row.resourceName)
		}
		m.Lines = append(m.Lines, line)
	}
	slices.SortStableFunc(m.Lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(level(b.Risk), level(a.Risk)), cmp.Compare(b.Count, a.Count), strings.Compare(a.Words, b.Words), strings.Compare(a.On, b.On))
	})
	if len(m.Lines) > 0 {
		m.Risk = m.Lines[0].Risk
	}
	return m
}

// coversAll reports whether a group's line is about all of the group.
func coversAll(rows []found, group pack.Covered, sizes map[string]int64) bool {
	return slices.ContainsFunc(rows, func(row found) bool {
		return row.kind == group.Type && row.slug == group.Slug && row.count == sizes[row.kind]
	})
}

func which(group pack.Group, line Line, name string) string {
	switch {
	case line.All() && line.Count > 1:
		return fmt.Sprintf("all %d %s", line.Count, group.Many)
	case line.Count == 1:
		return group.One + " " + name
	}
	return fmt.Sprintf("%d %s", line.Count, group.Many)
}

// level orders risks; unknown is lowest.
func level(r inventory.Risk) int { return slices.Index(pack.Risks, string(r)) }
