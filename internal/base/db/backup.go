package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"airlock/internal/base/fault"
)

// A backup is an SQLite file with our tables as the migrations make them, without
// indexes. Its application_id tells what it is, its user_version the number of
// the newest migration.
const backupID = 0x616c626b // "albk"

// A page of rows that is held in memory.
const (
	pageRows  = 500
	pageBytes = 8 << 20
)

// Backup writes all of our tables, as they stand at one moment, to a new file,
// from which Restore fills a database of either kind. The queue's jobs aren't in
// it: sweeps find what is due. Sealed values stay sealed.
func (d *DB) Backup(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fault.New(fault.Conflict, "%s is there already: nothing was written; name a new file", path)
	}
	partial := path + ".partial"
	if err := d.backup(ctx, partial); err != nil {
		return errors.Join(fmt.Errorf("back up to %s: %w", path, err), remove(partial))
	}
	if err := os.Rename(partial, path); err != nil {
		return errors.Join(fmt.Errorf("back up to %s: %w", path, err), remove(partial))
	}
	return nil
}

// remove removes an SQLite file.
func remove(path string) error {
	var failed error
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func (d *DB) backup(ctx context.Context, path string) error {
	if err := remove(path); err != nil { // what an earlier one left
		return err
	}
	version, err := d.Version(ctx)
	if err != nil {
		return err
	}
	file, tables, err := fresh(ctx, path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // what matters of it was closed before
	if newest, err := file.Version(ctx); err != nil || newest != version {
		return errors.Join(fmt.Errorf("the database is of version %d, this program of %d", version, newest), err)
	}
	if err := file.Write(ctx, func(ctx context.Context, tx *Tx) error { return empty(ctx, tx, tables) }); err != nil {
		return err
	}
	if err := d.Read(ctx, func(s *Snapshot) error {
		for _, t := range tables {
			if err := pages(ctx, s, t, func(rows [][]any) error {
				return file.Write(ctx, func(ctx context.Context, tx *Tx) error { return tx.Insert(ctx, t.name, t.columns, rows) })
			}); err != nil {
				return fmt.Errorf("table %s: %w", t.name, err)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := file.reader.Close(); err != nil { // or the journal can't be left
		return err
	}
	for _, statement := range []string{
		"DROP TABLE goose_db_version",
		fmt.Sprintf("PRAGMA application_id = %d", backupID),
		fmt.Sprintf("PRAGMA user_version = %d", version),
		"PRAGMA journal_mode = DELETE", // nothing lies beside the file
	} {
		if _, err := file.writer.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	if err := file.Close(); err != nil {
		return err
	}
	written, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // the file just made
	if err != nil {
		return err
	}
	return errors.Join(written.Sync(), written.Close())
}

// Restore fills a migrated and otherwise empty database from the file of a
// backup, all or nothing. Once the rows are in, also is called within the same
// transaction, to check and to change them; if it fails, nothing is kept.
func (d *DB) Restore(ctx context.Context, path string, also func(ctx context.Context, tx *Tx) error) (err error) {
	dir, err := os.MkdirTemp("", "airlock-restore-")
	if err != nil {
		return fmt.Errorf("restore %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	like, tables, err := fresh(ctx, filepath.Join(dir, "fresh.db"))
	if err != nil {
		return fmt.Errorf("restore %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, like.Close()) }()
	file, err := d.openBackup(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()

	return d.Write(ctx, func(ctx context.Context, tx *Tx) error {
		for _, t := range tables {
			there, err := Value[int64](ctx, tx, "SELECT count(*) FROM "+t.name)
			if err != nil {
				return fmt.Errorf("restore %s: %w", path, err)
			}
			if there > t.seeded {
				return fault.New(fault.Conflict, "the database isn't empty (table %s has %d rows): nothing was restored; restore into a new one", t.name, there)
			}
		}
		if err := empty(ctx, tx, tables); err != nil {
			return fmt.Errorf("restore %s: %w", path, err)
		}
		for _, t := range tables {
			booleans, err := booleans(ctx, tx, t)
			if err != nil {
				return fmt.Errorf("restore %s: table %s: %w", path, t.name, err)
			}
			if err := pages(ctx, file, t, func(rows [][]any) error {
				for _, row := range rows {
					for _, n := range booleans {
						row[n] = row[n] == int64(1)
					}
				}
				return tx.Insert(ctx, t.name, t.columns, rows)
			}); err != nil {
				return fmt.Errorf("restore %s: table %s: %w", path, t.name, err)
			}
		}
		return also(ctx, tx)
	})
}

// openBackup opens a backup that fits the database.
func (d *DB) openBackup(ctx context.Context, path string) (*DB, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("restore %s: %w", path, err)
	}
	if _, err := os.Stat(absolute); err != nil {
		return nil, fault.New(fault.Invalid, "the backup can't be read: %w", err)
	}
	name := (&url.URL{Scheme: "file", Path: absolute, RawQuery: url.Values{"mode": {"ro"}, "_pragma": {"query_only(1)", "trusted_schema(0)"}}.Encode()}).String()
	pool, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, fmt.Errorf("restore %s: %w", path, err)
	}
	file := &DB{engine: SQLite, where: path, reader: pool, writer: pool}
	if err := d.fits(ctx, file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func (d *DB) fits(ctx context.Context, file *DB) error {
	version, err := d.Version(ctx)
	if err != nil {
		return fmt.Errorf("restore %s: %w", file.where, err)
	}
	if id, err := Value[int64](ctx, file, "PRAGMA application_id"); err != nil || id != backupID {
		return fault.New(fault.Invalid, "%s isn't a backup of airlock", file.where)
	}
	switch of, err := Value[int64](ctx, file, "PRAGMA user_version"); {
	case err != nil:
		return fmt.Errorf("restore %s: %w", file.where, err)
	case of != version:
		return fault.New(fault.NotReady, "%s is a backup of version %d, and the database is of version %d: restore it with the program of that version, which a newer one then brings up",
			file.where, of, version)
	}
	switch words, err := Value[string](ctx, file, "PRAGMA integrity_check(1)"); {
	case err != nil:
		return fault.New(fault.Invalid, "%s is damaged: %w", file.where, err)
	case words != "ok":
		return fault.New(fault.Invalid, "%s is damaged: %s", file.where, words)
	}
	return nil
}

// table is one of our tables.
type table struct {
	name    string
	columns []string
	seeded  int64 // rows that the migrations put in
}

// fresh makes a migrated SQLite file, without indexes, and tells of its tables,
// those that others refer to first.
func fresh(ctx context.Context, path string) (_ *DB, _ []table, err error) {
	file, err := openSQLite(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	if err := file.Migrate(ctx); err != nil {
		return nil, nil, err
	}
	text := func(row Scanner) (name string, err error) {
		err = row.Scan(&name)
		return name, err
	}
	names, err := All(ctx, file, text, `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'
		AND name <> 'goose_db_version' ORDER BY rowid`)
	if err != nil {
		return nil, nil, err
	}
	var tables []table
	for _, name := range names {
		t := table{name: name}
		if t.columns, err = All(ctx, file, text, `SELECT name FROM pragma_table_info($1) ORDER BY cid`, name); err != nil {
			return nil, nil, err
		}
		if t.seeded, err = Value[int64](ctx, file, "SELECT count(*) FROM "+name); err != nil {
			return nil, nil, err
		}
		tables = append(tables, t)
	}
	indexes, err := All(ctx, file, text, `SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL`)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range indexes {
		if _, err := file.writer.ExecContext(ctx, "DROP INDEX "+name); err != nil {
			return nil, nil, err
		}
	}
	return file, tables, nil
}

// empty removes what the migrations put in.
func empty(ctx context.Context, tx *Tx, tables []table) error {
	for _, t := range slices.Backward(tables) {
		if _, err := tx.Exec(ctx, "DELETE FROM "+t.name); err != nil {
			return err
		}
	}
	return nil
}

// booleans are the numbers of a table's boolean columns where the database has
// such a type; SQLite has them as 0 and 1.
func booleans(ctx context.Context, tx *Tx, t table) (numbers []int, err error) {
	if tx.db.engine != Postgres {
		return nil, nil
	}
	rows, err := tx.Query(ctx, "SELECT "+t.list()+" FROM "+t.name+" LIMIT 0")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	for n, kind := range types {
		if kind.DatabaseTypeName() == "BOOL" {
			numbers = append(numbers, n)
		}
	}
	return numbers, rows.Err()
}

func (t table) list() string { return strings.Join(t.columns, ", ") }

// pages reads all rows of a table and hands them over some at a time.
func pages(ctx context.Context, q Querier, t table, take func(rows [][]any) error) error {
	var page [][]any
	held := 0
	flush := func() error {
		if len(page) == 0 {
			return nil
		}
		err := take(page)
		page, held = nil, 0
		return err
	}
	if err := Each(ctx, q, func(row Scanner) error {
		values := make([]any, len(t.columns))
		targets := make([]any, len(t.columns))
		for n := range values {
			targets[n] = &values[n]
		}
		if err := row.Scan(targets...); err != nil {
			return err
		}
		for n, value := range values {
			switch typed := value.(type) {
			case string:
				held += len(typed)
			case []byte:
				held += len(typed)
				if len(typed) == 0 {
					values[n] = []byte{} // SQLite's driver reads it as nil, which is written as NULL
				}
			}
		}
		page = append(page, values)
		if len(page) < pageRows && held < pageBytes {
			return nil
		}
		return flush()
	}, "SELECT "+t.list()+" FROM "+t.name); err != nil {
		return err
	}
	return flush()
}
