// Package baton is the door for connectors: Baton's own protocol, as its SDK
// speaks it, on top of package integration.
package baton

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	baton "github.com/conductorone/baton-sdk/pb/c1/connectorapi/baton/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/durationpb"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/trace"
	"airlock/internal/identity"
	"airlock/internal/integration"
)

const (
	// hold is how long a connector's question for work is held where there is none.
	// Its SDK has no deadline, and makes a new connection for each question.
	hold = 30 * time.Second
	// mostMessage is how long one message may be in bytes: a page of events, mostly.
	mostMessage = 16 << 20
	// mostHeaders is how long a call's headers may be in bytes.
	mostHeaders = 16 << 10
	// mostCalls is how many calls one connection may have open.
	mostCalls = 100
)

// Config is what a Server needs.
type Config struct {
	DB          *db.DB
	Integration *integration.Service
	Identity    *identity.Service
	Log         *slog.Logger
	TempDir     string        // a private folder for what is being uploaded; made if it isn't there
	Hold        time.Duration // how long to hold a question for work; 0 is 30 s
}

// Server serves BatonService.
type Server struct {
	baton.UnimplementedBatonServiceServer

	db          *db.DB
	integration *integration.Service
	identity    *identity.Service
	log         *slog.Logger
	dir         string
	hold        time.Duration

	stopping context.Context // ends when the server stops: calls that are held are answered
	stop     context.CancelFunc

	uploads *uploads
	holding atomic.Int64 // calls that ask for work
}

// New makes a Server. Stop ends it.
func New(c Config) *Server {
	if c.Hold <= 0 {
		c.Hold = hold
	}
	s := &Server{db: c.DB, integration: c.Integration, identity: c.Identity, log: c.Log, dir: c.TempDir, hold: c.Hold, uploads: &uploads{running: map[string]*upload{}}}
	s.stopping, s.stop = context.WithCancel(context.Background())
	return s
}

// Handler serves the protocol within an HTTP/2 server. It knows who calls before
// it reads what they send.
func (s *Server) Handler() http.Handler {
	server := grpc.NewServer(s.Options()...)
	s.Register(server)
	return s.admit(server)
}

// Options are those of a gRPC server that serves this one.
func (s *Server) Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.stream),
		grpc.MaxRecvMsgSize(mostMessage),
		grpc.MaxHeaderListSize(mostHeaders),
		grpc.MaxConcurrentStreams(mostCalls),
		grpc.ConnectionTimeout(20 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 5 * time.Minute, Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
}

// Register adds the service to a gRPC server that was made with Options.
func (s *Server) Register(server *grpc.Server) { baton.RegisterBatonServiceServer(server, s) }

// Holding is how many calls wait for work now.
func (s *Server) Holding() int64 { return s.holding.Load() }

// Stop answers the questions for work that are held, with none. Calls that do
// something go on.
func (s *Server) Stop() { s.stop() }

// Hello takes what a connector says of itself. Its metadata is taken as it comes:
// a help page without https is no reason to refuse a connector.
func (s *Server) Hello(ctx context.Context, r *baton.BatonServiceHelloRequest) (*baton.BatonServiceHelloResponse, error) {
	if err := valid(named(r.GetHostId()), r.GetBuildInfo(), r.GetOsInfo()); err != nil {
		return nil, err
	}
	if r.GetConnectorMetadata() == nil || len(r.GetAnnotations()) > 16 || r.GetTaskId() != "" && len(r.GetTaskId()) != 27 {
		return nil, fault.New(fault.Invalid, "a Hello carries the connector's metadata, at most 16 annotations, and the id of a task or none")
	}
	err := s.integration.Hello(ctx, caller(ctx), integration.Greeting{
		Host: r.GetHostId(), TaskID: r.GetTaskId(), Metadata: r.GetConnectorMetadata(),
		Version: r.GetBuildInfo().GetPackageVersion(), Package: r.GetBuildInfo().GetPackage(),
	})
	return &baton.BatonServiceHelloResponse{}, err
}

// GetTask gives a connector something to do, as soon as there is something.
func (s *Server) GetTask(ctx context.Context, r *baton.BatonServiceGetTaskRequest) (*baton.BatonServiceGetTaskResponse, error) {
	if err := valid(named(r.GetHostId()), r); err != nil {
		return nil, err
	}
	tasks, next, err := s.take(ctx, integration.Poll{Host: r.GetHostId(), Most: 1})
	if err != nil {
		return nil, err
	}
	answer := baton.BatonServiceGetTaskResponse_builder{NextPoll: next}.Build()
	if len(tasks) > 0 {
		answer.SetTask(tasks[0])
	}
	return answer, nil
}

