package db_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/db/pgserver"
)

// table makes a table of the test's own.
func table(t *testing.T, d *db.DB, columns string) {
	t.Helper()
	types := strings.NewReplacer("TEXT", `TEXT COLLATE "C"`, "BYTES", "BYTEA")
	if d.Engine() == db.SQLite {
		types = strings.NewReplacer("BIGINT", "INTEGER", "BOOLEAN", "INTEGER", "BYTES", "BLOB")
	}
	if _, err := d.Writer().ExecContext(t.Context(), "CREATE TABLE thing ("+types.Replace(columns)+")"); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, d *db.DB, do func(ctx context.Context, tx *db.Tx) error) {
	t.Helper()
	if err := d.Write(t.Context(), do); err != nil {
		t.Fatal(err)
	}
}

func exec(t *testing.T, d *db.DB, statement string, args ...any) {
	t.Helper()
	write(t, d, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, statement, args...)
		return err
	})
}

func text(row db.Scanner) (s string, err error) {
	err = row.Scan(&s)
	return s, err
}

func texts(t *testing.T, q db.Querier, query string, args ...any) []string {
	t.Helper()
	list, err := db.All(t.Context(), q, text, query, args...)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func count(t *testing.T, q db.Querier) int {
	t.Helper()
	n, err := db.Value[int](t.Context(), q, "SELECT count(*) FROM thing")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPlaceholdersMayStandInAnyOrderAndTwice(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		got := texts(t, d, "SELECT $2 || $1 || '$1' || $2 || $10 || '''$2' || $3 || $4 || $5 || $6 || $7 || $8 || $9",
			"b", "a", "3", "4", "5", "6", "7", "8", "9", "z")
		if diff := cmp.Diff([]string{"ab$1az'$23456789"}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWriteCommitsOrRollsBack(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		table(t, d, "name TEXT PRIMARY KEY")
		insert := func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO thing VALUES ($1)", "x")
			return err
		}
		failure := errors.New("no")
		var told []string
		tell := func(what string) func() { return func() { told = append(told, what) } }
		if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			tx.AfterCommit(tell("rolled back"))
			if err := insert(ctx, tx); err != nil {
				return err
			}
			return failure
		}); !errors.Is(err, failure) {
			t.Fatal(err)
		}
		if n := count(t, d); n != 0 {
			t.Fatalf("a failed write left %d rows", n)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a panic is swallowed")
				}
			}()
			_ = d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				tx.AfterCommit(tell("panicked"))
				if err := insert(ctx, tx); err != nil {
					return err
				}
				panic("no")
			})
		}()
		if n := count(t, d); n != 0 {
			t.Fatalf("a write that panicked left %d rows", n)
		}
		write(t, d, func(ctx context.Context, tx *db.Tx) error {
			tx.AfterCommit(func() {
				if n := count(t, d); n != 1 {
					t.Errorf("after the commit others see %d rows", n)
				}
				told = append(told, "committed")
			})
			return insert(ctx, tx)
		})
		if diff := cmp.Diff([]string{"committed"}, told); diff != "" {
			t.Error(diff)
		}
		ended, cancel := context.WithCancel(t.Context())
		if err := d.Write(ended, func(_ context.Context, tx *db.Tx) error {
			cancel()
			_, err := tx.Exec(t.Context(), "DELETE FROM thing")
			return err
		}); err == nil || count(t, d) != 1 {
			t.Errorf("a write whose context ended was committed: %v", err)
		}
	})
}

func TestEachWriteTellsHowLongItWasOpen(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		var told []time.Duration
		d.Observe(func(held time.Duration) { told = append(told, held) })
		inside := time.Duration(0)
		timed := func(result error) func(context.Context, *db.Tx) error {
			return func(ctx context.Context, tx *db.Tx) error {
				began := time.Now()
				if _, err := db.Value[int64](ctx, tx, "SELECT 1"); err != nil {
					return err
				}
				inside = time.Since(began)
				return result
			}
		}
		failure := errors.New("no")
		for n, result := range []error{nil, failure} {
			if err := d.Write(t.Context(), timed(result)); !errors.Is(err, result) {
				t.Fatal(err)
			}
			if len(told) != n+1 || told[n] < inside {
				t.Errorf("of a write that took %s at least it told %v", inside, told)
			}
		}
		d.Observe(nil)
		write(t, d, timed(nil))
		if len(told) != 2 {
			t.Errorf("it told %d writes", len(told))
		}
	})
}

