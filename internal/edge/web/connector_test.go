package web_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/annotations"
	"github.com/conductorone/baton-sdk/pkg/connectorstore"
	"github.com/conductorone/baton-sdk/pkg/dotc1z"
	"github.com/conductorone/baton-sdk/pkg/dotc1z/c1zstore"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"airlock/internal/base/db"
	"airlock/internal/base/job"
	"airlock/internal/base/seal"
	"airlock/internal/edge/web"
	"airlock/internal/identity"
	"airlock/internal/ingest"
	"airlock/internal/ingest/pack"
	"airlock/internal/integration"
	"airlock/internal/integration/integrationtest"
	"airlock/internal/inventory"
)

// office is a domain with the tiny connector in its catalog, whose jobs run, and
// an administrator who is signed in.
type office struct {
	*domain
	token, me string
	client    *http.Client
}

// tiny is the tiny connector's program, built once.
var tiny = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "baton-tiny")
	if err != nil {
		return "", err
	}
	return integrationtest.Build(context.Background(), dir, integrationtest.Tiny)
})

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{domain: newDomain(t, func(c *web.Config) { connected(t, c) })}
	program, err := tiny()
	check(t, err)
	text, err := os.ReadFile(program)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(o.Catalog.Dir(), "baton-tiny"), text, 0o700))
	check(t, os.WriteFile(filepath.Join(o.Catalog.Dir(), "baton-tiny.svg"), []byte(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path d="M1 7h6V3L4 1 1 3z"/></svg>`), 0o600))
	check(t, os.WriteFile(filepath.Join(o.Catalog.Dir(), "baton-broken"), []byte("#!/bin/sh\nexit 1\n"), 0o700))
	o.me, o.token = o.admin("ann@airlock.test")
	o.client = &http.Client{
		// The test's own certificate has no other proof.
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(o.client.CloseIdleConnections)
	return o
}

// connected gives a domain connectors with a catalog, and jobs that run.
func connected(t *testing.T, c *web.Config) {
	t.Helper()
	key, err := seal.NewKey()
	check(t, err)
	keys, err := seal.OpenKeyring("", key)
	check(t, err)
	jobs, err := job.New(c.DB, c.Log)
	check(t, err)
	c.Integration = integration.New(integration.Config{
		DB: c.DB, Jobs: jobs, Live: c.Live, Audit: c.Audit, Vault: seal.NewVault(c.DB, keys, c.Clock), Identity: c.People, Inventory: c.Inventory,
		Clock: c.Clock, Log: c.Log, PublicHost: "airlock.test",
		Form: func(ctx context.Context, name string) (integration.Form, error) {
			entry, err := c.Catalog.Entry(ctx, name)
			return integration.Form{Check: entry.Check, Secrets: entry.Secrets()}, err
		},
	})
	packs, err := pack.Load("")
	check(t, err)
	c.Ingest, err = ingest.New(ingest.Config{
		DB: c.DB, Jobs: jobs, Live: c.Live, Audit: c.Audit, Inventory: c.Inventory, Integration: c.Integration, Clock: c.Clock, Log: slog.New(slog.DiscardHandler),
		TempDir: filepath.Join(t.TempDir(), "ingest"), Packs: packs,
	})
	check(t, err)
	for _, kind := range []string{ingest.VerifyJob, inventory.RematchJob} {
		jobs.Handle(kind, job.Options{}, func(context.Context, string) error { return nil })
	}
	check(t, jobs.Migrate(t.Context()))
	check(t, jobs.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		check(t, jobs.Stop(ctx))
	})
}

// send makes a request as the administrator, or whoever's token is given.
func (o *office) send(method, path string, form url.Values, token ...string) answer {
	o.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	return o.post(method, path, "application/x-www-form-urlencoded", body, token...)
}

func (o *office) post(method, path, kind string, body io.Reader, token ...string) answer {
	o.t.Helper()
	request, err := http.NewRequestWithContext(o.t.Context(), method, o.url+path, body)
	check(o.t, err)
	request.Header.Set("Content-Type", kind)
	request.AddCookie(&http.Cookie{Name: web.SessionCookie, Value: append(token, o.token)[0]})
	response, err := o.client.Do(request)
	check(o.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(o.t, err)
	return answer{response, string(text)}
}

// leads fails unless an answer leads to an address.
func (o *office) leads(a answer, to string) string {
	o.t.Helper()
	at := a.Header.Get("Location")
	if a.StatusCode != http.StatusSeeOther || !regexp.MustCompile("^"+to+"$").MatchString(at) {
		o.t.Fatalf("%s to %q, not %s:\n%.3000s", a.Status, at, to, a.text)
	}
	return at
}

// says fails unless a page says all of some things.
func (o *office) says(path string, words ...string) string {
	o.t.Helper()
	a := o.send("GET", path, nil)
	if a.StatusCode != http.StatusOK {
		o.t.Fatalf("%s: %s\n%.2000s", path, a.Status, a.text)
	}
	o.has(a.text, words...)
	return a.text
}

func (o *office) has(text string, words ...string) {
	o.t.Helper()
	plain := strings.Join(strings.Fields(html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(text, " "))), " ")
	for _, one := range words {
		if !strings.Contains(plain, one) {
			o.t.Errorf("the page doesn't say %q:\n%.6000s", one, plain)
		}
	}
}

// elsewhere adds a connector that runs elsewhere.
func (o *office) elsewhere(name string) integration.Connector {
	o.t.Helper()
	c, _, err := o.Integration.Add(o.t.Context(), identity.Operator(), integration.AddConnector{
		Catalog: integration.AnyCatalog, App: name, Owners: []string{o.me},
	})
	check(o.t, err)
	return c
}

// bank is a hosted tiny connector with settings, as far as one is when nothing
// hosts it.
func (o *office) bank(name string) integration.Connector {
	o.t.Helper()
	c, _, err := o.Integration.Add(o.t.Context(), identity.Operator(), integration.AddConnector{
		Catalog: "tiny", App: name, Hosted: true, Settings: map[string]string{"world": "/tmp/bank.json", "passphrase": "sesame"}, Owners: []string{o.me},
	})
	check(o.t, err)
	return c
}

const host = "node-1"

func (o *office) hello(c integration.Connector) identity.Actor {
	o.t.Helper()
	actor := identity.Connector(c.ID, c.Name)
	kind := func(id, name string, can ...v2.Capability) *v2.ResourceTypeCapability {
		return v2.ResourceTypeCapability_builder{
			ResourceType: v2.ResourceType_builder{Id: id, DisplayName: name}.Build(), Capabilities: append(can, v2.Capability_CAPABILITY_SYNC),
		}.Build()
	}
	check(o.t, o.Integration.Hello(o.t.Context(), actor, integration.Greeting{
		Host: host, Version: "v0.1.0", Package: "example.com/baton-tiny",
		Metadata: v2.ConnectorMetadata_builder{DisplayName: "Tiny Bank", Capabilities: v2.ConnectorCapabilities_builder{
			ResourceTypeCapabilities: []*v2.ResourceTypeCapability{
				kind("person", "Person", v2.Capability_CAPABILITY_ACCOUNT_PROVISIONING), kind("team", "Team", v2.Capability_CAPABILITY_PROVISION),
			},
		}.Build()}.Build(),
	}))
	return actor
}

// take takes the sync that waits, as the connector does.
func (o *office) take(actor identity.Actor) (taskID string) {
	o.t.Helper()
	list, err := o.Integration.Take(o.t.Context(), actor, integration.Poll{Host: host, Most: 1})
	check(o.t, err)
	if len(list) != 1 {
		o.t.Fatalf("%d tasks are given out", len(list))
	}
	return list[0].GetId()
}

// bring uploads the file of a sync and ends it.
func (o *office) bring(actor identity.Actor, taskID string, people int) {
	o.t.Helper()
	file, err := os.Open(c1z(o.t, people))
	check(o.t, err)
	defer file.Close()
	_, err = o.Integration.TakeUpload(o.t.Context(), actor, host, taskID, file)
	check(o.t, err)
	check(o.t, o.Integration.Finish(o.t.Context(), actor, host, taskID, integration.Answer{OK: true}))
}

// fail ends a sync with an error.
func (o *office) fail(actor identity.Actor, taskID string, code codes.Code, words string) {
	o.t.Helper()
	check(o.t, o.Integration.Finish(o.t.Context(), actor, host, taskID, integration.Answer{Status: &status.Status{Code: int32(code), Message: words}}))
}

// until waits for a state of a connector's newest sync.
func (o *office) until(c integration.Connector, state integration.SyncState) integration.Sync {
	o.t.Helper()
	heard := o.Live.Subscribe("connector/" + c.ID)
	defer heard.Close()
	for {
		list, err := o.Integration.Syncs(o.t.Context(), identity.Operator(), integration.SyncFilter{ConnectorID: c.ID}, "", 1)
		check(o.t, err)
		if len(list) == 1 && list[0].State == state {
			return list[0]
		}
		select {
		case <-heard.C():
		case <-time.After(30 * time.Second):
			o.t.Fatalf("the sync isn't %s but %s: %s", state, list[0].State, list[0].Error)
		}
	}
}

// cycle is a whole sync of a connector that has one waiting. It takes 34 s.
func (o *office) cycle(c integration.Connector, people int, becomes integration.SyncState) integration.Sync {
	o.t.Helper()
	actor := identity.Connector(c.ID, c.Name)
	taskID := o.take(actor)
	o.clock.Advance(34 * time.Second)
	o.bring(actor, taskID, people)
	return o.until(c, becomes)
}

// c1z is a file with so many people in a team.
func c1z(t *testing.T, people int) string {
	t.Helper()
	dir := t.TempDir()
	path, ctx := filepath.Join(dir, "sync.c1z"), context.Background()
	store, err := dotc1z.NewStore(ctx, path, dotc1z.WithEngine(c1zstore.EnginePebble), dotc1z.WithTmpDir(dir))
	check(t, err)
	_, err = store.StartNewSync(ctx, connectorstore.SyncTypeFull, "")
	check(t, err)
	check(t, store.PutResourceTypes(ctx,
		v2.ResourceType_builder{Id: "person", DisplayName: "Person", Traits: []v2.ResourceType_Trait{v2.ResourceType_TRAIT_USER}}.Build(),
		v2.ResourceType_builder{Id: "team", DisplayName: "Team"}.Build()))
	of := func(kind, id string) *v2.ResourceId {
		return v2.ResourceId_builder{ResourceType: kind, Resource: id}.Build()
	}
	team := v2.Resource_builder{Id: of("team", "staff"), DisplayName: "Staff"}.Build()
	check(t, store.PutResources(ctx, team))
	member := v2.Entitlement_builder{Id: "team:staff:member", Slug: "member", DisplayName: "Staff member", Resource: team, Purpose: v2.Entitlement_PURPOSE_VALUE_ASSIGNMENT}.Build()
	check(t, store.PutEntitlements(ctx, member))
	for n := range people {
		person := v2.Resource_builder{
			Id: of("person", fmt.Sprintf("p%02d", n)), DisplayName: fmt.Sprintf("Person %02d", n),
			Annotations: annotations.New(v2.UserTrait_builder{Login: fmt.Sprintf("p%02d", n)}.Build()),
		}.Build()
		check(t, store.PutResources(ctx, person))
		check(t, store.PutGrants(ctx, v2.Grant_builder{Id: fmt.Sprint("g", n), Entitlement: member, Principal: person}.Build()))
	}
	check(t, store.EndSync(ctx))
	check(t, store.Close(ctx))
	return path
}

func TestAHostedConnectorIsAddedAsTheDocumentationSays(t *testing.T) {
	o := newOffice(t)
	o.says("/connectors", "No connectors yet", "Add connector")
	text := o.says("/connectors/add?q=tiny", "1 found", "Tiny Bank", "Hosted here", "Any connector that you run yourself", "File")
	if !strings.Contains(text, `src="/connector-icons/tiny"`) || strings.Contains(text, "baton-broken") {
		t.Errorf("the cards are not those that were searched, with their images")
	}
	if icon := o.send("GET", "/connector-icons/tiny", nil); icon.Header.Get("Content-Type") != "image/svg+xml" || !strings.Contains(icon.text, "<svg") {
		t.Errorf("the icon: %s, %v", icon.Status, icon.Header)
	}
	o.says("/connectors/add?q=baton", "1 found", "Baton")
	o.says("/connectors/add?q=nothing", "Nothing in the catalog has this name", "Baton", "File")
	o.says("/connectors/add", "Can’t be used", "It doesn't tell its settings")
	o.says("/connectors/add/tiny", "Choose how to set up the new Tiny Bank connector",
		"Add the connector to a currently unmanaged app", "Add the connector to a managed app", "Create a new managed app", "Owner", "Ann", "Next")

	at := o.leads(o.send("POST", "/connectors/add", url.Values{"catalog": {"tiny"}, "way": {"new"}, "name": {"The bank"}, "owners": {o.me}}), "/connectors/[^/]+")
	o.says(at, "The bank", "Not connected", "Settings", "Edit", "Nothing is read yet", "Ann")
	o.says(at+"/edit/settings", "World", "Passphrase", "Save", "Saving checks the settings, then starts the first sync")

	// What is wrong is named at its field; what was typed stays, but no secret does.
	bad := o.send("POST", at+"/edit/settings", url.Values{"page-size": {"5000"}, "passphrase": {"sesame"}, "labels": {"a=b"}})
	o.has(bad.text, "World", "is needed", "page-size")
	if bad.StatusCode != http.StatusUnprocessableEntity || strings.Contains(bad.text, "sesame") || !strings.Contains(bad.text, `value="5000"`) || !strings.Contains(bad.text, "a=b") {
		t.Errorf("a form that is wrong: %s\n%s", bad.Status, bad.text)
	}
	o.leads(o.send("POST", at+"/edit/settings", url.Values{"world": {"/tmp/bank.json"}, "passphrase": {"sesame"}}), at)
	o.says(at, "World", "/tmp/bank.json", "Passphrase", "Set", "Kept sealed and never shown", "Sync history", "Waiting")
	if text := o.says(at); strings.Contains(text, "sesame") {
		t.Error("a secret is shown")
	}
	// A secret that is left empty stays.
	o.leads(o.send("POST", at+"/edit/settings", url.Values{"world": {"/tmp/other.json"}}), at)
	c, err := o.Integration.Find(t.Context(), identity.Operator(), strings.TrimPrefix(at, "/connectors/"))
	check(t, err)
	if c.Settings["world"] != "/tmp/other.json" || len(c.Secrets) != 1 || !c.Hosted {
		t.Errorf("it is kept as %+v", c)
	}
}

func TestTheThreeChoicesLeadToTheAppThatWasChosen(t *testing.T) {
	o := newOffice(t)
	add := func(name string, managed bool) string {
		_, err := o.Ingest.IngestNew(t.Context(), identity.Operator(), inventory.App{Name: name, Managed: managed}, bytes.NewReader([]byte("C1Z3\x00x")))
		check(t, err)
		app, err := o.Inventory.AppByName(t.Context(), o.DB, name)
		check(t, err)
		return app.ID
	}
	wild, tame := add("Wild", false), add("Tame", true)
	o.says("/connectors/add/tiny", "1 unmanaged app", "1 managed app", "Wild", "Tame")
	for way, id := range map[string]string{"unmanaged": wild, "managed": tame} {
		at := o.leads(o.send("POST", "/connectors/add", url.Values{"catalog": {"tiny"}, "way": {way}, way: {id}, "owner": {"ann@airlock.test"}}), "/connectors/[^/]+")
		c, err := o.Integration.Show(t.Context(), identity.Operator(), strings.TrimPrefix(at, "/connectors/"))
		check(t, err)
		app, err := o.Inventory.AppByID(t.Context(), o.DB, id)
		check(t, err)
		if c.AppID != id || !app.Managed || len(c.Owners) != 1 || c.Owners[0] != o.me {
			t.Errorf("%s: %+v of %+v", way, c, app)
		}
	}
	// The app has one already; a name that nobody has; no app at all.
	for field, form := range map[string]url.Values{
		"f-managed-error": {"way": {"managed"}, "managed": {tame}},
		"f-owner-error":   {"way": {"new"}, "name": {"Third"}, "owner": {"nobody@airlock.test"}},
		"f-name-error":    {"way": {"new"}, "name": {" "}},
	} {
		form.Set("catalog", "tiny")
		a := o.send("POST", "/connectors/add", form)
		if !strings.Contains(a.text, `id="`+field+`"`) || a.StatusCode == http.StatusOK {
			t.Errorf("%v: %s\n%s", form, a.Status, a.text)
		}
	}
}

func TestABatonConnectorIsGivenItsSecretOnce(t *testing.T) {
	o := newOffice(t)
	o.says("/connectors/add/baton", "Choose how to set up the new Baton connector", "Create a new managed app", "It tells when it starts")
	at := o.leads(o.send("POST", "/connectors/add", url.Values{"catalog": {"baton"}, "way": {"new"}, "name": {"Baton"}, "owners": {o.me}}), "/connectors/[^/]+")
	o.says(at, "Not connected", "Settings", "Edit", "Rotate, copy Client ID and Secret")
	page := o.says(at+"/edit/settings", "Rotate", "Client ID")
	if !strings.Contains(page, `action="`+at+`/edit/rotate"`) {
		t.Error("what was never used is asked about")
	}
	shown := o.send("POST", at+"/edit/rotate", url.Values{})
	o.has(shown.text, "Client ID", "Secret", "Shown once", "Run it", "Kubernetes", "Docker", "systemd", "BATON_CLIENT_ID", "BATON_CLIENT_SECRET", "SSL_CERT_DIR", "BATON_PROVISIONING")
	secret := regexp.MustCompile(`secret-token:conductorone\.com:v1:[A-Za-z0-9_-]+`).FindString(shown.text)
	if shown.StatusCode != http.StatusOK || secret == "" {
		t.Fatalf("%s:\n%s", shown.Status, shown.text)
	}
	for _, path := range []string{at, at + "/edit/settings", at + "/edit/rotate"} {
		if strings.Contains(o.says(path), secret) {
			t.Errorf("%s shows the secret again", path)
		}
	}
	// One that was used is asked about first.
	check(t, o.DB.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE client SET last_used_at = created_at`)
		return err
	}))
	if page := o.says(at + "/edit/settings"); !strings.Contains(page, `href="`+at+`/edit/rotate"`) {
		t.Error("what was used isn't asked about")
	}
	o.says(at+"/edit/rotate", "Rotate the credentials of Baton?", "running connector is refused at once")
}

