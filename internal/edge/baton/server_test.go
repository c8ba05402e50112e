package baton

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	baton "github.com/conductorone/baton-sdk/pb/c1/connectorapi/baton/v1"
	"github.com/google/go-cmp/cmp"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/identity"
	"airlock/internal/integration"
)

// send uploads messages as they are given, and returns the answer's error.
func (c *connector) send(messages ...*baton.BatonServiceUploadAssetRequest) error {
	stream, err := c.UploadAsset(c.ctx())
	if err != nil {
		return err
	}
	for _, message := range messages {
		if err := stream.Send(message); err != nil {
			break // the answer says why
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

func (c *connector) head(taskID string) *baton.BatonServiceUploadAssetRequest {
	return baton.BatonServiceUploadAssetRequest_builder{Metadata: baton.BatonServiceUploadAssetRequest_UploadMetadata_builder{HostId: c.host, TaskId: taskID}.Build()}.Build()
}

func data(content string) *baton.BatonServiceUploadAssetRequest {
	return baton.BatonServiceUploadAssetRequest_builder{Data: baton.BatonServiceUploadAssetRequest_UploadData_builder{Data: []byte(content)}.Build()}.Build()
}

func end(content string) *baton.BatonServiceUploadAssetRequest {
	sum := sha256.Sum256([]byte(content))
	return baton.BatonServiceUploadAssetRequest_builder{Eof: baton.BatonServiceUploadAssetRequest_UploadEOF_builder{Sha256Checksum: sum[:]}.Build()}.Build()
}

func TestAConnectorSyncs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c := r.add("Bank")
		c.hello()
		task := c.take()
		if !task.HasSyncFull() || !task.GetSyncFull().GetSkipExpandGrants() {
			t.Fatalf("given out: %v", task)
		}
		beat, err := c.Heartbeat(c.ctx(), baton.BatonServiceHeartbeatRequest_builder{HostId: "a", TaskId: task.GetId()}.Build())
		check(t, err)
		if beat.GetCancelled() || beat.GetNextHeartbeat().AsDuration() != integration.Heartbeat {
			t.Errorf("at its heartbeat: %v", beat)
		}
		content := "C1Z3\x00" + strings.Repeat("x", 1<<20-5)
		check(t, c.send(c.head(task.GetId()), data(content), data(content), end(content+content)))
		check(t, c.send(c.head(task.GetId()), data(`{"level":"debug"}`), end(`{"level":"debug"}`)))
		check(t, c.finish(task.GetId()))
		view, err := r.Show(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		if view.Open == nil || view.Open.State != integration.Comparing || view.Open.FileSize != 2<<20 {
			t.Fatalf("its sync is %+v", view.Open)
		}
		reader, err := r.FileReader(t.Context(), view.Open.FileID)
		check(t, err)
		got, err := io.ReadAll(reader)
		check(t, err)
		if string(got) != content+content {
			t.Error("the file isn't what was sent")
		}
		check(t, c.finish(task.GetId())) // twice is harmless
		r.empty()
	})
}

func TestOnlyWhoHasATokenIsServed(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	c := r.add("Bank")
	ask := func(values ...string) error {
		ctx := metadata.AppendToOutgoingContext(t.Context(), values...)
		_, err := c.GetTask(ctx, baton.BatonServiceGetTaskRequest_builder{HostId: "a"}.Build())
		return err
	}
	wants(t, ask(), codes.Unauthenticated, "carries the token")
	wants(t, ask("authorization", "Bearer "), codes.Unauthenticated, "carries the token")
	wants(t, ask("authorization", "Basic "+c.token), codes.Unauthenticated, "carries the token")
	wants(t, ask("authorization", "Bearer "+c.token, "authorization", "Bearer "+c.token), codes.Unauthenticated, "carries the token")
	wants(t, ask("authorization", "Bearer nonsense"), codes.Unauthenticated, "couldn't be authenticated")
	wants(t, ask("authorization", "Bearer "+c.token[:len(c.token)-4]+"AAAA"), codes.Unauthenticated, "couldn't be authenticated")
	wants(t, (&connector{BatonServiceClient: c.BatonServiceClient, t: t, host: "a", token: "x"}).send(c.head("2abcdefghijklmnopqrstuvwxyz")), codes.Unauthenticated, "couldn't be authenticated")
	r.clock.Advance(time.Hour)
	wants(t, ask("authorization", "Bearer "+c.token), codes.Unauthenticated, "couldn't be authenticated")
	if _, err := c.StartDebugging(c.ctx(), &baton.StartDebuggingRequest{}); err == nil {
		t.Error("debugging was started")
	}
}

func TestTheHandlerKnowsWhoCallsBeforeItReads(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	c := r.add("Bank")
	read := atomic.Int64{}
	inner := r.server.Handler()
	site := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = counted{r.Body, &read}
		inner.ServeHTTP(w, r)
	}))
	site.EnableHTTP2 = true
	site.StartTLS()
	t.Cleanup(site.Close)
	roots := x509.NewCertPool()
	roots.AddCert(site.Certificate())
	conn, err := grpc.NewClient(site.Listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots})))
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	client := baton.NewBatonServiceClient(conn)
	request := baton.BatonServiceGetTaskRequest_builder{HostId: "a"}.Build()
	_, err = client.GetTask(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer x"), request)
	wants(t, err, codes.Unauthenticated, "couldn't be authenticated")
	if n := read.Load(); n > 0 {
		t.Errorf("%d bytes of a stranger were read", n)
	}
	answer, err := client.GetTask(c.ctx(), request)
	check(t, err)
	if !answer.GetTask().HasSyncFull() || read.Load() == 0 {
		t.Errorf("answered: %v", answer)
	}
}

