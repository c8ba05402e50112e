package web

import (
	"context"
	"strings"

	"airlock/internal/audit"
	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// mayHear says whether an actor may be told of a topic: whether they may read
// what it is about.
func (s *Server) mayHear(ctx context.Context, actor identity.Actor, topic string) error {
	kind, id, _ := strings.Cut(topic, "/")
	switch {
	case topic == identity.TopicPeople:
		return identity.Can(actor, identity.Read, identity.Object{Kind: "person"})
	case topic == audit.Topic, topic == audit.TopicVerify:
		return identity.Can(actor, identity.Read, identity.Object{Kind: "audit"})
	case topic == integration.HostedTopic:
		_, err := inventory.CanList(ctx, s.DB, actor, identity.Read, identity.Object{Kind: "connector"})
		return err
	case id == "":
	case kind == "connector":
		_, err := s.Integration.Find(ctx, actor, id)
		return err
	case kind == "sync":
		sync, err := s.Integration.SyncByID(ctx, s.DB, id)
		if err != nil {
			return err
		}
		return inventory.Can(ctx, s.DB, actor, identity.Read, identity.Object{Kind: "connector", ID: sync.ConnectorID, AppID: sync.AppID})
	case kind == "app":
		return inventory.Can(ctx, s.DB, actor, identity.Read, identity.Object{Kind: "app", ID: id, AppID: id})
	case kind == "change":
		_, err := s.Provision.ByID(ctx, actor, id)
		return err
	}
	return fault.New(fault.Forbidden, "nobody is told of %q here", topic)
}

// counts are what waits behind the entries of the navigation.
func (s *Server) counts(ctx context.Context, actor identity.Actor) map[string]string {
	if identity.Can(actor, identity.Read, identity.Object{Kind: "connector"}) != nil {
		return nil
	}
	all, err := s.Integration.Counts(ctx)
	if err != nil {
		s.Log.WarnContext(ctx, "the navigation has no counts", "error", err)
		return nil
	}
	var wrong int64
	for kind, n := range all.Connectors {
		if kind != "" {
			wrong += n
		}
	}
	if wrong == 0 {
		return nil
	}
	return map[string]string{integrations: view.Count(wrong, "error")}
}
