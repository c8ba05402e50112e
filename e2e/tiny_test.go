package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	command "airlock/internal/edge/admin"
	"airlock/internal/integration/integrationtest"
)

// batonTiny is a connector with other resource types; it lies in the connectors
// folder too.
var batonTiny = sync.OnceValues(func() (string, error) {
	if _, err := airlockProgram(); err != nil {
		return "", err
	}
	return integrationtest.Build(context.Background(), filepath.Join(programs, "connectors"), integrationtest.Tiny)
})

// bank is a server whose app Bank the tiny connector reports of.
type bank struct {
	*airlock
	world string
}

func newBank(t *testing.T, a *airlock) bank {
	t.Helper()
	if _, err := batonTiny(); err != nil {
		t.Fatal(err)
	}
	b := bank{a, filepath.Join(t.TempDir(), "world.json")}
	if err := integrationtest.WriteWorld(b.world, integrationtest.Bank()); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b bank) change(change func(*integrationtest.World)) {
	b.t.Helper()
	if err := integrationtest.ChangeWorld(b.world, func(w *integrationtest.World) error { change(w); return nil }); err != nil {
		b.t.Fatal(err)
	}
}

// sync syncs, and expects an exit code.
func (b bank) sync(code int) string {
	b.t.Helper()
	out, problems, got := b.try("connector", "sync", "Bank", "--wait", "--timeout", "2m")
	if got != code {
		b.t.Fatalf("the sync ended with %d, not %d: %s%s", got, code, out, problems)
	}
	return out + problems
}

func (b bank) show() command.Connector {
	b.t.Helper()
	var c command.Connector
	b.json(&c, "connector", "show", "Bank")
	return c
}

// is fails unless the connector has a status, with some words.
func (b bank) is(status, words string) {
	b.t.Helper()
	if c := b.show(); c.Status != status || !strings.Contains(c.Detail, words) {
		b.t.Errorf("the connector is %s: %q; want %s: %q", c.Status, c.Detail, status, words)
	}
}

// grants are all grants: who has what, and the way to it where it is inherited.
func (b bank) grants() []string {
	b.t.Helper()
	var rows []struct {
		grantRow
		Path json.RawMessage `json:"path"`
	}
	b.json(&rows, "export", "grants", "--app", "Bank")
	var list []string
	for _, row := range rows {
		line := row.PrincipalType + ":" + row.Principal + " " + row.Entitlement
		if row.Inherited {
			line += " by " + string(row.Path)
		}
		list = append(list, line)
	}
	return sorted(list)
}

