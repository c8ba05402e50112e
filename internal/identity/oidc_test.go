package identity

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/coreos/go-oidc/v3/oidc/oidctest"
	"github.com/google/go-cmp/cmp"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"golang.org/x/net/html"

	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
)

// op is a provider that says whatever a test wants it to.
type op struct {
	*httptest.Server
	key *rsa.PrivateKey

	mu        sync.Mutex
	claims    map[string]any // of the next id token, over the usual ones
	sign      func(claims string) string
	info      map[string]any // of the user info endpoint; nil is none
	answer    func(w http.ResponseWriter) bool
	challenge string // of PKCE, as the browser brought it
	problems  []string
	tokens    int
}

const clientID = "airlock-client"

func newOP(t testing.TB) *op {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &op{key: key}
	p.sign = func(claims string) string { return oidctest.SignIDToken(key, "k", oidc.RS256, claims) }
	known := &oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: key.Public(), KeyID: "k", Algorithm: oidc.RS256}}}
	mux := http.NewServeMux()
	mux.Handle("/keys", known)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		described := map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"},
		}
		if p.info != nil {
			described["userinfo_endpoint"] = p.URL + "/info"
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(described)
	})
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("/info", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer at" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(p.info)
	})
	p.Server = httptest.NewTLSServer(mux)
	t.Cleanup(p.Close)
	known.SetIssuer(p.URL)
	return p
}

func (p *op) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tokens++
	r.ParseForm()
	hash := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	if base64.RawURLEncoding.EncodeToString(hash[:]) != p.challenge {
		p.problems = append(p.problems, "the verifier isn't that of the challenge")
	}
	if id, word, _ := r.BasicAuth(); id != clientID || word != "client-secret" {
		p.problems = append(p.problems, "the client is "+id)
	}
	if p.answer != nil && p.answer(w) {
		return
	}
	text, err := json.Marshal(p.claims)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"access_token": "at", "token_type": "Bearer", "expires_in": 60, "id_token": p.sign(string(text))})
}

// provider are the settings for it.
func (p *op) provider() Provider {
	return Provider{
		On: true, Issuer: p.URL, ClientID: clientID, Button: "Company login",
		Groups: map[string]Roles{"airlock-admins": SuperAdmin, "auditors": Auditor | CampaignAdmin},
	}
}

// walk signs somebody in, as far as the browser's way goes.
func (p *op) walk(t testing.TB, d door, claims map[string]any) (Callback, string) {
	t.Helper()
	redirect, cookie, err := d.BeginOIDC(t.Context(), "/apps?x=1")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := url.Parse(redirect)
	if err != nil {
		t.Fatal(err)
	}
	query := parsed.Query()
	if query.Get("code_challenge_method") != "S256" || query.Get("redirect_uri") != publicURL+OIDCCallback || query.Get("response_type") != "code" {
		t.Errorf("%s", redirect)
	}
	now := d.Clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.challenge = query.Get("code_challenge")
	p.claims = map[string]any{
		"iss": p.URL, "aud": clientID, "sub": "s1", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "nonce": query.Get("nonce"),
		"email": "ada@example.com", "email_verified": true, "name": "Ada Lovelace",
	}
	maps.Copy(p.claims, claims)
	maps.DeleteFunc(p.claims, func(_ string, value any) bool { return value == nil })
	return Callback{Cookie: cookie, State: query.Get("state"), Code: "code"}, query.Get("nonce")
}

func (p *op) signIn(t testing.TB, d door, claims map[string]any) (Entered, error) {
	t.Helper()
	callback, _ := p.walk(t, d, claims)
	return d.FinishOIDC(t.Context(), callback, Visit{Address: "192.0.2.7"})
}

// newSSO is a server with a provider, an administrator in need, and some people.
func newSSO(t testing.TB, d *db.DB) (door, *op) {
	t.Helper()
	p := newOP(t)
	s := openDoor(newSite(t, d), p.Client())
	s.site.mustImport(t, "email,name,status,username\nada@example.com,Ada Lovelace,,\nbob@example.com,Bob,,\ncy@example.com,Cy,disabled,\n")
	s.admin(t, "root@example.com")
	if err := s.SetProvider(t.Context(), Operator(), p.provider(), "client-secret"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, problem := range p.problems {
			t.Error(problem)
		}
	})
	return s, p
}

