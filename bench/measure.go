package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	reader "github.com/conductorone/baton-sdk/pb/c1/reader/v2"

	"airlock/airflow/airflowtest"
	"airlock/connector/connectortest"
)

// bench is what is to be measured.
type bench struct {
	scales []airflowtest.Scale
	runs   int
	// all is whether more than the syncs is to be measured.
	all bool
	// dir is where the files go, program the connector.
	dir, program string
}

// measured is what was.
type measured struct {
	machine string
	took    time.Duration
	// before and after are the load of the machine.
	before, after string

	comparisons []comparison
	expansions  []expansion
	workers     []workers
	changes     []change
}

// comparison is a sync beside what it is made of.
type comparison struct {
	scale       airflowtest.Scale
	permissions bool
	pages       int
	requests    map[string]int
	found       *reader.SyncStats
	// client fetches the same pages; sdk stores the same objects; sync does both.
	client, sdk, sync usage
}

// ratio is how long a sync takes, where client and sdk take 1.
func (c comparison) ratio() float64 {
	return c.sync.Wall.Seconds() / (c.client.Wall + c.sdk.Wall).Seconds()
}

// expansion is what it costs to work out who has each permission by way of a role.
type expansion struct {
	scale           airflowtest.Scale
	plain, expanded usage
	// direct are the grants before, all those after.
	direct, all int64
	bytes       int64 // of the file
}

// workers is a sync with that many workers of the SDK's.
type workers struct {
	n    string
	sync usage
}

// change is many grants or revokes.
type change struct {
	what     string
	n        int
	took     time.Duration
	requests int
}

func (b bench) measure(ctx context.Context) (m measured, err error) {
	started := time.Now()
	m.machine, m.before = machine(), load()
	if b.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.program, err = connectortest.Build(ctx, b.dir); err != nil {
		return m, err
	}
	for _, scale := range b.scales {
		for _, permissions := range []bool{false, true} {
			c, err := b.compare(ctx, scale, permissions)
			if err != nil {
				return m, err
			}
			m.comparisons = append(m.comparisons, c)
		}
	}
	if b.all {
		if err := b.measureRest(ctx, &m); err != nil {
			return m, err
		}
	}
	m.took, m.after = time.Since(started), load()
	return m, nil
}

// measureRest measures what the syncs don't show.
func (b bench) measureRest(ctx context.Context, m *measured) (err error) {
	roles := b.scales[0].Roles
	for _, scale := range []airflowtest.Scale{
		{Users: 1000, Roles: roles, DAGs: 300}, {Users: 10000, Roles: roles, DAGs: 30}, {Users: 10000, Roles: roles, DAGs: 300},
	} {
		e, err := b.expand(ctx, scale)
		if err != nil {
			return err
		}
		m.expansions = append(m.expansions, e)
	}
	scale := airflowtest.Scale{Users: 10000, Roles: roles, DAGs: b.scales[0].DAGs}
	if m.workers, err = b.parallel(ctx, scale); err != nil {
		return err
	}
	m.changes, err = b.change(ctx, scale)
	return err
}

// contender is a connector to be synced, and its environment.
type contender struct {
	program string
	env     []string
}

// sync runs the sync as the program itself does, with all that follows from
// grants to groups.
func (c contender) sync(ctx context.Context, file string, args ...string) (usage, error) {
	return run(ctx, c.program, append([]string{"--file", file}, args...), c.env)
}

// syncUnexpanded runs it as a control plane does that hosts the connector and
// works out itself what follows from grants to groups.
func (c contender) syncUnexpanded(ctx context.Context, file string) (usage, error) {
	return run(ctx, self, []string{argument(planeSync{c.program, c.env, file})}, environment(asVariable+"="+asPlane))
}

func (b bench) compare(ctx context.Context, scale airflowtest.Scale, permissions bool) (c comparison, err error) {
	up, err := startUpstream(ctx, scale)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, up.stop()) }()
	pages := up.pages(permissions)
	c = comparison{scale: scale, permissions: permissions, pages: len(pages)}

	dir := filepath.Join(b.dir, fmt.Sprintf("recording-%d-%t", scale.Users, permissions))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return c, err
	}
	if err := b.record(ctx, up, permissions, dir); err != nil {
		return c, err
	}
	connector := contender{b.program, up.settings(permissions)}
	sdk := contender{self, environment(asVariable+"="+asReplay, recordingVariable+"="+dir, "BATON_LOG_LEVEL=error")}

	runs := b.runs
	if scale.Users <= 1000 {
		runs *= 3 // they are short
	}
	var clients, sdks, syncs []usage
	// What misses the aim is measured as often again: perhaps something disturbed it.
	for n := 0; n < runs || n < 2*runs && c.ratio() > aim; n++ {
		used, err := run(ctx, self, append([]string{up.url}, pages...), environment(asVariable+"="+asClient))
		if err != nil {
			return c, err
		}
		clients = append(clients, used)
		alone, stored, err := b.syncAndLook(ctx, sdk, permissions)
		if err != nil {
			return c, err
		}
		sdks = append(sdks, alone)
		if _, err := up.requests(ctx); err != nil {
			return c, err
		}
		both, found, err := b.syncAndLook(ctx, connector, permissions)
		if err != nil {
			return c, err
		}
		syncs = append(syncs, both)
		if c.requests, err = up.requests(ctx); err != nil {
			return c, err
		}
		if counts(stored) != counts(found) {
			return c, fmt.Errorf("the SDK alone stored %s, and the sync %s: they can't be compared", counts(stored), counts(found))
		}
		c.found = found
		c.client, c.sdk, c.sync = best(clients), best(sdks), best(syncs)
	}
	return c, nil
}