// counted counts what is read.
type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func TestARevokedClientGetsNothingMore(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c := r.add("Bank")
		c.hello()
		task := c.take()
		held := make(chan error, 1)
		go func() {
			_, err := c.GetTask(c.ctx(), baton.BatonServiceGetTaskRequest_builder{HostId: "a"}.Build())
			held <- err
		}()
		r.waits()
		_, fresh, err := r.Rotate(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		taskID := r.grant(c)
		wants(t, <-held, codes.Unauthenticated, "revoked") // also in the call that it holds
		wants(t, c.finish(task.GetId()), codes.Unauthenticated, "couldn't be authenticated")
		again := r.connect(c.Connector, fresh, "a")
		check(t, again.finish(task.GetId()))
		if got := again.take().GetId(); got != taskID {
			t.Errorf("given out: %s, not %s", got, taskID)
		}
	})
}

// waits returns once a question for work is held.
func (r *rig) waits() {
	r.t.Helper()
	for r.server.Holding() == 0 {
		select {
		case <-r.t.Context().Done():
			r.t.Fatal("no call is held")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestAHeldCallIsAnsweredWhenTheServerStops(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	c := r.add("Bank")
	c.hello()
	c.take()
	held := make(chan *baton.BatonServiceGetTaskResponse, 1)
	go func() {
		answer, err := c.GetTask(c.ctx(), baton.BatonServiceGetTaskRequest_builder{HostId: "a"}.Build())
		if err != nil {
			t.Error(err)
		}
		held <- answer
	}()
	r.waits()
	r.server.Stop()
	if answer := <-held; answer.GetTask() != nil || answer.GetNextPoll().AsDuration() < time.Second {
		t.Errorf("answered: %v", answer)
	}
}

func TestAnIdleCallEndsWithNothing(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	r.server.hold = 20 * time.Millisecond
	c := r.add("Bank")
	c.hello()
	c.take()
	answer, err := c.GetTask(c.ctx(), baton.BatonServiceGetTaskRequest_builder{HostId: "a"}.Build())
	if err != nil || answer.GetTask() != nil || answer.GetNextPoll().AsDuration() != 0 {
		t.Errorf("answered: %v, %v", answer, err)
	}
}

func TestSeveralTasksAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c := r.add("Bank")
		c.hello()
		want := map[string]bool{c.take().GetId(): true}
		known := []string{}
		for taskID := range want {
			known = append(known, taskID)
		}
		for range 3 {
			want[r.grant(c)] = true
		}
		answer, err := c.GetTasks(c.ctx(), baton.BatonServiceGetTasksRequest_builder{HostId: "a", PageSize: 100, KnownTaskIds: known}.Build())
		check(t, err)
		got := map[string]bool{known[0]: true}
		for _, task := range answer.GetTasks() {
			got[task.GetId()] = true
		}
		if !cmp.Equal(got, want) || len(answer.GetTasks()) != 3 {
			t.Errorf("given out: %v", got)
		}
	})
}

