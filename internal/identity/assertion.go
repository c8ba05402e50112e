package identity

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"airlock/internal/base/fault"
)

// What a request for a token names.
const (
	GrantClientCredentials = "client_credentials"
	AssertionJWT           = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// TokenRequest is what a client sends to get a token (RFC 6749 §4.4, RFC 7523
// §2.2).
type TokenRequest struct {
	ClientID      string
	GrantType     string
	AssertionType string
	Assertion     string
}

const (
	maxAssertion  = 8 << 10
	maxClientID   = 512             // bytes
	clockSkew     = 2 * time.Minute // that a connector's clock may be wrong
	longestAhead  = 5 * time.Minute // that an assertion may still be good for
	maxLiveNonces = 1000            // of one client; more is a client that runs wild
)

// check says what of the form itself is wrong; a client may be told that.
func (r TokenRequest) check() error {
	switch {
	case r.GrantType == "":
		return fault.New(fault.Invalid, "grant_type is missing").At("grant_type")
	case r.GrantType != GrantClientCredentials:
		return fault.New(fault.Invalid, "the grant type must be %s", GrantClientCredentials).At("grant_type")
	case r.AssertionType != AssertionJWT:
		return fault.New(fault.Invalid, "client_assertion_type must be %s", AssertionJWT).At("client_assertion_type")
	case r.ClientID == "" || len(r.ClientID) > maxClientID || strings.ContainsFunc(r.ClientID, func(c rune) bool { return c <= ' ' || c > '~' }):
		return fault.New(fault.Invalid, "client_id is missing, too long or not of plain letters").At("client_id")
	case r.Assertion == "" || len(r.Assertion) > maxAssertion:
		return fault.New(fault.Invalid, "client_assertion is missing or too long").At("client_assertion")
	}
	return nil
}

// refused is the one answer to whatever doesn't prove who it comes from. The
// reason is its cause, for the log: to whoever asks it would tell which clients
// there are.
func refused(reason error) error {
	return &fault.Error{Code: fault.Unauthenticated, Message: "the client couldn't be authenticated", Err: reason}
}

// assertion is what a good one holds that has to be kept.
type assertion struct {
	nonce     string    // its hash, since it may be of any length and letters
	expiresAt time.Time // from then on it isn't taken any more
}

// readAssertion checks a client's assertion: signed with its key, by it, about
// it, for the host that its id names, and made just now.
func readAssertion(text, clientID string, key ed25519.PublicKey, now time.Time) (assertion, error) {
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return assertion{}, fmt.Errorf("the assertion can't be read: %w", err)
	}
	var claims jwt.Claims
	if err := token.Claims(key, &claims); err != nil {
		return assertion{}, fmt.Errorf("the assertion isn't signed by the client's key: %w", err)
	}
	nonce := token.Headers[0].Nonce
	if nonce == "" {
		nonce = claims.ID
	}
	switch {
	case claims.Issuer != clientID || claims.Subject != clientID:
		return assertion{}, fmt.Errorf("the assertion is by %q about %q", claims.Issuer, claims.Subject)
	case !slices.Contains(claims.Audience, audienceOf(clientID)):
		return assertion{}, fmt.Errorf("the assertion is for %q", []string(claims.Audience))
	case nonce == "":
		return assertion{}, errors.New("the assertion has neither a nonce nor a jti")
	case claims.Expiry == nil || claims.IssuedAt == nil:
		return assertion{}, errors.New("the assertion doesn't say when it was made and until when it is good")
	}
	until := claims.Expiry.Time()
	switch {
	case !now.Before(until.Add(clockSkew)):
		return assertion{}, fmt.Errorf("the assertion was good until %s: it is old, or the client's clock is wrong", until.UTC())
	case until.After(now.Add(longestAhead)):
		return assertion{}, fmt.Errorf("the assertion would be good until %s: it is made too long, or the client's clock is wrong", until.UTC())
	case claims.IssuedAt.Time().After(now.Add(clockSkew)):
		return assertion{}, fmt.Errorf("the assertion was made at %s, which is to come: the client's clock is wrong", claims.IssuedAt.Time().UTC())
	case claims.NotBefore != nil && claims.NotBefore.Time().After(now.Add(clockSkew)):
		return assertion{}, fmt.Errorf("the assertion is good from %s on, which is to come", claims.NotBefore.Time().UTC())
	}
	hash := sha256.Sum256([]byte(nonce))
	return assertion{nonce: base64.RawURLEncoding.EncodeToString(hash[:]), expiresAt: until.Add(clockSkew)}, nil
}
