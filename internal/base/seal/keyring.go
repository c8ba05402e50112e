package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"airlock/internal/base/fault"
)

const (
	keyPrefix = "airlock-key-v1"
	keySize   = 32
	idSize    = 6
)

// key is a key that wraps data keys. Its id follows from it, so that a key that
// was written down wrongly is found out.
type key struct {
	id     [idSize]byte
	secret []byte
	aead   cipher.AEAD
}

func newKey(secret []byte) (key, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return key{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return key{}, err
	}
	k := key{secret: secret, aead: aead}
	sum := sha256.Sum256(append([]byte("airlock key id\n"), secret...))
	copy(k.id[:], sum[:])
	return k, nil
}

func makeKey() (key, error) {
	secret := make([]byte, keySize)
	_, _ = rand.Read(secret) // never fails
	return newKey(secret)
}

func (k key) line() string {
	return keyPrefix + ":" + hex.EncodeToString(k.id[:]) + ":" + base64.StdEncoding.EncodeToString(k.secret)
}

func parseKey(line string) (key, error) {
	prefix, rest, _ := strings.Cut(line, ":")
	named, text, found := strings.Cut(rest, ":")
	if prefix != keyPrefix || !found {
		return key{}, fmt.Errorf("a key is written %s:ID:BASE64", keyPrefix)
	}
	secret, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(secret) != keySize {
		return key{}, fmt.Errorf("the key %.20s isn't %d bytes in base64", named, keySize)
	}
	k, err := newKey(secret)
	if err != nil {
		return key{}, err
	}
	if hex.EncodeToString(k.id[:]) != named {
		return key{}, fmt.Errorf("the key %.20s doesn't belong to its id: it was altered", named)
	}
	return k, nil
}

// parseKeys reads keys, the current one first.
func parseKeys(lines []string) ([]key, error) {
	var keys []key
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		k, err := parseKey(line)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(keys, func(other key) bool { return other.id == k.id }) {
			return nil, fmt.Errorf("the key %s is there twice", hex.EncodeToString(k.id[:]))
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key in it")
	}
	return keys, nil
}

// Keyring holds the keys that seal secrets: the first seals, all open. They are
// kept in a file, or come from the environment.
type Keyring struct {
	path string // "" where they come from the environment

	mu   sync.Mutex
	keys []key
	read os.FileInfo // of the file, as it was read last
}

// OpenKeyring opens the keys of the environment's value env, comma-separated,
// the current one first; if that is empty, those in the file at path, one a
// line. The file is made with a new key if it isn't there. A file that others
// may read is refused.
func OpenKeyring(path, env string) (*Keyring, error) {
	if env != "" {
		keys, err := parseKeys(strings.Split(env, ","))
		if err != nil {
			return nil, fault.New(fault.Invalid, "AIRLOCK_KEY can't be used: %w", err)
		}
		return &Keyring{keys: keys}, nil
	}
	k := &Keyring{path: path}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := k.create(); err != nil {
			return nil, fmt.Errorf("make the key file: %w", err)
		}
	}
	if err := k.load(); err != nil {
		return nil, err
	}
	return k, nil
}

// NewKey makes a key as it is written in AIRLOCK_KEY.
func NewKey() (string, error) {
	k, err := makeKey()
	return k.line(), err
}

// IDs names the keys, the current one first.
func (k *Keyring) IDs() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var ids []string
	for _, one := range k.keys {
		ids = append(ids, hex.EncodeToString(one.id[:]))
	}
	return ids
}

// FromFile reports whether the keys are kept in a file, where Rotate makes a new
// one. Keys of the environment are changed by whoever sets it.
func (k *Keyring) FromFile() bool { return k.path != "" }

// Rotate adds a fresh key to the file and makes it the current one. If the file
// holds several keys already, a rotation was cut short and its key is fresh
// enough.
func (k *Keyring) Rotate() error {
	if k.path == "" {
		return fault.New(fault.NotReady, "the keys come from the environment: put a new one first in AIRLOCK_KEY, and start again")
	}
	return k.change(func(keys []key) ([]key, error) {
		if len(keys) > 1 {
			return keys, nil
		}
		fresh, err := makeKey()
		return append([]key{fresh}, keys...), err
	})
}

