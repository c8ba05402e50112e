// Command baton-airflow is the Baton connector for Apache Airflow.
package main

import (
	"context"
	_ "time/tzdata" // the image has no zones, and airflow-time-zone names one

	"github.com/conductorone/baton-sdk/pkg/config"
	"github.com/conductorone/baton-sdk/pkg/connectorrunner"

	"airlock/connector"
	cfg "airlock/connector/config"
)

// version is set by the linker.
var version = "dev"

func main() {
	config.RunConnector(context.Background(), "baton-airflow", version, cfg.Config, connector.New,
		connectorrunner.WithSessionStoreEnabled(),
		connectorrunner.WithDefaultCapabilitiesConnectorBuilderV2(&connector.Connector{}),
	)
}
