// Package connectortest runs the real baton-airflow, as an operator would, and
// reads what it found.
package connectortest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/connectorstore"
	"github.com/conductorone/baton-sdk/pkg/dotc1z"
	_ "github.com/conductorone/baton-sdk/pkg/dotc1z/engine/pebble" // the format that connectors write

	"airlock/connector/config"
)

// Build compiles the connector into a folder and returns the program's path.
func Build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "baton-airflow")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "airlock/cmd/baton-airflow")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // static, as it is shipped
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build baton-airflow: %w: %s", err, out)
	}
	return path, nil
}

// Connector is the program with its settings, in a folder of its own.
type Connector struct {
	// Program is the path of baton-airflow, Dir the folder it works in.
	Program, Dir string
	// Settings are its environment, as "BATON_AIRFLOW_USERNAME=airlock".
	Settings []string
}

// New is a connector for an Airflow and an account.
func New(program, dir, baseURL, username, password string) Connector {
	return Connector{Program: program, Dir: dir, Settings: []string{
		"TMPDIR=" + dir, // where the SDK leaves files behind when a run fails
		"BATON_" + envName(config.BaseURL.FieldName) + "=" + baseURL,
		"BATON_" + envName(config.Username.FieldName) + "=" + username,
		"BATON_" + envName(config.Password.FieldName) + "=" + password,
	}}
}

func envName(flag string) string { return strings.ToUpper(strings.ReplaceAll(flag, "-", "_")) }

// File is what the connector writes what it found to.
func (c Connector) File() string { return filepath.Join(c.Dir, "sync.c1z") }

// Run runs the connector with arguments; without any, it syncs. It returns what
// it logged. One that fails now and then ends with status 0 all the same (a race
// in the SDK, v0.25.0), so what it logged decides too.
func (c Connector) Run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.Program, args...)
	cmd.Dir = c.Dir
	cmd.Env = append(cleanEnv(), c.Settings...)
	var stdout, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &log
	err := cmd.Run()
	said := stdout.String() + log.String()
	if err == nil && strings.Contains(said, "runner: error") {
		err = fmt.Errorf("it logged an error")
	}
	if err != nil {
		return said, fmt.Errorf("baton-airflow %s: %w: %s", strings.Join(args, " "), err, lastError(said))
	}
	return said, nil
}

// Sync runs a sync and reads what it found.
func (c Connector) Sync(ctx context.Context) (Found, error) {
	if _, err := c.Run(ctx); err != nil {
		return Found{}, err
	}
	return Read(ctx, c.File())
}

// cleanEnv is the environment without settings for a connector.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "BATON_") })
}

// lastError is the last line of a log that tells of an error.
func lastError(log string) string {
	last := ""
	for line := range strings.Lines(log) {
		if strings.Contains(line, "rror") {
			last = strings.TrimSpace(line)
		}
	}
	return last
}

// Found is what a sync found.
type Found struct {
	// Resources by "type:id", Entitlements and Grants by their ids.
	Resources    map[string]*v2.Resource
	Entitlements map[string]*v2.Entitlement
	Grants       map[string]*v2.Grant
}

// Read reads the newest finished sync of a .c1z file.
func Read(ctx context.Context, path string) (found Found, err error) {
	store, err := dotc1z.NewStore(ctx, path, dotc1z.WithReadOnly(true))
	if err != nil {
		return Found{}, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() {
		if closed := store.Close(ctx); err == nil && closed != nil {
			err = closed
		}
	}()
	run, err := store.SyncMeta().LatestFinishedSyncOfAnyType(ctx)
	if err != nil {
		return Found{}, fmt.Errorf("read %s: %w", path, err)
	}
	if run == nil {
		return Found{}, fmt.Errorf("read %s: it holds no finished sync", path)
	}
	stream, ok := store.(connectorstore.StreamingReader)
	if !ok {
		return Found{}, fmt.Errorf("read %s: its format can't be streamed", path)
	}
	found = Found{Resources: map[string]*v2.Resource{}, Entitlements: map[string]*v2.Entitlement{}, Grants: map[string]*v2.Grant{}}
	for r, err := range stream.StreamResources(ctx, run.ID, connectorstore.StreamResourcesOptions{}) {
		if err != nil {
			return Found{}, fmt.Errorf("read the resources of %s: %w", path, err)
		}
		found.Resources[r.GetId().GetResourceType()+":"+r.GetId().GetResource()] = r
	}
	for e, err := range stream.StreamEntitlements(ctx, run.ID) {
		if err != nil {
			return Found{}, fmt.Errorf("read the entitlements of %s: %w", path, err)
		}
		found.Entitlements[e.GetId()] = e
	}
	for g, err := range stream.StreamGrants(ctx, run.ID, connectorstore.StreamGrantsOptions{IncludeExpansion: true}) {
		if err != nil {
			return Found{}, fmt.Errorf("read the grants of %s: %w", path, err)
		}
		found.Grants[g.GetId()] = g
	}
	return found, nil
}

// Of are the ids of the resources of a type, in order.
func (f Found) Of(resourceType string) []string {
	var ids []string
	for _, r := range f.Resources {
		if r.GetId().GetResourceType() == resourceType {
			ids = append(ids, r.GetId().GetResource())
		}
	}
	slices.Sort(ids)
	return ids
}

// Holders are the ids of the principals of a type that have an entitlement,
// directly or through something else, in order.
func (f Found) Holders(entitlementID, principalType string) []string {
	ids := map[string]bool{}
	for _, g := range f.Grants {
		if g.GetEntitlement().GetId() == entitlementID && g.GetPrincipal().GetId().GetResourceType() == principalType {
			ids[g.GetPrincipal().GetId().GetResource()] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}
