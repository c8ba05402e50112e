// Package pack has what is known of connectors beyond what they say themselves,
// as data: how many things its source says it has, and what its entitlements let
// one do, in words and by risk. One JSON file a connector; some come with the
// program, and those of an operator's folder add to them.
package pack

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
)

// Pack is what is known of a connector.
type Pack struct {
	// Connector is the name of its binary without baton-.
	Connector string `json:"connector"`
	// Totals say which keys of the profile of resources of a type hold how many
	// resources of another type the source says it has: type → key → counted type.
	Totals map[string]map[string]string `json:"totals"`
	// Groups are the types with so many resources alike that people are told of
	// their number: "edit 3 DAGs".
	Groups map[string]Group `json:"groups"`
	// Words say what entitlements let one do.
	Words []Words `json:"words"`
}

// Group is what resources of a type are called, one and many: "the DAG", "DAGs".
type Group struct {
	One  string `json:"one"`
	Many string `json:"many"`
}

// Words say what some entitlements let one do. Of those that fit an entitlement
// the most exact count: id and slug before id, id before slug, slug before none;
// an operator's before those that come with the program.
type Words struct {
	Type string `json:"type"` // external id of the resource's type
	ID   string `json:"id"`   // external id of the resource; "" is any
	Slug string `json:"slug"` // of the entitlement; "" is any
	// Says is what one may do, after "may": {name} is the resource's name, {which}
	// the resources of a group ("the DAG payroll", "3 DAGs", "all 148 DAGs").
	Says string `json:"says"`
	// Risk is low, medium, high or critical.
	Risk string `json:"risk"`
	// Covers are the words of a group that this entitlement gives for all of it, so
	// that it is told once.
	Covers *Covered `json:"covers"`
}

// Covered names words of a group by its type and an entitlement's slug.
type Covered struct {
	Type string `json:"type"`
	Slug string `json:"slug"`
}

// Risks are the levels of risk, lowest first.
var Risks = []string{"low", "medium", "high", "critical"}

// words finds what an entitlement lets one do.
func (p Pack) words(kind, id, slug string) (Words, bool) {
	best, exact := Words{}, -1
	for _, w := range p.Words {
		if w.Type != kind || w.ID != "" && w.ID != id || w.Slug != "" && w.Slug != slug {
			continue
		}
		fits := 0
		if w.ID != "" {
			fits += 2
		}
		if w.Slug != "" {
			fits++
		}
		if fits > exact {
			best, exact = w, fits
		}
	}
	return best, exact >= 0
}

// Words finds what an entitlement of a resource lets one do, by the resource's
// type and id and the entitlement's slug. Nothing may be known of it.
func (p Packs) Words(connector, kind, id, slug string) (Words, bool) {
	return p[connector].words(kind, id, slug)
}

// check finds what is wrong with a pack.
func (p Pack) check() error {
	if p.Connector == "" {
		return errors.New("it doesn't say which connector it is of")
	}
	for _, w := range p.Words {
		switch {
		case w.Type == "" || w.Says == "":
			return fmt.Errorf("words need a type and what it says: %+v", w)
		case !slices.Contains(Risks, w.Risk):
			return fmt.Errorf("the risk of %q is one of %v, not %q", w.Says, Risks, w.Risk)
		}
	}
	return nil
}

// over is a pack with another's words, totals and groups added, whose own count
// where both have them.
func (p Pack) over(below Pack) Pack {
	totals := maps.Clone(below.Totals)
	if totals == nil {
		totals = map[string]map[string]string{}
	}
	maps.Copy(totals, p.Totals)
	groups := maps.Clone(below.Groups)
	if groups == nil {
		groups = map[string]Group{}
	}
	maps.Copy(groups, p.Groups)
	return Pack{Connector: p.Connector, Totals: totals, Groups: groups, Words: slices.Concat(p.Words, below.Words)}
}

//go:embed data/*.json
var data embed.FS

// Packs are packs by connector.
type Packs map[string]Pack

// mostBytes is how long a file may be.
const mostBytes = 1 << 20

// Load reads the packs that come with the program and those in a folder; "" and a
// folder that isn't there are none. What can't be read is an error that names the
// file.
func Load(dir string) (Packs, error) {
	packs := Packs{}
	if err := packs.read(data, "data"); err != nil {
		return nil, err
	}
	if dir == "" {
		return packs, nil
	}
	err := packs.read(os.DirFS(dir), ".")
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the packs in %s: %w", dir, err)
	}
	return packs, nil
}

func (p Packs) read(files fs.FS, dir string) error {
	if _, err := fs.Stat(files, dir); err != nil {
		return err
	}
	names, err := fs.Glob(files, path.Join(dir, "*.json"))
	if err != nil {
		return err
	}
	for _, name := range names {
		info, err := fs.Stat(files, name)
		if err != nil {
			return err
		}
		if info.Size() > mostBytes {
			return fmt.Errorf("%s has %d bytes, and a pack has at most %d", name, info.Size(), mostBytes)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		var one Pack
		if err := json.Unmarshal(text, &one); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := one.check(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		p[one.Connector] = one.over(p[one.Connector])
	}
	return nil
}

// Counts reports whether resources of a type tell totals.
func (p Packs) Counts(connector, resourceType string) bool {
	return len(p[connector].Totals[resourceType]) > 0
}

// Totals reads from the profile of a resource of a type how many resources its
// source says it has, by type.
func (p Packs) Totals(connector, resourceType string, profile map[string]any) map[string]int64 {
	totals := map[string]int64{}
	keys := p[connector].Totals[resourceType]
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if number, ok := profile[key].(float64); ok && number >= 0 && number < 1<<53 {
			totals[keys[key]] = int64(number)
		}
	}
	return totals
}
