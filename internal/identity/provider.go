package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
)

// OIDCCallback is the path that a provider sends browsers back to.
const OIDCCallback = "/sign-in/oidc/callback"

// Provider is how people sign in at an OpenID Connect provider.
type Provider struct {
	On             bool             `json:"on"`
	BreakGlassOnly bool             `json:"break_glass_only"` // only a Super Admin signs in with a password
	Issuer         string           `json:"issuer"`           // its URL, exactly as it names itself
	ClientID       string           `json:"client_id"`
	Scopes         []string         `json:"scopes"`      // openid, profile and email unless told
	GroupClaim     string           `json:"group_claim"` // groups unless told; a.b is b within a
	Groups         map[string]Roles `json:"groups"`      // group → roles that it gives
	Domains        []string         `json:"domains"`     // of e-mails that are bound by themselves; none is all
	Button         string           `json:"button"`      // what it says

	HasSecret bool `json:"-"` // a client secret is kept, and not shown
}

// The names of secrets in the vault.
const (
	secretOIDC  = "oidc/secret"
	secretState = "oidc/state"
)

const providerID = "oidc"

// checked is the provider as it is kept, or an error that says what is wrong.
func (p Provider) checked() (Provider, error) {
	p.Issuer, p.ClientID, p.GroupClaim = strings.TrimSpace(p.Issuer), strings.TrimSpace(p.ClientID), strings.TrimSpace(p.GroupClaim)
	p.Button = strings.Join(strings.Fields(p.Button), " ")
	bad := func(field, format string, args ...any) (Provider, error) {
		return p, fault.New(fault.Invalid, format+": nothing was changed", args...).At(field)
	}
	issuer, err := url.Parse(p.Issuer)
	switch {
	case err != nil || issuer.Host == "" || issuer.User != nil || issuer.RawQuery != "" || issuer.Fragment != "" || len(p.Issuer) > 500:
		return bad("issuer", "the issuer is a URL such as https://login.example.com, and %.100q is none", p.Issuer)
	case issuer.Scheme != "https" && (issuer.Scheme != "http" || !loopback(issuer.Hostname())):
		return bad("issuer", "the issuer must be an https:// URL")
	case p.ClientID == "" || len(p.ClientID) > 500:
		return bad("client_id", "the client id is missing or too long")
	case len(p.Button) > 60:
		return bad("button", "the button's name has at most 60 bytes")
	case len(p.GroupClaim) > 200:
		return bad("group_claim", "the group claim's name has at most 200 bytes")
	case len(p.Groups) > 200:
		return bad("groups", "at most 200 groups give roles")
	}
	p.Scopes = slices.DeleteFunc(slices.Clone(p.Scopes), func(scope string) bool { return strings.TrimSpace(scope) == "" })
	if len(p.Scopes) == 0 {
		p.Scopes = []string{oidc.ScopeOpenID, "profile", "email"}
	}
	if !slices.Contains(p.Scopes, oidc.ScopeOpenID) {
		p.Scopes = append([]string{oidc.ScopeOpenID}, p.Scopes...)
	}
	for n, scope := range p.Scopes {
		if p.Scopes[n] = strings.TrimSpace(scope); strings.ContainsAny(p.Scopes[n], " \t\r\n\"\\") || len(scope) > 200 || n > 30 {
			return bad("scopes", "a scope is a word such as email, and %.100q is none", scope)
		}
	}
	p.GroupClaim, p.Button = firstOf(p.GroupClaim, "groups"), firstOf(p.Button, "Single sign-on")
	for group, roles := range p.Groups {
		if group == "" || len(group) > 300 || roles&^allRoles != 0 || roles&^User == 0 {
			return bad("groups", "the group %.100q must give a role that there is, and not user alone", group)
		}
	}
	domains := slices.Clone(p.Domains)
	p.Domains = nil
	for _, domain := range domains {
		if domain = Fold(strings.TrimPrefix(strings.TrimSpace(domain), "@")); domain != "" {
			if strings.ContainsAny(domain, "@/ ") || !strings.Contains(domain, ".") {
				return bad("domains", "%.100q isn't the domain of an e-mail", domain)
			}
			p.Domains = append(p.Domains, domain)
		}
	}
	return p, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// SignInOptions is what the sign-in page offers.
type SignInOptions struct {
	OIDC           bool
	Button         string // of the provider
	BreakGlassOnly bool   // passwords are for a Super Admin in need
}

// Options says how one can sign in. Everybody may ask.
func (s *SignIns) Options(ctx context.Context) (SignInOptions, error) {
	p, err := s.provider(ctx, s.DB)
	if err != nil {
		return SignInOptions{}, fmt.Errorf("read how people sign in: %w", err)
	}
	return SignInOptions{OIDC: p.On, Button: p.Button, BreakGlassOnly: p.On && p.BreakGlassOnly}, nil
}

// provider reads the settings; where there are none yet it isn't on.
func (s *SignIns) provider(ctx context.Context, q db.Querier) (Provider, error) {
	p, err := readProvider(ctx, q)
	if none(err) {
		return Provider{}, nil
	}
	return p, err
}

// Provider reads how people sign in at a provider. Its client secret isn't shown.
func (s *SignIns) Provider(ctx context.Context, actor Actor) (Provider, error) {
	if err := Can(actor, Read, Object{Kind: kindSignIn}); err != nil {
		return Provider{}, err
	}
	p, err := s.provider(ctx, s.DB)
	if err != nil {
		return Provider{}, fmt.Errorf("read the provider: %w", err)
	}
	_, err = s.Vault.Get(ctx, s.DB, secretOIDC)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return Provider{}, fmt.Errorf("read the provider: %w", err)
	}
	p.HasSecret = err == nil
	return p, nil
}

