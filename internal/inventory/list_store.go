package inventory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
)

const (
	// mostLooked is how many rows a list looks at for a page.
	mostLooked = 10_000
	// mostCounted is where counting stops.
	mostCounted = 10_000
	// mostSorted is how many rows are sorted for a page by what no index has.
	mostSorted = 20_000
	// few rows are read and sorted for each page, rather than found in order.
	few = 1000
)

// The texts that lists are sorted by, as the indexes have them.
const (
	resourceKey    = `substr(r.search, 1, 200)`
	entitlementKey = `substr(e.search, 1, 200)`
	loginKey       = `COALESCE(a.last_login_at, 0)`
)

// source is where a list finds its rows, in order.
type source struct {
	filters          // the conditions that hold for each arm
	from    string   // the tables
	arms    []string // each a condition of the first columns of an index, after which it has key and id
	key, id string   // what it is sorted by
	number  bool     // key is one
	falling bool
	fits    []string // conditions that no index helps with
	text    string   // where Search is looked for

	// among finds which of some ids fit, where no condition says it; or nil.
	among func(ctx context.Context, ids []string) ([]string, error)
}

// spot is a row that a list looks at.
type spot struct {
	Key
	fits bool
}

// arg adds an argument, and is its place.
func (f *filters) arg(value any) string {
	f.args = append(f.args, value)
	return "$" + strconv.Itoa(len(f.args))
}

// fit adds a condition that no index helps with; each ? stands for the argument.
func (s *source) fit(words string, value any) {
	s.fits = append(s.fits, strings.ReplaceAll(words, "?", s.arg(value)))
}

// begins is the condition that the key begins with a text.
func (s *source) begins(text string) string {
	return fmt.Sprintf("%s >= %s AND %s < %s", s.key, s.arg(text), s.key, s.arg(text+"\U0010FFFF"))
}

// past is the condition that a row comes after a key.
func (s *source) past(after Key) (string, error) {
	if after == (Key{}) {
		return "TRUE", nil
	}
	var key any = after.Name
	if s.number {
		number, err := strconv.ParseInt(after.Name, 10, 64)
		if err != nil {
			return "", noPlace(after)
		}
		key = number
	}
	operator := ">"
	if s.falling {
		operator = "<"
	}
	// SQLite finds the place in an index of an expression only by that alone.
	name, id := s.arg(key), s.arg(after.ID)
	return fmt.Sprintf("%s %s= %s AND (%s, %s) %s (%s, %s)", s.key, operator, name, s.key, s.id, operator, name, id), nil
}

// spots reads the rows after a key.
func (s source) spots(ctx context.Context, q db.Querier, after Key, n int) ([]spot, error) {
	past, err := s.past(after)
	if err != nil {
		return nil, err
	}
	direction := ""
	if s.falling {
		direction = " DESC"
	}
	where := strings.Join(append([]string{past}, s.words...), " AND ")
	fits := "TRUE"
	if len(s.fits) > 0 {
		fits = "COALESCE((" + strings.Join(s.fits, ") AND (") + "), FALSE)"
	}
	limit := s.arg(n)
	var list []spot
	for arms := range slices.Chunk(s.arms, 100) { // SQLite joins 500
		queries := make([]string, len(arms))
		for i, arm := range arms {
			queries[i] = `SELECT * FROM (SELECT ` + s.key + ` AS k, ` + s.id + ` AS id, ` + fits + ` AS fits FROM ` + s.from + ` WHERE ` + arm + ` AND ` + where +
				` ORDER BY ` + s.key + direction + `, ` + s.id + direction + ` LIMIT ` + limit + `) AS arm`
		}
		query := queries[0]
		if len(queries) > 1 {
			query = strings.Join(queries, " UNION ALL ") + ` ORDER BY k` + direction + `, id` + direction + ` LIMIT ` + limit
		}
		some, err := db.All(ctx, q, func(row db.Scanner) (at spot, err error) { return at, row.Scan(&at.Name, &at.ID, &at.fits) }, query, s.args...)
		if err != nil {
			return nil, err
		}
		list = append(list, some...)
	}
	if len(s.arms) > 100 {
		slices.SortFunc(list, s.compare)
	}
	list = list[:min(n, len(list))]
	return list, s.look(ctx, list)
}

// look asks among which spots fit, of those that do so far.
func (s source) look(ctx context.Context, list []spot) error {
	if s.among == nil || len(list) == 0 {
		return nil
	}
	asked := make([]string, len(list))
	for n, at := range list {
		asked[n] = at.ID
	}
	fitting, err := s.among(ctx, asked)
	found := make(map[string]bool, len(fitting))
	for _, one := range fitting {
		found[one] = true
	}
	for n := range list {
		list[n].fits = list[n].fits && found[list[n].ID]
	}
	return err
}

// compare sorts spots.
func (s source) compare(a, b spot) int {
	order := cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	if s.number {
		x, _ := strconv.ParseInt(a.Name, 10, 64) // the database wrote it
		y, _ := strconv.ParseInt(b.Name, 10, 64)
		order = cmp.Or(cmp.Compare(x, y), strings.Compare(a.ID, b.ID))
	}
	if s.falling {
		return -order
	}
	return order
}

// walk looks at rows after a key until a page of those that fit is full, there are no
// more, or it looked at too many.
func walk(after Key, limit int, read func(after Key, n int) ([]spot, error)) (page Page[Key], err error) {
	for n, looked := limit+1, 0; ; n = min(4*n, 4096) {
		list, err := read(after, n)
		if err != nil {
			return Page[Key]{}, err
		}
		for _, at := range list {
			if after = at.Key; !at.fits {
				continue
			}
			if len(page.Rows) == limit {
				page.Next = page.Rows[limit-1]
				return page, nil
			}
			page.Rows = append(page.Rows, at.Key)
		}
		looked += len(list)
		switch {
		case len(list) < n:
			return page, nil
		case len(page.Rows) == limit:
			page.Next = page.Rows[limit-1]
			return page, nil
		case looked >= mostLooked:
			page.Next, page.Partial = after, true
			return page, nil
		}
	}
}

// within marks the keys of a list that is looked through for a text, after those rows
// that begin with it.
const within = "~"