func TestAConnectorShowsItsStateAndHistory(t *testing.T) {
	o := newOffice(t)
	c := o.elsewhere("Bank")
	at := "/connectors/" + c.ID
	o.says("/connectors", "Bank", "Not connected", "Waiting for its first call", "Set up")
	actor := o.hello(c)
	taskID := o.take(actor)
	check(t, o.Integration.ReadingCounts(t.Context(), c.ID, map[string]int64{"person": 12, "team": 1}))
	o.clock.Advance(21 * time.Second)
	o.says(at, "Syncing", "Reading: Person 12, Team 1 so far", "Started 21 s ago for the first time", "Comparing", "Cancel sync", host, "Read, create accounts", "Read, grant and revoke")
	o.says("/connectors", "Syncing", "Running now", "Follow")
	o.bring(actor, taskID, 12)
	o.until(c, integration.Applied)
	o.says(at, "Connected", "12 accounts, 1 entitlement, 12 grants", "Complete", "+")
	o.says("/connectors", "Connected", "Heard from "+host, "Took 21 s", "Ann", "12")
	o.says("/connectors?status=Error", "No connector matches")
	o.says("/connectors?q=nothing", "No connector matches")

	// A failure says its cause and what to do.
	o.leads(o.send("POST", at+"/sync", url.Values{}), at)
	o.fail(actor, o.take(actor), codes.Unauthenticated, "the passphrase is wrong")
	o.says(at, "Error", "the passphrase is wrong", "what the last complete sync found stays in use", "Its settings are given where it runs on "+host, "Failed")
	log := o.send("GET", at+"/log/all?level=error", nil)
	if !strings.Contains(log.text, "the passphrase is wrong") || strings.Contains(log.text, " info ") || !strings.Contains(log.Header.Get("Content-Disposition"), ".log") {
		t.Errorf("the log: %v\n%s", log.Header, log.text)
	}
	if all := o.send("GET", at+"/log/all", nil); !strings.Contains(all.text, "connected host="+host) {
		t.Errorf("the whole log: %s", all.text)
	}
	csv := o.send("GET", "/connectors?format=csv", nil)
	if !strings.HasPrefix(csv.text, "Connector,Status,Cause,Application,Kind,") || !strings.Contains(csv.text, "Tiny Bank,Error,") && !strings.Contains(csv.text, "Bank,Error,") {
		t.Errorf("as CSV: %s", csv.text)
	}
	o.says("/syncs?connector="+c.ID, "Sync history of", "Complete", "Failed")
	if got := o.send("GET", "/syncs?connector="+c.ID+"&format=csv", nil); strings.Count(got.text, "\n") != 3 {
		t.Errorf("the history as CSV: %s", got.text)
	}
}

