package db_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/base/job"
)

// schema tells of each table its columns, keys and indexes, in words that are
// the same for both databases.
func schema(t *testing.T, d *db.DB) map[string][]string {
	t.Helper()
	queries := []string{ // table, kind, what
		`SELECT m.name, 'column', c.name || ' ' || CASE c.type WHEN 'TEXT' THEN 'text' WHEN 'BLOB' THEN 'bytes' WHEN 'INTEGER' THEN 'number' ELSE c.type END
			|| CASE c."notnull" WHEN 1 THEN ' not null' ELSE '' END || coalesce(' ' || c.dflt_value, '')
			FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY m.name, c.name`,
		`SELECT m.name, CASE i.origin WHEN 'c' THEN CASE i."unique" WHEN 1 THEN 'unique ' ELSE '' END || 'index ' || i.name WHEN 'u' THEN 'unique' ELSE 'key' END, COALESCE(c.name, 'an expression')
			FROM sqlite_master m, pragma_index_list(m.name) i, pragma_index_info(i.name) c WHERE m.type = 'table' ORDER BY m.name, i.name, c.seqno`,
		`SELECT m.name, 'key', c.name FROM sqlite_master m, pragma_table_info(m.name) c
			WHERE m.type = 'table' AND c.pk > 0 AND NOT EXISTS (SELECT 1 FROM pragma_index_list(m.name) i WHERE i.origin = 'pk') ORDER BY m.name, c.pk`,
		`SELECT m.name, 'reference', f."from" || ' to ' || f."table" || ' ' || f."to" || ' ' || f.on_delete
			FROM sqlite_master m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table' ORDER BY m.name, f.id`,
	}
	if d.Engine() == db.Postgres {
		queries = []string{
			`SELECT table_name::text, 'column', column_name || ' ' || CASE data_type WHEN 'text' THEN 'text' WHEN 'bytea' THEN 'bytes' WHEN 'bigint' THEN 'number' WHEN 'boolean' THEN 'number' ELSE data_type END
				|| CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END || coalesce(' ' || column_default, '')
				FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, column_name`,
			`SELECT c.relname::text, CASE WHEN i.indisprimary THEN 'key' WHEN k.oid IS NOT NULL THEN 'unique' WHEN i.indisunique THEN 'unique index ' || x.relname ELSE 'index ' || x.relname END, COALESCE(a.attname::text, 'an expression')
				FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
				LEFT JOIN pg_constraint k ON k.conindid = x.oid AND k.contype = 'u'
				CROSS JOIN LATERAL unnest(i.indkey::int[]) WITH ORDINALITY AS n (attnum, place) LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = n.attnum
				WHERE c.relnamespace = 'public'::regnamespace ORDER BY c.relname, x.relname, n.place`,
			`SELECT c.relname::text, 'reference', a.attname || ' to ' || r.relname || ' ' || b.attname || ' ' || CASE k.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'a' THEN 'NO ACTION' ELSE k.confdeltype::text END
				FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class r ON r.oid = k.confrelid
				JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1] JOIN pg_attribute b ON b.attrelid = r.oid AND b.attnum = k.confkey[1]
				WHERE k.contype = 'f' AND c.relnamespace = 'public'::regnamespace ORDER BY 1, 3`,
		}
	}
	found := map[string][]string{}
	for _, query := range queries {
		lines := map[string][]string{}
		var order []string
		if err := db.Each(t.Context(), d, func(row db.Scanner) error {
			var table, kind, what string
			if err := row.Scan(&table, &kind, &what); err != nil {
				return err
			}
			if strings.HasPrefix(table, "sqlite_") || strings.HasPrefix(table, "river_") || table == "goose_db_version" {
				return nil
			}
			key := table + "\x00" + kind
			if kind == "column" || kind == "reference" {
				key += "\x00" + what
			}
			if lines[key] == nil {
				order = append(order, key)
			}
			lines[key] = append(lines[key], what)
			return nil
		}, query); err != nil {
			t.Fatal(err)
		}
		for _, key := range order {
			table, kind, _ := strings.Cut(key, "\x00")
			kind, _, _ = strings.Cut(kind, "\x00")
			found[table] = append(found[table], kind+": "+strings.Join(lines[key], ", "))
		}
	}
	for table := range found {
		slices.Sort(found[table])
	}
	return found
}