// find reads a page of the rows that a text is in, or of all (""): first those that
// begin with it, which the index has, and then, if there were none or the reader goes
// on, those that have it within.
func (s source) find(ctx context.Context, q db.Querier, text string, after Key, limit int) (Page[Key], error) {
	text = Fold(text)
	if text == "" {
		return walk(after, limit, func(after Key, n int) ([]spot, error) { return s.spots(ctx, q, after, n) })
	}
	rest, looking := strings.CutPrefix(after.ID, within)
	if s.number {
		looking = true
	}
	if !looking {
		first := s
		first.args, first.words = slices.Clone(s.args), slices.Clone(s.words)
		first.words = append(first.words, first.begins(text))
		page, err := walk(after, limit, func(after Key, n int) ([]spot, error) { return first.spots(ctx, q, after, n) })
		if err != nil || page.Next != (Key{}) {
			return page, err
		}
		if len(page.Rows) > 0 || after != (Key{}) {
			page.Next, page.Partial = Key{ID: within}, true
			return page, nil
		}
	}
	s.args, s.fits = slices.Clone(s.args), slices.Clone(s.fits)
	s.fit(s.text+" LIKE ? ESCAPE '!'", contains(text))
	if !s.number {
		s.fits = append(s.fits, "NOT ("+s.begins(text)+")")
	}
	page, err := walk(Key{after.Name, rest}, limit, func(after Key, n int) ([]spot, error) { return s.spots(ctx, q, after, n) })
	if page.Next != (Key{}) && !s.number {
		page.Next.ID = within + page.Next.ID
	}
	return page, err
}

// ids are the ids of keys.
func ids(keys []Key) []string {
	list := make([]string, len(keys))
	for n, key := range keys {
		list[n] = key.ID
	}
	return list
}

// list adds arguments, and writes them as a list for IN.
func (f *filters) list(values []string) string {
	if len(values) == 0 {
		return "(NULL)"
	}
	first := len(f.args) + 1
	for _, value := range values {
		f.args = append(f.args, value)
	}
	return db.In(first, len(values))
}

// inOrder puts rows into the order of keys. One that is missing is left out.
func inOrder[T any](keys []Key, rows []T, id func(T) string) []T {
	place := make(map[string]int, len(keys))
	for n, key := range keys {
		place[key.ID] = n
	}
	slices.SortFunc(rows, func(a, b T) int { return cmp.Compare(place[id(a)], place[id(b)]) })
	return rows
}

// counted counts rows, up to mostCounted.
func counted(ctx context.Context, q db.Querier, from string, args ...any) (Count, error) {
	n, err := db.Value[int64](ctx, q, `SELECT COUNT(*) FROM (SELECT 1 FROM `+from+fmt.Sprintf(` LIMIT %d) AS looked`, mostCounted+1), args...)
	return Count{min(n, mostCounted), n > mostCounted}, err
}

// atMost reports whether a query finds no more than so many rows.
func (f filters) atMost(ctx context.Context, q db.Querier, most int, from string) (bool, error) {
	n, err := db.Value[int64](ctx, q, `SELECT COUNT(*) FROM (SELECT 1 FROM `+from+f.where()+fmt.Sprintf(` LIMIT %d) AS looked`, most+1), f.args...)
	return n <= int64(most), err
}

// ---- apps

func appPage(ctx context.Context, q db.Querier, filter AppFilter, only []string, after Key, limit int) (page Page[AppRow], err error) {
	f := filters{words: []string{present}}
	f.add("managed = ?", filter.Managed)
	if only != nil {
		f.words = append(f.words, "id IN "+f.list(only))
	}
	if filter.Search != "" {
		f.add("name_key LIKE ? ESCAPE '!'", contains(filter.Search))
	}
	f.after("name_key, id", after)
	list, err := db.All(ctx, q, scanApp, `SELECT `+appColumns+` FROM app`+f.where()+` ORDER BY name_key, id LIMIT `+f.arg(limit+1), f.args...)
	if err != nil {
		return page, err
	}
	if len(list) > limit {
		list = list[:limit]
		page.Next = Key{Fold(list[limit-1].Name), list[limit-1].ID}
	}
	for _, app := range list {
		row := AppRow{App: app}
		for _, one := range []struct {
			count *Count
			from  string
		}{{&row.Accounts, countAccounts}, {&row.Entitlements, countEntitlements}, {&row.Grants, countGrants}, {&row.Unmatched, countUnmatched}} {
			if *one.count, err = counted(ctx, q, one.from, app.ID); err != nil {
				return page, err
			}
		}
		if row.Owners, err = owners(ctx, q, app.ID); err != nil {
			return page, err
		}
		page.Rows = append(page.Rows, row)
	}
	return page, nil
}

// What is counted of an app.
const (
	countAccounts     = `account WHERE app_id = $1`
	countEntitlements = `entitlement WHERE app_id = $1`
	countAssignments  = `entitlement WHERE app_id = $1 AND purpose = 'assignment'`
	countResources    = `resource WHERE app_id = $1`
	countGrants       = `access_grant WHERE app_id = $1`
	countUnmatched    = `account WHERE app_id = $1 AND person_id = ''`
	countOrphaned     = `person p CROSS JOIN account a WHERE p.status <> 'enabled' AND a.person_id = p.id AND a.app_id = $1`
)

func numbersOf(ctx context.Context, q db.Querier, appID string) (n AppNumbers, err error) {
	for _, one := range []struct {
		count *Count
		from  string
	}{
		{&n.Accounts, countAccounts},
		{&n.Assignments, countAssignments},
		{&n.Entitlements, countEntitlements},
		{&n.Resources, countResources},
		{&n.Grants, countGrants},
		{&n.Unmatched, countUnmatched},
		{&n.Orphaned, countOrphaned},
	} {
		if *one.count, err = counted(ctx, q, one.from, appID); err != nil {
			return n, err
		}
	}
	return n, nil
}

// kind is a resource type, as lists need it.
type kind struct {
	id, appID, name string
	user            bool
}