func TestWhatWaitsForSomebodyIsConfirmedOrDiscarded(t *testing.T) {
	o := newOffice(t)
	c := o.elsewhere("Bank")
	at := "/connectors/" + c.ID
	o.hello(c)
	o.cycle(c, 12, integration.Applied)
	again := func() integration.Sync {
		o.leads(o.send("POST", at+"/sync", url.Values{}), at)
		return o.cycle(c, 4, integration.HeldBack)
	}
	held := again()
	o.says(at, "Confirm changes", "Held back", "would remove much", "Person", "Person 11", "12", "8")
	o.says("/syncs/"+held.ID, "Confirm changes…", "Discard…", "Differences")
	o.says("/syncs/"+held.ID+"/confirm", "of 12 accounts (Person) go", "Confirm 16 removals")
	o.says("/syncs/"+held.ID+"/discard", "stay in the inventory")
	o.leads(o.send("POST", "/syncs/"+held.ID+"/discard", url.Values{}), at)
	o.says(at, "Discarded", "12 accounts")
	if got := o.send("GET", "/syncs/"+held.ID+"/confirm", nil).StatusCode; got != http.StatusConflict && got != http.StatusPreconditionFailed {
		t.Errorf("what was decided is asked again: %d", got)
	}
	held = again()
	o.leads(o.send("POST", "/syncs/"+held.ID+"/confirm", url.Values{}), at)
	o.until(c, integration.Applied)
	o.says(at, "Connected", "4 accounts")
	text := o.says("/syncs/"+held.ID, "Complete", "Confirmed by Ann", held.FileHash, "What the file holds", "Person", "4", host, "Removed")
	if !strings.Contains(text, "/syncs/"+held.ID+"/file") {
		t.Error("the file can't be downloaded")
	}
	file := o.send("GET", "/syncs/"+held.ID+"/file", nil)
	if !strings.HasPrefix(file.text, "C1Z") || !strings.Contains(file.Header.Get("Content-Disposition"), ".c1z") || int64(len(file.text)) != held.FileSize {
		t.Errorf("the file: %s, %v, %d bytes", file.Status, file.Header, len(file.text))
	}
}