func (d door) rolesOf(t testing.TB, e Entered) Roles {
	t.Helper()
	_, actor, err := d.Session(t.Context(), e.Token)
	if err != nil {
		t.Fatal(err)
	}
	return RolesOf(actor)
}

func TestSignInAtAProvider(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, p := newSSO(t, d)
		options, err := s.Options(t.Context())
		if diff := cmp.Diff(SignInOptions{OIDC: true, Button: "Company login"}, options); diff != "" || err != nil {
			t.Error(diff, err)
		}
		entered, err := p.signIn(t, s, map[string]any{"groups": []string{"auditors", "others"}})
		if err != nil {
			t.Fatal(err)
		}
		if entered.ReturnTo != "/apps?x=1" || entered.Session.Method != ByOIDC || entered.Session.PersonName != "Ada Lovelace" {
			t.Errorf("%+v", entered)
		}
		if got := s.rolesOf(t, entered); got != Auditor|CampaignAdmin|User {
			t.Error(got)
		}

		// Groups count as they are at each sign-in; what was given by hand stays.
		if err := s.AssignRole(t.Context(), Operator(), entered.Session.PersonID, Auditor); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			groups any
			want   Roles
		}{
			{"airlock-admins", SuperAdmin | Auditor | User},
			{nil, Auditor | User},
			{map[string]any{"airlock-admins": 1}, SuperAdmin | Auditor | User},
			{[]any{1, "auditors"}, CampaignAdmin | Auditor | User},
			{[]string{"AUDITORS"}, Auditor | User},
		} {
			// The e-mail at the provider doesn't matter any more.
			next, err := p.signIn(t, s, map[string]any{"groups": test.groups, "email": "ada@elsewhere.example", "email_verified": false})
			if err != nil {
				t.Fatal(err)
			}
			if got := s.rolesOf(t, next); got != test.want || next.Session.PersonID != entered.Session.PersonID {
				t.Errorf("%v gives %s", test.groups, got)
			}
		}
		list := s.entries(t, "person.signed_in")
		if got := detailOf(t, list[0]); got.Method != ByOIDC || got.BreakGlass || list[0].Actor.Name != "Ada Lovelace" {
			t.Errorf("%+v", got)
		}
		if len(s.entries(t, "role.by_groups")) != 6 || len(s.entries(t, "sign-in.bound")) != 1 {
			t.Error("changes of roles and of bindings aren't in the log")
		}

		// The glass is broken by a password, and the log says so.
		if _, err := s.SignIn(t.Context(), "root@example.com", secret, Visit{}); err != nil {
			t.Fatal(err)
		}
		if got := detailOf(t, s.entries(t, "person.signed_in")[0]); got.Method != ByPassword || !got.BreakGlass {
			t.Errorf("%+v", got)
		}

		// Who is disabled is out, whatever the provider says.
		s.site.mustImport(t, "email,status\nada@example.com,disabled\n")
		s.gone(t, entered.Token)
		_, err = p.signIn(t, s, nil)
		want(t, err, fault.Forbidden, "disabled")
	})
}