// kindsOf reads the types of apps.
func kindsOf(ctx context.Context, q db.Querier, appIDs ...string) ([]kind, error) {
	var f filters
	f.words = append(f.words, "app_id IN "+f.list(appIDs))
	return db.All(ctx, q, func(row db.Scanner) (k kind, err error) {
		var traits []string
		err = row.Scan(&k.id, &k.appID, &k.name, db.JSON(&traits))
		k.user = slices.Contains(traits, "user")
		return k, err
	}, `SELECT id, app_id, name, traits FROM resource_type`+f.where()+` ORDER BY app_id, external_id`, f.args...)
}

// names are what types are called, by id.
func names(kinds []kind) map[string]string {
	out := make(map[string]string, len(kinds))
	for _, k := range kinds {
		out[k.id] = k.name
	}
	return out
}

// ofTypes finds resources of some types.
func ofTypes(kinds []kind, wanted func(kind) bool) source {
	s := source{from: `resource r`, key: resourceKey, id: `r.id`, text: `r.search`}
	for _, k := range kinds {
		if wanted(k) {
			s.arms = append(s.arms, `r.app_id = `+s.arg(k.appID)+` AND r.type_id = `+s.arg(k.id))
		}
	}
	return s
}

// ---- resources

func resourcePage(ctx context.Context, q db.Querier, filter ResourceFilter, after Key, limit int) (page Page[ResourceItem], err error) {
	kinds, err := kindsOf(ctx, q, filter.AppID)
	if err != nil {
		return page, err
	}
	s := ofTypes(kinds, func(k kind) bool { return filter.TypeID == "" || k.id == filter.TypeID })
	keys, err := s.find(ctx, q, filter.Search, after, limit)
	if err != nil {
		return page, err
	}
	page = Page[ResourceItem]{Next: keys.Next, Partial: keys.Partial}
	page.Rows, err = resourceItems(ctx, q, keys.Rows)
	return page, err
}

func resourceItems(ctx context.Context, q db.Querier, keys []Key) ([]ResourceItem, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	var f filters
	f.words = append(f.words, "r.id IN "+f.list(ids(keys)))
	list, err := db.All(ctx, q, func(row db.Scanner) (r ResourceItem, err error) {
		return r, row.Scan(append(r.targets(), &r.TypeName, &r.ParentName, &r.Entitlements)...)
	}, `SELECT `+resourceColumns+`, t.name, COALESCE(p.name, ''), (SELECT COUNT(*) FROM entitlement e WHERE e.resource_id = r.id)
		FROM resource r JOIN resource_type t ON t.id = r.type_id LEFT JOIN resource p ON p.id = r.parent_id`+f.where(), f.args...)
	return inOrder(keys, list, func(r ResourceItem) string { return r.ID }), err
}

// ---- accounts

// conditions says which accounts are wanted, of account a and person p. An index
// begins with each.
func (filter AccountFilter) conditions(f *filters) {
	if filter.PersonID != "" {
		f.add("a.person_id = ?", filter.PersonID)
	}
	if filter.Unmatched {
		f.words = append(f.words, "a.person_id = ''")
	}
	if filter.Orphaned {
		f.words = append(f.words, "p.status <> 'enabled'")
	}
	if filter.Kind != "" {
		f.add("a.kind = ?", filter.Kind)
	}
	if filter.Status != "" {
		if filter.Kind == "" {
			f.words = append(f.words, "a.kind IN ('human', 'service', 'system', 'unknown')") // all of them: the index begins with it
		}
		f.add("a.status = ?", filter.Status)
	}
}

// accountSource finds accounts: by what is wanted of them, if those are few, or else
// in order.
func accountSource(ctx context.Context, q db.Querier, filter AccountFilter, only []string, order Order) (source, error) {
	byFilter := source{from: `account a JOIN resource r ON r.id = a.id`, arms: []string{"TRUE"}, key: resourceKey, id: "r.id", text: "r.search", falling: order.Falling}
	from := `account a`
	if filter.Orphaned {
		from = `person p CROSS JOIN account a`
		byFilter.from = from + ` CROSS JOIN resource r`
		byFilter.words = []string{"a.person_id = p.id", "r.id = a.id"}
	}
	if order.By == ByLastLogin {
		byFilter.key, byFilter.id, byFilter.number = loginKey, "a.id", true
	}
	filter.conditions(&byFilter.filters)
	wanted := len(byFilter.words) > 0
	if filter.AppID != "" {
		byFilter.add("a.app_id = ?", filter.AppID)
	} else {
		byFilter.words = append(byFilter.words, "a."+presentApp)
	}
	if only != nil {
		byFilter.words = append(byFilter.words, "a.app_id IN "+byFilter.list(only))
	}
	if filter.PersonID != "" {
		return byFilter, nil
	}
	if wanted {
		counting := byFilter.filters
		if filter.Orphaned {
			counting.words = append([]string{"a.person_id = p.id"}, counting.words[2:]...)
		}
		if small, err := counting.atMost(ctx, q, few, from); err != nil || small {
			return byFilter, err
		}
	}
	var inOrder source
	if order.By == ByLastLogin {
		inOrder = source{from: `account a JOIN resource r ON r.id = a.id`, key: loginKey, id: "a.id", number: true, text: "r.search"}
		inOrder.arms = []string{"a.app_id = " + inOrder.arg(filter.AppID)}
	} else {
		kinds, err := kindsOf(ctx, q, filter.AppID)
		if err != nil {
			return source{}, err
		}
		inOrder = ofTypes(kinds, func(k kind) bool { return k.user })
		inOrder.from = `resource r JOIN account a ON a.id = r.id`
	}
	if filter.Orphaned {
		inOrder.from += ` LEFT JOIN person p ON p.id = a.person_id`
	}
	inOrder.falling = order.Falling
	filter.conditions(&inOrder.filters)
	inOrder.fits, inOrder.words = inOrder.words, nil
	return inOrder, nil
}

