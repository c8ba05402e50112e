package insight

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/job"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
	"airlock/internal/identity"
	"airlock/internal/ingest/pack"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// rig is a Service over an app of a connector that has a pack.
type rig struct {
	*Service
	t      *testing.T
	stamp  inventory.Stamp
	stock  *inventory.Service
	people *identity.Service
}

func newRig(t *testing.T, d *db.DB, packs pack.Packs) *rig {
	t.Helper()
	key, err := seal.NewKey()
	check(t, err)
	keys, err := seal.OpenKeyring("", key)
	check(t, err)
	quiet := slog.New(slog.DiscardHandler)
	now := clock.NewFake(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
	hub, vault := live.New(d, quiet), seal.NewVault(d, keys, now)
	jobs, err := job.New(d, quiet)
	check(t, err)
	t.Cleanup(func() { check(t, jobs.Stop(context.Background())) })
	log, err := audit.New(d, vault, now, audit.Options{})
	check(t, err)
	people := identity.New(d, log, vault, hub, now)
	stock := inventory.New(d, log, people, hub, now)
	connectors := integration.New(integration.Config{
		DB: d, Jobs: jobs, Live: hub, Audit: log, Vault: vault, Identity: people, Inventory: stock, Clock: now, Log: quiet, PublicHost: "airlock.test",
	})
	connector, _, err := connectors.Add(t.Context(), identity.Operator(), integration.AddConnector{Catalog: "kitchen", App: "Kitchen"})
	check(t, err)
	r := &rig{Service: New(d, connectors, packs), t: t, stock: stock, people: people, stamp: inventory.Stamp{AppID: connector.AppID, SyncID: "sync", At: now.Now()}}
	r.write(func(ctx context.Context, tx *db.Tx) error {
		var types []inventory.TypeRow
		for _, kind := range []string{"cook", "badge", "oven", "room"} {
			types = append(types, inventory.TypeRow{ID: kind, ExternalID: kind, Name: kind, Traits: []string{}})
		}
		return inventory.PutTypes(ctx, tx, r.stamp.AppID, types, r.stamp.At)
	})
	return r
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) write(do func(ctx context.Context, tx *db.Tx) error) {
	r.t.Helper()
	check(r.t, r.db.Write(r.t.Context(), do))
}

// thing adds a resource with entitlements; ids are type:id and type:id:slug.
func (r *rig) thing(kind, id, purpose string, slugs ...string) {
	r.t.Helper()
	r.write(func(ctx context.Context, tx *db.Tx) error {
		key := kind + ":" + id
		err := inventory.AddResources(ctx, tx, r.stamp, []inventory.ResourceRow{{
			ID: key, TypeID: kind, ExternalID: id, Name: strings.ToUpper(id), Profile: "{}", Source: []byte{}, Hash: []byte{},
		}})
		if err != nil {
			return err
		}
		var rows []inventory.EntitlementRow
		for _, slug := range slugs {
			rows = append(rows, inventory.EntitlementRow{
				ID: key + ":" + slug, ResourceID: key, ExternalID: key + ":" + slug, Slug: slug, Name: slug + " of " + id,
				Purpose: purpose, GrantableTo: []string{}, Source: []byte{}, Hash: []byte{},
			})
		}
		return inventory.AddEntitlements(ctx, tx, r.stamp, rows)
	})
}

// gives says that whoever holds a badge holds others too.
func (r *rig) gives(badge string, others ...string) {
	r.t.Helper()
	r.write(func(ctx context.Context, tx *db.Tx) error {
		var edges []inventory.Edge
		for _, other := range others {
			edges = append(edges, inventory.Edge{SourceID: "badge:" + badge + ":worn", TargetID: other, PrincipalID: "badge:" + badge, TypeID: "cook", Shallow: true})
		}
		return inventory.AddEdges(ctx, tx, r.stamp.AppID, edges)
	})
}

var kitchen = pack.Packs{"kitchen": {
	Connector: "kitchen", Groups: map[string]pack.Group{"oven": {One: "the oven", Many: "ovens"}},
	Words: []pack.Words{
		{Type: "oven", Slug: "use", Says: "use {which}: heat it", Risk: "medium"},
		{Type: "room", ID: "ovens", Slug: "use", Says: "use all ovens", Risk: "medium", Covers: &pack.Covered{Type: "oven", Slug: "use"}},
		{Type: "room", ID: "safe", Says: "open the {name}", Risk: "critical"},
		{Type: "room", Slug: "enter", Says: "enter {name}", Risk: "low"},
	},
}}

func lines(m Meaning) (out []string) {
	for _, l := range m.Lines {
		out = append(out, fmt.Sprintf("%s|%s|%s on %s|%d/%d|%s", l.Risk, l.Words, l.Slug, l.On, l.Count, l.Of, strings.Join(l.Names, ",")))
	}
	return out
}

func TestWhatAnEntitlementLetsOneDoIsToldRiskiestFirst(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d, kitchen)
		for _, oven := range []string{"a", "b", "c", "d", "e"} {
			r.thing("oven", oven, "permission", "use", "sell")
		}
		for _, room := range []string{"ovens", "safe", "hall"} {
			r.thing("room", room, "permission", "use", "enter")
		}
		for _, badge := range []string{"few", "one", "all", "chief", "none"} {
			r.thing("badge", badge, "assignment", "worn")
		}
		all := []string{"oven:a:use", "oven:b:use", "oven:c:use", "oven:d:use", "oven:e:use"}
		r.gives("few", append([]string{"room:hall:enter", "oven:d:sell"}, all[:4]...)...)
		r.gives("one", "oven:c:use", "room:ovens:use") // of all by name, of one alone in truth
		r.gives("all", append([]string{"room:ovens:use"}, all...)...)
		r.gives("chief", "room:safe:use", "room:safe:enter", "room:hall:use")

		got, err := r.Meanings(t.Context(), identity.Operator(), r.stamp.AppID, []string{
			"badge:few:worn", "badge:one:worn", "badge:all:worn", "badge:chief:worn", "badge:none:worn", "oven:b:use",
		})
		check(t, err)
		for badge, want := range map[string]struct {
			summary string
			lines   []string
		}{
			"badge:few:worn": {"use 4 ovens; 2 more", []string{
				"medium|use 4 ovens: heat it|use on 4 of 5 ovens|4/5|A,B,C", "low|enter HALL|enter on HALL|1/0|HALL", "|sell of d|sell on D|1/5|D",
			}},
			"badge:one:worn": {"use all ovens; use the oven C", []string{
				"medium|use all ovens|use on OVENS|1/0|OVENS", "medium|use the oven C: heat it|use on C|1/5|C",
			}},
			"badge:all:worn": {"use all 5 ovens", []string{"medium|use all 5 ovens: heat it|use on OVENS|5/5|A,B,C"}},
			"badge:chief:worn": {"open the SAFE; open the SAFE; 1 more", []string{
				"critical|open the SAFE|enter on SAFE|1/0|SAFE", "critical|open the SAFE|use on SAFE|1/0|SAFE", "|use of hall|use on HALL|1/0|HALL",
			}},
			"badge:none:worn": {"", nil},
			"oven:b:use":      {"use the oven B", []string{"medium|use the oven B: heat it|use on B|1/5|B"}},
		} {
			if diff := cmp.Diff(want.lines, lines(got[badge])); diff != "" {
				t.Errorf("%s: %s", badge, diff)
			}
			if summary := got[badge].Summary(); summary != want.summary {
				t.Errorf("%s: %q, want %q", badge, summary, want.summary)
			}
		}
		if risk := got["badge:chief:worn"].Risk; risk != inventory.Critical {
			t.Errorf("the chief's badge has the risk %q", risk)
		}
	})
}

