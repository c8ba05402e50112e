package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/db/pgserver"
)

// serverBench is what is to be measured of the server.
type serverBench struct {
	grants int
	runs   int
	// profiles is the folder that the CPU profiles of ingests go to, and then nothing
	// else is measured, or "".
	profiles string
	// dir is where the files go, program the server.
	dir, program string
}

// serverMeasured is what was.
type serverMeasured struct {
	machine       string
	took          time.Duration
	before, after string
	company       company
	bytes         int64 // of its file
	engines       []engineMeasured
}

// engineMeasured is what was measured on one database.
type engineMeasured struct {
	engine  db.Engine
	version string
	// bare writes the rows that first wrote.
	bare, first, unchanged, changed used
	alone, among                    handedOver
	start                           starts
	idle                            idle
}

// The most that the ingests may take, where the bare load takes 1: those of so many
// grants. What doesn't grow with them is more than that of fewer.
const (
	firstAim     = 2
	unchangedAim = 0.5
	aimedGrants  = 1_000_000
)

func (e engineMeasured) ratio(u used) float64 { return u.Took.Seconds() / e.bare.Took.Seconds() }

func (e engineMeasured) missed() bool {
	return e.ratio(e.first) > firstAim || e.ratio(e.unchanged) > unchangedAim
}

// measure measures everything. The databases take turns where something takes long.
func (b serverBench) measure(ctx context.Context) (m serverMeasured, err error) {
	started := time.Now()
	m.machine, m.before, m.company = machine(), load(), company{Grants: b.grants}
	if b.grants < 10_000 || b.grants%1000 != 0 {
		return m, fmt.Errorf("-grants %d: it takes some thousand, 10,000 at least", b.grants)
	}
	if b.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.profiles == "" {
		if b.program, err = buildServer(ctx, b.dir); err != nil {
			return m, err
		}
	}
	for _, changed := range []bool{false, true} {
		if err := (company{b.grants, changed}).write(ctx, b.file(changed)); err != nil {
			return m, err
		}
	}
	info, err := os.Stat(b.file(false))
	if err != nil {
		return m, err
	}
	m.bytes = info.Size()

	postgres, stop, err := startPostgres(ctx)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, p := range []place{{engine: db.SQLite, dir: b.dir}, {engine: db.Postgres, dir: b.dir, postgres: postgres}} {
		e, err := b.on(ctx, p)
		if err != nil {
			return m, fmt.Errorf("on %s: %w", p.engine, err)
		}
		m.engines = append(m.engines, e)
	}
	m.took, m.after = time.Since(started), load()
	return m, nil
}

func (b serverBench) file(changed bool) string {
	return filepath.Join(b.dir, fmt.Sprintf("company-changed-%t.c1z", changed))
}

// startPostgres starts a server that keeps what it commits, as one in use does.
func startPostgres(ctx context.Context) (*pgserver.Server, func() error, error) {
	dir, err := os.MkdirTemp("", "bench-pg-")
	if err != nil {
		return nil, nil, err
	}
	s, err := pgserver.Start(ctx, dir, "fsync=on", "synchronous_commit=on", "full_page_writes=on", "shared_buffers=256MB", "max_wal_size=4GB")
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, func() error {
		s.Stop()
		return os.RemoveAll(dir)
	}, nil
}

// place is where databases are made.
type place struct {
	engine   db.Engine
	dir      string
	postgres *pgserver.Server
}

// fresh makes a data directory, and a database beside it where that isn't in it.
// An older one of that name goes.
func (p place) fresh(ctx context.Context, name string) (dir, database string, err error) {
	name = string(p.engine) + "_" + name
	dir = filepath.Join(p.dir, name)
	if err := os.RemoveAll(dir); err != nil {
		return "", "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", "", err
	}
	if p.engine == db.SQLite {
		return dir, "", nil
	}
	for _, statement := range []string{"DROP DATABASE IF EXISTS " + name + " WITH (FORCE)", "CREATE DATABASE " + name} {
		if err := p.postgres.Exec(ctx, statement); err != nil {
			return "", "", err
		}
	}
	return dir, p.postgres.URL(name), nil
}

