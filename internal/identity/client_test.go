package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conductorone/baton-sdk/pkg/crypto"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/base/seal"
)

func TestAClientHasTheFormThatConnectorsKnow(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		clientID, secret := s.addClient(t, ClientConnector, "c1", "airlock.example:8443")
		if !regexp.MustCompile(`^[a-z]+-[a-z]+-\d{5}@airlock\.example:8443/ccc$`).MatchString(clientID) {
			t.Error(clientID)
		}
		parsed, err := crypto.ParseClientSecret([]byte(secret), false)
		if err != nil || !strings.HasPrefix(secret, "secret-token:conductorone.com:v1:") {
			t.Fatal(secret, err)
		}
		kept, err := s.Clients(t.Context(), d, "c1")
		if err != nil {
			t.Fatal(err)
		}
		private := parsed.Key.(ed25519.PrivateKey)
		if len(kept) != 1 || kept[0].ID != clientID || !kept[0].publicKey.Equal(private.Public()) || !kept[0].CreatedAt.Equal(s.clock.Now()) {
			t.Errorf("%+v", kept)
		}
	})
}

func TestAHostThatNoConnectorCanCallIsRefused(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	for _, host := range []string{"", ":8443", "a/b", "a b", "a@b", "https://a", "a:", strings.Repeat("a", 300)} {
		err := s.db.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, _, err := s.AddClient(ctx, tx, ClientConnector, "c1", host)
			return err
		})
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", host, err)
		}
	}
	for host, want := range map[string]string{"a.example": "a.example", "127.0.0.1:1": "127.0.0.1", "[::1]:8443": "::1", "[::1]": "[::1]"} {
		clientID, _ := s.addClient(t, ClientConnector, "c1", host)
		if got := audienceOf(clientID); got != want {
			t.Errorf("the audience of %s is %q, want %q", clientID, got, want)
		}
	}
}

func TestSlugsAreOfTheirOwnWords(t *testing.T) {
	for _, list := range [][]string{adjectives, nouns} {
		seen := map[string]bool{}
		for _, word := range list {
			if seen[word] || !regexp.MustCompile(`^[a-z]+$`).MatchString(word) {
				t.Errorf("%q", word)
			}
			seen[word] = true
		}
	}
}

func TestAnAssertionIsExchangedForATokenThatAuthenticates(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		clientID, secret := s.addClient(t, ClientConnector, "c1", "airlock.example:8443")
		token, err := s.exchange(t, clientID, s.assertion(clientID, secretKey(t, secret), "n1").sign(t))
		if err != nil {
			t.Fatal(err)
		}
		if token.ExpiresIn != 10*time.Minute {
			t.Error(token.ExpiresIn)
		}
		client, err := s.Authenticate(t.Context(), token.Access)
		if err != nil {
			t.Fatal(err)
		}
		if client.ID != clientID || client.Kind != ClientConnector || client.SubjectID != "c1" || !client.LastUsedAt.Equal(s.clock.Now()) {
			t.Errorf("%+v", client)
		}
		s.clock.Advance(10*time.Minute + tokenLeeway + time.Second)
		_, err = s.Authenticate(t.Context(), token.Access)
		wantRefused(t, err, "expired")
	})
}