// GetTasks does the same for connectors that take several at once.
func (s *Server) GetTasks(ctx context.Context, r *baton.BatonServiceGetTasksRequest) (*baton.BatonServiceGetTasksResponse, error) {
	if err := valid(named(r.GetHostId()), r); err != nil {
		return nil, err
	}
	if len(r.GetKnownTaskIds()) > 1000 {
		return nil, fault.New(fault.Invalid, "nobody has a thousand tasks at once")
	}
	tasks, next, err := s.take(ctx, integration.Poll{Host: r.GetHostId(), Most: int(r.GetPageSize()), Known: r.GetKnownTaskIds()})
	if err != nil {
		return nil, err
	}
	return baton.BatonServiceGetTasksResponse_builder{Tasks: tasks, NextPoll: next}.Build(), nil
}

// take waits for work. The next question may come at once, since this one was
// held; only when the server stops it may take its time.
func (s *Server) take(ctx context.Context, poll integration.Poll) ([]*baton.Task, *durationpb.Duration, error) {
	s.holding.Add(1)
	defer s.holding.Add(-1)
	held, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	poll.Hold = s.hold
	poll.Still = func(context.Context) error { return s.still(ctx) }
	tasks, err := s.integration.Take(held, caller(ctx), poll)
	if s.stopping.Err() != nil && len(tasks) == 0 && ctx.Err() == nil {
		return nil, durationpb.New(time.Second + rand.N(2*time.Second)), nil
	}
	return tasks, durationpb.New(0), err
}

// Heartbeat takes a sign of life, and tells whether to stop.
func (s *Server) Heartbeat(ctx context.Context, r *baton.BatonServiceHeartbeatRequest) (*baton.BatonServiceHeartbeatResponse, error) {
	if err := valid(named(r.GetHostId()), r); err != nil {
		return nil, err
	}
	ctx = trace.With(ctx, "task", r.GetTaskId())
	stop, err := s.integration.Beat(ctx, caller(ctx), r.GetHostId(), append([]string{r.GetTaskId()}, r.GetTaskIds()...))
	if err != nil {
		return nil, err
	}
	return baton.BatonServiceHeartbeatResponse_builder{
		NextHeartbeat:    durationpb.New(integration.Heartbeat),
		Cancelled:        slices.Contains(stop, r.GetTaskId()),
		CancelledTaskIds: slices.DeleteFunc(stop, func(taskID string) bool { return !slices.Contains(r.GetTaskIds(), taskID) }),
	}.Build(), nil
}

// FinishTask takes what came of a task.
func (s *Server) FinishTask(ctx context.Context, r *baton.BatonServiceFinishTaskRequest) (*baton.BatonServiceFinishTaskResponse, error) {
	if err := valid(named(r.GetHostId()), r); err != nil {
		return nil, err
	}
	ctx = trace.With(ctx, "task", r.GetTaskId())
	answer := integration.Answer{OK: r.HasSuccess(), Status: r.GetStatus(), Response: r.GetSuccess().GetResponse()}
	return &baton.BatonServiceFinishTaskResponse{}, s.integration.Finish(ctx, caller(ctx), r.GetHostId(), r.GetTaskId(), answer)
}

// named is a host's name, to be checked: it is kept as text.
type named string

// Validate refuses what can't be kept.
func (n named) Validate() error {
	if n == "" || len(n) > 256 || strings.ContainsRune(string(n), 0) {
		return fault.New(fault.Invalid, "a host has a name of 1 to 256 bytes")
	}
	return nil
}

// valid checks messages by the rules of the protocol.
func valid(list ...interface{ Validate() error }) error {
	for _, one := range list {
		if err := one.Validate(); err != nil {
			return fault.New(fault.Invalid, "the message breaks the protocol's rules: %w", err)
		}
	}
	return nil
}

// uploads are the uploads that run, by task.
type uploads struct {
	mu      sync.Mutex
	running map[string]*upload
}

type upload struct{ cancel context.CancelCauseFunc }

// begin ends an upload for the same task, if one runs: its connector has given it
// up and begun anew, which it knows before we do.
func (u *uploads) begin(ctx context.Context, taskID string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	mine := &upload{cancel}
	u.mu.Lock()
	defer u.mu.Unlock()
	if other := u.running[taskID]; other != nil {
		other.cancel(errSuperseded)
	}
	u.running[taskID] = mine
	return ctx, func() {
		cancel(nil)
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.running[taskID] == mine {
			delete(u.running, taskID)
		}
	}
}