func accountPage(ctx context.Context, q db.Querier, filter AccountFilter, only []string, order Order, after Key, limit int) (page Page[AccountItem], err error) {
	s, err := accountSource(ctx, q, filter, only, order)
	if err != nil {
		return page, err
	}
	keys, err := s.find(ctx, q, filter.Search, after, limit)
	if err != nil || len(keys.Rows) == 0 {
		return Page[AccountItem]{Next: keys.Next, Partial: keys.Partial}, err
	}
	page = Page[AccountItem]{Next: keys.Next, Partial: keys.Partial}
	var f filters
	f.words = append(f.words, "a.id IN "+f.list(ids(keys.Rows)))
	list, err := db.All(ctx, q, scanAccount, accountQuery+f.where(), f.args...)
	if err != nil {
		return page, err
	}
	list = inOrder(keys.Rows, list, func(a Account) string { return a.ID })
	roles, err := rolesOf(ctx, q, ids(keys.Rows))
	if err != nil {
		return page, err
	}
	var appIDs []string
	for _, account := range list {
		if !slices.Contains(appIDs, account.AppID) {
			appIDs = append(appIDs, account.AppID)
		}
	}
	kinds, err := kindsOf(ctx, q, appIDs...)
	if err != nil {
		return page, err
	}
	called := names(kinds)
	for _, account := range list {
		held := roles[account.ID]
		held.Account, held.TypeName = account, called[account.TypeID]
		page.Rows = append(page.Rows, held)
	}
	return page, nil
}

// mostRoles is how many roles of an account are named in a list.
const mostRoles = 3

// rolesOf counts what principals hold directly, and names a few assignments of each.
func rolesOf(ctx context.Context, q db.Querier, principals []string) (map[string]AccountItem, error) {
	roles := map[string]AccountItem{}
	var f filters
	in := f.list(principals)
	return roles, db.Each(ctx, q, func(row db.Scanner) error {
		var principal, name string
		var total, assigned, place int64
		if err := row.Scan(&principal, &name, &total, &assigned, &place); err != nil {
			return err
		}
		item := roles[principal]
		item.Grants, item.Assigned = total, assigned
		if place <= assigned {
			item.Roles = append(item.Roles, name)
		}
		roles[principal] = item
		return nil
	}, `SELECT principal_id, name, total, assigned, place FROM (
		SELECT g.principal_id, COALESCE(r.name, e.name) AS name, COUNT(*) OVER (PARTITION BY g.principal_id) AS total,
			SUM(CASE WHEN e.purpose = 'assignment' THEN 1 ELSE 0 END) OVER (PARTITION BY g.principal_id) AS assigned,
			ROW_NUMBER() OVER (PARTITION BY g.principal_id ORDER BY CASE WHEN e.purpose = 'assignment' THEN 0 ELSE 1 END, r.search, e.id) AS place
		FROM access_grant g JOIN entitlement e ON e.id = g.entitlement_id LEFT JOIN resource r ON r.id = e.resource_id
		WHERE g.principal_id IN `+in+`) AS held WHERE place <= `+strconv.Itoa(mostRoles)+` ORDER BY principal_id, place`, f.args...)
}

// ---- entitlements

// conditions says which entitlements are wanted, of entitlement e.
func (query EntitlementQuery) conditions(f *filters) {
	if query.ResourceID != "" {
		f.add("e.resource_id = ?", query.ResourceID)
	}
	if query.Risk != "" {
		f.words = append(f.words, "e.risk <> ''") // the index's own words
		f.add("e.risk = ?", query.Risk)
	}
	if query.Requestable != nil && *query.Requestable {
		f.words = append(f.words, "e.requestable = TRUE")
	} else if query.Requestable != nil {
		f.words = append(f.words, "e.requestable = FALSE")
	}
}

// indexed reports whether an index finds by one of the conditions.
func (query EntitlementQuery) indexed() bool {
	return query.ResourceID != "" || query.Risk != "" || query.Requestable != nil && *query.Requestable
}

// purposes are those of entitlements.
func (query EntitlementQuery) purposes() []string {
	if query.Purpose != "" {
		return []string{query.Purpose}
	}
	return []string{"assignment", "permission", "ownership", "unspecified"}
}

func entitlementPage(ctx context.Context, q db.Querier, query EntitlementQuery, order Order, after Key, limit int) (page Page[EntitlementItem], err error) {
	var keys Page[Key]
	switch {
	case order.By == ByHolders || order.By == ByRisk:
		keys, err = entitlementsSorted(ctx, q, query, order, after, limit)
	case query.TypeID != "":
		keys, err = entitlementsOfType(ctx, q, query, order, after, limit)
	default:
		var s source
		if s, err = entitlementSource(ctx, q, query, order); err == nil {
			keys, err = s.find(ctx, q, query.Search, after, limit)
		}
	}
	page = Page[EntitlementItem]{Next: keys.Next, Partial: keys.Partial}
	if err != nil || len(keys.Rows) == 0 {
		return page, err
	}
	var f filters
	f.words = append(f.words, "e.id IN "+f.list(ids(keys.Rows)))
	list, err := db.All(ctx, q, scanEntitlement, entitlementQuery+f.where(), f.args...)
	if err != nil {
		return page, err
	}
	more := map[string][2]string{}
	err = db.Each(ctx, q, func(row db.Scanner) error {
		var id, typeName, owner string
		err := row.Scan(&id, &typeName, &owner)
		more[id] = [2]string{typeName, owner}
		return err
	}, `SELECT e.id, COALESCE(t.name, ''), COALESCE(p.name, '') FROM entitlement e LEFT JOIN resource r ON r.id = e.resource_id
		LEFT JOIN resource_type t ON t.id = r.type_id LEFT JOIN person p ON p.id = e.owner_id`+f.where(), f.args...)
	for _, e := range inOrder(keys.Rows, list, func(e Entitlement) string { return e.ID }) {
		page.Rows = append(page.Rows, EntitlementItem{Entitlement: e, TypeName: more[e.ID][0], OwnerName: more[e.ID][1]})
	}
	return page, err
}

// entitlementSource finds entitlements: by what is wanted of them, if those are few,
// or else in order.
func entitlementSource(ctx context.Context, q db.Querier, query EntitlementQuery, order Order) (source, error) {
	s := source{from: `entitlement e`, key: entitlementKey, id: "e.id", text: "e.search", falling: order.Falling}
	query.conditions(&s.filters)
	if query.indexed() {
		byFilter := s
		byFilter.args, byFilter.words = slices.Clone(s.args), slices.Clone(s.words)
		byFilter.add("e.app_id = ?", query.AppID)
		if query.Purpose != "" {
			byFilter.add("e.purpose = ?", query.Purpose)
		}
		byFilter.arms = []string{"TRUE"}
		if small, err := byFilter.atMost(ctx, q, few, byFilter.from); err != nil || small {
			return byFilter, err
		}
	}
	s.fits, s.words = s.words, nil
	for _, purpose := range query.purposes() {
		s.arms = append(s.arms, `e.app_id = `+s.arg(query.AppID)+` AND e.purpose = `+s.arg(purpose))
	}
	return s, nil
}

