package provision

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	baton "github.com/conductorone/baton-sdk/pb/c1/connectorapi/baton/v1"
	"github.com/conductorone/baton-sdk/pkg/annotations"
	"github.com/conductorone/baton-sdk/pkg/connectorstore"
	"github.com/conductorone/baton-sdk/pkg/dotc1z"
	_ "github.com/conductorone/baton-sdk/pkg/dotc1z/engine/pebble" // the format that connectors write
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
	"airlock/internal/ingest"
	"airlock/internal/ingest/pack"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// rig is the service with the real ones below it, and a clock that stands still.
// The connector and its target system are played by the test.
type rig struct {
	*Service
	t     testing.TB
	clock *clock.Fake
	in    *ingest.Service
}

func newRig(t testing.TB, d *db.DB) *rig {
	t.Helper()
	key, err := seal.NewKey()
	check(t, err)
	keys, err := seal.OpenKeyring("", key)
	check(t, err)
	now := clock.NewFake(time.Date(2025, 11, 24, 12, 0, 0, 0, time.UTC))
	log := slog.New(slog.DiscardHandler)
	vault := seal.NewVault(d, keys, now)
	hub := live.New(d, log)
	check(t, hub.Start(t.Context()))
	t.Cleanup(hub.Stop)
	jobs, err := job.New(d, log)
	check(t, err)
	records, err := audit.New(d, vault, now, audit.Options{})
	check(t, err)
	people := identity.New(d, records, vault, hub, now)
	inv := inventory.New(d, records, people, hub, now)
	connectors := integration.New(integration.Config{
		DB: d, Jobs: jobs, Live: hub, Audit: records, Vault: vault, Identity: people, Inventory: inv, Clock: now, Log: log, PublicHost: "airlock.example",
	})
	packs, err := pack.Load("")
	check(t, err)
	r := &rig{t: t, clock: now}
	r.in, err = ingest.New(ingest.Config{
		DB: d, Jobs: jobs, Live: hub, Audit: records, Inventory: inv, Integration: connectors, Clock: now, Log: log,
		TempDir: filepath.Join(t.TempDir(), "ingest"), Packs: packs,
	})
	check(t, err)
	jobs.Handle(inventory.RematchJob, job.Options{}, inv.Rematch)
	r.Service = New(Config{DB: d, Jobs: jobs, Live: hub, Audit: records, Inventory: inv, Integration: connectors, Clock: now, Log: log})
	check(t, jobs.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := jobs.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return r
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t testing.TB, err error, code fault.Code, says string) {
	t.Helper()
	if err == nil || !fault.Is(err, code) || !strings.Contains(err.Error(), says) {
		t.Fatalf("the error is %v (%s), not of kind %s with %q", err, fault.CodeOf(err), code, says)
	}
}

// bank is an app, its connector, and the target system behind it.
type bank struct {
	*rig
	connector integration.Connector
	actor     identity.Actor
	people    []string
	vaults    []string
	holds     map[string]bool // "gold ann"
	immutable map[string]bool // vaults, or "gold ann"
}

var metadata = &v2.ConnectorMetadata{}

// open opens a bank: three people, two vaults, ann has gold, and a sync that says so.
func (r *rig) open(name string) *bank {
	r.t.Helper()
	c, _, err := r.Integration.Add(r.t.Context(), identity.Operator(), integration.AddConnector{Catalog: "bank", App: name})
	check(r.t, err)
	b := &bank{
		rig: r, connector: c, actor: identity.Connector(c.ID, c.Name), people: []string{"ann", "bob", "cid"}, vaults: []string{"gold", "cash"},
		holds: map[string]bool{"gold ann": true}, immutable: map[string]bool{},
	}
	check(r.t, r.Integration.Hello(r.t.Context(), b.actor, integration.Greeting{Host: "host", Metadata: metadata}))
	b.sync()
	return b
}

func resourceID(kind, name string) *v2.ResourceId {
	return v2.ResourceId_builder{ResourceType: kind, Resource: name}.Build()
}

// file is what the target system holds as a .c1z.
func (b *bank) file() []byte {
	b.t.Helper()
	dir := b.t.TempDir()
	path := filepath.Join(dir, "sync.c1z")
	ctx := context.Background()
	store, err := dotc1z.NewStore(ctx, path, dotc1z.WithTmpDir(dir))
	check(b.t, err)
	_, err = store.StartNewSync(ctx, connectorstore.SyncTypeFull, "")
	check(b.t, err)
	check(b.t, store.PutResourceTypes(ctx,
		v2.ResourceType_builder{Id: "person", DisplayName: "Person", Traits: []v2.ResourceType_Trait{v2.ResourceType_TRAIT_USER}}.Build(),
		v2.ResourceType_builder{Id: "vault", DisplayName: "Vault"}.Build()))
	for _, one := range b.people {
		check(b.t, store.PutResources(ctx, v2.Resource_builder{Id: resourceID("person", one), DisplayName: one, Annotations: annotations.New(&v2.UserTrait{})}.Build()))
	}
	for _, one := range b.vaults {
		check(b.t, store.PutResources(ctx, v2.Resource_builder{Id: resourceID("vault", one), DisplayName: one}.Build()))
		check(b.t, store.PutEntitlements(ctx, b.entitlement(one)))
	}
	for _, pair := range slices.Sorted(maps.Keys(b.holds)) {
		vault, person, _ := strings.Cut(pair, " ")
		if !b.holds[pair] || !slices.Contains(b.people, person) || !slices.Contains(b.vaults, vault) {
			continue
		}
		var notes annotations.Annotations
		if b.immutable[pair] {
			notes = annotations.New(&v2.GrantImmutable{})
		}
		check(b.t, store.PutGrants(ctx, v2.Grant_builder{
			Id: vault + "/" + person, Entitlement: b.entitlement(vault), Principal: v2.Resource_builder{Id: resourceID("person", person)}.Build(), Annotations: notes,
		}.Build()))
	}
	check(b.t, store.EndSync(ctx))
	check(b.t, store.Close(ctx))
	content, err := os.ReadFile(path)
	check(b.t, err)
	return content
}

func (b *bank) entitlement(vault string) *v2.Entitlement {
	var notes annotations.Annotations
	if b.immutable[vault] {
		notes = annotations.New(&v2.EntitlementImmutable{})
	}
	return v2.Entitlement_builder{
		Id: "vault:" + vault + ":open", Slug: "open", DisplayName: "Open " + vault, Resource: v2.Resource_builder{Id: resourceID("vault", vault)}.Build(),
		GrantableTo: []*v2.ResourceType{v2.ResourceType_builder{Id: "person"}.Build()}, Annotations: notes,
	}.Build()
}

// take takes all that the connector may do now. A minute passes.
func (b *bank) take() []*baton.Task {
	b.t.Helper()
	b.clock.Advance(time.Minute)
	list, err := b.Integration.Take(b.t.Context(), b.actor, integration.Poll{Host: "host", Most: 10})
	check(b.t, err)
	return list
}

// changes takes the changes of access that the connector may do now; a sync that
// comes with them is given back.
func (b *bank) changes(want int) []*baton.Task {
	b.t.Helper()
	var list []*baton.Task
	for _, task := range b.take() {
		if task.HasSyncFull() {
			b.refuses(task, codes.Canceled, "it is told to stop")
			continue
		}
		list = append(list, task)
	}
	if len(list) != want {
		b.t.Fatalf("%d changes are given out, not %d", len(list), want)
	}
	return list
}

// does does a change in the target system, and reports it.
func (b *bank) does(task *baton.Task) {
	b.t.Helper()
	var answer proto.Message
	if grant := task.GetGrant(); grant != nil {
		pair := grant.GetEntitlement().GetResource().GetId().GetResource() + " " + grant.GetPrincipal().GetId().GetResource()
		answer = &v2.GrantManagerServiceGrantResponse{}
		if b.holds[pair] {
			answer = v2.GrantManagerServiceGrantResponse_builder{Annotations: annotations.New(&v2.GrantAlreadyExists{})}.Build()
		}
		b.holds[pair] = true
	} else {
		grant := task.GetRevoke().GetGrant()
		pair := grant.GetEntitlement().GetResource().GetId().GetResource() + " " + grant.GetPrincipal().GetId().GetResource()
		answer = &v2.GrantManagerServiceRevokeResponse{}
		if !b.holds[pair] {
			answer = v2.GrantManagerServiceRevokeResponse_builder{Annotations: annotations.New(&v2.GrantAlreadyRevoked{})}.Build()
		}
		b.holds[pair] = false
	}
	packed, err := anypb.New(answer)
	check(b.t, err)
	b.answer(task, integration.Answer{OK: true, Response: packed})
}

func (b *bank) refuses(task *baton.Task, code codes.Code, message string) {
	b.t.Helper()
	b.answer(task, integration.Answer{Status: &status.Status{Code: int32(code), Message: message}})
}

func (b *bank) answer(task *baton.Task, answer integration.Answer) {
	b.t.Helper()
	check(b.t, b.Integration.Finish(b.t.Context(), b.actor, "host", task.GetId(), answer))
	b.settle()
}

// settle waits until no job is left.
func (r *rig) settle() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	r.Jobs.Drain(r.t, ctx)
}

