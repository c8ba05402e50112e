package connector

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/annotations"
	"github.com/conductorone/baton-sdk/pkg/connectorbuilder"
	"github.com/conductorone/baton-sdk/pkg/connectorclient"
	batonsync "github.com/conductorone/baton-sdk/pkg/sync"
	"github.com/conductorone/baton-sdk/pkg/types"
	"github.com/conductorone/baton-sdk/pkg/types/sessions"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"airlock/airflow"
	"airlock/airflow/airflowtest"
	"airlock/connector/config"
	"airlock/connector/connectortest"
)

// rig is the connector at work on an in-memory Airflow, reached by gRPC as the
// SDK reaches it.
type rig struct {
	srv *airflowtest.Server
	*Connector
	types.ConnectorClient
	session *memory
}

// withCompany is an Airflow with the company in it.
func withCompany(t *testing.T, opts airflowtest.Options) *airflowtest.Server {
	t.Helper()
	srv := airflowtest.Start(t, opts)
	srv.Load(airflowtest.Company())
	return srv
}

// settings are the connector's, for the company's least-privilege account where
// that is there, else for the admin.
func settings(srv *airflowtest.Server) *config.Airflow {
	cfg := &config.Airflow{AirflowBaseUrl: srv.URL, DefaultRole: "Viewer", SyncPermissions: true}
	u, found := srv.User("airlock")
	if !found {
		u, _ = srv.User("admin")
	}
	cfg.AirflowUsername, cfg.AirflowPassword = u.Username, u.Password
	return cfg
}

// newRig starts the connector with its usual settings, changed by change.
func newRig(t *testing.T, srv *airflowtest.Server, change ...func(*config.Airflow)) *rig {
	t.Helper()
	cfg := settings(srv)
	for _, c := range change {
		c(cfg)
	}
	return serve(t.Context(), t, srv, cfg)
}

