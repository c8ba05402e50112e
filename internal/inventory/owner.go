package inventory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

// owns finds the apps that a person owns: that name them, or an entitlement that an
// account of theirs holds, directly or by way of others.
const owns = `WITH RECURSIVE reach (app_id, entitlement_id, type_id, open) AS (
	SELECT o.app_id, e.id, t.id, TRUE FROM app_owner o JOIN entitlement e ON e.id = o.owner_id JOIN resource_type t ON t.app_id = e.app_id
		WHERE o.kind = 'entitlement' AND ($2 = '' OR o.app_id = $2)
	UNION
	SELECT r.app_id, x.source_id, r.type_id, x.shallow = FALSE FROM reach r JOIN expansion x ON x.target_id = r.entitlement_id
		WHERE r.open = TRUE AND (x.type_id = '' OR x.type_id = r.type_id))
	SELECT app_id FROM app_owner WHERE kind = 'person' AND owner_id = $1 AND ($2 = '' OR app_id = $2)
	UNION
	SELECT h.app_id FROM account a JOIN resource p ON p.id = a.id JOIN access_grant g ON g.principal_id = a.id
		JOIN reach h ON h.entitlement_id = g.entitlement_id AND h.type_id = p.type_id WHERE a.person_id = $1`

// OwnersFor finds the owners of an app, as identity.CanOwned asks for them: as far
// as they matter to an actor, who is one of them or isn't.
func OwnersFor(q db.Querier, actor identity.Actor) func(ctx context.Context, appID string) ([]string, error) {
	return func(ctx context.Context, appID string) ([]string, error) {
		if actor.Kind != identity.KindPerson || actor.ID == "" {
			return nil, nil
		}
		list, err := db.All(ctx, q, scanText, owns, actor.ID, appID)
		if err != nil {
			return nil, fmt.Errorf("find the owners of an app: %w", err)
		}
		if len(list) == 0 {
			return nil, nil
		}
		return []string{actor.ID}, nil
	}
}

// Owned are the apps that an actor owns, for lists that identity.OnlyOwned limits
// to them.
func Owned(ctx context.Context, q db.Querier, actor identity.Actor) ([]string, error) {
	if actor.Kind != identity.KindPerson || actor.ID == "" {
		return nil, nil
	}
	list, err := db.All(ctx, q, scanText, owns, actor.ID, "")
	if err != nil {
		return nil, fmt.Errorf("find the apps that %s owns: %w", actor.Name, err)
	}
	return list, nil
}

// Can is identity.Can for an object of an app, whose owners it asks for where it
// depends on them.
func Can(ctx context.Context, q db.Querier, actor identity.Actor, action identity.Action, object identity.Object) error {
	return identity.CanOwned(ctx, actor, action, object, OwnersFor(q, actor))
}

// CanList is Can for a list, which may be of all apps: only are the apps that it is
// limited to then; nil are all.
func CanList(ctx context.Context, q db.Querier, actor identity.Actor, action identity.Action, object identity.Object) (only []string, err error) {
	if object.AppID != "" || object.SubjectID == actor.ID || !identity.OnlyOwned(actor, object.Kind) {
		return nil, Can(ctx, q, actor, action, object)
	}
	only, err = Owned(ctx, q, actor)
	if only == nil {
		only = []string{} // none isn't all
	}
	return only, err
}

// CanChange is Can for a change of what a principal of an app holds. Nobody changes
// their own access by any path: of their account, or of what they are in.
// Whoever may do so as the app's owner alone may not where nobody knows whose an
// account is: it could be their own.
func CanChange(ctx context.Context, q db.Querier, actor identity.Actor, action identity.Action, object identity.Object, principalID string) error {
	if actor.Kind != identity.KindPerson {
		return identity.Can(actor, action, object)
	}
	subject, unmatched, err := subjectOf(ctx, q, actor, principalID)
	if err != nil {
		return err
	}
	object.SubjectID = subject
	if err := Can(ctx, q, actor, action, object); err != nil {
		return err
	}
	if unmatched && identity.Can(actor, action, object) != nil {
		return fault.New(fault.Forbidden, "nobody knows whose the account is, and it could be your own: have it matched to a person first, or ask a Super Admin; nothing was changed")
	}
	return nil
}

// CanChangeNamed is CanChange for a principal by the external ids of its type and
// itself. One that isn't known could be anybody's.
func CanChangeNamed(ctx context.Context, q db.Querier, actor identity.Actor, action identity.Action, object identity.Object, resourceType, resource string) error {
	if actor.Kind != identity.KindPerson {
		return identity.Can(actor, action, object)
	}
	principalID, err := none(db.Value[string](ctx, q, `SELECT r.id FROM resource r JOIN resource_type t ON t.id = r.type_id
		WHERE r.app_id = $1 AND t.app_id = $1 AND t.external_id = $2 AND r.external_id = $3`, object.AppID, resourceType, resource))
	if err != nil {
		return fmt.Errorf("find whose access it is: %w", err)
	}
	return CanChange(ctx, q, actor, action, object, principalID)
}

// PersonOf is the person whose account a resource is; "" if it is none, or nobody's.
func (s *Service) PersonOf(ctx context.Context, q db.Querier, resourceID string) (string, error) {
	return none(db.Value[string](ctx, q, `SELECT person_id FROM account WHERE id = $1`, resourceID))
}

// subjectOf is whom a principal's access is about: the person whose account it is,
// or the actor, if they hold an entitlement of it, such as a group's. Unmatched says
// that it is an account of nobody's, or isn't known.
func subjectOf(ctx context.Context, q db.Querier, actor identity.Actor, principalID string) (personID string, unmatched bool, err error) {
	var account, member bool
	_, err = db.One(ctx, q, func(row db.Scanner) (struct{}, error) { return struct{}{}, row.Scan(&account, &personID) },
		`SELECT a.id IS NOT NULL, COALESCE(a.person_id, '') FROM resource r LEFT JOIN account a ON a.id = r.id WHERE r.id = $1`, principalID)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", true, nil
	case err == nil && !account:
		if member, err = memberOf(ctx, q, actor.ID, principalID); member {
			personID = actor.ID
		}
	}
	if err != nil {
		return "", false, fmt.Errorf("find whose access it is: %w", err)
	}
	return personID, account && personID == "", nil
}

// memberOf reports whether a person's account holds an entitlement of a resource,
// directly or by way of others.
func memberOf(ctx context.Context, q db.Querier, personID, resourceID string) (bool, error) {
	return db.Value[bool](ctx, q, `WITH RECURSIVE reach (entitlement_id, type_id, open) AS (
		SELECT e.id, t.id, TRUE FROM entitlement e JOIN resource_type t ON t.app_id = e.app_id WHERE e.resource_id = $2
		UNION
		SELECT x.source_id, r.type_id, x.shallow = FALSE FROM reach r JOIN expansion x ON x.target_id = r.entitlement_id
		WHERE r.open = TRUE AND (x.type_id = '' OR x.type_id = r.type_id))
		SELECT EXISTS (SELECT 1 FROM account a JOIN resource p ON p.id = a.id JOIN access_grant g ON g.principal_id = a.id
			JOIN reach h ON h.entitlement_id = g.entitlement_id AND h.type_id = p.type_id WHERE a.person_id = $1)`, personID, resourceID)
}
