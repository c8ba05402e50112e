package ingest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/connectorstore"
	"github.com/conductorone/baton-sdk/pkg/dotc1z"
	"github.com/conductorone/baton-sdk/pkg/dotc1z/c1zstore"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/integration"
)

// BenchmarkIngest measures a first sync, one without changes, and one in which one
// in a hundred grants changed, beside a bare load of the same rows into the same
// tables in the same chunks. BENCH_GRANTS is the number of grants, a million
// unless it is set; a tenth of that are users. Run it with -benchtime 1x.
func BenchmarkIngest(b *testing.B) {
	grants := 1_000_000
	if n, err := strconv.Atoi(os.Getenv("BENCH_GRANTS")); err == nil {
		grants = n
	}
	for _, format := range []c1zstore.Engine{c1zstore.EnginePebble, c1zstore.EngineSQLite} {
		whole, other := large(b, format, grants, false), large(b, format, grants, true)
		for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
			b.Run(fmt.Sprintf("%s from %s", engine, format), func(b *testing.B) {
				for range b.N {
					r := newRig(b, dbtest.Open(b, engine))
					r.decoder = decoder(b)
					first := measure(b, r, "first", whole)
					unchanged := measure(b, r, "unchanged", whole)
					measure(b, r, "1%", other)
					bare := bareLoad(b, r, dbtest.Open(b, engine))
					b.ReportMetric(first.Seconds()/bare.Seconds(), "first/bare")
					b.ReportMetric(unchanged.Seconds()/bare.Seconds(), "unchanged/bare")
				}
			})
		}
	}
}

func measure(b *testing.B, r *rig, name, path string) time.Duration {
	b.Helper()
	syncID := r.bring(path)
	var longest time.Duration
	r.wrote = func(took time.Duration) error { longest = max(longest, took); return nil }
	runtime.GC()
	peak, stop := memory()
	start := time.Now()
	check(b, r.ingest(b.Context(), syncID))
	took := time.Since(start)
	close(stop)
	if sync := r.state(syncID); sync.State != integration.Applied {
		b.Fatalf("%s: %s %s %s", name, sync.State, sync.Error, sync.Anomaly)
	}
	b.Logf("%s: %s, longest transaction %s, peak heap %d MB", name, took.Round(time.Millisecond), longest.Round(time.Millisecond), <-peak>>20)
	b.ReportMetric(took.Seconds(), name+"-s")
	b.ReportMetric(float64(longest.Milliseconds()), name+"-longest-ms")
	return took
}

// memory watches how much memory is in use until it is told to stop.
func memory() (peak chan uint64, stop chan struct{}) {
	peak, stop = make(chan uint64, 1), make(chan struct{})
	go func() {
		var most uint64
		var stats runtime.MemStats
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-tick.C:
				runtime.ReadMemStats(&stats)
				most = max(most, stats.HeapInuse+stats.StackInuse)
			case <-stop:
				peak <- most
				return
			}
		}
	}()
	return peak, stop
}