func TestWhatAProviderSaysIsntBelievedUnproved(t *testing.T) {
	s, p := newSSO(t, dbtest.Open(t, db.SQLite))
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := s.Clock.Now()
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	good := p.sign
	failures := 0
	for name, test := range map[string]struct {
		claims map[string]any
		sign   func(claims string) string
		reason string
	}{
		"for another client":       {claims: map[string]any{"aud": "other"}, reason: "audience"},
		"for nobody":               {claims: map[string]any{"aud": nil}, reason: "audience"},
		"for several, by another":  {claims: map[string]any{"aud": []string{clientID, "other"}, "azp": "other"}, reason: "made for the client"},
		"for several, by nobody":   {claims: map[string]any{"aud": []string{clientID, "other"}}, reason: "made for the client"},
		"by another issuer":        {claims: map[string]any{"iss": "https://evil.example"}, reason: "different provider"},
		"by one with a slash more": {claims: map[string]any{"iss": p.URL + "/"}, reason: "different provider"},
		"expired":                  {claims: map[string]any{"exp": now.Add(-time.Second).Unix()}, reason: "expired"},
		"without an end":           {claims: map[string]any{"exp": nil}, reason: "expired"},
		"to come":                  {claims: map[string]any{"nbf": now.Add(time.Hour).Unix()}, reason: "nbf"},
		"of another sign-in":       {claims: map[string]any{"nonce": "other"}, reason: "nonce"},
		"of no sign-in":            {claims: map[string]any{"nonce": nil}, reason: "nonce"},
		"about nobody":             {claims: map[string]any{"sub": ""}, reason: "names nobody"},
		"about a NUL":              {claims: map[string]any{"sub": "s1\x00"}, reason: "names nobody"},
		"with another token":       {claims: map[string]any{"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, reason: "access token"},
		"unsigned":                 {sign: func(claims string) string { return part(`{"alg":"none"}`) + "." + part(claims) + "." }, reason: ""},
		"signed by the secret": {sign: func(claims string) string {
			return oidctest.SignIDToken([]byte(strings.Repeat("client-secret", 3)), "k", "HS256", claims)
		}, reason: "HS256"},
		"signed by another": {sign: func(claims string) string {
			return oidctest.SignIDToken(crypto.PrivateKey(other), "k", oidc.RS256, claims)
		}, reason: "signature"},
		"no token": {sign: func(string) string { return "" }, reason: ""},
		"nonsense": {sign: func(string) string { return "a.b.c" }, reason: ""},
	} {
		t.Run(name, func(t *testing.T) {
			callback, _ := p.walk(t, s, test.claims)
			p.mu.Lock()
			p.sign = good
			if test.sign != nil {
				p.sign = test.sign
			}
			p.mu.Unlock()
			_, err := s.FinishOIDC(t.Context(), callback, Visit{})
			want(t, err, fault.Unauthenticated, "can't be trusted")
			failures++
			entry := s.entries(t, "person.sign_in_failed")
			if len(entry) != failures || !strings.Contains(detailOf(t, entry[0]).Reason, test.reason) {
				t.Errorf("the log has %d entries and says %q", len(entry), detailOf(t, entry[0]).Reason)
			}
		})
	}
	if n, err := db.Value[int](t.Context(), s.DB, "SELECT COUNT(*) FROM session"); err != nil || n != 0 {
		t.Errorf("%d sessions, %v", n, err)
	}
	p.sign = good
	sum := sha256.Sum256([]byte("at"))
	if _, err := p.signIn(t, s, map[string]any{
		"aud": []string{clientID, "other"}, "azp": clientID, "at_hash": base64.RawURLEncoding.EncodeToString(sum[:16]),
	}); err != nil {
		t.Error(err)
	}
}

func TestASignInIsFinishedOnceAndByWhoBeganIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, p := newSSO(t, d)
		replica := openDoor(site{s.People, s.site.clock}, p.Client())
		finish := func(c Callback) error {
			_, err := replica.FinishOIDC(t.Context(), c, Visit{})
			return err
		}
		callback, _ := p.walk(t, s, nil)
		for _, change := range []func(c *Callback){
			func(c *Callback) { c.State = "guess" },
			func(c *Callback) { c.State = "" },
			func(c *Callback) { c.Cookie = "" },
			func(c *Callback) { c.Cookie = strings.Repeat("A", len(c.Cookie)) },
			func(c *Callback) { c.Cookie = strings.Repeat("A", 100_000) },
			func(c *Callback) { other, _ := p.walk(t, s, nil); c.Cookie = other.Cookie }, // of a victim's browser
		} {
			wrong := callback
			change(&wrong)
			want(t, finish(wrong), fault.Invalid, "begin again")
		}
		callback, _ = p.walk(t, s, nil)
		if err := finish(callback); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			want(t, finish(callback), fault.Invalid, "finished before")
		}
		var all sync.WaitGroup
		callback, _ = p.walk(t, s, nil)
		taken := make(chan bool, 4)
		for range cap(taken) {
			all.Go(func() {
				if finish(callback) == nil {
					taken <- true
				}
			})
		}
		all.Wait()
		if len(taken) != 1 {
			t.Errorf("%d of four at once were let in", len(taken))
		}

		callback, _ = p.walk(t, s, nil)
		callback.Issuer = "https://evil.example"
		want(t, finish(callback), fault.Unauthenticated, "trusted")
		callback, _ = p.walk(t, s, nil)
		callback.Issuer = p.URL
		if err := finish(callback); err != nil {
			t.Error(err)
		}
		callback, _ = p.walk(t, s, nil)
		callback.Code, callback.Error = "", "access_denied<script>"
		want(t, finish(callback), fault.Unauthenticated, "(access_deniedscript)")
		callback, _ = p.walk(t, s, nil)
		s.site.clock.Advance(StateLife)
		want(t, finish(callback), fault.Invalid, "too long")
		callback, _ = p.walk(t, s, nil)
		changed := p.provider()
		changed.ClientID = "other"
		if err := s.SetProvider(t.Context(), Operator(), changed, "client-secret"); err != nil {
			t.Fatal(err)
		}
		want(t, finish(callback), fault.Conflict, "changed meanwhile")
	})
}