func TestWithinWriteOnlyTheTransactionIsAsked(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		table(t, d, "name TEXT")
		other := dbtest.Open(t, db.SQLite)
		write(t, d, func(ctx context.Context, tx *db.Tx) error {
			if _, err := db.Value[int](ctx, d, "SELECT 1"); err == nil {
				t.Error("the pool answers within a write")
			}
			if err := d.Read(ctx, func(*db.Snapshot) error { return nil }); err == nil {
				t.Error("a read begins within a write")
			}
			if err := d.Write(ctx, func(context.Context, *db.Tx) error { return nil }); err == nil {
				t.Error("a write begins within a write")
			}
			if _, err := tx.Exec(ctx, "INSERT INTO thing VALUES ('x')"); err != nil {
				return err
			}
			if n := count(t, tx); n != 1 {
				t.Errorf("the transaction sees %d rows", n)
			}
			if n, err := db.Value[int](ctx, other, "SELECT 1"); err != nil || n != 1 {
				t.Errorf("another database doesn't answer: %v", err)
			}
			return nil
		})
	})
}

func TestDeadlockedWritesAreRunAgain(t *testing.T) {
	d := dbtest.Open(t, db.Postgres)
	table(t, d, "name TEXT PRIMARY KEY, n BIGINT")
	exec(t, d, "INSERT INTO thing VALUES ('a', 0), ('b', 0)")
	exec(t, d, "SELECT 1") // SELECT is fine in Exec
	add := func(ctx context.Context, tx *db.Tx, name string) error {
		_, err := tx.Exec(ctx, "UPDATE thing SET n = n + 1 WHERE name = $1", name)
		return err
	}
	runs := make(chan string, 20)
	var both, done sync.WaitGroup
	both.Add(2)
	for _, order := range []string{"ab", "ba"} {
		first := true
		done.Go(func() {
			if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				runs <- order
				if err := add(ctx, tx, order[:1]); err != nil {
					return err
				}
				if first {
					first = false
					both.Done()
					both.Wait() // each holds one row and now wants the other's
				}
				return add(ctx, tx, order[1:])
			}); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if n, err := db.Value[int](t.Context(), d, "SELECT min(n) + max(n) FROM thing"); err != nil || n != 4 {
		t.Errorf("the sum is %d, %v", n, err)
	}
	if len(runs) != 3 {
		t.Errorf("the functions ran %d times", len(runs))
	}
}

func TestWritesOfSQLiteWaitForEachOther(t *testing.T) {
	d := dbtest.Open(t, db.SQLite)
	table(t, d, "n BIGINT")
	exec(t, d, "INSERT INTO thing VALUES (0)")
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				n, err := db.Value[int](ctx, tx, "SELECT n FROM thing")
				if err != nil {
					return err
				}
				_, err = tx.Exec(ctx, "UPDATE thing SET n = $1", n+1)
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n, err := db.Value[int](t.Context(), d, "SELECT n FROM thing"); err != nil || n != 50 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestASnapshotStandsStill(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		table(t, d, "name TEXT")
		if err := d.Read(t.Context(), func(s *db.Snapshot) error {
			if n := count(t, s); n != 0 {
				t.Errorf("%d rows at first", n)
			}
			exec(t, d, "INSERT INTO thing VALUES ('x')")
			if n := count(t, s); n != 0 {
				t.Errorf("the snapshot moved: %d rows", n)
			}
			if n := count(t, d); n != 1 {
				t.Errorf("beside the snapshot there are %d rows", n)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestReadersDontWrite(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		table(t, d, "name TEXT")
		if err := d.Read(t.Context(), func(s *db.Snapshot) error {
			return db.Each(t.Context(), s, func(db.Scanner) error { return nil }, "INSERT INTO thing VALUES ('x') RETURNING name")
		}); err == nil {
			t.Error("a snapshot was written to")
		}
		if d.Engine() == db.SQLite {
			if err := db.Each(t.Context(), d, func(db.Scanner) error { return nil }, "INSERT INTO thing VALUES ('x') RETURNING name"); err == nil {
				t.Error("a reader wrote")
			}
		}
		if n := count(t, d); n != 0 {
			t.Errorf("%d rows", n)
		}
	})
}

func TestInsertTakesManyRows(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		table(t, d, "id BIGINT PRIMARY KEY, name TEXT NOT NULL, at BIGINT, data BYTES, flag BOOLEAN, json TEXT")
		columns := []string{"id", "name", "at", "data", "flag", "json"}
		at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
		var rows [][]any
		for n := range 10_000 {
			rows = append(rows, []any{n, fmt.Sprint("name ", n), at, []byte{0, byte(n)}, n%2 == 0, db.JSON([]string{"a\x00"})})
		}
		rows[1] = []any{int64(1), "", time.Time{}, nil, true, nil}
		write(t, d, func(ctx context.Context, tx *db.Tx) error {
			if err := tx.Insert(ctx, "thing", columns, nil); err != nil {
				return err
			}
			return tx.Insert(ctx, "thing", columns, rows)
		})
		if n := count(t, d); n != len(rows) {
			t.Errorf("%d rows", n)
		}
		if rows[0][2] != at {
			t.Error("the caller's rows were changed")
		}
		type thing struct {
			Name string
			At   time.Time
			Data []byte
			Flag bool
			JSON []string
		}
		got, err := db.All(t.Context(), d, func(row db.Scanner) (g thing, err error) {
			return g, row.Scan(&g.Name, db.Time(&g.At), &g.Data, &g.Flag, db.JSON(&g.JSON))
		}, "SELECT name, at, data, flag, json FROM thing WHERE id < 2 ORDER BY id")
		if err != nil {
			t.Fatal(err)
		}
		want := []thing{{"name 0", at, []byte{0, 0}, true, []string{"a\x00"}}, {"", time.Time{}, nil, true, nil}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestInsertIsAllOrNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		table(t, d, "id BIGINT PRIMARY KEY, name TEXT NOT NULL")
		columns := []string{"id", "name"}
		for name, rows := range map[string][][]any{
			"a short row": {{1, "a"}, {2}},
			"a long row":  {{1, "a"}, {2, "b", "c"}},
			"a twin":      {{1, "a"}, {1, "b"}},
			"a NULL":      {{1, "a"}, {2, nil}},
			"a wrong one": {{1, "a"}, {"x", "b"}},
		} {
			err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error { return tx.Insert(ctx, "thing", columns, rows) })
			if err == nil {
				t.Errorf("%s was taken", name)
			}
			if got := db.Duplicate(err); got != (name == "a twin") {
				t.Errorf("%s is a duplicate: %v (%v)", name, got, err)
			}
			if n := count(t, d); n != 0 {
				t.Fatalf("%s left %d rows", name, n)
			}
		}
		exec(t, d, "INSERT INTO thing VALUES (1, 'a')") // the connection is of use still
	})
}

func TestTextIsKeptAlikeOnBoth(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		table(t, d, "id BIGINT, name TEXT")
		const hostile, kept = "a\x00b\xff\xfec\u2028", "ab\uFFFDc\u2028"
		exec(t, d, "INSERT INTO thing VALUES (1, $1)", hostile)
		write(t, d, func(ctx context.Context, tx *db.Tx) error {
			return tx.Insert(ctx, "thing", []string{"id", "name"}, [][]any{{2, hostile}})
		})
		args := []any{hostile}
		got := texts(t, d, "SELECT name FROM thing WHERE name = $1 ORDER BY id", args...)
		if diff := cmp.Diff([]string{kept, kept}, got); diff != "" {
			t.Error(diff)
		}
		if args[0] != hostile {
			t.Error("the caller's arguments were changed")
		}
	})
}

