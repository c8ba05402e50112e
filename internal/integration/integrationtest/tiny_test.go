package integrationtest_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/connectorstore"
	"github.com/conductorone/baton-sdk/pkg/dotc1z"
	_ "github.com/conductorone/baton-sdk/pkg/dotc1z/engine/pebble" // the format that connectors write
	"github.com/google/go-cmp/cmp"

	"airlock/internal/integration/catalog"
	"airlock/internal/integration/integrationtest"
)

var (
	programDir string
	built      = sync.OnceValues(func() (string, error) {
		return integrationtest.Build(context.Background(), programDir, integrationtest.Tiny)
	})
)

func TestMain(m *testing.M) {
	var err error
	if programDir, err = os.MkdirTemp("", "airlock-integrationtest-"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := os.RemoveAll(programDir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// rig is the connector in a folder with its world.
type rig struct {
	t       *testing.T
	entry   catalog.Entry
	dir     string
	world   string
	setting map[string]string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if _, err := built(); err != nil {
		t.Fatal(err)
	}
	entry, err := catalog.Open(programDir, catalog.Options{TempDir: t.TempDir()}).Entry(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	if entry.Problem != "" {
		t.Fatal(entry.Problem)
	}
	r := &rig{t: t, entry: entry, dir: t.TempDir()}
	r.world = filepath.Join(r.dir, "world.json")
	r.setting = map[string]string{"world": r.world}
	if err := integrationtest.WriteWorld(r.world, integrationtest.Bank()); err != nil {
		t.Fatal(err)
	}
	return r
}

// run runs the connector in one-shot mode; without arguments it syncs.
func (r *rig) run(args ...string) (string, error) {
	r.t.Helper()
	if err := r.entry.Check(r.setting); err != nil {
		r.t.Fatal(err)
	}
	environment, files := r.entry.Environment(r.setting, r.dir)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(r.dir, name), content, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(r.t.Context(), r.entry.Path, args...)
	cmd.Dir, cmd.Env = r.dir, slices.Concat(environment, []string{"HOME=" + r.dir, "TMPDIR=" + r.dir})
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (r *rig) mustRun(args ...string) {
	r.t.Helper()
	if out, err := r.run(args...); err != nil {
		r.t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// found is what the last sync wrote: ids of resources, of entitlements, of
// grants, and the profile of the bank.
type found struct {
	Resources, Entitlements, Grants []string
	bank                            map[string]any
}

func (r *rig) found() (f found) {
	r.t.Helper()
	ctx := r.t.Context()
	store, err := dotc1z.NewStore(ctx, filepath.Join(r.dir, "sync.c1z"), dotc1z.WithReadOnly(true))
	if err != nil {
		r.t.Fatal(err)
	}
	defer store.Close(ctx)
	run, err := store.SyncMeta().LatestFinishedSyncOfAnyType(ctx)
	if err != nil || run == nil {
		r.t.Fatal("no finished sync", err)
	}
	stream := store.(connectorstore.StreamingReader)
	for res, err := range stream.StreamResources(ctx, run.ID, connectorstore.StreamResourcesOptions{}) {
		if err != nil {
			r.t.Fatal(err)
		}
		f.Resources = append(f.Resources, res.GetId().GetResourceType()+":"+res.GetId().GetResource())
		if res.GetId().GetResourceType() == "bank" {
			f.bank = res.GetProfile().AsMap()
		}
	}
	for e, err := range stream.StreamEntitlements(ctx, run.ID) {
		if err != nil {
			r.t.Fatal(err)
		}
		f.Entitlements = append(f.Entitlements, e.GetId())
	}
	for g, err := range stream.StreamGrants(ctx, run.ID, connectorstore.StreamGrantsOptions{IncludeExpansion: true}) {
		if err != nil {
			r.t.Fatal(err)
		}
		words := g.GetId()
		for _, note := range g.GetAnnotations() {
			var edge v2.GrantExpandable
			if note.MessageIs(&edge) && note.UnmarshalTo(&edge) == nil {
				words += fmt.Sprint(" ", edge.GetEntitlementIds())
			}
		}
		if len(g.GetSources().GetSources()) > 0 {
			words += " from " + strings.Join(slices.Sorted(maps.Keys(g.GetSources().GetSources())), ",")
		}
		f.Grants = append(f.Grants, words)
	}
	slices.Sort(f.Resources)
	slices.Sort(f.Entitlements)
	slices.Sort(f.Grants)
	return f
}

func TestOneShotSyncFindsTheWorld(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.setting["page-size"] = "2"
	r.mustRun()
	want := found{
		Resources: []string{
			"bank:bank", "person:alarm", "person:ann", "person:bob", "person:cid", "person:dot", "person:eve",
			"team:staff", "team:tellers", "team:trainees", "vault:cash", "vault:gold",
		},
		Entitlements: []string{
			"team:staff:member", "team:tellers:member", "team:trainees:member",
			"vault:cash:look", "vault:cash:open", "vault:gold:look", "vault:gold:open",
		},
		Grants: []string{
			"team:staff:member:person:ann", "team:staff:member:person:bob", "team:staff:member:team:tellers [team:tellers:member]",
			"team:tellers:member:person:cid", "team:tellers:member:team:trainees [team:trainees:member]", "team:trainees:member:person:eve",
			"vault:cash:look:person:dot", "vault:cash:open:person:alarm", "vault:cash:open:team:tellers [team:tellers:member]",
			"vault:gold:look:team:staff [team:staff:member]", "vault:gold:open:person:ann",
		},
	}
	got := r.found()
	got.bank = nil
	expanded := len(got.Grants)
	got.Grants = slices.DeleteFunc(got.Grants, func(g string) bool { return strings.Contains(g, " from ") })
	if expanded -= len(got.Grants); expanded != 13 {
		t.Errorf("%d grants come through teams", expanded)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(found{})); diff != "" {
		t.Error(diff)
	}
}

// What the catalog puts into the environment arrives as it was meant.
func TestSettingsOfEveryKindArrive(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	maps.Copy(r.setting, map[string]string{
		"passphrase": "o'pen \"sesame\" $HOME\nand more", "badge": "line one\nline two\n", "mood": "busy",
		"levels": `look,"a, b",open`, "labels": "city=Wien,street=Ring = Nord", "with-vaults": "false", "delay-ms": "1",
	})
	err := integrationtest.ChangeWorld(r.world, func(w *integrationtest.World) error {
		w.Passphrase = r.setting["passphrase"]
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.mustRun()
	want := map[string]any{
		"badge": "line one\nline two\n", "labels": map[string]any{"city": "Wien", "street": "Ring = Nord"}, "levels": "look a, b open",
		"people_count": 6.0, "teams_count": 3.0, "vaults_count": 2.0,
	}
	if diff := cmp.Diff(want, r.found().bank); diff != "" {
		t.Error(diff)
	}
}

func TestGrantRevokeAndAction(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustRun()
	for range 2 { // the second finds it done
		r.mustRun("--grant-entitlement=vault:gold:open", "--grant-principal=eve", "--grant-principal-type=person")
	}
	holders := func() []string {
		w, err := integrationtest.ReadWorld(r.world)
		if err != nil {
			t.Fatal(err)
		}
		return w.Vaults[0].Holders["open"]
	}
	if diff := cmp.Diff([]string{"person:ann", "person:eve"}, holders()); diff != "" {
		t.Error(diff)
	}
	r.mustRun()
	for range 2 {
		r.mustRun("--revoke-grant=vault:gold:open:person:eve")
	}
	if diff := cmp.Diff([]string{"person:ann"}, holders()); diff != "" {
		t.Error(diff)
	}
	r.mustRun("--create-account-login=fay", "--create-account-profile={\"login\":\"fay\",\"name\":\"Fay\"}")
	r.mustRun()
	if !slices.Contains(r.found().Resources, "person:fay") {
		t.Error("the new account isn't there")
	}
	r.mustRun("--invoke-action=lock_vault", `--invoke-action-args={"vault_id":"gold"}`)
	if got := holders(); got != nil {
		t.Errorf("the vault is locked, but %v hold it", got)
	}
}

func TestAccountsAndEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustRun()
	r.mustRun("--rotate-credentials=ann", "--rotate-credentials-type=person")
	r.mustRun("--delete-resource=ann", "--delete-resource-type=person")
	r.mustRun()
	got := r.found()
	for _, id := range slices.Concat(got.Resources, got.Grants) {
		if strings.Contains(id, "person:ann") {
			t.Error("there is still", id)
		}
	}
	err := integrationtest.ChangeWorld(r.world, func(w *integrationtest.World) error {
		w.Openings = []integrationtest.Opened{{ID: "1", At: time.Now(), Login: "bob", Vault: "gold"}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := r.run("--event-feed=true", "--event-feed-id=openings"); err != nil || !strings.Contains(out, `"gold"`) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestAWrongPassphraseIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	err := integrationtest.ChangeWorld(r.world, func(w *integrationtest.World) error {
		w.Passphrase = "sesame"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// The exit status isn't asked: the SDK's one-shot run that failed now and
	// then ends with 0.
	out, _ := r.run()
	if !strings.Contains(out, "passphrase is wrong") {
		t.Errorf("nothing of a wrong passphrase in: %s", out)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "sync.c1z")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused run left a file: %v", err)
	}
}
