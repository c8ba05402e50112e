package inventory

import (
	"context"
	"fmt"
	"slices"

	"airlock/internal/base/db"
	"airlock/internal/identity"
)

// Holders lists who holds an entitlement, directly or by way of others, by name,
// after a key.
func (s *Service) Holders(ctx context.Context, actor identity.Actor, entitlementID string, after Key, limit int) ([]Grant, error) {
	var list []Grant
	err := s.db.Read(ctx, func(q *db.Snapshot) error {
		entitlement, err := s.EntitlementByID(ctx, q, entitlementID)
		if err != nil {
			return err
		}
		if err := Can(ctx, q, actor, identity.Read, identity.Object{Kind: "entitlement", ID: entitlementID, AppID: entitlement.AppID}); err != nil {
			return err
		}
		ways, err := edgesTo(ctx, q, entitlement.AppID, entitlementID)
		if err != nil {
			return err
		}
		if list, err = holders(ctx, q, entitlement, after, limit); err != nil || len(ways.edges) == 0 {
			return err
		}
		held, err := heldOf(ctx, q, list, ways)
		if err != nil {
			return err
		}
		for n := range list {
			g := &list[n]
			if !g.Direct {
				g.Path = ways.walk(held[g.PrincipalID].entitlements, held[g.PrincipalID].typeID).path(entitlementID)
			}
		}
		return nil
	})
	return list, err
}

// Access lists what a principal holds, directly or by way of others, by the
// entitlement's name, after a key. Everybody may list what their own accounts hold.
func (s *Service) Access(ctx context.Context, actor identity.Actor, principalID string, after Key, limit int) ([]Grant, error) {
	var list []Grant
	err := s.db.Read(ctx, func(q *db.Snapshot) error {
		principal, err := s.ResourceByID(ctx, q, principalID)
		if err != nil {
			return err
		}
		subject, err := s.PersonOf(ctx, q, principalID)
		if err != nil {
			return err
		}
		if err := Can(ctx, q, actor, identity.Read, identity.Object{Kind: "resource", ID: principalID, AppID: principal.AppID, SubjectID: subject}); err != nil {
			return err
		}
		if list, err = access(ctx, q, principal, after, limit); err != nil {
			return err
		}
		if !slices.ContainsFunc(list, func(g Grant) bool { return !g.Direct }) {
			return nil
		}
		direct, err := db.All(ctx, q, scanText, `SELECT entitlement_id FROM access_grant WHERE app_id = $1 AND principal_id = $2`, principal.AppID, principalID)
		if err != nil {
			return err
		}
		ways, err := edgesFrom(ctx, q, principal)
		if err != nil {
			return err
		}
		walked := ways.walk(direct, principal.TypeID)
		for n := range list {
			if !list[n].Direct {
				list[n].Path = walked.path(list[n].EntitlementID)
			}
		}
		return nil
	})
	return list, err
}

// graph is a part of an app's edges, by the entitlement that gives.
type graph struct {
	edges map[string][]Edge
	steps map[string]Step
}

// walked is what a principal comes to hold: each entitlement, and which gave it
// ("" for what it holds directly).
type walked struct {
	steps map[string]Step
	from  map[string]string
	order []string
}

// walk goes from what a principal of a type holds directly to all that this
// gives, nearest first. Circles end where they began.
func (g graph) walk(direct []string, typeID string) walked {
	w := walked{steps: g.steps, from: make(map[string]string, len(direct))}
	for _, one := range direct {
		if _, seen := w.from[one]; !seen {
			w.from[one], w.order = "", append(w.order, one)
		}
	}
	for n := 0; n < len(w.order); n++ {
		here := w.order[n]
		for _, e := range g.edges[here] {
			if e.Shallow && w.from[here] != "" || e.TypeID != "" && e.TypeID != typeID {
				continue
			}
			if _, seen := w.from[e.TargetID]; !seen {
				w.from[e.TargetID], w.order = here, append(w.order, e.TargetID)
			}
		}
	}
	return w
}

