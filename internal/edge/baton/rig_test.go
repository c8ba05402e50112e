package baton

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	baton "github.com/conductorone/baton-sdk/pb/c1/connectorapi/baton/v1"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/job"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
	"airlock/internal/identity"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// rig is a Server with all that is below it.
type rig struct {
	*integration.Service
	t      testing.TB
	db     *db.DB
	clock  *clock.Fake
	people *identity.Service
	server *Server
	dial   func() (*grpc.ClientConn, error)
	dir    string
	jobs   *job.Queue

	ingested chan string // syncs that were to be ingested
}

func newRig(t testing.TB, d *db.DB) *rig {
	t.Helper()
	fake := clock.NewFake(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
	r := newRigAt(t, d, fake)
	r.clock = fake
	return r
}

// newRigAt is a rig with another clock.
func newRigAt(t testing.TB, d *db.DB, now clock.Clock) *rig {
	t.Helper()
	key, err := seal.NewKey()
	check(t, err)
	keys, err := seal.OpenKeyring("", key)
	check(t, err)
	r := &rig{t: t, db: d, dir: t.TempDir(), ingested: make(chan string, 100)}
	log := slog.New(slog.DiscardHandler)
	vault := seal.NewVault(d, keys, now)
	hub := live.New(d, log)
	check(t, hub.Start(t.Context()))
	t.Cleanup(hub.Stop)
	jobs, err := job.New(d, log)
	check(t, err)
	jobs.Handle("ingest", job.Options{}, func(_ context.Context, syncID string) error {
		r.ingested <- syncID
		return nil
	})
	records, err := audit.New(d, vault, now, audit.Options{})
	check(t, err)
	r.jobs = jobs
	r.people = identity.New(d, records, vault, hub, now)
	r.Service = integration.New(integration.Config{
		DB: d, Jobs: jobs, Live: hub, Audit: records, Vault: vault, Identity: r.people, Clock: now, Log: log, PublicHost: "airlock.example",
		Inventory: inventory.New(d, records, r.people, hub, now), Limits: integration.Limits{MaxUpload: 8 << 20},
	})
	r.server = New(Config{DB: d, Integration: r.Service, Identity: r.people, Log: log, TempDir: r.dir})
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(r.server.Options()...)
	r.server.Register(server)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		r.server.Stop()
		server.Stop()
	})
	r.dial = func() (*grpc.ClientConn, error) {
		return grpc.NewClient("passthrough:///door", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	}
	return r
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wants fails the test unless a call was refused with a code and some words.
func wants(t testing.TB, err error, code codes.Code, says string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), says) {
		t.Fatalf("the answer is %v, not %s with %q", err, code, says)
	}
}

// connector is a fake connector: the generated client with a real token.
type connector struct {
	baton.BatonServiceClient
	integration.Connector
	t     testing.TB
	host  string
	token string
}

// add adds a self-hosted connector, and connects as it.
func (r *rig) add(name string) *connector {
	r.t.Helper()
	c, credentials, err := r.Add(r.t.Context(), identity.Operator(), integration.AddConnector{Catalog: "bank", App: name})
	check(r.t, err)
	return r.connect(c, credentials, "a")
}

func (r *rig) connect(c integration.Connector, credentials integration.Credentials, host string) *connector {
	r.t.Helper()
	conn, err := r.dial()
	check(r.t, err)
	r.t.Cleanup(func() { _ = conn.Close() })
	return &connector{BatonServiceClient: baton.NewBatonServiceClient(conn), Connector: c, t: r.t, host: host, token: r.exchange(credentials)}
}

// exchange gets a token as the SDK does.
func (r *rig) exchange(credentials integration.Credentials) string {
	r.t.Helper()
	parts := strings.Split(credentials.ClientSecret, ":")
	text, err := base64.RawURLEncoding.DecodeString(parts[3])
	check(r.t, err)
	var key jose.JSONWebKey
	check(r.t, key.UnmarshalJSON(text))
	nonce := make([]byte, 16)
	_, err = rand.Read(nonce)
	check(r.t, err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key.Key.(ed25519.PrivateKey)},
		(&jose.SignerOptions{}).WithHeader("nonce", hex.EncodeToString(nonce)))
	check(r.t, err)
	now := r.clock.Now()
	assertion, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: credentials.ClientID, Subject: credentials.ClientID, Audience: jwt.Audience{"airlock.example"},
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(2 * time.Minute)),
	}).Serialize()
	check(r.t, err)
	token, err := r.people.Exchange(r.t.Context(), identity.TokenRequest{
		ClientID: credentials.ClientID, GrantType: identity.GrantClientCredentials, AssertionType: identity.AssertionJWT, Assertion: assertion,
	})
	check(r.t, err)
	return token.Access
}

// ctx carries the connector's token.
func (c *connector) ctx() context.Context {
	return metadata.AppendToOutgoingContext(c.t.Context(), "authorization", "Bearer "+c.token)
}

func (c *connector) hello() {
	c.t.Helper()
	_, err := c.Hello(c.ctx(), baton.BatonServiceHelloRequest_builder{HostId: c.host, ConnectorMetadata: v2.ConnectorMetadata_builder{DisplayName: "Bank", HelpUrl: "http://no-tls.example"}.Build()}.Build())
	check(c.t, err)
}

// take asks for work and waits until there is some.
func (c *connector) take() *baton.Task {
	c.t.Helper()
	answer, err := c.GetTask(c.ctx(), baton.BatonServiceGetTaskRequest_builder{HostId: c.host}.Build())
	check(c.t, err)
	if answer.GetTask() == nil {
		c.t.Fatal("there is no task")
	}
	if answer.GetNextPoll().AsDuration() != 0 {
		c.t.Errorf("after a task it is to wait %s", answer.GetNextPoll().AsDuration())
	}
	return answer.GetTask()
}

func (c *connector) finish(taskID string) error {
	_, err := c.FinishTask(c.ctx(), baton.BatonServiceFinishTaskRequest_builder{HostId: c.host, TaskId: taskID, Success: &baton.BatonServiceFinishTaskRequest_Success{}}.Build())
	return err
}

// grant queues a grant for a connector.
func (r *rig) grant(c *connector) (taskID string) {
	r.t.Helper()
	err := r.db.Write(r.t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		taskID, err = r.AddTask(ctx, tx, identity.Operator(), integration.TaskSpec{ConnectorID: c.ID, Request: integration.Grant{}})
		return err
	})
	check(r.t, err)
	return taskID
}

// empty fails the test if an upload left something on the disk.
func (r *rig) empty() {
	r.t.Helper()
	list, err := os.ReadDir(r.dir)
	check(r.t, err)
	if len(list) > 0 {
		r.t.Errorf("left on the disk: %v", list)
	}
}
