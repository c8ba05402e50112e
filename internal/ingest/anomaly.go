package ingest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"airlock/internal/base/db"
	"airlock/internal/inventory"
)

// Anomaly is why a sync was held back, and what it would remove.
type Anomaly struct {
	Reasons []string `json:"reasons"` // in words
	Gone    []Gone   `json:"gone"`
}

// Gone is what a sync would remove of a kind.
type Gone struct {
	Kind  string   `json:"kind"` // accounts, resources, entitlements, grants
	Type  string   `json:"type,omitempty"`
	Have  int64    `json:"have"`
	Gone  int64    `json:"gone"`
	Alarm bool     `json:"alarm"`           // this is what it was held for
	Names []string `json:"names,omitempty"` // of what goes; the first hundred
}

// mostNames is how many names of what would go are kept.
const mostNames = 100

// much reports whether so many of so many are more than a sync removes by itself.
// That takes a share and a number, so that it is right for ten users and for a
// hundred thousand:
//
//   - three or more, if they are a fifth or more,
//   - five hundred or more, if they are a twentieth or more,
//   - all, if there were two or more.
func much(gone, have int64) bool {
	switch {
	case gone >= 3 && gone*5 >= have:
		return true
	case gone >= 500 && gone*20 >= have:
		return true
	}
	return have >= 2 && gone >= have
}

// judge tells why a sync is to be held back; nil if it isn't.
func judge(s *stage, d *difference) *Anomaly {
	if !s.full() {
		return nil
	}
	a := &Anomaly{}
	var listed int64
	for _, count := range s.counts.Resources {
		listed += count
	}
	if listed == 0 && d.haveAll.resources > 0 {
		a.Reasons = append(a.Reasons, fmt.Sprintf("the file holds nothing, and the inventory has %d resources", d.haveAll.resources))
	}
	gone := map[string]int64{}
	for _, one := range d.goneResources {
		gone[one.kind]++
	}
	for _, name := range d.vanished {
		gone[name] = d.have[name] // they would go, if somebody confirmed that
		a.Reasons = append(a.Reasons, fmt.Sprintf("the file doesn't list the type %s any more, of which there are %d", name, d.have[name]))
	}
	for _, t := range s.types {
		name := t.row.ExternalID
		if gone[name] == 0 {
			continue
		}
		g := Gone{Kind: "resources", Type: name, Have: d.have[name], Gone: gone[name]}
		if t.user {
			g.Kind = "accounts"
		}
		a.add(g, slices.Contains(d.vanished, name))
	}
	slices.SortStableFunc(a.Gone, func(x, y Gone) int { return strings.Compare(x.Kind+x.Type, y.Kind+y.Type) })
	a.add(Gone{Kind: "entitlements", Have: d.haveAll.entitlements, Gone: int64(len(d.goneEntitlements))}, false)
	a.add(Gone{Kind: "grants", Have: d.haveAll.grants, Gone: int64(len(d.end))}, false)
	if len(a.Reasons) == 0 {
		return nil
	}
	return a
}

// add notes what would go of a kind, and whether that is much.
func (a *Anomaly) add(g Gone, alarm bool) {
	if g.Gone == 0 {
		return
	}
	if g.Alarm = alarm || much(g.Gone, g.Have); g.Alarm && !alarm {
		what := g.Kind
		if g.Type != "" {
			what += " (" + g.Type + ")"
		}
		a.Reasons = append(a.Reasons, fmt.Sprintf("it would remove %d of %d %s", g.Gone, g.Have, what))
	}
	a.Gone = append(a.Gone, g)
}

// name adds the names of what would go.
func (a *Anomaly) name(ctx context.Context, q db.Querier, appID string, d *difference) error {
	for n := range a.Gone {
		g := &a.Gone[n]
		var ids []string
		switch g.Kind {
		case "entitlements":
			ids = idsOf(d.goneEntitlements)
		case "grants":
			pairs := d.end[:min(len(d.end), mostNames)]
			for _, pair := range pairs {
				ids = append(ids, pair.EntitlementID, pair.PrincipalID)
			}
			names, err := inventory.Names(ctx, q, ids)
			if err != nil {
				return err
			}
			for _, pair := range pairs {
				g.Names = append(g.Names, names[pair.EntitlementID][1]+" of "+names[pair.PrincipalID][0])
			}
			continue
		default:
			if slices.Contains(d.vanished, g.Type) {
				names, err := inventory.ResourceNames(ctx, q, appID, g.Type, mostNames)
				if err != nil {
					return err
				}
				g.Names = names
				continue
			}
			for _, one := range d.goneResources {
				if one.kind == g.Type && len(ids) < mostNames {
					ids = append(ids, one.id)
				}
			}
		}
		ids = ids[:min(len(ids), mostNames)]
		names, err := inventory.Names(ctx, q, ids)
		if err != nil {
			return err
		}
		for _, one := range ids {
			name := names[one]
			if name[0] != name[1] && g.Kind != "entitlements" {
				name[1] = fmt.Sprintf("%s (%s)", name[0], name[1])
			}
			g.Names = append(g.Names, name[1])
		}
	}
	return nil
}

func idsOf(list []goneThing) []string {
	ids := make([]string, len(list))
	for n, one := range list {
		ids[n] = one.id
	}
	return ids
}
