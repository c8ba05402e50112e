package server

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"airlock/internal/base/db"
	"airlock/internal/edge/admin"
	"airlock/internal/identity"
)

const password = "correct horse battery"

// logged starts a server, stops it, and returns its log.
func logged(t *testing.T, settings Settings, meanwhile func(s *Server)) string {
	t.Helper()
	var log bytes.Buffer
	s, err := New(t.Context(), settings, &log)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(errors.Join(err, s.Stop()))
	}
	if meanwhile != nil {
		meanwhile(s)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	return log.String()
}

var setupLink = regexp.MustCompile(`level=INFO msg="there is no administrator yet: [^"]*" link=(https://[^/]+)/setup/([A-Za-z0-9_-]{43})\n`)

// Each start tells a new link by which the first administrator is made, once, and
// none as soon as there is one.
func TestTheFirstAdministratorIsAskedFor(t *testing.T) {
	settings := settingsOf(t, variables(t))
	first := setupLink.FindStringSubmatch(logged(t, settings, nil))
	if first == nil || first[1] != settings.PublicURL {
		t.Fatalf("no link is told: %q", first)
	}
	log := logged(t, settings, func(s *Server) {
		if err := s.signIns.CheckSetup(t.Context(), first[2]); err != nil {
			t.Error(err)
		}
		if err := admin.Dial(settings.DataDir).Call(t.Context(), "admin/create", admin.CreateAdmin{Email: "ann@example.com", Password: password}, nil, admin.Answer{}); err != nil {
			t.Error(err)
		}
	})
	second := setupLink.FindStringSubmatch(log)
	if second == nil || second[2] == first[2] || strings.Count(log, second[2]) != 1 || strings.Contains(log, password) {
		t.Errorf("%q after %q: %s", second, first, log)
	}
	if log := logged(t, settings, nil); strings.Contains(log, "/setup/") {
		t.Errorf("a link is told though there is an administrator: %s", log)
	}
}

// Sessions that have ended since don't come back with a backup.
func TestARestoreSignsEverybodyOut(t *testing.T) {
	from := variables(t)
	s := started(t, settingsOf(t, from))
	if _, err := s.signIns.AdminCreate(t.Context(), identity.Operator(), "ann@example.com", "", password); err != nil {
		t.Fatal(err)
	}
	entered, err := s.signIns.SignIn(t.Context(), "ann@example.com", password, identity.Visit{})
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	if err := s.db.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	into := variables(t)
	into["AIRLOCK_KEY_FILE"] = s.settings.KeyFile
	if _, err := Restore(t.Context(), settingsOf(t, into), backup); err != nil {
		t.Fatal(err)
	}
	again := started(t, settingsOf(t, into))
	if _, _, err := again.signIns.Session(t.Context(), entered.Token); err == nil {
		t.Error("the session goes on")
	}
	if _, err := again.signIns.SignIn(t.Context(), "ann@example.com", password, identity.Visit{}); err != nil {
		t.Error(err)
	}
}

// What works without a server keeps one out meanwhile, and leaves nothing behind.
func TestWhatIsDoneDirectlyIsDoneAlone(t *testing.T) {
	settings := settingsOf(t, variables(t))
	nothing := func(context.Context, *db.DB, *domain) error { return nil }
	err := directly(t.Context(), settings, func(ctx context.Context, _ *db.DB, _ *domain) error {
		return directly(ctx, settings, nothing)
	})
	if err == nil || !strings.Contains(err.Error(), "used by another server") {
		t.Error(err)
	}
	if err := directly(t.Context(), settings, func(ctx context.Context, _ *db.DB, m *domain) error {
		_, err := m.signIns.AdminCreate(ctx, identity.Operator(), "ann@example.com", "", password)
		return errors.Join(err, m.audit.Checkpoint(ctx)) // which seals the log's key
	}); err != nil {
		t.Error(err)
	}
	if err := os.Remove(settings.KeyFile); err != nil {
		t.Fatal(err)
	}
	if err := directly(t.Context(), settings, nothing); err == nil || !strings.Contains(err.Error(), "put your copy of it back") {
		t.Error(err)
	}
	if _, err := os.Stat(settings.KeyFile); !errors.Is(err, os.ErrNotExist) {
		t.Error("a key was made", err)
	}
}