func TestMessagesThatBreakTheRulesAreRefused(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	c := r.add("Bank")
	ctx, long, taskID := c.ctx(), strings.Repeat("x", 257), "2abcdefghijklmnopqrstuvwxyz"
	for _, host := range []string{"", long, "a\x00b"} {
		_, err := c.GetTask(ctx, baton.BatonServiceGetTaskRequest_builder{HostId: host}.Build())
		wants(t, err, codes.InvalidArgument, "host")
		_, err = c.Hello(ctx, baton.BatonServiceHelloRequest_builder{HostId: host, ConnectorMetadata: &v2.ConnectorMetadata{}}.Build())
		wants(t, err, codes.InvalidArgument, "host")
	}
	_, err := c.Hello(ctx, baton.BatonServiceHelloRequest_builder{HostId: "a"}.Build())
	wants(t, err, codes.InvalidArgument, "metadata")
	_, err = c.Hello(ctx, baton.BatonServiceHelloRequest_builder{HostId: "a", ConnectorMetadata: &v2.ConnectorMetadata{}, BuildInfo: baton.BatonServiceHelloRequest_BuildInfo_builder{Package: long}.Build()}.Build())
	wants(t, err, codes.InvalidArgument, "rules")
	_, err = c.GetTasks(ctx, baton.BatonServiceGetTasksRequest_builder{HostId: "a", PageSize: 101}.Build())
	wants(t, err, codes.InvalidArgument, "rules")
	_, err = c.GetTasks(ctx, baton.BatonServiceGetTasksRequest_builder{HostId: "a", PageSize: 1, KnownTaskIds: []string{"x"}}.Build())
	wants(t, err, codes.InvalidArgument, "rules")
	_, err = c.Heartbeat(ctx, baton.BatonServiceHeartbeatRequest_builder{HostId: "a", TaskId: "x"}.Build())
	wants(t, err, codes.InvalidArgument, "rules")
	_, err = c.Heartbeat(ctx, baton.BatonServiceHeartbeatRequest_builder{HostId: "a", TaskId: taskID}.Build())
	wants(t, err, codes.NotFound, "no connector task")
	_, err = c.FinishTask(ctx, baton.BatonServiceFinishTaskRequest_builder{HostId: "a", TaskId: taskID}.Build())
	wants(t, err, codes.InvalidArgument, "rules")
	_, err = c.FinishTask(ctx, baton.BatonServiceFinishTaskRequest_builder{HostId: "a", TaskId: taskID, Success: baton.BatonServiceFinishTaskRequest_Success_builder{Annotations: make([]*anypb.Any, 17)}.Build()}.Build())
	wants(t, err, codes.InvalidArgument, "rules")
	_, err = c.FinishTask(ctx, baton.BatonServiceFinishTaskRequest_builder{HostId: "a", TaskId: taskID, Success: baton.BatonServiceFinishTaskRequest_Success_builder{Response: &anypb.Any{Value: make([]byte, mostMessage)}}.Build()}.Build())
	wants(t, err, codes.ResourceExhausted, "larger than max")
	wants(t, c.finish(taskID), codes.NotFound, "no connector task")
}

