package dbtest_test

import (
	"context"
	"testing"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
)

func TestEachTestHasItsOwnMigratedDatabase(t *testing.T) {
	for range 2 {
		dbtest.Each(t, func(t *testing.T, d *db.DB) {
			for _, table := range []string{"secret", "river_job"} {
				if n, err := db.Value[int](t.Context(), d, "SELECT count(*) FROM "+table); err != nil || n != 0 {
					t.Errorf("table %s: %d rows, %v", table, n, err)
				}
			}
			if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, "INSERT INTO secret (name, sealed, updated_at) VALUES ($1, $2, $3)", "a", []byte{1}, time.Now())
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
}