// where is a fresh database as package db opens it.
func (p place) where(ctx context.Context, name string) (dir, where string, err error) {
	dir, where, err = p.fresh(ctx, name)
	if where == "" {
		where = filepath.Join(dir, "airlock.db")
	}
	return dir, where, err
}

// version is the version of the database's program.
func (p place) version(ctx context.Context) (version string, err error) {
	_, where, err := p.where(ctx, "version")
	if err != nil {
		return "", err
	}
	d, err := db.Open(ctx, where)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	query := "SHOW server_version"
	if p.engine == db.SQLite {
		query = "SELECT sqlite_version()"
	}
	version, err = db.Value[string](ctx, d, query)
	version, _, _ = strings.Cut(version, " ")
	return version, err
}

// on measures everything on one database.
func (b serverBench) on(ctx context.Context, p place) (e engineMeasured, err error) {
	e.engine = p.engine
	if e.version, err = p.version(ctx); err != nil {
		return e, err
	}
	if err := b.ingests(ctx, p, &e); err != nil || b.profiles != "" {
		return e, err
	}
	for _, h := range []struct {
		connectors int
		result     *handedOver
	}{{1, &e.alone}, {50, &e.among}} {
		dir, where, err := p.where(ctx, "handover")
		if err != nil {
			return e, err
		}
		if *h.result, err = ask[handedOver](ctx, asHandOver, handOver{Where: where, Dir: dir, Connectors: h.connectors, Tasks: 1000}); err != nil {
			return e, err
		}
	}
	if e.start, err = b.start(ctx, p); err != nil {
		return e, err
	}
	e.idle, err = b.idle(ctx, p)
	return e, err
}

// ingests measures the ingests and the bare load in turn.
func (b serverBench) ingests(ctx context.Context, p place, e *engineMeasured) error {
	moved := int64(company{Grants: b.grants}.moved())
	var bare, first, unchanged, changed []used
	// What misses an aim is measured as often again: perhaps something disturbed it.
	for n := 0; n < b.runs || n < 2*b.runs && b.grants >= aimedGrants && e.missed(); n++ {
		dir, where, err := p.where(ctx, "ingest")
		if err != nil {
			return err
		}
		for _, step := range []struct {
			name           string
			file           string
			runs           *[]used
			added, removed int64
		}{
			{"first", b.file(false), &first, int64(b.grants), 0},
			{"unchanged", b.file(false), &unchanged, 0, 0},
			{"changed", b.file(true), &changed, moved, moved},
		} {
			if step.name == "unchanged" { // the rows are still those that the first wrote
				_, into, err := p.where(ctx, "bare")
				if err != nil {
					return err
				}
				one, err := ask[used](ctx, asBareLoad, bareLoad{From: where, Into: into})
				if err != nil {
					return err
				}
				bare = append(bare, one)
			}
			profile := ""
			if b.profiles != "" {
				profile = filepath.Join(b.profiles, fmt.Sprintf("%s-%s.pprof", p.engine, step.name))
			}
			one, err := ask[used](ctx, asIntake, intake{Where: where, Dir: dir, File: step.file, Profile: profile})
			if err != nil {
				return err
			}
			if got := one.Changes.Grants; got.Added != step.added || got.Removed != step.removed {
				return fmt.Errorf("the ingest %q added %d grants and removed %d, not %d and %d", step.name, got.Added, got.Removed, step.added, step.removed)
			}
			*step.runs = append(*step.runs, one)
		}
		e.bare, e.first, e.unchanged, e.changed = bestUsed(bare), bestUsed(first), bestUsed(unchanged), bestUsed(changed)
	}
	return nil
}

// bestUsed is the shortest time, since what disturbs only ever adds to it, and the
// median of the rest.
func bestUsed(runs []used) used {
	middle := func(of func(used) int64) int64 { return slices.Sorted(slices.Values(each(runs, of)))[len(runs)/2] }
	return used{
		Took:    slices.Min(each(runs, func(u used) time.Duration { return u.Took })),
		Longest: time.Duration(middle(func(u used) int64 { return int64(u.Longest) })),
		Memory:  usage{Parent: middle(func(u used) int64 { return u.Memory.Parent }), Child: middle(func(u used) int64 { return u.Memory.Child })},
		WAL:     middle(func(u used) int64 { return u.WAL }),
		Changes: runs[0].Changes,
	}
}
