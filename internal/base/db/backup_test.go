package db_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
)

// fill puts rows into tables that have every type, NULLs, references and a row
// that the migrations put in.
func fill(t *testing.T, d *db.DB) {
	t.Helper()
	write(t, d, func(ctx context.Context, tx *db.Tx) error {
		for _, statement := range []string{
			`UPDATE audit_head SET size = 7`,
			`INSERT INTO file (id, kind, task_id, sha256, size, complete, created_at) VALUES ('f1', 'c1z', '', 'é😀', 9007199254740993, TRUE, 1), ('f2', 'log', '', '', 0, FALSE, -1)`,
		} {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `INSERT INTO client (id, kind, subject_id, public_key, created_at, last_used_at) VALUES ('c', 'connector', 's', $1, 1, 5)`, []byte{}); err != nil {
			return err
		}
		var chunks, secrets [][]any
		for n := range 10 {
			chunks = append(chunks, []any{"f1", n, bytes.Repeat([]byte{0, byte(n), 255}, 500_000)})
		}
		for n := range 1234 {
			secrets = append(secrets, []any{fmt.Sprint("name ", n), []byte{byte(n)}, n})
		}
		if err := tx.Insert(ctx, "file_chunk", []string{"file_id", "n", "data"}, chunks); err != nil {
			return err
		}
		return tx.Insert(ctx, "secret", []string{"name", "sealed", "updated_at"}, secrets)
	})
}

// content is all that the tables of fill hold.
func content(t *testing.T, d *db.DB) []string {
	t.Helper()
	var lines []string
	for table, order := range map[string]string{
		"audit_head": "one", "file": "id", "client": "id", "file_chunk": "file_id, n", "secret": "name", "person": "id",
	} {
		if err := db.Each(t.Context(), d, func(row db.Scanner) error {
			values := make([]any, map[string]int{"audit_head": 2, "file": 7, "client": 7, "file_chunk": 3, "secret": 3, "person": 15}[table])
			targets := make([]any, len(values))
			for n := range values {
				targets[n] = &values[n]
			}
			if err := row.Scan(targets...); err != nil {
				return err
			}
			for n, value := range values {
				switch typed := value.(type) {
				case bool:
					values[n] = map[bool]int64{false: 0, true: 1}[typed]
				case []byte:
					values[n] = fmt.Sprintf("%d bytes %x", len(typed), typed[:min(8, len(typed))])
				}
			}
			lines = append(lines, fmt.Sprintf("%s %#v", table, values))
			return nil
		}, "SELECT * FROM "+table+" ORDER BY "+order); err != nil {
			t.Fatal(err)
		}
	}
	return lines
}

func nothing(context.Context, *db.Tx) error { return nil }

var inOrder = cmpopts.SortSlices(func(a, b string) bool { return a < b })

func TestABackupFillsADatabaseOfEitherKind(t *testing.T) {
	for _, from := range []db.Engine{db.SQLite, db.Postgres} {
		for _, to := range []db.Engine{db.SQLite, db.Postgres} {
			t.Run(fmt.Sprintf("%s to %s", from, to), func(t *testing.T) {
				source, target := dbtest.Open(t, from), dbtest.Open(t, to)
				fill(t, source)
				path := filepath.Join(t.TempDir(), "backup")
				if err := source.Backup(t.Context(), path); err != nil {
					t.Fatal(err)
				}
				if err := target.Restore(t.Context(), path, nothing); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(content(t, source), content(t, target), inOrder); diff != "" {
					t.Error(diff)
				}
				files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
				if err != nil || len(files) != 1 || mode(t, files[0]) != 0o600 {
					t.Errorf("%v, %v", files, err)
				}
				// What is restored can be backed up, and works on.
				exec(t, target, "INSERT INTO secret (name, sealed, updated_at) VALUES ('new', $1, 1)", []byte{1})
				if err := target.Backup(t.Context(), path+"2"); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestABackupIsOfOneMoment(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		// Each transaction adds a row to two tables.
		ctx, cancel := context.WithCancel(t.Context())
		begun, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			started := sync.OnceFunc(func() { close(begun) })
			defer started()
			for n := 0; ctx.Err() == nil; n++ {
				if n == 20 {
					started()
				}
				if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
					if _, err := tx.Exec(ctx, "INSERT INTO secret (name, sealed, updated_at) VALUES ($1, $2, 1)", fmt.Sprint(n), []byte{1}); err != nil {
						return err
					}
					_, err := tx.Exec(ctx, "INSERT INTO file (id, kind, task_id, sha256, size, complete, created_at) VALUES ($1, '', '', '', 0, FALSE, 0)", fmt.Sprint(n))
					return err
				}); err != nil {
					t.Error(err)
					return
				}
			}
		}()
		<-begun
		path := filepath.Join(t.TempDir(), "backup")
		if err := d.Backup(t.Context(), path); err != nil {
			t.Error(err)
		}
		cancel()
		<-ended
		target := dbtest.Open(t, db.SQLite)
		if err := target.Restore(t.Context(), path, nothing); err != nil {
			t.Fatal(err)
		}
		secrets, files := texts(t, target, "SELECT name FROM secret ORDER BY name"), texts(t, target, "SELECT id FROM file ORDER BY id")
		if diff := cmp.Diff(secrets, files); diff != "" || len(secrets) < 20 {
			t.Errorf("%d rows: %s", len(secrets), diff)
		}
	})
}

func TestWhatCantBeRestoredIsRefused(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		dir := t.TempDir()
		good := filepath.Join(dir, "good")
		if err := d.Backup(t.Context(), good); err != nil {
			t.Fatal(err)
		}
		if err := d.Backup(t.Context(), good); !fault.Is(err, fault.Conflict) {
			t.Errorf("a file was written over: %v", err)
		}
		if err := d.Backup(t.Context(), filepath.Join(dir, "none", "x")); err == nil {
			t.Error("a backup was written nowhere")
		}
		data, err := os.ReadFile(good)
		if err != nil {
			t.Fatal(err)
		}
		made := func(name string, content []byte) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		other := append([]byte(nil), data...)
		other[63] = 200 // user_version is the big-endian number at 60
		damaged := append([]byte(nil), data...)
		for n := 4096; n < len(damaged); n += 100 {
			damaged[n] ^= 0x55
		}
		for _, test := range []struct {
			path string
			code fault.Code
			says string
		}{
			{filepath.Join(dir, "missing"), fault.Invalid, "can't be read"},
			{made("empty", nil), fault.Invalid, "isn't a backup"},
			{made("text", []byte("hello")), fault.Invalid, "isn't a backup"},
			{made("short", data[:len(data)/2]), fault.Invalid, ""},
			{made("damaged", damaged), fault.Invalid, "damaged"},
			{made("other", other), fault.NotReady, "version 200"},
		} {
			err := d.Restore(t.Context(), test.path, nothing)
			if !fault.Is(err, test.code) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: %v", filepath.Base(test.path), err)
			}
		}
		exec(t, d, "INSERT INTO secret (name, sealed, updated_at) VALUES ('mine', $1, 1)", []byte{1})
		if err := d.Restore(t.Context(), good, nothing); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "secret") {
			t.Errorf("a database with rows was overwritten: %v", err)
		}
		if got := texts(t, d, "SELECT name FROM secret"); len(got) != 1 {
			t.Errorf("%v", got)
		}
	})
}
