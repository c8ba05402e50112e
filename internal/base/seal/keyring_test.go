package seal

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/base/fault"
)

func keyring(t *testing.T) (*Keyring, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	k, err := OpenKeyring(path, "")
	if err != nil {
		t.Fatal(err)
	}
	return k, path
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func TestTheKeyFileIsMadeOnceAndIsOursAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	var all sync.WaitGroup
	var ids [8]string
	for n := range ids {
		all.Go(func() {
			k, err := OpenKeyring(path, "")
			if err != nil {
				t.Error(err)
				return
			}
			ids[n] = k.IDs()[0]
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] || len(id) != 12 {
			t.Errorf("the keys differ: %v", ids)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if got := lines(t, path); len(got) != 1 || !strings.HasPrefix(got[0], "airlock-key-v1:"+ids[0]+":") {
		t.Errorf("%q", got)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
}

func TestKeyFilesThatCantBeUsedAreRefused(t *testing.T) {
	good, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	swapped := strings.Join([]string{"airlock-key-v1", strings.Split(other, ":")[1], strings.Split(good, ":")[2]}, ":")
	for name, text := range map[string]string{
		"empty": "", "spaces": " \n\n", "nonsense": "hello", "other version": strings.Replace(good, "v1", "v2", 1),
		"short": good[:len(good)-8], "no id": "airlock-key-v1::" + strings.Split(good, ":")[2], "id of another": swapped,
		"twice": good + "\n" + good, "one good, one bad": good + "\nx", "commas": good + "," + other,
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenKeyring(path, ""); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), strings.Split(good, ":")[2][:10]) {
			t.Errorf("%s: the error tells the key", name)
		}
	}
	for _, env := range []string{"x", good + ",", good + "," + good, swapped} {
		_, err := OpenKeyring("/none", env)
		if env == good+"," && err == nil {
			continue // a comma too many does no harm
		}
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "AIRLOCK_KEY") {
			t.Errorf("%q: %v", env, err)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o622, 0o644} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenKeyring(path, ""); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if _, err := OpenKeyring(filepath.Join(t.TempDir(), "none", "key"), ""); err == nil {
		t.Error("a key file was made nowhere")
	}
}

func TestTheEnvironmentWinsOverTheFile(t *testing.T) {
	file, path := keyring(t)
	a, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	env, err := OpenKeyring(path, a+", "+b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{strings.Split(a, ":")[1], strings.Split(b, ":")[1]}, env.IDs()); diff != "" {
		t.Error(diff)
	}
	if env.FromFile() || !file.FromFile() {
		t.Error("it doesn't tell where the keys come from")
	}
	if err := env.Rotate(); !fault.Is(err, fault.NotReady) {
		t.Errorf("keys of the environment were rotated: %v", err)
	}
	missing := filepath.Join(t.TempDir(), "key")
	if _, err := OpenKeyring(missing, a); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("a file was made beside the environment's key")
	}
}

func TestRotatingAddsOneKeyAndDroppingLeavesIt(t *testing.T) {
	k, path := keyring(t)
	same, err := OpenKeyring(path, "") // of another process
	if err != nil {
		t.Fatal(err)
	}
	old := k.IDs()[0]
	var all sync.WaitGroup
	for _, one := range []*Keyring{k, same, k, same} {
		all.Go(func() {
			if err := one.Rotate(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if ids := k.IDs(); len(ids) != 2 || ids[1] != old || ids[0] == old || len(lines(t, path)) != 2 {
		t.Fatalf("%v", ids)
	}
	current, err := same.current()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(k.IDs(), same.IDs()); diff != "" {
		t.Error(diff)
	}
	if err := k.drop(k.keys[1]); err == nil {
		t.Error("the current key was dropped")
	}
	if err := k.drop(current); err != nil {
		t.Fatal(err)
	}
	if _, err := same.current(); err != nil || len(same.IDs()) != 1 || same.IDs()[0] != k.IDs()[0] {
		t.Errorf("%v, %v", same.IDs(), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestNothingIsSealedOnceTheKeyFileIsGone(t *testing.T) {
	k, path := keyring(t)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := k.current(); err == nil {
		t.Error("a secret would be sealed with a key that is nowhere")
	}
}
