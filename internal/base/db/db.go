// Package db is the database: SQLite in a file or PostgreSQL, behind one set of
// hand-written queries.
//
// Queries are written once, with $1, $2, …, in the subset that both databases
// understand in the same way. Times are kept as microseconds of UTC, JSON as
// text; Time and JSON read and write them. Text compares bytewise on both, and is
// kept as valid UTF-8 without NUL bytes, which PostgreSQL refuses: what an
// argument has of others is replaced on its way in, on both alike.
//
// There are two ways in. DB reads, outside of transactions or in the snapshot
// that Read gives. Write runs a function within the one kind of transaction
// that changes things: on SQLite there is one writer at a time; on PostgreSQL
// there are many, each statement sees what was committed before it, and what
// deadlocked is run again. Within Write only the transaction can be asked:
// the pool answers with an error to the context that Write hands out, since a
// query beside the transaction would see another state, or wait for itself.
package db

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	"modernc.org/sqlite"               // and the driver sqlite
	sqlite3 "modernc.org/sqlite/lib"
)

// Engine is a kind of database.
type Engine string

// The two kinds.
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// DB is an open database.
type DB struct {
	engine Engine
	where  string // the file or the URL
	writer *sql.DB
	reader *sql.DB

	observe func(held time.Duration) // or nil
}

// Querier asks questions: a DB, the snapshot of Read, or a Tx.
type Querier interface {
	// Query asks for rows, which the caller closes; All, Each and One do so.
	Query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Open opens a database: the PostgreSQL of a postgres:// URL, or the SQLite file
// at a path, which is made if it isn't there.
func Open(ctx context.Context, where string) (*DB, error) {
	if strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://") {
		return openPostgres(ctx, where)
	}
	return openSQLite(ctx, where)
}

func openSQLite(ctx context.Context, path string) (*DB, error) {
	// The database holds who may do what: only we may read it.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	name := func(pragmas ...string) string {
		values := url.Values{"_pragma": append([]string{
			"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(NORMAL)", "foreign_keys(1)", "temp_store(MEMORY)",
		}, pragmas...), "_txlock": {"immediate"}}
		return (&url.URL{Scheme: "file", Path: absolute, RawQuery: values.Encode()}).String()
	}
	writer, err := sql.Open("sqlite", name("journal_size_limit(67108864)", "cache_size(-32768)"))
	if err != nil {
		return nil, fmt.Errorf("open the database %s: %w", path, err)
	}
	writer.SetMaxOpenConns(1)
	if err := writer.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the database %s: %w", path, err), writer.Close())
	}
	// A transaction of the readers is a snapshot, never a lock: it is deferred.
	reader, err := sql.Open("sqlite", strings.Replace(name("query_only(1)"), "_txlock=immediate", "_txlock=deferred", 1))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the database %s: %w", path, err), writer.Close())
	}
	readers := max(4, runtime.GOMAXPROCS(0))
	reader.SetMaxOpenConns(readers)
	reader.SetMaxIdleConns(readers) // opening one costs a dozen statements
	return &DB{engine: SQLite, where: path, writer: writer, reader: reader}, nil
}

func openPostgres(ctx context.Context, where string) (*DB, error) {
	pool, err := sql.Open("pgx", where)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", withoutPassword(err, where))
	}
	pool.SetMaxOpenConns(20)
	pool.SetMaxIdleConns(5)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	if err := pool.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("reach the database: %w", withoutPassword(err, where)), pool.Close())
	}
	return &DB{engine: Postgres, where: where, writer: pool, reader: pool}, nil
}

// withoutPassword keeps the password of a URL out of an error's words.
func withoutPassword(err error, where string) error {
	parsed, bad := url.Parse(where)
	if bad != nil {
		return errors.New("the database URL can't be read")
	}
	words := err.Error()
	if password, ok := parsed.User.Password(); ok && password != "" {
		_, written, _ := strings.Cut(parsed.User.String(), ":")
		words = strings.NewReplacer(password, "…", written, "…").Replace(words)
	}
	if words != err.Error() {
		return errors.New(words)
	}
	return err
}

// Engine tells which kind of database it is.
func (d *DB) Engine() Engine { return d.engine }

// Observe has a function told, after each transaction of Write, how long that was
// open, its commit with it: on SQLite nobody else could write meanwhile. It is set
// before the first of them, and may be called by several at once.
func (d *DB) Observe(told func(held time.Duration)) { d.observe = told }

// Writer is the pool behind Write, for the job queue, which has statements of
// its own. Nothing else uses it.
func (d *DB) Writer() *sql.DB { return d.writer }

// Listener opens a pool of one connection for LISTEN; PostgreSQL only.
func (d *DB) Listener(ctx context.Context) (*pgxpool.Pool, error) {
	if d.engine != Postgres {
		return nil, errors.New("only PostgreSQL can listen")
	}
	config, err := pgxpool.ParseConfig(d.where)
	if err != nil {
		return nil, withoutPassword(err, d.where)
	}
	config.MaxConns = 1
	return pgxpool.NewWithConfig(ctx, config)
}

