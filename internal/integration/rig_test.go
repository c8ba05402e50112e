package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	baton "github.com/conductorone/baton-sdk/pb/c1/connectorapi/baton/v1"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/job"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// rig is a Service with all that it needs, a clock that stands still, and a
// catalog of one connector.
type rig struct {
	*Service
	t        *testing.T
	clock    *clock.Fake
	followed chan string // rows of the jobs "follow" and "ingest"
	events   chan []*v2.Event
}

func newRig(t *testing.T, d *db.DB) *rig {
	t.Helper()
	key, err := seal.NewKey()
	check(t, err)
	keys, err := seal.OpenKeyring("", key)
	check(t, err)
	time := clock.NewFake(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
	log := slog.New(slog.DiscardHandler)
	vault := seal.NewVault(d, keys, time)
	hub := live.New(d, log)
	check(t, hub.Start(t.Context()))
	t.Cleanup(hub.Stop)
	jobs, err := job.New(d, log)
	check(t, err)
	records, err := audit.New(d, vault, time, audit.Options{Live: hub})
	check(t, err)
	people := identity.New(d, records, vault, hub, time)
	r := &rig{t: t, clock: time, followed: make(chan string, 1000), events: make(chan []*v2.Event, 100)}
	for _, kind := range []string{"follow", jobIngest} {
		jobs.Handle(kind, job.Options{}, func(_ context.Context, row string) error {
			r.followed <- kind + " " + row
			return nil
		})
	}
	r.Service = New(Config{
		DB: d, Jobs: jobs, Live: hub, Audit: records, Vault: vault, Identity: people, Inventory: inventory.New(d, records, people, hub, time),
		Clock: time, Log: log, PublicHost: "airlock.example:8443",
		Form: func(_ context.Context, name string) (Form, error) {
			if name != "bank" {
				return Form{}, fault.New(fault.NotFound, "there is no connector %q in the catalog", name)
			}
			return Form{Secrets: []string{"passphrase"}, Check: func(settings map[string]string) error {
				if settings["url"] == "" {
					return fault.New(fault.Invalid, "the setting url is missing").At("url")
				}
				return nil
			}}, nil
		},
		OnEvents: func(_ context.Context, _ string, events []*v2.Event) error {
			r.events <- events
			return nil
		},
	})
	return r
}

// working starts the queue of jobs, until the test ends.
func (r *rig) working() {
	r.t.Helper()
	check(r.t, r.jobs.Start(r.t.Context()))
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.jobs.Stop(ctx); err != nil {
			r.t.Error(err)
		}
	})
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wants fails the test unless an error is of a kind and says something.
func wants(t testing.TB, err error, code fault.Code, says string) {
	t.Helper()
	if !fault.Is(err, code) || !strings.Contains(err.Error(), says) {
		t.Fatalf("the error is %q (%s), not of kind %s with %q", errText(err), fault.CodeOf(err), code, says)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// connector adds a self-hosted connector.
func (r *rig) connector(name string) (Connector, identity.Actor) {
	r.t.Helper()
	c, _, err := r.Add(r.t.Context(), identity.Operator(), AddConnector{Catalog: "bank", App: name})
	check(r.t, err)
	return c, identity.Connector(c.ID, name)
}

// now is a connector as it is.
func (r *rig) now(c Connector) Connector {
	r.t.Helper()
	c, err := r.ByID(r.t.Context(), r.db, c.ID)
	check(r.t, err)
	return c
}

// show is a connector as pages show it.
func (r *rig) show(c Connector) Overview {
	r.t.Helper()
	view, err := r.Show(r.t.Context(), identity.Operator(), c.ID)
	check(r.t, err)
	return view
}

func (r *rig) sync(syncID string) Sync {
	r.t.Helper()
	sync, err := r.SyncByID(r.t.Context(), r.db, syncID)
	check(r.t, err)
	return sync
}

func (r *rig) task(taskID string) Task {
	r.t.Helper()
	task, err := r.TaskByID(r.t.Context(), r.db, taskID)
	check(r.t, err)
	return task
}

// write runs something in a transaction.
func (r *rig) write(do func(ctx context.Context, tx *db.Tx) error) {
	r.t.Helper()
	check(r.t, r.db.Write(r.t.Context(), do))
}

// add queues a task.
func (r *rig) add(spec TaskSpec) string {
	r.t.Helper()
	var taskID string
	r.write(func(ctx context.Context, tx *db.Tx) (err error) {
		taskID, err = r.AddTask(ctx, tx, identity.Operator(), spec)
		return err
	})
	return taskID
}

// hello says Hello for a connector's host.
func (r *rig) hello(actor identity.Actor, host string) {
	r.t.Helper()
	check(r.t, r.Hello(r.t.Context(), actor, Greeting{Host: host, Version: "v1.2.3", Package: "example.com/baton-bank", Metadata: metadata()}))
}

// poll asks once for work.
func (r *rig) poll(actor identity.Actor, host string) []*baton.Task {
	r.t.Helper()
	list, err := r.Take(r.t.Context(), actor, Poll{Host: host, Most: 10})
	check(r.t, err)
	return list
}

// one asks for work and expects one task.
func (r *rig) one(actor identity.Actor, host string) *baton.Task {
	r.t.Helper()
	list := r.poll(actor, host)
	if len(list) != 1 {
		r.t.Fatalf("%d tasks were given out, not one", len(list))
	}
	return list[0]
}

func (r *rig) none(actor identity.Actor, host string) {
	r.t.Helper()
	if list := r.poll(actor, host); len(list) > 0 {
		r.t.Fatalf("a task was given out: %v", list[0])
	}
}

func (r *rig) finish(actor identity.Actor, host, taskID string, answer Answer) {
	r.t.Helper()
	check(r.t, r.Finish(r.t.Context(), actor, host, taskID, answer))
}

// upload uploads a .c1z for a task.
func (r *rig) upload(actor identity.Actor, host, taskID, content string) File {
	r.t.Helper()
	file, err := r.TakeUpload(r.t.Context(), actor, host, taskID, strings.NewReader("C1Z3\x00"+content))
	check(r.t, err)
	sum := sha256.Sum256([]byte("C1Z3\x00" + content))
	if file.SHA256 != hex.EncodeToString(sum[:]) {
		r.t.Fatalf("the hash of what was kept is %s", file.SHA256)
	}
	return file
}

// apply has a sync applied, as ingest does.
func (r *rig) apply(syncID string) {
	r.t.Helper()
	r.write(func(ctx context.Context, tx *db.Tx) error {
		return r.Advance(ctx, tx, syncID, []SyncState{Comparing}, func(s *Sync) { s.State = Applied })
	})
}

func ok(response proto.Message) Answer {
	if response == nil {
		return Answer{OK: true}
	}
	packed, err := anypb.New(response)
	if err != nil {
		panic(err)
	}
	return Answer{OK: true, Response: packed}
}

func bad(code codes.Code, message string) Answer {
	return Answer{Status: &status.Status{Code: int32(code), Message: message}}
}

func metadata(capabilities ...v2.Capability) *v2.ConnectorMetadata {
	return v2.ConnectorMetadata_builder{DisplayName: "Bank", Capabilities: v2.ConnectorCapabilities_builder{
		ConnectorCapabilities: append(capabilities, v2.Capability_CAPABILITY_SYNC),
		ResourceTypeCapabilities: []*v2.ResourceTypeCapability{
			v2.ResourceTypeCapability_builder{
				ResourceType: v2.ResourceType_builder{Id: "person", DisplayName: "Person"}.Build(),
				Capabilities: []v2.Capability{v2.Capability_CAPABILITY_SYNC, v2.Capability_CAPABILITY_TARGETED_SYNC},
			}.Build(),
			v2.ResourceTypeCapability_builder{
				ResourceType: v2.ResourceType_builder{Id: "vault", DisplayName: "Vault"}.Build(),
				Capabilities: []v2.Capability{v2.Capability_CAPABILITY_SYNC},
			}.Build(),
		},
	}.Build()}.Build()
}

func resource(kind, name string) *v2.Resource {
	return v2.Resource_builder{Id: v2.ResourceId_builder{ResourceType: kind, Resource: name}.Build(), DisplayName: name}.Build()
}

func grantTask() Grant {
	vault := resource("vault", "gold")
	return Grant{Principal: resource("person", "ann"), Entitlement: v2.Entitlement_builder{Id: "vault:gold:open", Resource: vault, Slug: "open"}.Build()}
}

var errBroken = errors.New("broken")