func TestWhoCantBeBoundWaitsForAnAdministrator(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, p := newSSO(t, d)
		// Two people have one e-mail: the second by a directory.
		if _, err := s.People.ReadDirectory(t.Context(), "dir", []DirectoryPerson{
			{ExternalID: "1", Name: "Bob One", Emails: []string{"bob.one@example.com", "twin@example.com"}, Status: Enabled, Kind: Human},
			{ExternalID: "2", Name: "Bob Two", Emails: []string{"bob.two@example.com", "twin@example.com"}, Status: Enabled, Kind: Human},
		}, func(context.Context, *db.Tx, ImportResult) error { return nil }); err != nil {
			t.Fatal(err)
		}
		refuse := func(subject, email string, verified any, reason string) {
			t.Helper()
			_, err := p.signIn(t, s, map[string]any{"sub": subject, "email": email, "email_verified": verified})
			want(t, err, fault.Forbidden, reason)
			want(t, err, fault.Forbidden, "administrator binds")
		}
		refuse("unverified", "ada@example.com", false, "verified")
		refuse("unsaid", "ada@example.com", nil, "verified")
		refuse("number", "ada@example.com", 1, "verified")
		refuse("twin", "twin@example.com", true, "2 people")
		refuse("stranger", "mallory@example.com", true, "nobody here")
		refuse("kelvin", "ada@example.\u212aom", true, "letters that look like others")
		refuse("disabled", "cy@example.com", true, "disabled")
		if _, err := p.signIn(t, s, map[string]any{"sub": "ada", "email": "ADA@example.com", "email_verified": "true"}); err != nil {
			t.Fatal(err)
		}
		refuse("ada again", "ada@example.com", true, "another sign-in")
		refuse("ada again", "ada@example.com", true, "another sign-in")

		admin, err := s.People.Find(t.Context(), d, "root@example.com")
		if err != nil {
			t.Fatal(err)
		}
		actor := PersonActor(admin.ID, admin.Name, SuperAdmin)
		pending, err := s.PendingSignIns(t.Context(), actor)
		if err != nil {
			t.Fatal(err)
		}
		subjects := map[string]bool{}
		for _, b := range pending {
			subjects[b.Subject] = b.Reason != "" && b.Issuer == p.URL && b.PersonID == ""
		}
		wanted := map[string]bool{"unverified": true, "unsaid": true, "number": true, "twin": true, "stranger": true, "kelvin": true, "disabled": true, "ada again": true}
		if diff := cmp.Diff(wanted, subjects); diff != "" {
			t.Error(diff)
		}
		bob, err := s.People.Find(t.Context(), d, "Bob One")
		if err != nil {
			t.Fatal(err)
		}
		cy, err := s.People.Find(t.Context(), d, "Cy")
		if err != nil {
			t.Fatal(err)
		}
		want(t, s.BindSignIn(t.Context(), PersonActor("x", "X", allRoles&^SuperAdmin), p.URL, "twin", bob.ID), fault.Forbidden, "may not")
		want(t, s.BindSignIn(t.Context(), actor, p.URL, "no such", bob.ID), fault.NotFound, "no sign-in")
		want(t, s.BindSignIn(t.Context(), actor, p.URL, "twin", "no such"), fault.NotFound, "no person")
		want(t, s.BindSignIn(t.Context(), actor, p.URL, "twin", cy.ID), fault.NotReady, "disabled")
		want(t, s.BindSignIn(t.Context(), actor, p.URL, "ada", bob.ID), fault.Conflict, "Ada Lovelace's")
		for _, subject := range []string{"twin", "stranger"} { // a person may have two
			if err := s.BindSignIn(t.Context(), actor, p.URL, subject, bob.ID); err != nil {
				t.Fatal(err)
			}
			entered, err := p.signIn(t, s, map[string]any{"sub": subject})
			if err != nil || entered.Session.PersonID != bob.ID {
				t.Error(entered, err)
			}
		}
		mine, err := s.Bindings(t.Context(), PersonActor(bob.ID, bob.Name, User), bob.ID)
		if err != nil || len(mine) != 2 || mine[0].BoundBy != admin.Name {
			t.Errorf("%+v, %v", mine, err)
		}
		if _, err := s.Bindings(t.Context(), PersonActor("x", "X", User), bob.ID); !fault.Is(err, fault.Forbidden) {
			t.Error(err)
		}

		// What was taken from somebody isn't theirs again by e-mail, nor after long.
		entered, err := p.signIn(t, s, map[string]any{"sub": "ada", "groups": "auditors"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Unbind(t.Context(), actor, p.URL, "ada"); err != nil {
			t.Fatal(err)
		}
		s.gone(t, entered.Token)
		if list, err := s.RoleHoldings(t.Context(), actor, entered.Session.PersonID); err != nil || len(list) != 0 {
			t.Errorf("%+v, %v", list, err)
		}
		s.site.clock.Advance(100 * 24 * time.Hour)
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		refuse("ada", "ada@example.com", true, "an administrator took")
		if pending, err = s.PendingSignIns(t.Context(), actor); err != nil || len(pending) != 1 {
			t.Errorf("%+v, %v", pending, err)
		}
	})
}