// Close closes it, after what is running has ended.
func (d *DB) Close() error {
	if d.reader == d.writer {
		return d.writer.Close()
	}
	return errors.Join(d.reader.Close(), d.writer.Close())
}

// writing marks the context of a transaction of a database.
type writing struct{ db *DB }

// Query asks the pool.
func (d *DB) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := d.outside(ctx); err != nil {
		return nil, err
	}
	return d.reader.QueryContext(ctx, d.rebind(query), values(args)...)
}

// outside fails within Write.
func (d *DB) outside(ctx context.Context) error {
	if ctx.Value(writing{d}) != nil {
		return errors.New("the pool was asked within a write transaction: ask the transaction")
	}
	return nil
}

// Snapshot is a state of the database that stands still.
type Snapshot struct {
	db *DB
	tx *sql.Tx
}

// Query asks the snapshot.
func (s *Snapshot) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return s.tx.QueryContext(ctx, s.db.rebind(query), values(args)...)
}

// Read runs a function on a snapshot, so that its questions are answered from
// one state. It must be short: it keeps old rows alive.
func (d *DB) Read(ctx context.Context, read func(s *Snapshot) error) (err error) {
	if err := d.outside(ctx); err != nil {
		return err
	}
	options := &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead}
	if d.engine == SQLite {
		options = nil // each of its transactions is a snapshot, and the pool is read-only
	}
	tx, err := d.reader.BeginTx(ctx, options)
	if err != nil {
		return fmt.Errorf("begin a read: %w", err)
	}
	defer func() {
		if ended := tx.Rollback(); ended != nil && !errors.Is(ended, sql.ErrTxDone) {
			err = errors.Join(err, ended)
		}
	}()
	return read(&Snapshot{db: d, tx: tx})
}

// Tx is a transaction that changes things.
type Tx struct {
	db    *DB
	conn  *sql.Conn
	tx    *sql.Tx
	after []func()
}

// Write runs a function within a transaction, and commits it unless the
// function fails. The function may run more than once: what it does beside the
// transaction belongs into AfterCommit. It must not wait for anything.
func (d *DB) Write(ctx context.Context, write func(ctx context.Context, tx *Tx) error) error {
	if d.outside(ctx) != nil {
		return errors.New("a write transaction was begun within another")
	}
	for attempt := 1; ; attempt++ {
		after, err := d.write(ctx, write)
		for _, do := range after {
			do()
		}
		if err == nil || attempt == 8 || !conflicted(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(rand.Int64N(int64(attempt) * int64(10*time.Millisecond)))):
		}
	}
}

// write runs one transaction, and returns what to do after it.
func (d *DB) write(ctx context.Context, write func(ctx context.Context, tx *Tx) error) (after []func(), err error) {
	conn, err := d.writer.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin a write: %w", err)
	}
	defer func() { _ = conn.Close() }() // puts it back into the pool
	begun, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("begin a write: %w", err)
	}
	opened := time.Now()
	tx := &Tx{db: d, conn: conn, tx: begun}
	defer func() {
		if rolled := begun.Rollback(); rolled != nil && !errors.Is(rolled, sql.ErrTxDone) && err == nil {
			err = rolled
		}
		if d.observe != nil {
			d.observe(time.Since(opened))
		}
	}()
	if err := write(context.WithValue(ctx, writing{d}, true), tx); err != nil {
		return nil, err
	}
	if err := begun.Commit(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return tx.after, nil
}

// Query asks within the transaction.
func (tx *Tx) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return tx.tx.QueryContext(ctx, tx.db.rebind(query), values(args)...)
}

// Exec changes rows, and tells how many.
func (tx *Tx) Exec(ctx context.Context, statement string, args ...any) (int64, error) {
	result, err := tx.tx.ExecContext(ctx, tx.db.rebind(statement), values(args)...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// Engine tells which kind of database it is.
func (tx *Tx) Engine() Engine { return tx.db.engine }

// SQL is the transaction itself, for the job queue.
func (tx *Tx) SQL() *sql.Tx { return tx.tx }

// AfterCommit does something once the transaction is committed, and not if it
// isn't.
func (tx *Tx) AfterCommit(do func()) { tx.after = append(tx.after, do) }

// Scanner is a row to be read.
type Scanner interface {
	Scan(targets ...any) error
}

// Each reads row by row.
func Each(ctx context.Context, q Querier, row func(Scanner) error, query string, args ...any) (err error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, rows.Close()) }()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// All reads all rows.
func All[T any](ctx context.Context, q Querier, row func(Scanner) (T, error), query string, args ...any) ([]T, error) {
	var list []T
	err := Each(ctx, q, func(s Scanner) error {
		item, err := row(s)
		list = append(list, item)
		return err
	}, query, args...)
	if err != nil {
		return nil, err
	}
	return list, nil
}

// One reads the first row; sql.ErrNoRows says that there is none.
func One[T any](ctx context.Context, q Querier, row func(Scanner) (T, error), query string, args ...any) (item T, err error) {
	var none T
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return none, err
	}
	defer func() { err = cmp.Or(err, rows.Close()) }()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return none, err
		}
		return none, sql.ErrNoRows
	}
	item, err = row(rows)
	if err != nil {
		return none, err
	}
	return item, nil
}

