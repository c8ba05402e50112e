// Package integrationtest has what tests of connectors need: a way to build a
// connector's program, and the world that the tiny connector in baton-tiny reads
// and changes.
package integrationtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"syscall"
	"time"
)

// Tiny is the package of the tiny connector, for Build.
const Tiny = "airlock/internal/integration/integrationtest/baton-tiny"

// Build compiles a connector of this module into a folder, and returns the path
// of the program, which is called like its package. Call it once in a test
// process, from TestMain or a sync.OnceValues.
func Build(ctx context.Context, dir, pkg string) (string, error) {
	program := filepath.Join(dir, path.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, pkg) //nolint:gosec // a test names the package
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")                                 // static, as connectors are shipped
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", pkg, err, out)
	}
	return program, nil
}

// World is all that the tiny connector governs: a JSON file. Holders and members
// are "person:login" or "team:id".
type World struct {
	// Broken makes each question fail with these words.
	Broken string `json:"broken,omitempty"`
	// Passphrase is what the connector must be given as its secret, if it is set.
	Passphrase string   `json:"passphrase,omitempty"`
	People     []Person `json:"people"`
	Teams      []Team   `json:"teams"`
	Vaults     []Vault  `json:"vaults"`
	Openings   []Opened `json:"openings,omitempty"`
}

// Person is an account.
type Person struct {
	Login      string `json:"login"`
	Name       string `json:"name"`
	Email      string `json:"email,omitempty"`
	EmployeeID string `json:"employee_id,omitempty"`
	Disabled   bool   `json:"disabled,omitempty"`
	Robot      bool   `json:"robot,omitempty"`
}

// Team is a group; whoever is in a team that is in it is in it too.
type Team struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Members []string `json:"members"`
}

// Vault is what access is for. Holders are by level: look, open.
type Vault struct {
	ID      string              `json:"id"`
	Name    string              `json:"name"`
	Holders map[string][]string `json:"holders"`
}

// Opened is an event: a person opened a vault.
type Opened struct {
	ID    string    `json:"id"`
	At    time.Time `json:"at"`
	Login string    `json:"login"`
	Vault string    `json:"vault"`
}

// Bank is a small world: six accounts, three teams one within the other, two vaults.
func Bank() World {
	return World{
		People: []Person{
			{Login: "ann", Name: "Ann Ames", Email: "ann@bank.example", EmployeeID: "1"},
			{Login: "bob", Name: "Bob Bell", Email: "bob@bank.example", EmployeeID: "2"},
			{Login: "cid", Name: "Cid Cole", Email: "cid@bank.example"},
			{Login: "dot", Name: "Dot Dunn", Email: "dot@bank.example", Disabled: true},
			{Login: "eve", Name: "Eve Eads"},
			{Login: "alarm", Name: "Alarm", Robot: true},
		},
		Teams: []Team{
			{ID: "staff", Name: "Staff", Members: []string{"person:ann", "person:bob", "team:tellers"}},
			{ID: "tellers", Name: "Tellers", Members: []string{"person:cid", "team:trainees"}},
			{ID: "trainees", Name: "Trainees", Members: []string{"person:eve"}},
		},
		Vaults: []Vault{
			{ID: "gold", Name: "Gold", Holders: map[string][]string{"look": {"team:staff"}, "open": {"person:ann"}}},
			{ID: "cash", Name: "Cash", Holders: map[string][]string{"look": {"person:dot"}, "open": {"team:tellers", "person:alarm"}}},
		},
	}
}

// ReadWorld reads a world from its file.
func ReadWorld(file string) (World, error) {
	text, err := os.ReadFile(file) //nolint:gosec // a test names the file
	if err != nil {
		return World{}, err
	}
	var w World
	if err := json.Unmarshal(text, &w); err != nil {
		return World{}, fmt.Errorf("read the world %s: %w", file, err)
	}
	return w, nil
}

// WriteWorld writes a world: all of it, or nothing.
func WriteWorld(file string, w World) error {
	text, err := json.MarshalIndent(w, "", "  ")
	if err != nil {
		return err
	}
	temporary := file + ".new"
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, file)
}

// ChangeWorld changes a world; tests and connectors that do so at once wait for
// each other. If change fails, nothing is changed.
func ChangeWorld(file string, change func(*World) error) (err error) {
	lock, err := os.OpenFile(file+".lock", os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // a test names the file
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	w, err := ReadWorld(file)
	if err != nil {
		return err
	}
	if err := change(&w); err != nil {
		return err
	}
	return WriteWorld(file, w)
}