func TestOfTwoSignInsWithOneEmailOneIsBound(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, _ := newSSO(t, d)
		var all sync.WaitGroup
		in := make(chan string, 4)
		for n := range cap(in) {
			all.Go(func() {
				_, err := s.enterBound(t.Context(), who{issuer: "https://a", subject: fmt.Sprint(n), email: "ada@example.com", verified: true}, Visit{})
				if err == nil {
					in <- fmt.Sprint(n)
				} else if !fault.Is(err, fault.Forbidden) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if len(in) != 1 {
			t.Errorf("%d were bound", len(in))
		}
	})
}

func TestOfManyUnboundSignInsTheLastAreKept(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newDoor(t, d)
		s.site.write(t, func(ctx context.Context, tx *db.Tx) error {
			for n := range 5 {
				someone := who{issuer: "https://a", subject: fmt.Sprint(n)}
				if _, _, err := meetSignIn(ctx, tx, someone, s.Clock.Now()); err != nil {
					return err
				}
				s.site.clock.Advance(time.Second)
				if err := refuseSignIn(ctx, tx, someone, "why", 3); err != nil {
					return err
				}
			}
			return nil
		})
		list, err := s.PendingSignIns(t.Context(), Operator())
		var got []string
		for _, b := range list {
			got = append(got, b.Subject)
		}
		if diff := cmp.Diff([]string{"4", "3", "2"}, got); diff != "" || err != nil {
			t.Error(diff, err)
		}
	})
}

func TestOnlyEmailsOfSomeDomainsAreBound(t *testing.T) {
	s, p := newSSO(t, dbtest.Open(t, db.SQLite))
	settings := p.provider()
	settings.Domains = []string{"@Corp.example"}
	if err := s.SetProvider(t.Context(), Operator(), settings, ""); err != nil {
		t.Fatal(err)
	}
	s.site.mustImport(t, "email,name\nada@corp.example,Ada C\n")
	_, err := p.signIn(t, s, nil)
	want(t, err, fault.Forbidden, "example.com aren't")
	if _, err := p.signIn(t, s, map[string]any{"sub": "s2", "email": "ada@CORP.example"}); err != nil {
		t.Error(err)
	}
}

func TestWhatTheIDTokenLeavesOutIsAskedFor(t *testing.T) {
	s, p := newSSO(t, dbtest.Open(t, db.SQLite))
	p.info = map[string]any{"sub": "s1", "email": "ada@example.com", "email_verified": true, "realm_access": map[string]any{"roles": []string{"auditors"}}}
	s.discovered = discovered{}
	settings := p.provider()
	settings.GroupClaim = "realm_access.roles"
	if err := s.SetProvider(t.Context(), Operator(), settings, ""); err != nil {
		t.Fatal(err)
	}
	entered, err := p.signIn(t, s, map[string]any{"email": nil, "email_verified": nil, "name": nil})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.rolesOf(t, entered); !got.Has(Auditor) {
		t.Error(got)
	}
	// An e-mail of the one and the verification of the other don't add up.
	_, err = p.signIn(t, s, map[string]any{"sub": "s2", "email": "bob@example.com", "email_verified": nil})
	want(t, err, fault.Unauthenticated, "trusted") // and the user info is about s1
	p.info["sub"] = "s2"
	_, err = p.signIn(t, s, map[string]any{"sub": "s2", "email": "bob@example.com", "email_verified": nil})
	want(t, err, fault.Forbidden, "verified")
	p.info["email"] = "bob@example.com"
	if _, err = p.signIn(t, s, map[string]any{"sub": "s2", "email": "bob@example.com", "email_verified": nil}); err != nil {
		t.Error(err)
	}
}