// Value reads a single value, such as a count.
func Value[T any](ctx context.Context, q Querier, query string, args ...any) (T, error) {
	return One(ctx, q, func(s Scanner) (value T, err error) {
		err = s.Scan(&value)
		return value, err
	}, query, args...)
}

// rebind writes parameters as SQLite's drivers read them: $1 would be a name. One
// that is the next in number becomes a plain ?, all others ?1. Numbers are names to
// SQLite, and the driver searches all of them for each parameter. Within quotes
// nothing changes.
func (d *DB) rebind(query string) string {
	if d.engine != SQLite || !strings.Contains(query, "$") {
		return query
	}
	var out strings.Builder
	quoted := false
	highest := 0
	for n := 0; n < len(query); n++ {
		c := query[n]
		digits := n + 1
		for c == '$' && !quoted && digits < len(query) && query[digits] >= '0' && query[digits] <= '9' {
			digits++
		}
		if digits == n+1 {
			quoted = quoted != (c == '\'')
			out.WriteByte(c)
			continue
		}
		out.WriteByte('?')
		if number, err := strconv.Atoi(query[n+1 : digits]); err != nil || number != highest+1 {
			out.WriteString(query[n+1 : digits])
			highest = max(highest, number)
		} else {
			highest = number
		}
		n = digits - 1
	}
	return out.String()
}

// values writes arguments as they are kept: times as microseconds, the zero time
// as NULL, texts as valid UTF-8 without NUL bytes.
func values(args []any) []any {
	kept := args
	for n, arg := range args {
		var value any
		switch typed := arg.(type) {
		case time.Time:
			value = Micros(typed)
		case string:
			if clean(typed) {
				continue
			}
			value = strings.ReplaceAll(strings.ToValidUTF8(typed, "\uFFFD"), "\x00", "")
		default:
			continue
		}
		if &kept[0] == &args[0] { // the caller's stay as they are
			kept = slices.Clone(args)
		}
		kept[n] = value
	}
	return kept
}

func clean(text string) bool { return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 }

// Micros is a time as it is kept; the zero time is NULL.
func Micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// Time reads a kept time into t; NULL is the zero time.
func Time(t *time.Time) sql.Scanner { return timeScanner{t} }

type timeScanner struct{ t *time.Time }

func (s timeScanner) Scan(value any) error {
	switch micros := value.(type) {
	case nil:
		*s.t = time.Time{}
	case int64:
		*s.t = time.UnixMicro(micros).UTC()
	default:
		return fmt.Errorf("a time is kept as microseconds, not as %T", value)
	}
	return nil
}

// JSON writes what it is given as JSON text, and reads JSON text into what it
// points to; NULL and an empty text leave that alone.
func JSON(value any) interface {
	sql.Scanner
	driver.Valuer
} {
	return jsonValue{value}
}

type jsonValue struct{ value any }

func (j jsonValue) Value() (driver.Value, error) {
	text, err := json.Marshal(j.value)
	return string(text), err
}

func (j jsonValue) Scan(from any) error {
	switch text := from.(type) {
	case nil:
		return nil
	case string:
		if text == "" {
			return nil
		}
		return json.Unmarshal([]byte(text), j.value)
	case []byte:
		if len(text) == 0 {
			return nil
		}
		return json.Unmarshal(text, j.value)
	}
	return fmt.Errorf("JSON is kept as text, not as %T", from)
}

// Duplicate reports whether a statement failed since a row with that key exists.
func Duplicate(err error) bool {
	return failed(err, "23505", sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE)
}

// Full reports whether a statement failed since the disk or the quota is full.
func Full(err error) bool { return failed(err, "53100", sqlite3.SQLITE_FULL) }

// conflicted reports whether PostgreSQL gave a transaction up for another:
// serialization_failure, deadlock_detected.
func conflicted(err error) bool { return failed(err, "40001") || failed(err, "40P01") }

// failed reports whether an error is PostgreSQL's of that code, or SQLite's of one
// of those.
func failed(err error, postgres string, lite ...int) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == postgres
	}
	coded, ok := errors.AsType[*sqlite.Error](err)
	return ok && slices.Contains(lite, coded.Code())
}

// Escape makes a text that LIKE … ESCAPE '!' matches literally.
func Escape(text string) string {
	return strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(text)
}
