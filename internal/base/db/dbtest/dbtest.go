// Package dbtest gives each test databases of its own, of both kinds. The
// PostgreSQL is a private server, one for each process that tests.
package dbtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"airlock/internal/base/db"
	"airlock/internal/base/db/pgserver"
	"airlock/internal/base/job"
)

// Each runs a test on SQLite and on PostgreSQL, as subtests of these names.
func Each(t *testing.T, test func(t *testing.T, d *db.DB)) {
	t.Helper()
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		t.Run(string(engine), func(t *testing.T) { test(t, Open(t, engine)) })
	}
}

// Open opens a fresh database with all tables, which is gone after the test.
func Open(t testing.TB, engine db.Engine) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), Where(t, engine))
	if err != nil {
		t.Fatal(err)
	}
	if engine == db.Postgres {
		d.Writer().SetMaxOpenConns(10) // of the 500 that all tests of a process share
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Where is the path or URL of a fresh database with all tables, which is gone
// after the test.
func Where(t testing.TB, engine db.Engine) string {
	t.Helper()
	if engine == db.Postgres {
		return database(t, template)
	}
	migrated, err := file()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "airlock.db")
	if err := os.WriteFile(path, migrated, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// PostgresURL is where a fresh, empty database is, for tests of whole processes.
func PostgresURL(t testing.TB) string {
	t.Helper()
	return database(t, "template0")
}

const template = "template_airlock"

// number tells the databases of a process apart.
var number atomic.Int64 //nolint:gochecknoglobals // tests share the server

// database makes a database on the process's server and drops it after the test.
func database(t testing.TB, like string) string {
	t.Helper()
	if os.Getenv("POSTGRES_TESTS") == "off" {
		t.Skip("POSTGRES_TESTS=off: not tested on PostgreSQL")
	}
	s, err := server()
	if err != nil {
		t.Fatalf("%v, or set POSTGRES_TESTS=off", err)
	}
	name := fmt.Sprintf("test_%d", number.Add(1))
	if err := s.Exec(t.Context(), "CREATE DATABASE "+name+" TEMPLATE "+like); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Exec(context.WithoutCancel(t.Context()), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return s.URL(name)
}

// server is this process's PostgreSQL, with a database that others are copied
// from. It ends with the process.
var server = sync.OnceValues(func() (*pgserver.Server, error) { //nolint:gochecknoglobals // tests share the server
	ctx := context.Background()
	dir, err := os.MkdirTemp(memory(), "airlock-pg-")
	if err != nil {
		return nil, err
	}
	s, err := pgserver.Start(ctx, dir)
	if err != nil {
		return nil, err
	}
	// A collation that folds case and skips punctuation, so that a column which
	// doesn't say how it compares is found out.
	if err := s.Exec(ctx, "CREATE DATABASE "+template+" TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en' LOCALE 'C'"); err != nil {
		if err := s.Exec(ctx, "CREATE DATABASE "+template+" TEMPLATE template0"); err != nil { // PostgreSQL 14 and older
			return nil, err
		}
	}
	return s, migrate(ctx, s.URL(template))
})

// memory is a folder in memory that has room, where making a database costs a
// tenth of what it costs on a busy disk; or "".
func memory() string {
	const dir, room = "/dev/shm", 4 << 30
	var is syscall.Statfs_t
	if syscall.Statfs(dir, &is) != nil || is.Bavail*uint64(is.Bsize) < room { //nolint:gosec // a block's size is positive
		return ""
	}
	return dir
}

// file is an SQLite database with all tables.
var file = sync.OnceValues(func() (whole []byte, err error) { //nolint:gochecknoglobals // made once, copied for each test
	dir, err := os.MkdirTemp("", "airlock-sqlite-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "airlock.db")
	if err := migrate(context.Background(), path); err != nil {
		return nil, err
	}
	return os.ReadFile(path) //nolint:gosec // our own, and whole since it is closed
})

func migrate(ctx context.Context, where string) (err error) {
	d, err := db.Open(ctx, where)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Migrate(ctx); err != nil {
		return err
	}
	queue, err := job.New(d, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return errors.Join(queue.Migrate(ctx), queue.Stop(ctx))
}
