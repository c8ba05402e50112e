// Package identity knows who there is: people, the clients that connectors are,
// and how these prove who they are; and it says who may do what.
package identity

import (
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
)

// Operator is whoever uses the command line on the server's machine.
func Operator() Actor { return Actor{Kind: KindOperator, ID: KindOperator, Name: "operator"} }

// System is the server, when it acts by itself: schedules, retention, ingest.
func System() Actor { return Actor{Kind: KindSystem, ID: KindSystem, Name: "airlock"} }

// Connector is a connector that acts through its client.
func Connector(id, name string) Actor { return Actor{Kind: KindConnector, ID: id, Name: name} }

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
	Kind  string // app, connector, person, audit, …
	ID    string
	AppID string
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
	}
	return fault.New(fault.Forbidden, "%s %q may not %s this %s", actor.Kind, actor.Name, action, object.Kind)
}
