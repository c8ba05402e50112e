package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/ingest"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// intake is the process that ingests a file, as a server does: the job, on what
// was uploaded before.
type intake struct {
	Where   string // the database
	Dir     string // for what else it keeps
	File    string
	Profile string // where its CPU profile goes, or ""
}

// used is what an ingest or a bare load took.
type used struct {
	Took    time.Duration
	Longest time.Duration // that a transaction was open
	Memory  usage         // of the process, and of the one that reads the file for it
	WAL     int64         // SQLite: how large it became; PostgreSQL: what was written to it
	Changes ingest.Changes
}

const appName = "Company"

func (i intake) run(ctx context.Context) (u used, err error) {
	var longest longest
	m, err := openDomain(ctx, i.Where, i.Dir, longest.note)
	if err != nil {
		return u, err
	}
	defer func() { err = errors.Join(err, m.close(ctx)) }()
	app, err := m.app(ctx)
	if err != nil {
		return u, err
	}
	wal, err := watchWAL(ctx, m.db, i.Where)
	if err != nil {
		return u, err
	}
	if i.Profile != "" {
		profile, err := os.Create(i.Profile)
		if err != nil {
			return u, err
		}
		defer func() { err = errors.Join(err, profile.Close()) }()
		if err := pprof.StartCPUProfile(profile); err != nil {
			return u, err
		}
		defer pprof.StopCPUProfile()
	}
	file, err := os.Open(i.File)
	if err != nil {
		return u, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	syncID, err := m.ingest.IngestFile(ctx, identity.Operator(), app.ID, file)
	if err != nil {
		return u, err
	}
	began := time.Now() // the upload is over, the job is queued
	done, watched := make(chan struct{}), make(chan usage)
	go func() { watched <- watch(os.Getpid(), 100*time.Millisecond, done) }() // seldom: it is a part of what is measured
	sync, err := m.applied(ctx, syncID)
	u.Took, u.Longest = time.Since(began), longest.get()
	close(done)
	u.Memory = <-watched
	if err != nil {
		return u, err
	}
	if u.WAL, err = wal(); err != nil {
		return u, err
	}
	if err := json.Unmarshal(sync.Changes, &u.Changes); err != nil {
		return u, err
	}
	return u, settle(ctx, m.db)
}

// app is the company's app, which is made where there is none.
func (m *domain) app(ctx context.Context) (inventory.App, error) {
	app, err := m.inventory.AppByName(ctx, m.db, appName)
	if !fault.Is(err, fault.NotFound) {
		return app, err
	}
	err = m.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		app, err = m.inventory.AddApp(ctx, tx, identity.Operator(), inventory.App{Name: appName, Managed: true, Matching: inventory.Broad})
		return err
	})
	return app, err
}

// applied returns a sync once it was applied.
func (m *domain) applied(ctx context.Context, syncID string) (integration.Sync, error) {
	news := m.live.Subscribe("sync/" + syncID)
	defer news.Close()
	for {
		sync, err := m.integration.SyncByID(ctx, m.db, syncID)
		switch {
		case err != nil || sync.State == integration.Applied:
			return sync, err
		case sync.State.Over() || sync.State == integration.HeldBack:
			return sync, fmt.Errorf("the sync is %s: %s %s", sync.State, sync.Error, sync.Anomaly)
		}
		select {
		case <-news.C():
		case <-ctx.Done():
			return sync, ctx.Err()
		}
	}
}

// longest is the longest of many times.
type longest struct{ most atomic.Int64 }

func (l *longest) note(held time.Duration) {
	for {
		most := l.most.Load()
		if int64(held) <= most || l.most.CompareAndSwap(most, int64(held)) {
			return
		}
	}
}

func (l *longest) get() time.Duration { return time.Duration(l.most.Load()) }

// watchWAL watches the write-ahead log of a database. The function that it returns
// ends that, and tells its size.
func watchWAL(ctx context.Context, d *db.DB, where string) (func() (int64, error), error) {
	if d.Engine() == db.Postgres {
		at, err := db.Value[string](ctx, d, `SELECT CAST(pg_current_wal_lsn() AS TEXT)`)
		return func() (int64, error) {
			return db.Value[int64](ctx, d, `SELECT CAST(pg_wal_lsn_diff(pg_current_wal_lsn(), CAST($1 AS pg_lsn)) AS BIGINT)`, at)
		}, err
	}
	most, end, ended := int64(0), make(chan struct{}), make(chan struct{})
	look := func() {
		if info, err := os.Stat(where + "-wal"); err == nil {
			most = max(most, info.Size())
		}
	}
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				look()
			case <-end:
				return
			}
		}
	}()
	return func() (int64, error) {
		close(end)
		<-ended
		look()
		return most, nil
	}, nil
}