// SetProvider changes how people sign in at a provider. An empty secret keeps the one
// there is, which isn't sent to another issuer or for another client: then it must
// be given again. A provider that is turned off or becomes another one ends the
// sessions begun through it and takes the roles that its groups gave, unless nobody
// would be left who is Super Admin and can sign in.
func (s *SignIns) SetProvider(ctx context.Context, actor Actor, p Provider, secret string) error {
	if err := Can(actor, Manage, Object{Kind: kindSignIn}); err != nil {
		return err
	}
	p, err := p.checked()
	if err != nil {
		return err
	}
	if len(secret) > 4096 {
		return fault.New(fault.Invalid, "the client secret has at most 4096 bytes: nothing was changed").At("secret")
	}
	return s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		old, err := s.provider(ctx, tx)
		if err != nil {
			return err
		}
		other := old.Issuer != p.Issuer || old.ClientID != p.ClientID
		switch {
		case secret != "":
			err = s.Vault.Put(ctx, tx, secretOIDC, []byte(secret))
		case other:
			// The old secret would be sent to whoever the new issuer is.
			err = s.Vault.Delete(ctx, tx, secretOIDC)
		}
		if err != nil {
			return err
		}
		if err := KeepSuperAdmin(ctx, tx, "the provider stays as it is", func() error { return s.replaceProvider(ctx, tx, old, p) }); err != nil {
			return err
		}
		return s.Audit.Append(ctx, tx, audit.Event{
			Actor: actor, Action: "sign-in.changed", Object: audit.Object{Kind: kindSignIn, ID: providerID, Name: p.Button},
			Detail: struct {
				Provider
				SecretSet bool `json:"secret_set"`
			}{p, secret != ""},
		})
	})
}

// replaceProvider keeps new settings, and takes what the old ones gave.
func (s *SignIns) replaceProvider(ctx context.Context, tx *db.Tx, old, p Provider) error {
	if err := writeProvider(ctx, tx, p, s.Clock.Now()); err != nil {
		return err
	}
	var given Roles
	for _, roles := range p.Groups {
		given |= roles
	}
	if old.On && (!p.On || old.Issuer != p.Issuer) {
		given = 0
		if err := endSessionsBy(ctx, tx, ByOIDC); err != nil {
			return err
		}
	}
	return dropRoles(ctx, tx, RoleByOIDC, allRoles&^given)
}

