package identity

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
)

// OIDCCookie carries a sign-in through the browser while that is at the provider,
// for StateLife: Secure, HttpOnly, SameSite=Lax, Path=/, without a domain.
const (
	OIDCCookie = "__Host-airlock-oidc"
	StateLife  = 10 * time.Minute
)

// begun is a sign-in that is at the provider. It lies in the browser, sealed, so
// that beginning one writes nothing, any replica can finish it, and nobody can
// have it finished in another one's browser.
type begun struct {
	State     string `json:"s"`
	Nonce     string `json:"n"`
	Verifier  string `json:"v"` // of PKCE
	Issuer    string `json:"i"`
	ClientID  string `json:"c"`
	ReturnTo  string `json:"r"`
	ExpiresAt int64  `json:"e"` // seconds of Unix time
}

const stateBinding = "airlock sign-in at a provider v1"

func stateAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (b begun) seal(key []byte) (string, error) {
	aead, err := stateAEAD(key)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(b)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, text, []byte(stateBinding))), nil //nolint:gosec // it makes its nonces itself
}

func openBegun(key []byte, cookie string, now time.Time) (b begun, err error) {
	if len(cookie) > 8<<10 {
		return begun{}, errors.New("it is too long")
	}
	sealed, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil {
		return begun{}, err
	}
	aead, err := stateAEAD(key)
	if err != nil {
		return begun{}, err
	}
	text, err := aead.Open(nil, nil, sealed, []byte(stateBinding))
	if err != nil {
		return begun{}, err
	}
	if err := json.Unmarshal(text, &b); err != nil {
		return begun{}, err
	}
	if now.Unix() >= b.ExpiresAt {
		return begun{}, errors.New("it is too old")
	}
	return b, nil
}

func (s *SignIns) stateKey(ctx context.Context) ([]byte, error) {
	return s.Vault.Make(ctx, secretState, func() ([]byte, error) {
		key := make([]byte, 32)
		_, err := rand.Read(key)
		return key, err
	})
}

// LocalPath is a path of ours to go to after the sign-in, or "/" where what was
// asked for would lead elsewhere.
func LocalPath(text string) string {
	parsed, err := url.Parse(text)
	switch {
	case err != nil, len(text) > 1000, !utf8.ValidString(text), !strings.HasPrefix(text, "/"), strings.HasPrefix(text, "//"),
		strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c == '\\' || c == 0x7f }),
		parsed.Scheme != "", parsed.Host != "", parsed.User != nil:
		return "/"
	}
	return text
}

// config is how we speak with a provider. A public client has no secret.
func (s *SignIns) config(ctx context.Context, p Provider, d *oidc.Provider) (oauth2.Config, error) {
	secret, err := s.Vault.Get(ctx, s.DB, secretOIDC)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return oauth2.Config{}, err
	}
	endpoint := d.Endpoint()
	var described struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := d.Claims(&described); err != nil {
		return oauth2.Config{}, err
	}
	// It isn't found out by trying, which uses up the code.
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if len(secret) == 0 || len(described.Methods) > 0 && !slices.Contains(described.Methods, "client_secret_basic") {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return oauth2.Config{
		ClientID: p.ClientID, ClientSecret: string(secret), Endpoint: endpoint, Scopes: p.Scopes,
		RedirectURL: strings.TrimSuffix(s.PublicURL, "/") + OIDCCallback,
	}, nil
}

// BeginOIDC gives the URL at the provider to send the browser to, and the value of
// the cookie OIDCCookie.
func (s *SignIns) BeginOIDC(ctx context.Context, returnTo string) (redirect, cookie string, err error) {
	p, err := s.provider(ctx, s.DB)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("begin a sign-in: %w", err)
	case !p.On:
		return "", "", fault.New(fault.NotReady, "no provider is set up for signing in: sign in with a password")
	}
	d, err := s.discover(ctx, p.Issuer)
	if err != nil {
		return "", "", err
	}
	config, err := s.config(ctx, p, d)
	if err != nil {
		return "", "", fmt.Errorf("begin a sign-in: %w", err)
	}
	key, err := s.stateKey(ctx)
	if err != nil {
		return "", "", fmt.Errorf("begin a sign-in: %w", err)
	}
	state, _ := newToken()
	nonce, _ := newToken()
	b := begun{
		State: state, Nonce: nonce, Verifier: oauth2.GenerateVerifier(), Issuer: p.Issuer, ClientID: p.ClientID,
		ReturnTo: LocalPath(returnTo), ExpiresAt: s.Clock.Now().Add(StateLife).Unix(),
	}
	cookie, err = b.seal(key)
	if err != nil {
		return "", "", fmt.Errorf("begin a sign-in: %w", err)
	}
	return config.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(b.Verifier)), cookie, nil
}

