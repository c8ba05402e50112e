package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Token is what a client shows with each call.
type Token struct {
	Access    string // goes behind "Bearer "
	ExpiresIn time.Duration
}

// A token holds no more than the client's id and how long it is good. The type,
// issuer and audience keep it apart from whatever else may be signed.
const (
	tokenLife     = 10 * time.Minute
	tokenType     = "airlock-token+jwt"
	tokenIssuer   = "airlock"
	tokenAudience = "airlock/connectors"
	tokenLeeway   = 30 * time.Second // between the clocks of replicas
	maxToken      = 4 << 10
)

// newTokenKey makes the key that tokens are signed with, as it is kept.
func newTokenKey() ([]byte, error) {
	seed := make([]byte, ed25519.SeedSize)
	_, err := rand.Read(seed)
	return seed, err
}

func openTokenKey(seed []byte) (ed25519.PrivateKey, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("the key for tokens has %d bytes", len(seed))
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

func signToken(key ed25519.PrivateKey, clientID string, now time.Time) (Token, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, (&jose.SignerOptions{}).WithType(tokenType))
	if err != nil {
		return Token{}, err
	}
	text, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: tokenIssuer, Subject: clientID, Audience: jwt.Audience{tokenAudience},
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(tokenLife)),
	}).Serialize()
	if err != nil {
		return Token{}, err
	}
	return Token{Access: text, ExpiresIn: tokenLife}, nil
}

// readToken checks a token and returns the id of its client.
func readToken(text string, key ed25519.PublicKey, now time.Time) (clientID string, err error) {
	if len(text) > maxToken {
		return "", fmt.Errorf("the token has %d bytes", len(text))
	}
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return "", fmt.Errorf("the token can't be read: %w", err)
	}
	if kind, _ := token.Headers[0].ExtraHeaders[jose.HeaderType].(string); !strings.EqualFold(kind, tokenType) {
		return "", fmt.Errorf("the token is of type %q", kind)
	}
	var claims jwt.Claims
	if err := token.Claims(key, &claims); err != nil {
		return "", fmt.Errorf("the token isn't signed by this server: %w", err)
	}
	if claims.Expiry == nil {
		return "", errors.New("the token has no end")
	}
	expected := jwt.Expected{Issuer: tokenIssuer, AnyAudience: jwt.Audience{tokenAudience}, Time: now}
	if err := claims.ValidateWithLeeway(expected, tokenLeeway); err != nil {
		return "", fmt.Errorf("the token isn't good here and now: %w", err)
	}
	return claims.Subject, nil
}
