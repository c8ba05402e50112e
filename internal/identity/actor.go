// Package identity knows who there is: people, the clients that connectors are,
// how these prove who they are, and who is signed in; and it says who may do what.
package identity

import (
	"context"
	"slices"

	"airlock/internal/audit"
	"airlock/internal/base/fault"
)

// Actor is whoever does something.
type Actor = audit.Actor

// The kinds of actor.
const (
	KindOperator  = "operator"  // who has the server's socket
	KindSystem    = "system"    // the server itself
	KindConnector = "connector" // a connector, by its client
	KindPerson    = "person"    // a person who is signed in
	KindVisitor   = "visitor"   // somebody who isn't, by their address; may nothing
)

// Operator is whoever uses the command line on the server's machine.
func Operator() Actor { return Actor{Kind: KindOperator, ID: KindOperator, Name: "operator"} }

// System is the server, when it acts by itself: schedules, retention, ingest.
func System() Actor { return Actor{Kind: KindSystem, ID: KindSystem, Name: "airlock"} }

// Connector is a connector that acts through its client.
func Connector(id, name string) Actor { return Actor{Kind: KindConnector, ID: id, Name: name} }

// PersonActor is a person who is signed in, with the roles they have now.
func PersonActor(id, name string, roles Roles) Actor {
	return Actor{Kind: KindPerson, ID: id, Name: name, Roles: uint16(roles | User)}
}

// RolesOf are the product roles of an actor; only a person has any.
func RolesOf(actor Actor) Roles {
	if actor.Kind != KindPerson || actor.ID == "" {
		return 0
	}
	return Roles(actor.Roles)
}

// Action is what an actor wants to do to an object.
type Action string

// The actions. Serve is what a connector does for itself: take its tasks, send
// their results.
const (
	Read   Action = "read"
	Manage Action = "manage"
	Change Action = "change access"
	Serve  Action = "serve"
)

// Object is what an action is done to, with what decides on it.
type Object struct {
	Kind      string   // app, connector, person, audit, …
	ID        string   // '' is all of the kind, or one that is yet to be
	AppID     string   // that it belongs to
	OwnerIDs  []string // people who own that app; those who matter here suffice
	SubjectID string   // the person whom it is about, or whose account it is
}

// kinds of object that are this package's own.
const (
	kindPerson  = "person"
	kindRole    = "role"
	kindSession = "session"
	kindSignIn  = "sign-in" // at a provider, its settings and whose it is
	kindLocal   = "password"
)

// rule says who of the people may do an action to an object of a kind.
type rule struct {
	kind   string
	action Action
	any    Roles // who has one of these may, whatever object it is
	owned  Roles // who has one of these may, if they own the object's app
	own    bool  // everybody may, if it is about themself
	others bool  // nobody may, if it is about themself: nobody decides on their own access
}

const readers = SuperAdmin | Auditor | ConnectorAdmin | CampaignAdmin

// rules are who may do what. What has no row, nobody may but the operator and the
// server itself.
var rules = []rule{
	// What there is.
	{kind: "app", action: Read, any: readers, owned: ApplicationAdmin},
	{kind: "resource", action: Read, any: readers, owned: ApplicationAdmin, own: true},
	{kind: "entitlement", action: Read, any: readers, owned: ApplicationAdmin},
	{kind: "account", action: Read, any: readers, owned: ApplicationAdmin, own: true},
	{kind: "grant", action: Read, any: readers, owned: ApplicationAdmin, own: true},
	{kind: "app", action: Manage, any: SuperAdmin | ConnectorAdmin, owned: ApplicationAdmin},
	{kind: "entitlement", action: Manage, any: SuperAdmin, owned: ApplicationAdmin},
	{kind: "account", action: Manage, any: SuperAdmin, owned: ApplicationAdmin, others: true},

	// Who may do what in them.
	{kind: "app", action: Change, any: SuperAdmin, owned: ApplicationAdmin, others: true},
	{kind: "connector", action: Change, any: SuperAdmin, owned: ApplicationAdmin, others: true},
	{kind: "change", action: Read, any: readers, owned: ApplicationAdmin, own: true},
	{kind: "change", action: Manage, any: SuperAdmin},

	// Where it comes from.
	{kind: "catalog", action: Read, any: SuperAdmin | Auditor | ConnectorAdmin},
	{kind: "connector", action: Read, any: readers, owned: ApplicationAdmin},
	{kind: "connector", action: Manage, any: SuperAdmin | ConnectorAdmin},

	// Who there is.
	{kind: kindPerson, action: Read, any: readers | ApplicationAdmin, own: true},
	{kind: kindPerson, action: Manage, any: SuperAdmin, others: true},
	{kind: kindRole, action: Read, any: SuperAdmin | Auditor, own: true},
	{kind: kindRole, action: Manage, any: SuperAdmin, others: true},
	{kind: kindSession, action: Read, any: SuperAdmin | Auditor, own: true},
	{kind: kindSession, action: Manage, any: SuperAdmin, own: true},
	{kind: kindSignIn, action: Read, any: SuperAdmin | Auditor, own: true},
	{kind: kindSignIn, action: Manage, any: SuperAdmin},
	{kind: kindLocal, action: Manage, own: true},

	// The server.
	{kind: "audit", action: Read, any: SuperAdmin | Auditor},
	{kind: "key", action: Manage, any: SuperAdmin},
	{kind: "backup", action: Read}, // it holds everything
}

// Can answers whether an actor may do something to an object: nil, or an error
// of kind Forbidden.
func Can(actor Actor, action Action, object Object) error {
	switch actor.Kind {
	case KindOperator, KindSystem:
		return nil
	case KindConnector:
		if action == Serve && object.Kind == "connector" && object.ID == actor.ID {
			return nil
		}
	case KindPerson:
		for _, r := range rules {
			if r.kind != object.Kind || r.action != action {
				continue
			}
			own := actor.ID != "" && object.SubjectID == actor.ID
			if own && r.others {
				return fault.New(fault.Forbidden, "nobody decides on their own access: somebody else must %s this %s", action, object.Kind)
			}
			roles := RolesOf(actor)
			if roles.Has(r.any) || own && r.own || roles.Has(r.owned) && slices.Contains(object.OwnerIDs, actor.ID) {
				return nil
			}
		}
	}
	return fault.New(fault.Forbidden, "%s %q may not %s this %s", actor.Kind, actor.Name, action, object.Kind)
}

// CanOwned is Can for an object whose app's owners have yet to be found. They are
// asked for only where it depends on them; those who matter to the actor suffice.
func CanOwned(ctx context.Context, actor Actor, action Action, object Object, owners func(ctx context.Context, appID string) ([]string, error)) error {
	err := Can(actor, action, object)
	if err == nil || object.AppID == "" || !RolesOf(actor).Has(ownerRoles) {
		return err
	}
	list, failed := owners(ctx, object.AppID)
	if failed != nil {
		return failed
	}
	object.OwnerIDs = list
	return Can(actor, action, object)
}

// ownerRoles are the roles that count for what one owns.
const ownerRoles = ApplicationAdmin

// OnlyOwned reports whether a list of objects of a kind may be read by an actor
// as far as it is of apps that they own, and no further.
func OnlyOwned(actor Actor, kind string) bool {
	return Can(actor, Read, Object{Kind: kind}) != nil && RolesOf(actor).Has(ownerRoles) &&
		slices.ContainsFunc(rules, func(r rule) bool { return r.kind == kind && r.action == Read && r.owned.Has(ownerRoles) })
}