func TestTheSchemasAreEqual(t *testing.T) {
	lite, postgres := schema(t, dbtest.Open(t, db.SQLite)), schema(t, dbtest.Open(t, db.Postgres))
	if len(lite) < 20 || !slices.Contains(lite["secret"], "key: name") || !slices.Contains(lite["secret"], "column: sealed bytes not null") {
		t.Errorf("the tables aren't found: %d, secret is %q", len(lite), lite["secret"])
	}
	if diff := cmp.Diff(lite, postgres); diff != "" {
		t.Errorf("SQLite's (-) and PostgreSQL's (+) differ:\n%s", diff)
	}
}

func TestEveryTextOfPostgresComparesBytewise(t *testing.T) {
	d := dbtest.Open(t, db.Postgres)
	const ours = `FROM information_schema.columns WHERE table_schema = 'public' AND data_type LIKE '%char%' OR data_type = 'text'
		AND table_schema = 'public' AND table_name NOT LIKE 'river!_%' ESCAPE '!' AND table_name <> 'goose_db_version'`
	if n, err := db.Value[int](t.Context(), d, "SELECT count(*) "+ours); err != nil || n < 100 {
		t.Errorf("%d columns, %v", n, err)
	}
	for _, column := range texts(t, d, "SELECT table_name || '.' || column_name FROM (SELECT * "+ours+") c WHERE collation_name IS DISTINCT FROM 'C' AND table_name NOT LIKE 'river!_%' ESCAPE '!'") {
		t.Errorf("%s has another collation than C", column)
	}
}

func TestSQLiteTablesAreStrict(t *testing.T) {
	d := dbtest.Open(t, db.SQLite)
	for _, name := range texts(t, d, `SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict = 0
		AND name NOT LIKE 'river!_%' ESCAPE '!' AND name NOT LIKE 'sqlite!_%' ESCAPE '!' AND name <> 'goose_db_version'`) {
		t.Errorf("the table %s isn't STRICT", name)
	}
}

func TestServersMayMigrateAtOnce(t *testing.T) {
	where := dbtest.PostgresURL(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			d, err := db.Open(t.Context(), where)
			if err != nil {
				t.Error(err)
				return
			}
			defer d.Close()
			q, err := job.New(d, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Error(err)
				return
			}
			if err := d.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
			if err := q.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestMigratingTwiceChangesNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		before := schema(t, d)
		if err := d.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, schema(t, d)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestANewerDatabaseIsRefused(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		version, err := d.Version(t.Context())
		if err != nil || version < 6 {
			t.Fatal(version, err)
		}
		exec(t, d, "INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, $2)", 9999, true)
		err = d.Migrate(t.Context())
		if !fault.Is(err, fault.NotReady) || !strings.Contains(err.Error(), "9999") || !strings.Contains(err.Error(), fmt.Sprint(version)) {
			t.Errorf("%v", err)
		}
	})
}

func TestOneServerAtATimeDoesWhatIsExclusive(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		if d.Engine() == db.SQLite {
			t.Skip("it has one server")
		}
		var all sync.WaitGroup
		within := make(chan struct{}, 1)
		for range 5 {
			all.Go(func() {
				if err := d.Exclusively(t.Context(), func(context.Context) error {
					select {
					case within <- struct{}{}:
					default:
						t.Error("two are within")
						return nil
					}
					texts(t, d, "SELECT pg_sleep(0.01)::text")
					<-within
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}
