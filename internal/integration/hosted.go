package integration

import (
	"context"
	"slices"
	"time"

	"airlock/internal/base/db"
)

// HostedConnector is a connector that is to be run here. Settings hold its secrets.
type HostedConnector struct {
	ID         string
	Name       string
	Catalog    string
	Settings   map[string]string
	SettingsAt time.Time
}

// Hosted are the connectors that are to be run here, paused ones too: changes of
// access go through them. One that has no settings yet isn't.
func (s *Service) Hosted(ctx context.Context) ([]HostedConnector, error) {
	list, err := hostedConnectors(ctx, s.db)
	if err != nil {
		return nil, err
	}
	var out []HostedConnector
	for _, c := range list {
		if c.Unset() {
			continue
		}
		settings, err := s.settings(ctx, s.db, c)
		if err != nil {
			return nil, err
		}
		out = append(out, HostedConnector{ID: c.ID, Name: c.Name, Catalog: c.Catalog, Settings: settings, SettingsAt: c.SettingsAt})
	}
	return out, nil
}

// HostedTopic is told of when what is to be run here changes.
const HostedTopic = "connectors"

// hostedChanged wakes whoever runs hosted connectors.
func (s *Service) hostedChanged(ctx context.Context, tx *db.Tx, c Connector) error {
	if !c.Hosted {
		return nil
	}
	return s.live.Publish(ctx, tx, HostedTopic)
}

// ReportProblem says what whoever hosts a connector finds wrong with it; the zero
// Problem says that it runs. It stands until the connector says Hello.
func (s *Service) ReportProblem(ctx context.Context, connectorID string, p Problem) error {
	_, err := s.change(ctx, connectorID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		if p.Kind == "" {
			if slices.Contains(clearedByHello, c.Problem.Kind) {
				c.Problem = Problem{}
			}
			return nil
		}
		return s.blame(ctx, tx, c, p)
	})
	return err
}
