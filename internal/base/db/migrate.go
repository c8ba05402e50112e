package db

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"

	"airlock/internal/base/fault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the tables up to what this version needs. Several servers may
// do so at once.
//
// A migration is written once for both databases. Its types are TEXT, BIGINT,
// BOOLEAN and BYTES; each table ends with STRICT, or with STRICT, WITHOUT ROWID
// where it is small or read in the order of its key. Statements end with a
// semicolon at the end of a line.
func (d *DB) Migrate(ctx context.Context) error {
	return d.Exclusively(ctx, func(ctx context.Context) error {
		provider, err := d.provider()
		if err != nil {
			return fmt.Errorf("migrate the database: %w", err)
		}
		if _, err := provider.Up(ctx); err != nil {
			return fmt.Errorf("migrate the database: %w", err)
		}
		current, target, err := provider.GetVersions(ctx)
		if err != nil {
			return fmt.Errorf("migrate the database: %w", err)
		}
		if current > target {
			return fault.New(fault.NotReady, "the database is of version %d, and this program knows versions up to %d: start the newer program", current, target)
		}
		return nil
	})
}

// Version is the number of the newest migration that the database has had; 0 is
// of one without tables. It changes nothing.
func (d *DB) Version(ctx context.Context) (int64, error) {
	there, err := Value[int64](ctx, d, map[Engine]string{
		SQLite:   `SELECT COUNT(*) FROM sqlite_master WHERE name = 'goose_db_version'`,
		Postgres: `SELECT COUNT(*) FROM pg_class WHERE oid = to_regclass('goose_db_version')`,
	}[d.engine])
	if err != nil || there == 0 {
		return 0, err
	}
	return Value[int64](ctx, d, `SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version`)
}

// Newest is the number of the newest migration that this program knows.
func Newest() (newest int64) {
	names, _ := fs.Glob(migrations, "migrations/*.sql") // the pattern is right
	for _, name := range names {
		number, _, _ := strings.Cut(path.Base(name), "_")
		if version, err := strconv.ParseInt(number, 10, 64); err == nil {
			newest = max(newest, version)
		}
	}
	return newest
}

// Exclusively does something on one server at a time, such as a migration. On
// SQLite there is one server anyway.
func (d *DB) Exclusively(ctx context.Context, do func(ctx context.Context) error) (err error) {
	if d.engine != Postgres {
		return do(ctx)
	}
	const lock = 0x6169726c6f636b // "airlock"
	conn, err := d.writer.Conn(ctx)
	if err != nil {
		return fmt.Errorf("wait for other servers: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", lock); err != nil {
		return fmt.Errorf("wait for other servers: %w", err)
	}
	defer func() {
		_, unlocked := conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", lock)
		err = errors.Join(err, unlocked)
	}()
	return do(ctx)
}

func (d *DB) provider() (*goose.Provider, error) {
	dialect := goose.DialectSQLite3
	if d.engine == Postgres {
		dialect = goose.DialectPostgres
	}
	steps, err := d.migrations()
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(dialect, d.writer, nil, goose.WithGoMigrations(steps...), goose.WithDisableGlobalRegistry(true))
}

func (d *DB) migrations() ([]*goose.Migration, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var steps []*goose.Migration
	for _, name := range names {
		number, _, _ := strings.Cut(path.Base(name), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s doesn't begin with a number: %w", name, err)
		}
		text, err := migrations.ReadFile(name)
		if err != nil {
			return nil, err
		}
		statements := d.translate(string(text))
		steps = append(steps, goose.NewGoMigration(version, &goose.GoFunc{
			RunTx: func(ctx context.Context, tx *sql.Tx) error {
				for _, statement := range statements {
					if _, err := tx.ExecContext(ctx, statement); err != nil {
						return fmt.Errorf("%s: %w, in %s", name, err, statement)
					}
				}
				return nil
			},
		}, nil))
	}
	return steps, nil
}

var (
	comment = regexp.MustCompile(`(?m)--.*$`)
	word    = regexp.MustCompile(`\b(TEXT|BIGINT|BOOLEAN|BYTES)\b`)
	suffix  = regexp.MustCompile(`\) STRICT(, WITHOUT ROWID)?$`)
)

// translate splits a migration into statements of this database's own words.
func (d *DB) translate(text string) []string {
	types := map[string]string{"TEXT": "TEXT", "BIGINT": "INTEGER", "BOOLEAN": "INTEGER", "BYTES": "BLOB"}
	if d.engine == Postgres {
		types = map[string]string{"TEXT": `TEXT COLLATE "C"`, "BIGINT": "BIGINT", "BOOLEAN": "BOOLEAN", "BYTES": "BYTEA"}
	}
	var statements []string
	for statement := range strings.SplitSeq(comment.ReplaceAllString(text, ""), ";\n") {
		statement = strings.TrimSuffix(strings.TrimSpace(statement), ";")
		if statement == "" {
			continue
		}
		statement = word.ReplaceAllStringFunc(statement, func(name string) string { return types[name] })
		if d.engine == Postgres {
			statement = suffix.ReplaceAllString(statement, ")")
		}
		statements = append(statements, statement)
	}
	return statements
}
