package ingest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"google.golang.org/protobuf/proto"

	"airlock/internal/base/id"
	"airlock/internal/ingest/pack"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// stage is what a file says, put so that it fits into memory: resources and
// entitlements are numbered, and a grant is the numbers of both. The texts stay
// in the file, and are read again for those that changed.
type stage struct {
	limits Limits
	sync   header

	types  []kind
	typeOf map[string]uint32 // external id → place in types

	resources  []thing
	resourceOf map[resourceKey]uint32

	entitlements  []thing
	entitlementOf map[string]uint32

	// A grant is entitlement<<32 | principal: their ranks by the ids of the inventory,
	// in whose order the grants are.
	grants     []uint64
	extras     map[uint64]extra // of few grants
	edges      []inventory.Edge
	counts     Counts
	totals     map[string]int64
	ids        id.Series
	principals ranks
	rights     ranks
}

// kind is a resource type.
type kind struct {
	row    inventory.TypeRow
	listed bool // in the file
	user   bool // its resources are accounts
	change change
}

// resourceKey names a resource.
type resourceKey struct {
	kind uint32
	id   string
}

// thing is a resource or an entitlement.
type thing struct {
	id     string // in the inventory
	key    string // external id
	of     uint32 // the type of a resource, the resource of an entitlement: places
	hash   digest
	change change
}

// change is what becomes of a row.
type change uint8

const (
	isNew change = iota
	changed
	same
	known // only in the inventory: a partial sync may speak of it
)

// extra is what few grants have: an id of their own, flags.
type extra struct {
	externalID string
	flags      int64
}

// Counts are what a file holds.
type Counts struct {
	Resources    map[string]int64 `json:"resources"` // by type
	Accounts     int64            `json:"accounts"`
	Entitlements int64            `json:"entitlements"`
	Grants       int64            `json:"grants"` // direct ones
	Edges        int64            `json:"edges"`  // ways by which one entitlement gives another
	// Derived grants follow from others by edges, and aren't kept.
	Derived int64 `json:"derived,omitempty"`
	// Dropped speak of what neither the file nor the inventory has.
	Dropped int64 `json:"dropped,omitempty"`
	// Examples are a few of those.
	Examples []string `json:"dropped_examples,omitempty"`
}

func newStage(limits Limits, sync header) *stage {
	return &stage{
		limits: limits, sync: sync,
		typeOf: map[string]uint32{}, resourceOf: map[resourceKey]uint32{}, entitlementOf: map[string]uint32{},
		extras: map[uint64]extra{}, counts: Counts{Resources: map[string]int64{}}, totals: map[string]int64{},
	}
}

// dropf notes what is left out, with a few examples.
func (s *stage) dropf(format string, args ...any) {
	s.counts.Dropped++
	if len(s.counts.Examples) < 10 {
		s.counts.Examples = append(s.counts.Examples, clean(fmt.Sprintf(format, args...), 300))
	}
}

// checkID refuses an id that can't be a key.
func checkID(what, text string) error {
	switch {
	case text == "":
		return refuse("the file has a %s without an id", what)
	case len(text) > longestID:
		return refuse("the file has a %s whose id has %d bytes, where it may have %d: %s", what, len(text), longestID, clean(text, 100))
	case !inventory.Storable(text):
		return refuse("the file has a %s whose id %q isn't text", what, text)
	}
	return nil
}

func (s *stage) readTypes(ctx context.Context, from *source) error {
	return from.each(ctx, tagType, 1, func(fields [][]byte) error {
		var t v2.ResourceType
		if err := proto.Unmarshal(fields[0], &t); err != nil {
			return refuse("a resource type can't be read: %w", err)
		}
		if err := checkID("resource type", t.GetId()); err != nil {
			return err
		}
		if _, twice := s.typeOf[t.GetId()]; twice {
			return refuse("the file has the resource type %q twice", t.GetId())
		}
		if int64(len(s.types)) >= s.limits.Types {
			return tooMany("the file has more than %d resource types", s.limits.Types)
		}
		row := inventory.TypeRow{ExternalID: t.GetId(), Name: clean(t.GetDisplayName(), longestName), Description: clean(t.GetDescription(), longestDescription), Traits: []string{}}
		if row.Name == "" {
			row.Name = row.ExternalID
		}
		user := false
		for _, trait := range t.GetTraits() {
			if name := strings.ToLower(strings.TrimPrefix(trait.String(), "TRAIT_")); !slices.Contains(row.Traits, name) && len(row.Traits) < mostKeys {
				row.Traits = append(row.Traits, name)
			}
			user = user || trait == v2.ResourceType_TRAIT_USER
		}
		slices.Sort(row.Traits)
		s.typeOf[t.GetId()] = place(len(s.types))
		s.types = append(s.types, kind{row: row, listed: true, user: user})
		return nil
	})
}

