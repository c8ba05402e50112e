package identity

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
)

// site is the service with all that belongs to it.
type site struct {
	*Service
	clock *clock.Fake
}

func newSite(t testing.TB, d *db.DB) site {
	t.Helper()
	c := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	keys, err := seal.OpenKeyring(filepath.Join(t.TempDir(), "key"), "")
	if err != nil {
		t.Fatal(err)
	}
	return openSite(t, d, keys, c)
}

// openSite makes another server over the same database.
func openSite(t testing.TB, d *db.DB, keys *seal.Keyring, c *clock.Fake) site {
	t.Helper()
	vault := seal.NewVault(d, keys, c)
	hub := live.New(d, slog.New(slog.DiscardHandler))
	log, err := audit.New(d, vault, c, audit.Options{Live: hub})
	if err != nil {
		t.Fatal(err)
	}
	return site{New(d, log, vault, hub, c), c}
}

func (s site) write(t testing.TB, do func(ctx context.Context, tx *db.Tx) error) {
	t.Helper()
	if err := s.db.Write(t.Context(), do); err != nil {
		t.Fatal(err)
	}
}

func (s site) addClient(t testing.TB, kind, subject, host string) (clientID, secret string) {
	t.Helper()
	s.write(t, func(ctx context.Context, tx *db.Tx) (err error) {
		clientID, secret, err = s.AddClient(ctx, tx, kind, subject, host)
		return err
	})
	return clientID, secret
}

// secretKey is what a connector reads out of its secret.
func secretKey(t testing.TB, secret string) ed25519.PrivateKey {
	t.Helper()
	parts := strings.Split(secret, ":")
	text, err := base64.RawURLEncoding.DecodeString(parts[len(parts)-1])
	if err != nil {
		t.Fatal(err)
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(text); err != nil {
		t.Fatal(err)
	}
	return jwk.Key.(ed25519.PrivateKey)
}

// made is an assertion in the making: as a connector makes it, unless a test
// changes it.
type made struct {
	algorithm jose.SignatureAlgorithm
	key       any
	nonce     string
	claims    map[string]any
	headers   map[jose.HeaderKey]any
}

func (m made) Nonce() (string, error) { return m.nonce, nil }

func (s site) assertion(clientID string, key any, nonce string) made {
	now := s.clock.Now()
	return made{algorithm: jose.EdDSA, key: key, nonce: nonce, claims: map[string]any{
		"iss": clientID, "sub": clientID, "aud": []string{audienceOf(clientID)},
		"iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "nbf": now.Add(-2 * time.Minute).Unix(),
	}}
}

func (m made) sign(t testing.TB) string {
	t.Helper()
	options := &jose.SignerOptions{ExtraHeaders: m.headers}
	if m.nonce != "" {
		options.NonceSource = m
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: m.algorithm, Key: m.key}, options)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(m.claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func form(clientID, assertion string) TokenRequest {
	return TokenRequest{ClientID: clientID, GrantType: GrantClientCredentials, AssertionType: AssertionJWT, Assertion: assertion}
}

func (s site) exchange(t testing.TB, clientID, assertion string) (Token, error) {
	t.Helper()
	return s.Exchange(t.Context(), form(clientID, assertion))
}

// wantRefused checks that an error says nothing but that the client wasn't
// believed, and why only in its cause.
func wantRefused(t testing.TB, err error, reason string) {
	t.Helper()
	var known *fault.Error
	if !errors.As(err, &known) || known.Code != fault.Unauthenticated {
		t.Errorf("got %v, want a refusal", err)
		return
	}
	if known.Message != "the client couldn't be authenticated" || !strings.Contains(known.Err.Error(), reason) {
		t.Errorf("%q, since %q; want since %q", known.Message, known.Err, reason)
	}
}

func TestCan(t *testing.T) {
	own, other := Object{Kind: "connector", ID: "c1", AppID: "a"}, Object{Kind: "connector", ID: "c2", AppID: "a"}
	for _, test := range []struct {
		actor  Actor
		action Action
		object Object
		want   bool
	}{
		{Operator(), Manage, own, true},
		{Operator(), Change, Object{Kind: "entitlement"}, true},
		{Operator(), Read, Object{Kind: "audit"}, true},
		{System(), Manage, own, true},
		{Connector("c1", "Airflow"), Serve, own, true},
		{Connector("c1", "Airflow"), Serve, other, false},
		{Connector("c1", "Airflow"), Read, own, false},
		{Connector("c1", "Airflow"), Manage, own, false},
		{Connector("c1", "Airflow"), Serve, Object{Kind: "app", ID: "c1"}, false},
		{Connector("", ""), Serve, Object{Kind: "connector", ID: "c1"}, false},
		{Actor{Kind: "person", ID: "p"}, Read, own, false},
		{Actor{Kind: "client", ID: "c1"}, Serve, own, false},
		{Actor{}, Read, Object{}, false},
	} {
		err := Can(test.actor, test.action, test.object)
		if (err == nil) != test.want || err != nil && !fault.Is(err, fault.Forbidden) {
			t.Errorf("%+v %s %+v: %v", test.actor, test.action, test.object, err)
		}
	}
}
