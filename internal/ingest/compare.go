package ingest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/id"
	"airlock/internal/inventory"
)

// difference is what a sync would change in an app.
type difference struct {
	types        []uint32 // new and changed ones, by place
	resources    int      // new and changed ones
	entitlements int
	add          []uint64 // grants, by ranks
	set          []uint64
	end          []inventory.Pair
	addEdges     []inventory.Edge
	dropEdges    []inventory.Edge

	// What goes: ids of the inventory.
	goneTypes        []string
	goneResources    []goneThing
	goneEntitlements []goneThing

	have     map[string]int64 // resources by type, before
	vanished []string         // resource types that the file doesn't list, though there are such resources
	haveAll  struct{ resources, entitlements, grants int64 }
	unlisted map[string]bool // resources and entitlements that the file can't tell of: true if they go
	changes  Changes
	hash     string
}

// goneThing is what goes.
type goneThing struct{ id, kind, key string }

// Changes count what a sync changed.
type Changes struct {
	Types        Change `json:"types"`
	Accounts     Change `json:"accounts"`
	Resources    Change `json:"resources"` // accounts are resources too
	Entitlements Change `json:"entitlements"`
	Grants       Change `json:"grants"`
	Edges        Change `json:"edges"`
	// Kept are grants that were made, or taken away, here while the sync ran.
	Kept int64 `json:"kept,omitempty"`
}

// Change counts rows.
type Change struct {
	Added   int64 `json:"added"`
	Changed int64 `json:"changed"`
	Removed int64 `json:"removed"`
}

// none reports whether nothing changes.
func (d *difference) none() bool {
	return len(d.types)+d.resources+d.entitlements+len(d.add)+len(d.set)+len(d.end)+len(d.addEdges)+len(d.dropEdges)+
		len(d.goneTypes)+len(d.goneResources)+len(d.goneEntitlements) == 0
}

