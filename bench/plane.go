package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	wrapper "github.com/conductorone/baton-sdk/pb/c1/connector_wrapper/v1"
	reader "github.com/conductorone/baton-sdk/pb/c1/reader/v2"
	"github.com/conductorone/baton-sdk/pkg/connectorclient"
	"github.com/conductorone/baton-sdk/pkg/connectorstore"
	"github.com/conductorone/baton-sdk/pkg/dotc1z"
	_ "github.com/conductorone/baton-sdk/pkg/dotc1z/engine/pebble" // the format that connectors write
	"github.com/conductorone/baton-sdk/pkg/session"
	batonsync "github.com/conductorone/baton-sdk/pkg/sync"
	"github.com/conductorone/baton-sdk/pkg/types"
	"github.com/conductorone/baton-sdk/pkg/types/sessions"
	"github.com/conductorone/baton-sdk/pkg/utls"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
)

// hosted is the connector's own process without the SDK's around it, as a
// control plane runs it.
type hosted struct {
	types.ConnectorClient
	sessions *session.GRPCSessionServer
	stop     func() error
}

// host starts a connector's process. End it with stop.
func host(ctx context.Context, program string, env []string) (*hosted, error) {
	mine, its, err := utls.GenerateClientServerCredentials(ctx)
	if err != nil {
		return nil, err
	}
	clientTLS, err := utls.ClientConfig(ctx, mine)
	if err != nil {
		return nil, err
	}
	serverTLS, err := utls.ListenerConfig(ctx, its)
	if err != nil {
		return nil, err
	}
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	defer listener.Close() // the connector has a hold of its own
	file, err := listener.File()
	if err != nil {
		return nil, err
	}
	sessionListener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}

	cmd := exec.CommandContext(ctx, program, "_connector-service")
	cmd.Env = append(slices.Clone(env), "BATON_CONNECTOR_SERVICE_LISTENER_FD=3")
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(cmd.Start(), file.Close()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	h := &hosted{sessions: session.NewGRPCSessionServer(), stop: func() error {
		defer cancel()
		return errors.Join(stdin.Close(), cmd.Wait()) // it ends with its stdin
	}}
	go func() {
		_ = session.StartGRPCSessionServerWithOptions(ctx, sessionListener, h.sessions, grpc.Creds(credentials.NewTLS(serverTLS)))
	}()
	settings, err := proto.Marshal(wrapper.ServerConfig_builder{
		Credential: its, ListenPort: port(listener), SessionStoreListenPort: port(sessionListener),
	}.Build())
	if err == nil {
		_, err = fmt.Fprintln(stdin, base64.StdEncoding.EncodeToString(settings))
	}
	if err != nil {
		return nil, errors.Join(err, h.stop())
	}
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(clientTLS)),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		return nil, errors.Join(err, h.stop())
	}
	h.ConnectorClient = connectorclient.NewConnectorClient(ctx, conn)
	return h, nil
}

func port(l net.Listener) uint32 { return uint32(l.Addr().(*net.TCPAddr).Port) }

// SetSessionStore gives the connector the store of a sync.
func (h *hosted) SetSessionStore(ctx context.Context, store sessions.SessionStore) {
	h.sessions.SetSessionStore(ctx, store)
}

// planeSync is a sync that leaves the expansion of grants to the control plane.
type planeSync struct {
	Program string
	Env     []string
	File    string
}

// sync is the process of the control plane.
func (p planeSync) sync(ctx context.Context) (err error) {
	h, err := host(ctx, p.Program, p.Env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	syncer, err := batonsync.NewSyncer(ctx, h, batonsync.WithDontExpandGrants(), batonsync.WithSessionStore(h),
		batonsync.WithC1ZPath(p.File), batonsync.WithTmpDir(filepath.Dir(p.File)))
	if err != nil {
		return err
	}
	return errors.Join(syncer.Sync(ctx), syncer.Close(ctx))
}

// stats are what a file says of its sync: how many of each were found, and how
// long the parts of it took.
func stats(ctx context.Context, path string) (found *reader.SyncStats, err error) {
	store, err := dotc1z.NewStore(ctx, path, dotc1z.WithReadOnly(true), dotc1z.WithTmpDir(filepath.Dir(path)))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close(ctx)) }()
	run, err := store.SyncMeta().LatestFinishedSyncOfAnyType(ctx)
	if err != nil {
		return nil, err
	}
	if run == nil {
		return nil, fmt.Errorf("%s holds no finished sync", path)
	}
	return store.SyncMeta().StatsV2(ctx, connectorstore.SyncTypeAny, run.ID)
}