func TestAConnectorIsPausedScheduledRenamedAndRemoved(t *testing.T) {
	o := newOffice(t)
	c := o.elsewhere("Bank")
	at := "/connectors/" + c.ID
	o.hello(c)
	o.cycle(c, 3, integration.Applied)
	c, err := o.Integration.ByID(t.Context(), o.DB, c.ID)
	check(t, err)

	o.leads(o.send("POST", at+"/pause", url.Values{}), at)
	o.says(at, "Paused", "Resume sync", "by Ann", "None while it is paused")
	o.leads(o.send("POST", at+"/resume", url.Values{}), at)
	o.says(at, "Connected", "Pause sync", "Every hour")

	o.says(at+"/edit/schedule", "At an interval", "At set times")
	o.leads(o.send("POST", at+"/edit/schedule", url.Values{"way": {"every"}, "every": {"4h0m0s"}}), at)
	o.says(at, "Every 4 hours", "in 4 h")
	bad := o.send("POST", at+"/edit/schedule", url.Values{"way": {"cron"}, "cron": {"* * * * *"}, "zone": {"Europe/Vienna"}})
	o.has(bad.text, "at least 30m0s between two syncs")
	if !strings.Contains(bad.text, `value="* * * * *"`) {
		t.Error("what was typed is gone")
	}
	o.leads(o.send("POST", at+"/edit/schedule", url.Values{"way": {"cron"}, "cron": {"0 6 * * 1-5"}, "zone": {"Europe/Vienna"}}), at)
	o.says(at, "0 6 * * 1-5", "Europe/Vienna")

	o.leads(o.send("POST", at+"/anomaly-stop", url.Values{"on": {"false"}}), at)
	o.leads(o.send("POST", at+"/debug", url.Values{"on": {"true"}}), at)
	o.says(at, "Off Turn on", "On Turn off")

	bob, _ := o.as("bob@airlock.test", 0)
	o.leads(o.send("POST", at+"/edit/details", url.Values{"owners": {o.me}, "owner": {"Bob"}}), at)
	o.says(at, "Ann, Bob")
	_ = bob

	o.says(at+"/edit/name", "Rename "+c.Name)
	other := o.elsewhere("Other")
	if a := o.send("POST", at+"/edit/name", url.Values{"name": {other.Name}}); !strings.Contains(a.text, "There is a connector") {
		t.Errorf("a name that is taken: %s\n%s", a.Status, a.text)
	}
	o.leads(o.send("POST", at+"/edit/name", url.Values{"name": {"Vault"}}), at)
	o.says(at+"/edit/remove", "Remove the connector Vault?", "Client ID is refused at once", "3 accounts and what they hold stay")
	o.leads(o.send("POST", at+"/edit/remove", url.Values{}), "/connectors")
	if text := o.says("/connectors"); strings.Contains(text, "Vault") {
		t.Error("it is still in the list")
	}
	if text := o.says(at, "Vault Removed", "What it found stays in the inventory"); strings.Contains(text, "/edit/") {
		t.Error("what is removed can be edited")
	}
}

