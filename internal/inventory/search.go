package inventory

import (
	"context"
	"fmt"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

// HitKind is what a search found.
type HitKind string

// The kinds of hit.
const (
	HitApp         HitKind = "app"
	HitEntitlement HitKind = "entitlement"
	HitAccount     HitKind = "account"
	HitResource    HitKind = "resource"
	HitPerson      HitKind = "person"
)

// Hit is what a search found.
type Hit struct {
	Kind    HitKind
	ID      string
	Name    string
	Detail  string // what tells it from others of that name: an e-mail address, a login, the type
	AppID   string // "" for a person
	AppName string
}

// Search finds apps, people, entitlements, accounts and resources, in this order:
// what the actor may read, at most so many of each kind, first what begins with the
// text. Partial says that not everything was looked at.
func (s *Service) Search(ctx context.Context, actor identity.Actor, text string, limit int) (hits []Hit, partial bool, err error) {
	folded := Fold(text)
	if folded == "" || len(folded) > LongestID {
		return nil, false, nil
	}
	err = s.db.Read(ctx, func(q *db.Snapshot) error {
		for _, look := range []struct {
			kind string
			find func(only []string) ([]Hit, bool, error)
		}{
			{"app", func(only []string) ([]Hit, bool, error) { return findApps(ctx, q, folded, only, limit) }},
			{"entitlement", func(only []string) ([]Hit, bool, error) { return findEntitlements(ctx, q, folded, only, limit) }},
			{"account", func(only []string) ([]Hit, bool, error) { return findResources(ctx, q, folded, only, limit, true) }},
			{"resource", func(only []string) ([]Hit, bool, error) { return findResources(ctx, q, folded, only, limit, false) }},
		} {
			only, err := CanList(ctx, q, actor, identity.Read, identity.Object{Kind: look.kind})
			if fault.Is(err, fault.Forbidden) {
				continue
			}
			if err != nil {
				return err
			}
			found, some, err := look.find(only)
			if err != nil {
				return err
			}
			hits, partial = append(hits, found...), partial || some
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("search: %w", err)
	}
	people, some, err := s.people.FindPeople(ctx, actor, text, limit)
	if err != nil && !fault.Is(err, fault.Forbidden) {
		return nil, false, fmt.Errorf("search: %w", err)
	}
	for _, p := range people {
		hits = append(hits, Hit{Kind: HitPerson, ID: p.ID, Name: p.Name, Detail: p.Email})
	}
	return hits, partial || some, nil
}

// presentApps are those that weren't removed, or some of them.
func presentApps(ctx context.Context, q db.Querier, only []string) (map[string]string, []string, error) {
	f := filters{words: []string{present}}
	if only != nil {
		f.words = append(f.words, "id IN "+f.list(only))
	}
	called, order := map[string]string{}, []string(nil)
	return called, order, db.Each(ctx, q, func(row db.Scanner) error {
		var id, name string
		err := row.Scan(&id, &name)
		called[id], order = name, append(order, id)
		return err
	}, `SELECT id, name FROM app`+f.where()+` ORDER BY name_key`, f.args...)
}

func findApps(ctx context.Context, q db.Querier, text string, only []string, limit int) ([]Hit, bool, error) {
	f := filters{words: []string{present}}
	if only != nil {
		f.words = append(f.words, "id IN "+f.list(only))
	}
	f.add("name_key LIKE ? ESCAPE '!'", "%"+db.Escape(text)+"%")
	first := f.arg(db.Escape(text) + "%")
	list, err := db.All(ctx, q, scanApp, `SELECT `+appColumns+` FROM app`+f.where()+
		` ORDER BY CASE WHEN name_key LIKE `+first+` ESCAPE '!' THEN 0 ELSE 1 END, name_key LIMIT `+f.arg(limit), f.args...)
	hits := make([]Hit, len(list))
	for n, app := range list {
		hits[n] = Hit{Kind: HitApp, ID: app.ID, Name: app.Name, Detail: app.Description, AppID: app.ID, AppName: app.Name}
	}
	return hits, false, err
}

func findEntitlements(ctx context.Context, q db.Querier, text string, only []string, limit int) ([]Hit, bool, error) {
	called, apps, err := presentApps(ctx, q, only)
	if err != nil || len(apps) == 0 {
		return nil, false, err
	}
	s := source{from: `entitlement e`, key: entitlementKey, id: "e.id", text: "e.search"}
	for _, app := range apps {
		for _, purpose := range (EntitlementQuery{}).purposes() {
			s.arms = append(s.arms, `e.app_id = `+s.arg(app)+` AND e.purpose = `+s.arg(purpose))
		}
	}
	keys, partial, err := s.hits(ctx, q, text, limit, func(f *filters) string { return `e.app_id IN ` + f.list(apps) })
	if err != nil || len(keys) == 0 {
		return nil, partial, err
	}
	var f filters
	f.words = append(f.words, "e.id IN "+f.list(ids(keys)))
	list, err := db.All(ctx, q, scanEntitlement, entitlementQuery+f.where(), f.args...)
	var hits []Hit
	for _, e := range inOrder(keys, list, func(e Entitlement) string { return e.ID }) {
		hits = append(hits, Hit{Kind: HitEntitlement, ID: e.ID, Name: e.Name, Detail: e.ResourceName, AppID: e.AppID, AppName: called[e.AppID]})
	}
	return hits, partial, err
}

// findResources finds accounts, or resources that aren't.
func findResources(ctx context.Context, q db.Querier, text string, only []string, limit int, accounts bool) ([]Hit, bool, error) {
	called, apps, err := presentApps(ctx, q, only)
	if err != nil || len(apps) == 0 {
		return nil, false, err
	}
	kinds, err := kindsOf(ctx, q, apps...)
	if err != nil {
		return nil, false, err
	}
	var types []string
	s := ofTypes(kinds, func(k kind) bool {
		if k.user == accounts {
			types = append(types, k.id)
		}
		return k.user == accounts
	})
	if len(types) == 0 {
		return nil, false, nil
	}
	keys, partial, err := s.hits(ctx, q, text, limit, func(f *filters) string { return `r.app_id IN ` + f.list(apps) + ` AND r.type_id IN ` + f.list(types) })
	if err != nil || len(keys) == 0 {
		return nil, partial, err
	}
	var f filters
	f.words = append(f.words, "r.id IN "+f.list(ids(keys)))
	list, err := db.All(ctx, q, func(row db.Scanner) (h Hit, err error) {
		var typeName, email, login string
		err = row.Scan(&h.ID, &h.Name, &h.AppID, &typeName, &email, &login)
		h.Kind, h.Detail = HitResource, typeName
		if accounts {
			h.Kind, h.Detail = HitAccount, email
		}
		if h.Detail == "" {
			h.Detail = login
		}
		h.AppName = called[h.AppID]
		return h, err
	}, `SELECT r.id, r.name, r.app_id, t.name, COALESCE(a.email, ''), COALESCE(a.login, '') FROM resource r
		JOIN resource_type t ON t.id = r.type_id LEFT JOIN account a ON a.id = r.id`+f.where(), f.args...)
	return inOrder(keys, list, func(h Hit) string { return h.ID }), partial, err
}

// hits are the rows of a source that begin with a folded text, and, if those are too
// few, some that have it within. Those are looked for among the first rows of scope.
func (s source) hits(ctx context.Context, q db.Querier, text string, limit int, scope func(f *filters) string) (keys []Key, partial bool, err error) {
	looked := filters{}
	from := s.from + " WHERE " + scope(&looked)
	s.words = []string{s.begins(text)}
	list, err := s.spots(ctx, q, Key{}, limit)
	for _, at := range list {
		keys = append(keys, at.Key)
	}
	if err != nil || len(keys) == limit {
		return keys, false, err
	}
	all, err := looked.atMost(ctx, q, mostLooked, from)
	if err != nil {
		return nil, false, err
	}
	f := looked
	rows := `SELECT ` + s.key + ` AS k, ` + s.id + ` AS id, ` + s.text + ` AS text FROM ` + from + fmt.Sprintf(` LIMIT %d`, mostLooked)
	f.add(`text LIKE ? ESCAPE '!'`, "%"+db.Escape(text)+"%")
	f.add(`k NOT LIKE ? ESCAPE '!'`, db.Escape(text)+"%")
	more, err := db.All(ctx, q, func(row db.Scanner) (key Key, err error) { return key, row.Scan(&key.Name, &key.ID) },
		`SELECT k, id FROM (`+rows+`) AS looked`+f.where()+` ORDER BY k, id LIMIT `+f.arg(limit-len(keys)), f.args...)
	return append(keys, more...), !all, err
}