func TestAProviderThatFailsSaysSo(t *testing.T) {
	s, p := newSSO(t, dbtest.Open(t, db.SQLite))
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter) bool
		code   fault.Code
		words  string
	}{
		"wrong secret": {func(w http.ResponseWriter) bool {
			w.WriteHeader(http.StatusUnauthorized)
			w.Write([]byte(`{"error":"invalid_client"}`))
			return true
		}, fault.NotReady, "client id and secret"},
		"used code": {func(w http.ResponseWriter) bool {
			w.WriteHeader(http.StatusBadRequest)
			w.Write([]byte(`{"error":"invalid_grant","error_description":"client-secret"}`))
			return true
		}, fault.Unauthenticated, "begin again"},
		"broken": {func(w http.ResponseWriter) bool { http.Error(w, "oops", http.StatusBadGateway); return true }, fault.Unavailable, "doesn't answer"},
		"elsewhere": {func(w http.ResponseWriter) bool {
			w.Header().Set("Location", p.URL+"/evil")
			w.WriteHeader(http.StatusTemporaryRedirect) // would carry the secret along
			return true
		}, fault.Unauthenticated, "begin again"},
		"endless": {func(w http.ResponseWriter) bool {
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"access_token":"` + strings.Repeat("a", 2<<20) + `"}`))
			return true
		}, fault.Unavailable, "doesn't answer"},
		"no id token": {func(w http.ResponseWriter) bool {
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"access_token":"at","token_type":"Bearer"}`))
			return true
		}, fault.Unauthenticated, "trusted"},
	} {
		p.mu.Lock()
		p.answer = test.answer
		p.mu.Unlock()
		_, err := p.signIn(t, s, nil)
		if want(t, err, test.code, test.words); err != nil && strings.Contains(err.Error(), "client-secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.Close()
	s.discovered = discovered{}
	_, _, err := s.BeginOIDC(t.Context(), "/")
	want(t, err, fault.Unavailable, "sign in with a password")
	want(t, s.CheckProvider(t.Context(), Operator(), p.provider()), fault.Unavailable, "doesn't answer")
	if _, err := s.SignIn(t.Context(), "root@example.com", secret, Visit{}); err != nil {
		t.Errorf("the one in need can't sign in: %v", err)
	}
}

func TestProviderSettings(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, p := newSSO(t, d)
		admin, _, _ := s.signIn(t, "root@example.com")
		actor := PersonActor(admin.PersonID, admin.PersonName, SuperAdmin)
		for name, change := range map[string]func(*Provider){
			"issuer":      func(p *Provider) { p.Issuer = "http://login.example.com" },
			"issuer ":     func(p *Provider) { p.Issuer = "https://user@login.example.com" },
			"issuer  ":    func(p *Provider) { p.Issuer = "https://login.example.com?x=1" },
			"client_id":   func(p *Provider) { p.ClientID = " " },
			"scopes":      func(p *Provider) { p.Scopes = []string{"two words"} },
			"groups":      func(p *Provider) { p.Groups = map[string]Roles{"g": User} },
			"groups ":     func(p *Provider) { p.Groups = map[string]Roles{"g": 1 << 15} },
			"domains":     func(p *Provider) { p.Domains = []string{"a@b.c"} },
			"button":      func(p *Provider) { p.Button = strings.Repeat("x", 61) },
			"group_claim": func(p *Provider) { p.GroupClaim = strings.Repeat("x", 201) },
		} {
			settings := p.provider()
			change(&settings)
			err := s.SetProvider(t.Context(), actor, settings, "")
			want(t, err, fault.Invalid, "nothing was changed")
			if known, ok := errors.AsType[*fault.Error](err); !ok || known.Field != strings.TrimSpace(name) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, role := range []Roles{ConnectorAdmin, ApplicationAdmin, CampaignAdmin, Auditor, User} {
			want(t, s.SetProvider(t.Context(), PersonActor("x", "X", role), p.provider(), ""), fault.Forbidden, "may not")
			want(t, s.CheckProvider(t.Context(), PersonActor("x", "X", role), p.provider()), fault.Forbidden, "may not")
		}
		kept, err := s.Provider(t.Context(), actor)
		if err != nil || !kept.HasSecret || !slices.Equal(kept.Scopes, []string{"openid", "profile", "email"}) || kept.GroupClaim != "groups" {
			t.Errorf("%+v, %v", kept, err)
		}
		if entries := s.entries(t, "sign-in.changed"); strings.Contains(string(entries[0].Detail), "client-secret") || !strings.Contains(string(entries[0].Detail), "super_admin") {
			t.Errorf("%s", entries[0].Detail)
		}

		// Passwords are for those in need alone.
		only := p.provider()
		only.BreakGlassOnly = true
		if err := s.SetProvider(t.Context(), actor, only, ""); err != nil {
			t.Fatal(err)
		}
		bob, err := s.AdminCreate(t.Context(), Operator(), "bob@example.com", "", secret)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.RemoveRole(t.Context(), actor, bob.PersonID, SuperAdmin); err != nil {
			t.Fatal(err)
		}
		_, err = s.SignIn(t.Context(), "bob@example.com", secret, Visit{})
		want(t, err, fault.Unauthenticated, "wrong")
		if got := detailOf(t, s.entries(t, "person.sign_in_failed")[0]); !got.BreakGlass || !strings.Contains(got.Reason, "Super Admin") {
			t.Errorf("%+v", got)
		}

		// A group that gives nothing any more takes its roles at once; so does a
		// provider that is turned off, with its sessions, unless nobody else is left.
		ada, err := p.signIn(t, s, map[string]any{"groups": []string{"airlock-admins", "auditors"}})
		if err != nil {
			t.Fatal(err)
		}
		fewer := p.provider()
		delete(fewer.Groups, "auditors")
		if err := s.SetProvider(t.Context(), actor, fewer, ""); err != nil {
			t.Fatal(err)
		}
		if got := s.rolesOf(t, ada); got != SuperAdmin|User {
			t.Error(got)
		}
		if err := s.RemoveRole(t.Context(), Operator(), admin.PersonID, SuperAdmin); err != nil {
			t.Fatal(err)
		}
		off := p.provider()
		off.On = false
		want(t, s.SetProvider(t.Context(), Operator(), off, ""), fault.Conflict, "provider stays")
		if got := s.rolesOf(t, ada); got != SuperAdmin|User {
			t.Error(got)
		}
		s.admin(t, "root@example.com")
		if err := s.SetProvider(t.Context(), Operator(), off, ""); err != nil {
			t.Fatal(err)
		}
		s.gone(t, ada.Token)
		_, _, err = s.BeginOIDC(t.Context(), "/")
		want(t, err, fault.NotReady, "password")

		// The secret isn't sent to another provider.
		elsewhere := p.provider()
		elsewhere.Issuer = "https://evil.example"
		if err := s.SetProvider(t.Context(), Operator(), elsewhere, ""); err != nil {
			t.Fatal(err)
		}
		if kept, err := s.Provider(t.Context(), Operator()); err != nil || kept.HasSecret {
			t.Errorf("%+v, %v", kept, err)
		}
	})
}