func TestTextSortsBytewiseOnBoth(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		table(t, d, "name TEXT PRIMARY KEY")
		rapid.Check(t, func(r *rapid.T) {
			names := rapid.SliceOfNDistinct(rapid.StringOfN(rapid.SampledFrom([]rune("aBb Zz-_.:1é中😀")), 0, 4, -1), 1, 12, rapid.ID[string]).Draw(r, "names")
			after := rapid.SampledFrom(names).Draw(r, "after")
			exec(t, d, "DELETE FROM thing")
			for _, name := range names {
				exec(t, d, "INSERT INTO thing VALUES ($1)", name)
			}
			slices.Sort(names)
			if diff := cmp.Diff(names, texts(t, d, "SELECT name FROM thing ORDER BY name")); diff != "" {
				r.Error(diff)
			}
			at := slices.Index(names, after)
			if diff := cmp.Diff(append([]string(nil), names[at+1:]...), texts(t, d, "SELECT name FROM thing WHERE name > $1 ORDER BY name", after)); diff != "" {
				r.Error(diff)
			}
		})
	})
}

func TestEscapeMatchesLiterally(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		table(t, d, "name TEXT")
		names := []string{"50%", "50!", "a_b", "a!b", "ab", `a\b`, "aXb", "500"}
		for _, name := range names {
			exec(t, d, "INSERT INTO thing VALUES ($1)", name)
		}
		for _, name := range names {
			if diff := cmp.Diff([]string{name}, texts(t, d, "SELECT name FROM thing WHERE name LIKE $1 ESCAPE '!'", db.Escape(name))); diff != "" {
				t.Error(diff)
			}
		}
		if diff := cmp.Diff([]string{"a_b"}, texts(t, d, "SELECT name FROM thing WHERE name LIKE $1 ESCAPE '!'", db.Escape("a_")+"%")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestTimesAndJSONComeBack(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		table(t, d, "at BIGINT, json TEXT")
		for _, at := range []time.Time{{}, time.Unix(0, 0).UTC(), time.Date(2026, 11, 24, 1, 2, 3, 4000, time.UTC), time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)} {
			exec(t, d, "DELETE FROM thing")
			exec(t, d, "INSERT INTO thing VALUES ($1, $2)", at.In(time.FixedZone("", 7200)), db.JSON(map[string]any{"a": []any{"<b>", 1.5}}))
			var back time.Time
			var json map[string]any
			if _, err := db.One(t.Context(), d, func(row db.Scanner) (struct{}, error) {
				return struct{}{}, row.Scan(db.Time(&back), db.JSON(&json))
			}, "SELECT at, json FROM thing"); err != nil {
				t.Fatal(err)
			}
			if at.Equal(time.Time{}) != back.IsZero() || !back.Equal(at) {
				t.Errorf("%v came back as %v", at, back)
			}
			if diff := cmp.Diff(map[string]any{"a": []any{"<b>", 1.5}}, json); diff != "" {
				t.Error(diff)
			}
		}
		left := []string{"as it was"}
		if err := db.JSON(&left).Scan(nil); err != nil || len(left) != 1 {
			t.Errorf("NULL made %v, %v", left, err)
		}
		if err := db.JSON(&left).Scan(""); err != nil || len(left) != 1 {
			t.Errorf("an empty text made %v, %v", left, err)
		}
		if db.JSON(&left).Scan(1) == nil || db.JSON(&left).Scan("{") == nil || db.Time(new(time.Time)).Scan("x") == nil {
			t.Error("what isn't of that kind was read")
		}
	})
}

