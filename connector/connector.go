// Package connector is the Baton side of baton-airflow: it shows an Airflow's
// users, roles and permissions to a Baton control plane and carries out the
// changes that one asks for. What it knows of Airflow is in package airflow.
//
// Ids are an API for ever: a user's id is the username as Airflow spells it, a
// role's is its name, a DAG's its dag_id, another resource's the name FAB gives
// it. Entitlements are role:Op:assigned, dag:payroll:can_edit,
// dag:payroll:run.can_create and resource:Connections:can_read.
package connector

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
	_ "time/tzdata" // airflow-time-zone must be known in an image without the system's zones too

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/annotations"
	"github.com/conductorone/baton-sdk/pkg/cli"
	"github.com/conductorone/baton-sdk/pkg/connectorbuilder"
	"github.com/conductorone/baton-sdk/pkg/uhttp"
	"github.com/grpc-ecosystem/go-grpc-middleware/logging/zap/ctxzap"
	"go.uber.org/zap"

	"airlock/airflow"
	"airlock/connector/config"
)

// Connector is one Airflow, as Baton sees it. Its zero value tells its
// capabilities and nothing else.
type Connector struct {
	airflow *airflow.Client
	// username is the account the connector works as; "" with a token of unknown owner.
	username    string
	defaultRole string
	// skipPermissions leaves out the resource types dag and resource.
	skipPermissions bool

	users *pages[airflow.User, member]
	roles *pages[airflow.Role, rolePermissions]
	dags  *pages[airflow.DAG, string]

	// guarded is held while something is changed that may take the last admin, or
	// the connector's own rights: what was found before must hold until it is done.
	guarded sync.Mutex
}

// New makes the connector from its settings. It sends nothing to Airflow.
func New(ctx context.Context, cfg *config.Airflow, _ *cli.ConnectorOpts) (connectorbuilder.ConnectorBuilderV2, []connectorbuilder.Opt, error) {
	log := ctxzap.Extract(ctx)
	zone, err := time.LoadLocation(cfg.AirflowTimeZone)
	if err != nil {
		return nil, nil, fmt.Errorf("airflow-time-zone %q is no zone of the IANA database, give one such as Europe/Vienna: %w", cfg.AirflowTimeZone, err)
	}
	client, err := httpClient(ctx, cfg.AirflowCaCert)
	if err != nil {
		return nil, nil, err
	}
	af, err := airflow.New(airflow.Config{
		BaseURL: cfg.AirflowBaseUrl, Username: cfg.AirflowUsername, Password: cfg.AirflowPassword, Token: cfg.AirflowToken,
		HTTP: client, Zone: zone,
	})
	if err != nil {
		return nil, nil, err
	}
	if af.Insecure() {
		log.Warn("the Airflow base URL is http: passwords and tokens travel unencrypted", zap.String("base_url", af.BaseURL()))
	}
	return newConnector(af, cfg.AirflowUsername, cfg.DefaultRole, cfg.SyncPermissions), nil, nil
}

func newConnector(af *airflow.Client, username, defaultRole string, permissions bool) *Connector {
	c := &Connector{airflow: af, username: username, defaultRole: defaultRole, skipPermissions: !permissions}
	c.users = &pages[airflow.User, member]{name: "users", read: af.UsersPage, keep: keepMember, atOnce: 500}
	c.roles = &pages[airflow.Role, rolePermissions]{name: "roles", read: af.RolesPage, keep: keepRole}
	c.dags = &pages[airflow.DAG, string]{name: "dags", read: c.dagsPage, keep: func(d airflow.DAG) string { return d.ID }}
	return c
}

// httpClient is the SDK's, which honours the proxy environment, with the CA's
// certificates beside the system's.
func httpClient(ctx context.Context, ca []byte) (*http.Client, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(ca) > 0 {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(ca) {
			return nil, errors.New("airflow-ca-cert holds no PEM certificate: give the file with the certificate of the CA that signed Airflow's")
		}
		tlsConfig.RootCAs = roots
	}
	client, err := uhttp.NewClient(ctx, uhttp.WithLogger(true, ctxzap.Extract(ctx)), uhttp.WithTLSClientConfig(tlsConfig), uhttp.WithUserAgent("baton-airflow"))
	if err != nil {
		return nil, fmt.Errorf("make the HTTP client: %w", err)
	}
	return client, nil
}

// ResourceSyncers are the resource types there are.
func (c *Connector) ResourceSyncers(context.Context) []connectorbuilder.ResourceSyncerV2 {
	syncers := []connectorbuilder.ResourceSyncerV2{instance{Connector: c}, user{Connector: c}, role{c}}
	if !c.skipPermissions {
		syncers = append(syncers, dag{c}, resource{c})
	}
	return syncers
}

// Metadata says what the connector is and what a new account needs.
func (c *Connector) Metadata(context.Context) (*v2.ConnectorMetadata, error) {
	return v2.ConnectorMetadata_builder{
		DisplayName:           "Apache Airflow",
		Description:           "Users, roles and permissions of an Apache Airflow with the FAB auth manager",
		AccountCreationSchema: accountSchema(c.defaultRole),
	}.Build(), nil
}

// Validate makes sure that what answers is an Airflow this connector can read,
// and that the account may do what reading needs. It tells apart a wrong
// address, a wrong password, another auth manager, a basic backend that is off,
// and each missing permission. It costs five requests for an account with one
// role whose name is known, and a sign-in where there is no token yet.
func (c *Connector) Validate(ctx context.Context) (annotations.Annotations, error) {
	c.airflow.Rediscover()
	server, err := c.airflow.Server(ctx)
	if err != nil {
		return nil, grpcError(c.airflow.Diagnose(ctx, err))
	}
	rights, err := c.ownRights(ctx)
	if err != nil {
		return nil, grpcError(c.airflow.Diagnose(ctx, err))
	}
	if err := rights.missing(c.needed()); err != nil {
		return nil, grpcError(err)
	}
	if unable := rights.lacks(provisioning); len(unable) > 0 {
		ctxzap.Extract(ctx).Info("the account can't do all that provisioning may ask for", zap.Stringers("lacks", unable))
	}
	ctxzap.Extract(ctx).Info("connected to "+server.String(), zap.String("base_url", c.airflow.BaseURL()))
	return nil, nil
}