// drop removes all keys from the file but the current one.
func (k *Keyring) drop(current key) error {
	return k.change(func(keys []key) ([]key, error) {
		if keys[0].id != current.id {
			return nil, errors.New("the key file was changed meanwhile")
		}
		return keys[:1], nil
	})
}

// current is the key that seals. Another process may have rotated the file.
func (k *Keyring) current() (key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.refresh()
	return k.keys[0], err
}

// find finds a key by its id.
func (k *Keyring) find(id [idSize]byte) (key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for range 2 {
		for _, one := range k.keys {
			if one.id == id {
				return one, true
			}
		}
		if k.refresh() != nil { // as it was read last, it doesn't have the key
			break
		}
	}
	return key{}, false
}

// refresh reads the file again if it was changed.
func (k *Keyring) refresh() error {
	if k.path == "" {
		return nil
	}
	now, err := os.Stat(k.path)
	if err != nil {
		return fmt.Errorf("look at the key file: %w", err)
	}
	if os.SameFile(now, k.read) && now.ModTime().Equal(k.read.ModTime()) {
		return nil
	}
	return k.load()
}

func (k *Keyring) load() error {
	info, err := os.Stat(k.path)
	if err != nil {
		return fmt.Errorf("open the key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fault.New(fault.Invalid, "others may read the key file %s (mode %04o): chmod 600 it, or give the key in AIRLOCK_KEY", k.path, info.Mode().Perm())
	}
	text, err := os.ReadFile(k.path)
	if err != nil {
		return fmt.Errorf("open the key file: %w", err)
	}
	keys, err := parseKeys(strings.Split(string(text), "\n"))
	if err != nil {
		return fault.New(fault.Invalid, "the key file %s can't be used: %w", k.path, err)
	}
	k.keys, k.read = keys, info
	return nil
}

// create makes the file with one key, whole or not at all. If another process
// was faster, its file stays.
func (k *Keyring) create() error {
	fresh, err := makeKey()
	if err != nil {
		return err
	}
	written, err := k.write([]key{fresh})
	if err != nil {
		return err
	}
	linked := os.Link(written, k.path)
	if err := os.Remove(written); err != nil {
		return err
	}
	if linked != nil && !errors.Is(linked, fs.ErrExist) {
		return linked
	}
	return syncDir(filepath.Dir(k.path))
}

// change changes the file, whole or not at all, alone among all processes.
func (k *Keyring) change(change func(keys []key) ([]key, error)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	lock, err := os.OpenFile(k.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the key file: %w", err)
	}
	defer func() { _ = lock.Close() }() // which unlocks it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock the key file: %w", err)
	}
	if err := k.load(); err != nil {
		return err
	}
	keys, err := change(k.keys)
	if err != nil || len(keys) == len(k.keys) {
		return err
	}
	written, err := k.write(keys)
	if err != nil {
		return fmt.Errorf("change the key file: %w", err)
	}
	if err := os.Rename(written, k.path); err != nil {
		return fmt.Errorf("change the key file: %w", err)
	}
	if err := syncDir(filepath.Dir(k.path)); err != nil {
		return fmt.Errorf("change the key file: %w", err)
	}
	return k.load()
}

// write writes keys to a new file beside the file and tells its name.
func (k *Keyring) write(keys []key) (path string, err error) {
	file, err := os.CreateTemp(filepath.Dir(k.path), ".key-") // 0600
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	for _, one := range keys {
		text.WriteString(one.line() + "\n")
	}
	_, err = file.Write(text.Bytes())
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", errors.Join(err, os.Remove(file.Name()))
	}
	return file.Name(), nil
}

// syncDir makes a changed folder outlive a power failure.
func syncDir(dir string) error {
	opened, err := os.Open(dir) //nolint:gosec // of the key file
	if err != nil {
		return err
	}
	return errors.Join(opened.Sync(), opened.Close())
}