func TestOneSaysWhenThereIsNone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		table(t, d, "name TEXT")
		if _, err := db.One(t.Context(), d, text, "SELECT name FROM thing"); !errors.Is(err, sql.ErrNoRows) {
			t.Error(err)
		}
		if list := texts(t, d, "SELECT name FROM thing"); list != nil {
			t.Errorf("%v", list)
		}
		exec(t, d, "INSERT INTO thing VALUES ('a'), ('b')")
		if got, err := db.One(t.Context(), d, text, "SELECT name FROM thing ORDER BY name"); err != nil || got != "a" {
			t.Errorf("%q, %v", got, err)
		}
		stop := errors.New("enough")
		if err := db.Each(t.Context(), d, func(db.Scanner) error { return stop }, "SELECT name FROM thing"); !errors.Is(err, stop) {
			t.Error(err)
		}
		if got := texts(t, d, "SELECT name FROM thing WHERE name IN "+db.In(2, 2)+" AND name <> $1", "b", "a", "b"); len(got) != 1 {
			t.Errorf("%v", got)
		}
	})
}

func TestAFullDiskIsTold(t *testing.T) {
	d := dbtest.Open(t, db.SQLite)
	table(t, d, "data BYTES")
	pages, err := db.Value[int](t.Context(), d, "PRAGMA page_count")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Writer().ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", pages+10)); err != nil {
		t.Fatal(err)
	}
	insert := func(size int) error {
		return d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO thing VALUES ($1)", make([]byte, size))
			return err
		})
	}
	if err := insert(1 << 20); !db.Full(err) {
		t.Errorf("full isn't told: %v", err)
	}
	if err := insert(10); err != nil || db.Full(err) {
		t.Errorf("what fits isn't taken: %v", err)
	}
	if n := count(t, d); n != 1 {
		t.Errorf("%d rows", n)
	}
}