// serve puts the connector behind gRPC, on a pipe in memory.
func serve(ctx context.Context, t *testing.T, srv *airflowtest.Server, cfg *config.Airflow) *rig {
	t.Helper()
	builder, opts, err := New(ctx, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{srv: srv, Connector: builder.(*Connector), session: newMemory()}
	connector, err := connectorbuilder.NewConnector(ctx, builder, append(opts, connectorbuilder.WithSessionStore(r.session))...)
	if err != nil {
		t.Fatal(err)
	}
	pipe := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	v2.RegisterConnectorServiceServer(server, connector)
	v2.RegisterResourceTypesServiceServer(server, connector)
	v2.RegisterResourcesServiceServer(server, connector)
	v2.RegisterResourceGetterServiceServer(server, connector)
	v2.RegisterEntitlementsServiceServer(server, connector)
	v2.RegisterGrantsServiceServer(server, connector)
	v2.RegisterGrantManagerServiceServer(server, connector)
	v2.RegisterResourceManagerServiceServer(server, connector)
	v2.RegisterResourceDeleterServiceServer(server, connector)
	v2.RegisterAccountManagerServiceServer(server, connector)
	v2.RegisterCredentialManagerServiceServer(server, connector)
	v2.RegisterEventServiceServer(server, connector)
	v2.RegisterActionServiceServer(server, connector)
	v2.RegisterAssetServiceServer(server, connector)
	served := make(chan error, 1)
	go func() { served <- server.Serve(pipe) }()
	conn, err := grpc.NewClient("passthrough:connector", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	r.ConnectorClient = connectorclient.NewConnectorClient(ctx, conn)
	return r
}

// sync runs a sync into a new file and reads what it found.
func (r *rig) sync(t *testing.T, opts ...batonsync.SyncOpt) connectortest.Found {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sync.c1z")
	if err := r.syncTo(t.Context(), t, path, opts...); err != nil {
		t.Fatal(err)
	}
	found, err := connectortest.Read(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// syncTo runs a sync into a file.
func (r *rig) syncTo(ctx context.Context, t *testing.T, path string, opts ...batonsync.SyncOpt) error {
	t.Helper()
	syncer, err := batonsync.NewSyncer(ctx, r.ConnectorClient, append([]batonsync.SyncOpt{
		batonsync.WithC1ZPath(path), batonsync.WithTmpDir(t.TempDir()),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return errors.Join(syncer.Sync(ctx), syncer.Close(context.WithoutCancel(ctx)))
}

// memory is a session store that can be told to forget and to fail.
type memory struct {
	sessions.SessionStore // the calls that the connector doesn't use

	mu   sync.Mutex
	kept map[string][]byte
	// lose says of a key whether it isn't kept; fails is what every call fails with.
	lose  func(key string) bool
	fails error
}

func newMemory() *memory { return &memory{kept: map[string][]byte{}} }

func (s *memory) key(ctx context.Context, key string, opts []sessions.SessionStoreOption) string {
	bag := &sessions.SessionStoreBag{}
	for _, o := range opts {
		if err := o(ctx, bag); err != nil {
			panic(err)
		}
	}
	return bag.SyncID + "/" + bag.Prefix + key
}

func (s *memory) Get(ctx context.Context, key string, opts ...sessions.SessionStoreOption) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, found := s.kept[s.key(ctx, key, opts)]
	return value, found, s.fails
}

func (s *memory) Set(ctx context.Context, key string, value []byte, opts ...sessions.SessionStoreOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails == nil && (s.lose == nil || !s.lose(key)) {
		s.kept[s.key(ctx, key, opts)] = value
	}
	return s.fails
}

func (s *memory) Clear(context.Context, ...sessions.SessionStoreOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.kept)
	return s.fails
}

// keys are the keys of a map, in order.
func keys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// direct hands requests to the Airflow in memory without a network between, so
// that a test can run in a bubble whose clock is made up.
type direct struct{ srv *airflowtest.Server }

func (d direct) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	defer func() {
		if aborted := recover(); aborted != nil {
			resp, err = nil, io.ErrUnexpectedEOF
		}
	}()
	if req.Body == nil {
		req.Body = http.NoBody
	}
	answer := httptest.NewRecorder()
	d.srv.ServeHTTP(answer, req)
	return answer.Result(), nil
}

// bare is the connector without network and gRPC. Its account is the admin.
type bare struct {
	*Connector
	types.ConnectorServer
	session *memory
}

func newBare(t *testing.T, srv *airflowtest.Server) *bare {
	t.Helper()
	admin, _ := srv.User("admin")
	client, err := airflow.New(airflow.Config{
		BaseURL: "https://airflow.example.com", Username: admin.Username, Password: admin.Password,
		HTTP: &http.Client{Transport: direct{srv}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := &bare{Connector: newConnector(client, admin.Username, "Viewer", true), session: newMemory()}
	b.ConnectorServer, err = connectorbuilder.NewConnector(t.Context(), b.Connector, connectorbuilder.WithSessionStore(b.session))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask is one call of a sync's, for the ids of the resources, entitlements or
// grants of a type.
func (b *bare) ask(ctx context.Context, what, kind, token string) (ids []string, next string, err error) {
	typeItself := v2.Resource_builder{Id: v2.ResourceId_builder{ResourceType: kind, Resource: kind}.Build()}.Build()
	switch what {
	case "resources":
		answer, err := b.ListResources(ctx, v2.ResourcesServiceListResourcesRequest_builder{ResourceTypeId: kind, PageToken: token, ActiveSyncId: "sync"}.Build())
		for _, r := range answer.GetList() {
			ids = append(ids, r.GetId().GetResourceType()+":"+r.GetId().GetResource())
		}
		return ids, answer.GetNextPageToken(), err
	case "entitlements":
		answer, err := b.ListEntitlements(ctx, v2.EntitlementsServiceListEntitlementsRequest_builder{
			Resource: typeItself, PageToken: token, ActiveSyncId: "sync", Annotations: annotations.New(&v2.TypeScopedEntitlements{}),
		}.Build())
		for _, e := range answer.GetList() {
			ids = append(ids, e.GetId())
		}
		return ids, answer.GetNextPageToken(), err
	case "grants":
		answer, err := b.ListGrants(ctx, v2.GrantsServiceListGrantsRequest_builder{
			Resource: typeItself, PageToken: token, ActiveSyncId: "sync", Annotations: annotations.New(&v2.TypeScopedGrants{}),
		}.Build())
		for _, g := range answer.GetList() {
			ids = append(ids, g.GetId())
		}
		return ids, answer.GetNextPageToken(), err
	}
	panic(what)
}

// list asks until there is no more, and gives the ids, in order and each one once.
func (b *bare) list(ctx context.Context, what, kind string) ([]string, error) {
	all := map[string]bool{}
	for token := ""; ; {
		ids, next, err := b.ask(ctx, what, kind, token)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			all[id] = true
		}
		if next == "" {
			return keys(all), nil
		}
		token = next
	}
}

// listAll asks for all that a full sync asks for, in its order.
func (b *bare) listAll(ctx context.Context) (ids, error) {
	var all ids
	for _, step := range []struct {
		to    *[]string
		what  string
		kinds []string
	}{
		{&all.Resources, "resources", []string{"instance", "user", "role", "dag", "resource"}},
		{&all.Entitlements, "entitlements", []string{"dag", "resource"}},
		{&all.Grants, "grants", []string{"role", "dag", "resource"}},
	} {
		for _, kind := range step.kinds {
			found, err := b.list(ctx, step.what, kind)
			if err != nil {
				return ids{}, err
			}
			*step.to = append(*step.to, found...)
		}
	}
	return all, nil
}