// compareResources compares types and resources with those of the app, and gives
// them their ids: the old, or new ones. Types that vanished go only if somebody
// confirmed that.
func compareResources(ctx context.Context, q db.Querier, appID string, s *stage, confirmed bool) (*difference, error) {
	d := &difference{have: map[string]int64{}, unlisted: map[string]bool{}}
	typeAt, err := compareTypes(ctx, q, appID, s)
	if err != nil {
		return nil, err
	}
	vanished := map[string]bool{}
	err = inventory.EachResource(ctx, q, appID, func(resourceID, typeID, externalID string, hash []byte) error {
		kind, ok := typeAt[typeID]
		if !ok {
			return nil // it belongs to no type: a removal that was cut short
		}
		name := s.types[kind].row.ExternalID
		d.have[name]++
		d.haveAll.resources++
		key := resourceKey{kind, externalID}
		n, there := s.resourceOf[key]
		switch {
		case there:
			s.resources[n].id = resourceID
			s.resources[n].change = changed
			if bytes.Equal(hash, s.resources[n].hash[:]) {
				s.resources[n].change = same
			}
		case !s.full():
			s.resourceOf[key] = place(len(s.resources))
			s.resources = append(s.resources, thing{id: resourceID, key: externalID, of: kind, change: known})
		case s.types[kind].listed || confirmed:
			d.goneResources = append(d.goneResources, goneThing{resourceID, name, externalID})
			d.unlisted[resourceID] = true
			vanished[name] = vanished[name] || !s.types[kind].listed
		default:
			d.unlisted[resourceID] = false
			vanished[name] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for n := range s.types {
		t := &s.types[n]
		name := t.row.ExternalID
		switch {
		case t.change == isNew:
			t.row.ID = s.ids.Next()
		case !t.listed && vanished[name]:
			d.vanished = append(d.vanished, name)
			if confirmed {
				d.goneTypes = append(d.goneTypes, t.row.ID)
			}
		}
		if t.listed && t.change != same {
			d.types = append(d.types, place(n))
		}
	}
	slices.Sort(d.vanished)
	slices.SortFunc(d.goneResources, byID)
	d.resources = number(s.resources, &s.ids)
	return d, nil
}

func byID(a, b goneThing) int { return strings.Compare(a.id, b.id) }

// compareEntitlements does the same with entitlements.
func compareEntitlements(ctx context.Context, q db.Querier, appID string, s *stage, d *difference) error {
	placeOf := map[string]uint32{}
	if !s.full() {
		for n := range s.resources {
			placeOf[s.resources[n].id] = place(n)
		}
	}
	err := inventory.EachEntitlement(ctx, q, appID, func(entitlementID, resourceID, externalID string, hash []byte) error {
		d.haveAll.entitlements++
		n, there := s.entitlementOf[externalID]
		gone, unlisted := d.unlisted[resourceID]
		switch {
		case there:
			s.entitlements[n].id = entitlementID
			s.entitlements[n].change = changed
			if bytes.Equal(hash, s.entitlements[n].hash[:]) {
				s.entitlements[n].change = same
			}
		case !s.full():
			of, ok := placeOf[resourceID]
			if !ok {
				return nil
			}
			s.entitlementOf[externalID] = place(len(s.entitlements))
			s.entitlements = append(s.entitlements, thing{id: entitlementID, key: externalID, of: of, change: known})
		case gone, !unlisted && !s.sync.SkipsEntitlements:
			d.goneEntitlements = append(d.goneEntitlements, goneThing{id: entitlementID, key: externalID})
			d.unlisted[entitlementID] = true
		default:
			d.unlisted[entitlementID] = false
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(d.goneEntitlements, byID)
	d.entitlements = number(s.entitlements, &s.ids)
	return nil
}

// compareTypes compares the resource types with those of the app, and adds what
// the file doesn't list. It returns the types' places by their ids.
func compareTypes(ctx context.Context, q db.Querier, appID string, s *stage) (map[string]uint32, error) {
	rows, err := inventory.TypesOf(ctx, q, appID)
	if err != nil {
		return nil, err
	}
	at := map[string]uint32{}
	for _, row := range rows {
		n, there := s.typeOf[row.ExternalID]
		if !there {
			n = place(len(s.types))
			s.typeOf[row.ExternalID] = n
			s.types = append(s.types, kind{row: row, change: known, user: slices.Contains(row.Traits, "user")})
		} else {
			t := &s.types[n]
			t.row.ID, t.change = row.ID, changed
			if t.row.Name == row.Name && t.row.Description == row.Description && slices.Equal(t.row.Traits, row.Traits) {
				t.change = same
			}
		}
		at[row.ID] = n
	}
	return at, nil
}

// number gives ids to what is new, and counts what is new or changed.
func number(list []thing, ids *id.Series) (count int) {
	for n := range list {
		if list[n].change == isNew {
			list[n].id = ids.Next()
		}
		if list[n].change == isNew || list[n].change == changed {
			count++
		}
	}
	return count
}

// held is what the inventory has of an app's grants, put as the stage puts those of
// the file: 8 bytes each, so that both can be read at the same time.
type held struct {
	grants  []uint64
	odd     []odd           // of few of them, in their order
	recent  map[uint64]bool // those of them that a connector made since the sync began
	strange []strange       // grants of what the file doesn't know
	revoked map[inventory.Pair]bool
	count   int64
}

// odd is a grant that has more than most: its extra, or nothing if no sync has
// seen it yet.
type odd struct {
	grant uint64
	extra digest
}

// strange is a grant of an entitlement, or to a principal, that the file doesn't know.
type strange struct {
	pair   inventory.Pair
	recent bool
}

// readHeld reads the app's grants, once the ranks are known. What a connector does
// after the time, the sync can't know.
func readHeld(ctx context.Context, q db.Querier, appID string, s *stage, began time.Time) (h held, err error) {
	h.recent = map[uint64]bool{}
	if _, h.revoked, err = inventory.Fresh(ctx, q, appID, began); err != nil {
		return h, err
	}
	since := began.UnixMicro()
	var principals map[string]uint32 // ranks by ids, if there is any grant
	right := 0                       // the rank of the first that doesn't come before the row's
	err = inventory.EachGrant(ctx, q, appID, func(entitlementID, principalID, externalID []byte, flags int64, seen bool, provisionedAt int64) error {
		h.count++
		if principals == nil {
			principals = make(map[string]uint32, len(s.resources))
			for n := range s.resources {
				principals[s.resources[n].id] = s.principals.of[n]
			}
		}
		id := func() string { return s.entitlements[s.rights.at[right]].id }
		for right < len(s.rights.at) && id() < string(entitlementID) {
			right++
		}
		principal, known := principals[string(principalID)]
		if !known || right == len(s.rights.at) || id() != string(entitlementID) {
			if s.full() { // else it stays
				pair := inventory.Pair{EntitlementID: string(entitlementID), PrincipalID: string(principalID)}
				h.strange = append(h.strange, strange{pair, provisionedAt > since})
			}
			return nil
		}
		grant := code(place(right), principal)
		h.grants = append(h.grants, grant)
		if provisionedAt > since {
			h.recent[grant] = true
		}
		if seen && flags == 0 && len(externalID) == 0 {
			return nil
		}
		one := odd{grant: grant}
		if seen {
			one.extra = extra{string(externalID), flags}.digest()
		}
		h.odd = append(h.odd, one)
		return nil
	})
	return h, err
}

// compareGrants compares the grants of the file with those of the app, side by
// side. What was granted or revoked through a connector since the sync began stays
// as it is.
func (d *difference) compareGrants(s *stage, h held) {
	d.haveAll.grants = h.count
	if s.sync.SkipsGrants {
		s.grants, s.edges = nil, nil
	}
	file, odds := s.grants, h.odd
	add := func() {
		if h.revoked[s.pair(file[0])] {
			d.changes.Kept++
		} else {
			d.add = append(d.add, file[0])
		}
		file = file[1:]
	}
	for _, grant := range h.grants {
		for len(file) > 0 && file[0] < grant {
			add()
		}
		isOdd, was := len(odds) > 0 && odds[0].grant == grant, digest{}
		if isOdd {
			was, odds = odds[0].extra, odds[1:]
		}
		switch {
		case len(file) > 0 && file[0] == grant:
			file = file[1:]
			if now, more := s.extras[grant]; more != isOdd || isOdd && now.digest() != was {
				d.set = append(d.set, grant)
			}
		case !s.full(), s.sync.SkipsGrants: // it isn't known to have ended
		case h.recent[grant]:
			d.changes.Kept++
		default:
			d.end = append(d.end, s.pair(grant))
		}
	}
	for len(file) > 0 {
		add()
	}
	for _, one := range h.strange {
		goneRight, unlistedRight := d.unlisted[one.pair.EntitlementID]
		gonePrincipal, unlistedPrincipal := d.unlisted[one.pair.PrincipalID]
		known := !unlistedRight && !unlistedPrincipal && !s.sync.SkipsGrants
		switch {
		case !goneRight && !gonePrincipal && !known:
		case one.recent:
			d.changes.Kept++
		default:
			d.end = append(d.end, one.pair)
		}
	}
}

// compare compares a grant with a row of the inventory.
func (s *stage) compare(grant uint64, entitlementID, principalID []byte) int {
	right, principal := parts(grant)
	e := s.entitlements[s.rights.at[right]].id
	if string(entitlementID) == e {
		p := s.resources[s.principals.at[principal]].id
		switch {
		case string(principalID) == p:
			return 0
		case p < string(principalID):
			return -1
		}
		return 1
	}
	if e < string(entitlementID) {
		return -1
	}
	return 1
}

// compareEdges compares how grants follow from others, once the grants are compared:
// both in the order of their keys, side by side.
func (d *difference) compareEdges(ctx context.Context, q db.Querier, appID string, s *stage, revoked map[inventory.Pair]bool) error {
	// An edge ends with its grant; one of a grant that isn't known to have ended stays.
	ended := make(map[inventory.Pair]bool, len(d.end))
	for _, pair := range d.end {
		ended[pair] = true
	}
	spoken := map[inventory.Pair]bool{}
	next := 0
	add := func(e inventory.Edge) {
		if !revoked[inventory.Pair{EntitlementID: e.TargetID, PrincipalID: e.PrincipalID}] {
			d.addEdges = append(d.addEdges, e)
		}
	}
	err := inventory.EachEdge(ctx, q, appID, func(row inventory.Edge) error {
		for next < len(s.edges) {
			c := compareEdges(s.edges[next], row)
			if c > 0 {
				break
			}
			edge := s.edges[next]
			next++
			if c < 0 {
				add(edge)
				continue
			}
			if edge.Shallow != row.Shallow {
				d.addEdges = append(d.addEdges, edge)
			}
			return nil
		}
		pair := inventory.Pair{EntitlementID: row.TargetID, PrincipalID: row.PrincipalID}
		if ended[pair] {
			d.dropEdges = append(d.dropEdges, row)
			return nil
		}
		there, asked := spoken[pair]
		if !asked {
			there = s.holds(pair)
			spoken[pair] = there
		}
		if there { // the file has the grant, without this edge
			d.dropEdges = append(d.dropEdges, row)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for ; next < len(s.edges); next++ {
		add(s.edges[next])
	}
	return nil
}

// holds reports whether the file has a grant.
func (s *stage) holds(pair inventory.Pair) bool {
	_, found := slices.BinarySearchFunc(s.grants, pair, func(grant uint64, pair inventory.Pair) int {
		return s.compare(grant, []byte(pair.EntitlementID), []byte(pair.PrincipalID))
	})
	return found
}

// count counts the changes, and makes a hash of them: what is new by the names
// that the connector gave, what is gone by the ids of the inventory.
func (d *difference) count(s *stage) {
	whole := sha256.New()
	sum := bufio.NewWriterSize(whole, 32<<10)
	c := &d.changes
	for _, n := range d.types {
		c.Types.note(s.types[n].change)
		write(sum, "type", strconv.Itoa(int(s.types[n].change)), s.types[n].row.ExternalID)
	}
	for _, r := range s.resources {
		if r.change == isNew || r.change == changed {
			c.Resources.note(r.change)
			if s.types[r.of].user {
				c.Accounts.note(r.change)
			}
			write(sum, "resource", strconv.Itoa(int(r.change)), s.types[r.of].row.ExternalID, r.key, string(r.hash[:]))
		}
	}
	for _, e := range s.entitlements {
		if e.change == isNew || e.change == changed {
			c.Entitlements.note(e.change)
			write(sum, "entitlement", strconv.Itoa(int(e.change)), e.key, string(e.hash[:]))
		}
	}
	for what, list := range [][]uint64{d.add, d.set} {
		for _, grant := range list {
			right, principal := parts(grant)
			p := s.resources[s.principals.at[principal]]
			write(sum, "grant", strconv.Itoa(what), s.entitlements[s.rights.at[right]].key, s.types[p.of].row.ExternalID, p.key)
		}
	}
	for _, pair := range d.end {
		write(sum, "ended", pair.EntitlementID, pair.PrincipalID)
	}
	for what, list := range [][]inventory.Edge{d.addEdges, d.dropEdges} {
		for _, e := range list {
			write(sum, "edge", strconv.Itoa(what), e.TargetID, e.PrincipalID, e.SourceID, e.TypeID)
		}
	}
	for _, gone := range append(append([]goneThing(nil), d.goneResources...), d.goneEntitlements...) {
		write(sum, "gone", gone.id)
	}
	for _, gone := range d.goneResources {
		if s.types[s.typeOf[gone.kind]].user {
			c.Accounts.Removed++
		}
	}
	c.Types.Removed = int64(len(d.goneTypes))
	c.Resources.Removed = int64(len(d.goneResources))
	c.Entitlements.Removed = int64(len(d.goneEntitlements))
	c.Grants = Change{Added: int64(len(d.add)), Changed: int64(len(d.set)), Removed: int64(len(d.end))}
	c.Edges = Change{Added: int64(len(d.addEdges)), Removed: int64(len(d.dropEdges))}
	_ = sum.Flush() // to a hash, which takes all
	d.hash = hex.EncodeToString(whole.Sum(nil))
}

func (c *Change) note(what change) {
	if what == isNew {
		c.Added++
	} else {
		c.Changed++
	}
}

func write(to *bufio.Writer, fields ...string) {
	for _, field := range fields {
		_, _ = to.Write(binary.AppendUvarint(to.AvailableBuffer(), uint64(len(field)))) // so that no two lists look the same
		_, _ = to.WriteString(field)
	}
}