func TestThePasswordIsInNoError(t *testing.T) {
	for _, where := range []string{
		"postgres://u:s%2Fecret@127.0.0.1:1/x", "postgres://u:s%2Fecret@127.0.0.1:1/x?sslmode=nonsense", "postgres://u:s%2Fecret@host:port/x",
	} {
		_, err := db.Open(t.Context(), where)
		if err == nil || strings.Contains(err.Error(), "ecret") {
			t.Errorf("%v", err)
		}
	}
}

func TestTheFileIsOursAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a?b#c %41.db")
	d, err := db.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	table(t, d, "name TEXT")
	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if !strings.HasPrefix(file, path) {
			t.Errorf("%s was made", file)
		}
		if mode := mode(t, file); mode != 0o600 {
			t.Errorf("%s has mode %o", file, mode)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestOnlyPostgresListens(t *testing.T) {
	if _, err := dbtest.Open(t, db.SQLite).Listener(t.Context()); err == nil {
		t.Error("SQLite listens")
	}
	pool, err := dbtest.Open(t, db.Postgres).Listener(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := pool.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAPrivateServerEndsWithItsFolder(t *testing.T) {
	dbtest.PostgresURL(t) // skips where there is to be none
	dir := shortDir(t)
	s, err := pgserver.Start(t.Context(), dir, "max_connections=7")
	if err != nil {
		t.Fatal(err)
	}
	d, err := db.Open(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if got := texts(t, d, "SHOW max_connections"); got[0] != "7" {
		t.Errorf("a setting wasn't taken: %v", got)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	s.Stop()
	s.Stop()
	if exists(t, dir) {
		t.Errorf("%s is left", dir)
	}
}

func TestParametersAreFoundByTheirNumbers(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		for query, want := range map[string]string{
			`SELECT CAST($1 AS TEXT) || CAST($2 AS TEXT) || CAST($3 AS TEXT)`:                       "abc",
			`SELECT CAST($3 AS TEXT) || CAST($1 AS TEXT) || CAST($2 AS TEXT)`:                       "cab",
			`SELECT CAST($1 AS TEXT) || CAST($1 AS TEXT) || CAST($2 AS TEXT) || CAST($3 AS TEXT)`:   "aabc",
			`SELECT CAST($2 AS TEXT) || CAST($2 AS TEXT) || CAST($1 AS TEXT) || CAST($3 AS TEXT)`:   "bbac",
			`SELECT CAST($1 AS TEXT) || '$2' || 'it''s $3' || CAST($2 AS TEXT) || CAST($3 AS TEXT)`: "a$2it's $3bc",
		} {
			got, err := db.Value[string](t.Context(), d, query, "a", "b", "c")
			if err != nil || got != want {
				t.Errorf("%s: %q, %v", query, got, err)
			}
		}
	})
}
