package db_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
)

// What is looked at stays as it is, with a server or without.
func TestLookingChangesNothing(t *testing.T) {
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		for _, served := range []bool{false, true} {
			where := dbtest.Where(t, engine)
			if served {
				d, err := db.Open(t.Context(), where)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { d.Close() })
				exec(t, d, "INSERT INTO secret (name, sealed, updated_at) VALUES ('a', $1, 1)", []byte{1})
			}
			look, err := db.OpenToRead(t.Context(), where, served)
			if err != nil {
				t.Fatal(err)
			}
			if version, err := look.Version(t.Context()); err != nil || version != db.Newest() || version == 0 {
				t.Errorf("%s: version %d of %d, %v", engine, version, db.Newest(), err)
			}
			if got := texts(t, look, "SELECT name FROM secret"); (len(got) == 1) != served {
				t.Errorf("%s, served %t: %v", engine, served, got)
			}
			err = look.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, "DELETE FROM secret")
				return err
			})
			if err == nil {
				t.Errorf("%s: it could be changed", engine)
			}
			if err := look.Close(); err != nil {
				t.Error(err)
			}
			if engine == db.SQLite && !served {
				if files, err := os.ReadDir(filepath.Dir(where)); err != nil || len(files) != 1 {
					t.Errorf("there are %v, %v", files, err)
				}
			}
		}
	}
}

func TestLookingMakesNoDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.db")
	if d, err := db.OpenToRead(t.Context(), path, false); err == nil {
		t.Error("what isn't there was opened", d.Close())
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file was made", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{path, dbtest.PostgresURL(t)} { // both are empty
		d, err := db.OpenToRead(t.Context(), where, false)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		for range 2 {
			if version, err := d.Version(t.Context()); err != nil || version != 0 {
				t.Errorf("version %d, %v", version, err)
			}
		}
	}
}

// Whoever checks what was restored can refuse it, and nothing is kept.
func TestARefusedRestoreKeepsNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		source := dbtest.Open(t, db.SQLite)
		exec(t, source, "INSERT INTO secret (name, sealed, updated_at) VALUES ('a', $1, 1)", []byte{1})
		path := filepath.Join(t.TempDir(), "backup")
		if err := source.Backup(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		refused := fault.New(fault.NotReady, "the key is wrong")
		err := d.Restore(t.Context(), path, func(ctx context.Context, tx *db.Tx) error {
			if n, err := db.Value[int64](ctx, tx, "SELECT COUNT(*) FROM secret"); err != nil || n != 1 {
				t.Errorf("the rows aren't in: %d, %v", n, err)
			}
			_, err := tx.Exec(ctx, "INSERT INTO secret (name, sealed, updated_at) VALUES ('b', $1, 1)", []byte{1})
			return errors.Join(err, refused)
		})
		if !errors.Is(err, refused) {
			t.Error(err)
		}
		if got := texts(t, d, "SELECT name FROM secret"); len(got) != 0 {
			t.Errorf("kept: %v", got)
		}
		if err := d.Restore(t.Context(), path, nothing); err != nil {
			t.Error("it can't be restored afterwards:", err)
		}
	})
}