// Callback is what a browser brings back from the provider: parameters of the
// query, and the cookie.
type Callback struct {
	Cookie string // OIDCCookie
	State  string
	Code   string
	Issuer string // iss, or ""
	Error  string // error, or ""
}

// CallbackOf takes a callback out of a request.
func CallbackOf(r *http.Request) Callback {
	query := r.URL.Query()
	c := Callback{State: query.Get("state"), Code: query.Get("code"), Issuer: query.Get("iss"), Error: query.Get("error")}
	if cookie, err := r.Cookie(OIDCCookie); err == nil {
		c.Cookie = cookie.Value
	}
	return c
}

// who is somebody as a provider tells of them.
type who struct {
	issuer, subject, email, name string
	verified                     bool
	groups                       []string
}

// FinishOIDC lets somebody in whom the provider vouches for. What the provider says
// is bound to a person by issuer and subject. The first time it is bound by e-mail:
// if the provider says that this is verified, one person alone has it, and they have
// no sign-in at that issuer yet. Otherwise it is refused and kept, so that an
// administrator can bind it.
func (s *SignIns) FinishOIDC(ctx context.Context, c Callback, v Visit) (Entered, error) {
	key, err := s.stateKey(ctx)
	if err != nil {
		return Entered{}, fmt.Errorf("finish a sign-in: %w", err)
	}
	now := s.Clock.Now()
	b, err := openBegun(key, c.Cookie, now)
	if err != nil || subtle.ConstantTimeCompare([]byte(b.State), []byte(c.State)) != 1 {
		return Entered{}, &fault.Error{
			Code: fault.Invalid, Message: "the sign-in wasn't begun in this browser, or took too long: begin again", Err: err,
		}
	}
	someone, err := s.vouched(ctx, b, c)
	if err != nil {
		if fault.Is(err, fault.Unauthenticated) {
			object := audit.Object{Kind: kindSignIn, ID: providerID, Name: b.Issuer}
			detail := signInDetail{Method: ByOIDC, Address: v.Address, Issuer: b.Issuer, Reason: cut(reasonOf(err), 500)}
			err = errors.Join(err, s.note(ctx, visitor(v), "person.sign_in_failed", object, detail))
		}
		return Entered{}, err
	}
	entered, err := s.enterBound(ctx, someone, v)
	entered.ReturnTo = b.ReturnTo
	return entered, err
}

// untrusted is an answer of a provider that nobody is let in for. The reason is for
// the logs.
func untrusted(reason error) error {
	return &fault.Error{
		Code: fault.Unauthenticated, Err: reason,
		Message: "what the provider says of you can't be trusted, so nobody was signed in: begin again, and tell an administrator if it stays so",
	}
}

// reasonOf is why something failed, as the logs may tell.
func reasonOf(err error) string {
	if known, ours := errors.AsType[*fault.Error](err); ours && known.Err != nil {
		return known.Err.Error()
	}
	return err.Error()
}