func TestGroupsThatGiveRolesGiveWhatTheseGive(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d, kitchen)
		r.thing("room", "safe", "permission", "use")
		r.thing("badge", "deep", "assignment", "worn")
		r.thing("badge", "team", "assignment", "worn")
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return inventory.AddEdges(ctx, tx, r.stamp.AppID, []inventory.Edge{
				{SourceID: "badge:team:worn", TargetID: "badge:deep:worn", PrincipalID: "badge:team"},
				{SourceID: "badge:deep:worn", TargetID: "room:safe:use", PrincipalID: "badge:deep"},
				{SourceID: "badge:deep:worn", TargetID: "badge:team:worn", PrincipalID: "badge:deep"}, // a circle
			})
		})
		got, err := r.Meanings(t.Context(), identity.Operator(), r.stamp.AppID, []string{"badge:team:worn", "badge:deep:worn"})
		check(t, err)
		for id, m := range got {
			if diff := cmp.Diff([]string{"critical|open the SAFE|use on SAFE|1/0|SAFE"}, lines(m)); diff != "" {
				t.Errorf("%s: %s", id, diff)
			}
		}
	})
}

// What a connector found has a meaning also once it is removed.
func TestAPackOutlivesItsConnector(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d, kitchen)
		r.thing("room", "safe", "permission", "use")
		_, err := r.integration.Remove(t.Context(), identity.Operator(), "Kitchen")
		check(t, err)
		got, err := r.Meanings(t.Context(), identity.Operator(), r.stamp.AppID, []string{"room:safe:use"})
		check(t, err)
		if diff := cmp.Diff([]string{"critical|open the SAFE|use on SAFE|1/0|SAFE"}, lines(got["room:safe:use"])); diff != "" {
			t.Error(diff)
		}
	})
}