func TestAFileIsUploadedForANewAppAndForOneThatIsThere(t *testing.T) {
	o := newOffice(t)
	o.says("/connectors/add/file", "Create a new managed app", "Upload")
	content, err := os.ReadFile(c1z(t, 5))
	check(t, err)
	upload := func(fields url.Values, content []byte) answer {
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		for name := range fields {
			check(t, w.WriteField(name, fields.Get(name)))
		}
		part, err := w.CreateFormFile("file", "sync.c1z")
		check(t, err)
		_, err = part.Write(content)
		check(t, err)
		check(t, w.Close())
		return o.post("POST", "/connectors/upload", w.FormDataContentType(), &body)
	}
	at := o.leads(upload(url.Values{"way": {"new"}, "name": {"By hand"}}, content), "/syncs/[^/]+")
	app, err := o.Inventory.AppByName(t.Context(), o.DB, "By hand")
	check(t, err)
	wait := func(at string) {
		heard := o.Live.Subscribe("sync/" + strings.TrimPrefix(at, "/syncs/"))
		defer heard.Close()
		for !strings.Contains(o.says(at), "Complete") {
			select {
			case <-heard.C():
			case <-time.After(30 * time.Second):
				t.Fatal("it isn't taken in")
			}
		}
	}
	wait(at)
	o.says(at, "File for By hand", "from a file that was brought by hand", "Person", "5")
	again := o.leads(upload(url.Values{"way": {"managed"}, "managed": {app.ID}}, content), "/syncs/[^/]+")
	wait(again)
	o.says(again, "none")

	if a := upload(url.Values{"way": {"new"}, "name": {"By hand"}}, content); !strings.Contains(a.text, "f-name-error") {
		t.Errorf("an app of that name is there: %s\n%s", a.Status, a.text)
	}
	if a := o.send("POST", "/connectors/upload", url.Values{"way": {"new"}}); !strings.Contains(a.text, "f-file-error") {
		t.Errorf("without a file: %s\n%s", a.Status, a.text)
	}
}