// TestARealProvider walks the way of a browser through a certified provider.
func TestARealProvider(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server := httptest.NewUnstartedServer(nil)
		server.StartTLS()
		t.Cleanup(server.Close)
		known := storage.NewStorageWithClients(storage.NewUserStore(server.URL), map[string]*storage.Client{
			clientID: storage.WebClient(clientID, "client-secret", publicURL+OIDCCallback),
		})
		server.Config.Handler = exampleop.SetupServer(server.URL, known, nil, false)

		s := newSite(t, d)
		s.clock = clock.NewFake(time.Now())
		s.Service.clock = s.clock
		signIns := openDoor(s, server.Client())
		s.mustImport(t, "email,name\ntest-user2@zitadel.ch,Test User Two\n")
		if err := signIns.SetProvider(t.Context(), Operator(), Provider{On: true, Issuer: server.URL, ClientID: clientID}, "client-secret"); err != nil {
			t.Fatal(err)
		}
		walk := func(user string) Callback {
			redirect, cookie, err := signIns.BeginOIDC(t.Context(), "//evil.example")
			if err != nil {
				t.Fatal(err)
			}
			back := browse(t, server.Client(), redirect, user)
			request := httptest.NewRequest(http.MethodGet, back, nil)
			request.AddCookie(&http.Cookie{Name: OIDCCookie, Value: cookie})
			return CallbackOf(request)
		}
		entered, err := signIns.FinishOIDC(t.Context(), walk("test-user2"), Visit{})
		if err != nil {
			t.Fatal(err)
		}
		if entered.Session.PersonName != "Test User Two" || entered.ReturnTo != "/" {
			t.Errorf("%+v", entered)
		}
		hostname, _, _ := strings.Cut(strings.TrimPrefix(server.URL, "https://"), ":")
		_, err = signIns.FinishOIDC(t.Context(), walk("test-user@"+hostname), Visit{})
		want(t, err, fault.Forbidden, "nobody here has the e-mail test-user@zitadel.ch")
		if again, err := signIns.FinishOIDC(t.Context(), walk("test-user2"), Visit{}); err != nil || again.Session.PersonID != entered.Session.PersonID {
			t.Error(again, err)
		}
	})
}