// bareLoad writes the inventory of the rig's app into another database.
func bareLoad(b *testing.B, r *rig, to *db.DB) time.Duration {
	b.Helper()
	type table struct {
		name    string
		columns []string
		rows    [][]any
	}
	tables := []*table{
		{"app", []string{"id", "name", "name_key", "managed", "source", "external_id", "description", "matching", "directory", "sync_id", "ingest_id", "ingest_runs", "fence", "created_at"}, nil},
		{"resource_type", []string{"id", "app_id", "external_id", "name", "description", "traits", "first_seen_at"}, nil},
		{"resource", []string{"id", "app_id", "type_id", "external_id", "parent_id", "name", "search", "description", "profile", "source", "hash", "first_sync_id", "first_seen_at", "changed_at"}, nil},
		{"account", []string{"id", "app_id", "login", "email", "employee_id", "keys", "kind", "kind_by_hand", "status", "status_detail", "last_login_at", "created_at", "person_id", "matched_by", "matched_at"}, nil},
		{"entitlement", []string{"id", "app_id", "resource_id", "external_id", "slug", "name", "search", "description", "purpose", "grantable_to", "immutable", "source", "hash", "risk", "requestable", "longest_s", "owner_id", "grant_count", "first_sync_id", "first_seen_at", "changed_at"}, nil},
		{"access_grant", []string{"app_id", "entitlement_id", "principal_id", "external_id", "flags", "since", "sync_id"}, nil},
	}
	for _, t := range tables {
		query := "SELECT "
		for n, column := range t.columns {
			if n > 0 {
				query += ", "
			}
			query += column
		}
		order := " ORDER BY id"
		if t.name == "access_grant" {
			order = " ORDER BY app_id, entitlement_id, principal_id"
		}
		check(b, db.Each(b.Context(), r.db, func(row db.Scanner) error {
			values, targets := make([]any, len(t.columns)), make([]any, len(t.columns))
			for n := range values {
				targets[n] = &values[n]
			}
			err := row.Scan(targets...)
			for n, column := range t.columns {
				if column == "managed" || column == "directory" || column == "kind_by_hand" || column == "immutable" || column == "requestable" {
					if number, ok := values[n].(int64); ok {
						values[n] = number != 0
					}
				}
			}
			t.rows = append(t.rows, values)
			return err
		}, query+" FROM "+t.name+order))
	}
	runtime.GC()
	few, some := chunks(to.Engine())
	var longest time.Duration
	start := time.Now()
	for _, t := range tables {
		size := few
		if t.name == "access_grant" {
			size = some
		}
		for rows := range slices.Chunk(t.rows, size) {
			begin := time.Now()
			check(b, to.Write(b.Context(), func(ctx context.Context, tx *db.Tx) error { return tx.Insert(ctx, t.name, t.columns, rows) }))
			longest = max(longest, time.Since(begin))
		}
	}
	took := time.Since(start)
	b.Logf("bare load: %s, longest transaction %s", took.Round(time.Millisecond), longest.Round(time.Millisecond))
	b.ReportMetric(took.Seconds(), "bare-s")
	return took
}

// large makes a file of many grants: ten of a user, of a thousand entitlements.
// The other one has one in a hundred that the first hasn't, and the reverse.
func large(b *testing.B, engine c1zstore.Engine, grants int, other bool) string {
	b.Helper()
	ctx, dir := b.Context(), b.TempDir()
	path := filepath.Join(dir, "large.c1z")
	store, err := dotc1z.NewStore(ctx, path, dotc1z.WithEngine(engine), dotc1z.WithTmpDir(dir))
	check(b, err)
	_, err = store.StartNewSync(ctx, connectorstore.SyncTypeFull, "")
	check(b, err)
	check(b, store.PutResourceTypes(ctx, world{types: []string{"user!", "team"}}.typeList()...))
	const teams = 1000
	var resources []*v2.Resource
	var entitlements []*v2.Entitlement
	for n := range teams {
		resources = append(resources, thingOf{id: fmt.Sprint("team:t", n), name: fmt.Sprint("Team ", n)}.sent(b))
		entitlements = append(entitlements, entitlementOf(fmt.Sprintf("team:t%d:member", n)))
	}
	for n := range grants / 10 {
		login := fmt.Sprint("user-", n)
		resources = append(resources, thingOf{
			id: "user:" + login, name: fmt.Sprint("User ", n), login: login, email: login + "@example.com",
			account: v2.UserTrait_ACCOUNT_TYPE_HUMAN, status: v2.Status_RESOURCE_STATUS_ENABLED, profile: map[string]any{"department": fmt.Sprint(n % 20)},
		}.sent(b))
	}
	for chunk := range slices.Chunk(resources, 5000) {
		check(b, store.PutResources(ctx, chunk...))
	}
	check(b, store.PutEntitlements(ctx, entitlements...))
	var list []*v2.Grant
	for n := range grants {
		user, team := n/10, (n/10*7+n%10*101)%teams
		if other && n%100 == 0 {
			team = (team + 50) % teams
		}
		list = append(list, grantOf{entitlement: fmt.Sprintf("team:t%d:member", team), principal: fmt.Sprint("user:user-", user)}.sent())
		if len(list) == 10_000 || n == grants-1 {
			check(b, store.PutGrants(ctx, list...))
			list = list[:0]
		}
	}
	check(b, store.EndSync(ctx))
	check(b, store.Close(ctx))
	return path
}