// vouched asks the provider whom a callback is of, and believes nothing of it
// that isn't signed, for us, for this sign-in and fresh.
func (s *SignIns) vouched(ctx context.Context, b begun, c Callback) (who, error) {
	p, err := s.provider(ctx, s.DB)
	switch {
	case err != nil:
		return who{}, fmt.Errorf("finish a sign-in: %w", err)
	case !p.On || p.Issuer != b.Issuer || p.ClientID != b.ClientID:
		return who{}, fault.New(fault.Conflict, "how people sign in was changed meanwhile: begin again")
	}
	var fresh bool
	if err := s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		fresh, err = useState(ctx, tx, tokenHash(b.State), time.Unix(b.ExpiresAt, 0))
		return err
	}); err != nil {
		return who{}, fmt.Errorf("finish a sign-in: %w", err)
	}
	switch {
	case !fresh:
		return who{}, fault.New(fault.Invalid, "this sign-in was finished before: begin again")
	case c.Issuer != "" && c.Issuer != p.Issuer: // RFC 9207
		return who{}, untrusted(fmt.Errorf("the answer is of the issuer %.200q", c.Issuer))
	case c.Error != "":
		return who{}, &fault.Error{
			Code: fault.Unauthenticated, Err: fmt.Errorf("the provider refused: %.200q", c.Error),
			Message: fmt.Sprintf("the provider didn't sign you in (%s): begin again, or ask whoever runs it", plain(c.Error)),
		}
	case c.Code == "" || len(c.Code) > 4096:
		return who{}, untrusted(errors.New("the answer has no code"))
	}
	d, err := s.discover(ctx, p.Issuer)
	if err != nil {
		return who{}, err
	}
	config, err := s.config(ctx, p, d)
	if err != nil {
		return who{}, fmt.Errorf("finish a sign-in: %w", err)
	}
	ctx = oidc.ClientContext(ctx, s.Client)
	token, err := config.Exchange(ctx, c.Code, oauth2.VerifierOption(b.Verifier))
	if err != nil {
		return who{}, s.notExchanged(ctx, p, err)
	}
	text, ok := token.Extra("id_token").(string)
	if !ok {
		return who{}, untrusted(errors.New("the provider sent no id token"))
	}
	idToken, err := d.Verifier(&oidc.Config{ClientID: p.ClientID, Now: s.Clock.Now}).Verify(ctx, text)
	if err != nil {
		return who{}, untrusted(err)
	}
	var claims map[string]json.RawMessage
	if err := idToken.Claims(&claims); err != nil {
		return who{}, untrusted(err)
	}
	party := textOf(claims["azp"])
	switch {
	case idToken.Issuer != p.Issuer:
		return who{}, untrusted(fmt.Errorf("the id token is of the issuer %.200q", idToken.Issuer))
	case subtle.ConstantTimeCompare([]byte(idToken.Nonce), []byte(b.Nonce)) != 1:
		return who{}, untrusted(errors.New("the id token is of another sign-in: its nonce differs"))
	case party != "" && party != p.ClientID, party == "" && len(idToken.Audience) > 1:
		return who{}, untrusted(fmt.Errorf("the id token was made for the client %.200q", party))
	case !storableID(idToken.Subject):
		return who{}, untrusted(errors.New("the id token names nobody"))
	}
	if idToken.AccessTokenHash != "" {
		if err := idToken.VerifyAccessToken(token.AccessToken); err != nil {
			return who{}, untrusted(err)
		}
	}
	if err := s.askFurther(ctx, p, d, token, idToken.Subject, claims); err != nil {
		return who{}, err
	}
	groups, _ := groupsOf(claims, p.GroupClaim)
	return who{
		issuer: p.Issuer, subject: idToken.Subject, groups: groups,
		email: cut(textOf(claims["email"]), 320), verified: isTrue(claims["email_verified"]),
		name: cut(firstOf(textOf(claims["name"]), textOf(claims["preferred_username"])), 200),
	}, nil
}

// askFurther fetches what the id token leaves out, where the provider has it.
func (s *SignIns) askFurther(ctx context.Context, p Provider, d *oidc.Provider, token *oauth2.Token, subject string, claims map[string]json.RawMessage) error {
	_, grouped := groupsOf(claims, p.GroupClaim)
	if d.UserInfoEndpoint() == "" || claims["email"] != nil && (grouped || len(p.Groups) == 0) {
		return nil
	}
	info, err := d.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return s.unreachable(ctx, p.Issuer, err)
	}
	var more map[string]json.RawMessage
	if err := info.Claims(&more); err != nil || info.Subject != subject {
		return untrusted(errors.Join(fmt.Errorf("the provider's user info is about %.200q", info.Subject), err))
	}
	// An e-mail, and that it is verified, belong together.
	if email := textOf(claims["email"]); email == "" || email == textOf(more["email"]) && claims["email_verified"] == nil {
		claims["email"], claims["email_verified"] = more["email"], more["email_verified"]
	}
	delete(more, "email_verified")
	for name, value := range more {
		if claims[name] == nil {
			claims[name] = value
		}
	}
	return nil
}

// notExchanged says why a provider gave no tokens for a code.
func (s *SignIns) notExchanged(ctx context.Context, p Provider, err error) error {
	answer, answered := errors.AsType[*oauth2.RetrieveError](err)
	if !answered || answer.Response != nil && answer.Response.StatusCode >= 500 {
		return s.unreachable(ctx, p.Issuer, err)
	}
	reason := fmt.Errorf("the provider gave no tokens: %.200q", answer.ErrorCode) // its words may hold what we sent
	if slices.Contains([]string{"invalid_client", "unauthorized_client"}, answer.ErrorCode) || answer.Response != nil && answer.Response.StatusCode == http.StatusUnauthorized {
		return &fault.Error{
			Code: fault.NotReady, Err: reason,
			Message: "the provider doesn't take our client id and secret, so nobody was signed in: an administrator corrects them in the settings of sign-in",
		}
	}
	return untrusted(reason)
}

// plain is an error code of a provider, as it may be shown.
func plain(code string) string {
	return strings.Map(func(c rune) rune {
		if c == '_' || c >= 'a' && c <= 'z' {
			return c
		}
		return -1
	}, cut(code, 50))
}

func textOf(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return ""
	}
	return text
}

// isTrue reads a claim that is true, or the word, as some providers have it.
func isTrue(raw json.RawMessage) bool {
	text := string(raw)
	return text == "true" || text == `"true"`
}

// storableID reports whether both databases keep an id as it is.
func storableID(text string) bool {
	return text != "" && len(text) <= 255 && utf8.ValidString(text) && !strings.ContainsRune(text, 0)
}
