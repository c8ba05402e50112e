package baton

import (
	"context"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"

	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/job"
	"airlock/internal/edge/token"
	"airlock/internal/identity"
	"airlock/internal/integration"
	"airlock/internal/integration/integrationtest"
)

// A connector made with the SDK, as a program of its own, syncs and grants through
// this door.
func TestARealConnectorIsServed(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a connector")
	}
	program, err := integrationtest.Build(t.Context(), t.TempDir(), integrationtest.Tiny)
	check(t, err)
	world := filepath.Join(t.TempDir(), "world.json")
	check(t, integrationtest.WriteWorld(world, integrationtest.Bank()))
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRigAt(t, d, clock.System{})
		r.jobs.Handle("follow", job.Options{}, func(_ context.Context, row string) error {
			r.ingested <- row
			return nil
		})
		check(t, r.jobs.Start(t.Context()))
		t.Cleanup(func() { _ = r.jobs.Stop(context.Background()) })
		mux := http.NewServeMux()
		mux.Handle("POST "+token.Path, token.Handler(r.people, slog.New(slog.DiscardHandler)))
		mux.Handle("/c1.connectorapi.baton.v1.BatonService/", r.server.Handler())
		site := httptest.NewUnstartedServer(mux)
		site.EnableHTTP2 = true
		site.StartTLS()
		t.Cleanup(func() {
			r.server.Stop()
			site.Close()
		})
		ca := filepath.Join(t.TempDir(), "ca.pem")
		check(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw}), 0o600))
		c, credentials, err := r.Add(t.Context(), identity.Operator(), integration.AddConnector{Catalog: "tiny", App: "Bank", Host: strings.TrimPrefix(site.URL, "https://")})
		check(t, err)

		cmd := exec.CommandContext(t.Context(), program)
		cmd.Dir = t.TempDir()
		cmd.Env = []string{
			"BATON_CLIENT_ID=" + credentials.ClientID, "BATON_CLIENT_SECRET=" + credentials.ClientSecret, "SSL_CERT_FILE=" + ca,
			"BATON_WORLD=" + world, "BATON_PROVISIONING=true", "TMPDIR=" + t.TempDir(), "BATON_HOST_ID=real",
		}
		output := &strings.Builder{}
		cmd.Stdout, cmd.Stderr = output, output
		check(t, cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			<-ended
			if t.Failed() {
				t.Log(output.String())
			}
		})

		next := func() string {
			t.Helper()
			select {
			case row := <-r.ingested:
				return row
			case <-ended:
				t.Fatalf("the connector ended: %s", output)
			case <-time.After(2 * time.Minute):
				t.Fatalf("nothing came of it")
			}
			return ""
		}
		sync, err := r.SyncByID(t.Context(), d, next())
		check(t, err)
		if sync.State != integration.Comparing || sync.FileSize == 0 || sync.Host != "real" {
			t.Errorf("the sync is %+v", sync)
		}
		vault := v2.Resource_builder{Id: v2.ResourceId_builder{ResourceType: "vault", Resource: "gold"}.Build(), DisplayName: "Gold"}.Build()
		person := v2.Resource_builder{Id: v2.ResourceId_builder{ResourceType: "person", Resource: "bob"}.Build(), DisplayName: "Bob Bell"}.Build()
		var taskID string
		check(t, d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
			taskID, err = r.AddTask(ctx, tx, identity.Operator(), integration.TaskSpec{
				ConnectorID: c.ID, Follow: integration.Follow{Kind: "follow", Row: "granted"},
				Request: integration.Grant{Principal: person, Entitlement: v2.Entitlement_builder{Id: "vault:gold:open", Slug: "open", Resource: vault}.Build()},
			})
			return err
		}))
		if row := next(); row != "granted" {
			t.Errorf("the job is for %q", row)
		}
		task, err := r.TaskByID(t.Context(), d, taskID)
		check(t, err)
		if _, err := integration.ResultOf[integration.GrantResult](task); err != nil {
			t.Errorf("the grant: %v, %+v", err, task.Failure())
		}
		view, err := r.Show(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		if !strings.Contains(string(view.Metadata), `"vault"`) || view.Host != "real" {
			t.Errorf("it said of itself: %s", view.Metadata)
		}
	})
}