func TestMeaningsAreForWhomTheAppIs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d, kitchen)
		_, err := r.people.ImportPeople(t.Context(), identity.Operator(), strings.NewReader("name,email\nAnn,ann@kitchen.example\n"))
		check(t, err)
		ann, err := r.people.Find(t.Context(), d, "Ann")
		check(t, err)
		r.write(func(ctx context.Context, tx *db.Tx) error {
			return r.stock.SetOwners(ctx, tx, identity.Operator(), r.stamp.AppID, []inventory.Owner{{Kind: inventory.OwnerPerson, ID: ann.ID}})
		})
		for _, test := range []struct {
			person string
			role   identity.Roles
			may    bool
		}{{ann.ID, identity.ApplicationAdmin, true}, {"bob", identity.ApplicationAdmin, false}, {"bob", identity.Auditor, true}, {ann.ID, identity.User, false}} {
			if _, err := r.Meanings(t.Context(), identity.PersonActor(test.person, "", test.role), r.stamp.AppID, nil); (err == nil) != test.may {
				t.Errorf("%s as %s: %v", test.person, test.role, err)
			}
		}
	})
}

func TestWithoutAPackNamesAreTold(t *testing.T) {
	d := dbtest.Open(t, db.SQLite)
	r := newRig(t, d, nil)
	r.thing("room", "hall", "permission", "enter")
	r.thing("badge", "plain", "assignment", "worn")
	r.gives("plain", "room:hall:enter")
	got, err := r.Meanings(t.Context(), identity.Operator(), r.stamp.AppID, []string{"badge:plain:worn"})
	check(t, err)
	if diff := cmp.Diff([]string{"|enter of hall|enter on HALL|1/0|HALL"}, lines(got["badge:plain:worn"])); diff != "" {
		t.Error(diff)
	}
	if m, err := r.Meanings(t.Context(), identity.Actor{Kind: "stranger"}, r.stamp.AppID, []string{"badge:plain:worn"}); err == nil {
		t.Errorf("a stranger is told %v", m)
	}
}
