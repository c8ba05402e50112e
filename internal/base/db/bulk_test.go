package db_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
)

func TestAStatementRunsForEachOfManyRowsOrForNone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		table(t, d, "id BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, at BIGINT")
		rows := [][]any{{1, "a\x00b", time.UnixMicro(5)}, {2, "b", time.Time{}}}
		write(t, d, func(ctx context.Context, tx *db.Tx) error {
			if err := tx.ExecEach(ctx, `INSERT INTO thing (id, name, at) VALUES ($1, $2, $3)`, nil); err != nil {
				return err
			}
			if err := tx.ExecEach(ctx, `INSERT INTO thing (id, name, at) VALUES ($1, $2, $3)`, rows); err != nil {
				return err
			}
			return tx.ExecEach(ctx, `UPDATE thing SET name = $2 WHERE id = $1`, [][]any{{2, "c"}, {3, "nobody"}})
		})
		got := texts(t, d, `SELECT id || ' ' || name || ' ' || COALESCE(at, 0) FROM thing ORDER BY id`)
		if diff := cmp.Diff([]string{"1 ab 5", "2 c 0"}, got); diff != "" {
			t.Error(diff)
		}
		err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return tx.ExecEach(ctx, `INSERT INTO thing (id, name) VALUES ($1, $2)`, [][]any{{4, "new"}, {1, "again"}})
		})
		if !db.Duplicate(err) || count(t, d) != 2 {
			t.Errorf("%v; there are %d", err, count(t, d))
		}
	})
}

func TestTablesAreAnalyzedOutsideOfATransaction(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		table(t, d, "id BIGINT NOT NULL PRIMARY KEY")
		exec(t, d, `INSERT INTO thing (id) VALUES (1), (2), (3)`)
		held := 0
		d.Observe(func(time.Duration) { held++ })
		if err := d.Analyze(t.Context(), "thing"); err != nil || held > 0 {
			t.Errorf("%v, %d transactions of Write", err, held)
		}
		if d.Engine() == db.SQLite {
			return
		}
		rows, err := db.Value[int](t.Context(), d, `SELECT CAST(reltuples AS BIGINT) FROM pg_class WHERE relname = 'thing'`)
		if err != nil || rows != 3 {
			t.Errorf("it knows of %d rows: %v", rows, err)
		}
		err = d.Write(t.Context(), func(ctx context.Context, _ *db.Tx) error { return d.Analyze(ctx, "thing") })
		if err == nil {
			t.Error("the pool was asked within a transaction")
		}
	})
}

func TestOnlyTheTransactionThatSaysSoIsUnhurried(t *testing.T) {
	d := dbtest.Open(t, db.Postgres)
	mode := func(unhurried bool) (mode string) {
		write(t, d, func(ctx context.Context, tx *db.Tx) (err error) {
			if unhurried {
				if err := tx.Unhurried(ctx); err != nil {
					return err
				}
			}
			mode, err = db.Value[string](ctx, tx, `SHOW synchronous_commit`)
			return err
		})
		return mode
	}
	if before, during, after := mode(false), mode(true), mode(false); during != "off" || before != after {
		t.Errorf("%s, %s, %s", before, during, after)
	}
}
