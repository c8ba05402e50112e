package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/annotations"
	"github.com/conductorone/baton-sdk/pkg/cli"
	batonconfig "github.com/conductorone/baton-sdk/pkg/config"
	"github.com/conductorone/baton-sdk/pkg/connectorbuilder"
	"github.com/conductorone/baton-sdk/pkg/field"
	"github.com/conductorone/baton-sdk/pkg/types"
	rs "github.com/conductorone/baton-sdk/pkg/types/resource"
	"google.golang.org/protobuf/proto"

	"airlock/connector/config"
)

// A recording is a folder with all that a connector answers in a sync, in
// answers of replayPage objects: as the SDK likes them, and larger than what an
// Airflow gives at once. Replayed, it costs what the SDK itself takes for these
// objects.

// replayPage is how many objects a replayed answer has.
const replayPage = 1000

// The kinds of answers.
const (
	typesKind        = "types"
	resourcesKind    = "resources"
	staticKind       = "static"
	entitlementsKind = "entitlements"
	grantsKind       = "grants"
)

func answerFile(dir, kind, typeID string, n int) string {
	return filepath.Join(dir, fmt.Sprintf("%s-%s-%d", kind, typeID, n))
}

// record asks a connector for everything and keeps it.
func record(ctx context.Context, dir string, c types.ConnectorClient) error {
	listed, err := c.ListResourceTypes(ctx, &v2.ResourceTypesServiceListResourceTypesRequest{})
	if err != nil {
		return err
	}
	if err := write(answerFile(dir, typesKind, "", 0), listed); err != nil {
		return err
	}
	for _, t := range listed.GetList() {
		how := annotations.Annotations(t.GetAnnotations())
		all := v2.Resource_builder{Id: v2.ResourceId_builder{ResourceType: t.GetId(), Resource: t.GetId()}.Build()}.Build()

		err := recordList(dir, resourcesKind, t, func(token string) ([]*v2.Resource, string, error) {
			a, err := c.ListResources(ctx, v2.ResourcesServiceListResourcesRequest_builder{ResourceTypeId: t.GetId(), PageToken: token}.Build())
			return a.GetList(), a.GetNextPageToken(), err
		}, func(list []*v2.Resource) proto.Message {
			return v2.ResourcesServiceListResourcesResponse_builder{List: list}.Build()
		})
		if err != nil {
			return err
		}
		err = recordList(dir, staticKind, t, func(token string) ([]*v2.Entitlement, string, error) {
			a, err := c.ListStaticEntitlements(ctx, v2.EntitlementsServiceListStaticEntitlementsRequest_builder{ResourceTypeId: t.GetId(), PageToken: token}.Build())
			return a.GetList(), a.GetNextPageToken(), err
		}, entitlementsAnswer)
		if err != nil {
			return err
		}
		if how.Contains(&v2.TypeScopedEntitlements{}) {
			err := recordList(dir, entitlementsKind, t, func(token string) ([]*v2.Entitlement, string, error) {
				a, err := c.ListEntitlements(ctx, v2.EntitlementsServiceListEntitlementsRequest_builder{
					Resource: all, PageToken: token, Annotations: annotations.New(&v2.TypeScopedEntitlements{}),
				}.Build())
				return a.GetList(), a.GetNextPageToken(), err
			}, entitlementsAnswer)
			if err != nil {
				return err
			}
		}
		if how.Contains(&v2.TypeScopedGrants{}) {
			err := recordList(dir, grantsKind, t, func(token string) ([]*v2.Grant, string, error) {
				a, err := c.ListGrants(ctx, v2.GrantsServiceListGrantsRequest_builder{
					Resource: all, PageToken: token, Annotations: annotations.New(&v2.TypeScopedGrants{}),
				}.Build())
				return a.GetList(), a.GetNextPageToken(), err
			}, func(list []*v2.Grant) proto.Message {
				return v2.GrantsServiceListGrantsResponse_builder{List: list}.Build()
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func entitlementsAnswer(list []*v2.Entitlement) proto.Message {
	return v2.EntitlementsServiceListEntitlementsResponse_builder{List: list}.Build()
}

// recordList reads a list to its end and keeps it as answers.
func recordList[T any](dir, kind string, t *v2.ResourceType, page func(token string) ([]T, string, error), answer func([]T) proto.Message) error {
	var waiting []T
	n := 0
	for token := ""; ; {
		list, next, err := page(token)
		if err != nil {
			return fmt.Errorf("record %s of %s: %w", kind, t.GetId(), err)
		}
		waiting = append(waiting, list...)
		for len(waiting) >= replayPage || next == "" && len(waiting) > 0 {
			some := waiting[:min(replayPage, len(waiting))]
			if err := write(answerFile(dir, kind, t.GetId(), n), answer(some)); err != nil {
				return err
			}
			waiting = waiting[len(some):]
			n++
		}
		if token = next; token == "" {
			return nil
		}
	}
}

func write(path string, m proto.Message) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// recordingVariable tells the replaying connector where its recording is.
const recordingVariable = "AIRLOCK_BENCH_RECORDING"

// replay is the process of the replaying connector: one that the SDK runs as it
// runs any other, with a process for the connector and one for the sync.
func replay() {
	batonconfig.RunConnector(context.Background(), "replay", "dev", field.NewConfiguration(nil), newReplay)
}

// replayed is the connector.
type replayed struct {
	dir   string
	types []*v2.ResourceType
}

func newReplay(context.Context, *config.Airflow, *cli.ConnectorOpts) (connectorbuilder.ConnectorBuilderV2, []connectorbuilder.Opt, error) {
	dir, listed := os.Getenv(recordingVariable), &v2.ResourceTypesServiceListResourceTypesResponse{}
	if _, err := answer(dir, typesKind, "", "", listed); err != nil {
		return nil, nil, err
	}
	return replayed{dir, listed.GetList()}, nil, nil
}

// answer reads the answer that a page token asks for, and tells the token of the
// one after it. Where there is none it is empty.
func answer(dir, kind, typeID, token string, into proto.Message) (next *rs.SyncOpResults, err error) {
	n := 0
	if token != "" {
		if n, err = strconv.Atoi(token); err != nil {
			return nil, err
		}
	}
	b, err := os.ReadFile(answerFile(dir, kind, typeID, n))
	if errors.Is(err, fs.ErrNotExist) && n == 0 {
		return &rs.SyncOpResults{}, nil
	}
	if err != nil {
		return nil, err
	}
	next = &rs.SyncOpResults{}
	if _, err := os.Stat(answerFile(dir, kind, typeID, n+1)); err == nil {
		next.NextPageToken = strconv.Itoa(n + 1)
	}
	return next, proto.Unmarshal(b, into)
}

func (replayed) Metadata(context.Context) (*v2.ConnectorMetadata, error) {
	return v2.ConnectorMetadata_builder{DisplayName: "Replay"}.Build(), nil
}

func (replayed) Validate(context.Context) (annotations.Annotations, error) { return nil, nil }

func (r replayed) ResourceSyncers(context.Context) []connectorbuilder.ResourceSyncerV2 {
	var syncers []connectorbuilder.ResourceSyncerV2
	for _, t := range r.types {
		if how := annotations.Annotations(t.GetAnnotations()); how.Contains(&v2.TypeScopedGrants{}) {
			syncers = append(syncers, replayedAccess{replayedType{r.dir, t}})
		} else {
			syncers = append(syncers, replayedType{r.dir, t})
		}
	}
	return syncers
}

// replayedType is a resource type without entitlements.
type replayedType struct {
	dir string
	t   *v2.ResourceType
}

func (r replayedType) ResourceType(context.Context) *v2.ResourceType { return r.t }

func (r replayedType) List(_ context.Context, _ *v2.ResourceId, opts rs.SyncOpAttrs) ([]*v2.Resource, *rs.SyncOpResults, error) {
	var a v2.ResourcesServiceListResourcesResponse
	next, err := answer(r.dir, resourcesKind, r.t.GetId(), opts.PageToken.Token, &a)
	return a.GetList(), next, err
}

func (replayedType) Entitlements(context.Context, *v2.Resource, rs.SyncOpAttrs) ([]*v2.Entitlement, *rs.SyncOpResults, error) {
	return nil, nil, nil
}

func (replayedType) Grants(context.Context, *v2.Resource, rs.SyncOpAttrs) ([]*v2.Grant, *rs.SyncOpResults, error) {
	return nil, nil, nil
}

// replayedAccess is one with.
type replayedAccess struct{ replayedType }

func (r replayedAccess) StaticEntitlements(_ context.Context, opts rs.SyncOpAttrs) ([]*v2.Entitlement, *rs.SyncOpResults, error) {
	return r.entitlements(staticKind, opts)
}

func (r replayedAccess) EntitlementsForResourceType(_ context.Context, _ string, opts rs.SyncOpAttrs) ([]*v2.Entitlement, *rs.SyncOpResults, error) {
	return r.entitlements(entitlementsKind, opts)
}

func (r replayedAccess) entitlements(kind string, opts rs.SyncOpAttrs) ([]*v2.Entitlement, *rs.SyncOpResults, error) {
	var a v2.EntitlementsServiceListEntitlementsResponse
	next, err := answer(r.dir, kind, r.t.GetId(), opts.PageToken.Token, &a)
	return a.GetList(), next, err
}

func (r replayedAccess) GrantsForResourceType(_ context.Context, _ string, opts rs.SyncOpAttrs) ([]*v2.Grant, *rs.SyncOpResults, error) {
	var a v2.GrantsServiceListGrantsResponse
	next, err := answer(r.dir, grantsKind, r.t.GetId(), opts.PageToken.Token, &a)
	return a.GetList(), next, err
}