// sync does the sync that waits, or else one that is asked for.
func (b *bank) sync() integration.Sync {
	b.t.Helper()
	return b.begin(b.file())()
}

// begin takes a sync; what it returns finishes it with a file of when it began.
func (b *bank) begin(file []byte) (finish func() integration.Sync) {
	b.t.Helper()
	ctx := b.t.Context()
	_, err := b.Integration.SyncNow(ctx, identity.Operator(), b.connector.ID)
	check(b.t, err)
	var task *baton.Task
	for _, one := range b.take() {
		if one.HasSyncFull() {
			task = one
		}
	}
	if task == nil {
		b.t.Fatal("no sync is given out")
	}
	return func() integration.Sync {
		b.clock.Advance(time.Minute)
		b.upload(task, file)
		list, err := b.Integration.Syncs(ctx, identity.Operator(), integration.SyncFilter{ConnectorID: b.connector.ID}, "", 100)
		check(b.t, err)
		for _, sync := range list {
			if sync.TaskID == task.GetId() {
				return sync
			}
		}
		b.t.Fatal("there is no sync of the task")
		return integration.Sync{}
	}
}

// upload finishes a sync with a file.
func (b *bank) upload(task *baton.Task, file []byte) {
	b.t.Helper()
	_, err := b.Integration.TakeUpload(b.t.Context(), b.actor, "host", task.GetId(), bytes.NewReader(file))
	check(b.t, err)
	b.answer(task, integration.Answer{OK: true})
}