func place(n int) uint32 { return uint32(n) } //nolint:gosec // the limits keep it small

func (s *stage) readResources(ctx context.Context, from *source, packs pack.Packs, connector string) error {
	return from.each(ctx, tagResource, 4, func(fields [][]byte) error {
		kind, id, source := string(fields[0]), string(fields[1]), fields[3]
		t, ok := s.typeOf[kind]
		if !ok {
			return refuse("the file has the resource %q of a type %q that it doesn't list", clean(id, longestID), clean(kind, longestID))
		}
		if err := checkID("resource of type "+kind, id); err != nil {
			return err
		}
		key := resourceKey{t, id}
		if _, twice := s.resourceOf[key]; twice {
			return refuse("the file has the resource %s:%s twice", kind, id)
		}
		if int64(len(s.resources)) >= s.limits.Resources {
			return tooMany("the file has more than %d resources", s.limits.Resources)
		}
		s.resourceOf[key] = place(len(s.resources))
		s.resources = append(s.resources, thing{key: id, of: t, hash: digestOf(source)})
		s.counts.Resources[s.types[t].row.ExternalID]++
		if s.types[t].user || first(fields[2]) != 0 {
			s.counts.Accounts++
		}
		if !packs.Counts(connector, kind) {
			return nil
		}
		var r v2.Resource
		if err := proto.Unmarshal(source, &r); err != nil {
			return refuse("the resource %s:%s can't be read: %w", kind, id, err)
		}
		if profile := profileStruct(&r); profile != nil {
			for counted, total := range packs.Totals(connector, kind, profile.AsMap()) {
				s.totals[counted] += total
			}
		}
		return nil
	})
}

func (s *stage) readEntitlements(ctx context.Context, from *source) error {
	return from.each(ctx, tagEntitlement, 4, func(fields [][]byte) error {
		id := string(fields[0])
		if err := checkID("entitlement", id); err != nil {
			return err
		}
		of, ok := s.resource(fields[1], fields[2])
		if !ok {
			s.dropf("the entitlement %s of the unknown resource %s:%s", id, fields[1], fields[2])
			return nil
		}
		if _, twice := s.entitlementOf[id]; twice {
			return refuse("the file has the entitlement %q twice", id)
		}
		if int64(len(s.entitlements)) >= s.limits.Entitlements {
			return tooMany("the file has more than %d entitlements", s.limits.Entitlements)
		}
		s.entitlementOf[id] = place(len(s.entitlements))
		s.entitlements = append(s.entitlements, thing{key: id, of: of, hash: digestOf(fields[3])})
		s.counts.Entitlements++
		return nil
	})
}

// resource finds a resource by what the file calls it.
func (s *stage) resource(kind, id []byte) (uint32, bool) {
	t, ok := s.typeOf[string(kind)]
	if !ok {
		return 0, false
	}
	n, ok := s.resourceOf[resourceKey{t, string(id)}]
	return n, ok
}

func code(entitlement, principal uint32) uint64 { return uint64(entitlement)<<32 | uint64(principal) }

func parts(grant uint64) (entitlement, principal uint32) { return uint32(grant >> 32), uint32(grant) } //nolint:gosec // halves

// rank puts resources and entitlements into the order of their ids, once all are
// known.
func (s *stage) rank() { s.principals, s.rights = rank(s.resources), rank(s.entitlements) }

