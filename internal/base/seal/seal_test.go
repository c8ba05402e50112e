package seal

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
)

func vault(t *testing.T, d *db.DB) (*Vault, string) {
	t.Helper()
	k, path := keyring(t)
	return NewVault(d, k, clock.NewFake(time.Unix(1, 0))), path
}

func put(t *testing.T, v *Vault, name, value string) {
	t.Helper()
	if err := v.db.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error { return v.Put(ctx, tx, name, []byte(value)) }); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, v *Vault, name string) string {
	t.Helper()
	value, err := v.Get(t.Context(), v.db, name)
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return string(value)
}

func TestWhatIsPutComesBack(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		v, _ := vault(t, d)
		values := map[string]string{"a": "secret", "connector/1/password": strings.Repeat("x", 100_000), "empty": "", "bytes": "\x00\xff"}
		for name, value := range values {
			put(t, v, name, "another")
			put(t, v, name, value)
		}
		for name, value := range values {
			if got := get(t, v, name); got != value {
				t.Errorf("%s came back as %q", name, got)
			}
		}
		if _, err := v.Get(t.Context(), d, "none"); !fault.Is(err, fault.NotFound) {
			t.Error(err)
		}
		sealed, err := secretByName(t.Context(), d, "a")
		if err != nil || bytes.Contains(sealed, []byte("secret")) {
			t.Errorf("%q, %v", sealed, err)
		}
		put(t, v, "b", "secret")
		if other, err := secretByName(t.Context(), d, "b"); err != nil || bytes.Equal(other[headSize:], sealed[headSize:]) {
			t.Errorf("equal secrets look alike, %v", err)
		}
		if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if got, err := v.Get(ctx, tx, "a"); err != nil || string(got) != "secret" {
				t.Errorf("within a transaction it is %q, %v", got, err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
}

func TestSecretsAreDeletedByNameAndByPrefix(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		v, _ := vault(t, d)
		for _, name := range []string{"connector/1/a", "connector/1/b", "connector/10/a", "connector/%/a", "connector/é/a", "one"} {
			put(t, v, name, "x")
		}
		if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return errors.Join(v.Delete(ctx, tx, "one"), v.Delete(ctx, tx, "none"),
				v.DeletePrefix(ctx, tx, "connector/1/"), v.DeletePrefix(ctx, tx, "connector/é/"), v.DeletePrefix(ctx, tx, "CONNECTOR"))
		}); err != nil {
			t.Fatal(err)
		}
		if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error { return v.DeletePrefix(ctx, tx, "") }); err == nil {
			t.Error("all were deleted at once")
		}
		left, err := secretPage(t.Context(), d, "", 10)
		if err != nil || len(left) != 2 || left[0].name != "connector/%/a" || left[1].name != "connector/10/a" {
			t.Errorf("%v, %v", left, err)
		}
	})
}

func TestWhatWasAlteredDoesntOpen(t *testing.T) {
	d := dbtest.Open(t, db.SQLite)
	v, _ := vault(t, d)
	put(t, v, "a", "secret of a")
	put(t, v, "b", "secret of b")
	whole := func(name string) []byte {
		sealed, err := secretByName(t.Context(), d, name)
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	a, b := whole("a"), whole("b")
	set := func(sealed []byte) {
		if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE secret SET sealed = $1 WHERE name = 'a'`, sealed)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, sealed []byte) {
		t.Helper()
		set(sealed)
		value, err := v.Get(t.Context(), d, "a")
		if !fault.Is(err, fault.Internal) && !fault.Is(err, fault.NotReady) || value != nil {
			t.Errorf("%s: %q, %v", what, value, err)
		}
	}
	for n := range a {
		altered := bytes.Clone(a)
		altered[n] ^= 1
		refused(fmt.Sprintf("byte %d", n), altered)
	}
	for n := range len(a) {
		refused(fmt.Sprintf("%d bytes", n), a[:n])
	}
	refused("a byte more", append(bytes.Clone(a), 0))
	refused("another's", b)
	ea, _ := decode(a)
	eb, _ := decode(b)
	refused("another's data key", envelope{ea.keyID, eb.wrapped, ea.value}.encode())
	refused("another's value", envelope{ea.keyID, ea.wrapped, eb.value}.encode())
	set(a)
	if got := get(t, v, "a"); got != "secret of a" {
		t.Errorf("%q", got)
	}
}

func TestAWrongKeyIsNoticed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		right, _ := vault(t, d)
		wrong, path := vault(t, d)
		for _, v := range []*Vault{right, wrong} {
			if err := v.Check(t.Context()); err != nil {
				t.Errorf("of an empty database: %v", err)
			}
		}
		put(t, right, "a", "secret")
		if err := right.Check(t.Context()); err != nil {
			t.Error(err)
		}
		_, opened := wrong.Get(t.Context(), d, "a")
		_, rotated := wrong.Rotate(t.Context())
		for _, err := range []error{wrong.Check(t.Context()), opened, rotated} {
			if !fault.Is(err, fault.NotReady) || !strings.Contains(err.Error(), right.keys.IDs()[0]) || !strings.Contains(err.Error(), wrong.keys.IDs()[0]) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v", err)
			}
		}
		if got := get(t, right, "a"); got != "secret" {
			t.Errorf("%q", got)
		}
		if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE secret SET sealed = $1`, []byte{9, 9})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := right.Check(t.Context()); !fault.Is(err, fault.Internal) {
			t.Errorf("%v", err)
		}
	})
}

func TestASecretIsMadeOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		v, path := vault(t, d)
		var made atomic.Int64
		var all sync.WaitGroup
		var got [10]string
		for n := range got {
			k, err := OpenKeyring(path, "")
			if err != nil {
				t.Fatal(err)
			}
			replica := NewVault(d, k, clock.System{})
			all.Go(func() {
				value, err := replica.Make(t.Context(), "audit/key", func() ([]byte, error) { return fmt.Append(nil, "key ", made.Add(1)), nil })
				if err != nil {
					t.Error(err)
				}
				got[n] = string(value)
			})
		}
		all.Wait()
		for _, value := range got {
			if value != got[0] || value != get(t, v, "audit/key") {
				t.Fatalf("%q", got)
			}
		}
		before := made.Load()
		if value, err := v.Make(t.Context(), "audit/key", func() ([]byte, error) { made.Add(1); return nil, nil }); err != nil || string(value) != got[0] || made.Load() != before {
			t.Errorf("it was made again: %q, %v", value, err)
		}
		failure := errors.New("no luck")
		if _, err := v.Make(t.Context(), "other", func() ([]byte, error) { return nil, failure }); !errors.Is(err, failure) {
			t.Error(err)
		}
	})
}

func TestRotatingSealsAllAnewAndDropsTheOldKey(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		v, path := vault(t, d)
		const many = 250 // pages of 100
		for n := range many {
			put(t, v, fmt.Sprint("name ", n), fmt.Sprint("secret ", n))
		}
		before, err := secretByName(t.Context(), d, "name 7")
		if err != nil {
			t.Fatal(err)
		}
		old := v.keys.IDs()[0]
		n, err := v.Rotate(t.Context())
		if err != nil || n != many {
			t.Fatalf("%d, %v", n, err)
		}
		if ids := v.keys.IDs(); len(ids) != 1 || ids[0] == old || len(lines(t, path)) != 1 {
			t.Errorf("%v", ids)
		}
		after, err := secretByName(t.Context(), d, "name 7")
		if err != nil || bytes.Contains(after, before[headSize:headSize+wrapSize]) || !bytes.HasSuffix(after, before[headSize+wrapSize:]) {
			t.Error("the data key isn't sealed anew, or the value is")
		}
		k, err := OpenKeyring(path, "")
		if err != nil {
			t.Fatal(err)
		}
		fresh := NewVault(d, k, clock.System{})
		for n := range many {
			if got := get(t, fresh, fmt.Sprint("name ", n)); got != fmt.Sprint("secret ", n) {
				t.Errorf("%q", got)
			}
		}
	})
}

func TestARotationThatWasCutShortGoesOn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		v, path := vault(t, d)
		for n := range 150 {
			put(t, v, fmt.Sprintf("name %03d", n), "secret")
		}
		// Killed after the key was added and a page was sealed anew.
		if err := v.keys.Rotate(); err != nil {
			t.Fatal(err)
		}
		current, err := v.keys.current()
		if err != nil {
			t.Fatal(err)
		}
		page, err := secretPage(t.Context(), d, "", 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page {
			e, _ := decode(s.sealed)
			if e, err = e.rewrap(v.keys.keys[1], current, s.name); err != nil {
				t.Fatal(err)
			}
			if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error { return updateSecret(ctx, tx, s, e.encode()) }); err != nil {
				t.Fatal(err)
			}
		}
		k, err := OpenKeyring(path, "")
		if err != nil {
			t.Fatal(err)
		}
		next := NewVault(d, k, clock.System{})
		if err := next.Check(t.Context()); err != nil {
			t.Error(err)
		}
		for n := range 150 {
			get(t, next, fmt.Sprintf("name %03d", n))
		}
		n, err := next.Rotate(t.Context())
		if err != nil || n != 50 || len(lines(t, path)) != 1 || next.keys.IDs()[0] != hex.EncodeToString(current.id[:]) {
			t.Errorf("%d, %v, %v", n, err, next.keys.IDs())
		}
		for n := range 150 {
			get(t, next, fmt.Sprintf("name %03d", n))
		}
	})
}

