// Package pack has what is known of connectors beyond what they say themselves,
// as data: one JSON file a connector. Some come with the program; an operator's
// folder adds to them, and replaces those of the same connector.
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
		if one.Connector == "" {
			return fmt.Errorf("%s doesn't say which connector it is of", name)
		}
		p[one.Connector] = one
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