// readGrants reads the direct grants, and how others follow from them, once the
// ranks are known.
func (s *stage) readGrants(ctx context.Context, from *source) error {
	err := from.each(ctx, tagGrant, 6, func(fields [][]byte) error {
		flags := first(fields[4])
		if flags&derived != 0 {
			s.counts.Derived++
			return nil
		}
		entitlement, ok := s.entitlementOf[string(fields[0])]
		if !ok {
			s.dropf("a grant of the unknown entitlement %s", fields[0])
			return nil
		}
		principal, ok := s.resource(fields[1], fields[2])
		if !ok {
			s.dropf("a grant of %s to the unknown %s:%s", fields[0], fields[1], fields[2])
			return nil
		}
		if int64(len(s.grants)) >= s.limits.Grants {
			return tooMany("the file has more than %d grants", s.limits.Grants)
		}
		grant := code(s.rights.of[entitlement], s.principals.of[principal])
		s.grants = append(s.grants, grant)
		more := extra{flags: int64(flags)}
		if len(fields[3]) > 0 && len(fields[3]) <= 3*longestID && inventory.Storable(string(fields[3])) {
			more.externalID = string(fields[3])
		}
		if flags&inventory.FlagExpandable != 0 {
			var expandable v2.GrantExpandable
			if err := proto.Unmarshal(fields[5], &expandable); err != nil {
				return refuse("how grants follow from one of %s can't be read: %w", fields[0], err)
			}
			if err := s.expand(entitlement, principal, &expandable); err != nil {
				return err
			}
		}
		if more != (extra{}) {
			s.extras[grant] = s.extras[grant].with(more)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(s.grants)
	s.grants = slices.Compact(s.grants) // what is granted twice is granted
	s.counts.Grants = int64(len(s.grants))
	slices.SortFunc(s.edges, func(a, b inventory.Edge) int {
		if c := compareEdges(a, b); c != 0 || a.Shallow == b.Shallow {
			return c
		}
		if b.Shallow { // of two that are the same but for that, the one that gives more goes first, and stays
			return -1
		}
		return 1
	})
	s.edges = slices.CompactFunc(s.edges, func(a, b inventory.Edge) bool { return compareEdges(a, b) == 0 })
	s.counts.Edges = int64(len(s.edges))
	return nil
}

// digest tells whether two of them are the same.
func (e extra) digest() digest {
	return digestOf(append(strconv.AppendInt(nil, e.flags, 10), ":"+e.externalID...))
}

// with puts together what two grants of the same say.
func (e extra) with(other extra) extra {
	e.flags |= other.flags
	if e.externalID == "" || other.externalID != "" && other.externalID < e.externalID {
		e.externalID = other.externalID
	}
	return e
}

// expand notes that whoever holds some entitlements of a principal holds what it
// is granted as well.
func (s *stage) expand(target, principal uint32, by *v2.GrantExpandable) error {
	var types []string
	for _, name := range by.GetResourceTypeIds() {
		if t, ok := s.typeOf[name]; ok {
			types = append(types, s.types[t].row.ID)
		}
	}
	if len(by.GetResourceTypeIds()) == 0 {
		types = []string{""}
	}
	for _, name := range by.GetEntitlementIds() {
		source, ok := s.entitlementOf[name]
		if !ok || s.entitlements[source].of != principal {
			s.dropf("the grant of %s follows from %s, which isn't an entitlement of what it is granted to", s.entitlements[target].key, name)
			continue
		}
		for _, t := range types {
			if int64(len(s.edges)) >= s.limits.Edges {
				return tooMany("the file has more than %d ways by which one entitlement gives another", s.limits.Edges)
			}
			s.edges = append(s.edges, inventory.Edge{
				TargetID: s.entitlements[target].id, PrincipalID: s.resources[principal].id, SourceID: s.entitlements[source].id, TypeID: t, Shallow: by.GetShallow(),
			})
		}
	}
	return nil
}

// compareEdges orders edges as the inventory does.
func compareEdges(a, b inventory.Edge) int {
	for _, pair := range [][2]string{{a.TargetID, b.TargetID}, {a.PrincipalID, b.PrincipalID}, {a.SourceID, b.SourceID}, {a.TypeID, b.TypeID}} {
		if c := strings.Compare(pair[0], pair[1]); c != 0 {
			return c
		}
	}
	return 0
}

// ranks are places in the order of the inventory's ids.
type ranks struct {
	of []uint32 // place → rank
	at []uint32 // rank → place
}

func rank(list []thing) ranks {
	r := ranks{of: make([]uint32, len(list)), at: make([]uint32, len(list))}
	for n := range list {
		r.at[n] = place(n)
	}
	slices.SortFunc(r.at, func(a, b uint32) int { return strings.Compare(list[a].id, list[b].id) })
	for rank, n := range r.at {
		r.of[n] = place(rank)
	}
	return r
}

// pair is what a grant is of, by the ids of the inventory.
func (s *stage) pair(grant uint64) inventory.Pair {
	right, principal := parts(grant)
	return inventory.Pair{EntitlementID: s.entitlements[s.rights.at[right]].id, PrincipalID: s.resources[s.principals.at[principal]].id}
}

// row is a grant as it is kept.
func (s *stage) row(grant uint64) inventory.GrantRow {
	pair, more := s.pair(grant), s.extras[grant]
	return inventory.GrantRow{EntitlementID: pair.EntitlementID, PrincipalID: pair.PrincipalID, ExternalID: more.externalID, Flags: more.flags}
}

// full reports whether the sync can tell that something is gone.
func (s *stage) full() bool { return s.sync.Kind == integration.Full }