func TestUploadsOutOfOrderAreRefused(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c := r.add("Bank")
		c.hello()
		taskID := c.take().GetId()
		grant := r.grant(c)
		c.take()
		thief := r.add("Other")
		file := "C1Z3\x00file"
		for name, test := range map[string]struct {
			by       *connector
			messages []*baton.BatonServiceUploadAssetRequest
			code     codes.Code
			says     string
		}{
			"nothing":                {c, nil, codes.InvalidArgument, "begins with who"},
			"an empty message":       {c, []*baton.BatonServiceUploadAssetRequest{{}}, codes.InvalidArgument, "begins with who"},
			"data first":             {c, []*baton.BatonServiceUploadAssetRequest{data(file)}, codes.InvalidArgument, "begins with who"},
			"the end first":          {c, []*baton.BatonServiceUploadAssetRequest{end("")}, codes.InvalidArgument, "begins with who"},
			"twice who":              {c, []*baton.BatonServiceUploadAssetRequest{c.head(taskID), c.head(taskID)}, codes.InvalidArgument, "says once"},
			"no end":                 {c, []*baton.BatonServiceUploadAssetRequest{c.head(taskID), data(file)}, codes.InvalidArgument, "without an end mark"},
			"a wrong hash":           {c, []*baton.BatonServiceUploadAssetRequest{c.head(taskID), data(file), end("other")}, codes.InvalidArgument, "arrived damaged"},
			"a short hash":           {c, []*baton.BatonServiceUploadAssetRequest{c.head(taskID), data(file), baton.BatonServiceUploadAssetRequest_builder{Eof: &baton.BatonServiceUploadAssetRequest_UploadEOF{}}.Build()}, codes.InvalidArgument, "rules"},
			"more after the end":     {c, []*baton.BatonServiceUploadAssetRequest{c.head(taskID), data(file), end(file), data(file)}, codes.InvalidArgument, "after the upload's end"},
			"an empty piece":         {c, []*baton.BatonServiceUploadAssetRequest{c.head(taskID), data("")}, codes.InvalidArgument, "rules"},
			"a long piece":           {c, []*baton.BatonServiceUploadAssetRequest{c.head(taskID), data(strings.Repeat("x", 1<<20+1))}, codes.InvalidArgument, "rules"},
			"too much":               {c, append([]*baton.BatonServiceUploadAssetRequest{c.head(taskID)}, slicesRepeat(data(strings.Repeat("x", 1<<20)), 9)...), codes.ResourceExhausted, "more than"},
			"no file":                {c, []*baton.BatonServiceUploadAssetRequest{c.head(taskID), end("")}, codes.InvalidArgument, "neither"},
			"something else":         {c, []*baton.BatonServiceUploadAssetRequest{c.head(taskID), data("\x7fELF"), end("\x7fELF")}, codes.InvalidArgument, "neither"},
			"for no sync":            {c, []*baton.BatonServiceUploadAssetRequest{c.head(grant), data(file), end(file)}, codes.InvalidArgument, "isn't a sync"},
			"for no task":            {c, []*baton.BatonServiceUploadAssetRequest{c.head("2abcdefghijklmnopqrstuvwxyz"), data(file), end(file)}, codes.NotFound, "no connector task"},
			"for another's task":     {thief, []*baton.BatonServiceUploadAssetRequest{c.head(taskID), data(file), end(file)}, codes.NotFound, "no connector task"},
			"by a host without it":   {c, []*baton.BatonServiceUploadAssetRequest{(&connector{host: "b"}).head(taskID), data(file), end(file)}, codes.FailedPrecondition, "isn't with this host"},
			"by a host with no name": {c, []*baton.BatonServiceUploadAssetRequest{(&connector{}).head(taskID), data(file), end(file)}, codes.InvalidArgument, "rules"},
		} {
			t.Run(name, func(t *testing.T) { wants(t, test.by.send(test.messages...), test.code, test.says) })
		}
		if err := c.finish(taskID); err != nil {
			t.Error(err)
		}
		view, err := r.Show(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		if view.Problem.Kind != integration.SyncFailed || !strings.Contains(view.Detail, "sent no file") {
			t.Errorf("the connector is %s: %s", view.State, view.Detail)
		}
		r.empty()
	})
}

func slicesRepeat(message *baton.BatonServiceUploadAssetRequest, n int) (list []*baton.BatonServiceUploadAssetRequest) {
	for range n {
		list = append(list, message)
	}
	return list
}

func TestANewUploadEndsTheOldOne(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	c := r.add("Bank")
	c.hello()
	taskID := c.take().GetId()
	old, err := c.UploadAsset(c.ctx())
	check(t, err)
	check(t, old.Send(c.head(taskID)))
	check(t, old.Send(data("C1Z3\x00old")))
	running := func() bool {
		r.server.uploads.mu.Lock()
		defer r.server.uploads.mu.Unlock()
		return len(r.server.uploads.running) > 0
	}
	for !running() {
		<-time.After(time.Millisecond)
	}
	check(t, c.send(c.head(taskID), data("C1Z3\x00new"), end("C1Z3\x00new")))
	_ = old.Send(end("C1Z3\x00old"))
	_, err = old.CloseAndRecv()
	wants(t, err, codes.AlreadyExists, "another upload")
	check(t, c.finish(taskID))
	view, err := r.Show(t.Context(), identity.Operator(), c.ID)
	check(t, err)
	if view.Open.FileSize != 8 {
		t.Errorf("the file has %d bytes", view.Open.FileSize)
	}
	r.empty()
}