// settle does what PostgreSQL does by itself within a minute.
func settle(ctx context.Context, d *db.DB) error {
	if d.Engine() != db.Postgres {
		return nil
	}
	_, err := d.Writer().ExecContext(ctx, "VACUUM (ANALYZE)")
	return err
}

// bareLoad is the process that writes the rows of one database into another that
// is empty: into the same tables with the same indexes, as many in a transaction
// as an ingest writes. What reading them takes doesn't count.
type bareLoad struct{ From, Into string }

// loadings are the tables, each with the columns of its key, and as many rows for a
// transaction as package ingest has there. Accounts go with their resources.
func loadings(engine db.Engine) []loading {
	few, some := 500, 1000
	if engine == db.Postgres {
		few, some = 1000, 4000
	}
	return []loading{
		{"app", "id", few, ""},
		{"resource_type", "id", few, ""},
		{"resource", "id", few, "account"},
		{"entitlement", "id", few, ""},
		{"access_grant", "app_id, entitlement_id, principal_id", some, ""},
		{"expansion", "app_id, target_id, principal_id, source_id, type_id", 500, ""},
	}
}

type loading struct {
	table, key string
	rows       int    // of one transaction
	with       string // a table with the same key
}

// rowsOf are some rows of a table.
type rowsOf struct {
	table   string
	columns []string
	rows    [][]any
}

func (b bareLoad) run(ctx context.Context) (u used, err error) {
	from, err := db.Open(ctx, b.From)
	if err != nil {
		return u, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	into, err := db.Open(ctx, b.Into)
	if err != nil {
		return u, err
	}
	defer func() { err = errors.Join(err, into.Close()) }()
	if err := into.Migrate(ctx); err != nil {
		return u, err
	}
	var longest longest
	into.Observe(longest.note)
	wal, err := watchWAL(ctx, into, b.Into)
	if err != nil {
		return u, err
	}
	for _, l := range loadings(into.Engine()) {
		took, err := l.run(ctx, from, into)
		if err != nil {
			return u, fmt.Errorf("load the table %s: %w", l.table, err)
		}
		u.Took += took
	}
	u.Longest = longest.get()
	if u.WAL, err = wal(); err != nil {
		return u, err
	}
	for _, l := range loadings(into.Engine()) {
		for table := range strings.FieldsSeq(l.table + " " + l.with) {
			if err := alike(ctx, from, into, table); err != nil {
				return u, err
			}
		}
	}
	u.Memory.Parent, _ = peak(os.Getpid())
	return u, nil
}

// run loads a table, and tells what its transactions took.
func (l loading) run(ctx context.Context, from, into *db.DB) (took time.Duration, err error) {
	write := func(lists ...rowsOf) error {
		began := time.Now()
		defer func() { took += time.Since(began) }()
		return into.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := tx.Unhurried(ctx); err != nil { // as the ingest's
				return err
			}
			for _, list := range lists {
				if err := tx.Insert(ctx, list.table, list.columns, list.rows); err != nil {
					return err
				}
			}
			return nil
		})
	}
	flush := func(page rowsOf) error {
		if len(page.rows) == 0 {
			return nil
		}
		if l.with == "" {
			return write(page)
		}
		with := rowsOf{table: l.with}
		err := with.read(ctx, from, func() error { return nil }, ` WHERE id BETWEEN $1 AND $2`, page.rows[0][0], page.rows[len(page.rows)-1][0])
		if err != nil {
			return err
		}
		return write(page, with)
	}
	page := rowsOf{table: l.table}
	err = page.read(ctx, from, func() error {
		if len(page.rows) < l.rows {
			return nil
		}
		full := page
		page.rows = nil
		return flush(full)
	}, ` ORDER BY `+l.key)
	if err != nil {
		return 0, err
	}
	return took, flush(page)
}

// read adds rows of the table, and calls a function after each.
func (r *rowsOf) read(ctx context.Context, from *db.DB, next func() error, which string, args ...any) (err error) {
	rows, err := from.Query(ctx, `SELECT * FROM `+r.table+which, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if r.columns, err = rows.Columns(); err != nil {
		return err
	}
	for rows.Next() {
		row, targets := make([]any, len(r.columns)), make([]any, len(r.columns))
		for n := range row {
			targets[n] = &row[n]
		}
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		r.rows = append(r.rows, row)
		if err := next(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// alike fails unless a table has as many rows in both databases.
func alike(ctx context.Context, one, other *db.DB, table string) error {
	count := `SELECT COUNT(*) FROM ` + table
	have, err := db.Value[int64](ctx, one, count)
	if err != nil {
		return err
	}
	loaded, err := db.Value[int64](ctx, other, count)
	if err == nil && have != loaded {
		err = fmt.Errorf("of the table %s %d rows were loaded, and there are %d", table, loaded, have)
	}
	return err
}