// ask names a change.
func (b *bank) ask(vault, person string) Request {
	b.t.Helper()
	entitlement, err := b.Inventory.FindEntitlement(b.t.Context(), b.connector.AppID, "vault:"+vault+":open")
	check(b.t, err)
	principal, err := b.Inventory.FindPrincipal(b.t.Context(), b.connector.AppID, "person:"+person)
	check(b.t, err)
	return Request{AppID: b.connector.AppID, EntitlementID: entitlement.ID, PrincipalID: principal.ID, Reason: Reason{Kind: ByOperator}}
}

func (b *bank) grant(vault, person string) Change {
	b.t.Helper()
	b.clock.Advance(time.Second)
	c, err := b.Grant(b.t.Context(), identity.Operator(), b.ask(vault, person))
	check(b.t, err)
	return c
}

func (b *bank) revoke(vault, person string) Change {
	b.t.Helper()
	b.clock.Advance(time.Second)
	c, err := b.Revoke(b.t.Context(), identity.Operator(), b.ask(vault, person))
	check(b.t, err)
	return c
}

// is fails unless a change is in a state, with some words.
func (r *rig) is(c Change, state State, words string) Change {
	r.t.Helper()
	now, err := r.ByID(r.t.Context(), identity.Operator(), c.ID)
	check(r.t, err)
	if now.State != state || !strings.Contains(now.Error, words) || words == "" && now.Error != "" {
		r.t.Fatalf("the %s is %s: %q; want %s: %q", c.Kind, now.State, now.Error, state, words)
	}
	if now.State.Over() != now.NextAt.IsZero() {
		r.t.Fatalf("it is %s, and looked at again at %s", now.State, now.NextAt)
	}
	return now
}

// steps are a change's entries in the audit log.
func (r *rig) steps(c Change) []string {
	r.t.Helper()
	var list []string
	entries, err := r.Audit.List(r.t.Context(), identity.Operator(), audit.Filter{Limit: 1000})
	check(r.t, err)
	slices.SortFunc(entries, func(a, b audit.Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, entry := range entries {
		if strings.Contains(string(entry.Detail), c.ID) {
			list = append(list, entry.Actor.Kind+" "+entry.Action)
		}
	}
	return list
}

// held reports whether the inventory knows a grant.
func (b *bank) held(r Request) bool {
	b.t.Helper()
	_, err := b.Inventory.DirectGrant(b.t.Context(), b.DB, r.AppID, r.EntitlementID, r.PrincipalID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		b.t.Fatal(err)
	}
	return err == nil
}

// idle fails if the connector has something to do.
func (b *bank) idle() {
	b.t.Helper()
	if list := b.take(); len(list) > 0 {
		b.t.Fatalf("given out: %v", list)
	}
}

// passes looks at a change whose time has come.
func (r *rig) passes(c Change) {
	r.t.Helper()
	r.clock.Advance(2 * time.Hour)
	check(r.t, r.sweep(r.t.Context()))
	r.settle()
	if now, err := r.ByID(r.t.Context(), identity.Operator(), c.ID); err != nil || !now.State.Over() && !now.NextAt.After(r.clock.Now()) {
		r.t.Fatalf("it isn't looked at again: %+v, %v", now, err)
	}
}