// TestTiny has a connector of another kind do all that Airflow's does: nothing of
// Airflow is in the server.
func TestTiny(t *testing.T) {
	a := newAirlock(t, "")
	a.serve()
	t.Run("hosted", func(t *testing.T) {
		b := newBank(t, a.in(t))
		secret := filepath.Join(t.TempDir(), "passphrase")
		if err := os.WriteFile(secret, []byte("sesame\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		b.change(func(w *integrationtest.World) { w.Passphrase = "sesame" })
		b.run("connector", "add", "tiny", "--app", "Bank", "--hosted", "--set", "world="+b.world, "--set-file", "passphrase="+secret)
		b.whatItDoes()

		// A secret that is wrong is told in words, and set right.
		wrong := filepath.Join(t.TempDir(), "wrong")
		if err := os.WriteFile(wrong, []byte("simsalabim"), 0o600); err != nil {
			t.Fatal(err)
		}
		b.run("connector", "set", "Bank", "--set-file", "passphrase="+wrong)
		b.sync(3)
		b.is("Error", "passphrase is wrong")
		b.run("connector", "set", "Bank", "--set-file", "passphrase="+secret)
		b.sync(0)
		b.is("Connected", "")
		if text := b.run("--json", "connector", "show", "Bank") + b.run("connector", "logs", "Bank") + b.run("audit", "tail"); strings.Contains(text, "sesame") || strings.Contains(text, "simsalabim") {
			t.Error("a secret is shown")
		}
		b.run("connector", "remove", "Bank")
	})
	a.run("app", "list")
	second := newAirlock(t, "")
	second.serve()
	t.Run("self-hosted", func(t *testing.T) {
		b := newBank(t, second.in(t))
		program, err := batonTiny()
		if err != nil {
			t.Fatal(err)
		}
		b.elsewhere(program, b.run("connector", "add", "tiny", "--app", "Bank"), "BATON_WORLD="+b.world)
		b.whatItDoes()
	})
}

func (b bank) whatItDoes() {
	b.t.Helper()
	b.sync(0)
	b.is("Connected", "")
	want := []string{
		"person:alarm vault:cash:open", "person:ann team:staff:member", "person:ann vault:gold:open", "person:bob team:staff:member",
		"person:cid team:tellers:member", "person:dot vault:cash:look", "person:eve team:trainees:member",
		"team:staff vault:gold:look", "team:tellers team:staff:member", "team:tellers vault:cash:open", "team:trainees team:tellers:member",
	}
	var direct, inherited []string
	for _, line := range b.grants() {
		if strings.Contains(line, " by ") {
			inherited = append(inherited, line)
		} else {
			direct = append(direct, line)
		}
	}
	if diff := cmp.Diff(want, direct); diff != "" {
		b.t.Errorf("direct grants (-bank +inventory):\n%s", diff)
	}
	// eve is a trainee, so a teller, so staff, so she looks at the gold.
	if n := slices.IndexFunc(inherited, func(line string) bool { return strings.HasPrefix(line, "person:eve vault:gold:look by ") }); n < 0 ||
		!inOrder(inherited[n], "team:trainees:member", "team:tellers:member", "team:staff:member") {
		b.t.Errorf("eve's way to the gold isn't among %s", strings.Join(inherited, "\n"))
	}

	var change command.Change
	b.json(&change, "grant", "vault:gold:open", "eve", "--app", "Bank", "--wait", "--timeout", "2m")
	if w := b.read(); change.State != "verified" || !slices.Contains(w.Vaults[0].Holders["open"], "person:eve") {
		b.t.Errorf("the grant is %s: %s; the bank has %v", change.State, change.Error, w.Vaults[0].Holders)
	}
	b.json(&change, "revoke", "vault:gold:open", "eve", "--app", "Bank", "--wait", "--timeout", "2m")
	if w := b.read(); change.State != "verified" || slices.Contains(w.Vaults[0].Holders["open"], "person:eve") {
		b.t.Errorf("the revoke is %s: %s; the bank has %v", change.State, change.Error, w.Vaults[0].Holders)
	}
	// A group is given access as a person is.
	b.json(&change, "grant", "vault:cash:look", "team:trainees", "--app", "Bank", "--wait", "--timeout", "2m")
	if change.State != "verified" || !slices.Contains(b.grants(), "team:trainees vault:cash:look") {
		b.t.Errorf("the grant to a team is %s: %s", change.State, change.Error)
	}

	// It breaks, and says why; it is mended.
	b.change(func(w *integrationtest.World) { w.Broken = "the vault door jams" })
	if said := b.sync(3); !strings.Contains(said, "the vault door jams") {
		b.t.Errorf("the sync says %s", said)
	}
	b.is("Error", "the vault door jams")
	b.change(func(w *integrationtest.World) { w.Broken = "" })
	b.sync(0)
	b.is("Connected", "")

	// Most people vanish: that is held back until somebody says so.
	all := b.grants()
	b.change(func(w *integrationtest.World) { w.People = w.People[:1] })
	if said := b.sync(4); !strings.Contains(said, "confirm") {
		b.t.Errorf("the sync says %s", said)
	}
	if said := b.run("connector", "show", "Bank"); !strings.Contains(said, "5") || !strings.Contains(said, "would") {
		b.t.Errorf("what would go isn't shown: %s", said)
	}
	b.is("Error", "would remove much")
	if diff := cmp.Diff(all, b.grants()); diff != "" {
		b.t.Errorf("something is gone:\n%s", diff)
	}
	b.run("connector", "discard", "Bank")
	if diff := cmp.Diff(all, b.grants()); diff != "" {
		b.t.Errorf("something is gone:\n%s", diff)
	}
	b.sync(4)
	b.run("connector", "confirm", "Bank")
	b.sync(0)
	var accounts []struct{}
	b.json(&accounts, "export", "accounts", "--app", "Bank")
	if len(accounts) != 1 {
		b.t.Errorf("%d accounts are left", len(accounts))
	}
	b.is("Connected", "")
	b.change(func(w *integrationtest.World) { w.People = integrationtest.Bank().People })
	b.sync(0)
}

func (b bank) read() integrationtest.World {
	b.t.Helper()
	w, err := integrationtest.ReadWorld(b.world)
	if err != nil {
		b.t.Fatal(err)
	}
	return w
}

// inOrder reports whether a text has some words in order.
func inOrder(text string, words ...string) bool {
	for _, word := range words {
		_, rest, found := strings.Cut(text, word)
		if !found {
			return false
		}
		text = rest
	}
	return true
}