// entitlementsSorted sorts entitlements by a number, then by name. No index has it:
// holders change too often, and few have a risk.
func entitlementsSorted(ctx context.Context, q db.Querier, query EntitlementQuery, order Order, after Key, limit int) (page Page[Key], err error) {
	level := `e.grant_count`
	if order.By == ByRisk {
		level = `CASE e.risk WHEN 'critical' THEN 4 WHEN 'high' THEN 3 WHEN 'medium' THEN 2 WHEN 'low' THEN 1 ELSE 0 END`
	}
	if order.Falling {
		level = `-(` + level + `)`
	}
	var f filters
	from := `entitlement e`
	f.add("e.app_id = ?", query.AppID)
	if query.Purpose != "" {
		f.add("e.purpose = ?", query.Purpose)
	}
	all, err := f.atMost(ctx, q, mostSorted, from)
	if err != nil {
		return page, err
	}
	page.Partial = !all
	inner := `SELECT ` + level + ` AS level, ` + entitlementKey + ` AS k, e.id, e.resource_id, e.search, e.risk, e.requestable FROM ` + from + f.where() +
		` ORDER BY e.purpose, ` + entitlementKey + `, e.id LIMIT ` + strconv.Itoa(mostSorted)
	f.words = nil
	query.conditions(&f)
	if query.TypeID != "" {
		f.add("e.resource_id IN (SELECT r.id FROM resource r WHERE r.id = e.resource_id AND r.type_id = ?)", query.TypeID)
	}
	if text := Fold(query.Search); text != "" {
		f.add("e.search LIKE ? ESCAPE '!'", contains(text))
	}
	if after != (Key{}) {
		number, name, _ := strings.Cut(after.Name, "\n")
		from, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return page, noPlace(after)
		}
		f.words = append(f.words, fmt.Sprintf("(e.level, e.k, e.id) > (%s, %s, %s)", f.arg(from), f.arg(name), f.arg(after.ID)))
	}
	page.Rows, err = db.All(ctx, q, func(row db.Scanner) (key Key, err error) {
		var level int64
		err = row.Scan(&level, &key.Name, &key.ID)
		key.Name = strconv.FormatInt(level, 10) + "\n" + key.Name
		return key, err
	}, `SELECT level, k, id FROM (`+inner+`) AS e`+f.where()+` ORDER BY level, k, id LIMIT `+f.arg(limit+1), f.args...)
	if len(page.Rows) > limit {
		page.Rows = page.Rows[:limit]
		page.Next = page.Rows[limit-1]
	}
	return page, err
}

// noPlace says that a key isn't one of the list's.
func noPlace(key Key) error {
	return fault.New(fault.Invalid, "the place %.100q isn't one of this list; begin at its start", key.Name)
}

// entitlementsOfType lists entitlements by the name of their resource, then by theirs.
func entitlementsOfType(ctx context.Context, q db.Querier, query EntitlementQuery, order Order, after Key, limit int) (Page[Key], error) {
	kinds, err := kindsOf(ctx, q, query.AppID)
	if err != nil {
		return Page[Key]{}, err
	}
	s := ofTypes(kinds, func(k kind) bool { return k.id == query.TypeID })
	s.falling = order.Falling
	found, err := pairs(ctx, q, s, query.Search, after, limit, func(owners []string, first pair) ([]pair, error) {
		var f filters
		f.words = append(f.words, "e.resource_id IN "+f.list(owners))
		query.conditions(&f)
		if query.Purpose != "" {
			f.add("e.purpose = ?", query.Purpose)
		}
		return readPairs(ctx, q, f, `entitlement e JOIN resource r ON r.id = e.resource_id`, first, order.Falling, limit+1)
	})
	page := Page[Key]{Next: found.Next, Partial: found.Partial}
	for _, one := range found.Rows {
		page.Rows = append(page.Rows, Key{ID: one.entitlement.ID})
	}
	return page, err
}

// ---- entitlements of resources, and grants to principals: two names to sort by

// pair is an entitlement of a resource, or to a principal.
type pair struct{ resource, entitlement Key }

// key is the place after a pair.
func (p pair) key() Key {
	return Key{p.resource.Name, p.resource.ID + "\n" + p.entitlement.ID + "\n" + p.entitlement.Name}
}

// pairs reads a page of what resources of a source have. Rows reads that of some of
// them, of the first one what comes after an entitlement.
func pairs(
	ctx context.Context, q db.Querier, s source, text string, after Key, limit int, rows func(resources []string, first pair) ([]pair, error),
) (page Page[pair], err error) {
	var first pair
	resource, rest, inside := strings.Cut(after.ID, "\n")
	if inside {
		entitlement, name, _ := strings.Cut(rest, "\n")
		first = pair{Key{after.Name, strings.TrimPrefix(resource, within)}, Key{name, entitlement}}
	}
	after.ID = resource
	for n, looked := 16, 0; ; n = min(4*n, 4096) {
		keys, err := s.find(ctx, q, text, after, n)
		if err != nil {
			return page, err
		}
		list := ids(keys.Rows)
		if first.resource.ID != "" {
			list = append([]string{first.resource.ID}, list...)
		}
		if len(list) > 0 {
			some, err := rows(list, first)
			if err != nil {
				return page, err
			}
			page.Rows = append(page.Rows, some...)
			first = pair{}
		}
		looked += n
		switch after = keys.Next; {
		case len(page.Rows) > limit:
			page.Rows = page.Rows[:limit]
			if page.Next = page.Rows[limit-1].key(); !strings.HasPrefix(page.Next.Name, Fold(text)) {
				page.Next.ID = within + page.Next.ID
			}
			return page, nil
		case after == Key{}:
			return page, nil
		case keys.Partial && (after.ID != within || len(page.Rows) > 0), looked >= mostLooked:
			page.Next, page.Partial = after, true
			return page, nil
		}
	}
}