func TestWhoMayOnlyReadChangesNoConnector(t *testing.T) {
	o := newOffice(t)
	c := o.elsewhere("Bank")
	at := "/connectors/" + c.ID
	o.hello(c)
	sync := o.cycle(c, 3, integration.Applied)
	_, auditor := o.as("eve@airlock.test", identity.Auditor)
	_, user := o.as("uma@airlock.test", 0)
	for _, path := range []string{"/connectors", at, "/syncs/" + sync.ID, "/syncs?connector=" + c.ID} {
		a := o.send("GET", path, nil, auditor)
		if a.StatusCode != http.StatusOK || strings.Contains(a.text, "Add connector") || strings.Contains(a.text, "Pause sync") || strings.Contains(a.text, "edit/") || strings.Contains(a.text, ".c1z") {
			t.Errorf("%s for an auditor: %s\n%s", path, a.Status, a.text)
		}
		if a := o.send("GET", path, nil, user); a.StatusCode != http.StatusForbidden {
			t.Errorf("%s for a user: %s", path, a.Status)
		}
	}
	for _, path := range []string{at + "/edit/settings", at + "/edit/details", at + "/edit/schedule", "/syncs/" + sync.ID + "/file"} {
		if a := o.send("GET", path, nil, auditor); a.StatusCode != http.StatusForbidden {
			t.Errorf("%s for an auditor: %s", path, a.Status)
		}
	}
	for _, path := range []string{
		"/connectors/add", at + "/sync", at + "/pause", at + "/resume", at + "/anomaly-stop", at + "/debug", at + "/edit/details",
		at + "/edit/schedule", at + "/edit/name", at + "/edit/rotate", at + "/edit/remove", "/syncs/" + sync.ID + "/cancel", "/syncs/" + sync.ID + "/confirm", "/syncs/" + sync.ID + "/discard",
	} {
		form := url.Values{"catalog": {"baton"}, "way": {"new"}, "name": {"Mine"}, "on": {"true"}}
		if a := o.send("POST", path, form, auditor); a.StatusCode != http.StatusForbidden {
			t.Errorf("%s by an auditor: %s", path, a.Status)
		}
	}
	left, err := o.Integration.ByID(t.Context(), o.DB, c.ID)
	check(t, err)
	if text, _ := json.Marshal(left.Paused); left.Removed() || left.Debug || !left.Paused.At.IsZero() {
		t.Errorf("it was changed: %s", text)
	}
}