func TestKeysOfTheEnvironmentAreRotatedByWhoeverSetsIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		var keys []string
		for range 2 {
			one, err := NewKey()
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, one)
		}
		with := func(env string) *Vault {
			k, err := OpenKeyring("", env)
			if err != nil {
				t.Fatal(err)
			}
			return NewVault(d, k, clock.System{})
		}
		put(t, with(keys[0]), "a", "secret")
		if n, err := with(keys[1] + "," + keys[0]).Rotate(t.Context()); err != nil || n != 1 {
			t.Errorf("%d, %v", n, err)
		}
		if got := get(t, with(keys[1]), "a"); got != "secret" {
			t.Errorf("%q", got)
		}
		if err := with(keys[0]).Check(t.Context()); !fault.Is(err, fault.NotReady) || !strings.Contains(err.Error(), "AIRLOCK_KEY") {
			t.Error(err)
		}
	})
}

func TestSecretsPutDuringARotationCanBeOpened(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		first, path := vault(t, d)
		for n := range 120 {
			put(t, first, fmt.Sprint("old ", n), "secret")
		}
		stop := make(chan struct{})
		var all sync.WaitGroup
		var written [3]int
		for w := range written {
			k, err := OpenKeyring(path, "")
			if err != nil {
				t.Fatal(err)
			}
			replica := NewVault(d, k, clock.System{})
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					name := fmt.Sprintf("new %d %d", w, written[w])
					if written[w]%2 == 0 {
						if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error { return replica.Put(ctx, tx, name, []byte(name)) }); err != nil {
							t.Error(err)
						}
					} else if _, err := replica.Make(t.Context(), name, func() ([]byte, error) { return []byte(name), nil }); err != nil {
						t.Error(err)
					}
					written[w]++
				}
			})
		}
		for range 5 {
			if _, err := first.Rotate(t.Context()); err != nil {
				t.Error(err)
			}
		}
		close(stop)
		all.Wait()
		k, err := OpenKeyring(path, "")
		if err != nil || len(k.IDs()) != 1 {
			t.Fatal(k.IDs(), err)
		}
		fresh := NewVault(d, k, clock.System{})
		for w, n := range written {
			for n := range n {
				name := fmt.Sprintf("new %d %d", w, n)
				if got := get(t, fresh, name); got != name {
					t.Errorf("%s came back as %q", name, got)
				}
			}
		}
		t.Logf("%v were put meanwhile", written)
	})
}

func FuzzOpen(f *testing.F) {
	k, err := makeKey()
	if err != nil {
		f.Fatal(err)
	}
	good, err := encrypt(k, "name", []byte("secret"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, "name")
	f.Add(good, "other")
	f.Add(good[:headSize], "name")
	f.Add([]byte{}, "")
	f.Fuzz(func(t *testing.T, sealed []byte, name string) {
		e, err := decode(sealed)
		if err != nil {
			return
		}
		if !bytes.Equal(e.encode(), sealed) {
			t.Error("it isn't encoded as it was")
		}
		value, err := e.open(k, name)
		if err == nil && (name != "name" || string(value) != "secret") {
			t.Errorf("%x opens as %q", sealed, value)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	good, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good + "\n" + good)
	f.Add("airlock-key-v1::")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := parseKeys(strings.Split(text, "\n"))
		if err == nil && len(keys) == 0 {
			t.Error("no keys and no error")
		}
		for _, k := range keys {
			if same, err := parseKey(k.line()); err != nil || same.id != k.id {
				t.Errorf("%s isn't read as it is written", k.line())
			}
		}
	})
}

func TestTheFoldersOfNoKeyAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "key"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeyring(filepath.Join(dir, "key"), ""); err == nil {
		t.Error("a folder was taken for a key file")
	}
}

// What a transaction has put in is checked before it is committed.
func TestATransactionsSecretsAreChecked(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		v, _ := vault(t, d)
		other, _ := vault(t, d)
		if err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if err := other.Put(ctx, tx, "a", []byte("secret")); err != nil {
				return err
			}
			if err := other.CheckWith(ctx, tx); err != nil {
				t.Error(err)
			}
			if err := v.CheckWith(ctx, tx); !fault.Is(err, fault.NotReady) {
				t.Errorf("with another key: %v", err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
}