// readPairs reads pairs, in order.
func readPairs(ctx context.Context, q db.Querier, f filters, from string, first pair, falling bool, limit int) ([]pair, error) {
	if first.resource.ID != "" {
		f.words = append(f.words, fmt.Sprintf("(r.id <> %s OR (%s, e.id) > (%s, %s))", f.arg(first.resource.ID), entitlementKey, f.arg(first.entitlement.Name), f.arg(first.entitlement.ID)))
	}
	direction := ""
	if falling {
		direction = " DESC"
	}
	return db.All(ctx, q, func(row db.Scanner) (p pair, err error) {
		return p, row.Scan(&p.resource.Name, &p.resource.ID, &p.entitlement.Name, &p.entitlement.ID)
	}, `SELECT `+resourceKey+`, r.id, `+entitlementKey+`, e.id FROM `+from+f.where()+
		` ORDER BY `+resourceKey+direction+`, r.id`+direction+`, `+entitlementKey+`, e.id LIMIT `+f.arg(limit), f.args...)
}

// ---- grants

func grantPage(ctx context.Context, q db.Querier, filter GrantFilter, after Key, limit int) (page Page[GrantItem], err error) {
	kinds, err := kindsOf(ctx, q, filter.AppID)
	if err != nil {
		return page, err
	}
	s := ofTypes(kinds, func(k kind) bool { return filter.TypeID == "" || k.id == filter.TypeID })
	switch {
	case filter.PrincipalID != "":
		s.args = nil
		s.arms = []string{"r.app_id = " + s.arg(filter.AppID) + " AND r.id = " + s.arg(filter.PrincipalID)}
	case filter.EntitlementID != "":
		if s, err = directHolders(ctx, q, filter.AppID, filter.EntitlementID, s); err != nil {
			return page, err
		}
		if filter.TypeID != "" && len(s.arms) == 1 {
			s.add("r.type_id = ?", filter.TypeID)
		}
	}
	found, err := pairs(ctx, q, s, filter.Search, after, limit, func(principals []string, first pair) ([]pair, error) {
		var f filters
		if filter.EntitlementID != "" {
			f.add("g.app_id = ?", filter.AppID)
			f.add("g.entitlement_id = ?", filter.EntitlementID)
		}
		f.words = append(f.words, "g.principal_id IN "+f.list(principals))
		return readPairs(ctx, q, f, `access_grant g JOIN entitlement e ON e.id = g.entitlement_id JOIN resource r ON r.id = g.principal_id`, first, false, limit+1)
	})
	page = Page[GrantItem]{Next: found.Next, Partial: found.Partial}
	if err != nil || len(found.Rows) == 0 {
		return page, err
	}
	wanted := make([]Pair, len(found.Rows))
	for n, one := range found.Rows {
		wanted[n] = Pair{one.entitlement.ID, one.resource.ID}
	}
	page.Rows, err = grantItems(ctx, q, wanted)
	if err != nil {
		return page, err
	}
	place := map[Pair]int{}
	for n, one := range wanted {
		place[one] = n
	}
	slices.SortFunc(page.Rows, func(a, b GrantItem) int {
		return cmp.Compare(place[Pair{a.EntitlementID, a.PrincipalID}], place[Pair{b.EntitlementID, b.PrincipalID}])
	})
	return page, giveReasons(ctx, q, page.Rows)
}

// directHolders finds who holds an entitlement directly: by the grants, if those are
// few, or else in the order of a source.
func directHolders(ctx context.Context, q db.Querier, appID, entitlementID string, inOrder source) (source, error) {
	s := source{from: `access_grant g JOIN resource r ON r.id = g.principal_id`, key: resourceKey, id: "r.id", text: "r.search", arms: []string{"TRUE"}}
	s.add("g.app_id = ?", appID)
	s.add("g.entitlement_id = ?", entitlementID)
	small, err := s.atMost(ctx, q, few, `access_grant g`)
	if err != nil || small {
		return s, err
	}
	inOrder.fits = append(inOrder.fits, inOrder.holds(appID, entitlementID)+` = 1`)
	return inOrder, nil
}

// holds counts, of resource r, whether it holds an entitlement directly. PostgreSQL
// would read all holders for an EXISTS.
func (f *filters) holds(appID, entitlementID string) string {
	return `(SELECT COUNT(*) FROM access_grant d WHERE d.app_id = ` + f.arg(appID) + ` AND d.entitlement_id = ` + f.arg(entitlementID) + ` AND d.principal_id = r.id)`
}

// grantColumns are those of a grant item, of an entitlement e of a resource er of a
// type et, and a principal r of a type t; a grant g may be there.
const grantColumns = `e.app_id, e.id, e.external_id, e.name, r.id, t.external_id || ':' || r.external_id, r.name,
	g.since IS NOT NULL, COALESCE(g.external_id, ''), COALESCE(g.flags, 0), g.since, COALESCE(g.sync_id, ''), ` + personColumns + `,
	COALESCE(et.name, ''), COALESCE(er.name, ''), e.purpose, e.risk, t.name`

const grantTables = ` JOIN resource_type t ON t.id = r.type_id LEFT JOIN resource er ON er.id = e.resource_id LEFT JOIN resource_type et ON et.id = er.type_id
	LEFT JOIN account a ON a.id = r.id LEFT JOIN person p ON p.id = a.person_id`

func scanGrantItem(row db.Scanner) (g GrantItem, err error) {
	var flags int64
	err = row.Scan(&g.AppID, &g.EntitlementID, &g.Entitlement, &g.EntitlementName, &g.PrincipalID, &g.Principal, &g.PrincipalName,
		&g.Direct, &g.ExternalID, &flags, db.Time(&g.Since), &g.SyncID, &g.Account, &g.PersonID, &g.PersonName, &g.PersonEmail,
		&g.EntitlementType, &g.ResourceName, &g.Purpose, &g.Risk, &g.PrincipalType)
	g.Immutable = flags&FlagImmutable != 0
	return g, err
}