// path is the way to an entitlement, from what is held directly.
func (w walked) path(entitlementID string) []Step {
	var steps []Step
	for at := w.from[entitlementID]; at != ""; at = w.from[at] {
		step := w.steps[at]
		step.EntitlementID = at
		steps = append(steps, step)
	}
	slices.Reverse(steps)
	return steps
}

// The entitlements that give one, for principals of each type: open are those
// whose holders hold it in whatever way they do, the others only direct holders.
const reachBack = `WITH RECURSIVE reach (entitlement_id, type_id, open) AS (
	SELECT e.id, t.id, TRUE FROM entitlement e JOIN resource_type t ON t.app_id = e.app_id WHERE e.id = $1
	UNION
	SELECT x.source_id, r.type_id, x.shallow = FALSE FROM reach r JOIN expansion x ON x.target_id = r.entitlement_id
	WHERE r.open = TRUE AND (x.type_id = '' OR x.type_id = r.type_id))`

// What a principal holds, directly and by way of that.
const reachForth = `WITH RECURSIVE reach (entitlement_id, direct) AS (
	SELECT g.entitlement_id, TRUE FROM access_grant g WHERE g.app_id = $3 AND g.principal_id = $1
	UNION
	SELECT x.target_id, FALSE FROM reach r JOIN expansion x ON x.source_id = r.entitlement_id
	WHERE (r.direct = TRUE OR x.shallow = FALSE) AND (x.type_id = '' OR x.type_id = $2))`

const edgeColumns = `x.target_id, x.principal_id, x.source_id, x.type_id, x.shallow, e.external_id, e.name`

func scanGraph(ctx context.Context, q db.Querier, query string, args ...any) (graph, error) {
	g := graph{edges: map[string][]Edge{}, steps: map[string]Step{}}
	err := db.Each(ctx, q, func(row db.Scanner) error {
		var e Edge
		var step Step
		if err := row.Scan(&e.TargetID, &e.PrincipalID, &e.SourceID, &e.TypeID, &e.Shallow, &step.ExternalID, &step.Name); err != nil {
			return err
		}
		g.edges[e.SourceID] = append(g.edges[e.SourceID], e)
		g.steps[e.SourceID] = step
		return nil
	}, query, args...)
	return g, err
}

func edgesTo(ctx context.Context, q db.Querier, appID, entitlementID string) (graph, error) {
	return scanGraph(ctx, q, reachBack+` SELECT `+edgeColumns+` FROM expansion x JOIN entitlement e ON e.id = x.source_id
		WHERE x.app_id = $2 AND x.target_id IN (SELECT entitlement_id FROM reach WHERE open = TRUE)`, entitlementID, appID)
}

func edgesFrom(ctx context.Context, q db.Querier, principal Resource) (graph, error) {
	return scanGraph(ctx, q, reachForth+` SELECT `+edgeColumns+` FROM expansion x JOIN entitlement e ON e.id = x.source_id
		WHERE x.source_id IN (SELECT entitlement_id FROM reach)`, principal.ID, principal.TypeID, principal.AppID)
}

const personColumns = `a.id IS NOT NULL, COALESCE(p.id, ''), COALESCE(p.name, ''), COALESCE(p.email, '')`

