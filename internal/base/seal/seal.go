// Package seal keeps secrets in the database so that the database alone doesn't
// tell them.
//
// Each value is sealed with a data key of its own, and that with a key of the
// keyring, which isn't in the database: AES-256-GCM both times. What is sealed
// is bound to the secret's name, so that nothing can be moved to another name.
package seal

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
)

// A sealed value: its version, the id of the key, the data key sealed with that
// key, and the value sealed with the data key. The sealed parts begin with their
// nonces and end with their tags.
const (
	version   = 1
	headSize  = 1 + idSize
	gcmSize   = 12 + 16 // nonce and tag
	wrapSize  = keySize + gcmSize
	leastSize = headSize + wrapSize + gcmSize
)

// errAltered says that a sealed value isn't what was sealed under its name.
var errAltered = errors.New("it was altered, or belongs to another name")

type envelope struct {
	keyID   [idSize]byte
	wrapped []byte // the data key
	value   []byte
}

func decode(sealed []byte) (envelope, error) {
	if len(sealed) < leastSize || sealed[0] != version {
		return envelope{}, errAltered
	}
	return envelope{
		keyID:   [idSize]byte(sealed[1:headSize]),
		wrapped: sealed[headSize : headSize+wrapSize],
		value:   sealed[headSize+wrapSize:],
	}, nil
}

func (e envelope) encode() []byte {
	sealed := make([]byte, 0, headSize+len(e.wrapped)+len(e.value))
	sealed = append(sealed, version)
	sealed = append(sealed, e.keyID[:]...)
	sealed = append(sealed, e.wrapped...)
	return append(sealed, e.value...)
}

// What the two seals are bound to. The value's doesn't tell the key, which
// changes with a rotation.
func keyBinding(id [idSize]byte, name string) []byte {
	return append(append([]byte("airlock data key v1\n"), id[:]...), name...)
}

func valueBinding(name string) []byte { return []byte("airlock secret v1\n" + name) }

func encrypt(k key, name string, value []byte) ([]byte, error) {
	dataKey := make([]byte, keySize)
	_, _ = rand.Read(dataKey) // never fails
	aead, err := dataAEAD(dataKey)
	if err != nil {
		return nil, err
	}
	return envelope{keyID: k.id, wrapped: seal(k.aead, dataKey, keyBinding(k.id, name)), value: seal(aead, value, valueBinding(name))}.encode(), nil
}

func seal(aead cipher.AEAD, value, binding []byte) []byte {
	return aead.Seal(nil, nil, value, binding) //nolint:gosec // it makes its nonces itself
}

func dataAEAD(dataKey []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(dataKey)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (e envelope) open(k key, name string) ([]byte, error) {
	dataKey, err := k.aead.Open(nil, nil, e.wrapped, keyBinding(k.id, name))
	if err != nil {
		return nil, errAltered
	}
	aead, err := dataAEAD(dataKey)
	if err != nil {
		return nil, err
	}
	value, err := aead.Open(nil, nil, e.value, valueBinding(name))
	if err != nil {
		return nil, errAltered
	}
	return value, nil
}

// rewrap seals the data key with another key.
func (e envelope) rewrap(from, to key, name string) (envelope, error) {
	dataKey, err := from.aead.Open(nil, nil, e.wrapped, keyBinding(from.id, name))
	if err != nil {
		return envelope{}, errAltered
	}
	return envelope{keyID: to.id, wrapped: seal(to.aead, dataKey, keyBinding(to.id, name)), value: e.value}, nil
}

// Vault is the secrets of a database. A secret's name says for whom and what it
// is, such as "connector/ID/password".
type Vault struct {
	db    *db.DB
	keys  *Keyring
	clock clock.Clock
}

// NewVault makes the vault of a database and the keys it is sealed with.
func NewVault(d *db.DB, k *Keyring, c clock.Clock) *Vault { return &Vault{db: d, keys: k, clock: c} }

// Put seals a value under a name, in place of what was there.
func (v *Vault) Put(ctx context.Context, tx *db.Tx, name string, value []byte) error {
	_, err := v.insert(ctx, tx, name, value, `ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at`)
	return err
}

// insert reports how many rows it wrote.
func (v *Vault) insert(ctx context.Context, tx *db.Tx, name string, value []byte, conflict string) (int64, error) {
	if err := lockToPut(ctx, tx); err != nil {
		return 0, fmt.Errorf("seal %s: %w", name, err)
	}
	current, err := v.keys.current()
	if err != nil {
		return 0, fmt.Errorf("seal %s: %w", name, err)
	}
	sealed, err := encrypt(current, name, value)
	if err != nil {
		return 0, fmt.Errorf("seal %s: %w", name, err)
	}
	n, err := insertSecret(ctx, tx, secret{name: name, sealed: sealed}, v.clock.Now(), conflict)
	if err != nil {
		return 0, fmt.Errorf("seal %s: %w", name, err)
	}
	return n, nil
}

// Delete removes a secret; one that isn't there is removed already.
func (v *Vault) Delete(ctx context.Context, tx *db.Tx, name string) error {
	return deleteSecret(ctx, tx, name)
}

// DeletePrefix removes all secrets whose names begin so, such as "connector/ID/".
func (v *Vault) DeletePrefix(ctx context.Context, tx *db.Tx, prefix string) error {
	if prefix == "" {
		return errors.New("all secrets aren't deleted at once")
	}
	return deleteSecrets(ctx, tx, prefix)
}

// Get opens a secret; fault.NotFound says that there is none.
func (v *Vault) Get(ctx context.Context, q db.Querier, name string) ([]byte, error) {
	sealed, err := secretByName(ctx, q, name)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, fault.New(fault.NotFound, "there is no secret %q", name)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return v.open(name, sealed)
}

func (v *Vault) open(name string, sealed []byte) ([]byte, error) {
	e, err := decode(sealed)
	if err != nil {
		return nil, fault.New(fault.Internal, "the secret %q can't be opened: %w", name, err)
	}
	k, known := v.keys.find(e.keyID)
	if !known {
		return nil, v.unknown(e.keyID)
	}
	value, err := e.open(k, name)
	if err != nil {
		return nil, fault.New(fault.Internal, "the secret %q can't be opened: %w", name, err)
	}
	return value, nil
}

func (v *Vault) unknown(id [idSize]byte) error {
	where := "AIRLOCK_KEY"
	if v.keys.FromFile() {
		where = "the key file " + v.keys.path
	}
	return fault.New(fault.NotReady, "the database's secrets are sealed with the key %s, and %s has only %s: bring that key back",
		hex.EncodeToString(id[:]), where, strings.Join(v.keys.IDs(), ", "))
}

// Make opens a secret, and makes it first where there is none. Of several
// replicas that make one, all get the same.
func (v *Vault) Make(ctx context.Context, name string, create func() ([]byte, error)) ([]byte, error) {
	value, err := v.Get(ctx, v.db, name)
	if !fault.Is(err, fault.NotFound) {
		return value, err
	}
	value, err = create()
	if err != nil {
		return nil, fmt.Errorf("make the secret %s: %w", name, err)
	}
	var made int64
	if err := v.db.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		made, err = v.insert(ctx, tx, name, value, `ON CONFLICT (name) DO NOTHING`)
		return err
	}); err != nil {
		return nil, err
	}
	if made == 1 {
		return value, nil
	}
	return v.Get(ctx, v.db, name)
}