// grantItems reads direct grants, or what principals hold by way of others.
func grantItems(ctx context.Context, q db.Querier, wanted []Pair) ([]GrantItem, error) {
	pairs, args := values(wanted)
	return db.All(ctx, q, scanGrantItem, `WITH wanted (entitlement_id, principal_id) AS (`+pairs+`)
		SELECT `+grantColumns+` FROM wanted w JOIN entitlement e ON e.id = w.entitlement_id JOIN resource r ON r.id = w.principal_id
		LEFT JOIN access_grant g ON g.app_id = e.app_id AND g.entitlement_id = e.id AND g.principal_id = r.id`+grantTables, args...)
}

// giveReasons adds why direct grants are there.
func giveReasons(ctx context.Context, q db.Querier, list []GrantItem) error {
	place := map[Pair]int{}
	var wanted []Pair
	for n, g := range list {
		if g.Direct {
			one := Pair{g.EntitlementID, g.PrincipalID}
			place[one], wanted = n, append(wanted, one)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	pairs, args := values(wanted)
	return db.Each(ctx, q, func(row db.Scanner) error {
		var of Pair
		var r Reason
		err := row.Scan(&of.EntitlementID, &of.PrincipalID, &r.Kind, &r.Ref, db.Time(&r.Since), db.Time(&r.ExpiresAt))
		g := &list[place[of]]
		g.Reasons = append(g.Reasons, r)
		return err
	}, `WITH wanted (entitlement_id, principal_id) AS (`+pairs+`)
		SELECT n.entitlement_id, n.principal_id, n.kind, n.ref, n.since, n.expires_at FROM wanted w
		JOIN grant_reason n ON n.entitlement_id = w.entitlement_id AND n.principal_id = w.principal_id ORDER BY n.since, n.kind, n.ref`, args...)
}

// ---- holders

// heldBy finds who holds the entitlement $1 of the app $2 in any way, some of them
// more than once. The joins are crosses so that SQLite goes from left to right: it
// would begin with all grants of the app.
const heldBy = ` FROM reach CROSS JOIN access_grant g CROSS JOIN resource r
	WHERE g.app_id = $2 AND g.entitlement_id = reach.entitlement_id AND r.id = g.principal_id AND r.type_id = reach.type_id`

// holderCount counts who holds an entitlement in any way. It looks at mostCounted
// grants.
func holderCount(ctx context.Context, q db.Querier, e Entitlement) (Count, error) {
	ways, err := db.Value[int64](ctx, q, `SELECT COUNT(*) FROM (SELECT 1 FROM expansion WHERE target_id = $1 LIMIT 1) AS looked`, e.ID)
	if err != nil || ways == 0 {
		return Count{N: e.Grants}, err
	}
	n, err := db.One(ctx, q, func(row db.Scanner) (n Count, err error) { return n, row.Scan(&n.N, &n.More) },
		reachBack+` SELECT COUNT(DISTINCT principal_id), COUNT(*) > CAST($3 AS BIGINT) FROM (SELECT g.principal_id`+heldBy+fmt.Sprintf(` LIMIT %d) AS looked`, mostCounted+1),
		e.ID, e.AppID, mostCounted)
	n.N = min(n.N, mostCounted)
	return n, err
}

func holderPage(ctx context.Context, q db.Querier, e Entitlement, filter HolderFilter, after Key, limit int) (page Page[GrantItem], err error) {
	kinds, err := kindsOf(ctx, q, e.AppID)
	if err != nil {
		return page, err
	}
	s := ofTypes(kinds, func(kind) bool { return true })
	if filter.Direct != nil && *filter.Direct {
		s, err = directHolders(ctx, q, e.AppID, e.ID, s)
	} else {
		s, err = allHolders(ctx, q, e, s)
		if filter.Direct != nil {
			s.fits = append(s.fits, s.holds(e.AppID, e.ID)+` = 0`)
		}
	}
	if err != nil {
		return page, err
	}
	keys, err := s.find(ctx, q, filter.Search, after, limit)
	page = Page[GrantItem]{Next: keys.Next, Partial: keys.Partial}
	if err != nil || len(keys.Rows) == 0 {
		return page, err
	}
	wanted := make([]Pair, len(keys.Rows))
	for n, key := range keys.Rows {
		wanted[n] = Pair{e.ID, key.ID}
	}
	if page.Rows, err = grantItems(ctx, q, wanted); err != nil {
		return page, err
	}
	page.Rows = inOrder(keys.Rows, page.Rows, func(g GrantItem) string { return g.PrincipalID })
	ways, err := edgesTo(ctx, q, e.AppID, e.ID)
	if err == nil {
		err = givePaths(ctx, q, page.Rows, ways)
	}
	if err != nil {
		return page, err
	}
	return page, giveReasons(ctx, q, page.Rows)
}

// allHolders finds who holds an entitlement in any way: by the grants, if those are
// few, or else in the order of a source.
func allHolders(ctx context.Context, q db.Querier, e Entitlement, inOrder source) (source, error) {
	grants, err := db.Value[int64](ctx, q, reachBack+` SELECT CAST(COALESCE(SUM(e.grant_count), 0) AS BIGINT)
		FROM (SELECT DISTINCT entitlement_id FROM reach) AS reached JOIN entitlement e ON e.id = reached.entitlement_id`, e.ID)
	if err != nil {
		return inOrder, err
	}
	if grants <= few {
		s := source{from: `(` + reachBack + ` SELECT DISTINCT g.principal_id` + heldBy + `) AS h JOIN resource r ON r.id = h.principal_id`, key: resourceKey, id: "r.id", text: "r.search"}
		s.args, s.arms = []any{e.ID, e.AppID}, []string{"TRUE"}
		return s, nil
	}
	type source struct{ entitlementID, typeID string }
	gives := map[source]bool{}
	err = db.Each(ctx, q, func(row db.Scanner) error {
		var one source
		err := row.Scan(&one.entitlementID, &one.typeID)
		gives[one] = true
		return err
	}, reachBack+` SELECT DISTINCT entitlement_id, type_id FROM reach`, e.ID)
	inOrder.among = func(ctx context.Context, principals []string) (holders []string, err error) {
		var f filters
		f.words = append(f.words, "r.id IN "+f.list(principals))
		return holders, db.Each(ctx, q, func(row db.Scanner) error {
			var principal string
			var one source
			if err := row.Scan(&principal, &one.typeID, &one.entitlementID); err != nil {
				return err
			}
			if gives[one] {
				holders = append(holders, principal)
			}
			return nil
		}, `SELECT r.id, r.type_id, g.entitlement_id FROM resource r JOIN access_grant g ON g.principal_id = r.id`+f.where(), f.args...)
	}
	return inOrder, err
}

// givePaths adds how grants come about that aren't direct, and since when. All are of
// one app, and of one entitlement or one principal.
func givePaths(ctx context.Context, q db.Querier, list []GrantItem, ways graph) error {
	var inherited []Grant
	for _, g := range list {
		if !g.Direct {
			inherited = append(inherited, g.Grant)
		}
	}
	if len(inherited) == 0 {
		return nil
	}
	held, err := heldOf(ctx, q, inherited, ways)
	if err != nil {
		return err
	}
	links := make([][]Pair, len(list))
	var all []Pair
	for n := range list {
		g := &list[n]
		if g.Direct {
			continue
		}
		of := held[g.PrincipalID]
		g.Path = ways.walk(of.entitlements, of.typeID).path(g.EntitlementID)
		links[n] = ways.links(*g, of.typeID)
		all = append(all, links[n]...)
	}
	since, err := sinceOf(ctx, q, list[0].AppID, all)
	for n, chain := range links {
		for _, link := range chain {
			if at := since[link]; at.After(list[n].Since) {
				list[n].Since = at
			}
		}
	}
	return err
}

// links are the direct grants that an inherited one comes from: it is as old as the
// youngest of them.
func (g graph) links(held GrantItem, typeID string) []Pair {
	var links []Pair
	principal := held.PrincipalID
	for n, step := range held.Path {
		links = append(links, Pair{step.EntitlementID, principal})
		to := held.EntitlementID
		if n+1 < len(held.Path) {
			to = held.Path[n+1].EntitlementID
		}
		for _, e := range g.edges[step.EntitlementID] {
			if e.TargetID == to && (e.TypeID == "" || e.TypeID == typeID) {
				principal = e.PrincipalID
				break
			}
		}
		if n+1 == len(held.Path) {
			links = append(links, Pair{to, principal})
		}
	}
	return links
}

// sinceOf reads since when direct grants are there.
func sinceOf(ctx context.Context, q db.Querier, appID string, list []Pair) (map[Pair]time.Time, error) {
	since, once := map[Pair]time.Time{}, map[Pair]bool{}
	for _, one := range list {
		once[one] = true
	}
	for chunk := range slices.Chunk(slices.Collect(maps.Keys(once)), 500) {
		pairs, args := values(chunk)
		f := filters{args: args}
		err := db.Each(ctx, q, func(row db.Scanner) error {
			var one Pair
			var at time.Time
			err := row.Scan(&one.EntitlementID, &one.PrincipalID, db.Time(&at))
			since[one] = at
			return err
		}, `WITH wanted (entitlement_id, principal_id) AS (`+pairs+`) SELECT g.entitlement_id, g.principal_id, g.since
			FROM wanted w JOIN access_grant g ON g.app_id = `+f.arg(appID)+` AND g.entitlement_id = w.entitlement_id AND g.principal_id = w.principal_id`, f.args...)
		if err != nil {
			return nil, err
		}
	}
	return since, nil
}

// personOf is the person whose account a principal of an app is, or "".
func personOf(ctx context.Context, q db.Querier, appID, principalID string) (string, error) {
	return none(db.Value[string](ctx, q, `SELECT person_id FROM account WHERE id = $1 AND app_id = $2`, principalID, appID))
}

// personAccess lists what the accounts of a person hold.
func personAccess(ctx context.Context, q db.Querier, personID string, only []string, after Key, limit int) (page Page[GrantItem], err error) {
	var f filters
	f.add("a.person_id = ?", personID)
	f.words = append(f.words, "a."+presentApp)
	if only != nil {
		f.words = append(f.words, "a.app_id IN "+f.list(only))
	}
	type one struct{ accountID, appName string }
	accounts, err := db.All(ctx, q, func(row db.Scanner) (o one, err error) { return o, row.Scan(&o.accountID, &o.appName) },
		`SELECT a.id, app.name FROM account a JOIN app ON app.id = a.app_id`+f.where()+` ORDER BY app.name_key, app.id, a.id`, f.args...)
	if err != nil {
		return page, err
	}
	at, entitlementID, inside := strings.Cut(after.ID, "\n")
	start := 0
	if inside {
		if start = slices.IndexFunc(accounts, func(o one) bool { return o.accountID == at }); start < 0 {
			return page, fault.New(fault.Conflict, "the list changed meanwhile; begin at its start")
		}
	}
	for n, account := range accounts[start:] {
		from := Key{}
		if n == 0 && inside {
			from = Key{after.Name, entitlementID}
		}
		principal, err := resourceByID(ctx, q, account.accountID)
		if err != nil {
			return page, err
		}
		held, err := access(ctx, q, principal, from, limit+1-len(page.Rows))
		if err != nil {
			return page, err
		}
		items, err := completed(ctx, q, principal, held)
		if err != nil {
			return page, err
		}
		for _, item := range items {
			item.AppName = account.appName
			page.Rows = append(page.Rows, item)
		}
		if len(page.Rows) > limit {
			page.Rows = page.Rows[:limit]
			last := page.Rows[limit-1]
			page.Next = Key{last.EntitlementName, last.PrincipalID + "\n" + last.EntitlementID}
			break
		}
	}
	return page, giveReasons(ctx, q, page.Rows)
}

// completed makes items of what a principal holds.
func completed(ctx context.Context, q db.Querier, principal Resource, held []Grant) ([]GrantItem, error) {
	if len(held) == 0 {
		return nil, nil
	}
	wanted, keys := make([]Pair, len(held)), make([]Key, len(held))
	for n, g := range held {
		wanted[n], keys[n] = Pair{g.EntitlementID, principal.ID}, Key{ID: g.EntitlementID}
	}
	items, err := grantItems(ctx, q, wanted)
	if err != nil {
		return nil, err
	}
	ways, err := edgesFrom(ctx, q, principal)
	if err != nil {
		return nil, err
	}
	return inOrder(keys, items, func(g GrantItem) string { return g.EntitlementID }), givePaths(ctx, q, items, ways)
}