func holders(ctx context.Context, q db.Querier, e Entitlement, after Key, limit int) ([]Grant, error) {
	f := filters{args: []any{e.ID, e.AppID}}
	f.after("r.name, r.id", after)
	f.args = append(f.args, limit)
	return db.All(ctx, q, func(row db.Scanner) (Grant, error) {
		g := Grant{AppID: e.AppID, EntitlementID: e.ID, Entitlement: e.ExternalID, EntitlementName: e.Name}
		var flags int64
		err := row.Scan(&g.PrincipalID, &g.Principal, &g.PrincipalName, &g.Direct, &g.ExternalID, &flags, db.Time(&g.Since), &g.SyncID,
			&g.Account, &g.PersonID, &g.PersonName, &g.PersonEmail)
		g.Immutable = flags&FlagImmutable != 0
		return g, err
	}, reachBack+`, held (principal_id) AS (
			SELECT DISTINCT g.principal_id FROM reach JOIN access_grant g ON g.app_id = $2 AND g.entitlement_id = reach.entitlement_id
			JOIN resource r ON r.id = g.principal_id AND r.type_id = reach.type_id)
		SELECT r.id, t.external_id || ':' || r.external_id, r.name, g.since IS NOT NULL, COALESCE(g.external_id, ''), COALESCE(g.flags, 0), g.since, COALESCE(g.sync_id, ''), `+personColumns+`
		FROM held JOIN resource r ON r.id = held.principal_id JOIN resource_type t ON t.id = r.type_id
		LEFT JOIN access_grant g ON g.app_id = $2 AND g.entitlement_id = $1 AND g.principal_id = r.id
		LEFT JOIN account a ON a.id = r.id LEFT JOIN person p ON p.id = a.person_id`+f.where()+
		fmt.Sprintf(` ORDER BY r.name, r.id LIMIT $%d`, len(f.args)), f.args...)
}

func access(ctx context.Context, q db.Querier, principal Resource, after Key, limit int) ([]Grant, error) {
	f := filters{args: []any{principal.ID, principal.TypeID, principal.AppID}}
	f.after("e.name, e.id", after)
	f.args = append(f.args, limit)
	return db.All(ctx, q, func(row db.Scanner) (Grant, error) {
		g := Grant{AppID: principal.AppID, PrincipalID: principal.ID, Principal: principal.Type + ":" + principal.ExternalID, PrincipalName: principal.Name}
		var flags int64
		err := row.Scan(&g.EntitlementID, &g.Entitlement, &g.EntitlementName, &g.Direct, &g.ExternalID, &flags, db.Time(&g.Since), &g.SyncID,
			&g.Account, &g.PersonID, &g.PersonName, &g.PersonEmail)
		g.Immutable = flags&FlagImmutable != 0
		return g, err
	}, reachForth+`, held (entitlement_id) AS (SELECT DISTINCT entitlement_id FROM reach)
		SELECT e.id, e.external_id, e.name, g.since IS NOT NULL, COALESCE(g.external_id, ''), COALESCE(g.flags, 0), g.since, COALESCE(g.sync_id, ''), `+personColumns+`
		FROM held JOIN entitlement e ON e.id = held.entitlement_id
		LEFT JOIN access_grant g ON g.app_id = $3 AND g.entitlement_id = e.id AND g.principal_id = $1
		LEFT JOIN account a ON a.id = $1 LEFT JOIN person p ON p.id = a.person_id`+f.where()+
		fmt.Sprintf(` ORDER BY e.name, e.id LIMIT $%d`, len(f.args)), f.args...)
}

// holding is what a principal holds directly, of what a graph's edges begin at.
type holding struct {
	typeID       string
	entitlements []string
}

func heldOf(ctx context.Context, q db.Querier, list []Grant, ways graph) (map[string]holding, error) {
	held := map[string]holding{}
	for chunk := range slices.Chunk(list, 500) {
		args := make([]any, len(chunk))
		for n, g := range chunk {
			args[n] = g.PrincipalID
		}
		err := db.Each(ctx, q, func(row db.Scanner) error {
			var principalID, typeID, entitlementID string
			if err := row.Scan(&principalID, &typeID, &entitlementID); err != nil {
				return err
			}
			if _, gives := ways.edges[entitlementID]; gives {
				held[principalID] = holding{typeID, append(held[principalID].entitlements, entitlementID)}
			}
			return nil
		}, `SELECT r.id, r.type_id, g.entitlement_id FROM resource r JOIN access_grant g ON g.principal_id = r.id
			WHERE r.id IN `+db.In(1, len(chunk))+` ORDER BY g.entitlement_id`, args...)
		if err != nil {
			return nil, err
		}
	}
	return held, nil
}