// CheckProvider asks a provider who it is, so that an administrator sees whether
// it answers before people are sent there.
func (s *SignIns) CheckProvider(ctx context.Context, actor Actor, p Provider) error {
	if err := Can(actor, Manage, Object{Kind: kindSignIn}); err != nil {
		return err
	}
	p, err := p.checked()
	if err != nil {
		return err
	}
	_, err = s.discover(ctx, p.Issuer)
	return err
}

// discovered is a provider as it described itself.
type discovered struct {
	issuer   string
	provider *oidc.Provider
	at       time.Time
}

// rediscover is how long a description is believed. Keys are asked for again
// whenever one is new.
const rediscover = time.Hour

// discover finds out where a provider's doors are.
func (s *SignIns) discover(ctx context.Context, issuer string) (*oidc.Provider, error) {
	now := time.Now() // how old an answer is in truth
	s.discovering.Lock()
	known := s.discovered
	s.discovering.Unlock()
	if known.issuer == issuer && now.Sub(known.at) < rediscover {
		return known.provider, nil
	}
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, s.Client), issuer)
	if err != nil {
		return nil, s.unreachable(ctx, issuer, err)
	}
	endpoint := provider.Endpoint()
	for _, door := range []string{endpoint.AuthURL, endpoint.TokenURL} {
		parsed, err := url.Parse(door)
		if err != nil || parsed.Scheme != "https" && (parsed.Scheme != "http" || !loopback(parsed.Hostname())) {
			return nil, fault.New(fault.Unavailable, "the provider %s describes itself with the address %.200q, which isn't https://: nobody was signed in", issuer, door)
		}
	}
	s.discovering.Lock()
	s.discovered = discovered{issuer, provider, now}
	s.discovering.Unlock()
	return provider, nil
}

func (s *SignIns) unreachable(ctx context.Context, issuer string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, other := errors.AsType[*oidc.IssuerMismatchError](err); other {
		return &fault.Error{Code: fault.Unavailable, Field: "issuer", Err: err, Message: cut(fmt.Sprintf(
			"the provider names another issuer than the %s that is set: an administrator corrects it in the settings of sign-in (%v)", issuer, err), 500)}
	}
	return &fault.Error{Code: fault.Unavailable, Err: err, Message: "the provider " + issuer +
		" doesn't answer as an OpenID Connect provider does: try again later, or sign in with a password if you have one; the server's log says what it answered"}
}

// polite is a client that waits not too long, reads not too much, and follows
// nowhere: a token request that is redirected would carry the client secret along.
func polite(given *http.Client) *http.Client {
	client := http.Client{Timeout: 10 * time.Second}
	if given != nil {
		client = *given
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	transport := client.Transport
	if transport == nil {
		transport = http.DefaultTransport
	}
	client.Transport = limited{transport}
	return &client
}

// limited reads a megabyte of an answer, and no more.
type limited struct{ http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := l.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, 1<<20), response.Body}
	return response, nil
}

// groupsOf are the groups in the claims of somebody: a text, a list of texts, or the
// names of an object's fields.
func groupsOf(claims map[string]json.RawMessage, claim string) (groups []string, there bool) {
	raw, there := claims[claim]
	for rest := claim; !there; {
		var first string
		var more bool
		if first, rest, more = strings.Cut(rest, "."); !more {
			return nil, false
		}
		var inner map[string]json.RawMessage
		if json.Unmarshal(claims[first], &inner) != nil {
			return nil, false
		}
		claims = inner
		raw, there = claims[rest]
	}
	var one string
	var many []any
	var named map[string]any
	switch {
	case json.Unmarshal(raw, &one) == nil:
		groups = []string{one}
	case json.Unmarshal(raw, &many) == nil:
		for _, group := range many {
			if text, ok := group.(string); ok {
				groups = append(groups, text)
			}
		}
	case json.Unmarshal(raw, &named) == nil:
		for group := range named {
			groups = append(groups, group)
		}
		slices.Sort(groups)
	}
	return groups, true
}