// Check fails if the database's secrets can't be opened with the keys at hand.
func (v *Vault) Check(ctx context.Context) error { return v.CheckWith(ctx, v.db) }

// CheckWith does so for the secrets that a transaction sees.
func (v *Vault) CheckWith(ctx context.Context, q db.Querier) error {
	heads, err := secretHeads(ctx, q)
	if err != nil {
		return fmt.Errorf("look at the secrets: %w", err)
	}
	for _, head := range heads {
		if len(head) != headSize || head[0] != version {
			return fault.New(fault.Internal, "a secret was altered: its head is %x", head)
		}
		if _, known := v.keys.find([idSize]byte(head[1:])); !known {
			return v.unknown([idSize]byte(head[1:]))
		}
	}
	page, err := secretPage(ctx, q, "", 1)
	if err != nil {
		return fmt.Errorf("look at the secrets: %w", err)
	}
	for _, s := range page {
		if _, err := v.open(s.name, s.sealed); err != nil {
			return err
		}
	}
	return nil
}

// Rotate seals all secrets with a fresh key and drops the old ones from the key
// file; it tells how many it sealed anew. Where the keys come from the
// environment it takes the first of them, and afterwards the others may be
// removed there. Backups made before need the old keys. If it is cut short,
// everything can be opened as before, and the next one goes on.
func (v *Vault) Rotate(ctx context.Context) (n int, err error) {
	if err := v.Check(ctx); err != nil {
		return 0, err
	}
	if v.keys.FromFile() {
		if err := v.keys.Rotate(); err != nil {
			return 0, err
		}
	}
	current, err := v.keys.current()
	if err != nil {
		return 0, err
	}
	for range rotateRounds {
		sealed, err := v.rewrap(ctx, current)
		n += sealed
		if err != nil {
			return n, err
		}
		left := false
		// When the old keys are dropped no other replica may be sealing with one. It
		// has committed before we have the lock, and is found here; or it waits for
		// us, and then sees that the key has changed.
		if err := v.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := lockToDrop(ctx, tx); err != nil {
				return err
			}
			heads, err := secretHeads(ctx, tx)
			left = slices.ContainsFunc(heads, func(head []byte) bool { return !bytes.Equal(head[1:], current.id[:]) })
			if err != nil || left || !v.keys.FromFile() {
				return err
			}
			return v.keys.drop(current)
		}); err != nil {
			return n, err
		}
		if !left {
			return n, nil
		}
	}
	return n, fault.New(fault.Conflict, "another server still seals with an old key: give all servers the new key first, then rotate again")
}

const (
	rotateRounds = 20
	rotatePage   = 100 // secrets sealed anew in a transaction
)

// rewrap seals anew what isn't sealed with the current key.
func (v *Vault) rewrap(ctx context.Context, current key) (n int, err error) {
	for after := ""; ; {
		var page []secret
		sealed := 0
		if err := v.db.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
			sealed = 0
			page, err = secretPage(ctx, tx, after, rotatePage)
			if err != nil {
				return err
			}
			for _, s := range page {
				e, err := decode(s.sealed)
				if err != nil {
					return fault.New(fault.Internal, "the secret %q can't be opened: %w", s.name, err)
				}
				if e.keyID == current.id {
					continue
				}
				old, known := v.keys.find(e.keyID)
				if !known {
					return v.unknown(e.keyID)
				}
				e, err = e.rewrap(old, current, s.name)
				if err != nil {
					return fault.New(fault.Internal, "the secret %q can't be opened: %w", s.name, err)
				}
				if err := updateSecret(ctx, tx, s, e.encode()); err != nil {
					return err
				}
				sealed++
			}
			return nil
		}); err != nil {
			return n, err
		}
		n += sealed
		if len(page) == 0 {
			return n, nil
		}
		after = page[len(page)-1].name
	}
}