func TestATokenIsGoodOnEveryReplicaAndAfterARestart(t *testing.T) {
	d := dbtest.Open(t, db.Postgres)
	c := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	keys, err := seal.OpenKeyring(filepath.Join(t.TempDir(), "key"), "")
	if err != nil {
		t.Fatal(err)
	}
	one, two := openSite(t, d, keys, c), openSite(t, d, keys, c)
	clientID, secret := one.addClient(t, ClientConnector, "c1", "a.example")
	token, err := one.exchange(t, clientID, one.assertion(clientID, secretKey(t, secret), "n1").sign(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := two.Authenticate(t.Context(), token.Access); err != nil {
		t.Fatal(err)
	}
	_, err = two.exchange(t, clientID, one.assertion(clientID, secretKey(t, secret), "n1").sign(t))
	wantRefused(t, err, "used before")
}

func TestAssertionsThatProveNothingAreRefused(t *testing.T) {
	_, foreign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, dbtest.Open(t, db.SQLite))
	clientID, secret := s.addClient(t, ClientConnector, "c1", "airlock.example:8443")
	key := secretKey(t, secret)
	otherID, otherSecret := s.addClient(t, ClientConnector, "c2", "airlock.example:8443")
	at := func(d time.Duration) int64 { return s.clock.Now().Add(d).Unix() }
	for name, test := range map[string]struct {
		change func(m *made)
		reason string
	}{
		"forged":               {func(m *made) { m.key = foreign }, "isn't signed by the client's key"},
		"another client's key": {func(m *made) { m.key = secretKey(t, otherSecret) }, "isn't signed by the client's key"},
		"with its own key": {func(m *made) {
			m.key = foreign
			m.headers = map[jose.HeaderKey]any{"jwk": jose.JSONWebKey{Key: foreign.Public()}}
		}, "isn't signed by the client's key"},
		"HS256 with public key": {func(m *made) { m.algorithm, m.key = jose.HS256, []byte(key.Public().(ed25519.PublicKey)) }, "unexpected signature algorithm"},
		"RS256":                 {func(m *made) { m.algorithm, m.key = jose.RS256, rsaKey }, "unexpected signature algorithm"},
		"expired":               {func(m *made) { m.claims["exp"] = at(-clockSkew) }, "the assertion was good until"},
		"without an end":        {func(m *made) { delete(m.claims, "exp") }, "until when it is good"},
		"of no time":            {func(m *made) { delete(m.claims, "iat") }, "when it was made"},
		"good for a day":        {func(m *made) { m.claims["exp"] = at(24 * time.Hour) }, "is made too long"},
		"good for ever":         {func(m *made) { m.claims["exp"] = 1e30 }, "the assertion"},
		"not good yet":          {func(m *made) { m.claims["nbf"] = at(clockSkew + time.Second) }, "is good from"},
		"made in the future":    {func(m *made) { m.claims["iat"] = at(clockSkew + time.Second) }, "is to come"},
		"for another host":      {func(m *made) { m.claims["aud"] = []string{"evil.example"} }, `the assertion is for ["evil.example"]`},
		"for the host and port": {func(m *made) { m.claims["aud"] = "airlock.example:8443" }, "the assertion is for"},
		"for nobody":            {func(m *made) { delete(m.claims, "aud") }, "the assertion is for"},
		"by another":            {func(m *made) { m.claims["iss"] = otherID }, "the assertion is by"},
		"about another":         {func(m *made) { m.claims["sub"] = otherID }, "the assertion is by"},
		"about another, by it":  {func(m *made) { m.claims["iss"], m.claims["sub"] = otherID, otherID }, "the assertion is by"},
		"without a nonce":       {func(m *made) { m.nonce = "" }, "neither a nonce nor a jti"},
		"critical header":       {func(m *made) { m.headers = map[jose.HeaderKey]any{"crit": []string{"x"}, "x": 1} }, "isn't signed by the client's key"},
	} {
		t.Run(name, func(t *testing.T) {
			m := s.assertion(clientID, key, name)
			test.change(&m)
			_, err := s.exchange(t, clientID, m.sign(t))
			wantRefused(t, err, test.reason)
		})
	}
	good := s.assertion(clientID, key, "good").sign(t)
	parts := strings.Split(good, ".")
	for name, text := range map[string]string{
		"alg none":         base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","nonce":"x"}`)) + "." + parts[1] + ".",
		"no signature":     parts[0] + "." + parts[1] + ".",
		"cut":              good[:len(good)-5],
		"two parts":        parts[0] + "." + parts[1],
		"JSON":             `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"nothing readable": "\x00\xff...",
		"claims no object": parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`[]`)) + "." + parts[2],
	} {
		_, err := s.exchange(t, clientID, text)
		wantRefused(t, err, "")
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	_, err = s.exchange(t, "brave-fox-00000@airlock.example/ccc", good)
	wantRefused(t, err, "there is no such client")
	if _, err := s.exchange(t, clientID, good); err != nil {
		t.Errorf("the good one: %v", err)
	}
	_, err = s.exchange(t, clientID, good)
	wantRefused(t, err, "used before")
}

func TestAJTIServesInPlaceOfANonce(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	clientID, secret := s.addClient(t, ClientConnector, "c1", "a.example")
	m := s.assertion(clientID, secretKey(t, secret), "")
	m.claims["jti"] = "once"
	if _, err := s.exchange(t, clientID, m.sign(t)); err != nil {
		t.Fatal(err)
	}
	m.claims["nbf"] = s.clock.Now().Unix() // another assertion with the same one
	_, err := s.exchange(t, clientID, m.sign(t))
	wantRefused(t, err, "used before")
}

func TestAClockThatIsALittleWrongIsForgiven(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	clientID, secret := s.addClient(t, ClientConnector, "c1", "a.example")
	for _, test := range []struct {
		off  time.Duration
		good bool
	}{{-3 * time.Minute, true}, {-5 * time.Minute, false}, {110 * time.Second, true}, {4 * time.Minute, false}} {
		theirs := s
		theirs.clock = clock.NewFake(s.clock.Now().Add(test.off))
		_, err := s.exchange(t, clientID, theirs.assertion(clientID, secretKey(t, secret), test.off.String()).sign(t))
		if (err == nil) != test.good {
			t.Errorf("%s: %v", test.off, errors.Unwrap(err))
		}
	}
}

func TestAFormThatIsWrongIsSaidSo(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	clientID, secret := s.addClient(t, ClientConnector, "c1", "a.example")
	good := form(clientID, s.assertion(clientID, secretKey(t, secret), "n").sign(t))
	for field, change := range map[string]func(r *TokenRequest){
		"grant_type":            func(r *TokenRequest) { r.GrantType = "password" },
		"client_assertion_type": func(r *TokenRequest) { r.AssertionType = "saml" },
		"client_id":             func(r *TokenRequest) { r.ClientID = "a\x00b" },
		"client_assertion":      func(r *TokenRequest) { r.Assertion = strings.Repeat("a", maxAssertion+1) },
	} {
		wrong := good
		change(&wrong)
		_, err := s.Exchange(t.Context(), wrong)
		var known *fault.Error
		if !errors.As(err, &known) || known.Code != fault.Invalid || known.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestOfManyAtOnceOneUsesAnAssertion(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		clientID, secret := s.addClient(t, ClientConnector, "c1", "a.example")
		text := s.assertion(clientID, secretKey(t, secret), "n").sign(t)
		var got atomic.Int64
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				_, err := s.exchange(t, clientID, text)
				if err == nil {
					got.Add(1)
					return
				}
				wantRefused(t, err, "used before")
			})
		}
		wait.Wait()
		if got.Load() != 1 {
			t.Fatalf("%d got a token", got.Load())
		}
	})
}

func TestARevokedClientGetsAndUsesNoToken(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		tokens, secrets := map[string]string{}, map[string]string{}
		get := func(clientID string) (string, error) {
			token, err := s.exchange(t, clientID, s.assertion(clientID, secretKey(t, secrets[clientID]), rand.Text()).sign(t))
			return token.Access, err
		}
		add := func(kind, subject string) string {
			clientID, secret := s.addClient(t, kind, subject, "a.example")
			secrets[clientID] = secret
			token, err := get(clientID)
			if err != nil {
				t.Fatal(err)
			}
			tokens[clientID] = token
			return clientID
		}
		old, fresh, hosted, other := add(ClientConnector, "c1"), add(ClientConnector, "c1"), add(ClientHosted, "c1"), add(ClientConnector, "c2")
		works := func() (list []bool) {
			for _, clientID := range []string{old, fresh, hosted, other} {
				client, authenticate := s.Authenticate(t.Context(), tokens[clientID])
				_, exchange := get(clientID)
				if (authenticate == nil) != (exchange == nil) || authenticate == nil && client.ID != clientID {
					t.Errorf("%v, but %v", authenticate, exchange)
				}
				if authenticate != nil {
					wantRefused(t, authenticate, "was revoked")
					wantRefused(t, exchange, "was revoked")
				}
				list = append(list, authenticate == nil)
			}
			return list
		}
		for _, step := range []struct {
			kind, except string
			want         []bool
		}{
			{ClientConnector, fresh, []bool{false, true, true, true}},
			{ClientHosted, "", []bool{false, true, false, true}},
			{"", "", []bool{false, false, false, true}},
		} {
			s.write(t, func(ctx context.Context, tx *db.Tx) error {
				return s.RevokeClients(ctx, tx, "c1", step.kind, step.except)
			})
			if diff := cmp.Diff(step.want, works()); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

func TestForeignTokensAreRefused(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	clientID, secret := s.addClient(t, ClientConnector, "c1", "a.example")
	key := secretKey(t, secret)
	ours, err := s.key(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := s.clock.Now()
	claims := func(change func(c *jwt.Claims)) jwt.Claims {
		c := jwt.Claims{
			Issuer: tokenIssuer, Subject: clientID, Audience: jwt.Audience{tokenAudience},
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Minute)),
		}
		change(&c)
		return c
	}
	sign := func(key any, algorithm jose.SignatureAlgorithm, kind string, c jwt.Claims) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithType(jose.ContentType(kind)))
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.Signed(signer).Claims(c).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	same := func(*jwt.Claims) {}
	if _, err := s.Authenticate(t.Context(), sign(ours, jose.EdDSA, tokenType, claims(same))); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, text := range map[string]string{
		"empty":          "",
		"huge":           strings.Repeat("a", maxToken+1),
		"an assertion":   s.assertion(clientID, key, "n").sign(t),
		"another key":    sign(key, jose.EdDSA, tokenType, claims(same)),
		"HS256":          sign([]byte(ours.Public().(ed25519.PublicKey)), jose.HS256, tokenType, claims(same)),
		"another type":   sign(ours, jose.EdDSA, "JWT", claims(same)),
		"another issuer": sign(ours, jose.EdDSA, tokenType, claims(func(c *jwt.Claims) { c.Issuer = "x" })),
		"for another":    sign(ours, jose.EdDSA, tokenType, claims(func(c *jwt.Claims) { c.Audience = nil })),
		"endless":        sign(ours, jose.EdDSA, tokenType, claims(func(c *jwt.Claims) { c.Expiry = nil })),
		"expired":        sign(ours, jose.EdDSA, tokenType, claims(func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(now.Add(-time.Minute)) })),
		"of nobody":      sign(ours, jose.EdDSA, tokenType, claims(func(c *jwt.Claims) { c.Subject = "nobody" })),
	} {
		_, err := s.Authenticate(t.Context(), text)
		if !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAClientThatRunsWildIsSlowedDown(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	clientID, secret := s.addClient(t, ClientConnector, "c1", "a.example")
	s.write(t, func(ctx context.Context, tx *db.Tx) error {
		for range maxLiveNonces {
			if _, err := useNonce(ctx, tx, clientID, rand.Text(), s.clock.Now().Add(time.Minute)); err != nil {
				return err
			}
		}
		return nil
	})
	text := func(nonce string) string { return s.assertion(clientID, secretKey(t, secret), nonce).sign(t) }
	if _, err := s.exchange(t, clientID, text("n1")); !fault.Is(err, fault.Exhausted) {
		t.Fatal(err)
	}
	s.clock.Advance(time.Minute)
	if _, err := s.exchange(t, clientID, text("n2")); err != nil {
		t.Fatal(err)
	}
}

func TestSweepDropsWhatIsOverAndNothingElse(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		clientID, secret := s.addClient(t, ClientConnector, "c1", "a.example")
		old, _ := s.addClient(t, ClientHosted, "c1", "a.example")
		text := s.assertion(clientID, secretKey(t, secret), "n").sign(t)
		if _, err := s.exchange(t, clientID, text); err != nil {
			t.Fatal(err)
		}
		s.write(t, func(ctx context.Context, tx *db.Tx) error { return s.RevokeClients(ctx, tx, "c1", ClientHosted, "") })
		count := func() (nonces, clients int) {
			if err := s.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			list, err := s.Clients(t.Context(), d, "c1")
			if err != nil {
				t.Fatal(err)
			}
			nonces, err = db.Value[int](t.Context(), d, "SELECT COUNT(*) FROM assertion_nonce")
			if err != nil {
				t.Fatal(err)
			}
			return nonces, len(list)
		}
		// As long as the assertion would be taken, its nonce is kept.
		s.clock.Advance(2*time.Minute + clockSkew - time.Second)
		if nonces, clients := count(); nonces != 1 || clients != 2 {
			t.Fatal(nonces, clients)
		}
		_, err := s.exchange(t, clientID, text)
		wantRefused(t, err, "used before")
		s.clock.Advance(time.Second)
		if nonces, clients := count(); nonces != 0 || clients != 2 {
			t.Fatal(nonces, clients)
		}
		_, err = s.exchange(t, clientID, text)
		wantRefused(t, err, "was good until")
		s.clock.Advance(24 * time.Hour)
		if nonces, clients := count(); nonces != 0 || clients != 1 {
			t.Fatal(nonces, clients, old)
		}
	})
}

// Whatever comes is refused or read, without a panic; and read is only what the
// client's key signed.
func FuzzReadAssertion(f *testing.F) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	s := site{clock: clock.NewFake(now)}
	const clientID = "brave-fox-12345@a.example/ccc"
	good := s.assertion(clientID, private, "n").sign(f)
	f.Add(good)
	f.Add("")
	f.Add("a.b.c")
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + ".e30.")
	want, err := readAssertion(good, clientID, public, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		// base64 may be written in more than one way; what it says is the same.
		if got, err := readAssertion(text, clientID, public, now); err == nil && got != want {
			t.Fatalf("taken: %q", text)
		}
	})
}