func TestABrokenOffUploadLeavesNothing(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	c := r.add("Bank")
	c.hello()
	taskID := c.take().GetId()
	ctx, cancel := context.WithCancel(c.ctx())
	stream, err := c.UploadAsset(ctx)
	check(t, err)
	check(t, stream.Send(c.head(taskID)))
	check(t, stream.Send(data("C1Z3\x00")))
	cancel()
	if _, err := stream.CloseAndRecv(); err == nil {
		t.Error("it was taken")
	}
	check(t, c.send(c.head(taskID), data("C1Z3\x00"), end("C1Z3\x00")))
	r.empty()
}

func TestAnErrorOfATaskIsTold(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	c := r.add("Bank")
	c.hello()
	c.take()
	taskID := r.grant(c)
	c.take()
	_, err := c.FinishTask(c.ctx(), baton.BatonServiceFinishTaskRequest_builder{
		HostId: "a", TaskId: taskID, Status: &rpc.Status{Code: int32(codes.NotFound), Message: "rpc error: code = NotFound desc = no such vault\ntask failed and is non-retryable"},
		Error: baton.BatonServiceFinishTaskRequest_Error_builder{NonRetryable: true}.Build(),
	}.Build())
	check(t, err)
	task, err := r.TaskByID(t.Context(), r.db, taskID)
	check(t, err)
	if f := task.Failure(); f == nil || f.Code != codes.NotFound || f.Words != "no such vault" || f.Retryable {
		t.Errorf("the failure is %+v", f)
	}
}

func TestAPanicEndsTheCallAlone(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	c := r.add("Bank")
	whole := r.server.integration
	r.server.integration = nil
	_, err := c.GetTask(c.ctx(), baton.BatonServiceGetTaskRequest_builder{HostId: "a"}.Build())
	wants(t, err, codes.Internal, "something went wrong inside")
	r.server.integration = whole
	c.hello()
}

// Whatever bytes come as a FinishTask, it is answered, and the server goes on.
func FuzzFinishTask(f *testing.F) {
	r := newRig(f, dbtest.Open(f, db.SQLite))
	c := r.add("Bank")
	c.hello()
	c.take()
	seed := func(m *baton.BatonServiceFinishTaskRequest) {
		packed, err := proto.Marshal(m)
		check(f, err)
		f.Add(packed)
	}
	response, err := anypb.New(&v2.GrantManagerServiceGrantResponse{})
	check(f, err)
	seed(baton.BatonServiceFinishTaskRequest_builder{HostId: "a", Success: baton.BatonServiceFinishTaskRequest_Success_builder{Response: response}.Build()}.Build())
	seed(baton.BatonServiceFinishTaskRequest_builder{HostId: "a", Status: &rpc.Status{Code: 14, Message: "x", Details: []*anypb.Any{response}}, Error: &baton.BatonServiceFinishTaskRequest_Error{}}.Build())
	seed(baton.BatonServiceFinishTaskRequest_builder{HostId: "a", Success: baton.BatonServiceFinishTaskRequest_Success_builder{Response: &anypb.Any{TypeUrl: "type.googleapis.com/c1.connector.v2.GrantManagerServiceGrantResponse", Value: []byte{0xff}}}.Build()}.Build())
	f.Fuzz(func(t *testing.T, packed []byte) {
		request := &baton.BatonServiceFinishTaskRequest{}
		if proto.Unmarshal(packed, request) != nil {
			return
		}
		r, c := *r, *c
		r.t, c.t = t, t
		taskID := r.grant(&c)
		c.take()
		request.SetTaskId(taskID)
		request.SetHostId("a")
		if _, err := c.FinishTask(c.ctx(), request); err != nil && status.Code(err) != codes.InvalidArgument {
			t.Errorf("answered: %v", err)
		}
		task, err := r.TaskByID(t.Context(), r.db, taskID)
		check(t, err)
		task.Failure()
		if _, err := integration.ResultOf[integration.GrantResult](task); task.State == integration.TaskDone && err != nil {
			t.Error(err)
		}
	})
}