// browse signs in at the provider's own page, and returns where that sends the
// browser back to.
func browse(t *testing.T, client *http.Client, address, user string) string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Transport: client.Transport, Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), publicURL) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	page, err := browser.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer page.Body.Close()
	root, err := html.Parse(page.Body)
	if err != nil {
		t.Fatal(err)
	}
	form, action := url.Values{}, ""
	for node := range root.Descendants() {
		attributes := map[string]string{}
		for _, a := range node.Attr {
			attributes[a.Key] = a.Val
		}
		switch node.Data {
		case "form":
			action = attributes["action"]
		case "input":
			form.Set(attributes["name"], attributes["value"])
		}
	}
	form.Set("username", user)
	form.Set("password", "verysecure")
	target, err := page.Request.URL.Parse(action)
	if err != nil {
		t.Fatal(err)
	}
	back, err := browser.PostForm(target.String(), form)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Body.Close()
	location := back.Header.Get("Location")
	if !strings.HasPrefix(location, publicURL+OIDCCallback) {
		t.Fatalf("the provider answers %s and leads to %q", back.Status, location)
	}
	return location
}

func TestOneIsSentBackToPathsOfOursAlone(t *testing.T) {
	for text, want := range map[string]string{
		"/apps?x=1#y": "/apps?x=1#y", "/": "/", "": "/", "apps": "/", "//evil.example": "/", "/\\evil.example": "/", "https://evil.example/": "/",
		"/\t/evil.example": "/", "/a\r\nSet-Cookie: x": "/", "javascript:alert(1)": "/", "/%zz": "/", "/a/../../b": "/a/../../b",
		"/" + strings.Repeat("a", 1000): "/",
	} {
		if got := LocalPath(text); got != want {
			t.Errorf("%q leads to %q", text, got)
		}
	}
}

func FuzzLocalPath(f *testing.F) {
	for _, text := range []string{"/", "//x", "/\\x", "/a?b=c", "http:/x", "/\t/x"} {
		f.Add(text)
	}
	base, err := url.Parse(publicURL + "/sign-in")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := LocalPath(text)
		// Browsers take a backslash for a slash, and leave blanks out.
		seen := strings.NewReplacer("\\", "/", "\t", "", "\n", "", "\r", "").Replace(path)
		target, err := base.Parse(seen)
		if err != nil || target.Host != base.Host || target.Scheme != "https" || strings.HasPrefix(seen, "//") {
			t.Errorf("%q leads to %v", text, target)
		}
	})
}

func FuzzOpenBegun(f *testing.F) {
	key := make([]byte, 32)
	now := time.Unix(1_700_000_000, 0)
	cookie, err := begun{State: "s", ExpiresAt: now.Unix() + 1}.seal(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cookie)
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if b, err := openBegun(key, text, now); err == nil && b.State != "s" {
			t.Errorf("%q was opened: %+v", text, b)
		}
	})
}

func FuzzGroupsOf(f *testing.F) {
	f.Add(`{"groups":["a"]}`, "groups")
	f.Add(`{"a":{"b":{"c":"d"}}}`, "a.b.c")
	f.Add(`{"a.b":{"x":1}}`, "a.b")
	f.Add(`{"groups":null}`, "groups")
	f.Fuzz(func(t *testing.T, text, claim string) {
		var claims map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &claims) != nil {
			return
		}
		if groups, there := groupsOf(claims, claim); !there && len(groups) > 0 {
			t.Errorf("%q in %q: %q", claim, text, groups)
		}
	})
}