// record keeps what the connector answers for an Airflow.
func (b bench) record(ctx context.Context, up upstream, permissions bool, dir string) error {
	h, err := host(ctx, b.program, up.settings(permissions))
	if err != nil {
		return err
	}
	return errors.Join(record(ctx, dir, h), h.stop())
}

// syncAndLook runs a sync and tells what it found. What follows from permissions
// is left out: it would be most of it.
func (b bench) syncAndLook(ctx context.Context, c contender, permissions bool) (used usage, found *reader.SyncStats, err error) {
	file := filepath.Join(b.dir, "sync.c1z")
	if permissions {
		used, err = c.syncUnexpanded(ctx, file)
	} else {
		used, err = c.sync(ctx, file)
	}
	if err != nil {
		return used, nil, err
	}
	found, err = stats(ctx, file)
	return used, found, errors.Join(err, os.Remove(file))
}

func counts(s *reader.SyncStats) string {
	return fmt.Sprintf("%d resources, %d entitlements and %d grants", s.GetResources(), s.GetEntitlements(), s.GetGrants())
}

// best is the shortest time, since what disturbs only ever adds to it, and the
// median of what memory was used.
func best(runs []usage) usage {
	middle := func(of func(usage) int64) int64 { return slices.Sorted(slices.Values(each(runs, of)))[len(runs)/2] }
	return usage{
		Wall:   slices.Min(each(runs, func(u usage) time.Duration { return u.Wall })),
		Parent: middle(func(u usage) int64 { return u.Parent }),
		Child:  middle(func(u usage) int64 { return u.Child }),
	}
}

func (b bench) expand(ctx context.Context, scale airflowtest.Scale) (e expansion, err error) {
	up, err := startUpstream(ctx, scale)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, up.stop()) }()
	e.scale = scale
	connector := contender{b.program, up.settings(true)}
	file := filepath.Join(b.dir, "expansion.c1z")
	if e.plain, err = connector.syncUnexpanded(ctx, file); err != nil {
		return e, err
	}
	found, err := stats(ctx, file)
	if err := errors.Join(err, os.Remove(file)); err != nil {
		return e, err
	}
	e.direct = found.GetGrants()
	if e.expanded, err = connector.sync(ctx, file); err != nil {
		return e, err
	}
	if found, err = stats(ctx, file); err != nil {
		return e, err
	}
	e.all = found.GetGrants()
	info, err := os.Stat(file)
	if err != nil {
		return e, err
	}
	e.bytes = info.Size()
	return e, os.Remove(file)
}

func (b bench) parallel(ctx context.Context, scale airflowtest.Scale) (out []workers, err error) {
	up, err := startUpstream(ctx, scale)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, up.stop()) }()
	file := filepath.Join(b.dir, "workers.c1z")
	for _, n := range []string{"1", "2", "4"} {
		var syncs []usage
		for range b.runs {
			used, err := contender{b.program, up.settings(false)}.sync(ctx, file, "--workers", n)
			if err := errors.Join(err, os.Remove(file)); err != nil {
				return nil, err
			}
			syncs = append(syncs, used)
		}
		out = append(out, workers{n, best(syncs)})
	}
	return out, nil
}

// change gives a role to many users and takes it again, in a connector that runs.
func (b bench) change(ctx context.Context, scale airflowtest.Scale) (out []change, err error) {
	up, err := startUpstream(ctx, scale)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, up.stop()) }()
	h, err := host(ctx, b.program, append(up.settings(false), "BATON_PROVISIONING=true"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.stop()) }()

	resource := func(t, id string) *v2.Resource {
		return v2.Resource_builder{Id: v2.ResourceId_builder{ResourceType: t, Resource: id}.Build()}.Build()
	}
	op := v2.Entitlement_builder{Id: "role:Op:assigned", Slug: "assigned", Resource: resource("role", "Op")}.Build()
	grant := func(user string) error {
		_, err := h.Grant(ctx, v2.GrantManagerServiceGrantRequest_builder{Entitlement: op, Principal: resource("user", user)}.Build())
		return err
	}
	revoke := func(user string) error {
		_, err := h.Revoke(ctx, v2.GrantManagerServiceRevokeRequest_builder{Grant: v2.Grant_builder{
			Id: "role:Op:assigned:user:" + user, Entitlement: op, Principal: resource("user", user),
		}.Build()}.Build())
		return err
	}
	if err := grant("admin"); err != nil { // signs in and looks at what Airflow it is
		return nil, err
	}
	for _, kind := range []struct {
		what   string
		do     func(user string) error
		atOnce int
	}{
		{"grant, one after the other", grant, 1},
		{"grant again, what is there already", grant, 1},
		{"revoke, one after the other", revoke, 1},
		{"grant, eight at a time", grant, 8},
		{"revoke, eight at a time", revoke, 8},
	} {
		if _, err := up.requests(ctx); err != nil {
			return nil, err
		}
		c := change{what: kind.what, n: 1000}
		started := time.Now()
		if err := eachUser(c.n, kind.atOnce, kind.do); err != nil {
			return nil, fmt.Errorf("%s: %w", kind.what, err)
		}
		c.took = time.Since(started)
		requests, err := up.requests(ctx)
		if err != nil {
			return nil, err
		}
		for _, n := range requests {
			c.requests += n
		}
		out = append(out, c)
	}
	return out, nil
}

// eachUser calls do for so many users, so many at once.
func eachUser(n, atOnce int, do func(user string) error) error {
	users := make(chan string)
	failed := make([]error, atOnce)
	var working sync.WaitGroup
	for i := range atOnce {
		working.Go(func() {
			for user := range users {
				failed[i] = errors.Join(failed[i], do(user))
			}
		})
	}
	for i := range n {
		users <- fmt.Sprintf("user-%06d", i)
	}
	close(users)
	working.Wait()
	return errors.Join(failed...)
}
